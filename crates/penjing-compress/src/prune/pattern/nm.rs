//! N:M sparsity: of every M weights along the sum, N stay. 2:4 is what sparse tensor cores multiply at twice the speed.
//!
//! Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks"; Zhou et al. 2021, "Learning N:M Fine-grained Structured Sparse
//! Neural Networks from Scratch".

use std::fmt;

use crate::prune::select::keep_largest_few;
use crate::prune::{Sparsity, WeightMatrix};

/// N weights of every M consecutive ones of a row stay, 1 ≤ N < M. Groups follow the input features at one position of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NOfM {
    kept: usize,
    of: usize,
}

impl NOfM {
    /// `kept`:`of`; `None` unless 1 ≤ `kept` < `of`.
    pub fn new(kept: usize, of: usize) -> Option<NOfM> {
        (1 <= kept && kept < of).then_some(NOfM { kept, of })
    }

    /// N.
    pub fn kept(self) -> usize {
        self.kept
    }

    /// M.
    pub fn of(self) -> usize {
        self.of
    }

    /// 1 − N/M.
    pub fn sparsity(self) -> Sparsity {
        Sparsity(1.0 - self.kept as f64 / self.of as f64)
    }

    /// The first columns of the whole groups of a row. What is left of a run is in no group.
    pub fn groups(self, matrix: &WeightMatrix) -> impl Iterator<Item = usize> + use<> {
        let (columns, run, of) = (matrix.columns(), matrix.run(), self.of);
        (0..columns).step_by(run.max(1)).flat_map(move |start| (0..run / of).map(move |group| start + group * of))
    }

    /// Which weights stay: in each group those of the N largest scores, and all that are in no group.
    pub fn mask(self, matrix: &WeightMatrix, scores: &[f32]) -> Vec<bool> {
        let mut mask = vec![true; scores.len()];
        for row in 0..matrix.rows() {
            for start in self.groups(matrix) {
                let places = || (start..start + self.of).map(|column| matrix.index(row, column));
                let group: Vec<f32> = places().map(|place| scores[place]).collect();
                let keep = keep_largest_few(&group, self.of - self.kept);
                places().zip(keep).for_each(|(place, keep)| mask[place] = keep);
            }
        }
        mask
    }

    /// Says what is in no group, if anything is.
    pub fn rest(self, matrix: &WeightMatrix) -> Option<String> {
        let (run, of) = (matrix.run(), self.of);
        match run % of {
            0 => None,
            _ if run < of => Some(format!("stays whole: {run} input features make no group of {of}")),
            rest => Some(format!("{run} input features make {} groups of {of}; the last {rest} stay whole", run / of)),
        }
    }
}

impl fmt::Display for NOfM {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kept, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::testing::layer;

    #[test]
    fn two_of_four_by_hand() {
        // A MatMul weight [K 5, N 2]: the groups run down its columns.
        let w = [1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0, 0.1, 0.1];
        let built = layer(5, 2, &w);
        let matrix = built.layer().matrix.expect("a matrix");
        let two_of_four = NOfM::new(2, 4).expect("2:4");
        let mask = two_of_four.mask(&matrix, &w);
        // n = 0: 1 2 3 4 keeps 3 and 4; n = 1: 8 7 6 5 keeps 8 and 7; the fifth stays whole.
        assert_eq!(mask, [false, true, false, true, true, false, true, false, true, true]);
        assert_eq!(two_of_four.rest(&matrix).expect("a rest"), "5 input features make 1 groups of 4; the last 1 stay whole");
    }

    #[test]
    fn of_equals_the_first_go() {
        let built = layer(4, 1, &[1.0; 4]);
        let matrix = built.layer().matrix.expect("a matrix");
        assert_eq!(NOfM::new(1, 4).expect("1:4").mask(&matrix, &[1.0; 4]), [false, false, false, true]);
    }
}
