//! What the C functions return: a number for every variant of the kernel's errors, its text, and the numbers that the
//! variant carries.
//!
//! Numbers are stable: a new error takes a free one, and the number of an error that is gone is not used again.

use crate::engine::EngineError;
use crate::keys::{KeyError, KeyKind};
use crate::params::ParamError;
use crate::program::ProgramError;
use crate::scratch::RowFault;
use crate::selftest::SelfTestError;
use crate::wire::WireError;

/// Numbers that belong to an error; those that its description does not name are 0. Bytes unless it says otherwise.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Detail {
    /// What is needed or was expected.
    pub need: u64,
    /// What there is or was found.
    pub have: u64,
    /// Where: an offset, an index or a key.
    pub at: u64,
}

/// An error as C sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub status: Status,
    pub detail: Detail,
}

impl Failure {
    /// Without numbers.
    pub fn plain(status: Status) -> Self {
        Self::new(status, [0, 0, 0])
    }

    fn new(status: Status, [need, have, at]: [u64; 3]) -> Self {
        Self { status, detail: Detail { need, have, at } }
    }

    fn sizes(status: Status, need: usize, have: usize) -> Self {
        Self::new(status, [need as u64, have as u64, 0])
    }

    fn at(status: Status, at: u64) -> Self {
        Self::new(status, [0, 0, at])
    }
}

/// One status: number, text with a 0 at its end, what the numbers of [`Detail`] mean.
#[derive(Debug)]
pub struct Entry {
    /// Name in the header, without the prefix.
    pub name: &'static str,
    /// The number.
    pub number: i32,
    text: &'static str,
    numbers: &'static str,
}

impl Entry {
    /// The text and the 0 after it.
    pub(super) fn c_text(&self) -> &'static str {
        self.text
    }

    /// The text, and in parentheses what the numbers mean, if there are any.
    pub fn description(&self) -> (&'static str, &'static str) {
        (self.text.trim_end_matches('\0'), self.numbers)
    }
}

macro_rules! statuses {
    ($($name:ident = $number:literal, $text:literal $(, $numbers:literal)?;)*) => {
        /// What a function returns.
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the names of the C header")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(i32)]
        pub(super) enum Status { $($name = $number),* }

        /// Every status, by number.
        pub const STATUSES: &[Entry] = &[$(Entry {
            name: stringify!($name),
            number: $number,
            text: concat!($text, "\0"),
            numbers: concat!($($numbers)?),
        }),*];
    };
}

