//! Max pooling over one or two spatial axes, and its gradient.

use rayon::prelude::*;

/// Sizes of a pooling; one spatial axis is a single row.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) input: [usize; 2],
    pub(crate) output: [usize; 2],
    /// At most 256 cells, so that each has a number of eight bits.
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Padding at the beginning of each axis.
    pub(crate) before: [usize; 2],
}

impl Shape {
    fn plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn stands(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Place along an axis that cell `k` of the window sees at stand `q`, unless it lies in the padding.
    fn place(&self, axis: usize, q: usize, k: usize) -> Option<usize> {
        (q * self.stride[axis] + k * self.dilation[axis]).checked_sub(self.before[axis]).filter(|place| *place < self.input[axis])
    }

    /// The stands along a row at which cell `k` lies in the input, and the column that it sees at the first of them.
    fn columns(&self, k: usize) -> (std::ops::Range<usize>, usize) {
        let sees = |q: &usize| self.place(1, *q, k).is_some();
        let first = (0..self.output[1]).find(sees).unwrap_or(self.output[1]);
        let end = (first..self.output[1]).find(|q| !sees(q)).unwrap_or(self.output[1]);
        (first..end, self.place(1, first, k).unwrap_or(0))
    }
}

/// Largest cell under the window at each of its stands, for planes [.., input] → [.., output], and the number of that cell in the
/// window: the first among equals. Padding is −∞.
pub(crate) fn forward(shape: &Shape, x: &[f32], y: &mut [f32], winner: &mut [u8]) {
    let (plane, stands) = (shape.plane(), shape.stands());
    let columns: Vec<_> = (0..shape.kernel[1]).map(|k| shape.columns(k)).collect();
    y.par_chunks_mut(stands).zip(winner.par_chunks_mut(stands)).zip(x.par_chunks(plane)).for_each(|((y, winner), x)| {
        y.fill(f32::NEG_INFINITY);
        winner.fill(0);
        let rows = y.chunks_exact_mut(shape.output[1]).zip(winner.chunks_exact_mut(shape.output[1]));
        for (q, (y, winner)) in rows.enumerate() {
            for a in 0..shape.kernel[0] {
                let Some(row) = shape.place(0, q, a) else { continue };
                let x = &x[row * shape.input[1]..][..shape.input[1]];
                for (b, (stands, first)) in columns.iter().enumerate() {
                    let cell = (a * shape.kernel[1] + b) as u8;
                    let seen = x[*first..].iter().step_by(shape.stride[1]);
                    for ((y, winner), x) in y[stands.clone()].iter_mut().zip(&mut winner[stands.clone()]).zip(seen) {
                        // What is not a number stays where the window begins with it, and loses anywhere else.
                        let better = *x > *y || cell == 0;
                        *y = if better { *x } else { *y };
                        *winner = if better { cell } else { *winner };
                    }
                }
            }
        }
    });
}

/// Gradient of the input of [`forward`], which is zero before: each stand's goes to the cell that won.
pub(crate) fn input_gradient(shape: &Shape, winner: &[u8], dy: &[f32], dx: &mut [f32]) {
    let (plane, stands) = (shape.plane(), shape.stands());
    dx.par_chunks_mut(plane).zip(winner.par_chunks(stands)).zip(dy.par_chunks(stands)).for_each(|((dx, winner), dy)| {
        for (q, (dy, winner)) in dy.iter().zip(winner).enumerate() {
            let cell = usize::from(*winner);
            let row = shape.place(0, q / shape.output[1], cell / shape.kernel[1]);
            let col = shape.place(1, q % shape.output[1], cell % shape.kernel[1]);
            if let (Some(row), Some(col)) = (row, col) {
                dx[row * shape.input[1] + col] += dy;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn overlapping_windows_by_hand() {
        let shape = Shape { input: [1, 4], output: [1, 3], kernel: [1, 2], stride: [1, 1], dilation: [1, 1], before: [0, 0] };
        let (mut y, mut winner, mut dx) = ([0.0; 3], [9; 3], [0.0; 4]);
        forward(&shape, &[1.0, 5.0, 5.0, 2.0], &mut y, &mut winner);
        assert_eq!((y, winner), ([5.0, 5.0, 5.0], [1, 0, 0])); // the first of two equal cells wins
        input_gradient(&shape, &winner, &[1.0, 10.0, 100.0], &mut dx);
        assert_eq!(dx, [0.0, 11.0, 100.0, 0.0]);
    }

    #[test]
    fn padding_never_wins_against_a_number() {
        let shape = Shape { input: [2, 2], output: [2, 2], kernel: [2, 2], stride: [2, 2], dilation: [1, 1], before: [1, 1] };
        let (mut y, mut winner, mut dx) = ([0.0; 4], [9; 4], [0.0; 4]);
        forward(&shape, &[-1.0, -2.0, -3.0, -4.0], &mut y, &mut winner);
        assert_eq!((y, winner), ([-1.0, -2.0, -3.0, -4.0], [3, 2, 1, 0])); // each window sees one number
        input_gradient(&shape, &winner, &[1.0, 2.0, 3.0, 4.0], &mut dx);
        assert_eq!(dx, [1.0, 2.0, 3.0, 4.0]);
    }

    prop_compose! {
        fn shape()(
            input in [1usize..9, 1usize..12], kernel in [1usize..4, 1usize..4], stride in [1usize..4, 1usize..4],
            dilation in [1usize..3, 1usize..3], before in [0usize..3, 0usize..3], after in [0usize..3, 0usize..3],
        ) -> Option<Shape> {
            let stands = |i: usize| Some((input[i] + before[i] + after[i]).checked_sub((kernel[i] - 1) * dilation[i] + 1)? / stride[i] + 1);
            Some(Shape { input, output: [stands(0)?, stands(1)?], kernel, stride, dilation, before })
        }
    }

    proptest! {
        #[test]
        fn equals_the_search_of_every_window(shape in shape().prop_filter_map("a window fits", |s| s), seed: u32) {
            let number = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) ^ seed) as f32 % 17.0;
            let (planes, stands) = (3, shape.stands());
            let x: Vec<f32> = (0..planes * shape.plane()).map(number).collect();
            let (mut y, mut winner) = (vec![0.0; planes * stands], vec![0; planes * stands]);
            forward(&shape, &x, &mut y, &mut winner);
            let mut expected_dx = vec![0.0; x.len()];
            for at in 0..planes * stands {
                let (plane, q) = (at / stands, at % stands);
                let (mut best, mut won, mut place) = (f32::NEG_INFINITY, 0, None);
                for cell in 0..shape.kernel[0] * shape.kernel[1] {
                    let row = shape.place(0, q / shape.output[1], cell / shape.kernel[1]);
                    let col = shape.place(1, q % shape.output[1], cell % shape.kernel[1]);
                    if let (Some(row), Some(col)) = (row, col) {
                        let seen = plane * shape.plane() + row * shape.input[1] + col;
                        if x[seen] > best {
                            (best, won, place) = (x[seen], cell, Some(seen));
                        }
                    }
                }
                prop_assert_eq!((y[at], usize::from(winner[at])), (best, won));
                if let Some(place) = place {
                    expected_dx[place] += 1.0;
                }
            }
            let mut dx = vec![0.0; x.len()];
            input_gradient(&shape, &winner, &vec![1.0; y.len()], &mut dx);
            prop_assert_eq!(dx, expected_dx);
        }
    }
}
