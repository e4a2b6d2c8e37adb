//! Joining tensors along an axis and taking them apart again: each is the other's pullback.

use penjing_graph::ops::{Concat, Split};

use super::{Call, Done, Float, Kernels, Value};
use crate::ExecError;

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
