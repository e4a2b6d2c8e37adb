//! Repeating elements.

use super::attributes::{AttributeList, Attributes};
use super::elementwise::broadcast;
use super::{Op, Operator};
use crate::Dim;
use crate::channels::{Cut, Place, Ties};
use crate::infer::{Fact, Operands, unknown_shape};
use crate::partial::{PartialInt, PartialValue};

/// `Expand`: broadcast to the shape in the second input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expand;

/// `Tile`: repeats along each axis as the second input says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tile;

impl Operator for Expand {
    const NAMES: &'static [(&'static str, i64)] = &[("Expand", 8)];

    fn name(&self) -> &'static str {
        "Expand"
    }

    fn read(_: &str, _: &mut Attributes<'_>) -> Result<Expand, String> {
        Ok(Expand)
    }

    fn write(&self, _: &mut AttributeList) {}

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(2, 2)?;
        inputs.ranked(1, 1)?;
        let dtype = inputs.dtype(0);
        let target = inputs.partial(1).map(PartialValue::to_shape).or_else(|| unknown_shape(inputs.vector_len(1)?));
        let (Some(x), Some(target)) = (inputs.shape(0), target) else { return Ok(vec![Fact::new(dtype, None)]) };
        let shape = broadcast(&[x, &target])?;
        let partial = match (inputs.partial(0), &shape[..]) {
            (Some(partial), [Dim::Fixed(n)]) if partial.elements.len() == 1 => {
                PartialValue::unknown(*n).map(|all| PartialValue { elements: vec![partial.elements[0].clone(); all.elements.len()], ..all })
            }
            (Some(partial), [Dim::Fixed(n)]) if partial.elements.len() == *n => Some(partial.clone()),
            _ => None,
        };
        Ok(vec![Fact::new(dtype, Some(shape)).with(partial)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let (x, y) = (ties.shape(0), ties.output_shape(0));
        let offset = y.len() - x.len();
        if (0..y.len()).any(|axis| y[axis].fixed().is_none() && (axis < offset || x[axis - offset] != y[axis])) {
            return Err("it repeats elements as often as a size says that is not known".into());
        }
        ties.broadcast([0]);
        for axis in 0..y.len() {
            // An axis that repeats one element can lose repetitions.
            if axis < offset || x[axis - offset] == Dim::Fixed(1) {
                ties.free(Place::Out(0, axis));
            }
        }
        Ok(())
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Result<Op, String> {
        // 1 leaves a dimension as it comes.
        let x = cut.shape(0);
        let y = cut.output_after(0);
        let offset = y.len() - x.len();
        let wanted = |(axis, dim): (usize, &Dim)| match dim.fixed() {
            Some(n) => i64::try_from(n).ok(),
            None if axis >= offset && x[axis - offset] == *dim => Some(1),
            None => None,
        };
        let target = y.iter().enumerate().map(wanted).collect::<Option<Vec<i64>>>().ok_or("its shape is computed")?;
        cut.integers(1, "shape", &target);
        Ok((*self).into())
    }
}

impl Operator for Tile {
    const NAMES: &'static [(&'static str, i64)] = &[("Tile", 6)];

    fn name(&self) -> &'static str {
        "Tile"
    }

    fn read(_: &str, _: &mut Attributes<'_>) -> Result<Tile, String> {
        Ok(Tile)
    }

    fn write(&self, _: &mut AttributeList) {}

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(2, 2)?;
        inputs.ranked(1, 1)?;
        let dtype = inputs.dtype(0);
        let Some(x) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, None)]) };
        let Some(repeats) = inputs.partial(1) else { return Ok(vec![Fact::new(dtype, unknown_shape(x.len()))]) };
        if repeats.elements.len() != x.len() {
            return Err(format!("{} repeats are given for {} dimensions", repeats.elements.len(), x.len()));
        }
        if let Some(n) = repeats.elements.iter().filter_map(PartialInt::known).find(|n| *n < 0) {
            return Err(format!("{n} is no number of repeats"));
        }
        Ok(vec![Fact::new(dtype, Some(x.iter().zip(repeats.to_shape()).map(|(dim, n)| dim.times(&n)).collect()))])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let repeats = ties.operands().known(1).ok_or("its repeats are computed")?;
        for (axis, times) in repeats.iter().enumerate() {
            match (ties.shape(0)[axis].fixed(), *times) {
                (_, 1) => ties.same(Place::In(0, axis), Place::Out(0, axis)),
                (Some(size), 2..) if size > 1 => {
                    for i in 0..size * *times as usize {
                        ties.tie(Place::In(0, axis), i % size, Place::Out(0, axis), i);
                    }
                }
                _ => {
                    ties.stays(Place::In(0, axis), "it is repeated");
                    ties.stays(Place::Out(0, axis), "it is repeated");
                }
            }
        }
        Ok(())
    }
}
