//! `accuracy --mode batch`: a data set through the network in batches, against the clear one.

use crate::cli::accuracy::report::Figures;
use crate::cli::accuracy::state::{Answer, Outcome};
use crate::cli::context::Context;
use crate::cli::demo::since;
use crate::cli::report::security_line;
use crate::cli::tiles::Cut;
use crate::cli::units::{bytes, duration, pairs, threads};
use anyhow::{Context as _, Result};
use cipherlens::batch::{BatchClient, Pixels, memory};
use cipherlens::compile::ModelGraph;
use cipherlens::compile::batch::{BatchOptions, BatchReport, compile_batch};
use cipherlens::datasets::Dataset;
use cipherlens::encrypt::EncryptionKey;
use cipherlens::evaluate::peak_rss_bytes;
use cipherlens::keys::{SecretKey, evaluation_keys};
use cipherlens::pool::Pool;
use cipherlens::random::Random;
use cipherlens_kernel::batch::{BatchEngine, BatchProgram, BatchProgress};
use cipherlens_kernel::keys::RamKeys;
use cipherlens_kernel::math::Detected;
use cipherlens_kernel::wire::KeyBundle;
use serde::Serialize;
use std::time::Instant;

#[derive(Serialize)]
struct Report {
    model: String,
    data: String,
    mode: &'static str,
    set: String,
    images: usize,
    clear_images: usize,
    batches: usize,
    slots: usize,
    empty_slots: usize,
    #[serde(flatten)]
    figures: Figures,
    max_error: f64,
    predicted_error: f64,
    encrypt_s: f64,
    load_s: f64,
    evaluate_s: f64,
    decrypt_s: f64,
    /// Of full batches: slots over evaluation with taking in.
    images_per_second: f64,
    threads: usize,
    products: u64,
    key_switches: u64,
    input_bytes: usize,
    arena_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_rss_bytes: Option<usize>,
}

/// Seconds.
#[derive(Default)]
struct Times {
    encrypt: f64,
    load: f64,
    evaluate: f64,
    decrypt: f64,
}

/// What is evaluated: all tiles of the first images of a set.
pub struct Images<'a> {
    /// The set.
    pub set: &'a dyn Dataset,
    /// How many of its images.
    pub count: usize,
    /// An image as inputs of the network.
    pub cut: &'a dyn Fn(usize) -> Result<Cut>,
    /// What values say of an image.
    pub answer: &'a dyn Fn(usize, &[f32]) -> Result<Answer>,
    /// Values of the clear network, for as many images at least.
    pub clear: &'a [Vec<f32>],
}

