//! The passes of batch instructions: independent units, each a sequence of passes for one worker.

use super::format::MAX_COLUMNS;
use super::program::{BatchProgram, Cells, Group, Instruction, Operation, Scratch};
use crate::keys::{Half, KeyError, KeyKind, KeySource};
use crate::layers::{PassError, split_pass};
use crate::math::{Backend, MAX_PRODUCT, PRODUCT_BLOCK, RowBlock, Term};
use crate::params::MAX_LIMBS;
use crate::ring::{Basis, divide, extend, mixed_radix, tail_inverse};
use crate::scratch::{RowFault, Workspace};
use heapless::Vec;

/// Blocks that one pass of a linear layer takes: their results are on the stack until all sources have been read.
const BLOCKS: usize = 4;
/// Words of a row that one pass takes.
const SPAN: usize = BLOCKS * PRODUCT_BLOCK;

/// One instruction in execution.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Job<'p> {
    program: BatchProgram<'p>,
    instruction: Instruction,
    /// First row of the scratch of worker 0, and rows of each worker's.
    scratch: (usize, usize),
}

impl<'p> Job<'p> {
    pub fn new(program: BatchProgram<'p>, instruction: Instruction, worker_rows: usize) -> Self {
        Self { program, instruction, scratch: (program.rows(), worker_rows) }
    }

    /// Units, which may run in any order, and passes of each.
    pub fn units(&self) -> (usize, usize) {
        let Instruction { limbs, count, operation, .. } = self.instruction;
        match operation {
            // One limb of one polynomial of all results.
            Operation::Linear { from, .. } => {
                (limbs.wrapping_mul(from.polys), self.program.set().n().div_ceil(SPAN).max(1))
            }
            Operation::Mul { .. } | Operation::Divide { .. } => (count, 1),
            Operation::Load { .. } | Operation::Store { .. } => (0, 1),
        }
    }

    /// Executes pass `pass` of unit `unit` in the scratch of `worker`.
    ///
    /// # Errors
    /// [`PassError`] if a key cannot be read.
    pub fn execute<B: Backend, K: KeySource>(
        &self,
        (unit, pass): (usize, usize),
        worker: usize,
        ws: &mut Workspace<'_, B>,
        keys: &K,
    ) -> Result<(), PassError> {
        let limbs = self.instruction.limbs;
        match self.instruction.operation {
            Operation::Linear { groups: (first, number), from, to } => {
                let (t, c) = split_pass(unit, from.polys);
                for group in first..first.wrapping_add(number) {
                    let group = self.program.group(group).ok_or(RowFault { row: group, rows: 0 })?;
                    self.linear(ws, &group, (&from, &to), (c, t), pass.wrapping_mul(SPAN))?;
                }
            }
            Operation::Mul { a, b, to } => (0..limbs).try_for_each(|t| self.mul(ws, (&a, &b, &to), unit, t))?,
            Operation::Divide { from, to, drop } => {
                let (row, rows) = self.scratch;
                let first = row.wrapping_add(worker.wrapping_mul(rows));
                let scratch = Scratch::of(&ws.set, limbs, drop, from.polys, first);
                self.divide(ws, keys, (&from, &to), unit, drop, &scratch)?;
            }
            Operation::Load { .. } | Operation::Store { .. } => {}
        }
        Ok(())
    }

