//! `run` of a batch program: a folder of parts to a folder of results.

use super::{loads, make_folder, part, program, split, stores};
use crate::cli::context::Context;
use crate::cli::demo::since;
use crate::cli::error::{Code, Failure};
use crate::cli::files;
use crate::cli::units::{bytes, duration, pairs, threads};
use anyhow::{Context as _, Result};
use cipherlens::batch::{BatchState, memory};
use cipherlens::evaluate::peak_rss_bytes;
use cipherlens::pool::Pool;
use cipherlens_kernel::batch::{BatchCounts, BatchEngine, BatchProgress};
use cipherlens_kernel::engine::EngineError;
use cipherlens_kernel::keys::{KeyError, KeySource, RamKeys};
use cipherlens_kernel::math::Detected;
use cipherlens_kernel::wire::KeyBundle;
use memmap2::MmapMut;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What `run` was asked for.
pub struct Request<'a> {
    /// The program.
    pub program: &'a Path,
    /// Evaluation keys.
    pub keys: &'a Path,
    /// Folder of input parts.
    pub input: &'a Path,
    /// Folder for results.
    pub output: &'a Path,
    /// Where the state is kept.
    pub resume: Option<&'a Path>,
    /// File to hold the ciphertexts in place of memory.
    pub store: Option<&'a Path>,
}

#[derive(Serialize)]
struct Report {
    slots: usize,
    threads: usize,
    backend: String,
    instructions: usize,
    products: u64,
    multiplications: u64,
    key_switches: u64,
    resumed_at: usize,
    read_ms: f64,
    load_ms: f64,
    evaluate_ms: f64,
    /// None of a batch that was done in parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    images_per_second: Option<f64>,
    arena_bytes: usize,
    key_bytes: usize,
    input_bytes: usize,
    output_bytes: usize,
    peak_rss_bytes: Option<usize>,
}

/// How often the state is kept.
const INTERVAL: Duration = Duration::from_secs(30);

/// Memory for ciphertexts: of this process, or a file's.
struct Arena(MmapMut);

impl Arena {
    fn new(store: Option<&Path>, len: usize) -> Result<Self> {
        let Some(path) = store else { return Ok(Self(memory(len)?)) };
        let failed = |error: std::io::Error| {
            Failure::new(Code::CannotWrite, format!("cannot hold {} in {}: {error}", bytes(len), path.display()))
                .hint("name a file on a disk with room for the arena")
        };
        let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.map_err(failed)?;
        // All of it is written first: a full disk is an error now, not a fault in the middle of the work.
        let zeros = vec![0u8; 1 << 20];
        let mut left = len;
        while left > 0 {
            let now = left.min(zeros.len());
            std::io::Write::write_all(&mut &file, &zeros[..now]).map_err(failed)?;
            left -= now;
        }
        // SAFETY: the file was made for this, and others that write to it damage ciphertexts, nothing worse; cutting
        // it ends the process.
        let map = unsafe { MmapMut::map_mut(&file) };
        Ok(Self(map.map_err(failed)?))
    }
}

/// Evaluates the batch.
pub fn run(request: &Request<'_>, blob: &[u8], context: &Context) -> Result<()> {
    let program = program(request.program, blob)?;
    let key_file = files::read(request.keys)?;
    let keys_of = |error: EngineError| anyhow::Error::new(error).context(request.keys.display().to_string());
    let key_of = |error: KeyError| keys_of(error.into());
    let bundle = KeyBundle::new_checked(&key_file).map_err(|error| key_of(error.into()))?;
    if bundle.set() != program.set().fingerprint() {
        return Err(keys_of(EngineError::KeySet));
    }
    let mut words = vec![0u32; RamKeys::words(&bundle)];
    let keys = RamKeys::expand(&key_file, program.set(), &mut words).map_err(key_of)?;
    let pool = Pool::new(context.evaluation_threads())?;
    let workers = cipherlens_kernel::parallel::Parallel::workers(&pool);
    let mut arena = Arena::new(request.store, program.arena_bytes(workers))?;
    let key_id = keys.key_id();
    let mut engine = BatchEngine::new(program, keys, &mut arena.0, Detected::new(), workers).map_err(keys_of)?;
    make_folder(request.output)?;
    let mut job = Job {
        request,
        context,
        pool: &pool,
        state: BatchState { key_id, batch: [0; 32] },
        kept: Instant::now(),
        begun: false,
        report: Report {
            slots: program.set().n(),
            threads: workers,
            backend: engine.backend().into(),
            instructions: program.instructions(),
            products: 0,
            multiplications: 0,
            key_switches: 0,
            resumed_at: 0,
            read_ms: 0.0,
            load_ms: 0.0,
            evaluate_ms: 0.0,
            images_per_second: None,
            arena_bytes: program.arena_bytes(workers),
            key_bytes: key_file.len(),
            input_bytes: 0,
            output_bytes: 0,
            peak_rss_bytes: None,
        },
    };
    let done = job.evaluate(&mut engine);
    if let Err(error) = done {
        // A state that was not taken up is not overwritten either.
        if let Some(path) = request.resume.filter(|_| job.begun) {
            job.keep(&engine)?;
            context.note(&format!("what is done is kept in {}; the same command goes on from there", path.display()));
        }
        return Err(error);
    }
    if let Some(path) = request.resume.filter(|path| path.exists()) {
        std::fs::remove_file(path).map_err(|e| Failure::new(Code::CannotWrite, format!("{}: {e}", path.display())))?;
    }
    if let Some(path) = request.store {
        // Nothing of it is needed any more.
        let _ = std::fs::remove_file(path);
    }
    let BatchCounts { products, multiplications, key_switches, .. } = engine.counts();
    let report = &mut job.report;
    (report.products, report.multiplications, report.key_switches) = (products, multiplications, key_switches);
    let seconds = (report.load_ms + report.evaluate_ms) / 1000.0;
    report.images_per_second = (report.resumed_at == 0).then_some(report.slots as f64 / seconds);
    report.peak_rss_bytes = peak_rss_bytes();
    context.summary(report, || {
        let throughput = match report.images_per_second {
            Some(rate) => format!("{rate:.0} images/s where all {} slots are used", report.slots),
            None => "not measured: the batch was done in parts".into(),
        };
        pairs(&[
            ("results", request.output.display().to_string()),
            (
                "time",
                format!(
                    "{} to evaluate and {} to take in {} of ciphertexts, on {}",
                    duration(report.evaluate_ms),
                    duration(report.load_ms),
                    bytes(report.input_bytes),
                    threads(report.threads)
                ),
            ),
            ("throughput", throughput),
            (
                "work",
                format!(
                    "{:.2e} products with weights, {} of ciphertexts, {} key switches ({})",
                    report.products as f64, report.multiplications, report.key_switches, report.backend
                ),
            ),
            (
                "memory",
                format!(
                    "arena {}{}",
                    bytes(report.arena_bytes),
                    report
                        .peak_rss_bytes
                        .map_or(String::new(), |b| format!(", {} at most, the whole process", bytes(b)))
                ),
            ),
        ])
    })
}

