//! Vectors of residues: what a backend provides, and the arithmetic built on it once for all of them.
//!
//! Everything here is `#[inline(always)]`, so that it is compiled inside the `#[target_feature]` functions of the
//! backend that uses it. Reference for the butterflies: Harvey 2014.

use crate::math::{Modulus, NttTable, Shoup};

/// A vector of `LANES` 32-bit words with the operations that the limb passes need.
///
/// # Safety
/// The methods are safe to declare and unsafe to reach: an implementation uses instructions that the processor
/// must have. Only code that holds the backend's detection token calls them.
pub(super) trait Vector: Copy {
    /// Words per vector, a power of two of at most 16.
    const LANES: usize;
    /// log2 of `LANES`: the levels of a transform that are done inside registers.
    const LEVELS: usize;
    /// Columns of a matrix product whose sums stay in registers.
    const COLUMNS: usize;

    /// The first `LANES` words of `block`, which has as many.
    fn load(block: &[u32]) -> Self;
    /// Writes the first `LANES` words of `block`, which has as many.
    fn store(self, block: &mut [u32]);
    /// The same word in all lanes.
    fn splat(word: u32) -> Self;
    /// `self + other`, wrapping.
    fn add(self, other: Self) -> Self;
    /// `self - other`, wrapping.
    fn sub(self, other: Self) -> Self;
    /// The smaller one, unsigned.
    fn min(self, other: Self) -> Self;
    /// Low words of the products.
    fn mul_low(self, other: Self) -> Self;
    /// High words of the products with `w`, whose odd lanes are also at hand as `odd`.
    fn mul_high(self, w: Self, odd: Self) -> Self;
    /// Whatever [`mul_high`](Self::mul_high) wants as `odd`.
    fn odd(self) -> Self;
    /// Lanes reversed.
    fn reversed(self) -> Self;

    /// Sums of 64-bit products.
    type Wide: Copy;
    /// No products.
    fn wide_zero() -> Self::Wide;
    /// `sum + a * b`.
    fn wide_mul_add(sum: Self::Wide, a: Self, b: Self) -> Self::Wide;
    /// `sum + x * w` of signed words, in two's complement; `odd` is [`x.odd()`](Self::odd), and all lanes of w are equal.
    fn wide_signed_mul_add(sum: Self::Wide, x: Self, odd: Self, w: Self) -> Self::Wide;
    /// Montgomery reduction to `[0, 2p)`, given `-p^-1` and `p` in all lanes.
    fn wide_redc(sum: Self::Wide, neg_inv: Self, p: Self) -> Self;

    /// Operands of level `k` of the last levels (blocks of `LANES >> k`) from those of level `k - 1`; at level 0
    /// from two neighbouring vectors. After it, x and y hold the halves of each block.
    fn split(k: usize, x: Self, y: Self) -> (Self, Self);
    /// The inverse of [`split`](Self::split).
    fn join(k: usize, x: Self, y: Self) -> (Self, Self);
    /// Two neighbouring vectors from the operands of the last level.
    fn gather(x: Self, y: Self) -> (Self, Self);
    /// The inverse of [`gather`](Self::gather).
    fn scatter(x: Self, y: Self) -> (Self, Self);
    /// The `2 << k` twiddles of level `k` in the lane order of its operands.
    fn spread(k: usize, twiddles: &[u32]) -> Self;

    /// Asks for a block to be brought near the processor; does nothing where there is no such instruction.
    #[inline(always)]
    fn prefetch(_block: &[u32; 16]) {}

    /// The words of `block` in `order`.
    fn permute(block: &[u32; 16], order: &[u8; 16]) -> [u32; 16];
}

/// Constant factors, one for each lane.
#[derive(Clone, Copy)]
pub(super) struct Factor<V> {
    value: V,
    quotient: V,
    odd: V,
}

impl<V: Vector> Factor<V> {
    /// The same factor in all lanes.
    #[inline(always)]
    pub fn splat(w: Shoup) -> Self {
        Self::new(V::splat(w.value), V::splat(w.quotient))
    }

    /// A factor for each lane.
    #[inline(always)]
    pub fn new(value: V, quotient: V) -> Self {
        Self { value, quotient, odd: quotient.odd() }
    }

