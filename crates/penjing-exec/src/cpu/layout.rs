//! From channels-first to channels-last and back.
#![allow(unsafe_code)] // `filled`

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::filled;

/// Rows that are turned together, so that each line of the cache is written once.
const ROWS: usize = 16;

/// Each of the matrices [rows, columns] that follow each other in `x`, turned to [columns, rows].
pub(crate) fn turned(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    if rows <= 1 || columns <= 1 {
        return x.to_vec();
    }
    let turn = |y: &mut [MaybeUninit<f32>]| {
        y.par_chunks_mut(rows * columns).zip(x.par_chunks(rows * columns)).for_each(|(y, x)| {
            for first in (0..columns).step_by(ROWS) {
                let last = (first + ROWS).min(columns);
                for (r, x) in x.chunks_exact(columns).enumerate() {
                    for (y, x) in y[first * rows..last * rows].chunks_exact_mut(rows).zip(&x[first..last]) {
                        y[r].write(*x);
                    }
                }
            }
        });
    };
    // SAFETY: every row and column of every matrix is written.
    unsafe { filled(x.len(), turn) }
}

/// Where elements of a tensor lie: the first, and the distance to the next along each axis.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) first: usize,
    pub(crate) strides: Vec<usize>,
}

/// Copies `counts` elements along each axis from places of `x` to places of `y`.
pub(crate) fn copy(counts: &[usize], x: &[f32], from: &Places, y: &mut [f32], to: &Places) {
    if counts.contains(&0) {
        return;
    }
    copy_axis(counts, x, from.first, &from.strides, y, to.first, &to.strides);
}

/// The elements at places of `x`, in order.
pub(crate) fn gathered(counts: &[usize], x: &[f32], from: &Places) -> Vec<f32> {
    let size = counts.iter().product();
    let mut y = vec![0.0; size];
    let (Some((count, inner)), Some((stride, strides))) = (counts.split_first(), from.strides.split_first()) else {
        copy(counts, x, from, &mut y, &Places { first: 0, strides: vec![] });
        return y;
    };
    if size > 0 {
        let to: Vec<usize> = (0..inner.len()).map(|i| inner[i + 1..].iter().product()).collect();
        let outer = y.par_chunks_mut(size / count).enumerate();
        outer.for_each(|(i, y)| copy_axis(inner, x, from.first + i * stride, strides, y, 0, &to));
    }
    y
}

fn copy_axis(counts: &[usize], x: &[f32], from: usize, x_strides: &[usize], y: &mut [f32], to: usize, y_strides: &[usize]) {
    match (counts, x_strides, y_strides) {
        ([], ..) => y[to] = x[from],
        ([count], [1], [1]) => y[to..to + count].copy_from_slice(&x[from..from + count]),
        ([count, counts @ ..], [x_stride, x_strides @ ..], [y_stride, y_strides @ ..]) => {
            for i in 0..*count {
                copy_axis(counts, x, from + i * x_stride, x_strides, y, to + i * y_stride, y_strides);
            }
        }
        _ => unreachable!("there is a stride for each axis"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_matrices_by_hand() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0];
        assert_eq!(turned(&x, 2, 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0, 10.0, 40.0, 20.0, 50.0, 30.0, 60.0]);
    }

    #[test]
    fn turning_back_gives_the_same() {
        for (rows, columns) in [(1, 7), (7, 1), (3, 40), (40, 3), (17, 16)] {
            let x: Vec<f32> = (0..5 * rows * columns).map(|i| i as f32).collect();
            assert_eq!(turned(&turned(&x, rows, columns), columns, rows), x);
        }
    }

    #[test]
    fn every_second_column_to_a_corner() {
        let x: Vec<f32> = (0..8).map(|i| i as f32).collect(); // [2, 4]
        let mut y = [9.0; 6]; // [2, 3]
        copy(&[2, 2], &x, &Places { first: 1, strides: vec![4, 2] }, &mut y, &Places { first: 1, strides: vec![3, 1] });
        assert_eq!(y, [9.0, 1.0, 3.0, 9.0, 5.0, 7.0]);
        assert_eq!(gathered(&[2, 2], &x, &Places { first: 1, strides: vec![2, 4] }), [1.0, 5.0, 3.0, 7.0]);
    }
}
