//! The numerics of quantization: which numbers stand for floats, over which range, with which error.
//!
//! A [`Scheme`] says which numbers are stored and what shares a scale; an [`Observer`] or [`Fit`] finds the [`Range`] that they have to
//! cover; a [`Quantizer`] of both turns floats into codes and back. Jacob et al. 2018, "Quantization and Training of Neural Networks
//! for Efficient Integer-Arithmetic-Only Inference"; QuantizeLinear-21 and DequantizeLinear-21 of ONNX.

pub mod correct_output;
mod error;
mod fit;
mod grid;
mod layout;
mod number;
pub mod observers;
mod quantizer;
mod range;
pub mod saturation;
mod scheme;

pub use error::QuantError;
pub use fit::Fit;
pub use grid::{ALL_ZERO_SCALE, Grid};
pub use number::{Codes, FloatFormat, Format, Number};
pub use observers::{Observer, RangeMethod};
pub use quantizer::Quantizer;
pub use range::Range;
pub use scheme::{Granularity, Scheme, Symmetry};
