//! A layer for tests.

use penjing_graph::ops::MatMul;
use penjing_graph::{DataType, Dim, Graph, GraphBuilder, Tensor};

use super::{Layer, layers};

/// A network of one layer.
pub(crate) struct OneLayer {
    pub(crate) graph: Graph,
}

impl OneLayer {
    pub(crate) fn layer(&self) -> Layer<'_> {
        layers(&self.graph).expect("one layer").remove(0)
    }
}

/// x [N, inputs] · w [inputs, outputs], the weight row by row.
pub(crate) fn layer(inputs: usize, outputs: usize, weight: &[f32]) -> OneLayer {
    let mut b = GraphBuilder::new("one");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), inputs.into()]);
    let w = b.tensor("w", Tensor::new([inputs, outputs], weight.to_vec()));
    let y = b.node("y", MatMul, &[x, w]);
    OneLayer { graph: b.output(y).finish().expect("valid") }
}
