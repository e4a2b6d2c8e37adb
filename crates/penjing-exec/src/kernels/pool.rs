//! Pooling over spatial axes.

use burn_backend::DType;
use penjing_graph::DataType;
use penjing_graph::ops::{AveragePool, GlobalPool, MaxPool};

use super::window::Sliding;
use super::{Call, Done, Float, Kernels, Value, device_type};
use crate::ExecError;

pub(super) fn max_pool<B: Kernels>(op: &MaxPool, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let (x, integers) = match call.value(0)? {
        // Eight bits are exact in single precision.
        x @ Value::Int(_) if matches!(x.dtype(), DataType::Uint8 | DataType::Int8) => (x.clone().cast(DType::F32), device_type(x.dtype())),
        x => (x, None),
    };
    call.inputs[0] = Some(x);
    let x = call.float(0)?;
    let dims = x.dims();
    let sliding = pooling_window(&call, &op.window, &dims, op.ceil_mode)?;
    let (y, winner) = B::max_pool(x.0, &sliding);
    let indices = call.node.output(1).map(|_| {
        let indices = positions(&Value::<B>::Int(winner.clone()), &sliding, &dims, op.storage_order == 1);
        Value::ints(indices, &Float::<B>(y.clone()).dims(), call.device)
    });
    let mut done = match integers {
        Some(dtype) => Done::constant(Value::from(Float::<B>(y)).cast(dtype)),
        None => Done::unary(Float(y), move |dy| Float(B::max_pool_grad(&dims, winner, dy.0, &sliding))),
    };
    done.outputs.extend(indices);
    Ok(done)
}

/// The place of each winner in the flattened input; with `columns` each plane is counted column by column.
fn positions<B: Kernels>(winner: &Value<B>, sliding: &Sliding, dims: &[usize], columns: bool) -> Vec<i64> {
    let stands = winner.dims().split_off(2);
    let plane: usize = dims[2..].iter().product();
    let per_plane: usize = stands.iter().product();
    let cells: Vec<Vec<usize>> = sliding.cells().collect();
    let winner = winner.clone().into_tensor();
    let winner = winner.to_i64().unwrap_or_default();
    winner
        .iter()
        .enumerate()
        .map(|(flat, k)| {
            let mut rest = flat % per_plane;
            let mut place: Vec<usize> = vec![0; stands.len()];
            for i in (0..stands.len()).rev() {
                let stand = rest % stands[i];
                rest /= stands[i];
                place[i] = (stand * sliding.strides[i] + cells[*k as usize][i] * sliding.dilations[i]).saturating_sub(sliding.pads[i].0);
            }
            let axes: Vec<usize> = if columns { (0..stands.len()).rev().collect() } else { (0..stands.len()).collect() };
            let within = axes.iter().fold(0, |sum, i| sum * dims[2 + i] + place[*i]);
            ((flat / per_plane) * plane + within) as i64
        })
        .collect()
}

/// A depthwise convolution with ones, divided by the number of cells that count at each stand.
pub(super) fn average_pool<B: Kernels>(op: &AveragePool, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let x = call.float(0)?;
    let dims = x.dims();
    let exact = pooling_window(&call, &op.window, &dims, false)?;
    let sliding = pooling_window(&call, &op.window, &dims, op.ceil_mode)?;
    let stands = sliding.output(&dims[2..]).unwrap_or_default();
    let counts: Vec<Vec<usize>> =
        (0..stands.len()).map(|i| counted_cells(&sliding, i, exact.pads[i], dims[2 + i], stands[i], op.count_include_pad)).collect();
    let shares: Vec<f32> = counts
        .iter()
        .fold(vec![1.0], |shares, axis| shares.iter().flat_map(|share| axis.iter().map(move |n| share / (*n).max(1) as f32)).collect());
    let shares = Float::from_slice(&shares, &super::float::with_rank(&stands, dims.len()), &x);
    let channels = dims[1];
    let kernel: Vec<usize> = [channels, 1].into_iter().chain(sliding.kernel.iter().copied()).collect();
    let ones = Float::full(1.0, &kernel, &x);
    let y = Float(B::conv(x.0, ones.0.clone(), None, &sliding, channels, None)) * shares.clone();
    Ok(Done::unary(y, move |dy| Float(B::conv_input_grad(&dims, ones.0, (dy * shares).0, &sliding, channels))))
}

/// Cells along one axis that count at each stand: those of the `n` of the input, with `pads_count` also the declared padding.
fn counted_cells(sliding: &Sliding, axis: usize, (before, after): (usize, usize), n: usize, stands: usize, pads_count: bool) -> Vec<usize> {
    let counted = if pads_count { 0..n + before + after } else { before..before + n };
    let place = |stand: usize, k: usize| stand * sliding.strides[axis] + k * sliding.dilations[axis];
    (0..stands).map(|stand| (0..sliding.kernel[axis]).filter(|k| counted.contains(&place(stand, *k))).count()).collect()
}

pub(super) fn global_pool<B: Kernels>(op: GlobalPool, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let x = call.float(0)?;
    let dims = x.dims();
    if dims.len() < 3 {
        return Err(call.refuse(format!("an input of shape {dims:?} has no spatial axes")));
    }
    Ok(match op {
        GlobalPool::Average => {
            let y = Float(B::spatial_mean(x.0));
            Done::unary(y, move |dy| Float(B::spatial_mean_grad(&dims, dy.0)))
        }
        GlobalPool::Max => {
            let axes: Vec<usize> = (2..dims.len()).collect();
            let y = axes.iter().fold(x.clone(), |y, axis| y.max_along(*axis));
            Done::unary(y.clone(), move |dy| super::reduce::share_among_equals(x, y, dy, &axes))
        }
    })
}

fn pooling_window<B: Kernels>(
    call: &Call<'_, B>,
    window: &penjing_graph::ops::Window,
    dims: &[usize],
    ceil_mode: bool,
) -> Result<Sliding, ExecError> {
    if !(3..=5).contains(&dims.len()) || dims.contains(&0) {
        return Err(call.refuse(format!("an input of shape {dims:?} does not have one to three spatial axes with cells")));
    }
    let mut sliding = Sliding::new(window, &window.kernel, &dims[2..]).map_err(|reason| call.refuse(reason))?;
    if ceil_mode {
        sliding.round_up(&dims[2..]);
    }
    match sliding.output(&dims[2..]) {
        Some(_) => Ok(sliding),
        None => Err(call.refuse(format!("a window of {:?} cells is larger than the padded input {:?}", window.kernel, &dims[2..]))),
    }
}
