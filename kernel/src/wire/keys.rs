//! Evaluation-key files (`.clk`): seeded, level-truncated, readable in place or block by block.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 64 | 16 | key id |
//! | 80 | 32 | seed of all `a_j` |
//! | 112 | 4 | number of keys |
//! | 116 | 4 | log2 N |
//! | 120 | 4 | number of special primes K |
//! | 124 | 4 | primes per digit |
//! | 128 | 16 per key | kind, limbs l, first block, offset of the payload in units of 64 bytes |
//! | | 32 per block | SHA-256 of the block |
//! | | | payload, each key at a multiple of 64 bytes |
//!
//! The payload of a key is `l + K` blocks, one per prime; block t is `[digits][N]` words, the `b_j` modulo
//! prime t. The header's digest covers everything up to the payload; each block has its own, so that a
//! reader that streams can check what it reads.

use super::{FileKind, HEADER_BYTES, Header, WireError, array_at, slice_at, u32_at};
use crate::keys::{KeyKind, KeyRequest};
use crate::params::{MAX_LIMBS, MAX_SPECIAL};
use sha2::{Digest, Sha256};

const ENTRIES: usize = 128;
const ENTRY_BYTES: usize = 16;

/// Where one key lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct KeyEntry {
    /// Which key, and its limbs.
    pub request: KeyRequest,
    /// Number of its first block.
    pub first_block: usize,
    /// Byte offset of its payload.
    pub offset: usize,
}

/// The checked front of a key file: header, keys and digests of their blocks, without the payload.
#[derive(Debug, Clone, Copy)]
pub struct KeyDirectory<'a> {
    bytes: &'a [u8],
    header: Header,
    count: usize,
    log_n: u32,
    special: usize,
    digit: usize,
    digests: usize,
    file_bytes: u64,
}

/// A checked key file: header, directory and lengths. Blocks are checked by [`verify_block`](Self::verify_block).
#[derive(Debug, Clone, Copy)]
pub struct KeyBundle<'a> {
    bytes: &'a [u8],
    directory: KeyDirectory<'a>,
}

/// The next multiple of 64.
pub(crate) fn aligned(bytes: usize) -> usize {
    bytes.wrapping_add(63) & !63
}

/// Bytes of header, entries and digests of a file with these keys and `special` special primes.
pub(crate) fn directory_bytes(requests: impl Iterator<Item = KeyRequest>, special: usize) -> usize {
    requests.fold(ENTRIES, |bytes, r| {
        let digests = r.limbs.wrapping_add(special).wrapping_mul(32);
        bytes.wrapping_add(ENTRY_BYTES).wrapping_add(digests)
    })
}

/// The shape of a bundle, from which every offset follows.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BundleShape<'r> {
    /// log2 of the ring degree.
    pub log_n: u32,
    /// Special primes.
    pub special: usize,
    /// Primes per digit.
    pub digit: usize,
    /// The keys, in file order.
    pub requests: &'r [KeyRequest],
}

