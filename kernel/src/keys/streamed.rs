//! Keys that stay in slow storage: SD card, serial flash, a file.

use super::source::expand_half_a;
use super::{Half, KeyError, KeyInfo, KeyKind, KeySource};
use crate::math::Modulus;
use crate::wire::{FileKind, HEADER_BYTES, Header, KEY_FRONT, KeyDirectory, KeyEntry, WireError};
use sha2::{Digest, Sha256};

/// Why storage gives no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ReadError {
    /// The storage ends before the last byte asked for.
    End {
        /// Bytes that it holds.
        have: u64,
    },
    /// The device failed.
    Device {
        /// The device's own number for what happened.
        code: u32,
    },
}

impl core::fmt::Display for ReadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::End { have } => write!(f, "the storage ends after {have} bytes"),
            Self::Device { code } => write!(f, "the storage failed with code {code}"),
        }
    }
}

impl core::error::Error for ReadError {}

/// Storage that holds a key file from its byte 0 on; what follows the file does not matter.
///
/// Reads come from `&self`, because workers share the source: a driver that changes state brings its own lock or cell.
/// Repeating a read that may succeed the second time is the reader's part.
pub trait KeyReader {
    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`ReadError`]; what `out` holds does not matter then.
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), ReadError>;
}

/// Bytes at hand.
impl KeyReader for [u8] {
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), ReadError> {
        let end = ReadError::End { have: self.len() as u64 };
        let bytes = usize::try_from(offset).ok().and_then(|at| self.get(at..)).ok_or(end)?;
        let bytes = bytes.get(..out.len()).ok_or(end)?;
        for (x, y) in out.iter_mut().zip(bytes) {
            *x = *y;
        }
        Ok(())
    }
}

impl<R: KeyReader + ?Sized> KeyReader for &R {
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), ReadError> {
        (**self).read(offset, out)
    }
}

/// Bytes of stack for the part of a block that is only hashed.
const CHUNK: usize = 512;

/// Keys read block by block when they are used, each checked against its digest; seeds are expanded on each use.
///
/// Memory: the directory of the key file, and the key rows that every arena has anyway (2 D rows of N words for each
/// worker). The directory and its digests stay in memory, so that storage which changes after the file was opened is
/// found damaged. A key whose level is above that of the instruction is read up to its own level: its digest needs it.
#[derive(Debug)]
pub struct StreamedKeys<'a, R> {
    reader: R,
    directory: KeyDirectory<'a>,
    seed: [u8; 32],
}

/// What a failed read means for a file of `need` bytes.
fn failed(error: ReadError, offset: u64, need: u64) -> KeyError {
    match error {
        ReadError::End { have } => KeyError::File(WireError::Truncated { need, have }),
        ReadError::Device { code } => KeyError::Read { offset, code },
    }
}

/// The length of the file and of its directory.
fn lengths<R: KeyReader>(reader: &R) -> Result<(u64, usize), KeyError> {
    let mut front = [0; KEY_FRONT];
    let head = front.get_mut(..HEADER_BYTES).unwrap_or(&mut []);
    reader.read(0, head).map_err(|error| failed(error, 0, HEADER_BYTES as u64))?;
    let (_, file_bytes) = Header::read_front(head, FileKind::Keys)?;
    // A file without keys may be shorter than the rest.
    let end = usize::try_from(file_bytes).map_or(KEY_FRONT, |len| len.clamp(HEADER_BYTES, KEY_FRONT));
    let front = front.get_mut(..end).unwrap_or(&mut []);
    reader.read(0, front).map_err(|error| failed(error, 0, file_bytes))?;
    Ok((file_bytes, KeyDirectory::front_bytes(front, file_bytes)?))
}

impl<'a, R> StreamedKeys<'a, R> {
    /// What lies in front of the payload.
    pub fn directory(&self) -> &KeyDirectory<'a> {
        &self.directory
    }
}

