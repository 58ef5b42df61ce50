//! Place: ciphertext buffers in the arena by liveness, first fit.

use super::schedule::Schedule;
use super::slots::{Register, SlotOpKind, SlotProgram};
use cipherlens_kernel::program::Buffer;

/// Which buffer holds each register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The buffers.
    pub buffers: Vec<Buffer>,
    /// Buffer of each register; unused registers have the last number plus one.
    pub of: Vec<usize>,
    /// Rows that all buffers take together.
    pub rows: usize,
}

/// The operands of an operation.
pub fn operands(kind: &SlotOpKind) -> Vec<Register> {
    match kind {
        SlotOpKind::LinearTransform { sources, .. } => sources.clone(),
        SlotOpKind::RotateSum { src, .. } | SlotOpKind::AddPlain { src, .. } => vec![*src],
        SlotOpKind::Add { a, b } | SlotOpKind::Mul { a, b, .. } => vec![*a, *b],
    }
}

/// Places every register of `program`. Inputs live from the start, outputs to the end.
pub fn place(program: &SlotProgram, schedule: &Schedule, input_limbs: &[usize]) -> Placement {
    let end = program.ops.len() + 1;
    // Time 0 is before the first operation; operation i reads and writes at time i + 1.
    let mut born = vec![None; program.registers];
    let mut dies = vec![0; program.registers];
    let mut limbs = vec![0; program.registers];
    for (input, &l) in program.inputs.iter().zip(input_limbs) {
        born[input.register] = Some(0);
        limbs[input.register] = l;
    }
    for (i, (op, s)) in program.ops.iter().zip(&schedule.ops).enumerate() {
        for &result in &op.results {
            born[result] = Some(i + 1);
            limbs[result] = s.limbs - usize::from(s.rescale);
        }
        for operand in operands(&op.kind) {
            dies[operand] = i + 1;
        }
    }
    for output in &program.outputs {
        dies[output.register] = end;
    }
    let mut order: Vec<Register> = (0..program.registers).filter(|&r| born[r].is_some()).collect();
    order.sort_by_key(|&r| born[r]);
    let mut placed: Vec<(Register, usize)> = Vec::new();
    let mut in_place = vec![None; program.registers];
    for op in &program.ops {
        // A plaintext sum overwrites its operand where that is not read again.
        if let SlotOpKind::AddPlain { src, .. } = op.kind
            && Some(dies[src]) == born[op.results[0]]
            && limbs[src] == limbs[op.results[0]]
        {
            in_place[op.results[0]] = Some(src);
        }
    }
    let mut row_of = vec![0; program.registers];
    for r in order {
        let start = born[r].unwrap_or(0);
        let stop = dies[r].max(start);
        let need = 2 * limbs[r];
        let row = match in_place[r] {
            Some(src) => row_of[src],
            None => {
                let mut taken: Vec<(usize, usize)> = placed
                    .iter()
                    .filter(|&&(other, _)| {
                        born[other].unwrap_or(0) <= stop && dies[other].max(born[other].unwrap_or(0)) >= start
                    })
                    .map(|&(other, row)| (row, row + 2 * limbs[other]))
                    .collect();
                taken.sort_unstable();
                taken.iter().fold(0, |at, &(from, to)| if at + need <= from { at } else { at.max(to) })
            }
        };
        row_of[r] = row;
        placed.push((r, row));
    }
    let mut buffers: Vec<Buffer> = Vec::new();
    let mut of = vec![usize::MAX; program.registers];
    for &(r, row) in &placed {
        let buffer = Buffer { row, limbs: limbs[r] };
        of[r] = buffers.iter().position(|b| *b == buffer).unwrap_or_else(|| {
            buffers.push(buffer);
            buffers.len() - 1
        });
    }
    let rows = buffers.iter().map(|b| b.row + 2 * b.limbs).max().unwrap_or(0);
    Placement { buffers, of, rows }
}