impl BundleShape<'_> {
    /// Bytes of one block of a key with `limbs` limbs.
    pub fn block_bytes(&self, limbs: usize) -> usize {
        limbs.div_ceil(self.digit.max(1)).wrapping_mul(4usize.wrapping_shl(self.log_n))
    }

    /// Where the digests start.
    fn digests(&self) -> usize {
        ENTRIES.wrapping_add(self.requests.len().wrapping_mul(ENTRY_BYTES))
    }

    /// Where the directory ends and the payload may start.
    pub fn directory_end(&self) -> usize {
        directory_bytes(self.requests.iter().copied(), self.special)
    }

    /// The entries, with all offsets.
    pub fn entries(&self) -> impl Iterator<Item = KeyEntry> + '_ {
        let mut offset = aligned(self.directory_end());
        let mut first_block = 0usize;
        self.requests.iter().map(move |&request| {
            let entry = KeyEntry { request, first_block, offset };
            let blocks = request.limbs.wrapping_add(self.special);
            first_block = first_block.wrapping_add(blocks);
            offset = offset.wrapping_add(aligned(blocks.wrapping_mul(self.block_bytes(request.limbs))));
            entry
        })
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> usize {
        self.entries().last().map_or(self.directory_end(), |e| {
            let blocks = e.request.limbs.wrapping_add(self.special);
            e.offset.wrapping_add(aligned(blocks.wrapping_mul(self.block_bytes(e.request.limbs))))
        })
    }

    /// Writes directory and header over a file whose payload blocks are in place.
    ///
    /// # Errors
    /// [`WireError::Truncated`] if `bytes` is not [`file_bytes`](Self::file_bytes) long.
    pub fn finish(
        &self,
        bytes: &mut [u8],
        set: &[u8; 16],
        key_id: &[u8; 16],
        seed: &[u8; 32],
    ) -> Result<(), WireError> {
        let short = WireError::Truncated { need: self.file_bytes() as u64, have: bytes.len() as u64 };
        if bytes.len() != self.file_bytes() {
            return Err(short);
        }
        let words = [self.requests.len() as u32, self.log_n, self.special as u32, self.digit as u32];
        let entries = self.entries().flat_map(|e| {
            [e.request.kind.code(), e.request.limbs as u32, e.first_block as u32, (e.offset >> 6) as u32]
        });
        let front =
            key_id.iter().copied().chain(*seed).chain(words.into_iter().chain(entries).flat_map(u32::to_le_bytes));
        for (x, value) in bytes.iter_mut().skip(HEADER_BYTES).zip(front) {
            *x = value;
        }
        let mut place = self.digests();
        for entry in self.entries() {
            let len = self.block_bytes(entry.request.limbs);
            for t in 0..entry.request.limbs.wrapping_add(self.special) {
                let at = entry.offset.wrapping_add(t.wrapping_mul(len));
                let digest: [u8; 32] = Sha256::digest(slice_at(bytes, at, len).ok_or(short)?).into();
                let slot = bytes.get_mut(place..place.wrapping_add(32)).ok_or(short)?;
                for (x, value) in slot.iter_mut().zip(digest) {
                    *x = value;
                }
                place = place.wrapping_add(32);
            }
        }
        Header::write(bytes, FileKind::Keys, set, place)
    }
}

/// Bytes from which [`KeyDirectory::front_bytes`] tells the length of the directory.
pub const KEY_FRONT: usize = ENTRIES + ENTRY_BYTES;

impl<'a> KeyDirectory<'a> {
    /// Bytes in front of the payload, from the first [`KEY_FRONT`] bytes of a file of `file_bytes` bytes. Nothing is
    /// checked but that they lie inside the file.
    ///
    /// # Errors
    /// [`WireError::Truncated`] or [`WireError::Field`].
    pub fn front_bytes(front: &[u8], file_bytes: u64) -> Result<usize, WireError> {
        let short = WireError::Truncated { need: ENTRIES as u64, have: front.len() as u64 };
        let end = match u32_at(front, 112).ok_or(short)? {
            0 => Some(ENTRIES),
            // The first payload follows the directory.
            _ => u32_at(front, ENTRIES.wrapping_add(12)).and_then(|at| (at as usize).checked_mul(64)),
        };
        end.filter(|&end| end >= ENTRIES && end as u64 <= file_bytes).ok_or(WireError::Field { offset: 140 })
    }

