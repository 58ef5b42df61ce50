//! Schedule: exact scales for every operation, chosen so that the predicted error at the output is least.
//!
//! Each product with weights may pick its plaintext scale freely, so the scale after it is a design choice;
//! a square has none. One number S, the scale that layers aim at, fixes all: before a square whose rescale
//! drops q the scale is sqrt(S q). Small S loses precision in the ciphertext, large S in the weights; a scan
//! over S with the noise model finds the best. Logarithms and powers come from `libm`, so that every machine
//! finds the same scales.

use super::lower::Lowered;
use super::slots::SlotOpKind;
use crate::noise::{Estimate, NoiseModel};
use cipherlens_kernel::ckks::Scale;
use cipherlens_kernel::params::ParamSet;

/// An operation with its level and scales.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scheduled {
    /// Limbs of its operands.
    pub limbs: usize,
    /// Whether a rescale follows.
    pub rescale: bool,
    /// Scale of its plaintexts.
    pub plain: Option<Scale>,
    /// Scale of its result.
    pub scale: Scale,
    /// Predicted error of the result.
    pub estimate: Estimate,
}

/// Levels and scales of a whole program.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Scale of each input.
    pub inputs: Vec<Scale>,
    /// In the program's order.
    pub ops: Vec<Scheduled>,
    /// Predicted standard deviation of an output slot, by output.
    pub output_error: Vec<f64>,
}

/// Sizes of the registers, measured on sample inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranges {
    /// Mean square of each register's slots.
    pub power: Vec<f64>,
    /// Largest mean absolute value of each register's slots: a bound for its coefficients.
    pub mean_abs: Vec<f64>,
}

impl Ranges {
    /// Combines the registers of several samples.
    pub fn of(samples: &[Vec<Vec<f64>>]) -> Self {
        let registers = samples.first().map_or(0, Vec::len);
        let over = |f: &dyn Fn(&[f64]) -> f64, join: fn(f64, f64) -> f64| -> Vec<f64> {
            (0..registers).map(|r| samples.iter().map(|s| f(&s[r])).fold(0.0, join)).collect()
        };
        let count = samples.len().max(1) as f64;
        let square = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>() / v.len().max(1) as f64;
        let absolute = |v: &[f64]| v.iter().map(|x| x.abs()).sum::<f64>() / v.len().max(1) as f64;
        Self {
            power: over(&square, |a, b| a + b).into_iter().map(|p| p / count).collect(),
            mean_abs: over(&absolute, f64::max),
        }
    }
}

/// Why no scales were found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// The set has fewer primes than the program needs.
    #[error("the network needs {need} limbs; the set {set} has {have}")]
    Depth {
        /// Limbs needed.
        need: usize,
        /// Limbs there.
        have: usize,
        /// The set.
        set: String,
    },
    /// Every choice overflows a modulus or leaves no weight precision.
    #[error("no scale fits the set {set}: {reason}")]
    NoScale {
        /// The set.
        set: String,
        /// What stood in the way of the best attempt.
        reason: String,
    },
}

/// Head-room kept above the largest value seen in calibration, in bits.
const HEADROOM_BITS: f64 = 2.0;
/// Least precision of weights, in bits of the plaintext scale.
const LEAST_PLAIN_BITS: f64 = 8.0;

/// Finds scales for `lowered` under `set`.
///
/// # Errors
/// [`ScheduleError`] if the set has too few or too small primes.
pub fn schedule(lowered: &Lowered, set: &ParamSet, ranges: &Ranges) -> Result<Schedule, ScheduleError> {
    let need = lowered.input_limbs.iter().chain(&lowered.levels).copied().max().unwrap_or(1);
    if need > set.limbs() {
        return Err(ScheduleError::Depth { need, have: set.limbs(), set: set.name().into() });
    }
    let mut best: Option<(f64, Schedule)> = None;
    let mut reason = String::from("no operation");
    for half_bits in 28..=80 {
        match attempt(lowered, set, ranges, libm::exp2(f64::from(half_bits) / 2.0)) {
            Ok(found) => {
                let worst = found.output_error.iter().copied().fold(0.0, f64::max);
                if best.as_ref().is_none_or(|(error, _)| worst < *error) {
                    best = Some((worst, found));
                }
            }
            Err(why) => reason = why,
        }
    }
    best.map(|(_, found)| found).ok_or_else(|| ScheduleError::NoScale { set: set.name().into(), reason })
}

