//! AdaRound of a network, layer after layer: each is to give in the quantized network what it gave in float, with what the layers before
//! it, already rounded, really give it.

use std::collections::BTreeMap;

use penjing_exec::{Matrix, cpu_executor, products};
use penjing_graph::ops::{Activation, Op};
use penjing_graph::{Edit, Graph, NodeId, Tensor, ValueId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Serialize;

use super::layer::LayerProblem;
use crate::prune::{Calibration, Inputs, Layer, WeightMatrix};
use crate::quant::calibrate::batch_size;
use crate::quant::number::Format;
use crate::quant::plan::QuantizedLayer;
use crate::quant::qdq::{Parts, assemble};
use crate::quant::{QuantError, QuantizeError};

/// Rows of inputs that a layer is reconstructed on, which bounds the memory.
const MOST_ROWS: usize = 8192;
/// Windows of one sample, evenly spaced: rows of many samples say more than all of a few.
const MOST_WINDOWS: usize = 64;

/// How well a layer gives on the calibration samples what it gave in float.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reconstruction {
    /// Mean squared error of its outputs, behind the activation function, with every weight at the nearest code.
    pub nearest: f64,
    /// The same as rounded.
    pub rounded: f64,
}

/// A network whose weights lie on codes.
pub(in crate::quant) struct Reconstructed {
    pub(in crate::quant) graph: Graph,
    /// Of each layer.
    pub(in crate::quant) layers: BTreeMap<NodeId, Reconstruction>,
    /// Layers whose weights are to be rounded to the nearest code, and why.
    pub(in crate::quant) notes: Vec<String>,
}

/// The network with each weight of the plan moved to one of the two codes next to it.
pub(in crate::quant) fn adaround(graph: &Graph, parts: &Parts<'_>, calibration: &dyn Calibration) -> Result<Reconstructed, QuantizeError> {
    let consumers = graph.consumers();
    let mut found = Reconstructed { graph: graph.clone(), layers: BTreeMap::new(), notes: vec![] };
    for layer in &parts.plan.layers {
        let node = graph.node(layer.node);
        let inputs = weight(graph, &consumers, layer.weight).and_then(|weight| Ok((Inputs::of(graph, &weight)?, weight.matrix)));
        let (inputs, matrix) = match inputs {
            Ok((inputs, Some(matrix))) => (inputs, matrix),
            Ok((_, None)) => continue,
            Err(reason) => {
                found.notes.push(format!("the weights of `{}` are rounded to the nearest code: {reason}", node.name));
                continue;
            }
        };
        let name = &graph.value(layer.weight).name;
        let quantizer = &parts.weights[&layer.weight];
        let Format::Integer(codes) = quantizer.scheme().format() else { continue };
        let elements = graph.tensor(layer.weight).and_then(Tensor::to_f32).unwrap_or_default();
        let weights = matrix.gather(&elements);
        let scales: Vec<f32> = match quantizer.scales() {
            [scale] => vec![*scale; matrix.rows()],
            scales => scales.to_vec(),
        };
        let biases = layer.bias.and_then(|id| graph.tensor(id)?.to_f32()).map_or_else(|| vec![0.0; matrix.rows()], |b| b.into_owned());
        let bounds = bounds(graph, &consumers, layer);
        let quantized = assemble(&found.graph, parts)?;
        let rows = Rows::gather((graph, &quantized), layer, &inputs, calibration)?;
        if rows.float.first().is_none_or(Vec::is_empty) {
            return Err(QuantError::NoSamples { purpose: "round weights on" }.of(name).into());
        }
        let targets: Vec<Vec<f32>> =
            rows.float.iter().enumerate().map(|(group, x)| targets(x, &weights, &biases, group, rows.float.len(), bounds)).collect();
        let columns = matrix.columns();
        let problem = LayerProblem {
            inputs: &rows.quantized,
            targets: &targets,
            weights: &weights,
            scales: &scales,
            biases: &biases,
            codes,
            bounds,
            columns,
        };
        let rounded = problem.solve();
        let on_codes: Vec<f32> =
            rounded.steps.chunks_exact(columns).zip(&scales).flat_map(|(row, scale)| row.iter().map(move |step| step * scale)).collect();
        let mut elements = elements.into_owned();
        matrix.scatter(&on_codes, &mut elements);
        let mut edit = Edit::new(&found.graph, "round weights");
        edit.set_tensor(layer.weight, Tensor::new(graph.tensor(layer.weight).map(Tensor::dims).unwrap_or_default(), elements));
        found.graph.apply(edit)?;
        let outputs = targets.iter().map(Vec::len).sum::<usize>() as f64;
        found.layers.insert(layer.node, Reconstruction { nearest: rounded.nearest / outputs, rounded: rounded.rounded / outputs });
    }
    Ok(found)
}

