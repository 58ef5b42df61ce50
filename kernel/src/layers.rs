//! Encrypted layer evaluation: each instruction as a sequence of phases, each phase as independent units of passes.
//!
//! A *pass* works on one limb (one prime) and is what [`Engine::step`](crate::engine::Engine::step) executes.
//! Passes that build on each other form a *unit*. The units of a phase may run in any order; phases run one after
//! the other.

mod key_access;
mod key_switch;
mod linear_transform;
mod phase;
mod position;
mod row_wise;

pub use key_access::{KeyAccess, KeyAccesses};
pub use phase::{Phase, Source};
pub use row_wise::expand;

use crate::keys::{KeyError, KeySource};
use crate::math::Backend;
use crate::parallel::Parallel;
use crate::program::{Instruction, Operation, Plaintext, Program, Scratch, Transform};
use crate::scratch::{RowFault, Workspace};

/// Why a pass failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PassError {
    /// A key could not be read.
    Key(KeyError),
    /// The memory plan was violated; a verified program never does.
    Plan(RowFault),
}

impl From<KeyError> for PassError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

impl From<RowFault> for PassError {
    fn from(fault: RowFault) -> Self {
        Self::Plan(fault)
    }
}

/// Quotient and remainder of a pass number by the passes `per` prime; the remainder is 0 where `per` is.
pub(crate) fn split_pass(pass: usize, per: usize) -> (usize, usize) {
    let t = pass.checked_div(per).unwrap_or(0);
    (t, pass.checked_rem(per).unwrap_or(0))
}

/// One instruction in execution: its phases, and everything that a pass needs to know.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Job<'p> {
    program: Program<'p>,
    instruction: Instruction<'p>,
    scratch: Scratch,
    /// How many of the program's first plaintexts are in the cache.
    kept: usize,
    /// Whether all plaintexts of the instruction are.
    cached: bool,
    l: usize,
    special: usize,
    digits: usize,
}

/// The two polynomials of a ciphertext buffer: the first row of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rows {
    c0: usize,
    c1: usize,
}

impl<'p> Job<'p> {
    /// The job of `instruction`, with the first `kept` plaintexts of the program in the cache.
    pub fn new(program: Program<'p>, instruction: Instruction<'p>, kept: usize, workers: usize) -> Self {
        let l = instruction.limbs;
        Self {
            program,
            instruction,
            scratch: program.scratch(&instruction, workers),
            kept,
            cached: kept > 0 && instruction.operation.plaintexts().all(|plain| plain < kept),
            l,
            special: program.set().special(),
            digits: program.set().digits(l),
        }
    }

    /// The same job with the scratch rows of one worker.
    fn for_worker(mut self, worker: usize) -> Self {
        let babies = self.transform().map_or(0, |transform| transform.babies());
        self.scratch = self.scratch.for_worker(worker, self.digits, babies);
        self
    }

