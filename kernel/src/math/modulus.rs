//! Arithmetic modulo a prime below 2^30.

/// A constant factor `w` with `floor(w * 2^32 / p)`, for one-multiplication reduction.
///
/// Reference: Shoup's trick as in Harvey, "Faster arithmetic for number-theoretic transforms", 2014.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Shoup {
    /// The factor, in `[0, p)`.
    pub value: u32,
    /// `floor(value * 2^32 / p)`.
    pub quotient: u32,
}

/// A prime `p < 2^30` with its Barrett and Montgomery constants.
///
/// The bound leaves room for lazy values below `4p` in a `u32` and for sums of four products in a `u64`
/// below `p * 2^32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Modulus {
    p: u32,
    bits: u32,
    /// `floor(2^(2 bits) / p)`.
    barrett: u32,
    /// `-p^-1 mod 2^32`.
    neg_inv: u32,
    /// `2^32 mod p`.
    r: u32,
}

impl Modulus {
    /// The constants of an odd `p` in `3..2^30`. Other values give constants without meaning, never a panic.
    pub const fn new(p: u32) -> Self {
        let divisor = if p == 0 { 1 } else { p };
        let bits = 32u32.wrapping_sub(divisor.leading_zeros());
        // Newton's iteration doubles the correct low bits: 3, 6, 12, 24, 48.
        let mut inv = divisor;
        let mut i = 0u32;
        while i < 4 {
            inv = inv.wrapping_mul(2u32.wrapping_sub(divisor.wrapping_mul(inv)));
            i = i.wrapping_add(1);
        }
        // The divisor is not 0; the checked forms only tell the compiler so.
        let barrett = match 1u64.wrapping_shl(bits << 1).checked_div(divisor as u64) {
            Some(q) => q as u32,
            None => 0,
        };
        let r = match (1u64 << 32).checked_rem(divisor as u64) {
            Some(r) => r as u32,
            None => 0,
        };
        Self { p: divisor, bits, barrett, neg_inv: inv.wrapping_neg(), r }
    }

    /// The prime.
    #[inline(always)]
    pub const fn value(&self) -> u32 {
        self.p
    }

    /// Number of bits of the prime.
    #[inline(always)]
    pub const fn bits(&self) -> u32 {
        self.bits
    }

    /// `-p^-1 mod 2^32`, the Montgomery constant.
    #[inline(always)]
    pub const fn neg_inverse(&self) -> u32 {
        self.neg_inv
    }

    /// `a + b`. Range: inputs and result in `[0, p)`.
    #[inline(always)]
    pub const fn add(&self, a: u32, b: u32) -> u32 {
        self.reduce_once(a.wrapping_add(b))
    }

    /// `a - b`. Range: inputs and result in `[0, p)`.
    #[inline(always)]
    pub const fn sub(&self, a: u32, b: u32) -> u32 {
        self.reduce_once(a.wrapping_sub(b).wrapping_add(self.p))
    }

    /// `-a`. Range: input and result in `[0, p)`.
    #[inline(always)]
    pub const fn neg(&self, a: u32) -> u32 {
        self.reduce_once(self.p.wrapping_sub(a))
    }

    /// From `[0, 2p)` to `[0, p)`.
    #[inline(always)]
    pub const fn reduce_once(&self, a: u32) -> u32 {
        let b = a.wrapping_sub(self.p);
        if a < b { a } else { b }
    }

    /// `a * b`. Range: inputs and result in `[0, p)`. Reference: Barrett reduction, HAC 14.42.
    #[inline(always)]
    pub const fn mul(&self, a: u32, b: u32) -> u32 {
        let x = (a as u64).wrapping_mul(b as u64);
        // With k bits, x < 2^2k: the quotient estimate is short by at most 2 and the remainder below 3p.
        let high = x.wrapping_shr(self.bits.wrapping_sub(1));
        let q = high.wrapping_mul(self.barrett as u64).wrapping_shr(self.bits.wrapping_add(1)) as u32;
        let r = (x as u32).wrapping_sub(q.wrapping_mul(self.p));
        self.reduce_once(self.reduce_once(r))
    }

    /// `x * 2^-32`. Range: `x` in `[0, p * 2^32)`, result in `[0, 2p)`. Reference: Montgomery reduction.
    #[inline(always)]
    pub const fn redc_lazy(&self, x: u64) -> u32 {
        let m = (x as u32).wrapping_mul(self.neg_inv);
        x.wrapping_add((m as u64).wrapping_mul(self.p as u64)).wrapping_shr(32) as u32
    }

    /// `x * 2^-32`. Range: `x` in `[0, p * 2^32)`, result in `[0, p)`.
    #[inline(always)]
    pub const fn redc(&self, x: u64) -> u32 {
        self.reduce_once(self.redc_lazy(x))
    }

    /// `a * 2^32`, the Montgomery form of `a`. Range: input and result in `[0, p)`.
    #[inline(always)]
    pub const fn to_montgomery(&self, a: u32) -> u32 {
        self.mul(a, self.r)
    }

    /// The factor that takes a row to Montgomery form.
    pub const fn montgomery_factor(&self) -> Shoup {
        self.shoup(self.r)
    }

