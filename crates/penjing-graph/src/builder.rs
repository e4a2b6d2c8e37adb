//! A graph in a few lines, for tests and for the architectures of the zoo.

use crate::ops::Op;
use crate::{DataType, Dim, Edit, Graph, GraphError, NEWEST_OPSET, Tensor, ValueId};

/// Collects inputs, weights and nodes; `finish` makes and checks the graph.
///
/// ```
/// use penjing_graph::{GraphBuilder, DataType, Dim, Tensor, ops::MatMul};
/// let mut b = GraphBuilder::new("double");
/// let x = b.input("x", DataType::Float, [Dim::symbol("N"), 2.into()]);
/// let w = b.tensor("w", Tensor::new([2, 2], vec![2.0f32, 0.0, 0.0, 2.0]));
/// let y = b.node("y", MatMul, &[x, w]);
/// let graph = b.output(y).finish()?;
/// assert_eq!(graph.node_count(), 1);
/// # Ok::<(), penjing_graph::GraphError>(())
/// ```
#[derive(Debug)]
pub struct GraphBuilder {
    graph: Graph,
    edit: Edit,
}

impl GraphBuilder {
    /// An empty graph at an opset that every current runtime runs (17).
    pub fn new(name: &str) -> GraphBuilder {
        GraphBuilder::with_opset(name, 17)
    }

    /// An empty graph at a given version of ONNX's own operator set.
    pub fn with_opset(name: &str, opset: i64) -> GraphBuilder {
        debug_assert!(opset <= NEWEST_OPSET);
        let graph = Graph { name: name.into(), ..Graph::default() };
        let mut edit = Edit::new(&graph, format!("build {name}"));
        edit.set_opset("", opset);
        GraphBuilder { graph, edit }
    }

    /// An input of the model.
    pub fn input(&mut self, name: &str, dtype: DataType, shape: impl Into<Vec<Dim>>) -> ValueId {
        self.edit.add_input(name, dtype, shape.into())
    }

    /// An initializer.
    pub fn tensor(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.edit.add_tensor(name, tensor)
    }

    /// A node of one output; node and output carry the same name.
    pub fn node(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.nodes(name, op, inputs, &[name])[0]
    }

    /// A node of several outputs.
    pub fn nodes(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId], outputs: &[&str]) -> Vec<ValueId> {
        self.edit.add_node(name, op, inputs.iter().map(|i| Some(*i)).collect(), outputs)
    }

    /// Makes a value an output of the model.
    pub fn output(mut self, value: ValueId) -> GraphBuilder {
        self.edit.add_output(value);
        self
    }

    /// Sets an entry of the model's metadata.
    pub fn metadata(mut self, key: &str, value: &str) -> GraphBuilder {
        self.edit.set_metadata(key, Some(value.into()));
        self
    }

    /// The graph.
    ///
    /// # Errors
    /// When shapes or types do not fit, or a value that is read is not given.
    pub fn finish(mut self) -> Result<Graph, GraphError> {
        self.graph.apply(self.edit)?;
        Ok(self.graph)
    }
}
