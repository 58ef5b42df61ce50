//! Passes of hybrid key switching: decomposition, inner products with keys, sums of rotations, products.
//!
//! Reference: eprint 2019/688 (hybrid key switching), eprint 2020/1203 (hoisting).

use super::{Job, PassError, Source, split_pass};
use crate::keys::{Half, KeyError, KeyKind, KeySource, galois_element};
use crate::math::{Backend, Modulus};
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
            Source::Operand => Ok(self.src()?.c1),
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

    pub(super) fn extend<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        source: Source,
        pass: usize,
    ) -> Result<(), RowFault> {
        let (t, j) = split_pass(pass, self.digits);
        let dst = self.scratch.digits.wrapping_add(pass);
        extend(ws, self.l, j, t, self.scratch.coeff, self.poly(source)?, dst)
    }

    /// P modulo prime `t`, the factor of everything that meets an inner product; none for special primes,
    /// modulo which it is 0.
    fn p_factor(&self, t: usize, m: &Modulus) -> Option<crate::math::Shoup> {
        let special = Basis::tail(self.program.set(), self.l, true, false);
        (t < self.l).then(|| m.shoup(special.product(m)))
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
        let block = if t < l { t } else { t.wrapping_sub(l).wrapping_add(key.limbs) };
        let n = ws.set.n();
        let s = &self.scratch;
        let ([temp, scratch_b, scratch_a, out0, out1], [digits]) = ws.work.parts(
            [(s.temp, 2), (s.key, d), (s.key.wrapping_add(d), d), (switch.out[0], 1), (switch.out[1], 1)],
            [(s.digits.wrapping_add(t.wrapping_mul(d)), d)],
        )?;
        let plan = RowFault { row: s.temp, rows: 2 };
        let (temp0, temp1) = temp.split_at_mut_checked(n).ok_or(plan)?;
        let b = keys.rows(&key, Half::B, block, d, &m, scratch_b)?;
        let a = keys.rows(&key, Half::A, block, d, &m, scratch_a)?;
        let direct = switch.rotation == 0;
        for (half, temp, out) in [(b, &mut *temp0, &mut *out0), (a, &mut *temp1, &mut *out1)] {
            if half.len() < digits.len() {
                return Err(PassError::Key(KeyError::Damaged { kind: switch.kind, block }));
            }
            let mut pairs: Vec<(&[u32], &[u32]), MAX_DIGITS> = Vec::new();
            for pair in digits.chunks_exact(n.max(1)).zip(half.chunks_exact(n.max(1))) {
                pairs.push(pair).map_err(|_| plan)?;
            }
            if direct {
                ws.backend.dot(out, &pairs, switch.accumulate, &m);
            } else {
                ws.backend.dot(temp, &pairs, false, &m);
            }
        }
        if direct {
            return Ok(());
        }
        if let Some(row) = switch.addend {
            let ([temp], [addend]) = ws.work.parts([(s.temp, 1)], [(row, 1)])?;
            if !switch.scaled {
                ws.backend.add_assign(temp, addend, &m);
            } else if let Some(p) = self.p_factor(t, &m) {
                ws.backend.mul_scalar_add(temp, addend, p, &m);
            }
        }
        let g = galois_element(switch.rotation, ws.set.log_n());
        let ([out0, out1], [temp]) = ws.work.parts([(switch.out[0], 1), (switch.out[1], 1)], [(s.temp, 2)])?;
        let (temp0, temp1) = temp.split_at_checked(n).ok_or(plan)?;
        for (out, temp) in [(out0, temp0), (out1, temp1)] {
            if switch.accumulate {
                ws.backend.automorphism_add(out, temp, g, &m);
            } else {
                ws.backend.automorphism(out, temp, g);
            }
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
                ws.backend.mul_scalar(out, source, p, &m);
            }
            _ => ws.work.write(out, 1)?.fill(0),
        }
        Ok(())
    }

    pub(super) fn identity<B: Backend>(&self, ws: &mut Workspace<'_, B>, t: usize) -> Result<(), RowFault> {
        let src = self.src()?;
        let used = matches!(self.instruction.operation, Operation::RotateSum { identity: true, .. });
        for (c, row) in [(0, src.c0), (1, src.c1)] {
            self.scale_by_p(ws, t, used.then_some(row.wrapping_add(t)), self.acc(c).wrapping_add(t))?;
        }
        Ok(())
    }

    pub(super) fn rotation<B: Backend, K: KeySource>(
        &self,
        ws: &mut Workspace<'_, B>,
        keys: &K,
        i: usize,
        t: usize,
    ) -> Result<(), PassError> {
        let rotation = match self.instruction.operation {
            Operation::RotateSum { rotations, .. } => u32_at(rotations, i << 2),
            _ => None,
        }
        .ok_or(RowFault { row: i, rows: 0 })?;
        self.switch(
            ws,
            keys,
            t,
            Switch {
                kind: KeyKind::Rotation(rotation),
                rotation,
                addend: (t < self.l).then_some(self.src()?.c0.wrapping_add(t)),
                scaled: true,
                out: [self.acc(0).wrapping_add(t), self.acc(1).wrapping_add(t)],
                accumulate: true,
            },
        )
    }

    /// P times (a0 b0, a0 b1 + a1 b0) into the accumulator, a1 b1 into the scratch polynomial.
    pub(super) fn tensor<B: Backend>(&self, ws: &mut Workspace<'_, B>, t: usize) -> Result<(), RowFault> {
        let (acc0, acc1) = (self.acc(0).wrapping_add(t), self.acc(1).wrapping_add(t));
        let m = ws.modulus(self.l, t)?;
        let Some(p) = self.p_factor(t, &m) else {
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
        t: usize,
    ) -> Result<(), PassError> {
        self.switch(
            ws,
            keys,
            t,
            Switch {
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

    pub(super) fn final_inverse<B: Backend>(&self, ws: &mut Workspace<'_, B>, pass: usize) -> Result<(), RowFault> {
        let len = self.tail().len();
        let (c, k) = self.component(pass, len);
        tail_inverse(ws, self.l, self.switches(), k, self.acc(c), self.tail_row(c, len).wrapping_add(k))
    }

    pub(super) fn final_radix<B: Backend>(&self, ws: &mut Workspace<'_, B>, c: usize) -> Result<(), RowFault> {
        let tail = self.tail();
        mixed_radix(ws, &tail, self.tail_row(c, tail.len()))
    }

    pub(super) fn final_divide<B: Backend>(&self, ws: &mut Workspace<'_, B>, pass: usize) -> Result<(), RowFault> {
        let tail = self.tail();
        let (c, i) = self.component(pass, self.l.wrapping_sub(usize::from(self.instruction.rescale)));
        let dst = self.dst()?;
        let row = if c == 0 { dst.c0 } else { dst.c1 };
        divide(ws, self.l, &tail, i, self.acc(c), self.tail_row(c, tail.len()), row.wrapping_add(i))
    }
}
