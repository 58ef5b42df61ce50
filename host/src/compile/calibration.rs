//! Calibration: what the elementary passes of the kernel take on a machine, and how to measure it.
//!
//! The constants are those of one machine and may be fitted again from the operations and models that
//! `cipherlens bench` times: it prints the fit beside the constants in use. To adopt a fit, replace
//! [`Calibration::MEASURED`] by it and note the machine in `notes/performance.md`.

use super::cost::OperationCounts;
use serde::Serialize;

/// Microseconds of each elementary pass over one limb at N = 8192.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Calibration {
    /// One NTT; scales with `N log N`, all others with `N`.
    pub ntt_us: f64,
    /// One product, addition or permutation.
    pub limb_pass_us: f64,
    /// One row of a key, read and multiplied.
    pub key_row_us: f64,
    /// One row of a plaintext, read; its products are passes.
    pub plain_row_us: f64,
    /// One source row recomposed modulo one other prime.
    pub conversion_us: f64,
    /// What a row of a key or plaintext takes more from memory than from a cache.
    pub memory_row_us: f64,
}

/// A measurement.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Ring degree.
    pub n: usize,
    /// What ran.
    pub counts: OperationCounts,
    /// Whether keys and plaintexts are more than the caches hold.
    pub memory: bool,
    /// How many microseconds it took.
    pub us: f64,
}

/// Number of constants.
const TERMS: usize = 6;

/// Bytes of keys and plaintexts from which on they count as read from memory: half a last-level cache.
pub const CACHE_BYTES: usize = 16 << 20;

impl Calibration {
    /// One core of an AMD EPYC (Zen 5, AVX-512) with everything prepared.
    pub const MEASURED: Self = Self {
        ntt_us: 5.25,
        limb_pass_us: 0.8,
        key_row_us: 0.65,
        plain_row_us: 0.4,
        conversion_us: 1.2,
        memory_row_us: 0.6,
    };

    /// How often each constant counts, at N = 8192.
    fn terms(n: usize, counts: &OperationCounts, memory: bool) -> [f64; TERMS] {
        let linear = n as f64 / 8192.0;
        let log = f64::from(n.max(2).ilog2()) / 13.0;
        let term = |count: usize| count as f64 * linear;
        [
            term(counts.ntt) * log,
            term(counts.limb_pass),
            term(counts.key_row),
            term(counts.plain_row),
            term(counts.conversion),
            term(if memory { counts.key_row + counts.plain_row } else { 0 }),
        ]
    }

    fn constants(&self) -> [f64; TERMS] {
        [self.ntt_us, self.limb_pass_us, self.key_row_us, self.plain_row_us, self.conversion_us, self.memory_row_us]
    }

    /// Microseconds of `counts` in a ring of degree `n`, with keys and plaintexts in a cache or in `memory`.
    pub fn microseconds(&self, n: usize, counts: &OperationCounts, memory: bool) -> f64 {
        Self::terms(n, counts, memory).iter().zip(self.constants()).map(|(count, us)| count * us).sum()
    }

    /// The constants with the least sum of squares of relative errors, given the time of an NTT at N = 8192, which is
    /// measured alone because most operations have NTTs and conversions in the same proportion. None is negative.
    ///
    /// Coordinate descent: the sum is convex, so the order of the steps does not matter.
    pub fn fit(ntt_us: f64, samples: &[Sample]) -> Self {
        let rows: Vec<[f64; TERMS]> =
            samples.iter().map(|s| Self::terms(s.n, &s.counts, s.memory).map(|t| t / s.us)).collect();
        let mut x = Self { ntt_us, ..Self::MEASURED }.constants();
        for _ in 0..20_000 {
            for j in 1..TERMS {
                let size: f64 = rows.iter().map(|row| row[j] * row[j]).sum();
                let slope: f64 =
                    rows.iter().map(|row| row[j] * (1.0 - row.iter().zip(&x).map(|(a, b)| a * b).sum::<f64>())).sum();
                if size > 0.0 {
                    x[j] = (x[j] + slope / size).max(0.0);
                }
            }
        }
        let [_, limb_pass_us, key_row_us, plain_row_us, conversion_us, memory_row_us] = x;
        Self { ntt_us, limb_pass_us, key_row_us, plain_row_us, conversion_us, memory_row_us }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::cost::CostModel;

    #[test]
    fn a_fit_finds_the_constants_behind_the_times() {
        let truth = Calibration {
            ntt_us: 6.0,
            limb_pass_us: 1.5,
            key_row_us: 3.0,
            plain_row_us: 2.0,
            conversion_us: 0.5,
            memory_row_us: 1.0,
        };
        let mut samples = Vec::new();
        for (n, alpha, special) in [(4096, 1, 1), (8192, 2, 2), (8192, 3, 2), (16384, 3, 3), (8192, 2, 1)] {
            let model = CostModel::new(n, alpha, special);
            for limbs in 1..=6 {
                for counts in [
                    model.linear_transform(limbs, &[4], &[2], 24, true),
                    model.rotate_sum(limbs, 3, false),
                    model.mul(limbs, true),
                    model.add(limbs),
                ] {
                    let us = truth.microseconds(n, &counts, n > 4096);
                    samples.push(Sample { n, counts, memory: n > 4096, us });
                }
            }
        }
        let found = Calibration::fit(truth.ntt_us, &samples);
        for (a, b) in found.constants().iter().zip(truth.constants()) {
            assert!((a - b).abs() < 0.02 * b, "{found:?}");
        }
    }
}
