//! Laws of training, on networks small enough to follow by hand.

use penjing_exec::{ExecError, Executor, Loss, Objective, Target, UpdateRule, cpu_executor};
use penjing_graph::ops::{Activation, BatchNormalization, Conv, Dropout, Flatten, Gemm, GlobalPool, MaxPool, Softmax, Window};
use penjing_graph::{DataType, Dim, Graph, GraphBuilder, Tensor, ValueId};

const GEMM: Gemm = Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
const SGD: UpdateRule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
const MOMENTUM: UpdateRule = UpdateRule::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.01 };
const ADAMW: UpdateRule = UpdateRule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, decoupled: true };

fn objective(loss: Loss, rule: UpdateRule, learning_rate: f32) -> Objective {
    Objective { loss, rule, learning_rate, clip_norm: None }
}

fn numbers(dims: &[usize], scale: f32) -> Tensor {
    let n: usize = dims.iter().product();
    Tensor::new(dims, (0..n).map(|i| scale * (i as f32 * 1.618 + n as f32).sin()).collect::<Vec<_>>())
}

fn f32s(tensor: &Tensor) -> Vec<f32> {
    tensor.values::<f32>().expect("floats").into_owned()
}

/// y = x · Wᵀ with W = [[2, −1]].
fn linear() -> (Graph, ValueId) {
    let mut b = GraphBuilder::new("linear");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 2.into()]);
    let w = b.tensor("w", Tensor::new([1, 2], vec![2.0f32, -1.0]));
    let y = b.node("y", GEMM, &[x, w]);
    (b.output(y).finish().expect("a graph"), w)
}

/// Convolution, batch normalisation, pooling, dropout and a classifier of three classes for [N, 2, 8, 8].
fn convnet() -> Graph {
    let window = |kernel: &[usize], strides: &[usize], pads: &[i64]| Window {
        kernel: kernel.into(),
        strides: strides.into(),
        pads: pads.into(),
        ..Window::default()
    };
    let mut b = GraphBuilder::new("convnet");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 2.into(), 8.into(), 8.into()]);
    let w1 = b.tensor("conv1.weight", numbers(&[8, 2, 3, 3], 0.4));
    let b1 = b.tensor("conv1.bias", numbers(&[8], 0.1));
    let c1 = b.node("conv1", Conv { window: window(&[3, 3], &[1, 1], &[1, 1, 1, 1]), group: 1 }, &[x, w1, b1]);
    let norm: Vec<ValueId> = [("scale", 1.0), ("bias", 0.0), ("mean", 0.0), ("var", 1.0)]
        .map(|(name, value)| b.tensor(&format!("bn.{name}"), Tensor::new([8], vec![value as f32; 8])))
        .into();
    let batch = BatchNormalization { epsilon: 1e-5, momentum: 0.9, training_mode: false };
    let n1 = b.node("bn", batch, &[c1, norm[0], norm[1], norm[2], norm[3]]);
    let r1 = b.node("relu", Activation::Relu, &[n1]);
    let p1 = b.node("pool", MaxPool { window: window(&[2, 2], &[2, 2], &[]), ceil_mode: false, storage_order: 0 }, &[r1]);
    let w2 = b.tensor("conv2.weight", numbers(&[8, 1, 3, 3], 0.5));
    let c2 = b.node("conv2", Conv { window: window(&[3, 3], &[1, 1], &[1, 1, 1, 1]), group: 8 }, &[p1, w2]);
    let r2 = b.node("relu2", Activation::Relu, &[c2]);
    let d2 = b.node("dropout", Dropout { ratio: None, seed: None }, &[r2]);
    let g = b.node("gap", GlobalPool::Average, &[d2]);
    let f = b.node("flatten", Flatten { axis: 1 }, &[g]);
    let w3 = b.tensor("fc.weight", numbers(&[3, 8], 0.5));
    let b3 = b.tensor("fc.bias", numbers(&[3], 0.1));
    let y = b.node("logits", GEMM, &[f, w3, b3]);
    b.output(y).finish().expect("a graph")
}

