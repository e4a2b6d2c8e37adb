//! Burn's CPU backend with our own kernels where they are faster or where a result would depend on the number of threads.
//!
//! Ours are for single precision; everything else runs on Burn's.

use burn_backend::{Bytes, DType, Shape, TensorMetadata};
use burn_flex::{Flex, FlexTensor, Layout};

use super::Kernels;
use super::device::{burn_conv, burn_conv_input_grad, burn_conv_weight_grad};
use super::window::Sliding;
use crate::cpu::conv;

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

/// One or two spatial axes of reasonable size; one axis is one row.
fn shape(x: &[usize], w: &[usize], sliding: &Sliding, groups: usize) -> Option<conv::Shape> {
    let output = sliding.output(&x[2..])?;
    let padded = x[2..]
        .iter()
        .zip(&sliding.pads)
        .try_fold(w[1], |size, (n, (before, after))| size.checked_mul(n.checked_add(*before)?.checked_add(*after)?))?;
    if padded > LARGEST_PADDED {
        return None;
    }
    let pair = |axes: &[usize], single: usize| match axes {
        [cols] => Some([single, *cols]),
        [rows, cols] => Some([*rows, *cols]),
        _ => None,
    };
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
