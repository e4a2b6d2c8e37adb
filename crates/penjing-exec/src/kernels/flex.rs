//! Burn's CPU backend with our own kernels where they are faster or where a result would depend on the number of threads.
//!
//! Ours are for single precision; everything else runs on Burn's. Results of convolutions, batch normalisation and pooling lie
//! channels-last in memory under the same logical shape [N, C, …], and element-by-element functions leave them so; an operator
//! that needs the elements in order of the shape gets a copy.

use burn_backend::ops::FloatTensorOps;
use burn_backend::{Bytes, DType, Element, IntDType, Shape, TensorMetadata};
use burn_flex::{Flex, FlexTensor, Layout};

use super::device::{
    Adam, Arithmetic, Bounds, Function, Kernels, Sgd, Span, burn_adam, burn_arithmetic, burn_batch_norm, burn_batch_norm_grad,
    burn_channel_sum, burn_clip, burn_clip_grad, burn_conv, burn_conv_input_grad, burn_conv_weight_grad, burn_cut, burn_from_codes,
    burn_function, burn_gelu, burn_gelu_grad, burn_layer_norm, burn_layer_norm_grad, burn_matmul, burn_max_pool, burn_max_pool_grad,
    burn_place, burn_relu, burn_relu_grad, burn_scalar, burn_scale_and_shift, burn_sgd, burn_softmax, burn_softmax_grad, burn_spatial_mean,
    burn_spatial_mean_grad, burn_sum, burn_to_codes, ordered_sum_of_squares,
};
use super::window::Sliding;
use crate::cpu::matmul::Matrix;
use crate::cpu::quantize::{self, Code, Grid};
use crate::cpu::{batch_norm, conv, elementwise, functions, layer_norm, layout, matmul, optimizer, pool, softmax};

/// Calls with the function of two numbers.
macro_rules! with_arithmetic {
    ($op:expr, $f:ident => $call:expr) => {
        match $op {
            Arithmetic::Add => {
                let $f = |a: f32, b: f32| a + b;
                $call
            }
            Arithmetic::Sub => {
                let $f = |a: f32, b: f32| a - b;
                $call
            }
            Arithmetic::Mul => {
                let $f = |a: f32, b: f32| a * b;
                $call
            }
            Arithmetic::Div => {
                let $f = |a: f32, b: f32| a / b;
                $call
            }
        }
    };
}

impl Kernels for Flex {
    fn matmul(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        let (a_dims, b_dims) = (a.shape().to_vec(), b.shape().to_vec());
        let lead = a_dims.len() - 2;
        // With few rows, putting the other operand in order would be most of the work.
        let ours = single(&[&a, &b]) && a_dims.len() == b_dims.len() && a_dims[lead] >= 8 && !a_dims.contains(&0) && !b_dims.contains(&0);
        let batch = super::broadcast(&a_dims[..lead], &b_dims[..b_dims.len() - 2]);
        let Some(batch) = batch.filter(|_| ours) else {
            return burn_matmul::<Flex>(a, b);
        };
        let readable = |t: &FlexTensor| {
            t.layout().strides().iter().enumerate().all(|(axis, stride)| if axis < lead { *stride >= 0 } else { *stride > 0 })
        };
        let [a, b] = [a, b].map(|t| if readable(&t) { t } else { t.to_contiguous() });
        let sizes = [a_dims[lead], a_dims[lead + 1], b_dims[lead + 1]];
        let y = matmul::products(&matrices(&a, &batch), &matrices(&b, &batch), sizes);
        tensor(y, &[&batch[..], &[sizes[0], sizes[2]]].concat())
    }

