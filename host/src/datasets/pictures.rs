//! Labelled pictures: the embedded lesions, and folders of PNG and JPEG files with a class each.
//!
//! A folder holds a table `labels.csv` with the columns `file` (path in the folder), `split` and `label`, others
//! being ignored; or, without one, the files as `<split>/<class>/<file>`. The images are ordered by the SHA-256 of
//! their paths: the same everywhere, and the first N are a sample of all classes.

use super::picture::{Picture, PictureError};
use super::{DataError, Dataset, set_folder};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

macro_rules! lesions {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../../fixtures/lesions/", $path)))),*]
    };
}

pub(super) static LESIONS: &[(&str, &[u8])] = lesions![
    "test/benign/lesion-1.png",
    "test/benign/lesion-2.png",
    "test/benign/lesion-3.png",
    "test/benign/lesion-4.png",
    "test/malignant/lesion-5.png",
    "test/malignant/lesion-6.png",
    "test/malignant/lesion-7.png",
    "test/malignant/lesion-8.png",
];
/// What lesions are called, by class.
pub(crate) const LESION_CLASSES: &[&str] = &["benign", "malignant"];
/// Shape of a lesion: `[channels, height, width]`.
const LESION: [usize; 3] = [3, 128, 128];
const TABLE: &str = "labels.csv";

/// Which part of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// What networks learn from.
    Train,
    /// What they are judged by.
    Test,
}

impl Split {
    /// Its name in folders and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

#[derive(Debug, Clone)]
struct Item {
    /// Path in the set, with slashes.
    id: String,
    label: usize,
    bytes: Bytes,
}

/// A file, or what is in one.
#[derive(Debug, Clone)]
pub(super) enum Bytes {
    /// Carried by the command.
    Embedded(&'static [u8]),
    /// In the file system.
    File(PathBuf),
}

impl Bytes {
    /// The content.
    ///
    /// # Errors
    /// [`DataError::Missing`] or [`DataError::Picture`].
    pub(super) fn read(&self) -> Result<Cow<'static, [u8]>, DataError> {
        match self {
            Self::Embedded(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::File(path) if !path.exists() => Err(DataError::Missing { what: "image file", path: path.clone() }),
            Self::File(path) => std::fs::read(path)
                .map(Cow::Owned)
                .map_err(|error| DataError::Picture { path: path.clone(), source: error.into() }),
        }
    }
}

/// Labelled pictures, brought to one shape when they are read.
#[derive(Debug, Clone)]
pub struct Pictures {
    name: String,
    classes: Vec<String>,
    shape: [usize; 3],
    items: Vec<Item>,
}

/// A row of the table.
#[derive(Deserialize)]
struct Row {
    file: String,
    split: String,
    label: String,
}

impl Pictures {
    /// The eight drawn lesions that the command carries, in the order of their numbers but classes by turns.
    pub fn lesions() -> Self {
        let label = |id: &str| LESION_CLASSES.iter().position(|class| id.contains(&format!("/{class}/"))).unwrap_or(0);
        let item = |&(id, bytes): &(&str, &'static [u8])| Item {
            id: id.into(),
            label: label(id),
            bytes: Bytes::Embedded(bytes),
        };
        let items = by_turns(LESIONS).map(item).collect();
        let classes = LESION_CLASSES.iter().map(ToString::to_string).collect();
        Self { name: "drawn lesions".into(), classes, shape: LESION, items }
    }

    /// The images of `split` in the set `name` of the data folder `data`, as the type says.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn in_data(
        data: &Path,
        name: &str,
        split: Split,
        classes: &[String],
        shape: [usize; 3],
    ) -> Result<Self, DataError> {
        let folder = set_folder(data, name, "folder of images")?;
        let set = Self::open(&folder, split, Some(classes), shape)?;
        Ok(Self { name: format!("{name} {}", split.name()), ..set })
    }

