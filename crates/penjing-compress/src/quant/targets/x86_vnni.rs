use super::{ONNX_RUNTIME_CPU, Precision, Target, activations};
use crate::quant::{Number, Symmetry};

pub(super) const TARGET: Target = Target {
    name: "x86-vnni",
    summary: "x86 processors with AVX-512 VNNI or AVX-VNNI: four products of 8 bits summed in 32 bits at once",
    precision: Precision {
        activations: activations(Number::Uint8, Symmetry::Asymmetric),
        weights: Number::Int8,
        per_channel: true,
        pairs_saturate: false,
    },
    operators: ONNX_RUNTIME_CPU,
    dynamic: true,
    channel_multiple: 16,
    warning: None,
    source: "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html",
};
