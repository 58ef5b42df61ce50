//! The memory plan: which rows of the arena an instruction's scratch takes.
//!
//! The arena is a sequence of rows of N words: the transform tables of all primes in use, the ciphertext
//! buffers, and one scratch region that instructions share. Rows below are counted from the end of the tables.

use super::instruction::{Instruction, Operation};
use crate::math::TABLE_ROWS;
use crate::params::ParamSet;

/// Rows of all transform tables when `limbs` ciphertext primes are in use.
pub fn table_rows(set: &ParamSet, limbs: usize) -> usize {
    limbs.wrapping_add(set.special()).wrapping_mul(TABLE_ROWS)
}

/// Rows of the scratch region of one instruction, each field the first row of a part.
///
/// With l limbs, K special primes, T = l + K and D digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Scratch {
    /// Coefficients of the decomposed polynomial, then its mixed-radix digits: l rows.
    pub coeff: usize,
    /// The decomposed polynomial in the Ntt domain where it is not a buffer's: l rows.
    pub poly: usize,
    /// Extended digits, `[T][D]` rows.
    pub digits: usize,
    /// Accumulator over the extended basis: T rows for c0, T for c1.
    pub acc: usize,
    /// Inner accumulator of a giant step: 2 T rows.
    pub inner: usize,
    /// Rotated inputs: 2 T rows per baby step.
    pub babies: usize,
    /// Expanded plaintexts of one giant step, for each worker.
    pub plain: usize,
    /// Primes to divide by, K + 1 rows for each of c0 and c1.
    pub tail: usize,
    /// Two rows before an automorphism, for each worker.
    pub temp: usize,
    /// Key rows: D for each half, for each worker.
    pub key: usize,
    /// One past the last row.
    pub end: usize,
}

impl Scratch {
    /// The scratch of `instruction` for `workers` workers, placed from row `first`.
    pub fn of(instruction: &Instruction<'_>, set: &ParamSet, first: usize, workers: usize) -> Self {
        let l = instruction.limbs;
        let t = l.wrapping_add(set.special());
        let d = set.digits(l);
        let mut s = Self::default();
        let mut next = first;
        let mut take = |rows: usize| {
            let row = next;
            next = next.wrapping_add(rows);
            row
        };
        let switches = match instruction.operation {
            Operation::LinearTransform { .. } | Operation::RotateSum { .. } | Operation::Mul { .. } => true,
            Operation::MulPlain { .. }
            | Operation::AddPlain { .. }
            | Operation::Add { .. }
            | Operation::Rescale { .. } => false,
        };
        if switches {
            s.coeff = take(l);
            s.digits = take(t.wrapping_mul(d));
            s.acc = take(t << 1);
            s.temp = take(workers << 1);
            s.key = take(workers.wrapping_mul(d << 1));
        } else {
            s.acc = take(l << 1);
        }
        s.tail = take(set.special().wrapping_add(1) << 1);
        match instruction.operation {
            Operation::LinearTransform { transform, .. } => {
                s.poly = take(l);
                s.inner = take(t << 1);
                s.babies = take(transform.babies().wrapping_mul(t << 1));
                s.plain = take(workers.wrapping_mul(transform.widest()));
            }
            Operation::Mul { .. } => s.poly = take(l),
            Operation::MulPlain { .. } | Operation::AddPlain { .. } => s.plain = take(workers),
            _ => {}
        }
        s.end = next;
        s
    }
}
