//! Tensors that are made of shapes and numbers alone, which have no gradient.

use burn_backend::DType;
use penjing_graph::Tensor;
use penjing_graph::ops::{ConstantOfShape, Shape};

use super::{Call, Done, Kernels, Value};
use crate::ExecError;

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
