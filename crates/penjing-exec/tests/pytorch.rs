//! Gradients and steps of the optimizers as PyTorch computes them, on networks that hold most kernels; see `goldens/make.py`.

use std::collections::BTreeMap;

use penjing_exec::{Loss, Objective, Target, UpdateRule, cpu_executor};
use penjing_graph::ops::{
    Activation, BatchNormalization, Binary, Clip, Conv, Flatten, Gemm, GlobalPool, LayerNormalization, MatMul, MaxPool, Reduce, ReduceKind,
    Softmax, Transpose, Window,
};
use penjing_graph::{DataType, Dim, Graph, GraphBuilder, Tensor, ValueId};
use safetensors::SafeTensors;

const GEMM: Gemm = Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
const ENTROPY: Loss = Loss::CrossEntropy { smoothing: 0.0 };

/// The tensors of one file by name.
struct Golden(BTreeMap<String, Tensor>);

impl Golden {
    fn read(bytes: &[u8]) -> Self {
        let file = SafeTensors::deserialize(bytes).expect("a file of safetensors");
        let tensor = |view: safetensors::tensor::TensorView<'_>| {
            let dtype = if view.dtype() == safetensors::Dtype::I64 { DataType::Int64 } else { DataType::Float };
            Tensor::from_raw(dtype, view.shape().to_vec(), bytes::Bytes::copy_from_slice(view.data())).expect("a tensor")
        };
        Golden(file.iter().map(|(name, view)| (name.to_owned(), tensor(view))).collect())
    }

    fn tensor(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("`{name}` is in the file"))
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.tensor(name).values::<f32>().expect("floats").into_owned()
    }

    fn target(&self) -> Target {
        let classes = self.tensor("target").values::<i64>().expect("integers");
        Target::Classes(classes.iter().map(|class| u32::try_from(*class).expect("a class")).collect())
    }
}

/// A graph whose weights are those that PyTorch started from.
struct Net<'a> {
    golden: &'a Golden,
    builder: GraphBuilder,
}

impl Net<'_> {
    fn weight(&mut self, name: &str) -> ValueId {
        let start = self.golden.tensor(&format!("start/{name}")).clone();
        self.builder.tensor(name, start)
    }

    fn batch_norm(&mut self, name: &str, x: ValueId) -> ValueId {
        let [scale, bias, mean, variance] =
            ["weight", "bias", "running_mean", "running_var"].map(|part| self.weight(&format!("{name}.{part}")));
        let op = BatchNormalization { epsilon: 1e-5, momentum: 0.9, training_mode: false };
        self.builder.node(name, op, &[x, scale, bias, mean, variance])
    }

    fn layer_norm(&mut self, name: &str, x: ValueId) -> ValueId {
        let [scale, bias] = ["weight", "bias"].map(|part| self.weight(&format!("{name}.{part}")));
        self.builder.node(name, LayerNormalization { axis: -1, epsilon: 1e-5, stash_type: 1 }, &[x, scale, bias])
    }

    fn product(&mut self, name: &str, x: ValueId) -> ValueId {
        let weight = self.weight(name);
        self.builder.node(&format!("{name}.product"), MatMul, &[x, weight])
    }

    fn classifier(mut self, x: ValueId) -> Graph {
        let [weight, bias] = ["fc.weight", "fc.bias"].map(|name| self.weight(name));
        let y = self.builder.node("fc", GEMM, &[x, weight, bias]);
        self.builder.output(y).finish().expect("a graph")
    }
}

fn window(kernel: usize, stride: usize, pad: i64) -> Window {
    Window { kernel: vec![kernel; 2], strides: vec![stride; 2], pads: vec![pad; 4], ..Window::default() }
}

fn cnn(golden: &Golden) -> Graph {
    let mut net = Net { golden, builder: GraphBuilder::new("cnn") };
    let x = net.builder.input("x", DataType::Float, [Dim::symbol("N"), 3.into(), 13.into(), 11.into()]);
    let [w1, w2, w3, b3] = ["conv1.weight", "conv2.weight", "conv3.weight", "conv3.bias"].map(|name| net.weight(name));
    let conv1 = net.builder.node("conv1", Conv { window: window(3, 2, 1), group: 1 }, &[x, w1]);
    let norm1 = net.batch_norm("norm1", conv1);
    let a = net.builder.node("a", Activation::Relu, &[norm1]);
    let conv2 = net.builder.node("conv2", Conv { window: window(3, 1, 1), group: 10 }, &[a, w2]);
    let norm2 = net.batch_norm("norm2", conv2);
    let bounds = [("lo", 0f32), ("hi", 6.0)].map(|(name, bound)| net.builder.tensor(name, Tensor::scalar(bound)));
    let clipped = net.builder.node("clip", Clip { min: None, max: None }, &[norm2, bounds[0], bounds[1]]);
    let b = net.builder.node("b", Binary::Add, &[a, clipped]);
    let conv3 = net.builder.node("conv3", Conv { window: window(1, 1, 0), group: 1 }, &[b, w3, b3]);
    let pooled = net.builder.node("c", MaxPool { window: window(3, 2, 1), ceil_mode: false, storage_order: 0 }, &[conv3]);
    let mean = net.builder.node("mean", GlobalPool::Average, &[pooled]);
    let flat = net.builder.node("flat", Flatten { axis: 1 }, &[mean]);
    net.classifier(flat)
}

