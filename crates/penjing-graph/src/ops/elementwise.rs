//! Element-by-element arithmetic with numpy broadcasting.

use super::attributes::{AttributeList, Attributes, unexpected};
use super::{Op, Operator, Raise};
use crate::channels::Ties;
use crate::infer::{Fact, Operands};
use crate::partial::{PartialInt, PartialValue};
use crate::{DataType, Dim, Tensor};

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

/// Shape of the elementwise result of `shapes`, aligned at the end (numpy's rule).
pub(super) fn broadcast(shapes: &[&[Dim]]) -> Result<Vec<Dim>, String> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut result = vec![Dim::Fixed(1); rank];
    for shape in shapes {
        for (out, dim) in result[rank - shape.len()..].iter_mut().zip(*shape) {
            *out = broadcast_dim(out, dim).ok_or_else(|| format!("dimensions {out} and {dim} cannot be broadcast"))?;
        }
    }
    Ok(result)
}

fn broadcast_dim(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a, b) {
        (Dim::Fixed(1), dim) | (dim, Dim::Fixed(1)) => Some(dim.clone()),
        (Dim::Fixed(a), Dim::Fixed(b)) => (a == b).then_some(Dim::Fixed(*a)),
        // What is not known can only be the same or 1.
        (Dim::Fixed(n), _) | (_, Dim::Fixed(n)) => Some(Dim::Fixed(*n)),
        (Dim::Symbolic { .. }, Dim::Symbolic { .. }) if a == b => Some(a.clone()),
        (Dim::Symbolic { .. } | Dim::Unknown, _) => Some(Dim::Unknown),
    }
}

/// Checks that `shape` can be broadcast to `target` without changing it.
pub(super) fn broadcast_to(shape: &[Dim], target: &[Dim]) -> Result<(), String> {
    let fits = shape.len() <= target.len()
        && shape.iter().rev().zip(target.iter().rev()).all(|(dim, wanted)| *dim == Dim::Fixed(1) || dim.compatible(wanted));
    if fits { Ok(()) } else { Err(format!("[{}] cannot be broadcast to [{}]", join(shape), join(target))) }
}

fn join(shape: &[Dim]) -> String {
    shape.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ")
}

/// The broadcast shape of all inputs from `first` on; `None` where a rank is unknown.
fn broadcast_inputs(inputs: &Operands<'_>, first: usize) -> Result<Option<Vec<Dim>>, String> {
    let shapes: Option<Vec<&[Dim]>> = (first..inputs.inputs()).map(|i| inputs.shape(i)).collect();
    shapes.map(|shapes| broadcast(&shapes)).transpose()
}

/// The fact of a node that gives its first input on.
fn same(inputs: &Operands<'_>) -> Fact {
    Fact::new(inputs.dtype(0), inputs.shape(0).map(<[Dim]>::to_vec)).with(inputs.partial(0).cloned())
}

impl Unary {
    const ALL: &'static [Unary] = &[
        Unary::Abs,
        Unary::Neg,
        Unary::Exp,
        Unary::Log,
        Unary::Sqrt,
        Unary::Reciprocal,
        Unary::Floor,
        Unary::Ceil,
        Unary::Round,
        Unary::Sign,
        Unary::Erf,
        Unary::Sin,
        Unary::Cos,
        Unary::Not,
    ];
}

