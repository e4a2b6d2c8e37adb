//! The two innermost loops: a few rows of a product, and a few sums of products.
//!
//! Both read one operand through a table of offsets, so that the matrix of a convolution is never written out where the
//! image itself can be read.
#![allow(unsafe_code)] // Reads and writes through pointers, in functions compiled for an instruction set.

use super::simd::{Level, Portable, Simd};

/// Most rows of a tile of products.
pub(super) const ROWS: usize = 6;
/// Most vectors of a tile of products.
pub(super) const VECTORS: usize = 8;

/// out[r][v] = bias[r] + Σₖ weights[k][r] · (the vector at `at[v] + steps[k]`), for the rows and vectors of one tile.
pub(super) struct Products<'a> {
    pub(super) steps: &'a [usize],
    /// `[steps, rows]`
    pub(super) weights: *const f32,
    pub(super) bias: [f32; ROWS],
    pub(super) at: [*const f32; VECTORS],
    pub(super) out: [*mut f32; VECTORS],
    /// Elements from a row of the result to the next.
    pub(super) out_row: usize,
}

/// Vectors that a tile of `rows` rows has registers for.
pub(super) fn vectors_for(rows: usize) -> usize {
    match rows {
        1 => 8,
        2 => 4,
        3 => 3,
        _ => 2,
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "r counts rows of pointers and of sums alike")]
unsafe fn products<S: Simd, const R: usize, const V: usize>(tile: &Products<'_>) {
    // SAFETY: the caller of the kernel vouches for pointers and instruction set.
    unsafe {
        let mut sums: [[S::Vector; V]; R] = std::array::from_fn(|r| [S::splat(tile.bias[r]); V]);
        let mut weights = tile.weights;
        for step in tile.steps {
            let x: [S::Vector; V] = std::array::from_fn(|v| S::load(tile.at[v].add(*step)));
            for r in 0..R {
                let w = S::splat(*weights.add(r));
                for v in 0..V {
                    sums[r][v] = S::fma(w, x[v], sums[r][v]);
                }
            }
            weights = weights.add(R);
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                S::store(tile.out[v].add(r * tile.out_row), sum);
            }
        }
    }
}

/// Most rows of a tile of sums.
pub(super) const SUM_ROWS: usize = 4;
/// Most columns of a tile of sums.
pub(super) const SUM_COLS: usize = 5;

/// out[r][c] += Σᵥ (the vector `v` of `dy[r]`) · (the vector at `x[c] + at[v]`), all lanes added up.
pub(super) struct Sums<'a> {
    pub(super) at: &'a [usize],
    pub(super) dy: [*const f32; SUM_ROWS],
    pub(super) x: [*const f32; SUM_COLS],
    pub(super) out: *mut f32,
    /// Elements from a row of the result to the next.
    pub(super) out_row: usize,
}

