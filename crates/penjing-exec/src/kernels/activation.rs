//! Activation functions and softmax.

use std::f32::consts::PI;

use penjing_graph::ops::{Activation, Softmax};

use super::{Call, Done, Float, Kernels};
use crate::ExecError;

pub(super) fn activation<B: Kernels>(op: Activation, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let x = call.float(0)?;
    let kind = x.dtype();
    let positive = move |x: Float<B>| Float::<B>::indicator(x.above(0.0), kind);
    Ok(match op {
        Activation::Relu => {
            let y = Float(<B as Kernels>::relu(x.0));
            Done::unary(y.clone(), move |dy| Float(B::relu_grad(y.0, dy.0)))
        }
        Activation::LeakyRelu { alpha } => {
            let slope = positive(x.clone()) * (1.0 - alpha) + alpha;
            Done::unary(x * slope.clone(), move |dy| dy * slope)
        }
        Activation::PRelu => {
            let slope = call.float(1)?;
            call.broadcast(&x.dims(), &slope.dims())?;
            let negative = Float::<B>::indicator(x.clone().below(0.0), kind);
            let y = x.clone() * (slope.clone() * negative.clone() + (1.0 - negative.clone()));
            let dims = slope.dims();
            Done::nary(y, move |dy| {
                let dslope = (dy.clone() * x * negative.clone()).sum_to(&dims);
                vec![Some(dy * (slope * negative.clone() + (1.0 - negative))), Some(dslope)]
            })
        }
        Activation::Elu { alpha } => {
            let positive = positive(x.clone());
            let tail = x.clone().clamp(f32::NEG_INFINITY, 0.0).exp();
            let y = x * positive.clone() + (tail.clone() - 1.0) * alpha;
            Done::unary(y, move |dy| dy * (positive.clone() + (1.0 - positive) * tail * alpha))
        }
        Activation::Celu { alpha } => {
            let positive = positive(x.clone());
            let tail = (x.clone().clamp(f32::NEG_INFINITY, 0.0) / alpha).exp();
            let y = x * positive.clone() + (tail.clone() - 1.0) * alpha;
            Done::unary(y, move |dy| dy * (positive.clone() + (1.0 - positive) * tail))
        }
        Activation::Selu { alpha, gamma } => {
            let positive = positive(x.clone());
            let tail = x.clone().clamp(f32::NEG_INFINITY, 0.0).exp();
            let y = (x * positive.clone() + (tail.clone() - 1.0) * alpha) * gamma;
            Done::unary(y, move |dy| dy * (positive.clone() + (1.0 - positive) * tail * alpha) * gamma)
        }
        Activation::Sigmoid => {
            let y = x.sigmoid();
            Done::unary(y.clone(), move |dy| dy * y.clone() * (1.0 - y))
        }
        Activation::HardSigmoid { alpha, beta } => {
            let line = x * alpha + beta;
            let y = line.clone().clamp(0.0, 1.0);
            Done::unary(y, move |dy| dy * inside(line, 0.0, 1.0) * alpha)
        }
        Activation::HardSwish => {
            let line = x.clone() / 6.0 + 0.5;
            let gate = line.clone().clamp(0.0, 1.0);
            Done::unary(x.clone() * gate.clone(), move |dy| dy * (gate + x * inside(line, 0.0, 1.0) / 6.0))
        }
        Activation::Swish { alpha } => {
            let gate = (x.clone() * alpha).sigmoid();
            Done::unary(x.clone() * gate.clone(), move |dy| dy * gate.clone() * (x * alpha * (1.0 - gate) + 1.0))
        }
        Activation::Mish => {
            let t = softplus(x.clone()).tanh();
            Done::unary(x.clone() * t.clone(), move |dy| dy * (t.clone() + x.clone() * x.sigmoid() * (1.0 - t.square())))
        }
        Activation::Tanh => {
            let y = x.tanh();
            Done::unary(y.clone(), move |dy| dy * (1.0 - y.square()))
        }
        Activation::Softplus => Done::unary(softplus(x.clone()), move |dy| dy * x.sigmoid()),
        Activation::Softsign => {
            let denominator = x.clone().abs() + 1.0;
            Done::unary(x / denominator.clone(), move |dy| dy / denominator.square())
        }
        Activation::ThresholdedRelu { alpha } => {
            let gate = Float::<B>::indicator(x.clone().above(alpha), kind);
            Done::unary(x * gate.clone(), move |dy| dy * gate)
        }
        Activation::Gelu { tanh: false } => {
            let y = Float(<B as Kernels>::gelu(x.0.clone()));
            Done::unary(y, move |dy| Float(B::gelu_grad(x.0, dy.0)))
        }
        Activation::Gelu { tanh: true } => {
            let c = (2.0 / PI).sqrt();
            let t = ((x.clone() + x.clone().square() * x.clone() * 0.044_715) * c).tanh();
            Done::unary(x.clone() * (t.clone() + 1.0) * 0.5, move |dy| {
                let slope = (x.clone().square() * (3.0 * 0.044_715) + 1.0) * c;
                dy * ((t.clone() + 1.0) + x * (1.0 - t.square()) * slope) * 0.5
            })
        }
    })
}

/// 1 strictly between the bounds, else 0.
fn inside<B: Kernels>(x: Float<B>, lo: f32, hi: f32) -> Float<B> {
    let kind = x.dtype();
    Float::<B>::indicator(x.clone().above(lo), kind) * Float::indicator(x.below(hi), kind)
}

/// ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|), which never overflows.
fn softplus<B: Kernels>(x: Float<B>) -> Float<B> {
    (-x.clone().abs()).exp().ln_1p() + x.clamp(0.0, f32::INFINITY)
}

pub(super) fn softmax<B: Kernels>(op: Softmax, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let x = call.float(0)?;
    let dims = x.dims();
    if dims.is_empty() {
        return Err(call.refuse("its input has no axes"));
    }
    let flattened = call.opset < 13;
    let axis = call.axis(op.axis.unwrap_or(if flattened { 1 } else { -1 }), dims.len() + usize::from(flattened))?;
    // Rows whose elements sum to one stand along `axis` of `shape`.
    let (shape, axis) =
        if flattened { (vec![dims[..axis].iter().product(), dims[axis..].iter().product()], 1) } else { (dims.clone(), axis) };
    let x = x.reshape(&shape);
    Ok(if op.log {
        let y = log_softmax(x, axis);
        Done::unary(y.clone().reshape(&dims), move |dy| {
            let dy = dy.reshape(&shape);
            (dy.clone() - y.exp() * dy.sum(&[axis])).reshape(&dims)
        })
    } else {
        let y = Float(<B as Kernels>::softmax(x.0, axis));
        Done::unary(y.clone().reshape(&dims), move |dy| Float::<B>(B::softmax_grad(y.0, dy.reshape(&shape).0, axis)).reshape(&dims))
    })
}

/// x − ln Σ eˣ along `axis`, shifted by the largest so that nothing overflows.
pub(crate) fn log_softmax<B: Kernels>(x: Float<B>, axis: usize) -> Float<B> {
    let shifted = x.clone() - x.max_along(axis);
    shifted.clone() - shifted.exp().sum(&[axis]).ln()
}
