//! Operators that move, copy or describe elements without computing on them. The pullback of a movement is its adjoint:
//! of a slice a padding, of a concatenation slices, of a repetition a sum.

use burn_backend::tensor::IndexingUpdateOp;
use burn_backend::{DType, TensorMetadata};
use penjing_graph::Tensor;
use penjing_graph::ops::{
    Concat, ConstantOfShape, DepthToSpace, Flatten, Gather, Pad, PadMode, Reshape, ScatterElements, Shape, Slice, Split, Squeeze,
    Transpose, Unsqueeze,
};

use super::value::index;
use super::{Call, Done, Float, Kernels, Value, broadcast};
use crate::ExecError;

/// The same elements under other dimensions.
fn renamed<B: Kernels>(x: Value<B>, dims: &[usize]) -> Done<B> {
    let from = x.dims();
    Done::nary(x.reshape(dims), move |dy| vec![Some(dy.reshape(&from))])
}

pub(super) fn identity<B: Kernels>(mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    Ok(Done::nary(call.value(0)?, |dy| vec![Some(dy)]))
}

pub(super) fn reshape<B: Kernels>(op: Reshape, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let target = call.ints(1)?.ok_or_else(|| call.refuse("its shape is missing"))?;
    let x = call.value(0)?;
    let from = x.dims();
    let refuse = || call.refuse(format!("{from:?} cannot be reshaped to {target:?}"));
    let count: usize = from.iter().product();
    let mut dims = vec![];
    for (i, n) in target.iter().enumerate() {
        dims.push(match n {
            0 if !op.allow_zero => *from.get(i).ok_or_else(refuse)?,
            -1 => usize::MAX,
            n => usize::try_from(*n).map_err(|_| refuse())?,
        });
    }
    if let Some(open) = target.iter().position(|n| *n == -1) {
        dims[open] = 1;
        let known = penjing_graph::element_count(&dims)
            .filter(|n| *n > 0 && target.iter().filter(|n| **n == -1).count() == 1)
            .ok_or_else(refuse)?;
        dims[open] = count / known;
    }
    if penjing_graph::element_count(&dims) != Some(count) {
        return Err(refuse());
    }
    Ok(renamed(x, &dims))
}

pub(super) fn flatten<B: Kernels>(op: Flatten, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let x = call.value(0)?;
    let dims = x.dims();
    let axis = call.axis(if op.axis < 0 { op.axis + dims.len() as i64 } else { op.axis }, dims.len() + 1)?;
    Ok(renamed(x, &[dims[..axis].iter().product(), dims[axis..].iter().product()]))
}

pub(super) fn transpose<B: Kernels>(op: &Transpose, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let x = call.value(0)?;
    let rank = x.dims().len();
    let perm = op.perm.clone().unwrap_or_else(|| (0..rank).rev().collect());
    let inverse: Option<Vec<usize>> = (0..rank).map(|axis| perm.iter().position(|p| *p == axis)).collect();
    let Some(inverse) = inverse.filter(|_| perm.len() == rank) else {
        return Err(call.refuse(format!("perm {perm:?} is not an order of {rank} axes")));
    };
    Ok(Done::nary(x.permute(&perm), move |dy| vec![Some(dy.permute(&inverse))]))
}

pub(super) fn squeeze<B: Kernels>(op: &Squeeze, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let axes = match &op.axes {
        Some(axes) => Some(axes.clone()),
        None => call.ints(1)?,
    };
    let x = call.value(0)?;
    let dims = x.dims();
    let dropped = match axes {
        Some(axes) => call.axes(&axes, dims.len())?,
        None => (0..dims.len()).filter(|i| dims[*i] == 1).collect(),
    };
    if let Some(axis) = dropped.iter().find(|axis| dims[**axis] != 1) {
        return Err(call.refuse(format!("axis {axis} of an input of shape {dims:?} is not 1")));
    }
    let left: Vec<usize> = (0..dims.len()).filter(|i| !dropped.contains(i)).map(|i| dims[i]).collect();
    Ok(renamed(x, &left))
}

