//! What writing leaves on the disk: a whole model or nothing.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use penjing_graph::onnx::proto::{DataLocation, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use penjing_graph::onnx::{self, WriteOptions};
use penjing_graph::ops::{Binary, MatMul};
use penjing_graph::{DataType, Edit, Graph, GraphBuilder, GraphError, Tensor};
use prost::Message;

const OVERWRITE: WriteOptions = WriteOptions { overwrite: true, sparse: false, external: false };
const EXTERNAL: WriteOptions = WriteOptions { overwrite: false, sparse: false, external: true };

/// x [1, `n`] · w [`n`, `n`] + b [1], all of w and b being `element`.
fn model(n: usize, element: f32) -> Graph {
    let mut b = GraphBuilder::new("model");
    let x = b.input("x", DataType::Float, [1.into(), n.into()]);
    let w = b.tensor("w", Tensor::new([n, n], vec![element; n * n]));
    let bias = b.tensor("b", Tensor::new([1], vec![element]));
    let product = b.node("product", MatMul, &[x, w]);
    let y = b.node("y", Binary::Add, &[product, bias]);
    b.output(y).finish().expect("a model")
}

/// Name and contents of each file.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry"));
    entries.map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read(e.path()).unwrap_or_default())).collect()
}

fn names(folder: &Path) -> Vec<String> {
    files(folder).into_keys().collect()
}

fn element(path: &Path) -> f32 {
    let graph = onnx::read(path).unwrap_or_else(|e| panic!("{e}"));
    let w = graph.find_value("w").and_then(|id| graph.tensor(id)).expect("w");
    w.to_f32().expect("floats")[0]
}

#[test]
fn a_model_is_replaced_only_when_that_is_allowed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.onnx");
    let written = onnx::write(&model(2, 1.0), &path, WriteOptions::default()).expect("the first");
    assert_eq!(written.model_bytes, std::fs::metadata(&path).expect("the file").len());
    let refused = onnx::write(&model(2, 2.0), &path, WriteOptions::default()).expect_err("the second");
    assert!(matches!(&refused, GraphError::Exists { path: there } if *there == path), "{refused}");
    assert_eq!((element(&path), names(folder.path())), (1.0, vec!["m.onnx".to_string()]));
    onnx::write(&model(2, 2.0), &path, OVERWRITE).expect("the third");
    assert_eq!((element(&path), names(folder.path())), (2.0, vec!["m.onnx".to_string()]));
}

#[test]
fn a_model_that_is_in_use_can_be_replaced_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.onnx");
    for options in [OVERWRITE, WriteOptions { external: true, ..OVERWRITE }, WriteOptions { external: true, ..OVERWRITE }, OVERWRITE] {
        onnx::write(&model(64, 3.0), &path, OVERWRITE).expect("a model");
        let graph = onnx::read(&path).expect("the model");
        onnx::write(&graph, &path, options).expect("itself");
        assert_eq!(element(&path), 3.0, "{options:?}");
        assert_eq!(graph.initializers().map(|(_, t)| t.to_f32().map(|v| v[0])).collect::<Vec<_>>(), [Some(3.0); 2]);
    }
}

#[test]
fn elements_go_to_a_second_file_when_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.onnx");
    let written = onnx::write(&model(64, 5.0), &path, EXTERNAL).expect("a model");
    assert_eq!(names(folder.path()), ["m.onnx", "m.onnx.data"]);
    // 64 · 64 floats
    assert_eq!(written.external_bytes, 16_384);
    assert_eq!(written.bytes(), files(folder.path()).values().map(|f| f.len() as u64).sum::<u64>());
    let graph = ModelProto::decode(Bytes::from(std::fs::read(&path).expect("the file"))).expect("a model").graph.expect("a graph");
    let tensors: Vec<TensorProto> = graph.initializer.iter().map(|t| TensorProto::decode(t.clone()).expect("a tensor")).collect();
    let place = |tensor: &TensorProto| (tensor.name.clone(), tensor.data_location() == DataLocation::External);
    // Four bytes are not worth a look into another file.
    assert_eq!(tensors.iter().map(place).collect::<Vec<_>>(), [("w".into(), true), ("b".into(), false)]);
    let entries: Vec<(&str, &str)> = tensors[0].external_data.iter().map(|e| (e.key.as_str(), e.value.as_str())).collect();
    assert_eq!(entries, [("location", "m.onnx.data"), ("offset", "0"), ("length", "16384")]);

    let moved = tempfile::tempdir().expect("a folder");
    for name in names(folder.path()) {
        std::fs::rename(folder.path().join(&name), moved.path().join(&name)).expect("moved");
    }
    assert_eq!(element(&moved.path().join("m.onnx")), 5.0);
}

