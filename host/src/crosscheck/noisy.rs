//! The noisy rung: the slot program with plaintexts rounded at their scale, and noise of the variance that the compiler
//! predicts with wherever the kernel adds some.

use super::normal::Normal;
use crate::compile::layout::encode;
use crate::compile::lower::Lowered;
use crate::compile::schedule::Schedule;
use crate::compile::slots::{Diagonal, SlotOpKind, SlotProgram};
use crate::encode::{EncodeError, Encoder};
use crate::noise::NoiseModel;
use cipherlens_kernel::ckks::Scale;
use cipherlens_kernel::params::ParamSet;
use std::collections::BTreeMap;

/// A program with rounded plaintexts, and the scales and variances of its operations.
pub struct Noisy {
    program: SlotProgram,
    schedule: Schedule,
    set: ParamSet,
    model: NoiseModel,
}

/// What a plaintext's slots become where its coefficients are rounded, as the compiler stores it.
fn rounded(values: &[f64], scale: Scale, encoder: &Encoder) -> Result<Vec<f64>, EncodeError> {
    let scale = scale.value();
    if values.iter().all(|v| *v == values[0]) {
        return Ok(vec![(values[0] * scale).round_ties_even() / scale; values.len()]);
    }
    let coefficients: Vec<f64> = encoder.encode(values, scale)?.iter().map(|&c| c as f64 / scale).collect();
    Ok(encoder.to_slots(&coefficients))
}

/// `sum[i] += weights[i] x[(i + step) mod n]`.
fn accumulate(sum: &mut [f64], weights: &[f64], x: &[f64], step: usize) {
    let (now, later) = x.split_at(step % x.len());
    let (first, second) = sum.split_at_mut(later.len());
    for ((s, w), x) in first.iter_mut().zip(weights).zip(later) {
        *s += w * x;
    }
    for ((s, w), x) in second.iter_mut().zip(&weights[later.len()..]).zip(now) {
        *s += w * x;
    }
}

fn rotated(x: &[f64], step: usize) -> Vec<f64> {
    let step = step % x.len();
    [&x[step..], &x[..step]].concat()
}

impl Noisy {
    /// Rounds all plaintexts of a program.
    ///
    /// # Errors
    /// A plaintext that cannot be encoded.
    pub fn new(lowered: &Lowered, schedule: &Schedule, set: ParamSet, encoder: &Encoder) -> Result<Self, EncodeError> {
        let mut program = lowered.program.clone();
        for (op, s) in program.ops.iter_mut().zip(&schedule.ops) {
            match &mut op.kind {
                SlotOpKind::LinearTransform { diagonals, .. } => {
                    for diagonal in diagonals {
                        // A rotation permutes coefficients up to sign, so it does not matter which side of it rounds.
                        diagonal.values = rounded(&diagonal.values, s.plain[diagonal.source], encoder)?;
                    }
                }
                SlotOpKind::AddPlain { values, .. } => *values = rounded(values, s.plain[0], encoder)?,
                _ => {}
            }
        }
        Ok(Self { program, schedule: schedule.clone(), set, model: NoiseModel::new(set) })
    }

