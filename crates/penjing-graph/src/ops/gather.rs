//! Reading and writing at positions that are data.

use super::attributes::{AttributeList, Attributes, unexpected};
use super::{Op, Operator};
use crate::channels::{Cut, Place, Ties};
use crate::infer::{Fact, Operands, axis};
use crate::partial::{PartialInt, PartialValue};
use crate::{Dim, Tensor};

/// `Gather`: picks positions of one axis; output rank = data rank − 1 + indices rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gather {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

/// `ScatterElements`: data with `updates` written at `indices` along one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct ScatterElements {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// How an update meets what is there: `none`, `add`, `mul`, `max`, `min`.
    pub reduction: String,
}

impl Operator for Gather {
    const NAMES: &'static [(&'static str, i64)] = &[("Gather", 1)];

    fn name(&self) -> &'static str {
        "Gather"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Gather, String> {
        Ok(Gather { axis: attributes.int("axis", 0)? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int("axis", self.axis, 0);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(2, 2)?;
        let dtype = inputs.dtype(0);
        let Some(data) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, None)]) };
        let along = axis(self.axis, data.len())?;
        if let (Some(n), Some(indices)) = (data[along].fixed(), inputs.partial(1))
            && let Some(i) = indices.elements.iter().filter_map(PartialInt::known).find(|i| axis(*i, n).is_err())
        {
            return Err(format!("index {i} is out of range for {n} positions"));
        }
        let Some(indices) = inputs.shape(1) else { return Ok(vec![Fact::new(dtype, None)]) };
        let shape = [&data[..along], indices, &data[along + 1..]].concat();
        let partial = match (inputs.partial(0), inputs.partial(1)) {
            (Some(data), Some(indices)) => {
                let pick = |i: &PartialInt| i.known().map_or(PartialInt::Unknown, |i| at(data, i));
                Some(PartialValue { scalar: indices.scalar, elements: indices.elements.iter().map(pick).collect() })
            }
            _ => None,
        };
        Ok(vec![Fact::new(dtype, Some(shape)).with(partial)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let data = ties.shape(0);
        let along = axis(self.axis, data.len())?;
        let rank = ties.shape(1).len();
        (0..along).for_each(|axis| ties.same(Place::In(0, axis), Place::Out(0, axis)));
        (along + 1..data.len()).for_each(|axis| ties.same(Place::In(0, axis), Place::Out(0, axis + rank - 1)));
        match (Gather::picked(data, along, ties.constant(1)), rank) {
            (Some(picked), 0) => picked.into_iter().for_each(|i| ties.position_stays(Place::In(0, along), i, "it is picked by its number")),
            (Some(picked), _) => {
                ties.free(Place::In(0, along));
                for (to, from) in picked.into_iter().enumerate() {
                    ties.tie(Place::In(0, along), from, Place::Out(0, along), to);
                    ties.tie(Place::In(1, 0), to, Place::Out(0, along), to);
                }
            }
            (None, _) => {
                ties.stays(Place::In(0, along), "positions are picked by numbers that are computed");
                (0..rank).for_each(|axis| ties.same(Place::In(1, axis), Place::Out(0, along + axis)));
            }
        }
        Ok(())
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Result<Op, String> {
        let along = axis(self.axis, cut.shape(0).len())?;
        if let Some(stay) = cut.kept(0, along) {
            let picked = Gather::picked(cut.shape(0), along, cut.constant(1)).ok_or("its indices are computed")?;
            let renumbered = |from: usize| stay.iter().position(|p| *p as usize == from).map(|i| i as i64);
            let kept = |to: usize| cut.output_kept(0, along).is_none_or(|kept| kept.contains(&(to as u32)));
            let scalar = cut.shape(1).is_empty();
            let stays = picked.into_iter().enumerate().filter(|(to, _)| scalar || kept(*to));
            let indices =
                stays.map(|(_, from)| renumbered(from)).collect::<Option<Vec<i64>>>().ok_or("a position that is picked is gone")?;
            if scalar { cut.integer(1, "index", indices[0]) } else { cut.integers(1, "indices", &indices) }
        }
        Ok((*self).into())
    }
}

impl Gather {
    /// Positions that constant indices of rank 0 or 1 pick of an axis whose size is known.
    fn picked(data: &[Dim], along: usize, indices: Option<&Tensor>) -> Option<Vec<usize>> {
        let indices = indices.filter(|t| t.dims().len() <= 1)?;
        let size = data[along].fixed()?;
        indices.to_i64()?.iter().map(|i| axis(*i, size).ok()).collect()
    }
}

fn at(data: &PartialValue, index: i64) -> PartialInt {
    axis(index, data.elements.len()).map_or(PartialInt::Unknown, |i| data.elements[i].clone())
}

impl Operator for ScatterElements {
    const NAMES: &'static [(&'static str, i64)] = &[("ScatterElements", 11)];

    fn name(&self) -> &'static str {
        "ScatterElements"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<ScatterElements, String> {
        let axis = attributes.int("axis", 0)?;
        let reduction = if attributes.opset >= 16 { attributes.text("reduction", "none")? } else { "none" };
        match (reduction, attributes.opset) {
            ("none" | "add" | "mul", _) | ("max" | "min", 18..) => Ok(ScatterElements { axis, reduction: reduction.into() }),
            _ => Err(unexpected("reduction", reduction)),
        }
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int("axis", self.axis, 0);
        attributes.text("reduction", &self.reduction, "none");
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(3, 3)?;
        let dtype = inputs.common_type([0, 2])?;
        let data = inputs.shape(0);
        if let Some(data) = data {
            axis(self.axis, data.len())?;
            let (indices, updates) = (inputs.ranked(1, data.len())?, inputs.ranked(2, data.len())?);
            if let Some(i) = (0..data.len()).find(|i| !indices[*i].compatible(&updates[*i])) {
                return Err(format!("{} indices and {} updates along axis {i} do not go together", indices[i], updates[i]));
            }
        }
        Ok(vec![Fact::new(dtype, data.map(<[Dim]>::to_vec))])
    }

    fn couple(&self, _: &mut Ties<'_>) -> Result<(), String> {
        Err("positions are written by number".into())
    }
}