impl Operator for Unary {
    const NAMES: &'static [(&'static str, i64)] = &[
        ("Abs", 1),
        ("Neg", 1),
        ("Exp", 1),
        ("Log", 1),
        ("Sqrt", 1),
        ("Reciprocal", 1),
        ("Floor", 1),
        ("Ceil", 1),
        ("Round", 11),
        ("Sign", 9),
        ("Erf", 9),
        ("Sin", 7),
        ("Cos", 7),
        ("Not", 1),
    ];

    fn name(&self) -> &'static str {
        match self {
            Unary::Abs => "Abs",
            Unary::Neg => "Neg",
            Unary::Exp => "Exp",
            Unary::Log => "Log",
            Unary::Sqrt => "Sqrt",
            Unary::Reciprocal => "Reciprocal",
            Unary::Floor => "Floor",
            Unary::Ceil => "Ceil",
            Unary::Round => "Round",
            Unary::Sign => "Sign",
            Unary::Erf => "Erf",
            Unary::Sin => "Sin",
            Unary::Cos => "Cos",
            Unary::Not => "Not",
        }
    }

    fn read(name: &str, _: &mut Attributes<'_>) -> Result<Unary, String> {
        Unary::ALL.iter().find(|op| op.name() == name).copied().ok_or_else(|| format!("`{name}` is no function of one tensor"))
    }

    fn write(&self, _: &mut AttributeList) {}

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        Ok(vec![Fact::new(inputs.dtype(0), inputs.shape(0).map(<[Dim]>::to_vec))])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        ties.alike(0);
        Ok(())
    }
}

impl Binary {
    const ALL: &'static [Binary] = &[
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Pow,
        Binary::Mod { fmod: false },
        Binary::Equal,
        Binary::Greater,
        Binary::GreaterOrEqual,
        Binary::Less,
        Binary::LessOrEqual,
        Binary::And,
        Binary::Or,
        Binary::Xor,
    ];

    /// The function on integers; unknown where it is not worked out.
    fn of_ints(&self, a: &PartialInt, b: &PartialInt) -> PartialInt {
        match self {
            Binary::Add => a.plus(b),
            Binary::Sub => a.minus(b),
            Binary::Mul => a.times(b),
            Binary::Div => a.divided_by(b),
            Binary::Equal => a.equals(b).map(i64::from).into(),
            Binary::Pow
            | Binary::Mod { .. }
            | Binary::Greater
            | Binary::GreaterOrEqual
            | Binary::Less
            | Binary::LessOrEqual
            | Binary::And
            | Binary::Or
            | Binary::Xor => PartialInt::Unknown,
        }
    }
}

impl Operator for Binary {
    const NAMES: &'static [(&'static str, i64)] = &[
        ("Add", 1),
        ("Sub", 1),
        ("Mul", 1),
        ("Div", 1),
        ("Pow", 1),
        ("Mod", 10),
        ("Equal", 1),
        ("Greater", 1),
        ("GreaterOrEqual", 12),
        ("Less", 1),
        ("LessOrEqual", 12),
        ("And", 1),
        ("Or", 1),
        ("Xor", 1),
    ];

    fn name(&self) -> &'static str {
        match self {
            Binary::Add => "Add",
            Binary::Sub => "Sub",
            Binary::Mul => "Mul",
            Binary::Div => "Div",
            Binary::Pow => "Pow",
            Binary::Mod { .. } => "Mod",
            Binary::Equal => "Equal",
            Binary::Greater => "Greater",
            Binary::GreaterOrEqual => "GreaterOrEqual",
            Binary::Less => "Less",
            Binary::LessOrEqual => "LessOrEqual",
            Binary::And => "And",
            Binary::Or => "Or",
            Binary::Xor => "Xor",
        }
    }

    fn read(name: &str, attributes: &mut Attributes<'_>) -> Result<Binary, String> {
        if name == "Mod" {
            return Ok(Binary::Mod { fmod: attributes.flag("fmod", false)? });
        }
        Binary::ALL.iter().find(|op| op.name() == name).copied().ok_or_else(|| format!("`{name}` is no function of two tensors"))
    }

    fn write(&self, attributes: &mut AttributeList) {
        if let Binary::Mod { fmod } = self {
            attributes.flag("fmod", *fmod, false);
        }
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(2, 2)?;
        let dtype = match self {
            // The exponent may have a type of its own.
            Binary::Pow => inputs.dtype(0),
            Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Mod { .. } => inputs.common_type(0..2)?,
            Binary::Equal
            | Binary::Greater
            | Binary::GreaterOrEqual
            | Binary::Less
            | Binary::LessOrEqual
            | Binary::And
            | Binary::Or
            | Binary::Xor => {
                inputs.common_type(0..2)?;
                Some(DataType::Bool)
            }
        };
        let partial = match (inputs.partial(0), inputs.partial(1)) {
            (Some(a), Some(b)) => a.zip(b, |a, b| self.of_ints(a, b)),
            _ => None,
        };
        Ok(vec![Fact::new(dtype, broadcast_inputs(inputs, 0)?).with(partial)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        ties.broadcast(0..ties.inputs());
        Ok(())
    }
}

impl Operator for Variadic {
    // Sum, Mean, Max and Min broadcast from opset 8 on.
    const NAMES: &'static [(&'static str, i64)] = &[("Sum", 1), ("Mean", 1), ("Max", 1), ("Min", 1)];

    fn name(&self) -> &'static str {
        match self {
            Variadic::Sum => "Sum",
            Variadic::Mean => "Mean",
            Variadic::Max => "Max",
            Variadic::Min => "Min",
        }
    }

    fn read(name: &str, _: &mut Attributes<'_>) -> Result<Variadic, String> {
        Ok(match name {
            "Sum" => Variadic::Sum,
            "Mean" => Variadic::Mean,
            "Max" => Variadic::Max,
            "Min" => Variadic::Min,
            other => return Err(format!("`{other}` is no function of any number of tensors")),
        })
    }

    fn write(&self, _: &mut AttributeList) {}

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(inputs.inputs().max(1), usize::MAX)?;
        let dtype = inputs.common_type(0..inputs.inputs())?;
        Ok(vec![Fact::new(dtype, broadcast_inputs(inputs, 0)?)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        ties.broadcast(0..ties.inputs());
        Ok(())
    }
}

