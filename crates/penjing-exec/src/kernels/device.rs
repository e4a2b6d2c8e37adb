//! The hot operations: Burn's own for every device, better ones where a device has them.

use std::f32::consts::PI;

use burn_backend::Backend;
use burn_backend::ops::{ActivationOps, ConvOptions, PadMode};
use burn_backend::tensor::{BoolTensor, FloatTensor, IntTensor};
use burn_backend::{BoolDType, FloatDType, IntDType, Shape, Slice, TensorMetadata, read_sync};

use super::Float;
use super::activation::log_softmax;
use super::normalization;
use super::window::Sliding;
pub(crate) use crate::cpu::optimizer::{Adam, Sgd};

/// Positions along an axis: `count` of them from `start`, `step` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) count: usize,
    pub(crate) step: usize,
}

/// Arithmetic of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
}

/// Functions of single elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Exp,
    Erf,
    Sigmoid,
    Tanh,
}

/// What values are kept between; where `lo` > `hi`, `hi` wins, as ONNX says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) lo: Option<f64>,
    pub(crate) hi: Option<f64>,
}

impl Bounds {
    /// For single precision, infinite where there is none.
    pub(super) fn of_f32(self) -> [f32; 2] {
        [self.lo.map_or(f32::NEG_INFINITY, |lo| lo as f32), self.hi.map_or(f32::INFINITY, |hi| hi as f32)]
    }
}

/// A device that can run and train a graph.
pub(crate) trait Kernels: Backend {
    /// Element by element, axes of size 1 repeated; operands of one rank.
    fn arithmetic(op: Arithmetic, a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        burn_arithmetic::<Self>(op, a, b)
    }

    /// Sum along `axes`, ascending, which stay with size 1.
    fn sum(x: FloatTensor<Self>, axes: &[usize]) -> FloatTensor<Self> {
        burn_sum::<Self>(x, axes)
    }

    /// With a number on the right of each element.
    fn scalar(op: Arithmetic, x: FloatTensor<Self>, value: f32) -> FloatTensor<Self> {
        burn_scalar::<Self>(op, x, value)
    }

    /// A function of each element.
    fn function(f: Function, x: FloatTensor<Self>) -> FloatTensor<Self> {
        burn_function::<Self>(f, x)
    }

