//! Passes that touch one limb and need no key: products and sums with plaintexts, sums, copies; and the
//! expansion of plaintexts that they and the linear transform share.

use super::Job;
use super::linear_transform::cached_row;
use crate::math::{Backend, Term};
use crate::params::ParamSet;
use crate::program::{Operation, PlainForm, Plaintext};
use crate::scratch::{RowFault, Tables, Workspace};
use crate::wire::load_words;

/// Writes a plaintext modulo prime `t` of the extended basis at `limbs` limbs to `out`: Ntt domain,
/// Montgomery form. Scalars have no row and leave `out` alone.
///
/// # Errors
/// [`RowFault`] if there is no such prime.
pub fn expand<B: Backend>(
    set: &ParamSet,
    tables: &Tables<'_>,
    backend: B,
    plain: &Plaintext<'_>,
    limbs: usize,
    t: usize,
    out: &mut [u32],
) -> Result<(), RowFault> {
    let table = tables.get(set, limbs, t)?;
    match plain.form {
        PlainForm::Scalar(_) => {}
        PlainForm::Compact { bytes, wide } => {
            backend.expand_signed(out, bytes, wide, table.modulus.montgomery_factor(), &table.modulus);
            backend.forward(out, &table);
        }
        PlainForm::Ntt { bytes } => {
            let row = if t < limbs { t } else { t.wrapping_sub(limbs).wrapping_add(plain.limbs) };
            let len = set.n() << 2;
            let start = row.wrapping_mul(len);
            let fault = RowFault { row, rows: 1 };
            load_words(out, bytes.get(start..start.wrapping_add(len)).ok_or(fault)?);
        }
    }
    Ok(())
}

impl Job<'_> {
    pub(super) fn expand_plain<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        plain: usize,
        t: usize,
        row: usize,
    ) -> Result<(), RowFault> {
        let out = ws.work.write(row, 1)?;
        expand(&ws.set, ws.tables, ws.backend, &self.plaintext(plain)?, self.l, t, out)
    }

    /// The plaintext operand, if this pass is not the one that only expands it; and the limb.
    fn plain_pass<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        plain: usize,
        pass: usize,
    ) -> Result<Option<usize>, RowFault> {
        if self.cached {
            return Ok(Some(pass));
        }
        let t = pass >> 1;
        if pass & 1 == 0 {
            self.expand_plain(ws, plain, t, self.scratch.plain)?;
            return Ok(None);
        }
        Ok(Some(t))
    }

    pub(super) fn mul_plain<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        cache: &[u32],
        pass: usize,
    ) -> Result<(), RowFault> {
        let Operation::MulPlain { plain, .. } = self.instruction.operation else {
            return Err(RowFault { row: 0, rows: 0 });
        };
        let Some(t) = self.plain_pass(ws, plain, pass)? else { return Ok(()) };
        let p = self.plaintext(plain)?;
        let m = ws.modulus(self.l, t)?;
        let (src, n) = (self.src()?, ws.set.n());
        let writes = [(self.acc(0).wrapping_add(t), 1), (self.acc(1).wrapping_add(t), 1)];
        let reads = [(src.c0.wrapping_add(t), 1), (src.c1.wrapping_add(t), 1), (self.scratch.plain, 1)];
        let ([out0, out1], [c0, c1, expanded]) = ws.work.parts(writes, reads)?;
        if let PlainForm::Scalar(value) = p.form {
            let factor = m.shoup(m.reduce_signed(value));
            ws.backend.mul_scalar(out0, c0, factor, &m);
            ws.backend.mul_scalar(out1, c1, factor, &m);
            return Ok(());
        }
        let shared = if self.cached {
            cached_row(cache, &p, self.l, self.special, t, n).ok_or(RowFault { row: p.cache_row, rows: 1 })?
        } else {
            expanded
        };
        ws.backend.dot_pair([out0, out1], &[Term { shared, pair: [c0, c1] }], false, &m);
        Ok(())
    }

    pub(super) fn add_plain<B: Backend>(
        &self,
        ws: &mut Workspace<'_, B>,
        cache: &[u32],
        pass: usize,
    ) -> Result<(), RowFault> {
        let Operation::AddPlain { plain, .. } = self.instruction.operation else {
            return Err(RowFault { row: 0, rows: 0 });
        };
        let Some(t) = self.plain_pass(ws, plain, pass)? else { return Ok(()) };
        let p = self.plaintext(plain)?;
        let m = ws.modulus(self.l, t)?;
        self.copy_operand(ws, t)?;
        let ([out], [addend]) = ws.work.parts([(self.dst()?.c0.wrapping_add(t), 1)], [(self.scratch.plain, 1)])?;
        if let PlainForm::Scalar(value) = p.form {
            // A constant polynomial has the same value in every slot.
            ws.backend.add_scalar_assign(out, m.reduce_signed(value), &m);
            return Ok(());
        }
        let addend = if self.cached {
            let n = ws.set.n();
            cached_row(cache, &p, self.l, self.special, t, n).ok_or(RowFault { row: p.cache_row, rows: 1 })?
        } else {
            addend
        };
        // Plaintext rows are in Montgomery form.
        ws.backend.redc_add(out, addend, &m);
        Ok(())
    }

    /// Limb `t` of the first operand to the result, unless they are the same buffer.
    fn copy_operand<B: Backend>(&self, ws: &mut Workspace<'_, B>, t: usize) -> Result<(), RowFault> {
        let (dst, src) = (self.dst()?, self.src()?);
        if dst != src {
            for (to, from) in [(dst.c0, src.c0), (dst.c1, src.c1)] {
                ws.work.copy(from.wrapping_add(t), to.wrapping_add(t))?;
            }
        }
        Ok(())
    }

    pub(super) fn add<B: Backend>(&self, ws: &mut Workspace<'_, B>, t: usize) -> Result<(), RowFault> {
        let Operation::Add { b, .. } = self.instruction.operation else {
            return Err(RowFault { row: 0, rows: 0 });
        };
        self.copy_operand(ws, t)?;
        let m = ws.modulus(self.l, t)?;
        let (dst, right) = (self.dst()?, self.rows(b)?);
        for (to, from) in [(dst.c0, right.c0), (dst.c1, right.c1)] {
            let ([out], [row]) = ws.work.parts([(to.wrapping_add(t), 1)], [(from.wrapping_add(t), 1)])?;
            ws.backend.add_assign(out, row, &m);
        }
        Ok(())
    }

    pub(super) fn load<B: Backend>(&self, ws: &mut Workspace<'_, B>, t: usize) -> Result<(), RowFault> {
        let src = self.src()?;
        ws.work.copy(src.c0.wrapping_add(t), self.acc(0).wrapping_add(t))?;
        ws.work.copy(src.c1.wrapping_add(t), self.acc(1).wrapping_add(t))
    }

    pub(super) fn store<B: Backend>(&self, ws: &mut Workspace<'_, B>, t: usize) -> Result<(), RowFault> {
        let dst = self.dst()?;
        ws.work.copy(self.acc(0).wrapping_add(t), dst.c0.wrapping_add(t))?;
        ws.work.copy(self.acc(1).wrapping_add(t), dst.c1.wrapping_add(t))
    }
}
