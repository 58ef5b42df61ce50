//! `encrypt --batch`: images to a folder of parts.

use super::{RECORD, Record, loads, make_folder, part};
use crate::cli::context::Context;
use crate::cli::demo::since;
use crate::cli::error::{Code, Failure};
use crate::cli::units::{bytes, duration, pairs};
use anyhow::Result;
use cipherlens::batch::{BatchClient, Pixels};
use cipherlens::datasets::calibration_images;
use cipherlens::encrypt::EncryptionKey;
use cipherlens::files::hex;
use cipherlens_kernel::batch::BatchProgram;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::Instant;

#[derive(Serialize)]
struct Report {
    program: String,
    images: usize,
    slots: usize,
    wasted: usize,
    parts: usize,
    kept_parts: usize,
    input_bytes: usize,
    encrypt_ms: f64,
}

/// Encrypts the images at `source` into parts in the folder `output`. Parts that an interrupted run has finished stay.
pub fn run(
    program: BatchProgram<'_>,
    source: &Path,
    key: EncryptionKey<'_>,
    output: &Path,
    context: &Context,
) -> Result<()> {
    let client = BatchClient::new(program)?;
    let shape = client.meta().input.shape.clone();
    let images = calibration_images(source, client.images(), &shape, client.meta().view)
        .map_err(|error| Failure::new(Code::BadFile, format!("--batch: {error}")))?;
    let mut pixels = Pixels::new(client.input_len());
    images.iter().for_each(|image| pixels.push(image));
    drop(images);
    let (count, slots) = (pixels.count(), client.images());
    let record = Record {
        program: hex(&program.fingerprint()),
        key_id: hex(&key.id()),
        images: count,
        slots,
        digest: hex(&Sha256::digest(pixels.bytes())),
    };
    make_folder(output)?;
    if let Some(found) = Record::read(output)?
        && found != record
    {
        let message = format!("{} holds another batch", output.display());
        return Err(Failure::new(Code::CannotWrite, message).hint("name an empty folder with --output").into());
    }
    context.write(&output.join(RECORD), &serde_json::to_vec(&record)?, false)?;
    if count < slots {
        context.note(&format!(
            "{count} images take as long as {slots}: {:.0} % of the batch is wasted",
            100.0 * (slots - count) as f64 / slots as f64
        ));
    }
    let start = Instant::now();
    let ranges = loads(&program);
    let mut report = Report {
        program: record.program,
        images: count,
        slots,
        wasted: slots - count,
        parts: ranges.len(),
        kept_parts: 0,
        input_bytes: 0,
        encrypt_ms: 0.0,
    };
    let bar = context.bar("encrypt", ranges.len());
    for range in ranges {
        let path = part(output, "input", range.start);
        if let Ok(there) = std::fs::metadata(&path) {
            // Parts are written at once or not at all.
            report.kept_parts += 1;
            report.input_bytes += there.len() as usize;
        } else {
            let files = client.encrypt(range, &pixels, key, context.threads())?.concat();
            context.write(&path, &files, false)?;
            report.input_bytes += files.len();
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    report.encrypt_ms = since(start);
    context.summary(&report, || {
        pairs(&[
            ("batch", format!("{}, {count} images of {slots}", output.display())),
            ("parts", format!("{}, {} ({} were there)", report.parts, bytes(report.input_bytes), report.kept_parts)),
            ("time", duration(report.encrypt_ms)),
        ])
    })
}
