//! The phases of every instruction.

use super::Job;
use crate::program::Operation;
use crate::ring::Basis;

/// The polynomial that is decomposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Source {
    /// c1 of the first operand.
    Operand,
    /// The scratch polynomial: the c1^2 of a product, or the inner sum of a giant step.
    Scratch,
}

/// A set of passes that may run in any order.
///
/// l limbs, K special primes, T = l + K, D digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Phase {
    /// Inverse transform of the polynomial to decompose: l passes.
    Inverse(Source),
    /// Mixed-radix digits: D passes.
    MixedRadix,
    /// Mod-up and forward transform: T D passes.
    Extend(Source),
    /// Accumulator = P times the operand, or zero: T passes.
    Identity,
    /// Accumulator += rotation i of the operand: T passes.
    Rotation(usize),
    /// Tensor product: T passes.
    Tensor,
    /// Accumulator += key switch from s^2: T passes.
    Relinearize,
    /// Baby step i: T passes.
    Baby(usize),
    /// Inner sum of giant step g: T times (its plaintexts to expand, + 1) passes.
    Inner(usize),
    /// Inverse transform of the special limbs of the inner sum's c1: K passes.
    GiantInverse,
    /// Their mixed-radix digits: 1 pass.
    GiantRadix,
    /// Division of the inner sum's c1 by P: l passes.
    GiantDivide,
    /// Accumulator += giant step g: T passes.
    Giant(usize),
    /// Accumulator = operand times plaintext: l times (1 to expand, + 1) passes.
    MulPlain,
    /// Result = operand + plaintext: l times (1 to expand, + 1) passes.
    AddPlain,
    /// Result = a + b: l passes.
    Add,
    /// Accumulator = operand: l passes.
    Load,
    /// Result = accumulator: l passes.
    Store,
    /// Inverse transform of what is divided away: 2 (K + rescale) passes.
    FinalInverse,
    /// Its mixed-radix digits: 2 passes.
    FinalRadix,
    /// Division into the result: 2 (l - rescale) passes.
    FinalDivide,
}

/// Phases of one giant step other than 0.
const GIANT_PHASES: usize = 8;

impl Job<'_> {
    /// Phase `index` of the instruction and its number of passes; none after the last.
    pub fn phase(&self, index: usize) -> Option<(Phase, usize)> {
        let phase = match self.instruction.operation {
            Operation::LinearTransform { transform, .. } => {
                let babies = transform.babies();
                match index.checked_sub(3) {
                    None => self.decompose(index, Source::Operand),
                    Some(i) if i < babies => Some(Phase::Baby(i)),
                    Some(i) => self.giants(i.wrapping_sub(babies)),
                }
            }
            Operation::RotateSum { rotations, .. } => match index.checked_sub(4) {
                None => self.decompose(index, Source::Operand).or(Some(Phase::Identity)),
                Some(i) if i < rotations.len() >> 2 => Some(Phase::Rotation(i)),
                Some(i) => finish(i.wrapping_sub(rotations.len() >> 2)),
            },
            Operation::Mul { .. } => match index {
                0 => Some(Phase::Tensor),
                1..=3 => self.decompose(index.wrapping_sub(1), Source::Scratch),
                4 => Some(Phase::Relinearize),
                _ => finish(index.wrapping_sub(5)),
            },
            Operation::MulPlain { .. } => match index {
                0 => Some(Phase::MulPlain),
                1 if !self.instruction.rescale => Some(Phase::Store),
                _ if !self.instruction.rescale => None,
                _ => finish(index.wrapping_sub(1)),
            },
            Operation::AddPlain { .. } => (index == 0).then_some(Phase::AddPlain),
            Operation::Add { .. } => (index == 0).then_some(Phase::Add),
            Operation::Rescale { .. } => match index {
                0 => Some(Phase::Load),
                _ => finish(index.wrapping_sub(1)),
            },
        }?;
        Some((phase, self.passes(phase)))
    }

    fn decompose(&self, index: usize, source: Source) -> Option<Phase> {
        match index {
            0 => Some(Phase::Inverse(source)),
            1 => Some(Phase::MixedRadix),
            2 => Some(Phase::Extend(source)),
            _ => None,
        }
    }

    /// Giant steps, then the final division. A first giant step of 0 is a single phase.
    fn giants(&self, index: usize) -> Option<Phase> {
        let transform = self.transform().ok()?;
        let plain_first = transform.giant(0).is_some_and(|(rotation, _)| rotation == 0);
        let (rest, first) = match (plain_first, index) {
            (true, 0) => return Some(Phase::Inner(0)),
            (true, _) => (index.wrapping_sub(1), 1usize),
            (false, _) => (index, 0),
        };
        let g = (rest / GIANT_PHASES).wrapping_add(first);
        if g >= transform.giants() {
            let before = transform.giants().wrapping_sub(first).wrapping_mul(GIANT_PHASES);
            return finish(rest.wrapping_sub(before));
        }
        Some(match rest % GIANT_PHASES {
            0 => Phase::Inner(g),
            1 => Phase::GiantInverse,
            2 => Phase::GiantRadix,
            3 => Phase::GiantDivide,
            4 => Phase::Inverse(Source::Scratch),
            5 => Phase::MixedRadix,
            6 => Phase::Extend(Source::Scratch),
            _ => Phase::Giant(g),
        })
    }

    fn passes(&self, phase: Phase) -> usize {
        let rescale = usize::from(self.instruction.rescale);
        match phase {
            Phase::Inverse(_) | Phase::GiantDivide | Phase::Add | Phase::Load | Phase::Store => self.l,
            Phase::MixedRadix => self.digits,
            Phase::Extend(_) => self.t().wrapping_mul(self.digits),
            Phase::Identity
            | Phase::Rotation(_)
            | Phase::Tensor
            | Phase::Relinearize
            | Phase::Baby(_)
            | Phase::Giant(_) => self.t(),
            Phase::Inner(_) => self.t().wrapping_mul(self.passes_per_unit(phase)),
            Phase::GiantInverse => self.special,
            Phase::GiantRadix => 1,
            Phase::MulPlain | Phase::AddPlain => self.l.wrapping_mul(self.passes_per_unit(phase)),
            Phase::FinalInverse => self.tail().len() << 1,
            Phase::FinalRadix => 2,
            Phase::FinalDivide => self.l.wrapping_sub(rescale) << 1,
        }
    }

    /// Passes that belong together, because the later ones read what the earlier ones expanded.
    pub(super) fn passes_per_unit(&self, phase: Phase) -> usize {
        match phase {
            Phase::Inner(g) => self.inner_passes(g),
            Phase::MulPlain | Phase::AddPlain => 1 << usize::from(!self.cached),
            _ => 1,
        }
    }

    /// What the final division removes.
    pub(super) fn tail(&self) -> Basis {
        Basis::tail(self.program.set(), self.l, self.switches(), self.instruction.rescale)
    }
}

fn finish(index: usize) -> Option<Phase> {
    match index {
        0 => Some(Phase::FinalInverse),
        1 => Some(Phase::FinalRadix),
        2 => Some(Phase::FinalDivide),
        _ => None,
    }
}
