//! `encrypt`: an image for a program.

use super::batch;
use super::context::Context;
use super::demo::{decoded, photo, picture, since};
use super::error::{Code, Failure};
use super::tiles::{Cut, Record, TileOptions};
use super::units::{bytes, duration, pairs};
use super::{files, picture as terminal};
use anyhow::{Context as _, Result};
use cipherlens::client::Client;
use cipherlens::datasets::{Dataset, Digits, Idx, Masked, Picture, Pictures};
use cipherlens::encrypt::EncryptionKey;
use cipherlens::files::hex;
use cipherlens::meta::Meta;
use cipherlens::random::Random;
use cipherlens::view::Tiling;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;
use zeroize::Zeroizing;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The program that the image is for
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    tiles: TileOptions,
    /// Ciphertext to write (.clx); where the input takes several, they get numbers before the extension. For a program that
    /// gives masks each tile has a number, too, and FILE.tiles.json says where they lie: it stays here, for `decrypt`.
    /// Of a batch a folder
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Key {
    /// Encrypt under the secret key: half the size, least noise
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Encrypt under the public key, on a device that must not decrypt
    #[arg(long, value_name = "FILE")]
    public: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// A PNG or JPEG file, squashed to the network's size whatever its own, or cut into tiles where that is what the network
    /// was trained for; or image N (from 0) of an IDX file
    #[arg(long, value_name = "FILE[:N]", num_args = 1..)]
    image: Vec<PathBuf>,
    /// One of the 300 embedded drawn digits
    #[arg(long, value_name = "N", num_args = 1..)]
    digit: Vec<usize>,
    /// One of the 8 embedded drawn lesions
    #[arg(long, value_name = "N", num_args = 1..)]
    lesion: Vec<usize>,
    /// One of the 4 embedded drawn images of nuclei
    #[arg(long, value_name = "N", num_args = 1..)]
    nuclei: Vec<usize>,
    /// One of the 4 embedded drawn images of cells and membranes
    #[arg(long, value_name = "N", num_args = 1..)]
    membranes: Vec<usize>,
    /// One of the MNIST test images in the data folder
    #[arg(long, value_name = "N", num_args = 1..)]
    mnist_index: Vec<usize>,
    /// For a batch program: a folder of PNG and JPEG files, or an IDX file; as many as there are slots, one in each
    #[arg(long, value_name = "PATH")]
    batch: Option<PathBuf>,
    /// Numbers in a .json array, or in a text file separated by spaces, commas or line ends
    #[arg(long, value_name = "FILE")]
    values: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    program: String,
    key_id: String,
    set: String,
    seeded: bool,
    files: Vec<PathBuf>,
    /// Where the tiles of a mask lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    tiling: Option<PathBuf>,
    input_bytes: usize,
    encrypt_ms: f64,
}

