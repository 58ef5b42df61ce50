//! `decrypt` of a batch: a folder of results to a decision for each image.

use super::{Record, part, program, split, stores};
use crate::cli::context::Context;
use crate::cli::demo::since;
use crate::cli::error::{Code, Failure};
use crate::cli::files;
use anyhow::{Context as _, Result};
use cipherlens::batch::BatchClient;
use cipherlens::client::decide;
use cipherlens::files::hex;
use cipherlens::keys::SecretKey;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

#[derive(Serialize)]
struct Report {
    model: String,
    images: usize,
    classes: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Vec<Vec<f64>>>,
    decrypt_ms: f64,
}

/// Decrypts the results in `folder`. `images` is their number, else that of the record in `batch`, else all slots.
pub fn run(
    (path, blob): (&Path, &[u8]),
    secret: &Path,
    folder: &Path,
    (images, record): (Option<usize>, Option<&Path>),
    scores: bool,
    context: &Context,
) -> Result<()> {
    let program = program(path, blob)?;
    let client = BatchClient::new(program)?;
    let secret: SecretKey = files::secret_key(secret, client.set(), context)?;
    let record = record.map(|folder| {
        let missing = || Failure::new(Code::BadFile, format!("{} holds no record of a batch", folder.display()));
        Record::read(folder)?.ok_or_else(|| missing().into())
    });
    let record: Option<Record> = record.transpose().map_err(|error: anyhow::Error| error)?;
    if let Some(record) = record.as_ref().filter(|r| r.program != hex(&program.fingerprint())) {
        let message = format!("the batch is for the program {}, not {}", record.program, hex(&program.fingerprint()));
        return Err(Failure::new(Code::Mismatch, message).into());
    }
    let images = images.or(record.map(|r| r.images)).unwrap_or(client.images());
    if images > client.images() {
        let message = format!("{images} images; a batch has {} slots", client.images());
        return Err(Failure::new(Code::Usage, message).into());
    }
    let start = Instant::now();
    let mut slots = vec![None; program.outputs()];
    for range in stores(&program) {
        let path = part(folder, "result", range.start);
        let bytes = files::read(&path)?;
        for file in split(&path, &bytes, range.len())? {
            let (index, values) =
                client.decrypt(file, &secret).with_context(|| format!("cannot decrypt {}", path.display()))?;
            slots[index] = Some(values);
        }
    }
    let results = client.gather(0, &slots, images)?;
    let classes: Vec<usize> = results.iter().map(|scores| decide(scores)).collect();
    let report = Report {
        model: client.meta().model.clone(),
        images,
        classes,
        scores: scores.then(|| results.iter().map(|s| s.to_vec()).collect()),
        decrypt_ms: since(start),
    };
    if scores {
        context.warn(
            "scores are approximate, and their error depends on the secret key: never show them to the \
             evaluator (eprint 2020/1533)",
        );
    }
    context.result(&report, || {
        let labels = &client.meta().labels;
        let name = |class: usize| labels.get(class).cloned().unwrap_or_else(|| class.to_string());
        let mut text = String::from(if scores { "image,class,scores\n" } else { "image,class\n" });
        for (i, &class) in report.classes.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{i},{}", name(class));
            for score in report.scores.iter().flat_map(|s| &s[i]) {
                let _ = write!(text, ",{score:.4}");
            }
            text.push('\n');
        }
        text
    })
}
