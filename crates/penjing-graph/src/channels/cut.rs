//! Removing channels: weights are sliced, and what counted positions is counted anew.

use std::collections::BTreeMap;

use super::{Axis, Channels, Removal};
use crate::infer::Operands;
use crate::ops::{Binary, Op, Where};
use crate::{DataType, Dim, Edit, Graph, GraphError, Node, NodeId, Tensor, ValueId};

/// Positions that stay, of each axis that loses some.
pub(crate) type Kept = BTreeMap<Axis, Vec<u32>>;

impl Channels {
    /// The positions that stay of each axis that loses some.
    ///
    /// # Errors
    /// When a channel does not exist, or an axis would be left without positions.
    fn kept(&self, graph: &Graph, removal: &Removal) -> Result<Kept, GraphError> {
        let refused = |reason: String| GraphError::EditRefused { edit: "remove channels".into(), reason };
        let mut gone: BTreeMap<Axis, Vec<bool>> = BTreeMap::new();
        if removal.len() > self.groups.len() {
            return Err(refused(format!("{} groups are named and there are {}", removal.len(), self.groups.len())));
        }
        for (group, channels) in self.groups.iter().zip(removal) {
            if let Some(channel) = channels.iter().find(|c| **c >= group.channels) {
                return Err(refused(format!("`{}` has {} channels and no number {channel}", group.name, group.channels)));
            }
            for member in group.members.iter().filter(|_| !channels.is_empty()) {
                let gone = gone.entry(member.axis).or_insert_with(|| vec![false; member.size]);
                channels.iter().flat_map(|c| member.positions(*c)).for_each(|p| gone[*p as usize] = true);
            }
        }
        let mut kept = Kept::new();
        for (axis, gone) in gone {
            let stay: Vec<u32> = (0..gone.len() as u32).filter(|p| !gone[*p as usize]).collect();
            if stay.is_empty() {
                let name = &graph.value(axis.value).name;
                return Err(refused(format!("axis {} of `{name}` would be left without positions (hint: keep one)", axis.axis)));
            }
            if stay.len() < gone.len() {
                kept.insert(axis, stay);
            }
        }
        Ok(kept)
    }

    /// The graph without the channels of `removal`, which names some for each of [`Channels::groups`]. `graph` is the one that
    /// these channels were found in.
    ///
    /// # Errors
    /// When an axis would be left empty, or the graph refuses what was cut.
    pub fn cut(&self, graph: &Graph, removal: &Removal) -> Result<Graph, GraphError> {
        let kept = self.kept(graph, removal)?;
        let mut edit = Edit::new(graph, "remove channels");
        slice_weights(graph, &kept, &mut edit)?;
        for (id, node) in graph.nodes() {
            let touched = node.inputs.iter().chain(&node.outputs).flatten().any(|value| touches(graph, &kept, *value));
            if touched {
                Cut { graph, node, kept: &kept, edit: &mut edit, inputs: node.inputs.clone() }.perform(id)?;
            }
        }
        let mut cut = graph.clone();
        cut.apply(edit)?;
        check(graph, &cut, &kept)?;
        Ok(cut)
    }

    /// The graph with the channels of `removal` at zero wherever they are added up: what [`Channels::cut`] must compute.
    ///
    /// # Errors
    /// As for [`Channels::cut`].
    pub fn mask(&self, graph: &Graph, removal: &Removal) -> Result<Graph, GraphError> {
        let kept = self.kept(graph, removal)?;
        let mut edit = Edit::new(graph, "mask channels");
        let mut masked: BTreeMap<NodeId, Vec<Option<ValueId>>> = BTreeMap::new();
        let mut masks: BTreeMap<(Axis, Option<ValueId>), ValueId> = BTreeMap::new();
        for sum in &self.sums {
            let node = graph.node(sum.node);
            let Some(value) = node.input(sum.input) else { continue };
            let axis = Axis { value, axis: sum.axis };
            let Some(stay) = kept.get(&axis) else { continue };
            let zero = sum.zero.and_then(|zero| node.input(zero));
            let inputs = masked.entry(sum.node).or_insert_with(|| node.inputs.clone());
            let at = *masks.entry((axis, zero)).or_insert_with(|| masked_value(graph, axis, stay, zero, &mut edit));
            inputs[sum.input] = Some(at);
        }
        for (id, inputs) in masked {
            edit.set_op(id, graph.node(id).op.clone(), inputs);
        }
        let mut masked = graph.clone();
        masked.apply(edit)?;
        Ok(masked)
    }

