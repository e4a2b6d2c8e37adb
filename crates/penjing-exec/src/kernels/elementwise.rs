//! Element-by-element arithmetic with numpy broadcasting.

use burn_backend::tensor::{BoolTensor, IntTensor};
use burn_backend::{BoolDType, DType, TensorMetadata};
use penjing_graph::ops::{Binary, Cast, Clip, Dropout, Unary, Variadic};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::device::Bounds;
use super::{Call, Done, Float, Kernels, Mode, Value, broadcast, device_type, quantize};
use crate::ExecError;

pub(super) fn unary<B: Kernels>(op: Unary, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let x = match (call.value(0)?, op) {
        (Value::Float(x), _) => x,
        (Value::Bool(x), Unary::Not) => return Ok(Done::constant(Value::Bool(B::bool_not(x)))),
        (Value::Int(x), Unary::Abs) => return Ok(Done::constant(Value::Int(B::int_abs(x)))),
        (Value::Int(x), Unary::Neg) => return Ok(Done::constant(Value::Int(B::int_neg(x)))),
        (Value::Int(x), Unary::Sign) => return Ok(Done::constant(Value::Int(B::int_sign(x)))),
        (other @ (Value::Int(_) | Value::Bool(_) | Value::Codes(..)), _) => {
            return Err(call.refuse(format!("it is of type {}, which the built-in executor does not run here", other.dtype().name())));
        }
    };
    Ok(match op {
        Unary::Abs => Done::unary(x.clone().abs(), move |dy| dy * x.sign()),
        Unary::Neg => Done::unary(-x, |dy| -dy),
        Unary::Exp => {
            let y = x.exp();
            Done::unary(y.clone(), move |dy| dy * y)
        }
        Unary::Log => Done::unary(x.clone().ln(), move |dy| dy / x),
        Unary::Sqrt => {
            let y = x.sqrt();
            Done::unary(y.clone(), move |dy| dy / (y * 2.0))
        }
        Unary::Reciprocal => {
            let y = 1.0 / x;
            Done::unary(y.clone(), move |dy| -dy * y.square())
        }
        Unary::Sin => Done::unary(x.clone().sin(), move |dy| dy * x.cos()),
        Unary::Cos => Done::unary(x.clone().cos(), move |dy| -dy * x.sin()),
        // d erf(x)/dx = 2/√π · e^(−x²)
        Unary::Erf => Done::unary(x.clone().erf(), move |dy| dy * (-x.square()).exp() * std::f32::consts::FRAC_2_SQRT_PI),
        Unary::Floor => Done::unary(x.floor(), |dy| dy.zeros_like()),
        Unary::Ceil => Done::unary(Float(B::float_ceil(x.0)), |dy| dy.zeros_like()),
        Unary::Round => Done::unary(Float(B::float_round(x.0)), |dy| dy.zeros_like()),
        Unary::Sign => Done::unary(x.sign(), |dy| dy.zeros_like()),
        Unary::Not => return Err(call.refuse("it is of floats where booleans are needed")),
    })
}