fn attention(golden: &Golden) -> Graph {
    let mut net = Net { golden, builder: GraphBuilder::with_opset("attention", 20) };
    let x = net.builder.input("x", DataType::Float, [Dim::symbol("N"), 7.into(), 12.into()]);
    let n = net.layer_norm("norm1", x);
    let [q, k, v] = ["q", "k", "v"].map(|name| net.product(name, n));
    let turned = net.builder.node("turned", Transpose { perm: Some(vec![0, 2, 1]) }, &[k]);
    let products = net.builder.node("products", MatMul, &[q, turned]);
    let factor = net.builder.tensor("factor", Tensor::scalar(0.25f32));
    let scores = net.builder.node("scores", Binary::Mul, &[products, factor]);
    let shares = net.builder.node("shares", Softmax { log: false, axis: Some(-1) }, &[scores]);
    let mixed = net.builder.node("mixed", MatMul, &[shares, v]);
    let h = net.builder.node("h", Binary::Add, &[x, mixed]);
    let n = net.layer_norm("norm2", h);
    let up = net.product("up", n);
    let active = net.builder.node("active", Activation::Gelu { tanh: false }, &[up]);
    let down = net.product("down", active);
    let y = net.builder.node("y", Binary::Add, &[h, down]);
    let axes = net.builder.tensor("axes", Tensor::new([1], vec![1i64]));
    let mean = Reduce { kind: ReduceKind::Mean, axes: None, keepdims: false, noop_with_empty_axes: false };
    let mean = net.builder.node("mean", mean, &[y, axes]);
    net.classifier(mean)
}

/// Every element within `tolerance`, counted from the largest of PyTorch's.
fn assert_near(name: &str, ours: &Tensor, theirs: &[f32], tolerance: f32) {
    let ours = ours.values::<f32>().expect("floats");
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let scale = theirs.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
    for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert!((ours - theirs).abs() <= tolerance * scale, "{name}, element {i}: {ours} here, {theirs} in PyTorch");
    }
}

fn compare(golden: &Golden, graph: &Graph) {
    let inputs = [golden.tensor("x").clone()];
    let target = golden.target();
    let mut executor = cpu_executor(graph).expect("an executor");
    let gradients = executor.gradients(&inputs, &target, &ENTROPY).expect("gradients");
    assert_eq!(gradients.by_weight.len(), golden.0.keys().filter(|name| name.starts_with("gradient/")).count());
    for (id, gradient) in &gradients.by_weight {
        let name = &graph.value(*id).name;
        assert_near(&format!("gradient of {name}"), gradient, &golden.floats(&format!("gradient/{name}")), 2e-5);
    }

    let sgd = UpdateRule::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.01 };
    let adam = |weight_decay: f32, decoupled: bool| UpdateRule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay, decoupled };
    for (name, rule, learning_rate) in [("sgd", sgd, 0.1), ("adam", adam(0.01, false), 0.01), ("adamw", adam(0.1, true), 0.01)] {
        let mut executor = cpu_executor(graph).expect("an executor");
        let objective = Objective { loss: ENTROPY, rule, learning_rate, clip_norm: None };
        for (step, loss) in golden.floats(&format!("{name}/loss")).into_iter().enumerate() {
            let report = executor.train_step(&inputs, &target, &objective).expect("a step");
            assert!((report.loss - loss).abs() < 2e-5 * loss.max(1.0), "{name}, step {step}: loss {} here, {loss} in PyTorch", report.loss);
        }
        // PyTorch's running variance divides by one less than ONNX's; all else is the same.
        for (key, theirs) in golden.0.iter().filter(|(key, _)| key.starts_with(&format!("{name}/")) && !key.ends_with("/loss")) {
            let weight = &key[name.len() + 1..];
            let id = graph.find_value(weight).expect("a weight of the graph");
            let ours = executor.weight(id).expect("a weight");
            assert_near(&format!("{weight} after {name}"), &ours, &theirs.values::<f32>().expect("floats"), 2e-4);
        }
    }
}

#[test]
fn a_convolutional_network_is_trained_as_by_pytorch() {
    let golden = Golden::read(include_bytes!("goldens/cnn.safetensors"));
    compare(&golden, &cnn(&golden));
}

#[test]
fn attention_is_trained_as_by_pytorch() {
    let golden = Golden::read(include_bytes!("goldens/attention.safetensors"));
    compare(&golden, &attention(&golden));
}
