//! The batch engine: takes in inputs row by row and gives out outputs as they become ready.

use super::passes::Job;
use super::program::{BatchProgram, Cells, Instruction, Operation};
use crate::ckks::Scale;
use crate::engine::{EngineError, check_keys, words_of};
use crate::keys::{KeySource, Stream, expand_uniform};
use crate::math::{Backend, Detected, build_table};
use crate::parallel::Parallel;
use crate::params::ParamSet;
use crate::scratch::{RowFault, Tables, Work, Workspace};
use crate::wire::{CiphertextHeader, CiphertextView, Role, WireError, load_words, store_words};
use core::ops::Range;

/// What a step did, or waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchProgress<'p> {
    /// These inputs are to be set, in their order, before the next step.
    Inputs(Range<usize>),
    /// These outputs are ready, until the next step.
    Outputs(Range<usize>),
    /// An instruction is being executed.
    Running {
        /// The layer's name.
        layer: &'p str,
        /// The instruction.
        instruction: usize,
        /// Instructions in all.
        total: usize,
    },
    /// All outputs have been given out.
    Done,
}

/// Exact counts of a batch engine's work since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BatchCounts {
    /// Products of a word with a weight.
    pub products: u64,
    /// Forward and inverse transforms of one limb.
    pub ntts: u64,
    /// Relinearisations.
    pub key_switches: u64,
    /// Products of two ciphertexts.
    pub multiplications: u64,
    /// Ciphertexts that were taken in.
    pub inputs: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waits for input `.0`, the next of the current instruction.
    Load(usize),
    /// The next pass of the current instruction, as unit and pass.
    Execute(usize, usize),
    /// The current instruction's outputs are ready; whether that has been said.
    Store(bool),
    Done,
    /// A key was missing or damaged; only a reset leaves this state.
    Failed(EngineError),
}

/// An encrypted evaluation of up to N images in caller-provided memory.
///
/// Scratch: [`BatchProgram::arena_bytes`] of arena. It may be a mapped file: what lies there is ciphertexts.
pub struct BatchEngine<'p, 'm, K, B = Detected> {
    program: BatchProgram<'p>,
    keys: K,
    set: ParamSet,
    backend: B,
    tables: Tables<'m>,
    work: Work<'m>,
    workers: usize,
    worker_rows: usize,
    index: usize,
    state: State,
    counts: BatchCounts,
}

impl<'p, 'm, K: KeySource, B: Backend> BatchEngine<'p, 'm, K, B> {
    /// An engine for up to `workers` threads over an arena of at least [`BatchProgram::arena_bytes`] bytes, aligned to
    /// 4. Builds the transform tables.
    ///
    /// # Errors
    /// [`EngineError::ArenaTooSmall`], [`EngineError::Misaligned`], or a key bundle that is not for this program: other
    /// set, or a key of the manifest missing.
    pub fn new(
        program: BatchProgram<'p>,
        keys: K,
        arena: &'m mut [u8],
        backend: B,
        workers: usize,
    ) -> Result<Self, EngineError> {
        let workers = workers.max(1);
        let (need, have) = (program.arena_bytes(workers), arena.len());
        let too_small = EngineError::ArenaTooSmall { need, have };
        let words = words_of(arena.get_mut(..need).ok_or(too_small)?)?;
        check_keys(&keys, program.set(), (0..program.keys()).filter_map(|i| program.key(i)))?;
        let (n, limbs, set) = (program.set().n(), program.limbs(), *program.set());
        let (tables, work) = words.split_at_mut_checked(program.table_rows().wrapping_mul(n)).ok_or(too_small)?;
        let mut tables = Tables::new(tables, n, limbs);
        for t in 0..limbs.wrapping_add(set.special()) {
            let fault = RowFault { row: t, rows: 0 };
            let m = set.modulus(limbs, t).ok_or(fault)?;
            let i = tables.index(limbs, t);
            let slot = tables.slot(i).ok_or(fault)?;
            build_table(slot, &m, set.log_n()).ok_or(fault)?;
        }
        let mut engine = Self {
            program,
            keys,
            set,
            backend,
            tables,
            work: Work::new(work, n),
            workers,
            worker_rows: program.worker_rows(),
            index: 0,
            state: State::Done,
            counts: BatchCounts::default(),
        };
        engine.reset();
        Ok(engine)
    }

