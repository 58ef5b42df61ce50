//! The verifier: after it, running a program cannot go wrong.

use super::format::{INSTRUCTION_WORDS, PLAINTEXT_WORDS, SECTIONS, Section};
use super::instruction::{Instruction, Operation, PlainForm, Plaintext, Transform};
use super::view::{Buffer, Program};
use crate::ckks::Scale;
use crate::keys::KeyKind;
use crate::params::{ParamError, ParamSet};
use crate::wire::{WireError, slice_at, u32_at};
use heapless::Vec;

/// Most ciphertext buffers of a program.
pub const MAX_BUFFERS: usize = 128;

/// Why a program is refused.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ProgramError {
    /// Header, length or digest.
    File(WireError),
    /// The parameter set.
    Params(ParamError),
    /// The header names another parameter set than the program holds.
    Fingerprint,
    /// A section lies outside the file or is malformed.
    Section {
        /// Which.
        section: Section,
    },
    /// Buffer, table, cache or scratch rows do not fit the memory plan.
    Plan {
        /// Rows needed.
        need: usize,
        /// Rows planned.
        have: usize,
    },
    /// A plaintext descriptor is malformed or its data has the wrong length.
    Plaintext {
        /// Its index.
        index: usize,
    },
    /// An instruction is malformed.
    Instruction {
        /// Its index.
        index: usize,
    },
    /// An instruction reads a buffer that holds nothing or was overwritten.
    Undefined {
        /// The instruction; one past the last for an output.
        index: usize,
        /// The buffer.
        buffer: usize,
    },
    /// An instruction's operands have too few limbs.
    Level {
        /// The instruction; one past the last for an output.
        index: usize,
        /// Limbs needed.
        need: usize,
        /// Limbs there.
        have: usize,
    },
    /// Operands or result of an instruction have another scale than planned.
    Scale {
        /// The instruction; one past the last for an output.
        index: usize,
    },
    /// The scale leaves no room for a message below the modulus.
    Headroom {
        /// The instruction.
        index: usize,
    },
    /// A result would overwrite an operand that is still read.
    Aliasing {
        /// The instruction.
        index: usize,
    },
    /// The manifest lacks a key that an instruction uses.
    Manifest {
        /// The instruction.
        index: usize,
        /// The key.
        kind: KeyKind,
        /// Limbs needed.
        limbs: usize,
    },
    /// More buffers than the kernel tracks.
    TooManyBuffers {
        /// Buffers of the program.
        buffers: usize,
    },
}

impl From<WireError> for ProgramError {
    fn from(error: WireError) -> Self {
        Self::File(error)
    }
}

impl From<ParamError> for ProgramError {
    fn from(error: ParamError) -> Self {
        Self::Params(error)
    }
}

impl core::fmt::Display for ProgramError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::File(error) => error.fmt(f),
            Self::Params(error) => error.fmt(f),
            Self::Fingerprint => write!(f, "the header names another parameter set than the program holds"),
            Self::Section { section } => write!(f, "section {section:?} is malformed"),
            Self::Plan { need, have } => write!(f, "the memory plan has {have} rows where {need} are needed"),
            Self::Plaintext { index } => write!(f, "plaintext {index} is malformed"),
            Self::Instruction { index } => write!(f, "instruction {index} is malformed"),
            Self::Undefined { index, buffer } => {
                write!(f, "instruction {index} reads buffer {buffer}, which holds nothing")
            }
            Self::Level { index, need, have } => write!(f, "instruction {index} needs {need} limbs and has {have}"),
            Self::Scale { index } => write!(f, "the scales of instruction {index} do not meet"),
            Self::Headroom { index } => write!(f, "the scale of instruction {index} exceeds its modulus"),
            Self::Aliasing { index } => write!(f, "instruction {index} overwrites its own operand"),
            Self::Manifest { index, kind, limbs } => {
                write!(f, "instruction {index} uses the {kind} at {limbs} limbs, which the manifest lacks")
            }
            Self::TooManyBuffers { buffers } => write!(f, "{buffers} buffers; the kernel tracks {MAX_BUFFERS}"),
        }
    }
}

