//! Schedule: exact scales for every operation, chosen so that the predicted precision of the output is greatest.
//!
//! Each product with weights may pick its plaintext scale freely, so the scale before and after it is a design
//! choice; a square has none. The choices are the *aims*, one for the input of each product with weights and one
//! for each output: before a square whose rescale drops q the scale is sqrt(aim q), and sums keep it. A large aim
//! costs precision in the weights, a small one in the ciphertext. A scan finds the best aim that all share, then each
//! is moved for itself while the noise model says that it helps. Logarithms and powers come from `libm`, so that every
//! machine finds the same scales.

use super::outline::{Entry, Outline, Step};
use super::variance::{Scales, of_results};
use crate::noise::{Estimate, NoiseModel};
use cipherlens_kernel::ckks::Scale;
use cipherlens_kernel::params::ParamSet;

/// An operation with its level and scales.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduled {
    /// Limbs of its operands.
    pub limbs: usize,
    /// Whether a rescale follows.
    pub rescale: bool,
    /// Scale of its plaintexts, for each source of a linear transform.
    pub plain: Vec<Scale>,
    /// Scale of its result.
    pub scale: Scale,
    /// Predicted error of the result; of a linear transform's results the largest.
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
    /// log2 of an output's root mean square over its error, least of all outputs.
    pub precision: f64,
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
/// The aims of the scan, in half bits.
const SCAN: std::ops::RangeInclusive<i32> = 28..=80;

/// The primes that scales and noise depend on.
#[derive(Debug, Clone)]
pub struct Moduli {
    q: Vec<u32>,
    /// log2 of the product of the first primes, by their number.
    log_q: Vec<f64>,
    noise: NoiseModel,
}

impl Moduli {
    /// The primes of `set`.
    pub fn of(set: &ParamSet) -> Self {
        let mut log_q = vec![0.0];
        for &prime in set.q() {
            log_q.push(log_q[log_q.len() - 1] + libm::log2(f64::from(prime)));
        }
        Self { q: set.q().to_vec(), log_q, noise: NoiseModel::new(*set) }
    }

    /// Bits that a register's coefficients may take at `limbs` limbs.
    fn capacity(&self, limbs: usize, mean_abs: f64) -> f64 {
        self.log_q[limbs] - 1.0 - HEADROOM_BITS - libm::log2(mean_abs.max(1.0))
    }
}

/// The scale that each register aims at where it has a choice, in half bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aims(Vec<i32>);

impl Aims {
    fn scale(&self, outline: &Outline, register: usize) -> f64 {
        libm::exp2(f64::from(self.0[outline.peers[register]]) / 2.0)
    }
}

/// Finds scales for `outline` under `set`.
///
/// # Errors
/// [`ScheduleError`] if the set has too few or too small primes.
pub fn schedule(outline: &Outline, set: &ParamSet) -> Result<Schedule, ScheduleError> {
    let need = outline.limbs();
    if need > set.limbs() {
        return Err(ScheduleError::Depth { need, have: set.limbs(), set: set.name().into() });
    }
    let moduli = Moduli::of(set);
    best(outline, &moduli)
        .and_then(|(_, aims)| attempt(outline, &moduli, &aims))
        .map_err(|reason| ScheduleError::NoScale { set: set.name().into(), reason })
}

/// The scales that follow from `aims`.
///
/// # Errors
/// [`ScheduleError`] if they do not fit the set.
pub fn schedule_for(outline: &Outline, set: &ParamSet, aims: &Aims) -> Result<Schedule, ScheduleError> {
    attempt(outline, &Moduli::of(set), aims).map_err(|reason| ScheduleError::NoScale { set: set.name().into(), reason })
}

/// The best aims and their precision; the error is why there are none.
pub fn best(outline: &Outline, moduli: &Moduli) -> Result<(f64, Aims), String> {
    scan(outline, moduli).map(|(_, aims)| improve(outline, moduli, aims))
}