    /// What a group adds to a span of limb `t` of polynomial `c` of its results.
    fn linear<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        group: &Group<'_>,
        (from, to): (&Cells, &Cells),
        (c, t): (usize, usize),
        at: usize,
    ) -> Result<(), RowFault> {
        let m = ws.modulus(self.instruction.limbs, t)?;
        let fault = RowFault { row: to.row, rows: 0 };
        let mut tiles = [[0u32; MAX_COLUMNS * PRODUCT_BLOCK]; BLOCKS];
        let words = group.columns.wrapping_mul(PRODUCT_BLOCK);
        let results = group.first..group.first.wrapping_add(group.columns);
        let block = |b: usize| at.wrapping_add(b.wrapping_mul(PRODUCT_BLOCK));
        if group.accumulate {
            for (i, result) in results.clone().enumerate() {
                let row = ws.work.read(to.at(result, c, t), 1)?;
                for (b, tile) in tiles.iter_mut().enumerate() {
                    let (out, _) = tile.as_chunks_mut::<PRODUCT_BLOCK>();
                    let old = row.get(block(b)..).and_then(|row| row.first_chunk());
                    if let (Some(out), Some(old)) = (out.get_mut(i), old) {
                        *out = *old;
                    }
                }
            }
        }
        {
            let mut rows: Vec<&[u32], MAX_PRODUCT> = Vec::new();
            for &tap in group.taps {
                let cell = Cells { row: u32::from_le_bytes(tap) as usize, ..*from };
                rows.push(ws.work.read(cell.at(0, c, t), 1)?).map_err(|_| fault)?;
            }
            for (b, tile) in tiles.iter_mut().enumerate() {
                let at = block(b);
                let out = tile.get_mut(..words).ok_or(fault)?;
                ws.backend.matrix_product(out, &RowBlock { rows: &rows, at }, group.weights, group.accumulate, &m);
            }
        }
        let unit = m.pow(2, group.bias_shift);
        for (i, result) in results.enumerate() {
            // A constant is the same in every evaluation.
            let bias = group.biases.filter(|_| c == 0).and_then(|biases| biases.get(i));
            let bias = bias.map(|&bias| m.mul(m.reduce_signed(i64::from_le_bytes(bias)), unit));
            let out = ws.work.write(to.at(result, c, t), 1)?;
            for (b, tile) in tiles.iter_mut().enumerate() {
                let (tile, _) = tile.as_chunks_mut::<PRODUCT_BLOCK>();
                let out = out.get_mut(block(b)..).and_then(|out| out.first_chunk_mut::<PRODUCT_BLOCK>());
                if let (Some(tile), Some(out)) = (tile.get_mut(i), out) {
                    if let Some(bias) = bias {
                        ws.backend.add_scalar_assign(tile, bias, &m);
                    }
                    *out = *tile;
                }
            }
        }
        Ok(())
    }

    /// Limb `t` of product `i`: (a0 b0, a0 b1 + a1 b0, a1 b1).
    fn mul<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        (a, b, to): (&Cells, &Cells, &Cells),
        i: usize,
        t: usize,
    ) -> Result<(), RowFault> {
        let m = ws.modulus(self.instruction.limbs, t)?;
        let writes = [0, 1, 2].map(|c| (to.at(i, c, t), 1));
        let reads = [a.at(i, 0, t), a.at(i, 1, t), b.at(i, 0, t), b.at(i, 1, t)].map(|row| (row, 1));
        let ([x, y, z], [a0, a1, b0, b1]) = ws.work.parts(writes, reads)?;
        let backend = ws.backend;
        backend.mul(x, a0, b0, &m);
        backend.mul(y, a0, b1, &m);
        if a == b {
            backend.mul_scalar_assign(y, m.shoup(2), &m);
        } else {
            backend.mul_add(y, a1, b0, &m);
        }
        backend.mul(z, a1, b1, &m);
        Ok(())
    }

    /// Relinearises ciphertext `i` if it has three polynomials, and divides it by its last limbs.
    fn divide<B: Backend, K: KeySource>(
        &self,
        ws: &mut Workspace<'_, B>,
        keys: &K,
        (from, to): (&Cells, &Cells),
        i: usize,
        drop: usize,
        s: &Scratch,
    ) -> Result<(), PassError> {
        let l = self.instruction.limbs;
        let relinearise = from.polys == 3;
        if relinearise {
            self.relinearise(ws, keys, from, i, s)?;
        }
        let tail = Basis::tail(&ws.set, l, relinearise, drop);
        let t = l.wrapping_add(ws.set.special());
        for c in 0..2usize {
            let source = if relinearise { s.acc.wrapping_add(c.wrapping_mul(t)) } else { from.at(i, c, 0) };
            for k in 0..tail.len() {
                tail_inverse(ws, l, (relinearise, drop), k, source, s.tail.wrapping_add(k))?;
            }
            mixed_radix(ws, &tail, s.tail)?;
            for limb in 0..l.wrapping_sub(drop) {
                divide(ws, l, &tail, limb, source, s.tail, to.at(i, c, limb))?;
            }
        }
        Ok(())
    }

    /// P times the first two polynomials of ciphertext `i`, plus the key switch of the third, into the accumulator.
    ///
    /// Reference: eprint 2019/688.
    fn relinearise<B: Backend, K: KeySource>(
        &self,
        ws: &mut Workspace<'_, B>,
        keys: &K,
        from: &Cells,
        i: usize,
        s: &Scratch,
    ) -> Result<(), PassError> {
        let l = self.instruction.limbs;
        let (d, alpha, n) = (ws.set.digits(l), ws.set.digit(), ws.set.n());
        for t in 0..l {
            let table = ws.tables.get(&ws.set, l, t)?;
            let coeff = s.coeff.wrapping_add(t);
            ws.work.copy(from.at(i, 2, t), coeff)?;
            ws.backend.inverse(ws.work.write(coeff, 1)?, &table);
        }
        for j in 0..d {
            let basis = Basis::digit(&ws.set, l, j);
            mixed_radix(ws, &basis, s.coeff.wrapping_add(j.wrapping_mul(alpha)))?;
        }
        let kind = KeyKind::Relin;
        let key = keys.find(kind, l).ok_or(KeyError::Missing { kind, limbs: l })?;
        let special = Basis::tail(&ws.set, l, true, 0);
        let primes = l.wrapping_add(ws.set.special());
        for t in 0..primes {
            // Modulo its own primes the polynomial itself is the digit.
            let own = if t < l { t.checked_div(alpha) } else { None };
            for j in (0..d).filter(|&j| own != Some(j)) {
                extend(ws, l, j, t, s.coeff, s.digits.wrapping_add(j))?;
            }
            let m = ws.modulus(l, t)?;
            let block = key.block(l, t);
            let own_row = from.at(i, 2, t.min(l.wrapping_sub(1)));
            let part = |c: usize| from.at(i, c, t.min(l.wrapping_sub(1)));
            let (acc0, acc1) = (s.acc.wrapping_add(t), s.acc.wrapping_add(primes).wrapping_add(t));
            let ([scratch_b, scratch_a, out0, out1], [digits, own_row, c0, c1]) = ws.work.parts(
                [(s.key, d), (s.key.wrapping_add(d), d), (acc0, 1), (acc1, 1)],
                [(s.digits, d), (own_row, 1), (part(0), 1), (part(1), 1)],
            )?;
            let b = keys.rows(&key, Half::B, block, d, &m, scratch_b)?;
            let a = keys.rows(&key, Half::A, block, d, &m, scratch_a)?;
            let mut terms: Vec<Term<'_>, MAX_LIMBS> = Vec::new();
            for j in 0..d {
                let start = j.wrapping_mul(n);
                let row = |rows| <[u32]>::get(rows, start..start.wrapping_add(n));
                let shared = if own == Some(j) { Some(own_row) } else { row(digits) };
                let (Some(shared), Some(b), Some(a)) = (shared, row(b), row(a)) else {
                    return Err(KeyError::Damaged { kind, block }.into());
                };
                terms.push(Term { shared, pair: [b, a] }).map_err(|_| RowFault { row: s.digits, rows: d })?;
            }
            if t < l {
                let p = m.shoup(special.product(&m));
                ws.backend.mul_scalar(out0, c0, p, &m);
                ws.backend.mul_scalar(out1, c1, p, &m);
            }
            ws.backend.dot_pair([out0, out1], &terms, t < l, &m);
        }
        Ok(())
    }
}
