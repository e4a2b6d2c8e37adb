//! Graphs in which channels go together in ways of their own.

use penjing_graph::ops::{
    Activation, AveragePool, BatchNormalization, Binary, Concat, Conv, ConvTranspose, DepthToSpace, DequantizeLinear, Expand, Flatten,
    Gather, Gemm, GlobalPool, LayerNormalization, MatMul, MaxPool, Op, Pad, PadMode, QLinearConv, QLinearMatMul, QuantizeLinear, Reduce,
    ReduceKind, Reshape, Shape, Slice, Softmax, Split, Tile, Transpose, Unary, Window,
};
use penjing_graph::{DataType, Dim, Element, Graph, GraphBuilder, Tensor, ValueId};

/// Scale of what flows between quantized layers.
const ROUNDED_TO: f32 = 0.0625;

/// Numbers of both signs that look random.
pub(crate) fn numbers(dims: &[usize], seed: usize) -> Tensor {
    let count = dims.iter().product::<usize>();
    Tensor::new(dims, (0..count).map(|i| ((i * 37 + seed * 11) as f32 * 0.61).sin() * 0.5).collect())
}

/// Layers of a network, each with weights of its own.
struct Net {
    b: GraphBuilder,
    count: usize,
}

impl Net {
    fn new(name: &str) -> Net {
        Net { b: GraphBuilder::new(name), count: 0 }
    }

    fn image(&mut self, channels: usize, side: usize) -> ValueId {
        self.b.input("x", DataType::Float, [Dim::symbol("N"), channels.into(), side.into(), side.into()])
    }

    fn tokens(&mut self, width: usize) -> ValueId {
        self.b.input("x", DataType::Float, [Dim::symbol("N"), Dim::symbol("S"), width.into()])
    }

    fn label(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{what}{}", self.count)
    }

    fn tensor(&mut self, dims: &[usize]) -> ValueId {
        let name = self.label("w");
        let tensor = numbers(dims, self.count);
        self.b.tensor(&name, tensor)
    }

    fn ints(&mut self, values: &[i64]) -> ValueId {
        let name = self.label("i");
        self.b.tensor(&name, Tensor::new([values.len()], values.to_vec()))
    }

    fn op(&mut self, what: &str, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        let name = self.label(what);
        self.b.node(&name, op, inputs)
    }

    fn conv(&mut self, x: ValueId, from: usize, to: usize, side: usize, group: usize) -> ValueId {
        let (w, bias) = (self.tensor(&[to, from / group, side, side]), self.tensor(&[to]));
        let pad = (side / 2) as i64;
        let window = Window { pads: vec![pad; 4], ..Window::default() };
        self.op("conv", Conv { window, group }, &[x, w, bias])
    }

    fn norm(&mut self, x: ValueId, channels: usize) -> ValueId {
        let parameters: Vec<ValueId> = (0..3).map(|_| self.tensor(&[channels])).collect();
        let name = self.label("variance");
        let variance = self.b.tensor(&name, Tensor::new([channels], (0..channels).map(|i| 0.5 + 0.1 * i as f32).collect()));
        let norm = BatchNormalization { epsilon: 1e-5, momentum: 0.9, training_mode: false };
        self.op("norm", norm, &[x, parameters[0], parameters[1], parameters[2], variance])
    }

    fn relu(&mut self, x: ValueId) -> ValueId {
        self.op("relu", Activation::Relu, &[x])
    }

    /// x [.., from] · w + bias
    fn linear(&mut self, x: ValueId, from: usize, to: usize) -> ValueId {
        let (w, bias) = (self.tensor(&[from, to]), self.tensor(&[to]));
        let product = self.op("linear", MatMul, &[x, w]);
        self.op("biased", Binary::Add, &[bias, product])
    }

    fn layer_norm(&mut self, x: ValueId, width: usize) -> ValueId {
        let (scale, bias) = (self.tensor(&[width]), self.tensor(&[width]));
        self.op("layer_norm", LayerNormalization { axis: -1, epsilon: 1e-5, stash_type: 1 }, &[x, scale, bias])
    }

