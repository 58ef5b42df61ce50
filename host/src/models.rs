//! The models that the command carries, so that it runs without any file.

use crate::compile::import::{ImportError, import};
use crate::compile::onnx::ModelProto;
use crate::compile::{ModelGraph, load};
use prost::Message;
use std::path::Path;

/// A model inside the command.
#[derive(Debug, Clone, Copy)]
pub struct Embedded {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// The ONNX file.
    pub onnx: &'static [u8],
    /// What each class is called, by index.
    pub labels: &'static [&'static str],
}

const DIGITS: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

macro_rules! embedded {
    ($($name:literal: $about:literal,)*) => {
        /// All embedded models.
        pub const ALL: &[Embedded] = &[$(Embedded {
            name: $name,
            about: $about,
            onnx: include_bytes!(concat!("../../models/", $name, ".onnx")),
            labels: DIGITS,
        }),*];
    };
}

embedded! {
    "mnist": "handwritten digits: conv 8 maps 5x5 stride 2, square, dense 100, square, dense 10",
    "mnist-micro": "handwritten digits on a microcontroller: conv 4 maps 7x7 stride 3, square, dense 10",
    "tenseal-cnn": "the network of the TenSEAL tutorial: conv 4 maps 7x7 stride 3, square, dense 64, square, dense 10",
    "orion-mlp": "the network of Orion's MLP example: dense 128, square, dense 128, square, dense 10",
    "cryptonets": "the network of CryptoNets: conv 5 maps 5x5 stride 2, square, dense 100, square, dense 10",
}

/// The embedded model called `name`.
pub fn by_name(name: &str) -> Option<&'static Embedded> {
    ALL.iter().find(|model| model.name == name)
}

impl Embedded {
    /// The imported model, under its own name.
    pub fn graph(&self) -> ModelGraph {
        let proto = ModelProto::decode(self.onnx).expect("the embedded models are complete");
        let mut graph = import(&proto, Path::new("."), None).expect("the embedded models are supported");
        graph.name = self.name.into();
        graph
    }
}

/// Imports the embedded model called `name`, or else the ONNX file at that path.
///
/// # Errors
/// As [`load`]; [`ImportError::Read`] where there is neither.
pub fn by_name_or_path(name: &str, input_shape: Option<&[usize]>) -> Result<ModelGraph, ImportError> {
    match by_name(name) {
        Some(model) => Ok(model.graph()),
        None => load(name.as_ref(), input_shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_model_imports_and_has_its_labels() {
        for model in ALL {
            let graph = model.graph();
            assert_eq!(graph.tensors[graph.inputs[0]].len(), 784, "{}", model.name);
            assert_eq!(graph.tensors[graph.outputs[0]].len(), model.labels.len(), "{}", model.name);
        }
        assert!(by_name("mnist").is_some() && by_name("MNIST ").is_none());
    }
}
