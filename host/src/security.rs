//! The security level of a modulus, estimated without the table that the kernel enforces.
//!
//! Ring LWE in the conjugate-invariant ring, taken as LWE of dimension N with a uniform ternary secret and a Gaussian
//! error, against the attacks that win for such parameters: the primal attack by a unique shortest vector and the dual
//! attack. BKZ-beta follows the geometric series assumption with root Hermite factor
//! `delta = ((pi beta)^(1/beta) beta / (2 pi e))^(1 / (2 (beta - 1)))` (Chen, thesis, 2013).
//!
//! | step | source |
//! | --- | --- |
//! | success of the primal attack, `sqrt(beta) sigma <= delta^(2 beta - d - 1) Vol^(1/d)` | Alkim, Ducas, Poeppelmann, Schwabe, eprint 2015/1092; Albrecht et al., eprint 2017/815 |
//! | scaling of a secret smaller than the error | Bai, Galbraith, eprint 2013/839 |
//! | dual attack with the vectors that one sieve gives, `2^(0.2075 beta)` of them, sqrt(4/3) longer than the shortest | Albrecht, eprint 2017/047; eprint 2015/1092 |
//! | [`CostModel::Matzov`]: list decoding in gates, progressive BKZ, dimensions for free | MATZOV, "Report on the Security of LWE", 2022; Ducas, eprint 2017/999; the default of the lattice estimator |
//! | [`CostModel::Bdgl16`]: `2^(0.292 beta + 16.4)` for each of `8 d` calls | Becker, Ducas, Gama, Laarhoven, eprint 2015/1128; Albrecht, Player, Scott, eprint 2015/046 |

use crate::random::SIGMA;
use std::f64::consts::{E, PI};

/// Standard deviation of a uniform ternary number.
const SECRET: f64 = 0.816_496_580_927_726;

/// What one BKZ reduction costs on a classical computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostModel {
    /// Gates, with progressive reduction and dimensions for free.
    Matzov,
    /// The asymptotic cost of sieving with an experimental constant.
    Bdgl16,
}

/// log2 of the cost of each attack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Unique shortest vector.
    pub primal: f64,
    /// Dual.
    pub dual: f64,
    /// Block size of the primal attack.
    pub beta: u32,
}

impl Level {
    /// The cheaper of both, in bits.
    pub fn bits(&self) -> f64 {
        self.primal.min(self.dual)
    }
}

impl CostModel {
    /// log2 of the cost of BKZ-`beta` in dimension `d`.
    fn bkz(self, beta: f64, d: f64) -> f64 {
        match self {
            Self::Matzov => {
                const SLOPE: f64 = 0.296_135_003_082_053_65;
                const CONSTANT: f64 = 20.387_885_985_467_914;
                let free = (beta * (4.0f64 / 3.0).ln() / (beta / (2.0 * PI * E)).ln()).max(0.0);
                // Once for the sum over smaller dimensions inside a call, once for that over smaller blocks.
                let progressive = -(1.0 - (-SLOPE).exp2()).log2();
                2.0 * progressive + (d - beta).max(1.0).log2() + SLOPE * (beta - free) + CONSTANT
            }
            Self::Bdgl16 => 0.292 * beta + 16.4 + (8.0 * d).log2(),
        }
    }
}

fn log_delta(beta: f64) -> f64 {
    ((PI * beta).log2() / beta + (beta / (2.0 * PI * E)).log2()) / (2.0 * (beta - 1.0))
}

/// Numbers of samples to choose from, for LWE of dimension `n`; ring LWE has as many as there are ciphertexts and keys.
fn samples(n: usize) -> impl Iterator<Item = f64> {
    let step = (n / 200).max(1);
    (n / 4..2 * n).step_by(step).map(|m| m as f64)
}

/// The least dimension in which the primal attack succeeds with block size `beta`.
fn primal_dimension(n: usize, log_q: f64, beta: f64) -> Option<f64> {
    let (n, scaling) = (n as f64, (SIGMA / SECRET).log2());
    samples(n as usize).map(|m| (m, m + n + 1.0)).find_map(|(m, d)| {
        let volume = (m * log_q + n * scaling + SIGMA.log2()) / d;
        let found = 0.5 * beta.log2() + SIGMA.log2() <= (2.0 * beta - d - 1.0) * log_delta(beta) + volume;
        found.then_some(d)
    })
}

/// log2 of the cost of the dual attack with block size `beta`.
fn dual_cost(n: usize, log_q: f64, beta: f64, model: CostModel) -> f64 {
    let secrets = n as f64;
    let cost = |m: f64| {
        let d = m + secrets;
        // Deviation of <w, e> + <v, s> for a short vector (w, v), relative to q.
        let volume = (secrets * log_q + m * SIGMA.log2() + secrets * SECRET.log2()) / d;
        let relative = (d * log_delta(beta) + volume + 0.5 * (4.0f64 / 3.0).log2() - log_q).exp2();
        let log_advantage = -2.0 * (PI * relative).powi(2) * std::f64::consts::LOG2_E;
        model.bkz(beta, d) + (-2.0 * log_advantage - 0.2075 * beta).max(0.0)
    };
    samples(n).map(cost).fold(f64::INFINITY, f64::min)
}

/// The level of LWE of dimension `n` with a modulus of `log_q` bits, a uniform ternary secret and errors of deviation
/// [`SIGMA`].
pub fn estimate(n: usize, log_q: f64, model: CostModel) -> Level {
    let (mut low, mut high) = (50u32, 2 * n as u32);
    while low < high {
        let middle = low.midpoint(high);
        if primal_dimension(n, log_q, f64::from(middle)).is_some() { high = middle } else { low = middle + 1 }
    }
    let beta = f64::from(low);
    let primal = model.bkz(beta, primal_dimension(n, log_q, beta).unwrap_or(2.0 * n as f64));
    // The dual attack wants blocks about as large as the primal one.
    let blocks = (low / 2..2 * low).step_by((low as usize / 100).max(1));
    let dual = blocks.map(|b| dual_cost(n, log_q, f64::from(b), model)).fold(f64::INFINITY, f64::min);
    Level { primal, dual, beta: low }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_modulus_is_less_security_and_more_dimension_more() {
        let bits = |n, log_q| estimate(n, log_q, CostModel::Matzov).bits();
        assert!(bits(4096, 120.0) + 5.0 < bits(4096, 106.0));
        assert!(bits(8192, 106.0) > bits(4096, 106.0) + 50.0);
    }

    #[test]
    fn the_standard_of_2018_follows_from_its_own_cost_model() {
        // 109, 218, 438 and 881 bits for 128 bits of security, ternary secret; classical.
        for (log_n, log_q) in [(12, 109.0), (13, 218.0), (14, 438.0), (15, 881.0)] {
            let level = estimate(1 << log_n, log_q, CostModel::Bdgl16);
            assert!((level.bits() - 128.0).abs() < 1.0, "2^{log_n}: {level:?}");
        }
    }
}
