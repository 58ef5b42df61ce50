//! The strategy study: one network evaluated in every way that the project knows, each way a real program that is
//! measured on this machine.

mod batched;
mod encrypted_weights;
mod latency;
mod plot;
mod unhoisted;

pub use plot::svg;
pub use unhoisted::unhoisted;

use crate::bench::Timing;
use crate::compile::batch::{BatchOptions, compile_batch};
use crate::compile::{CompileOptions, Compiled, ModelGraph, WeightForm, compile};
use anyhow::{Context, Result};
use cipherlens_kernel::program::Program;
use latency::{Keys, Way};
use serde::Serialize;

/// What is measured, and how often.
#[derive(Debug, Clone)]
pub struct Options {
    /// Evaluations of each program; medians are reported.
    pub repetitions: usize,
    /// The same for batches.
    pub batches: usize,
    /// Images that share each ciphertext, one row for each number.
    pub packings: Vec<usize>,
    /// Threads, one row for each number above one.
    pub threads: Vec<usize>,
    /// Inputs that ranges are measured on and that are encrypted, again and again where more are needed.
    pub images: Vec<Vec<f32>>,
}

/// One way to evaluate, measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What is varied: `packing`, `threads`, `plaintexts`, `hoisting`, `keys`, `weights`.
    pub study: &'static str,
    /// The choice.
    pub strategy: String,
    /// Parameter set.
    pub set: String,
    /// Images of one evaluation.
    pub images: usize,
    /// Threads.
    pub threads: usize,
    /// Median time of one evaluation, in milliseconds: of batches with inputs taken in.
    pub ms: f64,
    /// Least time of one.
    pub min_ms: f64,
    /// The part of `ms` that takes inputs in; only batches tell it apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub take_in_ms: Option<f64>,
    /// Encryption of all inputs, in milliseconds: the client's work, not part of `ms`.
    pub encrypt_ms: f64,
    /// Images of an evaluation over its median time.
    pub images_per_second: f64,
    /// Time of an image over that of the study's first row: of the least times, which neighbours disturb least.
    pub time_ratio: f64,
    /// The engine's arena.
    pub arena_bytes: usize,
    /// Evaluation keys expanded in memory.
    pub prepared_key_bytes: usize,
    /// Plaintexts in the Ntt form in memory.
    pub cache_bytes: usize,
    /// The three together.
    pub memory_bytes: usize,
    /// Program file.
    pub program_bytes: usize,
    /// Evaluation-key file, seeded.
    pub key_bytes: usize,
    /// Input ciphertexts, by image.
    pub input_bytes_per_image: f64,
    /// Inner products with a key, counted by the engine.
    pub key_switches: u64,
    /// Rotations among them.
    pub rotations: u64,
    /// Transforms of one limb, counted by the engine, those that expand plaintexts included.
    pub transforms: u64,
    /// Predicted bits of the least precise output.
    pub predicted_bits: f64,
    /// Largest difference of a decrypted output from the clear one.
    pub max_error: f64,
}

impl Row {
    fn timed(mut self, time: Timing) -> Self {
        (self.ms, self.min_ms) = (time.median_us / 1000.0, time.min_us / 1000.0);
        self.images_per_second = self.images as f64 / self.ms * 1000.0;
        self.memory_bytes = self.arena_bytes + self.prepared_key_bytes + self.cache_bytes;
        self
    }

    fn named(mut self, study: &'static str, strategy: impl Into<String>) -> Self {
        (self.study, self.strategy) = (study, strategy.into());
        self
    }

    fn against(mut self, first: &Self) -> Self {
        self.time_ratio = (self.min_ms / self.images as f64) / (first.min_ms / first.images as f64);
        self
    }
}

/// The rows, and what could not be had.
#[derive(Debug, Clone, Serialize)]
pub struct Study {
    /// Of the network.
    pub rows: Vec<Row>,
    /// Of single layers with plain and with encrypted weights.
    pub layers: Vec<Row>,
    /// What the compiler refuses, and why.
    pub left_out: Vec<String>,
}

