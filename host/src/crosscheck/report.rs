//! What a ladder found, layer by layer. Field names are stable.

use super::Ladder;
use super::range::Range;
use serde::Serialize;

/// A rung of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// The network in f64.
    Clear,
    /// The slot program in f64.
    Simulated,
    /// With rounded plaintexts and predicted noise.
    Noisy,
    /// By the kernel.
    Encrypted,
}

/// Two rungs that are compared: the neighbours, and the first with the last.
pub const PAIRS: [(Rung, Rung); 4] = [
    (Rung::Clear, Rung::Simulated),
    (Rung::Simulated, Rung::Noisy),
    (Rung::Noisy, Rung::Encrypted),
    (Rung::Clear, Rung::Encrypted),
];

/// Largest difference of the simulation from the clear network, as a part of the largest value: only the order of sums
/// in f64 differs.
const SUMS: f64 = 1e-9;
/// Bits by which noise may miss its prediction.
const PREDICTION_BITS: f64 = 1.5;
/// Bits by which noise of the kernel may miss noise that was drawn from the model.
const DRAWN_BITS: f64 = 1.0;

/// How two rungs differ on a layer, over all images and elements.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// The lower rung.
    pub from: Rung,
    /// The upper rung.
    pub to: Rung,
    /// Largest absolute difference.
    pub max: f64,
    /// Mean absolute difference.
    pub mean: f64,
    /// Absolute difference that 99.9 % of the values stay within.
    pub p999: f64,
    /// Root mean square of the difference.
    pub rms: f64,
    /// log2 of the layer's root mean square over that of the difference; none where nothing differs.
    pub precision_bits: Option<f64>,
    /// How far the difference is from what it should be: for `simulated` its largest value as a part of the layer's
    /// largest, for the noisy rungs log2 of its root mean square over the expected one.
    pub deviation: f64,
    /// The interval that `deviation` should lie in.
    pub interval: [f64; 2],
    /// Whether it does.
    pub inside: bool,
}

/// One layer.
#[derive(Debug, Clone, Serialize)]
pub struct LayerFidelity {
    /// Its name.
    pub layer: String,
    /// `product` or `affine`.
    pub kind: &'static str,
    /// Elements of its tensor.
    pub elements: usize,
    /// log2 of its scale.
    pub log_scale: f64,
    /// Root mean square of its values.
    pub rms: f64,
    /// Its values against the room that they have.
    #[serde(flatten)]
    pub range: Range,
    /// Whether a value wrapped.
    pub wraps: bool,
    /// Standard deviation of the error that the compiler predicts, for the calibration's values.
    pub predicted_sigma: f64,
    /// The same for the values of these images.
    pub expected_sigma: f64,
    /// Differences between rungs, as in `from` and `to`.
    pub steps: Vec<Step>,
}

/// What a search for bad inputs found.
#[derive(Debug, Clone, Serialize)]
pub struct Adversarial {
    /// Inputs that were tried.
    pub tried: usize,
    /// Root mean square of the output's error on the images, mean over them.
    pub mean_error: f64,
    /// Largest that an input was found for.
    pub worst_error: f64,
    /// Least head-room on the images, in bits.
    pub mean_headroom_bits: f64,
    /// Least that an input was found for, and the layer.
    pub worst_headroom_bits: f64,
    /// Where that is.
    pub worst_layer: String,
    /// The two inputs on all rungs: that of the largest error, then that of the least head-room.
    pub ladder: Box<Report>,
}

/// A whole report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The model.
    pub model: String,
    /// Parameter set.
    pub set: String,
    /// Ring degree.
    pub n: usize,
    /// Precision of the outputs that the compiler predicts, in bits.
    pub predicted_precision_bits: f64,
    /// Images on every rung.
    pub images: usize,
    /// Largest difference of an output between the network and the imported model in f32.
    pub imported_max_error: f64,
    /// By layer, in order.
    pub layers: Vec<LayerFidelity>,
    /// The first layer that is beyond its interval, for each pair of neighbouring rungs.
    pub first_beyond: [Option<String>; 3],
    /// The layers of which a value wrapped.
    pub wrapped: Vec<String>,
    /// Worst inputs, where they were searched for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<Adversarial>,
}

/// Values and differences of one layer.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    squares: f64,
    max: f64,
    count: usize,
    /// By pair.
    differences: [Vec<f64>; 4],
    /// Sum of squares of encrypted less simulated.
    kernel: f64,
}

impl Tally {
    pub(super) fn add(&mut self, clear: &[f64], simulated: &[f64], noisy: &[f64], encrypted: &[f64]) {
        for i in 0..clear.len() {
            let (c, s, n, e) = (clear[i], simulated[i], noisy[i], encrypted[i]);
            self.squares += c * c;
            self.max = self.max.max(c.abs());
            for (list, d) in self.differences.iter_mut().zip([s - c, n - s, e - n, e - c]) {
                list.push(d.abs());
            }
            self.kernel += (e - s).powi(2);
        }
        self.count += clear.len();
    }

