//! AVX2, chosen by CPUID at run time.

use super::vector::Vector;
use super::{Backend, RowBlock, Term, passes, portable};
use crate::math::{Modulus, NttTable, Shoup};
use core::arch::x86_64::*;

cpufeatures::new!(cpu, "avx2", "bmi2");

/// x86-64 with AVX2; a value exists only where the processor has it.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Avx2(());

impl Avx2 {
    /// The backend, if this processor supports it.
    pub fn detect() -> Option<Self> {
        cpu::get().then_some(Self(()))
    }
}

vector_backend!(Avx2, Ymm, "avx2", "avx2,bmi2");

/// Eight words.
#[derive(Clone, Copy)]
struct Ymm(__m256i);

/// Even lanes of the upper words of 64-bit lanes of `even`, odd lanes of `odd`.
#[inline(always)]
fn upper(even: __m256i, odd: __m256i) -> __m256i {
    // SAFETY: called by the vector's methods only.
    unsafe { _mm256_blend_epi32::<0xaa>(_mm256_srli_epi64::<32>(even), odd) }
}

// SAFETY of every block below: `Avx2` exists only where these instructions do, and only its passes use `Ymm`;
// loads and stores stay inside slices whose length is checked to be at least 8.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one argument for all, above")]
impl Vector for Ymm {
    const LANES: usize = 8;
    const LEVELS: usize = 3;
    const COLUMNS: usize = 4;

    #[inline(always)]
    fn load(block: &[u32]) -> Self {
        match block.first_chunk::<8>() {
            Some(block) => Self(unsafe { _mm256_loadu_si256(block.as_ptr().cast()) }),
            None => Self::splat(0),
        }
    }

    #[inline(always)]
    fn store(self, block: &mut [u32]) {
        if let Some(block) = block.first_chunk_mut::<8>() {
            unsafe { _mm256_storeu_si256(block.as_mut_ptr().cast(), self.0) }
        }
    }

