//! Reading and writing at positions that are data.

use burn_backend::TensorMetadata;
use burn_backend::tensor::IndexingUpdateOp;
use penjing_graph::ops::{Gather, ScatterElements};

use super::value::index;
use super::{Call, Done, Float, Kernels, Value};
use crate::ExecError;

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
