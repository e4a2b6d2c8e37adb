//! One threshold over as many weights as resnet-50 has, on two threads.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use penjing_criterion::select::keep_largest;
use penjing_graph::Tensor;
use penjing_graph::zoo::{ZooOptions, build};

fn threshold(c: &mut Criterion) {
    let graph = build("resnet-50", &ZooOptions::default()).expect("of the zoo");
    let tensors: Vec<_> = graph.initializers().map(|(_, t)| t).filter(|t| t.dims().len() > 1).filter_map(Tensor::values::<f32>).collect();
    let weights: Vec<&[f32]> = tensors.iter().map(|values| &values[..]).collect();
    let total: usize = weights.iter().map(|w| w.len()).sum();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");

    let mut group = c.benchmark_group("keep_largest");
    group.sample_size(20).throughput(Throughput::Elements(total as u64));
    for percent in [10, 50, 90, 99] {
        group.bench_with_input(BenchmarkId::new("percent removed", percent), &percent, |b, percent| {
            b.iter(|| pool.install(|| keep_largest(black_box(&weights), total * percent / 100)))
        });
    }
    group.finish();
}

criterion_group!(benches, threshold);
criterion_main!(benches);