    fn reshape(&mut self, x: ValueId, shape: &[i64]) -> ValueId {
        let shape = self.ints(shape);
        self.op("reshape", Reshape { allow_zero: false }, &[x, shape])
    }

    fn transpose(&mut self, x: ValueId, perm: &[usize]) -> ValueId {
        self.op("transpose", Transpose { perm: Some(perm.to_vec()) }, &[x])
    }

    /// Mean over the map, then a product that gives 3 classes.
    fn classify(&mut self, x: ValueId, channels: usize) -> ValueId {
        let pooled = self.op("pool", GlobalPool::Average, &[x]);
        let flat = self.op("flat", Flatten { axis: 1 }, &[pooled]);
        self.gemm(flat, channels, 3)
    }

    fn gemm(&mut self, x: ValueId, from: usize, to: usize) -> ValueId {
        let (w, bias) = (self.tensor(&[to, from]), self.tensor(&[to]));
        self.op("gemm", Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }, &[x, w, bias])
    }

    fn scalar<T: Element>(&mut self, value: T) -> ValueId {
        let name = self.label("s");
        self.b.tensor(&name, Tensor::scalar(value))
    }

    /// Codes from −15 to 15.
    fn codes(&mut self, dims: &[usize]) -> ValueId {
        let name = self.label("codes");
        let numbers = numbers(dims, self.count);
        let codes = numbers.to_f32().iter().flat_map(|n| n.iter()).map(|n| (n * 31.0) as i8).collect();
        self.b.tensor(&name, Tensor::new(dims, codes))
    }

    /// Powers of two, so that products of codes and scales, and their sums, are exact in any order.
    fn scales(&mut self, count: usize, of: f32) -> ValueId {
        let name = self.label("scales");
        self.b.tensor(&name, Tensor::new([count], (0..count).map(|i| of / [32.0, 64.0, 128.0][i % 3]).collect()))
    }

    /// Codes with the scale 1/16 and the zero point 3, and back.
    fn rounded(&mut self, x: ValueId) -> ValueId {
        let parameters = [self.scalar(ROUNDED_TO), self.scalar(3i8)];
        let codes = self.op("codes", QuantizeLinear::default(), &[x, parameters[0], parameters[1]]);
        self.op("back", DequantizeLinear::default(), &[codes, parameters[0], parameters[1]])
    }

    /// A convolution whose weight is of codes with a scale for each channel, its bias of 32 bits.
    fn conv_of_codes(&mut self, x: ValueId, from: usize, to: usize, side: usize, group: usize) -> ValueId {
        let by_channel = DequantizeLinear { axis: 0, ..DequantizeLinear::default() };
        let (codes, scales) = (self.codes(&[to, from / group, side, side]), self.scales(to, 1.0));
        let zeros = self.b.tensor(&format!("zeros{}", self.count), Tensor::new([to], vec![0i8; to]));
        let w = self.op("weight", by_channel, &[codes, scales, zeros]);
        let scales = self.scales(to, ROUNDED_TO);
        let bias = self.b.tensor(&format!("bias{}", self.count), Tensor::new([to], (0..to as i32).map(|i| 40 * (i % 5) - 60).collect()));
        let bias = self.op("bias", by_channel, &[bias, scales]);
        let window = Window { pads: vec![(side / 2) as i64; 4], ..Window::default() };
        self.op("conv", Conv { window, group }, &[x, w, bias])
    }

    fn finish(self, y: ValueId) -> Graph {
        self.b.output(y).finish().expect("valid")
    }
}

