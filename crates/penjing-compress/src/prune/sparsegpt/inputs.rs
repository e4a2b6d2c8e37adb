//! What a layer multiplies its matrix with, laid out as rows of as many numbers as the matrix has columns.

use penjing_graph::ops::{Op, WindowAxis};
use penjing_graph::{Graph, Tensor, ValueId};

use crate::prune::{FeatureAxis, Layer};

/// The inputs of a layer. Layers that are equal in this see the same numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Inputs {
    value: ValueId,
    columns: usize,
    groups: usize,
    layout: Layout,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layout {
    /// Every element but for the features is a sample of its own.
    Features(FeatureAxis),
    /// Windows of a convolution of this spatial kernel; the name of its node tells it from others.
    Windows { node: String, kernel: Vec<usize>, input: Vec<usize>, axes: Vec<AxisSteps> },
}

/// A [`WindowAxis`] in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct AxisSteps {
    stride: usize,
    dilation: usize,
    begin: i64,
    output: usize,
}

impl Inputs {
    /// The inputs of a layer, or why they are no matrix.
    pub(crate) fn of(graph: &Graph, layer: &Layer<'_>) -> Result<Inputs, String> {
        let matrix = layer.matrix.as_ref().ok_or("the graph changes its form before it is used")?;
        let node = graph.node(matrix.node());
        let (value, features) = matrix.input();
        let dims = graph.tensor(layer.id).map(Tensor::dims).unwrap_or_default();
        let layout = match &node.op {
            Op::Gemm(_) | Op::MatMul(_) if dims.len() <= 2 => Layout::Features(features),
            Op::Gemm(_) | Op::MatMul(_) => return Err("it holds several matrices, each with inputs of its own".into()),
            Op::Conv(conv) => {
                let shape = graph.value(value).shape.as_deref().unwrap_or_default();
                let input = shape.iter().skip(2).map(|d| d.fixed()).collect::<Option<Vec<usize>>>();
                let input = input.filter(|input| !input.is_empty()).ok_or("the size of its input is not known")?;
                let kernel = dims.get(2..).unwrap_or_default().to_vec();
                let axes = conv.window.axes(&input, &kernel, false)?.into_iter().map(AxisSteps::from).collect();
                Layout::Windows { node: node.name.clone(), kernel, input, axes }
            }
            other => return Err(format!("the inputs of a {} are not laid out as a matrix", other.op_type())),
        };
        Ok(Inputs { value, columns: matrix.columns(), groups: matrix.groups(), layout })
    }

    /// The value that holds them.
    pub(crate) fn value(&self) -> ValueId {
        self.value
    }

    /// Numbers in a row.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Groups of the convolution, each with rows of its own.
    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    /// For each group the rows of one batch, one after the other; of each sample of a convolution so many windows, evenly spaced where
    /// there are more.
    pub(crate) fn rows(&self, value: &Tensor, most_windows: usize) -> Vec<Vec<f32>> {
        let Some(elements) = value.to_f32() else { return vec![] };
        match &self.layout {
            Layout::Features(features) => features.of_rank(value.dims().len()).map_or(vec![], |axis| {
                let inner: usize = value.dims()[axis + 1..].iter().product();
                let outer = elements.chunks_exact((inner * self.columns).max(1));
                vec![outer.flat_map(|part| (0..inner).flat_map(move |i| part.iter().skip(i).step_by(inner).copied())).collect()]
            }),
            Layout::Windows { kernel, input, axes, .. } => {
                let channels = value.dims()[1];
                let samples = || elements.chunks_exact((channels * input.iter().product::<usize>()).max(1));
                let group = |group| samples().flat_map(|x| self.windows(x, group, (kernel, input, axes), most_windows)).collect();
                (0..self.groups).map(group).collect()
            }
        }
    }

    /// Windows of one sample [C, D1…], as rows of positions and, at each, the channels of the group.
    fn windows(&self, x: &[f32], group: usize, (kernel, input, axes): (&[usize], &[usize], &[AxisSteps]), most: usize) -> Vec<f32> {
        let (cells, windows) = (input.iter().product::<usize>(), axes.iter().map(|axis| axis.output).product::<usize>());
        let positions: usize = kernel.iter().product();
        let channels = self.columns / positions.max(1);
        let mut rows = vec![];
        for window in (0..windows).step_by(windows.div_ceil(most.max(1)).max(1)) {
            for position in 0..positions {
                let cell = cell(window, position, kernel, input, axes);
                rows.extend((0..channels).map(|c| cell.map_or(0.0, |cell| x[(group * channels + c) * cells + cell])));
            }
        }
        rows
    }
}

