//! Sums of products and automorphisms over vectors.

use super::super::portable;
use super::super::vector::{Prime, Vector};
use crate::math::Modulus;

/// One group of `K` pairs of rows, at most four: one Montgomery reduction.
#[inline(always)]
fn group<V: Vector, const K: usize>(dst: &mut [u32], pairs: &[(&[u32], &[u32]); K], accumulate: bool, p: &Prime<V>) {
    let lanes = V::LANES.max(1);
    let mut at = 0usize;
    for out in dst.chunks_exact_mut(lanes) {
        let next = at.wrapping_add(lanes);
        let mut sum = V::wide_zero();
        for (a, b) in pairs {
            if let (Some(a), Some(b)) = (a.get(at..next), b.get(at..next)) {
                sum = V::wide_mul_add(sum, V::load(a), V::load(b));
            }
        }
        let value = p.redc(sum);
        let value = if accumulate { p.add(V::load(out), value) } else { value };
        value.store(out);
        at = next;
    }
}

#[inline(always)]
pub fn dot<V: Vector>(dst: &mut [u32], pairs: &[(&[u32], &[u32])], accumulate: bool, m: &Modulus) {
    let n = dst.len();
    let whole = n & V::LANES.wrapping_sub(1) == 0;
    if !whole || pairs.is_empty() || pairs.iter().any(|(a, b)| a.len() != n || b.len() != n) {
        return portable::dot(dst, pairs, accumulate, m);
    }
    let p = Prime::<V>::new(m);
    let (quads, rest) = pairs.as_chunks::<4>();
    let mut add = accumulate;
    for quad in quads {
        group(dst, quad, add, &p);
        add = true;
    }
    match *rest {
        [a, b, c] => group(dst, &[a, b, c], add, &p),
        [a, b] => group(dst, &[a, b], add, &p),
        [a] => group(dst, &[a], add, &p),
        _ => {}
    }
}

/// The vectors of a block of 16.
#[inline(always)]
fn vectors<V: Vector>(block: &mut [u32; 16], order: &[u8; 16], from: &[u32; 16], f: impl Fn(V, V) -> V) {
    V::permute(from, order, |k, source| {
        if let Some(out) = block.chunks_exact_mut(V::LANES.max(1)).nth(k) {
            f(V::load(out), source).store(out);
        }
    });
}

#[inline(always)]
pub fn automorphism<V: Vector>(dst: &mut [u32], src: &[u32], g: u32) {
    portable::permute(dst, src, g, |out, block, order| vectors::<V>(out, order, block, |_, x| x));
}

#[inline(always)]
pub fn automorphism_add<V: Vector>(dst: &mut [u32], src: &[u32], g: u32, m: &Modulus) {
    let p = Prime::<V>::new(m);
    portable::permute(dst, src, g, |out, block, order| vectors::<V>(out, order, block, |old, x| p.add(old, x)));
}