impl core::error::Error for ProgramError {}

/// What a buffer holds while the program is walked through.
#[derive(Clone, Copy)]
struct State {
    limbs: usize,
    scale: Scale,
}

struct Walk<'p, 'a> {
    program: &'p Program<'a>,
    set: &'p ParamSet,
    states: Vec<Option<State>, MAX_BUFFERS>,
}

pub(super) fn verify(program: &Program<'_>) -> Result<(), ProgramError> {
    sections(program)?;
    let set = program.set();
    let limbs = program.limbs();
    if limbs == 0 || limbs > set.limbs() {
        return Err(ProgramError::Level { index: 0, need: limbs, have: set.limbs() });
    }
    let have = program.arena_rows;
    let work = have.checked_sub(program.table_rows()).ok_or(ProgramError::Plan { need: program.table_rows(), have })?;
    if program.buffers() > MAX_BUFFERS {
        return Err(ProgramError::TooManyBuffers { buffers: program.buffers() });
    }
    let mut states = Vec::new();
    for i in 0..program.buffers() {
        let buffer = program.buffer(i).ok_or(ProgramError::Section { section: Section::Buffers })?;
        let need = end(&buffer).ok_or(ProgramError::Section { section: Section::Buffers })?;
        if buffer.limbs == 0 || buffer.limbs > limbs || need > program.scratch_row || program.scratch_row > work {
            return Err(ProgramError::Plan { need, have: program.scratch_row.min(work) });
        }
        // Cannot fail: the number of buffers was checked.
        let _ = states.push(None);
    }
    for i in 0..program.keys() {
        let request = program.key(i).ok_or(ProgramError::Section { section: Section::Manifest })?;
        let rotation = request.kind.code() as usize;
        if request.limbs == 0 || request.limbs > limbs || rotation >= set.n() {
            return Err(ProgramError::Section { section: Section::Manifest });
        }
    }
    plaintexts(program)?;
    let mut walk = Walk { program, set, states };
    for i in 0..program.inputs() {
        let port = program.input(i).ok_or(ProgramError::Section { section: Section::Inputs })?;
        walk.define(0, port.buffer, State { limbs: port.limbs, scale: port.scale })?;
    }
    for index in 0..program.instructions() {
        let instruction = program.instruction(index).ok_or(ProgramError::Instruction { index })?;
        walk.step(index, &instruction)?;
        let need = program.scratch(&instruction, 1).end;
        if need > work {
            return Err(ProgramError::Plan { need, have: work });
        }
    }
    let index = program.instructions();
    for i in 0..program.outputs() {
        let port = program.output(i).ok_or(ProgramError::Section { section: Section::Outputs })?;
        let state = walk.state(index, port.buffer)?;
        if state.limbs != port.limbs {
            return Err(ProgramError::Level { index, need: port.limbs, have: state.limbs });
        }
        if state.scale != port.scale {
            return Err(ProgramError::Scale { index });
        }
    }
    Ok(())
}

/// Every section inside the file, of whole records; every name valid text.
fn sections(program: &Program<'_>) -> Result<(), ProgramError> {
    use Section::*;
    let list = [
        (Params, 1),
        (Manifest, 2),
        (Buffers, 2),
        (Inputs, 4),
        (Outputs, 4),
        (Instructions, INSTRUCTION_WORDS),
        (Tables, 1),
        (Plaintexts, PLAINTEXT_WORDS),
        (Data, 0),
        (Names, 2),
        (Text, 0),
        (Meta, 0),
    ];
    const { assert!(SECTIONS == 12) };
    for (section, words) in list {
        let bytes = program.sections.find(section as usize).ok_or(ProgramError::Section { section })?;
        let record = if words == 0 { 1 } else { words << 2 };
        if bytes.len().checked_rem(record) != Some(0) {
            return Err(ProgramError::Section { section });
        }
    }
    for (section, ports) in [(Inputs, program.inputs()), (Outputs, program.outputs())] {
        if ports == 0 || ports > MAX_BUFFERS {
            return Err(ProgramError::Section { section });
        }
    }
    if (0..program.layers()).any(|i| program.name(i).is_none()) {
        return Err(ProgramError::Section { section: Names });
    }
    Ok(())
}

