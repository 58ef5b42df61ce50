//! The compiler: an ONNX model becomes a program blob, one pass per file.
//!
//! import -> declutter -> merging -> parameters (lower: layouts, sizes: primes, schedule: scales) -> place (memory) ->
//! emit.

pub mod batch;
pub mod bsgs;
pub mod calibration;
pub mod check;
pub mod convolution;
pub mod cost;
pub mod cover;
pub mod declutter;
pub mod emit;
pub mod fold;
pub mod footprint;
pub mod graph;
pub mod import;
pub mod input;
pub mod interleave;
pub mod layout;
pub mod live;
pub mod lower;
pub mod merging;
pub mod onnx;
pub mod outline;
pub mod parameters;
pub mod partition;
pub mod place;
pub mod primes;
pub mod report;
pub mod schedule;
pub mod search;
pub mod simulate;
pub mod sizes;
pub mod slots;
pub mod space_to_depth;
pub mod sparse;
pub mod strategy;
pub mod upsampling;
pub mod variance;
pub mod volley_revolver;

pub use emit::WeightForm;
pub use graph::LayoutKind;
pub use import::{ModelGraph, load};
pub use parameters::budget::{Budget, Needs};
pub use report::Report;

use crate::encode::Encoder;
use crate::meta::{Meta, MetaInput, MetaOutput, MetaPacking, MetaStage};
use crate::targets::Target;
use cipherlens_kernel::params::ParamSet;
use footprint::Footprint;
use graph::Network;
use lower::{LowerError, Lowered};
use merging::Seam;
use parameters::budget::{Pool, Terms, pressed};
use parameters::{Found, Trial};
use schedule::{Schedule, ScheduleError};
use std::cmp::Ordering;

/// What the user may ask of the compiler.
#[derive(Debug, Clone, Default)]
pub struct CompileOptions {
    /// The parameter set; none for the one under which the network is predicted to run fastest.
    pub set: Option<ParamSet>,
    /// Least precision of every output, in bits; none for what the model asks for, else [`PRECISION_BITS`].
    pub precision: Option<f64>,
    /// How weights are stored.
    pub weights: WeightForm,
    /// Images that share each ciphertext: a power of two, 0 for 1.
    pub images: usize,
    /// How tensors lie in ciphertexts.
    pub layout: LayoutKind,
    /// Most RAM and flash. RAM is the arena and the target's stack; flash is the program, its evaluation keys, and the
    /// target's code and constants.
    pub budget: Budget,
    /// The target whose stack, code and constants the budget also covers; none for what the program alone takes.
    pub target: Option<&'static Target>,
    /// Whether the plaintext cache is in the RAM, too.
    pub cache: bool,
    /// Sample inputs, from which the ranges of all values are measured. Without any, random ones are used.
    pub calibration: Vec<Vec<f32>>,
}