    /// The images of `split` in `folder`, brought to `shape` (`[channels, height, width]`) when they are read.
    /// `classes` names the classes in the order of their indices; without it they are those of the split, sorted.
    ///
    /// # Errors
    /// A folder, table or file that is missing, a table that cannot be read, an unknown class, or a class without
    /// an image. Image files are read later, one by one.
    pub fn open(folder: &Path, split: Split, classes: Option<&[String]>, shape: [usize; 3]) -> Result<Self, DataError> {
        if !folder.is_dir() {
            return Err(DataError::Missing { what: "folder of images", path: folder.into() });
        }
        let table = folder.join(TABLE);
        let found = if table.exists() { rows(folder, &table, split, classes)? } else { files(folder, split, classes)? };
        let mismatch = |path: &Path, reason| DataError::Mismatch { path: path.into(), reason };
        let names: Vec<String> = match classes {
            Some(classes) => classes.to_vec(),
            None => {
                let mut names: Vec<String> = found.iter().map(|(_, class)| class.clone()).collect();
                names.sort();
                names.dedup();
                names
            }
        };
        for class in &names {
            if !found.iter().any(|(_, name)| name == class) {
                return Err(mismatch(folder, format!("no {} image of the class {class:?}", split.name())));
            }
        }
        if names.len() < 2 {
            return Err(mismatch(folder, format!("{} images of {} classes", split.name(), names.len())));
        }
        let item = |(id, class): (String, String)| Item {
            label: names.iter().position(|name| *name == class).unwrap_or(0),
            bytes: Bytes::File(folder.join(&id)),
            id,
        };
        let mut items: Vec<Item> = found.into_iter().map(item).collect();
        items.sort_by_cached_key(|item| Sha256::digest(item.id.as_bytes()));
        Ok(Self { name: format!("{} {}", folder.display(), split.name()), classes: names, shape, items })
    }

    fn item(&self, i: usize) -> Result<&Item, DataError> {
        let missing = || DataError::NoImage { set: self.name.clone(), index: i, len: self.items.len() };
        self.items.get(i).ok_or_else(missing)
    }
}

impl Dataset for Pictures {
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

    fn label(&self, i: usize) -> Option<usize> {
        self.items.get(i).map(|item| item.label)
    }

    fn picture(&self, i: usize) -> Result<Picture, DataError> {
        let item = self.item(i)?;
        let named = |source| DataError::Picture { path: PathBuf::from(&item.id), source };
        match &item.bytes {
            Bytes::Embedded(bytes) => fit(bytes, self.shape).map_err(named),
            Bytes::File(path) => read(path, self.shape),
        }
    }
}

/// The first half of some items and the second, by turns.
pub(super) fn by_turns<T>(items: &[T]) -> impl Iterator<Item = &T> {
    let half = items.len() / 2;
    (0..items.len()).map(move |i| &items[i / 2 + (i % 2) * half])
}

fn fit(bytes: &[u8], [channels, height, width]: [usize; 3]) -> Result<Picture, PictureError> {
    Ok(Picture::decode(bytes, channels)?.resized(width, height))
}

/// An image file brought to `shape`: `[channels, height, width]`.
///
/// # Errors
/// As [`load`].
fn read(path: &Path, shape: [usize; 3]) -> Result<Picture, DataError> {
    let [channels, height, width] = shape;
    Ok(load(path, channels)?.resized(width, height))
}

/// An image file at its own size, for a network that reads `channels` channels.
///
/// # Errors
/// [`DataError::Missing`] or [`DataError::Picture`].
pub(super) fn load(path: &Path, channels: usize) -> Result<Picture, DataError> {
    let bytes = Bytes::File(path.into()).read()?;
    Picture::decode(&bytes, channels).map_err(|source| DataError::Picture { path: path.into(), source })
}

/// Paths and classes by the table.
fn rows(
    folder: &Path,
    table: &Path,
    split: Split,
    classes: Option<&[String]>,
) -> Result<Vec<(String, String)>, DataError> {
    let wrong = |line, reason| DataError::Row { path: table.into(), line, reason };
    let line = |error: &csv::Error| error.position().map_or(1, csv::Position::line);
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(table).map_err(|e| wrong(line(&e), e.to_string()))?;
    let headers = reader.headers().map_err(|e| wrong(line(&e), e.to_string()))?.clone();
    for column in ["file", "split", "label"] {
        if !headers.iter().any(|h| h == column) {
            return Err(wrong(1, format!("no column {column:?}")));
        }
    }
    let mut found: Vec<(String, String)> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for record in reader.into_records() {
        let record = record.map_err(|e| wrong(line(&e), e.to_string()))?;
        let at = record.position().map_or(0, csv::Position::line);
        let row: Row = record.deserialize(Some(&headers)).map_err(|e| wrong(at, e.to_string()))?;
        if row.split != split.name() {
            if ![Split::Train, Split::Test].iter().any(|s| s.name() == row.split) {
                return Err(wrong(at, format!("the split {:?} is neither train nor test", row.split)));
            }
            continue;
        }
        if classes.is_some_and(|classes| !classes.contains(&row.label)) {
            return Err(wrong(at, unknown(&row.label, classes.unwrap_or_default())));
        }
        let inside = Path::new(&row.file).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !inside || row.file.is_empty() {
            return Err(wrong(at, format!("{:?} is no path in the folder", row.file)));
        }
        if !folder.join(&row.file).is_file() {
            return Err(wrong(at, format!("there is no file {}", row.file)));
        }
        if !seen.insert(row.file.clone()) {
            return Err(wrong(at, format!("{} has a row already", row.file)));
        }
        found.push((row.file, row.label));
    }
    if found.is_empty() {
        return Err(wrong(1, format!("no row of the split {:?}", split.name())));
    }
    Ok(found)
}

/// Paths and classes by the folders.
fn files(folder: &Path, split: Split, classes: Option<&[String]>) -> Result<Vec<(String, String)>, DataError> {
    let top = folder.join(split.name());
    if !top.is_dir() {
        return Err(DataError::Missing { what: "labels.csv, nor folders train and test,", path: folder.into() });
    }
    let mut found = Vec::new();
    for class in names(&top)? {
        let class_folder = top.join(&class);
        if !class_folder.is_dir() {
            continue;
        }
        if classes.is_some_and(|classes| !classes.contains(&class)) {
            return Err(DataError::Mismatch {
                path: class_folder,
                reason: unknown(&class, classes.unwrap_or_default()),
            });
        }
        let images: Vec<String> =
            names(&class_folder)?.into_iter().filter(|name| Picture::is_named(Path::new(name))).collect();
        if images.is_empty() {
            return Err(DataError::Mismatch { path: class_folder, reason: "the folder holds no image".into() });
        }
        found.extend(images.into_iter().map(|name| (format!("{}/{class}/{name}", split.name()), class.to_string())));
    }
    if found.is_empty() {
        return Err(DataError::Mismatch { path: top, reason: "the folder holds no image".into() });
    }
    Ok(found)
}

fn unknown(class: &str, classes: &[String]) -> String {
    format!("unknown class {class:?}; the classes are {}", classes.join(", "))
}

/// Names in a folder, sorted; hidden ones are left out.
fn names(folder: &Path) -> Result<Vec<String>, DataError> {
    let failed = |e: std::io::Error| DataError::Mismatch { path: folder.into(), reason: e.to_string() };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(name) = name.to_str() else {
            let reason = format!("the name {} is not UTF-8", name.to_string_lossy());
            return Err(DataError::Mismatch { path: folder.into(), reason });
        };
        if !name.starts_with('.') {
            names.push(name.to_string());
        }
    }
    names.sort();
    Ok(names)
}

