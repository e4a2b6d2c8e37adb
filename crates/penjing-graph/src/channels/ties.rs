//! What an operator says about the positions of its inputs and outputs.

use std::collections::BTreeMap;

use super::atoms::{Atoms, Axis, Pin};
use crate::infer::{Operands, volume};
use crate::{DataType, Dim, Graph, Node, NodeId, Tensor};

/// An axis that several others were made of, or were made into, outermost first.
#[derive(Debug)]
struct Folding {
    node: NodeId,
    whole: Axis,
    parts: Vec<Axis>,
}

/// Where positions are added up, so that zeros there stand for positions that are gone.
#[derive(Clone, Debug)]
pub(crate) struct Sum {
    pub(crate) node: NodeId,
    pub(crate) input: usize,
    pub(crate) axis: usize,
    /// The input that says which code stands for zero; `None` where zero does.
    pub(crate) zero: Option<usize>,
}

/// All that the operators of a graph said.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) atoms: Atoms,
    pub(crate) sums: Vec<Sum>,
    /// Axes along which a node's multiplications are added up, which its outputs do not show.
    pub(crate) depths: BTreeMap<NodeId, Vec<Axis>>,
    foldings: Vec<Folding>,
}

impl Findings {
    /// Asks every operator. With `approximate`, what only an approximation could remove is not pinned.
    pub(crate) fn of(graph: &Graph, approximate: bool) -> Findings {
        let mut findings = Findings { atoms: Atoms::new(graph), sums: vec![], depths: BTreeMap::new(), foldings: vec![] };
        for id in &graph.inputs {
            pin_value(&mut findings.atoms, graph, *id, None, "it is an input of the model");
        }
        for id in &graph.outputs {
            pin_value(&mut findings.atoms, graph, *id, None, "it is an output of the model");
        }
        for (id, node) in graph.nodes() {
            for captured in &node.captures {
                pin_value(&mut findings.atoms, graph, *captured, Some(id), "an inner graph uses it");
            }
            Ties::new(graph, id, node, approximate, &mut findings).ask();
        }
        findings.unfold();
        findings
    }

    /// Decides for each folding which of its parts can lose positions, and ties that part to the whole.
    ///
    /// Only one part can: what is left of the whole must still be a product. Each folding names the outermost part that
    /// nothing pins; of parts that are one and the same axis in several foldings, the one named most often is taken, of
    /// equals the longest, so that heads are cut as heads and shuffled groups within each group.
    fn unfold(&mut self) {
        let foldings = std::mem::take(&mut self.foldings);
        let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
        for folding in &foldings {
            let first = folding.parts.iter().find(|part| self.atoms.size(**part).is_some() && !self.atoms.axis_pinned(**part));
            if let Some(part) = first {
                *votes.entry(self.atoms.axis_class(*part)).or_default() += 1;
            }
        }
        for folding in foldings {
            let mut chosen: Option<(usize, usize, usize)> = None;
            for (i, part) in folding.parts.iter().enumerate() {
                let Some(size) = self.atoms.size(*part) else { continue };
                if self.atoms.axis_pinned(*part) {
                    continue;
                }
                let named = votes.get(&self.atoms.axis_class(*part)).copied().unwrap_or(0);
                if chosen.is_none_or(|(most, longest, _)| (named, size) > (most, longest)) {
                    chosen = Some((named, size, i));
                }
            }
            self.tie_part(&folding, chosen.map(|(_, _, i)| i));
        }
    }

    fn tie_part(&mut self, folding: &Folding, chosen: Option<usize>) {
        let pin = |reason: &str| Pin { node: Some(folding.node), reason: reason.into(), approximate: false };
        for (i, part) in folding.parts.iter().enumerate() {
            if chosen != Some(i) {
                self.atoms.pin(*part, pin("it is folded with another axis, which is cut instead"));
            }
        }
        let (Some(i), Some(whole)) = (chosen, self.atoms.size(folding.whole)) else {
            self.atoms.pin(folding.whole, pin("it is folded of axes that stay"));
            return;
        };
        let part = folding.parts[i];
        let inner: usize = folding.parts[i + 1..].iter().filter_map(|p| self.atoms.size(*p)).product();
        let size = self.atoms.size(part).unwrap_or(1);
        for position in 0..whole {
            self.atoms.tie(folding.whole, position, part, position / inner % size);
        }
    }
}