fn plaintexts(program: &Program<'_>) -> Result<(), ProgramError> {
    let set = program.set();
    let mut row = 0usize;
    for index in 0..program.plaintexts() {
        let plain = program.plaintext(index).ok_or(ProgramError::Plaintext { index })?;
        let rows = plain.rows(set.special());
        let length_fits = match plain.form {
            PlainForm::Scalar(_) => true,
            PlainForm::Compact { bytes, wide } => bytes.len() == set.n() << if wide { 2 } else { 1 },
            PlainForm::Ntt { bytes } => bytes.len() == rows.wrapping_mul(set.n() << 2),
        };
        if !length_fits || plain.limbs == 0 || plain.limbs > program.limbs() {
            return Err(ProgramError::Plaintext { index });
        }
        if plain.cache_row != row || !reduced(&plain, set) {
            return Err(ProgramError::Plaintext { index });
        }
        row = row.wrapping_add(plain.cache_rows(set.special()));
    }
    if row != program.cache_rows {
        return Err(ProgramError::Plan { need: row, have: program.cache_rows });
    }
    Ok(())
}

/// Whether every word of a plaintext in the Ntt form is below its prime.
fn reduced(plain: &Plaintext<'_>, set: &ParamSet) -> bool {
    let PlainForm::Ntt { bytes } = plain.form else { return true };
    let len = set.n() << 2;
    let special = if plain.special { set.special() } else { 0 };
    (0..plain.limbs.wrapping_add(special)).all(|t| {
        let (m, row) = (set.modulus(plain.limbs, t), slice_at(bytes, t.wrapping_mul(len), len));
        m.zip(row).is_some_and(|(m, row)| row.as_chunks::<4>().0.iter().all(|w| u32::from_le_bytes(*w) < m.value()))
    })
}

fn end(buffer: &Buffer) -> Option<usize> {
    buffer.row.checked_add(buffer.limbs.checked_mul(2)?)
}

fn overlap(a: &Buffer, b: &Buffer) -> bool {
    match (end(a), end(b)) {
        (Some(end_a), Some(end_b)) => a.row < end_b && b.row < end_a,
        _ => true,
    }
}

impl Walk<'_, '_> {
    fn state(&self, index: usize, buffer: usize) -> Result<State, ProgramError> {
        self.states.get(buffer).copied().flatten().ok_or(ProgramError::Undefined { index, buffer })
    }

    fn buffer(&self, index: usize, buffer: usize) -> Result<Buffer, ProgramError> {
        self.program.buffer(buffer).ok_or(ProgramError::Instruction { index })
    }

    /// Operand at the instruction's level.
    fn operand(&self, index: usize, buffer: usize, limbs: usize) -> Result<Scale, ProgramError> {
        let state = self.state(index, buffer)?;
        if state.limbs < limbs {
            return Err(ProgramError::Level { index, need: limbs, have: state.limbs });
        }
        Ok(state.scale)
    }

    /// Defines a buffer; every buffer that shares a row with it is lost.
    fn define(&mut self, index: usize, buffer: usize, state: State) -> Result<(), ProgramError> {
        let place = self.buffer(index, buffer)?;
        if state.limbs == 0 || state.limbs > place.limbs {
            return Err(ProgramError::Level { index, need: state.limbs, have: place.limbs });
        }
        if state.scale.log2() >= self.set.log_modulus(state.limbs, false) - 1.0 {
            return Err(ProgramError::Headroom { index });
        }
        for other in 0..self.states.len() {
            let lost = self.program.buffer(other).is_none_or(|b| overlap(&b, &place));
            if lost && let Some(slot) = self.states.get_mut(other) {
                *slot = None;
            }
        }
        if let Some(slot) = self.states.get_mut(buffer) {
            *slot = Some(state);
        }
        Ok(())
    }

