//! Running a graph: several inputs and outputs, inner values, and what cannot be run.

use bytes::Bytes;
use penjing_exec::{ExecError, cpu_executor};
use penjing_graph::ops::{Activation, BatchNormalization, Binary, Concat, Conv, Gather, Opaque, Reshape, Shape, Split, Unsqueeze, Window};
use penjing_graph::{DataType, Dim, Graph, GraphBuilder, Tensor, ValueId};

fn f32s(tensor: &Tensor) -> Vec<f32> {
    tensor.values::<f32>().expect("floats").into_owned()
}

fn vector(values: &[f32]) -> Tensor {
    Tensor::new([values.len()], values.to_vec())
}

/// s = a + b, p = relu(s) · w; outputs p and s.
fn two_inputs_two_outputs() -> (Graph, [ValueId; 4]) {
    let mut b = GraphBuilder::new("two");
    let x = b.input("a", DataType::Float, [Dim::symbol("N")]);
    let y = b.input("b", DataType::Float, [Dim::symbol("N")]);
    let w = b.tensor("w", Tensor::scalar(10f32));
    let s = b.node("s", Binary::Add, &[x, y]);
    let r = b.node("r", Activation::Relu, &[s]);
    let p = b.node("p", Binary::Mul, &[r, w]);
    (b.output(p).output(s).finish().expect("a graph"), [p, s, r, w])
}

#[test]
fn inner_values_inputs_and_weights_can_be_fetched() {
    let (graph, [p, s, r, w]) = two_inputs_two_outputs();
    let a = graph.inputs().next().expect("an input");
    let mut executor = cpu_executor(&graph).expect("an executor");
    let inputs = [vector(&[1.0, -2.0]), vector(&[3.0, 1.0])];
    let values = executor.run(&inputs, &[p, s, r, w, a, p]).expect("a run");
    let expected: [&[f32]; 6] = [&[40.0, 0.0], &[4.0, -1.0], &[4.0, 0.0], &[10.0], &[1.0, -2.0], &[40.0, 0.0]];
    assert_eq!(values.iter().map(f32s).collect::<Vec<_>>(), expected);
    // Nothing of one batch is left in the next, which may have another size.
    let next = executor.run(&[vector(&[1.0]), vector(&[1.0])], graph.outputs()).expect("a run");
    assert_eq!(next.iter().map(f32s).collect::<Vec<_>>(), [[20.0], [2.0]]);
}

/// The chain that exporters write for "flatten all but the batch": Shape → Gather → Unsqueeze → Concat → Reshape.
#[test]
fn shapes_computed_while_running_are_followed() {
    let mut b = GraphBuilder::new("chain");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 2.into(), 2.into()]);
    let zero = b.tensor("zero", Tensor::scalar(0i64));
    let axes = b.tensor("axes", Tensor::new([1], vec![0i64]));
    let rest = b.tensor("rest", Tensor::new([1], vec![-1i64]));
    let shape = b.node("shape", Shape { start: 0, end: None }, &[x]);
    let n = b.node("n", Gather { axis: 0 }, &[shape, zero]);
    let n = b.node("n1", Unsqueeze { axes: None }, &[n, axes]);
    let target = b.node("target", Concat { axis: 0 }, &[n, rest]);
    let y = b.node("y", Reshape { allow_zero: false }, &[x, target]);
    let graph = b.output(y).finish().expect("a graph");
    let x = Tensor::new([3, 2, 2], (0..12u8).map(f32::from).collect::<Vec<_>>());
    let y = cpu_executor(&graph).expect("an executor").run(&[x], &[y]).expect("a run").swap_remove(0);
    assert_eq!(y.dims(), [3, 4]);
    assert_eq!(f32s(&y)[4..8], [4.0, 5.0, 6.0, 7.0]);
}

/// Both parts of a split are outputs, and only one of them is read.
#[test]
fn an_output_that_nothing_reads_is_left_out() {
    let mut b = GraphBuilder::new("split");
    let x = b.input("x", DataType::Float, [4.into()]);
    let parts = b.nodes("split", Split { axis: 0, sizes: None, num_outputs: None }, &[x], &["first", "second"]);
    let y = b.node("y", Activation::Relu, &[parts[1]]);
    let graph = b.output(y).finish().expect("a graph");
    let mut executor = cpu_executor(&graph).expect("an executor");
    let values = executor.run(&[vector(&[1.0, 2.0, -3.0, 4.0])], &[y, parts[0]]).expect("a run");
    assert_eq!(values.iter().map(f32s).collect::<Vec<_>>(), [[0.0, 4.0], [1.0, 2.0]]);
}

