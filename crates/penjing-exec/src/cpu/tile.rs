//! The innermost loop of products and convolutions: a few rows of a product, one operand read through a table of offsets.
//!
//! The image under a sliding window is never written out as a matrix: a row of the product begins at its own place in the
//! image, and the table leads from there to each cell of the window.
#![allow(unsafe_code)] // Reads and writes through pointers, in functions compiled for an instruction set.

use super::simd::{Level, Portable, Simd};

/// Most rows of a tile.
pub(super) const ROWS: usize = 8;
/// Most vectors of a tile: with three, the compiler runs out of registers where there are sixteen.
pub(super) const VECTORS: usize = 2;

/// What a tile's sums start from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    /// One vector of numbers for all rows.
    Bias(*const f32),
    /// What stands in the result.
    Result,
}

/// out[r][v] = start + Σ A[r][k] · B[k][v] for the rows and vectors of one tile. Row r of A stands at `a[r] + run + stride·j`
/// for each run and each j below `length`, in this order; rows of B stand side by side from `b` on.
pub(super) struct Tile<'a> {
    pub(super) a: [*const f32; ROWS],
    pub(super) runs: &'a [usize],
    pub(super) length: usize,
    pub(super) stride: usize,
    pub(super) b: *const f32,
    pub(super) start: Start,
    pub(super) out: [*mut f32; ROWS],
}

/// Rows that a tile of `vectors` vectors has registers for.
pub(super) fn rows_for(level: Level, vectors: usize) -> usize {
    match (level, vectors) {
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512, _) => ROWS,
        (_, 1) => ROWS,
        _ => 6,
    }
}

/// Steps of a loop whose distances are known.
const STEPS: usize = 4;

/// Adds the products of one element of each row and one row of vectors.
#[inline(always)]
unsafe fn add_step<S: Simd, const R: usize, const V: usize>(sums: &mut [[S::Vector; V]; R], a: [*const f32; R], b: *const f32) {
    // SAFETY: passed on to the caller.
    unsafe {
        let b: [S::Vector; V] = std::array::from_fn(|v| S::load(b.add(v * S::LANES)));
        for (sums, a) in sums.iter_mut().zip(a) {
            let a = S::splat(*a);
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = S::fma(a, b, *sum);
            }
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const V: usize>(tile: &Tile<'_>) {
    // SAFETY: the caller of the kernel vouches for pointers and instruction set.
    unsafe {
        let mut sums: [[S::Vector; V]; R] = match tile.start {
            Start::Bias(bias) => [std::array::from_fn(|v| S::load(bias.add(v * S::LANES))); R],
            Start::Result => std::array::from_fn(|r| std::array::from_fn(|v| S::load(tile.out[r].add(v * S::LANES)))),
        };
        let mut b = tile.b;
        for run in tile.runs {
            let a: [*const f32; R] = std::array::from_fn(|r| tile.a[r].add(*run));
            let mut done = 0;
            if tile.stride == 1 {
                // Most products: with distances that are known here, a step is little but loads and products.
                while done + STEPS <= tile.length {
                    for step in 0..STEPS {
                        let a = std::array::from_fn(|r| a[r].add(done + step));
                        add_step::<S, R, V>(&mut sums, a, b.add(step * V * S::LANES));
                    }
                    done += STEPS;
                    b = b.add(STEPS * V * S::LANES);
                }
            }
            for step in done..tile.length {
                add_step::<S, R, V>(&mut sums, std::array::from_fn(|r| a[r].add(step * tile.stride)), b);
                b = b.add(V * S::LANES);
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                S::store(tile.out[r].add(v * S::LANES), sum);
            }
        }
    }
}

/// A compiled tile.
pub(super) type Kernel = unsafe fn(&Tile<'_>);

/// The loop for every size of tile, compiled for one instruction set.
macro_rules! compiled {
    ($name:ident, $simd:ty $(, $features:literal)?) => {
        mod $name {
            use super::*;

            $(#[target_feature(enable = $features)])?
            unsafe fn sized<const R: usize, const V: usize>(call: &Tile<'_>) {
                // SAFETY: passed on to the caller.
                unsafe { tile::<$simd, R, V>(call) }
            }

            fn of_rows<const V: usize>(rows: usize) -> Kernel {
                match rows {
                    1 => sized::<1, V>,
                    2 => sized::<2, V>,
                    3 => sized::<3, V>,
                    4 => sized::<4, V>,
                    5 => sized::<5, V>,
                    6 => sized::<6, V>,
                    7 => sized::<7, V>,
                    8 => sized::<8, V>,
                    _ => unreachable!("no tile of {rows} rows"),
                }
            }

            pub(super) fn kernel(rows: usize, vectors: usize) -> Kernel {
                match vectors {
                    1 => of_rows::<1>(rows),
                    2 => of_rows::<2>(rows),
                    _ => unreachable!("no tile of {vectors} vectors"),
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

/// The tile of so many rows and vectors.
pub(super) fn kernel(level: Level, rows: usize, vectors: usize) -> Kernel {
    match level {
        Level::Portable => portable::kernel(rows, vectors),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::kernel(rows, vectors),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => avx512::kernel(rows, vectors),
    }
}
