//! Types and shapes, worked out from inputs to outputs.
//!
//! What cannot be known stays unknown: a shape that is inferred is never wrong.

use crate::graph::opaque;
use crate::partial::{PartialInt, PartialValue};
use crate::{DataType, Dim, Graph, GraphError, Node, NodeId, ValueId};

/// Rank that a tensor must not pass, far above any that is used.
pub(crate) const MAX_RANK: usize = 64;

/// A shape of `rank` unknown dimensions; `None` where nobody could mean such a rank.
pub(crate) fn unknown_shape(rank: usize) -> Option<Vec<Dim>> {
    (rank <= MAX_RANK).then(|| vec![Dim::Unknown; rank])
}

/// What is known of a value before the model runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fact {
    pub(crate) dtype: Option<DataType>,
    pub(crate) shape: Option<Vec<Dim>>,
    pub(crate) partial: Option<PartialValue>,
}

impl Fact {
    pub(crate) fn new(dtype: Option<DataType>, shape: Option<Vec<Dim>>) -> Fact {
        Fact { dtype, shape, partial: None }
    }

    /// Integers of type `dtype`, which give the shape too.
    pub(crate) fn integers(dtype: Option<DataType>, partial: PartialValue) -> Fact {
        Fact { dtype, shape: Some(partial.shape()), partial: Some(partial.within(dtype)) }
    }

    /// The same with `partial`, which must agree with the shape.
    pub(crate) fn with(mut self, partial: Option<PartialValue>) -> Fact {
        self.partial = partial.map(|p| p.within(self.dtype));
        self
    }

    fn of(graph: &Graph, id: ValueId) -> Fact {
        let value = graph.value(id);
        Fact { dtype: value.dtype, shape: value.shape.clone(), partial: value.partial.clone() }
    }
}

/// What is known of the inputs of one node.
pub(crate) struct Operands<'a> {
    graph: &'a Graph,
    node: &'a Node,
}

impl<'a> Operands<'a> {
    pub(crate) fn new(graph: &'a Graph, node: &'a Node) -> Operands<'a> {
        Operands { graph, node }
    }

    pub(crate) fn opset(&self) -> i64 {
        self.graph.opset()
    }

    /// Number of inputs, those left out in the middle included.
    pub(crate) fn inputs(&self) -> usize {
        self.node.inputs.len()
    }

    /// Number of outputs, those left out included.
    pub(crate) fn outputs(&self) -> usize {
        self.node.outputs.len()
    }

    pub(crate) fn given(&self, input: usize) -> bool {
        self.node.input(input).is_some()
    }

    pub(crate) fn dtype(&self, input: usize) -> Option<DataType> {
        self.graph.value(self.node.input(input)?).dtype
    }

    pub(crate) fn shape(&self, input: usize) -> Option<&'a [Dim]> {
        self.graph.value(self.node.input(input)?).shape.as_deref()
    }

    pub(crate) fn partial(&self, input: usize) -> Option<&'a PartialValue> {
        self.graph.value(self.node.input(input)?).partial.as_ref()
    }

    /// The integers of an input, where every one is known.
    pub(crate) fn known(&self, input: usize) -> Option<Vec<i64>> {
        self.partial(input)?.known()
    }

    /// Number of elements of an input that is a vector, where it is known.
    pub(crate) fn vector_len(&self, input: usize) -> Option<usize> {
        self.shape(input)?.first()?.fixed()
    }

    /// The integers of an input that is a vector, unknown ones where only their number is known.
    pub(crate) fn integers(&self, input: usize) -> Option<Vec<PartialInt>> {
        match self.partial(input) {
            Some(partial) => Some(partial.elements.clone()),
            None => PartialValue::unknown(self.vector_len(input)?).map(|partial| partial.elements),
        }
    }

    /// Checks that `least` inputs are given and no more than `most` are there.
    pub(crate) fn count(&self, least: usize, most: usize) -> Result<(), String> {
        let there = self.node.inputs.iter().rposition(Option::is_some).map_or(0, |i| i + 1);
        if there > most || (0..least).any(|i| !self.given(i)) {
            let wanted = if least == most { least.to_string() } else { format!("{least} to {most}") };
            let given = self.node.inputs.iter().flatten().count();
            return Err(format!("needs {wanted} inputs at opset {} but has {given}", self.opset()));
        }
        Ok(())
    }

    /// Checks that there are no more than `most` outputs.
    pub(crate) fn at_most_outputs(&self, most: usize) -> Result<(), String> {
        if self.outputs() > most {
            return Err(format!("gives at most {most} outputs at opset {} but has {}", self.opset(), self.outputs()));
        }
        Ok(())
    }

    /// The type that all of `inputs` share.
    pub(crate) fn common_type(&self, inputs: impl IntoIterator<Item = usize>) -> Result<Option<DataType>, String> {
        let mut common: Option<DataType> = None;
        for dtype in inputs.into_iter().filter_map(|i| self.dtype(i)) {
            match common {
                Some(first) if first != dtype => {
                    return Err(format!("inputs of type {} and {} do not go together", first.name(), dtype.name()));
                }
                _ => common = Some(dtype),
            }
        }
        Ok(common)
    }

    /// The dimensions of an input that must have `rank` of them; unknown ones where nothing is known.
    pub(crate) fn ranked(&self, input: usize, rank: usize) -> Result<Vec<Dim>, String> {
        match self.shape(input) {
            None => Ok(vec![Dim::Unknown; rank]),
            Some(shape) if shape.len() == rank => Ok(shape.to_vec()),
            Some(shape) => Err(format!("input {input} has {} dimensions but needs {rank}", shape.len())),
        }
    }
}

