//! Sections of a program file, which programs for one image and for batches have in common: a table of offsets and
//! lengths, and sections of records.

use super::format::{PARAM_WORDS, SECTION_TABLE};
use crate::keys::{KeyKind, KeyRequest};
use crate::params::{MAX_PRIMES, ParamError, ParamSet};
use crate::wire::{slice_at, u32_at};

/// The bytes of a program file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sections<'a>(pub &'a [u8]);

impl<'a> Sections<'a> {
    /// Section number `section`, if it lies in the file.
    pub fn find(&self, section: usize) -> Option<&'a [u8]> {
        let at = SECTION_TABLE.wrapping_add(section.wrapping_shl(3));
        slice_at(self.0, u32_at(self.0, at)? as usize, u32_at(self.0, at.wrapping_add(4))? as usize)
    }

    /// Section number `section`; empty if there is none.
    pub fn section(&self, section: usize) -> &'a [u8] {
        self.find(section).unwrap_or(&[])
    }

    /// Number of records of `words` words in a section.
    pub fn records(&self, section: usize, words: usize) -> usize {
        self.section(section).len().checked_div(words.wrapping_shl(2)).unwrap_or(0)
    }

    /// Record `i` of a section of records of `words` words.
    pub fn record(&self, section: usize, words: usize, i: usize) -> Option<&'a [u8]> {
        let len = words.wrapping_shl(2);
        slice_at(self.section(section), i.checked_mul(len)?, len)
    }

    /// Record `i` of a section of pairs of words.
    pub fn pair(&self, section: usize, i: usize) -> Option<(u32, u32)> {
        let record = self.record(section, 2, i)?;
        Some((u32_at(record, 0)?, u32_at(record, 4)?))
    }

    /// Key `i` of a manifest.
    pub fn key(&self, manifest: usize, i: usize) -> Option<KeyRequest> {
        let (kind, limbs) = self.pair(manifest, i)?;
        Some(KeyRequest { kind: KeyKind::from_code(kind), limbs: limbs as usize })
    }

    /// Name `i` of a section of offsets and lengths into a section of text.
    pub fn name(&self, names: usize, text: usize, i: usize) -> Option<&'a str> {
        let (at, len) = self.pair(names, i)?;
        core::str::from_utf8(slice_at(self.section(text), at as usize, len as usize)?).ok()
    }
}

/// The parameter set in the section of parameters.
pub(crate) fn read_set(params: &[u8]) -> Result<ParamSet, ParamError> {
    let word = |i: usize| u32_at(params, i.wrapping_shl(2)).map(|w| w as usize).ok_or(ParamError::Truncated);
    let (log_n, digit, limbs, special) = (word(0)? as u32, word(1)?, word(2)?, word(3)?);
    let mut primes = [0u32; MAX_PRIMES];
    let total = limbs.saturating_add(special);
    let listed = primes.get_mut(..total).ok_or(ParamError::PrimeCount { limbs, special })?;
    for (i, prime) in listed.iter_mut().enumerate() {
        *prime = word(PARAM_WORDS.wrapping_add(i))? as u32;
    }
    let (q, p) = listed.split_at_checked(limbs).ok_or(ParamError::Truncated)?;
    let name = slice_at(params, 32, 8).ok_or(ParamError::Truncated)?;
    let len = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    let name = name.get(..len).and_then(|n| core::str::from_utf8(n).ok()).ok_or(ParamError::Name)?;
    ParamSet::checked(name, log_n, q, p, digit)
}
