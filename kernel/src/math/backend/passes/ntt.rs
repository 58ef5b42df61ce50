//! Transforms over vectors: two levels per pass over the row, the last levels inside registers.
//!
//! Plain loops and no closures: a closure would be compiled without the backend's instructions.

use super::super::portable;
use super::super::vector::{Factor, Prime, Vector, fits, reduce};
use crate::math::{NttTable, Shoup};

/// Front of the lower and back of the upper half of a row, without their first elements: mirror images.
#[inline(always)]
fn mirror(row: &mut [u32]) -> (&mut [u32], &mut [u32]) {
    let half = row.len() >> 1;
    match row.split_at_mut_checked(half) {
        Some((low, high)) => (low.get_mut(1..).unwrap_or(&mut []), high.get_mut(1..).unwrap_or(&mut [])),
        None => (&mut [], &mut []),
    }
}

/// `c_i = a_i - I a_(N-i)`. Range: `[0, p)` to `[0, 3p)`.
#[inline(always)]
fn fold<V: Vector>(row: &mut [u32], table: &NttTable<'_>, p: &Prime<V>) {
    let m = &table.modulus;
    let unit = table.imaginary_unit();
    let two_p = m.value().wrapping_shl(1);
    let middle = row.len() >> 1;
    if let Some(mid) = row.get_mut(middle) {
        *mid = mid.wrapping_add(two_p).wrapping_sub(m.mul_shoup_lazy(*mid, unit));
    }
    let factor = Factor::<V>::splat(unit);
    let (low, high) = mirror(row);
    let (mut front, mut back) = (low.chunks_exact_mut(V::LANES.max(1)), high.rchunks_exact_mut(V::LANES.max(1)));
    for (x, y) in front.by_ref().zip(back.by_ref()) {
        let (a, b) = (V::load(x), V::load(y));
        a.add(p.two_p).sub(p.mul_lazy(b.reversed(), factor)).store(x);
        b.add(p.two_p).sub(p.mul_lazy(a.reversed(), factor)).store(y);
    }
    for (x, y) in front.into_remainder().iter_mut().zip(back.into_remainder().iter_mut().rev()) {
        let (a, b) = (*x, *y);
        *x = a.wrapping_add(two_p).wrapping_sub(m.mul_shoup_lazy(b, unit));
        *y = b.wrapping_add(two_p).wrapping_sub(m.mul_shoup_lazy(a, unit));
    }
}

/// `a_i = (c_i + I c_(N-i)) / 2N`, `a_0 = c_0 / N`. Range: `[0, 2p)` to `[0, p)`.
#[inline(always)]
fn unfold<V: Vector>(row: &mut [u32], table: &NttTable<'_>, p: &Prime<V>) {
    let m = &table.modulus;
    let unit: Shoup = table.imaginary_unit();
    let (full, scale) = (table.n_inverse(), portable::half_scale(table));
    if let Some(zero) = row.first_mut() {
        *zero = m.mul_shoup(*zero, full);
    }
    let middle = row.len() >> 1;
    if let Some(mid) = row.get_mut(middle) {
        *mid = m.mul_shoup(mid.wrapping_add(m.mul_shoup_lazy(*mid, unit)), scale);
    }
    let (unit_v, scale_v) = (Factor::<V>::splat(unit), Factor::<V>::splat(scale));
    let (low, high) = mirror(row);
    let (mut front, mut back) = (low.chunks_exact_mut(V::LANES.max(1)), high.rchunks_exact_mut(V::LANES.max(1)));
    for (x, y) in front.by_ref().zip(back.by_ref()) {
        let (a, b) = (V::load(x), V::load(y));
        p.mul(a.add(p.mul_lazy(b.reversed(), unit_v)), scale_v).store(x);
        p.mul(b.add(p.mul_lazy(a.reversed(), unit_v)), scale_v).store(y);
    }
    for (x, y) in front.into_remainder().iter_mut().zip(back.into_remainder().iter_mut().rev()) {
        let (a, b) = (*x, *y);
        *x = m.mul_shoup(a.wrapping_add(m.mul_shoup_lazy(b, unit)), scale);
        *y = m.mul_shoup(b.wrapping_add(m.mul_shoup_lazy(a, unit)), scale);
    }
}

