//! Kernels for the CPU on slices: the only place for unsafe code.