statuses! {
    OK = 0, "no error";
    NULL_POINTER = 1, "a pointer is null";
    MISALIGNED_POINTER = 2, "a pointer is not aligned as its type demands";
    LENGTH = 3, "a length runs past the end of the address space";
    OVERLAP = 4, "memory that is written overlaps other memory in use";
    NOT_INITIALISED = 5, "the engine was not initialised, or was copied from elsewhere";
    BUSY = 6, "the engine is in use by another call";

    PROGRAM_MAGIC = 101, "program: not a Cipherlens file";
    PROGRAM_KIND = 102, "program: a Cipherlens file of another kind", "need, have: numbers of the kinds";
    PROGRAM_VERSION = 103, "program: a format version that this release does not read", "have: the version";
    PROGRAM_TRUNCATED = 104, "program: the file is cut short", "need, have";
    PROGRAM_TRAILING = 105, "program: the file is longer than it says", "need, have";
    PROGRAM_DIGEST = 106, "program: the file is damaged, its digest does not match", "at: offset of the damaged part";
    PROGRAM_SET = 107, "program: made for another parameter set";
    PROGRAM_FIELD = 108, "program: a field holds a value that no valid file has", "at: offset of the field";
    PARAMS_RING_DEGREE = 111, "parameter set: the ring degree is outside 2^11 to 2^16", "have: log2 of the degree";
    PARAMS_PRIME_COUNT = 112, "parameter set: too few or too many primes", "have: ciphertext primes; at: special primes";
    PARAMS_DIGIT = 113, "parameter set: bad digit size", "have: primes for each digit";
    PARAMS_PRIME = 114, "parameter set: not a prime below 2^30 that is 1 modulo 4N", "have: the value";
    PARAMS_REPEATED = 115, "parameter set: a prime occurs twice", "have: the prime";
    PARAMS_INSECURE = 116, "parameter set: below 128 bits of security", "have: log2 QP, rounded up; need: at most this";
    PARAMS_TRUNCATED = 117, "parameter set: the list of primes is cut short";
    PARAMS_NAME = 118, "parameter set: the name is not a short ASCII word";
    PROGRAM_FINGERPRINT = 121, "program: the header names another parameter set than the program holds";
    PROGRAM_SECTION = 122, "program: a section is malformed", "at: number of the section";
    PROGRAM_PLAN = 123, "program: the memory plan does not fit", "need, have: rows";
    PROGRAM_PLAINTEXT = 124, "program: a plaintext is malformed", "at: its index";
    PROGRAM_INSTRUCTION = 125, "program: an instruction is malformed", "at: its index";
    PROGRAM_UNDEFINED = 126, "program: an instruction reads a buffer that holds nothing", "at: instruction; have: buffer";
    PROGRAM_LEVEL = 127, "program: operands have too few limbs", "need, have: limbs; at: instruction";
    PROGRAM_SCALE = 128, "program: the scales of an instruction do not meet", "at: instruction";
    PROGRAM_HEADROOM = 129, "program: a scale exceeds its modulus", "at: instruction";
    PROGRAM_ALIASING = 130, "program: an instruction overwrites its own operand", "at: instruction";
    PROGRAM_MANIFEST = 131, "program: a key in use is not in the manifest", "need: limbs; have: key; at: instruction";
    PROGRAM_TOO_MANY_BUFFERS = 132, "program: more buffers than the kernel tracks", "have: buffers";

    KEYS_MAGIC = 201, "keys: not a Cipherlens file";
    KEYS_KIND = 202, "keys: a Cipherlens file of another kind", "need, have: numbers of the kinds";
    KEYS_VERSION = 203, "keys: a format version that this release does not read", "have: the version";
    KEYS_TRUNCATED = 204, "keys: the file is cut short", "need, have";
    KEYS_TRAILING = 205, "keys: the file is longer than it says", "need, have";
    KEYS_DIGEST = 206, "keys: the file is damaged, a digest does not match", "at: offset of the damaged part";
    KEYS_SET = 207, "keys: made for another parameter set";
    KEYS_FIELD = 208, "keys: a field holds a value that no valid file has", "at: offset of the field";
    KEY_MISSING = 211, "keys: a key of the program is missing", "need: limbs; at: key (0, or the rotation)";
    KEY_DAMAGED = 212, "keys: a key is damaged", "have: block; at: key (0, or the rotation)";
    KEY_BUFFER_TOO_SMALL = 213, "keys: the buffer for expanded keys is too small", "need, have: words";
    KEY_DIRECTORY_TOO_SMALL = 214, "keys: the memory for the directory is too small", "need, have";
    KEY_READ = 215, "keys: the storage failed", "have: what the reader returned; at: offset";

    ARENA_TOO_SMALL = 301, "the arena is too small", "need, have";
    CACHE_TOO_SMALL = 302, "the cache is too small", "need, have";
    MISALIGNED = 303, "arena and cache must start at a multiple of 4 bytes";
    KEY_SET = 304, "the evaluation keys are for another parameter set";
    OTHER_PROGRAM = 305, "the file was made for another program";
    WRONG_KEY = 306, "the file and the evaluation keys come from different secret keys";
    NOT_AN_INPUT = 307, "the ciphertext is not an input of this program", "at: the index that it names";
    INPUT_LEVEL = 308, "the input has another level or scale than expected", "need, have: limbs; at: input";
    INPUT_RANGE = 309, "the input holds a residue that is not below its prime", "at: input";
    INPUT_MISSING = 310, "an input has not been set", "at: input";
    WORKERS = 311, "the engine was made for fewer workers", "need, have: workers";
    STARTED = 312, "the program already runs; reset the engine first";
    NOT_DONE = 313, "the program has not run to its end";
    NOT_AN_OUTPUT = 314, "the program has no such output", "at: output";
    OUTPUT_TOO_SMALL = 315, "the buffer for the output is too small", "need, have";
    CHECKPOINT_TOO_SMALL = 316, "the buffer for the checkpoint is too small", "need, have";
    PLAN = 317, "the memory plan was violated", "at: first row; need: rows";

    INPUT_MAGIC = 401, "input: not a Cipherlens file";
    INPUT_KIND = 402, "input: a Cipherlens file of another kind", "need, have: numbers of the kinds";
    INPUT_VERSION = 403, "input: a format version that this release does not read", "have: the version";
    INPUT_TRUNCATED = 404, "input: the file is cut short", "need, have";
    INPUT_TRAILING = 405, "input: the file is longer than it says", "need, have";
    INPUT_DIGEST = 406, "input: the file is damaged, its digest does not match", "at: offset of the damaged part";
    INPUT_SET = 407, "input: made for another parameter set";
    INPUT_FIELD = 408, "input: a field holds a value that no valid file has", "at: offset of the field";

    CHECKPOINT_MAGIC = 501, "checkpoint: not a Cipherlens file";
    CHECKPOINT_KIND = 502, "checkpoint: a Cipherlens file of another kind", "need, have: numbers of the kinds";
    CHECKPOINT_VERSION = 503, "checkpoint: a format version that this release does not read", "have: the version";
    CHECKPOINT_TRUNCATED = 504, "checkpoint: the file is cut short", "need, have";
    CHECKPOINT_TRAILING = 505, "checkpoint: the file is longer than it says", "need, have";
    CHECKPOINT_DIGEST = 506, "checkpoint: the file is damaged, its digest does not match", "at: offset of the damaged part";
    CHECKPOINT_SET = 507, "checkpoint: made for another parameter set";
    CHECKPOINT_FIELD = 508, "checkpoint: a field holds a value that no valid file has", "at: offset of the field";

    SELFTEST_MEMORY_TOO_SMALL = 601, "self-test: the memory is too small", "need, have";
    SELFTEST_MISALIGNED = 602, "self-test: the memory must start at a multiple of 4 bytes";
    SELFTEST_SHA256 = 603, "self-test: SHA-256 gives a wrong digest";
    SELFTEST_TABLE = 604, "self-test: a transform table cannot be built", "have: the prime";
    SELFTEST_ANSWER = 605, "self-test: a result differs from the known answer";
}

