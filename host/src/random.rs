//! Randomness: a ChaCha20 generator seeded by the operating system, and the samplers of the scheme.
//!
//! The samplers have no branch or index that depends on the values they give out.

use cipherlens_kernel::math::Modulus;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use std::sync::LazyLock;

#[cfg(all(feature = "deterministic", not(debug_assertions)))]
compile_error!("the feature `deterministic` is for tests: it must not be on in a release build");

/// Standard deviation of the error distribution.
pub const SIGMA: f64 = 3.2;
/// Values beyond this have a probability below 2^-120.
const TAIL: usize = 42;

/// A cryptographic random generator.
pub struct Random(ChaCha20Rng);

impl Random {
    /// A generator seeded by the operating system.
    ///
    /// # Errors
    /// If the operating system has no randomness to give.
    pub fn from_os() -> Result<Self, getrandom::Error> {
        let mut seed = zeroize::Zeroizing::new([0u8; 32]);
        getrandom::fill(seed.as_mut())?;
        Ok(Self(ChaCha20Rng::from_seed(*seed)))
    }

    /// A reproducible generator, for tests with known answers only.
    #[cfg(any(test, feature = "deterministic"))]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Uniform in -1, 0, 1. Rejection depends only on values that are thrown away.
    pub fn ternary(&mut self, out: &mut [i8]) {
        let mut bits = 0u64;
        let mut left = 0;
        for x in out {
            loop {
                if left == 0 {
                    bits = self.0.next_u64();
                    left = 32;
                }
                let two = (bits & 3) as i8;
                bits >>= 2;
                left -= 1;
                if two != 3 {
                    *x = two - 1;
                    break;
                }
            }
        }
    }

    /// Discrete Gaussian with [`SIGMA`], by comparing with every entry of the cumulative table.
    pub fn gaussian(&mut self, out: &mut [i32]) {
        let table = &*GAUSSIAN;
        for x in out {
            let r = self.0.next_u64();
            // The lowest bit is the sign; the table compares with the other 63.
            let sign = (r & 1) as i32;
            let u = r >> 1;
            let magnitude: i32 = table.iter().map(|&bound| (u.wrapping_sub(bound) >> 63) as i32).sum();
            *x = (magnitude ^ -sign) + sign;
        }
    }

    /// Uniform in `[0, p)`.
    pub fn uniform(&mut self, row: &mut [u32], m: &Modulus) {
        let mask = u32::MAX >> (32 - m.bits());
        for x in row {
            *x = loop {
                let word = self.0.next_u32() & mask;
                if word < m.value() {
                    break word;
                }
            };
        }
    }
}

/// Entry k - 1 is 2^63 times the probability that a magnitude is at least k.
static GAUSSIAN: LazyLock<[u64; TAIL]> = LazyLock::new(|| {
    let weight = |k: usize| libm::exp(-((k * k) as f64) / (2.0 * SIGMA * SIGMA));
    let total = 1.0 + 2.0 * (1..=2 * TAIL).map(weight).sum::<f64>();
    std::array::from_fn(|k| {
        // Summed from the far end, smallest first, which keeps full relative precision in the tail.
        let tail: f64 = (k + 1..=2 * TAIL).rev().map(weight).sum();
        (2.0 * tail / total * (1u64 << 63) as f64) as u64
    })
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaussian_has_the_stated_moments() {
        let mut random = Random::from_seed([1; 32]);
        let mut x = vec![0i32; 1 << 20];
        random.gaussian(&mut x);
        let n = x.len() as f64;
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 6.0 * SIGMA / n.sqrt());
        // The variance of a sample variance is 2 sigma^4 / n.
        assert!((variance - SIGMA * SIGMA).abs() < 6.0 * SIGMA * SIGMA * (2.0 / n).sqrt());
        assert!(x.iter().any(|&v| v > 12) && x.iter().any(|&v| v < -12));
    }

    #[test]
    fn ternary_is_balanced() {
        let mut x = vec![0i8; 300_000];
        Random::from_seed([2; 32]).ternary(&mut x);
        for value in [-1, 0, 1] {
            let count = x.iter().filter(|&&v| v == value).count() as f64;
            assert!((count - 100_000.0).abs() < 6.0 * (300_000.0f64 * 2.0 / 9.0).sqrt());
        }
    }
}
