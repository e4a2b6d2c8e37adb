//! Cutting out a part of some axes.

use super::attributes::{AttributeList, Attributes};
use super::{Op, Operator, Raise};
use crate::Dim;
use crate::channels::{Cut, Place, Ties};
use crate::infer::{Fact, Operands, axes, unknown_shape};
use crate::partial::{PartialInt, PartialValue};

/// `Slice`. From opset 10 starts, ends, axes and steps are inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// Starts, ends and axes before opset 10.
    pub bounds: Option<SliceBounds>,
}

/// Where a `Slice` before opset 10 cuts.
#[derive(Clone, Debug, PartialEq)]
pub struct SliceBounds {
    /// First position of each axis.
    pub starts: Vec<i64>,
    /// Position after the last of each axis.
    pub ends: Vec<i64>,
    /// The axes; `None`: 0, 1, …
    pub axes: Option<Vec<i64>>,
}

/// Positions of an axis that a slice takes: `count` of them from `first` on, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stride {
    /// The first position.
    pub first: usize,
    /// Distance to the next; negative ones run backwards.
    pub step: i64,
    /// Number of positions.
    pub count: usize,
}

impl Stride {
    /// What `start`, `end` and `step` take of an axis of `size` positions; numpy's rules.
    ///
    /// # Errors
    /// When the step is 0.
    pub(super) fn new(size: usize, start: i64, end: i64, step: i64) -> Result<Stride, String> {
        if step == 0 {
            return Err("the step is 0".into());
        }
        let (n, step) = (size as i128, i128::from(step));
        let from_begin = |i: i64| if i < 0 { i128::from(i) + n } else { i128::from(i) };
        // Running backwards, a bound may stand one before the first position.
        let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
        let start = from_begin(start).clamp(low.min(high), high);
        let end = from_begin(end).clamp(low.min(high), high);
        let count = if step > 0 { (end - start + step - 1) / step } else { (start - end - step - 1) / -step };
        let count = usize::try_from(count.max(0)).unwrap_or(0);
        Ok(Stride { first: if count == 0 { 0 } else { start as usize }, step: step as i64, count })
    }

    /// The positions in order.
    pub(super) fn positions(self) -> impl Iterator<Item = usize> {
        (0..self.count).map(move |i| (self.first as i128 + i as i128 * i128::from(self.step)) as usize)
    }
}

/// Starts, ends, axes and steps of a `Slice`, wherever they are written. `None`: not known.
struct Bounds {
    axes: Vec<i64>,
    starts: Vec<PartialInt>,
    ends: Vec<PartialInt>,
    steps: Vec<PartialInt>,
}

impl Slice {
    fn bounds(&self, inputs: &Operands<'_>) -> Result<Option<Bounds>, String> {
        let all = |n: usize| (0..n as i64).collect::<Vec<_>>();
        let ones = |n: usize| vec![PartialInt::Known(1); n];
        let cut = match &self.bounds {
            Some(SliceBounds { starts, ends, axes }) => {
                let known = |list: &[i64]| list.iter().map(|n| PartialInt::Known(*n)).collect();
                Bounds {
                    axes: axes.clone().unwrap_or_else(|| all(starts.len())),
                    starts: known(starts),
                    ends: known(ends),
                    steps: ones(starts.len()),
                }
            }
            None => {
                let (Some(starts), Some(ends)) = (inputs.integers(1), inputs.integers(2)) else { return Ok(None) };
                let axes = if inputs.given(3) { inputs.known(3) } else { Some(all(starts.len())) };
                let steps = if inputs.given(4) { inputs.integers(4) } else { Some(ones(starts.len())) };
                let (Some(axes), Some(steps)) = (axes, steps) else { return Ok(None) };
                Bounds { axes, starts, ends, steps }
            }
        };
        let n = cut.axes.len();
        if [cut.starts.len(), cut.ends.len(), cut.steps.len()].iter().any(|len| *len != n) {
            return Err("starts, ends, axes and steps differ in number".into());
        }
        Ok(Some(cut))
    }
}

/// Size of an axis of which `start..end` by `step` is taken, and the positions where they are known.
fn sliced(dim: &Dim, start: &PartialInt, end: &PartialInt, step: &PartialInt) -> Result<(Dim, Option<Stride>), String> {
    if let (Dim::Fixed(n), PartialInt::Known(start), PartialInt::Known(end), PartialInt::Known(step)) = (dim, start, end, step) {
        let stride = Stride::new(*n, *start, *end, *step)?;
        return Ok((Dim::Fixed(stride.count), Some(stride)));
    }
    // Exporters write the largest integer of 32 or 64 bits for "to the end".
    let to_end = end.known().is_some_and(|end| end >= i32::MAX.into()) || end.to_dim() == *dim && *dim != Dim::Unknown;
    let whole = *start == PartialInt::Known(0) && *step == PartialInt::Known(1) && to_end;
    Ok((if whole { dim.clone() } else { Dim::Unknown }, None))
}

