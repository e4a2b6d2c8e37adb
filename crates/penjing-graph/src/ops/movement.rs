//! Operators that move, copy or describe elements without computing on them.

use super::Operator;
use super::attributes::{AttributeList, Attributes, unexpected};
use super::elementwise::broadcast;
use crate::infer::{Fact, Operands, PartialInt, PartialValue, axes, axis, volume};
use crate::{DataType, Dim, Tensor};

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

/// `Transpose`.
#[derive(Clone, Debug, PartialEq)]
pub struct Transpose {
    /// Axis of the input that each output axis shows; `None`: reversed.
    pub perm: Option<Vec<usize>>,
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

/// `Concat` along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Concat {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

/// `Split` along one axis. From opset 13 the sizes are the second input.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// Sizes before opset 13; `None`: equal parts.
    pub sizes: Option<Vec<i64>>,
    /// Number of parts, the last may be smaller (opset 18).
    pub num_outputs: Option<usize>,
}

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

/// `Expand`: broadcast to the shape in the second input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expand;

/// `Tile`: repeats along each axis as the second input says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tile;

/// `Shape`: the dimensions `start..end` as int64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// First dimension (opset 15).
    pub start: i64,
    /// Dimension after the last (opset 15); `None`: all.
    pub end: Option<i64>,
}

/// `ConstantOfShape`: a tensor of the shape in the input, every element the same.
#[derive(Clone, Debug, PartialEq)]
pub struct ConstantOfShape {
    /// One element; `None`: float 0.
    pub value: Option<Tensor>,
}

/// `Range`: start, start + delta, … below limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range;

/// `DepthToSpace`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DepthToSpace {
    /// Side of the block.
    pub block_size: usize,
    /// Column-row-depth order instead of depth-column-row.
    pub crd: bool,
}

/// Checks that a shape or list of axes, given as an input, is a vector.
fn check_vector(inputs: &Operands<'_>, input: usize) -> Result<(), String> {
    inputs.ranked(input, 1).map(drop)
}

/// Number of elements of a vector that is an input, where it is known.
fn vector_len(inputs: &Operands<'_>, input: usize) -> Option<usize> {
    inputs.shape(input)?.first()?.fixed()
}

/// Rank that a tensor must not pass, far above any that is used.
const MAX_RANK: usize = 64;

/// A shape of `rank` unknown dimensions; `None` where nobody could mean such a rank.
fn unknown_shape(rank: usize) -> Option<Vec<Dim>> {
    (rank <= MAX_RANK).then(|| vec![Dim::Unknown; rank])
}

/// The integers under another shape, where that has at most one dimension.
fn carried(partial: Option<&PartialValue>, shape: &[Dim]) -> Option<PartialValue> {
    let elements = partial?.elements.clone();
    match shape {
        [] if elements.len() == 1 => Some(PartialValue { scalar: true, elements }),
        [_] => PartialValue::vector(elements),
        _ => None,
    }
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
        check_vector(inputs, 1)?;
        let dtype = inputs.dtype(0);
        let target = inputs.partial(1).cloned().or_else(|| PartialValue::unknown(vector_len(inputs, 1)?));
        let Some(target) = target.filter(|t| t.elements.len() <= MAX_RANK) else { return Ok(vec![Fact::new(dtype, None)]) };
        let shape = self.resolve(inputs.shape(0), &target)?;
        let partial = carried(inputs.partial(0), &shape);
        Ok(vec![Fact::new(dtype, Some(shape)).with(partial)])
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
}

impl Operator for Transpose {
    const NAMES: &'static [(&'static str, i64)] = &[("Transpose", 1)];

    fn name(&self) -> &'static str {
        "Transpose"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Transpose, String> {
        Ok(Transpose { perm: attributes.sizes_or_none("perm", 0)? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        if let Some(perm) = &self.perm {
            attributes.ints("perm", Some(&perm.iter().map(|axis| *axis as i64).collect::<Vec<_>>()));
        }
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        let dtype = inputs.dtype(0);
        let Some(x) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, None)]) };
        let reversed: Vec<usize> = (0..x.len()).rev().collect();
        let perm = self.perm.as_ref().unwrap_or(&reversed);
        let mut seen = vec![false; x.len()];
        let each_once = perm.iter().all(|axis| seen.get_mut(*axis).is_some_and(|seen| !std::mem::replace(seen, true)));
        if perm.len() != x.len() || !each_once {
            return Err(format!("{perm:?} is no order of {} axes", x.len()));
        }
        Ok(vec![Fact::new(dtype, Some(perm.iter().map(|axis| x[*axis].clone()).collect())).with(inputs.partial(0).cloned())])
    }
}

