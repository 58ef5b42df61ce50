//! `keygen`: the key holder's keys for a program.

use super::batch;
use super::context::Context;
use super::error::{Code, Failure};
use super::files;
use super::passphrase;
use super::sign;
use super::units::{bytes, pairs};
use anyhow::Result;
use cipherlens::client::ClientError;
use cipherlens::files::hex;
use cipherlens::keys::{PublicKey, SecretKey, evaluation_keys, sealed};
use cipherlens::random::Random;
use cipherlens::ring::Ring;
use cipherlens_kernel::keys::KeyRequest;
use cipherlens_kernel::params::ParamSet;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The program that the evaluation keys are for
    #[arg(long, value_name = "FILE", required_unless_present = "signing")]
    program: Option<PathBuf>,
    /// Folder for secret.cls (stays with the key holder), keys.clk (for the evaluator) and public.clu (for
    /// devices that only encrypt)
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Use this secret key instead of making one
    #[arg(long, value_name = "FILE", conflicts_with = "force")]
    secret: Option<PathBuf>,
    /// Replace a secret key that is there: what was encrypted under it can then never be decrypted
    #[arg(long)]
    force: bool,
    /// Keep the new secret key under a passphrase: from --passphrase-file, $CIPHERLENS_PASSPHRASE or the terminal
    #[arg(long, conflicts_with = "secret")]
    passphrase: bool,
    /// Make a key that signs programs instead: signing.key (stays with who compiles) and signing.pub (for who runs them)
    #[arg(long, conflicts_with_all = ["program", "secret", "passphrase"])]
    signing: bool,
}

#[derive(Serialize)]
struct Report {
    set: String,
    key_id: String,
    program: String,
    secret_key: PathBuf,
    evaluation_keys: PathBuf,
    public_key: PathBuf,
    keys: usize,
    secret_bytes: usize,
    key_bytes: usize,
    public_bytes: usize,
}

/// What keys are made for.
struct Needs {
    set: ParamSet,
    requests: Vec<KeyRequest>,
    fingerprint: [u8; 16],
}

impl Needs {
    /// Those of a program of either kind.
    fn of(path: &Path, blob: &[u8]) -> Result<Self> {
        if batch::is_batch(blob) {
            let program = batch::program(path, blob)?;
            let requests = (0..program.keys()).filter_map(|i| program.key(i)).collect();
            return Ok(Self { set: *program.set(), requests, fingerprint: program.fingerprint() });
        }
        let program = files::program(path, blob)?;
        let requests = (0..program.keys()).filter_map(|i| program.key(i)).collect();
        Ok(Self { set: *program.set(), requests, fingerprint: program.fingerprint() })
    }
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let Some(program) = arguments.program.as_deref().filter(|_| !arguments.signing) else {
        return sign::keygen(&arguments.out, arguments.force, context);
    };
    let blob = files::read(program)?;
    let Needs { set, requests, fingerprint } = Needs::of(program, &blob)?;
    let ring = Ring::new(set);
    let secret_path = arguments.secret.clone().unwrap_or_else(|| arguments.out.join("secret.cls"));
    if arguments.secret.is_none() && !arguments.force && secret_path.exists() {
        let message = format!("{} is there already and is not overwritten", secret_path.display());
        let hint = format!(
            "make evaluation keys from it with --secret {}, name another folder, or replace it with --force",
            secret_path.display()
        );
        return Err(Failure::new(Code::CannotWrite, message).hint(hint).into());
    }
    let mut random = Random::from_os()?;
    let secret = match &arguments.secret {
        Some(path) => files::secret_key(path, &set, context)?,
        None => SecretKey::generate(set, &mut random),
    };
    if secret.set().fingerprint() != set.fingerprint() {
        let error = ClientError::KeySet { key: secret.set().name().into(), program: set.name().into() };
        return Err(anyhow::Error::new(error).context(secret_path.display().to_string()));
    }
    files::make_folder(&arguments.out)?;
    let secret_bytes = if arguments.passphrase {
        let passphrase = passphrase::ask("the new secret key", true, context)?;
        Zeroizing::new(sealed::seal(&secret, passphrase.as_bytes(), &mut random)?)
    } else {
        secret.to_bytes()
    };
    if arguments.secret.is_none() {
        context.write(&secret_path, &secret_bytes, true)?;
    }
    let bar = context.bar("keys", requests.len());
    let keys = evaluation_keys(&secret, &ring, &requests, &mut random, |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    let public = PublicKey::generate(&secret, &ring, &mut random).to_bytes();
    let report = Report {
        set: set.name().into(),
        key_id: hex(&secret.id()),
        program: hex(&fingerprint),
        secret_key: secret_path,
        evaluation_keys: arguments.out.join("keys.clk"),
        public_key: arguments.out.join("public.clu"),
        keys: requests.len(),
        secret_bytes: secret_bytes.len(),
        key_bytes: keys.len(),
        public_bytes: public.len(),
    };
    context.write(&report.evaluation_keys, &keys, false)?;
    context.write(&report.public_key, &public, false)?;
    context.summary(&report, || {
        let line = |path: &Path, size, what: &str| format!("{}, {}: {what}", path.display(), bytes(size));
        pairs(&[
            ("key", format!("{} ({})", report.key_id, report.set)),
            ("secret", line(&report.secret_key, report.secret_bytes, "keep it; decrypts")),
            ("evaluation", line(&report.evaluation_keys, report.key_bytes, "give it to the evaluator")),
            ("public", line(&report.public_key, report.public_bytes, "give it to devices that encrypt")),
        ])
    })
}
