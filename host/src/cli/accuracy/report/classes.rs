//! Figures of networks that tell classes apart.

use super::super::state::{Answer, Outcome};
use super::Rows;
use cipherlens::client::{decide, margin};
use cipherlens::datasets::Dataset;
use cipherlens::statistics::{Binary, Figures, wilson};
use serde::Serialize;

/// Decisions beside the labels, and those of the encrypted network beside the clear one's.
#[derive(Debug, Serialize)]
pub struct Classes {
    clear_accuracy: f64,
    clear_interval: [f64; 2],
    encrypted_accuracy: f64,
    encrypted_interval: [f64; 2],
    #[serde(flatten)]
    binary: Option<TwoClasses>,
    agreement: f64,
    agreement_interval: [f64; 2],
    disagreements: Vec<Disagreement>,
}

/// Figures of a decision between two classes by one score; without a prefix those of the encrypted network.
#[derive(Debug, Serialize)]
struct TwoClasses {
    auc: f64,
    auc_interval: [f64; 2],
    balanced_accuracy: f64,
    balanced_accuracy_interval: [f64; 2],
    sensitivity: f64,
    sensitivity_interval: [f64; 2],
    specificity: f64,
    specificity_interval: [f64; 2],
    clear_auc: f64,
    clear_auc_interval: [f64; 2],
    clear_balanced_accuracy: f64,
    clear_balanced_accuracy_interval: [f64; 2],
    clear_sensitivity: f64,
    clear_sensitivity_interval: [f64; 2],
    clear_specificity: f64,
    clear_specificity_interval: [f64; 2],
}

impl TwoClasses {
    fn new(encrypted: &Binary, clear: &Binary) -> Self {
        let interval = |b: &Binary, pick: fn(&Figures) -> f64| [pick(&b.low), pick(&b.high)];
        let (e, c) = (encrypted.figures, clear.figures);
        Self {
            auc: e.auc,
            auc_interval: interval(encrypted, |f| f.auc),
            balanced_accuracy: e.balanced_accuracy,
            balanced_accuracy_interval: interval(encrypted, |f| f.balanced_accuracy),
            sensitivity: e.sensitivity,
            sensitivity_interval: interval(encrypted, |f| f.sensitivity),
            specificity: e.specificity,
            specificity_interval: interval(encrypted, |f| f.specificity),
            clear_auc: c.auc,
            clear_auc_interval: interval(clear, |f| f.auc),
            clear_balanced_accuracy: c.balanced_accuracy,
            clear_balanced_accuracy_interval: interval(clear, |f| f.balanced_accuracy),
            clear_sensitivity: c.sensitivity,
            clear_sensitivity_interval: interval(clear, |f| f.sensitivity),
            clear_specificity: c.specificity,
            clear_specificity_interval: interval(clear, |f| f.specificity),
        }
    }

    fn lines(&self) -> Rows {
        let line = |name, (clear, [cl, ch]): (f64, [f64; 2]), (encrypted, [el, eh]): (f64, [f64; 2])| {
            let text = format!("{encrypted:.3} ({el:.3} to {eh:.3}) encrypted, {clear:.3} ({cl:.3} to {ch:.3}) clear");
            (name, text)
        };
        vec![
            line("AUC", (self.clear_auc, self.clear_auc_interval), (self.auc, self.auc_interval)),
            line(
                "balanced accuracy",
                (self.clear_balanced_accuracy, self.clear_balanced_accuracy_interval),
                (self.balanced_accuracy, self.balanced_accuracy_interval),
            ),
            line(
                "sensitivity",
                (self.clear_sensitivity, self.clear_sensitivity_interval),
                (self.sensitivity, self.sensitivity_interval),
            ),
            line(
                "specificity",
                (self.clear_specificity, self.clear_specificity_interval),
                (self.specificity, self.specificity_interval),
            ),
        ]
    }
}