    /// Checks header, directory and every offset of a file of `file_bytes` bytes from what lies in front of its payload
    /// ([`front_bytes`](Self::front_bytes)).
    ///
    /// # Errors
    /// [`WireError`] for the first thing that is off.
    pub fn new_checked(bytes: &'a [u8], file_bytes: u64) -> Result<Self, WireError> {
        let (header, length) = Header::read_front(bytes, FileKind::Keys)?;
        if length != file_bytes {
            return Err(WireError::Field { offset: 8 });
        }
        let short = WireError::Truncated { need: ENTRIES as u64, have: bytes.len() as u64 };
        let count = u32_at(bytes, 112).ok_or(short)? as usize;
        let log_n = u32_at(bytes, 116).ok_or(short)?;
        let special = u32_at(bytes, 120).ok_or(short)? as usize;
        let digit = u32_at(bytes, 124).ok_or(short)? as usize;
        if count > bytes.len() / ENTRY_BYTES {
            return Err(WireError::Field { offset: 112 });
        }
        if !(11..=16).contains(&log_n) {
            return Err(WireError::Field { offset: 116 });
        }
        if special == 0 || special > MAX_SPECIAL {
            return Err(WireError::Field { offset: 120 });
        }
        if digit == 0 || digit > MAX_SPECIAL {
            return Err(WireError::Field { offset: 124 });
        }
        let digests = ENTRIES.wrapping_add(count.wrapping_mul(ENTRY_BYTES));
        let directory = Self { bytes, header, count, log_n, special, digit, digests, file_bytes };
        let mut blocks = 0usize;
        for i in 0..count {
            let at = ENTRIES.wrapping_add(i.wrapping_mul(ENTRY_BYTES)) as u64;
            let entry = directory.entry(i).ok_or(WireError::Field { offset: at })?;
            if entry.request.limbs == 0 || entry.request.limbs > MAX_LIMBS || entry.first_block != blocks {
                return Err(WireError::Field { offset: at });
            }
            blocks = blocks.wrapping_add(entry.request.limbs.wrapping_add(special));
        }
        let end = digests.wrapping_add(blocks.wrapping_mul(32));
        if end > bytes.len() {
            return Err(WireError::Field { offset: 112 });
        }
        header.check_digest(bytes, end)?;
        // Payloads follow each other without a gap, so that every byte of the file is digested or zero.
        let mut place = aligned(end);
        if bytes.get(end..place).ok_or(WireError::Field { offset: 112 })?.iter().any(|&b| b != 0) {
            return Err(WireError::Field { offset: end as u64 });
        }
        for i in 0..count {
            let entry = directory.entry(i).ok_or(short)?;
            let blocks = entry.request.limbs.wrapping_add(special);
            let payload = blocks.checked_mul(directory.block_bytes(entry.request.limbs)).ok_or(short)?;
            let after = entry.offset.checked_add(payload).filter(|&after| after as u64 <= file_bytes);
            place = after
                .filter(|_| entry.offset == place)
                .ok_or(WireError::Field { offset: ENTRIES.wrapping_add(i.wrapping_mul(ENTRY_BYTES)) as u64 })?;
        }
        if place as u64 != file_bytes {
            return Err(WireError::Field { offset: 112 });
        }
        Ok(directory)
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Fingerprint of the parameter set.
    pub fn set(&self) -> [u8; 16] {
        self.header.set
    }

    /// Identity of the secret key behind the bundle.
    pub fn key_id(&self) -> [u8; 16] {
        array_at(self.bytes, 64).unwrap_or_default()
    }

    /// Seed of the uniform halves.
    pub fn seed(&self) -> [u8; 32] {
        array_at(self.bytes, 80).unwrap_or_default()
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the bundle holds no key.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// log2 of the ring degree.
    pub fn log_n(&self) -> u32 {
        self.log_n
    }

    /// Special primes K.
    pub fn special(&self) -> usize {
        self.special
    }

    /// Digits of a key with `limbs` limbs.
    pub fn digits(&self, limbs: usize) -> usize {
        limbs.div_ceil(self.digit.max(1))
    }

    fn block_bytes(&self, limbs: usize) -> usize {
        self.digits(limbs).wrapping_mul(4usize.wrapping_shl(self.log_n))
    }

    /// Key `i`.
    pub fn entry(&self, i: usize) -> Option<KeyEntry> {
        if i >= self.count {
            return None;
        }
        let at = ENTRIES.wrapping_add(i.wrapping_mul(ENTRY_BYTES));
        Some(KeyEntry {
            request: KeyRequest {
                kind: KeyKind::from_code(u32_at(self.bytes, at)?),
                limbs: u32_at(self.bytes, at.wrapping_add(4))? as usize,
            },
            first_block: u32_at(self.bytes, at.wrapping_add(8))? as usize,
            offset: (u32_at(self.bytes, at.wrapping_add(12))? as usize).checked_mul(64)?,
        })
    }

    /// Where block `t` of a key lies in the file: byte offset and length.
    pub fn place(&self, entry: &KeyEntry, t: usize) -> Option<(usize, usize)> {
        if t >= entry.request.limbs.wrapping_add(self.special) {
            return None;
        }
        let len = self.block_bytes(entry.request.limbs);
        Some((entry.offset.checked_add(t.checked_mul(len)?)?, len))
    }

    /// SHA-256 of block `t` of a key, as the file states it.
    pub fn block_digest(&self, entry: &KeyEntry, t: usize) -> Option<[u8; 32]> {
        array_at(self.bytes, entry.first_block.wrapping_add(t).wrapping_mul(32).wrapping_add(self.digests))
    }
}

impl<'a> KeyBundle<'a> {
    /// Checks header, directory and every offset; not the blocks.
    ///
    /// # Errors
    /// [`WireError`] for the first thing that is off.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, WireError> {
        Header::read(bytes, FileKind::Keys)?;
        Ok(Self { bytes, directory: KeyDirectory::new_checked(bytes, bytes.len() as u64)? })
    }

    /// What lies in front of the payload.
    pub fn directory(&self) -> &KeyDirectory<'a> {
        &self.directory
    }

