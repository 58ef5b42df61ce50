//! The engine: runs a verified program in a static arena, one bounded step at a time.

mod checkpoint;
mod checks;
mod counts;
mod error;

use checkpoint::Position;
pub(crate) use checks::{check_keys, words_of};
pub use counts::Counts;
pub use error::EngineError;

use crate::keys::{KeySource, Stream, expand_uniform};
use crate::layers::{Job, Phase, expand};
use crate::math::{Backend, Detected, build_table};
use crate::parallel::Parallel;
use crate::params::ParamSet;
use crate::program::{MAX_BUFFERS, Program};
use crate::scratch::{RowFault, Tables, Work, Workspace};
use crate::wire::{CiphertextHeader, CiphertextView, Role, WireError, load_words, store_words};
use heapless::Vec;
use sha2::{Digest, Sha256};

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'p> {
    /// Transform tables or the plaintext cache are being built.
    Preparing {
        /// Tables or plaintexts done.
        done: usize,
        /// Tables or plaintexts in all.
        total: usize,
    },
    /// An instruction is being executed.
    Running {
        /// The layer's name.
        layer: &'p str,
        /// The instruction.
        instruction: usize,
        /// Instructions in all.
        total: usize,
    },
    /// All outputs are ready.
    Done,
}

#[cfg(feature = "defmt")]
impl defmt::Format for Progress<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        match *self {
            Self::Preparing { done, total } => defmt::write!(f, "preparing {=usize}/{=usize}", done, total),
            Self::Running { layer, instruction, total } => {
                defmt::write!(f, "{=str}: instruction {=usize}/{=usize}", layer, instruction, total);
            }
            Self::Done => defmt::write!(f, "done"),
        }
    }
}

/// Where execution stands.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::large_enum_variant, reason = "there is one state per engine, and no heap to box it on")]
enum State<'p> {
    /// The next transform table.
    Tables(usize),
    /// The next row of the plaintext cache, as plaintext and prime.
    Cache(usize, usize),
    /// Waiting to start instruction `.0`.
    Fetch(usize),
    /// In the middle of an instruction.
    Execute {
        index: usize,
        job: Job<'p>,
        phase: Phase,
        phase_index: usize,
        passes: usize,
        pass: usize,
    },
    Done,
    /// A key was missing or damaged; only a reset leaves this state.
    Failed(EngineError),
}

/// An encrypted inference in caller-provided memory.
///
/// Scratch: [`Program::arena_bytes`] of arena; optionally up to [`Program::cache_bytes`] of cache, which is filled
/// on the first run and kept.
pub struct Engine<'p, 'm, K, B = Detected> {
    program: Program<'p>,
    keys: K,
    set: ParamSet,
    backend: B,
    tables: Tables<'m>,
    work: Work<'m>,
    workers: usize,
    cache: &'m mut [u32],
    /// How many of the first plaintexts the cache holds.
    cached: usize,
    prepared: bool,
    /// Where to go on once tables and cache are built; none for the start.
    pending: Option<Position>,
    inputs: Vec<bool, MAX_BUFFERS>,
    state: State<'p>,
    counts: Counts,
}

impl<'p, 'm, K: KeySource> Engine<'p, 'm, K, Detected> {
    /// An engine with the fastest backend of this processor.
    ///
    /// # Errors
    /// As [`with_backend`](Self::with_backend).
    pub fn new(program: Program<'p>, keys: K, arena: &'m mut [u8]) -> Result<Self, EngineError> {
        Self::with_backend(program, keys, arena, Detected::new())
    }
}

impl<'p, 'm, K: KeySource, B: Backend> Engine<'p, 'm, K, B> {
    /// An engine over an arena of at least [`Program::arena_bytes`] bytes, aligned to 4.
    ///
    /// # Errors
    /// [`EngineError::ArenaTooSmall`], [`EngineError::Misaligned`], or a key bundle that is not for this
    /// program: other set, or a key of the manifest missing.
    pub fn with_backend(program: Program<'p>, keys: K, arena: &'m mut [u8], backend: B) -> Result<Self, EngineError> {
        Self::with_workers(program, keys, arena, backend, 1)
    }