    fn arithmetic(op: Arithmetic, a: FlexTensor, b: FlexTensor) -> FlexTensor {
        if !single(&[&a, &b]) {
            return burn_arithmetic::<Flex>(op, a, b);
        }
        let (a_dims, b_dims) = (a.shape().to_vec(), b.shape().to_vec());
        match op {
            _ if a_dims == b_dims => with_arithmetic!(op, f => zip(a, b, f)),
            _ if b.layout().num_elements() == 1 => {
                let value = contiguous(b).storage::<f32>()[0];
                with_arithmetic!(op, f => map(a, |a| f(a, value)))
            }
            // One row for all, as it lies in memory.
            _ if is_channels_last(&a) && is_row(&rows_first(&a_dims), &rows_first(&b_dims)) => with_arithmetic!(op, f => zip_row(a, b, f)),
            _ if !is_channels_last(&a) && is_row(&a_dims, &b_dims) => with_arithmetic!(op, f => zip_row(a, b, f)),
            _ if (is_turned(&a) || is_turned(&b)) && a_dims.len() == b_dims.len() => {
                from_rows(burn_arithmetic::<Flex>(op, to_rows(&a), to_rows(&b)))
            }
            _ => burn_arithmetic::<Flex>(op, a, b),
        }
    }

    fn sum(x: FlexTensor, axes: &[usize]) -> FlexTensor {
        let dims = x.shape().to_vec();
        let leading = axes.iter().enumerate().all(|(i, axis)| *axis == i);
        if !single(&[&x]) || !leading || axes.is_empty() || axes.len() == dims.len() || dims.contains(&0) {
            return burn_sum::<Flex>(x, axes);
        }
        let sums = batch_norm::channel_sums(contiguous(x).storage(), dims[axes.len()..].iter().product());
        tensor(sums, &dims.iter().enumerate().map(|(i, n)| if i < axes.len() { 1 } else { *n }).collect::<Vec<_>>())
    }

    fn cut(x: FlexTensor, spans: &[Span]) -> FlexTensor {
        // Where the elements lie in order, Burn gives a view.
        if !single(&[&x]) || !is_turned(&x) {
            return burn_cut::<Flex>(x, spans);
        }
        let (dims, spans) = (rows_first(&x.shape().to_vec()), rows_first(spans));
        let counts: Vec<usize> = spans.iter().map(|span| span.count).collect();
        let mut y = vec![0.0; counts.iter().product()];
        layout::copy(&counts, x.storage(), &places(&dims, &spans), &mut y, &places(&counts, &whole(&counts)));
        from_rows(tensor(y, &counts))
    }

    fn place(x: FlexTensor, dims: &[usize], spans: &[Span], fill: f32) -> FlexTensor {
        if !single(&[&x]) {
            return burn_place::<Flex>(x, dims, spans, fill);
        }
        let in_rows = is_channels_last(&x);
        let x = if in_rows { x } else { contiguous(x) };
        let (dims, spans) = if in_rows { (rows_first(dims), rows_first(spans)) } else { (dims.to_vec(), spans.to_vec()) };
        let counts: Vec<usize> = spans.iter().map(|span| span.count).collect();
        let mut y = vec![fill; dims.iter().product()];
        layout::copy(&counts, x.storage(), &places(&counts, &whole(&counts)), &mut y, &places(&dims, &spans));
        if in_rows { from_rows(tensor(y, &dims)) } else { tensor(y, &dims) }
    }

    fn concat(parts: Vec<FlexTensor>, axis: usize) -> FlexTensor {
        let rank = parts.first().map_or(0, |part| part.shape().num_dims());
        if !parts.iter().any(is_turned) {
            return Flex::float_cat(parts, axis);
        }
        let last = (0..rank).filter(|i| *i != 1).chain([1]).position(|i| i == axis).unwrap_or(axis);
        from_rows(Flex::float_cat(parts.iter().map(to_rows).collect(), last))
    }

    fn sgd(mut w: FlexTensor, gradient: FlexTensor, velocity: Option<FlexTensor>, step: Sgd) -> (FlexTensor, Option<FlexTensor>) {
        let all_single = single(&[&w, &gradient]) && velocity.as_ref().is_none_or(|v| single(&[v]));
        if !all_single {
            return burn_sgd::<Flex>(w, gradient, velocity, step);
        }
        w = contiguous(w);
        let gradient = contiguous(gradient);
        let mut velocity = velocity.map(contiguous);
        optimizer::sgd(w.storage_mut(), gradient.storage(), velocity.as_mut().map(FlexTensor::storage_mut), &step);
        (w, velocity)
    }

