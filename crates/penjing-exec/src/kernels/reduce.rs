//! Reductions along axes, and running sums.

use burn_backend::tensor::IntTensor;
use burn_backend::{IntDType, TensorMetadata};
use penjing_graph::ops::{ArgReduce, CumSum, Reduce, ReduceKind};

use super::{Call, Done, Float, Kernels, Value};
use crate::ExecError;

pub(super) fn reduce<B: Kernels>(op: &Reduce, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let given = match &op.axes {
        Some(axes) => Some(axes.clone()),
        None => call.ints(1)?,
    };
    let x = call.value(0)?;
    let dims = x.dims();
    let axes = match given.filter(|axes| !axes.is_empty()) {
        Some(axes) => call.axes(&axes, dims.len())?,
        None if op.noop_with_empty_axes => vec![],
        None => (0..dims.len()).collect(),
    };
    let kept: Vec<usize> = dims.iter().enumerate().map(|(i, n)| if axes.contains(&i) { 1 } else { *n }).collect();
    let out: Vec<usize> = if op.keepdims { kept.clone() } else { (0..dims.len()).filter(|i| !axes.contains(i)).map(|i| dims[i]).collect() };
    match x {
        Value::Float(x) => Ok(float_reduce(op.kind, x, axes, &kept, &out)),
        Value::Int(x) => match int_reduce::<B>(op.kind, x, &axes) {
            Some(y) => Ok(Done::constant(Value::Int(y).reshape(&out))),
            None => Err(call.refuse("it is of integers, for which only Sum, Mean, Max, Min, Prod, L1 and SumSquare are run")),
        },
        Value::Bool(_) | Value::Codes(..) => Err(call.refuse("it is of booleans or codes (hint: cast them first)")),
    }
}

fn float_reduce<B: Kernels>(kind: ReduceKind, x: Float<B>, axes: Vec<usize>, kept: &[usize], out: &[usize]) -> Done<B> {
    let (dims, kept) = (x.dims(), kept.to_vec());
    let count: usize = axes.iter().map(|axis| dims[*axis]).product();
    // Gradients come in the shape without the reduced axes and are wanted with them.
    let done = |y: Float<B>, pullback: Box<dyn FnOnce(Float<B>) -> Float<B> + Send>| {
        Done::unary(y.reshape(out), move |dy| pullback(dy.reshape(&kept)).expand(&dims))
    };
    match kind {
        ReduceKind::Sum => done(x.sum(&axes), Box::new(|dy| dy)),
        ReduceKind::Mean => done(x.mean(&axes), Box::new(move |dy| dy / count as f32)),
        ReduceKind::Max => {
            let y = axes.iter().fold(x.clone(), |y, axis| y.max_along(*axis));
            done(y.clone(), Box::new(move |dy| share_among_equals(x, y, dy, &axes)))
        }
        ReduceKind::Min => {
            let y = axes.iter().fold(x.clone(), |y, axis| y.min_along(*axis));
            done(y.clone(), Box::new(move |dy| share_among_equals(x, y, dy, &axes)))
        }
        ReduceKind::Prod => {
            let y = axes.iter().fold(x.clone(), |y, axis| y.product_along(*axis));
            done(y, Box::new(move |dy| dy * product_of_others(x, &axes)))
        }
        ReduceKind::L1 => done(x.clone().abs().sum(&axes), Box::new(move |dy| dy * x.sign())),
        ReduceKind::L2 => {
            let y = x.clone().square().sum(&axes).sqrt();
            // At 0 the norm has no derivative; 0 is a subgradient.
            done(y.clone(), Box::new(move |dy| dy * x / y.clamp(f32::MIN_POSITIVE, f32::INFINITY)))
        }
        ReduceKind::LogSum => {
            let sum = x.sum(&axes);
            done(sum.clone().ln(), Box::new(move |dy| dy / sum))
        }
        ReduceKind::LogSumExp => {
            // Shifted by the largest, so that nothing overflows; a shift of ±∞ would make NaN of it.
            let peak = axes.iter().fold(x.clone(), |y, axis| y.max_along(*axis)).clamp(f32::MIN, f32::MAX);
            let y = (x.clone() - peak.clone()).exp().sum(&axes).ln() + peak;
            done(y.clone(), Box::new(move |dy| dy * (x - y).exp()))
        }
        ReduceKind::SumSquare => done(x.clone().square().sum(&axes), Box::new(move |dy| dy * x * 2.0)),
    }
}

/// Gradient of the largest (or smallest) elements `y` of `x`: equals share it evenly.
pub(super) fn share_among_equals<B: Kernels>(x: Float<B>, y: Float<B>, dy: Float<B>, axes: &[usize]) -> Float<B> {
    let kind = x.dtype();
    let y = y.expand(&x.dims());
    let chosen = Float::<B>::indicator(x.equals(y), kind);
    let equals = chosen.clone().sum(axes);
    chosen * (dy / equals)
}

