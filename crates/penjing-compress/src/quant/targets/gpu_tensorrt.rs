use super::{Precision, Target, activations};
use crate::quant::{Number, Symmetry};

pub(super) const TARGET: Target = Target {
    name: "gpu-tensorrt",
    summary: "NVIDIA GPUs under TensorRT: symmetric 8-bit integers, weights per channel",
    precision: Precision {
        activations: activations(Number::Int8, Symmetry::Symmetric),
        weights: Number::Int8,
        per_channel: true,
        pairs_saturate: false,
    },
    operators: &["Conv", "Gemm", "MatMul", "Add", "AveragePool", "GlobalAveragePool"],
    dynamic: false,
    channel_multiple: 8,
    warning: Some("nothing is timed on a GPU here: times are those of this machine's processor"),
    source: "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html",
};