    /// Fingerprint of the parameter set.
    pub fn set(&self) -> [u8; 16] {
        self.directory.set()
    }

    /// Identity of the secret key behind the bundle.
    pub fn key_id(&self) -> [u8; 16] {
        self.directory.key_id()
    }

    /// Seed of the uniform halves.
    pub fn seed(&self) -> [u8; 32] {
        self.directory.seed()
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.directory.len()
    }

    /// Whether the bundle holds no key.
    pub fn is_empty(&self) -> bool {
        self.directory.is_empty()
    }

    /// log2 of the ring degree.
    pub fn log_n(&self) -> u32 {
        self.directory.log_n()
    }

    /// Special primes K.
    pub fn special(&self) -> usize {
        self.directory.special()
    }

    /// Digits of a key with `limbs` limbs.
    pub fn digits(&self, limbs: usize) -> usize {
        self.directory.digits(limbs)
    }

    /// Key `i`.
    pub fn entry(&self, i: usize) -> Option<KeyEntry> {
        self.directory.entry(i)
    }

    /// The words of block `t` of a key: `[digits][N]`, the `b_j` modulo prime t.
    pub fn block(&self, entry: &KeyEntry, t: usize) -> Option<&'a [u8]> {
        let (offset, len) = self.directory.place(entry, t)?;
        slice_at(self.bytes, offset, len)
    }

    /// Checks the digest of block `t` of a key.
    ///
    /// # Errors
    /// [`WireError::Digest`] with the block's offset.
    pub fn verify_block(&self, entry: &KeyEntry, t: usize) -> Result<(), WireError> {
        let expected = self.directory.block_digest(entry, t);
        let found: Option<[u8; 32]> = self.block(entry, t).map(|block| Sha256::digest(block).into());
        if expected.is_some() && expected == found {
            return Ok(());
        }
        let offset = self.directory.place(entry, t).map_or(entry.offset, |(offset, _)| offset);
        Err(WireError::Digest { offset: offset as u64 })
    }

    /// Checks the digests of all blocks.
    ///
    /// # Errors
    /// [`WireError::Digest`] for the first damaged block.
    pub fn verify(&self) -> Result<(), WireError> {
        for entry in (0..self.len()).filter_map(|i| self.entry(i)) {
            for t in 0..entry.request.limbs.wrapping_add(self.special()) {
                self.verify_block(&entry, t)?;
            }
        }
        Ok(())
    }
}
