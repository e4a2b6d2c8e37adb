//! Rewrites leave what a graph computes as it is: here, and in ONNX Runtime where it reads both.

use penjing_exec::cpu_executor;
use penjing_exec::runtime::OnnxRuntime;
use penjing_graph::onnx::{self, WriteOptions};
use penjing_graph::ops::{
    Activation, BatchNormalization, Clip, Conv, ConvTranspose, Dropout, Gemm, Identity, Op, Pad, PadMode, Reduce, ReduceKind, Slice,
    SliceBounds, Softmax, Split, Squeeze, Unsqueeze, Window,
};
use penjing_graph::passes::{self, DropIdentity, FoldBatchNorm, raise_opset};
use penjing_graph::zoo::{self, ZooOptions};
use penjing_graph::{DataType, Dim, Edit, Graph, GraphBuilder, Tensor};
use proptest::prelude::*;

/// Numbers of both signs that look random.
fn numbers(dims: &[usize], seed: usize) -> Tensor {
    let count = dims.iter().product::<usize>();
    Tensor::new(dims, (0..count).map(|i| ((i * 37 + seed * 11) as f32 * 0.61).sin() * 2.0).collect())
}

fn here(graph: &Graph, x: &Tensor) -> Vec<Tensor> {
    cpu_executor(graph).expect("an executor").run(std::slice::from_ref(x), graph.outputs()).expect("a run")
}

fn in_onnx_runtime(runtime: OnnxRuntime, graph: &Graph, x: &Tensor) -> Vec<Tensor> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    onnx::write(graph, &path, WriteOptions::default()).expect("a model");
    runtime.open(&path, 1).expect("a session").run(std::slice::from_ref(x)).expect("a run")
}

/// Largest difference of two lists of outputs, relative to the largest number in them.
fn difference(a: &[Tensor], b: &[Tensor]) -> f32 {
    assert_eq!(a.iter().map(Tensor::dims).collect::<Vec<_>>(), b.iter().map(Tensor::dims).collect::<Vec<_>>());
    let floats = |tensors: &[Tensor]| tensors.iter().flat_map(|t| t.to_f32().expect("floats").into_owned()).collect::<Vec<f32>>();
    let (a, b) = (floats(a), floats(b));
    let largest = a.iter().fold(1f32, |largest, n| largest.max(n.abs()));
    assert!(largest.is_finite());
    a.iter().zip(&b).fold(0f32, |worst, (a, b)| worst.max((a - b).abs())) / largest
}

/// The operators whose form changes between opset 7 and 25, as opset 7 has them, one after another on x [N, 4, 6].
fn chain() -> Vec<Op> {
    let reduce = |kind| Reduce { kind, axes: Some(vec![2]), keepdims: true, noop_with_empty_axes: false };
    vec![
        Clip { min: Some(-1.0), max: Some(1.5) }.into(),
        Clip { min: None, max: Some(1.25) }.into(),
        Dropout { ratio: Some(0.5), seed: None }.into(),
        Pad { mode: PadMode::Reflect, pads: Some(vec![0, 0, 1, 0, 0, 2]), value: None }.into(),
        Pad { mode: PadMode::Constant, pads: Some(vec![0, 1, 0, 0, 0, -1]), value: Some(0.5) }.into(),
        Slice { bounds: Some(SliceBounds { starts: vec![1, -3], ends: vec![i64::from(i32::MAX), 7], axes: Some(vec![1, 2]) }) }.into(),
        Unsqueeze { axes: Some(vec![2, 4]) }.into(),
        Squeeze { axes: Some(vec![2, 4]) }.into(),
        Softmax { log: false, axis: None }.into(),
        Softmax { log: true, axis: Some(2) }.into(),
        reduce(ReduceKind::Mean).into(),
        reduce(ReduceKind::Sum).into(),
    ]
}

fn chained(opset: i64) -> Graph {
    let mut b = GraphBuilder::with_opset("chain", opset);
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 4.into(), 6.into()]);
    let mut y = b.node("start", Activation::Relu, &[x]);
    let mut shown = vec![];
    for (i, op) in chain().into_iter().enumerate() {
        y = b.node(&format!("y{i}"), op, &[y]);
        shown.push(y);
    }
    let sized = Split { axis: 1, sizes: Some(vec![1, 3]), num_outputs: None };
    let equal = Split { axis: 2, sizes: None, num_outputs: None };
    shown.extend(b.nodes("sized", sized, &[x], &["one", "three"]));
    shown.extend(b.nodes("equal", equal, &[x], &["left", "right"]));
    shown.into_iter().fold(b, GraphBuilder::output).finish().expect("a graph")
}

