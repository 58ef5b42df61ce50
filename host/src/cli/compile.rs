//! `compile`: an ONNX model becomes a program.

use super::batch;
use super::context::Context;
use super::demo::layers;
use super::error::{Code, Failure};
use super::report::{primes_line, security_line};
use super::units::{bytes, pairs, parse_bytes, table};
use anyhow::{Context as _, Result};
use cipherlens::compile::batch::BatchOptions;
use cipherlens::compile::import::ImportError;
use cipherlens::compile::merging::Seam;
use cipherlens::compile::parameters::Trial;
use cipherlens::compile::report::TargetReport;
use cipherlens::compile::{Budget, CompileOptions, LayoutKind, ModelGraph, Report, WeightForm, compile};
use cipherlens::contract::Contract;
use cipherlens::datasets::calibration_images;
use cipherlens::models::{self, Task};
use cipherlens::targets::{self, Target};
use cipherlens_kernel::params::{ParamSet, named};
use clap::{Args, ValueEnum};
use std::io::ErrorKind;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Path of an .onnx file, or an embedded model: mnist, mnist-micro, tenseal-cnn, orion-mlp, cryptonets, melanoma,
    /// melanoma-kaggle10k, unet-lesion, unet-nuclei, unet-em
    model: String,
    /// Program file to write (.clp)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Parameter set: auto for the fastest that is precise enough, or n12, n13, n14, n15
    #[arg(long, default_value = "auto", value_parser = parse_set, hide_default_value = true)]
    set: SetChoice,
    /// Least precision of the outputs, in bits: their root mean square over the predicted error [default: 7.25, or 12 for lesions, 10 for masks]
    #[arg(long, value_name = "BITS", value_parser = parse_precision)]
    precision: Option<f64>,
    /// Rust file of constants to write: every size that a firmware has to provide for
    #[arg(long, value_name = "FILE")]
    rust: Option<PathBuf>,
    /// C header to write, with the same constants
    #[arg(long, value_name = "FILE")]
    header: Option<PathBuf>,
    /// Most RAM, such as 1MiB: arena, and stack with --target. The fastest plan that fits is taken
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    ram: Option<usize>,
    /// Most flash, such as 8MiB: program, evaluation keys, and code and constants with --target
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    flash: Option<usize>,
    /// Target whose stack, code and constants --ram and --flash cover, too, as measured on the project's own images
    #[arg(long, value_name = "TRIPLE", value_parser = parse_target)]
    target: Option<&'static Target>,
    /// Let --ram cover the plaintext cache, too
    #[arg(long, requires = "ram")]
    cache: bool,
    /// How weights are stored
    #[arg(long, value_enum, default_value_t)]
    weights: WeightForm,
    /// Shape of the input where the model leaves it open
    #[arg(long, value_name = "C,H,W", value_delimiter = ',')]
    input_shape: Option<Vec<usize>>,
    /// Sample images to measure activation ranges on: an IDX file, or a folder with one, or of PNG and JPEG files
    /// [default: the embedded images of the model's task, or of its input's shape, else random values]
    #[arg(long, value_name = "PATH")]
    calibrate: Option<PathBuf>,
    /// What to optimise for
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// log2 of the images of a batch, 11 to 16 [default: the least from 13 on that is precise enough]
    #[arg(long, value_name = "LOG", value_parser = clap::value_parser!(u32).range(11..=16))]
    log_images: Option<u32>,
    /// How tensors lie in ciphertexts
    #[arg(long, value_enum, default_value_t)]
    layout: LayoutKind,
    /// Images that share each ciphertext and are evaluated together, a power of two
    #[arg(long, value_name = "B", default_value_t = 1)]
    images_per_ciphertext: usize,
}

#[derive(Debug, Clone, Copy)]
struct SetChoice(Option<ParamSet>);

fn parse_set(name: &str) -> Result<SetChoice, String> {
    if name == "auto" {
        return Ok(SetChoice(None));
    }
    let names = || named::ALL.iter().map(|s| s.name().to_string()).collect::<Vec<_>>().join(", ");
    named::by_name(name).map(|set| SetChoice(Some(set))).ok_or_else(|| format!("the sets are auto, {}", names()))
}

fn parse_target(triple: &str) -> Result<&'static Target, String> {
    let names = || targets::all().iter().map(|t| t.target.as_str()).collect::<Vec<_>>().join(", ");
    targets::by_name(triple).ok_or_else(|| format!("the measured targets are {}", names()))
}

fn parse_precision(text: &str) -> Result<f64, String> {
    let bits = text.parse().ok().filter(|bits| (1.0..=40.0).contains(bits));
    bits.ok_or_else(|| "a number of bits from 1 to 40".into())
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// One image as fast as possible
    #[default]
    Latency,
    /// As many images at once as a ciphertext has slots, for throughput
    Batch,
}

/// Images that ranges are measured on.
const CALIBRATION_IMAGES: usize = 64;

/// Drawn images to measure the ranges of `model` on; none where there are none of its input's shape.
pub fn drawn(model: &ModelGraph) -> Vec<Vec<f32>> {
    let input: usize = input_shape(model).iter().product();
    let samples = Task::of(model).map_or(Vec::new(), |task| task.samples(CALIBRATION_IMAGES));
    samples.into_iter().filter(|image| image.len() == input).collect()
}

/// Shape of the first input.
pub fn input_shape(model: &ModelGraph) -> &[usize] {
    model.inputs.first().map_or(&[], |&i| &model.tensors[i].shape)
}

