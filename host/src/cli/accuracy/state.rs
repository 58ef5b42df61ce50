//! What a run has done, in a file, so that an interrupted run goes on.
//!
//! The first line is the SHA-256 of the second, which is one JSON object. The file is replaced whole, never written in
//! place: an interrupted run leaves the last whole state.

use super::super::context::Context;
use super::super::error::{Code, Failure};
use anyhow::Result;
use cipherlens::files::hex;
use cipherlens::mask::Mask;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// Time between two writes of the file: what an interruption loses at most.
pub const INTERVAL: Duration = Duration::from_secs(2);
const FORMAT: &str = "cipherlens accuracy 2";

/// What a network says of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A score for each class, or one.
    Scores(Vec<f64>),
    /// A decision for each pixel.
    Mask(Mask),
}

/// One image under encryption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which image of the set.
    pub index: usize,
    /// Evaluation alone, of all its tiles.
    pub infer_ms: f64,
    /// Largest absolute difference of a score or logit from the clear network's.
    pub max_error: f64,
    /// What the decrypted values say.
    pub answer: Answer,
}

/// All that is done of one program and data set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    format: String,
    program: String,
    data: String,
    /// Images that are done.
    pub outcomes: Vec<Outcome>,
}

impl State {
    /// Nothing done for the program and the data with these fingerprints.
    pub fn new(program: String, data: String) -> Self {
        Self { format: FORMAT.into(), program, data, outcomes: Vec::new() }
    }

    /// The state in a file, none if there is no such file.
    ///
    /// # Errors
    /// A file that cannot be read or is no whole state; it is left as it is.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| failure(path, &format!("cannot be read: {error}")))?,
        };
        Self::parse(&bytes).map(Some).map_err(|reason| failure(path, reason).into())
    }

    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let other = "is no state of an accuracy run";
        let text = std::str::from_utf8(bytes).map_err(|_| other)?;
        let (digest, json) = text.split_once('\n').ok_or(other)?;
        if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(other);
        }
        if hex(&Sha256::digest(json)) != digest {
            return Err("was damaged or cut after it was written");
        }
        let state: Self = serde_json::from_str(json).map_err(|_| other)?;
        if state.format == FORMAT { Ok(state) } else { Err("was written by another release") }
    }

    /// Checks that the state is of the same program and data as `now`.
    ///
    /// # Errors
    /// What differs.
    pub fn belongs(&self, now: &Self, path: &Path) -> Result<()> {
        for (what, then, now) in [("program", &self.program, &now.program), ("data set", &self.data, &now.data)] {
            if then != now {
                let message = format!("{} is of another {what} ({then}, now {now})", path.display());
                let hint = "name another file with --resume, or the model and data of the run before";
                return Err(Failure::new(Code::Mismatch, message).hint(hint).into());
            }
        }
        Ok(())
    }

    /// Those of the first `count` images that are not done.
    pub fn missing(&self, count: usize) -> Vec<usize> {
        let done: std::collections::HashSet<usize> = self.outcomes.iter().map(|o| o.index).collect();
        (0..count).filter(|i| !done.contains(i)).collect()
    }

    /// Replaces the file. Scores are for the key holder alone, and so is the file.
    ///
    /// # Errors
    /// A place that cannot be written.
    pub fn save(&self, path: &Path, context: &Context) -> Result<()> {
        let json = serde_json::to_string(self)? + "\n";
        let digest = hex(&Sha256::digest(&json));
        context.write(path, format!("{digest}\n{json}").as_bytes(), true)
    }
}

fn failure(path: &Path, reason: &str) -> Failure {
    Failure::new(Code::BadFile, format!("{} {reason}", path.display()))
        .hint("it is left as it is: name another file with --resume, or move this one away to start anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_states_are_read() {
        let mut state = State::new("p".into(), "d".into());
        let mask = Mask::of_logits(&[-0.1, 0.3, 0.2, -5.0], 2);
        let done = |index, answer| Outcome { index, infer_ms: 1.25, max_error: 1e-3, answer };
        state.outcomes.push(done(3, Answer::Scores(vec![-0.1, 1e-9])));
        state.outcomes.push(done(0, Answer::Mask(mask)));
        assert_eq!(state.missing(5), [1, 2, 4]);
        let json = serde_json::to_string(&state).unwrap() + "\n";
        let bytes = format!("{}\n{json}", hex(&Sha256::digest(&json))).into_bytes();
        assert_eq!(State::parse(&bytes), Ok(state));
        for cut in 0..bytes.len() {
            assert!(State::parse(&bytes[..cut]).is_err(), "cut at {cut}");
            let mut flipped = bytes.clone();
            flipped[cut] ^= 1;
            assert!(State::parse(&flipped).is_err(), "flipped at {cut}");
        }
    }
}
