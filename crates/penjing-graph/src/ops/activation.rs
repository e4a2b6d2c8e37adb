//! Activation functions and softmax.

use super::attributes::{AttributeList, Attributes, unexpected};
use super::elementwise::broadcast_to;
use super::{Flatten, Op, Operator, Raise, Reshape, Shape};
use crate::Dim;
use crate::channels::{Place, Ties};
use crate::infer::{Fact, Operands, axis};

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

/// Selu's constants, chosen so that activations keep mean 0 and variance 1 (Klambauer et al. 2017).
const SELU_ALPHA: f32 = 1.673_263_2;
const SELU_GAMMA: f32 = 1.050_701;

impl Operator for Activation {
    const NAMES: &'static [(&'static str, i64)] = &[
        ("Relu", 1),
        ("LeakyRelu", 1),
        ("PRelu", 1),
        ("Elu", 1),
        ("Celu", 12),
        ("Selu", 1),
        ("Sigmoid", 1),
        ("HardSigmoid", 1),
        ("HardSwish", 14),
        ("Swish", 24),
        ("Mish", 18),
        ("Tanh", 1),
        ("Softplus", 1),
        ("Softsign", 1),
        ("ThresholdedRelu", 10),
        ("Gelu", 20),
    ];

    fn name(&self) -> &'static str {
        match self {
            Activation::Relu => "Relu",
            Activation::LeakyRelu { .. } => "LeakyRelu",
            Activation::PRelu => "PRelu",
            Activation::Elu { .. } => "Elu",
            Activation::Celu { .. } => "Celu",
            Activation::Selu { .. } => "Selu",
            Activation::Sigmoid => "Sigmoid",
            Activation::HardSigmoid { .. } => "HardSigmoid",
            Activation::HardSwish => "HardSwish",
            Activation::Swish { .. } => "Swish",
            Activation::Mish => "Mish",
            Activation::Tanh => "Tanh",
            Activation::Softplus => "Softplus",
            Activation::Softsign => "Softsign",
            Activation::ThresholdedRelu { .. } => "ThresholdedRelu",
            Activation::Gelu { .. } => "Gelu",
        }
    }

    fn read(name: &str, attributes: &mut Attributes<'_>) -> Result<Activation, String> {
        Ok(match name {
            "Relu" => Activation::Relu,
            "LeakyRelu" => Activation::LeakyRelu { alpha: attributes.float("alpha", 0.01)? },
            "PRelu" => Activation::PRelu,
            "Elu" => Activation::Elu { alpha: attributes.float("alpha", 1.0)? },
            "Celu" => Activation::Celu { alpha: attributes.float("alpha", 1.0)? },
            "Selu" => Activation::Selu { alpha: attributes.float("alpha", SELU_ALPHA)?, gamma: attributes.float("gamma", SELU_GAMMA)? },
            "Sigmoid" => Activation::Sigmoid,
            "HardSigmoid" => Activation::HardSigmoid { alpha: attributes.float("alpha", 0.2)?, beta: attributes.float("beta", 0.5)? },
            "HardSwish" => Activation::HardSwish,
            "Swish" => Activation::Swish { alpha: attributes.float("alpha", 1.0)? },
            "Mish" => Activation::Mish,
            "Tanh" => Activation::Tanh,
            "Softplus" => Activation::Softplus,
            "Softsign" => Activation::Softsign,
            "ThresholdedRelu" => Activation::ThresholdedRelu { alpha: attributes.float("alpha", 1.0)? },
            "Gelu" => match attributes.text("approximate", "none")? {
                "none" => Activation::Gelu { tanh: false },
                "tanh" => Activation::Gelu { tanh: true },
                other => return Err(unexpected("approximate", other)),
            },
            other => return Err(format!("`{other}` is no activation")),
        })
    }

    fn write(&self, attributes: &mut AttributeList) {
        match self {
            Activation::LeakyRelu { alpha } => attributes.float("alpha", *alpha, 0.01),
            Activation::Elu { alpha }
            | Activation::Celu { alpha }
            | Activation::Swish { alpha }
            | Activation::ThresholdedRelu { alpha } => attributes.float("alpha", *alpha, 1.0),
            Activation::Selu { alpha, gamma } => {
                attributes.float("alpha", *alpha, SELU_ALPHA);
                attributes.float("gamma", *gamma, SELU_GAMMA);
            }
            Activation::HardSigmoid { alpha, beta } => {
                attributes.float("alpha", *alpha, 0.2);
                attributes.float("beta", *beta, 0.5);
            }
            Activation::Gelu { tanh } => attributes.text("approximate", if *tanh { "tanh" } else { "none" }, "none"),
            Activation::Relu
            | Activation::PRelu
            | Activation::Sigmoid
            | Activation::HardSwish
            | Activation::Mish
            | Activation::Tanh
            | Activation::Softplus
            | Activation::Softsign => {}
        }
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        let count = if *self == Activation::PRelu { 2 } else { 1 };
        inputs.count(count, count)?;
        let dtype = inputs.common_type(0..count)?;
        if let (Some(x), Some(slope)) = (inputs.shape(0), inputs.shape(1)) {
            broadcast_to(slope, x)?;
        }
        Ok(vec![Fact::new(dtype, inputs.shape(0).map(<[Dim]>::to_vec))])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        ties.broadcast(0..ties.inputs());
        Ok(())
    }
}

