//! Images of digits with labels: the embedded drawn ones, and MNIST from the data folder.

use super::{DataError, Idx};
use std::path::{Path, PathBuf};

static DRAWN_IMAGES: &[u8] = include_bytes!("../../../fixtures/digits/images.idx3-ubyte.gz");
static DRAWN_LABELS: &[u8] = include_bytes!("../../../fixtures/digits/labels.idx1-ubyte.gz");

/// Grey images with a label each. Shape of an image: `[1, H, W]`.
#[derive(Debug, Clone)]
pub struct Digits {
    name: &'static str,
    images: Idx,
    labels: Idx,
}

impl Digits {
    /// The 300 drawn digits that the command carries.
    pub fn drawn() -> Self {
        let read = |bytes| Idx::parse(bytes).expect("the embedded fixtures are complete");
        Self { name: "drawn digits", images: read(DRAWN_IMAGES), labels: read(DRAWN_LABELS) }
    }

    /// The 10,000 test images of MNIST in the data folder `data`.
    ///
    /// # Errors
    /// A folder or file that is missing, damaged, or does not belong to the other.
    pub fn mnist_test(data: &Path) -> Result<Self, DataError> {
        let folder = folder(data)?;
        let images = read(&folder, "t10k-images-idx3-ubyte")?;
        let labels = read(&folder, "t10k-labels-idx1-ubyte")?;
        let mismatch = |reason| DataError::Mismatch { path: folder.clone(), reason };
        if images.item_shape() != [28, 28] {
            return Err(mismatch(format!("the images have the shape {:?}, not [28, 28]", images.item_shape())));
        }
        if images.len() != labels.len() || !labels.item_shape().is_empty() {
            return Err(mismatch(format!("{} images and {} labels", images.len(), labels.len())));
        }
        Ok(Self { name: "MNIST test", images, labels })
    }

    /// What people call the set.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Width of an image in pixels.
    pub fn width(&self) -> usize {
        self.images.item_shape().last().copied().unwrap_or(0)
    }

    /// Pixels of image `i`, 0 to 255.
    pub fn pixels(&self, i: usize) -> Option<&[u8]> {
        self.images.item(i)
    }

    /// Values of image `i`, 0 to 1.
    pub fn image(&self, i: usize) -> Option<Vec<f32>> {
        self.images.item(i).map(scaled)
    }

    /// Label of image `i`.
    pub fn label(&self, i: usize) -> Option<u8> {
        self.labels.item(i)?.first().copied()
    }
}

/// Pixels as values from 0 to 1.
fn scaled(pixels: &[u8]) -> Vec<f32> {
    pixels.iter().map(|&p| f32::from(p) / 255.0).collect()
}

fn folder(data: &Path) -> Result<PathBuf, DataError> {
    let folder = data.join("mnist");
    if folder.is_dir() {
        Ok(folder)
    } else if data.is_dir() {
        Err(DataError::Missing { what: "MNIST folder", path: folder })
    } else {
        Err(DataError::Missing { what: "data folder", path: data.into() })
    }
}

/// Reads `name`, or `name.gz`.
fn read(folder: &Path, name: &str) -> Result<Idx, DataError> {
    let plain = folder.join(name);
    let path = if plain.is_file() { plain } else { folder.join(format!("{name}.gz")) };
    if !path.is_file() {
        return Err(DataError::Missing { what: "data file", path });
    }
    Idx::open(&path).map_err(|source| DataError::Damaged { path, source })
}

/// Up to `count` images, evenly spread over an IDX file or over the training images in a folder, as values
/// from 0 to 1. Shape: one flat vector per image.
///
/// # Errors
/// No such file, no image file in the folder, or a damaged one.
pub fn calibration_images(path: &Path, count: usize) -> Result<Vec<Vec<f32>>, DataError> {
    let file = if path.is_dir() { image_file(path)? } else { path.to_path_buf() };
    if !file.is_file() {
        return Err(DataError::Missing { what: "calibration images", path: file });
    }
    let idx = Idx::open(&file).map_err(|source| DataError::Damaged { path: file.clone(), source })?;
    let count = count.min(idx.len());
    if count == 0 {
        return Err(DataError::Mismatch { path: file, reason: "the file holds no image".into() });
    }
    Ok((0..count).filter_map(|i| idx.item(i * idx.len() / count)).map(scaled).collect())
}

/// The image file of a folder; one of training images where there is a choice.
fn image_file(folder: &Path) -> Result<PathBuf, DataError> {
    let missing =
        || DataError::Missing { what: "IDX file of images (*idx3-ubyte or *idx3-ubyte.gz)", path: folder.into() };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(|_| missing())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().contains("idx3-ubyte")))
        .collect();
    files.sort_by_key(|p| (!p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("train")), p.clone()));
    files.into_iter().next().ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drawn_digits_are_thirty_of_each() {
        let digits = Digits::drawn();
        assert_eq!((digits.len(), digits.width()), (300, 28));
        for class in 0..10 {
            assert_eq!((0..300).filter(|&i| digits.label(i) == Some(class)).count(), 30);
        }
        let image = digits.image(299).unwrap();
        assert_eq!(image.len(), 784);
        assert!(image.iter().all(|v| (0.0..=1.0).contains(v)) && image.iter().any(|&v| v > 0.9));
        assert!(digits.image(300).is_none() && digits.label(300).is_none());
    }

    #[test]
    fn a_missing_folder_names_its_path() {
        let error = Digits::mnist_test(Path::new("/nonexistent/data")).unwrap_err();
        assert!(matches!(&error, DataError::Missing { what: "data folder", .. }), "{error}");
        assert!(error.to_string().contains("/nonexistent/data"));
    }

    #[test]
    fn calibration_images_are_spread_over_the_file() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/digits");
        let images = calibration_images(&path, 64).unwrap();
        assert_eq!((images.len(), images[0].len()), (64, 784));
        assert_eq!(images[63], Digits::drawn().image(63 * 300 / 64).unwrap());
    }
}
