//! `demo` of a network that gives masks.

use super::super::context::Context;
use super::super::error::{Code, Failure};
use super::super::picture::{beside, colours, draw, small};
use super::super::report::RunReport;
use super::super::tiles::{Cut, Drawn, mask_of};
use super::super::units::{bytes, threads};
use super::{Arguments, compiled, evaluated, largest_error, layers, shown};
use anyhow::Result;
use cipherlens::client::Client;
use cipherlens::compile::{Compiled, ModelGraph};
use cipherlens::mask::{Mask, outlined};
use cipherlens::statistics::Overlap;
use cipherlens_kernel::program::Program;
use serde::Serialize;

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    run: RunReport,
    #[serde(flatten)]
    drawn: Drawn,
    /// Share of the pixels on which encrypted and clear network agree.
    pixel_agreement: f64,
    /// Dice coefficient with the drawn mask, where the image has one.
    dice: Option<f64>,
    /// That of the clear network.
    clear_dice: Option<f64>,
}

/// `size` is the mask's width and height for one input.
pub fn run(arguments: &Arguments, model: &ModelGraph, size: [usize; 2], context: &Context) -> Result<()> {
    let shown = shown(arguments, model, context)?;
    let cut = Cut::new(&shown.picture, model.view, mask_of(model), &arguments.tiles);
    let needed = super::compile::input_shape(model).iter().product::<usize>();
    if let Some(input) = cut.inputs.iter().find(|input| input.len() != needed) {
        let [width, height] = size;
        let message = format!("{} takes {needed} values for {width}x{height} pixels, not {}", model.name, input.len());
        return Err(Failure::new(Code::Unsupported, message).hint("name a picture with --image FILE").into());
    }
    // Whoever asks for a run of minutes learns at once that its results cannot be kept.
    let folder = &arguments.output;
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::new(Code::CannotWrite, format!("cannot make {}: {error}", folder.display())))?;
    let (Compiled { bytes: blob, report: compiled, .. }, compile_ms) = compiled(model, context)?;
    let client = Client::new(Program::verify(&blob)?)?;
    let (mut run, logits) = evaluated(&client, blob.len(), &cut, arguments, context)?;
    run.compile_ms = Some(compile_ms);

    let (logits, clear) = (cut.joined(logits), cut.clear(model)?);
    run.max_error = Some(largest_error(&logits, &clear));
    run.predicted_error = compiled.output_error.first().copied();
    let [_, _, width] = shown.picture.shape();
    let (mask, clear) = (Mask::of_logits(&logits, width), Mask::of_logits(&clear, width));
    run.agree = Some(mask == clear);
    let overlay = folder.join("overlay.png");
    let drawn =
        Drawn::write(&mask, &model.labels, Some(&folder.join("mask.png")), Some((&overlay, &shown.picture)), context)?;
    let dice = |mask| shown.mask.as_ref().map(|truth| Overlap::new(mask, truth).dice());
    let report = Report {
        pixel_agreement: Overlap::new(&mask, &clear).alike(),
        dice: dice(&mask),
        clear_dice: dice(&clear),
        run,
        drawn,
    };
    context.result(&report, || {
        let picture = small(&outlined(&shown.picture, &mask));
        let left = draw(&picture, colours());
        let layers = if context.verbose { layers(&compiled) } else { String::new() };
        format!("{}\n{layers}{}", beside(&left, picture.width(), &report.lines(&shown.title)), report.run.text())
    })
}

impl Report {
    /// What is told beside the picture.
    fn lines(&self, title: &str) -> Vec<String> {
        let bold = anstyle::Style::new().bold();
        let run = &self.run;
        let mut lines = vec![
            format!("{bold}{}{bold:#} on {title}", run.model),
            String::new(),
            format!("{bold}{}{bold:#}", self.drawn.line()),
            format!("same as the clear network: {bold}{:.2} %{bold:#} of the pixels", self.pixel_agreement * 100.0),
        ];
        if let (Some(dice), Some(clear)) = (self.dice, self.clear_dice) {
            lines.push(format!("Dice with the drawn mask: {bold}{dice:.4}{bold:#} encrypted, {clear:.4} clear"));
        }
        lines.extend([
            String::new(),
            format!(
                "largest error of a logit {:.1e} (predicted sigma {:.1e})",
                run.max_error.unwrap_or(0.0),
                run.predicted_error.unwrap_or(0.0)
            ),
            format!(
                "one {} in {bold}{:.1} ms{bold:#} on {}, {} of memory",
                if run.tiles.is_some() { "tile" } else { "image" },
                run.infer_ms,
                threads(run.threads),
                bytes(run.arena_bytes + run.cache_bytes + run.expanded_key_bytes)
            ),
            format!("written: {}", self.drawn.files()),
        ]);
        lines
    }
}