impl Softmax {
    /// The axis, negative counting from the end, as `opset` defaults it.
    pub fn axis_at(&self, opset: i64) -> i64 {
        self.axis.unwrap_or(if opset < 13 { 1 } else { -1 })
    }
}

impl Operator for Softmax {
    const NAMES: &'static [(&'static str, i64)] = &[("Softmax", 1), ("LogSoftmax", 1)];

    fn name(&self) -> &'static str {
        if self.log { "LogSoftmax" } else { "Softmax" }
    }

    fn read(name: &str, attributes: &mut Attributes<'_>) -> Result<Softmax, String> {
        Ok(Softmax { log: name == "LogSoftmax", axis: attributes.int_or_none("axis")? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int_or_none("axis", self.axis);
    }

    fn raise(&self, node: &mut Raise<'_>) -> Result<Op, String> {
        if !node.crosses(13) {
            return Ok((*self).into());
        }
        let first = self.axis_at(node.from);
        let x = node.input(0).ok_or("its input is missing")?;
        // [d0·…·d(first−1), d(first)·…] has a row of one axis already where all axes behind it are of size 1.
        if let Some(shape) = node.shape(0) {
            let first = axis(first, shape.len())?;
            if shape[first + 1..].iter().all(|dim| *dim == Dim::Fixed(1)) {
                return Ok(Softmax { log: self.log, axis: Some(first as i64) }.into());
            }
        }
        let shape = node.before("shape", Shape { start: 0, end: None }, vec![x]);
        let rows = node.before("rows", Flatten { axis: first }, vec![x]);
        let y = node.before("flat", Softmax { log: self.log, axis: Some(-1) }, vec![rows]);
        node.read(&[y, shape]);
        Ok(Reshape { allow_zero: false }.into())
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        let shape = inputs.shape(0);
        if let Some(shape) = shape {
            axis(self.axis_at(inputs.opset()), shape.len())?;
        }
        Ok(vec![Fact::new(inputs.dtype(0), shape.map(<[Dim]>::to_vec))])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let opset = ties.operands().opset();
        let rank = ties.shape(0).len();
        let along = axis(self.axis_at(opset), rank)?;
        ties.alike(0);
        let normalised = if opset < 13 { along..rank } else { along..along + 1 };
        normalised.for_each(|axis| ties.stays_if_exact(Place::In(0, axis), "it is normalised over all its positions"));
        Ok(())
    }
}
