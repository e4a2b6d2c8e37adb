//! Raising the opset: each operator's rule by hand, the law that nothing else changes, and what is refused.

use std::path::Path;

use bytes::Bytes;
use penjing_graph::onnx::proto::{AttributeProto, AttributeType, ModelProto, NodeProto};
use penjing_graph::onnx::{self, WriteOptions};
use penjing_graph::ops::{
    Activation, BatchNormalization, Clip, Dropout, Flatten, Identity, Op, Opaque, Pad, PadMode, Reduce, ReduceKind, Reshape, Shape, Slice,
    SliceBounds, Softmax, Split, Squeeze, Unsqueeze,
};
use penjing_graph::passes::raise_opset;
use penjing_graph::{DataType, Dim, Graph, GraphBuilder, NEWEST_OPSET, Node, Tensor};
use prost::Message;

const F: DataType = DataType::Float;

/// One node `y` of `outputs` outputs that reads x [1, 4, 6].
fn single(opset: i64, dtype: DataType, op: impl Into<Op>, outputs: &[&str]) -> Graph {
    let mut b = GraphBuilder::with_opset("single", opset);
    let x = b.input("x", dtype, [1.into(), 4.into(), 6.into()]);
    let given = b.nodes("y", op, &[x], outputs);
    given.into_iter().fold(b, GraphBuilder::output).finish().expect("a graph")
}

fn raised(graph: &Graph, to: i64) -> Graph {
    let mut graph = graph.clone();
    raise_opset(&mut graph, to).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(graph.opset(), to);
    graph
}

fn node<'g>(graph: &'g Graph, name: &str) -> &'g Node {
    graph.nodes().find(|(_, node)| node.name == name).unwrap_or_else(|| panic!("no node `{name}`")).1
}

/// Operation and initializers of `y`, those in the middle that are left out as `None`.
fn y(graph: &Graph) -> (Op, Vec<Option<Tensor>>) {
    let y = node(graph, "y");
    (y.op.clone(), y.inputs[1..].iter().map(|input| input.and_then(|id| graph.tensor(id)).cloned()).collect())
}

fn ints(ints: &[i64]) -> Option<Tensor> {
    Some(Tensor::new([ints.len()], ints.to_vec()))
}

fn refusal(graph: &Graph, to: i64) -> String {
    let mut graph = graph.clone();
    let before = graph.opset();
    let reason = raise_opset(&mut graph, to).expect_err("a refusal").to_string();
    assert_eq!(graph.opset(), before);
    reason
}

#[test]
fn bounds_of_clip_become_inputs_at_11() {
    let clip = |min, max| Clip { min, max };
    let graph = single(10, F, clip(Some(0.0), Some(6.0)), &["y"]);
    let both = vec![Some(Tensor::scalar(0f32)), Some(Tensor::scalar(6f32))];
    assert_eq!(y(&raised(&graph, 11)), (clip(None, None).into(), both));
    // A bound that is left out stays out.
    let upper = single(7, F, clip(None, Some(6.0)), &["y"]);
    assert_eq!(y(&raised(&upper, 25)).1, [None, Some(Tensor::scalar(6f32))]);
    assert_eq!(y(&raised(&single(7, F, clip(None, None), &["y"]), 25)).1, []);
    // The bounds are of the input's type.
    let halves = single(10, DataType::Float16, clip(Some(0.5), None), &["y"]);
    assert_eq!(y(&raised(&halves, 11)).1, [Some(Tensor::scalar(half::f16::from_f32(0.5)))]);
    // Nothing happens before 11.
    assert_eq!(y(&raised(&single(7, F, clip(Some(0.0), None), &["y"]), 10)), (clip(Some(0.0), None).into(), vec![]));
}

#[test]
fn ratio_of_dropout_becomes_an_input_at_12() {
    let graph = single(10, F, Dropout { ratio: Some(0.3), seed: None }, &["y"]);
    assert_eq!(y(&raised(&graph, 11)).1, []);
    assert_eq!(y(&raised(&graph, 12)), (Dropout { ratio: None, seed: None }.into(), vec![Some(Tensor::scalar(0.3f32))]));
}

#[test]
fn a_mask_of_dropout_turns_boolean_at_10_so_none_is_kept() {
    let dropout = Dropout { ratio: None, seed: None };
    let mut b = GraphBuilder::with_opset("dropout", 9);
    let x = b.input("x", F, [2.into()]);
    let given = b.nodes("drop", dropout, &[x], &["y", "mask"]);
    let graph = b.output(given[0]).finish().expect("a graph");
    assert_eq!(node(&raised(&graph, 10), "drop").outputs, [Some(given[0])]);
    let read = single(9, F, dropout, &["y", "mask"]);
    let reason =
        "cannot raise the opset from 9 to 10: node `y` (Dropout): its mask, which something reads, is of booleans from opset 10 on";
    assert_eq!(refusal(&read, 10), reason);
    assert_eq!(raised(&single(10, F, dropout, &["y", "mask"]), 25).outputs().len(), 2);
}