fn pin_value(atoms: &mut Atoms, graph: &Graph, id: crate::ValueId, node: Option<NodeId>, reason: &str) {
    for axis in 0..graph.value(id).shape.as_ref().map_or(0, Vec::len) {
        atoms.pin(Axis { value: id, axis }, Pin { node, reason: reason.into(), approximate: false });
    }
}

/// Takes down what one node says. An axis that it does not mention stays as it is.
pub(crate) struct Ties<'a> {
    graph: &'a Graph,
    id: NodeId,
    node: &'a Node,
    approximate: bool,
    findings: &'a mut Findings,
    mentioned: Vec<Axis>,
}

impl<'a> Ties<'a> {
    fn new(graph: &'a Graph, id: NodeId, node: &'a Node, approximate: bool, findings: &'a mut Findings) -> Ties<'a> {
        Ties { graph, id, node, approximate, findings, mentioned: vec![] }
    }

    fn ask(mut self) {
        let values: Vec<_> = self.node.inputs.iter().chain(&self.node.outputs).flatten().copied().collect();
        let understood = crate::graph::opaque(self.node).is_none();
        let unknown = values.iter().find(|id| understood && self.graph.value(**id).shape.is_none());
        let said = match unknown {
            Some(id) => Err(format!("the shape of `{}` is not known", self.graph.value(*id).name)),
            None => self.node.op.couple(&mut self),
        };
        let reason = said.err();
        for value in values {
            let text = self.graph.tensor(value).is_some_and(|t| t.dtype() == DataType::String);
            for axis in 0..self.graph.value(value).shape.as_ref().map_or(0, Vec::len) {
                let axis = Axis { value, axis };
                if reason.is_some() || text || !self.mentioned.contains(&axis) {
                    self.pin(axis, reason.as_deref().unwrap_or("it is read as it stands"));
                }
            }
        }
    }

    /// What is known of the inputs.
    pub(crate) fn operands(&self) -> Operands<'a> {
        Operands::new(self.graph, self.node)
    }

    /// Whether an input is there.
    pub(crate) fn given(&self, input: usize) -> bool {
        self.node.input(input).is_some()
    }

    /// Number of inputs, those left out in the middle included.
    pub(crate) fn inputs(&self) -> usize {
        self.node.inputs.len()
    }

    /// Number of outputs, those left out included.
    pub(crate) fn outputs(&self) -> usize {
        self.node.outputs.len()
    }

    /// Whether an output is there and something reads it.
    pub(crate) fn is_read(&self, output: usize) -> bool {
        self.node.output(output).is_some_and(|y| self.graph.uses(y) > 0)
    }