struct Job<'a> {
    request: &'a Request<'a>,
    context: &'a Context,
    pool: &'a Pool,
    state: BatchState,
    kept: Instant,
    /// Whether the state in the file, if any, is this batch's.
    begun: bool,
    report: Report,
}

impl Job<'_> {
    fn evaluate<K: KeySource + Sync>(&mut self, engine: &mut BatchEngine<'_, '_, K>) -> Result<()> {
        let program = *engine.program();
        let (inputs, outputs) = (loads(&program), stores(&program));
        // The first part names the batch: a state of another one is not taken up.
        if let Some(first) = inputs.first() {
            let bytes = self.read(first)?;
            self.state.batch = Sha256::digest(&bytes).into();
        }
        if let Some(path) = self.request.resume.filter(|path| path.exists()) {
            let bytes = files::read(path)?;
            let named = || path.display().to_string();
            self.state.restore(engine, &bytes).map_err(|error| match error {
                cipherlens::batch::StateError::Other(_) => {
                    let failure = Failure::new(Code::Mismatch, format!("{}: {error}", named()));
                    failure.hint("name another file with --resume, or move this one away").into()
                }
                cipherlens::batch::StateError::File(error) => anyhow::Error::new(error).context(named()),
                error => anyhow::Error::new(error).context(named()),
            })?;
            self.report.resumed_at = engine.position().unwrap_or(0);
            self.context.note(&format!(
                "goes on at instruction {} of {}",
                self.report.resumed_at,
                program.instructions()
            ));
        }
        self.begun = true;
        let bar = self.context.bar("evaluate", program.instructions());
        loop {
            let start = Instant::now();
            let progress = engine.run_on(self.pool, |progress| {
                if let BatchProgress::Running { layer, instruction, .. } = progress {
                    bar.set_message(layer.to_string());
                    bar.set_position(instruction as u64);
                }
            })?;
            self.report.evaluate_ms += since(start);
            match progress {
                BatchProgress::Inputs(range) => {
                    if self.kept.elapsed() >= INTERVAL {
                        self.keep(engine)?;
                    }
                    let whole = inputs.iter().find(|r| r.end == range.end).cloned().unwrap_or(range);
                    let start = Instant::now();
                    let bytes = self.read(&whole)?;
                    let path = self.input(&whole);
                    let files = split(&path, &bytes, whole.len())?;
                    self.report.read_ms += since(start);
                    self.report.input_bytes += bytes.len();
                    let start = Instant::now();
                    engine.set_inputs_on(self.pool, &files).with_context(|| path.display().to_string())?;
                    self.report.load_ms += since(start);
                }
                BatchProgress::Outputs(range) => {
                    let whole = outputs.iter().find(|r| r.end == range.end).cloned().unwrap_or(range);
                    let mut bytes = Vec::new();
                    for index in whole.clone() {
                        let at = bytes.len();
                        bytes.resize(at + engine.output_bytes(index)?, 0);
                        engine.write_output(index, &mut bytes[at..])?;
                    }
                    self.report.output_bytes += bytes.len();
                    self.context.write(&part(self.request.output, "result", whole.start), &bytes, false)?;
                }
                BatchProgress::Running { .. } => {}
                BatchProgress::Done => break,
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn input(&self, range: &Range<usize>) -> PathBuf {
        part(self.request.input, "input", range.start)
    }

    fn read(&self, range: &Range<usize>) -> Result<Vec<u8>> {
        files::read(&self.input(range))
    }

    /// Keeps the state in its file.
    fn keep<K: KeySource>(&mut self, engine: &BatchEngine<'_, '_, K>) -> Result<()> {
        if let Some(path) = self.request.resume
            && let Some(bytes) = self.state.save(engine)?
        {
            self.context.write(path, &bytes, false)?;
            self.kept = Instant::now();
        }
        Ok(())
    }
}
