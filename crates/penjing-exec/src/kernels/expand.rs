//! Repeating elements: the pullback sums over the copies.

use super::{Call, Done, Kernels, broadcast};
use crate::ExecError;

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
