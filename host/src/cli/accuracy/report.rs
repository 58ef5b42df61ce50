//! What a run found. Field names are stable.

use super::super::report::security_line;
use super::super::units::{bytes, duration, pairs};
use super::plan::Plan;
use super::state::Outcome;
use cipherlens::client::{decide, margin};
use cipherlens::compile::ModelGraph;
use cipherlens::compile::report::moduli;
use cipherlens::datasets::Dataset;
use cipherlens::evaluate::peak_rss_bytes;
use cipherlens::statistics::{Binary, Figures, wilson};
use cipherlens_kernel::program::Program;
use serde::Serialize;

/// What the encrypted network gave.
pub struct Run {
    /// Images that are done, by index, those of an earlier run included.
    pub outcomes: Vec<Outcome>,
    /// How many of them this run did.
    pub new: usize,
    /// How long it took for these, with encryption and decryption.
    pub seconds: f64,
    /// How.
    pub plan: Plan,
}

#[derive(Debug, Serialize)]
pub struct Report {
    model: String,
    data: String,
    set: String,
    images: usize,
    clear_images: usize,
    clear_accuracy: f64,
    clear_interval: [f64; 2],
    encrypted_accuracy: f64,
    encrypted_interval: [f64; 2],
    #[serde(flatten)]
    binary: Option<TwoClasses>,
    agreement: f64,
    agreement_interval: [f64; 2],
    max_error: f64,
    disagreements: Vec<Disagreement>,
    infer_ms_median: f64,
    images_per_second: f64,
    threads: usize,
    side_by_side: usize,
    cached: bool,
    peak_rss_bytes: Option<usize>,
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

    fn lines(&self) -> Vec<(&'static str, String)> {
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

impl Report {
    /// Of a run with at least one image; `clear` holds the clear network's scores of these and maybe more.
    pub fn new(model: &ModelGraph, set: &dyn Dataset, clear: &[Vec<f64>], run: &Run, program: &Program<'_>) -> Self {
        let label = |i: usize| set.label(i).unwrap_or(usize::MAX);
        let outcomes = &run.outcomes;
        let count = outcomes.len();
        let clear_right = clear.iter().enumerate().filter(|(i, s)| decide(s) == label(*i)).count();
        let right = outcomes.iter().filter(|o| decide(&o.scores) == label(o.index)).count();
        let disagreement = |o: &Outcome| {
            let (scores, encrypted) = (&clear[o.index], decide(&o.scores));
            let (index, clear) = (o.index, decide(scores));
            let image = set.id(index);
            (clear != encrypted).then(|| Disagreement {
                index,
                image,
                label: label(index),
                clear,
                encrypted,
                margin: margin(scores),
            })
        };
        let disagreements: Vec<Disagreement> = outcomes.iter().filter_map(disagreement).collect();
        let error = |o: &Outcome| o.scores.iter().zip(&clear[o.index]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let mut times: Vec<f64> = outcomes.iter().map(|o| o.infer_ms).collect();
        times.sort_by(f64::total_cmp);
        let binary = |scores: &mut dyn Iterator<Item = (usize, f64)>| {
            let (labels, scores): (Vec<usize>, Vec<f64>) = scores.map(|(i, s)| (label(i), s)).unzip();
            Binary::new(&scores, &labels)
        };
        let one_score = outcomes.iter().all(|o| o.scores.len() == 1);
        let binary = one_score.then(|| {
            TwoClasses::new(
                &binary(&mut outcomes.iter().map(|o| (o.index, o.scores[0]))),
                &binary(&mut clear.iter().enumerate().map(|(i, s)| (i, s.first().copied().unwrap_or(0.0)))),
            )
        });
        let ratio = |k: usize, n: usize| k as f64 / n as f64;
        let agree = count - disagreements.len();
        Self {
            model: model.name.clone(),
            data: set.name().into(),
            set: program.set().name().into(),
            images: count,
            clear_images: clear.len(),
            clear_accuracy: ratio(clear_right, clear.len()),
            clear_interval: wilson(clear_right, clear.len()),
            encrypted_accuracy: ratio(right, count),
            encrypted_interval: wilson(right, count),
            binary,
            agreement: ratio(agree, count),
            agreement_interval: wilson(agree, count),
            max_error: outcomes.iter().map(error).fold(0.0, f64::max),
            disagreements,
            infer_ms_median: times[count / 2],
            images_per_second: if run.new > 0 { run.new as f64 / run.seconds } else { 0.0 },
            threads: run.plan.engines * run.plan.workers,
            side_by_side: run.plan.engines,
            cached: run.plan.cached,
            peak_rss_bytes: peak_rss_bytes(),
        }
    }

    pub fn text(&self, program: &Program<'_>) -> String {
        let percent = |ratio: f64, [low, high]: [f64; 2], count: usize| {
            format!("{:.2} %  ({:.2} to {:.2} %, {count} images)", ratio * 100.0, low * 100.0, high * 100.0)
        };
        let largest = moduli(program).first().map_or(0.0, |m| m.log_qp);
        let bootstrap = if self.binary.is_some() { ", those of AUC to specificity by bootstrap" } else { "" };
        let mut text = format!("  {} on {}, intervals are Wilson's at 95 %{bootstrap}\n\n", self.model, self.data);
        let each = if self.side_by_side == self.threads { "one thread each" } else { "all threads together" };
        let weights = if self.cached { "weights ready" } else { "weights expanded on every use" };
        let mut rows = vec![
            ("clear", percent(self.clear_accuracy, self.clear_interval, self.clear_images)),
            ("encrypted", percent(self.encrypted_accuracy, self.encrypted_interval, self.images)),
        ];
        rows.extend(self.binary.iter().flat_map(TwoClasses::lines));
        rows.extend([
            ("same class", percent(self.agreement, self.agreement_interval, self.images)),
            ("largest error", format!("{:.1e} of a score", self.max_error)),
            ("one image", format!("{} median, evaluation only, {each}, {weights}", duration(self.infer_ms_median))),
            (
                "throughput",
                format!(
                    "{:.1} images/s with encryption and decryption, {} side by side",
                    self.images_per_second, self.side_by_side
                ),
            ),
            ("security", security_line(&self.set, program.set().n(), "QP", largest)),
        ]);
        if let Some(peak) = self.peak_rss_bytes {
            rows.push(("memory", format!("{} at most, the whole process", bytes(peak))));
        }
        text += &pairs(&rows);
        for d in &self.disagreements {
            let Disagreement { index, image, label, clear, encrypted, margin } = d;
            let image = if *image == index.to_string() { String::new() } else { format!(" {image}") };
            text += &format!(
                "  image {index}{image} (label {label}): clear {clear}, encrypted {encrypted}, margin {margin:.1e}\n"
            );
        }
        text
    }
}