fn batch(n: usize) -> (Tensor, Target) {
    // Three kinds of pictures: bright left, bright right, even.
    let classes: Vec<u32> = (0..n as u32).map(|i| i % 3).collect();
    let noise = numbers(&[n, 2, 8, 8], 0.2);
    let pixels = f32s(&noise).into_iter().enumerate().map(|(i, v)| match (classes[i / 128], i % 8) {
        (0, 0..4) | (1, 4..8) => v + 1.0,
        _ => v,
    });
    (Tensor::new([n, 2, 8, 8], pixels.collect::<Vec<_>>()), Target::Classes(classes))
}

fn weights(executor: &dyn Executor) -> Vec<Vec<u32>> {
    let graph = executor.to_graph().expect("a graph");
    graph.initializers().map(|(_, t)| t.to_f32().map_or(vec![], |v| v.iter().map(|v| v.to_bits()).collect())).collect()
}

/// Bits of every weight, running statistics included, after some steps in a pool of `threads`.
fn train(graph: &Graph, rule: UpdateRule, steps: usize, threads: usize) -> Vec<Vec<u32>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    pool.install(|| {
        let mut executor = cpu_executor(graph).expect("an executor");
        let (x, target) = batch(48);
        let objective = objective(Loss::CrossEntropy { smoothing: 0.1 }, rule, 0.05);
        for _ in 0..steps {
            executor.train_step(std::slice::from_ref(&x), &target, &objective).expect("a step");
        }
        weights(executor.as_ref())
    })
}

/// x = [1, 3], t = 1: y = 2 − 3 = −1, L = (−1 − 1)² = 4, dL/dy = −4, dW = [−4, −12].
#[test]
fn a_step_of_sgd_by_hand() {
    let (graph, w) = linear();
    let mut executor = cpu_executor(&graph).expect("an executor");
    let x = Tensor::new([1, 2], vec![1.0f32, 3.0]);
    let target = Target::Values(Tensor::new([1, 1], vec![1.0f32]));
    let gradients = executor.gradients(std::slice::from_ref(&x), &target, &Loss::Mse).expect("gradients");
    assert_eq!(gradients.loss, 4.0);
    assert_eq!(f32s(&gradients.by_weight[&w]), [-4.0, -12.0]);
    let rule = UpdateRule::Sgd { momentum: 0.5, nesterov: false, weight_decay: 0.5 };
    let report = executor.train_step(std::slice::from_ref(&x), &target, &objective(Loss::Mse, rule, 0.25)).expect("a step");
    assert_eq!(report.loss, 4.0);
    assert_eq!(report.gradient_norm, Some(160f32.sqrt()));
    // g + decay·w = [−3, −12.5]; w − 0.25·v = [2.75, 2.125]
    assert_eq!(f32s(&executor.weight(w).expect("a weight")), [2.75, 2.125]);
    assert_eq!(f32s(&executor.optimizer_state().1["momentum/w"]), [-3.0, -12.5]);
    // The graph that came in still has its own weights.
    assert_eq!(graph.tensor(w).map(f32s), Some(vec![2.0, -1.0]));
    assert_eq!(executor.to_graph().expect("a graph").tensor(w).map(f32s), Some(vec![2.75, 2.125]));
}

/// Adam's first step is the learning rate in the direction of the gradient's sign, whatever its size.
#[test]
fn a_step_of_adam_by_hand() {
    let (graph, w) = linear();
    let x = Tensor::new([1, 2], vec![1.0f32, 3.0]);
    let target = Target::Values(Tensor::new([1, 1], vec![1.0f32]));
    for (decoupled, decay, expected) in [(false, 0.0, [2.1, -0.9]), (true, 0.5, [2.0 * 0.95 + 0.1, -0.95 + 0.1])] {
        let mut executor = cpu_executor(&graph).expect("an executor");
        let rule = UpdateRule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: decay, decoupled };
        executor.train_step(std::slice::from_ref(&x), &target, &objective(Loss::Mse, rule, 0.1)).expect("a step");
        for (found, expected) in f32s(&executor.weight(w).expect("a weight")).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
        }
    }
}

