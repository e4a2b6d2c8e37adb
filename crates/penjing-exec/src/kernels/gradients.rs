//! Every pullback against finite differences: central differences in double precision for the formulas, then single
//! precision against double for the kernels that training uses.

use burn_flex::{Flex, FlexDevice};
use penjing_graph::ops::{
    Activation, AutoPad, AveragePool, BatchNormalization, Binary, Cast, Clip, Concat, Conv, ConvTranspose, CumSum, DepthToSpace, Dropout,
    Expand, Flatten, Gather, Gemm, GlobalPool, Identity, InstanceNormalization, LayerNormalization, MatMul, MaxPool, Op, Pad, PadMode,
    Reduce, ReduceKind, Reshape, ScatterElements, Slice, Softmax, Split, Squeeze, Tile, Transpose, Unary, Unsqueeze, Variadic, Where,
    Window,
};
use penjing_graph::{DataType, Graph, GraphBuilder, NEWEST_OPSET, Tensor, ValueId};

use super::{Call, Float, Mode, Pullback, Value, forward};

struct Case {
    name: String,
    opset: i64,
    op: Op,
    inputs: Vec<Tensor>,
    outputs: usize,
    mode: Mode,
}

/// Numbers between −1.8 and 1.8, none of them near each other or near a kink.
fn x(dims: &[usize]) -> Tensor {
    let n: usize = dims.iter().product();
    Tensor::new(dims, (0..n).map(|i| 1.8 * ((i * 7919 + n * 31) as f64 * 0.618_034 + 0.1).sin()).collect::<Vec<f64>>())
}

/// Other numbers than those of [`x`].
fn w(dims: &[usize]) -> Tensor {
    let n: usize = dims.iter().product();
    Tensor::new(dims, (0..n).map(|i| 0.9 * ((i * 104_729 + n * 17) as f64 * 0.414_214 + 0.7).cos()).collect::<Vec<f64>>())
}

/// Numbers from 0.4 to 2.
fn positive(dims: &[usize]) -> Tensor {
    let n: usize = dims.iter().product();
    Tensor::new(dims, (0..n).map(|i| 1.2 + 0.8 * ((i * 7919) as f64 * 0.618_034).sin()).collect::<Vec<f64>>())
}

fn ints(values: &[i64]) -> Tensor {
    Tensor::new([values.len()], values.to_vec())
}

fn case(name: impl Into<String>, op: impl Into<Op>, inputs: Vec<Tensor>) -> Case {
    Case { name: name.into(), opset: NEWEST_OPSET, op: op.into(), inputs, outputs: 1, mode: Mode::Inference }
}

fn window(kernel: &[usize], strides: &[usize], dilations: &[usize], pads: &[i64]) -> Window {
    Window { kernel: kernel.into(), strides: strides.into(), dilations: dilations.into(), pads: pads.into(), auto_pad: AutoPad::NotSet }
}

