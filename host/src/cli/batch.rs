//! Batches on the command line: folders of parts in place of single files.
//!
//! A part is the ciphertext files that a program takes in, or gives out, at a time, one after the other.

pub mod accuracy;
pub mod compile;
pub mod decrypt;
pub mod encrypt;
pub mod run;

use super::error::{Code, Failure};
use super::files;
use anyhow::{Context as _, Result};
use cipherlens_kernel::batch::{BatchProgram, Operation};
use cipherlens_kernel::wire::{FileKind, HEADER_BYTES, Header};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Whether a program file is one for batches.
pub fn is_batch(blob: &[u8]) -> bool {
    blob.get(..HEADER_BYTES).is_some_and(|front| Header::read_front(front, FileKind::BatchProgram).is_ok())
}

/// The verified batch program in the bytes of `path`.
pub fn program<'b>(path: &Path, bytes: &'b [u8]) -> Result<BatchProgram<'b>> {
    BatchProgram::verify(bytes).with_context(|| path.display().to_string())
}

/// The file of the part that begins with ciphertext `first`.
pub fn part(folder: &Path, kind: &str, first: usize) -> PathBuf {
    folder.join(format!("{kind}-{first:06}.clx"))
}

/// The ranges of inputs that a program takes in at a time.
pub fn loads(program: &BatchProgram<'_>) -> Vec<Range<usize>> {
    let all = (0..program.instructions()).filter_map(|i| program.instruction(i));
    let loads = all.filter_map(|i| match i.operation {
        Operation::Load { first, .. } => Some(first..first + i.count),
        _ => None,
    });
    loads.collect()
}

/// The ranges of outputs that a program gives out at a time.
pub fn stores(program: &BatchProgram<'_>) -> Vec<Range<usize>> {
    let all = (0..program.instructions()).filter_map(|i| program.instruction(i));
    let stores = all.filter_map(|i| match i.operation {
        Operation::Store { first, .. } => Some(first..first + i.count),
        _ => None,
    });
    stores.collect()
}

/// The ciphertext files in a part.
pub fn split<'b>(path: &Path, bytes: &'b [u8], count: usize) -> Result<Vec<&'b [u8]>> {
    let mut files = Vec::with_capacity(count);
    let mut rest = bytes;
    while !rest.is_empty() {
        let front = rest.get(..HEADER_BYTES).unwrap_or(rest);
        let length = Header::read_front(front, FileKind::Ciphertext)
            .with_context(|| format!("{}, ciphertext {}", path.display(), files.len()))?
            .1;
        let (file, after) = rest.split_at_checked(length as usize).ok_or_else(|| {
            Failure::new(Code::BadFile, format!("{}: cut short in ciphertext {}", path.display(), files.len()))
        })?;
        files.push(file);
        rest = after;
    }
    if files.len() != count {
        let message = format!("{}: {} ciphertexts where the program takes {count}", path.display(), files.len());
        return Err(Failure::new(Code::Mismatch, message).into());
    }
    Ok(files)
}

/// What the key holder keeps of a batch: `batch.json` beside its parts. The evaluator does not need it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Fingerprint of the program.
    pub program: String,
    /// Identity of the secret key.
    pub key_id: String,
    /// Images of the batch.
    pub images: usize,
    /// Slots: images that it could have held.
    pub slots: usize,
    /// SHA-256 of all pixels.
    pub digest: String,
}

/// Name of the record.
pub const RECORD: &str = "batch.json";

impl Record {
    /// The record in a folder; none where there is none.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(RECORD);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = files::read(&path)?;
        let bad = |error| Failure::new(Code::BadFile, format!("{}: {error}", path.display()));
        Ok(Some(serde_json::from_slice(&bytes).map_err(bad)?))
    }
}

/// Makes a folder.
pub fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| {
        let message = format!("cannot make the folder {}: {error}", path.display());
        Failure::new(Code::CannotWrite, message).hint("name another folder with --output").into()
    })
}