    /// x·Φ(x), Φ the distribution function of the normal distribution.
    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        burn_gelu::<Self>(x)
    }

    /// Gradient of the input of [`Kernels::gelu`].
    fn gelu_grad(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        burn_gelu_grad::<Self>(x, dy)
    }

    /// eˣ / Σ eˣ along `axis`, shifted by the largest so that nothing overflows.
    fn softmax(x: FloatTensor<Self>, axis: usize) -> FloatTensor<Self> {
        burn_softmax::<Self>(x, axis)
    }

    /// Gradient of the input of [`Kernels::softmax`] from its output and that one's gradient.
    fn softmax_grad(y: FloatTensor<Self>, dy: FloatTensor<Self>, axis: usize) -> FloatTensor<Self> {
        burn_softmax_grad::<Self>(y, dy, axis)
    }

    /// X normalised over its last axes, those of scale and bias: Y, and the mean and 1/√(variance + ε) with these axes of size 1.
    fn layer_norm(x: FloatTensor<Self>, scale: FloatTensor<Self>, bias: FloatTensor<Self>, epsilon: f32) -> [FloatTensor<Self>; 3] {
        burn_layer_norm::<Self>(x, scale, bias, epsilon)
    }

    /// Gradients of X, scale and bias of [`Kernels::layer_norm`].
    fn layer_norm_grad(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        inverse: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3] {
        burn_layer_norm_grad::<Self>(x, scale, mean, inverse, dy)
    }

    /// What stands at the positions of every axis.
    fn cut(x: FloatTensor<Self>, spans: &[Span]) -> FloatTensor<Self> {
        burn_cut::<Self>(x, spans)
    }

    /// A tensor of shape `dims` with x at the positions of every axis and `fill` elsewhere: with 0, the adjoint of [`Kernels::cut`].
    fn place(x: FloatTensor<Self>, dims: &[usize], spans: &[Span], fill: f32) -> FloatTensor<Self> {
        burn_place::<Self>(x, dims, spans, fill)
    }

    /// Tensors side by side along `axis`.
    fn concat(parts: Vec<FloatTensor<Self>>, axis: usize) -> FloatTensor<Self> {
        Self::float_cat(parts, axis)
    }

    /// max(x, 0)
    fn relu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        burn_relu::<Self>(x)
    }

    /// Gradient of the input of [`Kernels::relu`] from its output and that one's gradient.
    fn relu_grad(y: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        burn_relu_grad::<Self>(y, dy)
    }

    /// Values kept between bounds.
    fn clip(x: FloatTensor<Self>, bounds: Bounds) -> FloatTensor<Self> {
        burn_clip::<Self>(x, bounds)
    }

    /// Gradient of the input of [`Kernels::clip`]: that of the output within the bounds, zero beyond them.
    fn clip_grad(x: FloatTensor<Self>, dy: FloatTensor<Self>, bounds: Bounds) -> FloatTensor<Self> {
        burn_clip_grad::<Self>(x, dy, bounds)
    }

    /// [.., M, K] · [.., K, N] → [.., M, N], leading axes broadcast.
    fn matmul(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        burn_matmul::<Self>(a, b)
    }

    /// Convolution: X [N, C, D1…], W [M, C/group, k1…], bias [M] → [N, M, …], kept between bounds; one to three spatial axes.
    fn conv(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        sliding: &Sliding,
        group: usize,
        bounds: Option<Bounds>,
    ) -> FloatTensor<Self> {
        let y = burn_conv::<Self>(x, w, bias, sliding, group);
        match bounds {
            Some(bounds) => Self::clip(y, bounds),
            None => y,
        }
    }

    /// Gradient of the convolution's input, of shape `dims`, from that of its output.
    fn conv_input_grad(dims: &[usize], w: FloatTensor<Self>, dy: FloatTensor<Self>, sliding: &Sliding, group: usize) -> FloatTensor<Self> {
        burn_conv_input_grad::<Self>(dims, w, dy, sliding, group)
    }

    /// Gradient of the convolution's weight, of shape `dims`, from that of its output.
    fn conv_weight_grad(x: FloatTensor<Self>, dims: &[usize], dy: FloatTensor<Self>, sliding: &Sliding, group: usize) -> FloatTensor<Self> {
        burn_conv_weight_grad::<Self>(x, dims, dy, sliding, group)
    }

    /// Largest cell under the window at each of its stands, and which cell of the window it is (the first among equals).
    fn max_pool(x: FloatTensor<Self>, sliding: &Sliding) -> (FloatTensor<Self>, IntTensor<Self>) {
        burn_max_pool::<Self>(x, sliding)
    }

    /// Gradient of the input of [`Kernels::max_pool`], of shape `dims`: each stand's goes to the cell that won.
    fn max_pool_grad(dims: &[usize], winner: IntTensor<Self>, dy: FloatTensor<Self>, sliding: &Sliding) -> FloatTensor<Self> {
        burn_max_pool_grad::<Self>(dims, winner, dy, sliding)
    }

    /// Mean over all axes but the first two of X [N, C, …], which stay with size 1.
    fn spatial_mean(x: FloatTensor<Self>) -> FloatTensor<Self> {
        burn_spatial_mean::<Self>(x)
    }

    /// Gradient of the input of [`Kernels::spatial_mean`], of shape `dims`.
    fn spatial_mean_grad(dims: &[usize], dy: FloatTensor<Self>) -> FloatTensor<Self> {
        burn_spatial_mean_grad::<Self>(dims, dy)
    }

    /// Sum over all axes but the second of X [N, C, …]: [C].
    fn channel_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
        burn_channel_sum::<Self>(x)
    }

    /// a·x + b for each channel: X [N, C, …], a and b [C].
    fn scale_and_shift(x: FloatTensor<Self>, a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        burn_scale_and_shift::<Self>(x, a, b)
    }

    /// X [N, C, …] normalised by its own mean and (population) variance over all axes but C, scaled and shifted: Y, mean, variance.
    fn batch_norm_of_batch(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        burn_batch_norm::<Self>(x, scale, bias, epsilon)
    }

    /// Gradients of X, scale and B of [`Kernels::batch_norm_of_batch`], whose mean and variance are given.
    fn batch_norm_of_batch_grad(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f32,
        dy: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3] {
        burn_batch_norm_grad::<Self>(x, scale, mean, variance, epsilon, dy)
    }

    /// Codes round(x / scale) + zero, halves to even, within `range`, of type `to`. Scale and zero have x's rank and repeat over
    /// axes of size 1.
    fn to_codes(x: FloatTensor<Self>, scale: FloatTensor<Self>, zero: FloatTensor<Self>, range: [f32; 2], to: IntDType) -> IntTensor<Self> {
        burn_to_codes::<Self>(x, scale, zero, range, to)
    }

    /// (x − zero) · scale in single precision. Scale and zero have x's rank and repeat over axes of size 1.
    fn from_codes(x: IntTensor<Self>, scale: FloatTensor<Self>, zero: FloatTensor<Self>) -> FloatTensor<Self> {
        burn_from_codes::<Self>(x, scale, zero)
    }

    /// Mean softmax cross-entropy of logits [N, C] and its gradient: with target q = (1 − smoothing)·one-hot + smoothing/C,
    /// L = −Σ q·log p / N and dz = (p − q) / N.
    fn cross_entropy(logits: FloatTensor<Self>, classes: &[u32], smoothing: f32) -> (f32, FloatTensor<Self>) {
        let logits = Float::<Self>(logits);
        let [n, c] = [classes.len(), logits.dims()[1]];
        let share = smoothing / c as f32;
        let mut target = vec![share; n * c];
        for (row, class) in target.chunks_exact_mut(c).zip(classes) {
            row[*class as usize] += 1.0 - smoothing;
        }
        let target = Float::from_slice(&target, &[n, c], &logits);
        let log_p = log_softmax(logits, 1);
        let loss = (target.clone() * log_p.clone()).sum(&[0, 1]) * (-1.0 / n as f32);
        let data = read_sync(Self::float_into_data(loss.0)).expect("the device answers");
        let loss = data.iter::<f32>().next().unwrap_or(f32::NAN);
        (loss, ((log_p.exp() - target) * (1.0 / n as f32)).0)
    }

    /// One step of SGD, see [`UpdateRule::Sgd`]: the weight, and its velocity where there is momentum.
    ///
    /// [`UpdateRule::Sgd`]: crate::executor::UpdateRule::Sgd
    fn sgd(
        w: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: Option<FloatTensor<Self>>,
        step: Sgd,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        burn_sgd::<Self>(w, gradient, velocity, step)
    }

    /// One step of Adam, see [`UpdateRule::Adam`]: the weight, and its first and second moment.
    ///
    /// [`UpdateRule::Adam`]: crate::executor::UpdateRule::Adam
    fn adam(w: FloatTensor<Self>, gradient: FloatTensor<Self>, moments: [FloatTensor<Self>; 2], step: Adam) -> [FloatTensor<Self>; 3] {
        burn_adam::<Self>(w, gradient, moments, step)
    }

    /// Σ x², in double precision and in the order of the elements: a device's own sum may depend on its number of threads.
    fn sum_of_squares(x: FloatTensor<Self>) -> f64 {
        ordered_sum_of_squares::<Self>(x)
    }
}

