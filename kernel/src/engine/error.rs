//! Errors of the engine.

use crate::keys::KeyError;
use crate::layers::PassError;
use crate::scratch::RowFault;
use crate::wire::WireError;

/// Why the engine refuses or fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum EngineError {
    /// The arena is smaller than the program's memory plan.
    ArenaTooSmall {
        /// Bytes needed.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// The plaintext cache does not hold one plaintext.
    CacheTooSmall {
        /// Bytes needed.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// Arena or cache does not start at a multiple of 4.
    Misaligned,
    /// The evaluation keys are for another parameter set.
    KeySet,
    /// An evaluation key is missing or damaged.
    Key(KeyError),
    /// An input file is not valid.
    Input(WireError),
    /// The ciphertext or checkpoint was made for another program.
    OtherProgram,
    /// The ciphertext or checkpoint was made under another key than the evaluation keys.
    WrongKey,
    /// The ciphertext is no input of this program.
    NotAnInput {
        /// The index that it names.
        index: usize,
    },
    /// The input has another level or scale than the program expects.
    InputLevel {
        /// Which input.
        index: usize,
        /// Limbs expected.
        need: usize,
        /// Limbs found.
        have: usize,
    },
    /// The input holds a residue that is not below its prime.
    InputRange {
        /// Which input.
        index: usize,
    },
    /// An input has not been set.
    InputMissing {
        /// Which.
        index: usize,
    },
    /// The engine was made for fewer workers than the pool has.
    Workers {
        /// Workers of the pool.
        need: usize,
        /// Workers of the engine.
        have: usize,
    },
    /// The program already runs; reset first.
    Started,
    /// The program has not run to its end.
    NotDone,
    /// There is no such output.
    NotAnOutput {
        /// Which.
        index: usize,
    },
    /// The buffer for an output file is too small.
    OutputTooSmall {
        /// Bytes needed.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// The buffer for a checkpoint is too small.
    CheckpointTooSmall {
        /// Bytes needed.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// A checkpoint is not valid.
    Checkpoint(WireError),
    /// The memory plan was violated; a verified program never does.
    Plan(RowFault),
}

impl From<KeyError> for EngineError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

impl From<WireError> for EngineError {
    fn from(error: WireError) -> Self {
        Self::Input(error)
    }
}

impl From<RowFault> for EngineError {
    fn from(fault: RowFault) -> Self {
        Self::Plan(fault)
    }
}

impl From<PassError> for EngineError {
    fn from(error: PassError) -> Self {
        match error {
            PassError::Key(error) => Self::Key(error),
            PassError::Plan(fault) => Self::Plan(fault),
        }
    }
}

impl core::fmt::Display for EngineError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::ArenaTooSmall { need, have } => write!(f, "the arena has {have} bytes, the program needs {need}"),
            Self::CacheTooSmall { need, have } => write!(f, "the cache has {have} bytes, the least of use is {need}"),
            Self::Misaligned => write!(f, "arena and cache must start at a multiple of 4 bytes"),
            Self::KeySet => write!(f, "the evaluation keys are for another parameter set"),
            Self::Key(error) => error.fmt(f),
            Self::Input(error) => write!(f, "input ciphertext: {error}"),
            Self::OtherProgram => write!(f, "the file was made for another program"),
            Self::WrongKey => write!(f, "the file and the evaluation keys come from different secret keys"),
            Self::NotAnInput { index } => write!(f, "the ciphertext ({index}) is not an input of this program"),
            Self::InputLevel { index, need, have } => {
                write!(f, "input {index} has {have} limbs or another scale; the program expects {need} limbs")
            }
            Self::InputRange { index } => write!(f, "input {index} holds a residue that is not below its prime"),
            Self::InputMissing { index } => write!(f, "input {index} has not been set"),
            Self::Workers { need, have } => write!(f, "the pool has {need} workers, the engine was made for {have}"),
            Self::Started => write!(f, "the program already runs; reset the engine first"),
            Self::NotDone => write!(f, "the program has not run to its end"),
            Self::NotAnOutput { index } => write!(f, "the program has no output {index}"),
            Self::OutputTooSmall { need, have } => write!(f, "the output needs {need} bytes, the buffer has {have}"),
            Self::CheckpointTooSmall { need, have } => {
                write!(f, "the checkpoint needs {need} bytes, the buffer has {have}")
            }
            Self::Checkpoint(error) => write!(f, "checkpoint: {error}"),
            Self::Plan(fault) => write!(f, "memory plan violated at row {}", fault.row),
        }
    }
}

impl core::error::Error for EngineError {}
