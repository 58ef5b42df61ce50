//! The order in which a program reads its keys, for firmware that fetches ahead of a slow [`KeySource`].
//!
//! [`KeySource`]: crate::keys::KeySource

use super::{Job, Phase, split_pass};
use crate::keys::{KeyInfo, KeyKind};
use crate::program::{BABY_GROUP, Operation, Program};
use crate::wire::u32_at;

/// One use of a key modulo one prime: the engine asks for both halves of one block, b first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct KeyAccess {
    /// The instruction that needs it.
    pub instruction: usize,
    /// Which key.
    pub kind: KeyKind,
    /// The instruction's limbs l: what the key is looked up with.
    pub limbs: usize,
    /// Prime t of the extended basis at l limbs.
    pub prime: usize,
    /// Digits that are read of the block.
    pub digits: usize,
}

impl KeyAccess {
    /// The block of the key that is read.
    pub fn block(&self, key: &KeyInfo) -> usize {
        key.block(self.limbs, self.prime)
    }
}

impl Job<'_> {
    /// The key that pass `pass` of `phase` uses, and the prime.
    fn key_of(&self, phase: Phase, pass: usize) -> Option<(KeyKind, usize)> {
        let (t, part) = split_pass(pass, self.passes_per_unit(phase));
        let rotation = match phase {
            Phase::Rotations => {
                let Operation::RotateSum { rotations, .. } = self.instruction.operation else { return None };
                let i = part.checked_sub(self.digits)?.checked_sub(1)?;
                u32_at(rotations, i << 2)?
            }
            Phase::Relinearize => return (part == self.digits).then_some((KeyKind::Relin, t)),
            Phase::Inner(s) => {
                let transform = self.transform().ok()?;
                let part = part.checked_sub(self.mod_ups(s))?;
                let (group, rest) = split_pass(part, self.passes_per_group(&transform));
                let in_source = group.checked_mul(BABY_GROUP)?.checked_add(rest).filter(|_| rest < BABY_GROUP)?;
                let (_, babies) = transform.source(s)?;
                let baby = babies.start.checked_add(in_source).filter(|baby| babies.contains(baby))?;
                transform.baby(baby)?
            }
            Phase::Giant(g) if part == self.digits => self.transform().ok()?.giant(g)?.rotation,
            _ => return None,
        };
        (rotation != 0).then_some((KeyKind::Rotation(rotation), t))
    }
}

/// Iterator over the key accesses of a program: [`Program::key_accesses`].
#[derive(Debug, Clone)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct KeyAccesses<'p> {
    program: Program<'p>,
    /// The instruction in progress.
    index: usize,
    phase: usize,
    pass: usize,
}

impl Iterator for KeyAccesses<'_> {
    type Item = KeyAccess;

    fn next(&mut self) -> Option<KeyAccess> {
        loop {
            let instruction = self.program.instruction(self.index)?;
            let job = Job::new(self.program, instruction, 0, 1);
            while let Some((phase, passes)) = job.phase(self.phase) {
                while self.pass < passes {
                    let pass = self.pass;
                    self.pass = pass.wrapping_add(1);
                    if let Some((kind, prime)) = job.key_of(phase, pass) {
                        let (limbs, digits) = (job.l, job.digits);
                        return Some(KeyAccess { instruction: self.index, kind, limbs, prime, digits });
                    }
                }
                self.pass = 0;
                self.phase = self.phase.wrapping_add(1);
            }
            self.phase = 0;
            self.index = self.index.wrapping_add(1);
        }
    }
}

impl<'p> Program<'p> {
    /// Every use of a key, in the order in which an engine that steps asks its
    /// [`KeySource`](crate::keys::KeySource). Workers take the primes of a phase side by side, each in this order.
    pub fn key_accesses(&self) -> KeyAccesses<'p> {
        KeyAccesses { program: *self, index: 0, phase: 0, pass: 0 }
    }
}
