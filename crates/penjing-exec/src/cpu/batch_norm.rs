//! Batch normalisation of rows of channels [rows, channels].
#![allow(unsafe_code)] // `filled`

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::filled;
use super::simd::{Level, vectorized};

/// Loops over channels, which may be few, run over several rows at a time, so that they are long enough for vectors.
#[derive(Clone, Copy)]
struct Rows {
    channels: usize,
    /// Elements of the rows that a loop runs over.
    wide: usize,
    /// Elements that are summed as one part: they stay in the second-level cache, and the order of the sum depends on the
    /// shape alone.
    part: usize,
}

impl Rows {
    fn of(channels: usize) -> Self {
        assert!(channels > 0, "rows have channels");
        let wide = channels * 256usize.div_ceil(channels);
        Rows { channels, wide, part: wide * (1usize << 15).div_ceil(wide) }
    }

    /// A number for each channel, again for every row that a loop runs over.
    fn repeated(self, per_channel: &[f32]) -> Vec<f32> {
        per_channel.iter().copied().cycle().take(self.wide).collect()
    }

    /// Sum of each channel of a part.
    fn sums(self, level: Level, x: &[f32]) -> Vec<f32> {
        let mut sums = vec![0.0; self.wide];
        add_sums(level, x, &mut sums);
        self.folded(&sums)
    }

    /// Sums over a part as loops leave them, added up for each channel.
    fn folded(self, sums: &[f32]) -> Vec<f32> {
        let mut folded = vec![0.0; self.channels];
        for sums in sums.chunks_exact(self.channels) {
            folded.iter_mut().zip(sums).for_each(|(sum, part)| *sum += part);
        }
        folded
    }
}

vectorized! {
    fn scale_and_shift_part(x: &[f32], a: &[f32], b: &[f32], y: &mut [MaybeUninit<f32>]) {
        for (y, x) in y.chunks_mut(a.len()).zip(x.chunks(a.len())) {
            y.iter_mut().zip(x).zip(a).zip(b).for_each(|(((y, x), a), b)| _ = y.write(a * x + b));
        }
    }

    fn add_sums(x: &[f32], sums: &mut [f32]) {
        for x in x.chunks(sums.len()) {
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
        }
    }

    fn add_squares(x: &[f32], mean: &[f32], squares: &mut [f32]) {
        for x in x.chunks(squares.len()) {
            squares.iter_mut().zip(x).zip(mean).for_each(|((squares, x), mean)| *squares += (x - mean) * (x - mean));
        }
    }

    fn add_gradient_sums(x: &[f32], dy: &[f32], mean: &[f32], sums: &mut [f32], products: &mut [f32]) {
        for (x, dy) in x.chunks(sums.len()).zip(dy.chunks(sums.len())) {
            for ((((sum, product), x), dy), mean) in sums.iter_mut().zip(products.iter_mut()).zip(x).zip(dy).zip(mean) {
                *sum += dy;
                *product += dy * (x - mean);
            }
        }
    }

    /// dx = a·dy + b·(x − mean) + d
    fn gradient_part(x: &[f32], dy: &[f32], factors: [&[f32]; 4], dx: &mut [MaybeUninit<f32>]) {
        let [a, b, d, mean] = factors;
        for ((dx, x), dy) in dx.chunks_mut(a.len()).zip(x.chunks(a.len())).zip(dy.chunks(a.len())) {
            let factors = a.iter().zip(b).zip(d.iter().zip(mean));
            for (((dx, x), dy), ((a, b), (d, mean))) in dx.iter_mut().zip(x).zip(dy).zip(factors) {
                dx.write(a * dy + b * (x - mean) + d);
            }
        }
    }
}

/// y = a·x + b, with a and b for each channel.
pub(crate) fn scale_and_shift(x: &[f32], a: &[f32], b: &[f32]) -> Vec<f32> {
    let (level, rows) = (Level::detect(), Rows::of(a.len()));
    let (a, b) = (rows.repeated(a), rows.repeated(b));
    let write = |y: &mut [MaybeUninit<f32>]| {
        y.par_chunks_mut(rows.part).zip(x.par_chunks(rows.part)).for_each(|(y, x)| scale_and_shift_part(level, x, &a, &b, y));
    };
    // SAFETY: every element of every part is written.
    unsafe { filled(x.len(), write) }
}

