//! The same elements in the same order under other dimensions.

use super::attributes::{AttributeList, Attributes};
use super::{Op, Operator, Raise};
use crate::Dim;
use crate::channels::{Cut, Ties, restated};
use crate::infer::{Fact, MAX_RANK, Operands, axes, axis, unknown_shape, volume};
use crate::partial::{PartialInt, PartialValue};

/// `Reshape`: the new shape is the second input; 0 copies a dimension (unless `allow_zero`), −1 is inferred.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reshape {
    /// 0 means a dimension of no elements (opset 14).
    pub allow_zero: bool,
}

/// `Flatten`: [d0·…·d(axis−1), d(axis)·…].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flatten {
    /// First axis of the second dimension; negative counts from the end.
    pub axis: i64,
}

/// `Squeeze`: drops axes of size 1. From opset 13 the axes are the second input.
#[derive(Clone, Debug, PartialEq)]
pub struct Squeeze {
    /// Axes before opset 13.
    pub axes: Option<Vec<i64>>,
}

/// `Unsqueeze`: inserts axes of size 1. From opset 13 the axes are the second input.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsqueeze {
    /// Axes before opset 13.
    pub axes: Option<Vec<i64>>,
}

impl Reshape {
    /// The shape that `target` asks for of an input of shape `x`.
    fn resolve(self, x: Option<&[Dim]>, target: &PartialValue) -> Result<Vec<Dim>, String> {
        let copied = |i: usize| !self.allow_zero && target.elements[i] == PartialInt::Known(0);
        let mut shape = target.to_shape();
        // At most one dimension follows from the others: the one written as −1, or the only one that is not known.
        let mut open = Vec::new();
        for (i, wanted) in target.elements.iter().enumerate() {
            match wanted {
                PartialInt::Known(0) if copied(i) => {
                    shape[i] = match x {
                        Some(x) => {
                            x.get(i).cloned().ok_or_else(|| format!("dimension {i} is to be copied but the input has {}", x.len()))?
                        }
                        None => Dim::Unknown,
                    }
                }
                PartialInt::Known(-1) | PartialInt::Unknown => open.push(i),
                PartialInt::Known(n) if *n < -1 => return Err(format!("{n} is no dimension")),
                PartialInt::Known(_) | PartialInt::Dim(_) => {}
            }
        }
        let inferred = target.elements.iter().filter(|n| **n == PartialInt::Known(-1)).count();
        if inferred > 1 {
            return Err("more than one dimension is −1".into());
        }
        let Some(x) = x else { return Ok(shape) };
        // Dimensions that are copied stand on both sides and cancel, known or not.
        let given = volume(x.iter().enumerate().filter(|(i, _)| !(*i < shape.len() && copied(*i))).map(|(_, dim)| dim));
        let wanted = volume((0..shape.len()).filter(|i| !copied(*i) && !open.contains(i)).map(|i| &shape[i]));
        let elements = || x.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ");
        match (&open[..], given.fixed(), wanted.fixed()) {
            ([], Some(given), Some(wanted)) if given != wanted => Err(format!(
                "the elements of [{}] do not fill [{}]",
                elements(),
                shape.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ")
            )),
            ([_], Some(given), Some(wanted)) if wanted > 0 && given % wanted != 0 => {
                Err(format!("the elements of [{}] cannot be split into rows of {wanted}", elements()))
            }
            ([i], _, _) => {
                shape[*i] = given.divided_by(&wanted);
                Ok(shape)
            }
            _ => Ok(shape),
        }
    }
}

impl Operator for Reshape {
    const NAMES: &'static [(&'static str, i64)] = &[("Reshape", 5)];

    fn name(&self) -> &'static str {
        "Reshape"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Reshape, String> {
        Ok(Reshape { allow_zero: attributes.opset >= 14 && attributes.flag("allowzero", false)? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.flag("allowzero", self.allow_zero, false);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(2, 2)?;
        inputs.ranked(1, 1)?;
        let dtype = inputs.dtype(0);
        let target = inputs.partial(1).cloned().or_else(|| PartialValue::unknown(inputs.vector_len(1)?));
        let Some(target) = target.filter(|t| t.elements.len() <= MAX_RANK) else { return Ok(vec![Fact::new(dtype, None)]) };
        let shape = self.resolve(inputs.shape(0), &target)?;
        let partial = inputs.partial(0).and_then(|partial| partial.reshaped(&shape));
        Ok(vec![Fact::new(dtype, Some(shape)).with(partial)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        if restated(ties.shape(0), ties.output_shape(0), self.allow_zero).is_none() {
            return Err("its shape is computed from several sizes that are not known".into());
        }
        ties.refolded();
        Ok(())
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Result<Op, String> {
        let target = restated(cut.shape(0), &cut.output_after(0), self.allow_zero).ok_or("its shape cannot be written down")?;
        cut.integers(1, "shape", &target);
        Ok((*self).into())
    }
}

impl Operator for Flatten {
    const NAMES: &'static [(&'static str, i64)] = &[("Flatten", 1)];

    fn name(&self) -> &'static str {
        "Flatten"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Flatten, String> {
        Ok(Flatten { axis: attributes.int("axis", 1)? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int("axis", self.axis, 1);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        let dtype = inputs.dtype(0);
        let Some(x) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, Some(vec![Dim::Unknown; 2]))]) };
        // The axis after the last one is allowed: [all, 1].
        let at = if usize::try_from(self.axis) == Ok(x.len()) { x.len() } else { axis(self.axis, x.len())? };
        Ok(vec![Fact::new(dtype, Some(vec![volume(&x[..at]), volume(&x[at..])]))])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        ties.refolded();
        Ok(())
    }
}

