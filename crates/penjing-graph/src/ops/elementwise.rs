//! Element-by-element arithmetic with numpy broadcasting.

use crate::DataType;

/// A function of one tensor, element by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "ONNX names")]
pub enum Unary {
    Abs,
    Neg,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Floor,
    Ceil,
    /// Half to even.
    Round,
    Sign,
    Erf,
    Sin,
    Cos,
    Not,
}

/// A function of two tensors, broadcast. Comparisons and logic give booleans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "ONNX names")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    /// Remainder; with `fmod` C's, else Python's.
    Mod {
        fmod: bool,
    },
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    And,
    Or,
    Xor,
}

/// A function of any number of tensors, broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "ONNX names")]
pub enum Variadic {
    Sum,
    Mean,
    Max,
    Min,
}

/// `Where`: condition ? X : Y, broadcast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Where;

/// `Clip`: min(max(x, lo), hi). From opset 11 the bounds are the second and third input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// Lower bound before opset 11.
    pub min: Option<f32>,
    /// Upper bound before opset 11.
    pub max: Option<f32>,
}

/// `Cast` to another type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cast {
    /// The type of the output.
    pub to: DataType,
    /// Whether values out of a float8's range saturate (opset 19).
    pub saturate: bool,
}

/// `Identity`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Identity;

/// `Dropout`: identity in inference. From opset 12 ratio and training mode are inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Fraction of elements dropped while training, before opset 12.
    pub ratio: Option<f32>,
    /// Seed of the operator's own generator, kept for the file.
    pub seed: Option<i64>,
}