    fn adam(w: FlexTensor, gradient: FlexTensor, [first, second]: [FlexTensor; 2], step: Adam) -> [FlexTensor; 3] {
        if !single(&[&w, &gradient, &first, &second]) {
            return burn_adam::<Flex>(w, gradient, [first, second], step);
        }
        let [mut w, gradient, mut first, mut second] = [w, gradient, first, second].map(contiguous);
        optimizer::adam(w.storage_mut(), gradient.storage(), [first.storage_mut(), second.storage_mut()], &step);
        [w, first, second]
    }

    fn scalar(op: Arithmetic, x: FlexTensor, value: f32) -> FlexTensor {
        if !single(&[&x]) {
            return burn_scalar::<Flex>(op, x, value);
        }
        with_arithmetic!(op, f => map(x, |x| f(x, value)))
    }

    fn function(f: Function, x: FlexTensor) -> FlexTensor {
        if !single(&[&x]) {
            return burn_function::<Flex>(f, x);
        }
        match f {
            Function::Exp => map(x, functions::exp),
            Function::Erf => map(x, functions::erf),
            Function::Sigmoid => map(x, functions::sigmoid),
            Function::Tanh => map(x, f32::tanh),
        }
    }

    fn gelu(x: FlexTensor) -> FlexTensor {
        if single(&[&x]) { map(x, functions::gelu) } else { burn_gelu::<Flex>(x) }
    }

    fn gelu_grad(x: FlexTensor, dy: FlexTensor) -> FlexTensor {
        if single(&[&x, &dy]) { zip(dy, x, |dy, x| dy * functions::gelu_slope(x)) } else { burn_gelu_grad::<Flex>(x, dy) }
    }

    fn softmax(x: FlexTensor, axis: usize) -> FlexTensor {
        let dims = x.shape().to_vec();
        if !single(&[&x]) || axis + 1 != dims.len() || dims.contains(&0) {
            return burn_softmax::<Flex>(x, axis);
        }
        tensor(softmax::forward(contiguous(x).storage(), dims[axis]), &dims)
    }

    fn softmax_grad(y: FlexTensor, dy: FlexTensor, axis: usize) -> FlexTensor {
        let dims = y.shape().to_vec();
        if !single(&[&y, &dy]) || axis + 1 != dims.len() || dims.contains(&0) {
            return burn_softmax_grad::<Flex>(y, dy, axis);
        }
        tensor(softmax::gradient(contiguous(y).storage(), contiguous(dy).storage(), dims[axis]), &dims)
    }

    fn layer_norm(x: FlexTensor, scale: FlexTensor, bias: FlexTensor, epsilon: f32) -> [FlexTensor; 3] {
        let (dims, scale_dims) = (x.shape().to_vec(), scale.shape().to_vec());
        if !single(&[&x, &scale, &bias]) || dims.contains(&0) {
            return burn_layer_norm::<Flex>(x, scale, bias, epsilon);
        }
        let [x, scale, bias] = [x, scale, bias].map(contiguous);
        let [y, mean, inverse] = layer_norm::forward(x.storage(), scale.storage(), bias.storage(), epsilon);
        let kept: Vec<usize> = (0..dims.len()).map(|i| if i + scale_dims.len() < dims.len() { dims[i] } else { 1 }).collect();
        [tensor(y, &dims), tensor(mean, &kept), tensor(inverse, &kept)]
    }

    fn layer_norm_grad(x: FlexTensor, scale: FlexTensor, mean: FlexTensor, inverse: FlexTensor, dy: FlexTensor) -> [FlexTensor; 3] {
        let (dims, scale_dims) = (x.shape().to_vec(), scale.shape().to_vec());
        if !single(&[&x, &scale, &mean, &inverse, &dy]) || dims.contains(&0) {
            return burn_layer_norm_grad::<Flex>(x, scale, mean, inverse, dy);
        }
        let [x, scale, mean, inverse, dy] = [x, scale, mean, inverse, dy].map(contiguous);
        let [dx, dscale, dbias] = layer_norm::gradients(x.storage(), scale.storage(), mean.storage(), inverse.storage(), dy.storage());
        [tensor(dx, &dims), tensor(dscale, &scale_dims), tensor(dbias, &scale_dims)]
    }