pub(super) fn binary<B: Kernels>(op: Binary, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let (wants_a, wants_b) = (call.wants(0), call.wants(1));
    let (a, b) = (call.value(0)?, call.value(1)?);
    let dims = call.broadcast(&a.dims(), &b.dims())?;
    // The exponent alone may be of another type.
    let b = match (&a, b) {
        (Value::Float(a), Value::Int(b)) if op == Binary::Pow => Value::Float(Float(B::int_into_float(b, a.dtype()))),
        (_, b) => b,
    };
    if let (Value::Int(base), Value::Float(_), Binary::Pow) = (&a, &b, op) {
        let dtype = base.dtype();
        let (Value::Float(base), Value::Float(exponent)) = (a.cast(DType::F64), b.cast(DType::F64)) else {
            return Err(call.refuse("its inputs are not numbers"));
        };
        return Ok(Done::constant(Value::from(base.pow(exponent)).cast(dtype)));
    }
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => {
            if a.dtype() != b.dtype() && op != Binary::Pow {
                return Err(call.refuse(format!("its inputs are of types {:?} and {:?}", a.dtype(), b.dtype())));
            }
            float_binary(op, a, b, wants_a, wants_b).ok_or_else(|| call.refuse("its inputs are floats where booleans are needed"))
        }
        (Value::Int(a), Value::Int(b)) => {
            if a.dtype() != b.dtype() && op != Binary::Pow {
                return Err(call.refuse(format!("its inputs are of types {:?} and {:?}", a.dtype(), b.dtype())));
            }
            let b = B::int_cast(b, a.dtype().into());
            let divides = matches!(op, Binary::Div | Binary::Mod { .. });
            if divides && Value::<B>::Int(b.clone()).into_tensor().to_i64().is_some_and(|b| b.contains(&0)) {
                return Err(call.refuse("it divides integers by zero"));
            }
            let [Value::Int(a), Value::Int(b)] = [Value::<B>::Int(a).expand(&dims), Value::Int(b).expand(&dims)] else {
                return Err(call.refuse("its inputs are not integers"));
            };
            int_binary::<B>(op, a, b).map(Done::constant).ok_or_else(|| call.refuse("its inputs are integers where booleans are needed"))
        }
        (Value::Bool(a), Value::Bool(b)) => {
            let [Value::Bool(a), Value::Bool(b)] = [Value::<B>::Bool(a).expand(&dims), Value::Bool(b).expand(&dims)] else {
                return Err(call.refuse("its inputs are not booleans"));
            };
            let y = match op {
                Binary::And => B::bool_and(a, b),
                Binary::Or => B::bool_or(a, b),
                Binary::Xor => B::bool_xor(a, b),
                Binary::Equal => B::bool_equal(a, b),
                Binary::Add
                | Binary::Sub
                | Binary::Mul
                | Binary::Div
                | Binary::Pow
                | Binary::Mod { .. }
                | Binary::Greater
                | Binary::GreaterOrEqual
                | Binary::Less
                | Binary::LessOrEqual => return Err(call.refuse("its inputs are booleans where numbers are needed")),
            };
            Ok(Done::constant(Value::Bool(y)))
        }
        (a, b) => Err(call.refuse(format!("its inputs are of types {} and {}", a.dtype().name(), b.dtype().name()))),
    }
}

fn float_binary<B: Kernels>(op: Binary, a: Float<B>, b: Float<B>, wants_a: bool, wants_b: bool) -> Option<Done<B>> {
    let (da, db) = (a.dims(), b.dims());
    // Gradients by both operands, summed over the axes along which each was repeated.
    let done = |y: Float<B>, by_a: Box<dyn FnOnce(Float<B>) -> Float<B> + Send>, by_b: Box<dyn FnOnce(Float<B>) -> Float<B> + Send>| {
        Done::nary(y, move |dy| vec![wants_a.then(|| by_a(dy.clone()).sum_to(&da)), wants_b.then(|| by_b(dy).sum_to(&db))])
    };
    let compare = |f: fn(_, _, BoolDType) -> BoolTensor<B>, a: Float<B>, b: Float<B>| {
        let dims = broadcast(&a.dims(), &b.dims()).unwrap_or_default();
        Done::constant(Value::Bool(f(a.expand(&dims).0, b.expand(&dims).0, BoolDType::Native)))
    };
    Some(match op {
        Binary::Add => done(a + b, Box::new(|dy| dy), Box::new(|dy| dy)),
        Binary::Sub => done(a - b, Box::new(|dy| dy), Box::new(|dy| -dy)),
        Binary::Mul => done(a.clone() * b.clone(), Box::new(move |dy| dy * b), Box::new(move |dy| dy * a)),
        Binary::Div => {
            let y = a / b.clone();
            let divisor = b.clone();
            done(y.clone(), Box::new(move |dy| dy / divisor), Box::new(move |dy| -dy * y / b))
        }
        Binary::Pow => {
            let b = b.cast(a.dtype());
            let y = a.clone().pow(b.clone());
            let (base, exponent) = (a.clone(), b.clone());
            let by_b = {
                let y = y.clone();
                // aᵇ·ln a, which is 0 where a is 0
                move |dy: Float<B>| {
                    let zero = a.clone().equals(a.zeros_like());
                    let log = a.ln().zero_where(zero);
                    dy * y * log
                }
            };
            done(y, Box::new(move |dy| dy * exponent.clone() * base.pow(exponent - 1.0)), Box::new(by_b))
        }
        Binary::Mod { fmod } => {
            let quotient = if fmod { truncate(a.clone() / b.clone()) } else { (a.clone() / b.clone()).floor() };
            let y = a - quotient.clone() * b;
            done(y, Box::new(|dy| dy), Box::new(move |dy| -dy * quotient))
        }
        Binary::Equal => compare(B::float_equal, a, b),
        Binary::Greater => compare(B::float_greater, a, b),
        Binary::GreaterOrEqual => compare(B::float_greater_equal, a, b),
        Binary::Less => compare(B::float_lower, a, b),
        Binary::LessOrEqual => compare(B::float_lower_equal, a, b),
        Binary::And | Binary::Or | Binary::Xor => return None,
    })
}

