//! Running the kernel on this machine: the memory that an [`Engine`] borrows, and what a run costs.

use crate::files::hex;
use cipherlens_kernel::engine::{Engine, EngineError};
use cipherlens_kernel::keys::{KeyError, KeySource, RamKeys};
use cipherlens_kernel::math::Detected;
use cipherlens_kernel::parallel::Parallel;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::KeyBundle;
use std::time::Instant;

/// Memory for one engine with everything prepared: arena, plaintext cache, expanded keys.
#[derive(Default)]
pub struct Memory {
    arena: Vec<u32>,
    cache: Vec<u32>,
    keys: Vec<u32>,
}

impl Memory {
    /// Bytes of arena.
    pub fn arena_bytes(&self) -> usize {
        self.arena.len() * 4
    }

    /// Bytes of plaintext cache and expanded keys.
    pub fn cache_bytes(&self) -> usize {
        (self.cache.len() + self.keys.len()) * 4
    }

    /// An engine for `workers` threads with all keys expanded, tables built and plaintexts in the Ntt form.
    ///
    /// # Errors
    /// Keys that are damaged or not for this program.
    pub fn engine<'p>(
        &'p mut self,
        program: Program<'p>,
        keys: &'p [u8],
        workers: usize,
    ) -> Result<Engine<'p, 'p, RamKeys<'p>>, EngineError> {
        self.engine_with(program, keys, workers, program.cache_bytes())
    }

    /// As [`engine`](Self::engine), with the first plaintexts alone that `cache` bytes hold; the others are expanded on
    /// every use.
    ///
    /// # Errors
    /// Keys that are damaged or not for this program.
    pub fn engine_with<'p>(
        &'p mut self,
        program: Program<'p>,
        keys: &'p [u8],
        workers: usize,
        cache: usize,
    ) -> Result<Engine<'p, 'p, RamKeys<'p>>, EngineError> {
        let bundle = KeyBundle::new_checked(keys).map_err(KeyError::from)?;
        if bundle.set() != program.set().fingerprint() {
            return Err(EngineError::KeySet);
        }
        self.arena = vec![0; program.arena_bytes_for(workers) / 4];
        self.cache = vec![0; program.cache_bytes_within(cache) / 4];
        self.keys = vec![0; RamKeys::words(&bundle)];
        let keys = RamKeys::expand(keys, program.set(), &mut self.keys)?;
        let mut engine =
            Engine::with_workers(program, keys, bytemuck::cast_slice_mut(&mut self.arena), Detected::new(), workers)?;
        if !self.cache.is_empty() {
            engine.set_cache(bytemuck::cast_slice_mut(&mut self.cache))?;
        }
        engine.prepare()?;
        Ok(engine)
    }
}

/// Bytes of the plaintext cache for an evaluation within `most` bytes in all, beside the arena and what else it holds:
/// the program file, keys and their file.
pub fn cache_within(most: usize, program: &Program<'_>, workers: usize, held: usize) -> usize {
    program.cache_bytes_within(most.saturating_sub(held + program.arena_bytes_for(workers)))
}

/// Runs one inference and returns the output files and the milliseconds of evaluation.
///
/// # Errors
/// As [`Engine::set_input`] and [`Engine::run_on`].
pub fn infer<K: KeySource + Sync>(
    engine: &mut Engine<'_, '_, K>,
    inputs: &[Vec<u8>],
    pool: &impl Parallel,
) -> Result<(Vec<Vec<u8>>, f64), EngineError> {
    engine.reset();
    let start = Instant::now();
    for input in inputs {
        engine.set_input(input)?;
    }
    engine.run_on(pool, |_| ())?;
    let outputs = (0..engine.program().outputs())
        .map(|i| {
            let mut bytes = vec![0; engine.output_bytes(i)?];
            engine.write_output(i, &mut bytes)?;
            Ok(bytes)
        })
        .collect::<Result<_, EngineError>>()?;
    Ok((outputs, start.elapsed().as_secs_f64() * 1000.0))
}

/// Most memory that this process has held so far, where the system tells.
pub fn peak_rss_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let (_, value) = status.lines().find_map(|line| line.split_once("VmHWM:"))?;
    let kib: usize = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The fingerprint that reports show.
pub fn fingerprint(program: &Program<'_>) -> String {
    hex(&program.fingerprint())
}
