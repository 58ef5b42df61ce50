//! Scores that may leave the key holder: Gaussian noise that hides the error of approximate decryption.
//!
//! The error of a CKKS decryption depends on the secret key, so that a few exact scores in the evaluator's hands give
//! the key away (Li and Micciancio, eprint 2020/1533). [`Policy::sigma`] is the noise that drowns it.
//!
//! # The formula
//! Let one query release `K` values whose errors are at most `t` each, and a key answer `q` queries, chosen adaptively.
//! With Gaussian noise of standard deviation `sigma` on each value, the Kullback-Leibler divergence between the released
//! values with error and without is at most `K t^2 / (2 sigma^2)` for a query and, by the chain rule, `q` times that for
//! all. Li, Micciancio, Schultz and Sorrell ("Securing approximate homomorphic encryption using differential privacy",
//! CRYPTO 2022, eprint 2022/816) show that `s` bits of statistical security need a total of `2^-s / 24`, so
//!
//! `sigma = sqrt(12 q K) 2^(s/2) t`.
//!
//! # What `t` is
//! The program states the standard deviation of the error of an output value, predicted by the compiler's noise model
//! on its calibration images. Errors are Gaussian sums of many independent ones, so `t` is that times
//! `sqrt(2 (ln(q K) + s ln 2))`: by the union bound the chance that any value of any query exceeds it is below `2^-s`.
//! **Nothing is promised for inputs outside the calibrated range**, whose products have larger errors, nor for
//! ciphertexts that no honest evaluator computed.
//!
//! A decision (a class, a mask) is not covered: it tells something about the error where the margin is below `t`.

pub mod ledger;

use crate::random::Random;

/// Least statistical security of a release, in bits.
pub const LEAST_STATISTICAL_BITS: u32 = 30;
/// Noised scores lie on a grid of the largest power of two below sigma, divided by this: the low bits of a double,
/// which depend on both summands, tell nothing (Mironov, CCS 2012).
const GRID: f64 = 256.0;

/// How much may be learnt about a key, over all that is ever released under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Statistical security s in bits, at least [`LEAST_STATISTICAL_BITS`].
    pub statistical_bits: u32,
    /// Queries q: ciphertexts that may be released, at least one.
    pub queries: u64,
}

impl Policy {
    /// The bound t on every error, in standard deviations of one, for `values` values (K) per query.
    pub fn bound(&self, values: usize) -> f64 {
        let all = self.queries.max(1) as f64 * values.max(1) as f64;
        (2.0 * (all.ln() + f64::from(self.statistical_bits) * std::f64::consts::LN_2)).sqrt()
    }

    /// Standard deviation of the noise for `values` values per query whose error has the standard deviation `error`.
    /// The unit is that of `error`.
    pub fn sigma(&self, values: usize, error: f64) -> f64 {
        let all = self.queries.max(1) as f64 * values.max(1) as f64;
        (12.0 * all).sqrt() * (f64::from(self.statistical_bits) / 2.0).exp2() * self.bound(values) * error
    }

    /// Bits of precision that the noise leaves of `precision`, which is log2 of size over error; negative where the noise
    /// is larger than the scores. It depends on public numbers only.
    pub fn bits(&self, values: usize, precision: f64) -> f64 {
        precision - self.sigma(values, 1.0).log2()
    }
}

/// Adds noise of standard deviation `sigma` to every score.
///
/// `sigma` has to be positive and finite.
pub fn add_noise(scores: &mut [f64], sigma: f64, random: &mut Random) {
    let grid = sigma.log2().floor().exp2() / GRID;
    for score in scores {
        *score = ((*score + sigma * random.normal()) / grid).round() * grid;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula() {
        let policy = Policy { statistical_bits: 30, queries: 1000 };
        // ln(10^4) + 30 ln 2 = 30.00; sqrt(60.01) = 7.7466.
        assert!((policy.bound(10) - 7.7466).abs() < 1e-3);
        let expected = (12.0f64 * 10_000.0).sqrt() * 32_768.0 * 7.7466 * 1e-3;
        assert!((policy.sigma(10, 1e-3) / expected - 1.0).abs() < 1e-4);
        // The divergence of all queries together is what the paper asks for.
        let (t, sigma) = (policy.bound(10), policy.sigma(10, 1.0));
        let divergence = 1000.0 * 10.0 * t * t / (2.0 * sigma * sigma);
        assert!((divergence * 24.0 * 30f64.exp2() - 1.0).abs() < 1e-9);
        // Two more bits double the noise but for the tail; four times the queries likewise.
        assert!(Policy { statistical_bits: 32, ..policy }.sigma(10, 1.0) > 2.0 * sigma);
        assert!(Policy { queries: 4000, ..policy }.sigma(10, 1.0) > 2.0 * sigma);
        assert!((policy.bits(10, 40.0) - (40.0 - sigma.log2())).abs() < 1e-9);
    }

    /// Moments and tails of 2^18 samples, each within six standard errors.
    #[test]
    fn the_noise_has_the_promised_size() {
        const SAMPLES: usize = 1 << 18;
        let (n, sigma) = (SAMPLES as f64, 37.5);
        let mut scores = vec![3.0; SAMPLES];
        add_noise(&mut scores, sigma, &mut Random::from_seed([8; 32]));
        let noise: Vec<f64> = scores.iter().map(|x| (x - 3.0) / sigma).collect();
        let moment = |k: i32| noise.iter().map(|x| x.powi(k)).sum::<f64>() / n;
        assert!(moment(1).abs() < 6.0 / n.sqrt(), "mean {}", moment(1));
        // Variance 2/n of the second moment, 96/n of the fourth.
        assert!((moment(2) - 1.0).abs() < 6.0 * (2.0 / n).sqrt(), "variance {}", moment(2));
        assert!((moment(4) - 3.0).abs() < 6.0 * (96.0 / n).sqrt(), "fourth moment {}", moment(4));
        for (z, share) in [(0.5, 0.617_075), (1.0, 0.317_311), (2.0, 0.045_500), (3.0, 0.002_700), (4.0, 6.334e-5)] {
            let count = noise.iter().filter(|x| x.abs() > z).count() as f64;
            assert!((count - share * n).abs() < 6.0 * (share * n).sqrt(), "{count} beyond {z}");
        }
        // On the grid, and on both sides.
        assert!(scores.iter().all(|x| (x * 8.0).fract() == 0.0));
        let neighbours = noise.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / n;
        assert!(neighbours.abs() < 6.0 / n.sqrt(), "correlation {neighbours}");
    }
}
