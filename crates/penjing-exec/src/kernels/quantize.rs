//! From numbers to codes and back.
//!
//! Rounding has no derivative; it is passed as if it were not there (the straight-through estimator of Bengio et al. 2013, "Estimating or
//! Propagating Gradients Through Stochastic Neurons for Conditional Computation"). By the chain rule through QuantizeLinear and
//! DequantizeLinear with one scale s, a value x whose code lies within the range passes its gradient unchanged, one beyond it passes none,
//! and s gets round(x / s) − x / s within and the code's distance from the zero point beyond: Esser et al. 2020, "Learned Step Size
//! Quantization".

use burn_backend::DType;
use penjing_graph::ops::{Cast, DequantizeLinear, Granularity, QuantizeLinear};
use penjing_graph::{DataType, Dim, Tensor, small_float};

use super::device::Bounds;
use super::value::index;
use super::{Call, Done, Float, Kernels, Value, code_type, device_type};
use crate::ExecError;

/// Scale and zero point in single precision, of X's rank, repeating over axes of size 1.
pub(super) struct Grid<B: Kernels> {
    pub(super) scale: Float<B>,
    pub(super) zero: Float<B>,
}

pub(super) fn quantize_linear<B: Kernels>(op: QuantizeLinear, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let (x, scale, zero) = (call.value(0)?, call.value(1)?, call.optional_value(2)?);
    let to = op.output_dtype.or(zero.as_ref().map(Value::dtype)).unwrap_or(DataType::Uint8);
    let precision = op.precision.unwrap_or(scale.dtype());
    let (x_dims, scale_dims) = (x.dims(), scale.dims());
    let granularity = op.granularity(&fixed(&x_dims), &fixed(&scale_dims)).map_err(|reason| call.refuse(reason))?;
    let Grid { scale, zero } = spread(&call, granularity, &x_dims, scale, zero)?;
    let x = numbers(&call, x)?;
    let (wants_x, wants_scale) = (call.wants(0), call.wants(1) && repeats(granularity));
    let back = (wants_x || wants_scale).then(|| (x.clone() / scale.clone(), scale.clone(), zero.clone()));
    let y = match precision {
        DataType::Float16 | DataType::Bfloat16 => {
            // Single precision has more than twice the digits, so that the quotient may be rounded twice.
            let dtype = if precision == DataType::Float16 { DType::F16 } else { DType::BF16 };
            let steps = (x / scale.clone()).cast(dtype.into()).cast(DType::F32.into());
            let ones = Float::full(1.0, &scale.dims(), &scale);
            codes(&call, steps, Grid { scale: ones, zero }, to, op.saturate)?
        }
        _ => codes(&call, x, Grid { scale, zero }, to, op.saturate)?,
    };
    let Some(((steps, scale, zero), (lo, hi))) = back.zip(to.integer_range()) else { return Ok(Done::constant(y)) };
    let bounds = Bounds { lo: Some(lo as f64), hi: Some(hi as f64) };
    Ok(Done::nary(y, move |dy| {
        // y = x/s + z where that is a code, so that dy/dx = 1/s and dy/ds = −(x/s)/s.
        let dx = Float(B::clip_grad((steps.clone() + zero).0, dy.0, bounds)) / scale;
        let ds = wants_scale.then(|| -(dx.clone() * steps));
        vec![wants_x.then_some(dx), ds.map(|ds| summed(ds, granularity, &scale_dims))]
    }))
}

pub(super) fn dequantize_linear<B: Kernels>(op: DequantizeLinear, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let (x, scale, zero) = (call.value(0)?, call.value(1)?, call.optional_value(2)?);
    let to = op.output_dtype.unwrap_or(scale.dtype());
    let Some(to) = device_type(to).filter(|to| to.is_float()) else {
        return Err(call.refuse(format!("numbers of type {} are not run by the built-in executor", to.name())));
    };
    let (x_dims, scale_dims) = (x.dims(), scale.dims());
    let granularity = op.granularity(&fixed(&x_dims), &fixed(&scale_dims)).map_err(|reason| call.refuse(reason))?;
    let Grid { scale, zero } = spread(&call, granularity, &x_dims, scale, zero)?;
    let (wants_x, wants_scale) = (call.wants(0), call.wants(1) && repeats(granularity));
    let x = x.decoded();
    let steps = if wants_scale { Some(numbers(&call, x.clone())? - zero.clone()) } else { None };
    let factor = scale.clone();
    let y = match x {
        Value::Int(x) => Float(B::from_codes(x, scale.0, zero.0)),
        other => (numbers(&call, other)? - zero) * scale,
    };
    if !(wants_x || wants_scale) {
        return Ok(Done::constant(y.cast(to.into())));
    }
    Ok(Done::nary(y.cast(to.into()), move |dy| {
        // y = (x − z)·s
        let ds = steps.map(|steps| summed(dy.clone() * steps, granularity, &scale_dims));
        vec![wants_x.then(|| dy * factor), ds]
    }))
}

