//! A weight as the matrix that its operator multiplies with, wherever the file keeps its elements.

use std::collections::BTreeMap;

use penjing_graph::ops::Op;
use penjing_graph::{Graph, NodeId, ValueId};

/// A weight as a matrix [out, in] whose rows each give one output and whose columns run along what the operator sums over.
///
/// | operator | row | column |
/// |---|---|---|
/// | `Conv` [M, C/g, k…] | output channel | position in the kernel, then input channel |
/// | `ConvTranspose` [C, M/g, k…] | output channel | position in the kernel, then input channel |
/// | `Gemm`, `MatMul` [K, N] | n | k, however the weight is transposed |
/// | `MatMul` [B, K, N] | b, then n | k |
#[derive(Clone, Debug, PartialEq)]
pub struct WeightMatrix {
    /// Where each row begins among the elements of the weight.
    rows: Vec<usize>,
    /// What each column adds to that.
    columns: Vec<usize>,
    /// Columns that follow one another along the input features, at one position of the kernel.
    run: usize,
    /// Groups of a convolution: each has its own rows and input features.
    groups: usize,
    /// What the weight is multiplied with.
    input: ValueId,
    /// The axis of the input that features lie along.
    features: FeatureAxis,
    node: NodeId,
}

/// The axis of an operator's input that its sum runs along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FeatureAxis {
    /// Counted from the first, from 0.
    Front(usize),
    /// Counted from the last, from 1. A vector has only one.
    Back(usize),
}

impl FeatureAxis {
    /// The axis of an input of that rank; `None` where there is none.
    pub fn of_rank(self, rank: usize) -> Option<usize> {
        match self {
            FeatureAxis::Front(axis) => (axis < rank).then_some(axis),
            FeatureAxis::Back(_) if rank == 1 => Some(0),
            FeatureAxis::Back(axis) => rank.checked_sub(axis),
        }
    }
}

/// A dimension of the weight and the distance between its elements.
type Axis = (usize, usize);

impl WeightMatrix {
    /// The weight `id` as the first operator that reads it multiplies with it, through transpositions. `None` where the graph
    /// reshapes or casts it first.
    pub fn of(graph: &Graph, consumers: &BTreeMap<ValueId, Vec<NodeId>>, id: ValueId) -> Option<WeightMatrix> {
        let dims = graph.tensor(id)?.dims();
        let strides = (0..dims.len()).map(|axis| dims[axis + 1..].iter().product());
        WeightMatrix::read(graph, consumers, id, dims.iter().copied().zip(strides).collect())
    }

