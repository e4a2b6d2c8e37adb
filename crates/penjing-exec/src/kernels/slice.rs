//! Cutting out a part of some axes: the pullback pads with zeros.

use penjing_graph::ops::Slice;

use super::device::Span;
use super::value::index;
use super::{Call, Done, Kernels};
use crate::ExecError;

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
    // Axes that are read forward first, then those whose order turns round.
    let mut spans: Vec<Span> = dims.iter().map(|n| Span { start: 0, count: *n, step: 1 }).collect();
    let mut turned = vec![];
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let places = places(*start, *end, *step, dims[*axis] as i64);
        if *step > 0 {
            let first = places.first().map_or(0, |place| *place as usize);
            spans[*axis] =
                Span { start: first, count: places.len(), step: usize::try_from(*step).unwrap_or(usize::MAX).min(dims[*axis].max(1)) };
        } else {
            turned.push((*axis, places));
        }
    }
    x = x.cut(&spans);
    let mut undo = vec![];
    for (axis, places) in turned {
        let before = x.dims();
        let count = places.len();
        let places = index::<B>(places, &[count], call.device);
        x = x.select(axis, places.clone());
        undo.push((before, axis, places));
    }
    Ok(Done::nary(x, move |dy| {
        let dy = undo.into_iter().rev().fold(dy, |dy, (before, axis, places)| dy.unselect(&before, axis, places));
        vec![Some(dy.place(&dims, &spans, 0.0))]
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