    /// Parameters (elements of float initializers) and multiply-accumulates of the graph without the channels of `removal`,
    /// from the costs of `graph`'s nodes.
    ///
    /// # Errors
    /// As for [`Channels::cut`].
    pub fn cost(&self, graph: &Graph, costs: &[crate::NodeCost], removal: &Removal) -> Result<(usize, u64), GraphError> {
        let kept = self.kept(graph, removal)?;
        let (mut parameters, mut macs) = (0, 0);
        let left = |value: ValueId| -> usize {
            let dims = graph.tensor(value).map_or(&[][..], Tensor::dims);
            dims.iter().enumerate().map(|(axis, n)| kept.get(&Axis { value, axis }).map_or(*n, Vec::len)).product()
        };
        for (id, tensor) in graph.initializers() {
            if tensor.dtype().is_float() {
                parameters += left(id);
            }
        }
        for cost in costs {
            let Some(before) = cost.macs else { continue };
            let outputs = graph.node(cost.node).output(0).into_iter().flat_map(|value| {
                let rank = graph.value(value).shape.as_ref().map_or(0, Vec::len);
                (0..rank).map(move |axis| Axis { value, axis })
            });
            let (mut whole, mut stay) = (1u128, 1u128);
            for axis in outputs.chain(self.depths(cost.node).iter().copied()) {
                if let (Some(kept), Some(size)) = (kept.get(&axis), size(graph, axis)) {
                    (whole, stay) = (whole * size as u128, stay * kept.len() as u128);
                }
            }
            macs += (u128::from(before) * stay / whole) as u64;
        }
        Ok((parameters, macs))
    }
}

fn size(graph: &Graph, axis: Axis) -> Option<usize> {
    graph.value(axis.value).shape.as_ref()?.get(axis.axis)?.fixed()
}

fn touches(graph: &Graph, kept: &Kept, value: ValueId) -> bool {
    (0..graph.value(value).shape.as_ref().map_or(0, Vec::len)).any(|axis| kept.contains_key(&Axis { value, axis }))
}

/// The axis's value with zero at the positions that do not stay; of codes, the code `zero` stands for it.
fn masked_value(graph: &Graph, axis: Axis, stay: &[u32], zero: Option<ValueId>, edit: &mut Edit) -> ValueId {
    let value = &graph.value(axis.value);
    let (name, mask_name) = (format!("{}.masked", value.name), format!("{}.mask", value.name));
    let no_code = match value.dtype {
        Some(DataType::Int8) => Some(Tensor::scalar(0i8)),
        Some(DataType::Uint8) => Some(Tensor::scalar(0u8)),
        _ => None,
    };
    let (dims, stays) = positions(graph, axis, stay);
    let Some(no_code) = no_code else {
        let mask = edit.add_tensor(mask_name, mask(value.dtype, dims, &stays));
        return edit.add_node(&name, Binary::Mul, vec![Some(axis.value), Some(mask)], &[&name])[0];
    };
    let stays = edit.add_tensor(mask_name, Tensor::from_bools(dims, &stays));
    let zero = zero.unwrap_or_else(|| edit.add_tensor(format!("{}.zero", value.name), no_code));
    edit.add_node(&name, Where, vec![Some(stays), Some(axis.value), Some(zero)], &[&name])[0]
}

/// Whether each position of the axis stays, and dimensions under which that is broadcast along it.
fn positions(graph: &Graph, axis: Axis, stay: &[u32]) -> (Vec<usize>, Vec<bool>) {
    let rank = graph.value(axis.value).shape.as_ref().map_or(0, Vec::len);
    let mut stays = vec![false; size(graph, axis).unwrap_or(0)];
    stay.iter().for_each(|p| stays[*p as usize] = true);
    let mut dims = vec![1; rank];
    dims[axis.axis] = stays.len();
    (dims, stays)
}

/// 1 at the positions that stay and 0 at the others, to be multiplied with a value of type `dtype`.
fn mask(dtype: Option<DataType>, dims: Vec<usize>, stays: &[bool]) -> Tensor {
    let factors: Vec<f32> = stays.iter().map(|stays| f32::from(u8::from(*stays))).collect();
    match dtype {
        Some(DataType::Float16) => Tensor::new(dims, factors.into_iter().map(half::f16::from_f32).collect::<Vec<_>>()),
        Some(DataType::Bfloat16) => Tensor::new(dims, factors.into_iter().map(half::bf16::from_f32).collect::<Vec<_>>()),
        Some(DataType::Double) => Tensor::new(dims, factors.into_iter().map(f64::from).collect::<Vec<_>>()),
        _ => Tensor::new(dims, factors),
    }
}

fn slice_weights(graph: &Graph, kept: &Kept, edit: &mut Edit) -> Result<(), GraphError> {
    let mut axes = kept.iter().peekable();
    while let Some((first, stay)) = axes.next() {
        let Some(tensor) = graph.tensor(first.value) else { continue };
        let mut sliced = tensor.taken(first.axis, stay)?;
        while let Some((axis, stay)) = axes.next_if(|(axis, _)| axis.value == first.value) {
            sliced = sliced.taken(axis.axis, stay)?;
        }
        edit.set_tensor(first.value, sliced);
    }
    Ok(())
}

