//! `run`: the evaluator's part. It holds no key that decrypts, but with `--image`, where one process is all parties.

mod evaluate;

use super::batch;
use super::context::Context;
use super::decrypt::overlay_path;
use super::demo::{decoded, since};
use super::error::{Code, Failure};
use super::files;
use super::report::RunReport;
use super::sign;
use super::tiles::{Cut, Drawn, TileOptions, logits};
use super::units::{pairs, parse_bytes};
use anyhow::{Context as _, Result};
use cipherlens::client::Client;
use cipherlens::encrypt::EncryptionKey;
use cipherlens::keys::SecretKey;
use cipherlens::mask::Mask;
use cipherlens::meta::Meta;
use cipherlens::random::Random;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::CiphertextView;
use clap::Args;
use evaluate::{Bytes, Part, Tile, evaluate};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The program
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// Run the program only if PROGRAM.sig is its signature under this public key
    #[arg(long, value_name = "FILE")]
    signer: Option<PathBuf>,
    /// Its evaluation keys
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// The encrypted input, all its ciphertexts; of several tiles all of theirs, in order, or the folder that holds them; of
    /// a batch the folder that `encrypt --batch` wrote
    #[arg(long, value_name = "FILE", required_unless_present = "image", num_args = 1..)]
    input: Vec<PathBuf>,
    /// Encrypt this PNG or JPEG file, evaluate, decrypt and write the mask in one go: all parties in one process, for trying
    /// out. A gateway never does this
    #[arg(long, value_name = "PHOTO", requires = "key", conflicts_with_all = ["input", "stream_keys"])]
    image: Option<PathBuf>,
    /// The secret key, for --image alone
    #[arg(long, value_name = "FILE", requires = "image")]
    key: Option<PathBuf>,
    #[command(flatten)]
    tiles: TileOptions,
    /// Encrypted result to write (.clx); several get numbers before the extension, those of the tile first; of a batch a folder. With --image
    /// the mask (.png), and FILE.overlay.png with its outline
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Memory to evaluate within: weights are kept ready for use where they fit
    #[arg(long, value_name = "BYTES", default_value = "1.5GiB", value_parser = parse_bytes)]
    memory: usize,
    /// Expand weights on every use instead of keeping them expanded: less memory, slower
    #[arg(long, conflicts_with = "mapped")]
    no_cache: bool,
    /// Read program and keys from the mapped files, expanding seeds and weights on every use: least memory, slowest
    #[arg(long)]
    mapped: bool,
    /// Of a batch: keep what is done in FILE, and go on from there when the same command runs again
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Of a batch: hold ciphertexts in FILE in place of memory
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Leave keys in their file and read each block when it is used, checking its digest: memory for no key at all
    #[arg(long)]
    stream_keys: bool,
}

