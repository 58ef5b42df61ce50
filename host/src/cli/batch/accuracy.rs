//! `accuracy --mode batch`: a data set through the network in batches, against the clear one.

use crate::cli::context::Context;
use crate::cli::demo::since;
use crate::cli::report::security_line;
use crate::cli::tiles::Cut;
use crate::cli::units::{bytes, duration, pairs, threads};
use anyhow::{Context as _, Result};
use cipherlens::batch::{BatchClient, Pixels, memory};
use cipherlens::client::decide;
use cipherlens::compile::ModelGraph;
use cipherlens::compile::batch::{BatchOptions, BatchReport, compile_batch};
use cipherlens::datasets::Dataset;
use cipherlens::encrypt::EncryptionKey;
use cipherlens::evaluate::peak_rss_bytes;
use cipherlens::keys::{SecretKey, evaluation_keys};
use cipherlens::pool::Pool;
use cipherlens::random::Random;
use cipherlens::statistics::wilson;
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
    batches: usize,
    slots: usize,
    empty_slots: usize,
    /// Of outputs that are one decision: right ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    clear_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted_interval: Option<[f64; 2]>,
    /// Decisions, or pixels, that are those of the clear network.
    agreement: f64,
    decisions: usize,
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

/// Evaluates the first images of a set, all tiles of each; `clear` has at least as many answers.
pub fn run(
    model: &ModelGraph,
    (set, images, cut): (&dyn Dataset, usize, &dyn Fn(usize) -> Result<Cut>),
    clear: &[Vec<f32>],
    options: &BatchOptions,
    context: &Context,
) -> Result<()> {
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
    let cuts = (0..images).map(cut).collect::<Result<Vec<Cut>>>()?;
    let inputs: Vec<(usize, &Vec<f32>)> =
        cuts.iter().enumerate().flat_map(|(image, cut)| cut.inputs.iter().map(move |input| (image, input))).collect();
    let batches = inputs.len().div_ceil(slots);
    let mut report = Report {
        model: model.name.clone(),
        data: set.name().into(),
        mode: "batch",
        set: program.set().name().into(),
        images,
        batches,
        slots,
        empty_slots: 0,
        clear_accuracy: None,
        encrypted_accuracy: None,
        encrypted_interval: None,
        agreement: 0.0,
        decisions: 0,
        max_error: 0.0,
        predicted_error: client.meta().output_error.first().copied().unwrap_or(0.0),
        encrypt_s: 0.0,
        load_s: 0.0,
        evaluate_s: 0.0,
        decrypt_s: 0.0,
        images_per_second: 0.0,
        threads: workers,
        products: 0,
        key_switches: 0,
        input_bytes: 0,
        arena_bytes: program.arena_bytes(workers),
        peak_rss_bytes: None,
    };
    let mut answers: Vec<Vec<Vec<f64>>> = vec![Vec::new(); images];
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
            report.evaluate_s += since(start) / 1000.0;
            match progress {
                BatchProgress::Inputs(inputs) => {
                    let start = Instant::now();
                    let files = client.encrypt(inputs, &pixels, EncryptionKey::Secret(&secret), context.threads())?;
                    report.encrypt_s += since(start) / 1000.0;
                    report.input_bytes += files.iter().map(Vec::len).sum::<usize>();
                    let start = Instant::now();
                    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
                    engine.set_inputs_on(&pool, &files)?;
                    report.load_s += since(start) / 1000.0;
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
                        report.decrypt_s += since(start) / 1000.0;
                    }
                }
                BatchProgress::Running { .. } => {}
                BatchProgress::Done => break,
            }
        }
        let counts = engine.counts();
        report.products += counts.products;
        report.key_switches += counts.key_switches;
        for (&(image, _), values) in members.iter().zip(client.gather(0, &outputs, members.len())?) {
            answers[image].push(values.to_vec());
        }
    }
    bar.finish_and_clear();
    report.empty_slots = batches * slots - inputs.len();
    let masks = cuts.iter().any(|cut| cut.tiling.is_some());
    let (mut right, mut clear_right, mut agree) = (0, 0, 0);
    for (i, (cut, answer)) in cuts.iter().zip(answers).enumerate() {
        let scores = cut.joined(answer);
        let expected: Vec<f64> = clear[i].iter().copied().map(f64::from).collect();
        let errors = scores.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        report.max_error = errors.fold(report.max_error, f64::max);
        if masks {
            // A decision for each pixel.
            agree += scores.iter().zip(&expected).filter(|(a, b)| (**a > 0.0) == (**b > 0.0)).count();
            report.decisions += scores.len();
        } else {
            let (encrypted, clear) = (decide(&scores), decide(&expected));
            right += usize::from(set.label(i) == Some(encrypted));
            clear_right += usize::from(set.label(i) == Some(clear));
            agree += usize::from(encrypted == clear);
            report.decisions += 1;
        }
    }
    report.agreement = agree as f64 / report.decisions as f64;
    if !masks {
        report.clear_accuracy = Some(clear_right as f64 / images as f64);
        report.encrypted_accuracy = Some(right as f64 / images as f64);
        report.encrypted_interval = Some(wilson(right, images));
    }
    report.images_per_second = (batches * slots) as f64 / (report.load_s + report.evaluate_s);
    report.peak_rss_bytes = peak_rss_bytes();
    context.result(&report, || text(&report, &compiled.report))
}

fn text(report: &Report, compiled: &BatchReport) -> String {
    let percent = |ratio: f64| format!("{:.2} %", ratio * 100.0);
    let mut rows = Vec::new();
    if let (Some(clear), Some(encrypted), Some([low, high])) =
        (report.clear_accuracy, report.encrypted_accuracy, report.encrypted_interval)
    {
        rows.push(("clear", percent(clear)));
        rows.push((
            "encrypted",
            format!("{}  ({:.2} to {:.2} %, {} images)", percent(encrypted), low * 100.0, high * 100.0, report.images),
        ));
    }
    rows.extend([
        ("same decision", format!("{}  ({})", percent(report.agreement), report.decisions)),
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
    format!("  {} on {}, in batches\n\n{}", report.model, report.data, pairs(&rows))
}
