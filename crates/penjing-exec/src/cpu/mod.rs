//! Kernels for the CPU on slices of `f32`: the only place for unsafe code beside the foreign runtime.
//!
//! Tensors with channels and spatial axes are channels-last here: [N, rows, columns, C], so that a vector of the processor
//! holds channels, whatever the size of the images.
//!
//! Every function here gives the same bits at any number of threads: work is split over elements of the result or, where a
//! sum itself is split, into parts whose number and order depend on the shape alone. Shapes have been checked before they
//! come here, so that a mismatch is a defect of the caller and panics.
#![allow(unsafe_code)] // `filled`

pub(crate) mod batch_norm;
pub(crate) mod conv;
mod depthwise;
pub(crate) mod elementwise;
pub(crate) mod functions;
pub(crate) mod layer_norm;
pub(crate) mod layout;
pub(crate) mod matmul;
pub(crate) mod memory;
pub(crate) mod optimizer;
mod panels;
pub(crate) mod pool;
pub(crate) mod quantize;
mod simd;
pub(crate) mod softmax;
mod tile;
mod window;

use std::mem::MaybeUninit;

/// A vector of `n` elements, written by `fill`.
///
/// # Safety
/// `fill` writes every element.
unsafe fn filled<T: Copy>(n: usize, fill: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut values = Vec::with_capacity(n);
    let spare = &mut values.spare_capacity_mut()[..n];
    if cfg!(debug_assertions) {
        // Not a number, so that an element that was left out shows.
        // SAFETY: any bit pattern will do for memory that may hold none.
        unsafe { std::ptr::write_bytes(spare.as_mut_ptr(), 0xff, n) };
    }
    fill(spare);
    // SAFETY: the capacity is at least `n`, and `fill` wrote `n` elements.
    unsafe { values.set_len(n) };
    values
}

/// What `f` gives on so many threads.
#[cfg(test)]
fn on_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(f)
}
