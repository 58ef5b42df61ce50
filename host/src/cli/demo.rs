//! `demo`: everything in one go on one image.

mod masks;

use super::context::Context;
use super::error::{Code, Failure};
use super::holder::Holder;
use super::report::RunReport;
use super::tiles::{Cut, TileOptions, mask_of};
use super::units::{bytes, parse_bytes, table, threads};
use super::{compile, files, picture};
use anyhow::{Context as _, Result};
use cipherlens::client::{Client, decide};
use cipherlens::compile::{CompileOptions, Compiled, ModelGraph, compile as compile_model};
use cipherlens::datasets::{DataError, Dataset, Digits, Picture};
use cipherlens::encrypt::EncryptionKey;
use cipherlens::evaluate::{Memory, infer, peak_rss_bytes};
use cipherlens::mask::Mask;
use cipherlens::models::Task;
use cipherlens::pool::Pool;
use cipherlens_kernel::parallel::Parallel;
use cipherlens_kernel::program::Program;
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Embedded model (mnist, mnist-micro, tenseal-cnn, orion-mlp, cryptonets, melanoma, melanoma-kaggle10k,
    /// unet-lesion or unet, unet-nuclei, unet-em) or path of an .onnx file
    #[arg(default_value = "mnist")]
    model: String,
    /// Which of the 300 embedded drawn digits, 8 drawn lesions, 4 drawn nuclei or membranes
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with_all = ["mnist_index", "image"])]
    index: usize,
    /// One of the MNIST test images in the data folder instead
    #[arg(long, value_name = "N", conflicts_with = "image")]
    mnist_index: Option<usize>,
    /// A PNG or JPEG file instead; squashed to the network's size whatever its own, or cut into tiles
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    #[command(flatten)]
    tiles: TileOptions,
    /// Folder for mask.png and overlay.png of a network that gives masks; made where it is missing
    #[arg(short, long, value_name = "DIR", default_value = "cipherlens-demo")]
    output: PathBuf,
    /// Memory to evaluate within: weights are kept ready for use where they fit
    #[arg(long, value_name = "BYTES", default_value = "1.5GiB", value_parser = parse_bytes)]
    memory: usize,
}

/// The image of a demo.
struct Shown {
    title: String,
    picture: Picture,
    label: Option<usize>,
    mask: Option<Mask>,
}

/// Inferences after the first; their median is reported.
const STEADY_RUNS: usize = 5;

/// Milliseconds since `start`.
pub fn since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let model = compile::model(&arguments.model, None)?;
    if let Some(size) = mask_of(&model) {
        return masks::run(arguments, &model, size, context);
    }
    arguments.tiles.refuse(&arguments.model)?;
    let shown = shown(arguments, &model, context)?;
    let image = shown.picture.values();
    let input: usize = compile::input_shape(&model).iter().product();
    if input != image.len() {
        let message = format!("{} takes {input} values; {} has {}", arguments.model, shown.title, image.len());
        let hint = "the demo shows networks that read digits or colour pictures; use compile, encrypt, run and decrypt";
        return Err(Failure::new(Code::Unsupported, message).hint(hint).into());
    }
    let (Compiled { bytes: blob, report: compiled, .. }, compile_ms) = compiled(&model, context)?;
    let client = Client::new(Program::verify(&blob)?)?;
    let cut = Cut { inputs: vec![image], tiling: None };
    let (mut report, mut scores) = evaluated(&client, blob.len(), &cut, arguments, context)?;
    let scores = scores.pop().context("the program has no output")?;
    report.compile_ms = Some(compile_ms);
    report.class_names.clone_from(&model.labels);

    let clear = cut.clear(&model)?;
    let (encrypted, expected) = (decide(&scores), decide(&clear));
    report.max_error = Some(largest_error(&scores, &clear));
    report.predicted_error = compiled.output_error.first().copied();
    report.clear = Some(expected);
    report.encrypted = Some(encrypted);
    report.agree = Some(encrypted == expected);
    report.label = shown.label;
    report.correct = report.label.map(|label| label == encrypted);
    context.result(&report, || text(&report, &shown, context.verbose.then(|| layers(&compiled))))
}

/// The model compiled with drawn images as calibration, and the milliseconds that it took.
fn compiled(model: &ModelGraph, context: &Context) -> Result<(Compiled, f64)> {
    let start = Instant::now();
    let spinner = context.spinner("compile");
    let options = CompileOptions { calibration: compile::drawn(model), ..Default::default() };
    let compiled = compile_model(model, &options)?;
    spinner.finish_and_clear();
    Ok((compiled, since(start)))
}

