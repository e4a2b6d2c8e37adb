//! Adding cells around a tensor.

use super::attributes::{AttributeList, Attributes, unexpected};
use super::{Op, Operator, Raise};
use crate::Dim;
use crate::infer::{Fact, Operands, axes, unknown_shape};

/// What `Pad` fills with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadMode {
    /// A constant.
    Constant,
    /// A mirror image without the edge.
    Reflect,
    /// The edge.
    Edge,
    /// The other side (opset 19).
    Wrap,
}

/// `Pad`. From opset 11 widths and constant are inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// What the new cells hold.
    pub mode: PadMode,
    /// Widths before opset 11: begins of all axes, then ends.
    pub pads: Option<Vec<i64>>,
    /// The constant before opset 11.
    pub value: Option<f32>,
}

impl PadMode {
    fn name(self) -> &'static str {
        match self {
            PadMode::Constant => "constant",
            PadMode::Reflect => "reflect",
            PadMode::Edge => "edge",
            PadMode::Wrap => "wrap",
        }
    }
}

impl Operator for Pad {
    const NAMES: &'static [(&'static str, i64)] = &[("Pad", 2)];

    fn name(&self) -> &'static str {
        "Pad"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Pad, String> {
        let opset = attributes.opset;
        let mode = match attributes.text("mode", "constant")? {
            "constant" => PadMode::Constant,
            "reflect" => PadMode::Reflect,
            "edge" => PadMode::Edge,
            "wrap" if opset >= 19 => PadMode::Wrap,
            other => return Err(unexpected("mode", other)),
        };
        if opset >= 11 {
            return Ok(Pad { mode, pads: None, value: None });
        }
        Ok(Pad { mode, pads: Some(attributes.required_ints("pads")?), value: attributes.float_or_none("value")? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.text("mode", self.mode.name(), "constant");
        attributes.ints("pads", self.pads.as_deref());
        attributes.float_or_none("value", self.value);
    }

    fn raise(&self, node: &mut Raise<'_>) -> Result<Op, String> {
        match &self.pads {
            Some(pads) if node.crosses(11) => {
                node.ints(1, "pads", pads);
                if let Some(value) = self.value {
                    node.number(2, "value", value)?;
                }
                Ok(Pad { mode: self.mode, pads: None, value: None }.into())
            }
            Some(_) | None => Ok(self.clone().into()),
        }
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        match inputs.opset() {
            ..11 => inputs.count(1, 1)?,
            11..18 => inputs.count(2, 3)?,
            18.. => inputs.count(2, 4)?,
        }
        let dtype = inputs.common_type([0, 2])?;
        let Some(x) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, None)]) };
        let unknown = || Ok(vec![Fact::new(dtype, unknown_shape(x.len()))]);
        let Some(pads) = self.pads.clone().or_else(|| inputs.known(1)) else { return unknown() };
        let named = if inputs.given(3) { inputs.known(3) } else { Some((0..x.len() as i64).collect()) };
        let Some(named) = named else { return unknown() };
        let padded = axes(&named, x.len())?;
        if pads.len() != 2 * padded.len() {
            return Err(format!("{} widths are given but {} axes need {}", pads.len(), padded.len(), 2 * padded.len()));
        }
        let mut shape = x.to_vec();
        for (i, axis) in padded.iter().enumerate() {
            shape[*axis] = match (&x[*axis], i128::from(pads[i]) + i128::from(pads[padded.len() + i])) {
                (dim, 0) => dim.clone(),
                (Dim::Fixed(n), added) => usize::try_from(*n as i128 + added)
                    .map(Dim::Fixed)
                    .map_err(|_| format!("axis {axis} of size {n} cannot be padded by {added}"))?,
                (Dim::Symbolic { .. } | Dim::Unknown, _) => Dim::Unknown,
            };
        }
        Ok(vec![Fact::new(dtype, Some(shape))])
    }
}
