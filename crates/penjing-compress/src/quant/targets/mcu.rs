use super::{Precision, Target, activations};
use crate::quant::{Number, Symmetry};

pub(super) const TARGET: Target = Target {
    name: "mcu",
    summary: "microcontrollers with kernels such as CMSIS-NN's: signed 8-bit integers, weights per channel",
    precision: Precision {
        activations: activations(Number::Int8, Symmetry::Asymmetric),
        weights: Number::Int8,
        per_channel: true,
        pairs_saturate: false,
    },
    operators: &["Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool"],
    dynamic: false,
    channel_multiple: 4,
    warning: Some("inputs and outputs stay in float, and times are those of this machine"),
    source: "https://ai.google.dev/edge/litert/models/quantization_spec",
};