    fn relu(x: FlexTensor) -> FlexTensor {
        // What is not a number stays.
        if single(&[&x]) { map(x, |x| if x <= 0.0 { 0.0 } else { x }) } else { burn_relu::<Flex>(x) }
    }

    fn relu_grad(y: FlexTensor, dy: FlexTensor) -> FlexTensor {
        if single(&[&y, &dy]) { zip(dy, y, |dy, y| if y <= 0.0 { 0.0 } else { dy }) } else { burn_relu_grad::<Flex>(y, dy) }
    }

    fn clip(x: FlexTensor, bounds: Bounds) -> FlexTensor {
        if !single(&[&x]) {
            return burn_clip::<Flex>(x, bounds);
        }
        let bounds = bounds.of_f32();
        map(x, |x| functions::clip(x, bounds))
    }

    fn clip_grad(x: FlexTensor, dy: FlexTensor, bounds: Bounds) -> FlexTensor {
        if !single(&[&x, &dy]) {
            return burn_clip_grad::<Flex>(x, dy, bounds);
        }
        let [lo, hi] = bounds.of_f32();
        zip(dy, x, |dy, x| if (x < lo) | (x > hi) { 0.0 } else { dy })
    }

    fn conv(x: FlexTensor, w: FlexTensor, bias: Option<FlexTensor>, sliding: &Sliding, group: usize, bounds: Option<Bounds>) -> FlexTensor {
        let tensors: Vec<&FlexTensor> = [&x, &w].into_iter().chain(&bias).collect();
        let (x_dims, w_dims) = (x.shape().to_vec(), w.shape().to_vec());
        let Some(shape) = shape(&x_dims, &w_dims, sliding, group).filter(|_| single(&tensors)) else {
            let y = burn_conv::<Flex>(x, w, bias, sliding, group);
            return match bounds {
                Some(bounds) => Flex::clip(y, bounds),
                None => y,
            };
        };
        let (x, w, bias) = (channels_last(x), contiguous(w), bias.map(contiguous));
        let bias = bias.as_ref().map(FlexTensor::storage);
        let y = conv::forward(&shape, x.storage(), w.storage(), bias, bounds.map(Bounds::of_f32));
        rows(y, &[&[x_dims[0], w_dims[0]], &shape.output[4 - x_dims.len()..]].concat())
    }

    fn conv_input_grad(dims: &[usize], w: FlexTensor, dy: FlexTensor, sliding: &Sliding, group: usize) -> FlexTensor {
        let Some(shape) = shape(dims, &w.shape().to_vec(), sliding, group).filter(|_| single(&[&w, &dy])) else {
            return burn_conv_input_grad::<Flex>(dims, w, dy, sliding, group);
        };
        let (w, dy) = (contiguous(w), channels_last(dy));
        rows(conv::input_gradient(&shape, w.storage(), dy.storage()), dims)
    }

    fn conv_weight_grad(x: FlexTensor, dims: &[usize], dy: FlexTensor, sliding: &Sliding, group: usize) -> FlexTensor {
        let Some(shape) = shape(&x.shape().to_vec(), dims, sliding, group).filter(|_| single(&[&x, &dy])) else {
            return burn_conv_weight_grad::<Flex>(x, dims, dy, sliding, group);
        };
        let (x, dy) = (channels_last(x), channels_last(dy));
        tensor(conv::weight_gradient(&shape, x.storage(), dy.storage()), dims)
    }