    /// Twiddle `i` of a table.
    #[inline(always)]
    pub fn twiddle(w: &[u32], q: &[u32], i: usize) -> Self {
        Self::splat(Shoup { value: w.get(i).copied().unwrap_or(0), quotient: q.get(i).copied().unwrap_or(0) })
    }
}

/// `min(x, x - bound)`: from `[0, 2 bound)` to `[0, bound)`.
#[inline(always)]
pub(super) fn reduce<V: Vector>(x: V, bound: V) -> V {
    x.min(x.sub(bound))
}

/// A prime in all lanes.
#[derive(Clone, Copy)]
pub(super) struct Prime<V> {
    /// p.
    pub p: V,
    /// 2p.
    pub two_p: V,
    neg_inv: V,
    one_quotient: V,
    one_odd: V,
}

/// What a butterfly does to x, so that words stay below 2^32. Its results are by 2p larger than x is then.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lazy {
    /// Nothing.
    Grow,
    /// From `[0, 4p)` to `[0, 2p)`.
    Reduce,
    /// From any word to `[0, 2p)`.
    Lower,
}

impl<V: Vector> Prime<V> {
    /// The constants of `m`.
    #[inline(always)]
    pub fn new(m: &Modulus) -> Self {
        let one_quotient = V::splat(m.shoup(1).quotient);
        Self {
            p: V::splat(m.value()),
            two_p: V::splat(m.value().wrapping_shl(1)),
            neg_inv: V::splat(m.neg_inverse()),
            one_quotient,
            one_odd: one_quotient.odd(),
        }
    }

    /// `x * w`. Range: any word to `[0, 2p)`.
    #[inline(always)]
    pub fn mul_lazy(&self, x: V, w: Factor<V>) -> V {
        x.mul_low(w.value).sub(x.mul_high(w.quotient, w.odd).mul_low(self.p))
    }

    /// `x * w`. Range: any word to `[0, p)`.
    #[inline(always)]
    pub fn mul(&self, x: V, w: Factor<V>) -> V {
        reduce(self.mul_lazy(x, w), self.p)
    }

    /// Montgomery reduction. Range: `[0, p * 2^32)` to `[0, p)`.
    #[inline(always)]
    pub fn redc(&self, sum: V::Wide) -> V {
        reduce(V::wide_redc(sum, self.neg_inv, self.p), self.p)
    }

    /// Montgomery reduction of up to eleven products of words below p < 2^30: 11 p^2 / 2^32 + p < 4p, and no sum of
    /// 64 bits overflows. Range: result in `[0, p)`.
    #[inline(always)]
    pub fn redc_wide(&self, sum: V::Wide) -> V {
        reduce(reduce(V::wide_redc(sum, self.neg_inv, self.p), self.two_p), self.p)
    }

    /// `x + y`. Range: `[0, p)`.
    #[inline(always)]
    pub fn add(&self, x: V, y: V) -> V {
        reduce(x.add(y), self.p)
    }

    /// Any word to `[0, 2p)`.
    #[inline(always)]
    pub fn lower(&self, x: V) -> V {
        x.sub(x.mul_high(self.one_quotient, self.one_odd).mul_low(self.p))
    }

    /// Cooley-Tukey butterfly. Range: x as `kind` states, any word y.
    #[inline(always)]
    pub fn butterfly(&self, kind: Lazy, x: V, y: V, w: Factor<V>) -> (V, V) {
        let u = match kind {
            Lazy::Grow => x,
            Lazy::Reduce => reduce(x, self.two_p),
            Lazy::Lower => self.lower(x),
        };
        let v = self.mul_lazy(y, w);
        (u.add(v), u.sub(v).add(self.two_p))
    }

    /// Gentleman-Sande butterfly. Range: `[0, 2p)` to `[0, 2p)`.
    #[inline(always)]
    pub fn inverse_butterfly(&self, x: V, y: V, w: Factor<V>) -> (V, V) {
        (reduce(x.add(y), self.two_p), self.mul_lazy(x.sub(y).add(self.two_p), w))
    }
}

/// Whether the row and the table fit the vector passes: a power of two of at least 64.
pub(super) fn fits(row: &[u32], table: &NttTable<'_>) -> bool {
    let n = row.len();
    n >= 64 && n.is_power_of_two() && table.n() == n
}
