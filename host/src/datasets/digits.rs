//! Digits: the embedded drawn ones, and MNIST from the data folder.

use super::{DataError, Dataset, Idx, Picture, set_folder};
use std::path::Path;

static DRAWN_IMAGES: &[u8] = include_bytes!("../../../fixtures/digits/images.idx3-ubyte.gz");
static DRAWN_LABELS: &[u8] = include_bytes!("../../../fixtures/digits/labels.idx1-ubyte.gz");

/// Grey digits. Shape of an image: `[1, H, W]`.
#[derive(Debug, Clone)]
pub struct Digits {
    name: &'static str,
    classes: Vec<String>,
    images: Idx,
    labels: Idx,
}

impl Digits {
    fn new(name: &'static str, images: Idx, labels: Idx) -> Self {
        Self { name, classes: (0..10).map(|class| class.to_string()).collect(), images, labels }
    }

    /// The 300 drawn digits that the command carries.
    pub fn drawn() -> Self {
        let read = |bytes| Idx::parse(bytes).expect("the embedded fixtures are complete");
        Self::new("drawn digits", read(DRAWN_IMAGES), read(DRAWN_LABELS))
    }

    /// The 10,000 test images of MNIST in the data folder `data`.
    ///
    /// # Errors
    /// A folder or file that is missing, damaged, or does not belong to the other.
    pub fn mnist_test(data: &Path) -> Result<Self, DataError> {
        let folder = set_folder(data, "mnist", "MNIST folder")?;
        let images = read(&folder, "t10k-images-idx3-ubyte")?;
        let labels = read(&folder, "t10k-labels-idx1-ubyte")?;
        let mismatch = |reason| DataError::Mismatch { path: folder.clone(), reason };
        if images.item_shape() != [28, 28] {
            return Err(mismatch(format!("the images have the shape {:?}, not [28, 28]", images.item_shape())));
        }
        if images.len() != labels.len() || !labels.item_shape().is_empty() {
            return Err(mismatch(format!("{} images and {} labels", images.len(), labels.len())));
        }
        Ok(Self::new("MNIST test", images, labels))
    }
}

impl Dataset for Digits {
    fn name(&self) -> &str {
        self.name
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn len(&self) -> usize {
        self.images.len()
    }

    fn id(&self, i: usize) -> String {
        i.to_string()
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.labels.item(i)?.first().map(|&label| usize::from(label))
    }

    fn picture(&self, i: usize) -> Result<Picture, DataError> {
        let missing = || DataError::NoImage { set: self.name.into(), index: i, len: self.len() };
        let width = self.images.item_shape().last().copied().unwrap_or(0);
        self.images.item(i).map(|pixels| Picture::grey(pixels, width)).ok_or_else(missing)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drawn_digits_are_thirty_of_each() {
        let digits = Digits::drawn();
        assert_eq!((digits.len(), digits.picture(0).unwrap().shape()), (300, [1, 28, 28]));
        for class in 0..10 {
            assert_eq!((0..300).filter(|&i| digits.label(i) == Some(class)).count(), 30);
        }
        let image = digits.image(299).unwrap();
        assert_eq!(image.len(), 784);
        assert!(image.iter().all(|v| (0.0..=1.0).contains(v)) && image.iter().any(|&v| v > 0.9));
        assert!(digits.image(300).unwrap_err().to_string().contains("0 to 299") && digits.label(300).is_none());
    }

    #[test]
    fn a_missing_folder_names_its_path() {
        let error = Digits::mnist_test(Path::new("/nonexistent/data")).unwrap_err();
        assert!(matches!(&error, DataError::Missing { what: "data folder", .. }), "{error}");
        assert!(error.to_string().contains("/nonexistent/data"));
    }
}
