//! Pooling over spatial axes: the largest under a window, and the mean of all places, with their gradients.

use rayon::prelude::*;

use super::batch_norm::channel_sums;
use super::simd::{Level, vectorized};

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
    fn places(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn stands(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Place along an axis that cell `k` of the window sees at stand `q`, unless it lies in the padding.
    fn place(&self, axis: usize, q: usize, k: usize) -> Option<usize> {
        (q * self.stride[axis] + k * self.dilation[axis]).checked_sub(self.before[axis]).filter(|place| *place < self.input[axis])
    }

    /// The places that the window sees at a stand, each with the number of its cell.
    fn seen(&self, stand: usize) -> impl Iterator<Item = (u8, usize)> + '_ {
        let (row, col) = (stand / self.output[1], stand % self.output[1]);
        (0..self.kernel[0]).flat_map(move |a| (0..self.kernel[1]).map(move |b| (a, b))).filter_map(move |(a, b)| {
            Some(((a * self.kernel[1] + b) as u8, self.place(0, row, a)? * self.input[1] + self.place(1, col, b)?))
        })
    }
}

vectorized! {
    /// Keeps the larger of what is there and what the next cell sees.
    fn keep_larger(x: &[f32], cell: u8, y: &mut [f32], winner: &mut [u8]) {
        for ((y, winner), x) in y.iter_mut().zip(winner).zip(x) {
            // What is not a number stays where the window begins with it, and loses anywhere else.
            let better = *x > *y || cell == 0;
            *y = if better { *x } else { *y };
            *winner = if better { cell } else { *winner };
        }
    }

    fn add_where_won(dy: &[f32], winner: &[u8], cell: u8, dx: &mut [f32]) {
        for ((dx, dy), winner) in dx.iter_mut().zip(dy).zip(winner) {
            *dx += if *winner == cell { *dy } else { 0.0 };
        }
    }
}

/// Largest cell under the window at each of its stands, for images [input, channels] → [output, channels], and the number of that
/// cell in the window: the first among equals. Padding is −∞.
pub(crate) fn forward(shape: &Shape, x: &[f32], channels: usize, y: &mut [f32], winner: &mut [u8]) {
    let (level, image) = (Level::detect(), shape.places() * channels);
    let stands = y.par_chunks_mut(channels).zip(winner.par_chunks_mut(channels)).enumerate();
    stands.with_min_len(shape.output[1]).for_each(|(i, (y, winner))| {
        let x = &x[i / shape.stands() * image..][..image];
        y.fill(f32::NEG_INFINITY);
        winner.fill(0);
        for (cell, place) in shape.seen(i % shape.stands()) {
            keep_larger(level, &x[place * channels..][..channels], cell, y, winner);
        }
    });
}

/// Gradient of the input of [`forward`], which is zero before: each stand's goes to the cell that won.
pub(crate) fn input_gradient(shape: &Shape, winner: &[u8], channels: usize, dy: &[f32], dx: &mut [f32]) {
    let (level, stands) = (Level::detect(), shape.stands() * channels);
    let images = dx.par_chunks_mut(shape.places() * channels).zip(winner.par_chunks(stands)).zip(dy.par_chunks(stands));
    images.for_each(|((dx, winner), dy)| {
        for (stand, (dy, winner)) in dy.chunks_exact(channels).zip(winner.chunks_exact(channels)).enumerate() {
            for (cell, place) in shape.seen(stand) {
                add_where_won(level, dy, winner, cell, &mut dx[place * channels..][..channels]);
            }
        }
    });
}

/// Mean of each channel over the `places` of each image.
pub(crate) fn mean(x: &[f32], places: usize, channels: usize) -> Vec<f32> {
    let images = x.par_chunks(places * channels).map(|x| channel_sums(x, channels));
    images.flat_map_iter(|sums| sums.into_iter().map(|sum| sum / places as f32)).collect()
}

/// Gradient of the input of [`mean`]: each place has its share.
pub(crate) fn mean_gradient(dy: &[f32], places: usize, channels: usize) -> Vec<f32> {
    let share = 1.0 / places as f32;
    let mut dx = vec![0.0; dy.len() * places];
    dx.par_chunks_mut(places * channels).zip(dy.par_chunks(channels)).for_each(|(dx, dy)| {
        for dx in dx.chunks_exact_mut(channels) {
            dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy * share);
        }
    });
    dx
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn overlapping_windows_by_hand() {
        let shape = Shape { input: [1, 4], output: [1, 3], kernel: [1, 2], stride: [1, 1], dilation: [1, 1], before: [0, 0] };
        let (mut y, mut winner, mut dx) = ([0.0; 3], [9; 3], [0.0; 4]);
        forward(&shape, &[1.0, 5.0, 5.0, 2.0], 1, &mut y, &mut winner);
        assert_eq!((y, winner), ([5.0, 5.0, 5.0], [1, 0, 0])); // the first of two equal cells wins
        input_gradient(&shape, &winner, 1, &[1.0, 10.0, 100.0], &mut dx);
        assert_eq!(dx, [0.0, 11.0, 100.0, 0.0]);
    }

    #[test]
    fn means_and_their_shares_by_hand() {
        let x = [1.0, 10.0, 3.0, 30.0, 5.0, 50.0, 7.0, 70.0]; // two images of two places and two channels
        assert_eq!(mean(&x, 2, 2), [2.0, 20.0, 6.0, 60.0]);
        assert_eq!(mean_gradient(&[2.0, 4.0, 6.0, 8.0], 2, 2), [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
    }

    #[test]
    fn padding_never_wins_against_a_number() {
        let shape = Shape { input: [2, 2], output: [2, 2], kernel: [2, 2], stride: [2, 2], dilation: [1, 1], before: [1, 1] };
        let (mut y, mut winner, mut dx) = ([0.0; 4], [9; 4], [0.0; 4]);
        forward(&shape, &[-1.0, -2.0, -3.0, -4.0], 1, &mut y, &mut winner);
        assert_eq!((y, winner), ([-1.0, -2.0, -3.0, -4.0], [3, 2, 1, 0])); // each window sees one number
        input_gradient(&shape, &winner, 1, &[1.0, 2.0, 3.0, 4.0], &mut dx);
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
        fn equals_the_search_of_every_window(shape in shape().prop_filter_map("a window fits", |s| s), channels in 1usize..20, seed: u32) {
            let number = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) ^ seed) as f32 % 17.0;
            let (images, stands) = (3, shape.stands());
            let x: Vec<f32> = (0..images * shape.places() * channels).map(number).collect();
            let (mut y, mut winner) = (vec![0.0; images * stands * channels], vec![0; images * stands * channels]);
            forward(&shape, &x, channels, &mut y, &mut winner);
            let mut expected_dx = vec![0.0; x.len()];
            for at in 0..y.len() {
                let (image, q, channel) = (at / channels / stands, at / channels % stands, at % channels);
                let (mut best, mut won, mut place) = (f32::NEG_INFINITY, 0, None);
                for cell in 0..shape.kernel[0] * shape.kernel[1] {
                    let row = shape.place(0, q / shape.output[1], cell / shape.kernel[1]);
                    let col = shape.place(1, q % shape.output[1], cell % shape.kernel[1]);
                    if let (Some(row), Some(col)) = (row, col) {
                        let seen = ((image * shape.input[0] + row) * shape.input[1] + col) * channels + channel;
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
            input_gradient(&shape, &winner, channels, &vec![1.0; y.len()], &mut dx);
            prop_assert_eq!(dx, expected_dx);
        }
    }
}