/// Runs the study on `model`. `watch` is told what comes next.
///
/// # Errors
/// A model that cannot be compiled for a single image, or no randomness.
pub fn run(model: &ModelGraph, options: &Options, mut watch: impl FnMut(&str)) -> Result<Study> {
    let mut left_out = Vec::new();
    let way = Way::prepared(options.repetitions);
    let measure = |bytes: &[u8], way: &Way, images: usize| -> Result<Row> {
        let inputs: Vec<f32> = options.images.iter().cycle().take(images).flatten().copied().collect();
        let clear = options.images.iter().cycle().take(images).map(|image| Ok(model.evaluate(image)?));
        let clear = clear.collect::<Result<Vec<_>>>()?.concat();
        latency::measure(bytes, &[inputs], &clear, images, way)
    };
    let compiled = |images: usize, weights: WeightForm| -> Result<Compiled> {
        let options = CompileOptions { calibration: options.images.clone(), images, weights, ..Default::default() };
        compile(model, &options).with_context(|| model.name.clone())
    };

    watch("one image");
    let one = compiled(1, WeightForm::Compact)?;
    let base = measure(&one.bytes, &way, 1)?.named("packing", "1 image");
    let mut rows = vec![base.clone()];
    let mut take = |row: Row| rows.push(row.against(&base));
    for &images in &options.packings {
        watch(&format!("{images} images"));
        match compiled(images, WeightForm::Compact) {
            Ok(packed) => {
                take(measure(&packed.bytes, &way, images)?.named("packing", format!("{images} images interleaved")));
            }
            Err(why) => left_out.push(format!("{images} images interleaved: {why:#}")),
        }
    }
    watch("batch");
    let batch = compile_batch(model, &BatchOptions { calibration: options.images.clone(), ..Default::default() });
    if let Err(why) = &batch {
        left_out.push(format!("batch: {why}"));
    }
    let clear: Vec<Vec<f32>> =
        options.images.iter().take(16).map(|image| Ok(model.evaluate(image)?)).collect::<Result<_>>()?;
    let in_batch = |threads: usize| -> Result<Option<Row>> {
        let Ok(batch) = &batch else { return Ok(None) };
        Ok(Some(batched::measure(batch, &options.images, &clear, threads, options.batches)?))
    };
    if let Some(row) = in_batch(1)? {
        let images = row.images;
        take(row.named("packing", format!("batch of {images}")));
    }
    for &threads in options.threads.iter().filter(|&&threads| threads > 1) {
        watch("threads");
        let row = measure(&one.bytes, &Way { threads, ..way }, 1)?;
        take(row.named("threads", format!("1 image, {threads} threads")));
        if let Some(row) = in_batch(threads)? {
            take(row.named("threads", format!("batch, {threads} threads")));
        }
    }
    watch("plaintexts");
    let expanded = Way { cached: false, ..way };
    take(measure(&one.bytes, &expanded, 1)?.named("plaintexts", "compact, expanded on every use"));
    let ntt = compiled(1, WeightForm::Ntt)?;
    take(measure(&ntt.bytes, &expanded, 1)?.named("plaintexts", "Ntt form in the file, no cache"));
    watch("hoisting");
    take(measure(&unhoisted(&one)?, &way, 1)?.named("hoisting", "none, every rotation decomposes"));
    watch("keys");
    take(measure(&one.bytes, &Way { keys: Keys::TopLevel, ..way }, 1)?.named("keys", "all at the top level"));
    take(measure(&one.bytes, &Way { keys: Keys::InPlace, ..way }, 1)?.named("keys", "seeds expanded on every use"));
    watch("encrypted weights");
    let set = *Program::verify(&one.bytes)?.set();
    let layers = encrypted_weights::measure(set, options.repetitions)?;
    Ok(Study { rows, layers, left_out })
}
