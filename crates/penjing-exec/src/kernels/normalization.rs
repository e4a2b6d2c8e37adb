//! Normalisation layers.

use burn_backend::tensor::FloatTensor;
use penjing_graph::ops::{BatchNormalization, InstanceNormalization, LayerNormalization};

use super::{Call, Done, Float, Kernels, Mode, Value};
use crate::ExecError;

/// With batch statistics the variance is the population's (divided by the count), also in the running average, as ONNX
/// says; PyTorch's running average divides by the count minus one.
pub(super) fn batch<B: Kernels>(op: BatchNormalization, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let (x, scale, bias) = (call.float(0)?, call.float(1)?, call.float(2)?);
    let (mean, variance) = (call.float(3)?, call.float(4)?);
    let dims = x.dims();
    let rank = dims.len();
    let channels = if rank >= 2 { dims[1] } else { 1 };
    for (name, t) in [("scale", &scale), ("B", &bias), ("mean", &mean), ("var", &variance)] {
        if rank < 2 || t.dims() != [channels] {
            return Err(call.refuse(format!("{name} of shape {:?} does not fit an input of shape {dims:?}", t.dims())));
        }
    }
    if call.mode == Mode::Inference && !op.training_mode {
        // y = a·x + (B − a·mean) with constant statistics
        let inverse = 1.0 / (variance + op.epsilon).sqrt();
        let a = scale * inverse.clone();
        let y = Float(B::scale_and_shift(x.0.clone(), a.0.clone(), (bias - mean.clone() * a.clone()).0));
        return Ok(Done::nary(y, move |dy| {
            let axes = all_but_channels(rank);
            let normalized = (x - mean.along(1, rank)) * inverse.along(1, rank);
            let dscale = (dy.clone() * normalized).sum(&axes).reshape(&[channels]);
            let dbias = dy.clone().sum(&axes).reshape(&[channels]);
            vec![Some(dy * a.along(1, rank)), Some(dscale), Some(dbias)]
        }));
    }
    let (y, batch_mean, batch_variance) = B::batch_norm_of_batch(x.0.clone(), scale.0.clone(), bias.0, op.epsilon);
    let keep = match call.mode {
        Mode::Statistics { share } => 1.0 - share,
        Mode::Inference | Mode::Training { .. } => op.momentum,
    };
    let moved = |running: Float<B>, batch: FloatTensor<B>| running * keep + Float(batch) * (1.0 - keep);
    let (mean, variance) = (moved(mean, batch_mean.clone()), moved(variance, batch_variance.clone()));
    let mut done = Done::nary(Float(y), move |dy: Float<B>| {
        let gradients = B::batch_norm_of_batch_grad(x.0, scale.0, batch_mean, batch_variance, op.epsilon, dy.0);
        gradients.map(|gradient| Some(Float(gradient))).into()
    });
    done.outputs.extend([mean.clone().into(), variance.clone().into()]);
    done.running = vec![(3, mean), (4, variance)];
    Ok(done)
}

/// [`Kernels::batch_norm_of_batch`] out of simpler operations.
pub(super) fn of_batch<B: Kernels>(x: Float<B>, scale: Float<B>, bias: Float<B>, epsilon: f32) -> (Float<B>, Float<B>, Float<B>) {
    let (rank, channels) = (x.rank(), scale.dims());
    let Standardized { normalized, mean, variance, .. } = standardize(x, &all_but_channels(rank), epsilon);
    let y = normalized * scale.along(1, rank) + bias.along(1, rank);
    (y, mean.reshape(&channels), variance.reshape(&channels))
}

/// [`Kernels::batch_norm_of_batch_grad`] out of simpler operations.
pub(super) fn of_batch_grad<B: Kernels>(
    x: Float<B>,
    scale: Float<B>,
    mean: Float<B>,
    variance: Float<B>,
    epsilon: f32,
    dy: Float<B>,
) -> [Float<B>; 3] {
    let (rank, channels) = (x.rank(), scale.dims());
    let axes = all_but_channels(rank);
    let inverse = 1.0 / (variance.along(1, rank) + epsilon).sqrt();
    let normalized = (x - mean.along(1, rank)) * inverse.clone();
    let dscale = (dy.clone() * normalized.clone()).sum(&axes).reshape(&channels);
    let dbias = dy.clone().sum(&axes).reshape(&channels);
    [unstandardize(dy * scale.along(1, rank), normalized, inverse, &axes), dscale, dbias]
}

fn all_but_channels(rank: usize) -> Vec<usize> {
    (0..rank).filter(|axis| *axis != 1).collect()
}

