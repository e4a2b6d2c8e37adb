//! Passes over single nodes: what they change, by hand, and when they say no.

use penjing_graph::ops::{Activation, BatchNormalization, Binary, Conv, ConvTranspose, Dropout, Gemm, Identity, MatMul, Op, Unary, Window};
use penjing_graph::passes::{self, DropIdentity, FoldBatchNorm, GemmToMatMul, Pass, Report};
use penjing_graph::{DataType, Dim, Graph, GraphBuilder, Tensor, ValueId};

fn run(pass: &dyn Pass, graph: &mut Graph) -> Report {
    passes::run(pass, graph).unwrap_or_else(|e| panic!("{}: {e}", pass.name()))
}

fn operators(graph: &Graph) -> Vec<&str> {
    graph.nodes().map(|(_, node)| node.op.op_type()).collect()
}

fn vector(values: &[f32]) -> Tensor {
    Tensor::new([values.len()], values.to_vec())
}

fn elements(graph: &Graph, name: &str) -> Vec<f32> {
    let id = graph.find_value(name).unwrap_or_else(|| panic!("no value `{name}`"));
    graph.tensor(id).and_then(|t| t.to_f32()).unwrap_or_else(|| panic!("no floats in `{name}`")).into_owned()
}

const NORM: BatchNormalization = BatchNormalization { epsilon: 1.0, momentum: 0.9, training_mode: false };

/// Two channels: s = [1, 2] / √([3, 0] + 1) = [0.5, 2] and t = [0.5, 0] − s · [1, 2] = [0, −4].
fn normalised(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let parameters = [[1.0, 2.0], [0.5, 0.0], [1.0, 2.0], [3.0, 0.0]];
    let names = ["scale", "shift", "mean", "variance"];
    let parameters: Vec<ValueId> = names.iter().zip(parameters).map(|(name, p)| b.tensor(name, vector(&p))).collect();
    b.node("norm", NORM, &[&[x][..], &parameters].concat())
}

#[test]
fn identities_and_dropout_go_and_names_of_outputs_stay() {
    let mut b = GraphBuilder::new("identities");
    let x = b.input("x", DataType::Float, [2.into()]);
    let same = b.node("same", Identity, &[x]);
    let r = b.node("r", Activation::Relu, &[same]);
    let dropped = b.node("dropped", Dropout { ratio: None, seed: None }, &[r]);
    let y = b.node("y", Identity, &[dropped]);
    let mut graph = b.output(y).finish().expect("a graph");
    let report = run(&DropIdentity, &mut graph);
    assert_eq!(report, Report { applied: ["same", "dropped", "y"].map(String::from).to_vec(), skipped: vec![] });
    assert_eq!(operators(&graph), ["Relu"]);
    let (_, relu) = graph.nodes().next().expect("the Relu");
    assert_eq!((relu.input(0), relu.output(0), graph.outputs()), (Some(x), Some(y), &[y][..]));
}

#[test]
fn identities_that_a_name_hangs_on_stay() {
    let mut b = GraphBuilder::new("names");
    let x = b.input("x", DataType::Float, [2.into()]);
    let straight = b.node("straight", Identity, &[x]);
    let r = b.node("r", Activation::Relu, &[x]);
    let again = b.node("again", Identity, &[r]);
    let mut graph = b.output(straight).output(r).output(again).finish().expect("a graph");
    let skipped = [("straight", "it makes an input or initializer of the model an output"), ("again", "its input is used by name too")];
    assert_eq!(run(&DropIdentity, &mut graph).skipped, skipped.map(|(name, reason)| (name.to_string(), reason)));
    assert_eq!(operators(&graph), ["Identity", "Relu", "Identity"]);
}

#[test]
fn dropout_that_does_more_stays() {
    let mut b = GraphBuilder::new("dropout");
    let x = b.input("x", DataType::Float, [2.into()]);
    let mode = b.input("mode", DataType::Bool, [] as [Dim; 0]);
    let ratio = b.tensor("ratio", Tensor::scalar(0.5f32));
    let [on, off] = [true, false].map(|mode| b.tensor("training", Tensor::from_bools([], &[mode])));
    let op = Dropout { ratio: None, seed: None };
    let masked = b.nodes("masked", op, &[x], &["masked", "mask"]);
    let training = b.node("training", op, &[masked[0], ratio, on]);
    let decided = b.node("decided", op, &[training, ratio, mode]);
    let plain = b.node("plain", op, &[decided, ratio, off]);
    let y = b.node("y", Activation::Relu, &[plain]);
    let mut graph = b.output(y).output(masked[1]).finish().expect("a graph");
    let report = run(&DropIdentity, &mut graph);
    assert_eq!(report.applied, ["plain"]);
    let reasons: Vec<&str> = report.skipped.iter().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons, ["its mask is read", "it is in training mode", "its mode is decided when the model runs"]);
}