    /// Shape of an input; empty where it is left out.
    pub(crate) fn shape(&self, input: usize) -> &'a [Dim] {
        self.node.input(input).and_then(|id| self.graph.value(id).shape.as_deref()).unwrap_or(&[])
    }

    /// Shape of an output; empty where it is left out.
    pub(crate) fn output_shape(&self, output: usize) -> &'a [Dim] {
        self.node.output(output).and_then(|id| self.graph.value(id).shape.as_deref()).unwrap_or(&[])
    }

    /// The elements of an input that no caller can replace.
    pub(crate) fn constant(&self, input: usize) -> Option<&'a Tensor> {
        self.graph.constant(self.node.input(input)?)
    }

    /// Nodes that read an output, each with what it computes of it as far as integers go.
    pub(crate) fn readers(&self, output: usize) -> impl Iterator<Item = &'a Node> {
        let (graph, y) = (self.graph, self.node.output(output));
        graph.nodes().map(|(_, node)| node).filter(move |node| y.is_some_and(|y| node.reads().any(|read| read == y)))
    }

    /// The graph around the node.
    pub(crate) fn graph(&self) -> &'a Graph {
        self.graph
    }

    fn input_axis(&self, input: usize, axis: usize) -> Option<Axis> {
        Some(Axis { value: self.node.input(input)?, axis }).filter(|_| axis < self.shape(input).len())
    }

    fn output_axis(&self, output: usize, axis: usize) -> Option<Axis> {
        Some(Axis { value: self.node.output(output)?, axis }).filter(|_| axis < self.output_shape(output).len())
    }

    fn resolve(&self, place: Place) -> Option<Axis> {
        match place {
            Place::In(input, axis) => self.input_axis(input, axis),
            Place::Out(output, axis) => self.output_axis(output, axis),
        }
    }

    fn mention(&mut self, axis: Axis) {
        if !self.mentioned.contains(&axis) {
            self.mentioned.push(axis);
        }
    }

    fn pin(&mut self, axis: Axis, reason: &str) {
        self.mention(axis);
        self.findings.atoms.pin(axis, Pin { node: Some(self.id), reason: reason.into(), approximate: false });
    }

    /// Two axes are one, position by position. What is left out has no axes.
    pub(crate) fn same(&mut self, a: Place, b: Place) {
        let (Some(a), Some(b)) = (self.resolve(a), self.resolve(b)) else { return };
        self.mention(a);
        self.mention(b);
        if !self.findings.atoms.same(a, b) {
            self.pin(a, "its size is not known here");
            self.pin(b, "its size is not known here");
        }
    }

    /// Two positions are one.
    pub(crate) fn tie(&mut self, a: Place, i: usize, b: Place, j: usize) {
        let (Some(a), Some(b)) = (self.resolve(a), self.resolve(b)) else { return };
        if !self.has(a, i) || !self.has(b, j) {
            self.pin(a, "its size is not known here");
            self.pin(b, "its size is not known here");
            return;
        }
        self.mention(a);
        self.mention(b);
        self.findings.atoms.tie(a, i, b, j);
    }

    /// Whether an axis is known to have a position of that number.
    fn has(&self, axis: Axis, position: usize) -> bool {
        self.findings.atoms.size(axis).is_some_and(|size| position < size)
    }

    /// All positions stay; the reason completes "… stays: node `x` (Op): …".
    pub(crate) fn stays(&mut self, place: Place, reason: &str) {
        if let Some(axis) = self.resolve(place) {
            self.pin(axis, reason);
        }
    }

    /// All positions stay unless an approximation is allowed.
    pub(crate) fn stays_if_exact(&mut self, place: Place, reason: &str) {
        let Some(axis) = self.resolve(place) else { return };
        self.mention(axis);
        if !self.approximate {
            self.findings.atoms.pin(axis, Pin { node: Some(self.id), reason: reason.into(), approximate: true });
        }
    }

    /// One position stays.
    pub(crate) fn position_stays(&mut self, place: Place, position: usize, reason: &str) {
        let Some(axis) = self.resolve(place) else { return };
        if !self.has(axis, position) {
            return self.pin(axis, reason);
        }
        self.mention(axis);
        self.findings.atoms.pin_position(axis, position, Pin { node: Some(self.id), reason: reason.into(), approximate: false });
    }

    /// Positions of this axis may go as far as this node is concerned.
    pub(crate) fn free(&mut self, place: Place) {
        if let Some(axis) = self.resolve(place) {
            self.mention(axis);
        }
    }

    /// The positions of an input's axis are added up: a zero there is the same as nothing.
    pub(crate) fn summed(&mut self, input: usize, axis: usize) {
        self.summed_codes(input, axis, None);
    }

    /// The positions of an input's axis are added up after the code of input `zero` was taken from them: that code there is the
    /// same as nothing.
    pub(crate) fn summed_codes(&mut self, input: usize, axis: usize, zero: Option<usize>) {
        let Some(at) = self.input_axis(input, axis) else { return };
        self.mention(at);
        self.findings.sums.push(Sum { node: self.id, input, axis, zero });
    }

    /// Products of positions of two inputs are added up.
    pub(crate) fn contracted(&mut self, (a, a_axis): (usize, usize), (b, b_axis): (usize, usize)) {
        self.contracted_codes((a, a_axis), (b, b_axis), None);
    }

    /// Products of positions of two inputs are added up, after the code of input `zero` was taken from the first.
    pub(crate) fn contracted_codes(&mut self, (a, a_axis): (usize, usize), (b, b_axis): (usize, usize), zero: Option<usize>) {
        self.same(Place::In(a, a_axis), Place::In(b, b_axis));
        self.depth(Place::In(b, b_axis));
        self.summed_codes(a, a_axis, zero);
    }

    /// The node multiplies as often as this axis is long, beside what its output shows.
    pub(crate) fn depth(&mut self, place: Place) {
        if let Some(axis) = self.resolve(place) {
            self.findings.depths.entry(self.id).or_default().push(axis);
        }
    }

    /// Axes of inputs, aligned at the end, are those of output 0 where they are not of size 1 (numpy's rule).
    pub(crate) fn broadcast(&mut self, inputs: impl IntoIterator<Item = usize>) {
        let rank = self.output_shape(0).len();
        for input in inputs {
            let shape = self.shape(input);
            let offset = rank.saturating_sub(shape.len());
            for (axis, dim) in shape.iter().enumerate() {
                if *dim == Dim::Fixed(1) && self.output_shape(0).get(offset + axis) != Some(&Dim::Fixed(1)) {
                    self.free(Place::In(input, axis));
                } else {
                    self.same(Place::In(input, axis), Place::Out(0, offset + axis));
                }
            }
        }
    }

    /// Every axis of input 0 is the axis of `output` at the same place.
    pub(crate) fn alike(&mut self, output: usize) {
        for axis in 0..self.shape(0).len() {
            self.same(Place::In(0, axis), Place::Out(output, axis));
        }
    }

    /// The elements of input 0 in the same order under output 0's dimensions.
    pub(crate) fn refolded(&mut self) {
        let (x, y) = (self.shape(0), self.output_shape(0));
        let long = |shape: &[Dim]| (0..shape.len()).filter(|i| shape[*i] != Dim::Fixed(1)).collect::<Vec<_>>();
        (0..x.len()).for_each(|i| self.free(Place::In(0, i)));
        (0..y.len()).for_each(|i| self.free(Place::Out(0, i)));
        let (from, to) = (long(x), long(y));
        let (mut i, mut j) = (0, 0);
        while i < from.len() && j < to.len() {
            let (first_i, first_j) = (i, j);
            let (mut left, mut right) = (x[from[i]].clone(), y[to[j]].clone());
            (i, j) = (i + 1, j + 1);
            // Of two sizes that nobody knows, one behind the other, as much follows on both sides: they are one.
            let rest = |shape: &[Dim], axes: &[usize]| volume(axes.iter().map(|axis| &shape[*axis]));
            let behind = rest(x, &from[i..]);
            let both_unknown = left == Dim::Unknown && right == Dim::Unknown;
            let aligned = both_unknown && behind != Dim::Unknown && behind == rest(y, &to[j..]);
            // The shorter side grows until both hold as many elements; what cannot be compared takes all that is left.
            while !aligned && (left != right || left == Dim::Unknown) {
                let grow_left = match (left.fixed(), right.fixed()) {
                    (Some(a), Some(b)) => a < b,
                    _ => right.divided_by(&left) != Dim::Unknown,
                };
                if grow_left && i < from.len() {
                    left = volume([&left, &x[from[i]]]);
                    i += 1;
                } else if j < to.len() {
                    right = volume([&right, &y[to[j]]]);
                    j += 1;
                } else if i < from.len() {
                    left = volume([&left, &x[from[i]]]);
                    i += 1;
                } else {
                    break;
                }
            }
            let (xs, ys) = (&from[first_i..i], &to[first_j..j]);
            match (xs, ys) {
                ([a], [b]) => self.same(Place::In(0, *a), Place::Out(0, *b)),
                ([whole], parts) => self.folded(Place::In(0, *whole), parts.iter().map(|p| Place::Out(0, *p))),
                (parts, [whole]) => self.folded(Place::Out(0, *whole), parts.iter().map(|p| Place::In(0, *p))),
                (xs, ys) => {
                    xs.iter().for_each(|a| self.stays(Place::In(0, *a), "it is folded with others in a way that is not understood"));
                    ys.iter().for_each(|b| self.stays(Place::Out(0, *b), "it is folded with others in a way that is not understood"));
                }
            }
        }
        from[i.min(from.len())..].iter().for_each(|a| self.stays(Place::In(0, *a), "it is folded away"));
        to[j.min(to.len())..].iter().for_each(|b| self.stays(Place::Out(0, *b), "it is folded away"));
    }

    fn folded(&mut self, whole: Place, parts: impl Iterator<Item = Place>) {
        let Some(whole) = self.resolve(whole) else { return };
        let parts: Vec<Axis> = parts.filter_map(|p| self.resolve(p)).collect();
        let known = self.findings.atoms.size(whole).is_some() && parts.iter().all(|p| self.findings.atoms.size(*p).is_some());
        if known {
            self.findings.foldings.push(Folding { node: self.id, whole, parts });
        } else {
            std::iter::once(whole).chain(parts).for_each(|axis| self.pin(axis, "it is folded with an axis whose size is not known"));
        }
    }
}

/// An axis of an input or of an output of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Axis of an input.
    In(usize, usize),
    /// Axis of an output.
    Out(usize, usize),
}
