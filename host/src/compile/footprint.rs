//! Footprint: the memory of the program that an outline becomes, before it is written.

use super::WeightForm;
use super::outline::{Outline, Step};
use super::place::place_outline;
use super::report::key_file_bytes;
use cipherlens_kernel::ckks::Scale;
use cipherlens_kernel::keys::{KeyKind, KeyRequest};
use cipherlens_kernel::params::ParamSet;
use cipherlens_kernel::program::{Instruction, Operation, Scratch, Transform, table_rows};

/// Bytes by kind of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// RAM of the engine; exact.
    pub arena: usize,
    /// Optional RAM for expanded plaintexts; exact.
    pub cache: usize,
    /// Evaluation-key file; exact.
    pub keys: usize,
    /// Program file, at least: its weights at 16 bits, where they are compact.
    pub program: usize,
}

impl Footprint {
    /// The footprint of `outline` under a set; of the set only digits and number of special primes count.
    pub fn of(outline: &Outline, set: &ParamSet, weights: WeightForm) -> Self {
        let row = outline.n * 4;
        let buffers = place_outline(outline).rows;
        let mut table = Vec::new();
        let (mut end, mut cache_rows, mut coefficient_rows) = (buffers, 0, 0);
        for entry in &outline.entries {
            let operation = operation(&entry.step, &mut table);
            let (stored, rows) = match (&entry.step, operation) {
                (Step::Linear { weights, .. }, Operation::MulPlain { .. }) => (weights.stored(), entry.limbs),
                (Step::Linear { weights, .. }, _) => (weights.stored(), entry.limbs + set.special()),
                (Step::AddPlain { stored, .. }, _) => (usize::from(*stored), entry.limbs),
                _ => (0, 0),
            };
            cache_rows += stored * rows;
            coefficient_rows += stored;
            let instruction = Instruction {
                layer: 0,
                dst: 0,
                limbs: entry.limbs,
                rescale: entry.rescale,
                scale: Scale::new(1.0).expect("one is a scale"),
                operation,
            };
            end = end.max(Scratch::of(&instruction, set, buffers, 1).end);
        }
        let keys = outline.keys();
        let relin =
            (keys.relinearization > 0).then_some(KeyRequest { kind: KeyKind::Relin, limbs: keys.relinearization });
        let rotations = keys.rotations.iter().map(|(&r, &limbs)| KeyRequest { kind: KeyKind::Rotation(r), limbs });
        Self {
            arena: (table_rows(set, outline.limbs()) + end) * row,
            cache: cache_rows * row,
            keys: key_file_bytes(set, &relin.into_iter().chain(rotations).collect::<Vec<_>>()),
            program: match weights {
                WeightForm::Compact => coefficient_rows * outline.n * 2,
                WeightForm::Ntt => cache_rows * row,
            },
        }
    }
}

/// The kernel's operation for a step, without buffers and plaintexts; `table` holds its rotations.
fn operation<'t>(step: &Step, table: &'t mut Vec<u8>) -> Operation<'t> {
    match step {
        Step::Linear { weights: w, .. } if w.diagonals() == 1 && w.babies[0].is_empty() && w.giants[0].is_empty() => {
            Operation::MulPlain { src: 0, plain: 0 }
        }
        Step::Linear { weights: w, .. } => {
            // Scratch depends on the numbers of results, baby steps and rotating giant steps only.
            let in_place = |s: &usize| w.blocks.iter().any(|blocks| blocks[*s].in_place);
            let babies = w.babies.iter().map(Vec::len).sum::<usize>() + (0..w.babies.len()).filter(in_place).count();
            let giants = w.giants.iter().map(Vec::len).sum::<usize>();
            let mut words = vec![0, w.giants.len() as u32, babies as u32, 0, giants as u32, 0];
            words.resize(words.len() + w.giants.len() + babies + 3 * giants, 0);
            *table = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let transform = Transform::read(table).expect("a table as long as it says");
            Operation::LinearTransform { transform }
        }
        Step::RotateSum { .. } => Operation::RotateSum { src: 0, rotations: &[], identity: true },
        Step::AddPlain { .. } => Operation::AddPlain { src: 0, plain: 0 },
        Step::Add { .. } => Operation::Add { a: 0, b: 0 },
        Step::Mul { .. } => Operation::Mul { a: 0, b: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{CompileOptions, compile};
    use crate::models;

    #[test]
    fn a_footprint_is_that_of_the_program() {
        for (model, weights) in [("mnist-micro", WeightForm::Ntt), ("tenseal-cnn", WeightForm::Compact)] {
            let graph = models::by_name(model).unwrap().graph();
            let options = CompileOptions { weights, ..Default::default() };
            let compiled = compile(&graph, &options).unwrap();
            let program = cipherlens_kernel::program::Program::verify(&compiled.bytes).unwrap();
            let found = Footprint::of(&Outline::new(&compiled.lowered, &[]), program.set(), weights);
            let report = compiled.report;
            assert_eq!(
                (found.arena, found.cache, found.keys),
                (report.arena_bytes, report.cache_bytes, report.key_bytes),
                "{model}"
            );
            // Some weights may need 32 bits; what is not weights takes little.
            let most = 2 * found.program + (64 << 10);
            assert!((found.program..most).contains(&report.program_bytes), "{model}: {found:?}");
        }
    }
}
