//! From numbers to codes of 8 and 16 bits and back, in parts on all threads.
#![allow(unsafe_code)] // `filled`

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::filled;
use super::simd::{Level, vectorized};

/// Elements of a part.
const PART: usize = 1 << 14;
/// 1.5 · 2²³: a number of at most 2²² that is added to it is rounded to an integer, halves to even, which the last bits hold.
const ROUND: f32 = 12_582_912.0;

/// An integer that is a code.
pub(crate) trait Code: Copy + Send + Sync {
    /// The integer, which the type has.
    fn of(n: i32) -> Self;
    /// The nearest number.
    fn number(self) -> f32;
}

macro_rules! codes {
    ($($type:ty),*) => { $(
        impl Code for $type {
            #[inline(always)]
            fn of(n: i32) -> $type {
                n as $type
            }

            #[inline(always)]
            fn number(self) -> f32 {
                self as f32
            }
        }
    )* };
}
codes!(i8, u8, i16, u16, i32);

/// One scale and one zero point for each of so many positions: element i has those at i / `inner` % their number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid<'a> {
    pub(crate) scale: &'a [f32],
    pub(crate) zero: &'a [f32],
    pub(crate) inner: usize,
}

impl<'a> Grid<'a> {
    /// Calls `part` with pieces of x and y and with what holds for them: one scale, or one for each element.
    fn parts<X: Sync, Y: Send>(self, x: &[X], y: &mut [MaybeUninit<Y>], part: impl Fn(&[X], Grid<'a>, &mut [MaybeUninit<Y>]) + Sync) {
        let count = self.scale.len();
        assert!(count > 0 && count == self.zero.len() && self.inner > 0, "there is a zero point for each scale");
        let at = |i: usize| Grid { scale: &self.scale[i..=i], zero: &self.zero[i..=i], inner: self.inner };
        if count == 1 {
            y.par_chunks_mut(PART).zip(x.par_chunks(PART)).for_each(|(y, x)| part(x, self, y));
        } else if self.inner == 1 {
            let rows = count * PART.div_ceil(count);
            y.par_chunks_mut(rows).zip(x.par_chunks(rows)).for_each(|(y, x)| {
                y.chunks_mut(count).zip(x.chunks(count)).for_each(|(y, x)| part(x, self, y));
            });
        } else {
            let pieces = y.par_chunks_mut(self.inner).zip(x.par_chunks(self.inner)).enumerate();
            pieces.with_min_len(PART.div_ceil(self.inner)).for_each(|(i, (y, x))| part(x, at(i % count), y));
        }
    }
}

/// The integer nearest to x / scale, of two the even one, shifted by `zero` and kept between two bounds; the lower one where x is
/// not a number.
#[inline(always)]
fn code(x: f32, scale: f32, zero: f32, [lo, hi]: [f32; 2]) -> i32 {
    let (lo, hi) = (lo - zero, hi - zero);
    let steps = x / scale;
    let steps = if steps > lo { steps } else { lo };
    let steps = if steps < hi { steps } else { hi };
    (steps + ROUND).to_bits() as i32 - ROUND.to_bits() as i32 + zero as i32
}

vectorized! {
    fn quantize_all[T: Code](x: &[f32], scale: f32, zero: f32, range: [f32; 2], y: &mut [MaybeUninit<T>]) {
        y.iter_mut().zip(x).for_each(|(y, x)| _ = y.write(T::of(code(*x, scale, zero, range))));
    }

    fn quantize_each[T: Code](x: &[f32], scale: &[f32], zero: &[f32], range: [f32; 2], y: &mut [MaybeUninit<T>]) {
        y.iter_mut().zip(x).zip(scale).zip(zero).for_each(|(((y, x), scale), zero)| _ = y.write(T::of(code(*x, *scale, *zero, range))));
    }

    fn dequantize_all[T: Code](x: &[T], scale: f32, zero: f32, y: &mut [MaybeUninit<f32>]) {
        y.iter_mut().zip(x).for_each(|(y, x)| _ = y.write((x.number() - zero) * scale));
    }

    fn dequantize_each[T: Code](x: &[T], scale: &[f32], zero: &[f32], y: &mut [MaybeUninit<f32>]) {
        y.iter_mut().zip(x).zip(scale).zip(zero).for_each(|(((y, x), scale), zero)| _ = y.write((x.number() - zero) * scale));
    }
}

/// round(x / scale) + zero point, halves to even, kept within `range`, which T must have; zero points lie within it.
pub(crate) fn quantize<T: Code>(x: &[f32], grid: Grid<'_>, range: [f32; 2]) -> Vec<T> {
    let level = Level::detect();
    let write = |y: &mut [MaybeUninit<T>]| {
        grid.parts(x, y, |x, grid, y| match (grid.scale, grid.zero) {
            ([scale], [zero]) => quantize_all(level, x, *scale, *zero, range, y),
            (scale, zero) => quantize_each(level, x, scale, zero, range, y),
        });
    };
    // SAFETY: every element of every part is written.
    unsafe { filled(x.len() / grid.unit() * grid.unit(), write) }
}

/// (x − zero point) · scale
pub(crate) fn dequantize<T: Code>(x: &[T], grid: Grid<'_>) -> Vec<f32> {
    let level = Level::detect();
    let write = |y: &mut [MaybeUninit<f32>]| {
        grid.parts(x, y, |x, grid, y| match (grid.scale, grid.zero) {
            ([scale], [zero]) => dequantize_all(level, x, *scale, *zero, y),
            (scale, zero) => dequantize_each(level, x, scale, zero, y),
        });
    };
    // SAFETY: every element of every part is written.
    unsafe { filled(x.len() / grid.unit() * grid.unit(), write) }
}

impl Grid<'_> {
    /// Elements of a piece that is written as a whole.
    fn unit(self) -> usize {
        if self.scale.len() == 1 { 1 } else { self.scale.len() * self.inner }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::on_threads;

    const INT8: [f32; 2] = [-128.0, 127.0];

    #[test]
    fn halves_go_to_the_even_number() {
        let grid = Grid { scale: &[2.0], zero: &[0.0], inner: 1 };
        // x / 2 = 0.5, 1.5, 2.5, −0.5, −1.5, 3.49
        assert_eq!(quantize::<i8>(&[1.0, 3.0, 5.0, -1.0, -3.0, 6.98], grid, INT8), [0, 2, 2, 0, -2, 3]);
        // Rounding comes before the shift: round(0.5) + 1.
        assert_eq!(quantize::<u8>(&[1.0], Grid { zero: &[1.0], ..grid }, [0.0, 255.0]), [1]);
    }

    #[test]
    fn what_is_beyond_the_codes_is_kept_within_them() {
        let grid = Grid { scale: &[0.1], zero: &[10.0], inner: 1 };
        let x = [1e30, f32::INFINITY, 11.75, 11.64, -13.85, -1e30, f32::NEG_INFINITY, f32::NAN];
        assert_eq!(quantize::<i8>(&x, grid, INT8), [127, 127, 127, 126, -128, -128, -128, -128]);
        assert_eq!(quantize::<i8>(&x, grid, [-8.0, 7.0]), [7, 7, 7, 7, -8, -8, -8, -8]);
        let wide = Grid { scale: &[1.0], zero: &[65535.0], inner: 1 };
        assert_eq!(quantize::<u16>(&[-65535.0, -65536.0, 1.0], wide, [0.0, 65535.0]), [0, 0, 65535]);
    }

    #[test]
    fn scales_of_rows_and_of_planes() {
        let (scale, zero) = ([1.0, 0.5], [0.0, 3.0]);
        // One scale for each of two elements that stand side by side, or for each of two planes of two elements.
        let row = Grid { scale: &scale, zero: &zero, inner: 1 };
        assert_eq!(quantize::<i8>(&[1.0, 1.0, 2.0, 2.0], row, INT8), [1, 5, 2, 7]);
        assert_eq!(dequantize(&[1i8, 5, 2, 7], row), [1.0, 1.0, 2.0, 2.0]);
        let planes = Grid { inner: 2, ..row };
        assert_eq!(quantize::<i8>(&[1.0, 2.0, 1.0, 2.0], planes, INT8), [1, 2, 5, 7]);
        assert_eq!(dequantize(&[1i8, 2, 5, 7], planes), [1.0, 2.0, 1.0, 2.0]);
    }

    #[test]
    fn every_instruction_set_and_number_of_threads_gives_the_same() {
        let n = 2 * PART + 4; // a multiple of 6
        let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin() * 40.0).collect();
        let expected: Vec<u8> = x.iter().map(|x| ((x / 0.3).round_ties_even() + 120.0).clamp(0.0, 255.0) as u8).collect();
        for level in Level::available() {
            let mut y = vec![MaybeUninit::new(0u8); n];
            quantize_all(level, &x, 0.3, 120.0, [0.0, 255.0], &mut y);
            // SAFETY: each element was initialised.
            assert!(y.iter().zip(&expected).all(|(y, e)| unsafe { y.assume_init() } == *e), "{level:?}");
        }
        for (scale, inner) in [(vec![0.3], 1), (vec![0.3; 3], 1), (vec![0.3; 2], n / 2), (vec![0.3; 3], 2)] {
            let zero = vec![120.0; scale.len()];
            let grid = Grid { scale: &scale, zero: &zero, inner };
            let codes: Vec<Vec<u8>> = [1, 3].map(|threads| on_threads(threads, || quantize(&x, grid, [0.0, 255.0]))).to_vec();
            assert!(codes.iter().all(|codes| codes[..] == expected[..codes.len()] && codes.len() == n), "{inner}");
            assert_eq!(dequantize(&codes[0], grid), expected.iter().map(|c| (f32::from(*c) - 120.0) * 0.3).collect::<Vec<_>>());
        }
    }
}
