//! The checked view of a program.

use super::format::{FLAG_IDENTITY, FLAG_RESCALE};
use super::format::{INSTRUCTION_WORDS, PLAINTEXT_WORDS, Section, form, opcode};
use super::instruction::{Instruction, Operation, PlainForm, Plaintext, Transform};
use super::plan::{Scratch, table_rows};
use super::sections::{Sections, read_set};
use super::verify::{ProgramError, verify};
use crate::ckks::Scale;
use crate::keys::KeyRequest;
use crate::params::{ParamError, ParamSet};
use crate::wire::keys::{aligned, directory_bytes};
use crate::wire::{FileKind, Header, first16, slice_at, u32_at, u64_at};

/// A verified program, read in place.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    pub(super) sections: Sections<'a>,
    fingerprint: [u8; 16],
    set: ParamSet,
    limbs: usize,
    pub(super) arena_rows: usize,
    pub(super) scratch_row: usize,
    pub(super) cache_rows: usize,
}

/// Where a ciphertext buffer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Buffer {
    /// First row of c0, counted from the end of the tables.
    pub row: usize,
    /// Rows of each of c0 and c1.
    pub limbs: usize,
}

/// An input or output.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Port {
    /// The buffer that holds it.
    pub buffer: usize,
    /// Its limbs.
    pub limbs: usize,
    /// Its scale.
    pub scale: Scale,
}

impl<'a> Program<'a> {
    /// Checks everything once: structure, every index and offset, parameters and their security, buffer
    /// aliasing, levels and scales at every instruction, the key manifest, the digest.
    ///
    /// A program that passes runs to its end, unless a key is missing or damaged.
    ///
    /// # Errors
    /// [`ProgramError`] names the first check that fails.
    pub fn verify(bytes: &'a [u8]) -> Result<Self, ProgramError> {
        let header = Header::read(bytes, FileKind::Program)?;
        header.check_digest(bytes, bytes.len())?;
        let program = Self::read(bytes, &header)?;
        verify(&program)?;
        Ok(program)
    }

    fn read(bytes: &'a [u8], header: &Header) -> Result<Self, ProgramError> {
        let sections = Sections(bytes);
        let params =
            sections.find(Section::Params as usize).ok_or(ProgramError::Section { section: Section::Params })?;
        let word = |i: usize| u32_at(params, i.wrapping_shl(2)).map(|w| w as usize).ok_or(ParamError::Truncated);
        let set = read_set(params)?;
        if set.fingerprint() != header.set {
            return Err(ProgramError::Fingerprint);
        }
        Ok(Self {
            sections,
            fingerprint: first16(&header.digest),
            set,
            limbs: word(4)?,
            arena_rows: word(5)?,
            scratch_row: word(6)?,
            cache_rows: word(7)?,
        })
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

    /// Bytes of arena that an engine needs.
    pub fn arena_bytes(&self) -> usize {
        self.arena_rows.saturating_mul(self.row_bytes())
    }

    /// Bytes of arena that an engine for `workers` threads needs: each has scratch rows of its own.
    pub fn arena_bytes_for(&self, workers: usize) -> usize {
        let scratch = (0..self.instructions())
            .filter_map(|i| self.instruction(i))
            .map(|i| Scratch::of(&i, &self.set, self.scratch_row, workers).end.wrapping_add(self.table_rows()))
            .max()
            .unwrap_or(0);
        scratch.max(self.arena_rows).saturating_mul(self.row_bytes())
    }

    /// Bytes of the optional cache that holds every plaintext in the Ntt form.
    pub fn cache_bytes(&self) -> usize {
        self.cache_rows.saturating_mul(self.row_bytes())
    }

    /// Bytes of the largest cache of whole plaintexts within `most` bytes: the first ones of the program.
    pub fn cache_bytes_within(&self, most: usize) -> usize {
        self.plaintext(self.kept(most))
            .map_or(self.cache_rows, |plain| plain.cache_row)
            .saturating_mul(self.row_bytes())
    }

    /// Bytes of the smallest cache that holds a plaintext.
    pub(crate) fn least_cache_bytes(&self) -> usize {
        self.cache_ends().find(|&end| end > 0).unwrap_or(0).saturating_mul(self.row_bytes())
    }

    /// Number of first plaintexts that a cache of `bytes` bytes holds.
    pub(crate) fn kept(&self, bytes: usize) -> usize {
        let rows = bytes.checked_div(self.row_bytes()).unwrap_or(0);
        self.cache_ends().take_while(|&end| end <= rows).count()
    }

    /// The cache row after each plaintext; ascending, as verified.
    fn cache_ends(&self) -> impl Iterator<Item = usize> {
        let special = self.set.special();
        let plaintexts = (0..self.plaintexts()).map_while(|i| self.plaintext(i));
        plaintexts.map(move |plain| plain.cache_row.saturating_add(plain.cache_rows(special)))
    }

    fn row_bytes(&self) -> usize {
        self.set.n() << 2
    }

    /// Rows of the transform tables at the start of the arena.
    pub fn table_rows(&self) -> usize {
        table_rows(&self.set, self.limbs)
    }

    /// First row of the scratch region, counted from the end of the tables.
    pub fn scratch_row(&self) -> usize {
        self.scratch_row
    }

    /// The scratch plan of an instruction for a number of workers.
    pub fn scratch(&self, instruction: &Instruction<'_>, workers: usize) -> Scratch {
        Scratch::of(instruction, &self.set, self.scratch_row, workers)
    }

    pub(super) fn section(&self, section: Section) -> &'a [u8] {
        self.sections.section(section as usize)
    }

