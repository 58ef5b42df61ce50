//! The checked view of a batch program.

use super::format::{BatchSection, FLAG_ACCUMULATE, GROUP_WORDS, INSTRUCTION_WORDS, NO_BIAS, opcode};
use super::verify::verify;
use crate::ckks::Scale;
use crate::keys::KeyRequest;
use crate::params::{ParamError, ParamSet};
use crate::program::{ProgramError, Sections, read_set, table_rows};
use crate::wire::{FileKind, Header, first16, slice_at, u32_at, u64_at};
use core::ops::Range;

/// A verified batch program, read in place.
#[derive(Debug, Clone, Copy)]
pub struct BatchProgram<'a> {
    sections: Sections<'a>,
    fingerprint: [u8; 16],
    set: ParamSet,
    limbs: usize,
    rows: usize,
    inputs: usize,
    outputs: usize,
}

/// Ciphertexts of one size that lie one after the other: `polys` times `limbs` rows each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Cells {
    /// First row of the first one, counted from the end of the tables.
    pub row: usize,
    /// Rows of each polynomial.
    pub limbs: usize,
    /// Polynomials of each: 2, or 3 after a product.
    pub polys: usize,
}

impl Cells {
    /// Rows of one ciphertext.
    pub fn size(&self) -> usize {
        self.limbs.wrapping_mul(self.polys)
    }

    /// The row of limb `t` of polynomial `c` of ciphertext `i`.
    pub fn at(&self, i: usize, c: usize, t: usize) -> usize {
        let poly = i.wrapping_mul(self.polys).wrapping_add(c);
        self.row.wrapping_add(poly.wrapping_mul(self.limbs)).wrapping_add(t)
    }

    /// The rows of `count` of them; none if the numbers are out of all bounds.
    pub fn range(&self, count: usize) -> Option<Range<usize>> {
        let rows = self.limbs.checked_mul(self.polys)?.checked_mul(count)?;
        Some(self.row..self.row.checked_add(rows)?)
    }
}

/// One instruction: `count` ciphertexts, a row of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Instruction {
    /// Index of the layer that it belongs to.
    pub layer: usize,
    /// Limbs of its operands; cells with more are read at this level.
    pub limbs: usize,
    /// Ciphertexts that it defines, or gives out.
    pub count: usize,
    /// Scale of what it defines or gives out.
    pub scale: Scale,
    /// What it does.
    pub operation: Operation,
}

/// What an instruction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Operation {
    /// Takes in inputs.
    Load {
        /// The first input.
        first: usize,
        /// Where they go.
        to: Cells,
    },
    /// Products with weights.
    Linear {
        /// First group and number of groups.
        groups: (usize, usize),
        /// Limbs and polynomials of the cells that taps name; its row is not used.
        from: Cells,
        /// The results.
        to: Cells,
    },
    /// Products of ciphertexts of two polynomials.
    Mul {
        /// Left operands.
        a: Cells,
        /// Right operands; the same for squares.
        b: Cells,
        /// The results, of three polynomials.
        to: Cells,
    },
    /// Relinearisation where there are three polynomials, and division by the last limbs.
    Divide {
        /// The operands.
        from: Cells,
        /// The results.
        to: Cells,
        /// Limbs that are divided away.
        drop: usize,
    },
    /// Gives out outputs.
    Store {
        /// The first output.
        first: usize,
        /// Where they lie.
        from: Cells,
    },
}

/// Results that are sums over the same ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group<'a> {
    /// First row of each ciphertext to sum over, little-endian words.
    pub taps: &'a [[u8; 4]],
    /// Weights, `[taps][columns]` signed little-endian words.
    pub weights: &'a [[u8; 4]],
    /// Number of results.
    pub columns: usize,
    /// The first of them among the instruction's.
    pub first: usize,
    /// What is added to each at the scale of the results: signed little-endian double words, times
    /// `2^bias_shift`.
    pub biases: Option<&'a [[u8; 8]]>,
    /// log2 of the unit of the biases.
    pub bias_shift: u32,
    /// Whether the sums are added to the results.
    pub accumulate: bool,
}

