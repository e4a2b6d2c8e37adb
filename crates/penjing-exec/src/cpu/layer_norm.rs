//! Normalisation of each row by its own mean and variance.
#![allow(unsafe_code)] // `filled`

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::filled;
use super::simd::{Level, vectorized};

/// Sums that run side by side.
const LANES: usize = 16;
/// Rows whose contributions to the gradients of scale and bias are one part of the sum.
const PART: usize = 64;

vectorized! {
    fn row(x: &[f32], scale: &[f32], bias: &[f32], epsilon: f32, y: &mut [MaybeUninit<f32>], statistics: [&mut MaybeUninit<f32>; 2]) {
        let mut sums = [0.0; LANES];
        for x in x.chunks(LANES) {
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
        }
        let mean = sums.iter().sum::<f32>() / x.len() as f32;
        let mut squares = [0.0; LANES];
        for x in x.chunks(LANES) {
            squares.iter_mut().zip(x).for_each(|(sum, x)| *sum += (x - mean) * (x - mean));
        }
        let inverse = 1.0 / (squares.iter().sum::<f32>() / x.len() as f32 + epsilon).sqrt();
        y.iter_mut().zip(x).zip(scale).zip(bias).for_each(|(((y, x), scale), bias)| _ = y.write((x - mean) * inverse * scale + bias));
        let [mean_out, inverse_out] = statistics;
        mean_out.write(mean);
        inverse_out.write(inverse);
    }

    /// dx = inverse·(g − mean(g) − x̂·mean(g·x̂)) with g = dy·scale; adds dy·x̂ and dy to the gradients of scale and bias.
    fn gradient_row(x: &[f32], scale: &[f32], statistics: [f32; 2], dy: &[f32], dx: &mut [MaybeUninit<f32>], sums_of_rows: [&mut [f32]; 2]) {
        let ([mean, inverse], [dscale, dbias]) = (statistics, sums_of_rows);
        let (mut sums, mut products) = ([0.0; LANES], [0.0; LANES]);
        for ((x, scale), dy) in x.chunks(LANES).zip(scale.chunks(LANES)).zip(dy.chunks(LANES)) {
            for ((((x, scale), dy), sum), product) in x.iter().zip(scale).zip(dy).zip(&mut sums).zip(&mut products) {
                *sum += dy * scale;
                *product += dy * scale * (x - mean);
            }
        }
        let share = 1.0 / x.len() as f32;
        let (sum, product) = (sums.iter().sum::<f32>() * share, products.iter().sum::<f32>() * share * inverse);
        for (((((dx, x), scale), dy), dscale), dbias) in dx.iter_mut().zip(x).zip(scale).zip(dy).zip(dscale).zip(dbias) {
            let normal = (x - mean) * inverse;
            *dscale += dy * normal;
            *dbias += dy;
            dx.write(inverse * (dy * scale - sum - normal * product));
        }
    }
}

/// y = scale·(x − mean)·inverse + bias for each row, with inverse = 1/√(variance + ε); the means and inverses too.
pub(crate) fn forward(x: &[f32], scale: &[f32], bias: &[f32], epsilon: f32) -> [Vec<f32>; 3] {
    let (level, length) = (Level::detect(), scale.len());
    let rows = x.len() / length;
    let mut statistics = [vec![], vec![]];
    let write_all = |y: &mut [MaybeUninit<f32>], mean: &mut [MaybeUninit<f32>], inverse: &mut [MaybeUninit<f32>]| {
        let rows = y.par_chunks_mut(length).zip(x.par_chunks(length)).zip(mean.par_iter_mut().zip(inverse));
        rows.with_min_len(4).for_each(|((y, x), (mean, inverse))| row(level, x, scale, bias, epsilon, y, [mean, inverse]));
    };
    // SAFETY: every element of every row is written, and both statistics of each row.
    let y = unsafe {
        filled(x.len(), |y| {
            statistics[0] = filled(rows, |mean| statistics[1] = filled(rows, |inverse| write_all(y, mean, inverse)));
        })
    };
    let [mean, inverse] = statistics;
    [y, mean, inverse]
}