/// The statuses of a [`WireError`], in the order of its variants.
type Wire = [Status; 8];

const PROGRAM: Wire = [
    Status::PROGRAM_MAGIC,
    Status::PROGRAM_KIND,
    Status::PROGRAM_VERSION,
    Status::PROGRAM_TRUNCATED,
    Status::PROGRAM_TRAILING,
    Status::PROGRAM_DIGEST,
    Status::PROGRAM_SET,
    Status::PROGRAM_FIELD,
];
const KEYS: Wire = [
    Status::KEYS_MAGIC,
    Status::KEYS_KIND,
    Status::KEYS_VERSION,
    Status::KEYS_TRUNCATED,
    Status::KEYS_TRAILING,
    Status::KEYS_DIGEST,
    Status::KEYS_SET,
    Status::KEYS_FIELD,
];
const INPUT: Wire = [
    Status::INPUT_MAGIC,
    Status::INPUT_KIND,
    Status::INPUT_VERSION,
    Status::INPUT_TRUNCATED,
    Status::INPUT_TRAILING,
    Status::INPUT_DIGEST,
    Status::INPUT_SET,
    Status::INPUT_FIELD,
];
const CHECKPOINT: Wire = [
    Status::CHECKPOINT_MAGIC,
    Status::CHECKPOINT_KIND,
    Status::CHECKPOINT_VERSION,
    Status::CHECKPOINT_TRUNCATED,
    Status::CHECKPOINT_TRAILING,
    Status::CHECKPOINT_DIGEST,
    Status::CHECKPOINT_SET,
    Status::CHECKPOINT_FIELD,
];

fn wire([magic, kind, version, truncated, trailing, digest, set, field]: Wire, error: WireError) -> Failure {
    match error {
        WireError::Magic => Failure::plain(magic),
        WireError::Kind { expected, found } => Failure::new(kind, [expected.code().into(), found.into(), 0]),
        WireError::Version { found } => Failure::new(version, [0, found.into(), 0]),
        WireError::Truncated { need, have } => Failure::new(truncated, [need, have, 0]),
        WireError::Trailing { need, have } => Failure::new(trailing, [need, have, 0]),
        WireError::Digest { offset } => Failure::at(digest, offset),
        WireError::Set => Failure::plain(set),
        WireError::Field { offset } => Failure::at(field, offset),
    }
}

fn key(kind: KeyKind) -> u64 {
    kind.code().into()
}

