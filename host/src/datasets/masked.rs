//! Pictures with masks: the embedded drawn ones, and folders of images and masks.
//!
//! A folder holds `images/` with PNG and JPEG files and `masks/` with a grey PNG or JPEG file of the same stem and size
//! for each, or a folder of the split's name (`test/`, `train/`) that holds these. Levels of a mask from 128 of 255 on are foreground. The
//! images are ordered by the SHA-256 of their names, so that the first N are a sample.

use super::pictures::{Bytes, LESIONS, by_turns, image_files};
use super::{DataError, Dataset, Picture, PictureError, Split, set_folder};
use crate::mask::Mask;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

macro_rules! drawn {
    ($($stem:literal),* $(,)?) => {
        &[$((
            $stem,
            include_bytes!(concat!("../../../fixtures/", $stem, ".png")),
        )),*]
    };
}

/// A path without its extension, and the content.
type Carried = (&'static str, &'static [u8]);
type Files = &'static [Carried];

static LESION_MASKS: Files = drawn![
    "lesions/masks/lesion-1",
    "lesions/masks/lesion-2",
    "lesions/masks/lesion-3",
    "lesions/masks/lesion-4",
    "lesions/masks/lesion-5",
    "lesions/masks/lesion-6",
    "lesions/masks/lesion-7",
    "lesions/masks/lesion-8",
];
static NUCLEI: Files =
    drawn!["nuclei/images/nuclei-1", "nuclei/images/nuclei-2", "nuclei/images/nuclei-3", "nuclei/images/nuclei-4",];
static NUCLEUS_MASKS: Files =
    drawn!["nuclei/masks/nuclei-1", "nuclei/masks/nuclei-2", "nuclei/masks/nuclei-3", "nuclei/masks/nuclei-4"];
static MEMBRANES: Files = drawn![
    "membranes/images/membranes-1",
    "membranes/images/membranes-2",
    "membranes/images/membranes-3",
    "membranes/images/membranes-4",
];
static INTERIOR_MASKS: Files = drawn![
    "membranes/masks/membranes-1",
    "membranes/masks/membranes-2",
    "membranes/masks/membranes-3",
    "membranes/masks/membranes-4",
];

#[derive(Debug, Clone)]
struct Item {
    id: String,
    image: Bytes,
    mask: Bytes,
}

/// Pictures with masks.
#[derive(Debug, Clone)]
pub struct Masked {
    name: String,
    classes: Vec<String>,
    channels: usize,
    /// Width and height that images and masks are brought to; none for their own.
    size: Option<[usize; 2]>,
    items: Vec<Item>,
}

impl Masked {
    /// The eight drawn lesions that the command carries, in the order of [`Pictures::lesions`](super::Pictures::lesions).
    pub fn lesions(classes: &[String]) -> Self {
        Self::drawn("drawn lesions", classes, 3, by_turns(LESIONS), by_turns(LESION_MASKS))
    }

    /// The four drawn images of nuclei that the command carries.
    pub fn nuclei(classes: &[String]) -> Self {
        Self::drawn("drawn nuclei", classes, 1, NUCLEI.iter(), NUCLEUS_MASKS.iter())
    }

    /// The four drawn images of cells between membranes that the command carries.
    pub fn membranes(classes: &[String]) -> Self {
        Self::drawn("drawn membranes", classes, 1, MEMBRANES.iter(), INTERIOR_MASKS.iter())
    }