/// [`Kernels::matmul`] as Burn has it.
pub(super) fn burn_matmul<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(a, b)
}

/// [`Kernels::to_codes`] out of simpler operations.
pub(super) fn burn_to_codes<B: Backend>(
    x: FloatTensor<B>,
    scale: FloatTensor<B>,
    zero: FloatTensor<B>,
    [lo, hi]: [f32; 2],
    to: IntDType,
) -> IntTensor<B> {
    let codes = B::float_add(B::float_round(B::float_div(x, scale)), zero);
    B::float_into_int(B::float_clamp(codes, f64::from(lo).into(), f64::from(hi).into()), to)
}

/// [`Kernels::from_codes`] out of simpler operations.
pub(super) fn burn_from_codes<B: Backend>(x: IntTensor<B>, scale: FloatTensor<B>, zero: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mul(B::float_sub(B::int_into_float(x, FloatDType::F32), zero), scale)
}

/// [`Kernels::arithmetic`] as Burn has it.
pub(super) fn burn_arithmetic<B: Backend>(op: Arithmetic, a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    match op {
        Arithmetic::Add => B::float_add(a, b),
        Arithmetic::Sub => B::float_sub(a, b),
        Arithmetic::Mul => B::float_mul(a, b),
        Arithmetic::Div => B::float_div(a, b),
    }
}