#[test]
fn pads_and_value_become_inputs_at_11() {
    let pad = |pads: Option<&[i64]>, value| Pad { mode: PadMode::Constant, pads: pads.map(<[i64]>::to_vec), value };
    let graph = single(10, F, pad(Some(&[0, 0, 1, 0, 0, 2]), Some(9.0)), &["y"]);
    assert_eq!(y(&raised(&graph, 11)), (pad(None, None).into(), vec![ints(&[0, 0, 1, 0, 0, 2]), Some(Tensor::scalar(9f32))]));
    let zero = single(10, F, pad(Some(&[0, 0, 1, 0, 0, 2]), None), &["y"]);
    assert_eq!(y(&raised(&zero, 11)).1, [ints(&[0, 0, 1, 0, 0, 2])]);
}

#[test]
fn bounds_of_slice_become_inputs_at_10() {
    let bounds = |axes: Option<&[i64]>| SliceBounds { starts: vec![1, 0], ends: vec![3, -1], axes: axes.map(<[i64]>::to_vec) };
    let graph = single(9, F, Slice { bounds: Some(bounds(Some(&[1, 2]))) }, &["y"]);
    assert_eq!(y(&raised(&graph, 10)), (Slice { bounds: None }.into(), vec![ints(&[1, 0]), ints(&[3, -1]), ints(&[1, 2])]));
    let leading = single(9, F, Slice { bounds: Some(SliceBounds { starts: vec![0], ends: vec![1], axes: None }) }, &["y"]);
    assert_eq!(y(&raised(&leading, 13)).1, [ints(&[0]), ints(&[1])]);
}

#[test]
fn axes_of_squeeze_and_unsqueeze_become_inputs_at_13() {
    let squeeze = single(12, F, Squeeze { axes: Some(vec![0]) }, &["y"]);
    assert_eq!(y(&raised(&squeeze, 13)), (Squeeze { axes: None }.into(), vec![ints(&[0])]));
    let all = single(12, F, Squeeze { axes: None }, &["y"]);
    assert_eq!(y(&raised(&all, 13)), (Squeeze { axes: None }.into(), vec![]));
    let unsqueeze = single(12, F, Unsqueeze { axes: Some(vec![0, -1]) }, &["y"]);
    assert_eq!(y(&raised(&unsqueeze, 13)), (Unsqueeze { axes: None }.into(), vec![ints(&[0, -1])]));
}

#[test]
fn sizes_of_split_become_an_input_at_13_and_equal_parts_are_counted_at_18() {
    let split = |sizes: Option<&[i64]>, num_outputs| Split { axis: 1, sizes: sizes.map(<[i64]>::to_vec), num_outputs };
    let sized = single(12, F, split(Some(&[1, 3]), None), &["y", "z"]);
    assert_eq!(y(&raised(&sized, 13)), (split(None, None).into(), vec![ints(&[1, 3])]));
    assert_eq!(y(&raised(&sized, 25)), (split(None, None).into(), vec![ints(&[1, 3])]));
    let equal = single(12, F, split(None, None), &["y", "z"]);
    assert_eq!(y(&raised(&equal, 17)), (split(None, None).into(), vec![]));
    assert_eq!(y(&raised(&equal, 18)), (split(None, Some(2)).into(), vec![]));
}

#[test]
fn axes_of_reductions_become_inputs_at_13_for_sums_and_at_18_for_the_others() {
    let reduce =
        |kind, axes: Option<&[i64]>| Reduce { kind, axes: axes.map(<[i64]>::to_vec), keepdims: false, noop_with_empty_axes: false };
    for (kind, since) in [(ReduceKind::Sum, 13), (ReduceKind::Mean, 18), (ReduceKind::Max, 18), (ReduceKind::L2, 18)] {
        let graph = single(11, F, reduce(kind, Some(&[1, -1])), &["y"]);
        assert_eq!(y(&raised(&graph, since - 1)), (reduce(kind, Some(&[1, -1])).into(), vec![]), "{kind:?}");
        assert_eq!(y(&raised(&graph, since)), (reduce(kind, None).into(), vec![ints(&[1, -1])]), "{kind:?}");
        assert_eq!(y(&raised(&single(11, F, reduce(kind, None), &["y"]), 25)), (reduce(kind, None).into(), vec![]), "{kind:?}");
    }
}

