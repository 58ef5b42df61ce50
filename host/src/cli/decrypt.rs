//! `decrypt`: the decision, or with `--scores` the scores.

use super::batch;
use super::context::Context;
use super::demo::since;
use super::files;
use anyhow::{Context as _, Result};
use cipherlens::client::Client;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The program that computed the result
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// The secret key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The result, as `run` wrote it; of a batch its folder
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Of a batch: the folder that `encrypt --batch` wrote, whose record tells the number of images
    #[arg(long, value_name = "DIR")]
    batch: Option<PathBuf>,
    /// Of a batch: the number of images, where its record is elsewhere
    #[arg(long, value_name = "N", conflicts_with = "batch")]
    images: Option<usize>,
    /// Show the scores as well; they must never reach the evaluator
    #[arg(long)]
    scores: bool,
}

#[derive(Serialize)]
struct Report {
    model: String,
    output: String,
    class: usize,
    /// Of several images in one ciphertext, each one's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    classes: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Vec<f64>>,
    decrypt_ms: f64,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let blob = files::read(&arguments.program)?;
    if batch::is_batch(&blob) {
        let Arguments { program, key, input, scores, images, batch, .. } = arguments;
        return batch::decrypt::run((program, &blob), key, input, (*images, batch.as_deref()), *scores, context);
    }
    let client = Client::new(files::program(&arguments.program, &blob)?)?;
    let secret = files::secret_key(&arguments.key, client.set(), context)?;
    let ciphertext = files::read(&arguments.input)?;
    let start = Instant::now();
    let result = client
        .decrypt(&ciphertext, &secret)
        .with_context(|| format!("cannot decrypt {} with {}", arguments.input.display(), arguments.key.display()))?;
    let report = Report {
        model: client.meta().model.clone(),
        output: client.meta().outputs.get(result.output).map_or(String::new(), |o| o.name.clone()),
        class: result.class(),
        classes: if result.images > 1 { result.classes() } else { Vec::new() },
        class_name: client.meta().labels.get(result.class()).cloned(),
        scores: arguments.scores.then(|| result.scores.to_vec()),
        decrypt_ms: since(start),
    };
    if report.scores.is_some() {
        context.warn(
            "scores are approximate, and their error depends on the secret key: never show them to the \
             evaluator (eprint 2020/1533)",
        );
    }
    context.result(&report, || {
        let scores = report.scores.iter().flatten().enumerate().map(|(i, s)| format!("{i} {s:.4}\n"));
        let classes = result.classes().into_iter().map(|class| format!("{}\n", client.class_name(class)));
        classes.chain(scores).collect()
    })
}
