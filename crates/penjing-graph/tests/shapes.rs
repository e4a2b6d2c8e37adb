//! The shape rule of every operator, by hand. Shapes are written as they are printed: `N, 3, 2*N, ?`.

use penjing_graph::ops::{
    Activation, ArgReduce, AutoPad, AveragePool, BatchNormalization, Binary, Cast, Clip, Concat, ConstantOfShape, Conv, ConvTranspose,
    CumSum, DepthToSpace, Dropout, Expand, Flatten, Gather, Gemm, GlobalPool, Identity, InstanceNormalization, LayerNormalization, MatMul,
    MaxPool, Op, Opaque, Pad, PadMode, Range, Reduce, ReduceKind, Reshape, ScatterElements, Shape, Slice, SliceBounds, Softmax, Split,
    Squeeze, Tile, Transpose, Unary, Unsqueeze, Variadic, Where, Window,
};
use penjing_graph::{DataType, Dim, Edit, Graph, GraphBuilder, Tensor, ValueId};
use proptest::collection::SizeRange;
use proptest::prelude::*;

/// An input of the node under test.
#[derive(Clone, Copy)]
enum In<'a> {
    /// Floats of that shape: `"N, 3, ?"`.
    X(&'a str),
    /// Booleans of that shape.
    B(&'a str),
    /// A constant vector of integers.
    Ints(&'a [i64]),
    /// A constant integer.
    Int(i64),
    /// Integers of that shape that are not known before the model runs.
    AnyInts(&'a str),
    /// Floats of which not even the rank is known.
    Unranked,
    /// An optional input left out.
    Absent,
}
use In::{Absent, AnyInts, B, Int, Ints, Unranked, X};

fn dims(text: &str) -> Vec<Dim> {
    let dim = |part: &str| match part.trim() {
        "?" => Dim::Unknown,
        part => part.parse().map_or_else(|_| Dim::symbol(part), Dim::Fixed),
    };
    if text.is_empty() { vec![] } else { text.split(',').map(dim).collect() }
}

fn input(edit: &mut Edit, i: usize, given: In<'_>) -> Option<ValueId> {
    let name = format!("x{i}");
    Some(match given {
        X(shape) => edit.add_input(name, DataType::Float, dims(shape)),
        B(shape) => edit.add_input(name, DataType::Bool, dims(shape)),
        AnyInts(shape) => edit.add_input(name, DataType::Int64, dims(shape)),
        Ints(ints) => edit.add_tensor(name, Tensor::new([ints.len()], ints.to_vec())),
        Int(int) => edit.add_tensor(name, Tensor::scalar(int)),
        Unranked => {
            let op = Opaque { domain: "own".into(), op_type: "Source".into(), raw: bytes::Bytes::new(), reason: "unknown operator".into() };
            edit.add_node(&name, op, vec![], &[&name])[0]
        }
        Absent => return None,
    })
}

fn given(opset: i64, op: impl Into<Op>, inputs: &[In<'_>], outputs: usize) -> Result<Vec<String>, String> {
    let mut graph = Graph::default();
    let mut edit = Edit::new(&graph, "test");
    edit.set_opset("", opset);
    let inputs = inputs.iter().enumerate().map(|(i, given)| input(&mut edit, i, *given)).collect();
    let names: Vec<String> = (0..outputs).map(|i| format!("y{i}")).collect();
    let outputs = edit.add_node("node", op, inputs, &names.iter().map(String::as_str).collect::<Vec<_>>());
    graph.apply(edit).map_err(|e| e.to_string())?;
    let text = |id: &ValueId| match &graph.value(*id).shape {
        Some(shape) => shape.iter().map(Dim::to_string).collect::<Vec<_>>().join(", "),
        None => "unranked".into(),
    };
    Ok(outputs.iter().map(text).collect())
}

/// Shape of the only output at opset 17.
fn shape(op: impl Into<Op>, inputs: &[In<'_>]) -> String {
    given(17, op, inputs, 1).unwrap_or_else(|e| panic!("{e}")).remove(0)
}

/// What stands in the way.
fn refusal(op: impl Into<Op>, inputs: &[In<'_>]) -> String {
    let error = given(17, op, inputs, 1).expect_err("a refusal");
    error.split_once("): ").map_or(error.clone(), |(_, reason)| reason.to_string())
}

fn window(kernel: &[usize], strides: &[usize], dilations: &[usize], pads: &[i64]) -> Window {
    Window {
        kernel: kernel.to_vec(),
        strides: strides.to_vec(),
        dilations: dilations.to_vec(),
        pads: pads.to_vec(),
        auto_pad: AutoPad::NotSet,
    }
}

fn conv(window: Window, group: usize) -> Conv {
    Conv { window, group }
}

#[test]
fn convolutions() {
    let plain = || conv(Window::default(), 1);
    assert_eq!(shape(plain(), &[X("N, 3, 8, 9"), X("16, 3, 3, 3")]), "N, 16, 6, 7");
    assert_eq!(shape(plain(), &[X("2, 3, 8"), X("16, 3, 1"), X("16")]), "2, 16, 8");
    // (8 + 1 + 2 − 3) / 2 + 1 and (9 + 0 + 0 − (2 · 2 + 1)) / 3 + 1
    let uneven = conv(window(&[3, 3], &[2, 3], &[1, 2], &[1, 0, 2, 0]), 1);
    assert_eq!(shape(uneven, &[X("N, 3, 8, 9"), X("16, 3, 3, 3")]), "N, 16, 5, 2");
    // A symbol passes where the window leaves sizes alone, and only there.
    let same = conv(window(&[3, 3], &[], &[1, 2], &[1, 2, 1, 2]), 2);
    assert_eq!(shape(same, &[X("N, 4, H, W"), X("6, 2, 3, 3")]), "N, 6, H, W");
    assert_eq!(shape(plain(), &[X("N, 4, H, 8"), X("6, 4, 3, 3")]), "N, 6, ?, 6");
    assert_eq!(shape(plain(), &[X("N, 4, 8, 8"), Unranked]), "N, ?, ?, ?");
    assert_eq!(shape(conv(window(&[3, 3], &[], &[], &[]), 1), &[X("N, 4, 8, 8"), Unranked]), "N, ?, 6, 6");
    assert_eq!(shape(plain(), &[Unranked, X("6, 4, 3, 3")]), "unranked");
    // Negative pads crop.
    assert_eq!(shape(conv(window(&[1, 1], &[], &[], &[-1, 0, -2, 0]), 1), &[X("1, 1, 8, 8"), X("1, 1, 1, 1")]), "1, 1, 5, 8");
}

#[test]
fn automatic_padding_of_convolutions() {
    let auto = |auto_pad, stride| conv(Window { auto_pad, strides: vec![stride, stride], ..Window::default() }, 1);
    let inputs = [X("N, 1, 7, W"), X("1, 1, 4, 4")];
    // ⌈7 / 2⌉
    assert_eq!(shape(auto(AutoPad::SameUpper, 2), &inputs), "N, 1, 4, ?");
    assert_eq!(shape(auto(AutoPad::SameLower, 2), &inputs), "N, 1, 4, ?");
    assert_eq!(shape(auto(AutoPad::SameUpper, 1), &inputs), "N, 1, 7, W");
    assert_eq!(shape(auto(AutoPad::Valid, 1), &inputs), "N, 1, 4, ?");
}

#[test]
fn convolutions_that_do_not_fit() {
    let plain = conv(Window::default(), 1);
    assert_eq!(refusal(plain.clone(), &[X("N, 4"), X("6, 4")]), "the input has 2 dimensions but needs at least 3");
    assert_eq!(refusal(plain.clone(), &[X("N, 4, 8"), X("6, 3, 3")]), "the weight reads 3 channels in 1 groups, the input has 4");
    assert_eq!(refusal(plain.clone(), &[X("N, 4, 2"), X("6, 4, 3")]), "a window of 3 cells is larger than the 2 of the padded input");
    assert_eq!(refusal(plain, &[X("N, 4, 8"), X("6, 4, 3"), X("5")]), "the bias has 5 numbers, the output 6 channels");
    assert_eq!(refusal(conv(Window::default(), 2), &[X("N, 4, 8"), X("5, 2, 3")]), "5 channels cannot be split into 2 groups");
    let strides = conv(window(&[], &[1, 1], &[], &[]), 1);
    assert_eq!(refusal(strides, &[X("N, 4, 8"), X("6, 4, 3")]), "attribute `strides` has 2 numbers but needs 1");
    assert_eq!(
        refusal(conv(window(&[2], &[], &[], &[]), 1), &[X("N, 4, 8"), X("6, 4, 3")]),
        "attribute `kernel_shape` is not the weight's"
    );
}

#[test]
fn transposed_convolutions() {
    let op = |window, group, output_padding: &[usize], output_shape: &[usize]| ConvTranspose {
        window,
        group,
        output_padding: output_padding.to_vec(),
        output_shape: output_shape.to_vec(),
    };
    // (5 − 1) · 2 + 3 − 1 − 0 + 1
    let strided = op(window(&[], &[2], &[], &[1, 0]), 2, &[1], &[]);
    assert_eq!(shape(strided, &[X("N, 4, 5"), X("4, 3, 3")]), "N, 6, 11");
    assert_eq!(shape(op(Window::default(), 1, &[], &[]), &[X("N, 4, 5, W"), X("4, 3, 3, 3")]), "N, 3, 7, ?");
    assert_eq!(shape(op(window(&[], &[2], &[], &[]), 1, &[], &[10]), &[X("N, 4, 5"), X("4, 3, 3")]), "N, 3, 10");
    let same = Window { auto_pad: AutoPad::SameUpper, strides: vec![3], ..Window::default() };
    assert_eq!(shape(op(same, 1, &[], &[]), &[X("N, 4, 5"), X("4, 3, 3")]), "N, 3, 15");
    let refused = refusal(op(Window::default(), 1, &[], &[]), &[X("N, 5, 5"), X("4, 3, 3")]);
    assert_eq!(refused, "the weight reads 4 channels, the input has 5");
}

#[test]
fn pooling() {
    let max = |window, ceil_mode| MaxPool { window, ceil_mode, storage_order: 0 };
    let average = |window, ceil_mode| AveragePool { window, ceil_mode, count_include_pad: false };
    // (7 − 3) / 2 + 1, and (8 − 3) / 2 + 1 rounded down and up
    assert_eq!(shape(max(window(&[3, 3], &[2, 2], &[], &[]), false), &[X("N, C, 7, 8")]), "N, C, 3, 3");
    assert_eq!(shape(max(window(&[3, 3], &[2, 2], &[], &[]), true), &[X("N, C, 7, 8")]), "N, C, 3, 4");
    // A last window that starts in the padding at the end does not count: ⌈(4 + 1 − 1) / 3⌉ + 1 would be 3.
    assert_eq!(shape(average(window(&[1], &[3], &[], &[0, 1]), true), &[X("N, C, 4")]), "N, C, 2");
    assert_eq!(shape(average(window(&[1], &[4], &[], &[0, 2]), true), &[X("N, C, 4")]), "N, C, 2");
    assert_eq!(shape(max(window(&[2], &[], &[3], &[]), false), &[X("N, C, 8")]), "N, C, 5");
    assert_eq!(shape(max(window(&[3], &[], &[], &[1, 1]), false), &[X("N, C, L")]), "N, C, L");
    assert_eq!(given(17, max(window(&[2], &[2], &[], &[]), false), &[X("N, C, 8")], 2), Ok(vec!["N, C, 4".into(), "N, C, 4".into()]));
    assert_eq!(shape(GlobalPool::Average, &[X("N, C, H, ?")]), "N, C, 1, 1");
    assert_eq!(shape(GlobalPool::Max, &[Unranked]), "unranked");
    assert_eq!(refusal(max(window(&[2], &[], &[], &[]), false), &[X("N, C, 8, 8")]), "attribute `kernel_shape` has 1 numbers but needs 2");
}

#[test]
fn products() {
    let gemm = |trans_a, trans_b| Gemm { alpha: 1.0, beta: 1.0, trans_a, trans_b };
    assert_eq!(shape(gemm(false, false), &[X("N, 4"), X("4, 5"), X("5")]), "N, 5");
    assert_eq!(shape(gemm(true, true), &[X("4, N"), X("5, 4")]), "N, 5");
    assert_eq!(shape(gemm(false, true), &[Unranked, X("5, K")]), "?, 5");
    assert_eq!(refusal(gemm(false, false), &[X("N, 4"), X("3, 5")]), "rows of 4 and columns of 3 numbers do not go together");
    assert_eq!(refusal(gemm(false, false), &[X("N, 4"), X("4, 5"), X("6")]), "[6] cannot be broadcast to [N, 5]");

    assert_eq!(shape(MatMul, &[X("B, H, S, 8"), X("B, H, 8, S")]), "B, H, S, S");
    assert_eq!(shape(MatMul, &[X("B, 3, 1, S, 8"), X("7, 8, T")]), "B, 3, 7, S, T");
    assert_eq!(shape(MatMul, &[X("8"), X("B, 8, 5")]), "B, 5");
    assert_eq!(shape(MatMul, &[X("B, 5, 8"), X("8")]), "B, 5");
    assert_eq!(shape(MatMul, &[X("8"), X("8")]), "");
    assert_eq!(shape(MatMul, &[X("8"), Unranked]), "unranked");
    assert_eq!(refusal(MatMul, &[X("2, 3"), X("4, 5")]), "rows of 3 and columns of 4 numbers do not go together");
    assert_eq!(refusal(MatMul, &[X(""), X("4, 5")]), "an input has no dimensions");
}

#[test]
fn normalisations() {
    let batch = |training_mode| BatchNormalization { epsilon: 1e-5, momentum: 0.9, training_mode };
    let inputs = [X("N, 4, H"), X("4"), X("4"), X("4"), X("4")];
    assert_eq!(shape(batch(false), &inputs), "N, 4, H");
    assert_eq!(given(17, batch(true), &inputs, 3), Ok(["N, 4, H", "4", "4"].map(String::from).to_vec()));
    let refused = refusal(batch(false), &[X("N, 4, H"), X("5"), X("4"), X("4"), X("4")]);
    assert_eq!(refused, "input 1 has 5 numbers, input 0 4 channels");

    let layer = |axis| LayerNormalization { axis, epsilon: 1e-5, stash_type: 1 };
    assert_eq!(given(17, layer(-2), &[X("B, S, 8"), X("S, 8")], 3), Ok(["B, S, 8", "B, 1, 1", "B, 1, 1"].map(String::from).to_vec()));
    assert_eq!(refusal(layer(3), &[X("B, S, 8"), X("8")]), "axis 3 is out of range for 3 dimensions");
    assert_eq!(refusal(layer(-1), &[X("B, S, 8"), X("7")]), "[7] cannot be broadcast to [B, S, 8]");
    assert_eq!(shape(InstanceNormalization { epsilon: 1e-5 }, &[X("N, 4, H"), X("4"), X("4")]), "N, 4, H");
}

#[test]
fn activations() {
    assert_eq!(shape(Activation::Relu, &[X("N, ?, 3")]), "N, ?, 3");
    assert_eq!(shape(Activation::PRelu, &[X("N, 4, H"), X("4, 1")]), "N, 4, H");
    assert_eq!(refusal(Activation::PRelu, &[X("N, 4, H"), X("3, 1")]), "[3, 1] cannot be broadcast to [N, 4, H]");
    let softmax = |axis| Softmax { log: false, axis };
    assert_eq!(shape(softmax(Some(-2)), &[X("N, 4")]), "N, 4");
    assert_eq!(refusal(softmax(Some(-3)), &[X("N, 4")]), "axis -3 is out of range for 2 dimensions");
}

#[test]
fn elementwise_operators_broadcast_from_the_end() {
    assert_eq!(shape(Binary::Add, &[X("N, 1, 4"), X("3, 1")]), "N, 3, 4");
    // What is no 1 decides: a symbol beside 4 can only be 4 or 1.
    assert_eq!(shape(Binary::Mul, &[X("N, S"), X("4")]), "N, 4");
    assert_eq!(shape(Binary::Sub, &[X("N, S"), X("N, S")]), "N, S");
    assert_eq!(shape(Binary::Div, &[X("N"), X("M")]), "?");
    assert_eq!(shape(Binary::Pow, &[X("?, 1"), X("")]), "?, 1");
    assert_eq!(shape(Binary::Equal, &[Unranked, X("4")]), "unranked");
    assert_eq!(refusal(Binary::Add, &[X("3"), X("4")]), "dimensions 3 and 4 cannot be broadcast");
    assert_eq!(shape(Variadic::Max, &[X("2, 1, 1"), X("3, 1"), X("4")]), "2, 3, 4");
    assert_eq!(shape(Variadic::Sum, &[X("N")]), "N");
    assert_eq!(shape(Where, &[B("2, 1"), X("3"), X("")]), "2, 3");
    for op in [Unary::Erf, Unary::Sqrt, Unary::Neg] {
        assert_eq!(shape(op, &[X("N, 2")]), "N, 2");
    }
    assert_eq!(shape(Clip { min: None, max: None }, &[X("N, 2"), Absent, X("")]), "N, 2");
    assert_eq!(refusal(Clip { min: None, max: None }, &[X("N, 2"), X("1")]), "input 1 has 1 dimensions but needs 0");
    assert_eq!(shape(Cast { to: DataType::Int32, saturate: true }, &[X("N, 2")]), "N, 2");
    assert_eq!(shape(Identity, &[X("N, ?")]), "N, ?");
    assert_eq!(given(17, Dropout { ratio: None, seed: None }, &[X("N, 2")], 2), Ok(vec!["N, 2".into(), "N, 2".into()]));
}

#[test]
fn reductions() {
    let reduce =
        |kind, axes: Option<&[i64]>, keepdims| Reduce { kind, axes: axes.map(<[i64]>::to_vec), keepdims, noop_with_empty_axes: false };
    let mean = |axes, keepdims| reduce(ReduceKind::Mean, axes, keepdims);
    assert_eq!(shape(mean(Some(&[-1, 0]), true), &[X("N, 4, W")]), "1, 4, 1");
    assert_eq!(shape(mean(Some(&[-1, 0]), false), &[X("N, 4, W")]), "4");
    assert_eq!(shape(mean(None, false), &[X("N, 4, W")]), "");
    let sum = |keepdims| reduce(ReduceKind::Sum, None, keepdims);
    assert_eq!(shape(sum(true), &[X("N, 4, W"), Ints(&[1])]), "N, 1, W");
    // With axes that are not known the rank is left, or nothing is.
    assert_eq!(shape(sum(true), &[X("N, 4, W"), AnyInts("1")]), "?, ?, ?");
    assert_eq!(shape(sum(false), &[X("N, 4, W"), AnyInts("?")]), "unranked");
    let whole = Reduce { noop_with_empty_axes: true, ..sum(true) };
    assert_eq!(shape(whole.clone(), &[X("N, 4")]), "N, 4");
    assert_eq!(shape(whole, &[X("N, 4"), Ints(&[0])]), "1, 4");
    assert_eq!(refusal(mean(Some(&[0, -3]), true), &[X("N, 4, W")]), "axis 0 is named twice");
    let arg = |axis, keepdims| ArgReduce { max: true, axis, keepdims, select_last_index: false };
    assert_eq!(shape(arg(-1, false), &[X("N, 10")]), "N");
    assert_eq!(shape(arg(0, true), &[X("N, 10")]), "1, 10");
    assert_eq!(shape(CumSum { exclusive: false, reverse: false }, &[X("N, 10"), Int(-1)]), "N, 10");
    assert_eq!(refusal(CumSum { exclusive: false, reverse: false }, &[X("N, 10"), Int(2)]), "axis 2 is out of range for 2 dimensions");
}

#[test]
fn reshaping() {
    let reshape = Reshape { allow_zero: false };
    assert_eq!(shape(reshape, &[X("N, 4, 5"), Ints(&[0, -1])]), "N, 20");
    assert_eq!(shape(reshape, &[X("N, 4, 5"), Ints(&[-1, 20])]), "N, 20");
    assert_eq!(shape(reshape, &[X("N, 4, 5"), Ints(&[2, -1])]), "2, 10*N");
    assert_eq!(shape(reshape, &[X("N, 4, 5"), Ints(&[3, -1])]), "3, ?");
    assert_eq!(shape(reshape, &[X("N, S, 64"), Ints(&[0, 0, 4, 16])]), "N, S, 4, 16");
    assert_eq!(shape(reshape, &[X("N, S, 4, 16"), Ints(&[0, -1, 64])]), "N, S, 64");
    assert_eq!(shape(reshape, &[X("6"), AnyInts("3")]), "?, ?, ?");
    assert_eq!(shape(reshape, &[X("6"), AnyInts("?")]), "unranked");
    assert_eq!(shape(reshape, &[Unranked, Ints(&[0, 4])]), "?, 4");
    assert_eq!(shape(Reshape { allow_zero: true }, &[X("0, 5"), Ints(&[3, 0])]), "3, 0");
    assert_eq!(refusal(reshape, &[X("2, 3"), Ints(&[4, -1])]), "the elements of [2, 3] cannot be split into rows of 4");
    assert_eq!(refusal(reshape, &[X("2, 3"), Ints(&[7])]), "the elements of [2, 3] do not fill [7]");
    assert_eq!(refusal(reshape, &[X("2, 3"), Ints(&[-1, -1])]), "more than one dimension is −1");
    assert_eq!(refusal(reshape, &[X("2"), Ints(&[2, 0])]), "dimension 1 is to be copied but the input has 1");

    for (axis, expected) in [(0, "1, 24*N"), (1, "N, 24"), (-1, "6*N, 4"), (3, "24*N, 1")] {
        assert_eq!(shape(Flatten { axis }, &[X("N, 6, 4")]), expected);
    }
    assert_eq!(shape(Flatten { axis: 1 }, &[Unranked]), "?, ?");
    assert_eq!(refusal(Flatten { axis: 4 }, &[X("N, 6, 4")]), "axis 4 is out of range for 3 dimensions");

    let (squeeze, unsqueeze) = (Squeeze { axes: None }, Unsqueeze { axes: None });
    assert_eq!(shape(squeeze.clone(), &[X("N, 1, 4, 1"), Ints(&[-1, 1])]), "N, 4");
    assert_eq!(shape(squeeze.clone(), &[X("2, 1, 4, 1")]), "2, 4");
    // Without axes a symbol may be 1 and go.
    assert_eq!(shape(squeeze.clone(), &[X("N, 1")]), "unranked");
    assert_eq!(shape(squeeze.clone(), &[X("N, 1, 1"), AnyInts("1")]), "?, ?");
    assert_eq!(refusal(squeeze, &[X("N, 4"), Ints(&[1])]), "axis 1 has size 4 and cannot be squeezed");
    assert_eq!(shape(unsqueeze.clone(), &[X("N, 4"), Ints(&[0, -1])]), "1, N, 4, 1");
    assert_eq!(shape(unsqueeze.clone(), &[X("N, 4"), AnyInts("2")]), "?, ?, ?, ?");
    assert_eq!(refusal(unsqueeze, &[X("N, 4"), Ints(&[3])]), "axis 3 is out of range for 3 dimensions");
}

#[test]
fn transposing() {
    assert_eq!(shape(Transpose { perm: None }, &[X("N, 3, W")]), "W, 3, N");
    assert_eq!(shape(Transpose { perm: Some(vec![0, 2, 1]) }, &[X("N, 3, W")]), "N, W, 3");
    assert_eq!(refusal(Transpose { perm: Some(vec![0, 0, 1]) }, &[X("N, 3, W")]), "[0, 0, 1] is no order of 3 axes");
    let blocks = DepthToSpace { block_size: 2, crd: true };
    assert_eq!(shape(blocks, &[X("N, 8, H, 5")]), "N, 2, 2*H, 10");
    assert_eq!(refusal(blocks, &[X("N, 6, H, 5")]), "6 channels cannot be spread over blocks of 4 cells");
}

#[test]
fn joining_and_splitting() {
    assert_eq!(shape(Concat { axis: -1 }, &[X("N, 2"), X("N, 3"), X("?, 4")]), "N, 9");
    assert_eq!(shape(Concat { axis: 0 }, &[X("N, 2"), X("N, 2")]), "2*N, 2");
    assert_eq!(shape(Concat { axis: 0 }, &[X("N, ?"), X("M, 2")]), "?, 2");
    assert_eq!(shape(Concat { axis: 1 }, &[Unranked, X("N, 2")]), "N, ?");
    assert_eq!(refusal(Concat { axis: 0 }, &[X("N, 2"), X("N, 3")]), "input 1 has size 3 along axis 1, those before it 2");

    let split = |axis, num_outputs| Split { axis, sizes: None, num_outputs };
    let parts = |opset, op: Split, inputs: &[In<'_>], n| given(opset, op, inputs, n).map(|shapes| shapes.join(" | "));
    assert_eq!(parts(17, split(1, None), &[X("N, 6")], 3), Ok("N, 2 | N, 2 | N, 2".into()));
    assert_eq!(parts(17, split(-1, None), &[X("N, 6"), Ints(&[1, 5])], 2), Ok("N, 1 | N, 5".into()));
    assert_eq!(parts(17, split(0, None), &[X("N, 6")], 2), Ok("?, 6 | ?, 6".into()));
    assert_eq!(parts(12, Split { sizes: Some(vec![2, 4]), ..split(1, None) }, &[X("N, 6")], 2), Ok("N, 2 | N, 4".into()));
    // The last part may be smaller.
    assert_eq!(parts(18, split(1, Some(3)), &[X("N, 7")], 3), Ok("N, 3 | N, 3 | N, 1".into()));
    let refused = parts(17, split(1, None), &[X("N, 7")], 2).expect_err("a refusal");
    assert!(refused.ends_with("7 positions cannot be split into 2 equal parts"), "{refused}");
}

#[test]
fn slicing() {
    let slice = Slice { bounds: None };
    assert_eq!(shape(slice.clone(), &[X("N, 10, 8"), Ints(&[2, -3]), Ints(&[100, -1]), Ints(&[1, 2])]), "N, 8, 2");
    assert_eq!(shape(slice.clone(), &[X("N, 10"), Ints(&[-1]), Ints(&[i64::MIN]), Ints(&[-1]), Ints(&[-3])]), "N, 4");
    assert_eq!(shape(slice.clone(), &[X("N, 10"), Ints(&[0]), Ints(&[i64::MAX]), Ints(&[0])]), "N, 10");
    assert_eq!(shape(slice.clone(), &[X("N, 10"), Ints(&[1]), Ints(&[i64::MAX]), Ints(&[0])]), "?, 10");
    assert_eq!(shape(slice.clone(), &[X("N, 10"), AnyInts("1"), Ints(&[5]), Ints(&[1])]), "N, ?");
    assert_eq!(shape(slice.clone(), &[X("N, 10"), Ints(&[0]), Ints(&[5]), AnyInts("1")]), "?, ?");
    assert_eq!(refusal(slice.clone(), &[X("N, 10"), Ints(&[0]), Ints(&[5]), Ints(&[1]), Ints(&[0])]), "the step is 0");
    assert_eq!(refusal(slice, &[X("N, 10"), Ints(&[0, 0]), Ints(&[5])]), "starts, ends, axes and steps differ in number");
    let old = Slice { bounds: Some(SliceBounds { starts: vec![0, 1], ends: vec![1, -1], axes: None }) };
    assert_eq!(given(9, old, &[X("4, 10, W")], 1), Ok(vec!["1, 8, W".into()]));
}

#[test]
fn gathering_and_scattering() {
    assert_eq!(shape(Gather { axis: 0 }, &[X("1000, 64"), AnyInts("B, S")]), "B, S, 64");
    assert_eq!(shape(Gather { axis: -1 }, &[X("N, 64"), Int(3)]), "N");
    assert_eq!(refusal(Gather { axis: 1 }, &[X("N, 4"), Ints(&[-5])]), "index -5 is out of range for 4 positions");
    let scatter = ScatterElements { axis: 0, reduction: "none".into() };
    assert_eq!(shape(scatter.clone(), &[X("N, 4"), AnyInts("2, 4"), X("2, 4")]), "N, 4");
    let refused = refusal(scatter, &[X("N, 4"), AnyInts("2, 4"), X("3, 4")]);
    assert_eq!(refused, "2 indices and 3 updates along axis 0 do not go together");
}

#[test]
fn padding_and_repeating() {
    let pad = Pad { mode: PadMode::Constant, pads: None, value: None };
    assert_eq!(shape(pad.clone(), &[X("N, 3, 8"), Ints(&[0, 1, -2, 0, 1, 0])]), "N, 5, 6");
    assert_eq!(shape(pad.clone(), &[X("N, 8"), Ints(&[1, 0, 0, 0])]), "?, 8");
    assert_eq!(shape(pad.clone(), &[X("N, 8"), AnyInts("4")]), "?, ?");
    assert_eq!(given(18, pad.clone(), &[X("N, 8"), Ints(&[2, 3]), Absent, Ints(&[-1])], 1), Ok(vec!["N, 13".into()]));
    assert_eq!(refusal(pad.clone(), &[X("N, 8"), Ints(&[1, 1])]), "2 widths are given but 2 axes need 4");
    assert_eq!(refusal(pad, &[X("N, 2"), Ints(&[0, -3, 0, 0])]), "axis 1 of size 2 cannot be padded by -3");

    assert_eq!(shape(Expand, &[X("3, 1"), Ints(&[2, 1, 6])]), "2, 3, 6");
    assert_eq!(shape(Expand, &[X("N, 4"), Ints(&[1, 1])]), "N, 4");
    assert_eq!(shape(Expand, &[X("3"), AnyInts("?")]), "unranked");
    assert_eq!(refusal(Expand, &[X("3"), Ints(&[4])]), "dimensions 3 and 4 cannot be broadcast");
    assert_eq!(shape(Tile, &[X("N, 3"), Ints(&[2, 4])]), "2*N, 12");
    assert_eq!(shape(Tile, &[X("N, 3"), AnyInts("2")]), "?, ?");
    assert_eq!(refusal(Tile, &[X("N, 3"), Ints(&[2])]), "1 repeats are given for 2 dimensions");
}

#[test]
fn shapes_and_ranges() {
    let of = |start, end| Shape { start, end };
    assert_eq!(shape(of(0, None), &[X("N, 3, 4")]), "3");
    assert_eq!(shape(of(-2, Some(-1)), &[X("N, 3, 4")]), "1");
    assert_eq!(shape(of(0, None), &[Unranked]), "?");
    assert_eq!(shape(ConstantOfShape { value: None }, &[Ints(&[2, 3])]), "2, 3");
    assert_eq!(shape(ConstantOfShape { value: None }, &[AnyInts("2")]), "?, ?");
    assert_eq!(refusal(ConstantOfShape { value: None }, &[Ints(&[-2])]), "-2 is no dimension");
    assert_eq!(shape(Range, &[Int(2), Int(11), Int(3)]), "3");
    assert_eq!(shape(Range, &[Int(5), Int(-6), Int(-5)]), "3");
    assert_eq!(shape(Range, &[Int(5), Int(2), Int(1)]), "0");
    assert_eq!(shape(Range, &[AnyInts(""), Int(2), Int(1)]), "?");
    assert_eq!(refusal(Range, &[Int(0), Int(2), Int(0)]), "the step is 0");
}

/// What exporters write for `x.view(x.size(0), -1, 4, x.size(1) / 4)`: every number comes from a shape.
#[test]
fn chains_of_shapes_carry_symbols() {
    let mut b = GraphBuilder::new("chain");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 64.into(), Dim::symbol("S")]);
    let shape = b.node("shape", Shape { start: 0, end: None }, &[x]);
    let size = |b: &mut GraphBuilder, name: &str, at: i64| {
        let index = b.tensor("index", Tensor::scalar(at));
        b.node(name, Gather { axis: 0 }, &[shape, index])
    };
    let (batch, channels, length) = (size(&mut b, "batch", 0), size(&mut b, "channels", 1), size(&mut b, "length", -1));
    let four = b.tensor("four", Tensor::scalar(4i64));
    let quarter = b.node("quarter", Binary::Div, &[channels, four]);
    let doubled = b.node("doubled", Binary::Mul, &[length, four]);
    let axis = b.tensor("axis", Tensor::new([1], vec![0i64]));
    let vector = |b: &mut GraphBuilder, name: &str, of: ValueId| b.node(name, Unsqueeze { axes: None }, &[of, axis]);
    let parts = [vector(&mut b, "n", batch), b.tensor("open", Tensor::new([1], vec![-1i64])), vector(&mut b, "q", quarter)];
    let target = b.node("target", Concat { axis: 0 }, &parts);
    let y = b.node("y", Reshape { allow_zero: false }, &[x, target]);
    let parts = [vector(&mut b, "q2", quarter), vector(&mut b, "d", doubled), b.tensor("zero", Tensor::new([1], vec![0i64]))];
    let target = b.node("target2", Concat { axis: 0 }, &parts);
    let z = b.node("z", Reshape { allow_zero: false }, &[y, target]);
    let tail = b.node("tail", Slice { bounds: None }, &[shape, parts[2], axis, axis]);
    let zeros = b.node("zeros", ConstantOfShape { value: None }, &[shape]);
    let graph = b.output(z).output(zeros).output(tail).finish().expect("a graph");
    let text = |id: ValueId| graph.value(id).shape.iter().flatten().map(Dim::to_string).collect::<Vec<_>>().join(", ");
    // N · 64 · S elements: [N, 4·S, 16], then [16, 4·S, 16], which only N = 16 fills.
    assert_eq!((text(y), text(z)), ("N, 4*S, 16".into(), "16, 4*S, 16".into()));
    assert_eq!((text(zeros), text(tail)), ("N, 64, S".into(), "0".into()));
}

/// How much of a dimension is told.
#[derive(Clone, Copy, Debug)]
enum Told {
    Number,
    /// A symbol that equal sizes share.
    Symbol,
    Nothing,
}

fn told(sizes: &[usize], how: &[Told]) -> String {
    let dim = |(n, how): (&usize, &Told)| match how {
        Told::Number => n.to_string(),
        Told::Symbol => format!("d{n}"),
        Told::Nothing => "?".into(),
    };
    sizes.iter().zip(how.iter().cycle()).map(dim).collect::<Vec<_>>().join(", ")
}

/// The number that a printed dimension has once `d7` is 7; `None` where nothing is known.
fn instantiated(dim: &str) -> Option<usize> {
    dim.split('*').map(|factor| factor.trim_start_matches('d').parse::<usize>().ok()).product()
}

/// A node with the sizes of its float inputs and constants of integers behind them.
#[derive(Clone, Debug)]
struct Node {
    op: Op,
    floats: Vec<Vec<usize>>,
    ints: Vec<Vec<i64>>,
    outputs: usize,
}

impl Node {
    fn shapes(&self, how: &[Told]) -> Result<Vec<String>, String> {
        let floats: Vec<String> = self.floats.iter().map(|sizes| told(sizes, how)).collect();
        let inputs: Vec<In<'_>> = floats.iter().map(|x| X(x)).chain(self.ints.iter().map(|ints| Ints(ints))).collect();
        given(17, self.op.clone(), &inputs, self.outputs)
    }
}

fn sizes(rank: impl Into<SizeRange>) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..7, rank)
}

fn ints(n: impl Into<SizeRange>) -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(-3i64..5, n)
}

fn nodes() -> impl Strategy<Value = Node> {
    let axis = || -4i64..4;
    let unary = |op: Op, x: Vec<usize>, ints: Vec<Vec<i64>>| Node { op, floats: vec![x], ints, outputs: 1 };
    let windows = || {
        let few = || prop::collection::vec(0usize..4, 0..3);
        let auto = prop_oneof![Just(AutoPad::NotSet), Just(AutoPad::SameUpper), Just(AutoPad::SameLower), Just(AutoPad::Valid)];
        (few(), few(), prop::collection::vec(-1i64..3, 0usize..6), auto).prop_map(|(strides, dilations, pads, auto_pad)| Window {
            kernel: vec![],
            strides,
            dilations,
            pads,
            auto_pad,
        })
    };
    let spatial = || prop::collection::vec(1usize..9, 4);
    prop_oneof![
        (windows(), 1usize..3, spatial(), sizes(4)).prop_map(|(window, group, x, mut w)| {
            w[1] = if x[1] % group == 0 { x[1] / group } else { w[1] };
            Node { op: conv(window, group).into(), floats: vec![x, w], ints: vec![], outputs: 1 }
        }),
        (windows(), spatial(), sizes(4), prop::collection::vec(0usize..3, 0..3)).prop_map(|(window, x, mut w, output_padding)| {
            w[0] = x[1];
            let op = ConvTranspose { window, group: 1, output_padding, output_shape: vec![] };
            Node { op: op.into(), floats: vec![x, w], ints: vec![], outputs: 1 }
        }),
        (windows(), sizes(2), spatial(), any::<bool>()).prop_map(move |(window, kernel, x, ceil_mode)| {
            unary(MaxPool { window: Window { kernel, ..window }, ceil_mode, storage_order: 0 }.into(), x, vec![])
        }),
        (windows(), sizes(2), spatial(), any::<bool>()).prop_map(move |(window, kernel, x, ceil_mode)| {
            unary(AveragePool { window: Window { kernel, ..window }, ceil_mode, count_include_pad: false }.into(), x, vec![])
        }),
        (sizes(0..5), ints(0..5), any::<bool>()).prop_map(move |(x, to, allow_zero)| unary(Reshape { allow_zero }.into(), x, vec![to])),
        (sizes(0..5), axis()).prop_map(move |(x, axis)| unary(Flatten { axis }.into(), x, vec![])),
        (sizes(3), prop::option::of(prop::collection::vec(0usize..3, 3))).prop_map(move |(x, perm)| unary(
            Transpose { perm }.into(),
            x,
            vec![]
        )),
        (sizes(0..5), ints(0..3)).prop_map(move |(x, axes)| unary(Squeeze { axes: None }.into(), x, vec![axes])),
        (sizes(0..5), ints(0..3)).prop_map(move |(x, axes)| unary(Unsqueeze { axes: None }.into(), x, vec![axes])),
        (sizes(3), ints(2), ints(2), ints(2), ints(2)).prop_map(move |(x, a, b, axes, steps)| unary(
            Slice { bounds: None }.into(),
            x,
            vec![a, b, axes, steps]
        )),
        (sizes(0..5), prop::option::of(ints(0..3)), any::<bool>()).prop_map(move |(x, axes, keepdims)| {
            unary(Reduce { kind: ReduceKind::Mean, axes, keepdims, noop_with_empty_axes: false }.into(), x, vec![])
        }),
        (sizes(0..5), ints(0..5)).prop_map(move |(x, to)| unary(Expand.into(), x, vec![to])),
        (sizes(0..5), ints(0..5)).prop_map(move |(x, times)| unary(Tile.into(), x, vec![times])),
        (sizes(0..4), ints(0..8)).prop_map(move |(x, pads)| unary(
            Pad { mode: PadMode::Constant, pads: None, value: None }.into(),
            x,
            vec![pads]
        )),
        (sizes(4), 0usize..4).prop_map(move |(x, block_size)| unary(DepthToSpace { block_size, crd: false }.into(), x, vec![])),
        (sizes(0..4), sizes(0..4)).prop_map(|(a, b)| Node { op: Binary::Add.into(), floats: vec![a, b], ints: vec![], outputs: 1 }),
        (sizes(0..5), sizes(0..5)).prop_map(|(a, b)| Node { op: MatMul.into(), floats: vec![a, b], ints: vec![], outputs: 1 }),
        (sizes(3), sizes(3), axis()).prop_map(|(a, mut b, axis)| {
            (0..3).filter(|i| *i as i64 != axis.rem_euclid(3)).for_each(|i| b[i] = a[i]);
            Node { op: Concat { axis }.into(), floats: vec![a, b], ints: vec![], outputs: 1 }
        }),
        (sizes(0..4), axis(), 1usize..4).prop_map(|(x, axis, outputs)| {
            Node { op: Split { axis, sizes: None, num_outputs: None }.into(), floats: vec![x], ints: vec![], outputs }
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// What is inferred from symbols and gaps is true of the numbers that they stand for, and nothing that works is refused.
    /// Attributes make no sense half of the time: that is an error, never a panic.
    #[test]
    fn inference_of_less_never_contradicts_inference_of_more(
        node in nodes(),
        how in prop::collection::vec(prop_oneof![Just(Told::Number), Just(Told::Symbol), Just(Told::Nothing)], 1..6),
    ) {
        let less = node.shapes(&how);
        if let Ok(all) = node.shapes(&[Told::Number]) {
            let less = less.map_err(|e| TestCaseError::fail(format!("{all:?} with numbers, but: {e}")))?;
            for (all, less) in all.iter().zip(&less).filter(|(_, less)| *less != "unranked") {
                let (all, less): (Vec<&str>, Vec<&str>) = (all.split(", ").collect(), less.split(", ").collect());
                prop_assert_eq!(all.len(), less.len(), "{:?} with numbers, {:?} with less", all, less);
                for (n, dim) in all.iter().zip(&less) {
                    if let (Some(n), Some(dim)) = (instantiated(n), instantiated(dim)) {
                        prop_assert_eq!(n, dim, "{:?} with numbers, {:?} with less", all, less);
                    }
                }
            }
        }
    }
}
