//! The phases of every instruction.

use super::Job;
use crate::program::{BABY_GROUP, Operation, Transform};
use crate::ring::Basis;

/// The polynomial that is decomposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Source {
    /// c1 of a source of the instruction.
    Operand(usize),
    /// The scratch polynomial: the c1^2 of a product, or the inner sum of a giant step.
    Scratch,
}

/// A set of units that may run in any order, each a sequence of passes for one worker.
///
/// l limbs, K special primes, T = l + K, D digits. A unit of a key switch does all the work modulo one prime, so
/// that digits and baby steps stay in cache and need scratch for one prime only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Phase {
    /// Inverse transform of the polynomial to decompose: l units.
    Inverse(Source),
    /// Mixed-radix digits: D units.
    MixedRadix,
    /// Accumulator = P times the operand, or zero, + its rotations: T units of D mod-ups, 1, the rotations.
    Rotations,
    /// Tensor product: T units.
    Tensor,
    /// Accumulator += key switch from s^2: T units of D mod-ups and 1.
    Relinearize,
    /// What a source adds to the inner sums of a linear transform: T units of D mod-ups, then for each group of its baby
    /// steps their rotations and their part of the giant steps' sums.
    Inner(usize),
    /// Inverse transform of the special limbs of the c1 of all inner sums to be rotated: K units for each.
    GiantInverse,
    /// Their mixed-radix digits: one unit for each.
    GiantRadix,
    /// Division of c1 of giant step g by P, and its inverse transform: l units of 2.
    GiantDivide(usize),
    /// Accumulator += giant step g: T units of D mod-ups and 1.
    Giant(usize),
    /// Accumulator = operand times plaintext: l units of 1, and 1 before it to expand.
    MulPlain,
    /// Result = operand + plaintext: l units of 1, and 1 before it to expand.
    AddPlain,
    /// Result = a + b: l units.
    Add,
    /// Accumulator = operand: l units.
    Load,
    /// Result = accumulator: l units.
    Store,
    /// Inverse transform of what is divided away from a result: 2 (K + rescale) units.
    FinalInverse(usize),
    /// Its mixed-radix digits: 2 units.
    FinalRadix(usize),
    /// Division into the result: 2 (l - rescale) units.
    FinalDivide(usize),
}

/// Phases of one giant step.
const GIANT_PHASES: usize = 3;
/// Phases of the final division.
const FINAL_PHASES: usize = 3;

