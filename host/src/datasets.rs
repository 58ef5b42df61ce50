//! Data sets: where they lie, and images with labels read from them.
//!
//! What a network reads comes as a [`Dataset`]: images and a list of classes, with a class for each image, or a mask that
//! gives each pixel one of two, whatever file they lie in. The embedded drawn images need no data folder. Everything else is
//! read from the folder that `--data` names, else `CIPHERLENS_DATA`, else `../shared/data`.

mod calibration;
mod digits;
mod idx;
mod masked;
mod picture;
mod pictures;

pub use calibration::calibration_images;
pub use digits::Digits;
pub use idx::{Idx, IdxError};
pub use masked::Masked;
pub use picture::{MAX_PIXELS, Picture, PictureError};
pub use pictures::{Pictures, Split};

use crate::files::hex;
use crate::mask::Mask;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Environment variable that names the data folder.
pub const DATA_VARIABLE: &str = "CIPHERLENS_DATA";
/// The data folder where neither an option nor the variable names one.
pub const DEFAULT_DATA: &str = "../shared/data";

/// Images in a fixed order, each with a class or a mask.
pub trait Dataset: Sync {
    /// What people call the set.
    fn name(&self) -> &str;

    /// What each class is called, by index.
    fn classes(&self) -> &[String];

    /// Number of images.
    fn len(&self) -> usize;

    /// What image `i` is called: its path in the set, or its number.
    fn id(&self, i: usize) -> String;

    /// Class of image `i`; none where images have masks.
    fn label(&self, i: usize) -> Option<usize>;

    /// Mask of image `i`, of the size of its picture; none where images have classes.
    ///
    /// # Errors
    /// [`DataError::NoImage`], a file that cannot be read, or one of another size than the image.
    fn mask(&self, i: usize) -> Result<Option<Mask>, DataError> {
        let _ = i;
        Ok(None)
    }

    /// Pixels of image `i`.
    ///
    /// # Errors
    /// [`DataError::NoImage`], or a file that cannot be read.
    fn picture(&self, i: usize) -> Result<Picture, DataError>;

    /// Values of image `i`, 0 to 1. Shape: `[channels, height, width]`, flat.
    ///
    /// # Errors
    /// As [`picture`](Self::picture).
    fn image(&self, i: usize) -> Result<Vec<f32>, DataError> {
        self.picture(i).map(|picture| picture.values())
    }

    /// Whether there is no image.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// SHA-256 of the names, labels, pixels and masks of all images in order, as the network gets them.
    ///
    /// # Errors
    /// As [`picture`](Self::picture) and [`mask`](Self::mask).
    fn digest(&self) -> Result<String, DataError> {
        let mut hash = Sha256::new();
        for i in 0..self.len() {
            let picture = self.picture(i)?;
            hash.update(format!("{}\n{:?}\n{:?}\n", self.id(i), self.label(i), picture.shape()));
            hash.update(picture.pixels());
            if let Some(mask) = self.mask(i)? {
                hash.update(mask.picture().pixels());
            }
        }
        Ok(hex(&hash.finalize()))
    }
}

/// Why a data set cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A folder or file of the data set is not there.
    #[error("no {what} at {}", path.display())]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A file is there and is not what it should be.
    #[error("{}: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: IdxError,
    },
    /// An image file is there and is not what it should be.
    #[error("{}: {source}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PictureError,
    },
    /// Images and labels do not belong together, or images have an unexpected shape.
    #[error("{}: {reason}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A line of a table of labels is wrong.
    #[error("{}, line {line}: {reason}", path.display())]
    Row {
        /// The table.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such image.
    #[error("no image {index}: the {set} are 0 to {}", .len.saturating_sub(1))]
    NoImage {
        /// The set.
        set: String,
        /// The image asked for.
        index: usize,
        /// Images there.
        len: usize,
    },
}

/// The data folder: `option`, else the variable, else the default. It need not exist.
pub fn data_folder(option: Option<&Path>) -> PathBuf {
    resolve(option, std::env::var_os(DATA_VARIABLE).map(PathBuf::from))
}

fn resolve(option: Option<&Path>, variable: Option<PathBuf>) -> PathBuf {
    option
        .map(Path::to_path_buf)
        .or_else(|| variable.filter(|v| !v.as_os_str().is_empty()))
        .unwrap_or_else(|| DEFAULT_DATA.into())
}

/// The folder of the set `name` in the data folder.
fn set_folder(data: &Path, name: &str, what: &'static str) -> Result<PathBuf, DataError> {
    let folder = data.join(name);
    if folder.is_dir() {
        Ok(folder)
    } else if data.is_dir() {
        Err(DataError::Missing { what, path: folder })
    } else {
        Err(DataError::Missing { what: "data folder", path: data.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_variable_and_that_over_the_default() {
        assert_eq!(resolve(Some(Path::new("a")), Some("b".into())), Path::new("a"));
        assert_eq!(resolve(None, Some("b".into())), Path::new("b"));
        assert_eq!(resolve(None, Some("".into())), Path::new(DEFAULT_DATA));
        assert_eq!(resolve(None, None), Path::new(DEFAULT_DATA));
    }

    #[test]
    fn the_digest_follows_pixels_and_labels() {
        let digits = Digits::drawn();
        assert_eq!(digits.digest().unwrap(), Digits::drawn().digest().unwrap());
        assert_ne!(digits.digest().unwrap(), Pictures::lesions().digest().unwrap());
    }
}