/// Whether every element of the scale stands for a whole axis or tensor, so that its gradient is a sum over axes.
fn repeats(granularity: Granularity) -> bool {
    match granularity {
        Granularity::Tensor | Granularity::Axis(_) => true,
        Granularity::Block { .. } => false,
    }
}

/// A gradient of x's shape summed over the elements that share a scale, in the scale's shape.
fn summed<B: Kernels>(gradient: Float<B>, granularity: Granularity, scale_dims: &[usize]) -> Float<B> {
    let mut dims = vec![1; gradient.rank()];
    if let Granularity::Axis(axis) = granularity {
        dims[axis] = gradient.dims()[axis];
    }
    gradient.sum_to(&dims).reshape(scale_dims)
}

/// Scale and zero point follow from the smallest and the largest number, of which zero is always one. Where all are zero, the
/// scale is 1.
pub(super) fn dynamic_quantize_linear<B: Kernels>(mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let x = call.float(0)?;
    let all = x.clone().reshape(&[x.len()]);
    let number = |t: Float<B>| Value::from(t).into_tensor().to_f32().and_then(|n| n.first().copied()).unwrap_or(0.0);
    let (lo, hi) = (number(all.clone().min_along(0)).min(0.0), number(all.max_along(0)).max(0.0));
    let scale = if lo == hi { 1.0 } else { (hi - lo) / 255.0 };
    let zero = (-lo / scale).round_ties_even().clamp(0.0, 255.0);
    let ones = vec![1; x.rank()];
    let grid = Grid { scale: Float::full(scale, &ones, &x), zero: Float::full(zero, &ones, &x) };
    let y = codes(&call, x, grid, DataType::Uint8, true)?;
    let parameters = [Tensor::scalar(scale), Tensor::scalar(zero as u8)];
    let mut done = Done::constant(y);
    done.outputs.extend(parameters.iter().filter_map(|t| Value::from_tensor(t, call.device)));
    Ok(done)
}

/// `Cast` to a type that the device does not have: a narrow integer takes the low bits, a small float the nearest number.
pub(super) fn cast<B: Kernels>(op: Cast, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let x = call.value(0)?;
    if op.to.integer_range().is_some() {
        let integers = x.cast(DType::I64).into_tensor();
        let octets: Vec<u8> = integers.to_i64().iter().flat_map(|n| n.iter()).map(|n| *n as u8).collect();
        return of_codes(&call, op.to, integers.dims(), &octets).map(Done::constant);
    }
    let x = numbers(&call, x)?;
    small_floats(&call, x, op.to, op.saturate).map(Done::constant)
}

fn fixed(dims: &[usize]) -> Vec<Dim> {
    dims.iter().map(|n| Dim::Fixed(*n)).collect()
}

/// Any numbers in single precision.
pub(super) fn numbers<B: Kernels>(call: &Call<'_, B>, value: Value<B>) -> Result<Float<B>, ExecError> {
    match value.cast(DType::F32) {
        Value::Float(t) => Ok(t),
        other => Err(call.refuse(format!("values of type {} are no numbers", other.dtype().name()))),
    }
}

