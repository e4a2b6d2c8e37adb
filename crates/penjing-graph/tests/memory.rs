//! Looking at all weights of a model takes far less memory than the weights. Alone in its file: the peak is the process's.

#![cfg(target_os = "linux")]

use std::io::{Seek, SeekFrom, Write};

use bytes::Bytes;
use penjing_graph::onnx;
use penjing_graph::onnx::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

const WEIGHTS: usize = 125_000_000;
const MAX_PEAK: usize = 100 << 20;

/// Most bytes of memory that this process has held at once, mapped pages included.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

/// A field of `len` bytes that are still to come.
fn field(tag: u32, len: usize) -> Vec<u8> {
    let mut head = vec![];
    encode_key(tag, WireType::LengthDelimited, &mut head);
    encode_varint(len as u64, &mut head);
    head
}

/// x + w with 500 MB of w at the end of the file, where they need not be written: a file is zero where nothing was.
fn model() -> Vec<u8> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
    let node = NodeProto { op_type: "Add".into(), input: names(&["x", "w"]), output: names(&["y"]), ..NodeProto::default() };
    let info = |name: &str| vec![Bytes::from(ValueInfoProto { name: name.into(), ..ValueInfoProto::default() }.encode_to_vec())];
    let graph = GraphProto { node: vec![node.encode_to_vec().into()], input: info("x"), output: info("y"), ..GraphProto::default() };
    let tensor = TensorProto { name: "w".into(), data_type: Some(1), dims: vec![WEIGHTS as i64], ..TensorProto::default() };
    let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(17) }];

    let tensor = [tensor.encode_to_vec(), field(9, 4 * WEIGHTS)].concat();
    let graph = [graph.encode_to_vec(), field(5, tensor.len() + 4 * WEIGHTS), tensor].concat();
    let model = ModelProto { ir_version: Some(8), opset_import, ..ModelProto::default() };
    [model.encode_to_vec(), field(7, graph.len() + 4 * WEIGHTS), graph].concat()
}

#[test]
fn counting_the_zeros_of_500_mb_takes_less_than_100() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let head = model();
    let len = (head.len() + 4 * WEIGHTS) as u64;
    file.write_all(&head).expect("the head");
    file.as_file().set_len(len).expect("the weights");
    // The last weight is 1.0.
    file.seek(SeekFrom::Start(len - 4)).and_then(|_| file.write_all(&1.0f32.to_le_bytes())).expect("a weight");

    let graph = onnx::read(file.path()).unwrap_or_else(|e| panic!("{e}"));
    let zeros: usize = graph.initializers().map(|(_, tensor)| graph.count_zeros(tensor)).sum();
    assert_eq!(zeros, WEIGHTS - 1);
    assert!(peak() < MAX_PEAK, "{} MB", peak() >> 20);

    // What the limit is worth: the same bytes read at once.
    let (_, w) = graph.initializers().next().expect("w");
    assert_eq!(w.raw().map(|raw| raw.iter().filter(|octet| **octet != 0).count()), Some(2));
    assert!(peak() > 4 * WEIGHTS, "{} MB", peak() >> 20);
}
