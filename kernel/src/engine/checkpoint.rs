//! Checkpoints: the state of an engine between two steps as bytes, to go on elsewhere or after a loss of power.

use super::{Counts, Engine, EngineError, State};
use crate::keys::KeySource;
use crate::layers::Job;
use crate::math::Backend;
use crate::program::{Buffer, Instruction, MAX_BUFFERS, Program};
use crate::scratch::RowFault;
use crate::wire::checkpoint::checkpoint_bytes;
use crate::wire::{CheckpointHeader, Stage, WireError, load_words, slice_at, store_words};

/// Where an engine stands, for any backend, cache and number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    stage: Stage,
    /// The instruction, or the number of all.
    index: usize,
    phase: usize,
    /// The next pass, counted as without a plaintext cache.
    pass: usize,
}

impl Position {
    fn before(index: usize) -> Self {
        Self { stage: Stage::Before, index, phase: 0, pass: 0 }
    }

    /// Whether nothing of the program was executed.
    pub(super) fn is_start(&self) -> bool {
        *self == Self::before(0)
    }

    /// Whether the program has this position.
    fn check(&self, program: &Program<'_>) -> Result<(), WireError> {
        let total = program.instructions();
        let field = |offset, fits| if fits { Ok(()) } else { Err(WireError::Field { offset }) };
        if self.stage != Stage::Within {
            let fits = if self.stage == Stage::Done { self.index == total } else { self.index <= total };
            field(100, fits)?;
            field(104, self.phase == 0)?;
            return field(108, self.pass == 0);
        }
        let instruction = program.instruction(self.index).ok_or(WireError::Field { offset: 100 })?;
        let job = Job::new(*program, instruction, 0, 1);
        let (_, passes) = job.phase(self.phase).ok_or(WireError::Field { offset: 104 })?;
        field(108, self.pass < passes)
    }

    /// Whether passes of the unit under way were executed, and whether something is being divided.
    fn progress(&self, program: &Program<'_>, instruction: &Instruction<'_>) -> (bool, bool) {
        let job = Job::new(*program, *instruction, 0, 1);
        let phase = job.phase(self.phase);
        phase.map_or((false, false), |(phase, _)| (job.in_unit(phase, self.pass), job.divides(phase, self.phase)))
    }

    /// Calls `visit` with every row whose content matters from here on, in file order, and with the bound of its words.
    ///
    /// # Errors
    /// Those of `visit`.
    fn rows<E>(
        &self,
        program: &Program<'_>,
        workers: usize,
        inputs: u128,
        mut visit: impl FnMut(usize, u32) -> Result<(), E>,
    ) -> Result<(), E> {
        let under_way = match self.stage {
            Stage::Within => program.instruction(self.index),
            Stage::Before | Stage::Done => None,
        };
        let live = live(program, self.index);
        let held = held(program, self.index, inputs);
        let buffers = (0..program.buffers()).zip(held);
        for (b, place, held) in buffers.filter_map(|(b, held)| Some((b, program.buffer(b)?, held))) {
            let mut limbs = if live & bit(b) == 0 { 0 } else { held };
            let mut known = true;
            if let Some(instruction) = &under_way {
                // Part of the result is there, over whatever was in its rows.
                let is_result = instruction.results().any(|dst| dst == b);
                if is_result && limbs == 0 {
                    (limbs, known) = (instruction.result_limbs(), false);
                } else if !is_result {
                    let lost = |dst| program.buffer(dst).is_none_or(|dst| overlap(&dst, &place));
                    known = !instruction.results().any(lost);
                }
            }
            for first in [place.row, place.row.wrapping_add(place.limbs)] {
                for t in 0..limbs {
                    let q = program.set().q().get(t).copied().filter(|_| known);
                    visit(first.wrapping_add(t), q.unwrap_or(u32::MAX))?;
                }
            }
        }
        if let Some(instruction) = &under_way {
            let (in_unit, dividing) = self.progress(program, instruction);
            let scratch = program.scratch(instruction, workers);
            for (first, rows) in scratch.state(instruction, program.set(), in_unit, dividing) {
                for row in 0..rows {
                    visit(first.wrapping_add(row), u32::MAX)?;
                }
            }
        }
        Ok(())
    }

    fn count(&self, program: &Program<'_>, inputs: u128) -> usize {
        let mut rows = 0usize;
        let _ = self.rows(program, 1, inputs, |_, _| {
            rows = rows.wrapping_add(1);
            Ok::<(), ()>(())
        });
        rows
    }
}

fn bit(i: usize) -> u128 {
    1u128.checked_shl(i as u32).unwrap_or(0)
}

fn overlap(a: &Buffer, b: &Buffer) -> bool {
    let end = |b: &Buffer| b.row.wrapping_add(b.limbs << 1);
    a.row < end(b) && b.row < end(a)
}