pub(super) fn unsqueeze<B: Kernels>(op: &Unsqueeze, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let axes = match &op.axes {
        Some(axes) => axes.clone(),
        None => call.ints(1)?.ok_or_else(|| call.refuse("its axes are missing"))?,
    };
    let x = call.value(0)?;
    let mut old = x.dims().into_iter();
    let rank = old.len() + axes.len();
    let inserted = call.axes(&axes, rank)?;
    let dims: Vec<usize> = (0..rank)
        .map(|i| if inserted.contains(&i) { Some(1) } else { old.next() })
        .collect::<Option<_>>()
        .ok_or_else(|| call.refuse("an axis is named twice"))?;
    if old.next().is_some() {
        return Err(call.refuse("an axis is named twice"));
    }
    Ok(renamed(x, &dims))
}

pub(super) fn concat<B: Kernels>(op: Concat, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let parts = (0..call.inputs.len()).map(|i| call.value(i)).collect::<Result<Vec<_>, _>>()?;
    let shapes: Vec<Vec<usize>> = parts.iter().map(Value::dims).collect();
    let first = shapes.first().ok_or_else(|| call.refuse("it has no inputs"))?;
    let axis = call.axis(op.axis, first.len())?;
    let fits = |dims: &[usize]| dims.len() == first.len() && (0..dims.len()).all(|i| i == axis || dims[i] == first[i]);
    if let Some(other) = shapes.iter().find(|dims| !fits(dims)) {
        return Err(call.refuse(format!("shapes {first:?} and {other:?} do not join along axis {axis}")));
    }
    if parts.iter().any(|part| part.dtype() != parts[0].dtype()) {
        return Err(call.refuse("its inputs are of different types"));
    }
    let y = Value::concat(parts, axis).ok_or_else(|| call.refuse("its inputs are of different types"))?;
    Ok(Done::nary(y, move |dy| {
        let starts = shapes.iter().scan(0, |start, dims| Some(std::mem::replace(start, *start + dims[axis])));
        let spans =
            |start: usize, dims: &[usize]| (0..dims.len()).map(|i| (if i == axis { start } else { 0 }, dims[i])).collect::<Vec<_>>();
        starts.zip(&shapes).map(|(start, dims)| Some(dy.clone().window(&spans(start, dims)))).collect()
    }))
}

pub(super) fn split<B: Kernels>(op: &Split, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let sizes = match &op.sizes {
        Some(sizes) => Some(sizes.clone()),
        None => call.ints(1)?,
    };
    let x = call.value(0)?;
    let dims = x.dims();
    let axis = call.axis(op.axis, dims.len())?;
    let parts = op.num_outputs.unwrap_or(call.node.outputs.len()).max(1);
    let sizes: Vec<usize> = match sizes {
        Some(sizes) => {
            sizes.iter().map(|n| usize::try_from(*n)).collect::<Result<_, _>>().map_err(|_| call.refuse("a size is negative"))?
        }
        None => {
            let even = dims[axis].div_ceil(parts);
            (0..parts).map(|i| even.min(dims[axis].saturating_sub(i * even))).collect()
        }
    };
    if sizes.iter().sum::<usize>() != dims[axis] {
        return Err(call.refuse(format!("parts of {sizes:?} do not make up an axis of {}", dims[axis])));
    }
    let starts: Vec<usize> = sizes.iter().scan(0, |start, n| Some(std::mem::replace(start, *start + n))).collect();
    let spans = |k: usize| (0..dims.len()).map(|i| if i == axis { (starts[k], sizes[k]) } else { (0, dims[i]) }).collect::<Vec<_>>();
    let outputs: Vec<Value<B>> = (0..sizes.len()).map(|k| x.clone().window(&spans(k))).collect();
    let pullback = move |dy: Vec<Option<Float<B>>>| {
        let Some(like) = dy.iter().flatten().next().cloned() else { return vec![] };
        let part = |(k, dy): (usize, Option<Float<B>>)| {
            let mut dims = dims.clone();
            dims[axis] = sizes[k];
            dy.unwrap_or_else(|| Float::full(0.0, &dims, &like))
        };
        vec![Some(Float::concat(dy.into_iter().enumerate().map(part).collect(), axis))]
    };
    Ok(Done { outputs, pullback: Some(Box::new(pullback)), running: vec![] })
}

