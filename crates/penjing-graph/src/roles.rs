//! What each float initializer is for: which ones training changes, which ones pruning may touch.

use std::collections::BTreeMap;

use crate::ops::{Binary, Op, Variadic};
use crate::{Graph, Node, NodeId, ValueId};

/// What an initializer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Operand of a Conv, ConvTranspose, Gemm or MatMul.
    Weight,
    /// Table that a Gather looks rows up in.
    Embedding,
    /// Added to what a weight's operator gives.
    Bias,
    /// Factor of a normalisation.
    NormScale,
    /// Summand of a normalisation.
    NormBias,
    /// Running mean of a BatchNormalization.
    RunningMean,
    /// Running variance of a BatchNormalization.
    RunningVariance,
    /// Slope of a PRelu below zero.
    Slope,
    /// Anything else: part of a formula, not learned.
    Constant,
}

impl Role {
    /// Whether training changes it by its gradient.
    pub fn trainable(self) -> bool {
        match self {
            Role::Weight | Role::Embedding | Role::Bias | Role::NormScale | Role::NormBias | Role::Slope => true,
            Role::RunningMean | Role::RunningVariance | Role::Constant => false,
        }
    }

    /// Whether pruning may set elements of it to zero: weights only, biases and norms are left alone.
    pub fn prunable(self) -> bool {
        self == Role::Weight
    }
}

/// The role of every float initializer that is used. One with several users has the role that comes first in [`Role`]'s order.
pub fn roles(graph: &Graph) -> BTreeMap<ValueId, Role> {
    let consumers = graph.consumers();
    let mut roles = BTreeMap::new();
    for (id, _) in graph.initializers().filter(|(_, t)| t.dtype().is_float()) {
        let role = uses(&consumers, id).map(|node| role_in(graph, &consumers, node, id)).min().unwrap_or(Role::Constant);
        roles.insert(id, role);
    }
    roles
}

fn uses(consumers: &BTreeMap<ValueId, Vec<NodeId>>, id: ValueId) -> impl Iterator<Item = NodeId> + '_ {
    consumers.get(&id).into_iter().flatten().copied()
}

/// What `id` is for in one of the nodes that read it.
fn role_in(graph: &Graph, consumers: &BTreeMap<ValueId, Vec<NodeId>>, node: NodeId, id: ValueId) -> Role {
    let node = graph.node(node);
    let place = node.inputs.iter().position(|input| *input == Some(id));
    match (&node.op, place) {
        (Op::Conv(_) | Op::ConvTranspose(_), Some(1)) | (Op::Gemm(_), Some(0 | 1)) | (Op::MatMul(_), Some(_)) => Role::Weight,
        (Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_), Some(2)) => Role::Bias,
        (Op::Gather(_), Some(0)) => Role::Embedding,
        (Op::BatchNormalization(_) | Op::LayerNormalization(_) | Op::InstanceNormalization(_), Some(1)) => Role::NormScale,
        (Op::BatchNormalization(_) | Op::LayerNormalization(_) | Op::InstanceNormalization(_), Some(2)) => Role::NormBias,
        (Op::BatchNormalization(_), Some(3)) => Role::RunningMean,
        (Op::BatchNormalization(_), Some(4)) => Role::RunningVariance,
        (Op::Activation(crate::ops::Activation::PRelu), Some(1)) => Role::Slope,
        // A weight may be stored transposed, reshaped or in another float type and brought into form by the graph, or be cut and rounded
        // to the codes that it is trained for.
        (
            Op::Transpose(_)
            | Op::Reshape(_)
            | Op::Cast(_)
            | Op::Identity(_)
            | Op::Squeeze(_)
            | Op::Unsqueeze(_)
            | Op::QuantizeLinear(_)
            | Op::DequantizeLinear(_)
            | Op::Variadic(Variadic::Max | Variadic::Min),
            Some(0),
        ) => {
            let formed = node.output(0).into_iter().flat_map(|y| uses(consumers, y).map(move |n| (n, y)));
            formed.map(|(n, y)| role_in(graph, consumers, n, y)).min().unwrap_or(Role::Constant)
        }
        (Op::Binary(Binary::Add), Some(place)) if is_vector(graph, id) => match producer(graph, node, 1 - place) {
            Some(Op::MatMul(_) | Op::Gemm(_) | Op::Conv(_) | Op::ConvTranspose(_)) => Role::Bias,
            Some(Op::Binary(Binary::Mul)) if scales_a_norm(graph, node.input(1 - place)) => Role::NormBias,
            _ => Role::Constant,
        },
        (Op::Binary(Binary::Mul), Some(place)) if is_vector(graph, id) && divides_by_deviation(graph, node, 1 - place) => Role::NormScale,
        _ => Role::Constant,
    }
}

/// Whether all elements but those of one axis would be copies: [C], [1, C, 1, 1], … with C above 1.
fn is_vector(graph: &Graph, id: ValueId) -> bool {
    graph.tensor(id).is_some_and(|t| t.dims().iter().filter(|d| **d != 1).count() == 1)
}

