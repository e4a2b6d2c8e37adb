//! Convolutions and products of codes.
//!
//! They run as those of floats, in a type in which every sum of products is exact.

use burn_backend::{DType, IntDType};
use penjing_graph::DataType;
use penjing_graph::ops::{Conv, ConvInteger, QLinearConv};

use super::quantize::{self, Grid, numbers};
use super::{Call, Done, Float, Kernels, Value, broadcast, conv, matmul};
use crate::ExecError;

pub(super) fn conv_integer<B: Kernels>(op: &ConvInteger, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let w_zero = parameter(&mut call, 3, (1, 0))?;
    let x_zero = parameter(&mut call, 2, (0, 1))?;
    let (x, w) = (call.value(0)?, call.value(1)?);
    let op = Conv { window: op.window.clone(), group: op.group };
    let sums = convolution(&op, &mut call, (x, x_zero), (w, w_zero))?;
    Ok(Done::constant(sums))
}

pub(super) fn qlinear_conv<B: Kernels>(op: &QLinearConv, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let ([w_scale, w_zero], [x_scale, x_zero]) = (parameters(&mut call, 4, (3, 0))?, parameters(&mut call, 1, (0, 1))?);
    let (x, w, y) = (call.value(0)?, call.value(3)?, output(&mut call, 6)?);
    let bias = call.optional_value(8)?;
    let op = Conv { window: op.window.clone(), group: op.group };
    let rank = x.dims().len();
    let mut sums = convolution(&op, &mut call, (x, x_zero), (w, w_zero))?;
    if let Some(bias) = bias {
        sums = with_bias(&call, sums, bias)?;
    }
    // What holds for the weight's first axis holds for the output's second.
    let w_scale = w_scale.map(|scale| if scale.len() == 1 { scale } else { scale.along(1, rank) });
    requantized(&call, sums, [x_scale, w_scale], y)
}

pub(super) fn matmul_integer<B: Kernels>(mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let b_zero = parameter_of_product(&mut call, 3, 1, 1)?;
    let a_zero = parameter_of_product(&mut call, 2, 0, 2)?;
    let (a, b) = (call.value(0)?, call.value(1)?);
    Ok(Done::constant(product(&mut call, (a, a_zero), (b, b_zero))?))
}

pub(super) fn qlinear_matmul<B: Kernels>(mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let [b_scale, b_zero] = [4, 5].map(|i| parameter_of_product(&mut call, i, 3, 1));
    let [a_scale, a_zero] = [1, 2].map(|i| parameter_of_product(&mut call, i, 0, 2));
    let (a, b, y) = (call.value(0)?, call.value(3)?, output(&mut call, 6)?);
    let sums = product(&mut call, (a, a_zero?), (b, b_zero?))?;
    requantized(&call, sums, [a_scale?, b_scale?], y)
}

/// Input `i`, which holds for all of an operand or for each position of its axis `along`, in single precision and of the
/// operand's rank.
fn parameter<B: Kernels>(call: &mut Call<'_, B>, i: usize, (operand, along): (usize, usize)) -> Result<Option<Float<B>>, ExecError> {
    let Some(value) = call.optional_value(i)? else { return Ok(None) };
    let t = numbers(call, value)?;
    let operand = call.inputs.get(operand).and_then(Option::as_ref).map(Value::dims).unwrap_or_default();
    let (dims, rank) = (t.dims(), operand.len());
    let t = match dims.len() {
        _ if t.len() == 1 => t.reshape(&vec![1; rank]),
        1 if along < rank => t.along(along, rank),
        n if n == rank => t,
        _ => return Err(call.refuse(format!("a parameter of shape {dims:?} does not go with an operand of shape {operand:?}"))),
    };
    match broadcast(&t.dims(), &operand) {
        Some(both) if both == operand => Ok(Some(t)),
        _ => Err(call.refuse(format!("a parameter of shape {dims:?} does not go with an operand of shape {operand:?}"))),
    }
}

/// Scale and zero point, inputs `first` and the next.
fn parameters<B: Kernels>(call: &mut Call<'_, B>, first: usize, of: (usize, usize)) -> Result<[Option<Float<B>>; 2], ExecError> {
    Ok([parameter(call, first, of)?, parameter(call, first + 1, of)?])
}

/// The same for an operand of a product, along its axis `from_end`.
fn parameter_of_product<B: Kernels>(
    call: &mut Call<'_, B>,
    i: usize,
    operand: usize,
    from_end: usize,
) -> Result<Option<Float<B>>, ExecError> {
    let rank = call.inputs.get(operand).and_then(Option::as_ref).map_or(0, |value| value.dims().len());
    parameter(call, i, (operand, rank.saturating_sub(from_end)))
}