/// The buffers that are read from instruction `index` on before they are written, one bit each.
fn live(program: &Program<'_>, index: usize) -> u128 {
    let outputs = (0..program.outputs()).filter_map(|i| program.output(i));
    let end = outputs.fold(0, |live, port| live | bit(port.buffer));
    (index..program.instructions()).rev().filter_map(|i| program.instruction(i)).fold(end, |live, instruction| {
        let after = instruction.results().fold(live, |live, b| live & !bit(b));
        instruction.operation.sources().fold(after, |live, b| live | bit(b))
    })
}

/// Limbs of what each buffer was last given before instruction `index`.
fn held(program: &Program<'_>, index: usize, inputs: u128) -> [usize; MAX_BUFFERS] {
    let mut held = [0; MAX_BUFFERS];
    let mut define = |buffer: usize, limbs: usize| {
        if let Some(slot) = held.get_mut(buffer) {
            *slot = limbs;
        }
    };
    for port in (0..program.inputs()).filter(|&i| inputs & bit(i) != 0).filter_map(|i| program.input(i)) {
        define(port.buffer, port.limbs);
    }
    for instruction in (0..index).filter_map(|i| program.instruction(i)) {
        instruction.results().for_each(|dst| define(dst, instruction.result_limbs()));
    }
    held
}

impl Program<'_> {
    /// Bytes of the largest checkpoint that an engine makes of this program.
    pub fn checkpoint_bytes(&self) -> usize {
        let all = u128::MAX;
        let within = |(index, instruction): (usize, Instruction<'_>)| {
            let job = Job::new(*self, instruction, 0, 1);
            // In the middle of a unit, where an instruction has such.
            let deepest = |phase| {
                let passes = job.phase(phase)?.1;
                Some(Position { stage: Stage::Within, index, phase, pass: passes.saturating_sub(1) }.count(self, all))
            };
            (0usize..usize::MAX).map_while(deepest).max().unwrap_or(0)
        };
        let instructions = (0..self.instructions()).filter_map(|i| Some((i, self.instruction(i)?)));
        let before = Position::before(0).count(self, all);
        checkpoint_bytes(instructions.map(within).max().unwrap_or(0).max(before), self.set().n())
    }
}

