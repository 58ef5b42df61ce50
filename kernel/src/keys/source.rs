//! Where the engine reads evaluation keys from.

use super::{KeyKind, KeyRequest, Stream, expand_uniform};
use crate::math::Modulus;
use crate::params::ParamSet;
use crate::wire::{KeyBundle, KeyDirectory, KeyEntry, WireError, load_words, words_in_place};

/// Why a key cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum KeyError {
    /// The source does not hold the key at enough limbs.
    Missing {
        /// Which key.
        kind: KeyKind,
        /// Limbs needed.
        limbs: usize,
    },
    /// The bytes of the key are damaged or could not be read.
    Damaged {
        /// Which key.
        kind: KeyKind,
        /// Block (prime) of the key.
        block: usize,
    },
    /// The key file as a whole is not valid.
    File(WireError),
    /// The buffer for expanded keys is too small.
    BufferTooSmall {
        /// Words needed.
        need: usize,
        /// Words given.
        have: usize,
    },
    /// The memory for the directory of streamed keys is too small.
    DirectoryTooSmall {
        /// Bytes needed.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// The storage of streamed keys failed.
    Read {
        /// Byte offset of the read.
        offset: u64,
        /// The device's own number for what happened.
        code: u32,
    },
}

impl From<WireError> for KeyError {
    fn from(error: WireError) -> Self {
        Self::File(error)
    }
}

impl core::fmt::Display for KeyError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Missing { kind, limbs } => write!(f, "no {kind} at {limbs} limbs in the key bundle"),
            Self::Damaged { kind, block } => write!(f, "block {block} of the {kind} is damaged"),
            Self::File(error) => error.fmt(f),
            Self::BufferTooSmall { need, have } => {
                write!(f, "expanded keys need {need} words, the buffer has {have}")
            }
            Self::DirectoryTooSmall { need, have } => {
                write!(f, "the directory of the keys needs {need} bytes, the buffer has {have}")
            }
            Self::Read { offset, code } => write!(f, "the key storage failed at byte {offset} with code {code}"),
        }
    }
}

impl core::error::Error for KeyError {}

/// The two halves of a key-switching key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Half {
    /// `b_j`, stored.
    B,
    /// `a_j`, uniform, expanded from the seed.
    A,
}

/// A key found in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct KeyInfo {
    /// Which key.
    pub kind: KeyKind,
    /// Its limbs l: block t belongs to `q_t` for t below l, then to the special primes.
    pub limbs: usize,
    /// The source's own number for it.
    pub index: usize,
}

impl KeyInfo {
    /// The block of prime `t` of the extended basis at `limbs` limbs, which the key may exceed.
    pub fn block(&self, limbs: usize, t: usize) -> usize {
        if t < limbs { t } else { t.wrapping_sub(limbs).wrapping_add(self.limbs) }
    }
}

impl KeyDirectory<'_> {
    /// The first key of this kind with at least `limbs` limbs; its index is its number in the file.
    pub(super) fn find(&self, kind: KeyKind, limbs: usize) -> Option<KeyInfo> {
        (0..self.len()).find_map(|index| {
            let request = self.entry(index)?.request;
            (request.kind == kind && request.limbs >= limbs).then_some(KeyInfo { kind, limbs: request.limbs, index })
        })
    }
}

/// Expands the a_j of a key modulo one prime into the first `digits` rows of `n` words.
pub(super) fn expand_half_a(seed: &[u8; 32], kind: KeyKind, digits: usize, m: &Modulus, n: usize, rows: &mut [u32]) {
    for (digit, row) in (0..digits as u32).zip(rows.chunks_exact_mut(n.max(1))) {
        expand_uniform(row, seed, Stream::Key { code: kind.code(), digit }, m);
    }
}

/// A place to read evaluation keys from: RAM, mapped flash, slow storage.
pub trait KeySource {
    /// Fingerprint of the parameter set.
    fn set(&self) -> [u8; 16];

    /// Identity of the secret key.
    fn key_id(&self) -> [u8; 16];

    /// The key of this kind, if there is one with at least `limbs` limbs.
    fn find(&self, kind: KeyKind, limbs: usize) -> Option<KeyInfo>;

    /// Rows of one half modulo one prime: at least `[digits][N]` words, the first `digits` digits.
    ///
    /// Returns words in place where it can, else fills `scratch` (`digits * N` words) and returns that.
    ///
    /// # Errors
    /// [`KeyError::Damaged`] if the rows cannot be read.
    fn rows<'a>(
        &'a self,
        key: &KeyInfo,
        half: Half,
        block: usize,
        digits: usize,
        m: &Modulus,
        scratch: &'a mut [u32],
    ) -> Result<&'a [u32], KeyError>;
}

/// Keys read in place from the bytes of a key file, in flash or mapped memory; seeds are expanded on each use.
#[derive(Debug, Clone, Copy)]
pub struct MappedKeys<'a> {
    bundle: KeyBundle<'a>,
    seed: [u8; 32],
}

impl<'a> MappedKeys<'a> {
    /// Checks the whole file, every block's digest included.
    ///
    /// # Errors
    /// [`WireError`] for the first thing that is off.
    pub fn verify(bytes: &'a [u8]) -> Result<Self, WireError> {
        let bundle = KeyBundle::new_checked(bytes)?;
        bundle.verify()?;
        Ok(Self { bundle, seed: bundle.seed() })
    }

