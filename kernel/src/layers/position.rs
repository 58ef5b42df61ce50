//! Positions within a phase that do not depend on the plaintext cache, so that an engine with a cache can be resumed
//! by one without, and the other way round.

use super::{Job, Phase, split_pass};
use crate::program::BABY_GROUP;

impl Job<'_> {
    /// Whether pass `pass` of `phase` builds on earlier passes of its unit.
    pub(crate) fn in_unit(&self, phase: Phase, pass: usize) -> bool {
        split_pass(pass, self.passes_per_unit(phase)).1 != 0
    }

    /// Whether the tail is in use in phase number `index`, `phase`: from the first inverse transform of what is divided
    /// away to the last division.
    pub(crate) fn divides(&self, phase: Phase, index: usize) -> bool {
        match phase {
            Phase::GiantInverse
            | Phase::GiantRadix
            | Phase::GiantDivide(_)
            | Phase::Giant(_)
            | Phase::FinalInverse(_)
            | Phase::FinalRadix(_)
            | Phase::FinalDivide(_) => true,
            // That of a giant step follows a division.
            Phase::MixedRadix => {
                let earlier = index.checked_sub(1).and_then(|i| self.phase(i));
                matches!(earlier, Some((Phase::GiantDivide(_), _)))
            }
            _ => false,
        }
    }

    /// The number that pass `pass` of `phase` has without a plaintext cache: there each term of an inner sum is a pass,
    /// and each plaintext operand has one more to expand it.
    pub(crate) fn uncached_pass(self, phase: Phase, pass: usize) -> Option<usize> {
        if !self.cached {
            return Some(pass);
        }
        match phase {
            Phase::MulPlain | Phase::AddPlain => pass.checked_mul(2),
            Phase::Inner(s) => {
                let transform = self.transform().ok()?;
                let uncached = Self { cached: false, ..self };
                let (t, part) = split_pass(pass, self.passes_per_unit(phase));
                let part = match part.checked_sub(self.mod_ups(s)) {
                    Some(part) => {
                        let (group, rest) = split_pass(part, self.passes_per_group(&transform));
                        let rest = match rest.checked_sub(BABY_GROUP) {
                            Some(g) => g.checked_add(1)?.checked_mul(BABY_GROUP)?,
                            None => rest,
                        };
                        let groups = group.checked_mul(uncached.passes_per_group(&transform))?;
                        self.mod_ups(s).checked_add(groups)?.checked_add(rest)?
                    }
                    None => part,
                };
                t.checked_mul(uncached.passes_per_unit(phase))?.checked_add(part)
            }
            _ => Some(pass),
        }
    }
}
