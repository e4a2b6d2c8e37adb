//! Pruned weights take fewer bytes in the file and are the same weights, for this reader and for ONNX Runtime.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use penjing_graph::onnx::{self, WriteOptions};
use penjing_graph::ops::{Cast, MatMul, Op, Opaque};
use penjing_graph::zoo::{self, ZooOptions};
use penjing_graph::{DataType, Edit, Graph, GraphBuilder, Tensor, ValueId, roles};

const SPARSE: WriteOptions = WriteOptions { overwrite: true, sparse: true, external: false };
const DENSE: WriteOptions = WriteOptions { overwrite: true, sparse: false, external: false };

/// A model with the smallest of its prunable weights set to zero, one of `keep` left.
fn pruned(architecture: &str, keep: usize) -> Graph {
    let mut graph = zoo::build(architecture, &ZooOptions::default()).expect(architecture);
    let prunable: Vec<ValueId> = roles(&graph).into_iter().filter(|(_, role)| role.prunable()).map(|(id, _)| id).collect();
    let elements = |id: &ValueId| graph.tensor(*id).and_then(Tensor::to_f32).expect("floats").into_owned();
    let mut magnitudes: Vec<f32> = prunable.iter().flat_map(elements).map(f32::abs).collect();
    magnitudes.sort_by(f32::total_cmp);
    let threshold = magnitudes[magnitudes.len() - magnitudes.len() / keep];
    let mut edit = Edit::new(&graph, "prune");
    for id in &prunable {
        let left = elements(id).into_iter().map(|w| if w.abs() < threshold { 0.0 } else { w }).collect();
        edit.set_tensor(*id, Tensor::new(graph.tensor(*id).expect("weights").dims(), left));
    }
    graph.apply(edit).expect("the edit");
    graph
}

fn weights(graph: &Graph) -> Vec<(String, Tensor)> {
    let mut weights: Vec<_> = graph.initializers().map(|(id, t)| (graph.value(id).name.clone(), t.clone())).collect();
    weights.sort_by(|a, b| a.0.cmp(&b.0));
    weights
}

fn operators(graph: &Graph) -> Vec<&Op> {
    graph.nodes().map(|(_, node)| &node.op).collect()
}

/// ONNX's full checker, and ONNX Runtime's outputs to the bit.
fn same_in_onnx_runtime(dense: &Path, sparse: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/onnx/compare.py");
    let run = Command::new("python3").arg(script).args([dense, sparse]).output();
    let run = run.unwrap_or_else(|e| panic!("python3: {e} (hint: PATH=$(dirname $(scripts/python)):$PATH)"));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}(hint: where a module is missing, PATH=$(dirname $(scripts/python)):$PATH)");
}

#[test]
fn a_twelfth_of_the_weights_takes_a_ninth_of_the_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let [dense, sparse] = ["dense.onnx", "sparse.onnx"].map(|name| folder.path().join(name));
    let graph = pruned("lenet-300-100", 12);
    let dense_bytes = onnx::write(&graph, &dense, DENSE).expect("dense").model_bytes;
    let written = onnx::write(&graph, &sparse, SPARSE).expect("sparse");
    // 266,610 floats | 22,184 floats, as many bytes of gaps, and a few zeros where a byte holds no gap
    assert!((1_066_440..1_068_000).contains(&dense_bytes), "{dense_bytes}");
    assert!((110_920..115_000).contains(&written.model_bytes), "{}", written.model_bytes);
    assert!(written.tensors.iter().all(|t| t.sparse || !t.name.ends_with("weight")), "{:?}", written.tensors);
    assert!(written.tensors.iter().all(|t| !t.sparse || t.stored_bytes < t.dense_bytes), "{:?}", written.tensors);
    assert_eq!(written.sparse_refused, None);

    let read = onnx::read(&sparse).expect("the sparse model");
    assert_eq!(weights(&read), weights(&graph));
    assert_eq!(operators(&read), operators(&graph));
    same_in_onnx_runtime(&dense, &sparse);
}

#[test]
fn what_is_read_from_sparse_storage_is_written_as_it_was() {
    for architecture in ["lenet-5", "mobilenet-v2"] {
        let graph = pruned(architecture, 20);
        let once = onnx::to_bytes(&graph, SPARSE).expect("bytes");
        let read = onnx::read_bytes(once.clone(), None).expect("a model");
        assert!(onnx::to_bytes(&read, SPARSE).expect("bytes") == once, "{architecture}: other bytes when written again");
        assert!(onnx::to_bytes(&read, DENSE).expect("bytes") == onnx::to_bytes(&graph, DENSE).expect("bytes"), "{architecture}");
    }
}