impl From<ParamError> for Failure {
    fn from(error: ParamError) -> Self {
        let have = |status, have: u32| Self::new(status, [0, have.into(), 0]);
        match error {
            ParamError::RingDegree { log_n } => have(Status::PARAMS_RING_DEGREE, log_n),
            ParamError::PrimeCount { limbs, special } => {
                Self::new(Status::PARAMS_PRIME_COUNT, [0, limbs as u64, special as u64])
            }
            ParamError::Digit { digit } => have(Status::PARAMS_DIGIT, digit as u32),
            ParamError::Prime { value } => have(Status::PARAMS_PRIME, value),
            ParamError::Repeated { value } => have(Status::PARAMS_REPEATED, value),
            ParamError::Insecure { log_qp, max } => Self::new(Status::PARAMS_INSECURE, [max.into(), log_qp.into(), 0]),
            ParamError::Truncated => Self::plain(Status::PARAMS_TRUNCATED),
            ParamError::Name => Self::plain(Status::PARAMS_NAME),
        }
    }
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        let at = |status, index: usize| Self::at(status, index as u64);
        match error {
            ProgramError::File(error) => wire(PROGRAM, error),
            ProgramError::Params(error) => error.into(),
            ProgramError::Fingerprint => Self::plain(Status::PROGRAM_FINGERPRINT),
            ProgramError::Section { section } => at(Status::PROGRAM_SECTION, section as usize),
            ProgramError::Plan { need, have } => Self::sizes(Status::PROGRAM_PLAN, need, have),
            ProgramError::Plaintext { index } => at(Status::PROGRAM_PLAINTEXT, index),
            ProgramError::Instruction { index } => at(Status::PROGRAM_INSTRUCTION, index),
            ProgramError::Undefined { index, buffer } => {
                Self::new(Status::PROGRAM_UNDEFINED, [0, buffer as u64, index as u64])
            }
            ProgramError::Level { index, need, have } => {
                Self::new(Status::PROGRAM_LEVEL, [need as u64, have as u64, index as u64])
            }
            ProgramError::Scale { index } => at(Status::PROGRAM_SCALE, index),
            ProgramError::Headroom { index } => at(Status::PROGRAM_HEADROOM, index),
            ProgramError::Aliasing { index } => at(Status::PROGRAM_ALIASING, index),
            ProgramError::Manifest { index, kind, limbs } => {
                Self::new(Status::PROGRAM_MANIFEST, [limbs as u64, key(kind), index as u64])
            }
            ProgramError::TooManyBuffers { buffers } => Self::sizes(Status::PROGRAM_TOO_MANY_BUFFERS, 0, buffers),
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Missing { kind, limbs } => Self::new(Status::KEY_MISSING, [limbs as u64, 0, key(kind)]),
            KeyError::Damaged { kind, block } => Self::new(Status::KEY_DAMAGED, [0, block as u64, key(kind)]),
            KeyError::File(error) => wire(KEYS, error),
            KeyError::BufferTooSmall { need, have } => Self::sizes(Status::KEY_BUFFER_TOO_SMALL, need, have),
            KeyError::DirectoryTooSmall { need, have } => Self::sizes(Status::KEY_DIRECTORY_TOO_SMALL, need, have),
            KeyError::Read { offset, code } => Self::new(Status::KEY_READ, [0, code.into(), offset]),
        }
    }
}

impl From<RowFault> for Failure {
    fn from(RowFault { row, rows }: RowFault) -> Self {
        Self::new(Status::PLAN, [rows as u64, 0, row as u64])
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let at = |status, index: usize| Self::at(status, index as u64);
        match error {
            EngineError::ArenaTooSmall { need, have } => Self::sizes(Status::ARENA_TOO_SMALL, need, have),
            EngineError::CacheTooSmall { need, have } => Self::sizes(Status::CACHE_TOO_SMALL, need, have),
            EngineError::Misaligned => Self::plain(Status::MISALIGNED),
            EngineError::KeySet => Self::plain(Status::KEY_SET),
            EngineError::Key(error) => error.into(),
            EngineError::Input(error) => wire(INPUT, error),
            EngineError::OtherProgram => Self::plain(Status::OTHER_PROGRAM),
            EngineError::WrongKey => Self::plain(Status::WRONG_KEY),
            EngineError::NotAnInput { index } => at(Status::NOT_AN_INPUT, index),
            EngineError::InputLevel { index, need, have } => {
                Self::new(Status::INPUT_LEVEL, [need as u64, have as u64, index as u64])
            }
            EngineError::InputRange { index } => at(Status::INPUT_RANGE, index),
            EngineError::InputMissing { index } => at(Status::INPUT_MISSING, index),
            EngineError::Workers { need, have } => Self::sizes(Status::WORKERS, need, have),
            EngineError::Started => Self::plain(Status::STARTED),
            EngineError::NotDone => Self::plain(Status::NOT_DONE),
            EngineError::NotAnOutput { index } => at(Status::NOT_AN_OUTPUT, index),
            EngineError::OutputTooSmall { need, have } => Self::sizes(Status::OUTPUT_TOO_SMALL, need, have),
            EngineError::CheckpointTooSmall { need, have } => Self::sizes(Status::CHECKPOINT_TOO_SMALL, need, have),
            EngineError::Checkpoint(error) => wire(CHECKPOINT, error),
            EngineError::Plan(fault) => fault.into(),
        }
    }
}

