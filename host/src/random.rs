//! Randomness: a ChaCha20 generator seeded by the operating system, and the samplers of the scheme.
//!
//! The samplers have no branch or index that depends on the values they give out.

use chacha20::ChaCha20Legacy;
use cipher::{KeyIvInit, StreamCipher};
use std::sync::LazyLock;
use zeroize::Zeroizing;

#[cfg(all(feature = "deterministic", not(debug_assertions)))]
compile_error!("the feature `deterministic` is for tests: it must not be on in a release build");

/// Standard deviation of the error distribution.
pub const SIGMA: f64 = 3.2;
/// Largest error: at the sampler's resolution of 2^-63 greater ones have no share.
const TAIL: usize = 29;
/// Double words of keystream that are made at once: whole blocks, enough for the cipher's widest code.
const BATCH: usize = 512;

/// A cryptographic random generator: a ChaCha20 keystream in double words. It is zeroed when it is dropped.
pub struct Random {
    cipher: ChaCha20Legacy,
    batch: Zeroizing<[u64; BATCH]>,
    used: usize,
}

impl Random {
    /// A generator seeded by the operating system.
    ///
    /// # Errors
    /// If the operating system has no randomness to give.
    pub fn from_os() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(seed.as_mut())?;
        Ok(Self::keyed(&seed))
    }

    /// A reproducible generator, for tests with known answers only.
    #[cfg(any(test, feature = "deterministic"))]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self::keyed(&seed)
    }

    fn keyed(seed: &[u8; 32]) -> Self {
        let cipher = ChaCha20Legacy::new(seed.into(), &[0; 8].into());
        Self { cipher, batch: Zeroizing::new([0; BATCH]), used: BATCH }
    }

    /// The next words, at least one and at most `most`.
    fn words(&mut self, most: usize) -> &[u64] {
        if self.used == BATCH {
            self.cipher.write_keystream(bytemuck::cast_slice_mut(self.batch.as_mut()));
            self.used = 0;
        }
        let from = self.used;
        self.used += most.min(BATCH - from);
        &self.batch[from..self.used]
    }

    /// `N` random bytes; takes whole double words.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.words(1)[0].to_ne_bytes()[..part.len()]);
        }
        bytes
    }

    /// Standard normal, by the transform of Box and Muller; at most 8.6 in magnitude. For the noise of
    /// [`release`](crate::release), not for the scheme.
    pub fn normal(&mut self) -> f64 {
        let mut unit = || (u64::from_le_bytes(self.bytes()) >> 11) as f64 * (-53f64).exp2();
        // 1 - u lies in (0, 1], so its logarithm is finite.
        let radius = (-2.0 * libm::log(1.0 - unit())).sqrt();
        radius * libm::cos(std::f64::consts::TAU * unit())
    }

    /// Uniform in -1, 0, 1. Rejection depends only on values that are thrown away.
    // A function of its own also after optimisation, by whose name `cargo xtask timing` knows it.
    #[inline(never)]
    pub fn ternary(&mut self, out: &mut [i8]) {
        let mut kept = 0;
        while kept < out.len() {
            // A word has 32 candidates, so none is drawn in vain.
            for word in self.words((out.len() - kept).div_ceil(32)).iter().map(|&w| u64::from_le(w)) {
                for candidate in 0..32 {
                    let two = (word >> (2 * candidate)) as i8 & 3;
                    if let Some(x) = out.get_mut(kept) {
                        *x = two - 1;
                    }
                    kept += usize::from(two != 3);
                }
            }
        }
    }

    /// Discrete Gaussian with [`SIGMA`], by comparing with every entry of the cumulative table.
    pub fn gaussian(&mut self, out: &mut [i32]) {
        let table = &*GAUSSIAN;
        let mut rest = out;
        while !rest.is_empty() {
            let words = self.words(rest.len());
            let (now, later) = rest.split_at_mut(words.len());
            samples(now, words, table);
            rest = later;
        }
    }
}

/// A sample for each uniform word, compiled for the widest vectors where the processor has them.
fn samples(out: &mut [i32], words: &[u64], table: &[u64; TAIL]) {
    #[inline(always)]
    fn plain(out: &mut [i32], words: &[u64], table: &[u64; TAIL]) {
        for (x, word) in out.iter_mut().zip(words.iter().map(|&w| u64::from_le(w))) {
            // The lowest bit is the sign; the table compares with the other 63.
            let sign = (word & 1) as i32;
            let magnitude: i32 = table.iter().map(|&bound| ((word >> 1).wrapping_sub(bound) >> 63) as i32).sum();
            *x = (magnitude ^ -sign) + sign;
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
        fn avx512(out: &mut [i32], words: &[u64], table: &[u64; TAIL]) {
            plain(out, words, table);
        }
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the processor has these instructions.
            return unsafe { avx512(out, words, table) };
        }
    }
    plain(out, words, table);
}

/// Entry k - 1 is 2^63 times the probability that a magnitude is at least k, rounded down.
static GAUSSIAN: LazyLock<[u64; TAIL]> = LazyLock::new(|| std::array::from_fn(|k| bound(k + 1)));

/// 2^63 times the probability of a magnitude of at least `k`, rounded down.
fn bound(k: usize) -> u64 {
    // Beyond this the weights are below 2^-370.
    const FAR: usize = 72;
    let weight = |k: usize| libm::exp(-((k * k) as f64) / (2.0 * SIGMA * SIGMA));
    let total = 1.0 + 2.0 * (1..=FAR).map(weight).sum::<f64>();
    // Summed from the far end, smallest first, which keeps full relative precision in the tail.
    let tail: f64 = (k..=FAR).rev().map(weight).sum();
    (2.0 * tail / total * (1u64 << 63) as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, one sample at a time.
    fn sample(word: u64) -> i32 {
        let magnitude = (1..2 * TAIL).filter(|&k| word >> 1 < bound(k)).count() as i32;
        if word & 1 == 1 { -magnitude } else { magnitude }
    }

    #[test]
    fn the_table_ends_where_the_resolution_does() {
        assert!(bound(TAIL) > 0 && bound(TAIL + 1) == 0);
        assert!((1..TAIL).all(|k| bound(k) > bound(k + 1)));
    }

    #[test]
    fn batches_are_single_samples_in_order() {
        for length in [1, 8, BATCH - 1, BATCH, 3 * BATCH + 5] {
            let mut x = vec![0i32; length];
            let (mut batches, mut words) = (Random::from_seed([3; 32]), Random::from_seed([3; 32]));
            batches.gaussian(&mut x);
            assert!(x.iter().all(|&x| x == sample(u64::from_le_bytes(words.bytes()))));
            assert_eq!(batches.bytes::<8>(), words.bytes());
            let mut y = vec![0i8; length];
            batches.ternary(&mut y);
            let mut kept = 0;
            while kept < length {
                let word = u64::from_le_bytes(words.bytes());
                for two in (0..32).map(|i| (word >> (2 * i) & 3) as i8).filter(|&two| two != 3).take(length - kept) {
                    assert_eq!(y[kept], two - 1);
                    kept += 1;
                }
            }
            assert_eq!(batches.bytes::<8>(), words.bytes());
        }
    }

    #[test]
    fn bounds_split_the_words() {
        for k in 1..=TAIL {
            for (word, magnitude) in [(bound(k), k as i32 - 1), (bound(k) - 1, k as i32)] {
                assert_eq!((sample(word << 1), sample(word << 1 | 1)), (magnitude, -magnitude));
            }
        }
    }

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
