//! Steps to the end, and what firmware does between them: it feeds the watchdog, and saves its state when power fails.

use crate::failure::Failure;
use crate::job::{Fault, Job};
use crate::log::halves;
use crate::machine::{File, instructions, watchdog};
use cipherlens_kernel::engine::{Engine, EngineError, Progress};
use cipherlens_kernel::keys::KeySource;

/// What the steps took.
#[derive(Default)]
pub struct Figures {
    pub steps: u32,
    /// Instructions of all steps.
    pub run: u64,
    /// Instructions of the longest step, which the watchdog's period has to cover.
    pub longest: u64,
}

/// Runs to the end. `memory` takes the checkpoint if the job cuts the power.
pub fn run<K: KeySource>(engine: &mut Engine<'_, '_, K>, job: &Job, memory: &mut [u8]) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    // A resumed engine tells with its first step where it is.
    let mut current = job.checkpoint.is_empty().then_some(0);
    watchdog::start(job.period);
    loop {
        let from = instructions();
        let progress = engine.step()?;
        let step = instructions().wrapping_sub(from);
        watchdog::feed();
        figures.steps = figures.steps.wrapping_add(1);
        figures.longest = step.max(figures.longest);
        figures.run = figures.run.wrapping_add(step);
        if matches!(job.fault, Fault::Hang(at) if at == figures.steps) {
            loop {
                core::hint::black_box(());
            }
        }
        log_digest(engine, progress, &mut current)?;
        if figures.steps == job.power.steps {
            watchdog::stop();
            return Err(save(engine, job.power.written, memory));
        }
        if progress == Progress::Done {
            watchdog::stop();
            return Ok(figures);
        }
        watchdog::feed();
    }
}

/// Logs the digest of what an instruction has computed, once the engine is at the next.
fn log_digest<K: KeySource>(
    engine: &Engine<'_, '_, K>,
    progress: Progress<'_>,
    current: &mut Option<usize>,
) -> Result<(), EngineError> {
    let next = match progress {
        Progress::Preparing { .. } => return Ok(()),
        Progress::Running { instruction, .. } => instruction,
        Progress::Done => engine.program().instructions(),
    };
    // The step that fetches an instruction changes no buffer.
    if let Some(done) = current.replace(next).filter(|done| *done != next)
        && let Some(instruction) = engine.program().instruction(done)
    {
        let limbs = instruction.limbs.wrapping_sub(instruction.rescale.into());
        let [high, low] = halves(engine.buffer_digest(instruction.dst, limbs)?);
        defmt::info!("instruction {=usize} {=u128:032x}{=u128:032x}", done, high, low);
    }
    Ok(())
}

/// Writes a checkpoint to the host's file, which stands for a flash, until the power is gone. It is one piece of work,
/// longer than a step: its digest is over all rows.
fn save<K: KeySource>(engine: &Engine<'_, '_, K>, written: usize, memory: &mut [u8]) -> Failure {
    let checkpoint = match engine.checkpoint(memory) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return error.into(),
    };
    let bytes = memory.get(..checkpoint.min(written)).unwrap_or(&[]);
    match File::create(c"checkpoint").and_then(|file| file.write(bytes)) {
        Some(()) => Failure::Power { checkpoint },
        None => Failure::Host,
    }
}
