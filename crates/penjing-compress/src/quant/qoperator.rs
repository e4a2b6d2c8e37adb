//! Operators on codes in place of floats between DequantizeLinear and QuantizeLinear, for runtimes that do not look for those.

use std::collections::{BTreeMap, BTreeSet};

use penjing_graph::ops::{Activation, Op, QLinearConv, QLinearMatMul};
use penjing_graph::{Edit, Graph, GraphError, NodeId, Tensor, ValueId};
use serde::{Deserialize, Serialize};

/// How a network with fixed scales is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operators {
    /// Operators on floats between DequantizeLinear and QuantizeLinear.
    #[default]
    Qdq,
    /// `QLinearConv` and `QLinearMatMul` wherever codes become codes. ONNX has no others, so that all else stays between
    /// DequantizeLinear and QuantizeLinear.
    Qoperator,
}

/// Makes a QLinearConv or a QLinearMatMul of each convolution and product whose operands come from a DequantizeLinear and whose result
/// goes into a QuantizeLinear alone. A ReLU or Clip in between goes where the codes end where it does.
///
/// # Errors
/// When the graph refuses, which only a defect could cause.
pub(super) fn to_qoperator(graph: &Graph) -> Result<Graph, GraphError> {
    let consumers = graph.consumers();
    let mut edit = Edit::new(graph, "compute on codes");
    for (id, node) in graph.nodes() {
        let (Some(x), Some(w), Some(y)) = (operand(graph, node.input(0)), operand(graph, node.input(1)), result(graph, &consumers, id))
        else {
            continue;
        };
        // Codes, scale and zero point of X and W, scale and zero point of Y.
        let mut inputs: Vec<Option<ValueId>> = [&x[..], &w, &y.grid].concat().into_iter().map(Some).collect();
        let op: Op = match &node.op {
            Op::Conv(conv) => {
                if let Some(bias) = node.input(2) {
                    let Some([codes, ..]) = operand(graph, Some(bias)) else { continue };
                    inputs.push(Some(codes));
                }
                QLinearConv::from(conv.clone()).into()
            }
            Op::MatMul(_) => QLinearMatMul.into(),
            _ => continue,
        };
        edit.set_op(id, op, inputs);
        y.absorbed.iter().for_each(|id| edit.remove_node(*id));
        edit.set_output(id, 0, y.codes);
    }
    let mut rewritten = graph.clone();
    rewritten.apply(edit)?;
    let read: BTreeSet<ValueId> = rewritten.nodes().flat_map(|(_, node)| node.reads()).chain(rewritten.outputs().iter().copied()).collect();
    let mut edit = Edit::new(&rewritten, "drop floats that nothing reads");
    for (id, node) in rewritten.nodes().filter(|(_, node)| matches!(node.op, Op::DequantizeLinear(_))) {
        if node.output(0).is_some_and(|y| !read.contains(&y)) {
            edit.remove_node(id);
        }
    }
    rewritten.apply(edit)?;
    Ok(rewritten)
}

/// Codes, scale and zero point that an operand is made of.
fn operand(graph: &Graph, id: Option<ValueId>) -> Option<[ValueId; 3]> {
    let node = graph.node(graph.value(id?).producer?);
    match &node.op {
        Op::DequantizeLinear(op) if op.block_size == 0 => Some([node.input(0)?, node.input(1)?, node.input(2)?]),
        _ => None,
    }
}

/// What a node's result becomes.
struct Quantized {
    /// Scale and zero point.
    grid: [ValueId; 2],
    codes: ValueId,
    /// The nodes on the way.
    absorbed: Vec<NodeId>,
}