/// A weight as pruning sees it.
fn weight<'a>(graph: &'a Graph, consumers: &BTreeMap<ValueId, Vec<NodeId>>, id: ValueId) -> Result<Layer<'a>, String> {
    let values = graph.tensor(id).and_then(Tensor::values::<f32>).ok_or("they are no 32-bit floats")?;
    Ok(Layer { id, name: &graph.value(id).name, values, matrix: WeightMatrix::of(graph, consumers, id) })
}

/// What the activation function keeps a layer's output between that alone reads it.
fn bounds(graph: &Graph, consumers: &BTreeMap<ValueId, Vec<NodeId>>, layer: &QuantizedLayer) -> (f32, f32) {
    const NONE: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);
    let next = match consumers.get(&layer.output).map(Vec::as_slice) {
        Some([next]) if graph.uses(layer.output) == 1 && !graph.outputs().contains(&layer.output) => graph.node(*next),
        _ => return NONE,
    };
    let bound = |i: usize| next.input(i).and_then(|id| graph.tensor(id)?.to_f32()?.first().copied());
    match &next.op {
        Op::Activation(Activation::Relu) => (0.0, f32::INFINITY),
        Op::Clip(clip) if next.input(0) == Some(layer.output) => {
            (bound(1).or(clip.min).unwrap_or(NONE.0), bound(2).or(clip.max).unwrap_or(NONE.1))
        }
        _ => NONE,
    }
}

/// What a group of the layer gives in float, [R, N].
fn targets(x: &[f32], weights: &[f32], biases: &[f32], group: usize, groups: usize, (low, high): (f32, f32)) -> Vec<f32> {
    let n = biases.len() / groups;
    let k = weights.len() / biases.len();
    let of_group = &weights[group * n * k..(group + 1) * n * k];
    let (a, b) = (Matrix { elements: x, row: k, column: 1 }, Matrix { elements: of_group, row: 1, column: k });
    let mut outputs = products(&[a], &[b], [x.len() / k, k, n]);
    for row in outputs.chunks_exact_mut(n) {
        row.iter_mut().zip(&biases[group * n..]).for_each(|(y, b)| *y = (*y + b).clamp(low, high));
    }
    outputs
}

/// What a layer reads, group by group [R, K], the same rows of both networks.
struct Rows {
    float: Vec<Vec<f32>>,
    quantized: Vec<Vec<f32>>,
}

impl Rows {
    fn gather(
        (graph, quantized): (&Graph, &Graph),
        layer: &QuantizedLayer,
        inputs: &Inputs,
        calibration: &dyn Calibration,
    ) -> Result<Rows, QuantizeError> {
        let read = |graph: &Graph| graph.node(layer.node).input(0).unwrap_or(layer.input);
        let (mut float, mut codes) = (cpu_executor(graph)?, cpu_executor(quantized)?);
        let mut rows = Rows { float: vec![vec![]; inputs.groups()], quantized: vec![vec![]; inputs.groups()] };
        for batch in calibration.batches(batch_size(graph)) {
            let batch = batch?;
            for (executor, read, rows) in [(&mut float, read(graph), &mut rows.float), (&mut codes, read(quantized), &mut rows.quantized)] {
                let value = executor.run(&batch.inputs, &[read])?.remove(0);
                let of_batch = inputs.rows(&value, MOST_WINDOWS);
                rows.iter_mut().zip(of_batch).for_each(|(rows, more)| rows.extend(more));
            }
            if rows.float.first().is_some_and(|rows| rows.len() >= MOST_ROWS * inputs.columns()) {
                break;
            }
        }
        Ok(rows.shuffled(inputs.columns()))
    }

    /// In another order, the same for both networks, so that a few consecutive rows stand for all.
    fn shuffled(self, columns: usize) -> Rows {
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let count = self.float.first().map_or(0, |rows| rows.len() / columns);
        let mut order: Vec<usize> = (0..count).collect();
        for i in (1..count).rev() {
            order.swap(i, random.next_u64() as usize % (i + 1));
        }
        let ordered = |rows: Vec<f32>| order.iter().flat_map(|i| rows[i * columns..(i + 1) * columns].iter().copied()).collect();
        let all = |groups: Vec<Vec<f32>>| groups.into_iter().map(ordered).collect();
        Rows { float: all(self.float), quantized: all(self.quantized) }
    }
}
