//! `decrypt --release`: what may leave the key holder.

use super::context::Context;
use super::error::{Code, Failure};
use anyhow::Result;
use cipherlens::client::{Client, Decrypted, margin};
use cipherlens::keys::SecretKey;
use cipherlens::random::Random;
use cipherlens::release::ledger::{Ledger, LedgerError};
use cipherlens::release::{Policy, add_noise};
use clap::Args;
use serde::Serialize;
use std::path::Path;

#[derive(Debug, Args)]
pub struct ReleaseOptions {
    /// The result leaves the key holder: count it in KEY.queries, and hide the error of the scores under Gaussian noise
    /// (eprint 2022/816). Where the noise leaves nothing of the scores, only the decision is printed
    #[arg(long, conflicts_with = "scores")]
    release: bool,
    /// How many ciphertexts are ever to be released under this key; declared once, at the first release
    #[arg(long, value_name = "N", requires = "release")]
    queries: Option<u64>,
    /// Statistical security of all releases together; declared with --queries [default: 30, which is the least]
    #[arg(long, value_name = "BITS", requires = "release")]
    statistical_bits: Option<u32>,
}

/// What was released, and what that took.
#[derive(Debug, Serialize)]
pub struct Released {
    queries_used: u64,
    queries: u64,
    statistical_bits: u32,
    /// Standard deviation of the noise.
    sigma: f64,
    /// Bits of the scores that remain.
    pub bits: f64,
    /// The noised scores; none where nothing useful remains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noised: Option<Vec<f64>>,
}

impl Released {
    /// A line for people.
    pub fn line(&self) -> String {
        let Self { queries_used, queries, statistical_bits: s, sigma, bits, .. } = self;
        let remains = if *bits >= 1.0 {
            format!("{bits:.1} bits of the scores remain")
        } else {
            "nothing useful remains of the scores: the decision alone is released".into()
        };
        format!("release {queries_used} of {queries}, {s} bits, noise of sigma {sigma:.3e}: {remains}\n")
    }
}

impl ReleaseOptions {
    /// Whether the result leaves the key holder.
    pub fn wanted(&self) -> bool {
        self.release
    }

    /// Counts the results and puts noised scores in the place of theirs, where anything remains of those.
    pub fn apply(
        &self,
        results: &mut [Decrypted],
        client: &Client<'_>,
        secret: &SecretKey,
        key: &Path,
        context: &Context,
    ) -> Result<Option<Released>> {
        if !self.release {
            return Ok(None);
        }
        let (meta, first) = (client.meta(), results.first().map_or(0, |r| r.output));
        let error = meta.output_error.get(first).copied().filter(|error| error.is_finite() && *error > 0.0);
        let Some(error) = error else {
            let message = "the program does not state the error of this output, so that no noise can hide it";
            return Err(Failure::new(Code::BadFile, message).hint("compile the model again").into());
        };
        let ledger = Ledger::beside(key, secret.id());
        let spent = ledger.spend(self.queries, self.statistical_bits, results.len() as u64);
        let (policy, queries_used) = spent.map_err(refused)?;
        let values = results.iter().map(|r| r.scores.len()).max().unwrap_or(0);
        let (sigma, bits) = (policy.sigma(values, error), policy.bits(values, meta.precision_bits));
        let useful = bits >= 1.0;
        if useful {
            let mut random = Random::from_os()?;
            results.iter_mut().for_each(|result| add_noise(&mut result.scores, sigma, &mut random));
        } else if meta.mask_size().is_none() {
            // Each image's own margin: the decision tells of the error only where the error could change it.
            let bound = policy.bound(values) * error;
            let each = |r: &Decrypted| r.scores.len().checked_div(r.images).unwrap_or(0).max(1);
            let near = results.iter().any(|r| r.scores.chunks(each(r)).any(|scores| margin(scores) < 2.0 * bound));
            if near {
                context
                    .warn("a margin is within the error: the decision depends on it; better do not release this one");
            }
        }
        let noised = useful.then(|| results.iter().flat_map(|r| r.scores.iter().copied()).collect());
        let Policy { statistical_bits, queries } = policy;
        Ok(Some(Released { queries_used, queries, statistical_bits, sigma, bits, noised }))
    }
}

fn refused(error: LedgerError) -> Failure {
    let (code, hint) = match &error {
        LedgerError::Undeclared => (Code::Usage, "declare it with --queries N: the fewer, the smaller the noise"),
        LedgerError::Policy => (Code::Usage, "--queries 1000 --statistical-bits 30, for one"),
        LedgerError::Declared { .. } => (Code::Usage, "leave out --queries and --statistical-bits"),
        LedgerError::Exhausted { .. } => (Code::Mismatch, "make new keys: this one has told all that it may"),
        LedgerError::OtherKey(_) => (Code::Mismatch, "keep each key in a folder of its own"),
        LedgerError::Damaged { .. } => (Code::BadFile, "restore it from a backup; what was released cannot be unsaid"),
        _ => (Code::CannotWrite, "a release has to be counted beside the key: make its folder writable"),
    };
    Failure::new(code, error.to_string()).hint(hint)
}