/// Every layer reads what all before it gave.
fn densenet() -> Graph {
    let mut n = Net::new("densenet");
    let x = n.image(3, 8);
    let mut all = n.conv(x, 3, 6, 3, 1);
    let mut width = 6;
    for _ in 0..3 {
        let normed = n.norm(all, width);
        let active = n.relu(normed);
        let grown = n.conv(active, width, 4, 3, 1);
        all = n.op("concat", Concat { axis: 1 }, &[all, grown]);
        width += 4;
    }
    let y = n.classify(all, width);
    n.finish(y)
}

/// Grouped convolutions whose groups exchange channels.
fn channel_shuffle() -> Graph {
    let mut n = Net::new("shufflenet");
    let x = n.image(4, 6);
    let mut h = n.conv(x, 4, 12, 1, 1);
    for _ in 0..2 {
        h = n.conv(h, 12, 12, 1, 2);
        let groups = n.reshape(h, &[0, 2, 6, 6, 6]);
        let shuffled = n.transpose(groups, &[0, 2, 1, 3, 4]);
        h = n.reshape(shuffled, &[0, 12, 6, 6]);
        let depthwise = n.conv(h, 12, 12, 3, 12);
        h = n.relu(depthwise);
        h = n.conv(h, 12, 12, 1, 2);
    }
    let y = n.classify(h, 12);
    n.finish(y)
}

/// The second ShuffleNet: halves of the channels, one of which is left alone.
fn split_shuffle() -> Graph {
    let mut n = Net::new("shufflenet-v2");
    let x = n.image(3, 6);
    let mut h = n.conv(x, 3, 8, 3, 1);
    for _ in 0..2 {
        let sizes = n.ints(&[4, 4]);
        let halves = n.b.nodes(
            &format!("split{}", n.count),
            Split { axis: 1, sizes: None, num_outputs: None },
            &[h, sizes],
            &[&format!("left{}", n.count), &format!("right{}", n.count)],
        );
        let right = n.conv(halves[1], 4, 4, 1, 1);
        let right = n.conv(right, 4, 4, 3, 4);
        let joined = n.op("concat", Concat { axis: 1 }, &[halves[0], right]);
        let groups = n.reshape(joined, &[0, 2, 4, 6, 6]);
        let shuffled = n.transpose(groups, &[0, 2, 1, 3, 4]);
        h = n.reshape(shuffled, &[0, 8, 6, 6]);
    }
    let y = n.classify(h, 8);
    n.finish(y)
}

/// Grouped convolution between two that mix the groups, around a shortcut.
fn resnext() -> Graph {
    let mut n = Net::new("resnext");
    let x = n.image(3, 6);
    let mut h = n.conv(x, 3, 8, 3, 1);
    for group in [6, 2] {
        let a = n.conv(h, 8, 12, 1, 1);
        let a = n.norm(a, 12);
        let a = n.relu(a);
        let b = n.conv(a, 12, 12, 3, group);
        let b = n.relu(b);
        let c = n.conv(b, 12, 8, 1, 1);
        h = n.op("add", Binary::Add, &[h, c]);
    }
    let y = n.classify(h, 8);
    n.finish(y)
}

/// Branches of their own widths, side by side.
fn inception() -> Graph {
    let mut n = Net::new("inception");
    let x = n.image(3, 8);
    let stem = n.conv(x, 3, 6, 3, 1);
    let a = n.conv(stem, 6, 4, 1, 1);
    let b = n.conv(stem, 6, 3, 1, 1);
    let b = n.conv(b, 3, 5, 3, 1);
    let window = Window { kernel: vec![3, 3], pads: vec![1; 4], ..Window::default() };
    let c = n.op("max", MaxPool { window: window.clone(), ceil_mode: false, storage_order: 0 }, &[stem]);
    let d = n.op("mean", AveragePool { window, ceil_mode: false, count_include_pad: false }, &[stem]);
    let d = n.conv(d, 6, 2, 1, 1);
    let all = n.op("concat", Concat { axis: 1 }, &[a, b, c, d]);
    let h = n.conv(all, 17, 7, 1, 1);
    let y = n.classify(h, 7);
    n.finish(y)
}

