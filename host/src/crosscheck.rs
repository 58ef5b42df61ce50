//! The fidelity ladder: one image through the network on clear values, on simulated slots, on slots with the predicted
//! noise, and encrypted, compared layer by layer.
//!
//! | rung | what is new on it |
//! | --- | --- |
//! | clear | the decluttered network in f64 |
//! | simulated | layouts, rotations, diagonals: the slot program in f64 |
//! | noisy | plaintexts rounded at their scale, Gaussian noise of the variance that the compiler predicts with |
//! | encrypted | the kernel; the key holder reads the layers through extra outputs |
//!
//! Where two neighbours differ by more than the interval that their difference may have, the fault lies in what is new on
//! the second of them: the layout, the noise model, or the kernel.

mod adversarial;
mod noisy;
mod normal;
mod plot;
mod range;
mod report;
mod taps;

#[cfg(feature = "exact")]
pub mod exact;

pub use adversarial::{Goal, Search, Worst};
pub use noisy::Noisy;
pub use plot::html;
pub use range::{Range, Room};
pub use report::{Adversarial, LayerFidelity, Report, Rung, Step};

use crate::clear::EvaluateError;
use crate::compile::outline::Outline;
use crate::compile::simulate::simulate_registers;
use crate::compile::variance::predict;
use crate::compile::{CompileError, CompileOptions, Compiled, ModelGraph, compile};
use crate::decrypt::DecryptError;
use crate::encode::{EncodeError, Encoder};
use cipherlens_kernel::engine::EngineError;
use cipherlens_kernel::params::ParamSet;
use cipherlens_kernel::program::Program;
use report::Tally;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CrosscheckError {
    /// The model does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The program with extra outputs cannot be written.
    #[error(transparent)]
    Emit(#[from] crate::compile::emit::EmitError),
    /// An image of the wrong size.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// A weight or pixel cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The kernel.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A layer's ciphertext cannot be read.
    #[error(transparent)]
    Decrypt(#[from] DecryptError),
    /// The system gives no randomness.
    #[error(transparent)]
    Random(#[from] getrandom::Error),
    /// No thread, or a program that the ladder cannot read.
    #[error("{0}")]
    Unsupported(String),
}

/// Images whose own values the noise is predicted for again, at most.
const MAX_OWN: usize = 16;

/// A compiled model, ready for all rungs.
pub struct Ladder<'m> {
    model: &'m ModelGraph,
    compiled: Compiled,
    set: ParamSet,
    encoder: Encoder,
    noisy: Noisy,
    room: Room,
    /// Predicted standard deviation of the error of each register, for the calibration's values.
    predicted: Vec<f64>,
}

impl<'m> Ladder<'m> {
    /// Compiles `model`; `options.calibration` has the images that ranges are measured on.
    ///
    /// # Errors
    /// A model that does not compile, or options under which several images share a ciphertext.
    pub fn new(model: &'m ModelGraph, options: &CompileOptions) -> Result<Self, CrosscheckError> {
        let compiled = compile(model, options)?;
        if compiled.network.images > 1 || compiled.lowered.held.is_empty() {
            let why = "the ladder follows one image in the default layout";
            return Err(CrosscheckError::Unsupported(why.into()));
        }
        let set = *Program::verify(&compiled.bytes).map_err(|e| CrosscheckError::Unsupported(e.to_string()))?.set();
        let encoder = Encoder::new(set.log_n());
        let noisy = Noisy::new(&compiled.lowered, &compiled.schedule, set, &encoder)?;
        let samples: Vec<Vec<f64>> = options.calibration.iter().map(|image| widen(image)).collect();
        let runs: Vec<Vec<Vec<f64>>> = samples
            .iter()
            .take(MAX_OWN)
            .map(|image| simulate_registers(&compiled.lowered.program, std::slice::from_ref(image)))
            .collect();
        let room = Room::new(&compiled.lowered, &compiled.schedule, &set, &runs);
        let predicted = sigmas(&compiled, &runs, &set);
        Ok(Self { model, compiled, set, encoder, noisy, room, predicted })
    }

    /// The compiled model.
    pub fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// Simulated registers of an image. Shape: flat elements to N slots for each register.
    pub fn simulated(&self, image: &[f32]) -> Vec<Vec<f64>> {
        simulate_registers(&self.compiled.lowered.program, &[widen(image)])
    }

    /// Registers of an image with the predicted noise from a seed.
    pub fn noisy(&self, image: &[f32], seed: u64) -> Vec<Vec<f64>> {
        self.noisy.run(&[widen(image)], seed)
    }

    /// Runs every image on all rungs and compares.
    ///
    /// # Errors
    /// An image of the wrong size, no randomness, or an error of the kernel.
    pub fn run(&self, images: &[Vec<f32>], mut progress: impl FnMut(usize)) -> Result<Report, CrosscheckError> {
        let Self { compiled, .. } = self;
        let network = &compiled.network;
        if let Some(image) = images.first() {
            network.evaluate(&[widen(image)])?;
        }
        let mut tallies: Vec<Tally> = network.stages.iter().map(|_| Tally::default()).collect();
        let mut ranges = vec![Range::default(); network.stages.len()];
        let mut imported = 0f64;
        let mut own = Vec::new();
        let mut failed = None;
        let mut visit = |index: usize, encrypted: Vec<Vec<f64>>| {
            let image = widen(&images[index]);
            let clear = network.evaluate(std::slice::from_ref(&image))?;
            let simulated = simulate_registers(&compiled.lowered.program, std::slice::from_ref(&image));
            let noisy = self.noisy.run(std::slice::from_ref(&image), index as u64);
            let scores = self.model.evaluate(&images[index])?;
            for (a, b) in clear[network.outputs[0]].iter().zip(scores) {
                imported = imported.max((a - f64::from(b)).abs());
            }
            for (stage, (tally, range)) in network.stages.iter().zip(tallies.iter_mut().zip(&mut ranges)) {
                for held in compiled.lowered.held.iter().filter(|h| h.tensor == stage.output) {
                    let read = |registers: &[Vec<f64>]| -> Vec<f64> {
                        held.slot.iter().map(|&s| registers[held.register][s as usize]).collect()
                    };
                    let clear = &clear[held.tensor][held.first..held.first + held.slot.len()];
                    tally.add(clear, &read(&simulated), &read(&noisy), &read(&encrypted));
                }
                for (op, results) in compiled.lowered.program.ops.iter().map(|op| (op, &op.results)) {
                    if op.layer == stage.name {
                        results.iter().for_each(|&r| self.room.look(r, &simulated[r], &self.encoder, range));
                    }
                }
            }
            if own.len() < MAX_OWN {
                own.push(simulated);
            }
            progress(index + 1);
            Ok::<(), CrosscheckError>(())
        };
        taps::encrypted(compiled, &self.set, &self.encoder, images, |index, registers| {
            failed = visit(index, registers).err();
            failed.is_none()
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let expected = sigmas(compiled, &own, &self.set);
        Ok(Report::new(self, images.len(), imported, &tallies, &ranges, &expected))
    }

    /// Predicted deviation of a stage's tensor: the root mean square over its parts.
    fn of_stage(&self, stage: usize, sigma: &[f64]) -> f64 {
        let tensor = self.compiled.network.stages[stage].output;
        let held = self.compiled.lowered.held.iter().filter(|h| h.tensor == tensor);
        let (sum, count) = held.fold((0.0, 0usize), |(sum, count), h| {
            (sum + sigma[h.register].powi(2) * h.slot.len() as f64, count + h.slot.len())
        });
        (sum / count.max(1) as f64).sqrt()
    }
}

/// Pixels as the network reads them.
fn widen(image: &[f32]) -> Vec<f64> {
    image.iter().map(|&x| f64::from(x)).collect()
}

/// Predicted standard deviation of every register's error for the values in `runs`.
fn sigmas(compiled: &Compiled, runs: &[Vec<Vec<f64>>], set: &ParamSet) -> Vec<f64> {
    let outline = Outline::new(&compiled.lowered, runs);
    predict(&outline, &compiled.schedule, set).into_iter().map(f64::sqrt).collect()
}