/// The axes of `Squeeze` and `Unsqueeze`: an attribute, or from opset 13 the second input. `Err(None)`: not known.
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
                let rank = vector_len(inputs, 1).and_then(|n| x.len().checked_sub(n));
                return Ok(vec![Fact::new(dtype, rank.and_then(unknown_shape))]);
            }
        };
        if let Some(i) = dropped.iter().find(|i| !x[**i].compatible(&Dim::Fixed(1))) {
            return Err(format!("axis {i} has size {} and cannot be squeezed", x[*i]));
        }
        let shape: Vec<Dim> = (0..x.len()).filter(|i| !dropped.contains(i)).map(|i| x[i].clone()).collect();
        let partial = carried(inputs.partial(0), &shape);
        Ok(vec![Fact::new(dtype, Some(shape)).with(partial)])
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

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        let dtype = inputs.dtype(0);
        let named = match axes_of(inputs, self.axes.as_ref())? {
            Axes::Known(named) => named,
            Axes::Left => return Err("no axes are given".into()),
            Axes::Unknown => {
                let rank = inputs.shape(0).zip(vector_len(inputs, 1)).and_then(|(x, n)| x.len().checked_add(n));
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
        let partial = carried(inputs.partial(0), &shape);
        Ok(vec![Fact::new(dtype, Some(shape)).with(partial)])
    }
}

impl Operator for Concat {
    const NAMES: &'static [(&'static str, i64)] = &[("Concat", 4)];

    fn name(&self) -> &'static str {
        "Concat"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Concat, String> {
        Ok(Concat { axis: attributes.required_int("axis")? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int_or_none("axis", Some(self.axis));
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        let n = inputs.inputs();
        inputs.count(n.max(1), usize::MAX)?;
        let dtype = inputs.common_type(0..n)?;
        let Some(rank) = (0..n).find_map(|i| inputs.shape(i)).map(<[Dim]>::len) else { return Ok(vec![Fact::new(dtype, None)]) };
        let along = axis(self.axis, rank)?;
        let mut shape = inputs.ranked(0, rank)?;
        for i in 1..n {
            for (a, (ours, theirs)) in shape.iter_mut().zip(inputs.ranked(i, rank)?).enumerate() {
                if a == along {
                    *ours = ours.plus(&theirs);
                } else {
                    *ours = crate::infer::meet(ours, &theirs)
                        .ok_or_else(|| format!("input {i} has size {theirs} along axis {a}, those before it {ours}"))?;
                }
            }
        }
        let partial = (rank == 1).then(|| (0..n).map(|i| integers(inputs, i)).collect::<Option<Vec<_>>>()).flatten();
        let fact = Fact::new(dtype, Some(shape));
        Ok(vec![fact.with(partial.and_then(|parts| PartialValue::vector(parts.concat())))])
    }
}

/// The integers of a vector, unknown ones where only their number is known.
fn integers(inputs: &Operands<'_>, input: usize) -> Option<Vec<PartialInt>> {
    match inputs.partial(input) {
        Some(partial) => Some(partial.elements.clone()),
        None => PartialValue::unknown(vector_len(inputs, input)?).map(|partial| partial.elements),
    }
}

impl Split {
    /// Size of each of `parts` parts of an axis of size `whole`.
    fn sizes(&self, inputs: &Operands<'_>, whole: &Dim) -> Result<Vec<Dim>, String> {
        let parts = inputs.outputs();
        if let Some(named) = self.num_outputs.filter(|n| *n != parts) {
            return Err(format!("attribute `num_outputs` is {named} but there are {parts} outputs"));
        }
        let given = if inputs.opset() < 13 {
            self.sizes.as_ref().map(|sizes| sizes.iter().map(|n| PartialInt::Known(*n)).collect())
        } else {
            inputs.given(1).then(|| integers(inputs, 1).unwrap_or_else(|| vec![PartialInt::Unknown; parts]))
        };
        let Some(given) = given else {
            return match whole {
                Dim::Fixed(n) if self.num_outputs.is_some() => {
                    let part = n.div_ceil(parts);
                    Ok((0..parts).map(|i| Dim::Fixed(part.min(n.saturating_sub(i.saturating_mul(part))))).collect())
                }
                Dim::Fixed(n) if n % parts != 0 => Err(format!("{n} positions cannot be split into {parts} equal parts")),
                _ => Ok(vec![whole.divided_by(&parts.into()); parts]),
            };
        };
        if given.len() != parts {
            return Err(format!("{} sizes are given for {parts} outputs", given.len()));
        }
        if let Some(n) = given.iter().filter_map(PartialInt::known).find(|n| *n < 0) {
            return Err(format!("{n} is no size"));
        }
        let sizes: Vec<Dim> = given.iter().map(PartialInt::to_dim).collect();
        let sum = sizes.iter().fold(Dim::Fixed(0), |sum, n| sum.plus(n));
        if !sum.compatible(whole) {
            return Err(format!("the sizes add up to {sum}, the axis has {whole} positions"));
        }
        Ok(sizes)
    }
}

impl Operator for Split {
    const NAMES: &'static [(&'static str, i64)] = &[("Split", 2)];

    fn name(&self) -> &'static str {
        "Split"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Split, String> {
        let opset = attributes.opset;
        Ok(Split {
            axis: attributes.int("axis", 0)?,
            sizes: if opset < 13 { attributes.ints("split")? } else { None },
            num_outputs: if opset >= 18 { Some(attributes.count("num_outputs", 0)?).filter(|n| *n > 0) } else { None },
        })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int("axis", self.axis, 0);
        attributes.ints("split", self.sizes.as_deref());
        attributes.int_or_none("num_outputs", self.num_outputs.map(|n| n as i64));
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, if inputs.opset() < 13 { 1 } else { 2 })?;
        let dtype = inputs.dtype(0);
        let parts = inputs.outputs();
        if parts == 0 {
            return Err("has no outputs".into());
        }
        let Some(x) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, None); parts]) };
        let axis = axis(self.axis, x.len())?;
        let mut facts = Vec::with_capacity(parts);
        let mut elements = inputs.partial(0).filter(|_| x.len() == 1).map(|partial| partial.elements.iter());
        for size in self.sizes(inputs, &x[axis])? {
            let partial = elements.as_mut().zip(size.fixed()).map(|(rest, n)| rest.take(n).cloned().collect());
            // Behind a part of unknown size nobody knows which integers follow.
            elements = elements.filter(|_| size.fixed().is_some());
            let mut shape = x.to_vec();
            shape[axis] = size;
            facts.push(Fact::new(dtype, Some(shape)).with(partial.and_then(PartialValue::vector)));
        }
        Ok(facts)
    }
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
struct Cut {
    axes: Vec<i64>,
    starts: Vec<PartialInt>,
    ends: Vec<PartialInt>,
    steps: Vec<PartialInt>,
}

