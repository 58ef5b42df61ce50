//! Keys in mapped memory or behind a reader: one type, so that a product that has both holds one kind of engine.

use super::{Half, KeyError, KeyInfo, KeyKind, KeyReader, KeySource, MappedKeys, StreamedKeys};
use crate::math::Modulus;

/// A [`MappedKeys`] or a [`StreamedKeys`].
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one per engine, and no heap to box it on")]
pub enum StoredKeys<'a, R> {
    /// Read in place.
    Mapped(MappedKeys<'a>),
    /// Read block by block.
    Streamed(StreamedKeys<'a, R>),
}

impl<R: KeyReader> KeySource for StoredKeys<'_, R> {
    fn set(&self) -> [u8; 16] {
        match self {
            Self::Mapped(keys) => keys.set(),
            Self::Streamed(keys) => keys.set(),
        }
    }

    fn key_id(&self) -> [u8; 16] {
        match self {
            Self::Mapped(keys) => keys.key_id(),
            Self::Streamed(keys) => keys.key_id(),
        }
    }

    fn find(&self, kind: KeyKind, limbs: usize) -> Option<KeyInfo> {
        match self {
            Self::Mapped(keys) => keys.find(kind, limbs),
            Self::Streamed(keys) => keys.find(kind, limbs),
        }
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
        match self {
            Self::Mapped(keys) => keys.rows(key, half, block, digits, m, scratch),
            Self::Streamed(keys) => keys.rows(key, half, block, digits, m, scratch),
        }
    }
}
