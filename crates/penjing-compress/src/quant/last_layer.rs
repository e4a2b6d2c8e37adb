//! A correction of outputs, folded into the layer that gives them.

use std::collections::BTreeMap;

use penjing_exec::{ExecError, cpu_executor};
use penjing_graph::ops::{Op, Softmax};
use penjing_graph::{Edit, Graph, GraphError, NodeId, Tensor, ValueId};
use serde::Serialize;

use super::QuantError;
use super::correct_output::{Correction, Fitted, Logits, OutputCorrection, Quality, agreement, matching, temperature, vector};
use super::plan::{Plan, QuantizedLayer};
use crate::prune::Calibration;

/// Samples at a time.
const BATCH: usize = 64;

/// What a correction of the outputs brought on the samples that it was fitted on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CorrectedOutput {
    /// How it was fitted.
    pub correction: OutputCorrection,
    /// How many samples it was fitted on.
    pub samples: usize,
    /// Nats of a sample before: −ln of the label's probability, or the Kullback-Leibler divergence from the float model.
    pub before: f64,
    /// The same after.
    pub after: f64,
    /// Fraction of the samples for which the quantized model predicted what the float model does, before.
    pub agreement_before: f64,
    /// The same after.
    pub agreement_after: f64,
    /// The probabilities beside the labels, where there are labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualityChange>,
}

/// How good probabilities are: of the float model, once quantized, once corrected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct QualityChange {
    /// Of the float model.
    pub float: Quality,
    /// Of the quantized model.
    pub quantized: Quality,
    /// Of the corrected one.
    pub corrected: Quality,
}

/// The layer that gives a classifier's logits: [N, C], the first output or what a softmax makes it of.
pub(super) fn classifier<'a>(graph: &Graph, plan: &'a Plan) -> Option<&'a QuantizedLayer> {
    let output = *graph.outputs().first()?;
    let logits = match graph.value(output).producer.map(|id| graph.node(id)) {
        Some(node) if matches!(node.op, Op::Softmax(Softmax { .. })) => node.input(0)?,
        _ => output,
    };
    let classes = graph.value(logits).shape.as_ref().filter(|shape| shape.len() == 2)?[1].fixed()?;
    let layer = plan.layers.iter().find(|layer| layer.output == logits)?;
    // Other outputs would not be corrected with it.
    let alone = matches!(graph.node(layer.node).op, Op::Gemm(_)) && graph.uses(layer.weight) == 1;
    (alone && classes > 1).then_some(layer)
}

/// Fits a correction to the outputs of a quantized network.
pub(super) fn fitted(
    (graph, quantized): (&Graph, &Graph),
    layer: &QuantizedLayer,
    correction: OutputCorrection,
    held_back: &dyn Calibration,
) -> Result<Option<(Correction, CorrectedOutput)>, ExecError> {
    let (mut float, mut codes) = (cpu_executor(graph)?, cpu_executor(quantized)?);
    let (mut expected, mut given, mut labels) = (vec![], vec![], vec![]);
    for batch in held_back.batches(BATCH) {
        let batch = batch?;
        let logits = |tensors: Vec<Tensor>| tensors[0].to_f32().unwrap_or_default().into_owned();
        expected.extend(logits(float.run(&batch.inputs, &[layer.output])?));
        given.extend(logits(codes.run(&batch.inputs, &[layer.output])?));
        labels.extend(batch.labels.unwrap_or_default());
    }
    let classes = graph.value(layer.output).shape.as_ref().and_then(|shape| shape.get(1)?.fixed()).unwrap_or(1);
    let found = (|| {
        let (float, codes) = (Logits::new(&expected, classes)?, Logits::new(&given, classes)?);
        let Fitted { correction: found, before, after } = match correction {
            OutputCorrection::None => return Ok(None),
            OutputCorrection::Temperature => temperature(&codes, &labels)?,
            OutputCorrection::Vector => vector(&codes, &labels)?,
            OutputCorrection::Match => matching(&codes, &float)?,
        };
        let corrected = found.apply(&codes);
        let corrected = Logits::new(&corrected, classes)?;
        let quality = match labels.is_empty() {
            true => None,
            false => Some(QualityChange {
                float: Quality::of(&float, &labels)?,
                quantized: Quality::of(&codes, &labels)?,
                corrected: Quality::of(&corrected, &labels)?,
            }),
        };
        let agreement_after = agreement(&float, &corrected)?;
        let agreement_before = agreement(&float, &codes)?;
        let samples = codes.samples();
        Ok(Some((found, CorrectedOutput { correction, samples, before, after, agreement_before, agreement_after, quality })))
    })();
    found.map_err(|error: QuantError| ExecError::Option(error.to_string()))
}

/// The network whose last layer gives corrected outputs: W' = scale · W and b' = scale · b + offset, row by row.
pub(super) fn folded(
    graph: &Graph,
    layer: &QuantizedLayer,
    correction: &Correction,
    biases: &mut BTreeMap<NodeId, Vec<f32>>,
) -> Result<Graph, GraphError> {
    let values = |id: ValueId| graph.tensor(id).and_then(Tensor::to_f32).map(|values| values.into_owned());
    let mut weight = values(layer.weight).unwrap_or_default();
    let dims = graph.tensor(layer.weight).map(Tensor::dims).unwrap_or_default();
    let inner: usize = dims[layer.axis + 1..].iter().product();
    for (i, w) in weight.iter_mut().enumerate() {
        *w *= correction.scale[i / inner.max(1) % dims[layer.axis]];
    }
    let bias = biases.get(&layer.node).cloned().or_else(|| layer.bias.and_then(values));
    let bias = bias.unwrap_or_else(|| vec![0.0; correction.scale.len()]);
    let moved = bias.iter().zip(&correction.scale).zip(&correction.offset).map(|((b, s), o)| s * b + o).collect();
    biases.insert(layer.node, moved);
    let mut edit = Edit::new(graph, "correct outputs");
    edit.set_tensor(layer.weight, Tensor::new(dims, weight));
    let mut graph = graph.clone();
    graph.apply(edit)?;
    Ok(graph)
}
