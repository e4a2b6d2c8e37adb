//! How a node moves to a later opset: its operator's rule says what changes, and says it here.

use super::Op;
use crate::{DataType, Dim, Edit, Graph, Node, NodeId, Tensor, ValueId};

/// One node on its way from opset `from` to a later one.
pub(crate) struct Raise<'a> {
    /// The opset that the node is written for.
    pub(crate) from: i64,
    to: i64,
    graph: &'a Graph,
    id: NodeId,
    node: &'a Node,
    edit: &'a mut Edit,
    inputs: Vec<Option<ValueId>>,
}

impl<'a> Raise<'a> {
    /// Operation and inputs of a node as opset `to` has them; all else that it needs goes to `edit`.
    pub(crate) fn node(graph: &'a Graph, id: NodeId, to: i64, edit: &'a mut Edit) -> Result<(Op, Vec<Option<ValueId>>), String> {
        let node = graph.node(id);
        let mut raise = Raise { from: graph.opset(), to, graph, id, node, edit, inputs: node.inputs.clone() };
        let op = node.op.raise(&mut raise)?;
        Ok((op, raise.inputs))
    }

    /// Whether the old opset is older than `version` and the new one is not.
    pub(super) fn crosses(&self, version: i64) -> bool {
        self.from < version && version <= self.to
    }

    pub(super) fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    pub(super) fn has_input(&self, index: usize) -> bool {
        self.input(index).is_some()
    }

    pub(super) fn shape(&self, input: usize) -> Option<&'a [Dim]> {
        self.graph.value(self.node.input(input)?).shape.as_deref()
    }

    /// Number of outputs.
    pub(super) fn outputs(&self) -> usize {
        self.node.outputs.len()
    }

    /// Whether another node or the caller reads an output.
    pub(super) fn reads_output(&self, index: usize) -> bool {
        self.node.output(index).is_some_and(|y| self.graph.uses(y) > 0)
    }

    /// What was an attribute becomes input `index`; `name` completes that of its initializer.
    pub(super) fn tensor(&mut self, index: usize, name: &str, tensor: Tensor) {
        let value = self.edit.add_tensor(format!("{}.{name}", self.node.name), tensor);
        if self.inputs.len() <= index {
            self.inputs.resize(index + 1, None);
        }
        self.inputs[index] = Some(value);
    }

    /// A list of integers becomes input `index`.
    pub(super) fn ints(&mut self, index: usize, name: &str, ints: &[i64]) {
        self.tensor(index, name, Tensor::new([ints.len()], ints.to_vec()));
    }

    /// What is left of an attribute that becomes input `index` at opset `version`.
    pub(super) fn ints_until(&mut self, version: i64, index: usize, name: &str, ints: Option<&Vec<i64>>) -> Option<Vec<i64>> {
        let ints = ints?;
        if !self.crosses(version) {
            return Some(ints.clone());
        }
        self.ints(index, name, ints);
        None
    }

    /// A number becomes input `index`, in the type of input 0.
    pub(super) fn number(&mut self, index: usize, name: &str, number: f32) -> Result<(), String> {
        let dtype = self.node.input(0).and_then(|x| self.graph.value(x).dtype);
        let scalar = match dtype {
            Some(DataType::Float) => Tensor::scalar(number),
            Some(DataType::Float16) => Tensor::scalar(half::f16::from_f32(number)),
            Some(DataType::Bfloat16) => Tensor::scalar(half::bf16::from_f32(number)),
            Some(DataType::Double) => Tensor::scalar(f64::from(number)),
            Some(other) => return Err(format!("attribute `{name}` has no counterpart of type {}", other.name())),
            None => return Err(format!("attribute `{name}` becomes an input of its input's type, which is not known")),
        };
        self.tensor(index, name, scalar);
        Ok(())
    }

    /// A new node in front of this one; `name` completes its name.
    pub(super) fn before(&mut self, name: &str, op: impl Into<Op>, inputs: Vec<ValueId>) -> ValueId {
        let name = format!("{}.{name}", self.node.name);
        self.edit.add_node(&name, op, inputs.into_iter().map(Some).collect(), &[&name])[0]
    }

    /// Lets the node read these values instead of those that it read.
    pub(super) fn read(&mut self, inputs: &[ValueId]) {
        self.inputs = inputs.iter().copied().map(Some).collect();
    }

    /// Leaves out an output that nothing reads.
    pub(super) fn drop_output(&mut self, index: usize) {
        if self.node.output(index).is_some() {
            self.edit.drop_output(self.id, index);
        }
    }
}
