//! A model written and read again is the same model. `testdata/onnx` holds models that ONNX's own package made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use penjing_graph::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use penjing_graph::onnx::{self, WriteOptions};
use penjing_graph::ops::Op;
use penjing_graph::{DataType, Graph, Tensor, zoo};
use prost::Message;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/onnx").join(name)
}

fn read(name: &str) -> Graph {
    onnx::read(testdata(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn bytes(graph: &Graph) -> Bytes {
    onnx::to_bytes(graph, WriteOptions::default()).expect("bytes")
}

/// The graph's part of a model's bytes.
fn proto(model: impl Into<Bytes>) -> GraphProto {
    ModelProto::decode(model.into()).expect("a model").graph.expect("a graph")
}

fn weights(graph: &Graph) -> Vec<(String, Tensor)> {
    graph.initializers().map(|(id, t)| (graph.value(id).name.clone(), t.clone())).collect()
}

fn tensor<'a>(graph: &'a Graph, name: &str) -> &'a Tensor {
    graph.find_value(name).and_then(|id| graph.tensor(id)).unwrap_or_else(|| panic!("no tensor `{name}`"))
}

/// All that a caller can see of a graph, one line a fact.
fn description(graph: &Graph) -> Vec<String> {
    let name = |id| &graph.value(id).name;
    let names = |ids: &[Option<_>]| ids.iter().map(|id| id.map_or("-", |id| name(id).as_str())).collect::<Vec<_>>().join(" ");
    let value = |id| format!("{:?} {:?}", graph.value(id).dtype, graph.value(id).shape);
    let mut lines = vec![format!("{} {:?} {:?}", graph.name(), graph.opsets(), graph.metadata_entries())];
    lines.extend(graph.inputs().map(|id| format!("input {} {}", name(id), value(id))));
    lines.extend(graph.outputs().iter().map(|id| format!("output {} {}", name(*id), value(*id))));
    lines.extend(graph.nodes().map(|(_, node)| {
        let captures: Vec<&String> = node.captures.iter().map(|id| name(*id)).collect();
        let types: Vec<String> = node.outputs.iter().flatten().map(|id| value(*id)).collect();
        format!("{} {:?} ({}) {captures:?} -> ({}) {types:?}", node.name, node.op, names(&node.inputs), names(&node.outputs))
    }));
    lines
}

/// Writes the graph, reads it again, and checks that nothing is lost and that writing it again gives the same bytes.
fn survives(graph: &Graph) -> Result<(), String> {
    let written = bytes(graph);
    let again = onnx::read_bytes(written.clone(), None).map_err(|e| format!("what was written is refused: {e}"))?;
    let (before, after) = (description(graph), description(&again));
    if let Some((before, after)) = before.iter().zip(&after).find(|(before, after)| before != after) {
        return Err(format!("{before}\nbecomes {after}"));
    }
    if before.len() != after.len() || weights(graph) != weights(&again) {
        return Err("nodes or weights are lost".into());
    }
    if bytes(&again) != written {
        return Err("other bytes when written again".into());
    }
    Ok(())
}

#[test]
fn every_architecture_survives_writing_and_reading() {
    let folder = tempfile::tempdir().expect("a folder");
    for architecture in zoo::ALL {
        let graph = zoo::build(architecture.name, &zoo::ZooOptions::default()).expect(architecture.name);
        survives(&graph).unwrap_or_else(|e| panic!("{}: {e}", architecture.name));
        let path = folder.path().join(format!("{}.onnx", architecture.name));
        onnx::write(&graph, &path, WriteOptions::default()).expect(architecture.name);
        assert!(std::fs::read(&path).expect("the file") == bytes(&graph), "{}: file and bytes differ", architecture.name);
    }
}

#[test]
fn every_node_case_is_read_or_refused_with_a_reason() {
    let assets =
        std::env::var_os("PENJING_ASSETS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/assets"), PathBuf::from);
    let folder = assets.join("onnx-node-tests");
    let cases = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e} (hint: scripts/assets onnx-node-tests)", folder.display()));
    let mut models: Vec<PathBuf> = cases.map(|case| case.expect("an entry").path().join("model.onnx")).filter(|m| m.is_file()).collect();
    models.sort();
    let (mut survived, mut failed) = (0, vec![]);
    for model in &models {
        let file = std::fs::read(model).expect("a model");
        match onnx::read(model) {
            Ok(graph) => match survives(&graph).and_then(|()| untouched(&file, &graph)) {
                Ok(()) => survived += 1,
                Err(reason) => failed.push(format!("{}: {reason}", model.display())),
            },
            // The only reason that a model which ONNX itself published can give.
            Err(e) if e.to_string().contains("its opset is") => {}
            Err(e) => failed.push(format!("{}: {e}", model.display())),
        }
    }
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), models.len(), failed.join("\n"));
    assert!(survived > 850, "only {survived} of {} cases were read (hint: are these all of ONNX's node cases?)", models.len());
}

/// Checks that each node of the file is written byte for byte, but for constants, which become initializers.
fn untouched(file: &[u8], graph: &Graph) -> Result<(), String> {
    let nodes = |model: Bytes| proto(model).node.into_iter().collect::<BTreeSet<Bytes>>();
    let is_constant = |node: &Bytes| NodeProto::decode(node.clone()).is_ok_and(|node| node.op_type == "Constant");
    let before: BTreeSet<Bytes> = nodes(Bytes::copy_from_slice(file)).into_iter().filter(|node| !is_constant(node)).collect();
    let after: BTreeSet<Bytes> = nodes(bytes(graph)).into_iter().filter(|node| !is_constant(node)).collect();
    if before == after { Ok(()) } else { Err("nodes are not the bytes that they were".into()) }
}

