//! Passes of hybrid key switching: decomposition, inner products with keys, sums of rotations, products.
//!
//! Reference: eprint 2019/688 (hybrid key switching), eprint 2020/1203 (hoisting).

use super::{Job, PassError, Source, split_pass};
use crate::keys::{Half, KeyError, KeyKind, KeySource, galois_element};
use crate::math::{Backend, Modulus, Term};
use crate::program::Operation;
use crate::ring::{Basis, divide, extend, mixed_radix, tail_inverse};
use crate::scratch::{RowFault, Workspace};
use crate::wire::u32_at;
use heapless::Vec;

/// Most digits: one prime each.
const MAX_DIGITS: usize = crate::params::MAX_LIMBS;

/// What becomes of an inner product with a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Switch {
    /// The polynomial whose digits it takes.
    pub source: Source,
    /// The key.
    pub kind: KeyKind,
    /// The rotation that follows; 0 for none.
    pub rotation: u32,
    /// Row to be added to component 0 before the rotation, times P if `scaled`.
    pub addend: Option<usize>,
    /// Whether the addend is multiplied by P.
    pub scaled: bool,
    /// Result rows for components 0 and 1.
    pub out: [usize; 2],
    /// Whether the result is added to what is there.
    pub accumulate: bool,
}

impl Job<'_> {
    fn poly(&self, source: Source) -> Result<usize, RowFault> {
        match source {
            Source::Operand(s) => Ok(self.source(s)?.c1),
            Source::Scratch => Ok(self.scratch.poly),
        }
    }

    pub(super) fn inverse<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        source: Source,
        i: usize,
    ) -> Result<(), RowFault> {
        let from = self.poly(source)?.wrapping_add(i);
        let table = ws.tables.get(&ws.set, self.l, i)?;
        let coeff = self.scratch.coeff.wrapping_add(i);
        ws.work.copy(from, coeff)?;
        ws.backend.inverse(ws.work.write(coeff, 1)?, &table);
        Ok(())
    }

    pub(super) fn mixed_radix<B: Backend>(&self, ws: &mut Workspace<'_, B>, j: usize) -> Result<(), RowFault> {
        let basis = Basis::digit(&ws.set, self.l, j);
        let row = self.scratch.coeff.wrapping_add(j.wrapping_mul(ws.set.digit()));
        mixed_radix(ws, &basis, row)
    }

    /// The digit to which prime `t` belongs, if it is not a special one: there the polynomial itself is the digit.
    fn own_digit(&self, t: usize) -> Option<usize> {
        if t < self.l { t.checked_div(self.program.set().digit()) } else { None }
    }

    /// Digit `j` modulo prime `t`, in this worker's rows.
    pub(super) fn extend<B: Backend>(&self, ws: &mut Workspace<'_, B>, t: usize, j: usize) -> Result<(), RowFault> {
        if self.own_digit(t) == Some(j) {
            return Ok(());
        }
        extend(ws, self.l, j, t, self.scratch.coeff, self.scratch.digits.wrapping_add(j))
    }

    /// P modulo prime `t`, the factor of everything that meets an inner product; none for special primes,
    /// modulo which it is 0.
    fn p_factor(&self, t: usize, m: &Modulus) -> Option<u32> {
        let special = Basis::tail(self.program.set(), self.l, true, 0);
        (t < self.l).then(|| special.product(m))
    }

    /// Inner product of the digits with a key modulo prime `t`, then a rotation.
    pub(super) fn switch<B: Backend, K: KeySource>(
        &self,
        ws: &mut Workspace<'_, B>,
        keys: &K,
        t: usize,
        switch: Switch,
    ) -> Result<(), PassError> {
        let (l, d) = (self.l, self.digits);
        let m = ws.modulus(l, t)?;
        let key = keys.find(switch.kind, l).ok_or(KeyError::Missing { kind: switch.kind, limbs: l })?;
        let block = key.block(l, t);
        let n = ws.set.n();
        let s = &self.scratch;
        let own = self.own_digit(t);
        // Rows that are not needed are replaced by one that is.
        let own_row = if own.is_some() { self.poly(switch.source)?.wrapping_add(t) } else { s.digits };
        let factor = if switch.scaled { self.p_factor(t, &m) } else { Some(1) };
        let addend = switch.addend.zip(factor);
        let addend_row = addend.map_or(own_row, |(row, _)| row);
        let [out0, out1] = switch.out;
        let ([scratch_b, scratch_a, out0, out1], [digits, own_row, addend_row]) = ws.work.parts(
            [(s.key, d), (s.key.wrapping_add(d), d), (out0, 1), (out1, 1)],
            [(s.digits, d), (own_row, 1), (addend_row, 1)],
        )?;
        let b = keys.rows(&key, Half::B, block, d, &m, scratch_b)?;
        let a = keys.rows(&key, Half::A, block, d, &m, scratch_a)?;
        let mut terms: Vec<Term<'_>, MAX_DIGITS> = Vec::new();
        for j in 0..d {
            let start = j.wrapping_mul(n);
            let row = |rows| <[u32]>::get(rows, start..start.wrapping_add(n));
            let shared = if own == Some(j) { Some(own_row) } else { row(digits) };
            let (Some(shared), Some(b), Some(a)) = (shared, row(b), row(a)) else {
                return Err(PassError::Key(KeyError::Damaged { kind: switch.kind, block }));
            };
            terms.push(Term { shared, pair: [b, a] }).map_err(|_| RowFault { row: s.digits, rows: d })?;
        }
        if switch.rotation == 0 {
            ws.backend.dot_pair([out0, out1], &terms, switch.accumulate, &m);
        } else {
            let addend = addend.map(|(_, factor)| (addend_row, m.to_montgomery(factor)));
            let g = galois_element(switch.rotation, ws.set.log_n());
            ws.backend.rotate_dot_pair([out0, out1], &terms, addend, g, switch.accumulate, &m);
        }
        Ok(())
    }

    /// `out = P * row` modulo prime `t`, or zero.
    pub(super) fn scale_by_p<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        t: usize,
        row: Option<usize>,
        out: usize,
    ) -> Result<(), RowFault> {
        let m = ws.modulus(self.l, t)?;
        match (row, self.p_factor(t, &m)) {
            (Some(row), Some(p)) => {
                let ([out], [source]) = ws.work.parts([(out, 1)], [(row, 1)])?;
                ws.backend.mul_scalar(out, source, m.shoup(p), &m);
            }
            _ => ws.work.write(out, 1)?.fill(0),
        }
        Ok(())
    }

    /// Mod-ups, P times the operand or zero, then its rotations, all modulo one prime.
    pub(super) fn rotations<B: Backend, K: KeySource>(
        &self,
        ws: &mut Workspace<'_, B>,
        keys: &K,
        pass: usize,
        per: usize,
    ) -> Result<(), PassError> {
        let (t, part) = split_pass(pass, per);
        let Operation::RotateSum { rotations, identity, .. } = self.instruction.operation else {
            return Err(RowFault { row: t, rows: 0 }.into());
        };
        let Some(part) = part.checked_sub(self.digits) else {
            return Ok(self.extend(ws, t, part)?);
        };
        let src = self.src()?;
        let out = [self.acc(0).wrapping_add(t), self.acc(1).wrapping_add(t)];
        let Some(i) = part.checked_sub(1) else {
            for (row, out) in [src.c0, src.c1].into_iter().zip(out) {
                self.scale_by_p(ws, t, identity.then_some(row.wrapping_add(t)), out)?;
            }
            return Ok(());
        };
        let rotation = u32_at(rotations, i << 2).ok_or(RowFault { row: i, rows: 0 })?;
        self.switch(
            ws,
            keys,
            t,
            Switch {
                source: Source::Operand(0),
                kind: KeyKind::Rotation(rotation),
                rotation,
                addend: (t < self.l).then_some(src.c0.wrapping_add(t)),
                scaled: true,
                out,
                accumulate: true,
            },
        )
    }

    /// P times (a0 b0, a0 b1 + a1 b0) into the accumulator, a1 b1 into the scratch polynomial.
    pub(super) fn tensor<B: Backend>(&self, ws: &mut Workspace<'_, B>, t: usize) -> Result<(), RowFault> {
        let (acc0, acc1) = (self.acc(0).wrapping_add(t), self.acc(1).wrapping_add(t));
        let m = ws.modulus(self.l, t)?;
        let Some(p) = self.p_factor(t, &m).map(|p| m.shoup(p)) else {
            ws.work.write(acc0, 1)?.fill(0);
            ws.work.write(acc1, 1)?.fill(0);
            return Ok(());
        };
        let Operation::Mul { a, b } = self.instruction.operation else {
            return Err(RowFault { row: acc0, rows: 0 });
        };
        let (left, right) = (self.rows(a)?, self.rows(b)?);
        let writes = [(acc0, 1), (acc1, 1), (self.scratch.poly.wrapping_add(t), 1)];
        let reads = [left.c0, left.c1, right.c0, right.c1].map(|row| (row.wrapping_add(t), 1));
        let ([x, y, z], [a0, a1, b0, b1]) = ws.work.parts(writes, reads)?;
        let backend = ws.backend;
        backend.mul(x, a0, b0, &m);
        backend.mul(y, a0, b1, &m);
        let twice = m.shoup(m.add(p.value, p.value));
        if a == b {
            backend.mul_scalar_assign(y, twice, &m);
        } else {
            backend.mul_add(y, a1, b0, &m);
            backend.mul_scalar_assign(y, p, &m);
        }
        backend.mul(z, a1, b1, &m);
        backend.mul_scalar_assign(x, p, &m);
        Ok(())
    }

    pub(super) fn relinearize<B: Backend, K: KeySource>(
        &self,
        ws: &mut Workspace<'_, B>,
        keys: &K,
        pass: usize,
        per: usize,
    ) -> Result<(), PassError> {
        let (t, part) = split_pass(pass, per);
        if part < self.digits {
            return Ok(self.extend(ws, t, part)?);
        }
        self.switch(
            ws,
            keys,
            t,
            Switch {
                source: Source::Scratch,
                kind: KeyKind::Relin,
                rotation: 0,
                addend: None,
                scaled: false,
                out: [self.acc(0).wrapping_add(t), self.acc(1).wrapping_add(t)],
                accumulate: true,
            },
        )
    }

    /// Component and remainder of a pass that runs over both components.
    fn component(&self, pass: usize, per: usize) -> (usize, usize) {
        if pass < per { (0, pass) } else { (1, pass.wrapping_sub(per)) }
    }

    fn tail_row(&self, c: usize, len: usize) -> usize {
        self.scratch.tail.wrapping_add(c.wrapping_mul(len))
    }

    pub(super) fn final_inverse<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        result: usize,
        pass: usize,
    ) -> Result<(), RowFault> {
        let len = self.tail().len();
        let (c, k) = self.component(pass, len);
        let row = self.tail_row(c, len).wrapping_add(k);
        tail_inverse(
            ws,
            self.l,
            (self.switches(), usize::from(self.instruction.rescale)),
            k,
            self.acc_of(result, c),
            row,
        )
    }

    pub(super) fn final_radix<B: Backend>(&self, ws: &mut Workspace<'_, B>, c: usize) -> Result<(), RowFault> {
        let tail = self.tail();
        mixed_radix(ws, &tail, self.tail_row(c, tail.len()))
    }

    pub(super) fn final_divide<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        result: usize,
        pass: usize,
    ) -> Result<(), RowFault> {
        let tail = self.tail();
        let (c, i) = self.component(pass, self.instruction.result_limbs());
        let dst = self.result(result)?;
        let row = if c == 0 { dst.c0 } else { dst.c1 };
        divide(ws, self.l, &tail, i, self.acc_of(result, c), self.tail_row(c, tail.len()), row.wrapping_add(i))
    }
}