/// Bits that a register's coefficients may take at `limbs` limbs.
fn capacity(set: &ParamSet, limbs: usize, mean_abs: f64) -> f64 {
    set.log_modulus(limbs, false) - 1.0 - HEADROOM_BITS - libm::log2(mean_abs.max(1.0))
}

fn attempt(lowered: &Lowered, set: &ParamSet, ranges: &Ranges, aim: f64) -> Result<Schedule, String> {
    let program = &lowered.program;
    let prime = |limbs: usize| set.q()[limbs - 1];
    // Wanted scales, from the outputs back.
    let mut want = vec![None; program.registers];
    for output in &program.outputs {
        let last = program.ops.iter().rposition(|op| op.dst == output.register);
        let limbs = last.map_or(1, |i| lowered.levels[i] - usize::from(rescales(&program.ops[i].kind)));
        let room = capacity(set, limbs, ranges.mean_abs[output.register]);
        want[output.register] = Some(libm::exp2(room).min(aim));
    }
    for (op, &limbs) in program.ops.iter().zip(&lowered.levels).rev() {
        let target = want[op.dst].unwrap_or(aim);
        want[op.dst] = Some(target);
        let q = f64::from(prime(limbs));
        match &op.kind {
            SlotOpKind::LinearTransform { src, .. } => want[*src] = want[*src].or(Some(aim)),
            SlotOpKind::RotateSum { src, rescale, .. } => want[*src] = Some(if *rescale { target * q } else { target }),
            SlotOpKind::AddPlain { src, .. } => want[*src] = Some(target),
            SlotOpKind::Add { a, b } => {
                want[*a] = Some(target);
                want[*b] = Some(target);
            }
            SlotOpKind::Mul { a, b } => {
                want[*a] = Some((target * q).sqrt());
                want[*b] = Some((target * q).sqrt());
            }
        }
    }
    // Exact scales and errors, forward.
    let noise = NoiseModel::new(*set);
    let mut scale = vec![None; program.registers];
    let mut error = vec![0.0; program.registers];
    let mut inputs = Vec::new();
    for input in &program.inputs {
        let s = Scale::new(want[input.register].unwrap_or(aim)).ok_or("an input scale is below 1")?;
        scale[input.register] = Some(s);
        error[input.register] = noise.fresh() / (s.value() * s.value());
        inputs.push(s);
    }
    let mut ops = Vec::with_capacity(program.ops.len());
    for (op, &limbs) in program.ops.iter().zip(&lowered.levels) {
        let rescale = rescales(&op.kind);
        let of = |register: usize| scale[register].ok_or_else(|| format!("layer {} reads nothing", op.layer));
        let q = prime(limbs);
        let after = |s: Scale| if rescale { s.rescaled(q) } else { Some(s) };
        let divisor = if rescale { f64::from(q) } else { 1.0 };
        let overflow = || format!("layer {} at {limbs} limbs has no room for its scale", op.layer);
        let mut plain = None;
        let (result, mut variance) = match &op.kind {
            SlotOpKind::LinearTransform { src, diagonals, .. } => {
                let s = of(*src)?;
                let target = want[op.dst].unwrap_or(aim);
                let (w, result) = plain_scale(s, target, divisor, after).ok_or_else(overflow)?;
                if w.log2() < LEAST_PLAIN_BITS {
                    return Err(format!("layer {}: the weights get {:.1} bits only", op.layer, w.log2()));
                }
                compact(diagonals.iter().map(|d| d.values.as_slice()), w, &op.layer)?;
                plain = Some(w);
                let rows = program.n as f64;
                let weight = |d: &[f64]| d.iter().map(|v| v * v).sum::<f64>() / rows;
                let total: f64 = diagonals.iter().map(|d| weight(&d.values)).sum();
                let switched: f64 = diagonals.iter().filter(|d| d.baby != 0).map(|d| weight(&d.values)).sum();
                let mut giants: Vec<u32> = diagonals.iter().map(|d| d.giant).filter(|&g| g != 0).collect();
                giants.dedup();
                // Slots without weights carry no error; the mean over those with weights is what counts.
                let used =
                    (0..program.n).filter(|&i| diagonals.iter().any(|d| d.values[i] != 0.0)).count().max(1) as f64;
                let fill = rows / used;
                let product = (s.value() * w.value()).powi(2);
                let carried = total * fill * error[*src];
                let babies = switched * fill * noise.key_switch(limbs) / s.value().powi(2);
                let steps = giants.len() as f64 * (noise.key_switch(limbs) + noise.division()) / product;
                let weights = diagonals.len() as f64 * noise.encoding() * ranges.power[*src] / w.value().powi(2);
                (result, carried + babies + steps + weights)
            }
            SlotOpKind::RotateSum { src, steps, .. } => {
                let s = of(*src)?;
                let count = steps.len() as f64;
                let switches = count * noise.key_switch(limbs) / s.value().powi(2);
                (after(s).ok_or_else(overflow)?, (count + 1.0) * error[*src] + switches)
            }
            SlotOpKind::AddPlain { src, values } => {
                let s = of(*src)?;
                compact(std::iter::once(values.as_slice()), s, &op.layer)?;
                plain = Some(s);
                (s, error[*src] + noise.encoding() / s.value().powi(2))
            }
            SlotOpKind::Add { a, b } => {
                let (s, t) = (of(*a)?, of(*b)?);
                if s != t {
                    return Err(format!(
                        "layer {}: summands at the scales {:e} and {:e}",
                        op.layer,
                        s.value(),
                        t.value()
                    ));
                }
                (s, error[*a] + error[*b])
            }
            SlotOpKind::Mul { a, b } => {
                let product = of(*a)?.product(of(*b)?).ok_or_else(overflow)?;
                let cross = if a == b {
                    4.0 * ranges.power[*a] * error[*a]
                } else {
                    ranges.power[*a] * error[*b] + ranges.power[*b] * error[*a]
                };
                let switch = noise.key_switch(limbs) / product.value().powi(2);
                (after(product).ok_or_else(overflow)?, cross + switch)
            }
        };
        let divides = !matches!(op.kind, SlotOpKind::AddPlain { .. } | SlotOpKind::Add { .. });
        if divides {
            variance += noise.division() / result.value().powi(2);
        }
        let size = ranges.mean_abs[op.dst];
        let left = limbs - usize::from(rescale);
        if result.log2() > capacity(set, left, size) || result.log2() + libm::log2(divisor) > capacity(set, limbs, size)
        {
            return Err(overflow());
        }
        scale[op.dst] = Some(result);
        error[op.dst] = variance;
        let estimate = Estimate { variance, power: ranges.power[op.dst] };
        ops.push(Scheduled { limbs, rescale, plain, scale: result, estimate });
    }
    let output_error = program.outputs.iter().map(|o| error[o.register].sqrt()).collect();
    Ok(Schedule { inputs, ops, output_error })
}