/// The best aim that all registers share, and its precision; the error is why the last one failed.
pub fn scan(outline: &Outline, moduli: &Moduli) -> Result<(f64, Aims), String> {
    let mut best: Option<(f64, Aims)> = None;
    let mut reason = String::from("no operation");
    for half_bits in SCAN {
        let aim = |register| if outline.is_unrescaled(register) { 2 * half_bits } else { half_bits };
        let aims = Aims((0..outline.power.len()).map(aim).collect());
        match attempt(outline, moduli, &aims) {
            Ok(found) if best.as_ref().is_none_or(|b| found.precision > b.0) => best = Some((found.precision, aims)),
            Ok(_) => {}
            Err(why) => reason = why,
        }
    }
    best.ok_or(reason)
}

/// Moves one aim at a time while precision grows; aims that do not fit count as no precision at all.
pub fn improve(outline: &Outline, moduli: &Moduli, mut aims: Aims) -> (f64, Aims) {
    let precision = |aims: &Aims| attempt(outline, moduli, aims).map_or(f64::NEG_INFINITY, |s| s.precision);
    let mut best = precision(&aims);
    let mut free: Vec<usize> = outline.outputs.iter().map(|o| o.0).collect();
    free.extend(outline.entries.iter().filter(|e| matches!(e.step, Step::Linear { .. })).flat_map(Entry::operands));
    free.iter_mut().for_each(|register| *register = outline.peers[*register]);
    free.sort_unstable();
    free.dedup();
    for step in [4, 2, 1] {
        let mut moved = true;
        while moved {
            moved = false;
            for &register in &free {
                for by in [step, -step] {
                    aims.0[register] += by;
                    let found = precision(&aims);
                    // A change too small to matter is no change, or rounding could go on for ever.
                    if found > best + 1e-6 {
                        best = found;
                        moved = true;
                        break;
                    }
                    aims.0[register] -= by;
                }
            }
        }
    }
    (best, aims)
}

