use super::{ONNX_RUNTIME_CPU, Precision, Target, activations};
use crate::quant::{Number, Symmetry};

pub(super) const TARGET: Target = Target {
    name: "arm-dotprod",
    summary: "64-bit ARM processors with the dot-product instructions SDOT and UDOT",
    precision: Precision {
        activations: activations(Number::Int8, Symmetry::Asymmetric),
        weights: Number::Int8,
        per_channel: true,
        pairs_saturate: false,
    },
    operators: ONNX_RUNTIME_CPU,
    dynamic: true,
    channel_multiple: 8,
    warning: None,
    source: "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html",
};