/// Down and up again, with the map before joined to the map after.
fn unet() -> Graph {
    let mut n = Net::new("unet");
    let x = n.image(3, 8);
    let top = n.conv(x, 3, 6, 3, 1);
    let top = n.relu(top);
    let window = Window { kernel: vec![2, 2], strides: vec![2, 2], ..Window::default() };
    let low = n.op("max", MaxPool { window, ceil_mode: false, storage_order: 0 }, &[top]);
    let low = n.conv(low, 6, 10, 3, 1);
    let low = n.relu(low);
    let (w, bias) = (n.tensor(&[10, 5, 2, 2]), n.tensor(&[5]));
    let window = Window { strides: vec![2, 2], ..Window::default() };
    let op = ConvTranspose { window: window.clone(), group: 1, output_padding: vec![], output_shape: vec![] };
    let up = n.op("up", op.clone(), &[low, w, bias]);
    let joined = n.op("concat", Concat { axis: 1 }, &[up, top]);
    let mixed = n.conv(joined, 11, 4, 3, 1);
    // Once more, in groups.
    let w = n.tensor(&[4, 3, 2, 2]);
    let wide = n.op("wide", ConvTranspose { group: 2, ..op }, &[mixed, w]);
    let y = n.conv(wide, 6, 2, 1, 1);
    n.finish(y)
}

/// Channels scaled by what their means say.
fn squeeze_and_excite() -> Graph {
    let mut n = Net::new("squeeze-and-excite");
    let x = n.image(3, 6);
    let h = n.conv(x, 3, 10, 3, 1);
    let squeezed =
        n.op("mean", Reduce { kind: ReduceKind::Mean, axes: Some(vec![2, 3]), keepdims: true, noop_with_empty_axes: false }, &[h]);
    let small = n.conv(squeezed, 10, 4, 1, 1);
    let small = n.relu(small);
    let wide = n.conv(small, 4, 10, 1, 1);
    let gate = n.op("gate", Activation::Sigmoid, &[wide]);
    let scaled = n.op("scaled", Binary::Mul, &[h, gate]);
    let y = n.classify(scaled, 10);
    n.finish(y)
}

/// A mask of one channel, made by the network itself, multiplies all of them.
fn spatial_mask() -> Graph {
    let mut n = Net::new("spatial-mask");
    let x = n.image(3, 6);
    let h = n.conv(x, 3, 8, 3, 1);
    let mask = n.conv(h, 8, 1, 3, 1);
    let mask = n.op("mask", Activation::Sigmoid, &[mask]);
    let masked = n.op("masked", Binary::Mul, &[mask, h]);
    let y = n.classify(masked, 8);
    n.finish(y)
}

/// Maps flattened channel by channel before a product; the same weights then twice.
fn flattened() -> Graph {
    let mut n = Net::new("flattened");
    let x = n.image(2, 4);
    let h = n.conv(x, 2, 5, 3, 1);
    let flat = n.op("flat", Flatten { axis: 1 }, &[h]);
    let h = n.gemm(flat, 80, 6);
    let h = n.relu(h);
    let (w, bias) = (n.tensor(&[6, 6]), n.tensor(&[6]));
    let shared = Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false };
    let once = n.op("once", shared, &[h, w, bias]);
    let twice = n.op("twice", shared, &[once, w, bias]);
    let y = n.gemm(twice, 6, 3);
    n.finish(y)
}

/// Maps flattened with the channels last, as networks from TensorFlow have it.
fn flattened_channels_last() -> Graph {
    let mut n = Net::new("flattened-channels-last");
    let x = n.image(2, 4);
    let h = n.conv(x, 2, 5, 3, 1);
    let last = n.transpose(h, &[0, 2, 3, 1]);
    let flat = n.reshape(last, &[-1, 80]);
    let h = n.gemm(flat, 80, 6);
    let y = n.gemm(h, 6, 3);
    n.finish(y)
}