/// Groups ciphertexts by tile: the n-th of each input index belongs to the n-th tile. What is no ciphertext is left for the
/// engine to refuse.
fn grouped(paths: Vec<PathBuf>, program: &Program<'_>, report: &mut RunReport) -> Result<Vec<Tile>> {
    let mut seen = vec![0; program.inputs()];
    let mut tiles: Vec<Tile> = Vec::new();
    for path in paths {
        let bytes = files::read(&path)?;
        report.input_bytes += bytes.len();
        let index = CiphertextView::new_checked(&bytes).map_or(0, |view| view.header.index as usize);
        let tile = seen.get_mut(index).map_or(0, |count| {
            *count += 1;
            *count - 1
        });
        if tiles.len() <= tile {
            tiles.resize_with(tile + 1, Vec::new);
        }
        tiles[tile].push(Part::File(path));
    }
    Ok(tiles)
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let blob = Bytes::open(&arguments.program, arguments.mapped)?;
    sign::verify(&arguments.program, &blob, arguments.signer.as_deref())?;
    if batch::is_batch(&blob) {
        let Arguments { program, keys, input, output, resume, store, .. } = arguments;
        let request = batch::run::Request {
            program,
            keys,
            input: input.first().map_or(Path::new(""), |input| input),
            output,
            resume: resume.as_deref(),
            store: store.as_deref(),
        };
        return batch::run::run(&request, &blob, context);
    }
    let program = files::program(&arguments.program, &blob)?;
    let model = serde_json::from_slice::<Meta>(program.meta()).map_or(String::new(), |meta| meta.model);
    let mut report = RunReport::new(&model, &program, blob.len(), context.evaluation_threads());
    if let (Some(image), Some(key)) = (&arguments.image, &arguments.key) {
        return all_parties(arguments, image, key, program, report, context);
    }
    arguments.tiles.refuse("an encrypted input")?;
    let tiles = grouped(files::ciphertexts(&arguments.input)?, &program, &mut report)?;
    let names = files::numbered(&arguments.output, tiles.len());
    let mut paths = Vec::new();
    evaluate(arguments, program, &tiles, &mut report, context, &mut |tile, outputs| {
        let names = files::numbered(&names[tile], outputs.len());
        for (path, bytes) in names.into_iter().zip(&outputs) {
            context.write(&path, bytes, false)?;
            paths.push(path);
        }
        Ok(())
    })?;
    context.summary(&report, || {
        let names: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        pairs(&[("result  ", names.join(", "))]) + &report.text()
    })
}

/// A run that encrypts and decrypts, too.
#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    run: RunReport,
    #[serde(flatten)]
    drawn: Drawn,
}

/// A picture to its mask.
fn all_parties(
    arguments: &Arguments,
    image: &Path,
    key: &Path,
    program: Program<'_>,
    mut report: RunReport,
    context: &Context,
) -> Result<()> {
    let client = Client::new(program)?;
    let meta = client.meta();
    let Some(size) = meta.mask_size() else {
        let message = format!("{} gives no mask", meta.model);
        return Err(Failure::new(Code::Unsupported, message).hint("use encrypt, run --input and decrypt").into());
    };
    let secret = files::secret_key(key, client.set(), context)?;
    let shape = meta.inputs.first().map_or(&[][..], |input| &input.shape);
    let picture = decoded(image, shape, context)?;
    context
        .warn("this process holds the secret key and the picture: a gateway never does; it gets `run --input` alone");
    let cut = Cut::new(&picture, meta.view, Some(size), &arguments.tiles);
    let start = Instant::now();
    let tiles = encrypted(&client, &cut, &secret, &mut report)?;
    report.encrypt_ms = Some(since(start));
    let mut results = Vec::new();
    evaluate(arguments, program, &tiles, &mut report, context, &mut |_, outputs| {
        let output = outputs.first().context("the program has no output")?;
        results.push(logits(&client, output, &secret)?);
        Ok(())
    })?;
    let [_, _, width] = picture.shape();
    let mask = Mask::of_logits(&cut.joined(results), width);
    let overlay = Some((&*overlay_path(&arguments.output), &picture));
    let drawn = Drawn::write(&mask, &meta.labels, Some(&arguments.output), overlay, context)?;
    let whole = Whole { run: report, drawn };
    context.summary(&whole, || {
        pairs(&[("mask    ", format!("{}; {}", whole.drawn.line(), whole.drawn.files()))]) + &whole.run.text()
    })
}

fn encrypted(client: &Client<'_>, cut: &Cut, secret: &SecretKey, report: &mut RunReport) -> Result<Vec<Tile>> {
    let mut random = Random::from_os()?;
    let tile = |input: &Vec<f32>| -> Result<Tile> {
        let files = client.encrypt(0, input, EncryptionKey::Secret(secret), &mut random)?;
        report.input_bytes += files.iter().map(Vec::len).sum::<usize>();
        Ok(files.into_iter().map(Part::Bytes).collect())
    };
    cut.inputs.iter().map(tile).collect()
}
