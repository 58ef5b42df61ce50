//! The key holder's side of one program: tensors to input ciphertexts, output ciphertexts to scores.

use crate::decrypt::{DecryptError, decrypt};
use crate::encode::{EncodeError, Encoder};
use crate::encrypt::{EncryptionKey, Target, encrypt};
use crate::keys::SecretKey;
use crate::meta::Meta;
use crate::random::Random;
use crate::ring::Ring;
use cipherlens_kernel::keys::KeyRequest;
use cipherlens_kernel::params::ParamSet;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::Role;
use zeroize::Zeroizing;

/// Why a client cannot encrypt or decrypt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The host's part of the program cannot be read or contradicts the rest.
    #[error("the program's description for the host is unusable: {0}")]
    Meta(String),
    /// A key of another parameter set.
    #[error("the key belongs to the parameter set {key}, the program to {program}")]
    KeySet {
        /// The key's set.
        key: String,
        /// The program's set.
        program: String,
    },
    /// The program has no such input.
    #[error("the program has no input {index}; it has {inputs}")]
    NoInput {
        /// The input asked for.
        index: usize,
        /// Inputs there.
        inputs: usize,
    },
    /// A tensor of another size than the program's input.
    #[error("input {name:?} takes {expected} values (shape {shape:?}), {found} were given")]
    Shape {
        /// The input.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its number of elements.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// More images than a batch has slots.
    #[error("{images} images; a batch holds at most {most}")]
    Batch {
        /// Images given.
        images: usize,
        /// Slots.
        most: usize,
    },
    /// A result lacks one of its ciphertexts.
    #[error("output ciphertext {index} of the batch is missing")]
    NoOutput {
        /// Which.
        index: usize,
    },
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system: {0}")]
    Randomness(String),
    /// A value cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The ciphertext cannot be decrypted.
    #[error(transparent)]
    Decrypt(#[from] DecryptError),
    /// The ciphertext is the result of another program.
    #[error("the ciphertext belongs to the program {}, not to {}", crate::files::hex(.found), crate::files::hex(.expected))]
    OtherProgram {
        /// Fingerprint of this program.
        expected: [u8; 16],
        /// Fingerprint in the ciphertext.
        found: [u8; 16],
    },
    /// The ciphertext is an input, or an output that the program does not have.
    #[error("the ciphertext is no output of this program")]
    NotAnOutput,
}

/// A decrypted output.
#[derive(Debug, Clone)]
pub struct Decrypted {
    /// Which output.
    pub output: usize,
    /// Its elements, those of one image after the other. They must not reach the evaluator: approximate results leak the
    /// key (eprint 2020/1533).
    pub scores: Zeroizing<Vec<f64>>,
    /// Images that shared the ciphertext.
    pub images: usize,
}

impl Decrypted {
    /// The decision; of several images the first one's.
    pub fn class(&self) -> usize {
        self.classes().first().copied().unwrap_or(0)
    }

    /// The decision on each image.
    pub fn classes(&self) -> Vec<usize> {
        let each = self.scores.len().checked_div(self.images).unwrap_or(0).max(1);
        self.scores.chunks(each).map(decide).collect()
    }
}

/// The class that scores choose: index of the largest; of one score alone, 1 where it is positive, else 0.
pub fn decide(scores: &[f64]) -> usize {
    match scores {
        [score] => usize::from(*score > 0.0),
        _ => argmax(scores),
    }
}

/// By how much scores choose their class: distance to the runner-up, or of one score alone to zero.
pub fn margin(scores: &[f64]) -> f64 {
    match scores {
        [score] => score.abs(),
        _ => {
            let class = argmax(scores);
            let others = scores.iter().enumerate().filter(|(i, _)| *i != class).map(|(_, &score)| score);
            scores.get(class).copied().unwrap_or(0.0) - others.fold(f64::NEG_INFINITY, f64::max)
        }
    }
}

/// Index of the largest value; 0 if there is none.
pub fn argmax(values: &[f64]) -> usize {
    values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i)
}

/// Tables for one program's ring, and its layouts.
pub struct Client<'p> {
    program: Program<'p>,
    meta: Meta,
    ring: Ring,
    encoder: Encoder,
}

