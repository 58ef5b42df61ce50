//! Layout of a batch program (`.clp`), shared by the compiler that writes it and the view that reads it.
//!
//! Header and table of sections are those of [`program::format`](crate::program::format); all records are made of
//! 32-bit words, little-endian; doubles take two words, low word first.

/// The sections in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(usize)]
pub enum BatchSection {
    /// log2 N, digit size, number of q, number of p, limbs in use L, rows of ciphertexts, number of inputs, number of
    /// outputs, set name (2 words), then the primes q and p.
    Params,
    /// Key manifest: kind, limbs.
    Manifest,
    /// Instructions of [`INSTRUCTION_WORDS`] words.
    Instructions,
    /// Groups of [`GROUP_WORDS`] words.
    Groups,
    /// Words that groups point into: taps, weights, biases.
    Words,
    /// Layer names: offset and length into the text, one pair per layer.
    Names,
    /// Text of the layer names, UTF-8.
    Text,
    /// JSON for the host. The kernel does not read it.
    Meta,
}

/// Number of sections.
pub const BATCH_SECTIONS: usize = 8;
/// Words of an instruction: opcode, layer, limbs, count, first, cells a (row, limbs, polynomials), cells b (row, limbs),
/// result cells (row, limbs, polynomials), extra, scale (2).
pub const INSTRUCTION_WORDS: usize = 16;
/// Words of a group: taps (offset, number), weights (offset), columns (number, first result), biases (offset or
/// [`NO_BIAS`]), flags, log2 of the unit of the biases.
pub const GROUP_WORDS: usize = 8;
/// In the place of an offset: the group adds no bias.
pub const NO_BIAS: u32 = u32::MAX;
/// Flag of a group: it adds to its results.
pub const FLAG_ACCUMULATE: u32 = 1;
/// Most columns of a group.
pub const MAX_COLUMNS: usize = 24;

/// Instruction codes.
pub mod opcode {
    /// Inputs `first ..` into the result cells.
    pub const LOAD: u32 = 1;
    /// The groups `first .. first + extra`.
    pub const LINEAR: u32 = 2;
    /// `a * b`, three polynomials.
    pub const MUL: u32 = 3;
    /// Relinearisation of three polynomials, and division by the last `extra` limbs.
    pub const DIVIDE: u32 = 4;
    /// Cells a are outputs `first ..`.
    pub const STORE: u32 = 5;
}
