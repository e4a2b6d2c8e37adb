//! Burn's CPU backend with our own kernels where they are faster or where a result would depend on the number of threads.
//!
//! Ours are for single precision; everything else runs on Burn's.

use burn_backend::{Bytes, DType, Shape, TensorMetadata};
use burn_flex::{Flex, FlexTensor, Layout};
use rayon::prelude::*;

use super::Kernels;
use super::device::{burn_conv, burn_conv_input_grad, burn_conv_weight_grad, burn_max_pool, burn_max_pool_grad, ordered_sum_of_squares};
use super::window::Sliding;
use crate::cpu::{conv, pool};

/// Elements of a padded image beyond which Burn's convolution, which does not pad, is used.
const LARGEST_PADDED: usize = 1 << 26;

impl Kernels for Flex {
    fn conv(x: FlexTensor, w: FlexTensor, bias: Option<FlexTensor>, sliding: &Sliding, group: usize) -> FlexTensor {
        let tensors: Vec<&FlexTensor> = [&x, &w].into_iter().chain(&bias).collect();
        let (x_dims, w_dims) = (x.shape().to_vec(), w.shape().to_vec());
        let Some(shape) = shape(&x_dims, &w_dims, sliding, group).filter(|_| single(&tensors)) else {
            return burn_conv::<Flex>(x, w, bias, sliding, group);
        };
        let (x, w, bias) = (contiguous(x), contiguous(w), bias.map(contiguous));
        let dims = [&[x_dims[0], w_dims[0]], &shape.output[4 - x_dims.len()..]].concat();
        let mut y = vec![0.0; dims.iter().product()];
        conv::forward(&shape, x.storage(), w.storage(), bias.as_ref().map(FlexTensor::storage), &mut y);
        tensor(y, &dims)
    }

    fn conv_input_grad(dims: &[usize], w: FlexTensor, dy: FlexTensor, sliding: &Sliding, group: usize) -> FlexTensor {
        let Some(shape) = shape(dims, &w.shape().to_vec(), sliding, group).filter(|_| single(&[&w, &dy])) else {
            return burn_conv_input_grad::<Flex>(dims, w, dy, sliding, group);
        };
        let (w, dy) = (contiguous(w), contiguous(dy));
        let mut dx = vec![0.0; dims.iter().product()];
        conv::input_gradient(&shape, w.storage(), dy.storage(), &mut dx);
        tensor(dx, dims)
    }

    fn conv_weight_grad(x: FlexTensor, dims: &[usize], dy: FlexTensor, sliding: &Sliding, group: usize) -> FlexTensor {
        let Some(shape) = shape(&x.shape().to_vec(), dims, sliding, group).filter(|_| single(&[&x, &dy])) else {
            return burn_conv_weight_grad::<Flex>(x, dims, dy, sliding, group);
        };
        let (x, dy) = (contiguous(x), contiguous(dy));
        let mut dw = vec![0.0; dims.iter().product()];
        conv::weight_gradient(&shape, x.storage(), dy.storage(), &mut dw);
        tensor(dw, dims)
    }

    fn max_pool(x: FlexTensor, sliding: &Sliding) -> (FlexTensor, FlexTensor) {
        let dims = x.shape().to_vec();
        let Some(shape) = pool_shape(&dims, sliding).filter(|_| single(&[&x])) else {
            return burn_max_pool::<Flex>(x, sliding);
        };
        let x = contiguous(x);
        let dims = [&dims[..2], &shape.output[4 - dims.len()..]].concat();
        let n = dims.iter().product();
        let (mut y, mut winner) = (vec![0.0; n], vec![0u8; n]);
        pool::forward(&shape, x.storage(), &mut y, &mut winner);
        let layout = Layout::contiguous(Shape::from(dims.clone()));
        (tensor(y, &dims), FlexTensor::new(Bytes::from_elems(winner), layout, DType::U8))
    }

    fn max_pool_grad(dims: &[usize], winner: FlexTensor, dy: FlexTensor, sliding: &Sliding) -> FlexTensor {
        let Some(shape) = pool_shape(dims, sliding).filter(|_| single(&[&dy]) && winner.dtype() == DType::U8) else {
            return burn_max_pool_grad::<Flex>(dims, winner, dy, sliding);
        };
        let dy = contiguous(dy);
        let mut dx = vec![0.0; dims.iter().product()];
        pool::input_gradient(&shape, winner.storage(), dy.storage(), &mut dx);
        tensor(dx, dims)
    }

    fn sum_of_squares(x: FlexTensor) -> f64 {
        /// Elements that are summed as one part, so that the order does not depend on the number of threads.
        const PART: usize = 1 << 14;
        if !single(&[&x]) {
            return ordered_sum_of_squares::<Flex>(x);
        }
        let x = contiguous(x);
        let part = |part: &[f32]| part.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
        x.storage::<f32>().par_chunks(PART).map(part).collect::<Vec<f64>>().into_iter().sum()
    }
}

fn single(tensors: &[&FlexTensor]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32)
}

/// The elements in order of the shape, from the first of the storage on.
fn contiguous(t: FlexTensor) -> FlexTensor {
    let exact = t.is_contiguous() && t.layout().start_offset() == 0 && t.storage::<f32>().len() == t.layout().num_elements();
    if exact { t } else { t.to_contiguous() }
}

fn tensor(values: Vec<f32>, dims: &[usize]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::from(dims.to_vec())), DType::F32)
}

/// One or two spatial axes; one axis is one row.
fn pair(axes: &[usize], single: usize) -> Option<[usize; 2]> {
    match axes {
        [cols] => Some([single, *cols]),
        [rows, cols] => Some([*rows, *cols]),
        _ => None,
    }
}

/// A window of at most 256 cells over one or two spatial axes.
fn pool_shape(x: &[usize], sliding: &Sliding) -> Option<pool::Shape> {
    let before: Vec<usize> = sliding.pads.iter().map(|(before, _)| *before).collect();
    let shape = pool::Shape {
        input: pair(&x[2..], 1)?,
        output: pair(&sliding.output(&x[2..])?, 1)?,
        kernel: pair(&sliding.kernel, 1)?,
        stride: pair(&sliding.strides, 1)?,
        dilation: pair(&sliding.dilations, 1)?,
        before: pair(&before, 0)?,
    };
    (shape.kernel[0].checked_mul(shape.kernel[1])? <= 256).then_some(shape)
}

/// One or two spatial axes of reasonable size.
fn shape(x: &[usize], w: &[usize], sliding: &Sliding, groups: usize) -> Option<conv::Shape> {
    let output = sliding.output(&x[2..])?;
    let padded = x[2..]
        .iter()
        .zip(&sliding.pads)
        .try_fold(w[1], |size, (n, (before, after))| size.checked_mul(n.checked_add(*before)?.checked_add(*after)?))?;
    if padded > LARGEST_PADDED {
        return None;
    }
    let before: Vec<usize> = sliding.pads.iter().map(|(before, _)| *before).collect();
    Some(conv::Shape {
        batch: x[0],
        groups,
        in_channels: w[1],
        out_channels: w[0] / groups,
        input: pair(&x[2..], 1)?,
        output: pair(&output, 1)?,
        kernel: pair(&sliding.kernel, 1)?,
        stride: pair(&sliding.strides, 1)?,
        dilation: pair(&sliding.dilations, 1)?,
        before: pair(&before, 0)?,
    })
}