pub(super) fn slice<B: Kernels>(op: &Slice, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let missing = "its starts or ends are missing";
    let (starts, ends, axes, steps) = match &op.bounds {
        Some(bounds) => (bounds.starts.clone(), bounds.ends.clone(), bounds.axes.clone(), None),
        None => {
            let starts = call.ints(1)?.ok_or_else(|| call.refuse(missing))?;
            let ends = call.ints(2)?.ok_or_else(|| call.refuse(missing))?;
            (starts, ends, call.ints(3)?, call.ints(4)?)
        }
    };
    let mut x = call.value(0)?;
    let dims = x.dims();
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let axes = call.axes(&axes, dims.len())?;
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() || steps.contains(&0) {
        return Err(call.refuse("starts, ends, axes and steps do not fit each other"));
    }
    // Plain spans first, then the axes whose positions are not neighbours.
    let mut spans: Vec<(usize, usize)> = dims.iter().map(|n| (0, *n)).collect();
    let mut picked = vec![];
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let places = places(*start, *end, *step, dims[*axis] as i64);
        if *step == 1 {
            spans[*axis] = (places.first().map_or(0, |p| *p as usize), places.len());
        } else {
            picked.push((*axis, places));
        }
    }
    x = x.window(&spans);
    let mut undo = vec![];
    for (axis, places) in picked {
        let before = x.dims();
        let count = places.len();
        let places = index::<B>(places, &[count], call.device);
        x = x.select(axis, places.clone());
        undo.push((before, axis, places));
    }
    Ok(Done::nary(x, move |dy| {
        let dy = undo.into_iter().rev().fold(dy, |dy, (before, axis, places)| dy.unselect(&before, axis, places));
        let widths: Vec<(usize, usize)> = spans.iter().zip(&dims).map(|((start, n), whole)| (*start, whole - start - n)).collect();
        vec![Some(dy.pad(&widths, 0.0))]
    }))
}

/// Positions from `start` up to but without `end` of an axis of `n`, clamped as ONNX says.
fn places(start: i64, end: i64, step: i64, n: i64) -> Vec<i64> {
    let from_front = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    if step > 0 {
        let (start, end) = (from_front(start).clamp(0, n), from_front(end).clamp(0, n));
        (start..end).step_by(usize::try_from(step).unwrap_or(usize::MAX)).collect()
    } else {
        let (start, end) = (from_front(start).clamp(-1, n - 1), from_front(end).clamp(-1, n - 1));
        (end + 1..=start).rev().step_by(usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX)).collect()
    }
}

/// Positions counted from the front.
fn positions<B: Kernels>(call: &Call<'_, B>, index: &[i64], n: usize) -> Result<Vec<i64>, ExecError> {
    let n = n as i64;
    let place = |i: &i64| match *i {
        i if (0..n).contains(&i) => Ok(i),
        i if (-n..0).contains(&i) => Ok(i + n),
        i => Err(call.refuse(format!("index {i} is outside an axis of {n}"))),
    };
    index.iter().map(place).collect()
}

pub(super) fn gather<B: Kernels>(op: Gather, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let index_dims = call.inputs.get(1).and_then(Option::as_ref).map(Value::dims).unwrap_or_default();
    let places = call.ints(1)?.ok_or_else(|| call.refuse("its indices are missing"))?;
    let x = call.value(0)?;
    let dims = x.dims();
    let axis = call.axis(op.axis, dims.len())?;
    let places = positions(&call, &places, dims[axis])?;
    let count = places.len();
    let places = index::<B>(places, &[count], call.device);
    let y = x.select(axis, places.clone());
    let flat = y.dims();
    let shape: Vec<usize> = dims[..axis].iter().chain(&index_dims).chain(&dims[axis + 1..]).copied().collect();
    Ok(Done::nary(y.reshape(&shape), move |dy| vec![Some(dy.reshape(&flat).unselect(&dims, axis, places))]))
}

