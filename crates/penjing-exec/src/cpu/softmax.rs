//! Softmax along rows, and its gradient.
#![allow(unsafe_code)] // `filled`

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::filled;
use super::functions::exp;
use super::simd::{Level, vectorized};

/// Sums that run side by side.
const LANES: usize = 16;

vectorized! {
    /// eˣ⁻ᵖᵉᵃᵏ / Σ eˣ⁻ᵖᵉᵃᵏ
    fn row(x: &[f32], y: &mut [MaybeUninit<f32>]) {
        let mut peaks = [f32::NEG_INFINITY; LANES];
        for x in x.chunks(LANES) {
            peaks.iter_mut().zip(x).for_each(|(peak, x)| *peak = if *x > *peak { *x } else { *peak });
        }
        let peak = peaks.into_iter().fold(f32::NEG_INFINITY, |peak, x| if x > peak { x } else { peak });
        let mut sums = [0.0; LANES];
        for (y, x) in y.chunks_mut(LANES).zip(x.chunks(LANES)) {
            for ((y, x), sum) in y.iter_mut().zip(x).zip(&mut sums) {
                *sum += *y.write(exp(x - peak));
            }
        }
        let share = 1.0 / sums.iter().sum::<f32>();
        // SAFETY: the loop before wrote each of them.
        y.iter_mut().for_each(|y| unsafe { *y.assume_init_mut() *= share });
    }

    /// y·(dy − Σ dy·y)
    fn gradient_row(y: &[f32], dy: &[f32], dx: &mut [MaybeUninit<f32>]) {
        let mut sums = [0.0; LANES];
        for (y, dy) in y.chunks(LANES).zip(dy.chunks(LANES)) {
            y.iter().zip(dy).zip(&mut sums).for_each(|((y, dy), sum)| *sum += y * dy);
        }
        let sum = sums.iter().sum::<f32>();
        dx.iter_mut().zip(y).zip(dy).for_each(|((dx, y), dy)| _ = dx.write(y * (dy - sum)));
    }
}

/// Softmax of rows of `length` elements.
pub(crate) fn forward(x: &[f32], length: usize) -> Vec<f32> {
    let level = Level::detect();
    let write = |y: &mut [MaybeUninit<f32>]| {
        y.par_chunks_mut(length).zip(x.par_chunks(length)).with_min_len(16).for_each(|(y, x)| row(level, x, y));
    };
    // SAFETY: every element of every row is written.
    unsafe { filled(x.len(), write) }
}

/// Gradient of the input from the output and its gradient.
pub(crate) fn gradient(y: &[f32], dy: &[f32], length: usize) -> Vec<f32> {
    let level = Level::detect();
    let write = |dx: &mut [MaybeUninit<f32>]| {
        let rows = dx.par_chunks_mut(length).zip(y.par_chunks(length)).zip(dy.par_chunks(length));
        rows.with_min_len(16).for_each(|((dx, y), dy)| gradient_row(level, y, dy, dx));
    };
    // SAFETY: every element of every row is written.
    unsafe { filled(y.len(), write) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_by_hand() {
        let y = forward(&[0.0, 3f32.ln(), 1000.0, 1000.0], 2);
        for (got, expected) in y.iter().zip([0.25, 0.75, 0.5, 0.5]) {
            assert!((got - expected).abs() < 1e-6, "{y:?}");
        }
        // y·(dy − Σ dy·y) = ¼·(1 − ¼), ¾·(0 − ¼); ½·(2 − 2) twice
        let dx = gradient(&y, &[1.0, 0.0, 2.0, 2.0], 2);
        for (got, expected) in dx.iter().zip([0.1875, -0.1875, 0.0, 0.0]) {
            assert!((got - expected).abs() < 1e-6, "{dx:?}");
        }
    }

    #[test]
    fn what_is_hidden_has_no_share() {
        let x: Vec<f32> = (0..37).map(|i| if i % 3 == 0 { f32::NEG_INFINITY } else { 1.0 }).collect();
        let y = forward(&x, 37);
        assert!(y.iter().enumerate().all(|(i, y)| if i % 3 == 0 { *y == 0.0 } else { (y - 1.0 / 24.0).abs() < 1e-6 }), "{y:?}");
    }
}