impl<'a> BatchProgram<'a> {
    /// Checks everything once: structure, every index and offset, parameters and their security, that no
    /// instruction writes what it reads, levels, the key manifest, the digest.
    ///
    /// # Errors
    /// [`ProgramError`] names the first check that fails.
    pub fn verify(bytes: &'a [u8]) -> Result<Self, ProgramError> {
        let header = Header::read(bytes, FileKind::BatchProgram)?;
        header.check_digest(bytes, bytes.len())?;
        let sections = Sections(bytes);
        let params = sections.find(BatchSection::Params as usize).ok_or(ParamError::Truncated)?;
        let set = read_set(params)?;
        if set.fingerprint() != header.set {
            return Err(ProgramError::Fingerprint);
        }
        let word = |i: usize| u32_at(params, i.wrapping_shl(2)).map(|w| w as usize).ok_or(ParamError::Truncated);
        let program = Self {
            sections,
            fingerprint: first16(&header.digest),
            set,
            limbs: word(4)?,
            rows: word(5)?,
            inputs: word(6)?,
            outputs: word(7)?,
        };
        verify(&program)?;
        Ok(program)
    }

    /// Identity of the program: the first 16 bytes of its digest.
    pub fn fingerprint(&self) -> [u8; 16] {
        self.fingerprint
    }

    /// Its parameter set.
    pub fn set(&self) -> &ParamSet {
        &self.set
    }

    /// Ciphertext primes in use.
    pub fn limbs(&self) -> usize {
        self.limbs
    }

    /// Rows of all ciphertexts.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of input ciphertexts.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of output ciphertexts.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Rows of the transform tables at the start of the arena.
    pub fn table_rows(&self) -> usize {
        table_rows(&self.set, self.limbs)
    }

    /// Rows of scratch of one worker: what the largest division takes.
    pub fn worker_rows(&self) -> usize {
        let rows = |i: Instruction| match i.operation {
            Operation::Divide { from, drop, .. } => Scratch::of(&self.set, i.limbs, drop, from.polys, 0).end,
            _ => 0,
        };
        (0..self.instructions()).filter_map(|i| self.instruction(i)).map(rows).max().unwrap_or(0)
    }

    /// Bytes of arena that an engine for `workers` threads needs.
    pub fn arena_bytes(&self, workers: usize) -> usize {
        let scratch = self.worker_rows().saturating_mul(workers.max(1));
        let rows = self.rows.saturating_add(self.table_rows()).saturating_add(scratch);
        rows.saturating_mul(self.set.n() << 2)
    }