    /// The program.
    pub fn program(&self) -> &BatchProgram<'p> {
        &self.program
    }

    /// Name of the backend in use.
    pub fn backend(&self) -> &'static str {
        self.backend.name()
    }

    /// Exact counts of the work since the last reset.
    pub fn counts(&self) -> BatchCounts {
        self.counts
    }

    /// Starts over for another batch.
    pub fn reset(&mut self) {
        self.counts = BatchCounts::default();
        self.start(0);
    }

    /// The instruction that comes next, if none is under way.
    pub fn position(&self) -> Option<usize> {
        match self.state {
            State::Execute(0, 0) | State::Store(_) | State::Done => Some(self.index),
            State::Load(next) => {
                let first = self.instruction().map(|i| i.operation);
                matches!(first, Some(Operation::Load { first, .. }) if first == next).then_some(self.index)
            }
            _ => None,
        }
    }

    /// Rows of ciphertexts, `rows` from `row` on: with [`position`](Self::position) the state of the evaluation.
    ///
    /// # Errors
    /// Rows outside the plan.
    pub fn rows(&self, row: usize, rows: usize) -> Result<&[u32], EngineError> {
        Ok(self.work.read(row, rows)?)
    }

    /// Goes on at instruction `index`, after rows have been written back with [`rows_mut`](Self::rows_mut).
    ///
    /// # Errors
    /// [`EngineError::NotDone`] if the program has no such instruction.
    pub fn resume(&mut self, index: usize) -> Result<(), EngineError> {
        if index > self.program.instructions() {
            return Err(EngineError::NotDone);
        }
        self.start(index);
        Ok(())
    }

    /// The same rows, to be written. Words that are not below their primes give a wrong result, nothing worse.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn rows_mut(&mut self, row: usize, rows: usize) -> Result<&mut [u32], EngineError> {
        Ok(self.work.write(row, rows)?)
    }

    fn instruction(&self) -> Option<Instruction> {
        self.program.instruction(self.index)
    }

    fn start(&mut self, index: usize) {
        self.index = index;
        self.state = match self.instruction().map(|i| i.operation) {
            Some(Operation::Load { first, .. }) => State::Load(first),
            Some(Operation::Store { .. }) => State::Store(false),
            Some(_) => State::Execute(0, 0),
            None => State::Done,
        };
    }

    /// Adds what an instruction has done to the counts, and goes on to the next.
    fn finish(&mut self, instruction: &Instruction) {
        let l = instruction.limbs as u64;
        let count = instruction.count as u64;
        let (d, k) = (self.set.digits(instruction.limbs) as u64, self.set.special() as u64);
        match instruction.operation {
            Operation::Linear { groups: (first, number), from, .. } => {
                let words = l.wrapping_mul(from.polys as u64).wrapping_mul(self.set.n() as u64);
                let weights = (first..first.wrapping_add(number)).filter_map(|i| self.program.group(i));
                let weights = weights.fold(0u64, |sum, g| sum.wrapping_add(g.weights.len() as u64));
                self.counts.products = self.counts.products.wrapping_add(words.wrapping_mul(weights));
            }
            Operation::Mul { .. } => self.counts.multiplications = self.counts.multiplications.wrapping_add(count),
            Operation::Divide { from, .. } => {
                // Removed primes back, those that are left forward, for both components.
                let mut each = l << 1;
                if from.polys == 3 {
                    self.counts.key_switches = self.counts.key_switches.wrapping_add(count);
                    let t = l.wrapping_add(k);
                    each = t.wrapping_mul(d).wrapping_add(t << 1);
                }
                self.counts.ntts = self.counts.ntts.wrapping_add(each.wrapping_mul(count));
            }
            Operation::Load { .. } => self.counts.inputs = self.counts.inputs.wrapping_add(count),
            Operation::Store { .. } => {}
        }
        self.start(self.index.wrapping_add(1));
    }

    fn running(&self) -> BatchProgress<'p> {
        BatchProgress::Running {
            layer: self.instruction().map_or("", |i| self.program.layer_name(i.layer)),
            instruction: self.index,
            total: self.program.instructions(),
        }
    }

    /// Where to go on: inputs that are missing, outputs that are ready, or work to do.
    fn waiting(&self) -> Option<BatchProgress<'p>> {
        let count = self.instruction().map_or(0, |i| i.count);
        match (self.state, self.instruction().map(|i| i.operation)) {
            (State::Load(next), Some(Operation::Load { first, .. })) => {
                Some(BatchProgress::Inputs(next..first.wrapping_add(count)))
            }
            (State::Store(_), Some(Operation::Store { first, .. })) => {
                Some(BatchProgress::Outputs(first..first.wrapping_add(count)))
            }
            (State::Done, _) => Some(BatchProgress::Done),
            _ => None,
        }
    }

    /// What the engine waits for; none while there is work to do.
    pub fn wants(&self) -> Option<BatchProgress<'p>> {
        self.waiting()
    }

    /// The place of input `index`, its limbs and its scale.
    fn port(&self, index: usize) -> Option<(Cells, usize, Scale)> {
        let Instruction { limbs, count, scale, operation: Operation::Load { first, to }, .. } = self.instruction()?
        else {
            return None;
        };
        let i = index.checked_sub(first).filter(|&i| i < count)?;
        Some((Cells { row: to.at(i, 0, 0), ..to }, limbs, scale))
    }

    /// Loads the next input ciphertext file.
    ///
    /// # Errors
    /// As [`set_inputs_on`](Self::set_inputs_on).
    pub fn set_input(&mut self, bytes: &[u8]) -> Result<(), EngineError>
    where
        K: Sync,
    {
        self.set_inputs_on(&crate::parallel::Serial, &[bytes])
    }

    /// Loads the next input ciphertext files, one after the other or side by side.
    ///
    /// # Errors
    /// A file that is damaged, an output, for another parameter set, program or key, of another level or scale than
    /// the program expects, or not the next one ([`EngineError::InputMissing`] names that). Nothing is taken in.
    pub fn set_inputs_on<P: Parallel>(&mut self, pool: &P, files: &[&[u8]]) -> Result<(), EngineError>
    where
        K: Sync,
    {
        let now = (self.state, self.instruction(), self.waiting());
        let (State::Load(next), Some(instruction), Some(BatchProgress::Inputs(wanted))) = now else {
            return Err(EngineError::Started);
        };
        if files.len() > wanted.len() {
            return Err(EngineError::NotAnInput { index: wanted.end });
        }
        // The borrow of the workspace ends before the state changes.
        {
            let engine = &*self;
            let shared =
                InputCheck { set: engine.set, fingerprint: engine.program.fingerprint(), key_id: engine.keys.key_id() };
            let ports: (Cells, usize, Scale) = engine.port(next).ok_or(EngineError::NotAnInput { index: next })?;
            let Self { set, backend, tables, work, .. } = self;
            let mut ws = Workspace { set: *set, backend: *backend, tables, work: work.reborrow() };
            ws.for_each_unit(pool, files.len(), |i, _, ws| {
                let bytes = files.get(i).copied().unwrap_or(&[]);
                let (cells, limbs, scale) = ports;
                let cells = Cells { row: cells.at(i, 0, 0), ..cells };
                shared.load(ws, bytes, next.wrapping_add(i), &cells, (limbs, scale))
            })?;
        }
        let next = next.wrapping_add(files.len());
        self.state = State::Load(next);
        if next == wanted.end {
            self.finish(&instruction);
        }
        Ok(())
    }

    /// Does a bounded piece of work: at most a block of a row of a linear layer, or one ciphertext.
    ///
    /// After [`BatchProgress::Outputs`] the next step goes on. With [`BatchProgress::Inputs`] nothing is done.
    ///
    /// # Errors
    /// A key that is missing or damaged, after which every step returns the same error until a
    /// [`reset`](Self::reset).
    pub fn step(&mut self) -> Result<BatchProgress<'p>, EngineError> {
        self.leave_outputs();
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        if let Some(waiting) = self.say() {
            return Ok(waiting);
        }
        let (State::Execute(unit, pass), Some(instruction)) = (self.state, self.instruction()) else {
            return Ok(BatchProgress::Done);
        };
        let job = Job::new(self.program, instruction, self.worker_rows);
        let Self { set, backend, tables, work, keys, .. } = self;
        let mut ws = Workspace { set: *set, backend: *backend, tables, work: work.reborrow() };
        if let Err(error) = job.execute((unit, pass), 0, &mut ws, keys) {
            return Err(self.fail(error.into()));
        }
        let progress = self.running();
        let (units, passes) = job.units();
        let (unit, pass) =
            if pass.wrapping_add(1) < passes { (unit, pass.wrapping_add(1)) } else { (unit.wrapping_add(1), 0) };
        if unit < units {
            self.state = State::Execute(unit, pass);
        } else {
            self.finish(&instruction);
        }
        Ok(progress)
    }

    /// Runs on the workers of `pool` until inputs are wanted, outputs are ready, or all is done. `watch` is called after
    /// every instruction. The result is that of single steps, bit for bit.
    ///
    /// # Errors
    /// As [`step`](Self::step), and [`EngineError::Workers`] if the engine was made for fewer workers.
    pub fn run_on<P: Parallel>(
        &mut self,
        pool: &P,
        mut watch: impl FnMut(BatchProgress<'p>),
    ) -> Result<BatchProgress<'p>, EngineError>
    where
        K: Sync,
    {
        if pool.workers() > self.workers {
            return Err(EngineError::Workers { need: pool.workers(), have: self.workers });
        }
        self.leave_outputs();
        loop {
            if let State::Failed(error) = self.state {
                return Err(error);
            }
            if let Some(waiting) = self.say() {
                return Ok(waiting);
            }
            let (State::Execute(0, 0), Some(instruction)) = (self.state, self.instruction()) else {
                // In the middle of an instruction that was begun by single steps.
                watch(self.step()?);
                continue;
            };
            let job = Job::new(self.program, instruction, self.worker_rows);
            let (units, passes) = job.units();
            let Self { set, backend, tables, work, keys, .. } = self;
            let mut ws = Workspace { set: *set, backend: *backend, tables, work: work.reborrow() };
            let run = ws.for_each_unit(pool, units, |unit, worker, ws| {
                (0..passes).try_for_each(|pass| job.execute((unit, pass), worker, ws, keys))
            });
            if let Err(error) = run {
                return Err(self.fail(error.into()));
            }
            watch(self.running());
            self.finish(&instruction);
        }
    }

    /// What the engine waits for, to be told to the caller.
    fn say(&mut self) -> Option<BatchProgress<'p>> {
        let waiting = self.waiting()?;
        if let State::Store(said) = &mut self.state {
            *said = true;
        }
        Some(waiting)
    }

    /// Goes on after outputs that the caller was told of.
    fn leave_outputs(&mut self) {
        if self.state == State::Store(true)
            && let Some(instruction) = self.instruction()
        {
            self.finish(&instruction);
        }
    }

    fn fail(&mut self, error: EngineError) -> EngineError {
        self.state = State::Failed(error);
        error
    }

    /// Bytes of an output file.
    ///
    /// # Errors
    /// [`EngineError::NotAnOutput`] if it is not ready.
    pub fn output_bytes(&self, index: usize) -> Result<usize, EngineError> {
        Ok(self.output(index)?.1.file_bytes())
    }

    /// Where an output that is ready lies, and its header.
    fn output(&self, index: usize) -> Result<(Cells, CiphertextHeader), EngineError> {
        let (
            State::Store(_),
            Some(Instruction { limbs, count, scale, operation: Operation::Store { first, from }, .. }),
        ) = (self.state, self.instruction())
        else {
            return Err(EngineError::NotDone);
        };
        let i = index.checked_sub(first).filter(|&i| i < count).ok_or(EngineError::NotAnOutput { index })?;
        let header = CiphertextHeader {
            set: self.set.fingerprint(),
            key_id: self.keys.key_id(),
            program: self.program.fingerprint(),
            role: Role::Output,
            index: index as u32,
            limbs,
            log_n: self.set.log_n(),
            scale,
            seed: None,
        };
        Ok((Cells { row: from.at(i, 0, 0), ..from }, header))
    }

    /// Writes an output that is ready as a ciphertext file and returns its length.
    ///
    /// # Errors
    /// [`EngineError::NotDone`], [`EngineError::NotAnOutput`], or a buffer that is too small, which stays as it is.
    pub fn write_output(&self, index: usize, out: &mut [u8]) -> Result<usize, EngineError> {
        let (cells, header) = self.output(index)?;
        let (need, have) = (header.file_bytes(), out.len());
        let out = out.get_mut(..need).ok_or(EngineError::OutputTooSmall { need, have })?;
        let c0 = self.work.read(cells.at(0, 0, 0), header.limbs)?;
        let c1 = self.work.read(cells.at(0, 1, 0), header.limbs)?;
        header
            .write(out, |out0, out1| {
                store_words(out0, c0);
                store_words(out1, c1);
            })
            .map_err(|_| EngineError::OutputTooSmall { need, have })?;
        Ok(need)
    }
}

