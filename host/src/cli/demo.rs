//! `demo`: everything in one go on one digit.

use super::context::Context;
use super::error::{Code, Failure};
use super::report::RunReport;
use super::units::{bytes, table, threads};
use super::{compile, picture};
use anyhow::{Context as _, Result};
use cipherlens::client::{Client, argmax};
use cipherlens::compile::{CompileOptions, Compiled, compile as compile_model};
use cipherlens::datasets::Digits;
use cipherlens::encrypt::EncryptionKey;
use cipherlens::evaluate::{Memory, infer};
use cipherlens::keys::{SecretKey, evaluation_keys};
use cipherlens::pool::Pool;
use cipherlens::random::Random;
use cipherlens_kernel::keys::RamKeys;
use cipherlens_kernel::parallel::Parallel;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::KeyBundle;
use clap::Args;
use std::time::Instant;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Embedded model (mnist, mnist-micro, tenseal-cnn, orion-mlp, cryptonets) or path of an .onnx file
    #[arg(default_value = "mnist")]
    model: String,
    /// Which of the 300 embedded drawn digits
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "mnist_index")]
    index: usize,
    /// One of the MNIST test images in the data folder instead
    #[arg(long, value_name = "N")]
    mnist_index: Option<usize>,
}

/// Inferences after the first; their median is reported.
const STEADY_RUNS: usize = 5;

/// Milliseconds since `start`.
pub fn since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let model = compile::model(&arguments.model, None)?;
    let (digits, index) = match arguments.mnist_index {
        Some(index) => (Digits::mnist_test(&context.data())?, index),
        None => (Digits::drawn(), arguments.index),
    };
    let (pixels, image) = digit(&digits, index)?;
    let input = model.inputs.first().map_or(0, |&i| model.tensors[i].len());
    if input != image.len() {
        let message = format!("{} takes {input} values; a digit has {}", arguments.model, image.len());
        let hint = "the demo shows networks that read 28x28 grey digits; use compile, encrypt, run and decrypt";
        return Err(Failure::new(Code::Unsupported, message).hint(hint).into());
    }

    let start = Instant::now();
    let spinner = context.spinner("compile");
    let options = CompileOptions { calibration: compile::drawn(), ..Default::default() };
    let Compiled { bytes: blob, report: compiled, .. } = compile_model(&model, &options)?;
    spinner.finish_and_clear();
    let program = Program::verify(&blob)?;
    let client = Client::new(program)?;
    let mut report = RunReport::new(&model.name, &program, blob.len(), context.evaluation_threads());
    report.compile_ms = Some(since(start));

    let start = Instant::now();
    let mut random = Random::from_os()?;
    let secret = SecretKey::generate(*program.set(), &mut random);
    let requests = client.requests();
    let bar = context.bar("keys", requests.len());
    let keys = evaluation_keys(&secret, client.ring(), &requests, &mut random, |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    report.keygen_ms = Some(since(start));

    let start = Instant::now();
    let inputs = client.encrypt(0, &image, EncryptionKey::Secret(&secret), &mut random)?;
    report.encrypt_ms = Some(since(start));
    report.input_bytes = inputs.iter().map(Vec::len).sum();

    let start = Instant::now();
    let mut memory = Memory::default();
    let pool = Pool::new(context.evaluation_threads())?;
    let mut engine = memory.engine(program, &keys, pool.workers())?;
    report.prepare_ms = since(start);
    let (outputs, first_ms) = infer(&mut engine, &inputs, &pool)?;
    let mut times = (0..STEADY_RUNS).map(|_| Ok(infer(&mut engine, &inputs, &pool)?.1)).collect::<Result<Vec<_>>>()?;
    times.sort_by(f64::total_cmp);
    report.first_ms = Some(first_ms);
    report.infer_ms = times[STEADY_RUNS / 2];
    report.count(engine.counts(), engine.backend());
    report.cache_bytes = program.cache_bytes();
    report.expanded_key_bytes = RamKeys::words(&KeyBundle::new_checked(&keys)?) * 4;
    report.output_bytes = outputs.iter().map(Vec::len).sum();

    let start = Instant::now();
    let result = client.decrypt(outputs.first().context("the program has no output")?, &secret)?;
    report.decrypt_ms = Some(since(start));

    let clear: Vec<f64> = model.evaluate(&image)?.into_iter().map(f64::from).collect();
    let (encrypted, expected) = (result.class(), argmax(&clear));
    let errors = result.scores.iter().zip(&clear).map(|(a, b)| (a - b).abs());
    report.max_error = Some(errors.fold(0.0, f64::max));
    report.predicted_error = compiled.output_error.first().copied();
    report.clear = Some(expected);
    report.encrypted = Some(encrypted);
    report.agree = Some(encrypted == expected);
    report.label = digits.label(index);
    report.correct = report.label.map(|label| usize::from(label) == encrypted);
    context.result(&report, || text(&report, &digits, index, pixels, context.verbose.then(|| layers(&compiled))))
}

