//! `demo`: everything in one go on one image.

use super::context::Context;
use super::error::{Code, Failure};
use super::report::RunReport;
use super::units::{bytes, table, threads};
use super::{compile, files, picture};
use anyhow::{Context as _, Result};
use cipherlens::client::{Client, decide};
use cipherlens::compile::{CompileOptions, Compiled, compile as compile_model};
use cipherlens::datasets::{DataError, Dataset, Digits, Picture};
use cipherlens::encrypt::EncryptionKey;
use cipherlens::evaluate::{Memory, infer, peak_rss_bytes};
use cipherlens::keys::{SecretKey, evaluation_keys};
use cipherlens::models::Task;
use cipherlens::pool::Pool;
use cipherlens::random::Random;
use cipherlens_kernel::keys::RamKeys;
use cipherlens_kernel::parallel::Parallel;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::KeyBundle;
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Embedded model (mnist, mnist-micro, tenseal-cnn, orion-mlp, cryptonets, melanoma, melanoma-kaggle10k) or path
    /// of an .onnx file
    #[arg(default_value = "mnist")]
    model: String,
    /// Which of the 300 embedded drawn digits, or 8 drawn lesions
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with_all = ["mnist_index", "image"])]
    index: usize,
    /// One of the MNIST test images in the data folder instead
    #[arg(long, value_name = "N", conflicts_with = "image")]
    mnist_index: Option<usize>,
    /// A PNG or JPEG file instead; squashed to the network's size whatever its own
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

/// The image of a demo.
struct Shown {
    title: String,
    picture: Picture,
    label: Option<usize>,
}

/// Inferences after the first; their median is reported.
const STEADY_RUNS: usize = 5;

/// Milliseconds since `start`.
pub fn since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let model = compile::model(&arguments.model, None)?;
    let shown = shown(arguments, compile::input_shape(&model), context)?;
    let image = shown.picture.values();
    let input: usize = compile::input_shape(&model).iter().product();
    if input != image.len() {
        let message = format!("{} takes {input} values; {} has {}", arguments.model, shown.title, image.len());
        let hint = "the demo shows networks that read digits or colour pictures; use compile, encrypt, run and decrypt";
        return Err(Failure::new(Code::Unsupported, message).hint(hint).into());
    }

    let start = Instant::now();
    let spinner = context.spinner("compile");
    let options = CompileOptions { calibration: compile::drawn(&model), ..Default::default() };
    let Compiled { bytes: blob, report: compiled, .. } = compile_model(&model, &options)?;
    spinner.finish_and_clear();
    let program = Program::verify(&blob)?;
    let client = Client::new(program)?;
    let mut report = RunReport::new(&model.name, &program, blob.len(), context.evaluation_threads());
    report.compile_ms = Some(since(start));
    report.class_names.clone_from(&model.labels);

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
    let (encrypted, expected) = (result.class(), decide(&clear));
    let errors = result.scores.iter().zip(&clear).map(|(a, b)| (a - b).abs());
    report.max_error = Some(errors.fold(0.0, f64::max));
    report.predicted_error = compiled.output_error.first().copied();
    report.clear = Some(expected);
    report.encrypted = Some(encrypted);
    report.agree = Some(encrypted == expected);
    report.label = shown.label;
    report.correct = report.label.map(|label| label == encrypted);
    report.peak_rss_bytes = peak_rss_bytes();
    context.result(&report, || text(&report, &shown, context.verbose.then(|| layers(&compiled))))
}

/// The image that the arguments ask for, in the shape that the network reads.
fn shown(arguments: &Arguments, shape: &[usize], context: &Context) -> Result<Shown> {
    if let Some(path) = &arguments.image {
        let picture = photo(path, shape, context)?;
        return Ok(Shown { title: path.display().to_string(), picture, label: None });
    }
    let (set, index): (Box<dyn Dataset>, usize) = match arguments.mnist_index {
        Some(index) => (Box::new(Digits::mnist_test(&context.data())?), index),
        None => (Task::of_input(shape).unwrap_or(Task::Digits).fixtures(), arguments.index),
    };
    let picture = picture(&*set, index)?;
    // Networks that read pictures of another size see the lesions in theirs.
    let picture = match *shape {
        [3, height, width] if arguments.mnist_index.is_none() => picture.resized(width, height),
        _ => picture,
    };
    Ok(Shown { title: format!("{}, image {index}", set.name()), picture, label: set.label(index) })
}

/// Image `index` of a set.
pub fn picture(set: &dyn Dataset, index: usize) -> Result<Picture> {
    set.picture(index).map_err(|error| match error {
        error @ DataError::NoImage { .. } => Failure::new(Code::Usage, error.to_string()).into(),
        error => error.into(),
    })
}

/// A PNG or JPEG file in the shape that the network reads.
pub fn photo(path: &Path, shape: &[usize], context: &Context) -> Result<Picture> {
    let bytes = files::read(path)?;
    let &[channels, height, width] = shape else {
        let message = format!("the network reads values of the shape {shape:?}, not pictures");
        return Err(Failure::new(Code::Unsupported, message).into());
    };
    let found = Picture::decode(&bytes, channels)
        .map_err(|error| Failure::new(Code::BadFile, format!("{}: {error}", path.display())))?;
    if found.is_expanded() {
        context.note(&format!("{} is grey; the network sees it in all three colours", path.display()));
    }
    let [_, h, w] = found.shape();
    if h * width != w * height {
        context.note(&format!("{} is {w}x{h} pixels, squashed to {width}x{height}", path.display()));
    }
    Ok(found.resized(width, height))
}

fn text(report: &RunReport, shown: &Shown, layers: Option<String>) -> String {
    let bold = anstyle::Style::new().bold();
    let verdict = |good: bool, yes, no| {
        let colour = if good { anstyle::AnsiColor::Green } else { anstyle::AnsiColor::Red }.on_default().bold();
        format!("{colour}{}{colour:#}", if good { yes } else { no })
    };
    let class = |c: Option<usize>| c.map_or(String::new(), |c| report.class_name(c));
    let agree = verdict(report.agree == Some(true), "the same class", "another class");
    let mut right = vec![
        format!("{bold}{}{bold:#} on {}", report.model, shown.title),
        String::new(),
        format!("encrypted network  {bold}{}{bold:#}", class(report.encrypted)),
        format!("clear network      {bold}{}{bold:#}   {agree}", class(report.clear)),
    ];
    if let (Some(label), Some(correct)) = (report.label, report.correct) {
        let label = report.class_name(label);
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
    let small = picture::small(&shown.picture);
    let left = picture::draw(&small, picture::colours());
    format!("{}\n{}{}", picture::beside(&left, small.width(), &right), layers.unwrap_or_default(), report.text())
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
