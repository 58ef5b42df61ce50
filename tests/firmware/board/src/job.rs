//! What is loaded beside the image. Four little-endian words (the mark, then bytes of program, keys and input), then
//! program, keys and input, each filled up to a multiple of 16 bytes.

use cipherlens_kernel::wire::u32_at;

/// The first word.
const MARK: u32 = u32::from_le_bytes(*b"CLJB");

/// Files in place.
pub struct Job {
    pub program: &'static [u8],
    pub keys: &'static [u8],
    pub input: &'static [u8],
}

impl Job {
    /// The job at the start of `bytes`, if there is one.
    pub fn read(bytes: &'static [u8]) -> Option<Self> {
        if u32_at(bytes, 0)? != MARK {
            return None;
        }
        let mut rest = bytes.get(16..)?;
        let mut file = |at: usize| {
            let len = u32_at(bytes, at)? as usize;
            let (padded, tail) = rest.split_at_checked(len.checked_next_multiple_of(16)?)?;
            rest = tail;
            padded.get(..len)
        };
        Some(Self { program: file(4)?, keys: file(8)?, input: file(12)? })
    }
}