/// Position of `axis` among `rank` axes; negative ones count from the end.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let from_begin = if axis < 0 { axis.checked_add_unsigned(rank as u64) } else { Some(axis) };
    from_begin
        .and_then(|a| usize::try_from(a).ok())
        .filter(|a| *a < rank)
        .ok_or_else(|| format!("axis {axis} is out of range for {rank} dimensions"))
}

/// Positions of `axes` among `rank` axes, each once.
pub(crate) fn axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut found = Vec::with_capacity(axes.len().min(rank));
    for a in axes {
        let a = axis(*a, rank)?;
        if found.contains(&a) {
            return Err(format!("axis {a} is named twice"));
        }
        found.push(a);
    }
    Ok(found)
}

/// Number of elements of a shape.
pub(crate) fn volume<'a>(shape: impl IntoIterator<Item = &'a Dim>) -> Dim {
    shape.into_iter().fold(Dim::Fixed(1), |product, dim| product.times(dim))
}

/// Of two statements about the same dimension the one that says more, `theirs` where both say as much.
/// `None` where they contradict each other.
pub(crate) fn meet(ours: &Dim, theirs: &Dim) -> Option<Dim> {
    match (ours, theirs) {
        (Dim::Fixed(a), Dim::Fixed(b)) => (a == b).then(|| ours.clone()),
        (Dim::Fixed(_), Dim::Symbolic { .. } | Dim::Unknown) | (Dim::Symbolic { .. }, Dim::Unknown) => Some(ours.clone()),
        (Dim::Symbolic { .. } | Dim::Unknown, _) => Some(theirs.clone()),
    }
}

/// Infers every value of a graph that was just read: what the file declares of inner values and outputs is checked and kept
/// where it says more.
pub(crate) fn infer(graph: &mut Graph) -> Result<(), GraphError> {
    evaluate_initializers(graph);
    for id in graph.order.clone() {
        let declared = outputs(graph, id);
        let inferred = infer_node(graph, id)?;
        settle(graph, id, &declared, inferred)?;
    }
    Ok(())
}

/// Infers what an edit changed. A node that is what it was, on inputs of which nothing else is known, gives what it gave.
pub(crate) fn infer_edited(graph: &mut Graph, before: &Graph) -> Result<(), GraphError> {
    evaluate_initializers(graph);
    let same_opset = graph.opset() == before.opset();
    for id in graph.order.clone() {
        let kept = unchanged(graph, before, id).then(|| outputs(before, id));
        match kept {
            Some(facts) if same_opset => set(graph, id, facts),
            Some(declared) => {
                let inferred = infer_node(graph, id)?;
                settle(graph, id, &declared, inferred)?;
            }
            None => {
                let inferred = infer_node(graph, id)?;
                set(graph, id, inferred);
            }
        }
    }
    Ok(())
}