/// Channels split, sliced, padded, repeated, picked by number and folded into space.
fn cut_and_joined() -> Graph {
    let mut n = Net::new("cut-and-joined");
    let x = n.image(3, 4);
    let h = n.conv(x, 3, 12, 3, 1);
    let (starts, ends, axes) = (n.ints(&[2]), n.ints(&[-1]), n.ints(&[1]));
    let middle = n.op("slice", Slice { bounds: None }, &[h, starts, ends, axes]);
    let pads = n.ints(&[0, 2, 0, 0, 0, 1, 0, 0]);
    let padded = n.op("pad", Pad { mode: PadMode::Constant, pads: None, value: None }, &[middle, pads]);
    let sum = n.op("add", Binary::Add, &[padded, h]);
    let picked = n.ints(&[11, 0, 5, 5, 3, 2, 8, 1]);
    let gathered = n.op("gather", Gather { axis: 1 }, &[sum, picked]);
    let repeats = n.ints(&[1, 2, 1, 1]);
    let tiled = n.op("tile", Tile, &[gathered, repeats]);
    let spread = n.op("depth_to_space", DepthToSpace { block_size: 2, crd: false }, &[tiled]);
    let h = n.conv(spread, 4, 6, 1, 1);
    let y = n.classify(h, 6);
    n.finish(y)
}

struct Heads {
    heads: usize,
    size: usize,
}

/// Attention over x [N, S, width] of projections [N, S, heads·size].
fn attention(n: &mut Net, [q, k, v]: [ValueId; 3], Heads { heads, size }: Heads) -> ValueId {
    let shape = [0, 0, heads as i64, size as i64];
    let apart = |n: &mut Net, x: ValueId, perm: &[usize]| {
        let folded = n.reshape(x, &shape);
        n.transpose(folded, perm)
    };
    let (q, k, v) = (apart(n, q, &[0, 2, 1, 3]), apart(n, k, &[0, 2, 3, 1]), apart(n, v, &[0, 2, 1, 3]));
    let scores = n.op("scores", MatMul, &[q, k]);
    let root = n.label("root");
    let root = n.b.tensor(&root, Tensor::scalar((size as f32).sqrt()));
    let scaled = n.op("scaled", Binary::Div, &[scores, root]);
    let weights = n.op("softmax", Softmax { log: false, axis: Some(-1) }, &[scaled]);
    let mixed = n.op("mixed", MatMul, &[weights, v]);
    let together = n.transpose(mixed, &[0, 2, 1, 3]);
    n.reshape(together, &[0, 0, (heads * size) as i64])
}

fn feed_forward(n: &mut Net, x: ValueId, width: usize) -> ValueId {
    let h = n.linear(x, width, 2 * width);
    let root = n.label("half");
    let root = n.b.tensor(&root, Tensor::scalar(0.5f32.sqrt()));
    let scaled = n.op("scaled", Binary::Mul, &[h, root]);
    let erf = n.op("erf", Unary::Erf, &[scaled]);
    let gelu = n.op("gelu", Binary::Mul, &[h, erf]);
    n.linear(gelu, 2 * width, width)
}

/// An encoder layer with a product for each of query, key and value.
fn transformer() -> Graph {
    let mut n = Net::new("transformer");
    let width = 12;
    let x = n.tokens(width);
    let projected = [0; 3].map(|_| n.linear(x, width, width));
    let mixed = attention(&mut n, projected, Heads { heads: 4, size: 3 });
    let out = n.linear(mixed, width, width);
    let sum = n.op("sum", Binary::Add, &[x, out]);
    let h = n.layer_norm(sum, width);
    let fed = feed_forward(&mut n, h, width);
    let sum = n.op("sum", Binary::Add, &[h, fed]);
    let h = n.layer_norm(sum, width);
    let y = n.linear(h, width, 2);
    n.finish(y)
}

