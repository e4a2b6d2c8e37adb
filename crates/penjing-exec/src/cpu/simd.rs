//! Vectors of the processor at hand, behind one small vocabulary.
#![allow(unsafe_code)] // Vector instructions are reached through intrinsics.

use std::sync::LazyLock;

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
    unsafe fn sum(vector: Self::Vector) -> f32;
}

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
            levels.extend(is_x86_feature_detected!("avx512f").then_some(Level::Avx512));
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

    #[inline(always)]
    unsafe fn sum(v: [f32; 8]) -> f32 {
        let [a, b, c, d] = [v[0] + v[4], v[1] + v[5], v[2] + v[6], v[3] + v[7]];
        (a + c) + (b + d)
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

        #[inline(always)]
        unsafe fn sum(vector: __m256) -> f32 {
            // SAFETY: as the trait demands.
            unsafe {
                let four = _mm_add_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps::<1>(vector));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
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

        #[inline(always)]
        unsafe fn sum(vector: __m512) -> f32 {
            // SAFETY: as the trait demands.
            unsafe { _mm512_reduce_add_ps(vector) }
        }
    }
}
