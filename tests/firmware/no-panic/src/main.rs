//! Everything that a firmware uses of the kernel, reachable from one entry point whose arguments the optimiser
//! cannot know. No allocator is defined, so anything that allocates does not link; the panic handler calls
//! `cipherlens_panic_is_reachable`, so any panic that the optimiser cannot rule out leaves that symbol behind.

#![no_std]
#![no_main]

mod parts;

use cipherlens_kernel::batch::{BatchCounts, BatchEngine, BatchProgram, BatchProgress};
use cipherlens_kernel::engine::{Counts, Engine, EngineError, Progress};
use cipherlens_kernel::keys::{KeyError, KeyReader, KeySource, MappedKeys, RamKeys, ReadError, StreamedKeys};
use cipherlens_kernel::math::{Backend, Detected, Portable};
use cipherlens_kernel::parallel::Serial;
use cipherlens_kernel::params::{ParamError, ParamSet, named};
use cipherlens_kernel::program::{Program, ProgramError};
use cipherlens_kernel::selftest::{SelfTestError, selftest, selftest_with_fault};
use cipherlens_kernel::wire::{CiphertextView, WireError};
use core::fmt::{Display, Write};

/// Memory and numbers from outside the image.
#[repr(C)]
pub struct Call {
    program: &'static [u8],
    keys: &'static [u8],
    device: Device,
    directory: &'static mut [u8],
    checkpoint: &'static mut [u8],
    input: &'static [u8],
    primes: &'static [u32],
    arena: &'static mut [u8],
    cache: &'static mut [u8],
    key_words: &'static mut [u32],
    output: &'static mut [u8],
    text: Text,
    report: Report,
    ram_keys: bool,
    streamed_keys: bool,
    batch: bool,
    portable: bool,
    index: usize,
    split: usize,
    number: u32,
    parts: parts::Parts,
}

/// Storage behind a driver that the optimiser does not see.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Device {
    read: fn(u64, &mut [u8]) -> Result<(), ReadError>,
}

impl KeyReader for Device {
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), ReadError> {
        (self.read)(offset, out)
    }
}

/// What the image found; written to memory outside, so that nothing is dead code.
#[repr(C)]
pub struct Report {
    counts: Counts,
    batch: BatchCounts,
    digest: [u8; 32],
    fingerprint: [u8; 16],
    key_id: [u8; 16],
    bytes: usize,
    steps: usize,
    layers: usize,
    arena_bytes: usize,
    cache_bytes: usize,
    accesses: usize,
    log_modulus: f64,
}

/// A line of text in a fixed buffer.
#[repr(C)]
pub struct Text {
    bytes: [u8; 256],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(s.as_bytes()) {
            *to = *from;
            self.len = self.len.wrapping_add(1);
        }
        Ok(())
    }
}

/// Why a run ended.
enum Failure {
    Param(ParamError),
    Wire(WireError),
    Program(ProgramError),
    Key(KeyError),
    Engine(EngineError),
    SelfTest(SelfTestError),
}

impl From<ParamError> for Failure {
    fn from(error: ParamError) -> Self {
        Self::Param(error)
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        Self::Program(error)
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<SelfTestError> for Failure {
    fn from(error: SelfTestError) -> Self {
        Self::SelfTest(error)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Param(error) => error.fmt(f),
            Self::Wire(error) => error.fmt(f),
            Self::Program(error) => error.fmt(f),
            Self::Key(error) => error.fmt(f),
            Self::Engine(error) => error.fmt(f),
            Self::SelfTest(error) => error.fmt(f),
        }
    }
}

/// The image's entry: 0, or 1 with an error message in `call.text`.
#[unsafe(no_mangle)]
pub extern "C" fn _start(call: &'static mut Call) -> u32 {
    #[cfg(feature = "deliberate-panic")]
    {
        call.number = call.primes[call.index];
    }
    call.parts.call();
    let Call { program, keys, input, primes, arena, cache, key_words, output, text, report, .. } = call;
    let (device, directory, checkpoint) = (call.device, &mut *call.directory, &mut *call.checkpoint);
    let outcome = if call.batch {
        batch(program, keys, input, arena, output, call.index, report)
    } else {
        params(primes, call.split, call.number, report).and_then(|set| {
            selftest(Detected::new(), arena)?;
            selftest_with_fault(Portable, arena, call.index)?;
            let program = Program::verify(program)?;
            report.accesses = program.key_accesses().fold(0, |sum, a| sum ^ a.prime ^ a.instruction);
            let view = CiphertextView::new_checked(input)?;
            report.bytes = view.header.file_bytes();
            let set = if call.index == 0 { &set } else { program.set() };
            if call.streamed_keys {
                report.bytes = StreamedKeys::directory_bytes(&device)? ^ StreamedKeys::directory_bytes(keys)?;
                let keys = StreamedKeys::open(device, directory)?;
                report.key_id = keys.directory().key_id();
                infer(program, keys, call.portable, arena, cache, input, output, checkpoint, call.index, report)
            } else if call.ram_keys {
                let keys = RamKeys::expand(keys, set, key_words)?;
                infer(program, keys, call.portable, arena, cache, input, output, checkpoint, call.index, report)
            } else {
                let keys = MappedKeys::verify(keys)?;
                report.key_id = keys.bundle().key_id();
                infer(program, keys, call.portable, arena, cache, input, output, checkpoint, call.index, report)
            }
        })
    };
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            let _ = write!(text, "{failure}");
            1
        }
    }
}

