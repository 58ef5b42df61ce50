//! Polynomials on the host: the kernel's own transforms over vectors.

use cipherlens_kernel::math::{Backend, Detected, Modulus, NttTable, TABLE_ROWS, build_table};
use cipherlens_kernel::params::ParamSet;
use zeroize::Zeroizing;

/// Transform tables of every prime of a set.
pub struct Ring {
    set: ParamSet,
    tables: Vec<Vec<u32>>,
    /// The limb passes.
    pub backend: Detected,
}

impl Ring {
    /// Builds all tables of `set`.
    pub fn new(set: ParamSet) -> Self {
        let n = set.n();
        let tables = set
            .q()
            .iter()
            .chain(set.p())
            .map(|&p| {
                let mut words = vec![0; n * TABLE_ROWS];
                build_table(&mut words, &Modulus::new(p), set.log_n()).expect("a checked set has all roots of unity");
                words
            })
            .collect();
        Self { set, tables, backend: Detected::new() }
    }

    /// The parameter set.
    pub fn set(&self) -> &ParamSet {
        &self.set
    }

    /// Ring degree.
    pub fn n(&self) -> usize {
        self.set.n()
    }

    /// Number, among all primes of the set, of prime `t` of the extended basis at `limbs` limbs.
    pub(crate) fn index(&self, limbs: usize, t: usize) -> usize {
        if t < limbs { t } else { t - limbs + self.set.limbs() }
    }

    /// Table of prime `t` of the extended basis at `limbs` limbs.
    pub fn table(&self, limbs: usize, t: usize) -> NttTable<'_> {
        let index = self.index(limbs, t);
        let p = if t < limbs { self.set.q()[t] } else { self.set.p()[t - limbs] };
        NttTable::new(&self.tables[index], Modulus::new(p), self.n()).expect("tables are complete")
    }

    /// Signed coefficients modulo prime `t`, in the Ntt domain.
    pub fn transform(&self, coefficients: &[i64], limbs: usize, t: usize) -> Vec<u32> {
        self.transform_digits(&Digits::new(coefficients.iter().copied()), limbs, t)
    }

    /// The same for coefficients that were split once for all primes. Timing: independent of them.
    pub fn transform_digits(&self, Digits(digits): &Digits, limbs: usize, t: usize) -> Vec<u32> {
        let table = self.table(limbs, t);
        let m = &table.modulus;
        let mut row = vec![0; self.n()];
        let weights = [0, 1, 2].map(|k| m.to_montgomery(m.pow(2, DIGIT_BITS * k)));
        self.backend.recompose(&mut row, digits, &weights, m.pow(2, OFFSET_BITS), m);
        self.backend.forward(&mut row, &table);
        row
    }

    /// Coefficients of magnitude below every prime, without a branch on their values: for secrets and errors.
    pub fn transform_small<T: Copy + Into<i32>>(&self, coefficients: &[T], limbs: usize, t: usize) -> Vec<u32> {
        let table = self.table(limbs, t);
        let p = table.modulus.value() as i32;
        let lift = |c: i32| (c + ((c >> 31) & p)) as u32;
        let mut row: Vec<u32> = coefficients.iter().map(|&c| lift(c.into())).collect();
        self.backend.forward(&mut row, &table);
        row
    }
}

/// Bits of a digit: the limb pass takes words below 2^30.
const DIGIT_BITS: u32 = 30;
/// 2 to this power makes coefficients positive.
const OFFSET_BITS: u32 = 63;

/// Signed coefficients plus an offset in base 2^30, as three rows, which a limb pass takes modulo a prime: a division's
/// time would depend on them.
pub struct Digits(Zeroizing<Vec<u32>>);

impl Digits {
    /// Splits `coefficients`.
    pub fn new(coefficients: impl ExactSizeIterator<Item = i64>) -> Self {
        let n = coefficients.len();
        let mut digits = Zeroizing::new(vec![0; 3 * n]);
        let (low, rest) = digits.split_at_mut(n);
        let (middle, high) = rest.split_at_mut(n);
        let mask = (1u64 << DIGIT_BITS) - 1;
        for (((c, low), middle), high) in coefficients.zip(low).zip(middle).zip(high) {
            let x = c as u64 ^ 1 << OFFSET_BITS;
            *low = (x & mask) as u32;
            *middle = (x >> DIGIT_BITS & mask) as u32;
            *high = (x >> (2 * DIGIT_BITS)) as u32;
        }
        Self(digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cipherlens_kernel::params::named;

    #[test]
    fn rows_are_the_coefficients_modulo_the_primes() {
        let set = named::N12;
        let ring = Ring::new(set);
        let mut x = 1u64;
        let mut wide: Vec<i64> = (0..set.n())
            .map(|i| {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                x as i64 >> (i % 64)
            })
            .collect();
        wide[..5].copy_from_slice(&[0, i64::MAX, i64::MIN, 1 << 62, -1]);
        let small: Vec<i32> = wide.iter().map(|&c| (c % 30) as i32).collect();
        for t in 0..set.limbs() + set.special() {
            let table = ring.table(set.limbs(), t);
            for (mut row, expected) in [
                (ring.transform(&wide, set.limbs(), t), wide.clone()),
                (ring.transform_small(&small, set.limbs(), t), small.iter().map(|&c| c.into()).collect()),
            ] {
                ring.backend.inverse(&mut row, &table);
                assert!(row.iter().zip(expected).all(|(&x, c)| x == table.modulus.reduce_signed(c)));
            }
        }
    }
}
