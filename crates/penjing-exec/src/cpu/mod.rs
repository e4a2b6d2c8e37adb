//! Kernels for the CPU on slices of `f32`: the only place for unsafe code beside the foreign runtime.
//!
//! Every function here gives the same bits at any number of threads: work is split over elements of the result or, where a
//! sum itself is split, into parts whose number and order depend on the shape alone. Shapes have been checked before they
//! come here, so that a mismatch is a defect of the caller and panics.

pub(crate) mod conv;
pub(crate) mod pool;
mod simd;
mod tile;
mod view;