/// Gradients of x, scale and bias.
pub(crate) fn gradients(x: &[f32], scale: &[f32], mean: &[f32], inverse: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
    let (level, length) = (Level::detect(), scale.len());
    let part = PART * length;
    let mut sums = vec![];
    let write = |dx: &mut [MaybeUninit<f32>]| {
        let parts = dx.par_chunks_mut(part).zip(x.par_chunks(part)).zip(dy.par_chunks(part));
        let statistics = mean.par_chunks(PART).zip(inverse.par_chunks(PART));
        let parts = parts.zip(statistics).map(|(((dx, x), dy), (mean, inverse))| {
            let (mut dscale, mut dbias) = (vec![0.0; length], vec![0.0; length]);
            let rows = dx.chunks_mut(length).zip(x.chunks(length)).zip(dy.chunks(length));
            for (((dx, x), dy), (mean, inverse)) in rows.zip(mean.iter().zip(inverse)) {
                gradient_row(level, x, scale, [*mean, *inverse], dy, dx, [&mut dscale, &mut dbias]);
            }
            [dscale, dbias]
        });
        sums = parts.collect::<Vec<[Vec<f32>; 2]>>();
    };
    // SAFETY: every element of every row of every part is written.
    let dx = unsafe { filled(x.len(), write) };
    let total = |i: usize| (0..length).map(|c| sums.iter().map(|part| part[i][c]).sum()).collect();
    [dx, total(0), total(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_by_hand() {
        let [y, mean, inverse] = forward(&[1.0, 3.0, 10.0, 30.0], &[2.0, 1.0], &[0.0, 5.0], 0.0);
        assert_eq!((y, mean, inverse), (vec![-2.0, 6.0, -2.0, 6.0], vec![2.0, 20.0], vec![1.0, 0.1]));
    }

    #[test]
    fn gradients_are_finite_differences() {
        let (rows, length) = (70, 21); // more than one part, and not whole vectors
        let number = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / 2f32.powi(24) - 0.5;
        let x: Vec<f32> = (0..rows * length).map(number).collect();
        let dy: Vec<f32> = (0..rows * length).map(|i| number(i + 7777)).collect();
        let (scale, bias): (Vec<f32>, Vec<f32>) = (0..length).map(|i| (1.0 + number(i + 99), number(i + 555))).unzip();
        let loss = |x: &[f32], scale: &[f32], bias: &[f32]| -> f64 {
            forward(x, scale, bias, 1e-5)[0].iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum()
        };
        let [_, mean, inverse] = forward(&x, &scale, &bias, 1e-5);
        let [dx, dscale, dbias] = gradients(&x, &scale, &mean, &inverse, &dy);
        let h = 1e-2;
        let moved = |values: &[f32], i: usize, by: f32| {
            let mut values = values.to_vec();
            values[i] += by;
            values
        };
        for i in [0, 5, 20, 64 * length + 3, rows * length - 1] {
            let difference = (loss(&moved(&x, i, h), &scale, &bias) - loss(&moved(&x, i, -h), &scale, &bias)) / f64::from(2.0 * h);
            assert!((difference - f64::from(dx[i])).abs() < 2e-2, "dx {i}: {difference} but {}", dx[i]);
        }
        for i in [0, 20] {
            let by_scale = (loss(&x, &moved(&scale, i, h), &bias) - loss(&x, &moved(&scale, i, -h), &bias)) / f64::from(2.0 * h);
            let by_bias = (loss(&x, &scale, &moved(&bias, i, h)) - loss(&x, &scale, &moved(&bias, i, -h))) / f64::from(2.0 * h);
            assert!((by_scale - f64::from(dscale[i])).abs() < 1e-2, "dscale {i}: {by_scale} but {}", dscale[i]);
            assert!((by_bias - f64::from(dbias[i])).abs() < 1e-2, "dbias {i}: {by_bias} but {}", dbias[i]);
        }
    }
}
