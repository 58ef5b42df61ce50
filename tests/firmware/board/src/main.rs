//! Verifies a program and its keys where they lie, runs it on one encrypted input and logs digests and figures. The
//! exit status says how it went: 0 or [`Failure::status`].

#![no_std]
#![no_main]

mod job;
mod log;
mod machine;

use cipherlens_kernel::engine::{Engine, EngineError, Progress};
use cipherlens_kernel::keys::MappedKeys;
use cipherlens_kernel::program::{Program, ProgramError};
use cipherlens_kernel::wire::WireError;
use job::Job;
use machine::{Memory, instructions};
use sha2::{Digest, Sha256};

/// Why there is no output.
#[derive(Clone, Copy, defmt::Format)]
enum Failure {
    /// Nothing valid was loaded.
    Job,
    Program(ProgramError),
    Keys(WireError),
    Input(EngineError),
    Engine(EngineError),
    /// The stack has been full once.
    Stack,
}

impl Failure {
    fn status(self) -> u8 {
        match self {
            Self::Job => 1,
            Self::Program(_) => 2,
            Self::Keys(_) => 3,
            Self::Engine(EngineError::ArenaTooSmall { .. }) => 4,
            Self::Input(_) => 5,
            Self::Engine(_) => 6,
            Self::Stack => 7,
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// Runs once, on a fresh stack. The result is the exit status.
fn main(memory: Memory) -> u8 {
    match run(memory) {
        Ok(()) => 0,
        Err(failure) => {
            defmt::error!("{}", failure);
            failure.status()
        }
    }
}

fn run(memory: Memory) -> Result<(), Failure> {
    let job = Job::read(memory.job).ok_or(Failure::Job)?;
    let start = instructions();
    let program = Program::verify(job.program).map_err(Failure::Program)?;
    let keys = MappedKeys::verify(job.keys).map_err(Failure::Keys)?;
    let mut engine = Engine::new(program, keys, memory.arena)?;
    engine.set_input(job.input).map_err(Failure::Input)?;
    let verified = instructions().wrapping_sub(start);

    let (mut steps, mut longest, mut total) = (0u32, 0, 0u64);
    let mut current = 0;
    loop {
        let from = instructions();
        let progress = engine.step()?;
        let step = instructions().wrapping_sub(from);
        // Where firmware feeds its watchdog, whose period has to cover the longest step.
        steps = steps.wrapping_add(1);
        longest = step.max(longest);
        total = total.wrapping_add(step);
        let next = match progress {
            Progress::Preparing { .. } => continue,
            Progress::Running { instruction, .. } => instruction,
            Progress::Done => program.instructions(),
        };
        // The step that fetches an instruction changes no buffer.
        if let Some(done) = program.instruction(current).filter(|_| next != current) {
            let limbs = done.limbs.wrapping_sub(done.rescale.into());
            let [high, low] = halves(engine.buffer_digest(done.dst, limbs)?);
            defmt::info!("instruction {=usize} {=u128:032x}{=u128:032x}", current, high, low);
            current = next;
        }
        if progress == Progress::Done {
            break;
        }
    }
    let written = engine.write_output(0, memory.output)?;
    let [high, low] = halves(Sha256::digest(memory.output.get(..written).unwrap_or(&[])).into());
    defmt::info!("output {=u128:032x}{=u128:032x}", high, low);
    defmt::info!("arena {=usize}", program.arena_bytes());
    defmt::info!("verify {=u64}", verified);
    defmt::info!("run {=u64}", total);
    defmt::info!("steps {=u32}", steps);
    defmt::info!("longest {=u64}", longest);
    let stack = machine::used_stack().ok_or(Failure::Stack)?;
    defmt::info!("stack {=usize}", stack);
    Ok(())
}

/// A digest as two numbers, which defmt can format.
fn halves(digest: [u8; 32]) -> [u128; 2] {
    let (halves, _) = digest.as_chunks::<16>();
    [0, 1].map(|i| halves.get(i).map_or(0, |half| u128::from_be_bytes(*half)))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    cipherlens_panic_is_reachable()
}

/// The mark that a reachable panic leaves in the image.
#[inline(never)]
#[cold]
fn cipherlens_panic_is_reachable() -> ! {
    machine::exit(101)
}
