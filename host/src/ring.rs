//! Polynomials on the host: the kernel's own transforms over vectors.

use cipherlens_kernel::math::{Backend, Detected, Modulus, NttTable, TABLE_ROWS, build_table};
use cipherlens_kernel::params::ParamSet;

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
                assert!(build_table(&mut words, &Modulus::new(p), set.log_n()), "a checked set has all roots of unity");
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

    /// Table of prime `t` of the extended basis at `limbs` limbs.
    pub fn table(&self, limbs: usize, t: usize) -> NttTable<'_> {
        let index = if t < limbs { t } else { t - limbs + self.set.limbs() };
        let p = if t < limbs { self.set.q()[t] } else { self.set.p()[t - limbs] };
        NttTable::new(&self.tables[index], Modulus::new(p), self.n()).expect("tables are complete")
    }

    /// Signed coefficients modulo prime `t`, in the Ntt domain.
    pub fn transform<T: Copy + Into<i64>>(&self, coefficients: &[T], limbs: usize, t: usize) -> Vec<u32> {
        let table = self.table(limbs, t);
        let mut row: Vec<u32> = coefficients.iter().map(|&c| table.modulus.reduce_signed(c.into())).collect();
        self.backend.forward(&mut row, &table);
        row
    }

    /// Coefficients of magnitude below every prime, without a branch on their values: for secrets and errors.
    pub fn transform_small<T: Copy + Into<i64>>(&self, coefficients: &[T], limbs: usize, t: usize) -> Vec<u32> {
        let table = self.table(limbs, t);
        let p = i64::from(table.modulus.value());
        let lift = |c: i64| (c + ((c >> 63) & p)) as u32;
        let mut row: Vec<u32> = coefficients.iter().map(|&c| lift(c.into())).collect();
        self.backend.forward(&mut row, &table);
        row
    }
}