/// Columns that a tile of `rows` rows has registers for.
pub(super) fn columns_for(rows: usize) -> usize {
    match rows {
        1 | 2 => 5,
        3 => 4,
        _ => 3,
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "r counts rows of pointers and of sums alike")]
unsafe fn sums<S: Simd, const R: usize, const C: usize>(tile: &Sums<'_>) {
    // SAFETY: the caller of the kernel vouches for pointers and instruction set.
    unsafe {
        let mut sums = [[S::splat(0.0); C]; R];
        for (v, at) in tile.at.iter().enumerate() {
            let x: [S::Vector; C] = std::array::from_fn(|c| S::load(tile.x[c].add(*at)));
            for r in 0..R {
                let dy = S::load(tile.dy[r].add(v * S::LANES));
                for c in 0..C {
                    sums[r][c] = S::fma(dy, x[c], sums[r][c]);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (c, sum) in sums.into_iter().enumerate() {
                *tile.out.add(r * tile.out_row + c) += S::sum(sum);
            }
        }
    }
}

/// A compiled tile of products.
pub(super) type ProductKernel = unsafe fn(&Products<'_>);
/// A compiled tile of sums.
pub(super) type SumKernel = unsafe fn(&Sums<'_>);

/// Both loops for every size of tile, compiled for one instruction set.
macro_rules! compiled {
    ($name:ident, $simd:ty $(, $features:literal)?) => {
        mod $name {
            use super::*;

            $(#[target_feature(enable = $features)])?
            unsafe fn product<const R: usize, const V: usize>(tile: &Products<'_>) {
                // SAFETY: passed on to the caller.
                unsafe { products::<$simd, R, V>(tile) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn sum<const R: usize, const C: usize>(tile: &Sums<'_>) {
                // SAFETY: passed on to the caller.
                unsafe { sums::<$simd, R, C>(tile) }
            }

            pub(super) fn product_kernel(rows: usize, vectors: usize) -> ProductKernel {
                match (rows, vectors) {
                    (1, 1) => product::<1, 1>,
                    (1, 2) => product::<1, 2>,
                    (1, 3) => product::<1, 3>,
                    (1, 4) => product::<1, 4>,
                    (1, 5) => product::<1, 5>,
                    (1, 6) => product::<1, 6>,
                    (1, 7) => product::<1, 7>,
                    (1, 8) => product::<1, 8>,
                    (2, 1) => product::<2, 1>,
                    (2, 2) => product::<2, 2>,
                    (2, 3) => product::<2, 3>,
                    (2, 4) => product::<2, 4>,
                    (3, 1) => product::<3, 1>,
                    (3, 2) => product::<3, 2>,
                    (3, 3) => product::<3, 3>,
                    (4, 1) => product::<4, 1>,
                    (4, 2) => product::<4, 2>,
                    (5, 1) => product::<5, 1>,
                    (5, 2) => product::<5, 2>,
                    (6, 1) => product::<6, 1>,
                    (6, 2) => product::<6, 2>,
                    _ => unreachable!("no tile of {rows} rows and {vectors} vectors"),
                }
            }

            pub(super) fn sum_kernel(rows: usize, columns: usize) -> SumKernel {
                match (rows, columns) {
                    (1, 1) => sum::<1, 1>,
                    (1, 2) => sum::<1, 2>,
                    (1, 3) => sum::<1, 3>,
                    (1, 4) => sum::<1, 4>,
                    (1, 5) => sum::<1, 5>,
                    (2, 1) => sum::<2, 1>,
                    (2, 2) => sum::<2, 2>,
                    (2, 3) => sum::<2, 3>,
                    (2, 4) => sum::<2, 4>,
                    (2, 5) => sum::<2, 5>,
                    (3, 1) => sum::<3, 1>,
                    (3, 2) => sum::<3, 2>,
                    (3, 3) => sum::<3, 3>,
                    (3, 4) => sum::<3, 4>,
                    (4, 1) => sum::<4, 1>,
                    (4, 2) => sum::<4, 2>,
                    (4, 3) => sum::<4, 3>,
                    _ => unreachable!("no tile of {rows} rows and {columns} columns"),
                }
            }
        }
    };
}
compiled!(portable, Portable);
#[cfg(target_arch = "x86_64")]
compiled!(avx2, crate::cpu::simd::x86::Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled!(avx512, crate::cpu::simd::x86::Avx512, "avx512f");

/// The tile of products for so many rows and vectors.
pub(super) fn product_kernel(level: Level, rows: usize, vectors: usize) -> ProductKernel {
    match level {
        Level::Portable => portable::product_kernel(rows, vectors),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::product_kernel(rows, vectors),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => avx512::product_kernel(rows, vectors),
    }
}

/// The tile of sums for so many rows and columns.
pub(super) fn sum_kernel(level: Level, rows: usize, columns: usize) -> SumKernel {
    match level {
        Level::Portable => portable::sum_kernel(rows, columns),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::sum_kernel(rows, columns),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => avx512::sum_kernel(rows, columns),
    }
}
