//! Figures of merit with 95 % intervals: of a classifier here, of masks in [`Overlap`].

mod overlap;

pub use overlap::{Estimate, Overlap};

use crate::client::decide;

/// Rounds of a bootstrap.
const ROUNDS: usize = 2000;
/// Seed of a bootstrap: the same scores give the same interval.
const SEED: u64 = 20_240_917;

/// Wilson's 95 % interval of a proportion.
pub fn wilson(hits: usize, count: usize) -> [f64; 2] {
    const Z: f64 = 1.959_963_984_540_054;
    let (n, p) = (count as f64, hits as f64 / count as f64);
    let centre = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    let low = if hits == 0 { 0.0 } else { (centre - spread) / scale };
    let high = if hits == count { 1.0 } else { (centre + spread) / scale };
    [low, high]
}

/// Scores of images of two classes, in ascending order, with whether each is positive.
struct Ranked(Vec<(f64, bool)>);

/// What a classifier of two classes by one score reaches. NaN where a class has no image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Chance that a positive image scores above a negative one; ties count half.
    pub auc: f64,
    /// Mean of sensitivity and specificity.
    pub balanced_accuracy: f64,
    /// Positive images that are found.
    pub sensitivity: f64,
    /// Negative images that are left alone.
    pub specificity: f64,
}

/// [`Figures`] and the 2.5 % and 97.5 % quantiles of each over a seeded bootstrap of the images, which leaves out
/// rounds that drew one class alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Binary {
    /// On all images.
    pub figures: Figures,
    /// Lower ends.
    pub low: Figures,
    /// Upper ends.
    pub high: Figures,
}

impl Binary {
    /// Of the scores and labels (1 is positive) of some images.
    pub fn new(scores: &[f64], labels: &[usize]) -> Self {
        let mut ranked: Vec<(f64, bool)> = scores.iter().zip(labels).map(|(&s, &l)| (s, l == 1)).collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ranked = Ranked(ranked);
        let count = ranked.0.len();
        let mut state = SEED;
        let mut weights = vec![0u32; count];
        let mut rounds = Vec::with_capacity(ROUNDS);
        for _ in 0..if count > 0 { ROUNDS } else { 0 } {
            weights.fill(0);
            (0..count).for_each(|_| weights[(next(&mut state) % count as u64) as usize] += 1);
            rounds.push(ranked.figures(|i| f64::from(weights[i])));
        }
        let quantiles = |pick: fn(&Figures) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(pick).filter(|v| !v.is_nan()).collect();
            values.sort_by(f64::total_cmp);
            [0.025, 0.975].map(|q| {
                let at = q * values.len().saturating_sub(1) as f64;
                values.get(at.round() as usize).copied().unwrap_or(f64::NAN)
            })
        };
        let [auc, balanced_accuracy, sensitivity, specificity] = [
            |f: &Figures| f.auc,
            |f: &Figures| f.balanced_accuracy,
            |f: &Figures| f.sensitivity,
            |f: &Figures| f.specificity,
        ]
        .map(quantiles);
        let end = |i: usize| Figures {
            auc: auc[i],
            balanced_accuracy: balanced_accuracy[i],
            sensitivity: sensitivity[i],
            specificity: specificity[i],
        };
        Self { figures: ranked.figures(|_| 1.0), low: end(0), high: end(1) }
    }
}

impl Ranked {
    /// The figures where image `i` counts `weight(i)` times.
    fn figures(&self, weight: impl Fn(usize) -> f64) -> Figures {
        // Sums over positives (1) and negatives (0): images, those decided positive, and pairs in the right order.
        let (mut all, mut yes, mut pairs) = ([0.0; 2], [0.0; 2], 0.0);
        let mut i = 0;
        while i < self.0.len() {
            let score = self.0[i].0;
            let mut tied = [0.0; 2];
            while i < self.0.len() && self.0[i].0 == score {
                tied[usize::from(self.0[i].1)] += weight(i);
                i += 1;
            }
            pairs += tied[1] * (all[0] + tied[0] / 2.0);
            for class in 0..2 {
                all[class] += tied[class];
                yes[class] += tied[class] * decide(&[score]) as f64;
            }
        }
        let (sensitivity, specificity) = (yes[1] / all[1], 1.0 - yes[0] / all[0]);
        Figures {
            auc: pairs / (all[0] * all[1]),
            balanced_accuracy: f64::midpoint(sensitivity, specificity),
            sensitivity,
            specificity,
        }
    }
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_matches_published_values() {
        // Model card of `mnist`: 9942 of 10,000.
        let [low, high] = wilson(9942, 10_000);
        assert_eq!((format!("{low:.4}"), format!("{high:.4}")), ("0.9925".into(), "0.9955".into()));
        assert_eq!(wilson(0, 10)[0], 0.0);
        assert_eq!(wilson(10, 10)[1], 1.0);
    }

    #[test]
    fn figures_by_hand() {
        // Positives 2, 1, -1; negatives 1, -1, -2, -3: of 12 pairs 8 are in order and two are ties.
        let scores = [2.0, 1.0, -1.0, 1.0, -1.0, -2.0, -3.0];
        let found = Binary::new(&scores, &[1, 1, 1, 0, 0, 0, 0]);
        let Figures { auc, balanced_accuracy, sensitivity, specificity } = found.figures;
        let pairs: f64 = [4.0, 3.5, 2.5].iter().sum();
        assert!((auc - pairs / 12.0).abs() < 1e-12);
        assert!((sensitivity - 2.0 / 3.0).abs() < 1e-12 && (specificity - 0.75).abs() < 1e-12);
        assert!((balanced_accuracy - 17.0 / 24.0).abs() < 1e-12);
        assert!(found.low.auc < auc && auc < found.high.auc && found.high.auc <= 1.0);
        assert_eq!(found, Binary::new(&scores, &[1, 1, 1, 0, 0, 0, 0]), "the bootstrap is seeded");
    }

    #[test]
    fn a_lone_class_and_no_image_give_no_figure() {
        let lone = Binary::new(&[1.0, -1.0], &[1, 1]);
        assert!(lone.figures.auc.is_nan() && lone.low.auc.is_nan() && lone.figures.sensitivity == 0.5);
        assert!(Binary::new(&[], &[]).figures.auc.is_nan());
    }

    #[test]
    fn a_perfect_score_is_certain() {
        let found = Binary::new(&[-2.0, -1.0, 1.0, 2.0], &[0, 0, 1, 1]);
        assert_eq!((found.figures.auc, found.low.auc, found.high.auc), (1.0, 1.0, 1.0));
    }
}