pub(super) fn scatter_elements<B: Kernels>(op: &ScatterElements, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let index_dims = call.inputs.get(1).and_then(Option::as_ref).map(Value::dims).unwrap_or_default();
    let places = call.ints(1)?.ok_or_else(|| call.refuse("its indices are missing"))?;
    let (data, updates) = (call.value(0)?, call.value(2)?);
    let dims = data.dims();
    let axis = call.axis(op.axis, dims.len())?;
    let inside = index_dims.len() == dims.len() && (0..dims.len()).all(|i| i == axis || index_dims[i] <= dims[i]);
    if !inside || updates.dims() != index_dims {
        return Err(call.refuse(format!("indices of shape {index_dims:?} and updates of {:?} do not fit {dims:?}", updates.dims())));
    }
    let places = positions(&call, &places, dims[axis])?;
    let update = match op.reduction.as_str() {
        "none" | "" => IndexingUpdateOp::Assign,
        "add" => IndexingUpdateOp::Add,
        "mul" => IndexingUpdateOp::Mul,
        "max" => IndexingUpdateOp::Max,
        "min" => IndexingUpdateOp::Min,
        other => return Err(call.refuse(format!("reduction `{other}` is unknown"))),
    };
    // Along a flat tensor, so that the other axes of the indices may be shorter than those of the data.
    let strides: Vec<usize> = (0..dims.len()).map(|i| dims[i + 1..].iter().product()).collect();
    let flat: Vec<i64> = places
        .iter()
        .enumerate()
        .map(|(k, place)| {
            let mut rest = k;
            let mut at = 0;
            for i in (0..dims.len()).rev() {
                let here = rest % index_dims[i];
                rest /= index_dims[i];
                at += strides[i] * if i == axis { *place as usize } else { here };
            }
            at as i64
        })
        .collect();
    let (size, count) = (dims.iter().product(), flat.len());
    let flat = index::<B>(flat, &[count], call.device);
    match (data.reshape(&[size]), updates.reshape(&[count])) {
        (Value::Float(data), Value::Float(updates)) => {
            let sum = matches!(update, IndexingUpdateOp::Add);
            let assign = matches!(update, IndexingUpdateOp::Assign);
            let y = Float::<B>(B::float_scatter(0, data.0, flat.clone(), updates.0, update)).reshape(&dims);
            if !(sum || assign) {
                return Ok(Done::constant(y));
            }
            Ok(Done::nary(y, move |dy| {
                let dy = dy.reshape(&[size]);
                let updates = dy.clone().select(0, flat.clone()).reshape(&index_dims);
                let kept = if sum {
                    dy
                } else {
                    let zeros = Float::full(0.0, &[count], &dy);
                    Float(B::float_scatter(0, dy.0, flat, zeros.0, IndexingUpdateOp::Assign))
                };
                vec![Some(kept.reshape(&dims)), None, Some(updates)]
            }))
        }
        (Value::Int(data), Value::Int(updates)) if data.dtype() == updates.dtype() => {
            Ok(Done::constant(Value::Int(B::int_scatter(0, data, flat, updates, update)).reshape(&dims)))
        }
        (data, updates) => {
            Err(call.refuse(format!("data of {} and updates of {} are not run", data.dtype().name(), updates.dtype().name())))
        }
    }
}

pub(super) fn pad<B: Kernels>(op: &Pad, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let widths = match &op.pads {
        Some(pads) => pads.clone(),
        None => call.ints(1)?.ok_or_else(|| call.refuse("its pads are missing"))?,
    };
    let fill = match op.value {
        Some(value) => f64::from(value),
        None if call.has(2) => {
            let value = call.value(2)?.cast(DType::F64).into_tensor();
            value.values::<f64>().and_then(|v| v.first().copied()).unwrap_or(0.0)
        }
        None => 0.0,
    };
    let axes = call.ints(3)?;
    let x = call.value(0)?;
    let dims = x.dims();
    let axes = match axes {
        Some(axes) => call.axes(&axes, dims.len())?,
        None => (0..dims.len()).collect(),
    };
    if widths.len() != 2 * axes.len() {
        return Err(call.refuse(format!("{} pads are given for {} axes", widths.len(), axes.len())));
    }
    let mut pads = vec![(0i64, 0i64); dims.len()];
    for (k, axis) in axes.iter().enumerate() {
        pads[*axis] = (widths[k], widths[axes.len() + k]);
    }
    if op.mode == PadMode::Constant {
        return constant_pad(&call, x, &pads, fill);
    }
    // Every other mode picks cells of the input, axis by axis.
    let mut x = x;
    let mut undo = vec![];
    for (axis, (before, after)) in pads.into_iter().enumerate().filter(|(_, pad)| *pad != (0, 0)) {
        let from = x.dims();
        let n = from[axis] as i64;
        let refuse = || call.refuse(format!("an axis of {n} cannot be padded by {before} and {after}"));
        let length = n.checked_add(before).and_then(|n| usize::try_from(n.checked_add(after)?).ok());
        let length = length.filter(|_| n > 0 && before > i64::MIN).ok_or_else(refuse)?;
        call.check_size(&from.iter().enumerate().map(|(i, n)| if i == axis { length } else { *n }).collect::<Vec<_>>())?;
        let places: Option<Vec<i64>> = (-before..n + after).map(|i| mirrored(op.mode, i, n)).collect();
        let places = places.ok_or_else(refuse)?;
        let count = places.len();
        let places = index::<B>(places, &[count], call.device);
        x = x.select(axis, places.clone());
        undo.push((from, axis, places));
    }
    Ok(Done::nary(x, move |dy| vec![Some(undo.into_iter().rev().fold(dy, |dy, (from, axis, places)| dy.unselect(&from, axis, places)))]))
}

