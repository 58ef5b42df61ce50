//! A short list of primes whose product is converted to other primes, exactly and centred.
//!
//! A value x in `[0, D)`, D the product, has mixed-radix digits v_0 + r_0 (v_1 + r_1 (v_2 + ...)) by Garner's
//! algorithm. Adding h = (D - 1)/2 before and subtracting it after gives the representative of x in
//! `[-h, h]`: the conversion is exact, without the overflow multiples of D of the usual fast conversion, and
//! rounds to nearest where it is used to divide.
//!
//! Reference: Garner 1959, as in HAC 14.71.

use crate::math::{Modulus, Shoup};
use crate::params::{MAX_SPECIAL, ParamSet};
use heapless::Vec;

/// Most primes of a basis: all special primes and one rescaling prime.
pub const MAX_BASIS: usize = MAX_SPECIAL + 1;
const MAX: usize = MAX_BASIS;

/// An ordered list of distinct primes.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Basis {
    primes: Vec<Modulus, MAX>,
}

impl Basis {
    fn collect(primes: impl Iterator<Item = u32>) -> Self {
        let mut list = Vec::new();
        for p in primes.take(MAX) {
            // Cannot fail: no more than MAX are taken.
            let _ = list.push(Modulus::new(p));
        }
        Self { primes: list }
    }

    /// The primes of key-switching digit `j` at `limbs` limbs.
    pub fn digit(set: &ParamSet, limbs: usize, j: usize) -> Self {
        let start = j.wrapping_mul(set.digit());
        Self::collect(set.q().iter().take(limbs).skip(start).take(set.digit()).copied())
    }

    /// What a division by the special primes, if asked, and by the last `drop` of `limbs` limbs removes.
    pub fn tail(set: &ParamSet, limbs: usize, special: bool, drop: usize) -> Self {
        let p = set.p().iter().take(if special { set.special() } else { 0 });
        let q = set.q().iter().take(limbs).skip(limbs.wrapping_sub(drop));
        Self::collect(p.chain(q).copied())
    }

    /// Number of primes.
    pub fn len(&self) -> usize {
        self.primes.len()
    }

    /// Whether there is no prime.
    pub fn is_empty(&self) -> bool {
        self.primes.is_empty()
    }

    /// The primes.
    pub fn primes(&self) -> &[Modulus] {
        &self.primes
    }

    /// h = (D - 1)/2 modulo one of the basis's own primes: (p - 1)/2.
    pub fn own_centre(m: &Modulus) -> u32 {
        m.value() >> 1
    }

    /// `r_k^-1` modulo prime `i`.
    pub fn garner_factor(&self, k: usize, i: usize) -> Option<Shoup> {
        let (r, m) = (self.primes.get(k)?, self.primes.get(i)?);
        Some(m.shoup(m.inv(m.reduce(r.value()))))
    }

    /// Radix weights `1, r_0, r_0 r_1, ..` modulo `m` in Montgomery form, and h modulo `m`.
    pub fn weights(&self, m: &Modulus) -> ([u32; MAX], u32) {
        let mut weights = [0; MAX];
        let mut product = 1;
        for (weight, prime) in weights.iter_mut().zip(&self.primes) {
            *weight = m.to_montgomery(product);
            product = m.mul(product, m.reduce(prime.value()));
        }
        let half = (m.value() >> 1).wrapping_add(1);
        (weights, m.mul(m.sub(product, 1), half))
    }

    /// The product D modulo `m`.
    pub fn product(&self, m: &Modulus) -> u32 {
        self.primes.iter().fold(1, |d, prime| m.mul(d, m.reduce(prime.value())))
    }
}