/// The same with one product for all three, split by number.
fn fused_transformer() -> Graph {
    let mut n = Net::new("fused-transformer");
    let (width, heads, size) = (12, 4, 3);
    let x = n.tokens(width);
    let all = n.linear(x, width, 3 * width);
    let folded = n.reshape(all, &[0, 0, 3, heads, size]);
    let first = n.transpose(folded, &[2, 0, 3, 1, 4]);
    let mut parts = vec![];
    for i in 0..3 {
        let index = n.label("index");
        let index = n.b.tensor(&index, Tensor::scalar(i as i64));
        parts.push(n.op("part", Gather { axis: 0 }, &[first, index]));
    }
    let k = n.transpose(parts[1], &[0, 1, 3, 2]);
    let scores = n.op("scores", MatMul, &[parts[0], k]);
    let weights = n.op("softmax", Softmax { log: false, axis: Some(-1) }, &[scores]);
    let mixed = n.op("mixed", MatMul, &[weights, parts[2]]);
    let together = n.transpose(mixed, &[0, 2, 1, 3]);
    let together = n.reshape(together, &[0, 0, width as i64]);
    let out = n.linear(together, width, width);
    let sum = n.op("sum", Binary::Add, &[x, out]);
    let y = n.layer_norm(sum, width);
    n.finish(y)
}

/// Patches of an image as tokens, a learned class token before them, shapes spelled out as exporters do.
fn vision_transformer() -> Graph {
    let mut n = Net::new("vision-transformer");
    let width = 8;
    let x = n.image(3, 8);
    let (w, bias) = (n.tensor(&[width, 3, 4, 4]), n.tensor(&[width]));
    let window = Window { strides: vec![4, 4], ..Window::default() };
    let patches = n.op("patches", Conv { window, group: 1 }, &[x, w, bias]);
    let shape = n.op("shape", Shape { start: 0, end: None }, &[patches]);
    let first = n.ints(&[0]);
    let batch = n.op("batch", Gather { axis: 0 }, &[shape, first]);
    let rest = n.ints(&[width as i64, -1]);
    let target = n.op("target", Concat { axis: 0 }, &[batch, rest]);
    let tokens = n.op("tokens", Reshape { allow_zero: false }, &[patches, target]);
    let tokens = n.transpose(tokens, &[0, 2, 1]);
    let class = n.tensor(&[1, 1, width]);
    let rest = n.ints(&[1, width as i64]);
    let target = n.op("target", Concat { axis: 0 }, &[batch, rest]);
    let class = n.op("class", Expand, &[class, target]);
    let all = n.op("concat", Concat { axis: 1 }, &[class, tokens]);
    let positions = n.tensor(&[1, 5, width]);
    let h = n.op("positioned", Binary::Add, &[all, positions]);
    let projected = [0; 3].map(|_| n.linear(h, width, 6));
    let mixed = attention(&mut n, projected, Heads { heads: 3, size: 2 });
    let out = n.linear(mixed, 6, width);
    let h = n.op("sum", Binary::Add, &[h, out]);
    let fed = feed_forward(&mut n, h, width);
    let h = n.op("sum", Binary::Add, &[h, fed]);
    let index = n.b.tensor("class.index", Tensor::scalar(0i64));
    let class = n.op("picked", Gather { axis: 1 }, &[h, index]);
    let y = n.gemm(class, width, 3);
    n.finish(y)
}

/// Weights and what flows between layers as codes and back, as networks for integer kernels are written.
fn quantized() -> Graph {
    let mut n = Net::new("quantized");
    let x = n.image(3, 6);
    let h = n.rounded(x);
    let h = n.conv_of_codes(h, 3, 8, 3, 1);
    let h = n.relu(h);
    let h = n.rounded(h);
    let side = n.conv_of_codes(h, 8, 8, 3, 8);
    let side = n.rounded(side);
    let sum = n.op("sum", Binary::Add, &[h, side]);
    let h = n.rounded(sum);
    let h = n.conv_of_codes(h, 8, 6, 1, 1);
    let y = n.classify(h, 6);
    n.finish(y)
}