/// Follows the output of a node, which nothing else may read, through an activation function to a QuantizeLinear.
fn result(graph: &Graph, consumers: &BTreeMap<ValueId, Vec<NodeId>>, id: NodeId) -> Option<Quantized> {
    let only = |id: NodeId| {
        let output = graph.node(id).output(0)?;
        match consumers.get(&output).map(Vec::as_slice) {
            Some([only]) if !graph.outputs().contains(&output) => Some(*only),
            _ => None,
        }
    };
    let mut absorbed = vec![only(id)?];
    let bounds = match &graph.node(absorbed[0]).op {
        Op::QuantizeLinear(_) => None,
        Op::Activation(Activation::Relu) => Some([0.0, f32::INFINITY]),
        Op::Clip(clip) => {
            let bound = |i: usize, attribute: Option<f32>, none: f32| match graph.node(absorbed[0]).input(i) {
                Some(id) => graph.constant(id)?.to_f32()?.first().copied(),
                None => Some(attribute.unwrap_or(none)),
            };
            Some([bound(1, clip.min, f32::NEG_INFINITY)?, bound(2, clip.max, f32::INFINITY)?])
        }
        _ => return None,
    };
    if bounds.is_some() {
        absorbed.push(only(absorbed[0])?);
    }
    let last = graph.node(absorbed[absorbed.len() - 1]);
    let Op::QuantizeLinear(_) = &last.op else { return None };
    let grid = [last.input(1)?, last.input(2)?];
    let within = |[lowest, highest]: [f32; 2]| {
        let scale = graph.tensor(grid[0]).and_then(Tensor::to_f32)?.first().copied()?;
        let zero = graph.tensor(grid[1])?;
        let (zero, (low, high)) = (zero.to_i64()?.first().copied()?, zero.dtype().integer_range()?);
        // Codes beyond the bounds by less than half a step stand for the bounds.
        let reaches = |code: i64| (code - zero) as f32 * scale;
        Some(reaches(low) > lowest - 0.5 * scale && reaches(high) < highest + 0.5 * scale)
    };
    (bounds.is_none_or(|bounds| within(bounds) == Some(true))).then_some(Quantized { grid, codes: last.output(0)?, absorbed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use penjing_exec::cpu_executor;
    use penjing_graph::ops::{Conv, DequantizeLinear, QuantizeLinear, Window};
    use penjing_graph::{DataType, GraphBuilder};

    /// relu(x · 2 + 1) of one cell, in steps of 1/2 before and of `scale` behind, around the code `zero`.
    fn network(scale: f32, zero: u8) -> Graph {
        let mut b = GraphBuilder::new("conv");
        let x = b.input("x", DataType::Float, [1.into(), 1.into(), 3.into()]);
        let (half, none) = (b.tensor("half", Tensor::scalar(0.5f32)), b.tensor("none", Tensor::scalar(0u8)));
        let codes = b.node("codes", QuantizeLinear::default(), &[x, half, none]);
        let x = b.node("numbers", DequantizeLinear::default(), &[codes, half, none]);
        let w = ["w", "w_scale", "w_zero"].into_iter().zip([
            Tensor::new([1, 1, 1], vec![100i8]),
            Tensor::new([1], vec![0.02f32]),
            Tensor::new([1], vec![0i8]),
        ]);
        let w: Vec<ValueId> = w.map(|(name, tensor)| b.tensor(name, tensor)).collect();
        let w = b.node("weight", DequantizeLinear { axis: 0, ..DequantizeLinear::default() }, &w);
        let bias = ["b", "b_scale", "b_zero"].into_iter().zip([
            Tensor::new([1], vec![100i32]),
            Tensor::new([1], vec![0.01f32]),
            Tensor::new([1], vec![0i32]),
        ]);
        let bias: Vec<ValueId> = bias.map(|(name, tensor)| b.tensor(name, tensor)).collect();
        let bias = b.node("bias", DequantizeLinear { axis: 0, ..DequantizeLinear::default() }, &bias);
        let y = b.node("conv", Conv { window: Window::default(), group: 1 }, &[x, w, bias]);
        let relu = b.node("relu", Activation::Relu, &[y]);
        let (scale, zero) = (b.tensor("scale", Tensor::scalar(scale)), b.tensor("zero", Tensor::scalar(zero)));
        let codes = b.node("results", QuantizeLinear::default(), &[relu, scale, zero]);
        let y = b.node("y", DequantizeLinear::default(), &[codes, scale, zero]);
        b.output(y).finish().expect("valid")
    }

    #[test]
    fn a_convolution_and_its_relu_by_hand() {
        let graph = to_qoperator(&network(0.25, 0)).expect("rewritten");
        let operators: Vec<&str> = graph.nodes().map(|(_, node)| node.op.op_type()).collect();
        assert_eq!(operators, ["QuantizeLinear", "QLinearConv", "DequantizeLinear"]);
        let x = Tensor::new([1, 1, 3], vec![0.0f32, 3.0, 200.0]);
        let y = cpu_executor(&graph).and_then(|mut e| e.run(&[x], graph.outputs())).expect("runs").remove(0);
        // 0 · 2 + 1, 3 · 2 + 1, and 255 / 2 · 2 + 1, beyond 255 / 4.
        assert_eq!(y.to_f32().as_deref(), Some(&[1.0, 7.0, 63.75][..]));
    }

    #[test]
    fn a_relu_that_codes_do_not_stand_for_stays() {
        // With the zero point 10 there are codes for numbers below zero.
        let graph = to_qoperator(&network(0.25, 10)).expect("as it was");
        assert!(graph.nodes().any(|(_, node)| matches!(node.op, Op::Activation(Activation::Relu))));
        assert!(!graph.nodes().any(|(_, node)| matches!(node.op, Op::QLinearConv(_))));
    }
}