/// Pixels and values of a digit.
pub fn digit(digits: &Digits, index: usize) -> Result<(&[u8], Vec<f32>)> {
    digits.pixels(index).zip(digits.image(index)).ok_or_else(|| {
        let message = format!("no image {index}: the {} are 0 to {}", digits.name(), digits.len().saturating_sub(1));
        Failure::new(Code::Usage, message).into()
    })
}

fn text(report: &RunReport, digits: &Digits, index: usize, pixels: &[u8], layers: Option<String>) -> String {
    let bold = anstyle::Style::new().bold();
    let verdict = |good: bool, yes, no| {
        let colour = if good { anstyle::AnsiColor::Green } else { anstyle::AnsiColor::Red }.on_default().bold();
        format!("{colour}{}{colour:#}", if good { yes } else { no })
    };
    let class = |c: Option<usize>| c.map_or(String::new(), |c| c.to_string());
    let agree = verdict(report.agree == Some(true), "the same class", "another class");
    let mut right = vec![
        format!("{bold}{}{bold:#} on {}, image {index}", report.model, digits.name()),
        String::new(),
        format!("encrypted network  {bold}{}{bold:#}", class(report.encrypted)),
        format!("clear network      {bold}{}{bold:#}   {agree}", class(report.clear)),
    ];
    if let (Some(label), Some(correct)) = (report.label, report.correct) {
        right.push(format!("label              {bold}{label}{bold:#}   {}", verdict(correct, "right", "wrong")));
    }
    right.push(String::new());
    right.push(format!(
        "largest error of a score {:.1e} (predicted sigma {:.1e})",
        report.max_error.unwrap_or(0.0),
        report.predicted_error.unwrap_or(0.0)
    ));
    right.push(format!(
        "one image in {bold}{:.1} ms{bold:#} on {}, {} of memory",
        report.infer_ms,
        threads(report.threads),
        bytes(report.arena_bytes + report.cache_bytes + report.expanded_key_bytes)
    ));
    let left = picture::draw(pixels, digits.width(), picture::colours());
    format!("{}\n{}{}", picture::beside(&left, digits.width(), &right), layers.unwrap_or_default(), report.text())
}

/// The layer table of the compiler's report.
pub fn layers(report: &cipherlens::compile::Report) -> String {
    let rows: Vec<Vec<String>> = report
        .layers
        .iter()
        .map(|l| {
            vec![
                l.layer.clone(),
                l.operation.clone(),
                l.limbs.to_string(),
                format!("{:.1}", l.log_scale),
                l.log_plain_scale.map_or(String::new(), |s| format!("{s:.1}")),
                format!("{:.1e}", l.error),
                format!("{:.2}", l.predicted_us / 1000.0),
            ]
        })
        .collect();
    table(&["layer", "operation", "limbs", "log2 scale", "weights", "error", "ms"], &rows) + "\n"
}
