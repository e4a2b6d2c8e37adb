//! Weights and activations as codes with fixed scales, found from samples: post-training quantization.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use penjing_exec::ExecError;
use penjing_graph::ops::Op;
use penjing_graph::passes::{self, DropIdentity, FoldBatchNorm, raise_opset};
use penjing_graph::{Edit, Graph, GraphError, NodeId, Tensor, ValueId};
use serde::{Deserialize, Serialize};

use super::bias_correction::corrections;
use super::calibrate::{Calibrated, calibrate};
use super::correct_output::OutputCorrection;
use super::last_layer::{CorrectedOutput, classifier, fitted, folded};
use super::plan::{LeftInFloat, Plan, QuantizedLayer};
use super::qdq::{AssembleError, Form, Parts, assemble};
use super::qoperator::{Operators, to_qoperator};
use super::rounding::adaround;
use super::saturation::{can_leave_16_bits, unsaturated};
use super::targets::TargetName;
use super::{Bits, Fit, Kernels, LayerDamage, QuantError, Quantizer, RangeMethod, Reconstruction, Reverting, StaticRounding};
use crate::floor::Floor;
use crate::prune::structured::matches;
use crate::prune::{Calibration, Masks, WeightMatrix};

/// The oldest opset that has scales along an axis.
const LEAST_OPSET: i64 = 13;

/// How a network is quantized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Quantization {
    /// The device that it is for.
    pub target: TargetName,
    /// How the ranges of activations are chosen.
    pub calibration: RangeMethod,
    /// How the ranges of weights are chosen.
    #[serde(default)]
    pub weight_range: Fit,
    /// Bits of a weight. What is fewer than 8 is held in codes of 8 bits, of which only the smallest are used.
    #[serde(default)]
    pub weight_bits: Bits,
    /// Which of the codes next to it a weight takes.
    #[serde(default)]
    pub rounding: StaticRounding,
    /// Whether the network is trained with its weights and activations rounded to codes.
    #[serde(default)]
    pub qat: bool,
    /// Training samples that activations are observed on.
    pub calibration_samples: usize,
    /// Whether biases make up for the means that quantization shifts.
    pub bias_correction: bool,
    /// What is fitted to a classifier's outputs afterwards; `None`: a temperature where there are labels, else a match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct_output: Option<OutputCorrection>,
    /// How it is written.
    #[serde(default)]
    pub operators: Operators,
    /// Nodes that stay in float: their names, `*` for any text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// The accuracy that must hold: layers return to float, the most damaging first, until it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
}

impl Quantization {
    /// Why a node stays in float that the user names, if it is named.
    pub(super) fn keeps(&self, name: &str) -> Option<&'static str> {
        self.keep.iter().any(|pattern| matches(pattern, name)).then_some("it is to stay in float")
    }
}

/// One layer whose weights became codes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerCodes {
    /// The node.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// Signal to quantization noise of its weights in dB: 10·log₁₀(Σw² / Σ(w − dq(q(w)))²). Infinite (in JSON: null) without noise.
    pub weight_sqnr: f64,
    /// Output channels all of whose weights are zero.
    pub all_zero: usize,
    /// Output channels whose scale was widened so that no sum of two products leaves 16 bits.
    pub widened: usize,
    /// How well it gives what it gave in float, where its weights were rounded to that end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconstruction: Option<Reconstruction>,
    /// Largest |correction| of its bias; `None` where none was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_correction: Option<f32>,
}

/// One activation that became codes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActivationCodes {
    /// The value.
    pub tensor: String,
    /// What one code is worth.
    pub scale: f32,
    /// The code of zero.
    pub zero_point: i32,
    /// Whether only zeros were seen, so that the scale is a convention.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all_zero: bool,
}

