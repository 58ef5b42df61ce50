//! Pictures cut for a network, and its answers put together again.

use super::context::Context;
use super::error::{Code, Failure};
use super::files;
use anyhow::Result;
use cipherlens::client::{Client, ClientError};
use cipherlens::compile::ModelGraph;
use cipherlens::datasets::Picture;
use cipherlens::files::hex;
use cipherlens::keys::SecretKey;
use cipherlens::mask::{Mask, outlined};
use cipherlens::meta::mask_size;
use cipherlens::view::{Fit, Tiling, View};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How a picture is brought to the size of a network that gives masks.
#[derive(Debug, Clone, Default, Args)]
pub struct TileOptions {
    /// For masks: cut the picture into tiles at its own scale [default: what the network was trained for]
    #[arg(long, conflicts_with = "resize")]
    tile: bool,
    /// For masks: squash the picture to the network's size, and scale the mask back
    #[arg(long)]
    resize: bool,
    /// Pixels that neighbouring tiles share at least, each deciding on its half; up to half a tile. Fewer seams, more tiles
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    overlap: usize,
}

impl TileOptions {
    fn fit(&self, view: View) -> Fit {
        match (self.tile, self.resize) {
            (true, _) => Fit::Tile,
            (_, true) => Fit::Resize,
            _ => view.fit,
        }
    }

    /// Refuses the options where there is no mask.
    pub fn refuse(&self, model: &str) -> Result<()> {
        if !self.tile && !self.resize && self.overlap == 0 {
            return Ok(());
        }
        let message = format!("--tile, --resize and --overlap cut pictures for masks; they mean nothing for {model}");
        Err(Failure::new(Code::Usage, message).into())
    }
}

/// Width and height of the mask that a model gives, where it gives one.
pub fn mask_of(model: &ModelGraph) -> Option<[usize; 2]> {
    let shape = |ids: &[usize]| ids.first().map(|&id| &model.tensors[id].shape[..]);
    mask_size(shape(&model.inputs)?, shape(&model.outputs)?)
}

/// A picture as the inputs of a network.
pub struct Cut {
    /// Values of each input, flat.
    pub inputs: Vec<Vec<f32>>,
    /// Where they lie in the picture; none where the network decides on the whole.
    pub tiling: Option<Tiling>,
}

impl Cut {
    /// The picture for a network with this view that gives masks of `mask` pixels (width, height), if any.
    pub fn new(picture: &Picture, view: View, mask: Option<[usize; 2]>, options: &TileOptions) -> Self {
        let picture = view.contrast.apply(picture);
        let Some(tile) = mask else { return Self { inputs: vec![picture.values()], tiling: None } };
        let [_, height, width] = picture.shape();
        let tiling = Tiling::new(options.fit(view), [width, height], tile, options.overlap);
        Self { inputs: tiling.cut(&picture).iter().map(Picture::values).collect(), tiling: Some(tiling) }
    }

    /// The values of the answer from those of each input's.
    pub fn joined(&self, mut outputs: Vec<Vec<f64>>) -> Vec<f64> {
        match &self.tiling {
            Some(tiling) => tiling.stitch(&outputs),
            None => outputs.pop().unwrap_or_default(),
        }
    }

    /// What the clear network says.
    pub fn clear(&self, model: &ModelGraph) -> Result<Vec<f64>> {
        let evaluate = |input: &Vec<f32>| Ok(model.evaluate(input)?.into_iter().map(f64::from).collect());
        Ok(self.joined(self.inputs.iter().map(evaluate).collect::<Result<_>>()?))
    }
}

/// A mask and where it goes.
#[derive(Debug, Clone, Serialize)]
pub struct Drawn {
    /// Width and height, in pixels.
    pub width: usize,
    /// Height.
    pub height: usize,
    /// Share of the pixels that are foreground.
    pub foreground: f64,
    /// What the foreground is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreground_name: Option<String>,
    /// The file of the mask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<PathBuf>,
    /// The file of the picture with the mask's outline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlay: Option<PathBuf>,
}

impl Drawn {
    /// Writes a mask, and its outline on a picture where one is given. `labels` names background and foreground.
    pub fn write(
        mask: &Mask,
        labels: &[String],
        path: Option<&Path>,
        overlay: Option<(&Path, &Picture)>,
        context: &Context,
    ) -> Result<Self> {
        let [width, height] = mask.size();
        if let Some(path) = path {
            context.write(path, &mask.picture().png()?, false)?;
        }
        if let Some((path, picture)) = overlay {
            context.write(path, &outlined(picture, mask).png()?, false)?;
        }
        Ok(Self {
            width,
            height,
            foreground: mask.share(),
            foreground_name: labels.get(1).cloned(),
            mask: path.map(Path::to_path_buf),
            overlay: overlay.map(|(path, _)| path.to_path_buf()),
        })
    }

    /// The mask in a line.
    pub fn line(&self) -> String {
        let name = self.foreground_name.as_deref().unwrap_or("foreground");
        format!("{name}: {:.1} % of {}x{} pixels", self.foreground * 100.0, self.width, self.height)
    }

    /// The files.
    pub fn files(&self) -> String {
        let names: Vec<_> = self.mask.iter().chain(&self.overlay).map(|path| path.display().to_string()).collect();
        names.join(", ")
    }
}

/// The logits of one tile, decrypted.
///
/// # Errors
/// As [`Client::decrypt`]; an output that is no mask.
pub fn logits(client: &Client<'_>, file: &[u8], secret: &SecretKey) -> Result<Vec<f64>> {
    let result = client.decrypt(file, secret)?;
    if result.output != 0 {
        return Err(ClientError::NotAnOutput.into());
    }
    Ok(result.scores.to_vec())
}

const FORMAT: &str = "cipherlens tiling 1";

/// What the client keeps of a picture to put its mask together: it names no pixel and is no secret, and stays with it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    format: String,
    /// Fingerprint of the program.
    program: String,
    /// The tiles.
    #[serde(flatten)]
    pub tiling: Tiling,
}

impl Record {
    /// The record of a picture for a program.
    pub fn new(client: &Client<'_>, tiling: Tiling) -> Self {
        Self { format: FORMAT.into(), program: hex(&client.program().fingerprint()), tiling }
    }

    /// Where the record of the ciphertexts `output` lies.
    pub fn path(output: &Path) -> PathBuf {
        output.with_extension("tiles.json")
    }

    /// Writes the record.
    pub fn save(&self, path: &Path, context: &Context) -> Result<()> {
        context.write(path, (serde_json::to_string(self)? + "\n").as_bytes(), false)
    }

    /// Reads the record of a picture for this program.
    ///
    /// # Errors
    /// A file that is none, or of another program.
    pub fn open(path: &Path, client: &Client<'_>) -> Result<Self> {
        let bad = |reason: &str| Failure::new(Code::BadFile, format!("{}: {reason}", path.display()));
        let record: Self =
            serde_json::from_slice(&files::read(path)?).map_err(|_| bad("no tiling as `encrypt` writes it"))?;
        if record.format != FORMAT {
            return Err(bad("a tiling of another release").into());
        }
        let program = hex(&client.program().fingerprint());
        if record.program != program {
            let message = format!("{}: a tiling for the program {}, not for {program}", path.display(), record.program);
            let hint = "name the program that the picture was encrypted for, or its own tiling";
            return Err(Failure::new(Code::Mismatch, message).hint(hint).into());
        }
        if !record.tiling.is_whole() || Some(record.tiling.tile) != client.meta().mask_size() {
            return Err(bad("the tiles do not cover the picture").into());
        }
        Ok(record)
    }
}
