//! Normalisation by fixed statistics is linear, and so is the operator in front of it.

use super::{Pass, Verdict};
use crate::ops::{BatchNormalization, Gemm, Op};
use crate::{DataType, Edit, Graph, Node, NodeId, Tensor, ValueId};

/// Folds a `BatchNormalization` into the Conv, ConvTranspose or Gemm whose output it alone reads:
/// s = scale / √(var + ε), W' = s · W, b' = s · (b − mean) + B, per output channel.
#[derive(Clone, Copy, Debug)]
pub struct FoldBatchNorm;

impl Pass for FoldBatchNorm {
    fn name(&self) -> &'static str {
        "fold-batch-norm"
    }

    fn visit(&self, graph: &Graph, id: NodeId) -> Verdict {
        match &graph.node(id).op {
            Op::BatchNormalization(norm) => fold(graph, id, *norm).map_or_else(Verdict::Skip, Verdict::Apply),
            _ => Verdict::NoMatch,
        }
    }
}

fn fold(graph: &Graph, id: NodeId, norm: BatchNormalization) -> Result<Edit, &'static str> {
    let node = graph.node(id);
    if norm.training_mode {
        return Err("it normalises by the statistics of the batch");
    }
    let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { return Err("an input or output is left out") };
    let producer = graph.value(x).producer.ok_or("no node stands in front of it")?;
    let linear = graph.node(producer);
    let channel_of = weight_channel(&linear.op).ok_or("what stands in front of it is no Conv, ConvTranspose or Gemm")?;
    if graph.uses(x) > 1 {
        return Err("something else reads its input");
    }
    let Affine { s, t } = Affine::new(graph, node, norm)?;
    let w = linear.input(1).ok_or("the weight is missing")?;
    let (dims, mut weights) = floats(graph, w).ok_or("the weight is not of constant 32-bit floats")?;
    for (i, weight) in weights.iter_mut().enumerate() {
        *weight *= s.get(channel_of(dims, i)).ok_or("weight and normalisation differ in channels")?;
    }
    let b = linear.input(2);
    let old = bias(graph, &linear.op, b, s.len())?;
    let biases = (0..s.len()).map(|c| s[c] * old[c] + t[c]).collect();

    let mut edit = Edit::new(graph, format!("fold `{}` into `{}`", node.name, linear.name));
    let weight = place(graph, &mut edit, Some(w), "weight", linear, tensor(dims, weights));
    let bias = place(graph, &mut edit, b, "bias", linear, tensor(&[s.len()], biases));
    let op = match &linear.op {
        Op::Gemm(gemm) => Op::Gemm(Gemm { beta: 1.0, ..*gemm }),
        other => other.clone(),
    };
    edit.set_op(producer, op, vec![linear.input(0), Some(weight), Some(bias)]);
    edit.remove_node(id);
    edit.set_output(producer, 0, y);
    Ok(edit)
}

/// The normalisation of channel c: y = s\[c\] · x + t\[c\].
struct Affine {
    s: Vec<f64>,
    t: Vec<f64>,
}

impl Affine {
    fn new(graph: &Graph, node: &Node, norm: BatchNormalization) -> Result<Affine, &'static str> {
        let parameter = |i| node.input(i).and_then(|id| floats(graph, id)).map(|(_, values)| values);
        let (Some(scale), Some(shift), Some(mean), Some(variance)) = (parameter(1), parameter(2), parameter(3), parameter(4)) else {
            return Err("its parameters are not of constant 32-bit floats");
        };
        let s: Vec<f64> = scale.iter().zip(&variance).map(|(scale, v)| scale / (v + f64::from(norm.epsilon)).sqrt()).collect();
        let t: Vec<f64> = shift.iter().zip(&mean).zip(&s).map(|((shift, mean), s)| shift - s * mean).collect();
        if s.iter().chain(&t).any(|n| !n.is_finite()) {
            return Err("its statistics give no finite factor");
        }
        Ok(Affine { s, t })
    }
}

/// Output channel that element `i` of a weight of shape `dims` belongs to.
type ChannelOf = Box<dyn Fn(&[usize], usize) -> usize>;

fn weight_channel(op: &Op) -> Option<ChannelOf> {
    let cells = |dims: &[usize]| dims[2..].iter().product::<usize>();
    match op {
        // [M, C/group, k1…]
        Op::Conv(_) => Some(Box::new(move |dims, i| i / (dims[1] * cells(dims)))),
        // [C, M/group, k1…]: the inputs of one group give the outputs of that group.
        Op::ConvTranspose(op) => {
            let group = op.group;
            Some(Box::new(move |dims, i| {
                let (input, output) = (i / (dims[1] * cells(dims)), i / cells(dims) % dims[1]);
                input / (dims[0] / group) * dims[1] + output
            }))
        }
        // [N, K] or [K, N]
        Op::Gemm(op) if op.trans_b => Some(Box::new(|dims, i| i / dims[1])),
        Op::Gemm(_) => Some(Box::new(|dims, i| i % dims[1])),
        _ => None,
    }
}

/// What the operator adds to each of `channels` now.
fn bias(graph: &Graph, op: &Op, b: Option<ValueId>, channels: usize) -> Result<Vec<f64>, &'static str> {
    let Some(b) = b else { return Ok(vec![0.0; channels]) };
    let (dims, values) = floats(graph, b).ok_or("the bias is not of constant 32-bit floats")?;
    let factor = match op {
        Op::Gemm(gemm) => f64::from(gemm.beta),
        _ => 1.0,
    };
    let per_channel = dims.iter().rev().skip(1).all(|n| *n == 1);
    match values[..] {
        [one] => Ok(vec![factor * one; channels]),
        _ if per_channel && values.len() == channels => Ok(values.into_iter().map(|b| factor * b).collect()),
        _ => Err("the bias differs along the batch"),
    }
}

/// Dimensions and elements of a constant.
fn floats(graph: &Graph, id: ValueId) -> Option<(&[usize], Vec<f64>)> {
    let tensor = graph.constant(id).filter(|tensor| tensor.dtype() == DataType::Float)?;
    Some((tensor.dims(), tensor.to_f32()?.iter().map(|n| f64::from(*n)).collect()))
}

fn tensor(dims: &[usize], values: Vec<f64>) -> Tensor {
    Tensor::new(dims, values.into_iter().map(|n| n as f32).collect())
}

/// Puts a tensor where `old` was if nothing else reads that, and into a new initializer otherwise.
fn place(graph: &Graph, edit: &mut Edit, old: Option<ValueId>, name: &str, of: &Node, tensor: Tensor) -> ValueId {
    match old.filter(|old| graph.uses(*old) == 1) {
        Some(old) => {
            edit.set_tensor(old, tensor);
            old
        }
        None => edit.add_tensor(format!("{}.{name}", of.name), tensor),
    }
}