/// x · w, with w given in `dtype`, of which every 50th element is not zero.
fn product(dtype: DataType, opset: i64) -> Graph {
    let (rows, columns) = (40, 50);
    let every_50th = |i: usize| if i % 50 == 7 { i as f32 / 64.0 } else { 0.0 };
    let elements = (0..rows * columns).map(every_50th);
    let dims = [rows, columns];
    let tensor = match dtype {
        DataType::Double => Tensor::new(dims, elements.map(f64::from).collect()),
        DataType::Float16 => Tensor::new(dims, elements.map(half::f16::from_f32).collect()),
        DataType::Bfloat16 => Tensor::new(dims, elements.map(half::bf16::from_f32).collect()),
        _ => Tensor::new(dims, elements.collect()),
    };
    let mut b = GraphBuilder::with_opset("product", opset);
    let x = b.input("x", DataType::Float, [2.into(), rows.into()]);
    let w = b.tensor("w", tensor);
    let w = b.node("widened", Cast { to: DataType::Float, saturate: true }, &[w]);
    let y = b.node("y", MatMul, &[x, w]);
    b.output(y).finish().expect("a graph")
}

#[test]
fn each_float_type_is_stored_sparsely_from_the_opset_that_can() {
    let folder = tempfile::tempdir().expect("a folder");
    let [dense, sparse] = ["dense.onnx", "sparse.onnx"].map(|name| folder.path().join(name));
    for (dtype, oldest) in [(DataType::Float, 11), (DataType::Float16, 11), (DataType::Double, 11), (DataType::Bfloat16, 20)] {
        let graph = product(dtype, oldest);
        onnx::write(&graph, &dense, DENSE).expect("dense");
        let written = onnx::write(&graph, &sparse, SPARSE).expect("sparse");
        assert!(written.tensors[0].sparse, "{}", dtype.name());
        assert_eq!(weights(&onnx::read(&sparse).expect("the sparse model")), weights(&graph));
        same_in_onnx_runtime(&dense, &sparse);
    }
    let written = onnx::write(&product(DataType::Bfloat16, 19), &sparse, SPARSE).expect("dense after all");
    assert!(!written.tensors[0].sparse);
}

#[test]
fn an_opset_without_the_operators_is_raised_to_the_first_that_has_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let [dense, sparse] = ["dense.onnx", "sparse.onnx"].map(|name| folder.path().join(name));
    let graph = product(DataType::Float, 9);
    onnx::write(&graph, &dense, DENSE).expect("dense");
    let written = onnx::write(&graph, &sparse, SPARSE).expect("sparse");
    assert!(written.tensors[0].sparse);
    let again = onnx::read(&sparse).expect("the sparse model");
    assert_eq!((graph.opset(), again.opset(), weights(&again)), (9, 11, weights(&graph)));
    same_in_onnx_runtime(&dense, &sparse);
}

#[test]
fn a_model_whose_opset_cannot_be_raised_says_so_and_stays_dense() {
    let mut graph = product(DataType::Float, 9);
    let mut edit = Edit::new(&graph, "add an operator that is not understood");
    let mystery = Opaque { domain: String::new(), op_type: "Mystery".into(), raw: Bytes::new(), reason: "unknown operator".into() };
    edit.add_node("mystery", mystery, vec![graph.outputs().first().copied()], &["z"]);
    graph.apply(edit).expect("the edit");
    let folder = tempfile::tempdir().expect("a folder");
    let written = onnx::write(&graph, folder.path().join("m.onnx"), SPARSE).expect("a model");
    let refused = written.sparse_refused.expect("a reason");
    assert!(refused.contains("raise the opset from 9 to 11: node `mystery` (Mystery)"), "{refused}");
    assert!(written.tensors.iter().all(|tensor| !tensor.sparse));
}

#[test]
fn an_opset_is_not_raised_for_nothing() {
    let mut b = GraphBuilder::with_opset("dense", 9);
    let x = b.input("x", DataType::Float, [2.into(), 2.into()]);
    let w = b.tensor("w", Tensor::new([2, 2], vec![1.0f32, 2.0, 3.0, 4.0]));
    let y = b.node("y", MatMul, &[x, w]);
    let graph = b.output(y).finish().expect("a graph");
    assert!(onnx::to_bytes(&graph, SPARSE).expect("sparse") == onnx::to_bytes(&graph, DENSE).expect("dense"));
}

#[test]
fn weights_without_zeros_stay_as_they_are() {
    let graph = zoo::build("lenet-5", &ZooOptions::default()).expect("lenet-5");
    assert!(onnx::to_bytes(&graph, SPARSE).expect("sparse") == onnx::to_bytes(&graph, DENSE).expect("dense"));
}