/// Whether plaintexts at scale `w` have 32-bit coefficients: a coefficient is at most the mean absolute slot.
fn compact<'v>(plaintexts: impl Iterator<Item = &'v [f64]>, w: Scale, layer: &str) -> Result<(), String> {
    let mean = |values: &[f64]| values.iter().map(|v| v.abs()).sum::<f64>() / values.len().max(1) as f64;
    let largest = plaintexts.map(mean).fold(0.0, f64::max) * w.value();
    if largest < f64::from(i32::MAX) {
        Ok(())
    } else {
        Err(format!("layer {layer}: weights exceed 32 bits at the scale 2^{:.1}", w.log2()))
    }
}

fn rescales(kind: &SlotOpKind) -> bool {
    match kind {
        SlotOpKind::LinearTransform { rescale, .. } | SlotOpKind::RotateSum { rescale, .. } => *rescale,
        SlotOpKind::Mul { .. } => true,
        SlotOpKind::AddPlain { .. } | SlotOpKind::Add { .. } => false,
    }
}

/// A plaintext scale w such that the scale after the product is exactly `target` where doubles allow it:
/// rounding may miss by a last bit, so neighbours of the quotient are tried.
fn plain_scale(s: Scale, target: f64, divisor: f64, after: impl Fn(Scale) -> Option<Scale>) -> Option<(Scale, Scale)> {
    let w = target * divisor / s.value();
    let candidate = |ulps: i64| {
        let w = Scale::new(f64::from_bits(w.to_bits().wrapping_add_signed(ulps)))?;
        Some((w, after(s.product(w)?)?))
    };
    (0..32)
        .flat_map(|k| [k, -k])
        .filter_map(candidate)
        .find(|(_, result)| result.value() == target)
        .or_else(|| candidate(0))
}
