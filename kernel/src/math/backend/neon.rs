//! NEON, on every AArch64 target that has it (chosen by `cfg(target_feature)`).

use super::vector::Vector;
use super::{Backend, RowBlock, Term, passes, portable};
use crate::math::{Modulus, NttTable, Shoup};
use core::arch::aarch64::*;

/// AArch64 with NEON.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Neon(());

impl Neon {
    /// The backend: this code is only compiled for targets that have it.
    pub const fn new() -> Self {
        Self(())
    }
}

vector_backend!(Neon, Quad, "neon", "neon");

/// Four words.
#[derive(Clone, Copy)]
struct Quad(uint32x4_t);

/// Upper words of the 64-bit lanes of two registers.
#[inline(always)]
fn upper(low: uint64x2_t, high: uint64x2_t) -> Quad {
    // SAFETY: the target has NEON.
    unsafe { Quad(vuzp2q_u32(vreinterpretq_u32_u64(low), vreinterpretq_u32_u64(high))) }
}

// SAFETY of every block below: the target has NEON; loads and stores stay inside slices whose length is checked to be
// at least 4.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one argument for all, above")]
#[allow(unused_unsafe, reason = "which intrinsics are safe depends on the compiler")]
impl Vector for Quad {
    const LANES: usize = 4;
    const LEVELS: usize = 2;
    const COLUMNS: usize = 8;

    #[inline(always)]
    fn load(block: &[u32]) -> Self {
        match block.first_chunk::<4>() {
            Some(block) => Self(unsafe { vld1q_u32(block.as_ptr()) }),
            None => Self::splat(0),
        }
    }

    #[inline(always)]
    fn store(self, block: &mut [u32]) {
        if let Some(block) = block.first_chunk_mut::<4>() {
            unsafe { vst1q_u32(block.as_mut_ptr(), self.0) }
        }
    }

    #[inline(always)]
    fn splat(word: u32) -> Self {
        Self(unsafe { vdupq_n_u32(word) })
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(unsafe { vaddq_u32(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(unsafe { vsubq_u32(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(unsafe { vminq_u32(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_low(self, other: Self) -> Self {
        Self(unsafe { vmulq_u32(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_high(self, w: Self, _: Self) -> Self {
        unsafe { upper(vmull_u32(vget_low_u32(self.0), vget_low_u32(w.0)), vmull_high_u32(self.0, w.0)) }
    }

    #[inline(always)]
    fn odd(self) -> Self {
        self
    }

    #[inline(always)]
    fn reversed(self) -> Self {
        unsafe {
            let pairs = vrev64q_u32(self.0);
            Self(vextq_u32::<2>(pairs, pairs))
        }
    }

    type Wide = (uint64x2_t, uint64x2_t);

    #[inline(always)]
    fn wide_zero() -> Self::Wide {
        unsafe { (vdupq_n_u64(0), vdupq_n_u64(0)) }
    }

    #[inline(always)]
    fn wide_mul_add(sum: Self::Wide, a: Self, b: Self) -> Self::Wide {
        unsafe { (vmlal_u32(sum.0, vget_low_u32(a.0), vget_low_u32(b.0)), vmlal_high_u32(sum.1, a.0, b.0)) }
    }

    #[inline(always)]
    fn wide_signed_mul_add(sum: Self::Wide, x: Self, _odd: Self, w: Self) -> Self::Wide {
        unsafe {
            let (low, high) = (vreinterpretq_s64_u64(sum.0), vreinterpretq_s64_u64(sum.1));
            let (x, w) = (vreinterpretq_s32_u32(x.0), vreinterpretq_s32_u32(w.0));
            let low = vmlal_s32(low, vget_low_s32(x), vget_low_s32(w));
            (vreinterpretq_u64_s64(low), vreinterpretq_u64_s64(vmlal_high_s32(high, x, w)))
        }
    }

    #[inline(always)]
    fn wide_redc(sum: Self::Wide, neg_inv: Self, p: Self) -> Self {
        unsafe {
            let low = vuzp1q_u32(vreinterpretq_u32_u64(sum.0), vreinterpretq_u32_u64(sum.1));
            let m = vmulq_u32(low, neg_inv.0);
            upper(vmlal_u32(sum.0, vget_low_u32(m), vget_low_u32(p.0)), vmlal_high_u32(sum.1, m, p.0))
        }
    }

    #[inline(always)]
    fn split(k: usize, x: Self, y: Self) -> (Self, Self) {
        match k {
            0 => pairs(x, y),
            _ => unsafe { (Self(vuzp1q_u32(x.0, y.0)), Self(vuzp2q_u32(x.0, y.0))) },
        }
    }

    #[inline(always)]
    fn join(k: usize, x: Self, y: Self) -> (Self, Self) {
        match k {
            0 => pairs(x, y),
            _ => unsafe { (Self(vzip1q_u32(x.0, y.0)), Self(vzip2q_u32(x.0, y.0))) },
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
            (0, &[a, b, ..]) => Self::load(&[a, a, b, b]),
            (1, &[a, b, c, d, ..]) => Self::load(&[a, c, b, d]),
            _ => Self::splat(0),
        }
    }

    #[inline(always)]
    fn permute(block: &[u32; 16], order: &[u8; 16]) -> [u32; 16] {
        let mut out = [0; 16];
        unsafe {
            let table = vld1q_u8_x4(block.as_ptr().cast::<u8>());
            for (out, order) in out.chunks_exact_mut(4).zip(order.as_chunks::<4>().0) {
                // Byte numbers of the four words of the result.
                let words = order.map(|lane| u32::from(lane).wrapping_mul(0x0404_0404).wrapping_add(0x0302_0100));
                let index = vreinterpretq_u8_u32(vld1q_u32(words.as_ptr()));
                Self(vreinterpretq_u32_u8(vqtbl4q_u8(table, index))).store(out);
            }
        }
        out
    }
}

/// Low and high pairs of two vectors; its own inverse.
#[inline(always)]
#[allow(unused_unsafe, reason = "which intrinsics are safe depends on the compiler")]
fn pairs(x: Quad, y: Quad) -> (Quad, Quad) {
    // SAFETY: the target has NEON.
    unsafe {
        let (x, y) = (vreinterpretq_u64_u32(x.0), vreinterpretq_u64_u32(y.0));
        (Quad(vreinterpretq_u32_u64(vzip1q_u64(x, y))), Quad(vreinterpretq_u32_u64(vzip2q_u64(x, y))))
    }
}