    /// The Shoup form of `w`. Range: `w` in `[0, p)`.
    pub const fn shoup(&self, w: u32) -> Shoup {
        let quotient = match ((w as u64) << 32).checked_div(self.p as u64) {
            Some(q) => q as u32,
            None => 0,
        };
        Shoup { value: w, quotient }
    }

    /// `a * w`. Range: any `a`, result in `[0, 2p)`.
    #[inline(always)]
    pub const fn mul_shoup_lazy(&self, a: u32, w: Shoup) -> u32 {
        let q = ((a as u64).wrapping_mul(w.quotient as u64)).wrapping_shr(32) as u32;
        a.wrapping_mul(w.value).wrapping_sub(q.wrapping_mul(self.p))
    }

    /// `a * w`. Range: any `a`, result in `[0, p)`.
    #[inline(always)]
    pub const fn mul_shoup(&self, a: u32, w: Shoup) -> u32 {
        self.reduce_once(self.mul_shoup_lazy(a, w))
    }

    /// `a^e`, by squaring. Timing: depends on `e`, which is public wherever the kernel uses it.
    pub const fn pow(&self, a: u32, e: u32) -> u32 {
        let mut result = self.reduce(1);
        let mut square = self.reduce(a);
        let mut left = e;
        while left > 0 {
            if left & 1 == 1 {
                result = self.mul(result, square);
            }
            square = self.mul(square, square);
            left >>= 1;
        }
        result
    }

    /// `a^-1` by Fermat; 0 for 0.
    pub const fn inv(&self, a: u32) -> u32 {
        self.pow(a, self.p.wrapping_sub(2))
    }

    /// Any `a`, reduced to `[0, p)`.
    #[inline(always)]
    pub const fn reduce(&self, a: u32) -> u32 {
        match a.checked_rem(self.p) {
            Some(r) => r,
            None => 0,
        }
    }

    /// Any signed `a`, reduced to `[0, p)`.
    pub const fn reduce_signed(&self, a: i64) -> u32 {
        match a.checked_rem_euclid(self.p as i64) {
            Some(r) => r as u32,
            None => 0,
        }
    }

    /// `a * w` for a signed `a` of at most 32 bits, reduced to `[0, p)`.
    #[inline(always)]
    pub fn mul_shoup_signed<T: num_traits::AsPrimitive<i32>>(&self, a: T, w: Shoup) -> u32 {
        let a: i32 = a.as_();
        let r = self.mul_shoup(a.unsigned_abs(), w);
        if a < 0 { self.neg(r) } else { r }
    }

    /// The representative of `a` in `[-p/2, p/2]`. Range: `a` in `[0, p)`.
    #[inline(always)]
    pub const fn centred(&self, a: u32) -> i32 {
        if a > self.p >> 1 { (a as i32).wrapping_sub(self.p as i32) } else { a as i32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRIMES: [u32; 6] = [163_841, 1_785_857, 33_538_049, 65_929_217, 268_369_921, 1_073_479_681];

    #[test]
    fn edge_values() {
        for p in PRIMES {
            let m = Modulus::new(p);
            for a in [0, 1, 2, p / 2, p / 2 + 1, p - 2, p - 1] {
                for b in [0, 1, 2, p / 2, p / 2 + 1, p - 2, p - 1] {
                    let (a6, b6, p6) = (u64::from(a), u64::from(b), u64::from(p));
                    assert_eq!(u64::from(m.mul(a, b)), a6 * b6 % p6);
                    assert_eq!(u64::from(m.add(a, b)), (a6 + b6) % p6);
                    assert_eq!(u64::from(m.sub(a, b)), (a6 + p6 - b6) % p6);
                    assert_eq!(m.mul_shoup(a, m.shoup(b)), m.mul(a, b));
                    assert_eq!(m.redc(a6 * u64::from(m.to_montgomery(b))), m.mul(a, b));
                }
                assert_eq!(m.add(a, m.neg(a)), 0);
                if a != 0 {
                    assert_eq!(m.mul(a, m.inv(a)), 1);
                }
            }
            for a in [p, 2 * p - 1, 2 * p, u32::MAX] {
                assert_eq!(m.mul_shoup(a, m.shoup(p - 1)), m.neg(a % p));
            }
        }
    }

    proptest! {
        #[test]
        fn products_agree(i in 0..PRIMES.len(), a: u32, b: u32, x: i64) {
            let p = PRIMES[i];
            let m = Modulus::new(p);
            let (a, b) = (a % p, b % p);
            prop_assert_eq!(u64::from(m.mul(a, b)), u64::from(a) * u64::from(b) % u64::from(p));
            prop_assert_eq!(i64::from(m.reduce_signed(x)), x.rem_euclid(i64::from(p)));
            let y = x as i32;
            prop_assert_eq!(m.mul_shoup_signed(y, m.shoup(b)), m.mul(m.reduce_signed(i64::from(y)), b));
            prop_assert_eq!(i64::from(m.centred(a)).rem_euclid(i64::from(p)), i64::from(a));
        }
    }
}