    fn read(graph: &Graph, consumers: &BTreeMap<ValueId, Vec<NodeId>>, id: ValueId, axes: Vec<Axis>) -> Option<WeightMatrix> {
        let node_id = *consumers.get(&id)?.first()?;
        let node = graph.node(node_id);
        let place = node.inputs.iter().position(|input| *input == Some(id))?;
        let other = || node.input(1 - place.min(1));
        let matrix = |rows: &[Axis], columns: &[Axis], groups, features| {
            let run = columns.last().map_or(1, |(dim, _)| *dim);
            Some(WeightMatrix { rows: offsets(rows), columns: offsets(columns), run, groups, input: other()?, features, node: node_id })
        };
        let through = |axes| WeightMatrix::read(graph, consumers, node.output(0)?, axes);
        match (&node.op, place, &axes[..]) {
            (Op::Identity(_), 0, _) => through(axes),
            (Op::Transpose(transpose), 0, _) => {
                let reversed = || (0..axes.len()).rev().collect();
                let perm = transpose.perm.clone().unwrap_or_else(reversed);
                through(perm.iter().map(|axis| axes.get(*axis).copied()).collect::<Option<_>>()?)
            }
            (Op::Conv(conv), 1, [outputs, inputs, kernel @ ..]) => {
                matrix(&[*outputs], &[kernel, &[*inputs]].concat(), conv.group, FeatureAxis::Front(1))
            }
            (Op::ConvTranspose(conv), 1, [(channels, stride), outputs, kernel @ ..]) => {
                let inputs = channels / conv.group.max(1);
                matrix(
                    &[(conv.group, inputs * stride), *outputs],
                    &[kernel, &[(inputs, *stride)]].concat(),
                    conv.group,
                    FeatureAxis::Front(1),
                )
            }
            (Op::Gemm(gemm), 0, [m, k]) => {
                let (m, k) = if gemm.trans_a { (k, m) } else { (m, k) };
                matrix(&[*m], &[*k], 1, FeatureAxis::Front(usize::from(gemm.trans_b)))
            }
            (Op::Gemm(gemm), 1, [k, n]) => {
                let (k, n) = if gemm.trans_b { (n, k) } else { (k, n) };
                matrix(&[*n], &[*k], 1, FeatureAxis::Front(usize::from(!gemm.trans_a)))
            }
            (Op::MatMul(_), 0, [outer @ .., k]) => matrix(outer, &[*k], 1, FeatureAxis::Back(2)),
            (Op::MatMul(_), 1, [k]) => matrix(&[], &[*k], 1, FeatureAxis::Back(1)),
            (Op::MatMul(_), 1, [outer @ .., k, n]) => matrix(&[outer, &[*n]].concat(), &[*k], 1, FeatureAxis::Back(1)),
            _ => None,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    /// Columns that follow one another along the input features at one position of the kernel; all where there is no kernel.
    pub fn run(&self) -> usize {
        self.run
    }

    /// Groups of a convolution; 1 elsewhere. Each has as many rows as the others.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// The value that the weight is multiplied with, and the axis of it that the sum runs along.
    pub fn input(&self) -> (ValueId, FeatureAxis) {
        (self.input, self.features)
    }

    /// The node that multiplies.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where the element of that row and column lies in the weight.
    pub fn index(&self, row: usize, column: usize) -> usize {
        self.rows[row] + self.columns[column]
    }

    /// Whether the axis of the weight with that many positions, so far apart, is the one that input features lie along, each position
    /// its feature.
    pub fn runs_along(&self, positions: usize, stride: usize) -> bool {
        self.groups == 1 && self.run == positions && self.columns.get(1).is_none_or(|next| *next == stride)
    }

    /// The number of the input feature that an element is multiplied with.
    pub fn feature(&self, row: usize, column: usize) -> usize {
        row / (self.rows.len() / self.groups).max(1) * self.run + column % self.run
    }

    /// The elements row by row.
    pub fn gather<T: Copy>(&self, elements: &[T]) -> Vec<T> {
        self.rows.iter().flat_map(|row| self.columns.iter().map(move |column| elements[row + column])).collect()
    }

    /// Puts elements that came row by row where the weight has them.
    pub fn scatter<T: Copy>(&self, rows: &[T], elements: &mut [T]) {
        let places = self.rows.iter().flat_map(|row| self.columns.iter().map(move |column| row + column));
        places.zip(rows).for_each(|(place, element)| elements[place] = *element);
    }
}

/// Distance from the first element to each, the last axis running fastest.
fn offsets(axes: &[Axis]) -> Vec<usize> {
    axes.iter().fold(vec![0], |offsets, (dim, stride)| offsets.iter().flat_map(|o| (0..*dim).map(move |i| o + i * stride)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use penjing_graph::ops::{Conv, ConvTranspose, Gemm, MatMul, Transpose, Window};
    use penjing_graph::{DataType, Dim, GraphBuilder, Tensor};

    /// The matrix of a weight of these dimensions that numbers its elements, under `op`, with `x` on the other side.
    fn rows(op: impl Into<Op>, x: &[usize], weight: &[usize]) -> Vec<Vec<usize>> {
        let mut b = GraphBuilder::new("one");
        let x = b.input("x", DataType::Float, x.iter().map(|d| Dim::Fixed(*d)).collect::<Vec<_>>());
        let w = b.tensor("w", Tensor::new(weight, vec![0.0f32; weight.iter().product()]));
        let y = b.node("y", op, &[x, w]);
        numbered(&b.output(y).finish().expect("valid"))
    }

    fn numbered(graph: &Graph) -> Vec<Vec<usize>> {
        let id = graph.find_value("w").expect("w");
        let matrix = WeightMatrix::of(graph, &graph.consumers(), id).expect("a matrix");
        (0..matrix.rows()).map(|r| (0..matrix.columns()).map(|c| matrix.index(r, c)).collect()).collect()
    }

    #[test]
    fn products_run_along_k() {
        let gemm = |trans_b| Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b };
        assert_eq!(rows(gemm(true), &[1, 3], &[2, 3]), [[0, 1, 2], [3, 4, 5]]); // [N, K]
        assert_eq!(rows(gemm(false), &[1, 3], &[3, 2]), [[0, 2, 4], [1, 3, 5]]); // [K, N]
        assert_eq!(rows(MatMul, &[1, 3], &[3, 2]), [[0, 2, 4], [1, 3, 5]]);
        assert_eq!(rows(MatMul, &[2, 1, 2], &[2, 2, 1]), [[0, 1], [2, 3]]); // [B, K, N]
        assert_eq!(rows(MatMul, &[1, 3], &[3]), [[0, 1, 2]]);
    }

    #[test]
    fn convolutions_run_along_channels_first() {
        // [M 1, C 2, k 2]: elements c0k0 c0k1 c1k0 c1k1.
        let conv = Conv { window: Window::default(), group: 1 };
        assert_eq!(rows(conv, &[1, 2, 4], &[1, 2, 2]), [[0, 2, 1, 3]]);
        // [C 2, M/g 1, k 2] with two groups: each output channel sums over one input channel.
        let conv = ConvTranspose { window: Window::default(), group: 2, output_padding: vec![], output_shape: vec![] };
        assert_eq!(rows(conv, &[1, 2, 4], &[2, 1, 2]), [[0, 1], [2, 3]]);
    }

    #[test]
    fn a_weight_that_is_transposed_first() {
        let mut b = GraphBuilder::new("transposed");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 3.into()]);
        let w = b.tensor("w", Tensor::new([2, 3], vec![0.0f32; 6]));
        let t = b.node("t", Transpose { perm: Some(vec![1, 0]) }, &[w]);
        let y = b.node("y", MatMul, &[x, t]);
        assert_eq!(numbered(&b.output(y).finish().expect("valid")), [[0, 1, 2], [3, 4, 5]]);
    }

    #[test]
    fn features_of_a_grouped_convolution() {
        let mut b = GraphBuilder::new("grouped");
        let x = b.input("x", DataType::Float, [1.into(), 4.into(), 3.into()]);
        let w = b.tensor("w", Tensor::new([2, 2, 1], vec![1.0f32, 2.0, 3.0, 4.0]));
        let y = b.node("y", Conv { window: Window::default(), group: 2 }, &[x, w]);
        let graph = b.output(y).finish().expect("valid");
        let matrix = WeightMatrix::of(&graph, &graph.consumers(), w).expect("a matrix");
        assert_eq!([(0, 0), (0, 1), (1, 0), (1, 1)].map(|(r, c)| matrix.feature(r, c)), [0, 1, 2, 3]);
        assert_eq!(matrix.gather(&[1, 2, 3, 4]), [1, 2, 3, 4]);
    }
}
