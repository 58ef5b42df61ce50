//! Tests the processor, verifies a program and its keys where they lie, runs it on one encrypted input and logs digests
//! and figures. The exit status says how it went: 0, [`Failure::status`], or one of `machine.rs`.

#![no_std]
#![no_main]

/// What the compiler says that the program takes.
mod contract {
    include!(concat!(env!("OUT_DIR"), "/contract.rs"));
}
mod failure;
mod inference;
mod job;
mod keys;
mod log;
mod machine;

use cipherlens_kernel::engine::Engine;
use cipherlens_kernel::keys::{KeyError, MappedKeys, StoredKeys, StreamedKeys};
use cipherlens_kernel::math::Detected;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::selftest::selftest_with_fault;
use failure::Failure;
use job::{Fault, Job};
use keys::Storage;
use log::halves;
use machine::{Memory, instructions};
use sha2::{Digest, Sha256};

/// Bytes of stack, as in `boards/sections.x`, which gives the arena its bytes and checks that all else fits the board.
const STACK: usize = 32 << 10;
const _: () = assert!(STACK >= contract::target::STACK_BYTES, "the stack is too small for this target");

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
    let Memory { arena, directory, job, output } = memory;
    let job = Job::read(job).ok_or(Failure::Job)?;
    if matches!(job.fault, Fault::Recursion) {
        machine::overflow_stack(0);
    }
    let start = instructions();
    let inverted = if let Fault::SelfTest(number) = job.fault { number } else { 0 };
    selftest_with_fault(Detected::new(), arena, inverted).map_err(Failure::SelfTest)?;
    let tested = instructions();
    let program = Program::verify(job.program).map_err(Failure::Program)?;
    let storage = if job.keys.is_none() { Some(Storage::open(job.fault)?) } else { None };
    let keys = match &storage {
        Some(storage) => StoredKeys::Streamed(StreamedKeys::open(storage, directory)?),
        None => StoredKeys::Mapped(MappedKeys::verify(job.keys.unwrap_or(&[])).map_err(KeyError::from)?),
    };
    let mut engine = Engine::new(program, keys, arena)?;
    if (program.arena_bytes(), program.fingerprint()) != (contract::ARENA_BYTES, contract::PROGRAM_FINGERPRINT) {
        return Err(Failure::Contract);
    }
    if job.checkpoint.is_empty() {
        engine.set_input(job.input).map_err(Failure::Input)?;
    } else {
        engine.resume(job.checkpoint).map_err(Failure::Checkpoint)?;
    }
    let verified = instructions();
    let figures = inference::run(&mut engine, &job, output)?;
    let written = engine.write_output(0, output)?;

    let [high, low] = halves(Sha256::digest(output.get(..written).unwrap_or(&[])).into());
    defmt::info!("output {=u128:032x}{=u128:032x}", high, low);
    defmt::info!("arena {=usize}", program.arena_bytes());
    defmt::info!("selftest {=u64}", tested.wrapping_sub(start));
    defmt::info!("verify {=u64}", verified.wrapping_sub(tested));
    defmt::info!("run {=u64}", figures.run);
    defmt::info!("steps {=u32}", figures.steps);
    defmt::info!("longest {=u64}", figures.longest);
    if let Some(storage) = &storage {
        defmt::info!("directory {=usize}", program.key_directory_bytes());
        storage.log();
    }
    let stack = machine::used_stack().ok_or(Failure::Stack)?;
    defmt::info!("stack {=usize}", stack);
    Ok(())
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