/// The cell of an axis of `n` that shows at position `i`, which may lie outside.
fn mirrored(mode: PadMode, i: i64, n: i64) -> Option<i64> {
    match mode {
        PadMode::Constant => None,
        PadMode::Edge => Some(i.clamp(0, n - 1)),
        PadMode::Wrap => i.checked_rem_euclid(n),
        PadMode::Reflect if n == 1 => Some(0),
        PadMode::Reflect => {
            let turn = i.checked_rem_euclid(2 * (n - 1))?;
            Some(turn.min(2 * (n - 1) - turn))
        }
    }
}

fn constant_pad<B: Kernels>(call: &Call<'_, B>, x: Value<B>, pads: &[(i64, i64)], fill: f64) -> Result<Done<B>, ExecError> {
    let dims = x.dims();
    let width = |pad: i64| pad.max(0) as usize;
    let cut = |pad: i64| (-pad.max(i64::MIN + 1)).max(0) as usize;
    let mut spans = vec![];
    for (n, (before, after)) in dims.iter().zip(pads) {
        let left = n.checked_sub(cut(*before)).and_then(|n| n.checked_sub(cut(*after)));
        spans.push((
            cut(*before),
            left.ok_or_else(|| call.refuse(format!("pads {before} and {after} take away more than an axis of {n}")))?,
        ));
    }
    let widths: Vec<(usize, usize)> = pads.iter().map(|(before, after)| (width(*before), width(*after))).collect();
    let padded = spans.iter().zip(&widths).map(|((_, n), (before, after))| n.saturating_add(*before).saturating_add(*after));
    call.check_size(&padded.collect::<Vec<_>>())?;
    match x.window(&spans) {
        Value::Float(x) => Ok(Done::unary(x.pad(&widths, fill as f32), move |dy| {
            let inner: Vec<(usize, usize)> = spans.iter().zip(&widths).map(|((_, n), (before, _))| (*before, *n)).collect();
            let cut: Vec<(usize, usize)> = spans.iter().zip(&dims).map(|((start, n), whole)| (*start, whole - start - n)).collect();
            dy.window(&inner).pad(&cut, 0.0)
        })),
        Value::Int(x) => Ok(Done::constant(Value::Int(B::int_pad(x, &widths, burn_backend::ops::PadMode::Constant(fill as f32))))),
        Value::Bool(_) => Err(call.refuse("it is of booleans (hint: cast them first)")),
    }
}

pub(super) fn expand<B: Kernels>(mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let target = call.ints(1)?.ok_or_else(|| call.refuse("its shape is missing"))?;
    let x = call.value(0)?;
    let from = x.dims();
    let target: Option<Vec<usize>> = target.iter().map(|n| usize::try_from(*n).ok()).collect();
    let dims = target.and_then(|target| broadcast(&from, &target));
    let dims = dims.ok_or_else(|| call.refuse(format!("{from:?} does not broadcast to its shape")))?;
    call.check_size(&dims)?;
    Ok(Done::nary(x.expand(&dims), move |dy| vec![Some(dy.sum_to(&from))]))
}

pub(super) fn tile<B: Kernels>(mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let repeats = call.ints(1)?.ok_or_else(|| call.refuse("its repeats are missing"))?;
    let x = call.value(0)?;
    let dims = x.dims();
    let repeats: Vec<usize> = repeats.iter().filter_map(|n| usize::try_from(*n).ok()).collect();
    if repeats.len() != dims.len() || repeats.contains(&0) {
        return Err(call.refuse(format!("repeats {repeats:?} do not fit an input of shape {dims:?}")));
    }
    call.check_size(&dims.iter().zip(&repeats).map(|(n, times)| n.saturating_mul(*times)).collect::<Vec<_>>())?;
    let y = repeats.iter().enumerate().fold(x, |x, (axis, times)| if *times == 1 { x } else { x.repeat(axis, *times) });
    Ok(Done::nary(y, move |dy| {
        // [r₀, d₀, r₁, d₁, …] summed along every r
        let split: Vec<usize> = repeats.iter().zip(&dims).flat_map(|(r, d)| [*r, *d]).collect();
        let along: Vec<usize> = (0..dims.len()).map(|i| 2 * i).collect();
        vec![Some(dy.reshape(&split).sum(&along).reshape(&dims))]
    }))
}