pub(super) fn layer<B: Kernels>(op: LayerNormalization, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let (x, scale, bias) = (call.float(0)?, call.float(1)?, call.optional_float(2)?);
    let dims = x.dims();
    let axis = call.axis(op.axis, dims.len())?;
    for t in [Some(&scale), bias.as_ref()].into_iter().flatten() {
        if call.broadcast(&t.dims(), &dims)? != dims {
            return Err(call.refuse(format!("scale or B of shape {:?} does not broadcast to {dims:?}", t.dims())));
        }
    }
    let (scale_dims, bias_dims) = (scale.dims(), bias.as_ref().map(Float::dims));
    let rows = &dims[axis..];
    let [one, zero] = [1.0, 0.0].map(|value| Float::full(value, rows, &x));
    if [Some(&scale), bias.as_ref()].into_iter().flatten().any(|t| t.rank() > rows.len()) {
        // Scale or bias differ from row to row.
        let [normalized, mean, inverse] = <B as Kernels>::layer_norm(x.0.clone(), one.0.clone(), zero.0, op.epsilon).map(Float::<B>);
        let scaled = normalized.clone() * scale.clone();
        let y = match bias {
            Some(bias) => scaled + bias,
            None => scaled,
        };
        let saved = [mean.clone(), inverse.clone()];
        let mut done = Done::nary(y, move |dy: Float<B>| {
            let dscale = (dy.clone() * normalized).sum_to(&scale_dims);
            let dbias = bias_dims.map(|dims| dy.clone().sum_to(&dims));
            let [dx, ..] = B::layer_norm_grad(x.0, one.0, mean.0, inverse.0, (dy * scale).0);
            vec![Some(Float(dx)), Some(dscale), dbias]
        });
        done.outputs.extend(saved.map(Value::from));
        return Ok(done);
    }
    let scale = scale.expand(rows);
    let bias = bias.map_or(zero, |bias| bias.expand(rows));
    let [y, mean, inverse] = <B as Kernels>::layer_norm(x.0.clone(), scale.0.clone(), bias.0, op.epsilon).map(Float::<B>);
    let saved = [mean.clone(), inverse.clone()];
    let mut done = Done::nary(y, move |dy: Float<B>| {
        let [dx, dscale, dbias] = B::layer_norm_grad(x.0, scale.0, mean.0, inverse.0, dy.0).map(Float::<B>);
        vec![Some(dx), Some(dscale.sum_to(&scale_dims)), bias_dims.map(|dims| dbias.sum_to(&dims))]
    });
    done.outputs.extend(saved.map(Value::from));
    Ok(done)
}

/// [`Kernels::layer_norm`] out of simpler operations.
pub(super) fn of_rows<B: Kernels>(x: Float<B>, scale: Float<B>, bias: Float<B>, epsilon: f32) -> [Float<B>; 3] {
    let axes: Vec<usize> = (x.rank() - scale.rank()..x.rank()).collect();
    let Standardized { normalized, inverse, mean, variance: _ } = standardize(x, &axes, epsilon);
    [normalized * scale + bias, mean, inverse]
}

/// [`Kernels::layer_norm_grad`] out of simpler operations.
pub(super) fn of_rows_grad<B: Kernels>(x: Float<B>, scale: Float<B>, mean: Float<B>, inverse: Float<B>, dy: Float<B>) -> [Float<B>; 3] {
    let dims = scale.dims();
    let axes: Vec<usize> = (x.rank() - dims.len()..x.rank()).collect();
    let normalized = (x - mean) * inverse.clone();
    let dscale = (dy.clone() * normalized.clone()).sum_to(&dims);
    let dbias = dy.clone().sum_to(&dims);
    [unstandardize(dy * scale, normalized, inverse, &axes), dscale, dbias]
}

pub(super) fn instance<B: Kernels>(op: InstanceNormalization, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let (x, scale, bias) = (call.float(0)?, call.float(1)?, call.float(2)?);
    let dims = x.dims();
    let rank = dims.len();
    if rank < 3 || scale.dims() != dims[1..2] || bias.dims() != dims[1..2] {
        return Err(call.refuse(format!(
            "scale and B of shapes {:?} and {:?} do not fit an input of shape {dims:?}",
            scale.dims(),
            bias.dims()
        )));
    }
    let axes: Vec<usize> = (2..rank).collect();
    let (scale, bias) = (scale.along(1, rank), bias.along(1, rank));
    let Standardized { normalized, inverse, .. } = standardize(x, &axes, op.epsilon);
    let y = normalized.clone() * scale.clone() + bias;
    Ok(Done::nary(y, move |dy| {
        let others = all_but_channels(rank);
        let dscale = (dy.clone() * normalized.clone()).sum(&others).reshape(&dims[1..2]);
        let dbias = dy.clone().sum(&others).reshape(&dims[1..2]);
        vec![Some(unstandardize(dy * scale, normalized, inverse, &axes)), Some(dscale), Some(dbias)]
    }))
}

struct Standardized<B: Kernels> {
    normalized: Float<B>,
    /// 1 / √(variance + epsilon)
    inverse: Float<B>,
    mean: Float<B>,
    variance: Float<B>,
}

/// x̂ = (x − mean) / √(variance + epsilon) over `axes`, which the statistics keep with size 1.
fn standardize<B: Kernels>(x: Float<B>, axes: &[usize], epsilon: f32) -> Standardized<B> {
    let mean = x.clone().mean(axes);
    let centered = x - mean.clone();
    let variance = centered.clone().square().mean(axes);
    let inverse = 1.0 / (variance.clone() + epsilon).sqrt();
    Standardized { normalized: centered * inverse.clone(), inverse, mean, variance }
}

/// The pullback of [`standardize`]: dx = inverse · (dx̂ − mean(dx̂) − x̂ · mean(dx̂ · x̂))
fn unstandardize<B: Kernels>(dy: Float<B>, normalized: Float<B>, inverse: Float<B>, axes: &[usize]) -> Float<B> {
    let projection = normalized.clone() * (dy.clone() * normalized).mean(axes);
    inverse * (dy.clone() - dy.mean(axes) - projection)
}
