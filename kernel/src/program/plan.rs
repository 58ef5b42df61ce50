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
    /// Accumulator over the extended basis, for each result: T rows for c0, T for c1.
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

/// Rows of each part of [`Scratch`]; those of a worker are counted for one.
#[derive(Default)]
struct Rows {
    coeff: usize,
    acc: usize,
    digits: usize,
    key: usize,
    poly: usize,
    inner: usize,
    babies: usize,
    plain: usize,
    tail: usize,
}

impl Rows {
    fn of(instruction: &Instruction<'_>, set: &ParamSet) -> Self {
        let l = instruction.limbs;
        let t = l.wrapping_add(set.special());
        let d = set.digits(l);
        let tail = set.special().wrapping_add(1) << 1;
        let switch = Self { coeff: l, acc: t << 1, digits: d, key: d << 1, tail, ..Self::default() };
        let plain = Self { acc: l << 1, tail, ..Self::default() };
        match instruction.operation {
            Operation::LinearTransform { transform } => {
                let rotated = transform.rotated_giants();
                Self {
                    acc: transform.outputs().wrapping_mul(t << 1),
                    poly: if rotated == 0 { 0 } else { l },
                    inner: rotated.wrapping_mul(t << 1),
                    babies: transform.babies().min(BABY_GROUP) << 1,
                    plain: 1,
                    tail: tail.max(rotated.wrapping_mul(set.special())),
                    ..switch
                }
            }
            Operation::RotateSum { .. } => switch,
            Operation::Mul { .. } => Self { poly: l, ..switch },
            Operation::MulPlain { .. } | Operation::AddPlain { .. } => Self { plain: 1, ..plain },
            Operation::Add { .. } | Operation::Rescale { .. } => plain,
        }
    }
}

impl Scratch {
    /// The scratch of `instruction` for `workers` workers, placed from row `first`.
    pub fn of(instruction: &Instruction<'_>, set: &ParamSet, first: usize, workers: usize) -> Self {
        let rows = Rows::of(instruction, set);
        let mut next = first;
        let mut take = |rows: usize| {
            let row = next;
            next = next.wrapping_add(rows);
            row
        };
        let each = |rows: usize| workers.wrapping_mul(rows);
        let mut s = Self {
            coeff: take(rows.coeff),
            acc: take(rows.acc),
            poly: take(rows.poly),
            inner: take(rows.inner),
            plain: take(each(rows.plain)),
            ..Self::default()
        };
        // Nothing is divided before the last digit, key and baby step of the phases before have been used: their rows
        // serve again.
        let (digits, keys, babies) = (each(rows.digits), each(rows.key), each(rows.babies));
        if babies > 0 {
            s.digits = take(digits);
            s.key = take(keys);
            s.tail = take(babies.max(rows.tail));
            s.babies = s.tail;
        } else {
            s.tail = take(digits.wrapping_add(keys).max(rows.tail));
            s.digits = s.tail;
            s.key = s.digits.wrapping_add(digits);
        }
        s.end = next;
        s
    }

    /// What a pass may read that another one wrote, as first row and number of rows: all parts but the key rows; those of
    /// workers only while a unit of passes is under way, and the tail only while something is divided. The first
    /// worker's stand for all.
    pub(crate) fn state(
        &self,
        instruction: &Instruction<'_>,
        set: &ParamSet,
        in_unit: bool,
        dividing: bool,
    ) -> [(usize, usize); 8] {
        let rows = Rows::of(instruction, set);
        let of_unit = |rows: usize| if in_unit { rows } else { 0 };
        [
            (self.coeff, rows.coeff),
            (self.acc, rows.acc),
            (self.poly, rows.poly),
            (self.inner, rows.inner),
            (self.tail, if dividing { rows.tail } else { 0 }),
            (self.digits, of_unit(rows.digits)),
            (self.babies, if dividing { 0 } else { of_unit(rows.babies) }),
            (self.plain, of_unit(rows.plain)),
        ]
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
