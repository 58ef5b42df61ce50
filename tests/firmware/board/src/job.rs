//! What is loaded beside the image: sixteen little-endian words, then program, keys, input and checkpoint, each filled up
//! to a multiple of 16 bytes.
//!
//! | word | what |
//! | --- | --- |
//! | 0 | the mark |
//! | 1..5 | bytes of program, keys, input and checkpoint |
//! | 5 | 1: keys are not here but in the host's file `keys` |
//! | 6 | the watchdog's period in instructions; 0 for no watchdog |
//! | 7, 8 | power: the step after which it goes, 0 for never, and the bytes of the checkpoint that are written until then |
//! | 9, 10 | what goes wrong, and where |
//! | 11..16 | 0 |

use cipherlens_kernel::wire::u32_at;

/// The first word.
const MARK: u32 = u32::from_le_bytes(*b"CLJB");

/// Bytes of the sixteen words.
const HEADER: usize = 64;

/// Files in place, and what to do with them.
pub struct Job {
    pub program: &'static [u8],
    /// None if they are streamed.
    pub keys: Option<&'static [u8]>,
    pub input: &'static [u8],
    /// Where to go on; empty for the start.
    pub checkpoint: &'static [u8],
    pub period: u32,
    pub power: Power,
    pub fault: Fault,
}

/// When the supply ends.
pub struct Power {
    pub steps: u32,
    pub written: usize,
}

/// What goes wrong on purpose.
#[derive(Clone, Copy)]
pub enum Fault {
    None,
    /// Result number `.0` of the self-test, counted from 1, is inverted.
    SelfTest(usize),
    /// Read number `.0` of the keys' storage, counted from 1, fails.
    Read(u32),
    /// After step `.0` nothing goes on.
    Hang(u32),
    /// A recursion has no end.
    Recursion,
}

impl Job {
    /// The job at the start of `bytes`, if there is one.
    pub fn read(bytes: &'static [u8]) -> Option<Self> {
        let word = |i: usize| u32_at(bytes, i.wrapping_mul(4));
        if word(0)? != MARK || (11..16).any(|i| word(i) != Some(0)) {
            return None;
        }
        let mut rest = bytes.get(HEADER..)?;
        let mut file = |i| {
            let len = word(i)? as usize;
            let (padded, tail) = rest.split_at_checked(len.checked_next_multiple_of(16)?)?;
            rest = tail;
            padded.get(..len)
        };
        let [program, keys, input, checkpoint] = [file(1)?, file(2)?, file(3)?, file(4)?];
        let at = word(10)?;
        let fault = match word(9)? {
            0 => Fault::None,
            1 => Fault::SelfTest(at as usize),
            2 => Fault::Read(at),
            3 => Fault::Hang(at),
            4 => Fault::Recursion,
            _ => return None,
        };
        let streamed = match word(5)? {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Self {
            program,
            keys: (!streamed).then_some(keys),
            input,
            checkpoint,
            period: word(6)?,
            power: Power { steps: word(7)?, written: word(8)? as usize },
            fault,
        })
    }
}