    /// Executes all passes of `phase` on the workers of `pool`.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub(crate) fn execute_on<B: Backend, K: KeySource + Sync, P: Parallel>(
        &self,
        phase: Phase,
        passes: usize,
        ws: &mut Workspace<'_, B>,
        keys: &K,
        cache: &[u32],
        pool: &P,
    ) -> Result<(), PassError> {
        let per = self.passes_per_unit(phase);
        let units = passes.checked_div(per).unwrap_or(0);
        ws.for_each_unit(pool, units, |unit, worker, ws| {
            let job = self.for_worker(worker);
            let first = unit.wrapping_mul(per);
            (first..first.wrapping_add(per)).try_for_each(|pass| job.execute(phase, pass, ws, keys, cache))
        })
    }

    /// Primes of the extended basis.
    fn t(&self) -> usize {
        self.l.wrapping_add(self.special)
    }

    fn rows(&self, buffer: usize) -> Result<Rows, RowFault> {
        let b = self.program.buffer(buffer).ok_or(RowFault { row: buffer, rows: 0 })?;
        Ok(Rows { c0: b.row, c1: b.row.wrapping_add(b.limbs) })
    }

    fn dst(&self) -> Result<Rows, RowFault> {
        self.rows(self.instruction.dst)
    }

    /// Result `o`.
    fn result(&self, o: usize) -> Result<Rows, RowFault> {
        match self.instruction.operation {
            Operation::LinearTransform { transform } => {
                self.rows(transform.output(o).ok_or(RowFault { row: o, rows: 0 })?)
            }
            _ => self.dst(),
        }
    }

    /// The first operand.
    fn src(&self) -> Result<Rows, RowFault> {
        self.source(0)
    }

    /// Source `s` of a linear transform; operand `s` of another instruction.
    fn source(&self, s: usize) -> Result<Rows, RowFault> {
        let fault = RowFault { row: s, rows: 0 };
        let buffer = match self.instruction.operation {
            Operation::LinearTransform { transform } => transform.source(s).ok_or(fault)?.0,
            operation => operation.sources().nth(s).ok_or(fault)?,
        };
        self.rows(buffer)
    }

    fn transform(&self) -> Result<Transform<'p>, RowFault> {
        match self.instruction.operation {
            Operation::LinearTransform { transform } => Ok(transform),
            _ => Err(RowFault { row: 0, rows: 0 }),
        }
    }

    fn plaintext(&self, index: usize) -> Result<Plaintext<'p>, RowFault> {
        self.program.plaintext(index).ok_or(RowFault { row: index, rows: 0 })
    }

    /// The accumulator's first row for component `c`.
    fn acc(&self, c: usize) -> usize {
        self.acc_of(0, c)
    }

    /// The first row of the accumulator of result `o` for component `c`.
    fn acc_of(&self, o: usize, c: usize) -> usize {
        let rows = if self.switches() { self.t() } else { self.l };
        self.scratch.acc.wrapping_add((o << 1).wrapping_add(c).wrapping_mul(rows))
    }

    /// Whether the instruction switches keys, and so accumulates over the extended basis.
    fn switches(&self) -> bool {
        matches!(
            self.instruction.operation,
            Operation::LinearTransform { .. } | Operation::RotateSum { .. } | Operation::Mul { .. }
        )
    }

    /// Executes pass `pass` of `phase`.
    ///
    /// # Errors
    /// [`PassError`] if a key cannot be read.
    pub fn execute<B: Backend, K: KeySource>(
        &self,
        phase: Phase,
        pass: usize,
        ws: &mut Workspace<'_, B>,
        keys: &K,
        cache: &[u32],
    ) -> Result<(), PassError> {
        let per = self.passes_per_unit(phase);
        match phase {
            Phase::Inverse(source) => self.inverse(ws, source, pass)?,
            Phase::MixedRadix => self.mixed_radix(ws, pass)?,
            Phase::Rotations => self.rotations(ws, keys, pass, per)?,
            Phase::Tensor => self.tensor(ws, pass)?,
            Phase::Relinearize => self.relinearize(ws, keys, pass, per)?,
            Phase::Inner(s) => self.inner(ws, keys, cache, s, pass, per)?,
            Phase::GiantInverse => self.giant_inverse(ws, pass)?,
            Phase::GiantRadix => self.giant_radix(ws, pass)?,
            Phase::GiantDivide(g) => self.giant_divide(ws, g, pass)?,
            Phase::Giant(g) => self.giant(ws, keys, g, pass, per)?,
            Phase::MulPlain => self.mul_plain(ws, cache, pass)?,
            Phase::AddPlain => self.add_plain(ws, cache, pass)?,
            Phase::Add => self.add(ws, pass)?,
            Phase::Load => self.load(ws, pass)?,
            Phase::Store => self.store(ws, pass)?,
            Phase::FinalInverse(o) => self.final_inverse(ws, o, pass)?,
            Phase::FinalRadix(_) => self.final_radix(ws, pass)?,
            Phase::FinalDivide(o) => self.final_divide(ws, o, pass)?,
        }
        Ok(())
    }
}
