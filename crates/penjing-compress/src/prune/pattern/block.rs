//! Block sparsity: rectangles of the weight matrix go as a whole, as kernels that skip vectors need it.
//!
//! Gray, Radford and Kingma 2017, "GPU Kernels for Block-Sparse Weights"; Elsen et al. 2020, "Fast Sparse ConvNets" (4x1).

use std::fmt;

use super::choose;
use crate::prune::{Layer, Scope, Sparsity, WeightMatrix};

/// Rectangles of `rows` outputs by `columns` inputs. The last ones of a matrix that does not divide are smaller, and count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    rows: usize,
    columns: usize,
}

impl Block {
    /// `rows`x`columns`; `None` where that is no rectangle of at least two weights.
    pub fn new(rows: usize, columns: usize) -> Option<Block> {
        (rows > 0 && columns > 0 && (rows, columns) != (1, 1)).then_some(Block { rows, columns })
    }

    /// Rows and columns.
    pub fn size(self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Blocks down and across.
    fn grid(self, matrix: &WeightMatrix) -> (usize, usize) {
        (matrix.rows().div_ceil(self.rows), matrix.columns().div_ceil(self.columns))
    }

    /// Elements of the block at (`down`, `across`).
    fn cells(self, matrix: &WeightMatrix, down: usize, across: usize) -> impl Iterator<Item = usize> + '_ {
        let span = |block: usize, size: usize, all: usize| block * size..(block + 1).saturating_mul(size).min(all);
        let columns = span(across, self.columns, matrix.columns());
        span(down, self.rows, matrix.rows()).flat_map(move |row| columns.clone().map(move |column| matrix.index(row, column)))
    }

    /// Mean score of each block, row by row: a block that is cut short by the edge competes on equal terms.
    fn scores(self, matrix: &WeightMatrix, scores: &[f32]) -> Vec<f32> {
        let (down, across) = self.grid(matrix);
        let mean = |d, a| {
            let (sum, count) = self.cells(matrix, d, a).fold((0.0, 0), |(sum, count), i| (sum + f64::from(scores[i]), count + 1));
            (sum / f64::from(count.max(1))) as f32
        };
        (0..down).flat_map(|d| (0..across).map(move |a| mean(d, a))).collect()
    }

    pub(super) fn masks(self, layers: &[Layer<'_>], scores: &[Vec<f32>], sparsity: Sparsity, scope: Scope) -> Vec<Vec<bool>> {
        let matrices = || layers.iter().zip(scores).filter_map(|(layer, scores)| Some((layer.matrix.as_ref()?, scores)));
        let blocks: Vec<(Vec<f32>, usize)> = matrices().map(|(m, scores)| (self.scores(m, scores), self.grid(m).0)).collect();
        let mut keep = choose(blocks.iter().map(|(scores, rows)| (&scores[..], *rows)).collect(), sparsity, scope).into_iter();
        layers
            .iter()
            .zip(scores)
            .map(|(layer, scores)| {
                let mut mask = vec![true; scores.len()];
                if let Some(matrix) = &layer.matrix {
                    let (down, across) = self.grid(matrix);
                    let blocks = (0..down).flat_map(|d| (0..across).map(move |a| (d, a)));
                    for ((d, a), keep) in blocks.zip(keep.next().unwrap_or_default()) {
                        self.cells(matrix, d, a).for_each(|i| mask[i] = keep);
                    }
                }
                mask
            })
            .collect()
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.rows, self.columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::testing::layer;

    #[test]
    fn two_outputs_by_one_input_by_hand() {
        // A MatMul weight [K 2, N 3]: blocks of two outputs n at one input k, the third output alone.
        let w = [1.0, 5.0, 2.0, 4.0, 3.0, 9.0];
        let built = layer(2, 3, &w);
        let block = Block::new(2, 1).expect("2x1");
        // Means: (1+5)/2 = 3 and (4+3)/2 = 3.5; alone 2 and 9. The two smallest are 2 and 3.
        let keep = block.masks(&[built.layer()], &[w.to_vec()], Sparsity(0.5), Scope::Global);
        assert_eq!(keep, [vec![false, false, false, true, true, true]]);
    }

    #[test]
    fn a_block_larger_than_the_matrix_is_all_of_it() {
        let built = layer(2, 2, &[1.0; 4]);
        let keep = Block::new(usize::MAX, usize::MAX).expect("huge").masks(&[built.layer()], &[vec![1.0; 4]], Sparsity(1.0), Scope::Layer);
        assert_eq!(keep, [vec![false; 4]]);
    }
}