impl Operator for Where {
    const NAMES: &'static [(&'static str, i64)] = &[("Where", 9)];

    fn name(&self) -> &'static str {
        "Where"
    }

    fn read(_: &str, _: &mut Attributes<'_>) -> Result<Where, String> {
        Ok(Where)
    }

    fn write(&self, _: &mut AttributeList) {}

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(3, 3)?;
        let dtype = inputs.common_type(1..3)?;
        if let Some(condition) = inputs.dtype(0).filter(|d| *d != DataType::Bool) {
            return Err(format!("the condition is {} but must be bool", condition.name()));
        }
        let partial = match (inputs.partial(0), inputs.partial(1), inputs.partial(2)) {
            (Some(condition), Some(x), Some(y)) => choose(condition, x, y),
            _ => None,
        };
        Ok(vec![Fact::new(dtype, broadcast_inputs(inputs, 0)?).with(partial)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        ties.broadcast(0..ties.inputs());
        Ok(())
    }
}

fn choose(condition: &PartialValue, x: &PartialValue, y: &PartialValue) -> Option<PartialValue> {
    let of_x = condition.zip(x, |c, x| if c.known() == Some(0) { PartialInt::Unknown } else { x.clone() })?;
    let of_y = condition.zip(y, |c, y| if c.known() == Some(0) { y.clone() } else { PartialInt::Unknown })?;
    // Both branches must be the same where the condition is not known.
    let decided = condition.zip(&of_x, |c, x| if c.known().is_some_and(|c| c != 0) { x.clone() } else { PartialInt::Unknown })?;
    decided.zip(&of_y, |x, y| if *x == PartialInt::Unknown { y.clone() } else { x.clone() })
}

impl Operator for Clip {
    const NAMES: &'static [(&'static str, i64)] = &[("Clip", 1)];

    fn name(&self) -> &'static str {
        "Clip"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Clip, String> {
        if attributes.opset >= 11 {
            return Ok(Clip { min: None, max: None });
        }
        Ok(Clip { min: attributes.float_or_none("min")?, max: attributes.float_or_none("max")? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.float_or_none("max", self.max);
        attributes.float_or_none("min", self.min);
    }

    fn raise(&self, node: &mut Raise<'_>) -> Result<Op, String> {
        if !node.crosses(11) {
            return Ok((*self).into());
        }
        for (index, name, bound) in [(1, "min", self.min), (2, "max", self.max)] {
            if let Some(bound) = bound {
                node.number(index, name, bound)?;
            }
        }
        Ok(Clip { min: None, max: None }.into())
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, if inputs.opset() < 11 { 1 } else { 3 })?;
        let dtype = inputs.common_type(0..3)?;
        for i in 1..3 {
            inputs.ranked(i, 0)?;
        }
        Ok(vec![Fact::new(dtype, inputs.shape(0).map(<[Dim]>::to_vec))])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        ties.alike(0);
        Ok(())
    }
}