/// Toward zero.
fn truncate<B: Kernels>(x: Float<B>) -> Float<B> {
    Float(B::float_trunc(x.0))
}

/// Operands of one shape and type; `None` for logic.
fn int_binary<B: Kernels>(op: Binary, a: IntTensor<B>, b: IntTensor<B>) -> Option<Value<B>> {
    let truth = BoolDType::Native;
    Some(match op {
        Binary::Add => Value::Int(B::int_add(a, b)),
        Binary::Sub => Value::Int(B::int_sub(a, b)),
        Binary::Mul => Value::Int(B::int_mul(a, b)),
        Binary::Div => Value::Int(B::int_div(a, b)),
        Binary::Pow => Value::Int(B::int_powi(a, b)),
        // C's remainder has the dividend's sign: a − b·trunc(a / b). Python's has the divisor's.
        Binary::Mod { fmod: true } => Value::Int(B::int_sub(a.clone(), B::int_mul(b.clone(), B::int_div(a, b)))),
        Binary::Mod { fmod: false } => Value::Int(B::int_remainder(a, b)),
        Binary::Equal => Value::Bool(B::int_equal(a, b, truth)),
        Binary::Greater => Value::Bool(B::int_greater(a, b, truth)),
        Binary::GreaterOrEqual => Value::Bool(B::int_greater_equal(a, b, truth)),
        Binary::Less => Value::Bool(B::int_lower(a, b, truth)),
        Binary::LessOrEqual => Value::Bool(B::int_lower_equal(a, b, truth)),
        Binary::And | Binary::Or | Binary::Xor => return None,
    })
}