/// An embedded model, or the ONNX file at a path.
pub fn model(name: &str, input_shape: Option<&[usize]>) -> Result<ModelGraph> {
    models::by_name_or_path(name, input_shape).map_err(|error| match error {
        ImportError::Read { source, .. } if source.kind() == ErrorKind::NotFound && !name.contains(['/', '.']) => {
            let names: Vec<_> = models::ALL.iter().map(|m| m.name).collect();
            Failure::new(Code::Usage, format!("no embedded model is called {name:?}, and no such file exists"))
                .hint(format!("the embedded models are {}", names.join(", ")))
                .into()
        }
        // These errors name the file themselves.
        error @ (ImportError::Read { .. } | ImportError::Decode { .. }) => error.into(),
        error => anyhow::Error::new(error).context(name.to_string()),
    })
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let model = model(&arguments.model, arguments.input_shape.as_deref())?;
    let calibration = match &arguments.calibrate {
        Some(path) => calibration_images(path, CALIBRATION_IMAGES, input_shape(&model), model.view)
            .map_err(|error| Failure::new(Code::BadFile, format!("--calibrate: {error}")))?,
        None => drawn(&model),
    };
    if calibration.is_empty() {
        context.note("activation ranges are measured on random values; name sample images with --calibrate");
    }
    if arguments.mode == Mode::Batch {
        let Arguments { log_images, precision, ram, .. } = *arguments;
        let options = BatchOptions { log_images, precision, ram, calibration };
        return batch::compile::run(&arguments.model, &model, &options, &arguments.output, context);
    }
    let options = CompileOptions {
        set: arguments.set.0,
        precision: arguments.precision,
        weights: arguments.weights,
        budget: Budget { ram: arguments.ram, flash: arguments.flash },
        target: arguments.target,
        cache: arguments.cache,
        images: arguments.images_per_ciphertext,
        layout: arguments.layout,
        calibration,
    };
    let spinner = context.spinner("compile");
    let compiled = compile(&model, &options).with_context(|| arguments.model.clone())?;
    spinner.finish_and_clear();
    context.write(&arguments.output, &compiled.bytes, false)?;
    let contract = Contract::new(&compiled.report);
    for (path, text) in [(&arguments.rust, contract.rust()), (&arguments.header, contract.c_header())] {
        if let Some(path) = path {
            context.write(path, text.as_bytes(), false)?;
        }
    }
    context
        .summary(&compiled.report, || text(&compiled.report, &arguments.output.display().to_string(), context.verbose))
}

/// As people read it, and to the byte.
fn exact(count: usize) -> String {
    if count < 1024 { bytes(count) } else { format!("{} ({count} bytes)", bytes(count)) }
}

/// What an image takes on each target, in bytes.
fn images(report: &Report) -> String {
    let row = |t: &TargetReport| {
        let sizes = [t.target.stack_bytes, t.target.text_bytes, t.target.rodata_bytes, t.ram_bytes, t.flash_bytes];
        std::iter::once(t.target.target.clone()).chain(sizes.map(|size| size.to_string())).collect()
    };
    let rows: Vec<_> = report.targets.iter().map(row).collect();
    table(&["image for", "stack", ".text", ".rodata", "RAM", "flash, bytes"], &rows)
}

/// The sets that were looked at.
fn candidates(report: &Report) -> String {
    let row = |t: &Trial| {
        vec![
            t.n.to_string(),
            format!("{} + {}", t.limbs, t.special),
            t.digit.to_string(),
            format!("{:.2}", t.predicted_ms),
            format!("{:.1}", t.key_bytes as f64 / f64::from(1 << 20)),
            t.precision_bits.map_or(String::new(), |bits| format!("{bits:.1}")),
            t.rejected.clone().unwrap_or_else(|| "taken".into()),
        ]
    };
    let rows: Vec<_> = report.candidates.iter().map(row).collect();
    table(&["N", "primes", "digit", "ms", "keys MiB", "bits", ""], &rows) + "\n"
}

fn text(report: &Report, output: &str, verbose: bool) -> String {
    let limbs: Vec<String> = report.moduli.iter().map(|m| format!("{:.1} ({} limbs)", m.log_qp, m.limbs)).collect();
    let head = pairs(&[
        ("program", format!("{output}, {}", report.fingerprint)),
        ("security", security_line(&report.set, report.n, "QP", report.log_qp)),
        ("primes", primes_line(&report.prime_bits, &report.special_bits, report.digit)),
        ("moduli", format!("log2 {}", limbs.join(", "))),
        (
            "work",
            format!(
                "{} key switches ({} rotations), {} limb transforms, {} products with weights; {} levels",
                report.key_switches, report.rotations, report.ntts, report.plain_products, report.levels
            ),
        ),
        ("time", format!("{:.1} ms predicted, one thread, everything prepared", report.predicted_ms)),
        (
            "flash",
            format!(
                "program {}, evaluation keys {} ({} keys)",
                exact(report.program_bytes),
                exact(report.key_bytes),
                report.keys.len()
            ),
        ),
        (
            "memory",
            format!(
                "arena {}, optional plaintext cache {}, directory of streamed keys {}, checkpoint {}",
                exact(report.arena_bytes),
                exact(report.cache_bytes),
                exact(report.key_directory_bytes),
                exact(report.checkpoint_bytes)
            ),
        ),
        ("traffic", format!("input {}, output {}", exact(report.input_bytes), exact(report.output_bytes))),
        ("precision", format!("{:.1} bits at the output, predicted", report.precision_bits)),
    ]);
    let seam = |s: &Seam| {
        format!("  {}: {}\n", s.layers, if s.merged { "merged" } else { "not merged, that would be slower" })
    };
    let seams: String = report.seams.iter().map(seam).collect();
    let candidates = if verbose && !report.candidates.is_empty() { candidates(report) } else { String::new() };
    format!("{}{candidates}{seams}{head}\n{}", layers(report), images(report))
}
