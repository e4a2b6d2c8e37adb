//! Repeating elements.

use super::Operator;
use super::attributes::{AttributeList, Attributes};
use super::elementwise::broadcast;
use crate::Dim;
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
}