/// Evaluates the images in batches.
pub fn run(model: &ModelGraph, images: &Images<'_>, options: &BatchOptions, context: &Context) -> Result<()> {
    let spinner = context.spinner("compile");
    let compiled = compile_batch(model, options).with_context(|| model.name.clone())?;
    spinner.finish_and_clear();
    let program = BatchProgram::verify(&compiled.bytes)?;
    let client = BatchClient::new(program)?;
    let mut random = Random::from_os()?;
    let secret = SecretKey::generate(*program.set(), &mut random);
    let keys = evaluation_keys(&secret, client.ring(), &client.requests(), &mut random, |_| ());
    let mut words = vec![0u32; RamKeys::words(&KeyBundle::new_checked(&keys)?)];
    let keys = RamKeys::expand(&keys, program.set(), &mut words)?;
    let workers = context.evaluation_threads();
    let pool = Pool::new(workers)?;
    let mut arena = memory(program.arena_bytes(workers))?;
    let mut engine = BatchEngine::new(program, keys, &mut arena, Detected::new(), workers)?;
    let slots = client.images();
    let cuts = (0..images.count).map(images.cut).collect::<Result<Vec<Cut>>>()?;
    let inputs: Vec<(usize, &Vec<f32>)> =
        cuts.iter().enumerate().flat_map(|(image, cut)| cut.inputs.iter().map(move |input| (image, input))).collect();
    let batches = inputs.len().div_ceil(slots);
    let mut times = Times::default();
    let (mut products, mut key_switches, mut input_bytes) = (0, 0, 0);
    let mut answers: Vec<Vec<Vec<f64>>> = vec![Vec::new(); images.count];
    let bar = context.bar("batches", batches * program.instructions());
    for (batch, members) in inputs.chunks(slots).enumerate() {
        let mut pixels = Pixels::new(client.input_len());
        members.iter().for_each(|(_, input)| pixels.push(input));
        engine.reset();
        let mut outputs = vec![None; program.outputs()];
        loop {
            let start = Instant::now();
            let progress = engine.run_on(&pool, |progress| {
                if let BatchProgress::Running { layer, instruction, .. } = progress {
                    bar.set_message(layer.to_string());
                    bar.set_position((batch * program.instructions() + instruction) as u64);
                }
            })?;
            times.evaluate += since(start) / 1000.0;
            match progress {
                BatchProgress::Inputs(inputs) => {
                    let start = Instant::now();
                    let files = client.encrypt(inputs, &pixels, EncryptionKey::Secret(&secret), context.threads())?;
                    times.encrypt += since(start) / 1000.0;
                    input_bytes += files.iter().map(Vec::len).sum::<usize>();
                    let start = Instant::now();
                    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
                    engine.set_inputs_on(&pool, &files)?;
                    times.load += since(start) / 1000.0;
                }
                BatchProgress::Outputs(ready) => {
                    for index in ready {
                        let mut file = vec![0; engine.output_bytes(index)?];
                        engine.write_output(index, &mut file)?;
                        let start = Instant::now();
                        let (index, values) = client.decrypt(&file, &secret)?;
                        // Only the slots that hold images are of use.
                        let values = values.iter().take(members.len()).copied().collect::<Vec<f64>>();
                        outputs[index] = Some(values.into());
                        times.decrypt += since(start) / 1000.0;
                    }
                }
                BatchProgress::Running { .. } => {}
                BatchProgress::Done => break,
            }
        }
        let counts = engine.counts();
        products += counts.products;
        key_switches += counts.key_switches;
        for (&(image, _), values) in members.iter().zip(client.gather(0, &outputs, members.len())?) {
            answers[image].push(values.to_vec());
        }
    }
    bar.finish_and_clear();
    let (mut outcomes, mut max_error) = (Vec::new(), 0.0);
    for (index, (cut, values)) in cuts.iter().zip(answers).enumerate() {
        let values = cut.joined(values);
        let error = values.iter().zip(&images.clear[index]).map(|(a, &b)| (a - f64::from(b)).abs()).fold(0.0, f64::max);
        max_error = f64::max(max_error, error);
        let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
        outcomes.push(Outcome { index, infer_ms: 0.0, max_error: error, answer: (images.answer)(index, &values)? });
    }
    let clear = images.clear.iter().enumerate().map(|(i, values)| (images.answer)(i, values));
    let clear = clear.collect::<Result<Vec<Answer>>>()?;
    let mut report = Report {
        model: model.name.clone(),
        data: images.set.name().into(),
        mode: "batch",
        set: program.set().name().into(),
        images: images.count,
        clear_images: clear.len(),
        batches,
        slots,
        empty_slots: batches * slots - inputs.len(),
        figures: Figures::new(images.set, &clear, &outcomes)?,
        max_error,
        predicted_error: client.meta().output_error.first().copied().unwrap_or(0.0),
        encrypt_s: times.encrypt,
        load_s: times.load,
        evaluate_s: times.evaluate,
        decrypt_s: times.decrypt,
        images_per_second: 0.0,
        threads: workers,
        products,
        key_switches,
        input_bytes,
        arena_bytes: program.arena_bytes(workers),
        peak_rss_bytes: peak_rss_bytes(),
    };
    report.images_per_second = (batches * slots) as f64 / (report.load_s + report.evaluate_s);
    context.result(&report, || text(&report, &compiled.report))
}

fn text(report: &Report, compiled: &BatchReport) -> String {
    let (intervals, mut rows, remarks) = report.figures.text(report.images, report.clear_images);
    rows.extend([
        ("largest error", format!("{:.1e} (predicted sigma {:.1e})", report.max_error, report.predicted_error)),
        (
            "batches",
            format!(
                "{} of {} images{}",
                report.batches,
                report.slots,
                match report.empty_slots {
                    0 => String::new(),
                    empty => format!(", {empty} slots without an image"),
                }
            ),
        ),
        (
            "time",
            format!(
                "encrypt {}, take in {}, evaluate {}, decrypt {}, on {}",
                duration(report.encrypt_s * 1000.0),
                duration(report.load_s * 1000.0),
                duration(report.evaluate_s * 1000.0),
                duration(report.decrypt_s * 1000.0),
                threads(report.threads)
            ),
        ),
        (
            "throughput",
            format!(
                "{:.0} images/s, {:.0} an hour in full batches, inputs taken in and evaluated",
                report.images_per_second,
                report.images_per_second * 3600.0
            ),
        ),
        ("work", format!("{:.2e} products with weights, {} key switches", report.products as f64, report.key_switches)),
        ("traffic", format!("input {}", bytes(report.input_bytes))),
        ("security", security_line(&report.set, report.slots, "QP", compiled.log_qp)),
    ]);
    let peak = report.peak_rss_bytes.map_or(String::new(), |b| format!(", {} at most, the whole process", bytes(b)));
    rows.push(("memory", format!("arena {}{peak}", bytes(report.arena_bytes))));
    format!("  {} on {}, in batches, {intervals}\n\n{}{remarks}", report.model, report.data, pairs(&rows))
}
