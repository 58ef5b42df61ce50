//! Exact counts of an engine's work.

use super::Engine;
use crate::keys::KeySource;
use crate::math::Backend;
use crate::program::{Instruction, Operation, PlainForm};

/// Work done since the last [`Engine::reset`], counted exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Counts {
    /// Forward and inverse transforms of one limb, those that expand plaintexts not included.
    pub ntts: u32,
    /// Transforms that expand plaintexts.
    pub plain_ntts: u32,
    /// Inner products with a key (relinearisations and rotations).
    pub key_switches: u32,
    /// Those that are rotations.
    pub rotations: u32,
    /// Products of a limb-extended baby step with a plaintext.
    pub plain_products: u32,
    /// Passes executed.
    pub passes: u32,
}

impl<K: KeySource, B: Backend> Engine<'_, '_, K, B> {
    /// Adds what an instruction will do to the counts.
    pub(super) fn count(&mut self, instruction: &Instruction<'_>) {
        let l = instruction.limbs as u32;
        let set = &self.set;
        let k = set.special() as u32;
        let t = l.wrapping_add(k);
        let d = set.digits(instruction.limbs) as u32;
        let rescale = u32::from(instruction.rescale);
        // l inverse transforms; each digit is transformed for every prime but its own.
        let decompose = t.wrapping_mul(d);
        let divide = |removed: u32| if removed == 0 { 0 } else { removed.wrapping_add(l).wrapping_sub(rescale) << 1 };
        let compact =
            |plain: usize| self.program.plaintext(plain).is_some_and(|p| matches!(p.form, PlainForm::Compact { .. }));
        let expands = |plain: usize| plain >= self.cached && compact(plain);
        let mut add = Counts::default();
        match instruction.operation {
            Operation::LinearTransform { transform } => {
                let rotates = |&i: &usize| transform.baby(i) != Some(0);
                let babies = (0..transform.babies()).filter(rotates).count() as u32;
                let hoists = |&s: &usize| transform.source(s).is_some_and(|(_, mut b)| b.any(|i| rotates(&i)));
                let hoisted = (0..transform.sources()).filter(hoists).count() as u32;
                let giants = transform.rotated_giants() as u32;
                let terms = (0..transform.terms()).filter_map(|i| transform.term(i));
                add.rotations = babies.wrapping_add(giants);
                add.key_switches = add.rotations;
                add.plain_products = transform.terms() as u32;
                add.plain_ntts = t.wrapping_mul(terms.filter(|&(_, plain)| expands(plain)).count() as u32);
                let giant = k.wrapping_add(l).wrapping_add(decompose);
                let finals = divide(k.wrapping_add(rescale)).wrapping_mul(transform.outputs() as u32);
                add.ntts =
                    decompose.wrapping_mul(hoisted).wrapping_add(giants.wrapping_mul(giant)).wrapping_add(finals);
            }
            Operation::RotateSum { rotations, .. } => {
                add.rotations = (rotations.len() >> 2) as u32;
                add.key_switches = add.rotations;
                add.ntts = decompose.wrapping_add(divide(k.wrapping_add(rescale)));
            }
            Operation::Mul { .. } => {
                add.key_switches = 1;
                add.ntts = decompose.wrapping_add(divide(k.wrapping_add(rescale)));
            }
            Operation::MulPlain { plain, .. } => {
                add.plain_products = 1;
                add.plain_ntts = l.wrapping_mul(u32::from(expands(plain)));
                add.ntts = divide(rescale);
            }
            Operation::AddPlain { plain, .. } => add.plain_ntts = l.wrapping_mul(u32::from(expands(plain))),
            Operation::Add { .. } => {}
            Operation::Rescale { .. } => add.ntts = divide(rescale),
        }
        let c = &mut self.counts;
        c.ntts = c.ntts.wrapping_add(add.ntts);
        c.plain_ntts = c.plain_ntts.wrapping_add(add.plain_ntts);
        c.key_switches = c.key_switches.wrapping_add(add.key_switches);
        c.rotations = c.rotations.wrapping_add(add.rotations);
        c.plain_products = c.plain_products.wrapping_add(add.plain_products);
    }
}