/// What the output is made of: its scale, its zero point, and the type of that.
struct Output<B: Kernels> {
    scale: Float<B>,
    zero: Float<B>,
    dtype: DataType,
}

fn output<B: Kernels>(call: &mut Call<'_, B>, first: usize) -> Result<Output<B>, ExecError> {
    let (scale, zero) = (call.value(first)?, call.value(first + 1)?);
    let dtype = zero.dtype();
    let (scale, zero) = (numbers(call, scale)?, numbers(call, zero)?);
    match (scale.len(), zero.len()) {
        (1, 1) => Ok(Output { scale, zero, dtype }),
        _ => Err(call.refuse("the output has more than one scale or zero point")),
    }
}

/// Codes less their zero point.
fn centred<B: Kernels>(call: &Call<'_, B>, codes: Value<B>, zero: Option<Float<B>>) -> Result<Float<B>, ExecError> {
    let integers = matches!(codes.dtype(), DataType::Int8 | DataType::Uint8);
    if !integers {
        return Err(call.refuse(format!("codes of type {} are not multiplied by the built-in executor", codes.dtype().name())));
    }
    let codes = numbers(call, codes)?;
    Ok(match zero {
        Some(zero) => codes - zero,
        None => codes,
    })
}

/// The float type in which the sum of so many products of codes is exact.
fn exact(depth: usize) -> DType {
    const LARGEST_PRODUCT: usize = 255 * 255;
    if depth <= (1 << 24) / LARGEST_PRODUCT { DType::F32 } else { DType::F64 }
}

type Operand<B> = (Value<B>, Option<Float<B>>);

/// Sums of 32 bits.
fn convolution<B: Kernels>(op: &Conv, call: &mut Call<'_, B>, x: Operand<B>, w: Operand<B>) -> Result<Value<B>, ExecError> {
    let depth = w.0.dims().iter().skip(1).product();
    let operands = [centred(call, x.0, x.1)?, centred(call, w.0, w.1)?];
    let floats = with_operands(call, operands.map(|t| t.cast(exact(depth).into())));
    sums(call, conv::conv(op, floats)?)
}

/// Sums of 32 bits.
fn product<B: Kernels>(call: &mut Call<'_, B>, a: Operand<B>, b: Operand<B>) -> Result<Value<B>, ExecError> {
    let depth = a.0.dims().last().copied().unwrap_or(0);
    let operands = [centred(call, a.0, a.1)?, centred(call, b.0, b.1)?];
    let floats = with_operands(call, operands.map(|t| t.cast(exact(depth).into())));
    sums(call, matmul::matmul(floats)?)
}

/// The same node with two float inputs.
fn with_operands<'a, B: Kernels>(call: &Call<'a, B>, operands: [Float<B>; 2]) -> Call<'a, B> {
    let inputs = operands.map(|t| Some(Value::Float(t))).into();
    Call { node: call.node, opset: call.opset, inputs, wants: vec![], mode: call.mode, device: call.device, bounds: None }
}

fn sums<B: Kernels>(call: &Call<'_, B>, mut done: Done<B>) -> Result<Value<B>, ExecError> {
    let sums = done.outputs.pop().ok_or_else(|| call.refuse("it gives nothing"))?;
    Ok(sums.cast(DType::I32))
}

/// Adds a number of 32 bits to each channel.
fn with_bias<B: Kernels>(call: &Call<'_, B>, sums: Value<B>, bias: Value<B>) -> Result<Value<B>, ExecError> {
    let (dims, bias_dims) = (sums.dims(), bias.dims());
    let mut along = vec![1; dims.len()];
    along[1] = dims[1];
    match (sums, bias) {
        (Value::Int(sums), bias @ Value::Int(_)) if bias_dims == [dims[1]] => {
            let Value::Int(bias) = bias.reshape(&along).expand(&dims).cast(IntDType::I32.into()) else {
                return Err(call.refuse("the bias is not of integers"));
            };
            Ok(Value::Int(B::int_add(sums, bias)))
        }
        _ => Err(call.refuse(format!("a bias of shape {bias_dims:?} does not fit {} channels", dims[1]))),
    }
}

/// Sums whose scale is the product of the operands' as codes of the output.
fn requantized<B: Kernels>(call: &Call<'_, B>, sums: Value<B>, scales: [Option<Float<B>>; 2], y: Output<B>) -> Result<Done<B>, ExecError> {
    let [Some(a), Some(b)] = scales else {
        return Err(call.refuse("a scale is missing"));
    };
    let dims = sums.dims();
    let ones = vec![1; dims.len()];
    let (scale, zero) = (y.scale.reshape(&ones), y.zero.reshape(&ones));
    let [a, b] = [a, b].map(|t| if t.len() == 1 { t.reshape(&ones) } else { t });
    let factor = a * b / scale.clone();
    if broadcast(&factor.dims(), &dims).as_ref() != Some(&dims) {
        return Err(call.refuse(format!("scales of shape {:?} do not go with an output of shape {dims:?}", factor.dims())));
    }
    let unit = Float::full(1.0, &ones, &scale);
    let steps = numbers(call, sums)? * factor;
    quantize::codes(call, steps, Grid { scale: unit, zero }, y.dtype, true).map(Done::constant)
}

