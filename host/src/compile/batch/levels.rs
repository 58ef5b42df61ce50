//! Levels of a batch program: how many bits each division takes, the primes that are its size, and exact scales.
//!
//! Weights are integers of a chosen number of bits, so that a linear layer multiplies the scale by the same factor for
//! all its results; a division brings it back to an aim. Where layers of different scales meet, the difference goes into
//! the weights' factors. Logarithms and powers come from `libm`, so that every machine finds the same scales.

use super::values::{Node, Term, ValueId, Values};
use crate::compile::primes::{MOST, Primes};
use crate::noise::NoiseModel;
use cipherlens_kernel::math::MAX_WEIGHT;
use cipherlens_kernel::params::{MAX_SPECIAL, ParamSet};
use libm::{exp2, log2};

/// Head-room kept above the largest value seen in calibration, in bits.
const HEADROOM_BITS: f64 = 2.0;
/// By how many bits inputs may have a smaller scale than what is divided: fresh noise is smaller than that of a rescale.
const FRESH_BITS: f64 = 3.0;

/// What is chosen for a whole program.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Special primes, and primes of a digit.
    pub special: usize,
    /// Bits of the largest weight of each layer.
    pub weight_bits: f64,
    /// log2 of the least scale after a division.
    pub aim: f64,
    /// Bits beyond whole primes that a division leaves in the scale instead of taking another prime.
    pub slack: f64,
}

/// Levels, scales and predicted errors.
#[derive(Debug, Clone)]
pub struct Levels {
    /// The parameter set.
    pub set: ParamSet,
    /// Ciphertext primes in use at each depth.
    pub limbs: Vec<usize>,
    /// Scale of each value.
    pub scales: Vec<f64>,
    /// Predicted standard deviation of the error of each value.
    pub errors: Vec<f64>,
    /// log2 of an output's root mean square over its error, least of all outputs.
    pub precision: f64,
    /// What was chosen.
    pub choice: Choice,
}

/// Even sizes in half bits of the primes for a number of bits; up to `slack` bits beyond whole primes are left out.
fn split(bits: f64, slack: f64, least: u32) -> Vec<u32> {
    let most = f64::from(MOST) / 2.0;
    let whole = (bits / most).floor().max(0.0);
    if bits - whole * most <= slack {
        return vec![MOST; whole as usize];
    }
    let each = (2.0 * bits / (whole + 1.0)).floor() as u32;
    vec![each.clamp(least, MOST); whole as usize + 1]
}

impl Levels {
    /// The levels that follow from `choice`, in the ring of `primes`.
    ///
    /// # Errors
    /// Why there are none.
    pub fn new(values: &Values<'_>, primes: &Primes, choice: Choice) -> Result<Self, String> {
        let log_n = primes.log_n();
        // The smallest primes that are 1 modulo 4N and plentiful.
        let least = 2 * (log_n + 5);
        let depth = values.depth();
        // Sizes first, from aims alone: which bits each division takes.
        let mut drops: Vec<Vec<u32>> = Vec::new();
        let mut divisors = Vec::new();
        let mut log_scales = vec![0.0; values.list.len()];
        for d in 0..=depth {
            for id in (0..values.list.len()).filter(|&id| values.list[id].depth == d) {
                log_scales[id] = log_scale(values, id, &log_scales, &divisors, choice);
            }
            let divided = values.list.iter().filter_map(|value| match value.node {
                Node::Divide { source, rescale: true } if values.list[source].depth == d => Some(log_scales[source]),
                _ => None,
            });
            let smallest = divided.fold(f64::INFINITY, f64::min);
            if d < depth {
                let sizes = split(smallest - choice.aim, choice.slack, least);
                divisors.push(sizes.iter().map(|&s| f64::from(s) / 2.0).sum());
                drops.push(sizes);
            }
        }
        if drops.iter().any(|d| d.len() + choice.special > MAX_SPECIAL + 1) {
            return Err("a division by more primes than the kernel divides by".into());
        }
        // Primes that stay: enough for every value at its depth.
        let below = |d: usize| divisors[d..].iter().sum::<f64>();
        let need = values.list.iter().zip(&log_scales).map(|(value, &scale)| {
            scale + log2(value.largest.max(1.0)) + 1.0 + HEADROOM_BITS - below(value.depth.min(depth))
        });
        // Rounded up: what is missing would be missing in every message.
        let base = split(need.fold(f64::from(least) / 2.0, f64::max) + 0.5, 0.0, least);
        let mut limbs = vec![base.len()];
        limbs.extend(drops.iter().rev().scan(base.len(), |sum, drop| {
            *sum += drop.len();
            Some(*sum)
        }));
        limbs.reverse();
        let sizes: Vec<u32> = base.iter().chain(drops.iter().rev().flatten()).copied().collect();
        let set = set(primes, &sizes, choice.special)?;
        let mut levels = Self { set, limbs, scales: Vec::new(), errors: Vec::new(), precision: f64::INFINITY, choice };
        levels.solve(values, drops.len())?;
        Ok(levels)
    }