/// What was quantized, and what was not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuantizationReport {
    /// What it was done for.
    pub target: TargetName,
    /// Bits of a weight.
    pub weight_bits: Bits,
    /// How weights were rounded.
    pub rounding: StaticRounding,
    /// Whether the network was trained with its weights and activations rounded to codes.
    pub qat: bool,
    /// Samples that activations were observed on.
    pub samples: usize,
    /// How long calibration and corrections took.
    pub seconds: f64,
    /// Layers in integers.
    pub layers: Vec<LayerCodes>,
    /// Activations in integers.
    pub activations: Vec<ActivationCodes>,
    /// Nodes in float, and why.
    pub float: Vec<LeftInFloat>,
    /// What the correction of the outputs brought, where one was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<CorrectedOutput>,
    /// What ONNX Runtime made of the result on this machine, where it was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernels: Option<Kernels>,
    /// What each layer alone does to the outputs, the worst first, where a floor asked for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damages: Vec<LayerDamage>,
    /// The networks that were measured on the way to the floor.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reverting: Vec<Reverting>,
    /// What a reader should know.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// What stands in the way of quantizing a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// No node can be quantized.
    #[error("no layer of this network can be quantized for {target}: {why} (hint: `penjing inspect` lists its nodes)")]
    NothingToQuantize {
        /// The target.
        target: &'static str,
        /// Why the first ones stay in float.
        why: String,
    },
    /// No node can have another form.
    #[error("nothing in this network can be converted: {why} (hint: `penjing inspect` lists its nodes)")]
    NothingToConvert {
        /// Why the first ones stay as they are.
        why: String,
    },
    /// Settings that mean nothing together.
    #[error("{0}")]
    Settings(String),
    /// A network that has codes already.
    #[error("node `{node}` says that this network is quantized already (hint: quantize the float network that it was made from)")]
    Quantized {
        /// A node that quantizes or computes on codes.
        node: String,
    },
    /// A pattern that names no node.
    #[error("`{pattern}` names no node (hint: `penjing inspect` lists them)")]
    NothingToKeep {
        /// The pattern.
        pattern: String,
    },
    /// Tensors could not be quantized.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The graph refused.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The network could not be run.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

impl From<AssembleError> for QuantizeError {
    fn from(error: AssembleError) -> QuantizeError {
        match error {
            AssembleError::Quant(error) => error.into(),
            AssembleError::Graph(error) => error.into(),
        }
    }
}

/// The network as quantization starts from it: no normalisations by fixed statistics, an opset that can say what is needed.
///
/// # Errors
/// When its nodes cannot be brought to that opset.
pub fn prepared(graph: &Graph) -> Result<Graph, GraphError> {
    let mut graph = graph.clone();
    passes::run(&DropIdentity, &mut graph)?;
    passes::run(&FoldBatchNorm, &mut graph)?;
    if graph.opset() < LEAST_OPSET {
        raise_opset(&mut graph, LEAST_OPSET)?;
    }
    Ok(graph)
}

/// Quantizes a network with fixed scales, the nodes that `reverted` names left in float. A classifier's outputs are corrected on samples
/// that were held back from calibration, if there are any.
///
/// # Errors
/// When nothing can be quantized, a weight or an activation is not finite, there are no samples, or the network cannot be run.
pub fn quantize(
    graph: &Graph,
    settings: &Quantization,
    reverted: &BTreeSet<String>,
    calibration: &dyn Calibration,
    held_back: Option<&dyn Calibration>,
) -> Result<(Graph, QuantizationReport), QuantizeError> {
    StaticQuantization::calibrated(graph, settings, reverted, calibration)?.finished(held_back)
}

/// A quantization whose scales are known.
#[derive(Debug)]
pub struct StaticQuantization<'a> {
    settings: &'a Quantization,
    started: Instant,
    /// The network in float.
    float: Graph,
    /// The same with weights that may have been moved to codes.
    rounded: Graph,
    plan: Plan,
    weights: BTreeMap<ValueId, Quantizer>,
    activations: BTreeMap<ValueId, Quantizer>,
    /// What each layer adds to its output channels, where that is not what its bias holds.
    biases: BTreeMap<NodeId, Vec<f32>>,
    layers: Vec<LayerCodes>,
    samples: usize,
    notes: Vec<String>,
}