    fn drawn<'f>(
        name: &str,
        classes: &[String],
        channels: usize,
        images: impl Iterator<Item = &'f Carried>,
        masks: impl Iterator<Item = &'f Carried>,
    ) -> Self {
        let item = |(image, mask): (&Carried, &Carried)| Item {
            id: image.0.rsplit('/').next().unwrap_or_default().into(),
            image: Bytes::Embedded(image.1),
            mask: Bytes::Embedded(mask.1),
        };
        Self {
            name: name.into(),
            classes: classes.to_vec(),
            channels,
            size: None,
            items: images.zip(masks).map(item).collect(),
        }
    }

    /// The images of `split` in the set `name` of the data folder `data`, as [`open`](Self::open).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn in_data(
        data: &Path,
        name: &str,
        split: Split,
        classes: &[String],
        channels: usize,
        size: Option<[usize; 2]>,
    ) -> Result<Self, DataError> {
        let folder = set_folder(data, name, "folder of images and masks")?;
        let set = Self::open(&folder, split, classes, channels, size)?;
        Ok(Self { name: format!("{name} {}", split.name()), ..set })
    }

    /// The images with masks in `folder`, of `split` where it has splits. `classes` names background and foreground;
    /// `channels` are those of the network, and `size` is the width and height that images (means of areas) and masks
    /// (covered by half or more) are brought to, none to leave them as they are.
    ///
    /// # Errors
    /// A folder that is missing or holds no image, and an image without a mask. Image files are read later, one by one.
    pub fn open(
        folder: &Path,
        split: Split,
        classes: &[String],
        channels: usize,
        size: Option<[usize; 2]>,
    ) -> Result<Self, DataError> {
        let inner = folder.join(split.name());
        let top = if inner.join("images").is_dir() { inner } else { folder.into() };
        for (what, part) in [("folder of images", "images"), ("folder of masks", "masks")] {
            let path = top.join(part);
            if !path.is_dir() {
                return Err(DataError::Missing { what, path });
            }
        }
        let mismatch = |path: &Path, reason: String| DataError::Mismatch { path: path.into(), reason };
        let masks = image_files(&top.join("masks"))?;
        let mut items = Vec::new();
        for image in image_files(&top.join("images"))? {
            let with_stem: Vec<&PathBuf> = masks.iter().filter(|mask| mask.file_stem() == image.file_stem()).collect();
            let mask = match with_stem[..] {
                [mask] => mask.clone(),
                [] => return Err(mismatch(&image, format!("no mask of that name in {}", top.join("masks").display()))),
                _ => return Err(mismatch(&image, "several masks of that name".into())),
            };
            let id = image.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            items.push(Item { id, image: Bytes::File(image), mask: Bytes::File(mask) });
        }
        if items.is_empty() {
            return Err(mismatch(&top.join("images"), "the folder holds no image".into()));
        }
        items.sort_by_cached_key(|item| Sha256::digest(item.id.as_bytes()));
        let name = folder.display().to_string();
        Ok(Self { name, classes: classes.to_vec(), channels, size, items })
    }

    /// Whether `folder` is one that [`open`](Self::open) reads, and not one of images with classes.
    pub fn is_at(folder: &Path) -> bool {
        let parts = |split| ["images", "masks"].iter().all(|part| folder.join(split).join(part).is_dir());
        ["", "test", "train"].into_iter().any(parts)
    }

    fn item(&self, i: usize) -> Result<&Item, DataError> {
        let missing = || DataError::NoImage { set: self.name.clone(), index: i, len: self.items.len() };
        self.items.get(i).ok_or_else(missing)
    }

    /// The image as it is in its file.
    fn whole(&self, item: &Item) -> Result<Picture, DataError> {
        let bytes = item.image.read()?;
        let named = |source| DataError::Picture { path: path(&item.image, &item.id), source };
        Picture::decode(&bytes, self.channels).map_err(named)
    }
}

/// The path of a file, or what is embedded is called.
fn path(bytes: &Bytes, id: &str) -> PathBuf {
    match bytes {
        Bytes::Embedded(_) => id.into(),
        Bytes::File(path) => path.clone(),
    }
}

