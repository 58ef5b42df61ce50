//! Sums of products and automorphisms over vectors.
//!
//! Plain loops and no closures: a closure would be compiled without the backend's instructions.

use super::super::portable::{self, BLOCK, BlockMap};
use super::super::vector::{Prime, Vector};
use super::super::{MAX_DOT, Term};
use crate::math::Modulus;

/// Most terms that share one Montgomery reduction, less one for an addend: see [`Prime::redc_wide`].
const GROUP: usize = 8;

/// Blocks between what is prefetched and what is used. Keys come from memory, and hardware stops at every page.
const AHEAD: usize = 16;

/// Whether all rows have `n` words and vectors fill them.
#[inline(always)]
fn regular(n: usize, out: &[&mut [u32]; 2], terms: &[Term<'_>]) -> bool {
    n.is_multiple_of(BLOCK)
        && !terms.is_empty()
        && terms.len() <= MAX_DOT
        && out.iter().all(|row| row.len() == n)
        && terms.iter().all(|t| t.shared.len() == n && t.pair.iter().all(|row| row.len() == n))
}

/// `K` terms, at most [`GROUP`].
#[inline(always)]
fn group<V: Vector, const K: usize>(
    [out0, out1]: &mut [&mut [u32]; 2],
    terms: &[Term<'_>; K],
    accumulate: bool,
    p: &Prime<V>,
) {
    let lanes = V::LANES.max(1);
    let rows = terms.map(|Term { shared, pair: [x, y] }| [shared, x, y].map(|row| row.as_chunks::<BLOCK>().0));
    let mut at = 0usize;
    for (out0, out1) in out0.chunks_exact_mut(lanes).zip(out1.chunks_exact_mut(lanes)) {
        let next = at.wrapping_add(lanes);
        if at.is_multiple_of(BLOCK) {
            let ahead = (at / BLOCK).wrapping_add(AHEAD);
            for [shared, x, y] in &rows {
                if let (Some(shared), Some(x), Some(y)) = (shared.get(ahead), x.get(ahead), y.get(ahead)) {
                    V::prefetch(shared);
                    V::prefetch(x);
                    V::prefetch(y);
                }
            }
        }
        let (mut sum0, mut sum1) = (V::wide_zero(), V::wide_zero());
        for Term { shared, pair: [x, y] } in terms {
            if let (Some(shared), Some(x), Some(y)) = (shared.get(at..next), x.get(at..next), y.get(at..next)) {
                let shared = V::load(shared);
                sum0 = V::wide_mul_add(sum0, shared, V::load(x));
                sum1 = V::wide_mul_add(sum1, shared, V::load(y));
            }
        }
        let (sum0, sum1) = if K <= 4 { (p.redc(sum0), p.redc(sum1)) } else { (p.redc_wide(sum0), p.redc_wide(sum1)) };
        if accumulate {
            p.add(V::load(out0), sum0).store(out0);
            p.add(V::load(out1), sum1).store(out1);
        } else {
            sum0.store(out0);
            sum1.store(out1);
        }
        at = next;
    }
}

#[inline(always)]
pub fn dot_pair<V: Vector>(mut out: [&mut [u32]; 2], terms: &[Term<'_>], accumulate: bool, m: &Modulus) {
    let [first, _] = &out;
    if !regular(first.len(), &out, terms) {
        return portable::dot_pair(out, terms, accumulate, m);
    }
    let p = Prime::<V>::new(m);
    let (groups, rest) = terms.as_chunks::<GROUP>();
    let (fours, rest) = rest.as_chunks::<4>();
    let mut add = accumulate;
    for terms in groups {
        group(&mut out, terms, add, &p);
        add = true;
    }
    for terms in fours {
        group(&mut out, terms, add, &p);
        add = true;
    }
    match *rest {
        [a, b, c] => group(&mut out, &[a, b, c], add, &p),
        [a, b] => group(&mut out, &[a, b], add, &p),
        [a] => group(&mut out, &[a], add, &p),
        _ => {}
    }
}

/// Writes or adds a permuted block.
#[inline(always)]
fn put<V: Vector>(out: &mut [u32; BLOCK], sum: &[u32; BLOCK], order: &[u8; BLOCK], accumulate: bool, p: &Prime<V>) {
    let lanes = V::LANES.max(1);
    let sum = V::permute(sum, order);
    for (out, sum) in out.chunks_exact_mut(lanes).zip(sum.chunks_exact(lanes)) {
        let sum = V::load(sum);
        let value = if accumulate { p.add(V::load(out), sum) } else { sum };
        value.store(out);
    }
}

/// `K` terms, at most four, and the addend.
#[inline(always)]
fn rotated_group<V: Vector, const K: usize>(
    [out0, out1]: &mut [&mut [u32]; 2],
    terms: &[Term<'_>; K],
    addend: Option<(&[u32], u32)>,
    map: &BlockMap,
    accumulate: bool,
    p: &Prime<V>,
) {
    let lanes = V::LANES.max(1);
    let (addend, factor) = addend.map_or((&[] as &[u32], 0), |addend| addend);
    let (addend, factor) = (addend.as_chunks::<BLOCK>().0, V::splat(factor));
    let rows = terms.map(|Term { shared, pair: [x, y] }| [shared, x, y].map(|row| row.as_chunks::<BLOCK>().0));
    let (blocks0, blocks1) = (out0.as_chunks_mut::<BLOCK>().0, out1.as_chunks_mut::<BLOCK>().0);
    for source in 0..blocks0.len() {
        for [_, x, y] in &rows {
            let ahead = source.wrapping_add(AHEAD);
            if let (Some(x), Some(y)) = (x.get(ahead), y.get(ahead)) {
                V::prefetch(x);
                V::prefetch(y);
            }
        }
        let (mut x0, mut x1) = ([0u32; BLOCK], [0u32; BLOCK]);
        let mut at = 0usize;
        for (x0, x1) in x0.chunks_exact_mut(lanes).zip(x1.chunks_exact_mut(lanes)) {
            let (mut sum0, mut sum1) = (V::wide_zero(), V::wide_zero());
            for [shared, x, y] in &rows {
                if let (Some(shared), Some(x), Some(y)) = (shared.get(source), x.get(source), y.get(source)) {
                    let shared = V::load(shared.get(at..).unwrap_or(&[]));
                    sum0 = V::wide_mul_add(sum0, shared, V::load(x.get(at..).unwrap_or(&[])));
                    sum1 = V::wide_mul_add(sum1, shared, V::load(y.get(at..).unwrap_or(&[])));
                }
            }
            if let Some(addend) = addend.get(source) {
                sum0 = V::wide_mul_add(sum0, V::load(addend.get(at..).unwrap_or(&[])), factor);
            }
            p.redc_wide(sum0).store(x0);
            p.redc(sum1).store(x1);
            at = at.wrapping_add(lanes);
        }
        let (target, order) = map.target(source as u32);
        if let (Some(out0), Some(out1)) = (blocks0.get_mut(target), blocks1.get_mut(target)) {
            put(out0, &x0, order, accumulate, p);
            put(out1, &x1, order, accumulate, p);
        }
    }
}

#[inline(always)]
pub fn rotate_dot_pair<V: Vector>(
    mut out: [&mut [u32]; 2],
    terms: &[Term<'_>],
    addend: Option<(&[u32], u32)>,
    g: u32,
    accumulate: bool,
    m: &Modulus,
) {
    let [first, _] = &out;
    let n = first.len();
    if !regular(n, &out, terms) || addend.is_some_and(|(row, _)| row.len() != n) {
        return portable::rotate_dot_pair(out, terms, addend, g, accumulate, m);
    }
    let p = Prime::<V>::new(m);
    let map = BlockMap::new(n, g);
    let (fours, rest) = terms.as_chunks::<4>();
    // The addend goes with the first group.
    let (mut addend, mut add) = (addend, accumulate);
    for terms in fours {
        rotated_group(&mut out, terms, addend.take(), &map, add, &p);
        add = true;
    }
    match *rest {
        [a, b, c] => rotated_group(&mut out, &[a, b, c], addend, &map, add, &p),
        [a, b] => rotated_group(&mut out, &[a, b], addend, &map, add, &p),
        [a] => rotated_group(&mut out, &[a], addend, &map, add, &p),
        _ => {}
    }
}

#[inline(always)]
pub fn automorphism<V: Vector>(dst: &mut [u32], src: &[u32], g: u32) {
    let map = BlockMap::new(dst.len(), g);
    let (blocks, _) = dst.as_chunks_mut::<BLOCK>();
    for (source, block) in (0..src.len() as u32).zip(src.as_chunks::<BLOCK>().0) {
        let (target, order) = map.target(source);
        if let Some(out) = blocks.get_mut(target) {
            *out = V::permute(block, order);
        }
    }
}

/// `K` rows, at most four.
#[inline(always)]
fn recomposed<V: Vector, const K: usize>(dst: &mut [u32], rows: [(&[u32], u32); K], centre: u32, p: &Prime<V>) {
    let lanes = V::LANES.max(1);
    let rows = rows.map(|(row, weight)| (row, V::splat(weight)));
    let centre = p.p.sub(V::splat(centre));
    let mut at = 0usize;
    for out in dst.chunks_exact_mut(lanes) {
        let next = at.wrapping_add(lanes);
        let mut sum = V::wide_zero();
        for (row, weight) in rows {
            sum = V::wide_mul_add(sum, V::load(row.get(at..next).unwrap_or_default()), weight);
        }
        p.add(p.redc(sum), centre).store(out);
        at = next;
    }
}

#[inline(always)]
pub fn recompose<V: Vector>(dst: &mut [u32], digits: &[u32], weights: &[u32], centre: u32, m: &Modulus) {
    let n = dst.len();
    let p = Prime::<V>::new(m);
    let mut rows = digits.chunks_exact(n.max(1)).zip(weights.iter().copied());
    match [rows.next(), rows.next(), rows.next(), rows.next()] {
        _ if !n.is_multiple_of(BLOCK) => portable::recompose(dst, digits, weights, centre, m),
        [Some(a), None, ..] => recomposed(dst, [a], centre, &p),
        [Some(a), Some(b), None, _] => recomposed(dst, [a, b], centre, &p),
        [Some(a), Some(b), Some(c), None] => recomposed(dst, [a, b, c], centre, &p),
        [Some(a), Some(b), Some(c), Some(d)] => recomposed(dst, [a, b, c, d], centre, &p),
        _ => {}
    }
}