fn conv(window: Window, group: usize) -> Conv {
    Conv { window, group }
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let same = |auto_pad| Window { strides: vec![2, 2], auto_pad, ..Window::default() };
    let transposed = |window, group, output_padding: &[usize], output_shape: &[usize]| {
        ConvTranspose { window, group, output_padding: output_padding.into(), output_shape: output_shape.into() }
    };
    let batch = BatchNormalization { epsilon: 1e-3, momentum: 0.9, training_mode: false };
    let batch_inputs = || vec![x(&[4, 3, 2, 2]), positive(&[3]), x(&[3]), w(&[3]), positive(&[3])];
    let gemm = |alpha, beta, trans_a, trans_b| Gemm { alpha, beta, trans_a, trans_b };
    let reduce = |kind, axes: Option<&[i64]>, keepdims| Reduce { kind, axes: axes.map(<[i64]>::to_vec), keepdims, noop_with_empty_axes: false };
    let pad = |mode| Pad { mode, pads: None, value: None };
    let mut cases = vec![
        case("conv 3x3", conv(window(&[], &[], &[], &[1, 1, 1, 1]), 1), vec![x(&[2, 3, 5, 4]), w(&[4, 3, 3, 3]), x(&[4])]),
        case("conv without bias", conv(window(&[], &[], &[], &[]), 1), vec![x(&[2, 3, 4, 4]), w(&[2, 3, 1, 1])]),
        case("conv stride 2, odd pads", conv(window(&[3, 2], &[2, 2], &[], &[0, 1, 2, 0]), 1), vec![x(&[2, 2, 6, 5]), w(&[3, 2, 3, 2]), x(&[3])]),
        case("conv stride leaves a rest", conv(window(&[], &[3, 2], &[], &[]), 1), vec![x(&[1, 2, 7, 6]), w(&[3, 2, 2, 2])]),
        case("conv dilated", conv(window(&[], &[], &[2, 3], &[2, 3, 2, 3]), 1), vec![x(&[1, 2, 7, 8]), w(&[3, 2, 3, 2])]),
        case("conv grouped", conv(window(&[], &[], &[], &[1, 1, 1, 1]), 2), vec![x(&[2, 4, 4, 3]), w(&[6, 2, 3, 3]), x(&[6])]),
        case("conv depthwise", conv(window(&[], &[2, 2], &[], &[1, 1, 1, 1]), 3), vec![x(&[2, 3, 5, 6]), w(&[3, 1, 3, 3]), x(&[3])]),
        case("conv depthwise, two filters a channel", conv(window(&[], &[], &[], &[1, 0, 1, 0]), 2), vec![x(&[2, 2, 4, 4]), w(&[4, 1, 3, 2])]),
        case("conv same upper", conv(same(AutoPad::SameUpper), 1), vec![x(&[1, 2, 6, 5]), w(&[2, 2, 3, 2])]),
        case("conv same lower", conv(same(AutoPad::SameLower), 1), vec![x(&[1, 2, 6, 5]), w(&[2, 2, 3, 2])]),
        case("conv 1-D", conv(window(&[], &[2], &[], &[1, 2]), 1), vec![x(&[2, 3, 7]), w(&[2, 3, 3]), x(&[2])]),
        case("conv transpose", transposed(window(&[], &[2, 2], &[], &[1, 1, 1, 1]), 1, &[], &[]), vec![x(&[2, 3, 3, 4]), w(&[3, 2, 3, 3]), x(&[2])]),
        case("conv transpose, output padding, odd pads", transposed(window(&[], &[2, 3], &[], &[0, 1, 1, 0]), 1, &[1, 2], &[]), vec![x(&[1, 2, 3, 3]), w(&[2, 3, 3, 3])]),
        case("conv transpose grouped and dilated", transposed(window(&[], &[], &[2, 1], &[]), 2, &[], &[]), vec![x(&[1, 4, 3, 3]), w(&[4, 2, 2, 3]), x(&[4])]),
        case("conv transpose 1-D", transposed(window(&[], &[2], &[], &[]), 1, &[], &[]), vec![x(&[1, 2, 4]), w(&[2, 2, 3])]),
        case("gemm", gemm(1.0, 1.0, false, false), vec![x(&[3, 4]), w(&[4, 2]), x(&[2])]),
        case("gemm transposed, scaled", gemm(0.5, 2.0, true, true), vec![x(&[4, 3]), w(&[2, 4]), x(&[3, 1])]),
        case("gemm without C", gemm(1.0, 1.0, false, true), vec![x(&[3, 4]), w(&[2, 4])]),
        case("matmul 2-D", MatMul, vec![x(&[3, 4]), w(&[4, 2])]),
        case("matmul batched, broadcast", MatMul, vec![x(&[2, 1, 3, 4]), w(&[5, 4, 2])]),
        case("matmul batch by matrix", MatMul, vec![x(&[2, 3, 4]), w(&[4, 2])]),
        case("matmul row by batch", MatMul, vec![x(&[4]), w(&[3, 4, 2])]),
        case("matmul batch by column", MatMul, vec![x(&[3, 2, 4]), w(&[4])]),
        case("matmul dot", MatMul, vec![x(&[4]), w(&[4])]),
        case("batch normalization", batch, batch_inputs()),
        Case { mode: Mode::Training { seed: 1 }, ..case("batch normalization in training", batch, batch_inputs()) },
        Case { mode: Mode::Training { seed: 1 }, ..case("batch normalization of rows in training", batch, vec![x(&[5, 3]), positive(&[3]), x(&[3]), w(&[3]), positive(&[3])]) },
        case("layer normalization", LayerNormalization { axis: -1, epsilon: 1e-5, stash_type: 1 }, vec![x(&[2, 3, 5]), positive(&[5]), x(&[5])]),
        case("layer normalization with a scale for each row", LayerNormalization { axis: -1, epsilon: 1e-5, stash_type: 1 }, vec![x(&[2, 3, 5]), positive(&[3, 1]), x(&[3, 5])]),
        case("layer normalization of two axes", LayerNormalization { axis: 1, epsilon: 1e-5, stash_type: 1 }, vec![x(&[2, 3, 4]), positive(&[3, 4])]),
        case("instance normalization", InstanceNormalization { epsilon: 1e-5 }, vec![x(&[2, 3, 2, 3]), positive(&[3]), x(&[3])]),
        case("softmax", Softmax { log: false, axis: None }, vec![x(&[2, 3, 4])]),
        case("softmax of an inner axis", Softmax { log: false, axis: Some(1) }, vec![x(&[2, 3, 4])]),
        Case { opset: 11, ..case("softmax flattened", Softmax { log: false, axis: None }, vec![x(&[2, 3, 4])]) },
        case("log softmax", Softmax { log: true, axis: Some(1) }, vec![x(&[2, 3, 4])]),
        Case { opset: 11, ..case("log softmax flattened", Softmax { log: true, axis: Some(2) }, vec![x(&[2, 3, 4])]) },
        case("max pool", MaxPool { window: window(&[2, 2], &[2, 2], &[], &[]), ceil_mode: false, storage_order: 0 }, vec![x(&[2, 2, 4, 6])]),
        case("max pool overlapping, padded", MaxPool { window: window(&[3, 3], &[2, 2], &[], &[1, 0, 1, 1]), ceil_mode: true, storage_order: 0 }, vec![x(&[1, 2, 6, 6])]),
        case("max pool dilated", MaxPool { window: window(&[2, 3], &[], &[2, 1], &[]), ceil_mode: false, storage_order: 0 }, vec![x(&[1, 2, 5, 5])]),
        case("max pool 1-D", MaxPool { window: window(&[3], &[2], &[], &[1, 0]), ceil_mode: false, storage_order: 0 }, vec![x(&[2, 2, 7])]),
        case("max pool 3-D", MaxPool { window: window(&[2, 2, 2], &[], &[], &[]), ceil_mode: false, storage_order: 0 }, vec![x(&[1, 2, 3, 3, 3])]),
        case("average pool", AveragePool { window: window(&[2, 2], &[2, 2], &[], &[]), ceil_mode: false, count_include_pad: false }, vec![x(&[2, 2, 4, 6])]),
        case("average pool padded", AveragePool { window: window(&[3, 3], &[2, 2], &[], &[1, 1, 1, 1]), ceil_mode: false, count_include_pad: false }, vec![x(&[1, 2, 5, 6])]),
        case("average pool counting pads, ceil", AveragePool { window: window(&[3, 3], &[2, 2], &[], &[1, 0, 0, 1]), ceil_mode: true, count_include_pad: true }, vec![x(&[1, 2, 6, 6])]),
        case("average pool 1-D", AveragePool { window: window(&[2], &[], &[], &[]), ceil_mode: false, count_include_pad: false }, vec![x(&[2, 2, 5])]),
        case("global average pool", GlobalPool::Average, vec![x(&[2, 3, 4, 2])]),
        case("global max pool", GlobalPool::Max, vec![x(&[2, 3, 4, 2])]),
        case("add broadcast", Binary::Add, vec![x(&[2, 3, 4]), w(&[3, 1])]),
        case("sub broadcast", Binary::Sub, vec![x(&[4]), w(&[2, 3, 4])]),
        case("mul broadcast", Binary::Mul, vec![x(&[2, 1, 4]), w(&[3, 1])]),
        case("div broadcast", Binary::Div, vec![x(&[2, 3]), positive(&[1, 3])]),
        case("pow", Binary::Pow, vec![positive(&[2, 3]), x(&[3])]),
        case("mod", Binary::Mod { fmod: true }, vec![x(&[2, 3]), positive(&[3])]),
        case("sum", Variadic::Sum, vec![x(&[2, 3]), w(&[3]), x(&[2, 1])]),
        case("mean", Variadic::Mean, vec![x(&[2, 3]), w(&[3])]),
        case("max", Variadic::Max, vec![x(&[2, 3]), w(&[3]), w(&[2, 1])]),
        case("min", Variadic::Min, vec![x(&[2, 3]), w(&[3])]),
        case("where", Where, vec![Tensor::from_bools([3], &[true, false, true]), x(&[2, 3]), w(&[2, 1])]),
        case("clip", Clip { min: None, max: None }, vec![x(&[3, 4]), Tensor::scalar(-0.5f64), Tensor::scalar(0.7f64)]),
        Case { opset: 7, ..case("relu6", Clip { min: Some(0.0), max: Some(1.0) }, vec![x(&[3, 4])]) },
        case("cast", Cast { to: DataType::Double, saturate: true }, vec![x(&[3])]),
        case("identity", Identity, vec![x(&[3])]),
        Case { opset: 10, mode: Mode::Training { seed: 7 }, ..case("dropout in training", Dropout { ratio: Some(0.4), seed: None }, vec![x(&[4, 5])]) },
        case("cum sum", CumSum { exclusive: false, reverse: false }, vec![x(&[2, 4]), Tensor::scalar(1i64)]),
        case("cum sum exclusive, reversed", CumSum { exclusive: true, reverse: true }, vec![x(&[2, 4]), Tensor::scalar(0i64)]),
        case("reshape", Reshape { allow_zero: false }, vec![x(&[2, 3, 4]), ints(&[0, -1])]),
        case("flatten", Flatten { axis: 2 }, vec![x(&[2, 3, 4])]),
        case("transpose", Transpose { perm: Some(vec![2, 0, 1]) }, vec![x(&[2, 3, 4])]),
        case("transpose reversed", Transpose { perm: None }, vec![x(&[2, 3, 4])]),
        case("squeeze", Squeeze { axes: None }, vec![x(&[2, 1, 3]), ints(&[1])]),
        case("unsqueeze", Unsqueeze { axes: None }, vec![x(&[2, 3]), ints(&[0, -1])]),
        case("concat", Concat { axis: 1 }, vec![x(&[2, 3]), w(&[2, 1]), x(&[2, 2])]),
        Case { outputs: 2, ..case("split", Split { axis: 1, sizes: None, num_outputs: None }, vec![x(&[2, 5]), ints(&[2, 3])]) },
        case("slice", Slice { bounds: None }, vec![x(&[4, 5]), ints(&[1, -4]), ints(&[3, 5])]),
        case("slice stepped backwards", Slice { bounds: None }, vec![x(&[4, 5]), ints(&[3, 0]), ints(&[-9, 5]), ints(&[0, 1]), ints(&[-2, 2])]),
        case("gather", Gather { axis: 1 }, vec![x(&[2, 4, 3]), Tensor::new([2, 2], vec![3i64, -4, 1, 3])]),
        case("scatter", ScatterElements { axis: 1, reduction: "none".into() }, vec![x(&[2, 4]), Tensor::new([2, 2], vec![1i64, 3, 0, -1]), w(&[2, 2])]),
        case("scatter add", ScatterElements { axis: 0, reduction: "add".into() }, vec![x(&[3, 2]), Tensor::new([2, 2], vec![1i64, 1, 1, 0]), w(&[2, 2])]),
        case("pad constant, cropped", pad(PadMode::Constant), vec![x(&[3, 4]), ints(&[1, -1, 0, 2]), Tensor::scalar(0.5f64)]),
        case("pad reflect", pad(PadMode::Reflect), vec![x(&[3, 4]), ints(&[1, 2, 2, 0])]),
        case("pad edge", pad(PadMode::Edge), vec![x(&[3, 4]), ints(&[1, 0, 0, 2])]),
        case("pad wrap", pad(PadMode::Wrap), vec![x(&[3, 4]), ints(&[1, 0, 2, 1])]),
        case("expand", Expand, vec![x(&[3, 1]), ints(&[2, 1, 4])]),
        case("tile", Tile, vec![x(&[2, 3]), ints(&[2, 3])]),
        case("depth to space", DepthToSpace { block_size: 2, crd: false }, vec![x(&[1, 8, 2, 3])]),
        case("depth to space, column-row-depth", DepthToSpace { block_size: 2, crd: true }, vec![x(&[1, 8, 2, 3])]),
    ];
    let kinds = [
        ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max, ReduceKind::Min, ReduceKind::Prod, ReduceKind::L1, ReduceKind::L2,
        ReduceKind::LogSum, ReduceKind::LogSumExp, ReduceKind::SumSquare,
    ];
    for kind in kinds {
        cases.push(Case { opset: 11, ..case(format!("reduce {kind:?}"), reduce(kind, Some(&[-1, 0]), false), vec![positive(&[2, 3, 4])]) });
        cases.push(case(format!("reduce {kind:?} of all, kept"), reduce(kind, None, true), vec![positive(&[2, 3])]));
    }
    let unaries = [Unary::Abs, Unary::Neg, Unary::Exp, Unary::Reciprocal, Unary::Floor, Unary::Ceil, Unary::Round, Unary::Sign, Unary::Erf, Unary::Sin, Unary::Cos];
    cases.extend(unaries.map(|op| case(format!("{op:?}"), op, vec![x(&[3, 5])])));
    cases.extend([Unary::Log, Unary::Sqrt].map(|op| case(format!("{op:?}"), op, vec![positive(&[3, 5])])));
    let activations = [
        Activation::Relu, Activation::LeakyRelu { alpha: 0.1 }, Activation::Elu { alpha: 0.8 }, Activation::Celu { alpha: 1.5 },
        Activation::Selu { alpha: 1.67, gamma: 1.05 }, Activation::Sigmoid, Activation::HardSigmoid { alpha: 0.4, beta: 0.5 }, Activation::HardSwish,
        Activation::Swish { alpha: 1.3 }, Activation::Mish, Activation::Tanh, Activation::Softplus, Activation::Softsign,
        Activation::ThresholdedRelu { alpha: 0.6 }, Activation::Gelu { tanh: false }, Activation::Gelu { tanh: true },
    ];
    cases.extend(activations.map(|op| case(format!("{op:?}"), op, vec![x(&[3, 5])])));
    cases.push(case("PRelu", Activation::PRelu, vec![x(&[2, 3, 2]), w(&[3, 1])]));
    cases.push(case("HardSwish beyond its bends", Activation::HardSwish, vec![Tensor::new([3], vec![-4.0f64, 0.3, 5.0])]));
    cases.push(case("product with zeros", reduce(ReduceKind::Prod, None, true), vec![Tensor::new([2, 3], vec![0.0f64, 2.0, 3.0, 0.0, 0.0, 4.0]), ints(&[1])]));
    cases
}