#[cfg(test)]
mod tests {
    use penjing_graph::ops::{MatMulInteger, Op, QLinearMatMul, Window};
    use penjing_graph::{Element, GraphBuilder, Tensor};

    use super::*;
    use crate::cpu_executor;

    /// The operator on constants, all but the first.
    fn single(op: impl Into<Op>, inputs: &[Tensor]) -> Tensor {
        let mut b = GraphBuilder::new("single");
        let given: Vec<_> = inputs[0].dims().iter().map(|n| (*n).into()).collect();
        let mut values = vec![b.input("x", inputs[0].dtype(), given)];
        values.extend(inputs[1..].iter().enumerate().map(|(i, t)| b.tensor(&format!("p{i}"), t.clone())));
        let y = b.node("y", op, &values);
        let graph = b.output(y).finish().expect("a graph");
        cpu_executor(&graph).expect("an executor").run(&inputs[..1], graph.outputs()).expect("a run").remove(0)
    }

    fn t<T: Element>(dims: &[usize], values: &[T]) -> Tensor {
        Tensor::new(dims, values.to_vec())
    }

    #[test]
    fn what_pads_a_convolution_stands_for_zero() {
        let op = ConvInteger { window: Window { pads: vec![1, 1], ..Window::default() }, group: 1 };
        // (x − 1) · (w − 2) with x [1, 2, 3], w [3, 4, 5]: [0 1 2] slid over by [1 2 3]
        let inputs = [t(&[1, 1, 3], &[1u8, 2, 3]), t(&[1, 1, 3], &[3u8, 4, 5]), Tensor::scalar(1u8), Tensor::scalar(2u8)];
        assert_eq!(single(op, &inputs), t(&[1, 1, 3], &[3i32, 8, 5]));
    }

    #[test]
    fn long_sums_are_exact() {
        let n = 1000;
        let (a, b) = (vec![255u8; n], vec![254u8; n]);
        // 1000 · 255 · 254 has more digits than single precision; one less shows that it is counted to the last.
        let mut odd = b.clone();
        odd[0] = 253;
        let columns: Vec<u8> = b.iter().zip(&odd).flat_map(|(b, odd)| [*b, *odd]).collect();
        let y = single(MatMulInteger, &[t(&[1, n], &a), t(&[n, 2], &columns)]);
        assert_eq!(y, t(&[1, 2], &[64_770_000i32, 64_769_745]));
    }

    #[test]
    fn rows_and_columns_have_zeros_of_their_own() {
        let (a, b) = (t(&[2, 2], &[1u8, 2, 3, 4]), t(&[2, 2], &[1i8, 0, 0, 1]));
        let y = single(MatMulInteger, &[a, b, t(&[2], &[1u8, 3]), t(&[2], &[0i8, 1])]);
        // [0 1; 0 1] · [1 −1; 0 0]
        assert_eq!(y, t(&[2, 2], &[0i32, 0, 0, 0]));
    }

    #[test]
    fn sums_are_rounded_before_they_are_shifted() {
        let one = || Tensor::scalar(1f32);
        // 1 · 1 / 2 = 0.5, which goes to 0; then the zero point
        let a = [t(&[1, 1], &[1i8]), one(), Tensor::scalar(0i8), t(&[1, 1], &[1i8]), one(), Tensor::scalar(0i8)];
        let y = single(QLinearMatMul, &[&a[..], &[Tensor::scalar(2f32), Tensor::scalar(1i8)]].concat());
        assert_eq!(y, t(&[1, 1], &[1i8]));
    }

    #[test]
    fn each_channel_has_its_scale_and_bias() {
        let inputs = [
            t(&[1, 1, 2], &[10u8, 200]),
            Tensor::scalar(0.5f32),
            Tensor::scalar(0u8),
            t(&[2, 1, 1], &[1i8, -1]),
            t(&[2], &[1.0f32, 4.0]),
            t(&[2], &[0i8, 0]),
            Tensor::scalar(1f32),
            Tensor::scalar(100u8),
            t(&[2], &[4i32, 20]),
        ];
        let y = single(QLinearConv { window: Window::default(), group: 1 }, &inputs);
        // (10 + 4) / 2, (200 + 4) / 2, (20 − 10) · 2, (20 − 200) · 2, each + 100 within 0 … 255
        assert_eq!(y, t(&[1, 2, 2], &[107u8, 202, 120, 0]));
    }
}