impl Slice {
    fn cut(&self, inputs: &Operands<'_>) -> Result<Option<Cut>, String> {
        let all = |n: usize| (0..n as i64).collect::<Vec<_>>();
        let ones = |n: usize| vec![PartialInt::Known(1); n];
        let cut = match &self.bounds {
            Some(SliceBounds { starts, ends, axes }) => {
                let known = |list: &[i64]| list.iter().map(|n| PartialInt::Known(*n)).collect();
                Cut {
                    axes: axes.clone().unwrap_or_else(|| all(starts.len())),
                    starts: known(starts),
                    ends: known(ends),
                    steps: ones(starts.len()),
                }
            }
            None => {
                let (Some(starts), Some(ends)) = (integers(inputs, 1), integers(inputs, 2)) else { return Ok(None) };
                let axes = if inputs.given(3) { inputs.known(3) } else { Some(all(starts.len())) };
                let steps = if inputs.given(4) { integers(inputs, 4) } else { Some(ones(starts.len())) };
                let (Some(axes), Some(steps)) = (axes, steps) else { return Ok(None) };
                Cut { axes, starts, ends, steps }
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

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        if self.bounds.is_some() {
            inputs.count(1, 1)?;
        } else {
            inputs.count(3, 5)?;
        }
        let dtype = inputs.dtype(0);
        let Some(x) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, None)]) };
        let Some(cut) = self.cut(inputs)? else { return Ok(vec![Fact::new(dtype, unknown_shape(x.len()))]) };
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
        check_vector(inputs, 1)?;
        let dtype = inputs.dtype(0);
        let target = inputs.partial(1).map(PartialValue::to_shape).or_else(|| unknown_shape(vector_len(inputs, 1)?));
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
        check_vector(inputs, 1)?;
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

impl Operator for Shape {
    const NAMES: &'static [(&'static str, i64)] = &[("Shape", 1)];

    fn name(&self) -> &'static str {
        "Shape"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Shape, String> {
        if attributes.opset < 15 {
            return Ok(Shape { start: 0, end: None });
        }
        Ok(Shape { start: attributes.int("start", 0)?, end: attributes.int_or_none("end")? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int_or_none("end", self.end);
        attributes.int("start", self.start, 0);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        let dtype = Some(DataType::Int64);
        let Some(x) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, Some(vec![Dim::Unknown]))]) };
        let taken = Stride::new(x.len(), self.start, self.end.unwrap_or(i64::MAX), 1)?;
        let elements = taken.positions().map(|i| PartialInt::from(&x[i])).collect();
        Ok(vec![Fact::integers(dtype, PartialValue { scalar: false, elements })])
    }
}