impl<'p, K: KeySource, B: Backend> Engine<'p, '_, K, B> {
    /// Where the engine stands; tables and cache that are being built count as the start of the program.
    fn position(&self) -> Result<Position, EngineError> {
        if let Some(position) = self.pending {
            return Ok(position);
        }
        Ok(match self.state {
            State::Tables(_) | State::Cache(..) => Position::before(0),
            State::Fetch(index) => Position::before(index),
            State::Execute { index, job, phase, phase_index, pass, .. } => {
                let pass = job.uncached_pass(phase, pass).ok_or(RowFault { row: pass, rows: 0 })?;
                Position { stage: Stage::Within, index, phase: phase_index, pass }
            }
            State::Done => Position { stage: Stage::Done, ..Position::before(self.program.instructions()) },
            State::Failed(error) => return Err(error),
        })
    }

    fn input_bits(&self) -> u128 {
        (0..MAX_BUFFERS).zip(&self.inputs).filter(|(_, set)| **set).fold(0, |bits, (i, _)| bits | bit(i))
    }

    /// Bytes of a [`checkpoint`](Self::checkpoint) made now; never more than [`Program::checkpoint_bytes`].
    ///
    /// # Errors
    /// The error of an engine that has failed.
    pub fn checkpoint_bytes(&self) -> Result<usize, EngineError> {
        let rows = self.position()?.count(&self.program, self.input_bits());
        Ok(checkpoint_bytes(rows, self.set.n()))
    }

    /// Writes the state between two steps as a checkpoint file and returns its length: position, counts and the rows
    /// that are still needed. Tables and plaintext cache are not in it.
    ///
    /// It is as confidential as the ciphertexts: without the secret key it tells nothing about the image.
    ///
    /// # Errors
    /// [`EngineError::CheckpointTooSmall`], with `bytes` unchanged, or the error of an engine that has failed.
    pub fn checkpoint(&self, bytes: &mut [u8]) -> Result<usize, EngineError> {
        let (position, inputs) = (self.position()?, self.input_bits());
        let Counts { ntts, plain_ntts, key_switches, rotations, plain_products, passes } = self.counts;
        let header = CheckpointHeader {
            set: self.set.fingerprint(),
            key_id: self.keys.key_id(),
            program: self.program.fingerprint(),
            stage: position.stage,
            instruction: position.index as u32,
            phase: position.phase as u32,
            pass: position.pass as u32,
            inputs,
            log_n: self.set.log_n(),
            rows: position.count(&self.program, inputs) as u32,
            counts: [ntts, plain_ntts, key_switches, rotations, plain_products, passes],
        };
        let (need, have) = (header.file_bytes(), bytes.len());
        let bytes = bytes.get_mut(..need).ok_or(EngineError::CheckpointTooSmall { need, have })?;
        header.write(bytes, |mut rest: &mut [u8]| {
            position.rows(&self.program, self.workers, inputs, |row, _| {
                let fault = RowFault { row, rows: 1 };
                let (out, tail) = core::mem::take(&mut rest).split_at_mut_checked(header.row_bytes()).ok_or(fault)?;
                store_words(out, self.work.read(row, 1)?);
                rest = tail;
                Ok::<(), EngineError>(())
            })
        })?;
        Ok(need)
    }

    /// Goes on where an engine for the same program and keys made a checkpoint, on any target, backend and number of
    /// workers, with or without a plaintext cache: the outputs are the same bits. What the engine did before is lost.
    ///
    /// Tables and cache are built first if they are not there, by steps.
    ///
    /// # Errors
    /// [`EngineError::Checkpoint`] for a file that is damaged, for another set, or at a position that the program does not
    /// have, [`EngineError::OtherProgram`], [`EngineError::WrongKey`]. The engine is then unchanged.
    pub fn resume(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let (header, rows) = CheckpointHeader::read(bytes).map_err(EngineError::Checkpoint)?;
        if header.set != self.set.fingerprint() || header.log_n != self.set.log_n() {
            return Err(EngineError::Checkpoint(WireError::Set));
        }
        if header.program != self.program.fingerprint() {
            return Err(EngineError::OtherProgram);
        }
        if header.key_id != self.keys.key_id() {
            return Err(EngineError::WrongKey);
        }
        let position = Position {
            stage: header.stage,
            index: header.instruction as usize,
            phase: header.phase as usize,
            pass: header.pass as usize,
        };
        position.check(&self.program).map_err(EngineError::Checkpoint)?;
        let known = (0..self.program.inputs()).fold(0, |bits, i| bits | bit(i));
        let inputs = header.inputs;
        if inputs & !known != 0 || (inputs != known && !position.is_start()) {
            return Err(EngineError::Checkpoint(WireError::Field { offset: 112 }));
        }
        if header.rows as usize != position.count(&self.program, inputs) {
            return Err(EngineError::Checkpoint(WireError::Field { offset: 124 }));
        }
        self.check_rows(&position, inputs, rows, bytes.len().wrapping_sub(rows.len()))?;
        self.reset();
        let mut at = 0usize;
        position.rows(&self.program, self.workers, inputs, |row, _| {
            let len = header.row_bytes();
            load_words(self.work.write(row, 1)?, slice_at(rows, at, len).unwrap_or(&[]));
            at = at.wrapping_add(len);
            Ok::<(), EngineError>(())
        })?;
        for (i, set) in (0..MAX_BUFFERS).zip(self.inputs.iter_mut()) {
            *set = inputs & bit(i) != 0;
        }
        let [ntts, plain_ntts, key_switches, rotations, plain_products, passes] = header.counts;
        self.counts = Counts { ntts, plain_ntts, key_switches, rotations, plain_products, passes };
        self.pending = Some(position);
        if self.prepared {
            self.begin();
        }
        Ok(())
    }

    /// Checks that the residues of all ciphertexts are below their primes; `offset` is the first row's in the file.
    fn check_rows(&self, position: &Position, inputs: u128, rows: &[u8], offset: usize) -> Result<(), EngineError> {
        let len = self.set.n() << 2;
        let mut at = 0usize;
        position.rows(&self.program, self.workers, inputs, |_, bound| {
            let words = slice_at(rows, at, len).unwrap_or(&[]).as_chunks::<4>().0;
            if bound != u32::MAX && words.iter().any(|word| u32::from_le_bytes(*word) >= bound) {
                let offset = offset.wrapping_add(at) as u64;
                return Err(EngineError::Checkpoint(WireError::Field { offset }));
            }
            at = at.wrapping_add(len);
            Ok(())
        })
    }

    /// Leaves preparation: for the start of the program, or for the position of a checkpoint.
    pub(super) fn begin(&mut self) {
        let Some(position) = self.pending.take() else {
            self.state = State::Fetch(0);
            return;
        };
        self.state = match position.stage {
            Stage::Before => State::Fetch(position.index),
            Stage::Done => State::Done,
            // The position was checked; should it not exist all the same, nothing runs.
            Stage::Within => {
                self.within(&position).unwrap_or(State::Failed(RowFault { row: position.index, rows: 0 }.into()))
            }
        };
    }

    fn within(&self, position: &Position) -> Option<State<'p>> {
        let Position { index, phase: phase_index, pass, .. } = *position;
        // To the end of the instruction without the cache: a sum may have been begun.
        let job = Job::new(self.program, self.program.instruction(index)?, 0, self.workers);
        let (phase, passes) = job.phase(phase_index)?;
        Some(State::Execute { index, job, phase, phase_index, passes, pass })
    }
}
