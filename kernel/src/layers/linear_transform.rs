//! Passes of the double-hoisted baby-step giant-step linear transform.
//!
//! All baby steps share one decomposition of the input and stay over the extended basis (times P), where
//! their products with plaintexts are summed; a giant step divides only the sum's c1 by P to rotate it, and
//! one final division serves the whole transform.
//!
//! Reference: Bossuat, Mouchet, Troncoso-Pastoriza, Hubaux, eprint 2020/1203, algorithm 6.

use super::key_switch::Switch;
use super::{Job, PassError, split_pass};
use crate::keys::{KeyKind, KeySource};
use crate::math::Backend;
use crate::math::backend::MAX_DOT;
use crate::program::PlainForm;
use crate::ring::{Basis, divide, mixed_radix, tail_inverse};
use crate::scratch::{RowFault, Workspace};
use heapless::Vec;

impl Job<'_> {
    /// First row of component `c` of baby step `i`.
    fn baby_row(&self, i: usize, c: usize) -> usize {
        self.scratch.babies.wrapping_add((i << 1).wrapping_add(c).wrapping_mul(self.t()))
    }

    fn inner_row(&self, c: usize) -> usize {
        self.scratch.inner.wrapping_add(c.wrapping_mul(self.t()))
    }

    /// Passes per prime of the inner sum of giant step `g`: one for each plaintext to expand, and the sum.
    pub(super) fn inner_passes(&self, g: usize) -> usize {
        let terms = self.transform().ok().and_then(|t| t.giant(g)).map_or(0, |(_, terms)| terms.len());
        if self.cached { 1 } else { terms.wrapping_add(1) }
    }

    pub(super) fn baby<B: Backend, K: KeySource>(
        &self,
        ws: &mut Workspace<'_, B>,
        keys: &K,
        i: usize,
        t: usize,
    ) -> Result<(), PassError> {
        let rotation = self.transform()?.baby(i).ok_or(RowFault { row: i, rows: 0 })?;
        let src = self.src()?;
        let out = [self.baby_row(i, 0).wrapping_add(t), self.baby_row(i, 1).wrapping_add(t)];
        if rotation == 0 {
            self.scale_by_p(ws, t, Some(src.c0.wrapping_add(t)), out[0])?;
            self.scale_by_p(ws, t, Some(src.c1.wrapping_add(t)), out[1])?;
            return Ok(());
        }
        self.switch(
            ws,
            keys,
            t,
            Switch {
                kind: KeyKind::Rotation(rotation),
                rotation,
                addend: (t < self.l).then_some(src.c0.wrapping_add(t)),
                scaled: true,
                out,
                accumulate: false,
            },
        )
    }

    /// Sum of plaintexts times baby steps modulo one prime; before it, one pass per plaintext to expand.
    pub(super) fn inner<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        cache: &[u32],
        g: usize,
        pass: usize,
    ) -> Result<(), RowFault> {
        let fault = RowFault { row: g, rows: 0 };
        let transform = self.transform()?;
        let (rotation, terms) = transform.giant(g).ok_or(fault)?;
        let per = self.inner_passes(g);
        let (t, part) = split_pass(pass, per);
        if part.wrapping_add(1) < per {
            let (_, plain) = transform.term(terms.start.wrapping_add(part)).ok_or(fault)?;
            return self.expand_plain(ws, plain, t, self.scratch.plain.wrapping_add(part));
        }
        let m = ws.modulus(self.l, t)?;
        let n = ws.set.n();
        let special = self.special;
        for c in 0..2 {
            let out = if rotation == 0 { self.acc(c) } else { self.inner_row(c) }.wrapping_add(t);
            // Rows t of all baby steps of component c are a stride of 2 T apart.
            let babies = (self.baby_row(0, 0), transform.babies().wrapping_mul(self.t() << 1));
            let ([out], [babies, plain]) =
                ws.work.parts([(out, 1)], [babies, (self.scratch.plain, transform.widest())])?;
            let row = |i: usize| {
                let start = (i << 1).wrapping_add(c).wrapping_mul(self.t()).wrapping_add(t).wrapping_mul(n);
                babies.get(start..start.wrapping_add(n))
            };
            let mut pairs: Vec<(&[u32], &[u32]), MAX_DOT> = Vec::new();
            for (k, i) in terms.clone().enumerate() {
                let (baby, index) = transform.term(i).ok_or(fault)?;
                let p = self.plaintext(index)?;
                if matches!(p.form, PlainForm::Scalar(_)) {
                    continue;
                }
                let weights = if self.cached {
                    cached_row(cache, &p, self.l, special, t, n)
                } else {
                    plain.get(k.wrapping_mul(n)..k.wrapping_add(1).wrapping_mul(n))
                };
                // Cannot overflow: the verifier bounds the terms of a giant step by MAX_DOT.
                let _ = pairs.push((row(baby).ok_or(fault)?, weights.ok_or(fault)?));
            }
            ws.backend.dot(out, &pairs, false, &m);
            for i in terms.clone() {
                let (baby, index) = transform.term(i).ok_or(fault)?;
                if let PlainForm::Scalar(value) = self.plaintext(index)?.form {
                    ws.backend.mul_scalar_add(out, row(baby).ok_or(fault)?, m.shoup(m.reduce_signed(value)), &m);
                }
            }
        }
        Ok(())
    }

    pub(super) fn giant_inverse<B: Backend>(&self, ws: &mut Workspace<'_, B>, k: usize) -> Result<(), RowFault> {
        tail_inverse(ws, self.l, true, k, self.inner_row(1), self.scratch.tail.wrapping_add(k))
    }

    fn special_primes(&self) -> Basis {
        Basis::tail(self.program.set(), self.l, true, false)
    }

    pub(super) fn giant_radix<B: Backend>(&self, ws: &mut Workspace<'_, B>) -> Result<(), RowFault> {
        mixed_radix(ws, &self.special_primes(), self.scratch.tail)
    }

    pub(super) fn giant_divide<B: Backend>(&self, ws: &mut Workspace<'_, B>, i: usize) -> Result<(), RowFault> {
        let dst = self.scratch.poly.wrapping_add(i);
        divide(ws, self.l, &self.special_primes(), i, self.inner_row(1), self.scratch.tail, dst)
    }

    pub(super) fn giant<B: Backend, K: KeySource>(
        &self,
        ws: &mut Workspace<'_, B>,
        keys: &K,
        g: usize,
        t: usize,
    ) -> Result<(), PassError> {
        let (rotation, _) = self.transform()?.giant(g).ok_or(RowFault { row: g, rows: 0 })?;
        self.switch(
            ws,
            keys,
            t,
            Switch {
                kind: KeyKind::Rotation(rotation),
                rotation,
                addend: Some(self.inner_row(0).wrapping_add(t)),
                scaled: false,
                out: [self.acc(0).wrapping_add(t), self.acc(1).wrapping_add(t)],
                accumulate: g > 0,
            },
        )
    }
}

/// Row of a plaintext in the cache modulo prime `t` of the extended basis at `limbs` limbs.
pub(super) fn cached_row<'c>(
    cache: &'c [u32],
    plain: &crate::program::Plaintext<'_>,
    limbs: usize,
    special: usize,
    t: usize,
    n: usize,
) -> Option<&'c [u32]> {
    let row = if t < limbs { t } else { t.wrapping_sub(limbs).wrapping_add(plain.limbs) };
    if row >= plain.limbs.wrapping_add(special) {
        return None;
    }
    let start = plain.cache_row.checked_add(row)?.checked_mul(n)?;
    cache.get(start..start.checked_add(n)?)
}