    /// All registers for one image, with noise that depends on `seed` alone. Shape: flat input tensors to N slots for
    /// each register.
    ///
    /// Reference: the kernel's order of operations. A baby step switches keys before the product, a giant step divides by
    /// P and switches keys after it, and one division ends the operation.
    pub fn run(&self, inputs: &[Vec<f64>], seed: u64) -> Vec<Vec<f64>> {
        let (program, model) = (&self.program, &self.model);
        let mut normal = Normal::new(seed);
        let mut registers: Vec<Vec<f64>> = vec![Vec::new(); program.registers];
        let mut scale = vec![1.0; program.registers];
        for (input, s) in program.inputs.iter().zip(&self.schedule.inputs) {
            let mut slots = encode(&input.element, &inputs[input.input]);
            normal.disturb(&mut slots, (model.fresh() + model.encoding()) / s.value().powi(2));
            (registers[input.register], scale[input.register]) = (slots, s.value());
        }
        for (op, s) in program.ops.iter().zip(&self.schedule.ops) {
            let result = s.scale.value();
            let product = result * if s.rescale { f64::from(self.set.q()[s.limbs - 1]) } else { 1.0 };
            let switch = model.key_switch(s.limbs);
            let zip = |a: usize, b: usize, f: fn(f64, f64) -> f64| -> Vec<f64> {
                registers[a].iter().zip(&registers[b]).map(|(&x, &y)| f(x, y)).collect()
            };
            let mut results = match &op.kind {
                SlotOpKind::LinearTransform { sources, diagonals, .. } => {
                    let source = |k: usize| (registers[sources[k]].as_slice(), scale[sources[k]]);
                    self.transform(diagonals, op.results.len(), source, switch, product, &mut normal)
                }
                SlotOpKind::RotateSum { src, steps, .. } => {
                    let mut sum = registers[*src].clone();
                    for &step in steps {
                        sum.iter_mut().zip(rotated(&registers[*src], step as usize)).for_each(|(s, x)| *s += x);
                    }
                    normal.disturb(&mut sum, steps.len() as f64 * switch / scale[*src].powi(2));
                    vec![sum]
                }
                SlotOpKind::AddPlain { src, values } => {
                    vec![registers[*src].iter().zip(values).map(|(x, y)| x + y).collect()]
                }
                SlotOpKind::Add { a, b } => vec![zip(*a, *b, |x, y| x + y)],
                SlotOpKind::Mul { a, b, .. } => {
                    let mut slots = zip(*a, *b, |x, y| x * y);
                    normal.disturb(&mut slots, switch / product.powi(2));
                    vec![slots]
                }
            };
            if !matches!(op.kind, SlotOpKind::AddPlain { .. } | SlotOpKind::Add { .. }) {
                results.iter_mut().for_each(|slots| normal.disturb(slots, model.division() / result.powi(2)));
            }
            for (&register, slots) in op.results.iter().zip(results) {
                (registers[register], scale[register]) = (slots, result);
            }
        }
        registers
    }

    /// The block matrix, without the last division.
    fn transform<'r>(
        &self,
        diagonals: &[Diagonal],
        results: usize,
        source: impl Fn(usize) -> (&'r [f64], f64),
        switch: f64,
        product: f64,
        normal: &mut Normal,
    ) -> Vec<Vec<f64>> {
        let mut babies: BTreeMap<(usize, u32), Vec<f64>> = BTreeMap::new();
        let mut giants: Vec<(usize, u32)> = Vec::new();
        let mut sums = vec![vec![0.0; self.program.n]; results];
        for d in diagonals {
            // A rotated source has one noise, whatever is multiplied by it.
            let baby = babies.entry((d.source, d.baby)).or_insert_with(|| {
                let (slots, scale) = source(d.source);
                let mut slots = rotated(slots, d.baby as usize);
                if d.baby != 0 {
                    normal.disturb(&mut slots, switch / scale.powi(2));
                }
                slots
            });
            accumulate(&mut sums[d.result], &d.values, baby, d.giant as usize);
            if d.giant != 0 && !giants.contains(&(d.result, d.giant)) {
                giants.push((d.result, d.giant));
            }
        }
        for (result, _) in giants {
            normal.disturb(&mut sums[result], (switch + self.model.division()) / product.powi(2));
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_rotations_are_as_by_hand() {
        let mut sum = vec![1.0; 4];
        accumulate(&mut sum, &[1.0, 2.0, 3.0, 4.0], &[10.0, 20.0, 30.0, 40.0], 3);
        assert_eq!(sum, [41.0, 21.0, 61.0, 121.0]);
        assert_eq!(rotated(&[1.0, 2.0, 3.0], 4), [2.0, 3.0, 1.0]);
    }
}
