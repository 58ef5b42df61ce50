//! `run`: the evaluator's part. It holds no key that decrypts.

use super::batch;
use super::context::Context;
use super::demo::since;
use super::files;
use super::report::RunReport;
use super::units::pairs;
use anyhow::{Context as _, Result};
use cipherlens::evaluate::peak_rss_bytes;
use cipherlens::keys::KeyFile;
use cipherlens::meta::Meta;
use cipherlens::pool::Pool;
use cipherlens_kernel::engine::{Engine, EngineError, Progress};
use cipherlens_kernel::keys::{KeyError, KeySource, MappedKeys, RamKeys, StreamedKeys};
use cipherlens_kernel::math::Detected;
use cipherlens_kernel::parallel::Parallel;
use cipherlens_kernel::wire::{KeyBundle, WireError};
use clap::Args;
use memmap2::Mmap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The program
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// Its evaluation keys
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// The encrypted input, all its ciphertexts; of a batch the folder that `encrypt --batch` wrote
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// Encrypted result to write (.clx); several get numbers before the extension; of a batch a folder
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Expand weights on every use instead of keeping them expanded: less memory, slower
    #[arg(long, conflicts_with = "mapped")]
    no_cache: bool,
    /// Read program and keys from the mapped files, expanding seeds and weights on every use: least memory, slowest
    #[arg(long)]
    mapped: bool,
    /// Of a batch: keep what is done in FILE, and go on from there when the same command runs again
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Of a batch: hold ciphertexts in FILE in place of memory
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Leave keys in their file and read each block when it is used, checking its digest: memory for no key at all
    #[arg(long)]
    stream_keys: bool,
}

/// A file in memory, or mapped.
enum Bytes {
    Read(Vec<u8>),
    Mapped(Mmap),
}

impl Bytes {
    fn open(path: &Path, mapped: bool) -> Result<Self> {
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

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let blob = Bytes::open(&arguments.program, arguments.mapped)?;
    if batch::is_batch(&blob) {
        let Arguments { program, keys, input, output, resume, store, .. } = arguments;
        let request = batch::run::Request {
            program,
            keys,
            input: input.first().map_or(Path::new(""), |input| input),
            output,
            resume: resume.as_deref(),
            store: store.as_deref(),
        };
        return batch::run::run(&request, &blob, context);
    }
    let program = files::program(&arguments.program, &blob)?;
    let inputs = arguments.input.iter().map(|path| Ok((path, files::read(path)?))).collect::<Result<Vec<_>>>()?;
    let model = serde_json::from_slice::<Meta>(program.meta()).map_or(String::new(), |meta| meta.model);
    let mut report = RunReport::new(&model, &program, blob.len(), context.evaluation_threads());
    report.input_bytes = inputs.iter().map(|(_, bytes)| bytes.len()).sum();

    let start = Instant::now();
    let spinner = context.spinner("keys");
    let keys_of = |error: EngineError| anyhow::Error::new(error).context(arguments.keys.display().to_string());
    let key_of = |error: KeyError| keys_of(error.into());
    let pool = Pool::new(context.evaluation_threads())?;
    let workers = pool.workers();
    let mut arena = vec![0u32; program.arena_bytes_for(workers) / 4];
    let arena = bytemuck::cast_slice_mut(&mut arena);
    let cached = !arguments.no_cache && !arguments.mapped;
    let mut cache = vec![0u32; if cached { program.cache_bytes() / 4 } else { 0 }];
    report.cache_bytes = cache.len() * 4;
    let cache = cached.then_some(bytemuck::cast_slice_mut(&mut cache));
    // Keys in storage may fail while the program runs.
    let named = |error: anyhow::Error| match error.downcast_ref() {
        Some(EngineError::Key(_)) => error.context(arguments.keys.display().to_string()),
        _ => error,
    };
    let outputs = if arguments.stream_keys {
        let file = KeyFile::open(&arguments.keys).map_err(|error| files::unreadable(&arguments.keys, &error))?;
        report.key_bytes = file.bytes() as usize;
        let mut directory = vec![0; StreamedKeys::directory_bytes(&file).map_err(key_of)?];
        let keys = StreamedKeys::open(&file, &mut directory).map_err(key_of)?;
        let (need, have) = (keys.directory().file_bytes(), file.bytes());
        if need < have {
            return Err(key_of(WireError::Trailing { need, have }.into()));
        }
        spinner.finish_and_clear();
        let engine = Engine::with_workers(program, keys, arena, Detected::new(), workers).map_err(keys_of)?;
        evaluate(engine, cache, &inputs, start, &mut report, context, &pool).map_err(named)?
    } else {
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
            evaluate(engine, cache, &inputs, start, &mut report, context, &pool)?
        } else {
            let mut words = vec![0u32; RamKeys::words(&bundle)];
            report.expanded_key_bytes = words.len() * 4;
            let keys = RamKeys::expand(&key_file, program.set(), &mut words).map_err(key_of)?;
            spinner.finish_and_clear();
            let engine = Engine::with_workers(program, keys, arena, Detected::new(), workers).map_err(keys_of)?;
            evaluate(engine, cache, &inputs, start, &mut report, context, &pool)?
        }
    };
    report.peak_rss_bytes = peak_rss_bytes();
    report.output_bytes = outputs.iter().map(Vec::len).sum();
    let paths = files::numbered(&arguments.output, outputs.len());
    for (path, bytes) in paths.iter().zip(&outputs) {
        context.write(path, bytes, false)?;
    }
    context.summary(&report, || {
        let names: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        pairs(&[("result  ", names.join(", "))]) + &report.text()
    })
}

/// Prepares the engine, runs it with a progress bar and returns the output files.
fn evaluate<'m, K: KeySource + Sync>(
    mut engine: Engine<'_, 'm, K>,
    cache: Option<&'m mut [u8]>,
    inputs: &[(&PathBuf, Vec<u8>)],
    prepare: Instant,
    report: &mut RunReport,
    context: &Context,
    pool: &Pool,
) -> Result<Vec<Vec<u8>>> {
    if let Some(cache) = cache {
        engine.set_cache(cache)?;
    }
    engine.prepare()?;
    report.prepare_ms = since(prepare);
    let start = Instant::now();
    for (path, bytes) in inputs {
        engine.set_input(bytes).with_context(|| path.display().to_string())?;
    }
    let bar = context.bar("evaluate", engine.program().instructions());
    engine.run_on(pool, |progress| {
        if let Progress::Running { layer, instruction, .. } = progress
            && (bar.position() != instruction as u64 || instruction == 0)
        {
            bar.set_message(layer.to_string());
            bar.set_position(instruction as u64);
        }
    })?;
    bar.finish_and_clear();
    let outputs = (0..engine.program().outputs())
        .map(|i| {
            let mut bytes = vec![0; engine.output_bytes(i)?];
            engine.write_output(i, &mut bytes)?;
            Ok(bytes)
        })
        .collect();
    report.infer_ms = since(start);
    report.count(engine.counts(), engine.backend());
    outputs
}
