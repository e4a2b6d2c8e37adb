//! The same elements in the same order under other dimensions: the pullback gives the old dimensions back.

use penjing_graph::ops::{Flatten, Reshape, Squeeze, Unsqueeze};

use super::{Call, Done, Kernels, Value};
use crate::ExecError;

/// The same elements under other dimensions.
fn renamed<B: Kernels>(x: Value<B>, dims: &[usize]) -> Done<B> {
    let from = x.dims();
    Done::nary(x.reshape(dims), move |dy| vec![Some(dy.reshape(&from))])
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