impl<'a> StaticQuantization<'a> {
    /// Finds the scales, rounds the weights and corrects the biases.
    ///
    /// # Errors
    /// As [`quantize`].
    pub fn calibrated(
        graph: &Graph,
        settings: &'a Quantization,
        reverted: &BTreeSet<String>,
        calibration: &dyn Calibration,
    ) -> Result<Self, QuantizeError> {
        let started = Instant::now();
        let graph = prepared(graph)?;
        if let Some((_, node)) = graph.nodes().find(|(_, node)| on_codes(&node.op)) {
            return Err(QuantizeError::Quantized { node: node.name.clone() });
        }
        let target = settings.target.0;
        if let Some(pattern) = settings.keep.iter().find(|pattern| !graph.nodes().any(|(_, node)| matches(pattern, &node.name))) {
            return Err(QuantizeError::NothingToKeep { pattern: pattern.clone() });
        }
        let returned = |name: &str| reverted.contains(name).then_some("it returned to float to hold the floor");
        let plan = Plan::new(&graph, target, &|name| settings.keeps(name).or_else(|| returned(name)));
        if plan.layers.is_empty() {
            let why = plan.float.iter().take(3).map(|left| format!("`{}`: {}", left.node, left.reason)).collect::<Vec<_>>().join("; ");
            return Err(QuantizeError::NothingToQuantize { target: target.name, why });
        }
        let (weights, mut layers) = weight_codes(&graph, &plan, settings)?;
        let Calibrated { activations, samples } =
            calibrate(&graph, &plan.observed(), calibration, settings.calibration, &target.precision.activations)?;
        let parts = Parts { plan: &plan, activations: &activations, weights: &weights, biases: &BTreeMap::new(), form: Form::Draft };
        let (mut rounded, mut notes) = (graph.clone(), vec![]);
        if settings.rounding == StaticRounding::Adaround {
            let found = adaround(&graph, &parts, calibration)?;
            for (planned, layer) in plan.layers.iter().zip(&mut layers) {
                layer.reconstruction = found.layers.get(&planned.node).copied();
                layer.weight_sqnr = moved(&graph, &found.graph, planned.weight).unwrap_or(layer.weight_sqnr);
            }
            (rounded, notes) = (found.graph, found.notes);
        }
        let mut biases = BTreeMap::new();
        if settings.bias_correction {
            let corrections = corrections(&graph, &assemble(&rounded, &parts)?, &plan, calibration)?;
            for (planned, layer) in plan.layers.iter().zip(&mut layers) {
                layer.largest_correction = corrections.get(&planned.node).map(|c| c.iter().fold(0.0f32, |m, x| m.max(x.abs())));
            }
            biases = corrected_biases(&graph, &plan, &corrections);
        }
        Ok(StaticQuantization { settings, started, float: graph, rounded, plan, weights, activations, biases, layers, samples, notes })
    }

    fn parts(&self, form: Form) -> Parts<'_> {
        let StaticQuantization { plan, activations, weights, biases, .. } = self;
        Parts { plan, activations, weights, biases, form }
    }

    /// The network to train in order to make up for codes: what it computes is what it computes in codes, and its weights are floats.
    ///
    /// # Errors
    /// When the graph refuses.
    pub fn trainable(&self) -> Result<Graph, QuantizeError> {
        Ok(assemble(&self.rounded, &self.parts(Form::Trainable))?)
    }

    /// Weights that are zero and stay so in training.
    pub fn zeros(&self) -> Masks {
        let kept = |layer: &QuantizedLayer| {
            let values = self.rounded.tensor(layer.weight)?.to_f32()?;
            let keep: Vec<bool> = values.iter().map(|w| *w != 0.0).collect();
            keep.contains(&false).then_some((layer.weight, keep))
        };
        self.plan.layers.iter().filter_map(kept).collect()
    }

    /// Takes over the weights of the trained [`StaticQuantization::trainable`].
    ///
    /// # Errors
    /// When it is another network, or a weight is not finite.
    pub fn take(&mut self, trained: &Graph) -> Result<(), QuantizeError> {
        let mut edit = Edit::new(&self.rounded, "take over the trained weights");
        for (id, old) in self.rounded.initializers() {
            if let Some(new) = trained.tensor(id).filter(|new| new.dtype() == old.dtype() && new.dims() == old.dims()) {
                edit.set_tensor(id, new.clone());
            }
        }
        self.rounded.apply(edit)?;
        for (planned, layer) in self.plan.layers.iter().zip(&mut self.layers) {
            let values = |id: ValueId| trained.tensor(id).and_then(Tensor::to_f32).map(|values| values.into_owned());
            if let Some(bias) = trained.node(planned.node).input(2).and_then(values) {
                self.biases.insert(planned.node, bias);
            }
            if let Some(weight) = values(planned.weight) {
                let mut rounded = weight.clone();
                let name = &trained.value(planned.weight).name;
                self.weights[&planned.weight].fake_quantize(&mut rounded).map_err(|e| e.of(name))?;
                layer.weight_sqnr = sqnr(&weight, &rounded);
            }
            (layer.reconstruction, layer.largest_correction) = (None, None);
        }
        Ok(())
    }

    /// Puts codes in, and corrects a classifier's outputs on samples that were held back from calibration, if there are any.
    ///
    /// # Errors
    /// As [`quantize`].
    pub fn finished(mut self, held_back: Option<&dyn Calibration>) -> Result<(Graph, QuantizationReport), QuantizeError> {
        let mut quantized = assemble(&self.rounded, &self.parts(Form::Integers))?;
        let mut output = None;
        if let (Some(layer), Some(held_back)) = (classifier(&self.float, &self.plan).cloned(), held_back) {
            let by_default = if held_back.classes().is_some() { OutputCorrection::Temperature } else { OutputCorrection::Match };
            let correction = self.settings.correct_output.unwrap_or(by_default);
            if let Some((correction, brought)) = fitted((&self.float, &quantized), &layer, correction, held_back)? {
                self.rounded = folded(&self.rounded, &layer, &correction, &mut self.biases)?;
                if let Some(quantizer) = self.weights.get_mut(&layer.weight) {
                    *quantizer = quantizer.scaled(&correction.scale);
                }
                quantized = assemble(&self.rounded, &self.parts(Form::Integers))?;
                output = Some(brought);
            }
        }
        if self.settings.operators == Operators::Qoperator {
            quantized = to_qoperator(&quantized)?;
        }
        let of = |(id, q): (&ValueId, &Quantizer)| ActivationCodes {
            tensor: self.float.value(*id).name.clone(),
            scale: q.scales()[0],
            zero_point: q.zero_points()[0],
            all_zero: !q.all_zero().is_empty(),
        };
        let report = QuantizationReport {
            target: self.settings.target,
            weight_bits: self.settings.weight_bits,
            rounding: self.settings.rounding,
            qat: self.settings.qat,
            samples: self.samples,
            seconds: self.started.elapsed().as_secs_f64(),
            activations: self.activations.iter().map(of).collect(),
            layers: self.layers,
            float: self.plan.float,
            output,
            kernels: None,
            damages: vec![],
            reverting: vec![],
            notes: self.notes,
        };
        Ok((quantized, report))
    }
}