/// The gradient [−4, −12] has norm √160; clipped to 1 it is divided by that.
#[test]
fn clipping_scales_the_whole_gradient() {
    let (graph, w) = linear();
    let mut executor = cpu_executor(&graph).expect("an executor");
    let target = Target::Values(Tensor::new([1, 1], vec![1.0f32]));
    let clipped = Objective { clip_norm: Some(1.0), ..objective(Loss::Mse, SGD, 1.0) };
    executor.train_step(&[Tensor::new([1, 2], vec![1.0f32, 3.0])], &target, &clipped).expect("a step");
    let found = f32s(&executor.weight(w).expect("a weight"));
    let norm = 160f32.sqrt();
    assert!((found[0] - (2.0 + 4.0 / norm)).abs() < 1e-6 && (found[1] - (-1.0 + 12.0 / norm)).abs() < 1e-6, "{found:?}");
}

#[test]
fn a_pruned_weight_stays_exactly_zero() {
    for rule in [SGD, MOMENTUM, ADAMW] {
        let graph = convnet();
        let mut executor = cpu_executor(&graph).expect("an executor");
        let w = graph.find_value("conv1.weight").expect("conv1.weight");
        let (x, target) = batch(12);
        let objective = objective(Loss::CrossEntropy { smoothing: 0.0 }, rule, 0.05);
        // Momentum from before the mask must not bring a weight back.
        executor.train_step(std::slice::from_ref(&x), &target, &objective).expect("a step");
        let keep: Vec<bool> = (0..144).map(|i| i % 3 != 0).collect();
        executor.set_mask(w, Some(&keep)).expect("a mask");
        for _ in 0..3 {
            executor.train_step(std::slice::from_ref(&x), &target, &objective).expect("a step");
            for (value, keep) in f32s(&executor.weight(w).expect("a weight")).iter().zip(&keep) {
                assert_eq!(value.to_bits() == 0, !keep, "{rule:?}: {value}");
            }
        }
        executor.set_weight(w, &numbers(&[8, 2, 3, 3], 1.0)).expect("a weight");
        assert_eq!(f32s(&executor.weight(w).expect("a weight"))[0].to_bits(), 0);
        executor.set_mask(w, None).expect("no mask");
        executor.train_step(std::slice::from_ref(&x), &target, &objective).expect("a step");
        assert_ne!(f32s(&executor.weight(w).expect("a weight"))[0], 0.0, "{rule:?}: the mask was lifted");
    }
}

#[test]
fn training_lowers_the_loss_and_moves_the_running_statistics() {
    for (rule, rate) in [(MOMENTUM, 0.05), (ADAMW, 0.02)] {
        let graph = convnet();
        let mut executor = cpu_executor(&graph).expect("an executor");
        let (x, target) = batch(24);
        let objective = objective(Loss::CrossEntropy { smoothing: 0.0 }, rule, rate);
        let losses: Vec<f32> =
            (0..40).map(|_| executor.train_step(std::slice::from_ref(&x), &target, &objective).expect("a step").loss).collect();
        assert!(losses[39] < 0.5 * losses[0], "{rule:?}: from {} to {}", losses[0], losses[39]);
        let mean = graph.find_value("bn.mean").expect("bn.mean");
        assert!(!executor.trainable().contains(&mean));
        assert!(f32s(&executor.weight(mean).expect("a statistic")).iter().any(|v| *v != 0.0));
    }
}

/// One channel of 1, 3: mean 2, population variance 1; running = old·0.75 + batch·0.25.
#[test]
fn running_statistics_by_hand() {
    let mut b = GraphBuilder::new("bn");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 1.into()]);
    let [scale, bias, mean, var] = [1.0, 0.0, 4.0, 9.0].map(|v: f32| b.tensor("s", Tensor::new([1], vec![v])));
    let y = b.node("y", BatchNormalization { epsilon: 0.0, momentum: 0.75, training_mode: false }, &[x, scale, bias, mean, var]);
    let graph = b.output(y).finish().expect("a graph");
    let mut executor = cpu_executor(&graph).expect("an executor");
    let x = Tensor::new([2, 1], vec![1.0f32, 3.0]);
    let target = Target::Values(Tensor::new([2, 1], vec![0.0f32, 0.0]));
    let report = executor.train_step(std::slice::from_ref(&x), &target, &objective(Loss::Mse, SGD, 0.0)).expect("a step");
    assert_eq!(report.loss, 1.0); // normalised to −1, 1
    assert_eq!(f32s(&executor.weight(mean).expect("a statistic")), [3.5]);
    assert_eq!(f32s(&executor.weight(var).expect("a statistic")), [7.0]);
    // Inference uses them: (1 − 3.5)/√7, (3 − 3.5)/√7.
    let y = f32s(&executor.run(&[x], &[y]).expect("a run")[0]);
    assert!((y[0] + 2.5 / 7f32.sqrt()).abs() < 1e-6 && (y[1] + 0.5 / 7f32.sqrt()).abs() < 1e-6, "{y:?}");
}