    fn records(&self, section: Section, words: usize) -> usize {
        self.sections.records(section as usize, words)
    }

    fn record(&self, section: Section, words: usize, i: usize) -> Option<&'a [u8]> {
        self.sections.record(section as usize, words, i)
    }

    /// Number of keys in the manifest.
    pub fn keys(&self) -> usize {
        self.records(Section::Manifest, 2)
    }

    /// Key `i` of the manifest.
    pub fn key(&self, i: usize) -> Option<KeyRequest> {
        self.sections.key(Section::Manifest as usize, i)
    }

    /// Bytes of the directory of a key file that holds what the manifest lists and no more: the memory that
    /// [`StreamedKeys`](crate::keys::StreamedKeys) takes for it.
    pub fn key_directory_bytes(&self) -> usize {
        let requests = (0..self.keys()).filter_map(|i| self.key(i));
        aligned(directory_bytes(requests, self.set.special()))
    }

    /// Number of buffers.
    pub fn buffers(&self) -> usize {
        self.records(Section::Buffers, 2)
    }

    /// Buffer `i`.
    pub fn buffer(&self, i: usize) -> Option<Buffer> {
        let (row, limbs) = self.sections.pair(Section::Buffers as usize, i)?;
        Some(Buffer { row: row as usize, limbs: limbs as usize })
    }

    fn port(&self, section: Section, i: usize) -> Option<Port> {
        let record = self.record(section, 4, i)?;
        Some(Port {
            buffer: u32_at(record, 0)? as usize,
            limbs: u32_at(record, 4)? as usize,
            scale: Scale::new(f64::from_bits(u64_at(record, 8)?))?,
        })
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.records(Section::Inputs, 4)
    }

    /// Input `i`.
    pub fn input(&self, i: usize) -> Option<Port> {
        self.port(Section::Inputs, i)
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.records(Section::Outputs, 4)
    }

    /// Output `i`.
    pub fn output(&self, i: usize) -> Option<Port> {
        self.port(Section::Outputs, i)
    }

    /// Number of plaintexts.
    pub fn plaintexts(&self) -> usize {
        self.records(Section::Plaintexts, PLAINTEXT_WORDS)
    }

    /// Plaintext `i`.
    pub fn plaintext(&self, i: usize) -> Option<Plaintext<'a>> {
        let record = self.record(Section::Plaintexts, PLAINTEXT_WORDS, i)?;
        let word = |i: usize| u32_at(record, i.wrapping_shl(2)).map(|w| w as usize);
        let bytes = slice_at(self.section(Section::Data), word(3)?, word(4)?);
        let form = match word(0)? as u32 {
            form::SCALAR => PlainForm::Scalar(u64_at(record, 32)? as i64),
            form::COMPACT16 => PlainForm::Compact { bytes: bytes?, wide: false },
            form::COMPACT32 => PlainForm::Compact { bytes: bytes?, wide: true },
            form::NTT => PlainForm::Ntt { bytes: bytes? },
            _ => return None,
        };
        let special = match word(2)? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let scale = Scale::new(f64::from_bits(u64_at(record, 24)?))?;
        Some(Plaintext { form, limbs: word(1)?, special, cache_row: word(5)?, scale })
    }

    /// Number of instructions.
    pub fn instructions(&self) -> usize {
        self.records(Section::Instructions, INSTRUCTION_WORDS)
    }

    /// Instruction `i`.
    pub fn instruction(&self, i: usize) -> Option<Instruction<'a>> {
        let record = self.record(Section::Instructions, INSTRUCTION_WORDS, i)?;
        let word = |i: usize| u32_at(record, i.wrapping_shl(2)).map(|w| w as usize);
        let table = slice_at(self.section(Section::Tables), word(7)?, word(8)?);
        let (a, b, plain) = (word(3)?, word(4)?, word(9)?);
        let flags = word(6)? as u32;
        if flags & !(FLAG_RESCALE | FLAG_IDENTITY) != 0 {
            return None;
        }
        let operation = match word(0)? as u32 {
            opcode::LINEAR_TRANSFORM => Operation::LinearTransform { transform: Transform::read(table?)? },
            opcode::ROTATE_SUM => {
                Operation::RotateSum { src: a, rotations: table?, identity: flags & FLAG_IDENTITY != 0 }
            }
            opcode::MUL_PLAIN => Operation::MulPlain { src: a, plain },
            opcode::ADD_PLAIN => Operation::AddPlain { src: a, plain },
            opcode::ADD => Operation::Add { a, b },
            opcode::MUL => Operation::Mul { a, b },
            opcode::RESCALE => Operation::Rescale { src: a },
            _ => return None,
        };
        Some(Instruction {
            layer: word(1)?,
            dst: word(2)?,
            limbs: word(5)?,
            rescale: flags & FLAG_RESCALE != 0,
            scale: Scale::new(f64::from_bits(u64_at(record, 40)?))?,
            operation,
        })
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.records(Section::Names, 2)
    }

    pub(super) fn name(&self, i: usize) -> Option<&'a str> {
        self.sections.name(Section::Names as usize, Section::Text as usize, i)
    }

    /// Name of layer `i`; empty if there is none.
    pub fn layer_name(&self, i: usize) -> &'a str {
        self.name(i).unwrap_or("")
    }

    /// The host's JSON.
    pub fn meta(&self) -> &'a [u8] {
        self.section(Section::Meta)
    }
}