    fn section(&self, section: BatchSection) -> &'a [u8] {
        self.sections.section(section as usize)
    }

    pub(super) fn has(&self, section: BatchSection, words: usize) -> bool {
        self.sections.find(section as usize).is_some_and(|s| s.len().is_multiple_of(words.max(1) << 2))
    }

    fn records(&self, section: BatchSection, words: usize) -> usize {
        self.sections.records(section as usize, words)
    }

    fn record(&self, section: BatchSection, words: usize, i: usize) -> Option<&'a [u8]> {
        self.sections.record(section as usize, words, i)
    }

    /// Number of keys in the manifest.
    pub fn keys(&self) -> usize {
        self.records(BatchSection::Manifest, 2)
    }

    /// Key `i` of the manifest.
    pub fn key(&self, i: usize) -> Option<KeyRequest> {
        self.sections.key(BatchSection::Manifest as usize, i)
    }

    /// Number of instructions.
    pub fn instructions(&self) -> usize {
        self.records(BatchSection::Instructions, INSTRUCTION_WORDS)
    }

    /// Instruction `i`.
    pub fn instruction(&self, i: usize) -> Option<Instruction> {
        let record = self.record(BatchSection::Instructions, INSTRUCTION_WORDS, i)?;
        let word = |i: usize| u32_at(record, i.wrapping_shl(2)).map(|w| w as usize);
        let (first, extra) = (word(4)?, word(13)?);
        let a = Cells { row: word(5)?, limbs: word(6)?, polys: word(7)? };
        let b = Cells { row: word(8)?, limbs: word(9)?, polys: a.polys };
        let to = Cells { row: word(10)?, limbs: word(11)?, polys: word(12)? };
        let operation = match word(0)? as u32 {
            opcode::LOAD => Operation::Load { first, to },
            opcode::LINEAR => Operation::Linear { groups: (first, extra), from: a, to },
            opcode::MUL => Operation::Mul { a, b, to },
            opcode::DIVIDE => Operation::Divide { from: a, to, drop: extra },
            opcode::STORE => Operation::Store { first, from: a },
            _ => return None,
        };
        let scale = Scale::new(f64::from_bits(u64_at(record, 56)?))?;
        Some(Instruction { layer: word(1)?, limbs: word(2)?, count: word(3)?, scale, operation })
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.records(BatchSection::Groups, GROUP_WORDS)
    }

    /// Group `i`.
    pub fn group(&self, i: usize) -> Option<Group<'a>> {
        let record = self.record(BatchSection::Groups, GROUP_WORDS, i)?;
        let word = |i: usize| u32_at(record, i.wrapping_shl(2));
        let (taps, weights, columns) = (word(1)? as usize, word(2)? as usize, word(3)? as usize);
        let words = self.section(BatchSection::Words);
        let slice = |at: usize, len: usize| slice_at(words, at.checked_mul(4)?, len.checked_mul(4)?);
        let biases = match word(5)? {
            NO_BIAS => None,
            at => Some(slice(at as usize, columns.checked_mul(2)?)?.as_chunks().0),
        };
        let flags = word(6)?;
        (flags & !FLAG_ACCUMULATE == 0).then_some(())?;
        Some(Group {
            taps: slice(word(0)? as usize, taps)?.as_chunks().0,
            weights: slice(weights, taps.checked_mul(columns)?)?.as_chunks().0,
            columns,
            first: word(4)? as usize,
            biases,
            bias_shift: word(7)?,
            accumulate: flags == FLAG_ACCUMULATE,
        })
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.records(BatchSection::Names, 2)
    }

    pub(super) fn name(&self, i: usize) -> Option<&'a str> {
        self.sections.name(BatchSection::Names as usize, BatchSection::Text as usize, i)
    }

    /// Name of layer `i`; empty if there is none.
    pub fn layer_name(&self, i: usize) -> &'a str {
        self.name(i).unwrap_or("")
    }

    /// The host's JSON.
    pub fn meta(&self) -> &'a [u8] {
        self.section(BatchSection::Meta)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for BatchProgram<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "batch program of {=usize} instructions", self.instructions());
    }
}

/// Rows that a worker needs to divide one ciphertext, each field the first row of a part.
///
/// With l limbs, K special primes, T = l + K and D digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Scratch {
    /// Coefficients of the third polynomial, then its mixed-radix digits: l rows.
    pub coeff: usize,
    /// The extended digits: D rows.
    pub digits: usize,
    /// Key rows: D for each half.
    pub key: usize,
    /// Accumulator over the extended basis: T rows for each component.
    pub acc: usize,
    /// Primes to divide by, for one component.
    pub tail: usize,
    /// One past the last row.
    pub end: usize,
}

impl Scratch {
    /// The scratch of a division at `limbs` limbs by `drop` of them, from row `first` on.
    pub fn of(set: &ParamSet, limbs: usize, drop: usize, polys: usize, first: usize) -> Self {
        let relinearise = |rows: usize| if polys == 3 { rows } else { 0 };
        let (t, d) = (limbs.wrapping_add(set.special()), set.digits(limbs));
        let coeff = first;
        let digits = coeff.wrapping_add(relinearise(limbs));
        let key = digits.wrapping_add(relinearise(d));
        let acc = key.wrapping_add(relinearise(d << 1));
        let tail = acc.wrapping_add(relinearise(t << 1));
        let end = tail.wrapping_add(drop).wrapping_add(relinearise(set.special()));
        Self { coeff, digits, key, acc, tail, end }
    }
}
