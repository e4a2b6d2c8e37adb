//! Adding cells around a tensor: the pullback cuts them off again.

use burn_backend::DType;
use penjing_graph::ops::{Pad, PadMode};

use super::value::index;
use super::{Call, Done, Kernels, Value};
use crate::ExecError;

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
        Value::Bool(_) | Value::Codes(..) => Err(call.refuse("it is of booleans or codes (hint: cast them first)")),
    }
}