impl Operator for Cast {
    const NAMES: &'static [(&'static str, i64)] = &[("Cast", 1)];

    fn name(&self) -> &'static str {
        "Cast"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Cast, String> {
        let code = attributes.required_int("to")?;
        let to = i32::try_from(code).ok().and_then(DataType::from_onnx_code).ok_or_else(|| unexpected("to", code))?;
        if attributes.opset >= 24 {
            match attributes.text("round_mode", "up")? {
                "up" => {}
                other => return Err(unexpected("round_mode", other)),
            }
        }
        Ok(Cast { to, saturate: attributes.opset < 19 || attributes.flag("saturate", true)? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int_or_none("to", Some(self.to.onnx_code().into()));
        attributes.flag("saturate", self.saturate, true);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        let truth = |n: &PartialInt| match n {
            PartialInt::Known(n) => PartialInt::Known(i64::from(*n != 0)),
            PartialInt::Dim(_) | PartialInt::Unknown => PartialInt::Unknown,
        };
        let partial = inputs.partial(0).cloned().map(|mut partial| {
            if self.to == DataType::Bool {
                partial.elements.iter_mut().for_each(|n| *n = truth(n));
            }
            partial
        });
        let fact = Fact::new(Some(self.to), inputs.shape(0).map(<[Dim]>::to_vec));
        Ok(vec![if self.to.is_float() || self.to == DataType::String { fact } else { fact.with(partial) }])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        ties.alike(0);
        Ok(())
    }
}

impl Operator for Identity {
    const NAMES: &'static [(&'static str, i64)] = &[("Identity", 1)];

    fn name(&self) -> &'static str {
        "Identity"
    }

    fn read(_: &str, _: &mut Attributes<'_>) -> Result<Identity, String> {
        Ok(Identity)
    }

    fn write(&self, _: &mut AttributeList) {}

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        Ok(vec![same(inputs)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        ties.alike(0);
        Ok(())
    }
}

impl Operator for Dropout {
    const NAMES: &'static [(&'static str, i64)] = &[("Dropout", 1)];

    fn name(&self) -> &'static str {
        "Dropout"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Dropout, String> {
        if attributes.opset < 12 {
            return Ok(Dropout { ratio: attributes.float_or_none("ratio")?, seed: None });
        }
        Ok(Dropout { ratio: None, seed: attributes.int_or_none("seed")? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.float_or_none("ratio", self.ratio);
        attributes.int_or_none("seed", self.seed);
    }

    fn raise(&self, node: &mut Raise<'_>) -> Result<Op, String> {
        if node.crosses(10) {
            if node.reads_output(1) {
                return Err("its mask, which something reads, is of booleans from opset 10 on".into());
            }
            node.drop_output(1);
        }
        match self.ratio {
            Some(ratio) if node.crosses(12) => {
                node.tensor(1, "ratio", Tensor::scalar(ratio));
                Ok(Dropout { ratio: None, seed: self.seed }.into())
            }
            Some(_) | None => Ok((*self).into()),
        }
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, if inputs.opset() < 12 { 1 } else { 3 })?;
        let y = Fact::new(inputs.dtype(0), inputs.shape(0).map(<[Dim]>::to_vec));
        let mask = if inputs.opset() < 10 { y.dtype } else { Some(DataType::Bool) };
        Ok(vec![y.clone(), Fact { dtype: mask, ..y }])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        ties.alike(0);
        ties.alike(1);
        Ok(())
    }
}
