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

/// Baby steps whose rotations are kept at a time, so that they stay in cache until all giant steps have used them.
pub const BABY_GROUP: usize = 4;

/// Rows of the scratch region of one instruction, each field the first row of a part.
///
/// With l limbs, K special primes, T = l + K and D digits. Parts of a worker serve one prime at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Scratch {
    /// Coefficients of the decomposed polynomial, then its mixed-radix digits: l rows.
    pub coeff: usize,
    /// The decomposed polynomial in the Ntt domain where it is not a buffer's: l rows.
    pub poly: usize,
    /// Accumulator over the extended basis: T rows for c0, T for c1.
    pub acc: usize,
    /// Inner sums: 2 T rows for each giant step that rotates.
    pub inner: usize,
    /// Primes to divide by: K rows for each giant step that rotates, or K + 1 for each of c0 and c1. Shares rows with
    /// the parts of workers.
    pub tail: usize,
    /// For each worker: the extended digits, D rows.
    pub digits: usize,
    /// For each worker: key rows, D for each half.
    pub key: usize,
    /// For each worker: rotated inputs, 2 rows for each baby step of a group.
    pub babies: usize,
    /// For each worker: an expanded plaintext.
    pub plain: usize,
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
        let tail = set.special().wrapping_add(1) << 1;
        if switches {
            s.coeff = take(l);
            s.acc = take(t << 1);
            s.digits = take(workers.wrapping_mul(d));
            s.key = take(workers.wrapping_mul(d << 1));
        } else {
            s.acc = take(l << 1);
        }
        // Nothing is divided before the last digit, key and baby step have been used: their rows serve again.
        match instruction.operation {
            Operation::LinearTransform { transform, .. } => {
                let rotated = transform.rotated_giants();
                if rotated > 0 {
                    s.poly = take(l);
                    s.inner = take(rotated.wrapping_mul(t << 1));
                }
                s.plain = take(workers);
                let babies = workers.wrapping_mul(transform.babies().min(BABY_GROUP) << 1);
                s.babies = take(babies.max(tail).max(rotated.wrapping_mul(set.special())));
                s.tail = s.babies;
            }
            Operation::RotateSum { .. } | Operation::Mul { .. } => {
                if matches!(instruction.operation, Operation::Mul { .. }) {
                    s.poly = take(l);
                }
                s.tail = if workers.wrapping_mul(d.wrapping_mul(3)) >= tail { s.digits } else { take(tail) };
            }
            Operation::MulPlain { .. } | Operation::AddPlain { .. } => {
                s.plain = take(workers);
                s.tail = take(tail);
            }
            Operation::Add { .. } | Operation::Rescale { .. } => s.tail = take(tail),
        }
        s.end = next;
        s
    }

    /// The same scratch with the parts of worker `worker`, for `digits` digits and `babies` baby steps.
    pub fn for_worker(mut self, worker: usize, digits: usize, babies: usize) -> Self {
        let shift = |row: &mut usize, rows: usize| *row = row.wrapping_add(worker.wrapping_mul(rows));
        shift(&mut self.digits, digits);
        shift(&mut self.key, digits << 1);
        shift(&mut self.babies, babies.min(BABY_GROUP) << 1);
        shift(&mut self.plain, 1);
        self
    }
}
