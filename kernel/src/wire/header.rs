//! The header that every file starts with.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 4 | `CLNS` |
//! | 4 | 2 | kind |
//! | 6 | 2 | version |
//! | 8 | 8 | length of the file |
//! | 16 | 16 | fingerprint of the parameter set |
//! | 32 | 32 | SHA-256 over bytes 0..32 and the digested part of the body |

use super::{array_at, u64_at};
use sha2::{Digest, Sha256};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// Version of all formats that this crate reads and writes.
pub const VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"CLNS";

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FileKind {
    /// A program (`.clp`).
    Program,
    /// Evaluation keys (`.clk`).
    Keys,
    /// A ciphertext (`.clx`).
    Ciphertext,
    /// A secret key (`.cls`); the kernel only knows its number, to refuse it by name.
    SecretKey,
    /// A public encryption key (`.clu`).
    PublicKey,
    /// The state of an engine (`.clc`).
    Checkpoint,
    /// A program for batches (`.clp`).
    BatchProgram,
    /// The state of a batch (`.clc`).
    BatchCheckpoint,
    /// A secret key under a passphrase (`.cls`); to the kernel as [`SecretKey`](Self::SecretKey).
    SealedSecretKey,
}

impl FileKind {
    /// The number in the header.
    pub const fn code(self) -> u16 {
        match self {
            Self::Program => 1,
            Self::Keys => 2,
            Self::Ciphertext => 3,
            Self::SecretKey => 4,
            Self::PublicKey => 5,
            Self::Checkpoint => 6,
            Self::BatchProgram => 7,
            Self::BatchCheckpoint => 8,
            Self::SealedSecretKey => 9,
        }
    }

    /// The kind with this number.
    pub const fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            1 => Self::Program,
            2 => Self::Keys,
            3 => Self::Ciphertext,
            4 => Self::SecretKey,
            5 => Self::PublicKey,
            6 => Self::Checkpoint,
            7 => Self::BatchProgram,
            8 => Self::BatchCheckpoint,
            9 => Self::SealedSecretKey,
            _ => return None,
        })
    }

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Keys => "evaluation keys",
            Self::Ciphertext => "ciphertext",
            Self::SecretKey => "secret key",
            Self::PublicKey => "public key",
            Self::Checkpoint => "checkpoint",
            Self::BatchProgram => "batch program",
            Self::BatchCheckpoint => "state of a batch",
            Self::SealedSecretKey => "secret key under a passphrase",
        }
    }
}

/// Why bytes are not a valid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum WireError {
    /// The first bytes are not those of a Cipherlens file.
    Magic,
    /// A Cipherlens file of another kind.
    Kind {
        /// What was asked for.
        expected: FileKind,
        /// The number found.
        found: u16,
    },
    /// A format version that this release does not read.
    Version {
        /// The version found.
        found: u16,
    },
    /// The file is shorter than it says.
    Truncated {
        /// Bytes needed.
        need: u64,
        /// Bytes there.
        have: u64,
    },
    /// The file is longer than it says.
    Trailing {
        /// Bytes expected.
        need: u64,
        /// Bytes there.
        have: u64,
    },
    /// The content does not match the digest: the file is damaged.
    Digest {
        /// Byte offset of the damaged part.
        offset: u64,
    },
    /// Made for another parameter set.
    Set,
    /// A field holds a value that no valid file has.
    Field {
        /// Byte offset of the field.
        offset: u64,
    },
}

impl core::fmt::Display for WireError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::Magic => write!(f, "not a Cipherlens file"),
            Self::Kind { expected, found } => match FileKind::from_code(found) {
                Some(kind) => write!(f, "a file of the kind {}, not {}", kind.name(), expected.name()),
                None => write!(f, "a file of the unknown kind {found}, not {}", expected.name()),
            },
            Self::Version { found } => write!(f, "format version {found}; this release reads version {VERSION}"),
            Self::Truncated { need, have } => write!(f, "cut short: {have} of {need} bytes"),
            Self::Trailing { need, have } => write!(f, "{have} bytes where the header says {need}"),
            Self::Digest { offset } => write!(f, "damaged: the digest of the part at byte {offset} does not match"),
            Self::Set => write!(f, "made for another parameter set"),
            Self::Field { offset } => write!(f, "invalid value at byte {offset}"),
        }
    }
}