    /// An engine for up to `workers` threads ([`run_on`](Self::run_on)); the arena needs
    /// [`Program::arena_bytes_for`] as many.
    ///
    /// # Errors
    /// As [`with_backend`](Self::with_backend).
    pub fn with_workers(
        program: Program<'p>,
        keys: K,
        arena: &'m mut [u8],
        backend: B,
        workers: usize,
    ) -> Result<Self, EngineError> {
        let workers = workers.max(1);
        let (need, have) = (program.arena_bytes_for(workers), arena.len());
        let too_small = EngineError::ArenaTooSmall { need, have };
        let words = words_of(arena.get_mut(..need).ok_or(too_small)?)?;
        check_keys(&keys, program.set(), (0..program.keys()).filter_map(|i| program.key(i)))?;
        let n = program.set().n();
        let (tables, work) = words.split_at_mut_checked(program.table_rows().wrapping_mul(n)).ok_or(too_small)?;
        let mut inputs = Vec::new();
        inputs.resize(program.inputs(), false).map_err(|_| too_small)?;
        Ok(Self {
            program,
            keys,
            set: *program.set(),
            backend,
            tables: Tables::new(tables, n, program.limbs()),
            work: Work::new(work, n),
            workers,
            cache: &mut [],
            cached: 0,
            prepared: false,
            pending: None,
            inputs,
            state: State::Tables(0),
            counts: Counts::default(),
        })
    }

    /// Gives the engine a cache, aligned to 4, for expanded plaintexts; it is filled on the first run. Starts over.
    ///
    /// [`Program::cache_bytes`] hold all of them. With less, the first ones that fit are kept
    /// ([`Program::cache_bytes_within`]) and the others expanded on every use; the result is the same.
    ///
    /// # Errors
    /// [`EngineError::CacheTooSmall`] if not one fits, or [`EngineError::Misaligned`]; the engine is unchanged.
    pub fn set_cache(&mut self, cache: &'m mut [u8]) -> Result<(), EngineError> {
        let (need, have) = (self.program.least_cache_bytes(), cache.len());
        if have < need {
            return Err(EngineError::CacheTooSmall { need, have });
        }
        let cache = cache.get_mut(..self.program.cache_bytes_within(have)).unwrap_or_default();
        self.cache = words_of(cache)?;
        self.cached = self.program.kept(have);
        self.prepared = false;
        self.reset();
        Ok(())
    }