impl Dataset for Masked {
    fn name(&self) -> &str {
        &self.name
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    fn id(&self, i: usize) -> String {
        self.items.get(i).map_or_else(String::new, |item| item.id.clone())
    }

    fn label(&self, _: usize) -> Option<usize> {
        None
    }

    fn mask(&self, i: usize) -> Result<Option<Mask>, DataError> {
        let item = self.item(i)?;
        let bytes = item.mask.read()?;
        let path = path(&item.mask, &item.id);
        let mask = Mask::decode(&bytes).map_err(|source| DataError::Picture {
            path: path.clone(),
            source: if matches!(source, PictureError::Colour) { PictureError::MaskColour } else { source },
        })?;
        let ([_, height, width], [w, h]) = (self.whole(item)?.shape(), mask.size());
        if [w, h] != [width, height] {
            let reason = format!("the mask is {w}x{h} pixels, its image {width}x{height}");
            return Err(DataError::Mismatch { path, reason });
        }
        Ok(Some(match self.size {
            Some([width, height]) => mask.resized(width, height),
            None => mask,
        }))
    }

    fn picture(&self, i: usize) -> Result<Picture, DataError> {
        let picture = self.whole(self.item(i)?)?;
        Ok(match self.size {
            Some([width, height]) => picture.resized(width, height),
            None => picture,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn two() -> Vec<String> {
        vec!["ground".into(), "thing".into()]
    }

    fn write(path: PathBuf, picture: &Picture) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, picture.png().unwrap()).unwrap();
    }

    /// Two images of 4x2 pixels with masks.
    fn folder() -> TempDir {
        let folder = TempDir::new().unwrap();
        for name in ["a", "b"] {
            write(
                folder.path().join(format!("images/{name}.png")),
                &Picture::grey(&[10, 20, 30, 40, 50, 60, 70, 80], 4),
            );
            write(
                folder.path().join(format!("masks/{name}.png")),
                &Picture::grey(&[0, 0, 255, 255, 0, 9, 200, 255], 4),
            );
        }
        folder
    }

    fn open(folder: &TempDir) -> Result<Masked, DataError> {
        Masked::open(folder.path(), Split::Test, &two(), 1, None)
    }

    #[test]
    fn folders_are_read_with_and_without_splits_and_at_another_size() {
        let folder = folder();
        let set = open(&folder).unwrap();
        assert_eq!((set.len(), set.label(0), set.classes().len()), (2, None, 2));
        assert_eq!(set.picture(0).unwrap().shape(), [1, 2, 4]);
        let mask = set.mask(0).unwrap().unwrap();
        assert_eq!(mask.pixels(), [false, false, true, true, false, false, true, true]);
        let half = Masked::open(folder.path(), Split::Test, &two(), 1, Some([2, 1])).unwrap();
        assert_eq!(half.picture(0).unwrap().pixels(), [35, 55]);
        assert_eq!(half.mask(0).unwrap().unwrap().pixels(), [false, true]);
        let digest = set.digest().unwrap();
        assert_ne!(half.digest().unwrap(), digest);

        let inner = folder.path().join("test");
        fs::create_dir(&inner).unwrap();
        for part in ["images", "masks"] {
            fs::rename(folder.path().join(part), inner.join(part)).unwrap();
        }
        assert!(Masked::is_at(folder.path()) && Masked::is_at(&inner) && !Masked::is_at(&inner.join("images")));
        assert_eq!(open(&folder).unwrap().digest().unwrap(), digest);
        let train = Masked::open(folder.path(), Split::Train, &two(), 1, None).unwrap_err();
        assert!(matches!(train, DataError::Missing { what: "folder of images", .. }), "{train}");
        assert!(matches!(set.picture(2), Err(DataError::NoImage { index: 2, len: 2, .. })));
    }

    #[test]
    fn what_is_wrong_with_a_mask_is_named() {
        let folder = folder();
        let mask = folder.path().join("masks/b.png");
        let index = |set: &Masked| (0..2).find(|&i| set.id(i) == "b.png").unwrap();
        let fails = |fragment: &str| {
            let set = open(&folder).unwrap();
            let error = set.mask(index(&set)).unwrap_err().to_string();
            assert!(error.contains(fragment) && error.contains("masks/b.png"), "{fragment:?} in {error}");
            assert!(set.digest().is_err());
        };
        write(mask.clone(), &Picture::grey(&[0; 9], 3));
        fails("the mask is 3x3 pixels, its image 4x2");
        write(mask.clone(), &Picture::rgb(&[0; 24], 4));
        fails("colours");
        fs::write(&mask, "no image").unwrap();
        fails("neither a PNG nor a JPEG");
        fs::remove_file(&mask).unwrap();
        assert!(open(&folder).unwrap_err().to_string().contains("images/b.png: no mask of that name"));
        write(mask, &Picture::grey(&[0; 8], 4));
        write(folder.path().join("masks/a.jpg"), &Picture::grey(&[0; 8], 4));
        assert!(open(&folder).unwrap_err().to_string().contains("several masks"));
        fs::remove_dir_all(folder.path().join("masks")).unwrap();
        assert!(matches!(open(&folder), Err(DataError::Missing { what: "folder of masks", .. })));
    }

    #[test]
    fn the_drawn_images_have_masks_of_their_size() {
        for (set, count) in [(Masked::lesions(&two()), 8), (Masked::nuclei(&two()), 4), (Masked::membranes(&two()), 4)]
        {
            assert_eq!(set.len(), count, "{}", set.name());
            for i in 0..count {
                let (picture, mask) = (set.picture(i).unwrap(), set.mask(i).unwrap().unwrap());
                assert_eq!((picture.shape()[1..].to_vec(), mask.size()), (vec![128, 128], [128, 128]), "{}", set.id(i));
                assert!(mask.share() > 0.02 && mask.share() < 0.98, "{}: {}", set.id(i), mask.share());
            }
        }
        let (with, without) = (Masked::lesions(&two()), super::super::Pictures::lesions());
        assert!((0..8).all(|i| with.picture(i).unwrap() == without.picture(i).unwrap()));
    }
}
