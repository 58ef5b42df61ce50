//! Why there is no output, and the exit status that says so.

use cipherlens_kernel::engine::EngineError;
use cipherlens_kernel::keys::KeyError;
use cipherlens_kernel::program::ProgramError;
use cipherlens_kernel::selftest::SelfTestError;

/// Why a run ended before its output. Statuses above 100 are those of `machine.rs`.
#[derive(Clone, Copy, defmt::Format)]
pub enum Failure {
    /// Nothing valid was loaded.
    Job,
    Program(ProgramError),
    Keys(KeyError),
    Input(EngineError),
    Engine(EngineError),
    /// The stack has been full once.
    Stack,
    SelfTest(SelfTestError),
    Checkpoint(EngineError),
    /// The job cuts the power: a checkpoint of so many bytes, or the start of it, is in the host's file.
    Power {
        checkpoint: usize,
    },
    /// The host does not take the checkpoint.
    Host,
    /// The image was built for another program.
    Contract,
}

impl Failure {
    pub fn status(self) -> u8 {
        match self {
            Self::Job => 1,
            Self::Program(_) => 2,
            Self::Keys(_) => 3,
            Self::Engine(EngineError::ArenaTooSmall { .. }) => 4,
            Self::Input(_) => 5,
            // While the program ran.
            Self::Engine(EngineError::Key(_)) => 11,
            Self::Engine(_) => 6,
            Self::Stack => 7,
            Self::SelfTest(_) => 8,
            Self::Checkpoint(_) => 9,
            Self::Power { .. } => 10,
            Self::Host => 12,
            Self::Contract => 13,
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::Keys(error)
    }
}
