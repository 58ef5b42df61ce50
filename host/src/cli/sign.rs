//! `sign`: the signature of a program, and its check.

use super::batch;
use super::context::Context;
use super::error::{Code, Failure};
use super::files;
use super::units::pairs;
use anyhow::Result;
use cipherlens::files::hex;
use cipherlens::random::Random;
use cipherlens::signing::ProgramSigner;
use cipherlens_kernel::signature::{SignedError, check};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The program to sign, of either kind; it is verified first
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// The signing key, as `keygen --signing` wrote it
    #[arg(long, value_name = "FILE")]
    signing_key: PathBuf,
    /// Signature to write [default: the program's name with .sig added]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    program: String,
    signature: PathBuf,
    public_key: String,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let Arguments { program: path, signing_key, output } = arguments;
    let blob = files::read(path)?;
    let fingerprint = if batch::is_batch(&blob) {
        batch::program(path, &blob)?.fingerprint()
    } else {
        files::program(path, &blob)?.fingerprint()
    };
    let seed = Zeroizing::new(exactly::<32>(signing_key, "a signing key")?);
    files::warn_if_others_may_read(signing_key, "signing key", context);
    let signer = ProgramSigner::from_bytes(&seed);
    let signature = output.clone().unwrap_or_else(|| path.with_added_extension("sig"));
    context.write(&signature, &signer.sign(&blob), false)?;
    let report = Report { program: hex(&fingerprint), signature, public_key: hex(&signer.public()) };
    context.summary(&report, || {
        pairs(&[
            ("program  ", report.program.clone()),
            ("signature", report.signature.display().to_string()),
            ("signer   ", report.public_key.clone()),
        ])
    })
}

/// A file of `N` bytes and nothing else.
fn exactly<const N: usize>(path: &Path, what: &str) -> Result<[u8; N]> {
    let bytes = Zeroizing::new(files::read(path)?);
    bytes.as_slice().try_into().map_err(|_| {
        Failure::new(Code::BadFile, format!("{} is not {what}: it has {} bytes, not {N}", path.display(), bytes.len()))
            .into()
    })
}

/// Checks the signature beside the program at `path` where a signer is named.
pub fn verify(path: &Path, blob: &[u8], signer: Option<&Path>) -> Result<()> {
    let Some(signer) = signer else { return Ok(()) };
    let public = exactly(signer, "a public key for signatures")?;
    let place = path.with_added_extension("sig");
    let signature = exactly(&place, "a signature")?;
    check(blob, &signature, &public).map_err(|error| match error {
        SignedError::Key => Failure::new(Code::BadFile, format!("{}: {error}", signer.display())).into(),
        _ => {
            let message = format!("{} is not signed by {}", path.display(), signer.display());
            Failure::new(Code::Mismatch, message).hint("get program and signature anew from who compiled it").into()
        }
    })
}

#[derive(Serialize)]
struct Made {
    signing_key: PathBuf,
    public_key: PathBuf,
    public: String,
}

/// `keygen --signing`: a key that signs, in the folder `out`.
pub fn keygen(out: &Path, force: bool, context: &Context) -> Result<()> {
    let (signing_key, public_key) = (out.join("signing.key"), out.join("signing.pub"));
    if !force && signing_key.exists() {
        let message = format!("{} is there already and is not overwritten", signing_key.display());
        return Err(Failure::new(Code::CannotWrite, message).hint("name another folder, or use --force").into());
    }
    let signer = ProgramSigner::generate(&mut Random::from_os()?);
    files::make_folder(out)?;
    context.write(&signing_key, signer.to_bytes().as_slice(), true)?;
    context.write(&public_key, &signer.public(), false)?;
    let report = Made { signing_key, public_key, public: hex(&signer.public()) };
    context.summary(&report, || {
        pairs(&[
            ("signing key", format!("{}: keep it; signs programs", report.signing_key.display())),
            ("public     ", format!("{}: give it to who runs programs", report.public_key.display())),
        ])
    })
}