    #[inline(always)]
    fn splat(word: u32) -> Self {
        Self(unsafe { _mm256_set1_epi32(word as i32) })
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(unsafe { _mm256_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm256_sub_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(unsafe { _mm256_min_epu32(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_low(self, other: Self) -> Self {
        Self(unsafe { _mm256_mullo_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_high(self, w: Self, odd: Self) -> Self {
        unsafe { Self(upper(_mm256_mul_epu32(self.0, w.0), _mm256_mul_epu32(self.odd().0, odd.0))) }
    }

    #[inline(always)]
    fn odd(self) -> Self {
        Self(unsafe { _mm256_srli_epi64::<32>(self.0) })
    }

    #[inline(always)]
    fn reversed(self) -> Self {
        Self(unsafe { _mm256_permutevar8x32_epi32(self.0, _mm256_set_epi32(0, 1, 2, 3, 4, 5, 6, 7)) })
    }

    type Wide = (__m256i, __m256i);

    #[inline(always)]
    fn wide_zero() -> Self::Wide {
        unsafe { (_mm256_setzero_si256(), _mm256_setzero_si256()) }
    }

    #[inline(always)]
    fn wide_mul_add(sum: Self::Wide, a: Self, b: Self) -> Self::Wide {
        unsafe {
            let even = _mm256_mul_epu32(a.0, b.0);
            let odd = _mm256_mul_epu32(a.odd().0, b.odd().0);
            (_mm256_add_epi64(sum.0, even), _mm256_add_epi64(sum.1, odd))
        }
    }

    #[inline(always)]
    fn wide_signed_mul_add(sum: Self::Wide, x: Self, odd: Self, w: Self) -> Self::Wide {
        unsafe {
            let (even, odd) = (_mm256_mul_epi32(x.0, w.0), _mm256_mul_epi32(odd.0, w.0));
            (_mm256_add_epi64(sum.0, even), _mm256_add_epi64(sum.1, odd))
        }
    }

    #[inline(always)]
    fn wide_redc(sum: Self::Wide, neg_inv: Self, p: Self) -> Self {
        unsafe {
            let step = |x| _mm256_add_epi64(x, _mm256_mul_epu32(_mm256_mul_epu32(x, neg_inv.0), p.0));
            Self(upper(step(sum.0), step(sum.1)))
        }
    }

    /// Letters are blocks of 8, digits their 128-bit halves.
    #[inline(always)]
    fn split(k: usize, x: Self, y: Self) -> (Self, Self) {
        unsafe {
            match k {
                // (A0 B0), (A1 B1)
                0 => (
                    Self(_mm256_permute2x128_si256::<0x20>(x.0, y.0)),
                    Self(_mm256_permute2x128_si256::<0x31>(x.0, y.0)),
                ),
                // Low and high pairs of each half.
                1 => (Self(_mm256_unpacklo_epi64(x.0, y.0)), Self(_mm256_unpackhi_epi64(x.0, y.0))),
                // Even and odd elements.
                _ => (shuffle::<0x88>(x, y), shuffle::<0xdd>(x, y)),
            }
        }
    }

    #[inline(always)]
    fn join(k: usize, x: Self, y: Self) -> (Self, Self) {
        match k {
            // These two are their own inverses.
            0 | 1 => Self::split(k, x, y),
            _ => unsafe { (Self(_mm256_unpacklo_epi32(x.0, y.0)), Self(_mm256_unpackhi_epi32(x.0, y.0))) },
        }
    }

    #[inline(always)]
    fn gather(x: Self, y: Self) -> (Self, Self) {
        let (x, y) = Self::join(2, x, y);
        let (x, y) = Self::join(1, x, y);
        Self::join(0, x, y)
    }

    #[inline(always)]
    fn scatter(x: Self, y: Self) -> (Self, Self) {
        let (x, y) = Self::split(0, x, y);
        let (x, y) = Self::split(1, x, y);
        Self::split(2, x, y)
    }

    #[inline(always)]
    fn spread(k: usize, twiddles: &[u32]) -> Self {
        unsafe {
            match k {
                0 => match twiddles.first_chunk::<2>() {
                    Some(&[a, b]) => {
                        let (a, b) = (a as i32, b as i32);
                        Self(_mm256_setr_epi32(a, a, a, a, b, b, b, b))
                    }
                    None => Self::splat(0),
                },
                1 => match twiddles.first_chunk::<4>() {
                    Some(t) => {
                        let t = _mm256_castsi128_si256(_mm_loadu_si128(t.as_ptr().cast()));
                        Self(_mm256_permutevar8x32_epi32(t, _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0)))
                    }
                    None => Self::splat(0),
                },
                _ => {
                    let order = _mm256_set_epi32(7, 5, 6, 4, 3, 1, 2, 0);
                    Self(_mm256_permutevar8x32_epi32(Self::load(twiddles).0, order))
                }
            }
        }
    }

    #[inline(always)]
    fn prefetch(block: &[u32; 16]) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().cast()) }
    }

    #[inline(always)]
    fn permute(block: &[u32; 16], order: &[u8; 16]) -> [u32; 16] {
        let (low, high) = block.split_at(8);
        let (low, high) = (Self::load(low), Self::load(high));
        let mut out = [0; 16];
        for (out, order) in out.chunks_exact_mut(8).zip(order.chunks_exact(8)) {
            unsafe {
                let order = _mm256_cvtepu8_epi32(_mm_loadl_epi64(order.as_ptr().cast()));
                let (x, y) = (_mm256_permutevar8x32_epi32(low.0, order), _mm256_permutevar8x32_epi32(high.0, order));
                // Bit 3 of the order says which half; moved to the sign it selects.
                let half = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(order));
                let x = _mm256_blendv_ps(_mm256_castsi256_ps(x), _mm256_castsi256_ps(y), half);
                Self(_mm256_castps_si256(x)).store(out);
            }
        }
        out
    }
}

#[inline(always)]
fn shuffle<const M: i32>(x: Ymm, y: Ymm) -> Ymm {
    // SAFETY: called by the vector's methods only.
    unsafe { Ymm(_mm256_castps_si256(_mm256_shuffle_ps::<M>(_mm256_castsi256_ps(x.0), _mm256_castsi256_ps(y.0)))) }
}