/// [`Kernels::sum`] axis by axis.
pub(super) fn burn_sum<B: Backend>(x: FloatTensor<B>, axes: &[usize]) -> FloatTensor<B> {
    axes.iter().rev().fold(x, |x, axis| if x.shape()[*axis] == 1 { x } else { B::float_sum_dim(x, *axis) })
}

/// [`Kernels::scalar`] as Burn has it.
pub(super) fn burn_scalar<B: Backend>(op: Arithmetic, x: FloatTensor<B>, value: f32) -> FloatTensor<B> {
    let value = f64::from(value).into();
    match op {
        Arithmetic::Add => B::float_add_scalar(x, value),
        Arithmetic::Sub => B::float_sub_scalar(x, value),
        Arithmetic::Mul => B::float_mul_scalar(x, value),
        Arithmetic::Div => B::float_div_scalar(x, value),
    }
}

/// [`Kernels::function`] as Burn has it.
pub(super) fn burn_function<B: Backend>(f: Function, x: FloatTensor<B>) -> FloatTensor<B> {
    match f {
        Function::Exp => B::float_exp(x),
        Function::Erf => B::float_erf(x),
        Function::Sigmoid => <B as ActivationOps<B>>::sigmoid(x),
        Function::Tanh => B::float_tanh(x),
    }
}

/// [`Kernels::gelu`] out of simpler operations.
pub(super) fn burn_gelu<B: Kernels>(x: FloatTensor<B>) -> FloatTensor<B> {
    let x = Float::<B>(x);
    (x.clone() * distribution(x)).0
}

/// [`Kernels::gelu_grad`] out of simpler operations.
pub(super) fn burn_gelu_grad<B: Kernels>(x: FloatTensor<B>, dy: FloatTensor<B>) -> FloatTensor<B> {
    let x = Float::<B>(x);
    let density = (x.clone().square() * -0.5).exp() / (2.0 * PI).sqrt();
    (Float(dy) * (distribution(x.clone()) + x * density)).0
}

/// The distribution function of the normal distribution.
fn distribution<B: Kernels>(x: Float<B>) -> Float<B> {
    ((x / 2f32.sqrt()).erf() + 1.0) * 0.5
}

/// [`Kernels::softmax`] out of simpler operations.
pub(super) fn burn_softmax<B: Kernels>(x: FloatTensor<B>, axis: usize) -> FloatTensor<B> {
    let x = Float::<B>(x);
    let e = (x.clone() - x.max_along(axis)).exp();
    (e.clone() / e.sum(&[axis])).0
}

/// [`Kernels::softmax_grad`] out of simpler operations.
pub(super) fn burn_softmax_grad<B: Kernels>(y: FloatTensor<B>, dy: FloatTensor<B>, axis: usize) -> FloatTensor<B> {
    let (y, dy) = (Float::<B>(y), Float::<B>(dy));
    (y.clone() * (dy.clone() - (dy * y).sum(&[axis]))).0
}

/// [`Kernels::layer_norm`] out of simpler operations.
pub(super) fn burn_layer_norm<B: Kernels>(
    x: FloatTensor<B>,
    scale: FloatTensor<B>,
    bias: FloatTensor<B>,
    epsilon: f32,
) -> [FloatTensor<B>; 3] {
    normalization::of_rows::<B>(Float(x), Float(scale), Float(bias), epsilon).map(|t| t.0)
}

/// [`Kernels::layer_norm_grad`] out of simpler operations.
pub(super) fn burn_layer_norm_grad<B: Kernels>(
    x: FloatTensor<B>,
    scale: FloatTensor<B>,
    mean: FloatTensor<B>,
    inverse: FloatTensor<B>,
    dy: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    normalization::of_rows_grad::<B>(Float(x), Float(scale), Float(mean), Float(inverse), Float(dy)).map(|t| t.0)
}

