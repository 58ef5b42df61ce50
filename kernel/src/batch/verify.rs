//! The verifier of batch programs: after it, running one reads and writes only rows that the plan gives it.

use super::format::{BatchSection, GROUP_WORDS, INSTRUCTION_WORDS, MAX_COLUMNS};
use super::program::{BatchProgram, Cells, Group, Instruction, Operation};
use crate::keys::KeyKind;
use crate::math::{MAX_PRODUCT, MAX_WEIGHT};
use crate::params::ParamError;
use crate::program::{ProgramError, Section};
use crate::ring::MAX_BASIS;
use core::ops::Range;

pub(super) fn verify(program: &BatchProgram<'_>) -> Result<(), ProgramError> {
    let limbs = program.limbs();
    if limbs == 0 || limbs > program.set().limbs() {
        return Err(ParamError::PrimeCount { limbs, special: program.set().special() }.into());
    }
    let sections = [
        (BatchSection::Manifest, 2),
        (BatchSection::Instructions, INSTRUCTION_WORDS),
        (BatchSection::Groups, GROUP_WORDS),
        (BatchSection::Words, 1),
        (BatchSection::Names, 2),
    ];
    // Section numbers of both kinds of program name the same things up to the instructions.
    if sections.iter().any(|&(section, words)| !program.has(section, words)) {
        return Err(ProgramError::Section { section: Section::Instructions });
    }
    if (0..program.layers()).any(|i| program.name(i).is_none()) {
        return Err(ProgramError::Section { section: Section::Names });
    }
    if (0..program.keys()).any(|i| program.key(i).is_none_or(|k| k.limbs == 0 || k.limbs > limbs)) {
        return Err(ProgramError::Section { section: Section::Manifest });
    }
    let (mut inputs, mut outputs) = (0usize, 0usize);
    for index in 0..program.instructions() {
        let malformed = ProgramError::Instruction { index };
        let instruction = program.instruction(index).ok_or(malformed)?;
        check(program, index, &instruction)?;
        match instruction.operation {
            Operation::Load { first, .. } if first == inputs => inputs = inputs.wrapping_add(instruction.count),
            Operation::Store { first, .. } if first == outputs => outputs = outputs.wrapping_add(instruction.count),
            Operation::Load { .. } | Operation::Store { .. } => return Err(malformed),
            _ => {}
        }
    }
    if inputs != program.inputs() || outputs != program.outputs() {
        return Err(ProgramError::Instruction { index: program.instructions() });
    }
    Ok(())
}

fn disjoint(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.end <= b.start || b.end <= a.start
}

/// The rows of `count` cells, inside the plan.
fn rows(program: &BatchProgram<'_>, cells: &Cells, count: usize) -> Option<Range<usize>> {
    cells.range(count).filter(|range| range.end <= program.rows())
}

fn check(program: &BatchProgram<'_>, index: usize, instruction: &Instruction) -> Result<(), ProgramError> {
    let malformed = ProgramError::Instruction { index };
    let Instruction { layer, limbs, count, operation, .. } = *instruction;
    if limbs == 0 || limbs > program.limbs() || count == 0 || layer >= program.layers() {
        return Err(malformed);
    }
    let need = |cells: &Cells| {
        rows(program, cells, count).ok_or(ProgramError::Plan { need: usize::MAX, have: program.rows() })
    };
    // What is read, at `limbs` limbs, and what is written, with `result` of them.
    let shaped = |cells: &Cells, polys: Range<usize>, least: usize| {
        if !polys.contains(&cells.polys) || cells.limbs > program.limbs() {
            return Err(malformed);
        }
        if cells.limbs < least {
            return Err(ProgramError::Level { index, need: least, have: cells.limbs });
        }
        Ok(())
    };
    let apart = |to: &Range<usize>, from: &Range<usize>| {
        if disjoint(to, from) { Ok(()) } else { Err(ProgramError::Aliasing { index }) }
    };
    let exact = |to: &Cells, limbs: usize| if to.limbs == limbs { Ok(()) } else { Err(malformed) };
    match operation {
        Operation::Load { to, .. } => {
            shaped(&to, 2..3, limbs)?;
            exact(&to, limbs)?;
            need(&to)?;
        }
        Operation::Store { from, .. } => {
            shaped(&from, 2..3, limbs)?;
            need(&from)?;
        }
        Operation::Mul { a, b, to } => {
            shaped(&a, 2..3, limbs)?;
            shaped(&b, 2..3, limbs)?;
            shaped(&to, 3..4, limbs)?;
            exact(&to, limbs)?;
            let to = need(&to)?;
            apart(&to, &need(&a)?)?;
            apart(&to, &need(&b)?)?;
        }
        Operation::Divide { from, to, drop } => {
            shaped(&from, 2..4, limbs)?;
            let left = limbs.checked_sub(drop).filter(|&left| left > 0).ok_or(malformed)?;
            let relinearise = from.polys == 3;
            let removed = drop.wrapping_add(if relinearise { program.set().special() } else { 0 });
            if removed == 0 || removed > MAX_BASIS {
                return Err(malformed);
            }
            shaped(&to, 2..3, left)?;
            exact(&to, left)?;
            apart(&need(&to)?, &need(&from)?)?;
            let kind = KeyKind::Relin;
            let has_key =
                (0..program.keys()).filter_map(|i| program.key(i)).any(|k| k.kind == kind && k.limbs >= limbs);
            if relinearise && !has_key {
                return Err(ProgramError::Manifest { index, kind, limbs });
            }
        }
        Operation::Linear { groups: (first, number), from, to } => {
            shaped(&from, 2..4, limbs)?;
            shaped(&to, from.polys..4, limbs)?;
            exact(&to, limbs)?;
            let to = need(&to)?;
            for group in first..first.checked_add(number).ok_or(malformed)? {
                let group = program.group(group).ok_or(malformed)?;
                linear(program, &group, &from, &to, count).ok_or(malformed)?;
            }
        }
    }
    Ok(())
}

/// Whether a group reads rows of the plan that are not `to`, and adds to `count` results.
fn linear(program: &BatchProgram<'_>, group: &Group<'_>, from: &Cells, to: &Range<usize>, count: usize) -> Option<()> {
    let shape = (1..=MAX_COLUMNS).contains(&group.columns)
        && (1..=MAX_PRODUCT).contains(&group.taps.len())
        && group.first.checked_add(group.columns)? <= count;
    let tap = |&row: &[u8; 4]| {
        let cell = Cells { row: u32::from_le_bytes(row) as usize, ..*from };
        rows(program, &cell, 1).is_some_and(|rows| disjoint(&rows, to))
    };
    let small = |&w: &[u8; 4]| i32::from_le_bytes(w).unsigned_abs() < MAX_WEIGHT;
    (shape && group.taps.iter().all(tap) && group.weights.iter().all(small)).then_some(())
}