#[test]
fn neither_file_of_a_pair_is_replaced_unasked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.onnx");
    std::fs::write(folder.path().join("m.onnx.data"), "something else").expect("a file");
    let before = files(folder.path());
    let refused = onnx::write(&model(64, 1.0), &path, EXTERNAL).expect_err("the pair");
    assert!(refused.to_string().contains("m.onnx.data` exists already (hint: "), "{refused}");
    assert_eq!(files(folder.path()), before);
    onnx::write(&model(64, 1.0), &path, WriteOptions { overwrite: true, ..EXTERNAL }).expect("the pair");
    onnx::write(&model(64, 2.0), &path, WriteOptions { overwrite: true, ..EXTERNAL }).expect("another");
    assert_eq!((element(&path), names(folder.path()).len()), (2.0, 2));
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("taken.onnx")).expect("a folder");
    std::fs::create_dir(folder.path().join("half.onnx.data")).expect("a folder");
    let before = names(folder.path());
    for (path, options) in [
        ("missing/m.onnx", OVERWRITE),
        ("taken.onnx", OVERWRITE),
        ("taken.onnx", WriteOptions { overwrite: true, ..EXTERNAL }),
        ("half.onnx", WriteOptions { overwrite: true, ..EXTERNAL }),
        ("..", OVERWRITE),
    ] {
        let refused = onnx::write(&model(64, 1.0), folder.path().join(path), options).expect_err(path);
        assert!(matches!(refused, GraphError::Io { action: "write", .. }), "{path}: {refused}");
        assert_eq!(names(folder.path()), before, "{path}");
    }
}

/// Runs in a process of its own, whose files may not grow beyond a few blocks.
#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_leaves_what_was_there() {
    const FOLDER: &str = "FOLDER_ON_A_FULL_DISK";
    if let Some(folder) = std::env::var_os(FOLDER) {
        for options in [OVERWRITE, WriteOptions { external: true, ..OVERWRITE }] {
            let path = Path::new(&folder).join("m.onnx");
            let refused = onnx::write(&model(512, 2.0), &path, options).expect_err("a megabyte fits");
            assert!(matches!(&refused, GraphError::Io { action: "write", path: there, .. } if *there == path), "{refused}");
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    onnx::write(&model(2, 1.0), folder.path().join("m.onnx"), OVERWRITE).expect("a small model");
    let before = files(folder.path());
    let limited = "ulimit -f 64 && trap '' XFSZ && exec \"$0\" --exact a_full_disk_is_an_error_and_leaves_what_was_there";
    let this = std::env::current_exe().expect("this test");
    let child = std::process::Command::new("sh").args(["-c", limited]).arg(this).env(FOLDER, folder.path()).output().expect("a shell");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&child.stderr));
    assert_eq!(files(folder.path()), before);
}

#[test]
fn what_no_message_holds_is_refused_as_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.onnx");
    onnx::write(&model(64, 0.0), &path, EXTERNAL).expect("a model");
    // The same file with 64·64 floats replaced by 2.2 billion bytes, none of which take room on the disk.
    let mut model = ModelProto::decode(Bytes::from(std::fs::read(&path).expect("the file"))).expect("a model");
    let graph = model.graph.as_mut().expect("a graph");
    let mut w = TensorProto::decode(graph.initializer[0].clone()).expect("a tensor");
    let bytes = 2_200_000_000u64;
    w.dims = vec![64, (bytes / 4 / 64) as i64];
    let length = w.external_data.iter_mut().find(|e| e.key == "length").expect("its length");
    length.value = bytes.to_string();
    graph.initializer[0] = w.encode_to_vec().into();
    // Without the shape that the output had.
    graph.output = vec![ValueInfoProto { name: "y".into(), ..ValueInfoProto::default() }.encode_to_vec().into()];
    std::fs::write(&path, model.encode_to_vec()).expect("the file");
    std::fs::OpenOptions::new().write(true).open(folder.path().join("m.onnx.data")).and_then(|f| f.set_len(bytes)).expect("a long file");
    let graph = onnx::read(&path).unwrap_or_else(|e| panic!("{e}"));
    let refused = onnx::to_bytes(&graph, WriteOptions::default()).expect_err("2.2 GB");
    let cause = std::error::Error::source(&refused).map(ToString::to_string).unwrap_or_default();
    assert!(cause.contains("2147483647 (hint: write it to a file)"), "{cause}");
}

#[test]
fn an_edit_changes_the_bytes_of_its_own_node_only() {
    let mut graph = onnx::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/onnx/kept.onnx")).expect("the model");
    let nodes = |graph: &Graph| {
        let bytes = onnx::to_bytes(graph, WriteOptions::default()).expect("bytes");
        ModelProto::decode(bytes).expect("a model").graph.expect("a graph").node
    };
    let before = nodes(&graph);
    let (add, node) = graph.nodes().find(|(_, node)| node.name == "add").expect("the Add");
    let (inputs, outer) = (node.inputs.clone(), graph.find_value("outer").expect("outer"));
    let mut edit = Edit::new(&graph, "subtract instead");
    edit.set_op(add, Binary::Sub, inputs);
    edit.set_tensor(outer, Tensor::new([2], vec![7.0f32, 8.0]));
    graph.apply(edit).expect("the edit");
    let changed: Vec<usize> = before.iter().zip(&nodes(&graph)).enumerate().filter(|(_, (a, b))| a != b).map(|(i, _)| i).collect();
    let add = before.iter().position(|node| NodeProto::decode(node.clone()).is_ok_and(|node| node.name == "add"));
    assert_eq!(changed, add.into_iter().collect::<Vec<_>>());
}