impl core::error::Error for WireError {}

/// The checked header of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header {
    /// What the file is.
    pub kind: FileKind,
    /// Fingerprint of its parameter set.
    pub set: [u8; 16],
    /// The digest in the header.
    pub digest: [u8; 32],
}

impl Header {
    /// Reads the header and checks kind, version and length, not yet the digest.
    ///
    /// # Errors
    /// [`WireError`] for the first field that is off.
    pub fn read(bytes: &[u8], expected: FileKind) -> Result<Self, WireError> {
        let header = Self::peek(bytes)?;
        header.expect(expected)?;
        Ok(header)
    }

    fn expect(&self, expected: FileKind) -> Result<(), WireError> {
        if self.kind == expected { Ok(()) } else { Err(WireError::Kind { expected, found: self.kind.code() }) }
    }

    /// Reads the header of a file of any kind.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn peek(bytes: &[u8]) -> Result<Self, WireError> {
        let have = bytes.len() as u64;
        let (header, need) = Self::fields(bytes)?;
        if have < need {
            return Err(WireError::Truncated { need, have });
        }
        if have > need {
            return Err(WireError::Trailing { need, have });
        }
        Ok(header)
    }

    /// Reads the header of a file of the expected kind from its first [`HEADER_BYTES`], and the length of the file.
    ///
    /// # Errors
    /// As [`read`](Self::read), but that nothing is said about the length.
    pub fn read_front(front: &[u8], expected: FileKind) -> Result<(Self, u64), WireError> {
        let (header, length) = Self::fields(front)?;
        header.expect(expected)?;
        Ok((header, length))
    }

    /// The header and the length that it states.
    fn fields(bytes: &[u8]) -> Result<(Self, u64), WireError> {
        let have = bytes.len() as u64;
        if bytes.get(..4).is_some_and(|magic| magic != MAGIC) {
            return Err(WireError::Magic);
        }
        let short = WireError::Truncated { need: HEADER_BYTES as u64, have };
        let code = u16::from_le_bytes(array_at(bytes, 4).ok_or(short)?);
        let found = u16::from_le_bytes(array_at(bytes, 6).ok_or(short)?);
        let need = u64_at(bytes, 8).ok_or(short)?;
        let set = array_at(bytes, 16).ok_or(short)?;
        let digest = array_at(bytes, 32).ok_or(short)?;
        if found != VERSION {
            return Err(WireError::Version { found });
        }
        let kind = FileKind::from_code(code).ok_or(WireError::Field { offset: 4 })?;
        Ok((Self { kind, set, digest }, need))
    }

    /// Checks the digest over bytes `0..32` and `64..end`.
    ///
    /// # Errors
    /// [`WireError::Digest`] if it does not match.
    pub fn check_digest(&self, bytes: &[u8], end: usize) -> Result<(), WireError> {
        match digest(bytes, end) {
            Some(d) if d == self.digest => Ok(()),
            _ => Err(WireError::Digest { offset: 0 }),
        }
    }

    /// Fills in the header of a complete file whose body is in place; `end` is where the digested part ends.
    ///
    /// # Errors
    /// [`WireError::Truncated`] if `bytes` does not hold a header or `end` lies outside.
    pub fn write(bytes: &mut [u8], kind: FileKind, set: &[u8; 16], end: usize) -> Result<(), WireError> {
        let have = bytes.len() as u64;
        let short = WireError::Truncated { need: HEADER_BYTES.max(end) as u64, have };
        let head = bytes.first_chunk_mut::<32>().ok_or(short)?;
        let fields = MAGIC
            .into_iter()
            .chain(kind.code().to_le_bytes())
            .chain(VERSION.to_le_bytes())
            .chain(have.to_le_bytes())
            .chain(*set);
        for (x, value) in head.iter_mut().zip(fields) {
            *x = value;
        }
        let digest = digest(bytes, end).ok_or(short)?;
        let place = bytes.get_mut(32..HEADER_BYTES).ok_or(short)?;
        for (x, value) in place.iter_mut().zip(digest) {
            *x = value;
        }
        Ok(())
    }
}

fn digest(bytes: &[u8], end: usize) -> Option<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(bytes.get(..32)?);
    hash.update(bytes.get(HEADER_BYTES..end)?);
    Some(hash.finalize().into())
}
