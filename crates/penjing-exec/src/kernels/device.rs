//! The hot operations: Burn's own for every device, better ones where a device has them.

use burn_backend::Backend;
use burn_backend::ops::{ConvOptions, PadMode};
use burn_backend::tensor::{BoolTensor, FloatTensor, IntTensor};
use burn_backend::{BoolDType, IntDType, Shape, Slice, TensorMetadata, read_sync};

use super::Float;
use super::activation::log_softmax;
use super::normalization;
use super::window::Sliding;

/// A device that can run and train a graph.
pub(crate) trait Kernels: Backend {
    /// [.., M, K] · [.., K, N] → [.., M, N], leading axes broadcast.
    fn matmul(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(a, b)
    }

    /// Convolution: X [N, C, D1…], W [M, C/group, k1…], bias [M] → [N, M, …]; one to three spatial axes.
    fn conv(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        sliding: &Sliding,
        group: usize,
    ) -> FloatTensor<Self> {
        burn_conv::<Self>(x, w, bias, sliding, group)
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

    /// a·x + b for each channel: X [N, C, …], a and b [C].
    fn scale_and_shift(x: FloatTensor<Self>, a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let rank = x.rank();
        (Float::<Self>(x) * Float::<Self>(a).along(1, rank) + Float::<Self>(b).along(1, rank)).0
    }

    /// X [N, C, …] normalised by its own mean and (population) variance over all axes but C, scaled and shifted: Y, mean, variance.
    fn batch_norm_of_batch(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (y, mean, variance) = normalization::of_batch::<Self>(Float(x), Float(scale), Float(bias), epsilon);
        (y.0, mean.0, variance.0)
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
        normalization::of_batch_grad::<Self>(Float(x), Float(scale), Float(mean), Float(variance), epsilon, Float(dy)).map(|g| g.0)
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

    /// Σ x², in double precision and in the order of the elements: a device's own sum may depend on its number of threads.
    fn sum_of_squares(x: FloatTensor<Self>) -> f64 {
        ordered_sum_of_squares::<Self>(x)
    }
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