/// Why a model was not compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// Declutter.
    #[error(transparent)]
    Declutter(#[from] declutter::DeclutterError),
    /// Lowering, under a set that the user named.
    #[error("under the set {set}: {source}")]
    Lower {
        /// The set.
        set: String,
        /// Why.
        source: LowerError,
    },
    /// Scales.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The blob.
    #[error(transparent)]
    Emit(#[from] emit::EmitError),
    /// No named set suffices.
    #[error("no parameter set suffices:\n{}", .0.join("\n"))]
    NoSet(
        /// Why each was passed over.
        Vec<String>,
    ),
    /// A budget is too small for every plan that was found.
    #[error(transparent)]
    Budget(Box<OverBudget>),
    /// A calibration sample has the wrong shape.
    #[error("a calibration sample has {found} values, the input {name} has {expected}")]
    Calibration {
        /// The input.
        name: String,
        /// Its elements.
        expected: usize,
        /// The sample's.
        found: usize,
    },
    /// The model has no input, more than one input tensor, or no output.
    #[error("{0}")]
    Interface(String),
}

/// A budget that is too small, and budgets that would do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("no plan fits {budget}: the fastest needs {fastest}{}", .enough.iter().map(|(what, needs)| format!("; {what}: {needs}")).collect::<String>())]
pub struct OverBudget {
    /// What was asked for.
    pub budget: Budget,
    /// What the fastest plan takes.
    pub fastest: Needs,
    /// Plans that take least of something, and of what.
    pub enough: Vec<(&'static str, Needs)>,
}

/// A program file with its report.
pub struct Written {
    bytes: Vec<u8>,
    report: Report,
    lowered: Lowered,
    schedule: Schedule,
}

impl Written {
    fn footprint(&self) -> Footprint {
        Footprint {
            arena: self.report.arena_bytes,
            cache: self.report.cache_bytes,
            keys: self.report.key_bytes,
            program: self.report.program_bytes,
        }
    }
}

/// A compiled model.
pub struct Compiled {
    /// The program file.
    pub bytes: Vec<u8>,
    /// All about it.
    pub report: Report,
    /// The network after declutter.
    pub network: Network,
    /// The slot program and its predicted cost, for simulation.
    pub lowered: Lowered,
    /// Its levels and scales.
    pub schedule: Schedule,
}

/// Least precision of an output unless the user asks for another, in bits: ratio of its root mean square to the
/// predicted error. With this much the encrypted networks of the repository choose the class of the clear ones for at
/// least 999 of 1,000 MNIST images, and the rest are near ties; 8 bits change no more of them and cost `mnist-micro` a
/// limb, 40 % of its time (`notes/decisions.md`).
pub const PRECISION_BITS: f64 = 7.25;
/// By how much one precision, computed twice, may differ.
const ROUNDING_BITS: f64 = 1e-6;
/// Random samples where no calibration data is given.
const RANDOM_SAMPLES: usize = 16;
/// Samples that the ranges are measured on, at most.
const MAX_SAMPLES: usize = 64;

/// Compiles an imported model.
///
/// # Errors
/// [`CompileError`] says which pass failed, on which layer, and why each parameter set was passed over.
pub fn compile(model: &ModelGraph, options: &CompileOptions) -> Result<Compiled, CompileError> {
    let images = options.images.max(1);
    if !images.is_power_of_two() {
        return Err(CompileError::Interface(format!("{images} images cannot share a ciphertext: not a power of two")));
    }
    let stages = declutter::Stages::new(model)?;
    let (network, seams) = merging::merge(&stages, options.set.as_ref(), images, options.layout)?;
    if network.inputs.len() != 1 || network.outputs.is_empty() {
        return Err(CompileError::Interface(format!(
            "the model has {} inputs and {} outputs; one input and at least one output are supported",
            network.inputs.len(),
            network.outputs.len()
        )));
    }
    let samples = samples(&network, &options.calibration)?;
    let required = options.precision.or(model.precision).unwrap_or(PRECISION_BITS);
    let mut found = match options.set {
        Some(set) => parameters::under(&network, &samples, set, required)?,
        None => parameters::search(&network, &samples, required).map_err(CompileError::NoSet)?,
    };
    let set = found.set;
    let trials = std::mem::take(&mut found.trials);
    // Where the named set is not as precise as asked for, a smaller program need not be.
    let required = required.min(found.schedule.precision - ROUNDING_BITS);
    let write = |found| write(model, &network, found, options.weights, &seams);
    let mut fastest = write(found)?;
    let terms = Terms {
        required,
        weights: options.weights,
        cache: options.cache,
        other_ram: options.target.map_or(0, |t| t.stack_bytes),
        other_flash: options.target.map_or(0, |t| t.text_bytes + t.rodata_bytes),
    };
    let needs = terms.needs(fastest.report.predicted_ms, &fastest.footprint());
    if options.budget.admits(&needs) {
        fastest.report.candidates = trials;
        let Written { bytes, report, lowered, schedule } = fastest;
        return Ok(Compiled { bytes, report, network, lowered, schedule });
    }
    let rings = pressed(&network, &samples, required, &set, options.set);
    let (Written { bytes, mut report, lowered, schedule }, taken) =
        within(Pool::new(&rings, terms), options.budget, needs, &write)?;
    report.candidates = trials;
    let first = report.candidates.iter_mut().find(|t| t.rejected.is_none());
    first.into_iter().for_each(|t| t.rejected = Some("over the budget".into()));
    report.candidates.push(taken);
    Ok(Compiled { bytes, report, network, lowered, schedule })
}

/// The fastest program of the pool within a budget.
fn within(
    mut pool: Pool<'_>,
    budget: Budget,
    fastest: Needs,
    write: &dyn Fn(Found) -> Result<Written, CompileError>,
) -> Result<(Written, Trial), CompileError> {
    let by_time = |a: &Needs, b: &Needs| a.ms.total_cmp(&b.ms).then(a.flash.cmp(&b.flash)).then(a.ram.cmp(&b.ram));
    let by_ram = |a: &Needs, b: &Needs| a.ram.cmp(&b.ram).then(a.flash.cmp(&b.flash)).then(a.ms.total_cmp(&b.ms));
    let by_flash = |a: &Needs, b: &Needs| a.flash.cmp(&b.flash).then(a.ram.cmp(&b.ram)).then(a.ms.total_cmp(&b.ms));
    if let Some(chosen) = pool.first(budget, by_time, write) {
        return Ok(pool.take(&chosen).expect("the chosen one is written"));
    }
    type Order = fn(&Needs, &Needs) -> Ordering;
    let (any_ram, any_flash) = (Budget { ram: None, ..budget }, Budget { flash: None, ..budget });
    let ways: [(&'static str, Budget, Order); 4] = [
        ("least RAM within that flash", any_ram, by_ram),
        ("least flash within that RAM", any_flash, by_flash),
        ("least RAM", Budget::default(), by_ram),
        ("least flash", Budget::default(), by_flash),
    ];
    let both = budget.ram.is_some() && budget.flash.is_some();
    let mut enough: Vec<(&'static str, Needs)> = Vec::new();
    for (what, budget, order) in ways.into_iter().skip(if both { 0 } else { 2 }) {
        if let Some(found) = pool.first(budget, order, write)
            && enough.iter().all(|e| e.1 != found.needs)
        {
            enough.push((what, found.needs));
        }
    }
    Err(CompileError::Budget(Box::new(OverBudget { budget, fastest, enough })))
}

/// The program file of a plan, and the report on it.
fn write(
    model: &ModelGraph,
    network: &Network,
    found: Found,
    weights: WeightForm,
    seams: &[Seam],
) -> Result<Written, CompileError> {
    let Found { set, mut lowered, schedule, .. } = found;
    interleave::interleave(&mut lowered);
    let placement = place::place(&lowered.program, &schedule, &lowered.input_limbs);
    let meta = meta(model, network, &lowered, &schedule);
    let bytes = emit::emit(&lowered, &schedule, &placement, &set, weights, &Encoder::new(set.log_n()), &meta)?;
    let report = Report::new(model, network.images, &bytes, &lowered, &schedule, seams.to_vec());
    Ok(Written { bytes, report, lowered, schedule })
}

/// Inputs to measure ranges on, one flat vector each.
fn samples(network: &Network, calibration: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, CompileError> {
    let input = &network.tensors[network.inputs[0]];
    if let Some(sample) = calibration.iter().find(|s| s.len() != input.len()) {
        return Err(CompileError::Calibration { name: input.name.clone(), expected: input.len(), found: sample.len() });
    }
    if !calibration.is_empty() {
        return Ok(calibration.iter().take(MAX_SAMPLES).map(|s| s.iter().map(|&x| f64::from(x)).collect()).collect());
    }
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    Ok((0..RANDOM_SAMPLES).map(|_| (0..input.len()).map(|_| next()).collect()).collect())
}

fn meta(model: &ModelGraph, network: &Network, lowered: &Lowered, schedule: &Schedule) -> Meta {
    let input = &network.tensors[network.inputs[0]];
    let packing = |(index, slots): (usize, &slots::SlotInput)| {
        let mut element: Vec<i32> = slots.element.iter().map(|e| e.map_or(-1, |e| e as i32)).collect();
        element.truncate(element.iter().rposition(|&e| e >= 0).map_or(0, |last| last + 1));
        MetaPacking { index: index as u32, element }
    };
    let batched = |shape: &[usize]| {
        let images = Some(network.images).filter(|&images| images > 1);
        images.into_iter().chain(shape.iter().copied()).collect()
    };
    Meta {
        model: model.name.clone(),
        mode: "latency".into(),
        images: network.images,
        inputs: vec![MetaInput {
            name: input.name.clone(),
            shape: batched(&input.shape),
            ciphertexts: lowered.program.inputs.iter().enumerate().map(packing).collect(),
        }],
        outputs: lowered
            .program
            .outputs
            .iter()
            .enumerate()
            .map(|(index, output)| {
                let tensor = &network.tensors[network.outputs[output.output]];
                MetaOutput {
                    name: tensor.name.clone(),
                    shape: batched(&tensor.shape),
                    index: index as u32,
                    slot: output.slot.clone(),
                }
            })
            .collect(),
        stages: lowered
            .stages
            .iter()
            .map(|s| MetaStage { name: s.name.clone(), limbs: s.limbs, strategy: s.strategy.clone() })
            .collect(),
        output_error: schedule.output_error.clone(),
        predicted_ms: lowered.predicted.us / 1000.0,
        precision_bits: schedule.precision,
        labels: model.labels.clone(),
        view: model.view,
    }
}
