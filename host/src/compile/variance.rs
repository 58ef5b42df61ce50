//! Variance: what every operation makes of the errors of its operands, at given scales.
//!
//! The schedule predicts with these formulas when it looks for scales; the cross-check predicts with them again, for the
//! values of other images.

use super::outline::{Entry, Outline, Step};
use super::schedule::Schedule;
use super::slots::Register;
use crate::noise::NoiseModel;
use cipherlens_kernel::ckks::Scale;
use cipherlens_kernel::params::ParamSet;

/// The scales around an operation.
pub struct Scales<'a> {
    /// Of each register.
    pub of: &'a dyn Fn(Register) -> f64,
    /// Of the plaintexts, by source.
    pub plain: &'a [Scale],
    /// Of the result before its rescale.
    pub product: f64,
    /// Of the result.
    pub result: f64,
}

/// Variance of the error of each result of an operation, in message units, given that of each register.
///
/// Errors of different slots, of different keys and of different plaintexts are independent; an error of a source meets
/// the mean square of the weights, and a weight's rounding the mean square of what its diagonal meets.
pub fn of_results(
    entry: &Entry,
    noise: &NoiseModel,
    outline: &Outline,
    scales: &Scales<'_>,
    error: &[f64],
) -> Vec<f64> {
    let (limbs, of) = (entry.limbs, scales.of);
    let power = &outline.power;
    let mut variances = match &entry.step {
        Step::Linear { sources, weights } => {
            let mut sums = vec![0.0; entry.results.len()];
            for ((j, &src), w) in sources.iter().enumerate().zip(scales.plain) {
                for (sum, blocks) in sums.iter_mut().zip(&weights.blocks) {
                    let block = &blocks[j];
                    *sum += block.power * error[src]
                        + block.rotated_power * noise.key_switch(limbs) / of(src).powi(2)
                        + block.met_power * noise.encoding() / w.value().powi(2);
                }
            }
            for (sum, giants) in sums.iter_mut().zip(&weights.giants) {
                *sum += giants.len() as f64 * (noise.key_switch(limbs) + noise.division()) / scales.product.powi(2);
            }
            sums
        }
        Step::RotateSum { src, steps } => {
            let count = steps.len() as f64;
            let switches = count * noise.key_switch(limbs) / of(*src).powi(2);
            vec![(count + 1.0) * error[*src] + switches]
        }
        Step::AddPlain { src, .. } => vec![error[*src] + noise.encoding() / of(*src).powi(2)],
        Step::Add { a, b } => vec![error[*a] + error[*b]],
        Step::Mul { a, b } => {
            let cross =
                if a == b { 4.0 * power[*a] * error[*a] } else { power[*a] * error[*b] + power[*b] * error[*a] };
            vec![cross + noise.key_switch(limbs) / scales.product.powi(2)]
        }
    };
    if !matches!(entry.step, Step::AddPlain { .. } | Step::Add { .. }) {
        variances.iter_mut().for_each(|v| *v += noise.division() / scales.result.powi(2));
    }
    variances
}

/// Variance of the error of every register under a schedule, for the values that `outline` was made with. Shape: one
/// number for each register, 0 for those that nothing defines.
pub fn predict(outline: &Outline, schedule: &Schedule, set: &ParamSet) -> Vec<f64> {
    let noise = NoiseModel::new(*set);
    let mut scale = vec![1.0; outline.power.len()];
    let mut error = vec![0.0; outline.power.len()];
    for (&(register, _), s) in outline.inputs.iter().zip(&schedule.inputs) {
        scale[register] = s.value();
        error[register] = noise.fresh() / s.value().powi(2);
    }
    for (entry, s) in outline.entries.iter().zip(&schedule.ops) {
        let result = s.scale.value();
        let divisor = if s.rescale { f64::from(set.q()[s.limbs - 1]) } else { 1.0 };
        let scales = Scales { of: &|r| scale[r], plain: &s.plain, product: result * divisor, result };
        let variances = of_results(entry, &noise, outline, &scales, &error);
        for (&r, variance) in entry.results.iter().zip(variances) {
            scale[r] = result;
            error[r] = variance;
        }
    }
    error
}