/// Keys, encryption, evaluation and decryption: what that takes, and the scores of each input.
fn evaluated(
    client: &Client<'_>,
    program_bytes: usize,
    cut: &Cut,
    arguments: &Arguments,
    context: &Context,
) -> Result<(RunReport, Vec<Vec<f64>>)> {
    let program = *client.program();
    let mut report = RunReport::new(&client.meta().model, &program, program_bytes, context.evaluation_threads());
    let mut holder = Holder::new(client, context)?;
    report.keygen_ms = Some(holder.keygen_ms);

    let start = Instant::now();
    let mut memory = Memory::default();
    let pool = Pool::new(context.evaluation_threads())?;
    report.cache_bytes = holder.cache_within(arguments.memory, client, program_bytes, pool.workers());
    let mut engine = memory.engine_with(program, &holder.keys, pool.workers(), report.cache_bytes)?;
    report.prepare_ms = since(start);

    let count = cut.inputs.len();
    let (mut times, mut scores) = (Vec::new(), Vec::new());
    let bar = context.bar("evaluate", count);
    for input in &cut.inputs {
        let start = Instant::now();
        let inputs = client.encrypt(0, input, EncryptionKey::Secret(&holder.secret), &mut holder.random)?;
        report.encrypt_ms = Some(since(start));
        report.input_bytes = inputs.iter().map(Vec::len).sum();
        let (outputs, ms) = infer(&mut engine, &inputs, &pool)?;
        report.first_ms.get_or_insert(ms);
        if count > 1 {
            times.push(ms);
        } else {
            times = (0..STEADY_RUNS).map(|_| Ok(infer(&mut engine, &inputs, &pool)?.1)).collect::<Result<_>>()?;
        }
        report.output_bytes = outputs.iter().map(Vec::len).sum();
        let start = Instant::now();
        scores.push(
            client.decrypt(outputs.first().context("the program has no output")?, &holder.secret)?.scores.to_vec(),
        );
        report.decrypt_ms = Some(since(start));
        bar.inc(1);
    }
    bar.finish_and_clear();
    report.tiles = (count > 1).then_some(count);
    times.sort_by(f64::total_cmp);
    report.infer_ms = if count > 1 { times.iter().sum::<f64>() / count as f64 } else { times[times.len() / 2] };
    report.count(engine.counts(), engine.backend());
    report.expanded_key_bytes = holder.words * 4;
    report.peak_rss_bytes = peak_rss_bytes();
    Ok((report, scores))
}

/// Largest absolute difference of values from those of the clear network.
pub fn largest_error(values: &[f64], clear: &[f64]) -> f64 {
    values.iter().zip(clear).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The image that the arguments ask for: in the shape that the network reads, or as it is where the network gives masks.
fn shown(arguments: &Arguments, model: &ModelGraph, context: &Context) -> Result<Shown> {
    let (shape, masks) = (compile::input_shape(model), mask_of(model).is_some());
    if let Some(path) = &arguments.image {
        let picture = if masks { decoded(path, shape, context)? } else { photo(path, shape, context)? };
        return Ok(Shown { title: path.display().to_string(), picture, label: None, mask: None });
    }
    let (set, index): (Box<dyn Dataset>, usize) = match arguments.mnist_index {
        Some(index) => (Box::new(Digits::mnist_test(&context.data())?), index),
        None => (Task::of(model).unwrap_or(Task::Digits).fixtures(), arguments.index),
    };
    let picture = picture(&*set, index)?;
    // Networks that read pictures of another size see the lesions in theirs.
    let picture = match *shape {
        [3, height, width] if arguments.mnist_index.is_none() && !masks => picture.resized(width, height),
        _ => picture,
    };
    let title = format!("{}, image {index}", set.name());
    Ok(Shown { title, picture, label: set.label(index), mask: set.mask(index)? })
}

/// Image `index` of a set.
pub fn picture(set: &dyn Dataset, index: usize) -> Result<Picture> {
    set.picture(index).map_err(|error| match error {
        error @ DataError::NoImage { .. } => Failure::new(Code::Usage, error.to_string()).into(),
        error => error.into(),
    })
}

/// A PNG or JPEG file at its own size, with the channels that the network reads.
pub fn decoded(path: &Path, shape: &[usize], context: &Context) -> Result<Picture> {
    let bytes = files::read(path)?;
    let &[channels, ..] = shape else {
        return Err(Failure::new(Code::Unsupported, "the network reads no pictures").into());
    };
    let found = Picture::decode(&bytes, channels)
        .map_err(|error| Failure::new(Code::BadFile, format!("{}: {error}", path.display())))?;
    if found.is_expanded() {
        context.note(&format!("{} is grey; the network sees it in all three colours", path.display()));
    }
    Ok(found)
}

/// A PNG or JPEG file in the shape that the network reads.
pub fn photo(path: &Path, shape: &[usize], context: &Context) -> Result<Picture> {
    let &[_, height, width] = shape else {
        let message = format!("the network reads values of the shape {shape:?}, not pictures");
        return Err(Failure::new(Code::Unsupported, message).into());
    };
    let found = decoded(path, shape, context)?;
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