/// What every input is compared with.
struct InputCheck {
    set: ParamSet,
    fingerprint: [u8; 16],
    key_id: [u8; 16],
}

impl InputCheck {
    fn load<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        bytes: &[u8],
        index: usize,
        cells: &Cells,
        (limbs, scale): (usize, Scale),
    ) -> Result<(), EngineError> {
        let view = CiphertextView::new_checked(bytes)?;
        let header = &view.header;
        if header.set != self.set.fingerprint() || header.log_n != self.set.log_n() {
            return Err(WireError::Set.into());
        }
        if header.program != self.fingerprint {
            return Err(EngineError::OtherProgram);
        }
        if header.key_id != self.key_id {
            return Err(EngineError::WrongKey);
        }
        if header.role != Role::Input || header.index as usize != index {
            return Err(EngineError::InputMissing { index });
        }
        if header.limbs != limbs || header.scale != scale {
            return Err(EngineError::InputLevel { index, need: limbs, have: header.limbs });
        }
        let n = self.set.n();
        for t in 0..limbs {
            let m = ws.modulus(limbs, t)?;
            let ([c0, c1], []) = ws.work.parts([(cells.at(0, 0, t), 1), (cells.at(0, 1, t), 1)], [])?;
            let at = t.wrapping_mul(n << 2);
            load_words(c0, view.c0.get(at..).unwrap_or(&[]));
            match header.seed {
                Some(seed) => expand_uniform(c1, &seed, Stream::Ciphertext, &m),
                None => load_words(c1, view.c1.get(at..).unwrap_or(&[])),
            }
            let largest = c0.iter().chain(c1.iter()).fold(0, |largest, &x| x.max(largest));
            if largest >= m.value() {
                return Err(EngineError::InputRange { index });
            }
        }
        Ok(())
    }
}