    /// The program.
    pub fn program(&self) -> &Program<'p> {
        &self.program
    }

    /// Name of the backend in use.
    pub fn backend(&self) -> &'static str {
        self.backend.name()
    }

    /// Exact counts of the work since the last reset.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Starts over for another image: inputs must be set again. Tables and cache are kept.
    pub fn reset(&mut self) {
        self.inputs.iter_mut().for_each(|set| *set = false);
        self.counts = Counts::default();
        self.pending = None;
        self.state = if self.prepared { State::Fetch(0) } else { State::Tables(0) };
    }

    /// Loads an input ciphertext file.
    ///
    /// # Errors
    /// A file that is damaged, an output, for another parameter set, program or key, or of another level or
    /// scale than the program expects; [`EngineError::Started`] once the program runs.
    pub fn set_input(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let resumed = self.pending.is_some_and(|position| !position.is_start());
        if resumed || !matches!(self.state, State::Tables(_) | State::Cache(..) | State::Fetch(0)) {
            return Err(EngineError::Started);
        }
        let view = CiphertextView::new_checked(bytes)?;
        let header = &view.header;
        if header.set != self.set.fingerprint() || header.log_n != self.set.log_n() {
            return Err(WireError::Set.into());
        }
        if header.program != self.program.fingerprint() {
            return Err(EngineError::OtherProgram);
        }
        if header.key_id != self.keys.key_id() {
            return Err(EngineError::WrongKey);
        }
        let index = header.index as usize;
        let port = match header.role {
            Role::Input => self.program.input(index),
            Role::Output => None,
        }
        .ok_or(EngineError::NotAnInput { index })?;
        if header.limbs != port.limbs || header.scale != port.scale {
            return Err(EngineError::InputLevel { index, need: port.limbs, have: header.limbs });
        }
        let buffer = self.program.buffer(port.buffer).ok_or(EngineError::NotAnInput { index })?;
        let n = self.set.n();
        // Until all of it is in the buffer, there is no input.
        self.mark_input(index, false);
        for t in 0..port.limbs {
            let m = self.set.modulus(port.limbs, t).ok_or(RowFault { row: t, rows: 0 })?;
            let row = buffer.row.wrapping_add(t);
            let ([c0, c1], []) = self.work.parts([(row, 1), (row.wrapping_add(buffer.limbs), 1)], [])?;
            let at = t.wrapping_mul(n << 2);
            load_words(c0, view.c0.get(at..).unwrap_or(&[]));
            match header.seed {
                Some(seed) => expand_uniform(c1, &seed, Stream::Ciphertext, &m),
                None => load_words(c1, view.c1.get(at..).unwrap_or(&[])),
            }
            if c0.iter().chain(c1.iter()).any(|&x| x >= m.value()) {
                c0.fill(0);
                c1.fill(0);
                return Err(EngineError::InputRange { index });
            }
        }
        self.mark_input(index, true);
        Ok(())
    }

    fn mark_input(&mut self, index: usize, ready: bool) {
        if let Some(set) = self.inputs.get_mut(index) {
            *set = ready;
        }
    }

    /// Does a bounded piece of work: one limb pass of one instruction, or one transform table.
    ///
    /// # Errors
    /// [`EngineError::InputMissing`] (nothing is lost: set it and go on), or a key that is missing or damaged,
    /// after which the buffers are zeroed and every step returns the same error until a [`reset`](Self::reset).
    pub fn step(&mut self) -> Result<Progress<'p>, EngineError> {
        match self.advance() {
            Err(error @ (EngineError::Key(_) | EngineError::Plan(_))) => Err(self.fail(error)),
            result => result,
        }
    }

    /// Runs to the end. `watch` is called after every step, to feed a watchdog or show progress.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn run_with(&mut self, mut watch: impl FnMut(Progress<'p>)) -> Result<(), EngineError> {
        loop {
            let progress = self.step()?;
            watch(progress);
            if progress == Progress::Done {
                return Ok(());
            }
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn run(&mut self) -> Result<(), EngineError> {
        self.run_with(|_| ())
    }

    /// Runs to the end on the workers of `pool`; the result is the same, bit for bit.
    ///
    /// # Errors
    /// As [`step`](Self::step), and [`EngineError::Workers`] if the engine was made for fewer workers.
    pub fn run_on<P: Parallel>(&mut self, pool: &P, mut watch: impl FnMut(Progress<'p>)) -> Result<(), EngineError>
    where
        K: Sync,
    {
        if pool.workers() > self.workers {
            return Err(EngineError::Workers { need: pool.workers(), have: self.workers });
        }
        loop {
            if let State::Execute { index, job, phase, phase_index, passes, pass: 0 } = self.state {
                let Self { set, backend, tables, work, keys, cache, .. } = self;
                let mut ws = Workspace { set: *set, backend: *backend, tables, work: work.reborrow() };
                if let Err(error) = job.execute_on(phase, passes, &mut ws, keys, cache, pool) {
                    return Err(self.fail(error.into()));
                }
                self.counts.passes = self.counts.passes.wrapping_add(passes as u32);
                self.start_phase(index, job, phase_index.wrapping_add(1));
                watch(self.running(index));
                continue;
            }
            // Tables, cache, fetching, or a phase that was begun by single steps.
            let progress = match self.state {
                State::Fetch(index) => self.fetch(index)?,
                _ => self.step()?,
            };
            watch(progress);
            if progress == Progress::Done {
                return Ok(());
            }
        }
    }

    /// Builds tables and cache without running the program, so that the first run is as fast as later ones.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn prepare(&mut self) -> Result<(), EngineError> {
        while matches!(self.state, State::Tables(_) | State::Cache(..)) {
            self.step()?;
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Progress<'p>, EngineError> {
        match self.state {
            State::Tables(i) => self.build_table(i),
            State::Cache(plain, t) => self.fill_cache(plain, t),
            State::Fetch(index) => self.fetch(index),
            State::Execute { index, job, phase, phase_index, passes, pass } => {
                let Self { set, backend, tables, work, keys, cache, .. } = self;
                let mut ws = Workspace { set: *set, backend: *backend, tables, work: work.reborrow() };
                job.execute(phase, pass, &mut ws, keys, cache)?;
                self.counts.passes = self.counts.passes.wrapping_add(1);
                let next = pass.wrapping_add(1);
                if next < passes {
                    self.state = State::Execute { index, job, phase, phase_index, passes, pass: next };
                } else {
                    self.start_phase(index, job, phase_index.wrapping_add(1));
                }
                Ok(self.running(index))
            }
            State::Done => Ok(Progress::Done),
            State::Failed(error) => Err(error),
        }
    }

    fn running(&self, index: usize) -> Progress<'p> {
        let layer = self.program.instruction(index).map_or(0, |i| i.layer);
        Progress::Running {
            layer: self.program.layer_name(layer),
            instruction: index,
            total: self.program.instructions(),
        }
    }

    /// Zeroes the buffers and keeps the error until a reset.
    fn fail(&mut self, error: EngineError) -> EngineError {
        if !matches!(self.state, State::Failed(_)) {
            self.clear();
            self.state = State::Failed(error);
        }
        error
    }

    /// Starts instruction `index`, or ends.
    fn fetch(&mut self, index: usize) -> Result<Progress<'p>, EngineError> {
        if let Some(missing) = self.inputs.iter().position(|set| !set) {
            return Err(EngineError::InputMissing { index: missing });
        }
        let Some(instruction) = self.program.instruction(index) else {
            self.state = State::Done;
            return Ok(Progress::Done);
        };
        let job = Job::new(self.program, instruction, self.cached, self.workers);
        self.count(&instruction);
        self.start_phase(index, job, 0);
        Ok(self.running(index))
    }

    /// The state at phase `phase_index` of a job, or at the next instruction if there is none.
    fn start_phase(&mut self, index: usize, job: Job<'p>, phase_index: usize) {
        self.state = match job.phase(phase_index) {
            Some((phase, passes)) => State::Execute { index, job, phase, phase_index, passes, pass: 0 },
            None => {
                #[cfg(feature = "defmt")]
                defmt::trace!("instruction {=usize} done", index);
                State::Fetch(index.wrapping_add(1))
            }
        };
    }

    fn build_table(&mut self, i: usize) -> Result<Progress<'p>, EngineError> {
        let limbs = self.program.limbs();
        let total = limbs.wrapping_add(self.set.special());
        if i >= total {
            if self.cached > 0 {
                self.state = State::Cache(0, 0);
            } else {
                self.prepared = true;
                self.begin();
            }
        } else {
            let m = self.set.modulus(limbs, i).ok_or(RowFault { row: i, rows: 0 })?;
            let log_n = self.set.log_n();
            let table = self.tables.slot(i).and_then(|words| build_table(words, &m, log_n));
            table.ok_or(RowFault { row: i, rows: 0 })?;
            self.state = State::Tables(i.wrapping_add(1));
        }
        Ok(Progress::Preparing { done: i.min(total), total })
    }

    fn fill_cache(&mut self, index: usize, t: usize) -> Result<Progress<'p>, EngineError> {
        let total = self.cached;
        let Some(plain) = self.program.plaintext(index).filter(|_| index < total) else {
            self.prepared = true;
            self.begin();
            return Ok(Progress::Preparing { done: total, total });
        };
        if t >= plain.cache_rows(self.set.special()) {
            self.state = State::Cache(index.wrapping_add(1), 0);
        } else {
            let n = self.set.n();
            let row = plain.cache_row.wrapping_add(t);
            let start = row.wrapping_mul(n);
            let out = self.cache.get_mut(start..start.wrapping_add(n)).ok_or(RowFault { row, rows: 1 })?;
            expand(&self.set, &self.tables, self.backend, &plain, plain.limbs, t, out)?;
            self.state = State::Cache(index, t.wrapping_add(1));
        }
        Ok(Progress::Preparing { done: index, total })
    }

    /// Zeroes every ciphertext buffer.
    fn clear(&mut self) {
        for buffer in (0..self.program.buffers()).filter_map(|i| self.program.buffer(i)) {
            if let Ok(rows) = self.work.write(buffer.row, buffer.limbs << 1) {
                rows.fill(0);
            }
        }
    }

    /// SHA-256 of a buffer's rows at the level `limbs`, for comparisons between targets.
    ///
    /// # Errors
    /// [`EngineError::Plan`] if there is no such buffer.
    pub fn buffer_digest(&self, buffer: usize, limbs: usize) -> Result<[u8; 32], EngineError> {
        let place = self.program.buffer(buffer).ok_or(RowFault { row: buffer, rows: 0 })?;
        let mut hash = Sha256::new();
        for row in [place.row, place.row.wrapping_add(place.limbs)] {
            for word in self.work.read(row, limbs)? {
                hash.update(word.to_le_bytes());
            }
        }
        Ok(hash.finalize().into())
    }

    fn output_header(&self, index: usize) -> Result<CiphertextHeader, EngineError> {
        let port = self.program.output(index).ok_or(EngineError::NotAnOutput { index })?;
        Ok(CiphertextHeader {
            set: self.set.fingerprint(),
            key_id: self.keys.key_id(),
            program: self.program.fingerprint(),
            role: Role::Output,
            index: index as u32,
            limbs: port.limbs,
            log_n: self.set.log_n(),
            scale: port.scale,
            seed: None,
        })
    }

    /// Bytes of output file `index`.
    ///
    /// # Errors
    /// [`EngineError::NotAnOutput`].
    pub fn output_bytes(&self, index: usize) -> Result<usize, EngineError> {
        Ok(self.output_header(index)?.file_bytes())
    }

    /// Writes output `index` as a ciphertext file and returns its length.
    ///
    /// # Errors
    /// [`EngineError::NotDone`] before the program has run, [`EngineError::OutputTooSmall`]; `bytes` is then
    /// unchanged.
    pub fn write_output(&self, index: usize, bytes: &mut [u8]) -> Result<usize, EngineError> {
        if !matches!(self.state, State::Done) {
            return Err(EngineError::NotDone);
        }
        let header = self.output_header(index)?;
        let port = self.program.output(index).ok_or(EngineError::NotAnOutput { index })?;
        let place = self.program.buffer(port.buffer).ok_or(EngineError::NotAnOutput { index })?;
        let (need, have) = (header.file_bytes(), bytes.len());
        let bytes = bytes.get_mut(..need).ok_or(EngineError::OutputTooSmall { need, have })?;
        let c0 = self.work.read(place.row, port.limbs)?;
        let c1 = self.work.read(place.row.wrapping_add(place.limbs), port.limbs)?;
        header.write(bytes, |out0, out1| {
            store_words(out0, c0);
            store_words(out1, c1);
        })?;
        Ok(need)
    }
}
