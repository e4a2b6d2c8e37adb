//! resnet-50 as bytes: read with shape inference, and written densely and sparsely.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use penjing_graph::onnx::{WriteOptions, read_bytes, to_bytes};
use penjing_graph::zoo::{ZooOptions, build};
use penjing_graph::{Edit, Graph, Tensor};

/// The network with nine weights of ten at zero, every tenth left.
fn pruned(graph: &Graph) -> Graph {
    let mut edit = Edit::new(graph, "prune");
    for (id, tensor) in graph.initializers().filter(|(_, tensor)| tensor.dims().len() > 1) {
        let values = tensor.values::<f32>().expect("zoo networks are float32");
        let kept = values.iter().enumerate().map(|(i, w)| if i % 10 == 0 { *w } else { 0.0 }).collect::<Vec<f32>>();
        edit.set_tensor(id, Tensor::new(tensor.dims(), kept));
    }
    let mut pruned = graph.clone();
    pruned.apply(edit).expect("the shapes stay");
    pruned
}

fn read_write(c: &mut Criterion) {
    let graph = build("resnet-50", &ZooOptions::default()).expect("of the zoo");
    let bytes = to_bytes(&graph, WriteOptions::default()).expect("small enough");
    let mut group = c.benchmark_group("resnet-50");
    group.sample_size(20).throughput(Throughput::Bytes(bytes.len() as u64));

    group.bench_function("read and infer shapes", |b| b.iter(|| read_bytes(black_box(bytes.clone()), None)));
    group.bench_function("write", |b| b.iter(|| to_bytes(black_box(&graph), WriteOptions::default())));
    let pruned = pruned(&graph);
    group.bench_function("write 10 % of the weights sparsely", |b| {
        b.iter(|| to_bytes(black_box(&pruned), WriteOptions { sparse: true, ..WriteOptions::default() }))
    });
    group.finish();
}

criterion_group!(benches, read_write);
criterion_main!(benches);
