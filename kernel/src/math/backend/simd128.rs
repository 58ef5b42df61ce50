//! WebAssembly SIMD, for builds with `-C target-feature=+simd128`.

use super::vector::Vector;
use super::{Backend, RowBlock, Term, passes, portable};
use crate::math::{Modulus, NttTable, Shoup};
use core::arch::wasm32::*;

/// WebAssembly with 128-bit SIMD.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Simd128(());

impl Simd128 {
    /// The backend: this code is only compiled for builds that have it.
    pub const fn new() -> Self {
        Self(())
    }
}

vector_backend!(Simd128, Quad, "simd128", "simd128");

/// Four words.
#[derive(Clone, Copy)]
struct Quad(v128);

/// Upper words of the 64-bit lanes of two registers.
#[inline(always)]
fn upper(low: v128, high: v128) -> Quad {
    Quad(i32x4_shuffle::<1, 3, 5, 7>(low, high))
}

impl Vector for Quad {
    const LANES: usize = 4;
    const LEVELS: usize = 2;
    const COLUMNS: usize = 4;

    #[inline(always)]
    fn load(block: &[u32]) -> Self {
        match block.first_chunk::<4>() {
            // SAFETY: the reference is valid for 16 bytes; the load needs no alignment.
            Some(block) => Self(unsafe { v128_load(block.as_ptr().cast()) }),
            None => Self::splat(0),
        }
    }

    #[inline(always)]
    fn store(self, block: &mut [u32]) {
        if let Some(block) = block.first_chunk_mut::<4>() {
            // SAFETY: the reference is valid for 16 bytes; the store needs no alignment.
            unsafe { v128_store(block.as_mut_ptr().cast(), self.0) }
        }
    }

    #[inline(always)]
    fn splat(word: u32) -> Self {
        Self(u32x4_splat(word))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(u32x4_add(self.0, other.0))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(u32x4_sub(self.0, other.0))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(u32x4_min(self.0, other.0))
    }

    #[inline(always)]
    fn mul_low(self, other: Self) -> Self {
        Self(u32x4_mul(self.0, other.0))
    }

    #[inline(always)]
    fn mul_high(self, w: Self, _: Self) -> Self {
        upper(u64x2_extmul_low_u32x4(self.0, w.0), u64x2_extmul_high_u32x4(self.0, w.0))
    }

    #[inline(always)]
    fn odd(self) -> Self {
        self
    }

    #[inline(always)]
    fn reversed(self) -> Self {
        Self(i32x4_shuffle::<3, 2, 1, 0>(self.0, self.0))
    }

    type Wide = (v128, v128);

    #[inline(always)]
    fn wide_zero() -> Self::Wide {
        (u64x2_splat(0), u64x2_splat(0))
    }

    #[inline(always)]
    fn wide_mul_add(sum: Self::Wide, a: Self, b: Self) -> Self::Wide {
        (u64x2_add(sum.0, u64x2_extmul_low_u32x4(a.0, b.0)), u64x2_add(sum.1, u64x2_extmul_high_u32x4(a.0, b.0)))
    }

    #[inline(always)]
    fn wide_signed_mul_add(sum: Self::Wide, x: Self, _odd: Self, w: Self) -> Self::Wide {
        (i64x2_add(sum.0, i64x2_extmul_low_i32x4(x.0, w.0)), i64x2_add(sum.1, i64x2_extmul_high_i32x4(x.0, w.0)))
    }

    #[inline(always)]
    fn wide_redc(sum: Self::Wide, neg_inv: Self, p: Self) -> Self {
        let m = Self(u32x4_mul(i32x4_shuffle::<0, 2, 4, 6>(sum.0, sum.1), neg_inv.0));
        let sum = Self::wide_mul_add(sum, m, p);
        upper(sum.0, sum.1)
    }

    #[inline(always)]
    fn split(k: usize, x: Self, y: Self) -> (Self, Self) {
        match k {
            0 => pairs(x, y),
            _ => (Self(i32x4_shuffle::<0, 2, 4, 6>(x.0, y.0)), Self(i32x4_shuffle::<1, 3, 5, 7>(x.0, y.0))),
        }
    }

    #[inline(always)]
    fn join(k: usize, x: Self, y: Self) -> (Self, Self) {
        match k {
            0 => pairs(x, y),
            _ => (Self(i32x4_shuffle::<0, 4, 1, 5>(x.0, y.0)), Self(i32x4_shuffle::<2, 6, 3, 7>(x.0, y.0))),
        }
    }

    #[inline(always)]
    fn gather(x: Self, y: Self) -> (Self, Self) {
        let (x, y) = Self::join(1, x, y);
        Self::join(0, x, y)
    }

    #[inline(always)]
    fn scatter(x: Self, y: Self) -> (Self, Self) {
        let (x, y) = Self::split(0, x, y);
        Self::split(1, x, y)
    }

    #[inline(always)]
    fn spread(k: usize, twiddles: &[u32]) -> Self {
        match (k, twiddles) {
            (0, &[a, b, ..]) => Self(u32x4(a, a, b, b)),
            (1, &[a, b, c, d, ..]) => Self(u32x4(a, c, b, d)),
            _ => Self::splat(0),
        }
    }

    #[inline(always)]
    fn permute(block: &[u32; 16], order: &[u8; 16]) -> [u32; 16] {
        order.map(|lane| block.get((lane & 15) as usize).copied().unwrap_or(0))
    }
}

/// Low and high pairs of two vectors; its own inverse.
#[inline(always)]
fn pairs(x: Quad, y: Quad) -> (Quad, Quad) {
    (Quad(i64x2_shuffle::<0, 2>(x.0, y.0)), Quad(i64x2_shuffle::<1, 3>(x.0, y.0)))
}