fn evaluate_initializers(graph: &mut Graph) {
    for value in &mut graph.values {
        if let Some(tensor) = &value.tensor {
            value.dtype = Some(tensor.dtype());
            value.shape = Some(tensor.dims().iter().map(|d| Dim::Fixed(*d)).collect());
            value.partial = PartialValue::of(tensor);
        }
    }
}

fn outputs(graph: &Graph, id: NodeId) -> Vec<Fact> {
    graph.node(id).outputs.iter().map(|output| output.map_or(Fact::default(), |value| Fact::of(graph, value))).collect()
}

fn unchanged(graph: &Graph, before: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let Some(old) = before.nodes.get(id.0 as usize).and_then(Option::as_ref) else { return false };
    let same_fact = |a: &Option<ValueId>, b: &Option<ValueId>| match (a, b) {
        (Some(a), Some(b)) => {
            let (a, b) = (graph.value(*a), before.value(*b));
            a.dtype == b.dtype && a.shape == b.shape && a.partial == b.partial
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    node.op == old.op
        && node.outputs.len() == old.outputs.len()
        && node.inputs.len() == old.inputs.len()
        && node.inputs.iter().zip(&old.inputs).all(|(a, b)| same_fact(a, b))
}

fn infer_node(graph: &Graph, id: NodeId) -> Result<Vec<Fact>, GraphError> {
    let node = graph.node(id);
    if opaque(node).is_some() {
        return Ok(vec![Fact::default(); node.outputs.len()]);
    }
    let refused = |reason: String| GraphError::Node { node: node.name.clone(), op_type: node.op.op_type().into(), reason };
    if node.op.since() > graph.opset() {
        let (since, opset) = (node.op.since(), graph.opset());
        return Err(refused(format!("the operator exists from opset {since} on, the graph has {opset} (hint: raise the opset)")));
    }
    let mut facts = node.op.infer(&Operands::new(graph, node)).map_err(refused)?;
    if facts.len() < node.outputs.len() {
        let given = facts.len();
        return Err(refused(format!("gives at most {given} outputs but has {}", node.outputs.len())));
    }
    facts.truncate(node.outputs.len());
    Ok(facts)
}

fn settle(graph: &mut Graph, id: NodeId, declared: &[Fact], inferred: Vec<Fact>) -> Result<(), GraphError> {
    let mut settled = Vec::with_capacity(inferred.len());
    for (i, (declared, inferred)) in declared.iter().zip(inferred).enumerate() {
        let node = graph.node(id);
        let name = node.output(i).map_or("", |value| graph.value(value).name.as_str());
        settled.push(agree(node, name, declared, inferred)?);
    }
    set(graph, id, settled);
    Ok(())
}

fn agree(node: &Node, output: &str, declared: &Fact, inferred: Fact) -> Result<Fact, GraphError> {
    if let (Some(a), Some(b)) = (declared.dtype, inferred.dtype)
        && a != b
    {
        let reason = format!("output `{output}` is declared as {} but computes as {}", a.name(), b.name());
        return Err(GraphError::Node { node: node.name.clone(), op_type: node.op.op_type().into(), reason });
    }
    let shape = match (&declared.shape, inferred.shape) {
        (None, shape) => shape,
        (Some(shape), None) => Some(shape.clone()),
        (Some(a), Some(b)) => {
            let met = if a.len() == b.len() { a.iter().zip(&b).map(|(a, b)| meet(a, b)).collect() } else { None };
            Some(met.ok_or(GraphError::Shape { value: output.into(), declared: a.clone(), inferred: b })?)
        }
    };
    Ok(Fact { dtype: inferred.dtype.or(declared.dtype), shape, partial: inferred.partial.or_else(|| declared.partial.clone()) })
}

fn set(graph: &mut Graph, id: NodeId, facts: Vec<Fact>) {
    let outputs = graph.node(id).outputs.clone();
    for (output, fact) in outputs.into_iter().zip(facts) {
        if let Some(ValueId(value)) = output {
            let value = &mut graph.values[value as usize];
            (value.dtype, value.shape, value.partial) = (fact.dtype, fact.shape, fact.partial);
        }
    }
}
