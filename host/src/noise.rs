//! The noise model: variance of every operation in slots, from which the precision of a program is predicted.
//!
//! All variances are of one slot of the *integer* message, before division by the scale. A polynomial whose
//! coefficients have variance v has slots of variance 2 N v, and a product of polynomials multiplies slots.

use cipherlens_kernel::params::ParamSet;

use crate::random::SIGMA;

/// Variance of a coefficient that was rounded to nearest.
const ROUNDING: f64 = 1.0 / 12.0;
/// Variance of a coefficient of a uniform ternary polynomial.
const TERNARY: f64 = 2.0 / 3.0;

/// Variances for one parameter set.
#[derive(Debug, Clone)]
pub struct NoiseModel {
    n: usize,
    /// Variance of a key switch, by limbs.
    key_switch: Vec<f64>,
}

impl NoiseModel {
    /// The model of `set`.
    pub fn new(set: ParamSet) -> Self {
        let mut model = Self { n: set.n(), key_switch: Vec::new() };
        let log = |&p: &u32| libm::log2(f64::from(p));
        let log_p: f64 = set.p().iter().map(log).sum();
        let log_q: Vec<f64> = set.q().iter().map(log).collect();
        let variance = |digit: &[f64]| {
            // A digit is uniform in (-Q_j/2, Q_j/2).
            let size = libm::exp2((digit.iter().sum::<f64>() - log_p) * 2.0) / 12.0;
            model.spread() * size * model.fresh()
        };
        let by_limbs = (0..=log_q.len()).map(|limbs| log_q[..limbs].chunks(set.digit()).map(variance).sum());
        model.key_switch = by_limbs.collect();
        model
    }

    fn spread(&self) -> f64 {
        2.0 * self.n as f64
    }

    /// Fresh encryption under the secret key.
    pub fn fresh(&self) -> f64 {
        self.spread() * SIGMA * SIGMA
    }

    /// Fresh encryption under the public key: `v e + e0 + e1 s`.
    pub fn fresh_public(&self) -> f64 {
        let error = self.fresh();
        error + 2.0 * error * self.spread() * TERNARY
    }

    /// Division with rounding of both components (rescale, mod-down).
    pub fn division(&self) -> f64 {
        let slot = self.spread() * ROUNDING;
        slot + slot * self.spread() * TERNARY
    }

    /// Key switching at `limbs` limbs, after division by P and without its rounding.
    ///
    /// # Panics
    /// If the model has fewer primes.
    pub fn key_switch(&self, limbs: usize) -> f64 {
        self.key_switch[limbs]
    }

    /// Rounding of a plaintext's coefficients.
    pub fn encoding(&self) -> f64 {
        self.spread() * ROUNDING
    }
}

/// Error and size of a register while a program is walked through, in message units.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    /// Variance of the error of a slot.
    pub variance: f64,
    /// Mean square of the message over the slots.
    pub power: f64,
}