/// An image that the encrypted network sees otherwise.
#[derive(Debug, Clone, Serialize)]
struct Disagreement {
    index: usize,
    image: String,
    label: usize,
    clear: usize,
    encrypted: usize,
    /// By how much the clear network's scores choose.
    margin: f64,
}

impl Classes {
    /// `clear` holds the answers of the clear network on the first images.
    pub fn new(set: &dyn Dataset, clear: &[Answer], outcomes: &[Outcome]) -> Self {
        let label = |i: usize| set.label(i).unwrap_or(usize::MAX);
        let clear: Vec<&[f64]> = clear.iter().map(scores).collect();
        let found: Vec<(usize, &[f64])> = outcomes.iter().map(|o| (o.index, scores(&o.answer))).collect();
        let count = found.len();
        let clear_right = clear.iter().enumerate().filter(|(i, s)| decide(s) == label(*i)).count();
        let right = found.iter().filter(|(i, s)| decide(s) == label(*i)).count();
        let disagreement = |&(index, scores): &(usize, &[f64])| {
            let (encrypted, expected) = (decide(scores), decide(clear[index]));
            (expected != encrypted).then(|| Disagreement {
                index,
                image: set.id(index),
                label: label(index),
                clear: expected,
                encrypted,
                margin: margin(clear[index]),
            })
        };
        let disagreements: Vec<Disagreement> = found.iter().filter_map(disagreement).collect();
        let binary = |scores: &mut dyn Iterator<Item = (usize, f64)>| {
            let (labels, scores): (Vec<usize>, Vec<f64>) = scores.map(|(i, s)| (label(i), s)).unzip();
            Binary::new(&scores, &labels)
        };
        let one_score = found.iter().all(|(_, s)| s.len() == 1);
        let binary = one_score.then(|| {
            TwoClasses::new(
                &binary(&mut found.iter().map(|(i, s)| (*i, s[0]))),
                &binary(&mut clear.iter().enumerate().map(|(i, s)| (i, s.first().copied().unwrap_or(0.0)))),
            )
        });
        let ratio = |k: usize, n: usize| k as f64 / n as f64;
        let agree = count - disagreements.len();
        Self {
            clear_accuracy: ratio(clear_right, clear.len()),
            clear_interval: wilson(clear_right, clear.len()),
            encrypted_accuracy: ratio(right, count),
            encrypted_interval: wilson(right, count),
            binary,
            agreement: ratio(agree, count),
            agreement_interval: wilson(agree, count),
            disagreements,
        }
    }

    /// What the intervals are, the figures, and every image on which the networks differ.
    pub fn text(&self, images: usize, clear_images: usize) -> (String, Rows, String) {
        let percent = |ratio: f64, [low, high]: [f64; 2], count: usize| {
            format!("{:.2} %  ({:.2} to {:.2} %, {count} images)", ratio * 100.0, low * 100.0, high * 100.0)
        };
        let bootstrap = if self.binary.is_some() { ", those of AUC to specificity by bootstrap" } else { "" };
        let mut rows = vec![
            ("clear", percent(self.clear_accuracy, self.clear_interval, clear_images)),
            ("encrypted", percent(self.encrypted_accuracy, self.encrypted_interval, images)),
        ];
        rows.extend(self.binary.iter().flat_map(TwoClasses::lines));
        rows.push(("same class", percent(self.agreement, self.agreement_interval, images)));
        let remark = |d: &Disagreement| {
            let Disagreement { index, image, label, clear, encrypted, margin } = d;
            let image = if *image == index.to_string() { String::new() } else { format!(" {image}") };
            format!(
                "  image {index}{image} (label {label}): clear {clear}, encrypted {encrypted}, margin {margin:.1e}\n"
            )
        };
        (format!("intervals are Wilson's at 95 %{bootstrap}"), rows, self.disagreements.iter().map(remark).collect())
    }
}

fn scores(answer: &Answer) -> &[f64] {
    match answer {
        Answer::Scores(scores) => scores,
        Answer::Mask(_) => &[],
    }
}
