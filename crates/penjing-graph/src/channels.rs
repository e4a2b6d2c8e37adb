//! Which positions of which axes must be removed together, exact to the index.
//!
//! Every position of every axis is an atom. Each operator says which atoms of its inputs and outputs are the same
//! (`ops/`, [`Ties`]); what is left are sets that can only go as a whole: a channel with its norm, its bias and whatever
//! reads it, an attention head, a unit of a feed-forward layer. Sets that touch the same axes form a [`ChannelGroup`].
//!
//! The law: the network without some sets computes what the network computes in which those positions are zero wherever
//! they are added up ([`Channels::mask`]).

mod atoms;
mod cut;
mod ties;

use std::collections::BTreeMap;

use crate::{Graph, NodeId, ValueId};

pub(crate) use cut::{Cut, restated};
pub(crate) use ties::{Place, Ties};

pub use atoms::{Axis, Pin};

/// Positions of one axis that the channels of a group occupy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The axis.
    pub axis: Axis,
    /// Number of positions that the axis has.
    pub size: usize,
    /// Where the positions of each channel begin in `positions`, and one entry behind the last.
    first: Vec<u32>,
    positions: Vec<u32>,
}

impl Member {
    /// The positions of this axis that go with a channel, in order.
    pub fn positions(&self, channel: usize) -> &[u32] {
        &self.positions[self.first[channel] as usize..self.first[channel + 1] as usize]
    }
}

/// Channels that touch the same axes: each can be removed, and only as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelGroup {
    /// The first node that gives them.
    pub name: String,
    /// Number of channels.
    pub channels: usize,
    /// The axes, in order of their values.
    pub members: Vec<Member>,
}

/// Weights whose positions must stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// An axis of an initializer.
    pub axis: Axis,
    /// How many of its positions stay.
    pub positions: usize,
    /// Why.
    pub pin: Pin,
}

/// Which positions of a graph can be removed, and which must go together.
#[derive(Debug)]
pub struct Channels {
    /// What can be cut, in order of the nodes that give it.
    pub groups: Vec<ChannelGroup>,
    /// What cannot, of the axes of initializers.
    pub pinned: Vec<Pinned>,
    sums: Vec<ties::Sum>,
    depths: BTreeMap<NodeId, Vec<Axis>>,
}

/// For each group of [`Channels::groups`] the channels that are removed, in order.
pub type Removal = Vec<Vec<usize>>;

impl Channels {
    /// Finds what can be cut. With `approximate`, also what an operator reduces along in a way that zeros do not stand for
    /// (layer normalisation, softmax, means). Shapes that are computed should be constants first
    /// ([`passes::fold_known_integers`](crate::passes::fold_known_integers)).
    pub fn find(graph: &Graph, approximate: bool) -> Channels {
        let mut findings = ties::Findings::of(graph, approximate);
        let axes = axes_in_use(graph);
        let mut touched: Vec<Vec<(u32, u32)>> = vec![];
        let mut number = vec![u32::MAX; findings.atoms.len()];
        let mut pinned: Vec<Pinned> = vec![];
        for (at, axis) in axes.iter().enumerate() {
            for (position, set) in findings.atoms.sets(*axis).into_iter().enumerate() {
                if let Some(pin) = findings.atoms.pin_of(set) {
                    if graph.tensor(axis.value).is_some() {
                        note_pinned(&mut pinned, *axis, pin);
                    }
                    continue;
                }
                if number[set as usize] == u32::MAX {
                    number[set as usize] = touched.len() as u32;
                    touched.push(vec![]);
                }
                touched[number[set as usize] as usize].push((at as u32, position as u32));
            }
        }
        let mut groups = group(&axes, &touched, graph);
        for group in &mut groups {
            group.name = name(graph, group);
        }
        let order: BTreeMap<NodeId, usize> = graph.nodes().enumerate().map(|(i, (id, _))| (id, i)).collect();
        groups.sort_by_key(|g| giver(graph, g).map_or(usize::MAX, |id| order[&id]));
        number_names(&mut groups);
        Channels { groups, pinned, sums: findings.sums, depths: findings.depths }
    }

