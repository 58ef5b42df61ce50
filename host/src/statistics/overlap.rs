//! How well one mask covers another.

use super::{ROUNDS, SEED, next};
use crate::mask::Mask;
use serde::Serialize;
use std::iter::Sum;

/// Pixels of a mask beside those of another, the truth. Of several images, their sums: pooled figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Foreground in both.
    pub both: usize,
    /// Foreground in the mask.
    pub found: usize,
    /// Foreground in the truth.
    pub truth: usize,
    /// All pixels.
    pub pixels: usize,
}

impl Overlap {
    /// Of a mask and the truth, of one size.
    pub fn new(mask: &Mask, truth: &Mask) -> Self {
        let pairs = mask.pixels().iter().zip(truth.pixels());
        pairs.fold(Self::default(), |sum, (&found, &truth)| Self {
            both: sum.both + usize::from(found && truth),
            found: sum.found + usize::from(found),
            truth: sum.truth + usize::from(truth),
            pixels: sum.pixels + 1,
        })
    }

    /// The same of the background.
    pub fn background(self) -> Self {
        let Self { found, truth, pixels, .. } = self;
        Self { both: self.neither(), found: pixels - found, truth: pixels - truth, pixels }
    }

    fn neither(self) -> usize {
        self.pixels + self.both - self.found - self.truth
    }

    /// Dice coefficient: twice the common foreground over the sum of both; 1 where there is none.
    pub fn dice(self) -> f64 {
        ratio(2 * self.both, self.found + self.truth)
    }

    /// Intersection over union of the foreground; 1 where there is none.
    pub fn iou(self) -> f64 {
        ratio(self.both, self.found + self.truth - self.both)
    }

    /// Share of the pixels that are alike.
    pub fn alike(self) -> f64 {
        ratio(self.both + self.neither(), self.pixels)
    }
}

impl Sum for Overlap {
    fn sum<I: Iterator<Item = Self>>(overlaps: I) -> Self {
        overlaps.fold(Self::default(), |a, b| Self {
            both: a.both + b.both,
            found: a.found + b.found,
            truth: a.truth + b.truth,
            pixels: a.pixels + b.pixels,
        })
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// A mean over images, and the 2.5 % and 97.5 % quantiles of it over a seeded bootstrap of the images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The interval.
    pub interval: [f64; 2],
}

impl Estimate {
    /// Of the figures of some images; NaN of none.
    pub fn new(values: &[f64]) -> Self {
        let count = values.len();
        let mean = |sum: f64| sum / count as f64;
        let mut state = SEED;
        let draw = |state: &mut u64| values[(next(state) % count as u64) as usize];
        let rounds = if count > 0 { ROUNDS } else { 0 };
        let mut means: Vec<f64> = (0..rounds).map(|_| mean((0..count).map(|_| draw(&mut state)).sum())).collect();
        means.sort_by(f64::total_cmp);
        let quantile = |q: f64| {
            let at = q * means.len().saturating_sub(1) as f64;
            means.get(at.round() as usize).copied().unwrap_or(f64::NAN)
        };
        Self { mean: mean(values.iter().sum()), interval: [quantile(0.025), quantile(0.975)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(pixels: &[i8]) -> Mask {
        Mask::of_logits(&pixels.iter().map(|&p| f64::from(p)).collect::<Vec<_>>(), pixels.len())
    }

    #[test]
    fn figures_by_hand() {
        let overlap = Overlap::new(&mask(&[1, 1, 1, 0, 0, 0, 0, 0]), &mask(&[0, 1, 1, 1, 1, 0, 0, 0]));
        assert_eq!(overlap, Overlap { both: 2, found: 3, truth: 4, pixels: 8 });
        assert_eq!((overlap.dice(), overlap.iou(), overlap.alike()), (4.0 / 7.0, 0.4, 0.625));
        let other = Overlap::new(&mask(&[0, 0, 0, 1, 1, 1, 1, 1]), &mask(&[1, 0, 0, 0, 0, 1, 1, 1]));
        assert_eq!(overlap.background(), other);
        let empty = Overlap::new(&mask(&[0, 0]), &mask(&[0, 0]));
        assert_eq!((empty.dice(), empty.iou(), empty.background().dice()), (1.0, 1.0, 1.0));
        assert_eq!(Overlap::new(&mask(&[1, 0]), &mask(&[0, 1])).dice(), 0.0);
        // Pooled, a large image counts more than a small one.
        let pooled: Overlap = [overlap, empty].into_iter().sum();
        assert_eq!((pooled.pixels, pooled.dice()), (10, 4.0 / 7.0));
    }

    #[test]
    fn the_interval_holds_the_mean_and_is_seeded() {
        let values: Vec<f64> = (0..50).map(|i| f64::from(i % 7) / 7.0).collect();
        let found = Estimate::new(&values);
        let [low, high] = found.interval;
        assert!(low < found.mean && found.mean < high && high - low < 0.3, "{found:?}");
        assert_eq!(found, Estimate::new(&values));
        assert_eq!(Estimate::new(&[0.5; 9]), Estimate { mean: 0.5, interval: [0.5, 0.5] });
        assert!(Estimate::new(&[]).mean.is_nan());
    }
}