#[test]
fn a_node_that_cannot_be_run_is_named_before_anything_runs() {
    let mut b = GraphBuilder::new("opaque");
    let x = b.input("x", DataType::Float, [2.into()]);
    let op = Opaque { domain: "com.acme".into(), op_type: "Magic".into(), raw: Bytes::new(), reason: "unknown operator".into() };
    let y = b.node("trick", op, &[x]);
    let error = cpu_executor(&b.output(y).finish().expect("a graph")).map(|_| ()).expect_err("an error");
    assert!(matches!(error, ExecError::Unsupported { .. }));
    assert_eq!(error.to_string(), "cannot run node `trick` (com.acme.Magic): unknown operator (hint: run the model with ONNX Runtime)");
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let (graph, [p, ..]) = two_inputs_two_outputs();
    let mut executor = cpu_executor(&graph).expect("an executor");
    let mut text = |inputs: &[Tensor]| executor.run(inputs, &[p]).expect_err("an error").to_string();
    assert_eq!(text(&[vector(&[1.0])]), "input `a`, `b`: 2 tensors are needed and 1 are given");
    let doubles = Tensor::new([1], vec![1.0f64]);
    assert_eq!(text(&[vector(&[1.0]), doubles]), "input `b`: the model takes float32 but was given float64");
    let error = text(&[vector(&[1.0, 2.0]), vector(&[1.0, 2.0, 3.0])]);
    assert_eq!(error, "cannot run node `s` (Add): shapes [2] and [3] do not broadcast");
}

/// Inference folds normalisations into convolutions and clips as it computes them; whoever fetches inner values sees neither.
#[test]
fn folded_inference_follows_every_change_of_the_weights() {
    let mut b = GraphBuilder::new("folded");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 2.into(), 3.into(), 3.into()]);
    let w = b.tensor("w", Tensor::new([4, 2, 1, 1], (0..8u8).map(|i| f32::from(i) / 4.0 - 1.0).collect::<Vec<_>>()));
    let per_channel: Vec<ValueId> = [("scale", 1f32), ("bias", 0.5), ("mean", 0.25), ("var", 4.0)]
        .map(|(name, value)| b.tensor(name, Tensor::new([4], vec![value; 4])))
        .into();
    let conv = b.node("conv", Conv { window: Window { kernel: vec![1, 1], ..Window::default() }, group: 1 }, &[x, w]);
    let norm = BatchNormalization { epsilon: 0.0, momentum: 0.9, training_mode: false };
    let norm = b.node("norm", norm, &[&[conv][..], &per_channel].concat());
    let y = b.node("y", Activation::Relu, &[norm]);
    let graph = b.output(y).finish().expect("a graph");
    let x = [Tensor::new([2, 2, 3, 3], (0..36u8).map(|i| f32::from(i) / 9.0 - 2.0).collect::<Vec<_>>())];
    let mut executor = cpu_executor(&graph).expect("an executor");
    let mut seen = vec![];
    for scale in [1f32, -3.0, 0.5] {
        executor.set_weight(per_channel[0], &Tensor::new([4], vec![scale; 4])).expect("a scale");
        let folded = executor.run(&x, &[y]).expect("a run").swap_remove(0);
        let apart = executor.run(&x, &[conv, norm, y]).expect("a run");
        for ((conv, norm), (folded, y)) in f32s(&apart[0]).iter().zip(f32s(&apart[1])).zip(f32s(&folded).iter().zip(f32s(&apart[2]))) {
            assert!((norm - (scale * (conv - 0.25) / 2.0 + 0.5)).abs() < 1e-6, "{conv} became {norm}");
            assert!((folded - y).abs() < 1e-6 && y == norm.max(0.0), "{folded} folded, {y} apart");
        }
        seen.push(f32s(&folded));
    }
    assert!(seen[0] != seen[1] && seen[1] != seen[2]);
}