    fn max_pool(x: FlexTensor, sliding: &Sliding) -> (FlexTensor, FlexTensor) {
        let dims = x.shape().to_vec();
        let Some(shape) = pool_shape(&dims, sliding).filter(|_| single(&[&x])) else {
            return burn_max_pool::<Flex>(x, sliding);
        };
        let x = channels_last(x);
        let y_dims = [&dims[..2], &shape.output[4 - dims.len()..]].concat();
        let n = y_dims.iter().product();
        let (mut y, mut winner) = (vec![0.0; n], vec![0u8; n]);
        pool::forward(&shape, x.storage(), dims[1], &mut y, &mut winner);
        let winner = FlexTensor::new(Bytes::from_elems(winner), Layout::contiguous(Shape::from(rows_first(&y_dims))), DType::U8);
        (rows(y, &y_dims), from_rows(winner))
    }

    fn max_pool_grad(dims: &[usize], winner: FlexTensor, dy: FlexTensor, sliding: &Sliding) -> FlexTensor {
        let Some(shape) = pool_shape(dims, sliding).filter(|_| single(&[&dy]) && winner.dtype() == DType::U8) else {
            return burn_max_pool_grad::<Flex>(dims, winner, dy, sliding);
        };
        let (winner, dy) = (to_rows(&winner).to_contiguous(), channels_last(dy));
        let mut dx = vec![0.0; dims.iter().product()];
        pool::input_gradient(&shape, winner.storage(), dims[1], dy.storage(), &mut dx);
        rows(dx, dims)
    }

    fn spatial_mean(x: FlexTensor) -> FlexTensor {
        let dims = x.shape().to_vec();
        if !single(&[&x]) || dims.contains(&0) {
            return burn_spatial_mean::<Flex>(x);
        }
        let (x, places) = (channels_last(x), dims[2..].iter().product::<usize>());
        let kept: Vec<usize> = dims.iter().enumerate().map(|(i, n)| if i < 2 { *n } else { 1 }).collect();
        tensor(pool::mean(x.storage(), places, dims[1]), &kept)
    }

    fn spatial_mean_grad(dims: &[usize], dy: FlexTensor) -> FlexTensor {
        if !single(&[&dy]) || dims.contains(&0) {
            return burn_spatial_mean_grad::<Flex>(dims, dy);
        }
        let (dy, places) = (contiguous(dy), dims[2..].iter().product::<usize>());
        rows(pool::mean_gradient(dy.storage(), places, dims[1]), dims)
    }

    fn channel_sum(x: FlexTensor) -> FlexTensor {
        let dims = x.shape().to_vec();
        if !single(&[&x]) || dims.contains(&0) {
            return burn_channel_sum::<Flex>(x);
        }
        tensor(batch_norm::channel_sums(channels_last(x).storage(), dims[1]), &dims[1..2])
    }

    fn scale_and_shift(x: FlexTensor, a: FlexTensor, b: FlexTensor) -> FlexTensor {
        let dims = x.shape().to_vec();
        if !single(&[&x, &a, &b]) || dims.contains(&0) {
            return burn_scale_and_shift::<Flex>(x, a, b);
        }
        let (x, a, b) = (channels_last(x), contiguous(a), contiguous(b));
        rows(batch_norm::scale_and_shift(x.storage(), a.storage(), b.storage()), &dims)
    }

    fn batch_norm_of_batch(x: FlexTensor, scale: FlexTensor, bias: FlexTensor, epsilon: f32) -> (FlexTensor, FlexTensor, FlexTensor) {
        let dims = x.shape().to_vec();
        if !single(&[&x, &scale, &bias]) || dims.contains(&0) {
            return burn_batch_norm::<Flex>(x, scale, bias, epsilon);
        }
        let (x, scale, bias) = (channels_last(x), contiguous(scale), contiguous(bias));
        let [y, mean, variance] = batch_norm::forward(x.storage(), scale.storage(), bias.storage(), epsilon);
        (rows(y, &dims), tensor(mean, &dims[1..2]), tensor(variance, &dims[1..2]))
    }