pub(super) fn shape<B: Kernels>(op: Shape, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let dims = call.value(0)?.dims();
    let rank = dims.len() as i64;
    let place = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
    let (start, end) = (place(op.start), place(op.end.unwrap_or(rank)));
    let ints: Vec<i64> = dims[start..end.max(start)].iter().map(|n| *n as i64).collect();
    let count = ints.len();
    Ok(Done::constant(Value::ints(ints, &[count], call.device)))
}

pub(super) fn constant_of_shape<B: Kernels>(op: &ConstantOfShape, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let target = call.ints(0)?.ok_or_else(|| call.refuse("its shape is missing"))?;
    let dims: Option<Vec<usize>> = target.iter().map(|n| usize::try_from(*n).ok()).collect();
    let dims = dims.ok_or_else(|| call.refuse(format!("{target:?} is not a shape")))?;
    call.check_size(&dims)?;
    let one = op.value.clone().unwrap_or_else(|| Tensor::scalar(0f32));
    let one = one.reshaped(vec![]).ok().and_then(|one| Value::<B>::from_tensor(&one, call.device));
    let one = one.ok_or_else(|| call.refuse("its value is not one element of a type that the built-in executor runs"))?;
    Ok(Done::constant(one.expand(&dims)))
}

pub(super) fn range<B: Kernels>(mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let dtype = call.inputs.first().and_then(Option::as_ref).map(Value::dtype);
    let mut numbers = |i: usize| -> Result<f64, ExecError> {
        let one = call.value(i)?.cast(DType::F64).into_tensor();
        one.values::<f64>().and_then(|v| v.first().copied()).ok_or_else(|| call.refuse(format!("input {i} is empty")))
    };
    let (start, limit, delta) = (numbers(0)?, numbers(1)?, numbers(2)?);
    let count = ((limit - start) / delta).ceil().max(0.0);
    if count.is_nan() {
        return Err(call.refuse(format!("from {start} to {limit} by {delta} is no range")));
    }
    call.check_size(&[count as usize])?;
    let dtype = dtype.and_then(device_range_type).ok_or_else(|| call.refuse("it is not of numbers"))?;
    let values: Vec<f64> = (0..count as usize).map(|i| start + i as f64 * delta).collect();
    let tensor = Tensor::new([values.len()], values);
    let y = Value::<B>::from_tensor(&tensor, call.device).ok_or_else(|| call.refuse("it is not of numbers"))?;
    Ok(Done::constant(y.cast(dtype)))
}

fn device_range_type(dtype: penjing_graph::DataType) -> Option<DType> {
    super::device_type(dtype).filter(|dtype| !dtype.is_bool())
}

pub(super) fn depth_to_space<B: Kernels>(op: DepthToSpace, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let x = call.value(0)?;
    let dims = x.dims();
    let block = op.block_size;
    let [n, c, h, w] = dims[..] else {
        return Err(call.refuse(format!("an input of shape {dims:?} is not [N, C, H, W]")));
    };
    if block == 0 || !block.checked_mul(block).is_some_and(|cells| c.is_multiple_of(cells)) {
        return Err(call.refuse(format!("{c} channels do not make blocks of {block}×{block}")));
    }
    let depth = c / (block * block);
    let (split, perm): ([usize; 6], [usize; 6]) =
        if op.crd { ([n, depth, block, block, h, w], [0, 1, 4, 2, 5, 3]) } else { ([n, block, block, depth, h, w], [0, 3, 4, 1, 5, 2]) };
    let inverse: Vec<usize> = (0..6).map(|axis| perm.iter().position(|p| *p == axis).unwrap_or(axis)).collect();
    let moved: Vec<usize> = perm.iter().map(|axis| split[*axis]).collect();
    let y = x.reshape(&split).permute(&perm).reshape(&[n, depth, h * block, w * block]);
    Ok(Done::nary(y, move |dy| vec![Some(dy.reshape(&moved).permute(&inverse).reshape(&dims))]))
}