/// Inputs, and a picture to show where there is one.
struct Image {
    cut: Zeroizing<Vec<Vec<f32>>>,
    tiling: Option<Tiling>,
    picture: Option<Picture>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let blob = files::read(&arguments.program)?;
    if let Some(source) = &arguments.source.batch {
        let program = batch::program(&arguments.program, &blob)?;
        let (secret, public);
        let key = match (&arguments.key.key, &arguments.key.public) {
            (Some(path), _) => {
                secret = files::secret_key(path, program.set(), context)?;
                EncryptionKey::Secret(&secret)
            }
            (None, Some(path)) => {
                public = files::public_key(path, program.set())?;
                EncryptionKey::Public(&public)
            }
            (None, None) => return Err(Failure::new(Code::Usage, "a key is needed: --key or --public").into()),
        };
        return batch::encrypt::run(program, source, key, &arguments.output, context);
    }
    if batch::is_batch(&blob) {
        let message = format!("{} takes batches of images", arguments.program.display());
        return Err(Failure::new(Code::Usage, message).hint("name the images with --batch DIR").into());
    }
    let client = Client::new(files::program(&arguments.program, &blob)?)?;
    let image = images(arguments, client.meta(), context)?;
    let (secret, public);
    let (key, key_path) = match (&arguments.key.key, &arguments.key.public) {
        (Some(path), _) => {
            secret = files::secret_key(path, client.set(), context)?;
            (EncryptionKey::Secret(&secret), path)
        }
        (None, Some(path)) => {
            public = files::public_key(path, client.set())?;
            (EncryptionKey::Public(&public), path)
        }
        (None, None) => return Err(Failure::new(Code::Usage, "a key is needed: --key or --public").into()),
    };
    let start = Instant::now();
    let mut random = Random::from_os()?;
    let encrypted = |values: &Vec<f32>| client.encrypt(0, values, key, &mut random);
    let tiles = image.cut.iter().map(encrypted).collect::<Result<Vec<_>, _>>();
    let tiles = tiles
        .with_context(|| format!("cannot encrypt under {} for {}", key_path.display(), arguments.program.display()))?;
    let names = files::numbered(&arguments.output, tiles.len());
    let names = names.iter().zip(&tiles).flat_map(|(name, tile)| files::numbered(name, tile.len()));
    let report = Report {
        program: hex(&client.program().fingerprint()),
        key_id: hex(&key.id()),
        set: client.set().name().into(),
        seeded: matches!(key, EncryptionKey::Secret(_)),
        files: names.collect(),
        tiling: image.tiling.as_ref().map(|_| Record::path(&arguments.output)),
        input_bytes: tiles.iter().flatten().map(Vec::len).sum(),
        encrypt_ms: since(start),
    };
    for (path, ciphertext) in report.files.iter().zip(tiles.iter().flatten()) {
        context.write(path, ciphertext, false)?;
    }
    if let (Some(path), Some(tiling)) = (&report.tiling, image.tiling) {
        Record::new(&client, tiling).save(path, context)?;
    }
    context.summary(&report, || {
        let picture = image.picture.filter(|_| context.verbose).map_or(String::new(), |picture| {
            let lines = terminal::draw(&terminal::small(&picture), terminal::colours());
            lines.iter().map(|line| format!("  {line}\n")).collect()
        });
        let names: Vec<_> = report.files.iter().map(|f| f.display().to_string()).collect();
        let mut rows = vec![
            ("ciphertext", format!("{}, {}", names.join(", "), bytes(report.input_bytes))),
            ("key", report.key_id.clone()),
            ("time", duration(report.encrypt_ms)),
        ];
        rows.extend(report.tiling.iter().map(|path| ("tiles", format!("{}, for decrypt", path.display()))));
        picture + &pairs(&rows)
    })
}

/// The images that were named, one after the other, or the tiles of one; the picture is the first one's.
fn images(arguments: &Arguments, meta: &Meta, context: &Context) -> Result<Image> {
    let source = &arguments.source;
    let shape = meta.inputs.first().map_or(&[][..], |input| &input.shape);
    // Where images share ciphertexts, the shape begins with their number.
    let shape = if meta.images > 1 { &shape[1..] } else { shape };
    let mask = meta.mask_size();
    if mask.is_none() {
        arguments.tiles.refuse(&meta.model)?;
    }
    if let Some(path) = &source.values {
        return Ok(Image { cut: Zeroizing::new(vec![numbers(path)?]), tiling: None, picture: None });
    }
    let mut pictures: Vec<Picture> = Vec::new();
    for path in &source.image {
        pictures.push(match (Picture::is_named(path), mask) {
            (true, Some(_)) => decoded(path, shape, context)?,
            (true, None) => photo(path, shape, context)?,
            (false, _) => idx_image(path)?,
        });
    }
    let mut from = |set: &dyn Dataset, indices: &[usize]| -> Result<()> {
        for &index in indices {
            pictures.push(picture(set, index)?);
        }
        Ok(())
    };
    from(&Digits::drawn(), &source.digit)?;
    from(&Pictures::lesions(), &source.lesion)?;
    from(&Masked::nuclei(&[]), &source.nuclei)?;
    from(&Masked::membranes(&[]), &source.membranes)?;
    if !source.mnist_index.is_empty() {
        from(&Digits::mnist_test(&context.data())?, &source.mnist_index)?;
    }
    match (mask, &pictures[..]) {
        (None, _) => {
            let values = pictures.iter().flat_map(Picture::values).collect();
            Ok(Image { cut: Zeroizing::new(vec![values]), tiling: None, picture: pictures.into_iter().next() })
        }
        (Some(_), [one]) => {
            let Cut { inputs, tiling } = Cut::new(one, meta.view, mask, &arguments.tiles);
            Ok(Image { cut: Zeroizing::new(inputs), tiling, picture: pictures.into_iter().next() })
        }
        (Some(_), several) => {
            let message = format!("{} gives a mask of one picture; {} are named", meta.model, several.len());
            Err(Failure::new(Code::Usage, message).hint("encrypt each to a file of its own").into())
        }
    }
}