/// The image files of a folder, sorted.
pub(super) fn image_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    Ok(names(folder)?
        .iter()
        .map(|name| folder.join(name))
        .filter(|path| Picture::is_named(path) && path.is_file())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
    use std::fs;
    use tempfile::TempDir;

    fn two() -> Vec<String> {
        LESION_CLASSES.iter().map(ToString::to_string).collect()
    }

    fn image(path: &Path, side: u32, colour: u8) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let image = RgbImage::from_pixel(side, side, Rgb([colour, 1, 2]));
        let format = if path.extension().unwrap() == "png" { ImageFormat::Png } else { ImageFormat::Jpeg };
        DynamicImage::from(image).save_with_format(path, format).unwrap();
    }

    /// Two images a class in `test`, one in `train`.
    fn folder() -> TempDir {
        let folder = TempDir::new().unwrap();
        for (name, side) in [
            ("test/benign/a.png", 4),
            ("test/benign/b.JPG", 8),
            ("test/malignant/c.jpeg", 5),
            ("test/malignant/d.png", 4),
            ("train/benign/e.png", 4),
            ("train/malignant/f.png", 4),
        ] {
            image(&folder.path().join(name), side, side as u8 * 20);
        }
        fs::write(folder.path().join("test/benign/notes.txt"), "not an image").unwrap();
        folder
    }

    fn open(folder: &TempDir, shape: [usize; 3]) -> Result<Pictures, DataError> {
        Pictures::open(folder.path(), Split::Test, Some(&two()), shape)
    }

    fn fails(folder: &TempDir, fragment: &str) {
        let error = open(folder, [3, 4, 4]).unwrap_err().to_string();
        assert!(error.contains(fragment), "{fragment:?} in {error}");
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
    }

    #[test]
    fn folders_and_tables_give_the_same_set() {
        let folder = folder();
        let by_folders = open(&folder, [3, 4, 4]).unwrap();
        assert_eq!((by_folders.len(), by_folders.classes()), (4, &two()[..]));
        let ids: Vec<String> = (0..4).map(|i| by_folders.id(i)).collect();
        let row = |id: &String| format!("{id},test,{}", id.split('/').nth(1).unwrap());
        let mut rows: Vec<String> = ids.iter().map(row).collect();
        rows.sort();
        rows.push("train/benign/e.png,train,benign".into());
        fs::write(folder.path().join(TABLE), format!("file,split,label\n{}\n", rows.join("\n"))).unwrap();
        let by_table = open(&folder, [3, 4, 4]).unwrap();
        assert_eq!((0..4).map(|i| by_table.id(i)).collect::<Vec<_>>(), ids);
        assert_eq!(by_table.digest().unwrap(), by_folders.digest().unwrap());
        for (i, id) in ids.iter().enumerate() {
            assert_eq!(by_table.label(i), Some(usize::from(id.contains("malignant"))), "{id}");
            assert_eq!(by_table.image(i).unwrap().len(), 48, "every size becomes the network's");
        }
        assert!(matches!(by_table.image(4), Err(DataError::NoImage { index: 4, len: 4, .. })));
        let names = Pictures::open(folder.path(), Split::Train, None, [3, 4, 4]);
        assert!(names.is_err(), "the table has one training image");
    }

    #[test]
    fn what_folders_lack_is_named() {
        let gone = Pictures::open(Path::new("/nonexistent"), Split::Test, None, [3, 4, 4]).unwrap_err();
        assert!(matches!(gone, DataError::Missing { what: "folder of images", .. }));
        fails(&TempDir::new().unwrap(), "labels.csv");
        let set = folder();
        fs::create_dir(set.path().join("test/unclear")).unwrap();
        fails(&set, "unknown class \"unclear\"");
        fs::remove_dir(set.path().join("test/unclear")).unwrap();
        fs::remove_dir_all(set.path().join("test/malignant")).unwrap();
        fails(&set, "no test image of the class \"malignant\"");
        fs::create_dir(set.path().join("test/malignant")).unwrap();
        fails(&set, "the folder holds no image");
        fs::remove_dir_all(set.path().join("test")).unwrap();
        fs::create_dir(set.path().join("test")).unwrap();
        fails(&set, "the folder holds no image");
    }

    #[test]
    fn wrong_rows_are_named_with_their_line() {
        let folder = folder();
        let good = "file,split,label\ntest/benign/a.png,test,benign\ntest/malignant/d.png,test,malignant\n";
        let table = folder.path().join(TABLE);
        fs::write(&table, good).unwrap();
        assert_eq!(open(&folder, [3, 4, 4]).unwrap().len(), 2);
        for (text, fragment) in [
            ("", "no column \"file\""),
            ("file,label\n", "no column \"split\""),
            ("file,split,label\n", "no row of the split \"test\""),
            ("file,split,label\ntest/benign/a.png,test\n", "line 2"),
            (&format!("{good}test/benign/gone.png,test,benign\n"), "line 4: there is no file test/benign/gone.png"),
            (&format!("{good}test/benign/b.JPG,test,odd\n"), "line 4: unknown class \"odd\""),
            (&format!("{good}test/benign/b.JPG,validation,benign\n"), "line 4: the split \"validation\""),
            (&format!("{good}test/benign/a.png,test,benign\n"), "line 4: test/benign/a.png has a row already"),
            (&format!("{good}../elsewhere.png,test,benign\n"), "line 4: \"../elsewhere.png\" is no path"),
            (&format!("{good}/etc/passwd,test,benign\n"), "line 4: \"/etc/passwd\" is no path"),
            (&format!("{good},test,benign\n"), "line 4: \"\" is no path"),
        ] {
            fs::write(&table, text).unwrap();
            fails(&folder, fragment);
        }
        fs::write(&table, b"file,split,label\n\xff\xfe,test,benign\n").unwrap();
        fails(&folder, "line 2");
    }

    #[test]
    fn a_bad_image_is_named_when_it_is_read() {
        let folder = folder();
        let path = folder.path().join("test/benign/a.png");
        fs::write(&path, &fs::read(&path).unwrap()[..50]).unwrap();
        let set = open(&folder, [3, 4, 4]).unwrap();
        let cut = (0..4).find(|&i| set.id(i).ends_with("a.png")).unwrap();
        let error = set.picture(cut).unwrap_err();
        assert!(matches!(&error, DataError::Picture { source: PictureError::Damaged(_), .. }), "{error}");
        assert!(error.to_string().contains("a.png") && set.digest().is_err());
        fs::remove_file(&path).unwrap();
        assert!(matches!(set.picture(cut), Err(DataError::Missing { what: "image file", .. })));
    }

    #[test]
    fn the_lesions_are_four_of_each_by_turns() {
        let set = Pictures::lesions();
        assert_eq!((0..8).map(|i| set.label(i).unwrap()).collect::<Vec<_>>(), [0, 1, 0, 1, 0, 1, 0, 1]);
        for i in 0..8 {
            assert_eq!(set.image(i).unwrap().len(), 3 * 128 * 128, "{}", set.id(i));
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/lesions");
        let same = Pictures::open(&folder, Split::Test, Some(&two()), LESION).unwrap();
        assert_eq!(same.len(), 8, "the fixtures are a data set as any other");
    }
}
