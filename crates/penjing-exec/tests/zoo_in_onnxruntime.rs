//! Every architecture of the zoo, written and run by users' runtime: ONNX Runtime and the built-in executor agree.

use penjing_exec::cpu_executor;
use penjing_exec::runtime::OnnxRuntime;
use penjing_graph::Tensor;
use penjing_graph::onnx::{self, WriteOptions};
use penjing_graph::zoo::{self, Architecture, ZooOptions};

/// Largest difference of two outputs, relative to the largest output: untrained deep networks have huge logits.
const TOLERANCE: f32 = 1e-4;

/// ImageNet's networks on smaller images, taller than wide and of odd width: neither may matter.
fn input(architecture: &Architecture) -> [usize; 3] {
    match architecture.input {
        [3, 224, 224] => [3, 64, 47],
        own => own,
    }
}

/// Largest |a − b| of the logits over the largest |a|, a the built-in executor's, for that many images.
fn difference(runtime: OnnxRuntime, architecture: &Architecture, batch: usize) -> f32 {
    let name = architecture.name;
    let [c, h, w] = input(architecture);
    let graph = zoo::build(name, &ZooOptions { input: Some([c, h, w]), ..ZooOptions::default() }).expect(name);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    onnx::write(&graph, &path, WriteOptions::default()).expect(name);

    let pixels = (0..batch * c * h * w).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<f32>>();
    let images = [Tensor::new([batch, c, h, w], pixels)];
    let ours = cpu_executor(&graph).expect(name).run(&images, graph.outputs()).expect(name).remove(0);
    let theirs = runtime.open(&path, 2).expect(name).run(&images).expect(name).remove(0);
    assert_eq!((ours.dims(), theirs.dims()), (&[batch, architecture.classes][..], &[batch, architecture.classes][..]), "{name}");
    let (ours, theirs) = (ours.to_f32().expect(name), theirs.to_f32().expect(name));
    let largest = ours.iter().fold(0f32, |m, a| m.max(a.abs()));
    assert!(largest.is_normal() && theirs.iter().all(|b| b.is_finite()), "{name}: logits reach {largest}");
    ours.iter().zip(&*theirs).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

#[test]
fn onnx_runtime_and_the_built_in_executor_agree_on_every_architecture() {
    let runtime = OnnxRuntime::find(None).expect("ONNX Runtime loads");
    let runtime = runtime.expect("there is no ONNX Runtime (hint: `pip install onnxruntime`, or scripts/test, which brings it)");
    assert_eq!(zoo::ALL.len(), 10);
    for (i, architecture) in zoo::ALL.iter().enumerate() {
        let difference = difference(runtime, architecture, 2 + i % 2);
        assert!(difference <= TOLERANCE, "{}: off by {difference:.1e} of the largest logit", architecture.name);
    }
}