/// Factors of a node and of its children.
#[inline(always)]
fn family<V: Vector>(w: &[u32], q: &[u32], node: usize) -> [Factor<V>; 3] {
    let child = node << 1;
    [Factor::twiddle(w, q, node), Factor::twiddle(w, q, child), Factor::twiddle(w, q, child | 1)]
}

/// The quarters of a block of `4 h` words.
#[inline(always)]
fn quarters(block: &mut [u32], h: usize) -> Option<[&mut [u32]; 4]> {
    let (left, right) = block.split_at_mut_checked(h << 1)?;
    let ((a, b), (c, d)) = (left.split_at_mut_checked(h)?, right.split_at_mut_checked(h)?);
    Some([a, b, c, d])
}

/// One level, from blocks of `2 h` words.
#[inline(always)]
fn forward_single<V: Vector>(row: &mut [u32], table: &NttTable<'_>, nodes: usize, h: usize, p: &Prime<V>) {
    let lanes = V::LANES.max(1);
    for (node, block) in (nodes..nodes << 1).zip(row.chunks_exact_mut(h.wrapping_shl(1).max(1))) {
        let w = Factor::twiddle(table.forward, table.forward_quotient, node);
        let Some((a, b)) = block.split_at_mut_checked(h) else { return };
        for (a, b) in a.chunks_exact_mut(lanes).zip(b.chunks_exact_mut(lanes)) {
            let (x, y) = p.butterfly(V::load(a), V::load(b), w);
            x.store(a);
            y.store(b);
        }
    }
}

/// Two levels: nodes `m ..` with blocks of `4 h` words, then their children.
#[inline(always)]
fn forward_pair<V: Vector>(row: &mut [u32], table: &NttTable<'_>, nodes: usize, h: usize, p: &Prime<V>) {
    let lanes = V::LANES.max(1);
    for (node, block) in (nodes..nodes << 1).zip(row.chunks_exact_mut(h.wrapping_shl(2).max(1))) {
        let [w1, w2, w3] = family::<V>(table.forward, table.forward_quotient, node);
        let Some([a, b, c, d]) = quarters(block, h) else { return };
        let ab = a.chunks_exact_mut(lanes).zip(b.chunks_exact_mut(lanes));
        let cd = c.chunks_exact_mut(lanes).zip(d.chunks_exact_mut(lanes));
        for ((a, b), (c, d)) in ab.zip(cd) {
            let (x0, x2) = p.butterfly(V::load(a), V::load(c), w1);
            let (x1, x3) = p.butterfly(V::load(b), V::load(d), w1);
            let (x0, x1) = p.butterfly(x0, x1, w2);
            let (x2, x3) = p.butterfly(x2, x3, w3);
            x0.store(a);
            x1.store(b);
            x2.store(c);
            x3.store(d);
        }
    }
}

/// One level of the inverse tree.
#[inline(always)]
fn inverse_single<V: Vector>(row: &mut [u32], table: &NttTable<'_>, nodes: usize, h: usize, p: &Prime<V>) {
    let lanes = V::LANES.max(1);
    for (node, block) in (nodes..nodes << 1).zip(row.chunks_exact_mut(h.wrapping_shl(1).max(1))) {
        let w = Factor::twiddle(table.inverse, table.inverse_quotient, node);
        let Some((a, b)) = block.split_at_mut_checked(h) else { return };
        for (a, b) in a.chunks_exact_mut(lanes).zip(b.chunks_exact_mut(lanes)) {
            let (x, y) = p.inverse_butterfly(V::load(a), V::load(b), w);
            x.store(a);
            y.store(b);
        }
    }
}

