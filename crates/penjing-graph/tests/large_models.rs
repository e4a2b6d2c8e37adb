//! A model of more than 2 GB, which one protobuf message cannot hold. Its weights' file has holes, so that it takes no space.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use bytes::Bytes;
use penjing_graph::onnx::proto::{
    DataLocation, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};
use penjing_graph::onnx::{self, WriteOptions};
use prost::Message;

const TENSORS: usize = 5;
/// Of one tensor: 1 GiB.
const BYTES: usize = 1 << 30;

/// w0 + w1 + …, in `weights.bin` one after the other. All elements are 0, save the last of tensor i, which is i + 1.
fn write_model(folder: &Path) {
    let mut file = File::create(folder.join("weights.bin")).expect("a file");
    for i in 0..TENSORS {
        file.seek(SeekFrom::Start(((i + 1) * BYTES - 4) as u64)).expect("a place");
        file.write_all(&(i as f32 + 1.0).to_le_bytes()).expect("an element");
    }
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
    let tensor = |i: usize| TensorProto {
        name: format!("w{i}"),
        data_type: Some(1),
        dims: vec![(BYTES / 4) as i64],
        data_location: Some(DataLocation::External as i32),
        external_data: vec![entry("location", "weights.bin".into()), entry("offset", (i * BYTES).to_string())],
        ..TensorProto::default()
    };
    let input = (0..TENSORS).map(|i| format!("w{i}")).collect();
    let node = NodeProto { op_type: "Sum".into(), input, output: vec!["y".into()], ..NodeProto::default() };
    let output = ValueInfoProto { name: "y".into(), ..ValueInfoProto::default() };
    let graph = GraphProto {
        node: vec![node.encode_to_vec().into()],
        initializer: (0..TENSORS).map(|i| Bytes::from(tensor(i).encode_to_vec())).collect(),
        output: vec![output.encode_to_vec().into()],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(17) }];
    let model = ModelProto { ir_version: Some(8), opset_import, graph: Some(graph), ..ModelProto::default() };
    std::fs::write(folder.join("large.onnx"), model.encode_to_vec()).expect("written");
}

#[test]
fn weights_beyond_two_gigabytes_are_read_where_they_lie() {
    let folder = tempfile::tempdir().expect("a folder");
    write_model(folder.path());
    let graph = onnx::read(folder.path().join("large.onnx")).unwrap_or_else(|e| panic!("{e}"));
    let last = |raw: &Bytes| f32::from_le_bytes(raw[BYTES - 4..].try_into().expect("four bytes"));
    let found: Vec<f32> = graph.initializers().filter_map(|(_, tensor)| tensor.raw()).map(last).collect();
    assert_eq!(found, [1.0, 2.0, 3.0, 4.0, 5.0]);
    let external: Vec<&Path> = graph.external_files().collect();
    assert_eq!(external, [folder.path().canonicalize().expect("a folder").join("weights.bin")]);
}

#[test]
fn one_message_cannot_hold_them_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    write_model(folder.path());
    let graph = onnx::read(folder.path().join("large.onnx")).unwrap_or_else(|e| panic!("{e}"));
    let refused = onnx::to_bytes(&graph, WriteOptions::default()).expect_err("5 GiB");
    let cause = std::error::Error::source(&refused).map(ToString::to_string).unwrap_or_default();
    assert!(cause.contains("of which one message holds 2147483647 (hint: write it to a file)"), "{refused}: {cause}");
}