fn producer<'g>(graph: &'g Graph, node: &Node, input: usize) -> Option<&'g Op> {
    Some(&graph.node(graph.value(node.input(input)?).producer?).op)
}

/// Whether the input is (x − mean) / √(variance + ε), the middle of a layer normalisation spelled out.
fn divides_by_deviation(graph: &Graph, node: &Node, input: usize) -> bool {
    let division = || {
        let division = graph.node(graph.value(node.input(input)?).producer?);
        let root = matches!(producer(graph, division, 1)?, Op::Unary(crate::ops::Unary::Sqrt));
        Some(root && matches!(division.op, Op::Binary(Binary::Div)))
    };
    division().unwrap_or(false)
}

/// Whether the value is such a quotient times a vector.
fn scales_a_norm(graph: &Graph, value: Option<ValueId>) -> bool {
    let Some(product) = value.and_then(|v| graph.value(v).producer).map(|p| graph.node(p)) else { return false };
    (0..2).any(|place| product.input(1 - place).is_some_and(|v| is_vector(graph, v)) && divides_by_deviation(graph, product, place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Gemm, MatMul, Reduce, ReduceKind, Unary};
    use crate::{DataType, Dim, GraphBuilder, Tensor};

    fn role_of(graph: &Graph, name: &str) -> Option<Role> {
        roles(graph).get(&graph.find_value(name)?).copied()
    }

    #[test]
    fn weights_and_biases_of_products() {
        let mut b = GraphBuilder::new("products");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 4.into()]);
        let w = b.tensor("w", Tensor::new([4, 4], vec![0.5f32; 16]));
        let bias = b.tensor("bias", Tensor::new([4], vec![0.5f32; 4]));
        let h = b.node("h", Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }, &[x, w, bias]);
        let w2 = b.tensor("w2", Tensor::new([4, 4], vec![0.5f32; 16]));
        let m = b.node("m", MatMul, &[h, w2]);
        let added = b.tensor("added", Tensor::new([4], vec![0.5f32; 4]));
        let a = b.node("a", Binary::Add, &[added, m]);
        let six = b.tensor("six", Tensor::new([1], vec![6.0f32]));
        let y = b.node("y", Binary::Div, &[a, six]);
        let graph = b.output(y).finish().expect("valid");
        let found = ["w", "bias", "w2", "added", "six"].map(|name| role_of(&graph, name));
        assert_eq!(found, [Role::Weight, Role::Bias, Role::Weight, Role::Bias, Role::Constant].map(Some));
    }

    #[test]
    fn a_weight_that_is_rounded_while_it_is_trained() {
        let mut b = GraphBuilder::new("rounded");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 4.into()]);
        let w = b.tensor("w", Tensor::new([4, 4], vec![0.5f32; 16]));
        let most = b.tensor("most", Tensor::scalar(1.0f32));
        let (scale, zero) = (b.tensor("scale", Tensor::scalar(0.1f32)), b.tensor("zero", Tensor::scalar(0i8)));
        let cut = b.node("cut", Variadic::Min, &[w, most]);
        let codes = b.node("codes", crate::ops::QuantizeLinear::default(), &[cut, scale, zero]);
        let back = b.node("back", crate::ops::DequantizeLinear::default(), &[codes, scale, zero]);
        let y = b.node("y", MatMul, &[x, back]);
        let graph = b.output(y).finish().expect("valid");
        let found = ["w", "most", "scale"].map(|name| role_of(&graph, name));
        assert_eq!(found, [Role::Weight, Role::Constant, Role::Constant].map(Some));
    }

    #[test]
    fn a_layer_normalisation_spelled_out() {
        let mut b = GraphBuilder::new("norm");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 4.into()]);
        let mean = Reduce { kind: ReduceKind::Mean, axes: Some(vec![-1]), keepdims: true, noop_with_empty_axes: false };
        let mu = b.node("mu", mean.clone(), &[x]);
        let centred = b.node("centred", Binary::Sub, &[x, mu]);
        let two = b.tensor("two", Tensor::new([], vec![2.0f32]));
        let squared = b.node("squared", Binary::Pow, &[centred, two]);
        let variance = b.node("variance", mean, &[squared]);
        let epsilon = b.tensor("epsilon", Tensor::new([], vec![1e-5f32]));
        let shifted = b.node("shifted", Binary::Add, &[variance, epsilon]);
        let deviation = b.node("deviation", Unary::Sqrt, &[shifted]);
        let unit = b.node("unit", Binary::Div, &[centred, deviation]);
        let scale = b.tensor("scale", Tensor::new([4], vec![1.0f32; 4]));
        let scaled = b.node("scaled", Binary::Mul, &[unit, scale]);
        let bias = b.tensor("bias", Tensor::new([4], vec![0.0f32; 4]));
        let y = b.node("y", Binary::Add, &[scaled, bias]);
        let graph = b.output(y).finish().expect("valid");
        let found = ["two", "epsilon", "scale", "bias"].map(|name| role_of(&graph, name));
        assert_eq!(found, [Role::Constant, Role::Constant, Role::NormScale, Role::NormBias].map(Some));
    }
}