    /// An instruction that works row by row may overwrite its first operand exactly, and nothing else.
    fn row_wise(&self, index: usize, dst: usize, first: usize, second: Option<usize>) -> Result<(), ProgramError> {
        let place = self.buffer(index, dst)?;
        let clashes = |other: usize| self.buffer(index, other).map(|b| overlap(&place, &b));
        if (dst != first && clashes(first)?) || second.map_or(Ok(false), clashes)? {
            return Err(ProgramError::Aliasing { index });
        }
        Ok(())
    }

    fn key(&self, index: usize, kind: KeyKind, limbs: usize) -> Result<(), ProgramError> {
        let found = (0..self.program.keys())
            .filter_map(|i| self.program.key(i))
            .any(|request| request.kind == kind && request.limbs >= limbs);
        if found { Ok(()) } else { Err(ProgramError::Manifest { index, kind, limbs }) }
    }

    fn rotation(&self, index: usize, rotation: u32, limbs: usize) -> Result<(), ProgramError> {
        if rotation == 0 || rotation as usize >= self.set.n() {
            return Err(ProgramError::Instruction { index });
        }
        self.key(index, KeyKind::Rotation(rotation), limbs)
    }

    fn plain(&self, index: usize, plain: usize, limbs: usize, special: bool) -> Result<Plaintext<'_>, ProgramError> {
        let p = self.program.plaintext(plain).ok_or(ProgramError::Instruction { index })?;
        if p.limbs < limbs || (special && !p.special) {
            return Err(ProgramError::Level { index, need: limbs, have: p.limbs });
        }
        Ok(p)
    }

    /// The scale of the results before a rescale.
    fn transform(&self, index: usize, limbs: usize, transform: &Transform<'_>) -> Result<Scale, ProgramError> {
        let malformed = ProgramError::Instruction { index };
        let (sources, babies, giants) = (transform.sources(), transform.babies(), transform.giants());
        let lists_fit = (1..=MAX_BUFFERS).contains(&sources)
            && (1..=MAX_BUFFERS).contains(&transform.outputs())
            && transform.resting_giants() <= giants;
        if !lists_fit {
            return Err(malformed);
        }
        // Of each source its scale and the end of its baby steps.
        let mut scales: Vec<(Scale, usize), MAX_BUFFERS> = Vec::new();
        let mut previous = 0usize;
        for s in 0..sources {
            let (buffer, range) = transform.source(s).ok_or(malformed)?;
            if range.is_empty() || range.end > babies {
                return Err(malformed);
            }
            previous = range.end;
            scales.push((self.operand(index, buffer, limbs)?, range.end)).map_err(|_| malformed)?;
        }
        if previous != babies {
            return Err(malformed);
        }
        for i in 0..babies {
            let rotation = transform.baby(i).ok_or(malformed)?;
            if rotation != 0 {
                self.rotation(index, rotation, limbs)?;
            }
        }
        let mut common: Option<Scale> = None;
        let mut written: Vec<bool, MAX_BUFFERS> = Vec::new();
        written.resize(transform.outputs(), false).map_err(|_| malformed)?;
        let (mut previous, mut previous_output) = (0usize, 0usize);
        for g in 0..giants {
            let giant = transform.giant(g).ok_or(malformed)?;
            let rests = g < transform.resting_giants();
            let seen = written.get_mut(giant.output).ok_or(malformed)?;
            // A resting giant step's sum is formed in the result's accumulator itself.
            if rests != (giant.rotation == 0) || (rests && *seen) {
                return Err(malformed);
            }
            *seen = true;
            if !rests {
                if giant.output < previous_output {
                    return Err(malformed);
                }
                previous_output = giant.output;
                self.rotation(index, giant.rotation, limbs)?;
            }
            if giant.terms.is_empty() {
                return Err(malformed);
            }
            previous = giant.terms.end;
            let mut after = 0usize;
            let mut source = scales.iter();
            let mut of = source.next().ok_or(malformed)?;
            for i in giant.terms {
                let (baby, plain) = transform.term(i).ok_or(malformed)?;
                if baby < after || baby >= babies {
                    return Err(malformed);
                }
                after = baby.wrapping_add(1);
                while baby >= of.1 {
                    of = source.next().ok_or(malformed)?;
                }
                let mismatch = ProgramError::Scale { index };
                let scale = of.0.product(self.plain(index, plain, limbs, true)?.scale).ok_or(mismatch)?;
                if common.is_some_and(|common| common != scale) {
                    return Err(mismatch);
                }
                common = Some(scale);
            }
        }
        if previous != transform.terms() || written.contains(&false) {
            return Err(malformed);
        }
        common.ok_or(malformed)
    }

    fn step(&mut self, index: usize, instruction: &Instruction<'_>) -> Result<(), ProgramError> {
        let limbs = instruction.limbs;
        let mismatch = ProgramError::Scale { index };
        let malformed = ProgramError::Instruction { index };
        if instruction.layer >= self.program.layers() {
            return Err(malformed);
        }
        if limbs == 0 || limbs > self.program.limbs() || limbs <= usize::from(instruction.rescale) {
            return Err(ProgramError::Level { index, need: limbs, have: self.program.limbs() });
        }
        let product = match instruction.operation {
            Operation::LinearTransform { transform } => Some(self.transform(index, limbs, &transform)?),
            Operation::RotateSum { src, rotations, .. } => {
                if rotations.is_empty() || rotations.len() & 3 != 0 {
                    return Err(malformed);
                }
                for i in 0..rotations.len() >> 2 {
                    self.rotation(index, u32_at(rotations, i << 2).ok_or(malformed)?, limbs)?;
                }
                Some(self.operand(index, src, limbs)?)
            }
            Operation::MulPlain { src, plain } => {
                let scale = self.operand(index, src, limbs)?;
                self.row_wise(index, instruction.dst, src, None)?;
                scale.product(self.plain(index, plain, limbs, false)?.scale)
            }
            Operation::AddPlain { src, plain } => {
                let scale = self.operand(index, src, limbs)?;
                self.row_wise(index, instruction.dst, src, None)?;
                if self.plain(index, plain, limbs, false)?.scale != scale || instruction.rescale {
                    return Err(mismatch);
                }
                Some(scale)
            }
            Operation::Add { a, b } => {
                let scale = self.operand(index, a, limbs)?;
                self.row_wise(index, instruction.dst, a, Some(b))?;
                if self.operand(index, b, limbs)? != scale || instruction.rescale {
                    return Err(mismatch);
                }
                Some(scale)
            }
            Operation::Mul { a, b } => {
                self.key(index, KeyKind::Relin, limbs)?;
                self.operand(index, a, limbs)?.product(self.operand(index, b, limbs)?)
            }
            Operation::Rescale { src } => {
                if !instruction.rescale {
                    return Err(malformed);
                }
                Some(self.operand(index, src, limbs)?)
            }
        };
        let mut result = product.ok_or(mismatch)?;
        let mut left = limbs;
        if instruction.rescale {
            left = limbs.wrapping_sub(1);
            let q = self.set.q().get(left).copied().ok_or(malformed)?;
            // The product itself must fit before it is divided.
            if result.log2() >= self.set.log_modulus(limbs, false) - 1.0 {
                return Err(ProgramError::Headroom { index });
            }
            result = result.rescaled(q).ok_or(mismatch)?;
        }
        if result != instruction.scale {
            return Err(mismatch);
        }
        if instruction.results().next() != Some(instruction.dst) {
            return Err(malformed);
        }
        let state = State { limbs: left, scale: result };
        for (dst, before) in instruction.results().zip(0usize..MAX_BUFFERS) {
            let place = self.buffer(index, dst)?;
            let mut others = instruction.results().take(before).filter_map(|other| self.program.buffer(other));
            if others.any(|other| overlap(&place, &other)) {
                return Err(ProgramError::Aliasing { index });
            }
            self.define(index, dst, state)?;
        }
        Ok(())
    }
}