/// Batches of 1, 3 and of 4, 8: means 2 and 6, variances 1 and 4; their means are 4 and 2.5.
#[test]
fn statistics_over_batches_by_hand() {
    let mut b = GraphBuilder::new("bn");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 1.into()]);
    let [scale, bias, mean, var] = [1.0, 0.0, 40.0, 90.0].map(|v: f32| b.tensor("s", Tensor::new([1], vec![v])));
    let n = b.node("n", BatchNormalization { epsilon: 0.0, momentum: 0.75, training_mode: false }, &[x, scale, bias, mean, var]);
    let y = b.node("y", Dropout { ratio: None, seed: None }, &[n]);
    let graph = b.output(y).finish().expect("a graph");
    let mut executor = cpu_executor(&graph).expect("an executor");
    for (i, values) in [[1.0f32, 3.0], [4.0, 8.0]].into_iter().enumerate() {
        executor.update_statistics(&[Tensor::new([2, 1], values.to_vec())], 1.0 / (i + 1) as f32).expect("an update");
    }
    assert_eq!(f32s(&executor.weight(mean).expect("a statistic")), [4.0]);
    assert_eq!(f32s(&executor.weight(var).expect("a statistic")), [2.5]);
    assert_eq!(f32s(&executor.weight(scale).expect("a weight")), [1.0]);
}

/// ½ · λ · w² adds λ·w to the gradient: with a gradient of zero, w ← w − lr·λ·w.
#[test]
fn penalties_by_hand() {
    let (graph, w) = linear();
    let mut executor = cpu_executor(&graph).expect("an executor");
    executor.set_penalties(&std::collections::BTreeMap::from([(w, vec![0.5, 2.0])])).expect("penalties");
    let zero = [Tensor::new([1, 2], vec![0.0f32, 0.0])];
    let target = Target::Values(Tensor::new([1, 1], vec![0.0f32]));
    executor.train_step(&zero, &target, &objective(Loss::Mse, SGD, 0.25)).expect("a step");
    assert_eq!(f32s(&executor.weight(w).expect("a weight")), [2.0 * (1.0 - 0.125), -(1.0 - 0.5)]);
    executor.set_penalties(&std::collections::BTreeMap::new()).expect("none");
    let before = executor.weight(w).expect("a weight");
    executor.train_step(&zero, &target, &objective(Loss::Mse, SGD, 0.25)).expect("a step");
    assert_eq!(executor.weight(w).expect("a weight"), before);
    assert!(executor.set_penalties(&std::collections::BTreeMap::from([(w, vec![0.5])])).is_err());
}

#[test]
fn the_same_bits_at_any_number_of_threads() {
    let graph = convnet();
    let alone = train(&graph, MOMENTUM, 4, 1);
    for threads in [2, 3] {
        assert_eq!(alone, train(&graph, MOMENTUM, 4, threads), "{threads} threads");
    }
}

/// Clipping divides by the norm of a gradient that is large enough for sums to be spread over threads.
#[test]
fn a_large_gradient_has_the_same_norm_at_any_number_of_threads() {
    let (inputs, outputs) = (2049, 2048);
    let mut b = GraphBuilder::new("large");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), inputs.into()]);
    let w = b.tensor("w", numbers(&[outputs, inputs], 0.1));
    let y = b.node("y", GEMM, &[x, w]);
    let graph = b.output(y).finish().expect("a graph");
    let step = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let mut executor = cpu_executor(&graph).expect("an executor");
            let clipped = Objective { clip_norm: Some(1e-3), ..objective(Loss::Mse, SGD, 1.0) };
            let target = Target::Values(numbers(&[4, outputs], 1.0));
            let report = executor.train_step(&[numbers(&[4, inputs], 1.0)], &target, &clipped).expect("a step");
            (report.gradient_norm.map(f32::to_bits), weights(executor.as_ref()))
        })
    };
    let alone = step(1);
    assert!(alone.0.is_some_and(|norm| f32::from_bits(norm) > 1e-3), "the norm is clipped");
    assert_eq!(alone, step(2));
}

