//! What an operation of the kernel costs: exact operation counts and a time predicted from them.
//!
//! Notation: `l` limbs, `K` special primes, digits of `alpha` primes, `dnum = ceil(l / alpha)` digits,
//! `T = l + K` limbs of the extended modulus `QP`.

use super::calibration::Calibration;
use std::collections::BTreeMap;
use std::ops::{Add, AddAssign};

/// How often each elementary operation runs; the kernel's own counters have the same meaning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OperationCounts {
    /// Forward and inverse NTTs of one limb.
    pub ntt: usize,
    /// Inner products of a decomposed polynomial with a key: rotations and relinearisations.
    pub key_switch: usize,
    /// Inner products with a Galois key.
    pub rotation: usize,
    /// Ciphertext-plaintext products (diagonals).
    pub plain_product: usize,
    /// Decompositions of one polynomial into digits, each extended to `QP`.
    pub decompose: usize,
    /// Polynomials divided by `P`, by the last prime, or by both at once.
    pub mod_down: usize,
    /// Key rows read: `2 * dnum * T` for each inner product.
    pub key_row: usize,
    /// Passes over one limb: permutations, products, additions.
    pub limb_pass: usize,
    /// Plaintext rows read.
    pub plain_row: usize,
    /// Base conversions of one row to one other prime: mod-up, mod-down, mixed-radix digits.
    pub conversion: usize,
}

impl Add for OperationCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            ntt: self.ntt + other.ntt,
            key_switch: self.key_switch + other.key_switch,
            rotation: self.rotation + other.rotation,
            plain_product: self.plain_product + other.plain_product,
            decompose: self.decompose + other.decompose,
            mod_down: self.mod_down + other.mod_down,
            key_row: self.key_row + other.key_row,
            limb_pass: self.limb_pass + other.limb_pass,
            plain_row: self.plain_row + other.plain_row,
            conversion: self.conversion + other.conversion,
        }
    }
}

impl AddAssign for OperationCounts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Ring degree up to which the keys and plaintexts of a network fit a cache.
const SMALL_RING: usize = 4096;

/// Ring, key-switching parameters and measured times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CostModel {
    /// Ring degree.
    pub n: usize,
    /// Slots for one image: all, or a part where images share a ciphertext.
    pub slots: usize,
    /// Primes per key-switching digit.
    pub alpha: usize,
    /// Special primes.
    pub special: usize,
    /// Times of the elementary passes.
    pub calibration: Calibration,
    /// Weight of a mebibyte of evaluation keys, in microseconds.
    pub key_mib_us: f64,
    /// Weight of a mebibyte of program (plaintext diagonals), in microseconds.
    pub program_mib_us: f64,
    /// Evaluation-key bytes beyond which each further mebibyte weighs `over_budget_us`.
    pub key_budget_bytes: usize,
    /// Weight of a mebibyte beyond the budget, in microseconds.
    pub over_budget_us: f64,
    /// What memory weighs besides.
    pub pressure: Pressure,
}

/// Weights of memory with which plans are made for a budget; none where time alone counts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Of a mebibyte of evaluation keys, in microseconds.
    pub key_mib_us: f64,
    /// Of a mebibyte of inner sums, in microseconds.
    pub inner_mib_us: f64,
}

impl CostModel {
    /// A model with the default times and key budget (24 MiB at N = 8192, growing with its square) for `n` slots, digits of `alpha` primes and `special` special primes.
    pub fn new(n: usize, alpha: usize, special: usize) -> Self {
        Self {
            n,
            slots: n,
            alpha,
            special,
            calibration: Calibration::MEASURED,
            key_mib_us: 3.75,
            program_mib_us: 1.5,
            key_budget_bytes: (24 << 20) * (n / 8192).max(1).pow(2),
            over_budget_us: 750.0,
            pressure: Pressure::default(),
        }
    }

    /// What that many keys weigh under pressure, in microseconds.
    pub fn keys_us(&self, limbs: usize, keys: usize) -> f64 {
        (keys * self.key_bytes(limbs)) as f64 / f64::from(1 << 20) * self.pressure.key_mib_us
    }

    /// What the inner sums of that many non-zero giant steps weigh under pressure, in microseconds: two polynomials
    /// modulo `QP` each.
    pub fn inner_us(&self, limbs: usize, giants: usize) -> f64 {
        (giants * 2 * self.extended(limbs) * self.n * 4) as f64 / f64::from(1 << 20) * self.pressure.inner_mib_us
    }

    fn digits(&self, limbs: usize) -> usize {
        limbs.div_ceil(self.alpha)
    }

    fn extended(&self, limbs: usize) -> usize {
        limbs + self.special
    }

    /// Bytes of one seeded key at `limbs` limbs.
    pub fn key_bytes(&self, limbs: usize) -> usize {
        self.digits(limbs) * self.extended(limbs) * self.n * 4
    }

    fn decompose(&self, limbs: usize) -> OperationCounts {
        let sizes = (0..limbs).step_by(self.alpha).map(|start| self.alpha.min(limbs - start));
        let conversion = sizes.map(|size| size * (self.extended(limbs) - size) + mixed_radix(size)).sum();
        let ntt = self.digits(limbs) * self.extended(limbs);
        OperationCounts { ntt, conversion, decompose: 1, ..Default::default() }
    }

