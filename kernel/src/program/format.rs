//! Layout of a program file (`.clp`), shared by the compiler that writes it and the view that reads it.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 64 | [header](crate::wire::header) |
//! | 64 | 8 per section | offset and length in bytes of each [`Section`], in order |
//! | | | the sections, each at a multiple of 64 bytes |
//!
//! All records are made of 32-bit words; doubles take two words, low word first.

/// Where the section table lies.
pub const SECTION_TABLE: usize = 64;

/// The sections in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(usize)]
pub enum Section {
    /// log2 N, digit size, number of q, number of p, limbs in use L, rows of the arena, first scratch row,
    /// rows of the plaintext cache, set name (2 words), then the primes q and p.
    Params,
    /// Key manifest: kind, limbs.
    Manifest,
    /// Ciphertext buffers: first row, limbs. c0 takes `limbs` rows from the first row, c1 the next `limbs`.
    Buffers,
    /// Inputs: buffer, limbs, scale (2 words).
    Inputs,
    /// Outputs: buffer, limbs, scale (2 words).
    Outputs,
    /// Instructions of [`INSTRUCTION_WORDS`] words.
    Instructions,
    /// Words that instructions point into: rotations, transforms.
    Tables,
    /// Plaintext descriptors of [`PLAINTEXT_WORDS`] words.
    Plaintexts,
    /// Coefficients and evaluations of plaintexts.
    Data,
    /// Layer names: offset and length into the text that follows the table, one pair per layer.
    Names,
    /// Text of the layer names, UTF-8.
    Text,
    /// JSON for the host: shapes, slot maps, labels. The kernel does not read it.
    Meta,
}

/// Number of sections.
pub const SECTIONS: usize = 12;
/// Words before the primes in [`Section::Params`].
pub const PARAM_WORDS: usize = 10;
/// Words of an instruction: opcode, layer, destination, a, b, limbs, flags, table offset, table length,
/// plaintext, scale (2).
pub const INSTRUCTION_WORDS: usize = 12;
/// Words of a plaintext descriptor: form, limbs, with special primes, offset, length, first cache row, value
/// or scale: scale (2), value (2).
pub const PLAINTEXT_WORDS: usize = 10;
/// Flag of an instruction: a rescale follows.
pub const FLAG_RESCALE: u32 = 1;
/// Flag of a sum of rotations: the unrotated input is a summand.
pub const FLAG_IDENTITY: u32 = 2;

/// Instruction codes.
pub mod opcode {
    /// Double-hoisted linear transform; sources and results are in its table.
    pub const LINEAR_TRANSFORM: u32 = 1;
    /// Sum of rotations; a single rotation is a sum of one.
    pub const ROTATE_SUM: u32 = 2;
    /// Product with a plaintext.
    pub const MUL_PLAIN: u32 = 3;
    /// Sum with a plaintext.
    pub const ADD_PLAIN: u32 = 4;
    /// Sum of two ciphertexts.
    pub const ADD: u32 = 5;
    /// Product of two ciphertexts, relinearised.
    pub const MUL: u32 = 6;
    /// Rescale.
    pub const RESCALE: u32 = 7;
}

/// Plaintext forms.
pub mod form {
    /// One integer for all slots.
    pub const SCALAR: u32 = 1;
    /// Signed 16-bit coefficients.
    pub const COMPACT16: u32 = 2;
    /// Signed 32-bit coefficients.
    pub const COMPACT32: u32 = 3;
    /// Rows in the Ntt domain and in Montgomery form: `q_0 .. q_(limbs-1)`, then the special primes.
    pub const NTT: u32 = 4;
}