#[test]
fn what_the_graph_does_not_model_is_kept() {
    let file = std::fs::read(testdata("kept.onnx")).expect("the model");
    let graph = read("kept.onnx");
    survives(&graph).unwrap_or_else(|e| panic!("{e}"));
    untouched(&file, &graph).unwrap_or_else(|e| panic!("{e}"));
    let before = ModelProto::decode(Bytes::from(file)).expect("a model");
    let after = ModelProto::decode(bytes(&graph)).expect("a model");
    let [mut before_graph, mut after_graph] = [&before, &after].map(|model| model.graph.clone().expect("a graph"));
    // An initializer that nothing reads is the only thing that goes.
    let names = |graph: &GraphProto| {
        let tensor = |bytes: &Bytes| TensorProto::decode(bytes.clone()).expect("a tensor").name;
        graph.initializer.iter().map(tensor).collect::<Vec<_>>()
    };
    assert_eq!((names(&before_graph), names(&after_graph)), (vec!["outer".into(), "nobody_reads_it".into()], vec!["outer".to_string()]));
    (before_graph.initializer, after_graph.initializer) = (vec![], vec![]);
    // Inference finds the type of more values than the file declares, and writes what the file says.
    assert_eq!(before_graph, after_graph);
    assert_eq!(ModelProto { graph: None, ..before }, ModelProto { graph: None, ..after });
}

#[test]
fn inner_graphs_read_outer_values() {
    let graph = read("kept.onnx");
    let (_, choose) = graph.nodes().find(|(_, node)| node.name == "choose").expect("the If");
    let captures: Vec<&str> = choose.captures.iter().map(|id| graph.value(*id).name.as_str()).collect();
    assert_eq!(captures, ["outer", "scaled"]);
    let order: Vec<&str> = graph.nodes().map(|(_, node)| node.name.as_str()).collect();
    assert_eq!(order, ["bias", "scale", "not", "choose", "add", "mystery"]);
}

#[test]
fn constants_become_initializers() {
    let graph = read("constants.onnx");
    assert!(graph.nodes().all(|(_, node)| matches!(node.op, Op::Identity(_))), "a Constant is left");
    assert_eq!(*tensor(&graph, "value"), Tensor::new([1, 2], vec![1.0f32, 2.0]));
    assert_eq!(*tensor(&graph, "value_float"), Tensor::scalar(0.5f32));
    assert_eq!(*tensor(&graph, "value_floats"), Tensor::new([2], vec![1.5f32, -2.5]));
    assert_eq!(*tensor(&graph, "value_int"), Tensor::scalar(7i64));
    assert_eq!(*tensor(&graph, "value_ints"), Tensor::new([2], vec![1i64, -1]));
    assert_eq!(tensor(&graph, "value_string").strings(), Some(&[Bytes::from_static(b"hi")][..]));
    assert_eq!(tensor(&graph, "value_strings").strings(), Some(&[Bytes::from_static(b"a"), Bytes::from_static(b"bc")][..]));
    survives(&graph).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn each_element_type_is_read_from_either_form() {
    let graph = read("elements.onnx");
    let mut types = BTreeSet::new();
    for (name, typed) in weights(&graph) {
        types.insert(typed.dtype());
        let Some(kind) = name.strip_prefix("typed_") else { continue };
        if typed.dtype() != DataType::String {
            assert_eq!(typed, *tensor(&graph, &format!("raw_{kind}")), "{kind}");
        }
        if let Some(floats) = typed.to_f32() {
            assert_eq!(*floats, [1.0, 0.0], "{kind}");
        }
        if let Some(integers) = typed.to_i64() {
            assert_eq!(*integers, [1, 0], "{kind}");
        }
    }
    assert_eq!(types.len(), 26, "{types:?}");
    // 1 and 0 in four bits each, the first in the low half.
    assert_eq!(tensor(&graph, "typed_INT4").raw().map(|raw| &raw[..]), Some(&[0x01][..]));
    survives(&graph).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn initializers_of_old_files_are_no_inputs() {
    let graph = read("ir3.onnx");
    let inputs: Vec<&str> = graph.inputs().map(|id| graph.value(id).name.as_str()).collect();
    assert_eq!(inputs, ["x"]);
    let written = ModelProto::decode(bytes(&graph)).expect("a model");
    assert_eq!(written.ir_version, Some(4));
    assert_eq!(written.graph.map(|graph| graph.input.len()), Some(1));
    survives(&graph).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn external_elements_come_along_wherever_they_stand() {
    let graph = read("external.onnx");
    assert_eq!(*tensor(&graph, "w"), Tensor::new([2, 3], vec![0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0]));
    survives(&graph).unwrap_or_else(|e| panic!("{e}"));
    let written = proto(bytes(&graph));
    let mystery = NodeProto::decode(written.node[1].clone()).expect("a node");
    let table = mystery.attribute.iter().find_map(|a| a.t.as_ref()).and_then(|t| t.raw_data.clone());
    assert_eq!(table.as_deref(), Some(&[10.0f32, 20.0, 30.0].map(f32::to_le_bytes).concat()[..]));
}