    /// Number of channels of all groups.
    pub fn len(&self) -> usize {
        self.groups.iter().map(|g| g.channels).sum()
    }

    /// Whether nothing can be cut.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Axes along which the node's products are added up.
    pub fn depths(&self, node: NodeId) -> &[Axis] {
        self.depths.get(&node).map_or(&[], Vec::as_slice)
    }
}

fn note_pinned(pinned: &mut Vec<Pinned>, axis: Axis, pin: &Pin) {
    match pinned.last_mut() {
        Some(last) if last.axis == axis && last.pin == *pin => last.positions += 1,
        _ => pinned.push(Pinned { axis, positions: 1, pin: pin.clone() }),
    }
}

/// Every axis of every value that a node reads or gives.
fn axes_in_use(graph: &Graph) -> Vec<Axis> {
    let mut used: Vec<ValueId> = graph.nodes().flat_map(|(_, node)| node.reads().chain(node.outputs.iter().flatten().copied())).collect();
    used.sort_unstable();
    used.dedup();
    let rank = |id: ValueId| graph.value(id).shape.as_ref().map_or(0, Vec::len);
    used.into_iter().flat_map(|value| (0..rank(value)).map(move |axis| Axis { value, axis })).collect()
}

/// Sets that touch the same axes, those without float initializers left out.
fn group(axes: &[Axis], touched: &[Vec<(u32, u32)>], graph: &Graph) -> Vec<ChannelGroup> {
    let mut by_axes: BTreeMap<Vec<u32>, Vec<usize>> = BTreeMap::new();
    for (set, places) in touched.iter().enumerate() {
        let mut signature: Vec<u32> = places.iter().map(|(axis, _)| *axis).collect();
        signature.dedup();
        let carries = |axis: &u32| graph.tensor(axes[*axis as usize].value).is_some_and(|t| t.dtype().is_float());
        if signature.iter().any(carries) {
            by_axes.entry(signature).or_default().push(set);
        }
    }
    let member = |axis: u32, sets: &[usize]| {
        let (mut first, mut positions) = (vec![0], vec![]);
        for set in sets {
            positions.extend(touched[*set].iter().filter(|(at, _)| *at == axis).map(|(_, position)| *position));
            first.push(positions.len() as u32);
        }
        let axis = axes[axis as usize];
        let size = graph.value(axis.value).shape.as_ref().and_then(|s| s[axis.axis].fixed()).unwrap_or(0);
        Member { axis, size, first, positions }
    };
    by_axes
        .into_iter()
        .map(|(signature, sets)| ChannelGroup {
            name: String::new(),
            channels: sets.len(),
            members: signature.into_iter().map(|axis| member(axis, &sets)).collect(),
        })
        .collect()
}

/// The first node that gives a value of the group, of those that multiply if there are any.
fn giver(graph: &Graph, group: &ChannelGroup) -> Option<NodeId> {
    let given = |multiplies: bool| {
        let producers = group.members.iter().filter_map(|m| graph.value(m.axis.value).producer);
        producers.filter(|id| !multiplies || multiplies_weights(graph, *id)).min()
    };
    given(true).or_else(|| given(false))
}

fn multiplies_weights(graph: &Graph, id: NodeId) -> bool {
    use crate::ops::Op;
    matches!(
        graph.node(id).op,
        Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Gemm(_)
            | Op::MatMul(_)
            | Op::QLinearConv(_)
            | Op::QLinearMatMul(_)
            | Op::ConvInteger(_)
            | Op::MatMulInteger(_)
    )
}

fn name(graph: &Graph, group: &ChannelGroup) -> String {
    match giver(graph, group) {
        Some(id) => graph.node(id).name.clone(),
        None => graph.value(group.members[0].axis.value).name.clone(),
    }
}

/// Groups that the same node gives get a number behind its name.
fn number_names(groups: &mut [ChannelGroup]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for group in groups {
        let count = seen.entry(group.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            group.name = format!("{}#{count}", group.name);
        }
    }
}