/// The axes of `Squeeze` and `Unsqueeze`: an attribute, or from opset 13 the second input.
enum Axes {
    Left,
    Unknown,
    Known(Vec<i64>),
}

fn axes_of(inputs: &Operands<'_>, attribute: Option<&Vec<i64>>) -> Result<Axes, String> {
    if inputs.opset() < 13 {
        inputs.count(1, 1)?;
        return Ok(attribute.map_or(Axes::Left, |axes| Axes::Known(axes.clone())));
    }
    inputs.count(1, 2)?;
    if !inputs.given(1) {
        return Ok(Axes::Left);
    }
    Ok(inputs.known(1).map_or(Axes::Unknown, Axes::Known))
}

impl Operator for Squeeze {
    const NAMES: &'static [(&'static str, i64)] = &[("Squeeze", 1)];

    fn name(&self) -> &'static str {
        "Squeeze"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Squeeze, String> {
        Ok(Squeeze { axes: if attributes.opset < 13 { attributes.ints("axes")? } else { None } })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.ints("axes", self.axes.as_deref());
    }

    fn raise(&self, node: &mut Raise<'_>) -> Result<Op, String> {
        Ok(Squeeze { axes: node.ints_until(13, 1, "axes", self.axes.as_ref()) }.into())
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        let named = axes_of(inputs, self.axes.as_ref())?;
        let dtype = inputs.dtype(0);
        let Some(x) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, None)]) };
        let dropped = match named {
            Axes::Known(named) => axes(&named, x.len())?,
            // Without axes all of size 1 go, which is known only where every size is.
            Axes::Left if x.iter().all(|dim| dim.fixed().is_some()) => (0..x.len()).filter(|i| x[*i] == Dim::Fixed(1)).collect(),
            Axes::Left => return Ok(vec![Fact::new(dtype, None)]),
            Axes::Unknown => {
                let rank = inputs.vector_len(1).and_then(|n| x.len().checked_sub(n));
                return Ok(vec![Fact::new(dtype, rank.and_then(unknown_shape))]);
            }
        };
        if let Some(i) = dropped.iter().find(|i| !x[**i].compatible(&Dim::Fixed(1))) {
            return Err(format!("axis {i} has size {} and cannot be squeezed", x[*i]));
        }
        let shape: Vec<Dim> = (0..x.len()).filter(|i| !dropped.contains(i)).map(|i| x[i].clone()).collect();
        let partial = inputs.partial(0).and_then(|partial| partial.reshaped(&shape));
        Ok(vec![Fact::new(dtype, Some(shape)).with(partial)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        ties.refolded();
        Ok(())
    }
}

impl Operator for Unsqueeze {
    const NAMES: &'static [(&'static str, i64)] = &[("Unsqueeze", 1)];

    fn name(&self) -> &'static str {
        "Unsqueeze"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Unsqueeze, String> {
        Ok(Unsqueeze { axes: if attributes.opset < 13 { Some(attributes.required_ints("axes")?) } else { None } })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.ints("axes", self.axes.as_deref());
    }

    fn raise(&self, node: &mut Raise<'_>) -> Result<Op, String> {
        Ok(Unsqueeze { axes: node.ints_until(13, 1, "axes", self.axes.as_ref()) }.into())
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        let dtype = inputs.dtype(0);
        let named = match axes_of(inputs, self.axes.as_ref())? {
            Axes::Known(named) => named,
            Axes::Left => return Err("no axes are given".into()),
            Axes::Unknown => {
                let rank = inputs.shape(0).zip(inputs.vector_len(1)).and_then(|(x, n)| x.len().checked_add(n));
                return Ok(vec![Fact::new(dtype, rank.and_then(unknown_shape))]);
            }
        };
        let Some(x) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, None)]) };
        let rank = x.len() + named.len();
        if rank > MAX_RANK {
            return Err(format!("{rank} dimensions are too many"));
        }
        let inserted = axes(&named, rank)?;
        let mut rest = x.iter();
        let shape: Vec<Dim> =
            (0..rank).map(|i| if inserted.contains(&i) { Dim::Fixed(1) } else { rest.next().cloned().unwrap_or(Dim::Unknown) }).collect();
        let partial = inputs.partial(0).and_then(|partial| partial.reshaped(&shape));
        Ok(vec![Fact::new(dtype, Some(shape)).with(partial)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        ties.refolded();
        Ok(())
    }
}