/// `FILE` or `FILE:N`: an IDX file of several images, or of one (two dimensions).
fn idx_image(argument: &Path) -> Result<Picture> {
    let text = argument.to_string_lossy();
    let (path, index) = match text.rsplit_once(':').and_then(|(path, n)| Some((path, n.parse::<usize>().ok()?))) {
        Some((path, index)) if !argument.exists() => (PathBuf::from(path), Some(index)),
        _ => (argument.to_path_buf(), None),
    };
    let idx = Idx::parse(&files::read(&path)?)
        .map_err(|error| Failure::new(Code::BadFile, format!("{}: {error}", path.display())))?;
    let single = idx.shape().len() <= 2;
    let pixels = if single && index.unwrap_or(0) == 0 { Some(idx.bytes()) } else { idx.item(index.unwrap_or(0)) };
    let pixels = pixels.filter(|_| !single || index.unwrap_or(0) == 0).ok_or_else(|| {
        let (count, index) = (if single { 1 } else { idx.len() }, index.unwrap_or(0));
        Failure::new(Code::Usage, format!("no image {index}: {} holds {count}", path.display()))
    })?;
    Ok(Picture::grey(pixels, idx.shape().last().copied().unwrap_or(1)))
}

/// The numbers of a JSON array, nested or flat, or of plain text.
fn numbers(path: &Path) -> Result<Vec<f32>> {
    let bad = |reason: String| Failure::new(Code::BadFile, format!("{}: {reason}", path.display()));
    let text = String::from_utf8(files::read(path)?).map_err(|_| bad("not a text file".into()))?;
    let values = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        let mut values = Vec::new();
        flatten(&json, &mut values).map_err(|found| bad(format!("{found} where a number is expected")))?;
        values
    } else {
        let words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|w| !w.is_empty());
        words.map(|w| w.parse().map_err(|_| bad(format!("{w:?} is not a number")))).collect::<Result<_, _>>()?
    };
    if let Some(i) = values.iter().position(|v: &f32| !v.is_finite()) {
        return Err(bad(format!("value {i} is not finite")).into());
    }
    Ok(values)
}

fn flatten(json: &serde_json::Value, out: &mut Vec<f32>) -> Result<(), String> {
    match json {
        serde_json::Value::Array(items) => items.iter().try_for_each(|item| flatten(item, out)),
        serde_json::Value::Number(number) => {
            out.push(number.as_f64().unwrap_or(f64::NAN) as f32);
            Ok(())
        }
        other => Err(other.to_string().chars().take(40).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_arrays_are_flattened() {
        let mut out = Vec::new();
        flatten(&serde_json::json!([[1, 2.5], [[-3]]]), &mut out).unwrap();
        assert_eq!(out, [1.0, 2.5, -3.0]);
        assert_eq!(flatten(&serde_json::json!([1, "x"]), &mut out), Err("\"x\"".into()));
    }
}