    fn batch_norm_of_batch_grad(
        x: FlexTensor,
        scale: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        epsilon: f32,
        dy: FlexTensor,
    ) -> [FlexTensor; 3] {
        let dims = x.shape().to_vec();
        if !single(&[&x, &scale, &mean, &variance, &dy]) || dims.contains(&0) {
            return burn_batch_norm_grad::<Flex>(x, scale, mean, variance, epsilon, dy);
        }
        let (x, dy) = (channels_last(x), channels_last(dy));
        let [scale, mean, variance] = [scale, mean, variance].map(contiguous);
        let statistics = [mean.storage(), variance.storage()];
        let [dx, dscale, dbias] = batch_norm::gradients(x.storage(), scale.storage(), statistics, epsilon, dy.storage());
        [rows(dx, &dims), tensor(dscale, &dims[1..2]), tensor(dbias, &dims[1..2])]
    }

    fn to_codes(x: FlexTensor, scale: FlexTensor, zero: FlexTensor, range: [f32; 2], to: IntDType) -> FlexTensor {
        if !single(&[&x, &scale, &zero]) || x.layout().num_elements() == 0 {
            return burn_to_codes::<Flex>(x, scale, zero, range, to);
        }
        match to {
            IntDType::I8 => quantized::<i8>(x, scale, zero, range),
            IntDType::U8 => quantized::<u8>(x, scale, zero, range),
            IntDType::I16 => quantized::<i16>(x, scale, zero, range),
            IntDType::U16 => quantized::<u16>(x, scale, zero, range),
            IntDType::I64 | IntDType::I32 | IntDType::U64 | IntDType::U32 => burn_to_codes::<Flex>(x, scale, zero, range, to),
        }
    }

    fn from_codes(x: FlexTensor, scale: FlexTensor, zero: FlexTensor) -> FlexTensor {
        if !single(&[&scale, &zero]) || x.layout().num_elements() == 0 {
            return burn_from_codes::<Flex>(x, scale, zero);
        }
        match x.dtype() {
            DType::I8 => dequantized::<i8>(x, scale, zero),
            DType::U8 => dequantized::<u8>(x, scale, zero),
            DType::I16 => dequantized::<i16>(x, scale, zero),
            DType::U16 => dequantized::<u16>(x, scale, zero),
            DType::I32 => dequantized::<i32>(x, scale, zero),
            _ => burn_from_codes::<Flex>(x, scale, zero),
        }
    }

    fn sum_of_squares(x: FlexTensor) -> f64 {
        if single(&[&x]) { elementwise::sum_of_squares(contiguous(x).storage()) } else { ordered_sum_of_squares::<Flex>(x) }
    }
}

fn single(tensors: &[&FlexTensor]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32)
}

/// Whether the tensor is its storage, in order of the shape.
fn is_exact(t: &FlexTensor) -> bool {
    t.is_contiguous() && t.layout().start_offset() == 0 && t.bytes().len() == t.layout().num_elements() * t.dtype().size()
}

/// The elements in order of the shape, from the first of the storage on.
fn contiguous(t: FlexTensor) -> FlexTensor {
    match t {
        t if is_exact(&t) => t,
        t if is_channels_last(&t) => {
            let dims = t.shape().to_vec();
            tensor(layout::turned(t.storage(), dims[2..].iter().product(), dims[1]), &dims)
        }
        t if t.layout().has_positive_strides() && t.layout().strides().last() == Some(&1) && t.layout().num_elements() > 0 => {
            // Rows lie in one piece.
            let (dims, strides) = (t.shape().to_vec(), t.layout().strides().iter().map(|stride| stride.unsigned_abs()).collect());
            tensor(layout::gathered(&dims, t.storage(), &layout::Places { first: t.layout().start_offset(), strides }), &dims)
        }
        t => t.to_contiguous(),
    }
}

/// Whether the channels of each place stand side by side in memory, and places in order.
fn is_channels_last(t: &FlexTensor) -> bool {
    t.shape().num_dims() > 2 && is_exact(&to_rows(t))
}

/// Whether that is not the order of the shape as well.
fn is_turned(t: &FlexTensor) -> bool {
    !is_exact(t) && is_channels_last(t)
}

/// The same with the channels' axis last.
fn to_rows(t: &FlexTensor) -> FlexTensor {
    let axes: Vec<usize> = (0..t.shape().num_dims()).filter(|axis| *axis != 1).chain([1]).collect();
    t.permute(&axes)
}

