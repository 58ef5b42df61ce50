//! Checkpoint files (`.clc`): the state of an engine between two steps.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 64 | 16 | key id |
//! | 80 | 16 | fingerprint of the program |
//! | 96 | 4 | stage: 0 before an instruction, 1 within it, 2 done |
//! | 100 | 4 | instruction |
//! | 104 | 4 | phase of the instruction; 0 unless within it |
//! | 108 | 4 | pass of the phase, counted as without a plaintext cache; 0 unless within an instruction |
//! | 112 | 8 | inputs 0 to 63 that are set, one bit each |
//! | 120 | 4 | log2 N |
//! | 124 | 4 | number of rows |
//! | 128 | 24 | counts: transforms, those of plaintexts, key switches, rotations, plaintext products, passes |
//! | 152 | 8 | inputs 64 to 127 that are set, one bit each |
//! | 160 | | `[rows][N]` words: what is live at this position, buffers first |
//!
//! The position alone tells which rows these are. The digest finds damage, not forgery: whoever can write a checkpoint
//! can as well encrypt an image of their choice.

use super::{FileKind, HEADER_BYTES, Header, WireError, array_at, u32_at, u64_at};

const BODY: usize = 160;

/// Where in a program an engine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Stage {
    /// Before an instruction.
    Before,
    /// Within an instruction.
    Within,
    /// All outputs are ready.
    Done,
}

/// Everything in a checkpoint but the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CheckpointHeader {
    /// Fingerprint of the parameter set.
    pub set: [u8; 16],
    /// Identity of the secret key behind inputs and evaluation keys.
    pub key_id: [u8; 16],
    /// Fingerprint of the program.
    pub program: [u8; 16],
    /// Where the engine stands in regard to `instruction`.
    pub stage: Stage,
    /// Instruction; the number of all where they are done.
    pub instruction: u32,
    /// Phase of the instruction.
    pub phase: u32,
    /// Next pass of the phase, counted as without a plaintext cache.
    pub pass: u32,
    /// Inputs that are set: bit i for input i.
    pub inputs: u128,
    /// log2 of the ring degree.
    pub log_n: u32,
    /// Number of rows.
    pub rows: u32,
    /// Counts since the last reset.
    pub counts: [u32; 6],
}

impl CheckpointHeader {
    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        4usize.wrapping_shl(self.log_n)
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> usize {
        BODY.saturating_add((self.rows as usize).saturating_mul(self.row_bytes()))
    }

    /// Writes a file; `fill` gets the bytes of the rows.
    ///
    /// # Errors
    /// [`WireError::Truncated`] if `bytes` is not exactly [`file_bytes`](Self::file_bytes) long, or that of `fill`.
    pub fn write<E: From<WireError>>(
        &self,
        bytes: &mut [u8],
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let need = self.file_bytes();
        let short = WireError::Truncated { need: need as u64, have: bytes.len() as u64 };
        if bytes.len() != need {
            return Err(short.into());
        }
        let (front, rows) = bytes.split_at_mut_checked(BODY).ok_or(short)?;
        let stage = match self.stage {
            Stage::Before => 0,
            Stage::Within => 1,
            Stage::Done => 2,
        };
        let fields = self
            .key_id
            .into_iter()
            .chain(self.program)
            .chain([stage, self.instruction, self.phase, self.pass].into_iter().flat_map(u32::to_le_bytes))
            .chain((self.inputs as u64).to_le_bytes())
            .chain([self.log_n, self.rows].into_iter().chain(self.counts).flat_map(u32::to_le_bytes))
            .chain(((self.inputs >> 64) as u64).to_le_bytes());
        for (x, value) in front.iter_mut().skip(HEADER_BYTES).zip(fields) {
            *x = value;
        }
        fill(rows)?;
        Ok(Header::write(bytes, FileKind::Checkpoint, &self.set, need)?)
    }

    /// Checks header, digest, stage and length of a checkpoint and returns its fields and the bytes of its rows. Whether
    /// the position exists is the program's to say.
    ///
    /// # Errors
    /// [`WireError`] for the first thing that is off.
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let head = Header::read(bytes, FileKind::Checkpoint)?;
        head.check_digest(bytes, bytes.len())?;
        let have = bytes.len() as u64;
        let short = WireError::Truncated { need: BODY as u64, have };
        let word = |at: usize| u32_at(bytes, at).ok_or(short);
        let stage = match word(96)? {
            0 => Stage::Before,
            1 => Stage::Within,
            2 => Stage::Done,
            _ => return Err(WireError::Field { offset: 96 }),
        };
        let log_n = word(120)?;
        if !(11..=16).contains(&log_n) {
            return Err(WireError::Field { offset: 120 });
        }
        let inputs = |at: usize| u64_at(bytes, at).map(u128::from).ok_or(short);
        let header = Self {
            set: head.set,
            key_id: array_at(bytes, 64).ok_or(short)?,
            program: array_at(bytes, 80).ok_or(short)?,
            stage,
            instruction: word(100)?,
            phase: word(104)?,
            pass: word(108)?,
            inputs: inputs(112)? | inputs(152)? << 64,
            log_n,
            rows: word(124)?,
            counts: [word(128)?, word(132)?, word(136)?, word(140)?, word(144)?, word(148)?],
        };
        let need = header.file_bytes() as u64;
        if need != have {
            return Err(WireError::Truncated { need, have });
        }
        Ok((header, bytes.get(BODY..).ok_or(short)?))
    }
}

/// Length of a checkpoint of `rows` rows of `n` words.
pub fn checkpoint_bytes(rows: usize, n: usize) -> usize {
    BODY.saturating_add(rows.saturating_mul(n).saturating_mul(4))
}
