//! Products of matrices.
#![allow(unsafe_code)] // Tiles are handed to the innermost loop as pointers.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::filled;
use super::panels::{Order, Panels};
use super::simd::{Level, MOST_LANES};
use super::tile::{self, ROWS, Start, Tile, VECTORS};

/// Terms of a sum that are added up before the next panel: so much of both operands stays in the cache.
const DEPTH: usize = 256;

/// Columns that are turned together, so that a line of the cache is read once.
const TURNED: usize = 16;

/// A matrix in memory.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// What it lies in; the first is that of row 0 and column 0.
    pub elements: &'a [f32],
    /// Elements from a row to the next.
    pub row: usize,
    /// Elements from a column to the next.
    pub column: usize,
}

/// Y [m, n] of A [m, k] and B [k, n], for each pair, one after the other; `k` is not zero. The same bits at any number of threads.
///
/// # Panics
/// When there are more of one than of the other, or a matrix is shorter than its sizes say.
pub fn products(a: &[Matrix<'_>], b: &[Matrix<'_>], sizes: [usize; 3]) -> Vec<f32> {
    products_on(Level::detect(), a, b, sizes)
}

fn products_on(level: Level, a: &[Matrix<'_>], b: &[Matrix<'_>], [m, k, n]: [usize; 3]) -> Vec<f32> {
    assert_eq!(a.len(), b.len(), "matrices come in pairs");
    let reach = |x: &Matrix<'_>, rows: usize, columns: usize| (rows - 1) * x.row + (columns - 1) * x.column;
    let size = a.len() * m * n;
    if size == 0 {
        return vec![];
    }
    assert!(
        a.iter().all(|a| reach(a, m, k) < a.elements.len()) && b.iter().all(|b| reach(b, k, n) < b.elements.len()),
        "a matrix is short"
    );
    let threads = rayon::current_num_threads();
    let wanted = (m / (2 * threads)).clamp(16, 96);
    let order = |b: &Matrix<'_>| Order { columns: n, column: b.column, depth: k, channel: b.row };
    let pack = |b: &Matrix<'_>| Panels::new(level, 1, &order(b), &[0], b.elements, None);
    let write = |y: &mut [MaybeUninit<f32>]| {
        y.par_chunks_mut(m * n).zip(a).zip(b).for_each(|((y, a), b)| {
            let panels = pack(b);
            y.par_chunks_mut(wanted * n).enumerate().for_each(|(i, y)| {
                rows_of_product(a, i * wanted..i * wanted + y.len() / n, &panels, y);
            });
        });
    };
    // SAFETY: `rows_of_product` writes every element of its rows.
    unsafe { filled(size, write) }
}

