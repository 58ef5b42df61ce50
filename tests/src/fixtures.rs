//! The repository's models, digits and known answers, and the data folder beside it.

use cipherlens::compile::{CompileOptions, Compiled, ModelGraph, compile, load};
use cipherlens::datasets::{DataError, Dataset, Pictures};
use cipherlens::models::{Task, by_name};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_path_buf()
}

/// Whether the stored answers are to be written instead of compared.
pub fn bless() -> bool {
    std::env::var_os("CIPHERLENS_BLESS").is_some_and(|v| v == "1")
}

/// Names of all models of digits that are compiled and run.
pub const MODELS: [&str; 5] = ["mnist-micro", "mnist", "cryptonets", "orion-mlp", "tenseal-cnn"];

/// A model of the repository.
pub fn model(name: &str) -> ModelGraph {
    load(&root().join("models").join(format!("{name}.onnx")), None).expect("a model of the repository")
}

/// A model compiled with the first drawn images of its task as calibration.
pub fn compiled(model: &ModelGraph) -> Compiled {
    let calibration = Task::of(model).expect("a model of the repository").samples(64);
    compile(model, &CompileOptions { calibration, ..Default::default() }).expect("the model compiles")
}

/// Images with their labels.
pub struct Images {
    /// Pixels in `[0, 1]`, row by row.
    pub images: Vec<Vec<f32>>,
    /// Classes.
    pub labels: Vec<u8>,
}

fn gunzip(path: &Path) -> Option<Vec<u8>> {
    let file = std::fs::File::open(path).ok()?;
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Reads IDX files of 28x28 images and their labels.
fn idx(images: &Path, labels: &Path) -> Option<Images> {
    let (pixels, labels) = (gunzip(images)?, gunzip(labels)?);
    let image = |bytes: &[u8]| bytes.iter().map(|&b| f32::from(b) / 255.0).collect();
    Some(Images {
        images: pixels.get(16..)?.chunks_exact(28 * 28).map(image).collect(),
        labels: labels.get(8..)?.to_vec(),
    })
}

/// The 300 drawn digits.
pub fn digits() -> Images {
    let folder = root().join("fixtures/digits");
    idx(&folder.join("images.idx3-ubyte.gz"), &folder.join("labels.idx1-ubyte.gz"))
        .expect("the digits of the repository")
}

/// The eight drawn lesions.
pub fn lesions() -> Images {
    first(&Pictures::lesions(), usize::MAX).expect("the lesions of the repository")
}

/// The first `count` test images of the data set of an embedded model, where the data folder exists.
pub fn test_images(name: &str, count: usize) -> Option<Images> {
    let model = by_name(name).expect("an embedded model");
    first(&*model.test_set(&data()).ok()?, count).ok()
}

fn first(set: &dyn Dataset, count: usize) -> Result<Images, DataError> {
    let count = count.min(set.len());
    let labels = (0..count).filter_map(|i| set.label(i)).map(|label| label as u8).collect();
    Ok(Images { images: (0..count).map(|i| set.image(i)).collect::<Result<_, _>>()?, labels })
}

fn data() -> PathBuf {
    std::env::var_os("CIPHERLENS_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from)
}

/// The 10,000 test images of MNIST, where the data folder exists.
pub fn mnist_test() -> Option<Images> {
    let folder = data().join("mnist");
    idx(&folder.join("t10k-images-idx3-ubyte.gz"), &folder.join("t10k-labels-idx1-ubyte.gz"))
}

/// Position of the largest value; of one value alone, 1 if it is positive.
pub fn class<T: PartialOrd + Default>(scores: &[T]) -> usize {
    if let [score] = scores {
        return usize::from(*score > T::default());
    }
    (1..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best })
}