impl<'a, R: KeyReader> StreamedKeys<'a, R> {
    /// Bytes of memory that [`open`](Self::open) takes for the key file in `reader`: 128, 16 for each key and 32 for
    /// each block, rounded up to 64. [`Program::key_directory_bytes`](crate::program::Program::key_directory_bytes) is
    /// the same number for keys that hold what the program asks for and no more.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn directory_bytes(reader: &R) -> Result<usize, KeyError> {
        lengths(reader).map(|(_, directory)| directory)
    }

    /// Reads and checks the front of the key file and that storage holds its last byte; no block is read.
    ///
    /// # Errors
    /// [`KeyError::DirectoryTooSmall`], [`KeyError::Read`], or [`KeyError::File`] for a file that is cut or damaged.
    pub fn open(reader: R, directory: &'a mut [u8]) -> Result<Self, KeyError> {
        let (file_bytes, need) = lengths(&reader)?;
        let have = directory.len();
        let front = directory.get_mut(..need).ok_or(KeyError::DirectoryTooSmall { need, have })?;
        reader.read(0, front).map_err(|error| failed(error, 0, file_bytes))?;
        let last = file_bytes.wrapping_sub(1);
        reader.read(last, &mut [0]).map_err(|error| failed(error, last, file_bytes))?;
        let directory = KeyDirectory::new_checked(front, file_bytes)?;
        Ok(Self { reader, directory, seed: directory.seed() })
    }

    fn entry(&self, key: &KeyInfo) -> Option<KeyEntry> {
        self.directory.entry(key.index).filter(|e| e.request.kind == key.kind && e.request.limbs == key.limbs)
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), KeyError> {
        let offset = offset as u64;
        self.reader.read(offset, out).map_err(|error| failed(error, offset, self.directory.file_bytes()))
    }

    /// Reads the start of a block into `out` and the rest of it into the hash only.
    fn read_block(
        &self,
        place: (usize, usize),
        digest: [u8; 32],
        out: &mut [u8],
        damaged: KeyError,
    ) -> Result<(), KeyError> {
        let (offset, len) = place;
        let mut hash = Sha256::new();
        self.read(offset, out)?;
        hash.update(&*out);
        let mut chunk = [0; CHUNK];
        let mut done = out.len();
        while done < len {
            let take = len.wrapping_sub(done).min(CHUNK);
            let part = chunk.get_mut(..take).ok_or(damaged)?;
            self.read(offset.wrapping_add(done), part)?;
            hash.update(&*part);
            done = done.wrapping_add(take);
        }
        let found: [u8; 32] = hash.finalize().into();
        if found == digest { Ok(()) } else { Err(damaged) }
    }
}

impl<R: KeyReader> KeySource for StreamedKeys<'_, R> {
    fn set(&self) -> [u8; 16] {
        self.directory.set()
    }

    fn key_id(&self) -> [u8; 16] {
        self.directory.key_id()
    }

    fn find(&self, kind: KeyKind, limbs: usize) -> Option<KeyInfo> {
        self.directory.find(kind, limbs)
    }

    fn rows<'a>(
        &'a self,
        key: &KeyInfo,
        half: Half,
        block: usize,
        digits: usize,
        m: &Modulus,
        scratch: &'a mut [u32],
    ) -> Result<&'a [u32], KeyError> {
        let damaged = KeyError::Damaged { kind: key.kind, block };
        let n = 1usize.wrapping_shl(self.directory.log_n());
        match half {
            Half::B => {
                let entry = self.entry(key).ok_or(damaged)?;
                let place = self.directory.place(&entry, block).ok_or(damaged)?;
                let digest = self.directory.block_digest(&entry, block).ok_or(damaged)?;
                let rows = digits.checked_mul(n).and_then(|words| scratch.get_mut(..words)).ok_or(damaged)?;
                let bytes: &mut [u8] = bytemuck::try_cast_slice_mut(rows).map_err(|_| damaged)?;
                if bytes.len() > place.1 {
                    return Err(damaged);
                }
                self.read_block(place, digest, bytes, damaged)?;
                if cfg!(target_endian = "big") {
                    rows.iter_mut().for_each(|word| *word = u32::from_le(*word));
                }
            }
            Half::A => expand_half_a(&self.seed, key.kind, digits, m, n, scratch),
        }
        Ok(scratch)
    }
}