/// Some rows of one product.
fn rows_of_product(a: &Matrix<'_>, rows: Range<usize>, panels: &Panels, y: &mut [MaybeUninit<f32>]) {
    let (depth, columns, lanes) = (panels.depth, panels.columns, panels.level.lanes());
    // Rows are read along memory.
    let mut turned = vec![];
    let (elements, row, first) = if a.column == 1 || depth == 1 {
        (a.elements, a.row, rows.start)
    } else {
        turned.resize(rows.len() * depth, 0.0);
        for first in (0..depth).step_by(TURNED) {
            let terms = first..(first + TURNED).min(depth);
            for (r, turned) in turned.chunks_exact_mut(depth).enumerate() {
                let column = a.elements[(rows.start + r) * a.row + first * a.column..].iter().step_by(a.column);
                turned[terms.clone()].iter_mut().zip(column).for_each(|(to, from)| *to = *from);
            }
        }
        (&turned[..], depth, 0)
    };
    let zeros = [0.0; VECTORS * MOST_LANES];
    let mut spread = [0.0; ROWS * VECTORS * MOST_LANES];
    for start in (0..depth).step_by(DEPTH) {
        let length = DEPTH.min(depth - start);
        for panel in &panels.panels {
            let width = panel.vectors * lanes;
            let whole = width == panel.columns.len();
            let count = tile::rows_for(panels.level, panel.vectors);
            for top in (0..rows.len()).step_by(count) {
                let count = count.min(rows.len() - top);
                let mut call = Tile {
                    a: [std::ptr::null(); ROWS],
                    runs: &[0],
                    length,
                    stride: 1,
                    b: panel.weights[start * width..(start + length) * width].as_ptr(),
                    start: if start == 0 { Start::Bias(zeros.as_ptr()) } else { Start::Result },
                    out: [std::ptr::null_mut(); ROWS],
                };
                for r in 0..count {
                    call.a[r] = elements[(first + top + r) * row + start..][..length].as_ptr();
                    let y = &mut y[(top + r) * columns + panel.columns.start..][..panel.columns.len()];
                    call.out[r] = if whole { y.as_mut_ptr().cast() } else { spread[r * width..].as_mut_ptr() };
                    if !whole && start > 0 {
                        // SAFETY: the panel's columns of this row were written at the first terms.
                        y.iter().zip(&mut spread[r * width..]).for_each(|(y, spread)| *spread = unsafe { y.assume_init() });
                    }
                }
                // SAFETY: `Level` is of this processor. Rows of A were sliced, the panel has a row of `width` for each term, and a row
                // of the result has `width` elements in `y` where the panel is whole, else in `spread`, which has room for the
                // largest tile.
                unsafe { tile::kernel(panels.level, count, panel.vectors)(&call) };
                if !whole {
                    for (r, spread) in spread.chunks_exact(width).take(count).enumerate() {
                        let y = &mut y[(top + r) * columns + panel.columns.start..][..panel.columns.len()];
                        y.iter_mut().zip(spread).for_each(|(y, value)| _ = y.write(*value));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::on_threads;

    #[test]
    fn two_by_two_by_hand() {
        let a = Matrix { elements: &[1.0, 2.0, 3.0, 4.0], row: 2, column: 1 };
        let b = Matrix { elements: &[5.0, 6.0, 7.0, 8.0], row: 2, column: 1 };
        assert_eq!(products(&[a], &[b], [2, 2, 2]), [19.0, 22.0, 43.0, 50.0]);
        let turned = Matrix { row: 1, column: 2, ..a };
        assert_eq!(products(&[turned, a], &[b, b], [2, 2, 2]), [26.0, 30.0, 38.0, 44.0, 19.0, 22.0, 43.0, 50.0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn equals_the_sums_in_f64_at_any_number_of_threads(
            pairs in 1usize..4, m in 1usize..60, k in prop_oneof![1usize..40, 500usize..1100], n in 1usize..60, turned: (bool, bool), seed: u32,
        ) {
            let numbers = |len: usize, salt: u32| -> Vec<f32> {
                (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) ^ seed ^ salt) as f32 / 2f32.powi(31) - 1.0).collect()
            };
            let (a, b) = (numbers(pairs * m * k, 1), numbers(pairs * k * n, 2));
            let stored = |turned: bool, rows: usize, columns: usize| if turned { (1, rows) } else { (columns, 1) };
            let ((a_row, a_column), (b_row, b_column)) = (stored(turned.0, m, k), stored(turned.1, k, n));
            let left: Vec<_> = a.chunks(m * k).map(|elements| Matrix { elements, row: a_row, column: a_column }).collect();
            let right: Vec<_> = b.chunks(k * n).map(|elements| Matrix { elements, row: b_row, column: b_column }).collect();
            for level in Level::available() {
                let run = |threads| on_threads(threads, || products_on(level, &left, &right, [m, k, n]));
                let y = run(1);
                prop_assert_eq!(&y, &run(3));
                for (i, y) in y.iter().enumerate() {
                    let (pair, row, column) = (i / (m * n), i / n % m, i % n);
                    let at = |x: &Matrix<'_>, row: usize, column: usize| f64::from(x.elements[row * x.row + column * x.column]);
                    let expected: f64 = (0..k).map(|k| at(&left[pair], row, k) * at(&right[pair], k, column)).sum();
                    prop_assert!((expected - f64::from(*y)).abs() < 1e-6 * k as f64 + 1e-6, "{:?} {}: {} but {}", level, i, expected, y);
                }
            }
        }
    }
}