/// ∏ of the elements along `axes` without the element itself, exact where elements are zero.
fn product_of_others<B: Kernels>(x: Float<B>, axes: &[usize]) -> Float<B> {
    let dims = x.dims();
    if x.len() == 0 {
        return x;
    }
    let rank = dims.len();
    let perm: Vec<usize> = (0..rank).filter(|i| !axes.contains(i)).chain((0..rank).filter(|i| axes.contains(i))).collect();
    let inverse: Vec<usize> = (0..rank).map(|i| perm.iter().position(|p| *p == i).unwrap_or(i)).collect();
    let permuted: Vec<usize> = perm.iter().map(|i| dims[*i]).collect();
    let count: usize = axes.iter().map(|axis| dims[*axis]).product();
    let rows = x.len() / count.max(1);
    let x = x.permute(&perm).reshape(&[rows, count]);
    // Products of all that stand before, and with the row turned round, of all that stand after.
    let before = |x: Float<B>| Float::<B>(B::float_cumprod(x.window(&[(0, rows), (0, count - 1)]).pad(&[(0, 0), (1, 0)], 1.0).0, 1));
    (before(x.clone()) * before(x.flip(1)).flip(1)).reshape(&permuted).permute(&inverse)
}

fn int_reduce<B: Kernels>(kind: ReduceKind, x: IntTensor<B>, axes: &[usize]) -> Option<IntTensor<B>> {
    let fold = |x: IntTensor<B>, f: fn(IntTensor<B>, usize) -> IntTensor<B>| axes.iter().fold(x, |x, axis| f(x, *axis));
    Some(match kind {
        ReduceKind::Sum => fold(x, B::int_sum_dim),
        ReduceKind::Max => fold(x, B::int_max_dim),
        ReduceKind::Min => fold(x, B::int_min_dim),
        ReduceKind::Prod => fold(x, B::int_prod_dim),
        ReduceKind::L1 => fold(B::int_abs(x), B::int_sum_dim),
        ReduceKind::SumSquare => fold(B::int_mul(x.clone(), x), B::int_sum_dim),
        ReduceKind::Mean => {
            let dims = x.shape().to_vec();
            let count: usize = axes.iter().map(|axis| dims[*axis]).product();
            B::int_div_scalar(fold(x, B::int_sum_dim), (count as i64).into())
        }
        ReduceKind::L2 | ReduceKind::LogSum | ReduceKind::LogSumExp => return None,
    })
}

pub(super) fn arg_reduce<B: Kernels>(op: ArgReduce, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let x = call.value(0)?;
    let mut dims = x.dims();
    let axis = call.axis(op.axis, dims.len())?;
    let last = dims[axis] as i64 - 1;
    let order: Vec<i64> = if op.select_last_index { (0..=last).rev().collect() } else { (0..=last).collect() };
    let x = x.select(axis, super::value::index::<B>(order, &[last as usize + 1], call.device));
    let found = match x {
        Value::Float(x) if op.max => B::float_argmax(x.0, axis, IntDType::I64),
        Value::Float(x) => B::float_argmin(x.0, axis, IntDType::I64),
        Value::Int(x) if op.max => B::int_cast(B::int_argmax(x, axis), IntDType::I64),
        Value::Int(x) => B::int_cast(B::int_argmin(x, axis), IntDType::I64),
        Value::Bool(_) | Value::Codes(..) => return Err(call.refuse("it is of booleans or codes (hint: cast them first)")),
    };
    let found = if op.select_last_index { B::int_add_scalar(B::int_neg(found), last.into()) } else { found };
    if op.keepdims {
        dims[axis] = 1;
    } else {
        dims.remove(axis);
    }
    Ok(Done::constant(Value::Int(found).reshape(&dims)))
}

pub(super) fn cum_sum<B: Kernels>(op: CumSum, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let axis = call.ints(1)?.and_then(|axis| axis.first().copied()).ok_or_else(|| call.refuse("its axis is missing"))?;
    let x = call.value(0)?;
    let dims = x.dims();
    let axis = call.axis(axis, dims.len())?;
    match x {
        Value::Float(x) => {
            let y = running_sum(x, axis, op.exclusive, op.reverse);
            // Each element counts in all sums behind it: the same sum, run the other way.
            Ok(Done::unary(y, move |dy| running_sum(dy, axis, op.exclusive, !op.reverse)))
        }
        Value::Int(x) => {
            let turned = if op.reverse { B::int_flip(x.clone(), &[axis]) } else { x.clone() };
            let sum = B::int_cumsum(turned, axis);
            let sum = if op.reverse { B::int_flip(sum, &[axis]) } else { sum };
            Ok(Done::constant(Value::Int(if op.exclusive { B::int_sub(sum, x) } else { sum })))
        }
        Value::Bool(_) | Value::Codes(..) => Err(call.refuse("it is of booleans or codes (hint: cast them first)")),
    }
}

fn running_sum<B: Kernels>(x: Float<B>, axis: usize, exclusive: bool, reverse: bool) -> Float<B> {
    if x.len() == 0 {
        return x;
    }
    let x = if reverse { x.flip(axis) } else { x };
    let x = if exclusive {
        let dims = x.dims();
        let spans: Vec<(usize, usize)> = dims.iter().enumerate().map(|(i, n)| (0, n - usize::from(i == axis))).collect();
        let widths: Vec<(usize, usize)> = (0..dims.len()).map(|i| (usize::from(i == axis), 0)).collect();
        x.window(&spans).pad(&widths, 0.0)
    } else {
        x
    };
    let sum = Float(B::float_cumsum(x.0, axis));
    if reverse { sum.flip(axis) } else { sum }
}
