//! Vectors of the processor at hand, behind one small vocabulary.
#![allow(unsafe_code)] // Vector instructions are reached through intrinsics.

use std::sync::LazyLock;

/// A function compiled for each instruction set, so that the compiler turns its loops into vectors as wide as there are; which
/// one runs is said by a [`Level`] before the arguments.
macro_rules! vectorized {
    ($($(#[$meta:meta])* fn $name:ident $([$($generics:tt)*])? ($($arg:ident: $type:ty),* $(,)?) $body:block)*) => { $(
        $(#[$meta])*
        fn $name $(<$($generics)*>)? (level: $crate::cpu::simd::Level, $($arg: $type),*) {
            #[inline(always)]
            fn portable $(<$($generics)*>)? ($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2 $(<$($generics)*>)? ($($arg: $type),*) {
                portable($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            unsafe fn avx512 $(<$($generics)*>)? ($($arg: $type),*) {
                portable($($arg),*)
            }

            match level {
                $crate::cpu::simd::Level::Portable => portable($($arg),*),
                // SAFETY: a `Level` is of this processor.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Level::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    )* };
}
pub(super) use vectorized;

/// What the kernels need of a vector. Implementations are inlined into functions compiled for their instruction set.
///
/// # Safety
/// Methods may be called only where [`Level::detect`] found the instruction set; pointers must be good for [`Simd::LANES`]
/// elements and need no alignment.
pub(super) unsafe trait Simd {
    type Vector: Copy;
    const LANES: usize;

    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, vector: Self::Vector);
    /// a · b + c
    unsafe fn fma(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
}

/// Elements of the widest vector.
pub(super) const MOST_LANES: usize = 16;

/// Instruction sets, the widest last. A result may differ in its last bits from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// What every processor of the architecture has.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The widest of this processor.
    pub(super) fn detect() -> Level {
        static WIDEST: LazyLock<Level> = LazyLock::new(|| Level::available().pop().unwrap_or(Level::Portable));
        *WIDEST
    }

    /// Those of this processor.
    pub(super) fn available() -> Vec<Level> {
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend((is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Level::Avx2));
            let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
            let complete = wide && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl");
            levels.extend(complete.then_some(Level::Avx512));
        }
        levels
    }

    /// Elements of a vector.
    pub(super) fn lanes(self) -> usize {
        match self {
            Level::Portable => Portable::LANES,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::Avx512::LANES,
        }
    }
}

/// Arrays that the compiler turns into whatever vectors the architecture has.
pub(super) struct Portable;

// SAFETY: plain Rust, for any processor.
unsafe impl Simd for Portable {
    type Vector = [f32; 8];
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 8] {
        [value; 8]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 8] {
        // SAFETY: good for eight elements; `read_unaligned` asks for no alignment.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, vector: [f32; 8]) {
        // SAFETY: good for eight elements; `write_unaligned` asks for no alignment.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(vector) }
    }

    #[inline(always)]
    unsafe fn fma(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| if cfg!(target_arch = "aarch64") { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] })
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// Eight lanes, sixteen registers.
    pub(in super::super) struct Avx2;

    // SAFETY: intrinsics of AVX2 and FMA, which the caller vouches for.
    unsafe impl Simd for Avx2 {
        type Vector = __m256;
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m256 {
            // SAFETY: as the trait demands.
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            // SAFETY: as the trait demands.
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: __m256) {
            // SAFETY: as the trait demands.
            unsafe { _mm256_storeu_ps(to, vector) }
        }

        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: as the trait demands.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
    }

    /// Sixteen lanes, thirty-two registers.
    pub(in super::super) struct Avx512;

    // SAFETY: intrinsics of AVX-512F, which the caller vouches for.
    unsafe impl Simd for Avx512 {
        type Vector = __m512;
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m512 {
            // SAFETY: as the trait demands.
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            // SAFETY: as the trait demands.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: __m512) {
            // SAFETY: as the trait demands.
            unsafe { _mm512_storeu_ps(to, vector) }
        }

        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: as the trait demands.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
    }
}
