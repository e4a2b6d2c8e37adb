//! Convolutions. All of them, and their gradients, are three functions: the convolution and its two adjoints.

use penjing_graph::ops::{AutoPad, Conv, ConvTranspose};

use super::window::Sliding;
use super::{Call, Done, Float, Kernels};
use crate::ExecError;

pub(super) fn conv<B: Kernels>(op: &Conv, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let (wants_x, wants_w, wants_b) = (call.wants(0), call.wants(1), call.wants(2));
    let (x, w, bias) = (call.float(0)?, call.float(1)?, call.optional_float(2)?);
    let (x_dims, w_dims) = (x.dims(), w.dims());
    checked_rank(&call, &x_dims, &w_dims)?;
    let group = op.group;
    if group == 0 || x_dims[1] != w_dims[1] * group || !w_dims[0].is_multiple_of(group) {
        return Err(call.refuse(format!("a weight of shape {w_dims:?} in {group} groups does not fit an input of shape {x_dims:?}")));
    }
    let sliding = Sliding::new(&op.window, &w_dims[2..], &x_dims[2..]).map_err(|reason| call.refuse(reason))?;
    if sliding.output(&x_dims[2..]).is_none() {
        return Err(call.refuse(format!("the kernel of {:?} cells is larger than the padded input {:?}", &w_dims[2..], &x_dims[2..])));
    }
    check_bias(&call, bias.as_ref(), w_dims[0])?;
    let y = Float(B::conv(x.0.clone(), w.0.clone(), bias.map(|b| b.0), &sliding, group, call.bounds));
    Ok(Done::nary(y, move |dy: Float<B>| {
        let db = wants_b.then(|| Float(B::channel_sum(dy.0.clone())));
        let dw = wants_w.then(|| Float(B::conv_weight_grad(x.0, &w_dims, dy.0.clone(), &sliding, group)));
        let dx = wants_x.then(|| Float(B::conv_input_grad(&x_dims, w.0, dy.0, &sliding, group)));
        vec![dx, dw, db]
    }))
}

/// The adjoint of the convolution that reads Y [N, M, …] with the same weight and gives X [N, C, …].
pub(super) fn conv_transpose<B: Kernels>(op: &ConvTranspose, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let (wants_x, wants_w, wants_b) = (call.wants(0), call.wants(1), call.wants(2));
    let (x, w, bias) = (call.float(0)?, call.float(1)?, call.optional_float(2)?);
    let (x_dims, w_dims) = (x.dims(), w.dims());
    let rank = checked_rank(&call, &x_dims, &w_dims)?;
    let group = op.group;
    if group == 0 || x_dims[1] != w_dims[0] || !w_dims[0].is_multiple_of(group) {
        return Err(call.refuse(format!("a weight of shape {w_dims:?} in {group} groups does not fit an input of shape {x_dims:?}")));
    }
    let (sliding, spatial) = transposed_window(op, &w_dims[2..], &x_dims[2..]).map_err(|reason| call.refuse(reason))?;
    let y_dims: Vec<usize> = [x_dims[0], w_dims[1] * group].into_iter().chain(spatial).collect();
    check_bias(&call, bias.as_ref(), y_dims[1])?;
    let y = Float(B::conv_input_grad(&y_dims, w.0.clone(), x.0.clone(), &sliding, group));
    let y = match bias {
        Some(bias) => y + bias.along(1, rank),
        None => y,
    };
    Ok(Done::nary(y, move |dy: Float<B>| {
        let db = wants_b.then(|| Float(B::channel_sum(dy.0.clone())));
        let dw = wants_w.then(|| Float(B::conv_weight_grad(dy.0.clone(), &w_dims, x.0, &sliding, group)));
        let dx = wants_x.then(|| Float(B::conv(dy.0, w.0, None, &sliding, group, None)));
        vec![dx, dw, db]
    }))
}

/// The window over the output, and the output's spatial shape.
fn transposed_window(op: &ConvTranspose, kernel: &[usize], input: &[usize]) -> Result<(Sliding, Vec<usize>), String> {
    let axes = input.len();
    let explicit = penjing_graph::ops::Window { auto_pad: AutoPad::NotSet, ..op.window.clone() };
    let mut sliding = Sliding::new(&explicit, kernel, input)?;
    let extent = sliding.extent().ok_or("the window is larger than this machine can address")?;
    let same = matches!(op.window.auto_pad, AutoPad::SameUpper | AutoPad::SameLower);
    let mut spatial = vec![0; axes];
    for i in 0..axes {
        let stride = sliding.strides[i];
        let Some(full) = input[i].checked_sub(1).and_then(|n| n.checked_mul(stride)?.checked_add(extent[i])) else {
            return Err(format!("an input of {input:?} cells cannot be spread out"));
        };
        let mut extra = op.output_padding.get(i).copied().unwrap_or(0);
        if let Some(wanted) = op.output_shape.get(i).copied().or_else(|| same.then(|| input[i] * stride)) {
            extra = extra.max(wanted.saturating_sub(full));
            let total = (full + extra).saturating_sub(wanted);
            // The odd cell of padding stands at the end for SAME_UPPER, else at the beginning.
            let small = total / 2;
            sliding.pads[i] = if op.window.auto_pad == AutoPad::SameUpper { (small, total - small) } else { (total - small, small) };
        }
        let (before, after) = sliding.pads[i];
        spatial[i] = full
            .checked_add(extra)
            .and_then(|n| n.checked_sub(before)?.checked_sub(after))
            .ok_or("the padding is larger than the output")?;
        if extra >= stride.max(sliding.dilations[i]) {
            return Err(format!("output_padding {extra} is not smaller than the stride"));
        }
    }
    if sliding.output(&spatial).as_deref() != Some(input) {
        return Err(format!("an output of {spatial:?} cells does not come from an input of {input:?}"));
    }
    Ok((sliding, spatial))
}

fn checked_rank<B: Kernels>(call: &Call<'_, B>, x: &[usize], w: &[usize]) -> Result<usize, ExecError> {
    match x.len() {
        3..=5 if w.len() == x.len() => Ok(x.len()),
        _ => Err(call.refuse(format!("an input of shape {x:?} and a weight of shape {w:?} do not have one to three spatial axes alike"))),
    }
}

fn check_bias<B: Kernels>(call: &Call<'_, B>, bias: Option<&Float<B>>, channels: usize) -> Result<(), ExecError> {
    match bias.map(Float::dims) {
        Some(dims) if dims != [channels] => Err(call.refuse(format!("a bias of shape {dims:?} does not fit {channels} channels"))),
        _ => Ok(()),
    }
}
