//! AVX-512, chosen by CPUID at run time.

use super::vector::Vector;
use super::{Backend, RowBlock, Term, passes, portable};
use crate::math::{Modulus, NttTable, Shoup};
use core::arch::x86_64::*;

cpufeatures::new!(cpu, "avx2", "bmi2", "avx512f", "avx512bw", "avx512dq", "avx512vl");

/// x86-64 with AVX-512; a value exists only where the processor has it.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Avx512(());

impl Avx512 {
    /// The backend, if this processor supports it.
    pub fn detect() -> Option<Self> {
        cpu::get().then_some(Self(()))
    }
}

vector_backend!(Avx512, Zmm, "avx512", "avx2,bmi2,avx512f,avx512bw,avx512dq,avx512vl");

/// Sixteen words.
#[derive(Clone, Copy)]
struct Zmm(__m512i);

/// Even lanes of the upper words of 64-bit lanes of `even`, odd lanes of `odd`.
///
/// One instruction of one cycle, and every butterfly has it: from intrinsics the compiler makes a shift and a blend, or
/// a permutation of two vectors, which takes longer.
#[inline]
#[target_feature(enable = "avx512f")]
fn upper(even: __m512i, mut odd: __m512i) -> __m512i {
    // SAFETY: computes on registers only.
    unsafe {
        core::arch::asm!(
            "vmovshdup {odd}{{{mask}}}, {even}",
            odd = inout(zmm_reg) odd,
            even = in(zmm_reg) even,
            mask = in(kreg) 0x5555u16,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    odd
}

/// Lanes of two vectors: numbers below 16 are lanes of x, the others of y.
#[inline(always)]
fn lanes(x: Zmm, order: [i32; 16], y: Zmm) -> Zmm {
    // SAFETY: called by the vector's methods only; the load is of 16 words.
    unsafe { Zmm(_mm512_permutex2var_epi32(x.0, _mm512_loadu_si512(order.as_ptr().cast()), y.0)) }
}

// SAFETY of every block below: `Avx512` exists only where these instructions do, and only its passes use `Zmm`;
// loads and stores stay inside slices whose length is checked to be at least 16.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one argument for all, above")]
impl Vector for Zmm {
    const LANES: usize = 16;
    const LEVELS: usize = 4;
    const COLUMNS: usize = 12;

    #[inline(always)]
    fn load(block: &[u32]) -> Self {
        match block.first_chunk::<16>() {
            Some(block) => Self(unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }),
            None => Self::splat(0),
        }
    }

    #[inline(always)]
    fn store(self, block: &mut [u32]) {
        if let Some(block) = block.first_chunk_mut::<16>() {
            unsafe { _mm512_storeu_si512(block.as_mut_ptr().cast(), self.0) }
        }
    }

    #[inline(always)]
    fn splat(word: u32) -> Self {
        Self(unsafe { _mm512_set1_epi32(word as i32) })
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(unsafe { _mm512_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm512_sub_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(unsafe { _mm512_min_epu32(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_low(self, other: Self) -> Self {
        Self(unsafe { _mm512_mullo_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_high(self, w: Self, odd: Self) -> Self {
        unsafe { Self(upper(_mm512_mul_epu32(self.0, w.0), _mm512_mul_epu32(self.odd().0, odd.0))) }
    }

    #[inline(always)]
    fn odd(self) -> Self {
        Self(unsafe { _mm512_srli_epi64::<32>(self.0) })
    }

    #[inline(always)]
    fn reversed(self) -> Self {
        unsafe {
            let order = _mm512_set_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            Self(_mm512_permutexvar_epi32(order, self.0))
        }
    }

    type Wide = (__m512i, __m512i);

    #[inline(always)]
    fn wide_zero() -> Self::Wide {
        unsafe { (_mm512_setzero_si512(), _mm512_setzero_si512()) }
    }

    #[inline(always)]
    fn wide_mul_add(sum: Self::Wide, a: Self, b: Self) -> Self::Wide {
        unsafe {
            let even = _mm512_mul_epu32(a.0, b.0);
            let odd = _mm512_mul_epu32(a.odd().0, b.odd().0);
            (_mm512_add_epi64(sum.0, even), _mm512_add_epi64(sum.1, odd))
        }
    }

    #[inline(always)]
    fn wide_signed_mul_add(sum: Self::Wide, x: Self, odd: Self, w: Self) -> Self::Wide {
        unsafe {
            let (even, odd) = (_mm512_mul_epi32(x.0, w.0), _mm512_mul_epi32(odd.0, w.0));
            (_mm512_add_epi64(sum.0, even), _mm512_add_epi64(sum.1, odd))
        }
    }

    #[inline(always)]
    fn wide_redc(sum: Self::Wide, neg_inv: Self, p: Self) -> Self {
        unsafe {
            let step = |x| _mm512_add_epi64(x, _mm512_mul_epu32(_mm512_mul_epu32(x, neg_inv.0), p.0));
            Self(upper(step(sum.0), step(sum.1)))
        }
    }

    /// Letters are blocks of 16, digits their 128-bit quarters.
    #[inline(always)]
    fn split(k: usize, x: Self, y: Self) -> (Self, Self) {
        unsafe {
            match k {
                // (A0 A1 B0 B1), (A2 A3 B2 B3)
                0 => (Self(_mm512_shuffle_i64x2::<0x44>(x.0, y.0)), Self(_mm512_shuffle_i64x2::<0xee>(x.0, y.0))),
                // (A0 B0 A2 B2), (A1 B1 A3 B3)
                1 => (Self(_mm512_shuffle_i64x2::<0x88>(x.0, y.0)), Self(_mm512_shuffle_i64x2::<0xdd>(x.0, y.0))),
                // Low and high pairs of each quarter.
                2 => (Self(_mm512_unpacklo_epi64(x.0, y.0)), Self(_mm512_unpackhi_epi64(x.0, y.0))),
                // Even and odd elements of the pairs, in their order in memory.
                _ => (
                    lanes(x, [0, 16, 2, 18, 8, 24, 10, 26, 4, 20, 6, 22, 12, 28, 14, 30], y),
                    lanes(x, [1, 17, 3, 19, 9, 25, 11, 27, 5, 21, 7, 23, 13, 29, 15, 31], y),
                ),
            }
        }
    }

    #[inline(always)]
    fn join(k: usize, x: Self, y: Self) -> (Self, Self) {
        unsafe {
            match k {
                0 => (Self(_mm512_shuffle_i64x2::<0x44>(x.0, y.0)), Self(_mm512_shuffle_i64x2::<0xee>(x.0, y.0))),
                1 => {
                    let first = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
                    let second = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
                    (
                        Self(_mm512_permutex2var_epi64(x.0, first, y.0)),
                        Self(_mm512_permutex2var_epi64(x.0, second, y.0)),
                    )
                }
                2 => (Self(_mm512_unpacklo_epi64(x.0, y.0)), Self(_mm512_unpackhi_epi64(x.0, y.0))),
                _ => (
                    lanes(x, [0, 16, 2, 18, 8, 24, 10, 26, 4, 20, 6, 22, 12, 28, 14, 30], y),
                    lanes(x, [1, 17, 3, 19, 9, 25, 11, 27, 5, 21, 7, 23, 13, 29, 15, 31], y),
                ),
            }
        }
    }

    #[inline(always)]
    fn gather(x: Self, y: Self) -> (Self, Self) {
        (
            lanes(x, [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23], y),
            lanes(x, [8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31], y),
        )
    }

    #[inline(always)]
    fn scatter(x: Self, y: Self) -> (Self, Self) {
        (
            lanes(x, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30], y),
            lanes(x, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31], y),
        )
    }

    #[inline(always)]
    fn spread(k: usize, twiddles: &[u32]) -> Self {
        unsafe {
            match k {
                0 => match twiddles.first_chunk::<2>() {
                    Some(t) => {
                        let order = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
                        let t = _mm512_castsi128_si512(_mm_loadl_epi64(t.as_ptr().cast()));
                        Self(_mm512_permutexvar_epi32(order, t))
                    }
                    None => Self::splat(0),
                },
                1 => match twiddles.first_chunk::<4>() {
                    Some(t) => {
                        let order = _mm512_set_epi32(3, 3, 3, 3, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0);
                        let t = _mm512_castsi128_si512(_mm_loadu_si128(t.as_ptr().cast()));
                        Self(_mm512_permutexvar_epi32(order, t))
                    }
                    None => Self::splat(0),
                },
                2 => match twiddles.first_chunk::<8>() {
                    Some(t) => {
                        let order = _mm512_set_epi32(7, 7, 6, 6, 3, 3, 2, 2, 5, 5, 4, 4, 1, 1, 0, 0);
                        let t = _mm512_castsi256_si512(_mm256_loadu_si256(t.as_ptr().cast()));
                        Self(_mm512_permutexvar_epi32(order, t))
                    }
                    None => Self::splat(0),
                },
                _ => Self::load(twiddles),
            }
        }
    }

    #[inline(always)]
    fn prefetch(block: &[u32; 16]) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().cast()) }
    }

    #[inline(always)]
    fn permute(block: &[u32; 16], order: &[u8; 16]) -> [u32; 16] {
        let mut out = [0; 16];
        unsafe {
            let order = _mm512_cvtepu8_epi32(_mm_loadu_si128(order.as_ptr().cast()));
            Self(_mm512_permutexvar_epi32(order, Self::load(block).0)).store(&mut out);
        }
        out
    }
}