    /// `count` inner products with Galois keys, with the permutations that go with them.
    pub fn rotations(&self, limbs: usize, count: usize) -> OperationCounts {
        OperationCounts {
            key_switch: count,
            rotation: count,
            key_row: count * 2 * self.digits(limbs) * self.extended(limbs),
            limb_pass: count * 2 * self.extended(limbs),
            ..Default::default()
        }
    }

    /// Division of `polynomials` polynomials by `P`, and by the last prime when `rescale`: the inverse
    /// NTTs of the limbs that go and the forward NTTs of those that stay add up to `T` in both cases.
    fn mod_down(&self, limbs: usize, polynomials: usize, rescale: bool) -> OperationCounts {
        let (tail, left) = (self.special + usize::from(rescale), limbs - usize::from(rescale));
        OperationCounts {
            ntt: polynomials * self.extended(limbs),
            conversion: polynomials * (tail * left + mixed_radix(tail)),
            mod_down: polynomials,
            ..Default::default()
        }
    }

    /// A linear transform at `limbs` limbs with that many non-zero baby steps of each source, non-zero giant steps of each
    /// result, and diagonals. The baby steps of a source share one decomposition and stay in `QP`; each giant step brings
    /// one polynomial down and decomposes it; one division, fused with the rescale, ends each result.
    pub fn linear_transform(
        &self,
        limbs: usize,
        babies: &[usize],
        giants: &[usize],
        diagonals: usize,
        rescale: bool,
    ) -> OperationCounts {
        if babies.iter().chain(giants).sum::<usize>() == 0 && (babies.len(), giants.len()) == (1, 1) {
            return OperationCounts {
                plain_product: diagonals,
                limb_pass: diagonals * 2 * limbs,
                plain_row: diagonals * limbs,
                conversion: if rescale { 2 * (limbs - 1) } else { 0 },
                ntt: if rescale { 2 * limbs } else { 0 },
                mod_down: if rescale { 2 } else { 0 },
                ..Default::default()
            };
        }
        let mut counts = OperationCounts {
            plain_product: diagonals,
            limb_pass: diagonals * 2 * self.extended(limbs),
            plain_row: diagonals * self.extended(limbs),
            ..Default::default()
        };
        for &babies in babies.iter().filter(|&&babies| babies > 0) {
            counts += self.decompose(limbs) + self.rotations(limbs, babies);
        }
        for _ in 0..giants.iter().sum() {
            counts += self.mod_down(limbs, 1, false) + self.decompose(limbs) + self.rotations(limbs, 1);
        }
        counts + self.mod_down(limbs, 2 * giants.len(), rescale)
    }

    /// What one more result adds to a linear transform whose baby steps are there.
    pub fn further_result(&self, limbs: usize, giants: usize, diagonals: usize, rescale: bool) -> OperationCounts {
        // No source, and so nothing but the result's own work.
        self.linear_transform(limbs, &[], &[giants], diagonals, rescale)
    }

    /// A sum of rotations by `steps` steps at `limbs` limbs.
    pub fn rotate_sum(&self, limbs: usize, steps: usize, rescale: bool) -> OperationCounts {
        self.decompose(limbs) + self.rotations(limbs, steps) + self.mod_down(limbs, 2, rescale)
    }

    /// A product of two ciphertexts, relinearised.
    pub fn mul(&self, limbs: usize, rescale: bool) -> OperationCounts {
        let switch = OperationCounts { rotation: 0, ..self.rotations(limbs, 1) };
        let tensor = OperationCounts { limb_pass: 4 * limbs, ..Default::default() };
        tensor + self.decompose(limbs) + switch + self.mod_down(limbs, 2, rescale)
    }

    /// An addition of two ciphertexts.
    pub fn add(&self, limbs: usize) -> OperationCounts {
        OperationCounts { limb_pass: 2 * limbs, ..Default::default() }
    }

    /// An addition of a plaintext.
    pub fn add_plain(&self, limbs: usize) -> OperationCounts {
        OperationCounts { limb_pass: limbs, plain_row: limbs, ..Default::default() }
    }

    /// Predicted microseconds on one core.
    ///
    /// Networks have more keys and plaintexts than caches hold, but for those in small rings.
    pub fn microseconds(&self, counts: &OperationCounts) -> f64 {
        self.calibration.microseconds(self.n, counts, self.n > SMALL_RING)
    }
}

/// Products of rows that bring `size` residues into mixed-radix form.
fn mixed_radix(size: usize) -> usize {
    size * size.saturating_sub(1) / 2
}

/// The evaluation keys of a program: for each rotation the highest number of limbs at which it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyUse {
    /// Limbs by left rotation.
    pub rotations: BTreeMap<u32, usize>,
    /// Limbs of the relinearisation key, 0 when there is none.
    pub relinearization: usize,
}

impl KeyUse {
    /// Notes a rotation at `limbs` limbs.
    pub fn rotate(&mut self, step: u32, limbs: usize) {
        let entry = self.rotations.entry(step).or_insert(0);
        *entry = limbs.max(*entry);
    }

    /// Bytes of all keys, seeded and truncated to the limbs noted.
    pub fn bytes(&self, model: &CostModel) -> usize {
        let galois: usize = self.rotations.values().map(|&limbs| model.key_bytes(limbs)).sum();
        let relin = if self.relinearization > 0 { model.key_bytes(self.relinearization) } else { 0 };
        galois + relin
    }
}