#[test]
fn normalisation_is_folded_into_a_convolution() {
    let mut b = GraphBuilder::new("conv");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 1.into(), 3.into(), 3.into()]);
    let w = b.tensor("w", Tensor::new([2, 1, 1, 2], vec![1.0f32, 2.0, 3.0, 4.0]));
    let h = b.node("conv", Conv { window: Window::default(), group: 1 }, &[x, w]);
    let norm = normalised(&mut b, h);
    let y = b.node("y", Activation::Relu, &[norm]);
    let mut graph = b.output(y).finish().expect("a graph");
    assert_eq!(run(&FoldBatchNorm, &mut graph), Report { applied: vec!["norm".into()], skipped: vec![] });
    assert_eq!(operators(&graph), ["Conv", "Relu"]);
    assert_eq!(elements(&graph, "w"), [0.5, 1.0, 6.0, 8.0]);
    assert_eq!(elements(&graph, "conv.bias"), [0.0, -4.0]);
}

#[test]
fn normalisation_is_folded_into_a_transposed_convolution_of_two_groups() {
    let mut b = GraphBuilder::new("transposed");
    let x = b.input("x", DataType::Float, [1.into(), 4.into(), 3.into()]);
    // [C, M/group, k]: inputs 0 and 1 give output 0, inputs 2 and 3 output 1.
    let w = b.tensor("w", Tensor::new([4, 1, 1], vec![1.0f32, 2.0, 3.0, 4.0]));
    let bias = b.tensor("bias", vector(&[10.0, 10.0]));
    let op = ConvTranspose { window: Window::default(), group: 2, output_padding: vec![], output_shape: vec![] };
    let h = b.node("transposed", op, &[x, w, bias]);
    let y = normalised(&mut b, h);
    let mut graph = b.output(y).finish().expect("a graph");
    run(&FoldBatchNorm, &mut graph);
    assert_eq!(operators(&graph), ["ConvTranspose"]);
    assert_eq!(elements(&graph, "w"), [0.5, 1.0, 6.0, 8.0]);
    // 0.5 · 10 + 0 and 2 · 10 − 4
    assert_eq!(elements(&graph, "bias"), [5.0, 16.0]);
    assert_eq!(graph.value(graph.outputs()[0]).name, "norm");
}

#[test]
fn normalisation_is_folded_into_a_product_whichever_way_the_weight_lies() {
    for (trans_b, dims, weights, folded) in
        [(true, [2, 1], [3.0, 5.0], [1.5, 10.0]), (false, [1, 2], [3.0, 5.0], [1.5, 10.0]), (true, [2, 1], [1.0, 1.0], [0.5, 2.0])]
    {
        let mut b = GraphBuilder::new("gemm");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 1.into()]);
        let w = b.tensor("w", Tensor::new(dims, weights.map(|w| w as f32).to_vec()));
        let c = b.tensor("c", Tensor::new([1, 2], vec![1.0f32, 2.0]));
        let h = b.node("gemm", Gemm { alpha: 7.0, beta: 3.0, trans_a: false, trans_b }, &[x, w, c]);
        let y = normalised(&mut b, h);
        let mut graph = b.output(y).finish().expect("a graph");
        run(&FoldBatchNorm, &mut graph);
        let gemm = Op::Gemm(Gemm { alpha: 7.0, beta: 1.0, trans_a: false, trans_b });
        assert_eq!(graph.nodes().map(|(_, node)| node.op.clone()).collect::<Vec<_>>(), [gemm]);
        assert_eq!(elements(&graph, "w"), folded.map(|w| w as f32));
        // 0.5 · 3 · 1 + 0 and 2 · 3 · 2 − 4
        assert_eq!(elements(&graph, "c"), [1.5, 8.0]);
    }
}

#[test]
fn a_weight_that_another_node_reads_keeps_its_elements() {
    let mut b = GraphBuilder::new("shared");
    let x = b.input("x", DataType::Float, [1.into(), 2.into(), 4.into()]);
    let w = b.tensor("w", Tensor::new([2, 2, 1], vec![1.0f32; 4]));
    let conv = Conv { window: Window::default(), group: 1 };
    let h = b.node("first", conv.clone(), &[x, w]);
    let norm = normalised(&mut b, h);
    let y = b.node("second", conv, &[norm, w]);
    let mut graph = b.output(y).finish().expect("a graph");
    run(&FoldBatchNorm, &mut graph);
    assert_eq!(operators(&graph), ["Conv", "Conv"]);
    assert_eq!((elements(&graph, "w"), elements(&graph, "first.weight")), (vec![1.0; 4], vec![0.5, 0.5, 2.0, 2.0]));
}

