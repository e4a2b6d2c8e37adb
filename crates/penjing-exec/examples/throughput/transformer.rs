//! A transformer block with pre-normalisation (Vaswani et al. 2017; Xiong et al. 2020) and a classifier behind it.

use penjing_graph::ops::{
    Activation, Binary, Gemm, LayerNormalization, MatMul, Op, Reduce, ReduceKind, Reshape, Softmax, Split, Transpose,
};
use penjing_graph::{DataType, Dim, Graph, GraphBuilder, GraphError, Tensor, ValueId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Positions of a sequence.
const SEQUENCE: usize = 128;
/// Features of a position.
const WIDTH: usize = 384;
const HEADS: usize = 12;
const HEAD: usize = WIDTH / HEADS;

/// Shape of one sample.
pub(super) const SAMPLE: [usize; 2] = [SEQUENCE, WIDTH];

/// x [N, 128, 384] → logits [N, classes]: h = x + attention(norm(x)), y = h + mlp(norm(h)), mean over the sequence, Gemm.
pub(super) fn block(classes: usize) -> Result<Graph, GraphError> {
    // Gelu is an operator from opset 20 on.
    let mut block = Block { builder: GraphBuilder::with_opset("transformer-block", 20), random: ChaCha8Rng::seed_from_u64(0) };
    let x = block.builder.input("x", DataType::Float, [Dim::symbol("N"), SEQUENCE.into(), WIDTH.into()]);

    let normal = block.layer_norm("norm1", x);
    let attended = block.attention(normal);
    let h = block.op("residual1", Binary::Add, &[x, attended]);

    let normal = block.layer_norm("norm2", h);
    let wide = block.linear("mlp.up", normal, WIDTH, 4 * WIDTH);
    let active = block.op("mlp.gelu", Activation::Gelu { tanh: false }, &[wide]);
    let narrow = block.linear("mlp.down", active, 4 * WIDTH, WIDTH);
    let y = block.op("residual2", Binary::Add, &[h, narrow]);

    let logits = block.classifier(y, classes);
    block.builder.output(logits).finish()
}

/// The block as it grows.
struct Block {
    builder: GraphBuilder,
    random: ChaCha8Rng,
}

impl Block {
    fn op(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.builder.node(name, op, inputs)
    }

    fn ints(&mut self, name: &str, values: &[i64]) -> ValueId {
        self.builder.tensor(name, Tensor::new([values.len()], values.to_vec()))
    }

    /// Uniform in ±1/√fan_in, as PyTorch's `Linear` starts.
    fn uniform(&mut self, name: &str, dims: &[usize], fan_in: usize) -> ValueId {
        let bound = 1.0 / (fan_in as f32).sqrt();
        let count = dims.iter().product();
        let values: Vec<f32> = (0..count).map(|_| self.random.random_range(-bound..bound)).collect();
        self.builder.tensor(name, Tensor::new(dims, values))
    }

    fn layer_norm(&mut self, name: &str, x: ValueId) -> ValueId {
        let [scale, bias] = [("weight", 1.0f32), ("bias", 0.0)]
            .map(|(part, value)| self.builder.tensor(&format!("{name}.{part}"), Tensor::new([WIDTH], vec![value; WIDTH])));
        self.op(name, LayerNormalization { axis: -1, epsilon: 1e-5, stash_type: 1 }, &[x, scale, bias])
    }

    /// x · W + b, W [inputs, outputs].
    fn linear(&mut self, name: &str, x: ValueId, inputs: usize, outputs: usize) -> ValueId {
        let weight = self.uniform(&format!("{name}.weight"), &[inputs, outputs], inputs);
        let bias = self.uniform(&format!("{name}.bias"), &[outputs], inputs);
        let product = self.op(&format!("{name}.product"), MatMul, &[x, weight]);
        self.op(name, Binary::Add, &[product, bias])
    }

    /// [N, 128, 384] → [N, 12, …] with the axes that `perm` picks of [N, 128, 12, 32].
    fn heads(&mut self, name: &str, x: ValueId, perm: [usize; 4]) -> ValueId {
        let shape = self.ints(&format!("{name}.shape"), &[0, 0, HEADS as i64, HEAD as i64]);
        let split = self.op(&format!("{name}.split"), Reshape { allow_zero: false }, &[x, shape]);
        self.op(&format!("{name}.heads"), Transpose { perm: Some(perm.to_vec()) }, &[split])
    }

    /// softmax(q · kᵀ / √32) · v in each head, then a linear layer.
    fn attention(&mut self, x: ValueId) -> ValueId {
        let joined = self.linear("attention.qkv", x, WIDTH, 3 * WIDTH);
        let sizes = self.ints("attention.sizes", &[WIDTH as i64; 3]);
        let split = Split { axis: -1, sizes: None, num_outputs: None };
        let qkv = self.builder.nodes("attention.split", split, &[joined, sizes], &["attention.q", "attention.k", "attention.v"]);
        let q = self.heads("attention.q", qkv[0], [0, 2, 1, 3]);
        let k = self.heads("attention.k", qkv[1], [0, 2, 3, 1]);
        let v = self.heads("attention.v", qkv[2], [0, 2, 1, 3]);

        let products = self.op("attention.products", MatMul, &[q, k]);
        let factor = self.builder.tensor("attention.factor", Tensor::scalar(1.0 / (HEAD as f32).sqrt()));
        let scores = self.op("attention.scores", Binary::Mul, &[products, factor]);
        let shares = self.op("attention.shares", Softmax { log: false, axis: Some(-1) }, &[scores]);
        let mixed = self.op("attention.mixed", MatMul, &[shares, v]);

        let behind = self.op("attention.behind", Transpose { perm: Some(vec![0, 2, 1, 3]) }, &[mixed]);
        let shape = self.ints("attention.shape", &[0, 0, WIDTH as i64]);
        let rows = self.op("attention.rows", Reshape { allow_zero: false }, &[behind, shape]);
        self.linear("attention.out", rows, WIDTH, WIDTH)
    }

    /// Mean over the sequence and one linear layer.
    fn classifier(&mut self, x: ValueId, classes: usize) -> ValueId {
        let axes = self.ints("mean.axes", &[1]);
        let mean = Reduce { kind: ReduceKind::Mean, axes: None, keepdims: false, noop_with_empty_axes: false };
        let mean = self.op("mean", mean, &[x, axes]);
        let weight = self.uniform("classifier.weight", &[classes, WIDTH], WIDTH);
        let bias = self.uniform("classifier.bias", &[classes], WIDTH);
        self.op("logits", Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }, &[mean, weight, bias])
    }
}