    fn rms(&self) -> f64 {
        (self.squares / self.count.max(1) as f64).sqrt()
    }

    fn steps(&self, expected: f64) -> Vec<Step> {
        let count = self.count.max(1) as f64;
        // Three standard deviations of the logarithm of a root mean square.
        let sampling = 3.0 / (2.0 * count).sqrt() / std::f64::consts::LN_2;
        let drawn = (self.differences[1].iter().map(|d| d * d).sum::<f64>() / count).sqrt();
        let kernel = (self.kernel / count).sqrt();
        let within = |bits: f64| [-bits - sampling, bits + sampling];
        let step = |(pair, differences): (usize, &Vec<f64>)| {
            let mut sorted = differences.clone();
            sorted.sort_by(f64::total_cmp);
            let max = sorted.last().copied().unwrap_or(0.0);
            let rms = (sorted.iter().map(|d| d * d).sum::<f64>() / count).sqrt();
            let (deviation, interval) = match pair {
                0 => (max / self.max.max(f64::MIN_POSITIVE), [0.0, SUMS]),
                1 => ((drawn / expected).log2(), within(PREDICTION_BITS)),
                2 => ((kernel / drawn).log2(), within(DRAWN_BITS + sampling)),
                _ => ((rms / expected).log2(), within(PREDICTION_BITS)),
            };
            Step {
                from: PAIRS[pair].0,
                to: PAIRS[pair].1,
                max,
                mean: sorted.iter().sum::<f64>() / count,
                p999: sorted.get((sorted.len() as f64 * 0.999) as usize).copied().unwrap_or(max),
                rms,
                precision_bits: (rms > 0.0).then(|| (self.rms() / rms).log2()),
                deviation,
                interval,
                inside: (interval[0]..=interval[1]).contains(&deviation),
            }
        };
        self.differences.iter().enumerate().map(step).collect()
    }
}

impl Report {
    pub(super) fn new(
        ladder: &Ladder<'_>,
        images: usize,
        imported: f64,
        tallies: &[Tally],
        ranges: &[Range],
        expected: &[f64],
    ) -> Self {
        let network = &ladder.compiled.network;
        let mut layers: Vec<LayerFidelity> = Vec::new();
        for (i, (stage, (tally, &range))) in network.stages.iter().zip(tallies.iter().zip(ranges)).enumerate() {
            let last = ladder.compiled.lowered.program.ops.iter().rposition(|op| op.layer == stage.name);
            let expected_sigma = ladder.of_stage(i, expected);
            layers.push(LayerFidelity {
                layer: stage.name.clone(),
                kind: match stage.op {
                    crate::compile::graph::Op::Mul(..) => "product",
                    crate::compile::graph::Op::Affine { .. } => "affine",
                },
                elements: tally.count / images.max(1),
                log_scale: last.map_or(0.0, |op| ladder.compiled.schedule.ops[op].scale.log2()),
                rms: tally.rms(),
                range,
                wraps: range.wraps(),
                predicted_sigma: ladder.of_stage(i, &ladder.predicted),
                expected_sigma,
                steps: tally.steps(expected_sigma),
            });
        }
        let first = |pair: usize| layers.iter().find(|l| !l.steps[pair].inside).map(|l| l.layer.clone());
        Self {
            model: ladder.model.name.clone(),
            set: ladder.set.name().into(),
            n: ladder.set.n(),
            predicted_precision_bits: ladder.compiled.schedule.precision,
            images,
            imported_max_error: imported,
            first_beyond: [first(0), first(1), first(2)],
            wrapped: layers.iter().filter(|l| l.wraps).map(|l| l.layer.clone()).collect(),
            layers,
            adversarial: None,
        }
    }

    /// Whether every layer is within its interval on every rung and nothing wrapped.
    pub fn holds(&self) -> bool {
        self.wrapped.is_empty() && self.first_beyond.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_measured_and_judged() {
        let mut tally = Tally::default();
        let n = 4000;
        let clear: Vec<f64> = (0..n).map(|i| f64::from(i % 7) - 3.0).collect();
        let shifted = |by: f64| -> Vec<f64> {
            clear.iter().zip(0..n).map(|(c, i)| c + if i % 2 == 0 { by } else { -by }).collect()
        };
        tally.add(&clear, &clear, &shifted(0.01), &shifted(0.04));
        let steps = tally.steps(0.012);
        assert!(steps[0].inside && steps[0].max == 0.0 && steps[0].precision_bits.is_none());
        assert!(steps[1].inside && (steps[1].deviation - (0.01f64 / 0.012).log2()).abs() < 1e-9);
        assert!((steps[1].p999 - 0.01).abs() < 1e-12 && (steps[1].mean - 0.01).abs() < 1e-12);
        // Four times the noise that was drawn is the kernel's fault.
        assert!(!steps[2].inside && (steps[2].deviation - 2.0).abs() < 1e-9);
        assert!((steps[2].max - 0.03).abs() < 1e-12 && (steps[3].max - 0.04).abs() < 1e-12);
    }
}