#[test]
fn softmax_over_one_axis_says_at_13_which() {
    let softmax = |axis| Softmax { log: true, axis };
    // The last of three axes, named from either end.
    for last in [2, -1] {
        assert_eq!(y(&raised(&single(12, F, softmax(Some(last)), &["y"]), 13)), (softmax(Some(2)).into(), vec![]));
    }
    let mut b = GraphBuilder::with_opset("scores", 12);
    let x = b.input("x", F, [Dim::symbol("N"), 10.into(), 1.into(), 1.into()]);
    let scores = b.node("y", softmax(None), &[x]);
    assert_eq!(y(&raised(&b.output(scores).finish().expect("a graph"), 13)), (softmax(Some(1)).into(), vec![]));
}

#[test]
fn softmax_over_several_axes_is_flattened_by_other_nodes_from_13_on() {
    let graph = raised(&single(12, F, Softmax { log: false, axis: None }, &["y"]), 13);
    let operators: Vec<(&str, Op)> = graph.nodes().map(|(_, node)| (node.name.as_str(), node.op.clone())).collect();
    let expected: [(&str, Op); 4] = [
        ("y.shape", Shape { start: 0, end: None }.into()),
        ("y.rows", Flatten { axis: 1 }.into()),
        ("y.flat", Softmax { log: false, axis: Some(-1) }.into()),
        ("y", Reshape { allow_zero: false }.into()),
    ];
    for entry in expected {
        assert!(operators.contains(&entry), "{entry:?} is not among {operators:?}");
    }
    assert_eq!(operators.len(), 4);
    assert_eq!(graph.value(graph.outputs()[0]).shape, Some(vec![1.into(), 4.into(), 6.into()]));
}

/// A file of one BatchNormalization as opset 7 wrote it, with what a file may say beside it.
fn batch_normalization_of_opset_7() -> Bytes {
    let mut b = GraphBuilder::with_opset("norm", 7);
    let x = b.input("x", F, [2.into(), 3.into(), 4.into()]);
    let parameters = ["scale", "b", "mean", "var"].map(|name| b.tensor(name, Tensor::new([3], vec![1f32; 3])));
    let norm = BatchNormalization { epsilon: 1e-3, momentum: 0.9, training_mode: false };
    let y = b.node("y", norm, &[&[x][..], &parameters].concat());
    let bytes = onnx::to_bytes(&b.output(y).finish().expect("a graph"), WriteOptions::default()).expect("a model");
    let mut model = ModelProto::decode(bytes).expect("a model");
    let graph = model.graph.as_mut().expect("a graph");
    let mut node = NodeProto::decode(graph.node[0].clone()).expect("a node");
    node.attribute.push(AttributeProto {
        name: "spatial".into(),
        r#type: Some(AttributeType::Int as i32),
        i: Some(1),
        ..Default::default()
    });
    node.doc_string = "after the first layer".into();
    graph.node[0] = node.encode_to_vec().into();
    model.encode_to_vec().into()
}

#[test]
fn an_attribute_that_a_later_opset_does_not_have_goes_and_the_description_stays() {
    let graph = onnx::read_bytes(batch_normalization_of_opset_7(), None).expect("a model");
    let written = |to| {
        let bytes = onnx::to_bytes(&raised(&graph, to), WriteOptions::default()).expect("a model");
        let node = ModelProto::decode(bytes).ok().and_then(|model| model.graph).expect("a graph").node.swap_remove(0);
        let node = NodeProto::decode(node).expect("a node");
        (node.attribute.into_iter().map(|a| a.name).collect::<Vec<_>>(), node.doc_string)
    };
    assert_eq!(written(8), (vec!["epsilon".to_string(), "spatial".into()], "after the first layer".to_string()));
    assert_eq!(written(9), (vec!["epsilon".to_string()], "after the first layer".to_string()));
    assert_eq!(written(25), (vec!["epsilon".to_string()], "after the first layer".to_string()));
}

