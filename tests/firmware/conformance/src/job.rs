//! What an image is asked to do. A job is a byte string: six little-endian words (seed, fault, bytes of program, keys
//! and input, 1 to be measured), then program, keys and input, each filled up to a multiple of 16 bytes. The answer is
//! text, one line for each backend: `neon passes <SHA-256> checkpoint <SHA-256> output <SHA-256>`, or what went wrong.
//! To be measured, it is one inference, with a line after each part.

use crate::passes::{Difference, passes};
use cipherlens_kernel::engine::{Engine, EngineError, Progress};
use cipherlens_kernel::keys::{MappedKeys, StreamedKeys};
use cipherlens_kernel::math::{Backend, Detected};
use cipherlens_kernel::program::{Program, ProgramError};
use cipherlens_kernel::selftest::{SelfTestError, selftest};
use cipherlens_kernel::wire::u32_at;
use core::fmt::{Display, Formatter, Write};
use sha2::{Digest, Sha256};

/// What a target is asked to do.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Seed of the rows for the passes.
    pub seed: u32,
    /// Number of the comparison whose result is damaged on purpose, counted from 1; 0 for none.
    pub fault: u32,
    /// A program with one input and one output.
    pub program: &'a [u8],
    /// Keys for it.
    pub keys: &'a [u8],
    /// A ciphertext.
    pub input: &'a [u8],
    /// Whether somebody counts what an inference takes.
    pub measured: bool,
}

/// Steps before the checkpoint: somewhere within a program.
const STEPS: usize = 150;
/// Memory for the directory of the keys.
const DIRECTORY_WORDS: usize = 8192;

/// Bytes before the first section.
const HEADER: usize = 24;

impl<'a> Job<'a> {
    /// The job in `bytes`; none if they are too few.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes.get(HEADER..)?;
        let mut section = |at: usize| {
            let len = u32_at(bytes, at)? as usize;
            let (padded, tail) = rest.split_at_checked(len.checked_next_multiple_of(16)?)?;
            rest = tail;
            padded.get(..len)
        };
        let [program, keys, input] = [section(8)?, section(12)?, section(16)?];
        let measured = u32_at(bytes, 20)? == 1;
        Some(Self { seed: u32_at(bytes, 0)?, fault: u32_at(bytes, 4)?, program, keys, input, measured })
    }

    /// Does the job on every backend of this target; `memory` serves as scratch and arena.
    pub fn run(&self, memory: &mut [u32], out: &mut impl Write) -> core::fmt::Result {
        if self.measured {
            return match self.measured(memory, out) {
                Ok(output) => writeln!(out, "output {}", Hex(output)),
                Err(failure) => writeln!(out, "{failure}"),
            };
        }
        for backend in Detected::all() {
            match self.digests(backend, memory) {
                Ok([passes, checkpoint, output]) => {
                    let name = backend.name();
                    writeln!(out, "{name} passes {passes} checkpoint {checkpoint} output {output}")?;
                }
                Err(failure) => writeln!(out, "{} {failure}", backend.name())?,
            }
        }
        Ok(())
    }

    /// One inference from the start to the end. Whoever reads the lines can count between them.
    fn measured(&self, memory: &mut [u32], out: &mut impl Write) -> Result<[u8; 32], Failure> {
        let mut done = |part| out.write_str(part).map_err(|_| Failure::Memory);
        done("start\n")?;
        selftest(Detected::new(), bytemuck::cast_slice_mut(memory))?;
        done("selftest\n")?;
        let program = Program::verify(self.program)?;
        let (arena, rest) = memory.split_at_mut_checked(program.arena_bytes().div_ceil(4)).ok_or(Failure::Memory)?;
        let keys = MappedKeys::verify(self.keys).map_err(EngineError::from)?;
        let mut engine = Engine::new(program, keys, bytemuck::cast_slice_mut(arena))?;
        engine.set_input(self.input)?;
        done("verify\n")?;
        while engine.step()? != Progress::Done {
            done("step\n")?;
        }
        done("step\n")?;
        let rest: &mut [u8] = bytemuck::cast_slice_mut(rest);
        let file = rest.get_mut(..engine.output_bytes(0)?).ok_or(Failure::Memory)?;
        engine.write_output(0, file)?;
        Ok(Sha256::digest(file).into())
    }

    fn digests(&self, backend: Detected, memory: &mut [u32]) -> Result<[Hex; 3], Failure> {
        selftest(backend, bytemuck::cast_slice_mut(memory))?;
        let passes = passes(backend, self.seed, self.fault, memory)?;
        let [checkpoint, output] = self.inference(backend, memory)?;
        Ok([Hex(passes), Hex(checkpoint), Hex(output)])
    }

    /// Runs the program up to a checkpoint, goes on from there with streamed keys, and returns the digests of the
    /// checkpoint and of the output file.
    ///
    /// # Errors
    /// As the kernel, and [`Failure::Memory`].
    fn inference(&self, backend: Detected, memory: &mut [u32]) -> Result<[[u8; 32]; 2], Failure> {
        let program = Program::verify(self.program)?;
        let (arena, rest) = memory.split_at_mut_checked(program.arena_bytes().div_ceil(4)).ok_or(Failure::Memory)?;
        let keys = MappedKeys::verify(self.keys).map_err(EngineError::from)?;
        let mut engine = Engine::with_backend(program, keys, bytemuck::cast_slice_mut(arena), backend)?;
        engine.set_input(self.input)?;
        engine.prepare()?;
        for _ in 0..STEPS {
            engine.step()?;
        }
        let (directory, rest) = rest.split_at_mut_checked(DIRECTORY_WORDS).ok_or(Failure::Memory)?;
        let rest: &mut [u8] = bytemuck::cast_slice_mut(rest);
        let file = rest.get_mut(..engine.checkpoint_bytes()?).ok_or(Failure::Memory)?;
        engine.checkpoint(file)?;
        let checkpoint = Sha256::digest(&*file).into();

        arena.fill(0xa5a5_a5a5);
        let keys = StreamedKeys::open(self.keys, bytemuck::cast_slice_mut(directory)).map_err(EngineError::from)?;
        let mut engine = Engine::with_backend(program, keys, bytemuck::cast_slice_mut(arena), backend)?;
        engine.resume(file)?;
        engine.run()?;
        let file = rest.get_mut(..engine.output_bytes(0)?).ok_or(Failure::Memory)?;
        engine.write_output(0, file)?;
        Ok([checkpoint, Sha256::digest(file).into()])
    }
}

/// Why there is no digest.
#[derive(Debug, Clone, Copy)]
pub enum Failure {
    /// A pass gave other bits than the portable one.
    Pass(Difference),
    /// The program was refused.
    Program(ProgramError),
    /// Keys or input were refused, or the engine stopped.
    Engine(EngineError),
    /// The self-test failed.
    SelfTest(SelfTestError),
    /// The image has too little memory.
    Memory,
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Pass(difference) => difference.fmt(f),
            Self::Program(error) => error.fmt(f),
            Self::Engine(error) => error.fmt(f),
            Self::SelfTest(error) => error.fmt(f),
            Self::Memory => f.write_str("has too little memory"),
        }
    }
}

impl From<Difference> for Failure {
    fn from(difference: Difference) -> Self {
        Self::Pass(difference)
    }
}

impl From<SelfTestError> for Failure {
    fn from(error: SelfTestError) -> Self {
        Self::SelfTest(error)
    }
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        Self::Program(error)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// A digest in hexadecimal.
struct Hex([u8; 32]);

impl Display for Hex {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