/// [`Kernels::cut`] as Burn has it.
pub(super) fn burn_cut<B: Backend>(x: FloatTensor<B>, spans: &[Span]) -> FloatTensor<B> {
    B::float_slice(x, &slices(spans))
}

/// [`Kernels::place`] out of Burn's operations.
pub(super) fn burn_place<B: Backend>(x: FloatTensor<B>, dims: &[usize], spans: &[Span], fill: f32) -> FloatTensor<B> {
    let whole = B::float_full(Shape::from(dims.to_vec()), f64::from(fill).into(), &x.device(), x.dtype().into());
    if spans.iter().any(|span| span.count == 0) { whole } else { B::float_slice_assign(whole, &slices(spans), x) }
}

/// The positions as Burn writes them.
pub(super) fn slices(spans: &[Span]) -> Vec<Slice> {
    spans.iter().map(|at| span(at.start, at.count, at.step)).collect()
}

/// [`Kernels::relu`] as Burn has it.
pub(super) fn burn_relu<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    <B as ActivationOps<B>>::relu(x)
}

/// [`Kernels::relu_grad`] as Burn has it.
pub(super) fn burn_relu_grad<B: Backend>(y: FloatTensor<B>, dy: FloatTensor<B>) -> FloatTensor<B> {
    <B as ActivationOps<B>>::relu_backward(y, dy)
}

/// [`Kernels::clip`] out of Burn's.
pub(super) fn burn_clip<B: Backend>(x: FloatTensor<B>, bounds: Bounds) -> FloatTensor<B> {
    let raised = match bounds.lo {
        Some(lo) => B::float_clamp_min(x, lo.into()),
        None => x,
    };
    match bounds.hi {
        Some(hi) => B::float_clamp_max(raised, hi.into()),
        None => raised,
    }
}

/// [`Kernels::clip_grad`] out of simpler operations.
pub(super) fn burn_clip_grad<B: Kernels>(x: FloatTensor<B>, dy: FloatTensor<B>, bounds: Bounds) -> FloatTensor<B> {
    let (x, dy) = (Float::<B>(x), Float::<B>(dy));
    let dy = bounds.lo.map_or(dy.clone(), |lo| dy.zero_where(x.clone().below(lo as f32)));
    bounds.hi.map_or(dy.clone(), |hi| dy.zero_where(x.above(hi as f32))).0
}

/// [`Kernels::spatial_mean`] out of Burn's sums.
pub(super) fn burn_spatial_mean<B: Kernels>(x: FloatTensor<B>) -> FloatTensor<B> {
    let axes: Vec<usize> = (2..x.rank()).collect();
    Float::<B>(x).mean(&axes).0
}

/// [`Kernels::spatial_mean_grad`] out of Burn's operations.
pub(super) fn burn_spatial_mean_grad<B: Kernels>(dims: &[usize], dy: FloatTensor<B>) -> FloatTensor<B> {
    let share = 1.0 / dims[2..].iter().product::<usize>() as f32;
    (Float::<B>(dy) * share).expand(dims).0
}

/// [`Kernels::channel_sum`] out of Burn's sums.
pub(super) fn burn_channel_sum<B: Kernels>(x: FloatTensor<B>) -> FloatTensor<B> {
    let x = Float::<B>(x);
    let channels = x.dims()[1];
    let axes: Vec<usize> = (0..x.rank()).filter(|axis| *axis != 1).collect();
    x.sum(&axes).reshape(&[channels]).0
}

/// [`Kernels::scale_and_shift`] out of Burn's arithmetic.
pub(super) fn burn_scale_and_shift<B: Kernels>(x: FloatTensor<B>, a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    let rank = x.rank();
    (Float::<B>(x) * Float::<B>(a).along(1, rank) + Float::<B>(b).along(1, rank)).0
}

