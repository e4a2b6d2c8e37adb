use super::{ONNX_RUNTIME_CPU, Precision, Target, activations};
use crate::quant::{Number, Symmetry};

pub(super) const TARGET: Target = Target {
    name: "x86-avx2",
    summary: "x86 processors without VNNI: pairs of products of 8 bits are summed in 16 bits, which saturate",
    precision: Precision {
        activations: activations(Number::Uint8, Symmetry::Asymmetric),
        weights: Number::Int8,
        per_channel: true,
        pairs_saturate: true,
    },
    operators: ONNX_RUNTIME_CPU,
    dynamic: true,
    channel_multiple: 8,
    warning: Some(
        "this processor sums pairs of products in 16 bits, which saturate: weights take scales up to twice as large, so that none does",
    ),
    source: "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#when-and-why-do-i-need-to-try-u8u8",
};