fn spread<B: Kernels>(
    call: &Call<'_, B>,
    granularity: Granularity,
    x_dims: &[usize],
    scale: Value<B>,
    zero: Option<Value<B>>,
) -> Result<Grid<B>, ExecError> {
    let scale = numbers(call, scale)?;
    let zero = match zero {
        Some(zero) => numbers(call, zero)?,
        None => scale.zeros_like(),
    };
    if zero.len() != scale.len() || (zero.len() > 1 && zero.dims() != scale.dims()) {
        return Err(call.refuse(format!("a zero point of shape {:?} does not go with a scale of shape {:?}", zero.dims(), scale.dims())));
    }
    let zero = zero.reshape(&scale.dims());
    let spread = |t: Float<B>| match granularity {
        Granularity::Tensor => t.reshape(&vec![1; x_dims.len()]),
        Granularity::Axis(axis) => t.along(axis, x_dims.len()),
        Granularity::Block { .. } if x_dims.contains(&0) => Float::full(1.0, x_dims, &t),
        Granularity::Block { axis, size } => {
            let block = (0..x_dims[axis]).map(|i| (i / size) as i64).collect();
            t.select(axis, index::<B>(block, &[x_dims[axis]], call.device))
        }
    };
    Ok(Grid { scale: spread(scale), zero: spread(zero) })
}

/// The codes of type `to` nearest to x / scale + zero point. Of the integers, the quotient is what is rounded.
pub(super) fn codes<B: Kernels>(
    call: &Call<'_, B>,
    x: Float<B>,
    Grid { scale, zero }: Grid<B>,
    to: DataType,
    saturate: bool,
) -> Result<Value<B>, ExecError> {
    let Some((lo, hi)) = to.integer_range().filter(|(_, hi)| *hi <= 1 << 16) else {
        return small_floats(call, x / scale + zero, to, saturate);
    };
    let quantize = |dtype: DType| B::to_codes(x.0, scale.0, zero.0, [lo as f32, hi as f32], dtype.into());
    match (device_type(to), code_type(to)) {
        (Some(dtype), _) => Ok(Value::Int(quantize(dtype))),
        (None, Some(dtype)) => Ok(Value::Codes(quantize(dtype), to)),
        (None, None) => Err(call.refuse(format!("codes of type {} are not run by the built-in executor", to.name()))),
    }
}

/// The codes of type `to` nearest to x.
fn small_floats<B: Kernels>(call: &Call<'_, B>, x: Float<B>, to: DataType, saturate: bool) -> Result<Value<B>, ExecError> {
    let x = Value::from(x).into_tensor();
    let octets: Option<Vec<u8>> = x.to_f32().and_then(|x| x.iter().map(|x| small_float::encode(to, *x, saturate)).collect());
    let Some(octets) = octets else {
        return Err(call.refuse(format!("values of type {} are not run by the built-in executor", to.name())));
    };
    of_codes(call, to, x.dims(), &octets)
}

fn of_codes<B: Kernels>(call: &Call<'_, B>, to: DataType, dims: &[usize], octets: &[u8]) -> Result<Value<B>, ExecError> {
    let tensor = Tensor::from_codes(to, dims, octets).map_err(|e| call.refuse(e.to_string()))?;
    Value::from_tensor(&tensor, call.device).ok_or_else(|| call.refuse(format!("values of type {} are not run", to.name())))
}

#[cfg(test)]
mod tests {
    use half::f16;
    use penjing_graph::ops::{Conv, DynamicQuantizeLinear, MatMul, Op, Window};
    use penjing_graph::{Graph, GraphBuilder};

    use super::*;
    use crate::{Loss, Target, cpu_executor};

    fn run(graph: &Graph, x: &Tensor) -> Vec<Tensor> {
        cpu_executor(graph).expect("an executor").run(std::slice::from_ref(x), graph.outputs()).expect("a run")
    }

    /// The operator on x with the parameters that follow it, at opset 25.
    fn single(op: impl Into<Op>, x: &Tensor, parameters: &[Tensor]) -> Tensor {
        let mut b = GraphBuilder::with_opset("single", 25);
        let mut inputs = vec![b.input("x", x.dtype(), fixed(x.dims()))];
        inputs.extend(parameters.iter().enumerate().map(|(i, t)| b.tensor(&format!("p{i}"), t.clone())));
        let y = b.node("y", op, &inputs);
        run(&b.output(y).finish().expect("a graph"), x).remove(0)
    }

    fn floats(dims: &[usize], values: &[f32]) -> Tensor {
        Tensor::new(dims, values.to_vec())
    }