/// The cell of the input that a position of the kernel lies on; `None` in the padding.
fn cell(window: usize, position: usize, kernel: &[usize], input: &[usize], axes: &[AxisSteps]) -> Option<usize> {
    let (mut window, mut position, mut cell, mut stride) = (window, position, 0, 1);
    for ((size, steps), cells) in kernel.iter().zip(axes).zip(input).rev() {
        let (w, p) = (window % steps.output, position % size);
        let at = usize::try_from((w * steps.stride + p * steps.dilation) as i64 - steps.begin).ok().filter(|at| at < cells)?;
        cell += at * stride;
        (window, position, stride) = (window / steps.output, position / size, stride * cells);
    }
    Some(cell)
}

impl From<WindowAxis> for AxisSteps {
    fn from(axis: WindowAxis) -> AxisSteps {
        AxisSteps { stride: axis.stride, dilation: axis.dilation, begin: axis.begin, output: axis.output }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::layers;
    use penjing_exec::cpu_executor;
    use penjing_graph::ops::{Conv, Gemm, Window};
    use penjing_graph::{DataType, GraphBuilder};

    /// The law of the layout: every row times every row of the matrix is what the operator gives.
    fn check(op: impl Into<Op>, x: &[usize], w: &[usize]) {
        let numbers = |dims: &[usize]| (0..dims.iter().product::<usize>()).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<f32>>();
        let mut b = GraphBuilder::new("one");
        let input = b.input("x", DataType::Float, x.iter().map(|d| (*d).into()).collect::<Vec<_>>());
        let weight = b.tensor("w", Tensor::new(w, numbers(w)));
        let y = b.node("y", op, &[input, weight]);
        let graph = b.output(y).finish().expect("valid");
        let layer = layers(&graph).expect("a layer").remove(0);
        let matrix = layer.matrix.as_ref().expect("a matrix");
        let value = Tensor::new(x, numbers(x));
        let expected = cpu_executor(&graph).expect("runs").run(std::slice::from_ref(&value), graph.outputs()).expect("ran").remove(0);
        let inputs = Inputs::of(&graph, &layer).expect("a layout");
        let weights = matrix.gather(&layer.values);
        let share = matrix.rows() / matrix.groups();
        let mut products: Vec<f32> = vec![];
        for (group, rows) in inputs.rows(&value, 256).iter().enumerate() {
            for row in weights.chunks(matrix.columns()).skip(group * share).take(share) {
                products.extend(rows.chunks(matrix.columns()).map(|x| x.iter().zip(row).map(|(x, w)| x * w).sum::<f32>()));
            }
        }
        let expected = expected.to_f32().expect("floats");
        // The products come by output, then by window or sample: [M, N]; the convolutions here have one sample.
        let transposed = matches!(graph.node(matrix.node()).op, Op::Gemm(_));
        for (i, product) in products.iter().enumerate() {
            let samples = products.len() / matrix.rows();
            let at = if transposed { i % samples * matrix.rows() + i / samples } else { i };
            assert!((product - expected[at]).abs() < 1e-5, "{i}: {product} and {}", expected[at]);
        }
        assert_eq!(products.len(), expected.len());
    }

    #[test]
    fn rows_times_matrix_is_the_operator() {
        check(Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }, &[5, 3], &[2, 3]);
        check(Gemm { alpha: 1.0, beta: 1.0, trans_a: true, trans_b: false }, &[3, 5], &[3, 2]);
        let window = Window { pads: vec![1, 0, 0, 1], strides: vec![1, 2], dilations: vec![2, 1], ..Window::default() };
        check(Conv { window: window.clone(), group: 1 }, &[1, 3, 6, 5], &[4, 3, 2, 3]);
        check(Conv { window, group: 2 }, &[1, 4, 6, 5], &[6, 2, 2, 3]);
    }
}