/// Two levels of the inverse tree: the children with blocks of `2 h` words, then nodes `m ..`.
#[inline(always)]
fn inverse_pair<V: Vector>(row: &mut [u32], table: &NttTable<'_>, nodes: usize, h: usize, p: &Prime<V>) {
    let lanes = V::LANES.max(1);
    for (node, block) in (nodes..nodes << 1).zip(row.chunks_exact_mut(h.wrapping_shl(2).max(1))) {
        let [w1, w2, w3] = family::<V>(table.inverse, table.inverse_quotient, node);
        let Some([a, b, c, d]) = quarters(block, h) else { return };
        let ab = a.chunks_exact_mut(lanes).zip(b.chunks_exact_mut(lanes));
        let cd = c.chunks_exact_mut(lanes).zip(d.chunks_exact_mut(lanes));
        for ((a, b), (c, d)) in ab.zip(cd) {
            let (x0, x1) = p.inverse_butterfly(V::load(a), V::load(b), w2);
            let (x2, x3) = p.inverse_butterfly(V::load(c), V::load(d), w3);
            let (x0, x2) = p.inverse_butterfly(x0, x2, w1);
            let (x1, x3) = p.inverse_butterfly(x1, x3, w1);
            x0.store(a);
            x1.store(b);
            x2.store(c);
            x3.store(d);
        }
    }
}

/// The factor of last level `k` for the `i`-th pair of vectors: that level has `N / LANES << k` nodes.
#[inline(always)]
fn last_factor<V: Vector>(w: &[u32], q: &[u32], k: usize, i: usize) -> Option<Factor<V>> {
    let count = 2usize << k;
    let start = ((w.len() >> V::LEVELS) << k).wrapping_add(i.wrapping_mul(count));
    let range = start..start.wrapping_add(count);
    Some(Factor::new(V::spread(k, w.get(range.clone())?), V::spread(k, q.get(range)?)))
}

#[inline(always)]
pub fn forward<V: Vector>(row: &mut [u32], table: &NttTable<'_>) {
    if !fits(row, table) {
        return portable::forward(row, table);
    }
    let p = Prime::<V>::new(&table.modulus);
    let n = row.len();
    fold(row, table, &p);
    let (mut nodes, mut half) = (1usize, n >> 1);
    if (n.trailing_zeros() as usize ^ V::LEVELS) & 1 == 1 {
        forward_single(row, table, nodes, half, &p);
        nodes <<= 1;
        half >>= 1;
    }
    while half >= V::LANES << 1 {
        forward_pair(row, table, nodes, half >> 1, &p);
        nodes = nodes.wrapping_shl(2);
        half >>= 2;
    }
    for (i, block) in (0..n).zip(row.chunks_exact_mut((V::LANES << 1).max(1))) {
        let Some((a, b)) = block.split_at_mut_checked(V::LANES) else { return };
        let (mut x, mut y) = (V::load(a), V::load(b));
        for k in 0..V::LEVELS {
            let Some(w) = last_factor(table.forward, table.forward_quotient, k, i) else { return };
            (x, y) = V::split(k, x, y);
            (x, y) = p.butterfly(x, y, w);
        }
        x = reduce(reduce(x, p.two_p), p.p);
        y = reduce(reduce(y, p.two_p), p.p);
        (x, y) = V::gather(x, y);
        x.store(a);
        y.store(b);
    }
}

#[inline(always)]
pub fn inverse<V: Vector>(row: &mut [u32], table: &NttTable<'_>) {
    if !fits(row, table) {
        return portable::inverse(row, table);
    }
    let p = Prime::<V>::new(&table.modulus);
    let n = row.len();
    for (i, block) in (0..n).zip(row.chunks_exact_mut((V::LANES << 1).max(1))) {
        let Some((a, b)) = block.split_at_mut_checked(V::LANES) else { return };
        let (mut x, mut y) = V::scatter(V::load(a), V::load(b));
        for k in (0..V::LEVELS).rev() {
            let Some(w) = last_factor(table.inverse, table.inverse_quotient, k, i) else { return };
            (x, y) = p.inverse_butterfly(x, y, w);
            (x, y) = V::join(k, x, y);
        }
        x.store(a);
        y.store(b);
    }
    let (mut nodes, mut half) = (n >> V::LEVELS >> 1, V::LANES);
    while nodes >= 2 {
        nodes >>= 1;
        inverse_pair(row, table, nodes, half, &p);
        nodes >>= 1;
        half = half.wrapping_shl(2);
    }
    if nodes == 1 {
        inverse_single(row, table, 1, half, &p);
    }
    unfold(row, table, &p);
}