/// Whether an operator computes on codes, or makes them or their floats.
pub(crate) fn on_codes(op: &Op) -> bool {
    matches!(
        op,
        Op::QuantizeLinear(_)
            | Op::DequantizeLinear(_)
            | Op::DynamicQuantizeLinear(_)
            | Op::QLinearConv(_)
            | Op::QLinearMatMul(_)
            | Op::ConvInteger(_)
            | Op::MatMulInteger(_)
    )
}

/// A quantizer for each weight of the plan, and what is said of each layer.
pub(super) fn weight_codes(
    graph: &Graph,
    plan: &Plan,
    settings: &Quantization,
) -> Result<(BTreeMap<ValueId, Quantizer>, Vec<LayerCodes>), QuantError> {
    let precision = &settings.target.0.precision;
    let consumers = graph.consumers();
    let (mut quantizers, mut layers) = (BTreeMap::new(), vec![]);
    for layer in &plan.layers {
        let node = graph.node(layer.node);
        let name = &graph.value(layer.weight).name;
        let Some((dims, values)) = graph.tensor(layer.weight).and_then(|t| Some((t.dims(), t.to_f32()?))) else { continue };
        let scheme = precision.of_weight(layer.axis, settings.weight_bits);
        let plain = Quantizer::fit(scheme, dims, &values, settings.weight_range).map_err(|e| e.of(name))?;
        let saturates = precision.pairs_saturate && can_leave_16_bits(&scheme);
        let summed = WeightMatrix::of(graph, &consumers, layer.weight).filter(|matrix| saturates && !depthwise(matrix));
        let (quantizer, widened) = match summed {
            // The range of the weights decides less than that of their sums.
            Some(matrix) => {
                let ranges = unsaturated(&matrix, &values, scheme.granularity);
                let roomy = Quantizer::new(scheme, dims, &ranges).map_err(|e| e.of(name))?;
                let widened = roomy.scales().iter().zip(plain.scales()).filter(|(scale, plain)| scale > plain).count();
                (roomy, widened)
            }
            None => (plain, 0),
        };
        let mut rounded = values.to_vec();
        quantizer.fake_quantize(&mut rounded).map_err(|e| e.of(name))?;
        layers.push(LayerCodes {
            node: node.name.clone(),
            operator: node.op.op_type().into(),
            weight_sqnr: sqnr(&values, &rounded),
            all_zero: quantizer.all_zero().len(),
            widened,
            reconstruction: None,
            largest_correction: None,
        });
        quantizers.insert(layer.weight, quantizer);
    }
    Ok((quantizers, layers))
}

/// Whether each output sums over one input channel: such sums are made in 32 bits at once.
fn depthwise(matrix: &WeightMatrix) -> bool {
    matrix.run() == 1 && matrix.groups() > 1
}