/// A parameter set from numbers that are not known when the image is built.
#[inline(never)]
fn params(primes: &[u32], split: usize, number: u32, report: &mut Report) -> Result<ParamSet, Failure> {
    let (q, p) = primes.split_at_checked(split).ok_or(ParamError::Truncated)?;
    let set = match named::by_name(core::str::from_utf8(&number.to_le_bytes()).unwrap_or("n12")) {
        Some(set) => set,
        None => ParamSet::checked("outside", number, q, p, split)?,
    };
    report.fingerprint = set.fingerprint();
    report.log_modulus = set.log_modulus(split, true);
    Ok(set)
}

#[inline(never)]
#[allow(clippy::too_many_arguments)]
fn infer<K: KeySource + Sync>(
    program: Program<'static>,
    keys: K,
    portable: bool,
    arena: &'static mut [u8],
    cache: &'static mut [u8],
    input: &[u8],
    output: &mut [u8],
    checkpoint: &mut [u8],
    index: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    if portable {
        drive(Engine::with_backend(program, keys, arena, Portable)?, cache, input, output, checkpoint, index, report)
    } else {
        drive(
            Engine::with_backend(program, keys, arena, Detected::new())?,
            cache,
            input,
            output,
            checkpoint,
            index,
            report,
        )
    }
}

#[inline(never)]
#[allow(clippy::too_many_arguments)]
fn drive<K: KeySource + Sync, B: Backend>(
    mut engine: Engine<'static, 'static, K, B>,
    cache: &'static mut [u8],
    input: &[u8],
    output: &mut [u8],
    checkpoint: &mut [u8],
    index: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    report.arena_bytes = engine.program().arena_bytes();
    report.cache_bytes = engine.program().cache_bytes();
    if !cache.is_empty() {
        engine.set_cache(cache)?;
    }
    engine.prepare()?;
    engine.set_input(input)?;
    loop {
        match engine.step()? {
            Progress::Preparing { .. } => {}
            Progress::Running { layer, .. } => report.layers = report.layers.wrapping_add(layer.len()),
            Progress::Done => break,
        }
        report.steps = report.steps.wrapping_add(1);
    }
    report.counts = engine.counts();
    report.digest = engine.buffer_digest(index, report.steps)?;
    engine.reset();
    engine.set_input(input)?;
    engine.run()?;
    engine.reset();
    engine.set_input(input)?;
    engine.run_on(&Serial, |_| report.steps = report.steps.wrapping_add(1))?;
    report.bytes = engine.checkpoint_bytes()? ^ engine.program().checkpoint_bytes();
    let bytes = engine.checkpoint(checkpoint)?;
    engine.resume(checkpoint.get(..bytes).unwrap_or(input))?;
    engine.run()?;
    report.bytes = engine.output_bytes(index)?;
    report.bytes = engine.write_output(index, output)?;
    Ok(())
}

/// A batch from its first input to its last output, by single steps and in one go.
#[inline(never)]
fn batch(
    program: &'static [u8],
    keys: &'static [u8],
    input: &[u8],
    arena: &'static mut [u8],
    output: &mut [u8],
    index: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    let program = BatchProgram::verify(program)?;
    report.arena_bytes = program.arena_bytes(index);
    let mut engine = BatchEngine::new(program, MappedKeys::verify(keys)?, arena, Detected::new(), index)?;
    loop {
        match engine.step()? {
            BatchProgress::Inputs(wanted) => {
                engine.set_input(input)?;
                engine.set_inputs_on(&Serial, &[input, output])?;
                report.layers = report.layers.wrapping_add(wanted.len());
            }
            BatchProgress::Outputs(ready) => {
                report.bytes = engine.output_bytes(ready.start)?;
                report.bytes ^= engine.write_output(ready.start, output)?;
            }
            BatchProgress::Running { layer, .. } => report.layers = report.layers.wrapping_add(layer.len()),
            BatchProgress::Done => break,
        }
        report.steps = report.steps.wrapping_add(usize::from(engine.wants().is_some()));
    }
    report.batch = engine.counts();
    engine.reset();
    engine.run_on(&Serial, |_| report.steps = report.steps.wrapping_add(1))?;
    if let Some(position) = engine.position() {
        report.layers = report.layers.wrapping_add(engine.rows(index, report.steps)?.len());
        if let Some(word) = engine.rows_mut(index, report.steps)?.first_mut() {
            *word = report.steps as u32;
        }
        engine.resume(position ^ index)?;
    }
    engine.run_on(&Serial, |_| ())?;
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
    loop {
        core::hint::spin_loop();
    }
}
