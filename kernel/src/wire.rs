//! File formats: checked, zero-copy views over bytes.
//!
//! Every file starts with the same 64-byte header and carries SHA-256 digests over everything in it, so a
//! cut or damaged file is an error when it is opened. All numbers are little-endian.

pub mod checkpoint;
pub mod ciphertext;
pub mod header;
pub mod keys;

pub use checkpoint::{CheckpointHeader, Stage};
pub use ciphertext::{CiphertextHeader, CiphertextView, Role};
pub use header::{FileKind, HEADER_BYTES, Header, VERSION, WireError};
pub use keys::{BundleShape, KEY_FRONT, KeyBundle, KeyDirectory, KeyEntry};

/// The first 16 bytes of a digest: a fingerprint.
pub fn first16(digest: &[u8; 32]) -> [u8; 16] {
    let mut out = [0; 16];
    for (a, b) in out.iter_mut().zip(digest) {
        *a = *b;
    }
    out
}

/// The little-endian word at byte offset `at`.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|b| u32::from_le_bytes(*b))
}

/// The little-endian double word at byte offset `at`.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|b| u64::from_le_bytes(*b))
}

/// `N` bytes at offset `at`.
pub fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// `len` bytes at offset `at`.
pub fn slice_at(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(len)?)
}

/// Little-endian bytes as words without a copy, where the target's byte order and the alignment allow it.
pub fn words_in_place(bytes: &[u8]) -> Option<&[u32]> {
    if cfg!(target_endian = "little") { bytemuck::try_cast_slice(bytes).ok() } else { None }
}

/// Reads little-endian words into `dst`; words that `bytes` does not hold are left alone.
pub fn load_words(dst: &mut [u32], bytes: &[u8]) {
    for (x, b) in dst.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *x = u32::from_le_bytes(*b);
    }
}

/// Writes words as little-endian bytes; words beyond the end of `dst` are dropped.
pub fn store_words(dst: &mut [u8], words: &[u32]) {
    for (b, x) in dst.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *b = x.to_le_bytes();
    }
}