/// Sum of each channel.
pub(crate) fn channel_sums(x: &[f32], channels: usize) -> Vec<f32> {
    let (level, rows) = (Level::detect(), Rows::of(channels));
    let parts: Vec<Vec<f32>> = x.par_chunks(rows.part).map(|x| rows.sums(level, x)).collect();
    (0..channels).map(|c| parts.iter().map(|part| f64::from(part[c])).sum::<f64>() as f32).collect()
}

/// Mean and (population) variance of each channel, from one pass over memory: each part's own while it is in the cache, joined
/// by the formula of Chan, Golub and LeVeque (1979).
fn moments(x: &[f32], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let (level, rows) = (Level::detect(), Rows::of(channels));
    let of_part = |x: &[f32]| {
        let mut mean = rows.sums(level, x);
        mean.iter_mut().for_each(|mean| *mean *= channels as f32 / x.len() as f32);
        let mut squares = vec![0.0; rows.wide];
        add_squares(level, x, &rows.repeated(&mean), &mut squares);
        (x.len() / channels, mean, rows.folded(&squares))
    };
    let parts: Vec<(usize, Vec<f32>, Vec<f32>)> = x.par_chunks(rows.part).map(of_part).collect();
    let joined = |c: usize| {
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for (n, part_mean, part_squares) in &parts {
            let (n, difference) = (*n as f64, f64::from(part_mean[c]) - mean);
            let total = count + n;
            mean += difference * n / total;
            squares += f64::from(part_squares[c]) + difference * difference * count * n / total;
            count = total;
        }
        (mean as f32, (squares / count) as f32)
    };
    (0..channels).map(joined).unzip()
}

/// y = scale·x̂ + bias with x̂ = (x − mean)/√(variance + ε), where mean and variance are x's own; they are given too.
pub(crate) fn forward(x: &[f32], scale: &[f32], bias: &[f32], epsilon: f32) -> [Vec<f32>; 3] {
    let (mean, variance) = moments(x, scale.len());
    let a: Vec<f32> = scale.iter().zip(inverse(&variance, epsilon)).map(|(scale, inverse)| scale * inverse).collect();
    let b: Vec<f32> = bias.iter().zip(&mean).zip(&a).map(|((bias, mean), a)| bias - mean * a).collect();
    [scale_and_shift(x, &a, &b), mean, variance]
}

/// 1 / √(variance + ε)
fn inverse(variance: &[f32], epsilon: f32) -> Vec<f32> {
    variance.iter().map(|variance| 1.0 / (variance + epsilon).sqrt()).collect()
}

