//! Images that activation ranges are measured on.

use super::pictures::{image_files, load};
use super::{DataError, Dataset, Idx, Masked, Picture, Pictures, Split};
use crate::view::View;
use std::path::{Path, PathBuf};

/// Up to `count` images, evenly spread over what `path` is: an IDX file, an image file, a folder with an IDX file, a
/// folder of images with classes or masks (those to train on where there is a choice) or of images. Values are from 0 to 1.
/// `shape` is that of the network's input, which images are brought to as `view` says; an IDX file must have it already.
/// Shape: one flat vector per image.
///
/// # Errors
/// No such file, no image in the folder, or a damaged one.
pub fn calibration_images(path: &Path, count: usize, shape: &[usize], view: View) -> Result<Vec<Vec<f32>>, DataError> {
    let is_file = path.is_file();
    if let Some(file) = if is_file { (!Picture::is_named(path)).then(|| path.to_path_buf()) } else { idx_file(path) } {
        return from_idx(&file, count);
    }
    let none = || DataError::Missing { what: "IDX file of images, PNG or JPEG file", path: path.into() };
    let shape: [usize; 3] = shape.try_into().map_err(|_| DataError::Mismatch {
        path: path.into(),
        reason: format!("the network reads values of the shape {shape:?}, not pictures"),
    })?;
    let [channels, height, width] = shape;
    let sample = |picture: Picture| view.sample(&picture, [width, height]).values();
    if is_file {
        return Ok(vec![sample(load(path, channels)?)]);
    }
    if !path.is_dir() {
        return Err(none());
    }
    if Masked::is_at(path) {
        let open = |split| Masked::open(path, split, &[], channels, None);
        let set = open(Split::Train).or_else(|_| open(Split::Test))?;
        return spread(set.len(), count).map(|i| Ok(sample(set.picture(i)?))).collect();
    }
    for split in [Split::Train, Split::Test] {
        if path.join("labels.csv").is_file() || path.join(split.name()).is_dir() {
            let set = Pictures::open(path, split, None, shape)?;
            return spread(set.len(), count).map(|i| Ok(sample(set.picture(i)?))).collect();
        }
    }
    let files = image_files(path)?;
    if files.is_empty() {
        return Err(none());
    }
    spread(files.len(), count).map(|i| Ok(sample(load(&files[i], channels)?))).collect()
}

/// Up to `count` of `0..len`, evenly spread.
fn spread(len: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(len);
    (0..count).map(move |i| i * len / count)
}

fn from_idx(file: &Path, count: usize) -> Result<Vec<Vec<f32>>, DataError> {
    let idx = Idx::open(file).map_err(|source| DataError::Damaged { path: file.into(), source })?;
    if idx.is_empty() {
        return Err(DataError::Mismatch { path: file.into(), reason: "the file holds no image".into() });
    }
    let scaled = |pixels: &[u8]| pixels.iter().map(|&p| f32::from(p) / 255.0).collect();
    Ok(spread(idx.len(), count).filter_map(|i| idx.item(i)).map(scaled).collect())
}

/// The IDX file of images in a folder; one of training images where there is a choice.
fn idx_file(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().contains("idx3-ubyte")))
        .collect();
    files.sort_by_key(|p| (!p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("train")), p.clone()));
    files.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::Digits;
    use crate::view::{Contrast, Fit};

    fn fixtures(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
    }

    #[test]
    fn images_are_spread_over_an_idx_file() {
        let images = calibration_images(&fixtures("digits"), 64, &[1, 28, 28], View::default()).unwrap();
        assert_eq!((images.len(), images[0].len()), (64, 784));
        assert_eq!(images[63], Digits::drawn().image(63 * 300 / 64).unwrap());
    }

    #[test]
    fn labelled_folders_plain_folders_and_files_are_read() {
        let shape = [3, 16, 32];
        for (name, count) in [("lesions", 8), ("lesions/test/benign", 4), ("lesions/test/benign/lesion-1.png", 1)] {
            let images = calibration_images(&fixtures(name), 64, &shape, View::default()).unwrap();
            assert_eq!((images.len(), images[0].len()), (count, 3 * 16 * 32), "{name}");
        }
        assert_eq!(calibration_images(&fixtures("lesions"), 3, &shape, View::default()).unwrap().len(), 3);
        let none = calibration_images(&fixtures("onnx"), 64, &shape, View::default()).unwrap_err();
        assert!(matches!(none, DataError::Missing { .. }), "{none}");
        let flat = calibration_images(&fixtures("lesions"), 64, &[784], View::default()).unwrap_err();
        assert!(flat.to_string().contains("[784]"), "{flat}");
    }

    #[test]
    fn images_with_masks_are_read_as_the_network_sees_them() {
        let shape = [1, 64, 32];
        let view = View { fit: Fit::Tile, contrast: Contrast::Stretch };
        let images = calibration_images(&fixtures("nuclei"), 64, &shape, view).unwrap();
        assert_eq!((images.len(), images[0].len()), (4, 64 * 32), "the images, not their masks");
        assert!(images.iter().flatten().any(|&v| v > 0.6), "the contrast is stretched");
        let dark = calibration_images(&fixtures("nuclei"), 64, &shape, View::default()).unwrap();
        assert!(dark.iter().flatten().all(|&v| v < 0.6));
    }
}
