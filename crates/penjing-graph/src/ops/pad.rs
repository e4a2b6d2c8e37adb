//! Adding cells around a tensor.

use super::attributes::{AttributeList, Attributes, unexpected};
use super::{Op, Operator, Raise};
use crate::Dim;
use crate::channels::{Cut, Place, Ties};
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

impl Pad {
    /// Axes that are padded, and the widths before and after each.
    fn widths(&self, inputs: &Operands<'_>) -> Result<Vec<(usize, i64, i64)>, String> {
        let rank = inputs.shape(0).map_or(0, <[Dim]>::len);
        let pads = self.pads.clone().or_else(|| inputs.known(1)).ok_or("its widths are computed")?;
        let named = if inputs.given(3) { inputs.known(3).ok_or("its axes are computed")? } else { (0..rank as i64).collect() };
        let padded = axes(&named, rank)?;
        let n = padded.len();
        Ok(padded.into_iter().enumerate().map(|(i, axis)| (axis, pads[i], pads[n + i])).collect())
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

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let widths = self.widths(&ties.operands())?;
        let rank = ties.shape(0).len();
        for axis in 0..rank {
            match widths.iter().find(|(padded, ..)| *padded == axis).map_or((0, 0), |(_, begin, end)| (*begin, *end)) {
                (0, 0) => ties.same(Place::In(0, axis), Place::Out(0, axis)),
                (begin @ 0.., 0..) if self.mode == PadMode::Constant && ties.shape(0)[axis].fixed().is_some() => {
                    let size = ties.shape(0)[axis].fixed().unwrap_or(0);
                    ties.free(Place::Out(0, axis));
                    (0..size).for_each(|i| ties.tie(Place::In(0, axis), i, Place::Out(0, axis), begin as usize + i));
                }
                _ => {
                    ties.stays(Place::In(0, axis), "it is padded");
                    ties.stays(Place::Out(0, axis), "it is padded");
                }
            }
        }
        Ok(())
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Result<Op, String> {
        let widths = self.widths(&cut.operands())?;
        let (mut begins, mut ends) = (vec![], vec![]);
        for (axis, begin, end) in widths {
            let (mut new_begin, mut new_end) = (begin, end);
            if let (Some(stay), Some(size)) = (cut.output_kept(0, axis), cut.shape(0)[axis].fixed()) {
                let stays = |range: std::ops::Range<i64>| stay.iter().filter(|p| range.contains(&i64::from(**p))).count() as i64;
                (new_begin, new_end) = (stays(0..begin), stays(begin + size as i64..i64::MAX));
            }
            begins.push(new_begin);
            ends.push(new_end);
        }
        let pads = [begins, ends].concat();
        if self.pads.is_some() {
            return Ok(Pad { pads: Some(pads), ..self.clone() }.into());
        }
        cut.integers(1, "pads", &pads);
        Ok(self.clone().into())
    }
}
