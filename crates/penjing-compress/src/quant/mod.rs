//! The numerics of quantization: which numbers stand for floats, over which range, with which error.
//!
//! A [`Scheme`] says which numbers are stored and what shares a scale; an [`Observer`] or [`Fit`] finds the [`Range`] that they have to
//! cover; a [`Quantizer`] of both turns floats into codes and back. Jacob et al. 2018, "Quantization and Training of Neural Networks
//! for Efficient Integer-Arithmetic-Only Inference"; QuantizeLinear-21 and DequantizeLinear-21 of ONNX.

mod bfloat16;
mod bias_correction;
mod calibrate;
mod conversion;
pub mod correct_output;
mod dynamic;
mod error;
mod fit;
mod float16;
mod gptq;
mod grid;
mod kernels;
mod last_layer;
mod layout;
mod number;
pub mod observers;
mod plan;
mod product;
mod qdq;
mod qoperator;
mod quantizer;
mod range;
mod reverting;
mod rounding;
pub mod saturation;
mod scheme;
mod static_quantization;
pub mod targets;
mod weight_only;

pub use bfloat16::Bfloat16;
pub use bias_correction::corrections;
pub(crate) use calibrate::samples_at_once;
pub use calibrate::{Calibrated, calibrate};
pub use conversion::{Conversion, ConversionReport, ConvertedLayer, convert};
pub use dynamic::Dynamic;
pub use error::QuantError;
pub use fit::Fit;
pub use float16::Float16;
pub use grid::{ALL_ZERO_SCALE, Grid};
pub use kernels::Kernels;
pub(crate) use kernels::computes_on_codes;
pub use last_layer::{CorrectedOutput, QualityChange};
pub use number::{Bits, Codes, FloatFormat, Format, Number};
pub use observers::{Observer, RangeMethod};
pub use plan::{LeftInFloat, Plan, QuantizedLayer};
pub use qdq::Precision;
pub use qoperator::Operators;
pub use quantizer::Quantizer;
pub use range::Range;
pub(crate) use reverting::{Fewest, worst};
pub use reverting::{LayerDamage, Reverting, damages};
pub use rounding::{Reconstruction, StaticRounding};
pub use scheme::{Granularity, Scheme, Symmetry};
pub(crate) use static_quantization::on_codes;
pub use static_quantization::{
    ActivationCodes, LayerCodes, Quantization, QuantizationReport, QuantizeError, StaticQuantization, prepared, quantize,
};
pub use weight_only::{Rounding, WeightOnly};
