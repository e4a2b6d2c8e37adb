use super::{ONNX_RUNTIME_CPU, Precision, Target, activations};
use crate::quant::{Number, Symmetry};

pub(super) const TARGET: Target = Target {
    name: "generic",
    summary: "any device: unsigned activations and signed weights, both of 8 bits, weights per channel",
    precision: Precision {
        activations: activations(Number::Uint8, Symmetry::Asymmetric),
        weights: Number::Int8,
        per_channel: true,
        pairs_saturate: false,
    },
    operators: ONNX_RUNTIME_CPU,
    dynamic: true,
    channel_multiple: 8,
    warning: None,
    source: "https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html",
};