/// Convolutions and a product that read and give codes.
fn of_integers() -> Graph {
    let mut n = Net::new("of-integers");
    let x = n.image(3, 4);
    let (scale, zero) = (n.scalar(ROUNDED_TO), n.scalar(3i8));
    let mut h = n.op("codes", QuantizeLinear::default(), &[x, scale, zero]);
    for (from, to, group) in [(3, 8, 1), (8, 8, 8), (8, 6, 1)] {
        let (codes, scales) = (n.codes(&[to, from / group, 3, 3]), n.scales(to, 1.0));
        let zeros = n.b.tensor(&format!("zeros{}", n.count), Tensor::new([to], vec![0i8; to]));
        let window = Window { pads: vec![1; 4], ..Window::default() };
        h = n.op("conv", QLinearConv { window, group }, &[h, scale, zero, codes, scales, zeros, scale, zero]);
    }
    let tokens = n.reshape(h, &[0, 6, 16]);
    let last = n.transpose(tokens, &[0, 2, 1]);
    let (codes, one, none) = (n.codes(&[6, 5]), n.scalar(0.0625f32), n.scalar(0i8));
    let mixed = n.op("mixed", QLinearMatMul, &[last, scale, zero, codes, one, none, scale, zero]);
    let numbers = n.op("back", DequantizeLinear::default(), &[mixed, scale, zero]);
    let y = n.linear(numbers, 5, 3);
    n.finish(y)
}

/// A weight of 4 bits whose blocks along the axis that is added up have their own scales.
fn four_bits() -> Graph {
    let mut n = Net { b: GraphBuilder::with_opset("four-bits", 21), count: 0 };
    let x = n.tokens(8);
    let codes: Vec<u8> = (0..96).map(|i| (i * 7 % 16) as u8).collect();
    let codes = n.b.tensor("codes", Tensor::from_codes(DataType::Int4, [8, 12], &codes).expect("codes"));
    let scales = n.tensor(&[2, 12]);
    let w = n.op("weight", DequantizeLinear { axis: 0, block_size: 4, output_dtype: None }, &[codes, scales]);
    let h = n.op("product", MatMul, &[x, w]);
    let h = n.relu(h);
    let y = n.linear(h, 12, 3);
    n.finish(y)
}

/// What a network gives in the middle is asked for too.
fn inner_output() -> Graph {
    let mut n = Net::new("inner-output");
    let x = n.image(3, 4);
    let a = n.conv(x, 3, 6, 3, 1);
    let a = n.relu(a);
    let b = n.conv(a, 6, 5, 3, 1);
    let y = n.conv(b, 5, 2, 1, 1);
    n.b.output(a).output(y).finish().expect("valid")
}

/// A normalisation over channels that is not one of the network's own operators stands in the middle; `Softmax` stands in
/// for it, so that the graph can be built.
pub(crate) fn before_unknown_operator() -> Graph {
    let mut n = Net::new("unknown-operator");
    let x = n.image(3, 4);
    let a = n.conv(x, 3, 6, 3, 1);
    let b = n.conv(a, 6, 4, 1, 1);
    let unknown = n.op("unknown", Softmax { log: false, axis: Some(1) }, &[b]);
    let c = n.conv(unknown, 4, 5, 1, 1);
    let y = n.classify(c, 5);
    n.finish(y)
}

/// Every graph that this executor can run.
pub(crate) fn all() -> Vec<Graph> {
    vec![
        densenet(),
        channel_shuffle(),
        split_shuffle(),
        resnext(),
        inception(),
        unet(),
        squeeze_and_excite(),
        spatial_mask(),
        flattened(),
        flattened_channels_last(),
        cut_and_joined(),
        transformer(),
        fused_transformer(),
        vision_transformer(),
        inner_output(),
        quantized(),
        of_integers(),
        four_bits(),
    ]
}
