//! The engine on every tile, in the memory that the arguments allow.

use super::super::context::Context;
use super::super::demo::since;
use super::super::files;
use super::super::report::RunReport;
use super::Arguments;
use anyhow::{Context as _, Result};
use cipherlens::evaluate::{cache_within, peak_rss_bytes};
use cipherlens::keys::KeyFile;
use cipherlens::pool::Pool;
use cipherlens_kernel::engine::{Engine, EngineError, Progress};
use cipherlens_kernel::keys::{KeyError, KeySource, MappedKeys, RamKeys, StreamedKeys};
use cipherlens_kernel::math::Detected;
use cipherlens_kernel::parallel::Parallel;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::{KeyBundle, WireError};
use memmap2::Mmap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A file in memory, or mapped.
pub enum Bytes {
    Read(Vec<u8>),
    Mapped(Mmap),
}

impl Bytes {
    /// Reads or maps the file.
    pub fn open(path: &Path, mapped: bool) -> Result<Self> {
        if !mapped {
            return Ok(Self::Read(files::read(path)?));
        }
        let file = std::fs::File::open(path).map_err(|error| files::unreadable(path, &error))?;
        // SAFETY: the map is read-only and private to this process. As with every mapped file, others must not
        // cut it meanwhile, which would end the process; bytes that change after the digests were checked give
        // a wrong ciphertext, never an access outside the map.
        let map = unsafe { Mmap::map(&file) };
        Ok(Self::Mapped(map.map_err(|error| files::unreadable(path, &error))?))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

/// A ciphertext of an input.
pub enum Part {
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// One input tensor: all its ciphertexts.
pub type Tile = Vec<Part>;

/// What to do with the output files of a tile.
pub type Sink<'a> = &'a mut dyn FnMut(usize, Vec<Vec<u8>>) -> Result<()>;

/// Evaluates every tile with keys that are prepared once, in the memory that the arguments allow.
pub fn evaluate(
    arguments: &Arguments,
    program: Program<'_>,
    tiles: &[Tile],
    report: &mut RunReport,
    context: &Context,
    sink: Sink<'_>,
) -> Result<()> {
    let start = Instant::now();
    let spinner = context.spinner("keys");
    let keys_of = |error: EngineError| anyhow::Error::new(error).context(arguments.keys.display().to_string());
    let key_of = |error: KeyError| keys_of(error.into());
    let pool = Pool::new(context.evaluation_threads())?;
    let work = Work { tiles, context, pool: &pool, start };
    let workers = pool.workers();
    let mut arena = vec![0u32; program.arena_bytes_for(workers) / 4];
    let arena = bytemuck::cast_slice_mut(&mut arena);
    let mut cache = Vec::new();
    // Keys in storage may fail while the program runs.
    let named = |error: anyhow::Error| match error.downcast_ref() {
        Some(EngineError::Key(_)) => error.context(arguments.keys.display().to_string()),
        _ => error,
    };
    let cache_for = |keys: usize, expanded: usize, report: &mut RunReport| {
        let held = report.program_bytes + keys + expanded;
        let wanted = !arguments.no_cache && !arguments.mapped;
        report.cache_bytes = if wanted { cache_within(arguments.memory, &program, workers, held) } else { 0 };
        report.cache_bytes / 4
    };
    if arguments.stream_keys {
        let file = KeyFile::open(&arguments.keys).map_err(|error| files::unreadable(&arguments.keys, &error))?;
        report.key_bytes = file.bytes() as usize;
        let mut directory = vec![0; StreamedKeys::directory_bytes(&file).map_err(key_of)?];
        let keys = StreamedKeys::open(&file, &mut directory).map_err(key_of)?;
        let (need, have) = (keys.directory().file_bytes(), file.bytes());
        if need < have {
            return Err(key_of(WireError::Trailing { need, have }.into()));
        }
        spinner.finish_and_clear();
        cache.resize(cache_for(0, 0, report), 0);
        let engine = Engine::with_workers(program, keys, arena, Detected::new(), workers).map_err(keys_of)?;
        return work.each(engine, &mut cache, report, sink).map_err(named);
    }
    let key_file = Bytes::open(&arguments.keys, arguments.mapped)?;
    report.key_bytes = key_file.len();
    let bundle = KeyBundle::new_checked(&key_file).map_err(|error| key_of(error.into()))?;
    if bundle.set() != program.set().fingerprint() {
        return Err(keys_of(EngineError::KeySet));
    }
    if arguments.mapped {
        let keys = MappedKeys::verify(&key_file).map_err(|error| key_of(error.into()))?;
        spinner.finish_and_clear();
        let engine = Engine::with_workers(program, keys, arena, Detected::new(), workers).map_err(keys_of)?;
        return work.each(engine, &mut cache, report, sink);
    }
    let mut words = vec![0u32; RamKeys::words(&bundle)];
    report.expanded_key_bytes = words.len() * 4;
    let keys = RamKeys::expand(&key_file, program.set(), &mut words).map_err(key_of)?;
    spinner.finish_and_clear();
    cache.resize(cache_for(key_file.len(), report.expanded_key_bytes, report), 0);
    let engine = Engine::with_workers(program, keys, arena, Detected::new(), workers).map_err(keys_of)?;
    work.each(engine, &mut cache, report, sink)
}

/// What every evaluation needs.
struct Work<'a> {
    tiles: &'a [Tile],
    context: &'a Context,
    pool: &'a Pool,
    /// When preparation began.
    start: Instant,
}

impl Work<'_> {
    /// Prepares the engine and runs it on every tile, with a progress bar.
    fn each<'m, K: KeySource + Sync>(
        &self,
        mut engine: Engine<'_, 'm, K>,
        cache: &'m mut [u32],
        report: &mut RunReport,
        sink: Sink<'_>,
    ) -> Result<()> {
        let tiles = self.tiles;
        if !cache.is_empty() {
            engine.set_cache(bytemuck::cast_slice_mut(cache))?;
        }
        engine.prepare()?;
        report.prepare_ms = since(self.start);
        let instructions = engine.program().instructions();
        let bar = self.context.bar("evaluate", instructions * tiles.len());
        let mut total = 0.0;
        for (number, tile) in tiles.iter().enumerate() {
            engine.reset();
            let start = Instant::now();
            for part in tile {
                match part {
                    Part::Bytes(bytes) => engine.set_input(bytes)?,
                    Part::File(path) => {
                        engine.set_input(&files::read(path)?).with_context(|| path.display().to_string())?;
                    }
                }
            }
            engine.run_on(self.pool, |progress| {
                if let Progress::Running { layer, instruction, .. } = progress {
                    let position = (number * instructions + instruction) as u64;
                    if bar.position() != position || position == 0 {
                        let tile = if tiles.len() > 1 { format!("tile {}, ", number + 1) } else { String::new() };
                        bar.set_message(format!("{tile}{layer}"));
                        bar.set_position(position);
                    }
                }
            })?;
            let outputs = (0..engine.program().outputs())
                .map(|i| {
                    let mut bytes = vec![0; engine.output_bytes(i)?];
                    engine.write_output(i, &mut bytes)?;
                    Ok(bytes)
                })
                .collect::<Result<Vec<_>>>()?;
            total += since(start);
            report.output_bytes += outputs.iter().map(Vec::len).sum::<usize>();
            sink(number, outputs)?;
        }
        bar.finish_and_clear();
        report.infer_ms = total / tiles.len().max(1) as f64;
        report.tiles = (tiles.len() > 1).then_some(tiles.len());
        report.count(engine.counts(), engine.backend());
        report.peak_rss_bytes = peak_rss_bytes();
        Ok(())
    }
}