#[test]
fn raised_graphs_give_the_same_here_and_in_onnx_runtime() {
    let runtime = OnnxRuntime::find(None).expect("a library that loads");
    let runtime = runtime.unwrap_or_else(|| panic!("no ONNX Runtime (hint: PATH=$(dirname $(scripts/python)):$PATH)"));
    let x = numbers(&[3, 4, 6], 1);
    let oldest = chained(7);
    let (ours, theirs) = (here(&oldest, &x), in_onnx_runtime(runtime, &oldest, &x));
    assert!(difference(&ours, &theirs) < 1e-5, "opset 7");
    for to in 8..=25 {
        let mut raised = oldest.clone();
        raise_opset(&mut raised, to).unwrap_or_else(|e| panic!("{e}"));
        assert!(difference(&ours, &here(&raised, &x)) < 1e-6, "opset {to} here");
        assert!(difference(&theirs, &in_onnx_runtime(runtime, &raised, &x)) < 1e-6, "opset {to} in ONNX Runtime");
    }
}

/// Statistics that make a fresh network's normalisations do something.
fn unsettled(graph: &mut Graph) {
    let mut edit = Edit::new(graph, "unsettle");
    for (_, node) in graph.nodes().filter(|(_, node)| matches!(node.op, Op::BatchNormalization(_))) {
        for (i, id) in node.inputs.iter().flatten().skip(1).enumerate() {
            let dims = graph.tensor(*id).expect("a parameter").dims();
            let values = numbers(dims, i).to_f32().expect("floats").iter().map(|n| 0.1 * n + if i % 2 == 0 { 1.0 } else { 0.0 }).collect();
            let values: Vec<f32> = values;
            let values = if i == 3 { values.into_iter().map(|n| n.abs() + 0.5).collect() } else { values };
            edit.set_tensor(*id, Tensor::new(dims, values));
        }
    }
    graph.apply(edit).expect("the edit");
}

#[test]
fn a_network_without_its_normalisations_gives_the_same() {
    for name in ["resnet-20", "mobilenet-v2"] {
        let mut graph = zoo::build(name, &ZooOptions { input: Some([3, 32, 32]), ..ZooOptions::default() }).expect(name);
        unsettled(&mut graph);
        let x = numbers(&[2, 3, 32, 32], 5);
        let before = here(&graph, &x);
        let norms = graph.nodes().filter(|(_, node)| matches!(node.op, Op::BatchNormalization(_))).count();
        let report = passes::run(&FoldBatchNorm, &mut graph).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((report.applied.len(), report.skipped), (norms, vec![]), "{name}");
        assert!(norms > 15);
        let worst = difference(&before, &here(&graph, &x));
        assert!(worst < 1e-4, "{name}: {worst}");
    }
}

/// x → a linear operator → BatchNormalization → Identity.
fn normalised(op: impl Into<Op>, x: &[usize], w: &[usize], bias: bool, channels: usize, seed: usize) -> Graph {
    let mut b = GraphBuilder::new("normalised");
    let input = b.input("x", DataType::Float, x.iter().map(|n| Dim::Fixed(*n)).collect::<Vec<_>>());
    let mut inputs = vec![input, b.tensor("w", numbers(w, seed))];
    if bias {
        inputs.push(b.tensor("b", numbers(&[channels], seed + 1)));
    }
    let h = b.node("linear", op, &inputs);
    let positive = Tensor::new([channels], (0..channels).map(|i| 0.3 + 0.2 * i as f32).collect());
    let parameters = [numbers(&[channels], seed + 2), numbers(&[channels], seed + 3), numbers(&[channels], seed + 4), positive];
    let parameters = parameters.into_iter().map(|p| b.tensor("p", p)).collect::<Vec<_>>();
    let norm = b.node("norm", BatchNormalization { epsilon: 1e-3, momentum: 0.9, training_mode: false }, &[&[h][..], &parameters].concat());
    let y = b.node("y", Identity, &[norm]);
    b.output(y).finish().expect("a graph")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn folding_a_normalisation_changes_no_output(
        group in 1usize..4, per_group in 1usize..4, inner in 1usize..4, bias: bool, which in 0usize..4, seed in 0usize..1000,
    ) {
        let channels = group * per_group;
        let window = || Window { kernel: vec![2], ..Window::default() };
        let mut graph = match which {
            0 => normalised(Conv { window: window(), group }, &[2, group * inner, 5], &[channels, inner, 2], bias, channels, seed),
            1 => {
                let op = ConvTranspose { window: window(), group, output_padding: vec![], output_shape: vec![] };
                normalised(op, &[2, group * inner, 5], &[group * inner, per_group, 2], bias, channels, seed)
            }
            trans => {
                let trans_b = trans == 2;
                let w = if trans_b { [channels, inner] } else { [inner, channels] };
                let op = Gemm { alpha: 0.7, beta: 1.3, trans_a: false, trans_b };
                normalised(op, &[4, inner], &w, bias, channels, seed)
            }
        };
        let dims: Vec<usize> = graph.inputs().flat_map(|id| graph.value(id).shape.clone()).flatten().filter_map(|d| d.fixed()).collect();
        let x = numbers(&dims, seed + 9);
        let before = here(&graph, &x);
        passes::run(&DropIdentity, &mut graph).expect("a report");
        passes::run(&FoldBatchNorm, &mut graph).expect("a report");
        prop_assert_eq!(graph.node_count(), 1);
        let worst = difference(&before, &here(&graph, &x));
        prop_assert!(worst < 1e-5, "{}", worst);
    }
}
