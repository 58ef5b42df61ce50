//! Figures of networks that give masks.

use super::super::state::{Answer, Outcome};
use super::Rows;
use anyhow::{Context as _, Result};
use cipherlens::datasets::Dataset;
use cipherlens::mask::Mask;
use cipherlens::statistics::{Estimate, Overlap};
use serde::Serialize;

/// Masks beside the data set's, and those of the encrypted network beside the clear one's.
#[derive(Debug, Serialize)]
pub struct Masks {
    foreground: Both,
    background: Both,
    right_pixels: Estimate,
    clear_right_pixels: Estimate,
    /// Change of the mean Dice of the foreground by encryption, on the images that were encrypted.
    dice_difference: f64,
    /// Largest change of an image's.
    largest_dice_difference: f64,
    /// Share of all pixels that encrypted and clear network decide alike, and the least of an image.
    pixel_agreement: f64,
    least_pixel_agreement: f64,
}

/// How well one class is found.
#[derive(Debug, Serialize)]
struct Both {
    name: String,
    encrypted: Found,
    clear: Found,
}

/// Means over images, and what all pixels of all images give together.
#[derive(Debug, Serialize)]
struct Found {
    dice: Estimate,
    iou: Estimate,
    pooled_dice: f64,
    pooled_iou: f64,
}

impl Found {
    fn new(overlaps: &[Overlap]) -> Self {
        let mean = |figure: fn(Overlap) -> f64| Estimate::new(&overlaps.iter().map(|&o| figure(o)).collect::<Vec<_>>());
        let all: Overlap = overlaps.iter().copied().sum();
        Self { dice: mean(Overlap::dice), iou: mean(Overlap::iou), pooled_dice: all.dice(), pooled_iou: all.iou() }
    }
}

impl Masks {
    /// `clear` holds the answers of the clear network on the first images.
    ///
    /// # Errors
    /// A mask of the set that cannot be read.
    pub fn new(set: &dyn Dataset, clear: &[Answer], outcomes: &[Outcome]) -> Result<Self> {
        let truth = |i: usize| -> Result<Mask> { set.mask(i)?.with_context(|| format!("{} has no mask", set.id(i))) };
        let clear: Vec<&Mask> = clear.iter().filter_map(mask).collect();
        let found: Vec<(usize, &Mask)> = outcomes.iter().filter_map(|o| Some((o.index, mask(&o.answer)?))).collect();
        let clear_overlaps: Vec<Overlap> =
            clear.iter().enumerate().map(|(i, mask)| Ok(Overlap::new(mask, &truth(i)?))).collect::<Result<_>>()?;
        let overlaps: Vec<Overlap> =
            found.iter().map(|(i, mask)| Ok(Overlap::new(mask, &truth(*i)?))).collect::<Result<_>>()?;
        let same: Vec<Overlap> = found.iter().map(|(i, mask)| Overlap::new(mask, clear[*i])).collect();
        let change: Vec<f64> =
            overlaps.iter().zip(&found).map(|(now, (i, _))| now.dice() - clear_overlaps[*i].dice()).collect();
        let both = |class: usize, of: fn(Overlap) -> Overlap| {
            let found = |overlaps: &[Overlap]| Found::new(&overlaps.iter().map(|&o| of(o)).collect::<Vec<_>>());
            let name = set.classes().get(class).cloned().unwrap_or_default();
            Both { name, encrypted: found(&overlaps), clear: found(&clear_overlaps) }
        };
        let right = |overlaps: &[Overlap]| Estimate::new(&overlaps.iter().map(|o| o.alike()).collect::<Vec<_>>());
        Ok(Self {
            foreground: both(1, |o| o),
            background: both(0, Overlap::background),
            right_pixels: right(&overlaps),
            clear_right_pixels: right(&clear_overlaps),
            dice_difference: change.iter().sum::<f64>() / change.len() as f64,
            largest_dice_difference: change.iter().map(|c| c.abs()).fold(0.0, f64::max),
            pixel_agreement: same.iter().copied().sum::<Overlap>().alike(),
            least_pixel_agreement: same.iter().map(|o| o.alike()).fold(1.0, f64::min),
        })
    }

    /// What the intervals are, the figures, and nothing more.
    pub fn text(&self, images: usize, clear_images: usize) -> (String, Rows, String) {
        let line = |encrypted: &Estimate, clear: &Estimate| {
            let one = |e: &Estimate| format!("{:.4} ({:.4} to {:.4})", e.mean, e.interval[0], e.interval[1]);
            format!("{} encrypted, {} clear", one(encrypted), one(clear))
        };
        let (f, b) = (&self.foreground, &self.background);
        let pooled = |both: &Both| {
            format!(
                "{:.4} encrypted, {:.4} clear, of all pixels together",
                both.encrypted.pooled_dice, both.clear.pooled_dice
            )
        };
        let rows = vec![
            ("Dice", format!("{}, {}", line(&f.encrypted.dice, &f.clear.dice), f.name)),
            ("", format!("{}, {}", line(&b.encrypted.dice, &b.clear.dice), b.name)),
            ("IoU", format!("{}, {}", line(&f.encrypted.iou, &f.clear.iou), f.name)),
            ("", format!("{}, {}", line(&b.encrypted.iou, &b.clear.iou), b.name)),
            ("pooled Dice", format!("{}, {}", pooled(f), f.name)),
            ("right pixels", line(&self.right_pixels, &self.clear_right_pixels)),
            (
                "change of Dice",
                format!("{:+.5} of the mean, {:.5} at most", self.dice_difference, self.largest_dice_difference),
            ),
            (
                "same pixels",
                format!(
                    "{:.3} % as the clear network, {:.3} % on the worst image",
                    self.pixel_agreement * 100.0,
                    self.least_pixel_agreement * 100.0
                ),
            ),
        ];
        let clear = if clear_images == images { String::new() } else { format!(", {clear_images} clear") };
        (format!("means over {images} images{clear}, intervals by bootstrap at 95 %"), rows, String::new())
    }
}

fn mask(answer: &Answer) -> Option<&Mask> {
    match answer {
        Answer::Mask(mask) => Some(mask),
        Answer::Scores(_) => None,
    }
}