pub(super) fn variadic<B: Kernels>(op: Variadic, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let count = call.inputs.len();
    let values = (0..count).map(|i| call.value(i)).collect::<Result<Vec<_>, _>>()?;
    let mut dims = vec![];
    for value in &values {
        dims = call.broadcast(&dims, &value.dims())?;
    }
    if values.iter().any(|value| !matches!(value, Value::Float(_))) {
        return int_variadic(op, values, &dims)
            .map(Done::constant)
            .ok_or_else(|| call.refuse("its inputs are not all floats, nor all integers of a kind that is run"));
    }
    let inputs: Vec<Float<B>> = values.into_iter().filter_map(|value| if let Value::Float(t) = value { Some(t) } else { None }).collect();
    let shapes: Vec<Vec<usize>> = inputs.iter().map(Float::dims).collect();
    match op {
        Variadic::Sum | Variadic::Mean => {
            let share = if op == Variadic::Mean { 1.0 / count as f32 } else { 1.0 };
            let sum = inputs.into_iter().reduce(|a, b| a + b).ok_or_else(|| call.refuse("it has no inputs"))?;
            let y = if op == Variadic::Mean { sum * share } else { sum };
            Ok(Done::nary(y, move |dy| shapes.iter().map(|dims| Some((dy.clone() * share).sum_to(dims))).collect()))
        }
        Variadic::Max | Variadic::Min => {
            let inputs: Vec<Float<B>> = inputs.into_iter().map(|x| x.expand(&dims)).collect();
            let pick = |a: Float<B>, b: Float<B>| {
                let better = if op == Variadic::Max {
                    B::float_greater(b.0.clone(), a.0.clone(), BoolDType::Native)
                } else {
                    B::float_lower(b.0.clone(), a.0.clone(), BoolDType::Native)
                };
                a.replace_where(better, b)
            };
            let y = inputs.iter().cloned().reduce(pick).ok_or_else(|| call.refuse("it has no inputs"))?;
            Ok(Done::nary(y.clone(), move |dy| {
                // Equal inputs share the gradient evenly.
                let kind = y.dtype();
                let chosen: Vec<Float<B>> = inputs.into_iter().map(|x| Float::<B>::indicator(x.equals(y.clone()), kind)).collect();
                let equals = chosen.iter().cloned().reduce(|a, b| a + b).unwrap_or_else(|| dy.clone());
                let share = dy / equals;
                chosen.into_iter().zip(&shapes).map(|(chosen, dims)| Some((chosen * share.clone()).sum_to(dims))).collect()
            }))
        }
    }
}

fn int_variadic<B: Kernels>(op: Variadic, values: Vec<Value<B>>, dims: &[usize]) -> Option<Value<B>> {
    let ints: Vec<IntTensor<B>> = values
        .into_iter()
        .map(|value| match value.expand(dims) {
            Value::Int(t) => Some(t),
            Value::Float(_) | Value::Bool(_) | Value::Codes(..) => None,
        })
        .collect::<Option<_>>()?;
    if ints.windows(2).any(|pair| pair[0].dtype() != pair[1].dtype()) {
        return None;
    }
    ints.into_iter()
        .reduce(|a, b| match op {
            Variadic::Sum | Variadic::Mean => B::int_add(a, b),
            Variadic::Max => B::int_mask_where(a.clone(), B::int_greater(b.clone(), a, BoolDType::Native), b),
            Variadic::Min => B::int_mask_where(a.clone(), B::int_lower(b.clone(), a, BoolDType::Native), b),
        })
        .filter(|_| op != Variadic::Mean)
        .map(Value::Int)
}

pub(super) fn choose<B: Kernels>(mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let Value::Bool(condition) = call.value(0)? else {
        return Err(call.refuse("its condition is not of booleans"));
    };
    let (a, b) = (call.value(1)?, call.value(2)?);
    let (da, db) = (a.dims(), b.dims());
    let dims = call.broadcast(&da, &db)?;
    let dims = call.broadcast(&dims, &condition.shape().to_vec())?;
    let Value::Bool(condition) = Value::<B>::Bool(condition).expand(&dims) else {
        return Err(call.refuse("its condition is not of booleans"));
    };
    match (a.expand(&dims), b.expand(&dims)) {
        (Value::Float(a), Value::Float(b)) => Ok(Done::nary(b.replace_where(condition.clone(), a), move |dy| {
            let by_a = dy.clone().zero_where(B::bool_not(condition.clone())).sum_to(&da);
            vec![None, Some(by_a), Some(dy.zero_where(condition).sum_to(&db))]
        })),
        (Value::Int(a), Value::Int(b)) => Ok(Done::constant(Value::Int(B::int_mask_where(b, condition, a)))),
        (Value::Bool(a), Value::Bool(b)) => Ok(Done::constant(Value::Bool(B::bool_mask_where(b, condition, a)))),
        (a, b) => Err(call.refuse(format!("its inputs are of types {} and {}", a.dtype().name(), b.dtype().name()))),
    }
}