    /// The checked file.
    pub fn bundle(&self) -> &KeyBundle<'a> {
        &self.bundle
    }

    fn entry(&self, key: &KeyInfo) -> Option<KeyEntry> {
        self.bundle.entry(key.index).filter(|e| e.request.kind == key.kind && e.request.limbs == key.limbs)
    }
}

impl KeySource for MappedKeys<'_> {
    fn set(&self) -> [u8; 16] {
        self.bundle.set()
    }

    fn key_id(&self) -> [u8; 16] {
        self.bundle.key_id()
    }

    fn find(&self, kind: KeyKind, limbs: usize) -> Option<KeyInfo> {
        self.bundle.directory().find(kind, limbs)
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
        let n = 1usize.wrapping_shl(self.bundle.log_n());
        match half {
            Half::B => {
                let entry = self.entry(key).ok_or(damaged)?;
                let bytes = self.bundle.block(&entry, block).ok_or(damaged)?;
                if let Some(words) = words_in_place(bytes) {
                    return Ok(words);
                }
                load_words(scratch, bytes);
            }
            Half::A => expand_half_a(&self.seed, key.kind, digits, m, n, scratch),
        }
        Ok(scratch)
    }
}

/// Keys fully expanded in memory that the caller provides: both halves of every key, read in place.
#[derive(Debug, Clone, Copy)]
pub struct RamKeys<'a> {
    bundle: KeyBundle<'a>,
    words: &'a [u32],
}

impl<'a> RamKeys<'a> {
    /// Words that [`expand`](Self::expand) fills: both halves of every key.
    pub fn words(bundle: &KeyBundle<'_>) -> usize {
        (0..bundle.len())
            .filter_map(|i| bundle.entry(i))
            .fold(0, |words, e| words.wrapping_add(Self::entry_words(bundle, &e)))
    }

    /// The checked file.
    pub fn bundle(&self) -> &KeyBundle<'a> {
        &self.bundle
    }

    fn entry_words(bundle: &KeyBundle<'_>, entry: &KeyEntry) -> usize {
        let row = 1usize.wrapping_shl(bundle.log_n());
        let blocks = entry.request.limbs.wrapping_add(bundle.special());
        blocks.wrapping_mul(bundle.digits(entry.request.limbs)).wrapping_mul(row).wrapping_mul(2)
    }

    /// Checks every block of a key file and expands it into `words`.
    ///
    /// Layout: per key and prime, `[digits][N]` words of `b_j`, then as many of `a_j`.
    ///
    /// # Errors
    /// [`KeyError`] for a file that is not valid, made for another set, or a buffer that is too small.
    pub fn expand(bytes: &'a [u8], set: &ParamSet, words: &'a mut [u32]) -> Result<Self, KeyError> {
        let mapped = MappedKeys::verify(bytes)?;
        let bundle = mapped.bundle;
        if bundle.set() != set.fingerprint() {
            return Err(KeyError::File(WireError::Set));
        }
        let (need, have) = (Self::words(&bundle), words.len());
        let too_small = KeyError::BufferTooSmall { need, have };
        if have < need {
            return Err(too_small);
        }
        let n = set.n();
        let mut rest = &mut *words;
        for (index, entry) in (0..bundle.len()).filter_map(|i| Some((i, bundle.entry(i)?))) {
            let KeyRequest { kind, limbs } = entry.request;
            let info = KeyInfo { kind, limbs, index };
            let digits = bundle.digits(limbs);
            let half = digits.wrapping_mul(n);
            for t in 0..limbs.wrapping_add(bundle.special()) {
                let m = set.modulus(limbs, t).ok_or(KeyError::File(WireError::Set))?;
                let (b, tail) = rest.split_at_mut_checked(half).ok_or(too_small)?;
                let (a, tail) = tail.split_at_mut_checked(half).ok_or(too_small)?;
                load_words(b, bundle.block(&entry, t).ok_or(KeyError::Damaged { kind, block: t })?);
                mapped.rows(&info, Half::A, t, digits, &m, a)?;
                rest = tail;
            }
        }
        Ok(Self { bundle, words })
    }
}

impl KeySource for RamKeys<'_> {
    fn set(&self) -> [u8; 16] {
        self.bundle.set()
    }

    fn key_id(&self) -> [u8; 16] {
        self.bundle.key_id()
    }

    fn find(&self, kind: KeyKind, limbs: usize) -> Option<KeyInfo> {
        let mut offset = 0usize;
        (0..self.bundle.len()).filter_map(|i| self.bundle.entry(i)).find_map(|entry| {
            let index = offset;
            offset = offset.wrapping_add(Self::entry_words(&self.bundle, &entry));
            let request = entry.request;
            (request.kind == kind && request.limbs >= limbs).then_some(KeyInfo { kind, limbs: request.limbs, index })
        })
    }

    fn rows<'a>(
        &'a self,
        key: &KeyInfo,
        half: Half,
        block: usize,
        digits: usize,
        _: &Modulus,
        _: &'a mut [u32],
    ) -> Result<&'a [u32], KeyError> {
        let row = 1usize.wrapping_shl(self.bundle.log_n());
        let half_words = self.bundle.digits(key.limbs).wrapping_mul(row);
        let part = match half {
            Half::B => block.wrapping_shl(1),
            Half::A => block.wrapping_shl(1).wrapping_add(1),
        };
        let start = part.wrapping_mul(half_words).wrapping_add(key.index);
        let end = start.wrapping_add(digits.wrapping_mul(row));
        self.words.get(start..end).ok_or(KeyError::Damaged { kind: key.kind, block })
    }
}