/// [`Kernels::batch_norm_of_batch`] out of simpler operations.
pub(super) fn burn_batch_norm<B: Kernels>(
    x: FloatTensor<B>,
    scale: FloatTensor<B>,
    bias: FloatTensor<B>,
    epsilon: f32,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (y, mean, variance) = normalization::of_batch::<B>(Float(x), Float(scale), Float(bias), epsilon);
    (y.0, mean.0, variance.0)
}

/// [`Kernels::batch_norm_of_batch_grad`] out of simpler operations.
pub(super) fn burn_batch_norm_grad<B: Kernels>(
    x: FloatTensor<B>,
    scale: FloatTensor<B>,
    mean: FloatTensor<B>,
    variance: FloatTensor<B>,
    epsilon: f32,
    dy: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    normalization::of_batch_grad::<B>(Float(x), Float(scale), Float(mean), Float(variance), epsilon, Float(dy)).map(|g| g.0)
}

/// [`Kernels::conv`] as Burn has it.
pub(super) fn burn_conv<B: Backend>(
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    sliding: &Sliding,
    group: usize,
) -> FloatTensor<B> {
    match x.rank() {
        3 => B::conv1d(x, w, bias, options(sliding, group)),
        4 => B::conv2d(x, w, bias, options(sliding, group)),
        _ => B::conv3d(x, w, bias, options(sliding, group)),
    }
}

/// [`Kernels::conv_input_grad`] as Burn has it.
pub(super) fn burn_conv_input_grad<B: Backend>(
    dims: &[usize],
    w: FloatTensor<B>,
    dy: FloatTensor<B>,
    sliding: &Sliding,
    group: usize,
) -> FloatTensor<B> {
    // Only its shape is read.
    let x = B::float_zeros(Shape::from(dims.to_vec()), &dy.device(), dy.dtype().into());
    match dims.len() {
        3 => B::conv1d_x_backward(x, w, dy, options(sliding, group)),
        4 => B::conv2d_x_backward(x, w, dy, options(sliding, group)),
        _ => B::conv3d_x_backward(x, w, dy, options(sliding, group)),
    }
}

/// [`Kernels::conv_weight_grad`] as Burn has it.
pub(super) fn burn_conv_weight_grad<B: Backend>(
    x: FloatTensor<B>,
    dims: &[usize],
    dy: FloatTensor<B>,
    sliding: &Sliding,
    group: usize,
) -> FloatTensor<B> {
    // Only its shape is read.
    let w = B::float_zeros(Shape::from(dims.to_vec()), &dy.device(), dy.dtype().into());
    match dims.len() {
        3 => B::conv1d_weight_backward(x, w, dy, options(sliding, group)),
        4 => B::conv2d_weight_backward(x, w, dy, options(sliding, group)),
        _ => B::conv3d_weight_backward(x, w, dy, options(sliding, group)),
    }
}

/// [`Kernels::max_pool`] out of simpler operations.
pub(super) fn burn_max_pool<B: Backend>(x: FloatTensor<B>, sliding: &Sliding) -> (FloatTensor<B>, IntTensor<B>) {
    let stands = sliding.output(&x.shape().to_vec()[2..]).expect("the window was checked to fit");
    let x = B::float_pad(x, &all_axes(sliding), PadMode::Constant(f32::NEG_INFINITY));
    let mut cells = sliding.cells().enumerate().map(|(k, cell)| (k, B::float_slice(x.clone(), &under(sliding, &stands, &cell))));
    let (_, mut y) = cells.next().expect("a window has a cell");
    let mut winner = B::int_zeros(y.shape(), &y.device(), IntDType::I64);
    for (k, candidate) in cells {
        let better = B::float_greater(candidate.clone(), y.clone(), BoolDType::Native);
        winner = B::int_mask_fill(winner, better.clone(), (k as i64).into());
        y = B::float_mask_where(y, better, candidate);
    }
    (y, winner)
}