#[test]
fn normalisation_that_cannot_be_folded_says_why() {
    let reason = |build: &dyn Fn(&mut GraphBuilder, ValueId) -> ValueId| {
        let mut b = GraphBuilder::new("refused");
        let x = b.input("x", DataType::Float, [2.into(), 2.into()]);
        let y = build(&mut b, x);
        let mut graph = b.output(y).finish().expect("a graph");
        let before = operators(&graph).len();
        let skipped = run(&FoldBatchNorm, &mut graph).skipped;
        assert_eq!(operators(&graph).len(), before);
        skipped.first().map(|(_, reason)| *reason)
    };
    let gemm = Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false };
    let weight = |b: &mut GraphBuilder| b.tensor("w", Tensor::new([2, 2], vec![1.0f32; 4]));
    assert_eq!(reason(&|b, x| normalised(b, x)), Some("no node stands in front of it"));
    let product = |b: &mut GraphBuilder, x| {
        let w = weight(b);
        let h = b.node("h", MatMul, &[x, w]);
        normalised(b, h)
    };
    assert_eq!(reason(&product), Some("what stands in front of it is no Conv, ConvTranspose or Gemm"));
    let computed = |b: &mut GraphBuilder, x| {
        let w = weight(b);
        let w = b.node("exp", Unary::Exp, &[w]);
        let h = b.node("h", gemm, &[x, w]);
        normalised(b, h)
    };
    assert_eq!(reason(&computed), Some("the weight is not of constant 32-bit floats"));
    let read_twice = |b: &mut GraphBuilder, x| {
        let w = weight(b);
        let h = b.node("h", gemm, &[x, w]);
        let norm = normalised(b, h);
        b.node("sum", Binary::Add, &[norm, h])
    };
    assert_eq!(reason(&read_twice), Some("something else reads its input"));
    let by_row = |b: &mut GraphBuilder, x| {
        let (w, c) = (weight(b), b.tensor("c", Tensor::new([2, 2], vec![1.0f32; 4])));
        let h = b.node("h", gemm, &[x, w, c]);
        normalised(b, h)
    };
    assert_eq!(reason(&by_row), Some("the bias differs along the batch"));
    let of_the_batch = |b: &mut GraphBuilder, x| {
        let parameters = ["scale", "shift", "mean", "variance"].map(|name| b.tensor(name, vector(&[1.0, 1.0])));
        b.node("norm", BatchNormalization { training_mode: true, ..NORM }, &[&[x][..], &parameters].concat())
    };
    assert_eq!(reason(&of_the_batch), Some("it normalises by the statistics of the batch"));
}

#[test]
fn every_pass_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> = passes::ALL.iter().map(|pass| pass.name()).collect();
    assert_eq!(names.len(), passes::ALL.len());
}

#[test]
fn a_gemm_is_a_product_and_a_sum() {
    let mut b = GraphBuilder::new("gemms");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 2.into()]);
    let w = b.tensor("w", Tensor::new([3, 2], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let bias = b.tensor("bias", vector(&[0.5, 0.0, -0.5]));
    let gemm = Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let y = b.node("y", gemm, &[x, w, bias]);
    let scaled = b.node("scaled", Gemm { alpha: 2.0, ..gemm }, &[x, w]);
    let mut graph = b.output(y).output(scaled).finish().expect("a graph");
    let report = run(&GemmToMatMul, &mut graph);
    assert_eq!(report, Report { applied: vec!["y".into()], skipped: vec![("scaled".into(), "it scales what it adds up")] });
    let nodes: Vec<(&str, &str)> = graph.nodes().map(|(_, node)| (node.name.as_str(), node.op.op_type())).collect();
    assert_eq!(nodes, [("y", "MatMul"), ("scaled", "Gemm"), ("y.Add", "Add")]);
    // The other reader keeps the weight as it is.
    assert_eq!((elements(&graph, "y.weight"), elements(&graph, "w")[1]), (vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0], 2.0));
    assert_eq!(graph.outputs(), [y, scaled]);
    assert_eq!(graph.value(y).shape.as_deref(), Some(&[Dim::symbol("N"), 3.into()][..]));
}