/// [`to_rows`] taken back.
fn from_rows(t: FlexTensor) -> FlexTensor {
    let rank = t.shape().num_dims();
    let axes: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    t.permute(&axes)
}

/// The tensor [N, C, …] with the channels of each place side by side in memory.
fn channels_last(t: FlexTensor) -> FlexTensor {
    if is_channels_last(&t) {
        return t;
    }
    let t = contiguous(t);
    let dims = t.shape().to_vec();
    if dims.len() == 2 {
        return t;
    }
    rows(layout::turned(t.storage(), dims[1], dims[2..].iter().product()), &dims)
}

/// What is said of each axis, with the channels' last.
fn rows_first<T: Copy>(axes: &[T]) -> Vec<T> {
    axes[..1].iter().chain(&axes[2..]).chain(&axes[1..2]).copied().collect()
}

/// Every position of each axis.
fn whole(dims: &[usize]) -> Vec<Span> {
    dims.iter().map(|n| Span { start: 0, count: *n, step: 1 }).collect()
}

/// Where the positions lie in a tensor of shape `dims`.
fn places(dims: &[usize], spans: &[Span]) -> layout::Places {
    let axis_strides = (0..dims.len()).map(|i| dims[i + 1..].iter().product::<usize>());
    layout::Places {
        first: spans.iter().zip(axis_strides.clone()).map(|(span, stride)| span.start * stride).sum(),
        strides: spans.iter().zip(axis_strides).map(|(span, stride)| span.step * stride).collect(),
    }
}

/// A tensor of shape `dims` from values that lie channels-last.
fn rows(values: Vec<f32>, dims: &[usize]) -> FlexTensor {
    from_rows(tensor(values, &rows_first(dims)))
}

fn tensor(values: Vec<f32>, dims: &[usize]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::from(dims.to_vec())), DType::F32)
}

/// f of each element, wherever it lies, in place where no one else holds the tensor.
fn map(x: FlexTensor, f: impl Fn(f32) -> f32 + Sync) -> FlexTensor {
    let mut x = if is_exact(&x) || is_channels_last(&x) { x } else { contiguous(x) };
    match x.try_storage_mut() {
        Some(values) => {
            elementwise::map_in_place(values, f);
            x
        }
        None => with_layout_of(&x, elementwise::map(x.storage(), f)),
    }
}

/// f of each pair of elements of one shape, in the layout of the first and in place where no one else holds it.
fn zip(a: FlexTensor, b: FlexTensor, f: impl Fn(f32, f32) -> f32 + Sync) -> FlexTensor {
    let (mut a, b) = match (is_channels_last(&a), is_channels_last(&b)) {
        (true, true) => (a, b),
        (true, false) | (false, true) => (channels_last(a), channels_last(b)),
        (false, false) => (contiguous(a), contiguous(b)),
    };
    match a.try_storage_mut() {
        Some(values) => {
            elementwise::zip_in_place(values, b.storage(), f);
            a
        }
        None => with_layout_of(&a, elementwise::zip(a.storage(), b.storage(), f)),
    }
}

/// Whether a tensor of shape `row` is one row that repeats over a tensor of shape `dims`.
fn is_row(dims: &[usize], row: &[usize]) -> bool {
    let leading = row.iter().take_while(|n| **n == 1).count();
    row.len() == dims.len() && leading < row.len() && row[leading..] == dims[leading..] && !dims.contains(&0)
}

/// f of each element and that of a row that repeats, see [`is_row`]; in place where no one else holds the tensor.
fn zip_row(x: FlexTensor, row: FlexTensor, f: impl Fn(f32, f32) -> f32 + Sync) -> FlexTensor {
    let (mut x, row) = if is_channels_last(&x) { (x, contiguous(to_rows(&row))) } else { (contiguous(x), contiguous(row)) };
    match x.try_storage_mut() {
        Some(values) => {
            elementwise::zip_row_in_place(values, row.storage(), f);
            x
        }
        None => with_layout_of(&x, elementwise::zip_row(x.storage(), row.storage(), f)),
    }
}

