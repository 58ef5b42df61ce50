//! What a run found. Field names are stable.

mod classes;
mod masks;

use super::super::report::security_line;
use super::super::units::{bytes, duration, pairs};
use super::plan::Plan;
use super::state::{Answer, Outcome};
use anyhow::Result;
use cipherlens::compile::ModelGraph;
use cipherlens::compile::report::moduli;
use cipherlens::datasets::Dataset;
use cipherlens::evaluate::peak_rss_bytes;
use cipherlens_kernel::program::Program;
use classes::Classes;
use masks::Masks;
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
    /// Tiles of the first image.
    pub tiles: usize,
}

#[derive(Debug, Serialize)]
pub struct Report {
    model: String,
    data: String,
    set: String,
    images: usize,
    clear_images: usize,
    #[serde(flatten)]
    figures: Figures,
    max_error: f64,
    infer_ms_median: f64,
    tiles: usize,
    images_per_second: f64,
    threads: usize,
    side_by_side: usize,
    cache_bytes: usize,
    peak_rss_bytes: Option<usize>,
}

/// How good the answers are.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Figures {
    Classes(Box<Classes>),
    Masks(Box<Masks>),
}

impl Figures {
    /// Of at least one image; `clear` holds the clear network's answers on these and maybe more.
    ///
    /// # Errors
    /// A mask that cannot be read.
    pub fn new(set: &dyn Dataset, clear: &[Answer], outcomes: &[Outcome]) -> Result<Self> {
        Ok(match clear.first() {
            Some(Answer::Mask(_)) => Self::Masks(Box::new(Masks::new(set, clear, outcomes)?)),
            _ => Self::Classes(Box::new(Classes::new(set, clear, outcomes))),
        })
    }

    /// What the intervals are, the figures, and remarks.
    pub fn text(&self, images: usize, clear_images: usize) -> (String, Rows, String) {
        match self {
            Self::Classes(classes) => classes.text(images, clear_images),
            Self::Masks(masks) => masks.text(images, clear_images),
        }
    }
}

/// Lines of a report: a name and what is said.
pub type Rows = Vec<(&'static str, String)>;

impl Report {
    /// Of a run with at least one image; `clear` holds the clear network's answers on these and maybe more.
    ///
    /// # Errors
    /// A mask that cannot be read.
    pub fn new(
        model: &ModelGraph,
        set: &dyn Dataset,
        clear: &[Answer],
        run: &Run,
        program: &Program<'_>,
    ) -> Result<Self> {
        let outcomes = &run.outcomes;
        let mut times: Vec<f64> = outcomes.iter().map(|o| o.infer_ms).collect();
        times.sort_by(f64::total_cmp);
        let figures = Figures::new(set, clear, outcomes)?;
        Ok(Self {
            model: model.name.clone(),
            data: set.name().into(),
            set: program.set().name().into(),
            images: outcomes.len(),
            clear_images: clear.len(),
            figures,
            max_error: outcomes.iter().map(|o| o.max_error).fold(0.0, f64::max),
            infer_ms_median: times[times.len() / 2],
            tiles: run.tiles,
            images_per_second: if run.new > 0 { run.new as f64 / run.seconds } else { 0.0 },
            threads: run.plan.engines * run.plan.workers,
            side_by_side: run.plan.engines,
            cache_bytes: run.plan.cache_bytes,
            peak_rss_bytes: peak_rss_bytes(),
        })
    }

    pub fn text(&self, program: &Program<'_>) -> String {
        let (intervals, mut rows, remarks) = self.figures.text(self.images, self.clear_images);
        let each = if self.side_by_side == self.threads { "one thread each" } else { "all threads together" };
        let weights = match (self.cache_bytes, program.cache_bytes()) {
            (0, _) => "weights expanded on every use".into(),
            (ready, all) if ready == all => "weights ready".into(),
            (ready, all) => format!("{} of {} of weights ready", bytes(ready), bytes(all)),
        };
        let tiles = if self.tiles > 1 { format!(" for {} tiles", self.tiles) } else { String::new() };
        let largest = moduli(program).first().map_or(0.0, |m| m.log_qp);
        rows.extend([
            ("largest error", format!("{:.1e} of a score", self.max_error)),
            (
                "one image",
                format!("{} median{tiles}, evaluation only, {each}, {weights}", duration(self.infer_ms_median)),
            ),
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
        format!("  {} on {}, {intervals}\n\n{}{remarks}", self.model, self.data, pairs(&rows))
    }
}
