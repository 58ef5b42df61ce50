//! The models that the command carries, so that it runs without any file.

use crate::compile::import::{ImportError, import};
use crate::compile::onnx::ModelProto;
use crate::compile::{ModelGraph, load};
use crate::datasets::{DataError, Dataset, Digits, Masked, Pictures, Split};
use crate::view::{Contrast, Fit, View};
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

/// Precision of the scores of networks that decide by a sign, in bits: of a thousand scores some are near the one
/// threshold, and 7 bits would change two decisions in a hundred.
const LESION_BITS: f64 = 12.0;
/// Precision of the logits of masks, in bits: at 7.6, `unet-lesion` decides 14 pixels of ten thousand otherwise than in the
/// clear; what the search finds for this decides 2 of a hundred thousand otherwise, for a tenth more time.
const MASK_BITS: f64 = 10.0;
/// Width and height at which outlines of lesions are judged: those of the network's input.
const LESION_SIZE: [usize; 2] = [128, 128];
/// Names that stand for a model.
const ALIASES: &[(&str, &str)] = &[("unet", "unet-lesion")];

/// What a network tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Ten digits, 28x28 grey: the class is the largest score.
    Digits,
    /// Benign and malignant skin lesions in colour: malignant where the one score is positive.
    Lesions,
    /// Pixels of a skin lesion: those whose logit is positive. The lesion fills the picture, which is squashed.
    LesionPixels,
    /// Pixels of cell nuclei under fluorescence, in grey tiles of a picture whose contrast is stretched.
    NucleusPixels,
    /// Pixels of the inside of cells, in grey tiles of an electron micrograph; the rest is membrane.
    InteriorPixels,
}

impl Task {
    /// What each class is called, by index; of pixels, the foreground is the second.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Digits => &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
            Self::Lesions => &["benign", "malignant"],
            Self::LesionPixels => &["skin", "lesion"],
            Self::NucleusPixels => &["background", "nucleus"],
            Self::InteriorPixels => &["membrane", "interior"],
        }
    }

    /// How a picture becomes inputs, as in training.
    pub fn view(self) -> View {
        match self {
            Self::Digits | Self::Lesions | Self::LesionPixels => View::default(),
            Self::NucleusPixels => View { fit: Fit::Tile, contrast: Contrast::Stretch },
            Self::InteriorPixels => View { fit: Fit::Tile, contrast: Contrast::Plain },
        }
    }

    /// Least precision of the outputs, in bits, where the default does not do.
    fn precision(self) -> Option<f64> {
        match self {
            Self::Digits => None,
            Self::Lesions => Some(LESION_BITS),
            Self::LesionPixels | Self::NucleusPixels | Self::InteriorPixels => Some(MASK_BITS),
        }
    }

    /// The task of a model: an embedded one's by its name, another's by the shape that it reads, where there is one.
    pub fn of(model: &ModelGraph) -> Option<Self> {
        let shape: &[usize] = model.inputs.first().map_or(&[], |&i| &model.tensors[i].shape);
        match (by_name(&model.name), shape) {
            (Some(embedded), _) => Some(embedded.task),
            (None, [3, _, _]) => Some(Self::Lesions),
            _ if shape.iter().product::<usize>() == 28 * 28 => Some(Self::Digits),
            _ => None,
        }
    }

    fn owned_labels(self) -> Vec<String> {
        self.labels().iter().map(ToString::to_string).collect()
    }

    /// The drawn images that the command carries.
    pub fn fixtures(self) -> Box<dyn Dataset> {
        match self {
            Self::Digits => Box::new(Digits::drawn()),
            Self::Lesions => Box::new(Pictures::lesions()),
            Self::LesionPixels => Box::new(Masked::lesions(&self.owned_labels())),
            Self::NucleusPixels => Box::new(Masked::nuclei(&self.owned_labels())),
            Self::InteriorPixels => Box::new(Masked::membranes(&self.owned_labels())),
        }
    }

    /// Inputs made of up to `count` drawn images, to measure ranges on. Shape: flat elements of each.
    pub fn samples(self, count: usize) -> Vec<Vec<f32>> {
        let (set, contrast) = (self.fixtures(), self.view().contrast);
        (0..set.len().min(count)).filter_map(|i| Some(contrast.apply(&set.picture(i).ok()?).values())).collect()
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
    "unet-lesion": LesionPixels, "segmentation/isic2016_lesion", None,
        "the outline of a skin lesion: U-Net of three levels, 16, 32 and 32 maps down, 16 and 8 up, squares between";
    "unet-nuclei": NucleusPixels, "segmentation/dsb2018_nuclei", Some("unet-em"),
        "cell nuclei under fluorescence: the layers of unet-lesion on grey tiles";
    "unet-em": InteriorPixels, "segmentation/isbi2012_em", None,
        "cells and membranes in electron micrographs: the layers of unet-lesion on grey tiles";
}

