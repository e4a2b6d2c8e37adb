//! Another form for the numbers of a network, found from its weights: no data are needed, though they may help.

use penjing_graph::{Graph, Node};
use serde::{Deserialize, Serialize};

use super::bfloat16::{Bfloat16, to_bfloat16};
use super::dynamic::{Dynamic, to_dynamic};
use super::float16::{Float16, to_float16};
use super::static_quantization::on_codes;
use super::weight_only::{Rounding, WeightOnly, to_weight_only};
use super::{Kernels, LeftInFloat, QuantizeError, prepared};
use crate::prune::Calibration;
use crate::prune::structured::matches;

/// What the numbers of a network become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Conversion {
    /// Weights and computation in 16-bit floats, inputs and outputs in 32-bit ones.
    Fp16(Float16),
    /// Weights stored as the upper halves of 32-bit floats, computation in 32 bits.
    Bf16(Bfloat16),
    /// Products of codes of 8 bits, the scales of activations found while the network runs.
    Dynamic(Dynamic),
    /// Weights stored as codes in blocks, computation in 32-bit floats unless the runtime knows better.
    WeightOnly(WeightOnly),
}

impl Conversion {
    /// Training samples that it looks at where there are data.
    pub fn calibration_samples(&self) -> usize {
        match self {
            Conversion::Fp16(Float16 { calibration_samples, .. }) => *calibration_samples,
            Conversion::WeightOnly(WeightOnly { rounding: Rounding::Gptq { calibration_samples }, .. }) => *calibration_samples,
            Conversion::Bf16(_) | Conversion::Dynamic(_) | Conversion::WeightOnly(WeightOnly { rounding: Rounding::Nearest, .. }) => 0,
        }
    }

    /// Why no time on this machine's CPU says what the result is for, if none does.
    pub fn untimed(&self) -> Option<&'static str> {
        match self {
            Conversion::Fp16(_) => Some(
                "no speed is claimed for fp16: ONNX Runtime's CPU kernels compute in 32 bits and convert in between \
                 (hint: `penjing bench` on the device)",
            ),
            Conversion::Bf16(_) => Some("bf16 is storage here: ONNX Runtime makes 32-bit floats of it when it loads the model"),
            Conversion::Dynamic(_) | Conversion::WeightOnly(_) => None,
        }
    }
}

/// One layer whose weights have another form.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConvertedLayer {
    /// The node.
    pub node: String,
    /// Its operator in the network that came in.
    pub operator: String,
    /// What its weights are stored as.
    pub stored: String,
    /// Signal to noise of its weights in dB: 10·log₁₀(Σw² / Σ(w − stored w)²). Infinite (in JSON: null) without noise.
    pub weight_sqnr: f64,
}

impl ConvertedLayer {
    pub(super) fn new(node: &Node, stored: String, weight_sqnr: f64) -> ConvertedLayer {
        ConvertedLayer { node: node.name.clone(), operator: node.op.op_type().into(), stored, weight_sqnr }
    }
}

/// What has another form, and what has not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConversionReport {
    /// Samples that were looked at.
    pub samples: usize,
    /// Nodes that compute in the new form; 0 where it is storage alone.
    pub nodes: usize,
    /// Layers whose weights have the new form.
    pub layers: Vec<ConvertedLayer>,
    /// Nodes in 32-bit floats, and why.
    pub float: Vec<LeftInFloat>,
    /// What a reader should know beside that.
    #[serde(skip)]
    pub notes: Vec<String>,
    /// What ONNX Runtime made of the result on this machine, where it was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernels: Option<Kernels>,
}

/// Gives the numbers of a network another form.
///
/// # Errors
/// When nothing can have it, a weight is not finite, or the network cannot be run on the samples.
pub fn convert(
    graph: &Graph,
    conversion: &Conversion,
    calibration: Option<&dyn Calibration>,
) -> Result<(Graph, ConversionReport), QuantizeError> {
    let graph = &prepared(graph)?;
    let (converted, report) = match conversion {
        Conversion::Fp16(settings) => to_float16(graph, settings, calibration)?,
        Conversion::Bf16(settings) => to_bfloat16(graph, settings)?,
        Conversion::Dynamic(settings) => to_dynamic(graph, settings)?,
        Conversion::WeightOnly(settings) => to_weight_only(graph, settings, calibration)?,
    };
    if report.layers.is_empty() && report.nodes == 0 {
        let why = report.float.iter().take(3).map(|left| format!("`{}`: {}", left.node, left.reason)).collect::<Vec<_>>().join("; ");
        return Err(QuantizeError::NothingToConvert { why });
    }
    Ok((converted, report))
}

/// Patterns of nodes that stay as they are.
pub(super) struct Kept<'a>(&'a [String]);

impl Kept<'_> {
    /// Refuses the nodes that the user wants to keep.
    pub(super) fn check(&self, node: &Node) -> Result<(), String> {
        let kept = self.0.iter().any(|pattern| matches(pattern, &node.name));
        if kept { Err("it is to stay in float".into()) } else { Ok(()) }
    }
}

/// The patterns, each of which must name a node of a network that is not quantized already.
pub(super) fn checked<'a>(graph: &Graph, keep: &'a [String]) -> Result<Kept<'a>, QuantizeError> {
    if let Some((_, node)) = graph.nodes().find(|(_, node)| on_codes(&node.op)) {
        return Err(QuantizeError::Quantized { node: node.name.clone() });
    }
    match keep.iter().find(|pattern| !graph.nodes().any(|(_, node)| matches(pattern, &node.name))) {
        Some(pattern) => Err(QuantizeError::NothingToKeep { pattern: pattern.clone() }),
        None => Ok(Kept(keep)),
    }
}
