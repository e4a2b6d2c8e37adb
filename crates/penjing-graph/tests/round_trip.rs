//! A model written and read again is the same model.

use penjing_graph::onnx::{self, WriteOptions};
use penjing_graph::{Graph, Tensor, zoo};

fn weights(graph: &Graph) -> Vec<(String, Tensor)> {
    graph.initializers().map(|(id, t)| (graph.value(id).name.clone(), t.clone())).collect()
}

#[test]
fn every_architecture_survives_writing_and_reading() {
    let folder = tempfile::tempdir().expect("a folder");
    for architecture in zoo::ALL {
        let graph = zoo::build(architecture.name, &zoo::ZooOptions::default()).expect(architecture.name);
        let path = folder.path().join(format!("{}.onnx", architecture.name));
        onnx::write(&graph, &path, WriteOptions::default()).expect(architecture.name);
        let read = onnx::read(&path).expect(architecture.name);
        assert_eq!(weights(&graph), weights(&read));
        assert_eq!(graph.nodes().map(|(_, n)| &n.op).collect::<Vec<_>>(), read.nodes().map(|(_, n)| &n.op).collect::<Vec<_>>());
        let again = onnx::to_bytes(&read, WriteOptions::default()).expect(architecture.name);
        assert_eq!(std::fs::read(&path).expect("the file"), &again[..], "{} changes when read and written", architecture.name);
    }
}
