//! The models that the command carries, so that it runs without any file.

use crate::compile::import::{ImportError, import};
use crate::compile::onnx::ModelProto;
use crate::compile::{ModelGraph, load};
use crate::datasets::{DataError, Dataset, Digits, Pictures, Split};
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
    /// What it tells apart.
    pub task: Task,
    /// Its data set: a folder in the data folder.
    pub data: &'static str,
    /// The embedded model with the same layers that is timed in its place.
    pub twin: Option<&'static str>,
}

/// Precision of the scores of networks that decide by a sign, in bits.
const LESION_BITS: f64 = 12.0;

/// What a network tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Ten digits, 28x28 grey: the class is the largest score.
    Digits,
    /// Benign and malignant skin lesions in colour: malignant where the one score is positive.
    Lesions,
}

impl Task {
    /// What each class is called, by index.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Digits => &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
            Self::Lesions => &["benign", "malignant"],
        }
    }

    /// The task of networks that read this shape, where there is one.
    pub fn of_input(shape: &[usize]) -> Option<Self> {
        match shape {
            [3, _, _] => Some(Self::Lesions),
            _ if shape.iter().product::<usize>() == 28 * 28 => Some(Self::Digits),
            _ => None,
        }
    }

    /// The drawn images that the command carries.
    pub fn fixtures(self) -> Box<dyn Dataset> {
        match self {
            Self::Digits => Box::new(Digits::drawn()),
            Self::Lesions => Box::new(Pictures::lesions()),
        }
    }
}

macro_rules! embedded {
    ($($name:literal: $task:ident, $data:literal, $twin:expr, $about:literal;)*) => {
        /// All embedded models.
        pub const ALL: &[Embedded] = &[$(Embedded {
            name: $name,
            about: $about,
            onnx: include_bytes!(concat!("../../models/", $name, ".onnx")),
            task: Task::$task,
            data: $data,
            twin: $twin,
        }),*];
    };
}

embedded! {
    "mnist": Digits, "mnist", None,
        "handwritten digits: conv 8 maps 5x5 stride 2, square, dense 100, square, dense 10";
    "mnist-micro": Digits, "mnist", None,
        "handwritten digits on a microcontroller: conv 4 maps 7x7 stride 3, square, dense 10";
    "tenseal-cnn": Digits, "mnist", None,
        "the network of the TenSEAL tutorial: conv 4 maps 7x7 stride 3, square, dense 64, square, dense 10";
    "orion-mlp": Digits, "mnist", None,
        "the network of Orion's MLP example: dense 128, square, dense 128, square, dense 10";
    "cryptonets": Digits, "mnist", None,
        "the network of CryptoNets: conv 5 maps 5x5 stride 2, square, dense 100, square, dense 10";
    "melanoma": Lesions, "melanoma/isic", None,
        "skin lesions: conv 16 maps 8x8 stride 4, conv 32 and conv 64 maps 3x3 stride 2, dense 64, dense 1, squares between";
    "melanoma-kaggle10k": Lesions, "melanoma/kaggle10k", Some("melanoma"),
        "the layers of melanoma, trained on images whose class shows in the camera: for comparisons only";
}

/// The embedded model called `name`.
pub fn by_name(name: &str) -> Option<&'static Embedded> {
    ALL.iter().find(|model| model.name == name)
}

impl Embedded {
    /// The imported model, under its own name and with the names of its classes.
    pub fn graph(&self) -> ModelGraph {
        let proto = ModelProto::decode(self.onnx).expect("the embedded models are complete");
        let mut graph = import(&proto, Path::new("."), None).expect("the embedded models are supported");
        graph.name = self.name.into();
        // Digits are called as their index.
        if self.task == Task::Lesions {
            // Of a thousand scores some are near the one threshold: 7 bits would change two decisions in a hundred.
            graph.precision = Some(LESION_BITS);
            graph.labels = self.task.labels().iter().map(ToString::to_string).collect();
        }
        graph
    }

    /// The test split of its data set in the data folder `data`.
    ///
    /// # Errors
    /// A data set that is missing or damaged.
    pub fn test_set(&self, data: &Path) -> Result<Box<dyn Dataset>, DataError> {
        Ok(match self.task {
            Task::Digits => Box::new(Digits::mnist_test(data)?),
            Task::Lesions => {
                let labels: Vec<String> = self.task.labels().iter().map(ToString::to_string).collect();
                let shape = self.task.fixtures().picture(0)?.shape();
                Box::new(Pictures::in_data(data, self.data, Split::Test, &labels, shape)?)
            }
        })
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
    fn every_embedded_model_imports_and_reads_the_images_of_its_task() {
        for model in ALL {
            let graph = model.graph();
            let input = &graph.tensors[graph.inputs[0]];
            assert_eq!(Task::of_input(&input.shape), Some(model.task), "{}", model.name);
            assert_eq!(input.len(), model.task.fixtures().image(0).unwrap().len(), "{}", model.name);
            let classes = match graph.tensors[graph.outputs[0]].len() {
                1 => 2,
                more => more,
            };
            assert_eq!(classes, model.task.labels().len(), "{}", model.name);
            assert_eq!(model.task.fixtures().classes(), model.task.labels(), "{}", model.name);
            assert!(model.twin.is_none_or(|twin| by_name(twin).is_some()), "{}", model.name);
        }
        assert!(by_name("mnist").is_some() && by_name("MNIST ").is_none());
    }
}