/// Every value must have the shape that its positions say it has.
fn check(graph: &Graph, cut: &Graph, kept: &Kept) -> Result<(), GraphError> {
    for (id, value) in graph.values() {
        let (Some(before), Some(after)) = (&value.shape, &cut.value(id).shape) else { continue };
        let expected = |axis: usize| match kept.get(&Axis { value: id, axis }) {
            Some(stay) => Dim::Fixed(stay.len()),
            None => before[axis].clone(),
        };
        let in_use = cut.value(id).tensor.is_some() || cut.value(id).producer.is_some();
        let expected: Vec<Dim> = (0..before.len()).map(expected).collect();
        let agree = expected.len() == after.len() && expected.iter().zip(after).all(|(a, b)| a.compatible(b));
        if in_use && !agree {
            return Err(GraphError::Shape { value: value.name.clone(), declared: expected, inferred: after.clone() });
        }
    }
    Ok(())
}

/// One node whose inputs or outputs lose positions.
pub(crate) struct Cut<'a> {
    graph: &'a Graph,
    node: &'a Node,
    kept: &'a Kept,
    edit: &'a mut Edit,
    inputs: Vec<Option<ValueId>>,
}

impl<'a> Cut<'a> {
    fn perform(mut self, id: NodeId) -> Result<(), GraphError> {
        let node = self.node;
        let refused = |reason: String| GraphError::Node { node: node.name.clone(), op_type: node.op.op_type().into(), reason };
        let op: Op = node.op.cut(&mut self).map_err(refused)?;
        if op != node.op || self.inputs != node.inputs {
            self.edit.set_op(id, op, self.inputs);
        }
        Ok(())
    }

    /// What is known of the inputs before the cut.
    pub(crate) fn operands(&self) -> Operands<'a> {
        Operands::new(self.graph, self.node)
    }

    /// Shape of an input before the cut.
    pub(crate) fn shape(&self, input: usize) -> &'a [Dim] {
        self.node.input(input).and_then(|id| self.graph.value(id).shape.as_deref()).unwrap_or(&[])
    }

    /// Shape of an output before the cut.
    pub(crate) fn output_shape(&self, output: usize) -> &'a [Dim] {
        self.node.output(output).and_then(|id| self.graph.value(id).shape.as_deref()).unwrap_or(&[])
    }

    /// Number of outputs.
    pub(crate) fn outputs(&self) -> usize {
        self.node.outputs.len()
    }

    /// Positions of an input's axis that stay; `None`: all.
    pub(crate) fn kept(&self, input: usize, axis: usize) -> Option<&'a [u32]> {
        self.kept.get(&Axis { value: self.node.input(input)?, axis }).map(Vec::as_slice)
    }

    /// Positions of an output's axis that stay; `None`: all.
    pub(crate) fn output_kept(&self, output: usize, axis: usize) -> Option<&'a [u32]> {
        self.kept.get(&Axis { value: self.node.output(output)?, axis }).map(Vec::as_slice)
    }

    /// Size of an input's axis after the cut, where it is known.
    pub(crate) fn size(&self, input: usize, axis: usize) -> Option<usize> {
        self.kept(input, axis).map(<[u32]>::len).or_else(|| self.shape(input).get(axis)?.fixed())
    }

    /// Size of an output's axis after the cut, where it is known.
    pub(crate) fn output_size(&self, output: usize, axis: usize) -> Option<usize> {
        self.output_kept(output, axis).map(<[u32]>::len).or_else(|| self.output_shape(output).get(axis)?.fixed())
    }

    /// Shape of an output after the cut.
    pub(crate) fn output_after(&self, output: usize) -> Vec<Dim> {
        let before = self.output_shape(output).iter().enumerate();
        before.map(|(axis, dim)| self.output_kept(output, axis).map_or(dim.clone(), |stay| Dim::Fixed(stay.len()))).collect()
    }

    /// Gives the node integers of its own as input `index`.
    pub(crate) fn integers(&mut self, index: usize, name: &str, values: &[i64]) {
        let tensor = Tensor::new([values.len()], values.to_vec());
        self.inputs[index] = Some(self.edit.add_tensor(format!("{}.{name}", self.node.name), tensor));
    }

    /// Gives the node one integer of its own as input `index`.
    pub(crate) fn integer(&mut self, index: usize, name: &str, value: i64) {
        self.inputs[index] = Some(self.edit.add_tensor(format!("{}.{name}", self.node.name), Tensor::scalar(value)));
    }

    /// The elements of an input that no caller can replace.
    pub(crate) fn constant(&self, input: usize) -> Option<&'a Tensor> {
        self.graph.constant(self.node.input(input)?)
    }
}

/// The second input of a `Reshape` of x to y, where numbers can say it: 0 copies a dimension, one may be −1.
pub(crate) fn restated(x: &[Dim], y: &[Dim], allow_zero: bool) -> Option<Vec<i64>> {
    let mut open = false;
    let mut target = vec![];
    for (i, dim) in y.iter().enumerate() {
        target.push(match dim {
            Dim::Fixed(n) => i64::try_from(*n).ok().filter(|n| *n > 0)?,
            Dim::Symbolic { .. } if !allow_zero && x.get(i) == Some(dim) => 0,
            Dim::Symbolic { .. } | Dim::Unknown if !open => {
                open = true;
                -1
            }
            Dim::Symbolic { .. } | Dim::Unknown => return None,
        });
    }
    Some(target)
}