    /// Limbs of a value.
    pub fn of(&self, values: &Values<'_>, id: ValueId) -> usize {
        self.limbs[values.list[id].depth]
    }

    /// The factor between weights and integers: scale of the result over that of the source.
    pub fn factor(&self, result: ValueId, source: ValueId) -> f64 {
        self.scales[result] / self.scales[source]
    }

    /// Exact scales from the primes, and errors.
    fn solve(&mut self, values: &Values<'_>, divisions: usize) -> Result<(), String> {
        let q = self.set.q();
        let divisors: Vec<f64> = (0..divisions)
            .map(|d| q[self.limbs[d + 1]..self.limbs[d]].iter().map(|&p| log2(f64::from(p))).sum())
            .collect();
        let noise = NoiseModel::new(self.set);
        let mut log_scales = vec![0.0; values.list.len()];
        let mut variances = vec![0.0f64; values.list.len()];
        for (id, value) in values.list.iter().enumerate() {
            log_scales[id] = log_scale(values, id, &log_scales, &divisors, self.choice);
            let limbs = self.limbs[value.depth];
            let scale = exp2(log_scales[id]);
            let of = |id: ValueId| (&values.list[id], variances[id]);
            variances[id] = match &value.node {
                Node::Input => noise.fresh() / (scale * scale),
                Node::Linear { terms, .. } => {
                    let wide = |t: &Term<'_>| {
                        t.largest * exp2(log_scales[id] - log_scales[t.source]) >= f64::from(MAX_WEIGHT - 1)
                    };
                    if terms.iter().any(wide) {
                        return Err(format!("{}: its sources have scales too far apart", value.layer));
                    }
                    let term = |t: &Term<'_>| {
                        let (source, variance) = of(t.source);
                        let factor = exp2(log_scales[id] - log_scales[t.source]);
                        t.power * variance + t.entries * source.mean_square / (12.0 * factor * factor)
                    };
                    terms.iter().map(term).sum()
                }
                Node::Mul(a, b) => {
                    let ((a, va), (b, vb)) = (of(*a), of(*b));
                    if std::ptr::eq(a, b) { 4.0 * a.mean_square * va } else { a.mean_square * vb + b.mean_square * va }
                }
                Node::Divide { source, .. } => {
                    let (of, variance) = of(*source);
                    let before = exp2(log_scales[*source]);
                    let switched = if of.polys == 3 { noise.key_switch(self.limbs[of.depth]) } else { 0.0 };
                    variance + switched / (before * before) + noise.division() / (scale * scale)
                }
            };
            let room = self.set.log_modulus(limbs, false);
            if log_scales[id] + log2(value.largest.max(1.0)) + 1.0 + HEADROOM_BITS > room {
                return Err(format!("{}: no room for its scale at {limbs} limbs", value.layer));
            }
        }
        let bits = |&id: &ValueId| 0.5 * log2(values.list[id].mean_square / variances[id]);
        self.precision = values.outputs.iter().map(bits).fold(f64::INFINITY, f64::min);
        self.scales = log_scales.iter().map(|&s| exp2(s)).collect();
        self.errors = variances.iter().map(|v| v.sqrt()).collect();
        Ok(())
    }
}

/// log2 of the scale of a value, given those of its sources and the bits of each division.
fn log_scale(values: &Values<'_>, id: ValueId, scales: &[f64], divisors: &[f64], choice: Choice) -> f64 {
    match &values.list[id].node {
        Node::Input => choice.aim - FRESH_BITS,
        Node::Linear { terms, .. } => {
            let scale = |t: &Term<'_>| scales[t.source] + choice.weight_bits - log2(t.largest);
            terms.iter().filter(|t| t.largest > 0.0).map(scale).fold(choice.aim, f64::max)
        }
        Node::Mul(a, b) => scales[*a] + scales[*b],
        Node::Divide { source, rescale } => {
            let dropped = if *rescale { divisors[values.list[*source].depth] } else { 0.0 };
            scales[*source] - dropped
        }
    }
}

fn set(primes: &Primes, sizes: &[u32], special: usize) -> Result<ParamSet, String> {
    // Special primes are to be the largest: a digit must not be larger than their product.
    let all = primes
        .pick(std::iter::repeat_n(MOST, special).chain(sizes.iter().copied()))
        .ok_or("too few primes of the sizes that the scales ask for")?;
    let (p, q) = all.split_at(special);
    let name = format!("n{}-{}+{special}", primes.log_n(), q.len());
    ParamSet::checked(&name, primes.log_n(), q, p, special).map_err(|error| error.to_string())
}
