//! Activation functions and softmax.

/// An activation, element by element; Y has X's shape. Formulas are those of the ONNX operator of that name.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "fields are the operator's attributes")]
pub enum Activation {
    /// max(0, x)
    Relu,
    /// x < 0 ? alpha·x : x
    LeakyRelu { alpha: f32 },
    /// x < 0 ? slope·x : x, slope is the second input, broadcast to x
    PRelu,
    /// x < 0 ? alpha·(eˣ − 1) : x
    Elu { alpha: f32 },
    /// max(0, x) + min(0, alpha·(e^(x/alpha) − 1))
    Celu { alpha: f32 },
    /// x > 0 ? gamma·x : gamma·(alpha·eˣ − alpha)
    Selu { alpha: f32, gamma: f32 },
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// max(0, min(1, alpha·x + beta))
    HardSigmoid { alpha: f32, beta: f32 },
    /// x · max(0, min(1, x/6 + 1/2))
    HardSwish,
    /// x · sigmoid(alpha·x)
    Swish { alpha: f32 },
    /// x · tanh(ln(1 + eˣ))
    Mish,
    /// tanh x
    Tanh,
    /// ln(1 + eˣ)
    Softplus,
    /// x / (1 + |x|)
    Softsign,
    /// x > alpha ? x : 0
    ThresholdedRelu { alpha: f32 },
    /// x · Φ(x); with `tanh` its approximation
    Gelu { tanh: bool },
}

/// `Softmax` and `LogSoftmax`. Before opset 13 X is flattened to 2-D at `axis` (default 1); from 13 on it is one axis (default −1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Softmax {
    /// Whether it is `LogSoftmax`.
    pub log: bool,
    /// The axis; `None`: the opset's default.
    pub axis: Option<i64>,
}