fn single(tensor: &Tensor) -> Tensor {
    match tensor.values::<f64>() {
        Some(values) => Tensor::new(tensor.dims(), values.iter().map(|v| *v as f32).collect::<Vec<f32>>()),
        None => tensor.clone(),
    }
}

/// The case's only node in a graph.
fn graph(case: &Case) -> Graph {
    let mut builder = GraphBuilder::with_opset(&case.name, case.opset);
    let ids: Vec<ValueId> = case.inputs.iter().enumerate().map(|(i, t)| builder.tensor(&format!("i{i}"), t.clone())).collect();
    let names: Vec<String> = (0..case.outputs).map(|i| format!("y{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let y = builder.nodes("node", case.op.clone(), &ids, &names);
    builder.output(y[0]).finish().unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

/// Outputs of a case for other inputs, and the way back.
fn evaluate(case: &Case, inputs: &[Tensor]) -> (Vec<Value<Flex>>, Option<Pullback<Flex>>) {
    let graph = graph(case);
    let (_, node) = graph.nodes().next().expect("one node");
    let inputs: Vec<_> = inputs.iter().map(|t| Value::from_tensor(t, &FlexDevice)).collect();
    let wants = inputs.iter().map(|v| matches!(v, Some(Value::Float(_)))).collect();
    let done = forward::<Flex>(Call { node, opset: case.opset, inputs, wants, mode: case.mode, device: &FlexDevice, bounds: None });
    let done = done.unwrap_or_else(|e| panic!("{}: {e}", case.name));
    (done.outputs.into_iter().take(case.outputs).collect(), done.pullback)
}

fn numbers(value: Value<Flex>) -> Vec<f64> {
    let tensor = value.into_tensor();
    match tensor.values::<f64>() {
        Some(values) => values.into_owned(),
        None => tensor.to_f32().expect("floats").iter().map(|v| f64::from(*v)).collect(),
    }
}

/// Weights of the outputs' sum, whose gradients are checked.
fn cotangents(outputs: &[Value<Flex>]) -> Vec<Tensor> {
    outputs.iter().map(|y| w(&y.dims())).collect()
}

fn weighted_sum(outputs: Vec<Value<Flex>>, weights: &[Tensor]) -> f64 {
    let dot =
        |(y, v): (Value<Flex>, &Tensor)| numbers(y).iter().zip(v.values::<f64>().expect("doubles").iter()).map(|(y, v)| y * v).sum::<f64>();
    outputs.into_iter().zip(weights).map(dot).sum()
}

fn pulled_back(pullback: Pullback<Flex>, cotangents: &[Tensor]) -> Vec<Option<Value<Flex>>> {
    let dy = cotangents.iter().map(|v| match Value::<Flex>::from_tensor(v, &FlexDevice) {
        Some(Value::Float(v)) => Some(v),
        _ => None,
    });
    pullback(dy.collect()).into_iter().map(|g: Option<Float<Flex>>| g.map(Value::from)).collect()
}

fn differs(a: f64, b: f64, tolerance: f64) -> bool {
    a.is_nan() || b.is_nan() || (a - b).abs() > tolerance * (1.0 + a.abs().max(b.abs()))
}

#[test]
fn every_pullback_agrees_with_finite_differences() {
    const STEP: f64 = 1e-5;
    let mut wrong = vec![];
    for case in cases() {
        let (outputs, pullback) = evaluate(&case, &case.inputs);
        let v = cotangents(&outputs);
        let gradients = pulled_back(pullback.unwrap_or_else(|| panic!("{} has no pullback", case.name)), &v);
        for (i, input) in case.inputs.iter().enumerate() {
            let Some(elements) = input.values::<f64>() else { continue };
            let Some(Some(gradient)) = gradients.get(i).cloned() else {
                // Bounds and running statistics are not learned.
                let constant =
                    matches!(case.op, Op::Clip(_) | Op::Pad(_)) && i > 0 || matches!(case.op, Op::BatchNormalization(_)) && i > 2;
                assert!(constant, "{}: no gradient of input {i}", case.name);
                continue;
            };
            assert_eq!(gradient.dims(), input.dims(), "{}: shape of the gradient of input {i}", case.name);
            for (k, derivative) in numbers(gradient).into_iter().enumerate() {
                let moved = |step: f64| {
                    let mut elements = elements.to_vec();
                    elements[k] += step;
                    let mut inputs = case.inputs.clone();
                    inputs[i] = Tensor::new(input.dims(), elements);
                    weighted_sum(evaluate(&case, &inputs).0, &v)
                };
                let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                if differs(derivative, difference, 1e-6) {
                    wrong.push(format!("{}: input {i}, element {k}: {derivative} but the difference is {difference}", case.name));
                    break;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn single_precision_agrees_with_double() {
    let mut wrong = vec![];
    for case in cases().into_iter().filter(|case| !matches!(case.op, Op::Cast(_))) {
        let (exact, exact_pullback) = evaluate(&case, &case.inputs);
        let inputs: Vec<Tensor> = case.inputs.iter().map(single).collect();
        let (outputs, pullback) = evaluate(&case, &inputs);
        let v = cotangents(&exact);
        let exact_gradients = pulled_back(exact_pullback.expect("pullback"), &v);
        let gradients = pulled_back(pullback.expect("pullback"), &v.iter().map(single).collect::<Vec<_>>());
        let pairs = exact.into_iter().map(Some).zip(outputs.into_iter().map(Some)).chain(exact_gradients.into_iter().zip(gradients));
        for (k, (exact, value)) in pairs.enumerate() {
            let (Some(exact), Some(value)) = (exact, value) else { continue };
            assert_eq!(exact.dims(), value.dims(), "{}", case.name);
            if let Some((a, b)) = numbers(exact).into_iter().zip(numbers(value)).find(|(a, b)| differs(*a, *b, 1e-4)) {
                wrong.push(format!("{}: number {k}: {b} in single precision, {a} in double", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// y = w·x² at w = 3, x = 2: dy/dw = x² = 4, dy/dx = 2·w·x = 12.
#[test]
fn a_product_by_hand() {
    let square = case("x squared", Binary::Mul, vec![Tensor::scalar(2.0f64), Tensor::scalar(2.0f64)]);
    let (_, pullback) = evaluate(&square, &square.inputs);
    let halves = pulled_back(pullback.expect("pullback"), &[Tensor::scalar(3.0f64)]);
    let by_x: f64 = halves.into_iter().flatten().map(|half| numbers(half)[0]).sum();
    assert!((by_x - 12.0).abs() < 1e-12);
    let product = case("w times x squared", Binary::Mul, vec![Tensor::scalar(3.0f64), Tensor::scalar(4.0f64)]);
    let (_, pullback) = evaluate(&product, &product.inputs);
    let by_w = pulled_back(pullback.expect("pullback"), &[Tensor::scalar(1.0f64)]).swap_remove(0).map(numbers);
    assert_eq!(by_w, Some(vec![4.0]));
}

/// X = [[1, 2], [3, 4]], W = [[10, 100]] as a 1×2 kernel: Y = [210, 430]; dW = dY · patches, dX = dY · W.
#[test]
fn a_convolution_by_hand() {
    let inputs = vec![Tensor::new([1, 1, 2, 2], vec![1.0f64, 2.0, 3.0, 4.0]), Tensor::new([1, 1, 1, 2], vec![10.0f64, 100.0])];
    let case = case("conv", conv(window(&[], &[], &[], &[]), 1), inputs);
    let (mut outputs, pullback) = evaluate(&case, &case.inputs);
    assert_eq!(numbers(outputs.swap_remove(0)), [210.0, 430.0]);
    let gradients = pulled_back(pullback.expect("pullback"), &[Tensor::new([1, 1, 2, 1], vec![1.0f64, -1.0])]);
    let gradients: Vec<Vec<f64>> = gradients.into_iter().flatten().map(numbers).collect();
    assert_eq!(gradients[0], [10.0, 100.0, -10.0, -100.0]);
    assert_eq!(gradients[1], [1.0 - 3.0, 2.0 - 4.0]);
}

/// Whatever the shapes, a kernel gives outputs or says what does not fit. Where it gives outputs, the way back works too.
#[test]
fn shapes_that_do_not_fit_are_errors() {
    let mut random = 1u64;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % n
    };
    let mut panicked = vec![];
    for case in cases() {
        let graph = graph(&case);
        let (_, node) = graph.nodes().next().expect("one node");
        for _ in 0..200 {
            let mut inputs = case.inputs.clone();
            for input in &mut inputs {
                let mut dims = input.dims().to_vec();
                match below(6) {
                    0 if !dims.is_empty() => drop(dims.pop()),
                    1 => dims.push(below(4) as usize),
                    2 | 3 if !dims.is_empty() => {
                        let axis = below(dims.len() as u64) as usize;
                        dims[axis] = below(5) as usize;
                    }
                    _ => continue,
                }
                *input = match input.to_i64() {
                    Some(_) => Tensor::new(dims.clone(), (0..dims.iter().product()).map(|_| below(12) as i64 - 6).collect::<Vec<i64>>()),
                    None => single(&positive(&dims)),
                };
            }
            let inputs: Vec<Tensor> = inputs.iter().map(single).collect();
            let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::dims).collect();
            let run = || {
                let values: Vec<_> = inputs.iter().map(|t| Value::from_tensor(t, &FlexDevice)).collect();
                let wants = values.iter().map(|v| matches!(v, Some(Value::Float(_)))).collect();
                let call =
                    Call::<Flex> { node, opset: case.opset, inputs: values, wants, mode: case.mode, device: &FlexDevice, bounds: None };
                if let Ok(done) = forward(call)
                    && let Some(pullback) = done.pullback
                {
                    let dy: Vec<Tensor> = done.outputs.iter().map(|y| single(&w(&y.dims()))).collect();
                    drop(pulled_back(pullback, &dy));
                }
            };
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                panicked.push(format!("{}: {shapes:?}", case.name));
                break;
            }
        }
    }
    assert!(panicked.is_empty(), "panics at\n{}", panicked.join("\n"));
}