impl Operator for Slice {
    const NAMES: &'static [(&'static str, i64)] = &[("Slice", 1)];

    fn name(&self) -> &'static str {
        "Slice"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Slice, String> {
        if attributes.opset >= 10 {
            return Ok(Slice { bounds: None });
        }
        let (starts, ends) = (attributes.required_ints("starts")?, attributes.required_ints("ends")?);
        Ok(Slice { bounds: Some(SliceBounds { starts, ends, axes: attributes.ints("axes")? }) })
    }

    fn write(&self, attributes: &mut AttributeList) {
        if let Some(SliceBounds { starts, ends, axes }) = &self.bounds {
            attributes.ints("axes", axes.as_deref());
            attributes.ints("ends", Some(ends));
            attributes.ints("starts", Some(starts));
        }
    }

    fn raise(&self, node: &mut Raise<'_>) -> Result<Op, String> {
        match &self.bounds {
            Some(SliceBounds { starts, ends, axes }) if node.crosses(10) => {
                node.ints(1, "starts", starts);
                node.ints(2, "ends", ends);
                if let Some(axes) = axes {
                    node.ints(3, "axes", axes);
                }
                Ok(Slice { bounds: None }.into())
            }
            Some(_) | None => Ok(self.clone().into()),
        }
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        if self.bounds.is_some() {
            inputs.count(1, 1)?;
        } else {
            inputs.count(3, 5)?;
        }
        let dtype = inputs.dtype(0);
        let Some(x) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, None)]) };
        let Some(cut) = self.bounds(inputs)? else { return Ok(vec![Fact::new(dtype, unknown_shape(x.len()))]) };
        let (mut shape, mut strides) = (x.to_vec(), vec![]);
        for (i, axis) in axes(&cut.axes, x.len())?.into_iter().enumerate() {
            let (dim, stride) = sliced(&x[axis], &cut.starts[i], &cut.ends[i], &cut.steps[i])?;
            shape[axis] = dim;
            strides.push(stride);
        }
        let fact = Fact::new(dtype, Some(shape));
        let partial = match (inputs.partial(0), &strides[..]) {
            (Some(partial), []) => Some(partial.clone()),
            (Some(partial), [Some(stride)]) => {
                PartialValue::vector(stride.positions().filter_map(|i| partial.elements.get(i).cloned()).collect())
            }
            _ => None,
        };
        Ok(vec![fact.with(partial)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let rank = ties.shape(0).len();
        let bounds = self.bounds(&ties.operands())?.ok_or("its bounds are computed")?;
        let sliced = axes(&bounds.axes, rank)?;
        (0..rank).filter(|axis| !sliced.contains(axis)).for_each(|axis| ties.same(Place::In(0, axis), Place::Out(0, axis)));
        for (i, axis) in sliced.into_iter().enumerate() {
            match self::sliced(&ties.shape(0)[axis], &bounds.starts[i], &bounds.ends[i], &bounds.steps[i])? {
                (_, Some(stride)) if stride.step == 1 && stride.count > 0 => {
                    for (to, from) in stride.positions().enumerate() {
                        ties.tie(Place::In(0, axis), from, Place::Out(0, axis), to);
                    }
                }
                _ => {
                    ties.stays(Place::In(0, axis), "it is sliced in steps, or at bounds that are not known");
                    ties.stays(Place::Out(0, axis), "it is sliced in steps, or at bounds that are not known");
                }
            }
        }
        Ok(())
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Result<Op, String> {
        let bounds = self.bounds(&cut.operands())?.ok_or("its bounds are computed")?;
        let sliced = axes(&bounds.axes, cut.shape(0).len())?;
        let known = |list: &[PartialInt]| list.iter().map(PartialInt::known).collect::<Option<Vec<i64>>>();
        let (starts, ends) = known(&bounds.starts).zip(known(&bounds.ends)).ok_or("its bounds are computed")?;
        let (mut starts, mut ends) = (starts, ends);
        for (i, axis) in sliced.into_iter().enumerate() {
            let (Some(size), Some(stay)) = (cut.shape(0)[axis].fixed(), cut.kept(0, axis)) else { continue };
            let stride = Stride::new(size, starts[i], ends[i], 1)?;
            let before = |position: usize| stay.iter().filter(|p| (**p as usize) < position).count() as i64;
            (starts[i], ends[i]) = (before(stride.first), before(stride.first + stride.count));
        }
        match &self.bounds {
            Some(bounds) => Ok(Slice { bounds: Some(SliceBounds { starts, ends, axes: bounds.axes.clone() }) }.into()),
            None => {
                cut.integers(1, "starts", &starts);
                cut.integers(2, "ends", &ends);
                Ok(self.clone().into())
            }
        }
    }
}