impl Operator for ConstantOfShape {
    const NAMES: &'static [(&'static str, i64)] = &[("ConstantOfShape", 9)];

    fn name(&self) -> &'static str {
        "ConstantOfShape"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<ConstantOfShape, String> {
        Ok(ConstantOfShape { value: attributes.tensor("value")? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.tensor("value", self.value.as_ref());
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        check_vector(inputs, 0)?;
        if let Some(value) = self.value.as_ref().filter(|value| value.len() != 1) {
            return Err(format!("attribute `value` has {} elements but needs 1", value.len()));
        }
        let dtype = Some(self.value.as_ref().map_or(DataType::Float, Tensor::dtype));
        let shape = inputs.partial(0).map(PartialValue::to_shape).or_else(|| unknown_shape(vector_len(inputs, 0)?));
        if let Some(n) = inputs.partial(0).and_then(|p| p.elements.iter().filter_map(PartialInt::known).find(|n| *n < 0)) {
            return Err(format!("{n} is no dimension"));
        }
        let element = self.value.as_ref().and_then(PartialValue::of).map(|value| value.elements[0].clone());
        let partial = match (element, shape.as_deref()) {
            (Some(element), Some([])) => Some(PartialValue::scalar(element)),
            (Some(element), Some([Dim::Fixed(n)])) => {
                PartialValue::unknown(*n).map(|all| PartialValue { elements: vec![element; all.elements.len()], ..all })
            }
            _ => None,
        };
        Ok(vec![Fact::new(dtype, shape).with(partial)])
    }
}

impl Operator for Range {
    const NAMES: &'static [(&'static str, i64)] = &[("Range", 11)];

    fn name(&self) -> &'static str {
        "Range"
    }

    fn read(_: &str, _: &mut Attributes<'_>) -> Result<Range, String> {
        Ok(Range)
    }

    fn write(&self, _: &mut AttributeList) {}

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(3, 3)?;
        let dtype = inputs.common_type(0..3)?;
        let bound = |i| inputs.partial(i).and_then(|p| p.elements.first().cloned()).unwrap_or(PartialInt::Unknown);
        let (start, limit, delta) = (bound(0), bound(1), bound(2));
        let count = match (&start, &limit, &delta) {
            (_, _, PartialInt::Known(0)) => return Err("the step is 0".into()),
            (PartialInt::Known(start), PartialInt::Known(limit), PartialInt::Known(delta)) => {
                let (span, delta) = (i128::from(*limit) - i128::from(*start), i128::from(*delta));
                let whole = span / delta + i128::from(span % delta != 0 && (span > 0) == (delta > 0));
                usize::try_from(whole.max(0)).map_or(Dim::Unknown, Dim::Fixed)
            }
            (PartialInt::Known(0), limit, PartialInt::Known(1)) => limit.to_dim(),
            _ => Dim::Unknown,
        };
        let steps = match (&count, start.known(), delta.known()) {
            (Dim::Fixed(n), Some(start), Some(delta)) => PartialValue::unknown(*n).map(|all| PartialValue {
                elements: (0..all.elements.len() as i64).map(|i| i.checked_mul(delta).and_then(|d| start.checked_add(d)).into()).collect(),
                ..all
            }),
            _ => None,
        };
        Ok(vec![Fact::new(dtype, Some(vec![count])).with(steps)])
    }
}

impl Operator for DepthToSpace {
    const NAMES: &'static [(&'static str, i64)] = &[("DepthToSpace", 1)];

    fn name(&self) -> &'static str {
        "DepthToSpace"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<DepthToSpace, String> {
        let block_size = attributes.count("blocksize", 0)?;
        if block_size == 0 {
            return Err("attribute `blocksize` is missing".into());
        }
        let mode = if attributes.opset >= 11 { attributes.text("mode", "DCR")? } else { "DCR" };
        match mode {
            "DCR" => Ok(DepthToSpace { block_size, crd: false }),
            "CRD" => Ok(DepthToSpace { block_size, crd: true }),
            other => Err(unexpected("mode", other)),
        }
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int_or_none("blocksize", Some(self.block_size as i64));
        attributes.text("mode", if self.crd { "CRD" } else { "DCR" }, "DCR");
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        let x = inputs.ranked(0, 4)?;
        let block = Dim::Fixed(self.block_size);
        let area = block.times(&block);
        if let (Some(c), Some(area)) = (x[1].fixed(), area.fixed())
            && (area == 0 || c % area != 0)
        {
            return Err(format!("{c} channels cannot be spread over blocks of {area} cells"));
        }
        let shape = vec![x[0].clone(), x[1].divided_by(&area), x[2].times(&block), x[3].times(&block)];
        Ok(vec![Fact::new(inputs.dtype(0), Some(shape))])
    }
}