fn with_layout_of(t: &FlexTensor, values: Vec<f32>) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), t.layout().clone(), DType::F32)
}

/// [`Kernels::to_codes`] as the elements lie.
fn quantized<T: Code + Element + bytemuck::Pod>(x: FlexTensor, scale: FlexTensor, zero: FlexTensor, range: [f32; 2]) -> FlexTensor {
    let x = if is_exact(&x) || is_channels_last(&x) { x } else { contiguous(x) };
    let (scale, zero, inner) = repeated(&x, scale, zero);
    let grid = Grid { scale: scale.storage(), zero: zero.storage(), inner };
    let codes: Vec<T> = quantize::quantize(x.storage(), grid, range);
    FlexTensor::new(Bytes::from_elems(codes), x.layout().clone(), T::dtype())
}

/// [`Kernels::from_codes`] as the elements lie.
fn dequantized<T: Code + Element + bytemuck::Pod>(x: FlexTensor, scale: FlexTensor, zero: FlexTensor) -> FlexTensor {
    let x = if is_exact(&x) || is_channels_last(&x) { x } else { x.to_contiguous() };
    let (scale, zero, inner) = repeated(&x, scale, zero);
    let grid = Grid { scale: scale.storage(), zero: zero.storage(), inner };
    with_layout_of(&x, quantize::dequantize(x.storage::<T>(), grid))
}

/// Scale and zero point in the order in which they hold for the elements of x as these lie in memory, and for how many elements
/// each holds before the next does.
fn repeated(x: &FlexTensor, scale: FlexTensor, zero: FlexTensor) -> (FlexTensor, FlexTensor, usize) {
    let in_rows = is_channels_last(x);
    let ordered = |t: FlexTensor| if in_rows { to_rows(&t) } else { t };
    let (dims, scale, zero) = (ordered(x.clone()).shape().to_vec(), ordered(scale), ordered(zero));
    let own = scale.shape().to_vec();
    let first = own.iter().position(|n| *n != 1).unwrap_or(dims.len());
    let behind = own.iter().rposition(|n| *n != 1).map_or(first, |last| last + 1);
    if own[first..behind] == dims[first..behind] {
        return (contiguous(scale), contiguous(zero), dims[behind..].iter().product());
    }
    let [scale, zero] = [scale, zero].map(|t| contiguous(Flex::float_expand(t, Shape::from(dims.clone()))));
    (scale, zero, 1)
}

/// The matrices of the last two axes, one for each place of the others, which repeat where they are of size 1.
fn matrices<'a>(t: &'a FlexTensor, batch: &[usize]) -> Vec<Matrix<'a>> {
    let (dims, strides) = (t.shape().to_vec(), t.layout().strides());
    let lead = batch.len();
    let stride = |axis: usize| strides[axis].unsigned_abs();
    let elements = t.storage::<f32>();
    let matrix = |place: usize| {
        let mut rest = place;
        let mut first = t.layout().start_offset();
        for axis in (0..lead).rev() {
            first += if dims[axis] == 1 { 0 } else { rest % batch[axis] * stride(axis) };
            rest /= batch[axis];
        }
        Matrix { elements: &elements[first..], row: stride(lead), column: stride(lead + 1) }
    };
    (0..batch.iter().product()).map(matrix).collect()
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
    (shape.kernel[0].checked_mul(shape.kernel[1])? <= 256 && !x.contains(&0)).then_some(shape)
}

/// One or two spatial axes of reasonable size.
fn shape(x: &[usize], w: &[usize], sliding: &Sliding, groups: usize) -> Option<conv::Shape> {
    /// Elements of a padded image beyond which Burn's convolution, which does not pad, is used.
    const LARGEST_PADDED: usize = 1 << 26;
    let output = sliding.output(&x[2..])?;
    let padded = x[2..]
        .iter()
        .zip(&sliding.pads)
        .try_fold(x[1].max(w[0]), |size, (n, (before, after))| size.checked_mul(n.checked_add(*before)?.checked_add(*after)?))?;
    if padded > LARGEST_PADDED || x.contains(&0) || w.contains(&0) {
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