impl From<SelfTestError> for Failure {
    fn from(error: SelfTestError) -> Self {
        match error {
            SelfTestError::MemoryTooSmall { need, have } => Self::sizes(Status::SELFTEST_MEMORY_TOO_SMALL, need, have),
            SelfTestError::Misaligned => Self::plain(Status::SELFTEST_MISALIGNED),
            SelfTestError::Sha256 => Self::plain(Status::SELFTEST_SHA256),
            SelfTestError::Table { p } => Self::new(Status::SELFTEST_TABLE, [0, p.into(), 0]),
            SelfTestError::Answer => Self::plain(Status::SELFTEST_ANSWER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::FileKind;
    use std::string::ToString;

    #[test]
    fn statuses_are_in_order_and_named_once() {
        assert!(STATUSES.windows(2).all(|pair| pair[0].number < pair[1].number));
        for entry in STATUSES {
            let (text, _) = entry.description();
            assert!(!text.is_empty() && !text.contains('\0') && entry.c_text() == text.to_string() + "\0");
            assert_eq!(STATUSES.iter().filter(|other| other.name == entry.name).count(), 1, "{}", entry.name);
        }
    }

    /// What programs in C were compiled against.
    #[test]
    fn numbers_are_stable() {
        let files = [
            (ProgramError::File(WireError::Magic).into(), 101),
            (KeyError::File(WireError::Magic).into(), 201),
            (EngineError::Key(WireError::Magic.into()).into(), 201),
            (EngineError::Input(WireError::Magic).into(), 401),
            (EngineError::Checkpoint(WireError::Magic).into(), 501),
            (EngineError::Checkpoint(WireError::Field { offset: 1 }).into(), 508),
            (ProgramError::Params(ParamError::Name).into(), 118),
            (ProgramError::TooManyBuffers { buffers: 1 }.into(), 132),
            (KeyError::Read { offset: 0, code: 0 }.into(), 215),
            (EngineError::ArenaTooSmall { need: 1, have: 0 }.into(), 301),
            (EngineError::Plan(RowFault { row: 0, rows: 0 }).into(), 317),
            (SelfTestError::Answer.into(), 605),
        ];
        for (failure, number) in files {
            let Failure { status, .. } = failure;
            assert_eq!(status as i32, number, "{status:?}");
        }
    }

    #[test]
    fn numbers_of_an_error_are_carried_over() {
        let detail = |failure: Failure| [failure.detail.need, failure.detail.have, failure.detail.at];
        let kind = WireError::Kind { expected: FileKind::Program, found: 99 };
        assert_eq!(detail(ProgramError::File(kind).into()), [1, 99, 0]);
        assert_eq!(detail(wire(KEYS, WireError::Truncated { need: 1 << 40, have: 7 })), [1 << 40, 7, 0]);
        assert_eq!(detail(ParamError::PrimeCount { limbs: 3, special: 4 }.into()), [0, 3, 4]);
        assert_eq!(detail(ParamError::Insecure { log_qp: 300, max: 218 }.into()), [218, 300, 0]);
        assert_eq!(detail(ProgramError::Undefined { index: 5, buffer: 6 }.into()), [0, 6, 5]);
        let kind = KeyKind::Rotation(12);
        assert_eq!(detail(ProgramError::Manifest { index: 5, kind, limbs: 2 }.into()), [2, 12, 5]);
        assert_eq!(detail(KeyError::Damaged { kind, block: 3 }.into()), [0, 3, 12]);
        assert_eq!(detail(KeyError::Read { offset: 1 << 33, code: 8 }.into()), [0, 8, 1 << 33]);
        assert_eq!(detail(EngineError::InputLevel { index: 1, need: 3, have: 2 }.into()), [3, 2, 1]);
        assert_eq!(detail(SelfTestError::Table { p: 17 }.into()), [0, 17, 0]);
    }
}