pub(super) fn clip<B: Kernels>(op: Clip, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let mut bound = |i: usize, attribute: Option<f32>| -> Result<Option<f64>, ExecError> {
        if !call.has(i) {
            return Ok(attribute.map(f64::from));
        }
        let tensor = call.value(i)?.cast(DType::F64).into_tensor();
        Ok(tensor.values::<f64>().and_then(|v| v.first().copied()))
    };
    let (lo, hi) = (bound(1, op.min)?, bound(2, op.max)?);
    match call.value(0)? {
        Value::Float(x) => {
            let bounds = Bounds { lo, hi };
            let y = Float(B::clip(x.0.clone(), bounds));
            Ok(Done::unary(y, move |dy| Float(B::clip_grad(x.0, dy.0, bounds))))
        }
        Value::Int(x) => {
            let x = lo.map_or(x.clone(), |lo| B::int_clamp_min(x, (lo as i64).into()));
            Ok(Done::constant(Value::Int(hi.map_or(x.clone(), |hi| B::int_clamp_max(x, (hi as i64).into())))))
        }
        Value::Bool(_) | Value::Codes(..) => Err(call.refuse("it is of booleans or codes")),
    }
}

pub(super) fn cast<B: Kernels>(op: Cast, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let Some(to) = device_type(op.to) else {
        return quantize::cast(op, call);
    };
    match call.value(0)? {
        Value::Float(x) if to.is_float() => {
            let from = x.dtype();
            Ok(Done::unary(x.cast(to.into()), move |dy| dy.cast(from)))
        }
        other => Ok(Done::constant(other.cast(to))),
    }
}

pub(super) fn identity<B: Kernels>(mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    Ok(Done::nary(call.value(0)?, |dy| vec![Some(dy)]))
}

/// Drops elements at random and scales the others by 1 / (1 − ratio); identity in inference.
pub(super) fn dropout<B: Kernels>(op: Dropout, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let x = call.value(0)?;
    let mask = |kept: &[bool], dims: &[usize]| {
        Value::from_tensor(&penjing_graph::Tensor::from_bools(dims, kept), call.device).into_iter().collect::<Vec<_>>()
    };
    let asks_for_mask = call.node.output(1).is_some();
    match (x, call.mode) {
        (Value::Float(x), Mode::Training { seed }) => {
            let dims = x.dims();
            let ratio = match op.ratio {
                Some(ratio) => f64::from(ratio),
                None if call.has(1) => {
                    let ratio = call.inputs[1].take().map(|r| r.cast(DType::F64).into_tensor());
                    ratio.and_then(|r| r.values::<f64>().and_then(|v| v.first().copied())).unwrap_or(0.5)
                }
                None => 0.5,
            };
            if !(0.0..1.0).contains(&ratio) {
                return Err(call.refuse(format!("its ratio {ratio} is not from 0 up to 1")));
            }
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let kept: Vec<bool> = (0..x.len()).map(|_| f64::from(rng.next_u32()) / 2f64.powi(32) >= ratio).collect();
            let scale = (1.0 / (1.0 - ratio)) as f32;
            let factor: Vec<f32> = kept.iter().map(|kept| if *kept { scale } else { 0.0 }).collect();
            let factor = Float::from_slice(&factor, &dims, &x);
            let outputs = if asks_for_mask { mask(&kept, &dims) } else { vec![] };
            let mut done = Done::unary(x * factor.clone(), move |dy| dy * factor);
            done.outputs.extend(outputs);
            Ok(done)
        }
        (x, _) => {
            let dims = x.dims();
            let outputs = if asks_for_mask { mask(&vec![true; dims.iter().product()], &dims) } else { vec![] };
            let mut done = Done::nary(x, |dy| vec![Some(dy)]);
            done.outputs.extend(outputs);
            Ok(done)
        }
    }
}