    #[test]
    fn halves_saturation_and_the_zero_point() {
        let x = floats(&[6], &[1.0, 3.0, -1.0, 1e9, -1e9, f32::NAN]);
        let y = single(QuantizeLinear::default(), &x, &[Tensor::scalar(2f32), Tensor::scalar(5i8)]);
        // round(0.5) + 5, round(1.5) + 5, round(−0.5) + 5
        assert_eq!(y, Tensor::new([6], vec![5i8, 7, 5, 127, -128, -128]));
        let back = single(DequantizeLinear::default(), &y, &[Tensor::scalar(2f32), Tensor::scalar(5i8)]);
        assert_eq!(back, floats(&[6], &[0.0, 4.0, 0.0, 244.0, -266.0, -266.0]));
        // Without a zero point codes are uint8.
        assert_eq!(single(QuantizeLinear::default(), &x, &[Tensor::scalar(2f32)]), Tensor::new([6], vec![0u8, 2, 0, 255, 0, 0]));
    }

    #[test]
    fn one_scale_for_each_position_of_an_axis() {
        let x = floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let rows = [floats(&[2], &[1.0, 2.0]), Tensor::new([2], vec![0u8, 10])];
        let by_row = QuantizeLinear { axis: 0, ..QuantizeLinear::default() };
        assert_eq!(single(by_row, &x, &rows), Tensor::new([2, 3], vec![1u8, 2, 3, 12, 12, 13]));
        let columns = [floats(&[3], &[1.0, 2.0, 3.0]), Tensor::new([3], vec![0u8, 10, 20])];
        let by_column = QuantizeLinear { axis: -1, ..QuantizeLinear::default() };
        let codes = Tensor::new([2, 3], vec![1u8, 11, 21, 4, 12, 22]);
        assert_eq!(single(by_column, &x, &columns), codes);
        let back = single(DequantizeLinear { axis: -1, ..DequantizeLinear::default() }, &codes, &columns);
        assert_eq!(back, floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 4.0, 6.0]));
    }

    #[test]
    fn one_scale_for_each_block() {
        let blocks = QuantizeLinear { axis: 1, block_size: 2, output_dtype: Some(DataType::Int4), ..QuantizeLinear::default() };
        let x = floats(&[2, 3], &[1.0, 2.0, 30.0, 40.0, -50.0, 6.0]);
        let scale = floats(&[2, 2], &[1.0, 10.0, 20.0, 1.0]);
        let y = single(blocks, &x, std::slice::from_ref(&scale));
        let codes: Vec<u8> = [1i8, 2, 3, 2, -2, 6].map(|n| n as u8).to_vec(); // −50 / 20 = −2.5
        assert_eq!(Some(y.clone()), Tensor::from_codes(DataType::Int4, [2, 3], &codes).ok());
        let back = DequantizeLinear { axis: 1, block_size: 2, output_dtype: None };
        assert_eq!(single(back, &y, &[scale]), floats(&[2, 3], &[1.0, 2.0, 30.0, 40.0, -40.0, 6.0]));
    }

    #[test]
    fn eight_bit_floats_saturate_or_not() {
        let x = floats(&[5], &[1.0, 464.0, 1e6, f32::NEG_INFINITY, f32::NAN]);
        let to = |saturate| QuantizeLinear { output_dtype: Some(DataType::Float8E4M3Fn), saturate, ..QuantizeLinear::default() };
        let codes = |octets: &[u8]| Tensor::from_codes(DataType::Float8E4M3Fn, [5], octets).expect("codes");
        let one = [Tensor::scalar(1f32)];
        assert_eq!(single(to(true), &x, &one), codes(&[0x38, 0x7e, 0x7e, 0xfe, 0x7f]));
        assert_eq!(single(to(false), &x, &one), codes(&[0x38, 0x7e, 0x7f, 0xff, 0x7f]));
        let back = single(DequantizeLinear::default(), &codes(&[0x38, 0x7e, 0xfe, 0x01, 0x80]), &[Tensor::scalar(2f32)]);
        assert_eq!(back, floats(&[5], &[2.0, 896.0, -896.0, 2f32.powi(-8), -0.0]));
    }

    #[test]
    fn the_quotient_is_rounded_to_the_type_of_the_scale() {
        // 1 / 0.4 is 2.5006 in half precision's 0.4, which becomes 2.5 there; in single precision it stays above.
        let (x, scale) = (floats(&[1], &[1.0]), [Tensor::scalar(f16::from_f32(0.4))]);
        let divided_in = |precision| QuantizeLinear { precision, ..QuantizeLinear::default() };
        assert_eq!(single(divided_in(None), &x, &scale), Tensor::new([1], vec![2u8]));
        assert_eq!(single(divided_in(Some(DataType::Float)), &x, &scale), Tensor::new([1], vec![3u8]));
    }

    #[test]
    fn channels_that_lie_last_have_their_own_scales() {
        let mut b = GraphBuilder::new("last");
        let x = b.input("x", DataType::Float, fixed(&[2, 3, 2, 2]));
        let w = b.tensor("w", floats(&[3, 3, 1, 1], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]));
        let same = b.node("same", Conv { window: Window::default(), group: 1 }, &[x, w]);
        let (scale, zero) = (floats(&[3], &[0.5, 0.25, 0.125]), Tensor::new([3], vec![1i8, 2, 3]));
        let parameters = [b.tensor("scale", scale.clone()), b.tensor("zero", zero.clone())];
        let codes = b.node("codes", QuantizeLinear::default(), &[same, parameters[0], parameters[1]]);
        let back = b.node("back", DequantizeLinear::default(), &[codes, parameters[0], parameters[1]]);
        let graph = b.output(codes).output(back).finish().expect("a graph");
        let input = floats(&[2, 3, 2, 2], &(0..24).map(|i| i as f32 * 0.3 - 3.0).collect::<Vec<_>>());
        let found = run(&graph, &input);
        let expected = single(QuantizeLinear::default(), &input, &[scale.clone(), zero.clone()]);
        assert_eq!(found[0], expected);
        assert_eq!(found[1], single(DequantizeLinear::default(), &expected, &[scale, zero]));
    }

    #[test]
    fn rounding_passes_gradients_straight_through_by_hand() {
        let mut b = GraphBuilder::new("fake");
        let x = b.input("x", DataType::Float, fixed(&[2, 2]));
        let w = b.tensor("w", floats(&[2, 2], &[0.6, 70.0, -0.75, -400.0]));
        let (scale, zero) = (b.tensor("scale", floats(&[2], &[0.5, 1.0])), b.tensor("zero", Tensor::new([2], vec![0i8, 0])));
        let by_row = QuantizeLinear { axis: 0, ..QuantizeLinear::default() };
        let codes = b.node("codes", by_row, &[w, scale, zero]);
        let back = b.node("back", DequantizeLinear { axis: 0, ..DequantizeLinear::default() }, &[codes, scale, zero]);
        let y = b.node("y", MatMul, &[x, back]);
        let graph = b.output(y).finish().expect("a graph");
        let mut executor = cpu_executor(&graph).expect("an executor");
        assert_eq!(executor.trainable(), [w]);
        let identity = floats(&[2, 2], &[1.0, 0.0, 0.0, 1.0]);
        // Codes 1, 127 of 140, −1, −128 of −400: y = 0.5, 63.5, −1, −128. Mean squared error from t: dL/dy = (y − t) / 2.
        let target = Target::Values(floats(&[2, 2], &[0.0, 0.0, 0.0, 0.0]));
        let found = executor.gradients(std::slice::from_ref(&identity), &target, &Loss::Mse).expect("gradients");
        assert_eq!(found.by_weight[&w].to_f32().expect("floats").to_vec(), [0.25, 0.0, -0.5, 0.0]);
    }

    #[test]
    fn scale_and_zero_point_of_what_comes() {
        let dynamic = |values: &[f32]| {
            let mut b = GraphBuilder::new("dynamic");
            let x = b.input("x", DataType::Float, [values.len().into()]);
            let outputs = b.nodes("y", DynamicQuantizeLinear, &[x], &["y", "scale", "zero"]);
            let graph = outputs.into_iter().fold(b, GraphBuilder::output).finish().expect("a graph");
            run(&graph, &floats(&[values.len()], values))
        };
        let expected = |codes: &[u8], scale: f32, zero: u8| {
            vec![Tensor::new([codes.len()], codes.to_vec()), Tensor::scalar(scale), Tensor::scalar(zero)]
        };
        assert_eq!(dynamic(&[-1.0, 0.0, 254.0]), expected(&[0, 1, 255], 1.0, 1));
        assert_eq!(dynamic(&[255.0, 510.0]), expected(&[128, 255], 2.0, 0)); // zero belongs to the range; 127.5 goes to 128
        assert_eq!(dynamic(&[0.0, 0.0]), expected(&[0, 0], 1.0, 0));
        assert_eq!(dynamic(&[]), expected(&[], 1.0, 0));
    }
}