impl Job<'_> {
    /// Phase `index` of the instruction and its number of passes; none after the last.
    pub fn phase(&self, index: usize) -> Option<(Phase, usize)> {
        let phase = match self.instruction.operation {
            Operation::LinearTransform { transform } => self.linear_transform(&transform, index),
            Operation::RotateSum { .. } => match index {
                0 | 1 => decompose(index, Source::Operand(0)),
                2 => Some(Phase::Rotations),
                _ => finish(index.wrapping_sub(3), 1),
            },
            Operation::Mul { .. } => match index {
                0 => Some(Phase::Tensor),
                1 | 2 => decompose(index.wrapping_sub(1), Source::Scratch),
                3 => Some(Phase::Relinearize),
                _ => finish(index.wrapping_sub(4), 1),
            },
            Operation::MulPlain { .. } => match index {
                0 => Some(Phase::MulPlain),
                1 if !self.instruction.rescale => Some(Phase::Store),
                _ if !self.instruction.rescale => None,
                _ => finish(index.wrapping_sub(1), 1),
            },
            Operation::AddPlain { .. } => (index == 0).then_some(Phase::AddPlain),
            Operation::Add { .. } => (index == 0).then_some(Phase::Add),
            Operation::Rescale { .. } => match index {
                0 => Some(Phase::Load),
                _ => finish(index.wrapping_sub(1), 1),
            },
        }?;
        Some((phase, self.units(phase).wrapping_mul(self.passes_per_unit(phase))))
    }

    /// Source by source the inner sums, then giant steps that rotate, then the final division of each result.
    fn linear_transform(&self, transform: &Transform<'_>, mut index: usize) -> Option<Phase> {
        for s in 0..transform.sources() {
            let hoisted = if self.mod_ups(s) == 0 { index.checked_add(2)? } else { index };
            match hoisted {
                0 | 1 => return decompose(hoisted, Source::Operand(s)),
                2 => return Some(Phase::Inner(s)),
                _ => index = hoisted.wrapping_sub(3),
            }
        }
        let rotated = transform.rotated_giants();
        if rotated == 0 {
            return finish(index, transform.outputs());
        }
        let Some(rest) = index.checked_sub(2) else {
            return Some(if index == 0 { Phase::GiantInverse } else { Phase::GiantRadix });
        };
        let step = rest / GIANT_PHASES;
        if step >= rotated {
            return finish(rest.wrapping_sub(rotated.wrapping_mul(GIANT_PHASES)), transform.outputs());
        }
        let g = transform.resting_giants().wrapping_add(step);
        Some(match rest % GIANT_PHASES {
            0 => Phase::GiantDivide(g),
            1 => Phase::MixedRadix,
            _ => Phase::Giant(g),
        })
    }

    fn units(&self, phase: Phase) -> usize {
        let rescale = usize::from(self.instruction.rescale);
        let rotated = || self.transform().map_or(0, |t| t.rotated_giants());
        match phase {
            Phase::Inverse(_)
            | Phase::GiantDivide(_)
            | Phase::MulPlain
            | Phase::AddPlain
            | Phase::Add
            | Phase::Load
            | Phase::Store => self.l,
            Phase::MixedRadix => self.digits,
            Phase::Rotations | Phase::Tensor | Phase::Relinearize | Phase::Inner(_) | Phase::Giant(_) => self.t(),
            Phase::GiantInverse => rotated().wrapping_mul(self.special),
            Phase::GiantRadix => rotated(),
            Phase::FinalInverse(_) => self.tail().len() << 1,
            Phase::FinalRadix(_) => 2,
            Phase::FinalDivide(_) => self.l.wrapping_sub(rescale) << 1,
        }
    }

    /// Passes of a unit: they run one after the other, because each reads what those before it wrote.
    pub(super) fn passes_per_unit(&self, phase: Phase) -> usize {
        match phase {
            Phase::Rotations => match self.instruction.operation {
                Operation::RotateSum { rotations, .. } => {
                    self.digits.wrapping_add(1).wrapping_add(rotations.len() >> 2)
                }
                _ => 0,
            },
            Phase::Relinearize | Phase::Giant(_) => self.digits.wrapping_add(1),
            Phase::Inner(s) => self.transform().map_or(0, |transform| {
                let groups = transform.source(s).map_or(0, |(_, babies)| babies.len().div_ceil(BABY_GROUP));
                self.mod_ups(s).wrapping_add(groups.wrapping_mul(self.passes_per_group(&transform)))
            }),
            Phase::GiantDivide(_) => 2,
            Phase::MulPlain | Phase::AddPlain => 1 << usize::from(!self.cached),
            _ => 1,
        }
    }

    /// Passes of a group of baby steps: their rotations, and their part of the sum of each giant step, one product at a
    /// time where plaintexts are expanded on the way.
    pub(super) fn passes_per_group(&self, transform: &Transform<'_>) -> usize {
        let sums = if self.cached { 1 } else { BABY_GROUP };
        BABY_GROUP.wrapping_add(transform.giants().wrapping_mul(sums))
    }

    /// Mod-ups of a linear transform's source for each prime: none if no baby step rotates it.
    pub(super) fn mod_ups(&self, source: usize) -> usize {
        let rotates = |transform: Transform<'_>| {
            let (_, mut babies) = transform.source(source)?;
            Some(babies.any(|i| transform.baby(i) != Some(0)))
        };
        let rotates = self.transform().ok().and_then(rotates);
        if rotates == Some(true) { self.digits } else { 0 }
    }

    /// What the final division removes.
    pub(super) fn tail(&self) -> Basis {
        Basis::tail(self.program.set(), self.l, self.switches(), usize::from(self.instruction.rescale))
    }
}

fn decompose(index: usize, source: Source) -> Option<Phase> {
    match index {
        0 => Some(Phase::Inverse(source)),
        1 => Some(Phase::MixedRadix),
        _ => None,
    }
}

/// The final division of each of `results` results.
fn finish(index: usize, results: usize) -> Option<Phase> {
    let result = index / FINAL_PHASES;
    if result >= results {
        return None;
    }
    Some(match index % FINAL_PHASES {
        0 => Phase::FinalInverse(result),
        1 => Phase::FinalRadix(result),
        _ => Phase::FinalDivide(result),
    })
}
