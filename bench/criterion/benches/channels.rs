//! Finding what must go together, and cutting it: resnet-50, and chains of blocks of growing length.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use penjing_graph::channels::{Channels, Removal};
use penjing_graph::ops::{Activation, Binary, Conv, Window};
use penjing_graph::zoo::{ZooOptions, build};
use penjing_graph::{DataType, Dim, Graph, GraphBuilder, Tensor};

/// The first half of every group.
fn half(channels: &Channels) -> Removal {
    channels.groups.iter().map(|group| (0..group.channels / 2).collect()).collect()
}

fn resnet(c: &mut Criterion) {
    let graph = build("resnet-50", &ZooOptions::default()).expect("of the zoo");
    let channels = Channels::find(&graph, false);
    let removal = half(&channels);
    let mut group = c.benchmark_group("channels of resnet-50");
    group.sample_size(10);
    group.bench_function("find", |b| b.iter(|| Channels::find(black_box(&graph), false)));
    group.bench_function("cut half", |b| b.iter(|| channels.cut(black_box(&graph), &removal).expect("cut")));
    group.finish();
}

/// Blocks of two 1x1 convolutions of 16 channels with a Relu between and a sum around: 4 nodes each.
fn chain(nodes: usize) -> Graph {
    let mut b = GraphBuilder::new("chain");
    let mut h = b.input("x", DataType::Float, [Dim::symbol("N"), 16.into(), 8.into(), 8.into()]);
    for i in 0..nodes / 4 {
        let [first, second] = ["a", "b"].map(|w| b.tensor(&format!("{w}{i}"), Tensor::new([16, 16, 1, 1], vec![0.1f32; 256])));
        let conv = || Conv { window: Window::default(), group: 1 };
        let a = b.node(&format!("first{i}"), conv(), &[h, first]);
        let a = b.node(&format!("relu{i}"), Activation::Relu, &[a]);
        let a = b.node(&format!("second{i}"), conv(), &[a, second]);
        h = b.node(&format!("sum{i}"), Binary::Add, &[h, a]);
    }
    b.output(h).finish().expect("valid")
}

fn growing(c: &mut Criterion) {
    let mut group = c.benchmark_group("channels of a chain");
    group.sample_size(10);
    for nodes in [1250, 2500, 5000, 10_000] {
        let graph = chain(nodes);
        group.throughput(Throughput::Elements(nodes as u64));
        group.bench_with_input(BenchmarkId::new("find", nodes), &graph, |b, graph| b.iter(|| Channels::find(black_box(graph), false)));
        let channels = Channels::find(&graph, false);
        let removal = half(&channels);
        group.bench_with_input(BenchmarkId::new("cut half", nodes), &graph, |b, graph| {
            b.iter(|| channels.cut(black_box(graph), &removal).expect("cut"));
        });
    }
    group.finish();
}

criterion_group!(benches, resnet, growing);
criterion_main!(benches);
