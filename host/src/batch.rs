//! The key holder's side of a batch program: images to ciphertexts of one element each, and results back.

mod images;
mod memory;
mod state;

pub use images::{Images, Pixels};
pub use memory::memory;
pub use state::{BatchState, StateError};

use crate::client::ClientError;
use crate::decrypt::decrypt;
use crate::encode::Encoder;
use crate::encrypt::{EncryptionKey, Target, encrypt};
use crate::keys::SecretKey;
use crate::random::Random;
use crate::ring::Ring;
use crate::view::View;
use cipherlens_kernel::batch::{BatchProgram, Operation};
use cipherlens_kernel::ckks::Scale;
use cipherlens_kernel::keys::KeyRequest;
use cipherlens_kernel::params::ParamSet;
use cipherlens_kernel::wire::Role;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use zeroize::Zeroizing;

/// The host's part of a batch program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchMeta {
    /// Name of the model.
    pub model: String,
    /// `batch`.
    pub mode: String,
    /// The input tensor.
    pub input: BatchOutput,
    /// The output tensors.
    pub outputs: Vec<BatchOutput>,
    /// Predicted standard deviation of the error of an element, by output.
    pub output_error: Vec<f64>,
    /// Predicted precision of the outputs, in bits.
    pub precision_bits: f64,
    /// How the network is shown a picture.
    #[serde(default, skip_serializing_if = "View::is_default")]
    pub view: View,
    /// Names of the classes, empty where they have none.
    pub labels: Vec<String>,
}

/// A tensor whose elements are ciphertexts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchOutput {
    /// Its name in the ONNX graph.
    pub name: String,
    /// Its shape, without the batch dimension.
    pub shape: Vec<usize>,
    /// For each ciphertext its number in the program and the element that it holds.
    pub element: Vec<[u32; 2]>,
}

/// Tables for one batch program's ring, and its layout.
pub struct BatchClient<'p> {
    program: BatchProgram<'p>,
    meta: BatchMeta,
    ring: Ring,
    encoder: Encoder,
    limbs: usize,
    scale: Scale,
}

impl<'p> BatchClient<'p> {
    /// A client of a verified program.
    ///
    /// # Errors
    /// [`ClientError::Meta`] if the host's description contradicts the program.
    pub fn new(program: BatchProgram<'p>) -> Result<Self, ClientError> {
        let meta: BatchMeta = serde_json::from_slice(program.meta()).map_err(|e| ClientError::Meta(e.to_string()))?;
        let within = |tensor: &BatchOutput, most: usize| {
            let len: usize = tensor.shape.iter().product();
            tensor.element.iter().all(|&[i, e]| (i as usize) < most && (e as usize) < len)
        };
        // Inputs are listed in their order.
        let in_order = (0u32..).zip(&meta.input.element).all(|(i, e)| e[0] == i);
        if !in_order || meta.input.element.len() != program.inputs() || !within(&meta.input, program.inputs()) {
            return Err(ClientError::Meta("an input is not in the program".into()));
        }
        if meta.outputs.iter().any(|o| !within(o, program.outputs())) {
            return Err(ClientError::Meta("an output is not in the program".into()));
        }
        let load = (0..program.instructions()).filter_map(|i| program.instruction(i));
        let mut loads = load.filter(|i| matches!(i.operation, Operation::Load { .. }));
        let first = loads.next().ok_or_else(|| ClientError::Meta("the program takes no input".into()))?;
        let ring = Ring::new(*program.set());
        let encoder = Encoder::new(program.set().log_n());
        Ok(Self { program, meta, ring, encoder, limbs: first.limbs, scale: first.scale })
    }