/// Signal to noise of a weight that was moved to codes.
fn moved(float: &Graph, rounded: &Graph, weight: ValueId) -> Option<f64> {
    let (float, rounded) = (float.tensor(weight)?.to_f32()?, rounded.tensor(weight)?.to_f32()?);
    (float != rounded).then(|| sqnr(&float, &rounded))
}

/// 10·log₁₀(Σa² / Σ(a − b)²).
pub(super) fn sqnr(a: &[f32], b: &[f32]) -> f64 {
    let signal: f64 = a.iter().map(|x| f64::from(*x).powi(2)).sum();
    let noise: f64 = a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() }
}

/// The bias of each corrected layer with its correction.
fn corrected_biases(graph: &Graph, plan: &Plan, corrections: &BTreeMap<NodeId, Vec<f32>>) -> BTreeMap<NodeId, Vec<f32>> {
    let mut biases = BTreeMap::new();
    for layer in &plan.layers {
        let Some(correction) = corrections.get(&layer.node) else { continue };
        let old = layer.bias.and_then(|id| graph.tensor(id)).and_then(Tensor::to_f32).map(|bias| bias.into_owned());
        let old = old.unwrap_or_else(|| vec![0.0; correction.len()]);
        biases.insert(layer.node, old.iter().zip(correction).map(|(b, c)| b + c).collect());
    }
    biases
}

#[cfg(test)]
mod tests {
    use super::*;
    use penjing_exec::cpu_executor;
    use penjing_exec::data::Batch;
    use penjing_graph::zoo::{ZooOptions, build};

    fn digits() -> Vec<Batch> {
        let pixels = |seed: usize| (0..8 * 784).map(|i| ((i * 7919 + seed) % 255) as f32 / 255.0).collect::<Vec<f32>>();
        let batch = |seed| Batch {
            indices: (0..8).collect(),
            inputs: vec![Tensor::new([8, 1, 28, 28], pixels(seed))],
            labels: None,
            targets: None,
        };
        (0..2).map(batch).collect()
    }

    fn settings(bits: u8, rounding: StaticRounding) -> Quantization {
        Quantization {
            target: "generic".parse().expect("a target"),
            calibration: RangeMethod::MinMax,
            weight_range: Fit::Mse,
            weight_bits: bits.try_into().expect("a width"),
            rounding,
            qat: true,
            calibration_samples: 16,
            bias_correction: true,
            correct_output: None,
            keep: vec![],
            operators: Operators::Qdq,
            floor: None,
        }
    }

    fn run(graph: &Graph, batch: &Batch) -> Vec<f32> {
        let output = cpu_executor(graph).and_then(|mut e| e.run(&batch.inputs, graph.outputs())).expect("runs").remove(0);
        output.to_f32().expect("floats").into_owned()
    }

    /// What is trained computes what is written, but for the rounding of biases.
    #[test]
    fn the_network_to_train_computes_what_its_codes_compute() {
        let graph = build("lenet-5", &ZooOptions::default()).expect("a network");
        let batches = digits();
        for bits in [3, 8] {
            let settings = settings(bits, StaticRounding::Nearest);
            let found = StaticQuantization::calibrated(&graph, &settings, &BTreeSet::new(), &batches).expect("calibrated");
            let draft = assemble(&found.rounded, &found.parts(Form::Draft)).expect("assembled");
            let trainable = found.trainable().expect("assembled");
            let (expected, given) = (run(&draft, &batches[0]), run(&trainable, &batches[0]));
            let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            assert!(expected.iter().zip(&given).all(|(a, b)| (a - b).abs() <= 1e-4 * largest), "{bits} bits: {expected:?} {given:?}");
            let learned = cpu_executor(&trainable).expect("runs").trainable().len();
            assert_eq!(learned, 8, "four weights and four biases");
        }
    }

    #[test]
    fn each_layer_is_rounded_to_give_what_it_gave() {
        let graph = build("lenet-5", &ZooOptions::default()).expect("a network");
        let found = quantize(&graph, &settings(3, StaticRounding::Adaround), &BTreeSet::new(), &digits(), None).expect("quantized").1;
        let better = |layer: &LayerCodes| layer.reconstruction.is_some_and(|r| r.rounded <= r.nearest && r.rounded < 0.9 * r.nearest);
        assert!(found.layers.iter().all(better), "{:?}", found.layers);
        let nothing: Vec<Batch> = vec![];
        assert!(quantize(&graph, &settings(3, StaticRounding::Adaround), &BTreeSet::new(), &nothing, None).is_err());
    }
}
