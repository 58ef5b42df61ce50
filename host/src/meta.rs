//! What the host needs to know of a program to encrypt its inputs and read its outputs; JSON inside the blob.

use crate::view::View;
use serde::{Deserialize, Serialize};

/// The host's part of a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The model's name.
    pub model: String,
    /// `latency` or `batch`.
    pub mode: String,
    /// Images that share each ciphertext. Where these are several, shapes begin with their number.
    pub images: usize,
    /// Tensors that the client encrypts.
    pub inputs: Vec<MetaInput>,
    /// Tensors that the client decrypts.
    pub outputs: Vec<MetaOutput>,
    /// One line per layer: how it is evaluated.
    pub stages: Vec<MetaStage>,
    /// Predicted standard deviation of the error of an output value.
    pub output_error: Vec<f64>,
    /// Predicted time of one inference on one core, in milliseconds.
    pub predicted_ms: f64,
    /// Predicted precision of the least precise output, in bits.
    pub precision_bits: f64,
    /// What each class is called, by index; empty where nobody said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// How the input is made of a picture.
    #[serde(default, skip_serializing_if = "View::is_default")]
    pub view: View,
}

/// Width and height of the mask that a network gives of a picture, where it gives one: a logit for each pixel of its
/// input. Shapes: those of the network's tensors.
pub fn mask_size(input: &[usize], output: &[usize]) -> Option<[usize; 2]> {
    match (input, output) {
        (&[1 | 3, h, w], &[1, height, width]) if [h, w] == [height, width] && h * w > 1 => Some([w, h]),
        _ => None,
    }
}

impl Meta {
    /// Width and height of the mask that the program gives, where it gives one.
    pub fn mask_size(&self) -> Option<[usize; 2]> {
        let (input, output) = (self.inputs.first()?, self.outputs.first()?);
        mask_size(&input.shape, &output.shape).filter(|_| self.images <= 1)
    }
}

/// An input tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetaInput {
    /// Its name in the ONNX graph.
    pub name: String,
    /// Its shape, without the batch dimension where there is one image.
    pub shape: Vec<usize>,
    /// The ciphertexts that carry it: for each slot the element that it holds, or -1 for zero.
    pub ciphertexts: Vec<MetaPacking>,
}

/// One ciphertext of an input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetaPacking {
    /// Input index in the program.
    pub index: u32,
    /// Element of each slot; -1 for zero; trailing zeros are left out.
    pub element: Vec<i32>,
}

/// An output tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetaOutput {
    /// Its name in the ONNX graph.
    pub name: String,
    /// Its shape, without the batch dimension where there is one image.
    pub shape: Vec<usize>,
    /// Output index in the program.
    pub index: u32,
    /// Slot of each element.
    pub slot: Vec<u32>,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetaStage {
    /// Its name.
    pub name: String,
    /// Limbs at which it starts.
    pub limbs: usize,
    /// How it is evaluated.
    pub strategy: String,
}

impl MetaPacking {
    /// The slot vector of a tensor. Shape: flat elements to slots.
    pub fn pack(&self, elements: &[f32]) -> Vec<f64> {
        self.element
            .iter()
            .map(|&e| usize::try_from(e).ok().and_then(|e| elements.get(e)).map_or(0.0, |&x| f64::from(x)))
            .collect()
    }
}
