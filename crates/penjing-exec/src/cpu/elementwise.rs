//! Functions of single elements, in parts on all threads.
#![allow(unsafe_code)] // `filled`

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::filled;
use super::simd::{Level, vectorized};

/// Elements of a part.
const PART: usize = 1 << 14;
/// Sums that run side by side.
const LANES: usize = 16;

vectorized! {
    fn map_part[F: Fn(f32) -> f32](x: &[f32], y: &mut [MaybeUninit<f32>], f: &F) {
        y.iter_mut().zip(x).for_each(|(y, x)| _ = y.write(f(*x)));
    }

    fn map_part_in_place[F: Fn(f32) -> f32](x: &mut [f32], f: &F) {
        x.iter_mut().for_each(|x| *x = f(*x));
    }

    fn zip_part[F: Fn(f32, f32) -> f32](a: &[f32], b: &[f32], y: &mut [MaybeUninit<f32>], f: &F) {
        y.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| _ = y.write(f(*a, *b)));
    }

    fn sum_part_of_squares(x: &[f32], sums: &mut [f64; LANES]) {
        for x in x.chunks(LANES) {
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
        }
    }

    fn zip_part_in_place[F: Fn(f32, f32) -> f32](a: &mut [f32], b: &[f32], f: &F) {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = f(*a, *b));
    }
}

/// f of each element.
pub(crate) fn map(x: &[f32], f: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
    let level = Level::detect();
    let write = |y: &mut [MaybeUninit<f32>]| {
        y.par_chunks_mut(PART).zip(x.par_chunks(PART)).for_each(|(y, x)| map_part(level, x, y, &f));
    };
    // SAFETY: every element of every part is written.
    unsafe { filled(x.len(), write) }
}

/// f of each element, in its place.
pub(crate) fn map_in_place(x: &mut [f32], f: impl Fn(f32) -> f32 + Sync) {
    let level = Level::detect();
    x.par_chunks_mut(PART).for_each(|x| map_part_in_place(level, x, &f));
}

/// f of each pair of elements.
pub(crate) fn zip(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    assert_eq!(a.len(), b.len(), "operands are of one shape");
    let level = Level::detect();
    let write = |y: &mut [MaybeUninit<f32>]| {
        y.par_chunks_mut(PART).zip(a.par_chunks(PART)).zip(b.par_chunks(PART)).for_each(|((y, a), b)| zip_part(level, a, b, y, &f));
    };
    // SAFETY: every element of every part is written.
    unsafe { filled(a.len(), write) }
}

/// f of each pair of elements, in the place of the first.
pub(crate) fn zip_in_place(a: &mut [f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    assert_eq!(a.len(), b.len(), "operands are of one shape");
    let level = Level::detect();
    a.par_chunks_mut(PART).zip(b.par_chunks(PART)).for_each(|(a, b)| zip_part_in_place(level, a, b, &f));
}

/// f of each element and the one of the row, which repeats.
pub(crate) fn zip_row(x: &[f32], row: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    let (level, part) = (Level::detect(), row.len() * PART.div_ceil(row.len()));
    let write = |y: &mut [MaybeUninit<f32>]| {
        y.par_chunks_mut(part).zip(x.par_chunks(part)).for_each(|(y, x)| {
            y.chunks_mut(row.len()).zip(x.chunks(row.len())).for_each(|(y, x)| zip_part(level, x, row, y, &f));
        });
    };
    // SAFETY: every element of every part is written, since rows are whole.
    unsafe { filled(x.len() / row.len() * row.len(), write) }
}

/// [`zip_row`] in the place of the elements.
pub(crate) fn zip_row_in_place(x: &mut [f32], row: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    let (level, part) = (Level::detect(), row.len() * PART.div_ceil(row.len()));
    x.par_chunks_mut(part).for_each(|x| x.chunks_mut(row.len()).for_each(|x| zip_part_in_place(level, x, row, &f)));
}

/// Σ x² in double precision.
pub(crate) fn sum_of_squares(x: &[f32]) -> f64 {
    let level = Level::detect();
    let part = |x: &[f32]| {
        let mut sums = [0.0; LANES];
        sum_part_of_squares(level, x, &mut sums);
        sums.iter().sum::<f64>()
    };
    x.par_chunks(PART).map(part).collect::<Vec<f64>>().into_iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_all_of_the_tensor() {
        for n in [0, 1, PART - 1, 2 * PART + 3] {
            let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let doubled: Vec<f32> = x.iter().map(|x| 2.0 * x).collect();
            assert_eq!(map(&x, |x| 2.0 * x), doubled);
            assert_eq!(zip(&x, &x, |a, b| a + b), doubled);
            let mut y = x.clone();
            map_in_place(&mut y, |x| x + 1.0);
            zip_in_place(&mut y, &x, |a, b| a - b);
            assert!(y.iter().all(|y| *y == 1.0));
            assert_eq!(sum_of_squares(&y), n as f64);
        }
    }

    #[test]
    fn a_row_repeats_over_all_parts() {
        let x = vec![1.0; 3 * (PART + 1)];
        let mut y = zip_row(&x, &[1.0, 2.0, 3.0], |x, row| x + row);
        assert!(y.chunks(3).all(|y| y == [2.0, 3.0, 4.0]));
        zip_row_in_place(&mut y, &[1.0, 2.0, 3.0], |x, row| x - row);
        assert_eq!(x, y);
    }
}