/// From any opset to any later one and through the file: values keep names, types and shapes, nodes are understood.
#[test]
fn raised_graphs_survive_writing_and_reading() {
    let pads = Pad { mode: PadMode::Edge, pads: Some(vec![0, 0, 1, 0, 0, 2]), value: None };
    let slice = Slice { bounds: Some(SliceBounds { starts: vec![1], ends: vec![3], axes: Some(vec![2]) }) };
    let mean = Reduce { kind: ReduceKind::Mean, axes: Some(vec![2]), keepdims: true, noop_with_empty_axes: false };
    let sum = Reduce { kind: ReduceKind::Sum, ..mean.clone() };
    for from in [7, 8, 9] {
        let mut b = GraphBuilder::with_opset("all", from);
        let x = b.input("x", F, [1.into(), 4.into(), 6.into()]);
        let mut y = b.node("relu", Activation::Relu, &[x]);
        let chain: Vec<Op> = vec![
            Clip { min: Some(-1.0), max: None }.into(),
            Dropout { ratio: Some(0.5), seed: None }.into(),
            Softmax { log: false, axis: None }.into(),
            pads.clone().into(),
            slice.clone().into(),
            Squeeze { axes: Some(vec![0]) }.into(),
            Unsqueeze { axes: Some(vec![0]) }.into(),
            mean.clone().into(),
            sum.clone().into(),
        ];
        for (i, op) in chain.into_iter().enumerate() {
            y = b.node(&format!("y{i}"), op, &[y]);
        }
        let parts = b.nodes("split", Split { axis: 1, sizes: Some(vec![1, 3]), num_outputs: None }, &[y], &["first", "second"]);
        let graph = b.output(parts[0]).output(parts[1]).finish().expect("a graph");
        for to in from..=NEWEST_OPSET {
            let raised = raised(&graph, to);
            for (id, value) in graph.values().filter(|(_, value)| value.tensor.is_none()) {
                let now = raised.value(id);
                assert_eq!((&now.name, now.dtype, &now.shape), (&value.name, value.dtype, &value.shape), "{from} to {to}");
            }
            let bytes = onnx::to_bytes(&raised, WriteOptions::default()).expect("a model");
            let again = onnx::read_bytes(bytes, None).unwrap_or_else(|e| panic!("{from} to {to}: {e}"));
            for (id, node) in again.nodes() {
                assert!(!matches!(node.op, Op::Opaque(_)), "{from} to {to}: {:?}", again.node(id));
                assert_eq!(node.op, self::node(&raised, &node.name).op, "{from} to {to}");
            }
        }
    }
}

#[test]
fn versions_that_cannot_be_had_are_refused() {
    let graph = single(12, F, Identity, &["y"]);
    assert_eq!(refusal(&graph, 11), "cannot raise the opset from 12 to 11: it would be lowered (hint: stay at 12)");
    assert_eq!(refusal(&graph, 26), "cannot raise the opset from 12 to 26: opsets up to 25 are understood (hint: choose 25)");
    assert_eq!(raised(&graph, 12).opset(), 12);
}

#[test]
fn what_is_not_understood_is_named() {
    let opaque = |domain: &str| {
        let op = Opaque { domain: domain.into(), op_type: "Magic".into(), raw: Bytes::new(), reason: "unknown operator".into() };
        single(12, F, op, &["y"])
    };
    let reason = "cannot raise the opset from 12 to 13: node `y` (Magic): it is kept but not understood: unknown operator \
                  (hint: convert the model with `onnx.version_converter`)";
    assert_eq!(refusal(&opaque(""), 13), reason);
    // Another operator set has versions of its own.
    assert_eq!(raised(&opaque("com.acme"), 13).opset(), 13);
}

#[test]
fn inner_graphs_and_functions_are_named() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/onnx/kept.onnx");
    let kept = ModelProto::decode(Bytes::from(std::fs::read(path).expect("a model"))).expect("a model");
    let refused = |model: &ModelProto| refusal(&onnx::read_bytes(model.encode_to_vec(), None).expect("a model"), 22);
    let start = "cannot raise the opset from 21 to 22:";
    let function = "function `Scale` of the model is written for the present opset (hint: inline it with `onnx.inliner`)";
    assert_eq!(refused(&kept), format!("{start} {function}"));

    let hint = "(hint: convert the model with `onnx.version_converter`)";
    let without_functions = ModelProto { functions: vec![], ..kept };
    let not_understood = format!("node `choose` (If): it is kept but not understood: unknown operator {hint}");
    assert_eq!(refused(&without_functions), format!("{start} {not_understood}"));

    // A node of another operator set whose inner graph is made of ONNX's operators.
    let mut foreign = without_functions;
    for bytes in &mut foreign.graph.as_mut().expect("a graph").node {
        let mut node = NodeProto::decode(bytes.clone()).expect("a node");
        if node.op_type == "If" {
            node.domain = "own".into();
        }
        *bytes = node.encode_to_vec().into();
    }
    let inner = format!("node `choose` (If): its inner graph is written for the present opset {hint}");
    assert_eq!(refused(&foreign), format!("{start} {inner}"));
}