    /// The program.
    pub fn program(&self) -> &BatchProgram<'p> {
        &self.program
    }

    /// The parameter set.
    pub fn set(&self) -> &ParamSet {
        self.program.set()
    }

    /// The host's part of the program.
    pub fn meta(&self) -> &BatchMeta {
        &self.meta
    }

    /// The ring's tables.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Most images of a batch.
    pub fn images(&self) -> usize {
        self.set().n()
    }

    /// The evaluation keys that the program needs.
    pub fn requests(&self) -> Vec<KeyRequest> {
        (0..self.program.keys()).filter_map(|i| self.program.key(i)).collect()
    }

    /// Elements of one image.
    pub fn input_len(&self) -> usize {
        self.meta.input.shape.iter().product()
    }

    fn check(&self, key: &ParamSet) -> Result<(), ClientError> {
        if key.fingerprint() == self.set().fingerprint() {
            return Ok(());
        }
        Err(ClientError::KeySet { key: key.name().into(), program: self.set().name().into() })
    }

    /// Input ciphertext files `inputs` of a batch of images, side by side on `threads` threads. Slots beyond the last
    /// image are zero.
    ///
    /// # Errors
    /// A key of another set, more images than slots, an image of the wrong size, a value that cannot be encoded, or an
    /// operating system without randomness.
    pub fn encrypt(
        &self,
        inputs: Range<usize>,
        images: &dyn Images,
        key: EncryptionKey<'_>,
        threads: usize,
    ) -> Result<Vec<Vec<u8>>, ClientError> {
        self.check(match key {
            EncryptionKey::Secret(key) => key.set(),
            EncryptionKey::Public(key) => key.set(),
        })?;
        let (count, found) = images.shape();
        if count > self.images() {
            return Err(ClientError::Batch { images: count, most: self.images() });
        }
        let expected = self.input_len();
        if count > 0 && found != expected {
            let (name, shape) = (self.meta.input.name.clone(), self.meta.input.shape.clone());
            return Err(ClientError::Shape { name, shape, expected, found });
        }
        let one = |input: usize, slots: &mut Zeroizing<Vec<f64>>, random: &mut Random| {
            images.element(self.meta.input.element[input][1] as usize, slots);
            let target = Target {
                program: self.program.fingerprint(),
                index: input as u32,
                limbs: self.limbs,
                scale: self.scale,
            };
            Ok(encrypt(slots, &target, key, &self.ring, &self.encoder, random)?)
        };
        let each = inputs.len().div_ceil(threads.max(1)).max(1);
        let parts: Vec<Range<usize>> =
            inputs.clone().step_by(each).map(|from| from..(from + each).min(inputs.end)).collect();
        let run = |part: Range<usize>| {
            let mut random = Random::from_os().map_err(|e| ClientError::Randomness(e.to_string()))?;
            let mut slots = Zeroizing::new(Vec::with_capacity(count));
            part.map(|input| one(input, &mut slots, &mut random)).collect::<Result<Vec<_>, ClientError>>()
        };
        let run = &run;
        let done: Vec<Result<Vec<Vec<u8>>, ClientError>> = std::thread::scope(|scope| {
            let (last, rest) = parts.split_last().map_or((None, &[][..]), |(last, rest)| (Some(last), rest));
            let threads: Vec<_> = rest.iter().map(|part| scope.spawn(|| run(part.clone()))).collect();
            let last = last.map(|part| run(part.clone()));
            let others = threads.into_iter().map(|t| t.join().expect("encryption does not panic"));
            others.collect::<Vec<_>>().into_iter().chain(last).collect()
        });
        Ok(done.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Number of an output ciphertext file, and its slots: an element of every image's result.
    ///
    /// # Errors
    /// A damaged file, a key of another set, another key, or the output of another program.
    pub fn decrypt(&self, file: &[u8], secret: &SecretKey) -> Result<(usize, Zeroizing<Vec<f64>>), ClientError> {
        self.check(secret.set())?;
        let (header, slots) = decrypt(file, secret, &self.ring, &self.encoder)?;
        let expected = self.program.fingerprint();
        if header.program != expected {
            return Err(ClientError::OtherProgram { expected, found: header.program });
        }
        let index = header.index as usize;
        if header.role != Role::Output || index >= self.program.outputs() {
            return Err(ClientError::NotAnOutput);
        }
        Ok((index, slots))
    }

    /// Output tensor `output` of the first `images` images, flat, from the slots of all output ciphertexts.
    ///
    /// # Errors
    /// [`ClientError::NoOutput`] where one is missing.
    pub fn gather(
        &self,
        output: usize,
        slots: &[Option<Zeroizing<Vec<f64>>>],
        images: usize,
    ) -> Result<Vec<Zeroizing<Vec<f64>>>, ClientError> {
        let tensor = self.meta.outputs.get(output).ok_or(ClientError::NotAnOutput)?;
        let len: usize = tensor.shape.iter().product();
        let mut results = vec![Zeroizing::new(vec![0.0; len]); images];
        for &[index, element] in &tensor.element {
            let index = index as usize;
            let slots = slots.get(index).and_then(Option::as_ref).ok_or(ClientError::NoOutput { index })?;
            for (result, &value) in results.iter_mut().zip(slots.iter()) {
                result[element as usize] = value;
            }
        }
        Ok(results)
    }
}
