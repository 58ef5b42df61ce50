//! Mod-up: a key-switching digit, known modulo its own primes, is extended to the whole basis.

use super::Basis;
use crate::math::Backend;
use crate::scratch::{RowFault, Workspace};

/// Turns rows `row ..` from residues modulo the primes of `basis` into centred mixed-radix digits, in place.
///
/// Domain: Coeff. Range: `[0, p)` of each row's prime.
///
/// # Errors
/// [`RowFault`] if a row lies outside the arena.
pub fn mixed_radix<B: Backend>(ws: &mut Workspace<'_, B>, basis: &Basis, row: usize) -> Result<(), RowFault> {
    let fault = RowFault { row, rows: basis.len() };
    for (i, m) in basis.primes().iter().enumerate() {
        let x = ws.work.write(row.wrapping_add(i), 1)?;
        ws.backend.add_scalar_assign(x, Basis::own_centre(m), m);
        for k in 0..i {
            let ([x], [v]) = ws.work.parts([(row.wrapping_add(i), 1)], [(row.wrapping_add(k), 1)])?;
            let w = basis.garner_factor(k, i).ok_or(fault)?;
            ws.backend.garner_step(x, v, w, m);
        }
    }
    Ok(())
}

/// Writes digit `j` modulo prime `t` of the extended basis, not one of its own, to row `dst`, in the Ntt domain.
///
/// `coeff` is the first of `limbs` rows that hold mixed-radix digits.
///
/// # Errors
/// [`RowFault`] if a row lies outside the arena.
pub fn extend<B: Backend>(
    ws: &mut Workspace<'_, B>,
    limbs: usize,
    j: usize,
    t: usize,
    coeff: usize,
    dst: usize,
) -> Result<(), RowFault> {
    let start = j.wrapping_mul(ws.set.digit());
    let basis = Basis::digit(&ws.set, limbs, j);
    let table = ws.tables.get(&ws.set, limbs, t)?;
    let (weights, centre) = basis.weights(&table.modulus);
    let ([out], [digits]) = ws.work.parts([(dst, 1)], [(coeff.wrapping_add(start), basis.len())])?;
    ws.backend.recompose(out, digits, &weights, centre, &table.modulus);
    ws.backend.forward(out, &table);
    Ok(())
}
