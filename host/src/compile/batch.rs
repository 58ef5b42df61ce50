//! Batch mode: a program that evaluates one image in each slot.
//!
//! values (products and divisions between the linear maps) -> parameters (levels: primes, scales, precision) -> stream
//! (rows of tensors in the order in which inputs come) -> place (memory) -> emit.

mod emit;
mod levels;
mod parameters;
mod place;
mod report;
mod stream;
mod values;

pub use report::{BatchLayer, BatchReport};

use super::declutter::declutter;
use super::import::ModelGraph;
use super::{CompileError, PRECISION_BITS, samples};
use cipherlens_kernel::params::ParamSet;
use stream::Stream;
use values::Values;

/// What the user may ask of a batch program.
#[derive(Debug, Clone, Default)]
pub struct BatchOptions {
    /// log2 of the images in a batch; none for the least with which the precision is reached, but at least
    /// [`LEAST_LOG_IMAGES`].
    pub log_images: Option<u32>,
    /// Least precision of every output, in bits; none for what the model asks for up to [`MODEL_BITS`], else
    /// [`PRECISION_BITS`].
    pub precision: Option<f64>,
    /// Most bytes of arena of one worker; none for [`RAM_BYTES`].
    pub ram: Option<usize>,
    /// Sample inputs, from which the ranges of all values are measured. Without any, random ones are used.
    pub calibration: Vec<Vec<f32>>,
}

/// log2 of the least number of images in a batch, unless the user asks for another.
pub const LEAST_LOG_IMAGES: u32 = 13;
/// Most bits that a model gets without being asked for by the user: the rounding of weights to 16 bits or less bounds
/// what deep networks reach.
pub const MODEL_BITS: f64 = 9.0;
/// Most bytes of arena, unless the user asks for others.
pub const RAM_BYTES: usize = 3 << 30;

/// A compiled batch program.
pub struct CompiledBatch {
    /// The program file.
    pub bytes: Vec<u8>,
    /// All about it.
    pub report: BatchReport,
    /// The set of its own, which its keys are made for.
    pub set: ParamSet,
}

/// Compiles an imported model for batches.
///
/// # Errors
/// [`CompileError`] says which pass failed and why no parameters were found.
pub fn compile_batch(model: &ModelGraph, options: &BatchOptions) -> Result<CompiledBatch, CompileError> {
    let network = declutter(model)?;
    if network.inputs.len() != 1 || network.outputs.is_empty() {
        return Err(CompileError::Interface(format!(
            "the model has {} inputs and {} outputs; one input and at least one output are supported",
            network.inputs.len(),
            network.outputs.len()
        )));
    }
    let samples = samples(&network, &options.calibration)?;
    let asked = model.precision.map_or(PRECISION_BITS, |bits| bits.min(MODEL_BITS));
    let precision = options.precision.unwrap_or(asked);
    let ram = options.ram.unwrap_or(RAM_BYTES);
    let both = [false, true].map(|eager| Values::new(&network, &samples, eager));
    let mut plans = Vec::new();
    let mut reasons = Vec::new();
    for values in &both {
        match parameters::search(values, options.log_images, precision) {
            Ok(levels) => {
                let stream = Stream::within(values, &levels, ram);
                let over = stream.bytes(&levels).saturating_sub(ram);
                plans.push((over, parameters::price(values, &levels), values, levels, stream));
            }
            Err(why) => reasons.extend(why),
        }
    }
    let least = plans.into_iter().min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let (_, _, values, levels, stream) = least.ok_or(CompileError::NoSet(reasons))?;
    let write = |stream: &Stream| -> Result<_, CompileError> {
        let bytes = emit::emit(model, &network, values, &levels, stream)?;
        let report = BatchReport::new(model, values, &levels, stream, &bytes);
        Ok((bytes, report))
    };
    let (mut bytes, mut report) = write(&stream)?;
    if report.arena_bytes > ram {
        // Tables and scratch, which only the program tells, are in the arena too.
        let others = report.arena_bytes - stream.bytes(&levels);
        (bytes, report) = write(&Stream::within(values, &levels, ram.saturating_sub(others)))?;
    }
    if report.arena_bytes > ram {
        return Err(CompileError::Interface(format!(
            "the batch program needs {} MiB of arena for one worker, more than {} MiB; allow more with --ram or take \
             fewer images with --log-images",
            report.arena_bytes.div_ceil(1 << 20),
            ram >> 20
        )));
    }
    Ok(CompiledBatch { bytes, report, set: levels.set })
}