impl<'p> Client<'p> {
    /// A client of a verified program.
    ///
    /// # Errors
    /// [`ClientError::Meta`] if inputs, outputs or slots that the host is told of are not in the program.
    pub fn new(program: Program<'p>) -> Result<Self, ClientError> {
        let meta: Meta = serde_json::from_slice(program.meta()).map_err(|e| ClientError::Meta(e.to_string()))?;
        let n = program.set().n();
        let packings = || meta.inputs.iter().flat_map(|input| &input.ciphertexts);
        let contradiction = if packings().any(|p| program.input(p.index as usize).is_none() || p.element.len() > n) {
            Some("an input")
        } else if meta.outputs.iter().enumerate().any(|(i, o)| {
            o.index as usize != i || program.output(i).is_none() || o.slot.iter().any(|&s| s as usize >= n)
        }) {
            Some("an output")
        } else {
            None
        };
        if let Some(what) = contradiction {
            return Err(ClientError::Meta(format!("{what} is not in the program")));
        }
        Ok(Self { program, meta, ring: Ring::new(*program.set()), encoder: Encoder::new(program.set().log_n()) })
    }

    /// The program.
    pub fn program(&self) -> &Program<'p> {
        &self.program
    }

    /// The parameter set.
    pub fn set(&self) -> &ParamSet {
        self.program.set()
    }

    /// The host's part of the program.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// What a class is called: its name if the program tells it, else its index.
    pub fn class_name(&self, class: usize) -> String {
        self.meta.labels.get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// The ring's tables.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The evaluation keys that the program needs.
    pub fn requests(&self) -> Vec<KeyRequest> {
        (0..self.program.keys()).filter_map(|i| self.program.key(i)).collect()
    }

    fn check_set(&self, key: &ParamSet) -> Result<(), ClientError> {
        if key.fingerprint() == self.set().fingerprint() {
            return Ok(());
        }
        Err(ClientError::KeySet { key: key.name().into(), program: self.set().name().into() })
    }

    /// The ciphertext files of input tensor `input`. Shape: flat elements to one file per ciphertext.
    ///
    /// # Errors
    /// A key of another set, a tensor of the wrong size, or a value that cannot be encoded.
    pub fn encrypt(
        &self,
        input: usize,
        values: &[f32],
        key: EncryptionKey<'_>,
        random: &mut Random,
    ) -> Result<Vec<Vec<u8>>, ClientError> {
        self.check_set(match key {
            EncryptionKey::Secret(key) => key.set(),
            EncryptionKey::Public(key) => key.set(),
        })?;
        let inputs = self.meta.inputs.len();
        let tensor = self.meta.inputs.get(input).ok_or(ClientError::NoInput { index: input, inputs })?;
        let (expected, found) = (tensor.shape.iter().product(), values.len());
        if expected != found {
            return Err(ClientError::Shape { name: tensor.name.clone(), shape: tensor.shape.clone(), expected, found });
        }
        let file = |packing: &crate::meta::MetaPacking| {
            let index = packing.index as usize;
            let port = self.program.input(index).ok_or(ClientError::NoInput { index, inputs })?;
            let target = Target {
                program: self.program.fingerprint(),
                index: packing.index,
                limbs: port.limbs,
                scale: port.scale,
            };
            let slots = Zeroizing::new(packing.pack(values));
            Ok(encrypt(&slots, &target, key, &self.ring, &self.encoder, random)?)
        };
        tensor.ciphertexts.iter().map(file).collect()
    }

    /// The elements of an output ciphertext file.
    ///
    /// # Errors
    /// A damaged file, a key of another set, another key, or the output of another program.
    pub fn decrypt(&self, file: &[u8], secret: &SecretKey) -> Result<Decrypted, ClientError> {
        self.check_set(secret.set())?;
        let (header, slots) = decrypt(file, secret, &self.ring, &self.encoder)?;
        let expected = self.program.fingerprint();
        if header.program != expected {
            return Err(ClientError::OtherProgram { expected, found: header.program });
        }
        let output = header.index as usize;
        let tensor = self.meta.outputs.get(output).filter(|_| header.role == Role::Output);
        let tensor = tensor.ok_or(ClientError::NotAnOutput)?;
        let scores = tensor.slot.iter().filter_map(|&s| slots.get(s as usize).copied()).collect();
        Ok(Decrypted { output, scores: Zeroizing::new(scores), images: self.meta.images.max(1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_score_decides_by_its_sign_and_several_by_the_largest() {
        for (scores, class, by) in [
            (&[0.2][..], 1, 0.2),
            (&[-0.2], 0, 0.2),
            (&[0.0], 0, 0.0),
            (&[1.0, 3.0, 2.5], 1, 0.5),
            (&[-1.0, -4.0], 0, 3.0),
        ] {
            assert_eq!((decide(scores), margin(scores)), (class, by), "{scores:?}");
        }
    }
}
