//! Passes of the double-hoisted baby-step giant-step linear transform.
//!
//! All baby steps of a source share one decomposition and stay over the extended basis (times P), where their products
//! with plaintexts are summed, for all results at once; a giant step divides only the sum's c1 by P to rotate it, and one
//! final division serves each result.
//!
//! Reference: Bossuat, Mouchet, Troncoso-Pastoriza, Hubaux, eprint 2020/1203, algorithm 6.

use super::key_switch::Switch;
use super::{Job, PassError, Source, split_pass};
use crate::keys::{KeyKind, KeySource};
use crate::math::{Backend, Term};
use crate::program::{BABY_GROUP, Giant, PlainForm};
use crate::ring::{Basis, divide, mixed_radix, tail_inverse};
use crate::scratch::{RowFault, Workspace};
use core::ops::Range;
use heapless::Vec;

impl Job<'_> {
    /// Row of component `c` of the inner sum of giant step `g` modulo prime `t`.
    fn inner_row(&self, g: usize, c: usize, t: usize) -> Result<usize, RowFault> {
        let transform = self.transform()?;
        Ok(match g.checked_sub(transform.resting_giants()) {
            Some(step) => {
                let polynomial = (step << 1).wrapping_add(c);
                self.scratch.inner.wrapping_add(polynomial.wrapping_mul(self.t())).wrapping_add(t)
            }
            None => {
                let output = transform.giant(g).ok_or(RowFault { row: g, rows: 0 })?.output;
                self.acc_of(output, c).wrapping_add(t)
            }
        })
    }

    /// First of the two rows of baby step `i`, counted from the first of its source.
    fn baby_row(&self, i: usize) -> usize {
        self.scratch.babies.wrapping_add((i % BABY_GROUP) << 1)
    }

    /// Modulo one prime: mod-ups of source `s`, then groups of its baby steps and what they add to the sums of all giant
    /// steps.
    pub(super) fn inner<B: Backend, K: KeySource>(
        &self,
        ws: &mut Workspace<'_, B>,
        keys: &K,
        cache: &[u32],
        s: usize,
        pass: usize,
        per: usize,
    ) -> Result<(), PassError> {
        let (t, part) = split_pass(pass, per);
        let Some(part) = part.checked_sub(self.mod_ups(s)) else {
            return Ok(self.extend(ws, t, part)?);
        };
        let transform = self.transform()?;
        let (_, babies) = transform.source(s).ok_or(RowFault { row: s, rows: 0 })?;
        let (group, rest) = split_pass(part, self.passes_per_group(&transform));
        let first = babies.start.wrapping_add(group.wrapping_mul(BABY_GROUP));
        let end = first.wrapping_add(BABY_GROUP).min(babies.end);
        match rest.checked_sub(BABY_GROUP) {
            None => self.baby(ws, keys, s, first..end, rest, t),
            Some(g) if self.cached => Ok(self.cached_sum(ws, cache, g, first..end, t)?),
            Some(rest) => Ok(self.expanded_sum(ws, cache, rest / BABY_GROUP, first..end, rest % BABY_GROUP, t)?),
        }
    }

    /// Baby step number `i` of a group of those of source `s`.
    fn baby<B: Backend, K: KeySource>(
        &self,
        ws: &mut Workspace<'_, B>,
        keys: &K,
        s: usize,
        group: Range<usize>,
        i: usize,
        t: usize,
    ) -> Result<(), PassError> {
        let baby = group.start.wrapping_add(i);
        let Some(rotation) = self.transform()?.baby(baby).filter(|_| group.contains(&baby)) else {
            // The last group may be smaller.
            return Ok(());
        };
        let src = self.source(s)?;
        let row = self.baby_row(i);
        let out = [row, row.wrapping_add(1)];
        if rotation == 0 {
            for (row, out) in [src.c0, src.c1].into_iter().zip(out) {
                self.scale_by_p(ws, t, Some(row.wrapping_add(t)), out)?;
            }
            return Ok(());
        }
        self.switch(
            ws,
            keys,
            t,
            Switch {
                source: Source::Operand(s),
                kind: KeyKind::Rotation(rotation),
                rotation,
                addend: (t < self.l).then_some(src.c0.wrapping_add(t)),
                scaled: true,
                out,
                accumulate: false,
            },
        )
    }

    /// What a group of baby steps adds to the sum of giant step `g`, with plaintexts from the cache.
    fn cached_sum<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        cache: &[u32],
        g: usize,
        group: Range<usize>,
        t: usize,
    ) -> Result<(), RowFault> {
        let fault = RowFault { row: g, rows: 0 };
        let transform = self.transform()?;
        let all = transform.giant(g).ok_or(fault)?.terms;
        let terms = transform.terms_from(&all, group.start);
        let started = terms.start > all.start;
        let m = ws.modulus(self.l, t)?;
        let n = ws.set.n();
        let writes = [(self.inner_row(g, 0, t)?, 1), (self.inner_row(g, 1, t)?, 1)];
        let rows = transform.babies().min(BABY_GROUP) << 1;
        let ([out0, out1], [babies]) = ws.work.parts(writes, [(self.scratch.babies, rows)])?;
        let (mut here, mut scalars) = (false, false);
        let mut products: Vec<Term<'_>, BABY_GROUP> = Vec::new();
        for i in terms.clone() {
            let (baby, index) = transform.term(i).ok_or(fault)?;
            if baby >= group.end {
                break;
            }
            here = true;
            let plain = self.plaintext(index)?;
            if matches!(plain.form, PlainForm::Scalar(_)) {
                scalars = true;
                continue;
            }
            let shared = cached_row(cache, &plain, self.l, self.special, t, n).ok_or(fault)?;
            let pair = baby_rows(babies, baby.wrapping_sub(group.start), n).ok_or(fault)?;
            // Cannot overflow: a giant step has one term for each baby step at most.
            let _ = products.push(Term { shared, pair });
        }
        if !here {
            return Ok(());
        }
        ws.backend.dot_pair([out0, out1], &products, started, &m);
        drop(products);
        if !scalars {
            return Ok(());
        }
        for i in terms {
            let (baby, index) = transform.term(i).ok_or(fault)?;
            if baby >= group.end {
                break;
            }
            if let PlainForm::Scalar(value) = self.plaintext(index)?.form {
                self.scalar_term(ws, g, baby.wrapping_sub(group.start), value, t)?;
            }
        }
        Ok(())
    }

    /// What baby step number `i` of a group adds to the sum of giant step `g`, with plaintexts expanded on the way
    /// unless they are in the cache.
    fn expanded_sum<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        cache: &[u32],
        g: usize,
        group: Range<usize>,
        i: usize,
        t: usize,
    ) -> Result<(), RowFault> {
        let fault = RowFault { row: g, rows: 0 };
        let transform = self.transform()?;
        let all = transform.giant(g).ok_or(fault)?.terms;
        let baby = group.start.wrapping_add(i);
        let terms = transform.terms_from(&all, baby);
        let index = match transform.term(terms.start) {
            Some((other, index)) if other == baby && group.contains(&baby) && !terms.is_empty() => index,
            _ => return Ok(()),
        };
        let started = terms.start > all.start;
        let out = [self.inner_row(g, 0, t)?, self.inner_row(g, 1, t)?];
        let plain = self.plaintext(index)?;
        if let PlainForm::Scalar(value) = plain.form {
            if !started {
                for row in out {
                    ws.work.write(row, 1)?.fill(0);
                }
            }
            return self.scalar_term(ws, g, i, value, t);
        }
        let (m, n) = (ws.modulus(self.l, t)?, ws.set.n());
        let kept = if index < self.kept {
            Some(cached_row(cache, &plain, self.l, self.special, t, n).ok_or(fault)?)
        } else {
            self.expand_plain(ws, index, t, self.scratch.plain)?;
            None
        };
        let reads = [(self.baby_row(i), 2), (self.scratch.plain, 1)];
        let ([out0, out1], [rows, expanded]) = ws.work.parts(out.map(|row| (row, 1)), reads)?;
        let product = Term { shared: kept.unwrap_or(expanded), pair: baby_rows(rows, 0, n).ok_or(fault)? };
        ws.backend.dot_pair([out0, out1], &[product], started, &m);
        Ok(())
    }

    /// Adds a baby step, number `in_group` of its group, times a scalar to the inner sum of giant step `g`.
    fn scalar_term<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        g: usize,
        in_group: usize,
        value: i64,
        t: usize,
    ) -> Result<(), RowFault> {
        let m = ws.modulus(self.l, t)?;
        let row = self.baby_row(in_group);
        for (c, row) in [(0, row), (1, row.wrapping_add(1))] {
            let ([out], [row]) = ws.work.parts([(self.inner_row(g, c, t)?, 1)], [(row, 1)])?;
            ws.backend.mul_scalar_add(out, row, m.shoup(m.reduce_signed(value)), &m);
        }
        Ok(())
    }

    /// Giant step and remainder of a pass over the giant steps that rotate, `per` passes each.
    fn rotated_giant(&self, pass: usize, per: usize) -> Result<(usize, usize), RowFault> {
        let transform = self.transform()?;
        let (step, rest) = split_pass(pass, per);
        Ok((transform.resting_giants().wrapping_add(step), rest))
    }

    /// First tail row of giant step `g`.
    fn giant_tail(&self, g: usize) -> Result<usize, RowFault> {
        let transform = self.transform()?;
        let step = g.wrapping_sub(transform.resting_giants());
        Ok(self.scratch.tail.wrapping_add(step.wrapping_mul(self.special)))
    }

    pub(super) fn giant_inverse<B: Backend>(&self, ws: &mut Workspace<'_, B>, pass: usize) -> Result<(), RowFault> {
        let (g, k) = self.rotated_giant(pass, self.special)?;
        tail_inverse(ws, self.l, (true, 0), k, self.inner_row(g, 1, 0)?, self.giant_tail(g)?.wrapping_add(k))
    }

    fn special_primes(&self) -> Basis {
        Basis::tail(self.program.set(), self.l, true, 0)
    }

    pub(super) fn giant_radix<B: Backend>(&self, ws: &mut Workspace<'_, B>, pass: usize) -> Result<(), RowFault> {
        let (g, _) = self.rotated_giant(pass, 1)?;
        mixed_radix(ws, &self.special_primes(), self.giant_tail(g)?)
    }

    pub(super) fn giant_divide<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        g: usize,
        pass: usize,
    ) -> Result<(), RowFault> {
        let i = pass >> 1;
        if pass & 1 == 1 {
            return self.inverse(ws, Source::Scratch, i);
        }
        let dst = self.scratch.poly.wrapping_add(i);
        divide(ws, self.l, &self.special_primes(), i, self.inner_row(g, 1, 0)?, self.giant_tail(g)?, dst)
    }

    pub(super) fn giant<B: Backend, K: KeySource>(
        &self,
        ws: &mut Workspace<'_, B>,
        keys: &K,
        g: usize,
        pass: usize,
        per: usize,
    ) -> Result<(), PassError> {
        let (t, part) = split_pass(pass, per);
        if part < self.digits {
            return Ok(self.extend(ws, t, part)?);
        }
        let fault = RowFault { row: g, rows: 0 };
        let transform = self.transform()?;
        let Giant { output, rotation, .. } = transform.giant(g).ok_or(fault)?;
        // Whether the accumulator holds a resting giant step or an earlier one.
        let of_output = |g: usize| transform.giant(g).is_some_and(|giant| giant.output == output);
        let begun = (0..transform.resting_giants()).any(of_output) || g.checked_sub(1).is_some_and(of_output);
        let acc = |c: usize| self.acc_of(output, c).wrapping_add(t);
        self.switch(
            ws,
            keys,
            t,
            Switch {
                source: Source::Scratch,
                kind: KeyKind::Rotation(rotation),
                rotation,
                addend: Some(self.inner_row(g, 0, t)?),
                scaled: false,
                out: [acc(0), acc(1)],
                accumulate: begun,
            },
        )
    }
}

/// The two components of baby step `i` of a group.
fn baby_rows(babies: &[u32], i: usize, n: usize) -> Option<[&[u32]; 2]> {
    let start = (i << 1).wrapping_mul(n);
    let (c0, c1) = babies.get(start..start.wrapping_add(n << 1))?.split_at_checked(n)?;
    Some([c0, c1])
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
