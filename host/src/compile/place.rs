//! Place: ciphertext buffers in the arena by liveness, first fit.

use super::outline::{Outline, Step};
use super::schedule::Schedule;
use super::slots::{Register, SlotOpKind, SlotProgram};
use cipherlens_kernel::program::{Buffer, MAX_BUFFERS};

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

/// What an operation does to registers.
struct Access {
    results: Vec<Register>,
    /// Limbs of the results.
    limbs: usize,
    operands: Vec<Register>,
    /// Whether it may overwrite its operand.
    in_place: bool,
}

/// Places every register of `program`. Inputs live from the start, outputs to the end.
pub fn place(program: &SlotProgram, schedule: &Schedule, input_limbs: &[usize]) -> Placement {
    let accesses = program.ops.iter().zip(&schedule.ops).map(|(op, s)| Access {
        results: op.results.clone(),
        limbs: s.limbs - usize::from(s.rescale),
        operands: operands(&op.kind),
        in_place: matches!(op.kind, SlotOpKind::AddPlain { .. }),
    });
    let inputs = program.inputs.iter().map(|i| i.register).zip(input_limbs.iter().copied());
    let outputs: Vec<Register> = program.outputs.iter().map(|o| o.register).collect();
    place_registers(program.registers, inputs, &accesses.collect::<Vec<_>>(), &outputs)
}

/// As [`place`], for the program that `outline` becomes.
pub fn place_outline(outline: &Outline) -> Placement {
    let accesses = outline.entries.iter().map(|e| Access {
        results: e.results.clone(),
        limbs: e.limbs - usize::from(e.rescale),
        operands: e.operands(),
        in_place: matches!(e.step, Step::AddPlain { .. }),
    });
    let outputs: Vec<Register> = outline.outputs.iter().map(|o| o.0).collect();
    let inputs = outline.inputs.iter().copied();
    place_registers(outline.power.len(), inputs, &accesses.collect::<Vec<_>>(), &outputs)
}

fn place_registers(
    registers: usize,
    inputs: impl Iterator<Item = (Register, usize)>,
    accesses: &[Access],
    outputs: &[Register],
) -> Placement {
    let end = accesses.len() + 1;
    // Time 0 is before the first operation; operation i reads and writes at time i + 1.
    let mut born = vec![None; registers];
    let mut dies = vec![0; registers];
    let mut limbs = vec![0; registers];
    for (register, l) in inputs {
        born[register] = Some(0);
        limbs[register] = l;
    }
    for (i, access) in accesses.iter().enumerate() {
        for &result in &access.results {
            born[result] = Some(i + 1);
            limbs[result] = access.limbs;
        }
        for &operand in &access.operands {
            dies[operand] = i + 1;
        }
    }
    for &output in outputs {
        dies[output] = end;
    }
    let mut order: Vec<Register> = (0..registers).filter(|&r| born[r].is_some()).collect();
    order.sort_by_key(|&r| born[r]);
    let mut in_place = vec![None; registers];
    for access in accesses.iter().filter(|a| a.in_place) {
        // A plaintext sum overwrites its operand where that is not read again.
        if let (&[src], &[dst]) = (access.operands.as_slice(), access.results.as_slice())
            && Some(dies[src]) == born[dst]
            && limbs[src] == limbs[dst]
        {
            in_place[dst] = Some(src);
        }
    }
    let lives = |r: Register| (born[r].unwrap_or(0), dies[r].max(born[r].unwrap_or(0)));
    let fit = |limbs: &[usize]| {
        let mut row_of = vec![0; registers];
        let mut placed: Vec<(Register, usize)> = Vec::new();
        for &r in &order {
            let (start, stop) = lives(r);
            let need = 2 * limbs[r];
            let row = match in_place[r] {
                Some(src) => row_of[src],
                None => {
                    let mut taken: Vec<(usize, usize)> = placed
                        .iter()
                        .filter(|&&(other, _)| lives(other).0 <= stop && lives(other).1 >= start)
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
        let mut of = vec![usize::MAX; registers];
        for &(r, row) in &placed {
            let buffer = Buffer { row, limbs: limbs[r] };
            of[r] = buffers.iter().position(|b| *b == buffer).unwrap_or_else(|| {
                buffers.push(buffer);
                buffers.len() - 1
            });
        }
        let rows = buffers.iter().map(|b| b.row + 2 * b.limbs).max().unwrap_or(0);
        Placement { buffers, of, rows }
    };
    let placement = fit(&limbs);
    if placement.buffers.len() <= MAX_BUFFERS {
        return placement;
    }
    // Buffers of one size are fewer, and take more memory.
    let most = limbs.iter().copied().max().unwrap_or(1);
    fit(&limbs.iter().map(|&l| if l > 0 { most } else { 0 }).collect::<Vec<_>>())
}