/// Gradients of x, scale and bias of [`forward`]: dx = scale·(dy − mean(dy) − x̂·mean(dy·x̂))/√(variance + ε).
pub(crate) fn gradients(x: &[f32], scale: &[f32], [mean, variance]: [&[f32]; 2], epsilon: f32, dy: &[f32]) -> [Vec<f32>; 3] {
    let inverse = inverse(variance, epsilon);
    let (level, rows, channels) = (Level::detect(), Rows::of(scale.len()), scale.len());
    let repeated = rows.repeated(mean);
    let sums_of_part = |(x, dy): (&[f32], &[f32])| {
        let (mut sums, mut products) = (vec![0.0; rows.wide], vec![0.0; rows.wide]);
        add_gradient_sums(level, x, dy, &repeated, &mut sums, &mut products);
        [rows.folded(&sums), rows.folded(&products)]
    };
    let parts: Vec<[Vec<f32>; 2]> = x.par_chunks(rows.part).zip(dy.par_chunks(rows.part)).map(sums_of_part).collect();
    let total = |i: usize, c: usize| parts.iter().map(|part| f64::from(part[i][c])).sum::<f64>();
    let dbias: Vec<f32> = (0..channels).map(|c| total(0, c) as f32).collect();
    let dscale: Vec<f32> = (0..channels).map(|c| (total(1, c) * f64::from(inverse[c])) as f32).collect();
    let share = channels as f32 / x.len() as f32;
    let a: Vec<f32> = (0..channels).map(|c| scale[c] * inverse[c]).collect();
    let b: Vec<f32> = (0..channels).map(|c| -a[c] * inverse[c] * dscale[c] * share).collect();
    let d: Vec<f32> = (0..channels).map(|c| -a[c] * dbias[c] * share).collect();
    let [a, b, d] = [a, b, d].map(|per_channel| rows.repeated(&per_channel));
    let write = |dx: &mut [MaybeUninit<f32>]| {
        let parts = dx.par_chunks_mut(rows.part).zip(x.par_chunks(rows.part)).zip(dy.par_chunks(rows.part));
        parts.for_each(|((dx, x), dy)| gradient_part(level, x, dy, [&a, &b, &d, &repeated], dx));
    };
    // SAFETY: every element of every part is written.
    let dx = unsafe { filled(x.len(), write) };
    [dx, dscale, dbias]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::on_threads;

    #[test]
    fn two_channels_by_hand() {
        let x = [1.0, 10.0, 3.0, 30.0]; // two rows
        assert_eq!(moments(&x, 2), (vec![2.0, 20.0], vec![1.0, 100.0]));
        assert_eq!(channel_sums(&x, 2), [4.0, 40.0]);
        assert_eq!(forward(&x, &[2.0, 1.0], &[0.0, 5.0], 0.0)[0], [-2.0, 4.0, 2.0, 6.0]);
        assert_eq!(scale_and_shift(&x, &[2.0, 0.5], &[1.0, 0.0]), [3.0, 5.0, 7.0, 15.0]);
        // x̂ is ∓1: what lies along 1 and along x̂ has no gradient, so that of two rows nothing is left.
        let [dx, dscale, dbias] = gradients(&x, &[2.0, 3.0], [&[2.0, 20.0], &[1.0, 100.0]], 0.0, &[1.0, 0.0, 0.0, 1.0]);
        assert!(dx.iter().all(|dx| dx.abs() < 1e-6), "{dx:?}");
        assert_eq!((dscale, dbias), (vec![-1.0, 1.0], vec![1.0, 1.0]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn equals_the_formulas_in_f64_at_any_number_of_threads(channels in 1usize..70, rows in 2usize..3000, offset in -50f32..50.0, seed: u32) {
            let number = |i: usize, salt: u32| ((i as u32).wrapping_mul(2_654_435_761) ^ seed ^ salt) as f32 / 2f32.powi(31) - 1.0;
            let x: Vec<f32> = (0..rows * channels).map(|i| number(i, 0) + offset).collect();
            let dy: Vec<f32> = (0..rows * channels).map(|i| number(i, 77)).collect();
            let scale: Vec<f32> = (0..channels).map(|c| number(c, 5)).collect();
            let n = rows as f64;
            let column = |x: &[f32], c: usize| x.iter().skip(c).step_by(channels).map(|x| f64::from(*x)).collect::<Vec<f64>>();
            let run = || {
                let (mean, variance) = moments(&x, channels);
                let [dx, dscale, dbias] = gradients(&x, &scale, [&mean, &variance], 1e-5, &dy);
                (mean, variance, dx, dscale, dbias)
            };
            let got = on_threads(1, run);
            prop_assert_eq!(&got, &on_threads(3, run));
            let (mean, variance, dx, dscale, dbias) = got;
            for c in 0..channels {
                let (x, dy) = (column(&x, c), column(&dy, c));
                let m = x.iter().sum::<f64>() / n;
                let v = x.iter().map(|x| (x - m) * (x - m)).sum::<f64>() / n;
                let inverse = 1.0 / (v + 1e-5).sqrt();
                let normal: Vec<f64> = x.iter().map(|x| (x - m) * inverse).collect();
                let (sum, product) = (dy.iter().sum::<f64>(), dy.iter().zip(&normal).map(|(dy, x)| dy * x).sum::<f64>());
                prop_assert!((f64::from(mean[c]) - m).abs() < 1e-4 && (f64::from(variance[c]) - v).abs() < 1e-4 * (1.0 + v));
                prop_assert!((f64::from(dbias[c]) - sum).abs() < 2e-3 && (f64::from(dscale[c]) - product).abs() < 1e-2 * (1.0 + product.abs()));
                for (i, normal) in normal.iter().enumerate() {
                    let expected = f64::from(scale[c]) * inverse * (dy[i] - sum / n - normal * product / n);
                    let got = f64::from(dx[i * channels + c]);
                    // What is divided by a small deviation carries the rounding of the mean along.
                    prop_assert!((got - expected).abs() < 1e-3 * (1.0 + inverse) * (1.0 + expected.abs()), "{}: {} but {}", i, expected, got);
                }
            }
        }
    }
}
