//! Mod-down: division by the special primes and, in the same pass, by the primes that a rescale drops.

use super::Basis;
use crate::math::Backend;
use crate::scratch::{RowFault, Workspace};

/// Copies the residue modulo prime `k` of the tail of an accumulator to row `dst` and transforms it back.
///
/// `acc` is the accumulator's first row: `limbs` rows for q, then the special primes. `drop` limbs are divided away.
///
/// # Errors
/// [`RowFault`] if a row lies outside the arena.
pub fn tail_inverse<B: Backend>(
    ws: &mut Workspace<'_, B>,
    limbs: usize,
    (special, drop): (bool, usize),
    k: usize,
    acc: usize,
    dst: usize,
) -> Result<(), RowFault> {
    // Special primes come first in a tail, then the last limbs.
    let specials = if special { ws.set.special() } else { 0 };
    let first = limbs.wrapping_sub(drop);
    let t = if k < specials { limbs.wrapping_add(k) } else { first.wrapping_add(k.wrapping_sub(specials)) };
    let table = ws.tables.get(&ws.set, limbs, t)?;
    ws.work.copy(acc.wrapping_add(t), dst)?;
    ws.backend.inverse(ws.work.write(dst, 1)?, &table);
    Ok(())
}

/// `dst = (acc_i - [acc]_D) / D` modulo `q_i`, D the product of the tail: division rounded to nearest.
///
/// Domain: Ntt. `digits` is the first row of the tail's mixed-radix digits.
///
/// # Errors
/// [`RowFault`] if a row lies outside the arena.
pub fn divide<B: Backend>(
    ws: &mut Workspace<'_, B>,
    limbs: usize,
    tail: &Basis,
    i: usize,
    acc: usize,
    digits: usize,
    dst: usize,
) -> Result<(), RowFault> {
    let table = ws.tables.get(&ws.set, limbs, i)?;
    let m = &table.modulus;
    let (weights, centre) = tail.weights(m);
    let inverse = m.shoup(m.inv(tail.product(m)));
    let ([out], [source, digits]) = ws.work.parts([(dst, 1)], [(acc.wrapping_add(i), 1), (digits, tail.len())])?;
    ws.backend.recompose(out, digits, &weights, centre, m);
    ws.backend.forward(out, &table);
    ws.backend.sub_from_mul(out, source, inverse, m);
    Ok(())
}