/// The embedded model called `name`; `unet` is `unet-lesion`.
pub fn by_name(name: &str) -> Option<&'static Embedded> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    ALL.iter().find(|model| model.name == name)
}

impl Embedded {
    /// The imported model, under its own name and with the names of its classes.
    pub fn graph(&self) -> ModelGraph {
        let proto = ModelProto::decode(self.onnx).expect("the embedded models are complete");
        let mut graph = import(&proto, Path::new("."), None).expect("the embedded models are supported");
        graph.name = self.name.into();
        graph.precision = self.task.precision();
        graph.view = self.task.view();
        // Digits are called as their index.
        if self.task != Task::Digits {
            graph.labels = self.task.owned_labels();
        }
        graph
    }

    /// The test split of its data set in the data folder `data`.
    ///
    /// # Errors
    /// A data set that is missing or damaged.
    pub fn test_set(&self, data: &Path) -> Result<Box<dyn Dataset>, DataError> {
        let labels = self.task.owned_labels();
        let masked = |channels, size| Masked::in_data(data, self.data, Split::Test, &labels, channels, size);
        Ok(match self.task {
            Task::Digits => Box::new(Digits::mnist_test(data)?),
            Task::Lesions => {
                let shape = self.task.fixtures().picture(0)?.shape();
                Box::new(Pictures::in_data(data, self.data, Split::Test, &labels, shape)?)
            }
            // Judged at the size that the network sees.
            Task::LesionPixels => Box::new(masked(3, Some(LESION_SIZE))?),
            Task::NucleusPixels | Task::InteriorPixels => Box::new(masked(1, None)?),
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
    use crate::meta::mask_size;

    #[test]
    fn every_embedded_model_imports_and_reads_the_images_of_its_task() {
        for model in ALL {
            let graph = model.graph();
            let shape = |id: usize| &graph.tensors[id].shape;
            let (input, output) = (shape(graph.inputs[0]), shape(graph.outputs[0]));
            assert_eq!(Task::of(&graph), Some(model.task), "{}", model.name);
            let set = model.task.fixtures();
            let samples = model.task.samples(2);
            assert_eq!((samples.len(), samples[0].len()), (2, input.iter().product()), "{}", model.name);
            let mask = set.mask(0).unwrap();
            assert_eq!(mask_size(input, output), mask.as_ref().map(|m| m.size()), "{}", model.name);
            let classes = match output.iter().product() {
                1 => 2,
                _ if mask.is_some() => 2,
                more => more,
            };
            assert_eq!(classes, model.task.labels().len(), "{}", model.name);
            assert_eq!(set.classes(), model.task.labels(), "{}", model.name);
            assert!(model.twin.is_none_or(|twin| by_name(twin).is_some()), "{}", model.name);
        }
        assert!(by_name("mnist").is_some() && by_name("MNIST ").is_none());
        assert_eq!(by_name("unet").unwrap().name, "unet-lesion");
    }
}