fn attempt(outline: &Outline, moduli: &Moduli, aims: &Aims) -> Result<Schedule, String> {
    let registers = outline.power.len();
    let prime = |limbs: usize| moduli.q[limbs - 1];
    // Wanted scales, from the outputs back.
    let aim = |register: usize| aims.scale(outline, register);
    let mut want = vec![None; registers];
    for &(register, _) in &outline.outputs {
        let last = outline.entries.iter().rev().find(|e| e.results.contains(&register));
        let limbs = last.map_or(1, |e| e.limbs - usize::from(e.rescale));
        let room = moduli.capacity(limbs, outline.mean_abs[register]);
        want[register] = Some(libm::exp2(room).min(aim(register)));
    }
    for entry in outline.entries.iter().rev() {
        // All results have one scale: the least that one of them asks for.
        let target = entry.results.iter().map(|&r| want[r].unwrap_or_else(|| aim(r))).fold(f64::INFINITY, f64::min);
        entry.results.iter().for_each(|&r| want[r] = Some(target));
        let q = f64::from(prime(entry.limbs));
        match entry.step {
            Step::Linear { ref sources, .. } => {
                sources.iter().for_each(|&src| want[src] = want[src].or_else(|| Some(aim(src))));
            }
            Step::RotateSum { src, .. } => want[src] = Some(if entry.rescale { target * q } else { target }),
            Step::AddPlain { src, .. } => want[src] = Some(target),
            Step::Add { a, b } => {
                want[a] = Some(target);
                want[b] = Some(target);
            }
            Step::Mul { a, b } => {
                let product = if entry.rescale { target * q } else { target };
                want[a] = Some(product.sqrt());
                want[b] = Some(product.sqrt());
            }
        }
    }
    // Exact scales and errors, forward.
    let noise = &moduli.noise;
    let mut scale = vec![None; registers];
    let mut error = vec![0.0; registers];
    let mut inputs = Vec::new();
    for &(register, limbs) in &outline.inputs {
        let s = Scale::new(want[register].unwrap_or_else(|| aim(register))).ok_or("an input scale is below 1")?;
        if s.log2() > moduli.capacity(limbs, outline.mean_abs[register]) {
            return Err("an input has no room for its scale".into());
        }
        scale[register] = Some(s);
        error[register] = noise.fresh() / (s.value() * s.value());
        inputs.push(s);
    }
    let mut ops = Vec::with_capacity(outline.entries.len());
    for entry in &outline.entries {
        let (limbs, rescale, dst) = (entry.limbs, entry.rescale, entry.results[0]);
        let of = |register: usize| scale[register].ok_or_else(|| format!("layer {} reads nothing", entry.layer));
        let q = prime(limbs);
        let after = |s: Scale| if rescale { s.rescaled(q) } else { Some(s) };
        let divisor = if rescale { f64::from(q) } else { 1.0 };
        let overflow = || format!("layer {} at {limbs} limbs has no room for its scale", entry.layer);
        let mut plain = Vec::new();
        let result = match &entry.step {
            Step::Linear { sources, weights } => {
                let mut target = want[dst].unwrap_or_else(|| aim(dst));
                for (j, &src) in sources.iter().enumerate() {
                    let (w, product) = plain_scale(of(src)?, target, divisor, after).ok_or_else(overflow)?;
                    if w.log2() < LEAST_PLAIN_BITS {
                        return Err(format!("layer {}: the weights get {:.1} bits only", entry.layer, w.log2()));
                    }
                    if plain.is_empty() {
                        // What the first source can reach exactly, all others have to.
                        target = product.value();
                    } else if product.value() != target {
                        return Err(format!(
                            "layer {}: summands at the scales {target:e} and {:e}",
                            entry.layer,
                            product.value()
                        ));
                    }
                    plain.push(w);
                    for blocks in &weights.blocks {
                        compact(blocks[j].mean_abs, w, &entry.layer)?;
                    }
                }
                Scale::new(target).ok_or_else(overflow)?
            }
            Step::RotateSum { src, .. } => after(of(*src)?).ok_or_else(overflow)?,
            Step::AddPlain { src, mean_abs, .. } => {
                let s = of(*src)?;
                compact(*mean_abs, s, &entry.layer)?;
                plain = vec![s];
                s
            }
            Step::Add { a, b } => {
                let (s, t) = (of(*a)?, of(*b)?);
                if s != t {
                    let (s, t) = (s.value(), t.value());
                    return Err(format!("layer {}: summands at the scales {s:e} and {t:e}", entry.layer));
                }
                s
            }
            Step::Mul { a, b } => after(of(*a)?.product(of(*b)?).ok_or_else(overflow)?).ok_or_else(overflow)?,
        };
        let known = |r: usize| scale[r].map_or(1.0, |s: Scale| s.value());
        let around = Scales { of: &known, plain: &plain, product: result.value() * divisor, result: result.value() };
        let variances = of_results(entry, noise, outline, &around, &error);
        let size = entry.results.iter().map(|&r| outline.mean_abs[r]).fold(0.0, f64::max);
        let left = limbs - usize::from(rescale);
        if result.log2() > moduli.capacity(left, size)
            || result.log2() + libm::log2(divisor) > moduli.capacity(limbs, size)
        {
            return Err(overflow());
        }
        for (&r, &variance) in entry.results.iter().zip(&variances) {
            scale[r] = Some(result);
            error[r] = variance;
        }
        let variance = variances.iter().copied().fold(0.0, f64::max);
        let estimate = Estimate { variance, power: outline.power[dst] };
        ops.push(Scheduled { limbs, rescale, plain, scale: result, estimate });
    }
    let output_error: Vec<f64> = outline.outputs.iter().map(|o| error[o.0].sqrt()).collect();
    let bits = outline.outputs.iter().zip(&output_error).map(|(&(_, size), error)| libm::log2(size / error));
    let precision = bits.fold(f64::INFINITY, f64::min).max(f64::MIN);
    Ok(Schedule { inputs, ops, output_error, precision })
}

/// Whether plaintexts at scale `w` have 32-bit coefficients: a coefficient is at most the mean absolute slot.
fn compact(mean_abs: f64, w: Scale, layer: &str) -> Result<(), String> {
    if mean_abs * w.value() < f64::from(i32::MAX) {
        Ok(())
    } else {
        Err(format!("layer {layer}: weights exceed 32 bits at the scale 2^{:.1}", w.log2()))
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
