//! `decrypt`: the decision, or the mask, or with `--scores` the scores; with `--release` what may leave the key holder.

use super::batch;
use super::context::Context;
use super::demo::{decoded, since};
use super::error::{Code, Failure};
use super::files;
use super::release::{ReleaseOptions, Released};
use super::tiles::{Drawn, Record};
use anyhow::{Context as _, Result};
use cipherlens::client::{Client, Decrypted};
use cipherlens::mask::Mask;
use cipherlens::view::{Fit, Tiling};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The program that computed the result
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// The secret key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The result, as `run` wrote it; of several tiles all of theirs, in order, or the folder that holds
    /// nothing else; of a batch its folder
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// For a mask: where the tiles lie, as `encrypt` wrote it; without it the mask has the network's size
    #[arg(long, value_name = "FILE")]
    tiling: Option<PathBuf>,
    /// Mask to write (.png): 255 for the foreground, 0 for the rest
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The photograph that was encrypted: FILE.overlay.png beside the mask shows the outline on it
    #[arg(long, value_name = "PHOTO", requires = "output")]
    overlay: Option<PathBuf>,
    /// Of a batch: the folder that `encrypt --batch` wrote, whose record tells the number of images
    #[arg(long, value_name = "DIR")]
    batch: Option<PathBuf>,
    /// Of a batch: the number of images, where its record is elsewhere
    #[arg(long, value_name = "N", conflicts_with = "batch")]
    images: Option<usize>,
    /// Show the scores as well; they must never reach the evaluator
    #[arg(long)]
    scores: bool,
    #[command(flatten)]
    release: ReleaseOptions,
}

#[derive(Serialize)]
struct Report {
    model: String,
    output: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<usize>,
    /// Of several images in one ciphertext, each one's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    classes: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class_name: Option<String>,
    #[serde(flatten)]
    drawn: Option<Drawn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<Released>,
    decrypt_ms: f64,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let blob = files::read(&arguments.program)?;
    if batch::is_batch(&blob) {
        if arguments.release.wanted() {
            let message = "--release is for programs of one image at a time, not for batches";
            return Err(Failure::new(Code::Usage, message).into());
        }
        let Arguments { program, key, input, scores, images, batch, .. } = arguments;
        return batch::decrypt::run((program, &blob), key, &input[0], (*images, batch.as_deref()), *scores, context);
    }
    let client = Client::new(files::program(&arguments.program, &blob)?)?;
    let secret = files::secret_key(&arguments.key, client.set(), context)?;
    let inputs = files::ciphertexts(&arguments.input)?;
    let start = Instant::now();
    let decrypt = |path: &PathBuf| {
        let result = client.decrypt(&files::read(path)?, &secret);
        result.with_context(|| format!("cannot decrypt {} with {}", path.display(), arguments.key.display()))
    };
    let mut results = inputs.iter().map(decrypt).collect::<Result<Vec<Decrypted>>>()?;
    let release = arguments.release.apply(&mut results, &client, &secret, &arguments.key, context)?;
    let first = results.first().context("there is no result")?;
    let meta = client.meta();
    let mut report = Report {
        model: meta.model.clone(),
        output: meta.outputs.get(first.output).map_or(String::new(), |o| o.name.clone()),
        class: None,
        classes: Vec::new(),
        class_name: None,
        drawn: None,
        scores: arguments.scores.then(|| results.iter().flat_map(|r| r.scores.iter().copied()).collect()),
        release,
        decrypt_ms: since(start),
    };
    match meta.mask_size().filter(|_| first.output == 0) {
        Some(size) => report.drawn = Some(mask(arguments, &client, size, &results, context)?),
        None => {
            if arguments.output.is_some() || arguments.tiling.is_some() || results.len() > 1 {
                let message = format!(
                    "the output {:?} of {} is no mask: it takes one --input and no file",
                    report.output, meta.model
                );
                return Err(Failure::new(Code::Usage, message).into());
            }
            report.class = Some(first.class());
            report.classes = if first.images > 1 { first.classes() } else { Vec::new() };
            report.class_name = meta.labels.get(first.class()).cloned();
        }
    }
    if report.scores.is_some() {
        context.warn(
            "scores are approximate, and their error depends on the secret key: never show them to the \
             evaluator (eprint 2020/1533)",
        );
    }
    context.result(&report, || {
        let noised = report.release.iter().filter_map(|release| release.noised.as_ref());
        let shown = report.scores.iter().chain(noised).flatten();
        let scores = shown.enumerate().map(|(i, s)| format!("{i} {s:.4}\n"));
        let decisions = match &report.drawn {
            Some(drawn) if drawn.mask.is_some() => vec![format!("{}; {}\n", drawn.line(), drawn.files())],
            Some(drawn) => vec![format!("{}; -o FILE.png writes the mask\n", drawn.line())],
            None => first.classes().into_iter().map(|class| format!("{}\n", client.class_name(class))).collect(),
        };
        decisions.into_iter().chain(scores).chain(report.release.as_ref().map(Released::line)).collect()
    })
}

/// The mask from the logits of the tiles, written where that is asked for.
fn mask(
    arguments: &Arguments,
    client: &Client<'_>,
    size: [usize; 2],
    results: &[Decrypted],
    context: &Context,
) -> Result<Drawn> {
    let tiling = match &arguments.tiling {
        Some(path) => Record::open(path, client)?.tiling,
        None => Tiling::new(Fit::Resize, size, size, 0),
    };
    if results.iter().any(|result| result.output != 0) || results.len() != tiling.len() {
        let message = format!("the picture has {} tiles, {} results are given", tiling.len(), results.len());
        let hint = "give the result of each tile in order, and with --tiling the file that `encrypt` wrote";
        return Err(Failure::new(Code::Usage, message).hint(hint).into());
    }
    let logits: Vec<Vec<f64>> = results.iter().map(|result| result.scores.to_vec()).collect();
    let mask = Mask::of_logits(&tiling.stitch(&logits), tiling.picture[0]);
    let shape = client.meta().inputs.first().map_or(&[][..], |input| &input.shape);
    let photo = arguments.overlay.as_ref().map(|path| decoded(path, shape, context)).transpose()?;
    let photo = match (photo, &arguments.overlay) {
        (Some(photo), Some(path)) if photo.shape()[1..] != [mask.size()[1], mask.size()[0]] => {
            let ([_, h, w], [width, height]) = (photo.shape(), mask.size());
            let message = format!("{} is {w}x{h} pixels, the mask {width}x{height}", path.display());
            let hint = "name the photograph that was encrypted, and with --tiling the file that `encrypt` wrote";
            return Err(Failure::new(Code::Mismatch, message).hint(hint).into());
        }
        (photo, _) => photo,
    };
    let overlay = arguments.output.as_deref().map(overlay_path);
    let overlay = overlay.as_deref().zip(photo.as_ref());
    Drawn::write(&mask, &client.meta().labels, arguments.output.as_deref(), overlay, context)
}

/// Where the outline goes that belongs to a mask.
pub fn overlay_path(mask: &Path) -> PathBuf {
    mask.with_extension("overlay.png")
}