/// [`Kernels::max_pool_grad`] out of simpler operations.
pub(super) fn burn_max_pool_grad<B: Backend>(
    dims: &[usize],
    winner: IntTensor<B>,
    dy: FloatTensor<B>,
    sliding: &Sliding,
) -> FloatTensor<B> {
    let stands = dy.shape().to_vec().split_off(2);
    let widths = all_axes(sliding);
    let padded: Vec<usize> = dims.iter().zip(&widths).map(|(n, (before, after))| n + before + after).collect();
    let mut dx = B::float_zeros(Shape::from(padded), &dy.device(), dy.dtype().into());
    for (k, cell) in sliding.cells().enumerate() {
        let lost: BoolTensor<B> = B::int_not_equal_elem(winner.clone(), (k as i64).into(), BoolDType::Native);
        let won = B::float_mask_fill(dy.clone(), lost, 0.0.into());
        let at = under(sliding, &stands, &cell);
        let sum = B::float_add(B::float_slice(dx.clone(), &at), won);
        dx = B::float_slice_assign(dx, &at, sum);
    }
    let inner: Vec<Slice> = dims.iter().zip(&widths).map(|(n, (before, _))| span(*before, *n, 1)).collect();
    B::float_slice(dx, &inner)
}

/// [`Kernels::sgd`] out of Burn's arithmetic.
pub(super) fn burn_sgd<B: Kernels>(
    w: FloatTensor<B>,
    gradient: FloatTensor<B>,
    velocity: Option<FloatTensor<B>>,
    step: Sgd,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    let (w, gradient) = (Float::<B>(w), Float::<B>(gradient) * step.shrink);
    let gradient = gradient + w.clone() * step.decay;
    let Some(velocity) = velocity else {
        return ((w - gradient * step.rate).0, None);
    };
    let velocity = Float::<B>(velocity) * step.momentum + gradient.clone();
    let direction = if step.nesterov { gradient + velocity.clone() * step.momentum } else { velocity.clone() };
    ((w - direction * step.rate).0, Some(velocity.0))
}

/// [`Kernels::adam`] out of Burn's arithmetic.
pub(super) fn burn_adam<B: Kernels>(
    w: FloatTensor<B>,
    gradient: FloatTensor<B>,
    [first, second]: [FloatTensor<B>; 2],
    step: Adam,
) -> [FloatTensor<B>; 3] {
    let (w, gradient) = (Float::<B>(w), Float::<B>(gradient) * step.shrink);
    let gradient = gradient + w.clone() * step.decay;
    let first = Float::<B>(first) * step.beta1 + gradient.clone() * (1.0 - step.beta1);
    let second = Float::<B>(second) * step.beta2 + gradient.square() * (1.0 - step.beta2);
    let root = second.clone().sqrt() * step.unbiased + step.epsilon;
    let w = w * step.keep - first.clone() / root * step.rate;
    [w.0, first.0, second.0]
}

/// [`Kernels::sum_of_squares`] on the host.
pub(super) fn ordered_sum_of_squares<B: Backend>(x: FloatTensor<B>) -> f64 {
    let data = read_sync(B::float_into_data(x)).expect("the device answers");
    match data.as_slice::<f32>() {
        Ok(values) => values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum(),
        Err(_) => data.iter::<f64>().map(|v| v * v).sum(),
    }
}

/// `n` positions from `start`, `step` apart.
fn span(start: usize, n: usize, step: usize) -> Slice {
    Slice::new(start as isize, Some((start + n.saturating_sub(1) * step + usize::from(n > 0)) as isize), step as isize)
}

/// What one cell of the window sees at all of its stands over the padded input.
fn under(sliding: &Sliding, stands: &[usize], cell: &[usize]) -> Vec<Slice> {
    let spatial = (0..stands.len()).map(|i| span(cell[i] * sliding.dilations[i], stands[i], sliding.strides[i]));
    [Slice::full(), Slice::full()].into_iter().chain(spatial).collect()
}

/// The padding of every axis, batch and channels included.
fn all_axes(sliding: &Sliding) -> Vec<(usize, usize)> {
    [(0, 0), (0, 0)].into_iter().chain(sliding.pads.iter().copied()).collect()
}

fn options<const N: usize>(sliding: &Sliding, group: usize) -> ConvOptions<N> {
    let at = |list: &[usize]| std::array::from_fn(|i| list[i]);
    ConvOptions::new_with_padding(at(&sliding.strides), std::array::from_fn(|i| sliding.pads[i]), at(&sliding.dilations), group)
}
