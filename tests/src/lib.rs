//! What the test suites share: keys and runs for one parameter set, an assembler for programs that the
//! compiler would not write, the fixtures of the repository, and images for other targets.

pub mod assemble;
pub mod batch;
pub mod counting;
pub mod firmware;
pub mod fixtures;
pub mod lab;
pub mod targets;

/// A small linear congruential generator, for test values that must not depend on any crate.
#[derive(Debug, Clone)]
pub struct Lcg(u64);

impl Lcg {
    /// A generator whose first values depend on every bit of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut lcg = Self(seed);
        lcg.word();
        lcg.word();
        lcg
    }

    /// 32 bits.
    pub fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// Uniform in `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.word() as usize % bound
    }

    /// Uniform in `[-1, 1)`.
    pub fn unit(&mut self) -> f64 {
        f64::from(self.word()) / f64::from(1u32 << 31) - 1.0
    }

    /// `n` values in `[-1, 1)`.
    pub fn units(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.unit()).collect()
    }
}

/// SHA-256 as lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    cipherlens::files::hex(&Sha256::digest(bytes))
}

/// Mean of squares.
pub fn mean_square(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0.0), |(sum, count), x| (sum + x * x, count + 1.0));
    sum / f64::max(count, 1.0)
}