#[test]
fn a_resumed_run_gives_the_same_bits() {
    for rule in [MOMENTUM, ADAMW] {
        let graph = convnet();
        let mut executor = cpu_executor(&graph).expect("an executor");
        let (x, target) = batch(48);
        let objective = objective(Loss::CrossEntropy { smoothing: 0.1 }, rule, 0.05);
        for _ in 0..2 {
            executor.train_step(std::slice::from_ref(&x), &target, &objective).expect("a step");
        }
        let (steps, state) = executor.optimizer_state();
        assert_eq!(steps, 2);
        let mut resumed = cpu_executor(&executor.to_graph().expect("a graph")).expect("an executor");
        resumed.set_optimizer_state(steps, &state).expect("a state");
        for _ in 0..3 {
            resumed.train_step(std::slice::from_ref(&x), &target, &objective).expect("a step");
        }
        assert_eq!(weights(resumed.as_ref()), train(&graph, rule, 5, 1), "{rule:?}");
    }
}

/// With a softmax at the end the loss is that of its input, so that large logits stay finite: loss = 100 for logits [0, 100], class 0.
#[test]
fn a_final_softmax_is_looked_through() {
    for log in [false, true] {
        let mut b = GraphBuilder::new("softmax");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 2.into()]);
        let w = b.tensor("w", Tensor::new([2, 2], vec![1.0f32, 0.0, 0.0, 1.0]));
        let z = b.node("z", GEMM, &[x, w]);
        let y = b.node("y", Softmax { log, axis: Some(-1) }, &[z]);
        let mut executor = cpu_executor(&b.output(y).finish().expect("a graph")).expect("an executor");
        let x = Tensor::new([1, 2], vec![0.0f32, 100.0]);
        let gradients = executor.gradients(&[x], &Target::Classes(vec![0]), &Loss::CrossEntropy { smoothing: 0.0 }).expect("gradients");
        assert_eq!(gradients.loss, 100.0);
        assert_eq!(f32s(&gradients.by_weight[&w]), [0.0, -100.0, 0.0, 100.0]); // (p − q)ᵀ·x with p = [0, 1]
    }
}

#[test]
fn divergence_is_an_error_and_leaves_the_weights_alone() {
    let graph = convnet();
    let mut executor = cpu_executor(&graph).expect("an executor");
    let (_, target) = batch(3);
    let before = weights(executor.as_ref());
    let broken = Tensor::new([3, 2, 8, 8], vec![f32::NAN; 384]);
    let error = executor.train_step(&[broken], &target, &objective(Loss::CrossEntropy { smoothing: 0.0 }, SGD, 0.1));
    assert!(matches!(&error, Err(ExecError::Diverged { step: 1, what, .. }) if what == "the loss became NaN"), "{error:?}");
    assert_eq!(before, weights(executor.as_ref()));
    assert_eq!(executor.optimizer_state().0, 0);
}

#[test]
fn what_does_not_fit_is_named() {
    let graph = convnet();
    let mut executor = cpu_executor(&graph).expect("an executor");
    let (x, _) = batch(2);
    let cross_entropy = Loss::CrossEntropy { smoothing: 0.0 };
    let text = |result: Result<_, ExecError>| result.map(|_: penjing_exec::Gradients| ()).expect_err("an error").to_string();
    let mut gradients = |x: &Tensor, target: Target, loss| text(executor.gradients(std::slice::from_ref(x), &target, &loss));
    assert_eq!(
        gradients(&x, Target::Classes(vec![0, 3]), cross_entropy),
        "the output `logits` of shape [2, 3] has classes 0 to 2, but sample 1 of the batch has label 3"
    );
    assert_eq!(gradients(&x, Target::Classes(vec![0]), cross_entropy), "the output `logits` of shape [2, 3] does not fit 1 labels");
    assert_eq!(gradients(&x, Target::Classes(vec![0, 1]), Loss::Mse), "mse needs numbers as the target (hint: use the loss cross-entropy)");
    assert_eq!(
        gradients(&numbers(&[2, 3, 8, 8], 1.0), Target::Classes(vec![0, 1]), cross_entropy),
        "input `x`: the model takes shape [N, 2, 8, 8] but was given [2, 3, 8, 8]"
    );
}
