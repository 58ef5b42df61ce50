//! Transforms over vectors: two levels per pass, the last levels inside registers. Once a node's words fit the first
//! cache, all levels below it are done before the next node.
//!
//! Plain loops and no closures: a closure would be compiled without the backend's instructions.

use super::super::portable::{self, halves};
use super::super::vector::{Factor, Lazy, Prime, Vector, fits, reduce};
use crate::math::{Modulus, NttTable, Shoup};

/// Words of a node that are worked on while they stay in the first cache: 16 KiB.
const NODE_WORDS: usize = 4096;

/// How large words have become during a forward transform, in units of p.
#[derive(Clone, Copy)]
struct Growth {
    bound: u32,
    limit: u32,
}

impl Growth {
    /// After the fold.
    #[inline(always)]
    fn new(m: &Modulus) -> Self {
        Self { bound: 3, limit: u32::MAX.checked_div(m.value()).unwrap_or(0) }
    }

    /// What the first of the next levels does to x; those after it in the same pass let words grow, except that with
    /// `Reduce` all do the same. Below 2^28 a prime leaves room for several levels.
    #[inline(always)]
    fn next(&mut self, levels: u32) -> Lazy {
        let growth = levels << 1;
        if self.limit < 16 {
            self.bound = 4;
            Lazy::Reduce
        } else if self.bound.wrapping_add(growth) <= self.limit {
            self.bound = self.bound.wrapping_add(growth);
            Lazy::Grow
        } else {
            self.bound = growth.wrapping_add(2);
            Lazy::Lower
        }
    }
}

/// What the levels of a pass after its first do.
#[inline(always)]
fn later(kind: Lazy) -> Lazy {
    if kind == Lazy::Reduce { Lazy::Reduce } else { Lazy::Grow }
}

/// The quarters of a block.
#[inline(always)]
fn quarters(block: &mut [u32]) -> [&mut [u32]; 4] {
    let (left, right) = halves(block);
    let ((a, b), (c, d)) = (halves(left), halves(right));
    [a, b, c, d]
}

/// `c_i = a_i - I a_(N-i)`. Range: `[0, p)` to `[0, 3p)`.
#[inline(always)]
fn fold<V: Vector>(row: &mut [u32], table: &NttTable<'_>, p: &Prime<V>) {
    let m = &table.modulus;
    let unit = table.imaginary_unit();
    let two_p = m.value().wrapping_shl(1);
    // Without their first elements, the halves are mirror images.
    let ([_, low @ ..], [mid, high @ ..]) = halves(row) else { return };
    *mid = mid.wrapping_add(two_p).wrapping_sub(m.mul_shoup_lazy(*mid, unit));
    let factor = Factor::<V>::splat(unit);
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
    let ([zero, low @ ..], [mid, high @ ..]) = halves(row) else { return };
    *zero = m.mul_shoup(*zero, full);
    *mid = m.mul_shoup(mid.wrapping_add(m.mul_shoup_lazy(*mid, unit)), scale);
    let (unit_v, scale_v) = (Factor::<V>::splat(unit), Factor::<V>::splat(scale));
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

/// One level: nodes `first ..` with blocks of `2 h` words.
#[inline(always)]
fn forward_single<V: Vector>(row: &mut [u32], table: &NttTable<'_>, first: usize, h: usize, p: &Prime<V>, kind: Lazy) {
    let lanes = V::LANES.max(1);
    for (node, block) in (first..usize::MAX).zip(row.chunks_exact_mut(h.wrapping_shl(1).max(1))) {
        let w = Factor::twiddle(table.forward, table.forward_quotient, node);
        let (a, b) = halves(block);
        for (a, b) in a.chunks_exact_mut(lanes).zip(b.chunks_exact_mut(lanes)) {
            let (x, y) = p.butterfly(kind, V::load(a), V::load(b), w);
            x.store(a);
            y.store(b);
        }
    }
}

/// Two levels: nodes `first ..` with blocks of `4 h` words, then their children.
#[inline(always)]
fn forward_pair<V: Vector>(row: &mut [u32], table: &NttTable<'_>, first: usize, h: usize, p: &Prime<V>, kind: Lazy) {
    let lanes = V::LANES.max(1);
    for (node, block) in (first..usize::MAX).zip(row.chunks_exact_mut(h.wrapping_shl(2).max(1))) {
        let [w1, w2, w3] = family::<V>(table.forward, table.forward_quotient, node);
        let [a, b, c, d] = quarters(block);
        let ab = a.chunks_exact_mut(lanes).zip(b.chunks_exact_mut(lanes));
        let cd = c.chunks_exact_mut(lanes).zip(d.chunks_exact_mut(lanes));
        for ((a, b), (c, d)) in ab.zip(cd) {
            let (x0, x2) = p.butterfly(kind, V::load(a), V::load(c), w1);
            let (x1, x3) = p.butterfly(kind, V::load(b), V::load(d), w1);
            let (x0, x1) = p.butterfly(later(kind), x0, x1, w2);
            let (x2, x3) = p.butterfly(later(kind), x2, x3, w3);
            x0.store(a);
            x1.store(b);
            x2.store(c);
            x3.store(d);
        }
    }
}

/// [`forward_pair`], compiled for each kind.
#[inline(always)]
fn forward_pair_of<V: Vector>(
    row: &mut [u32],
    table: &NttTable<'_>,
    first: usize,
    h: usize,
    p: &Prime<V>,
    growth: &mut Growth,
) {
    match growth.next(2) {
        Lazy::Grow => forward_pair(row, table, first, h, p, Lazy::Grow),
        Lazy::Reduce => forward_pair(row, table, first, h, p, Lazy::Reduce),
        Lazy::Lower => forward_pair(row, table, first, h, p, Lazy::Lower),
    }
}

/// One level of the inverse tree.
#[inline(always)]
fn inverse_single<V: Vector>(row: &mut [u32], table: &NttTable<'_>, first: usize, h: usize, p: &Prime<V>) {
    let lanes = V::LANES.max(1);
    for (node, block) in (first..usize::MAX).zip(row.chunks_exact_mut(h.wrapping_shl(1).max(1))) {
        let w = Factor::twiddle(table.inverse, table.inverse_quotient, node);
        let (a, b) = halves(block);
        for (a, b) in a.chunks_exact_mut(lanes).zip(b.chunks_exact_mut(lanes)) {
            let (x, y) = p.inverse_butterfly(V::load(a), V::load(b), w);
            x.store(a);
            y.store(b);
        }
    }
}

/// Two levels of the inverse tree: the children with blocks of `2 h` words, then nodes `first ..`.
#[inline(always)]
fn inverse_pair<V: Vector>(row: &mut [u32], table: &NttTable<'_>, first: usize, h: usize, p: &Prime<V>) {
    let lanes = V::LANES.max(1);
    for (node, block) in (first..usize::MAX).zip(row.chunks_exact_mut(h.wrapping_shl(2).max(1))) {
        let [w1, w2, w3] = family::<V>(table.inverse, table.inverse_quotient, node);
        let [a, b, c, d] = quarters(block);
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

/// Twiddles and quotients of register level `k` for pairs of vectors, from node `first` of the level with `N / LANES`
/// nodes on; for a level that the vectors do not have, any as many.
#[inline(always)]
fn level<'t, V: Vector>(
    (w, q): (&'t [u32], &'t [u32]),
    first: usize,
    k: usize,
    pairs: usize,
) -> impl Iterator<Item = (&'t [u32], &'t [u32])> {
    let k = if k < V::LEVELS { k } else { 0 };
    let count = 2usize << k;
    let start = first << k;
    let range = start..start.wrapping_add(pairs.wrapping_mul(count));
    let (w, q) = (w.get(range.clone()).unwrap_or(&[]), q.get(range).unwrap_or(&[]));
    w.chunks_exact(count.max(1)).zip(q.chunks_exact(count.max(1)))
}

/// Register levels `k` and `k + 1`, where they exist, from node `first` of `LANES` words. Between two such passes
/// words stay in the order of the vectors; after the last they are put back and reduced to `[0, p)`.
#[inline(always)]
fn forward_registers<V: Vector>(
    row: &mut [u32],
    table: &NttTable<'_>,
    first: usize,
    k: usize,
    p: &Prime<V>,
    kind: Lazy,
) {
    let lanes = V::LANES.max(1);
    let pairs = row.len().checked_div(lanes << 1).unwrap_or(0);
    let twiddles = (table.forward, table.forward_quotient);
    let levels = level::<V>(twiddles, first, k, pairs).zip(level::<V>(twiddles, first, k.wrapping_add(1), pairs));
    let next = k.wrapping_add(1);
    let ends = next.wrapping_add(1) >= V::LEVELS;
    // The last level brings words back below 4p: its x can be lowered while y is multiplied.
    let last = match (ends, later(kind)) {
        (true, Lazy::Grow) => Lazy::Lower,
        (_, kind) => kind,
    };
    for (block, ((w1, q1), (w2, q2))) in row.chunks_exact_mut((lanes << 1).max(1)).zip(levels) {
        let (a, b) = halves(block);
        let (x, y) = V::split(k, V::load(a), V::load(b));
        let w = Factor::new(V::spread(k, w1), V::spread(k, q1));
        let (mut x, mut y) = p.butterfly(if next < V::LEVELS { kind } else { last }, x, y, w);
        if next < V::LEVELS {
            (x, y) = V::split(next, x, y);
            (x, y) = p.butterfly(last, x, y, Factor::new(V::spread(next, w2), V::spread(next, q2)));
        }
        if ends {
            (x, y) = (reduce(x, p.two_p), reduce(y, p.two_p));
            (x, y) = V::gather(reduce(x, p.p), reduce(y, p.p));
        }
        x.store(a);
        y.store(b);
    }
}

/// [`forward_registers`], compiled for each kind.
#[inline(always)]
fn forward_registers_of<V: Vector>(
    row: &mut [u32],
    table: &NttTable<'_>,
    first: usize,
    k: usize,
    p: &Prime<V>,
    growth: &mut Growth,
) {
    match growth.next(2) {
        Lazy::Grow => forward_registers(row, table, first, k, p, Lazy::Grow),
        Lazy::Reduce => forward_registers(row, table, first, k, p, Lazy::Reduce),
        Lazy::Lower => forward_registers(row, table, first, k, p, Lazy::Lower),
    }
}

/// All levels below node `first` of the level whose nodes have as many words as `block`.
#[inline(always)]
fn forward_node<V: Vector>(
    block: &mut [u32],
    table: &NttTable<'_>,
    mut first: usize,
    p: &Prime<V>,
    mut growth: Growth,
) {
    let mut half = block.len() >> 1;
    while half >= V::LANES << 1 {
        forward_pair_of(block, table, first, half >> 1, p, &mut growth);
        first = first.wrapping_shl(2);
        half >>= 2;
    }
    forward_registers_of(block, table, first, 0, p, &mut growth);
    if V::LEVELS > 2 {
        forward_registers_of(block, table, first, 2, p, &mut growth);
    }
}

#[inline(always)]
pub fn forward<V: Vector>(row: &mut [u32], table: &NttTable<'_>) {
    if !fits(row, table) {
        return portable::forward(row, table);
    }
    let p = Prime::<V>::new(&table.modulus);
    let n = row.len();
    fold(row, table, &p);
    let mut growth = Growth::new(&table.modulus);
    let (mut nodes, mut half) = (1usize, n >> 1);
    if (n.trailing_zeros() as usize ^ V::LEVELS) & 1 == 1 {
        match growth.next(1) {
            Lazy::Reduce => forward_single(row, table, nodes, half, &p, Lazy::Reduce),
            // Nothing has grown yet.
            Lazy::Grow | Lazy::Lower => forward_single(row, table, nodes, half, &p, Lazy::Grow),
        }
        nodes <<= 1;
        half >>= 1;
    }
    while half >= NODE_WORDS {
        forward_pair_of(row, table, nodes, half >> 1, &p, &mut growth);
        nodes = nodes.wrapping_shl(2);
        half >>= 2;
    }
    let (mut rest, mut node, words) = (row, nodes, half.wrapping_shl(1));
    // Not in chunks: on AArch64 the compiler would not see that their length is not 0, and keep a panic.
    while node < nodes << 1 {
        let (block, next) = rest.split_at_mut_checked(words).unwrap_or_default();
        forward_node(block, table, node, &p, growth);
        rest = next;
        node = node.wrapping_add(1);
    }
}

/// Register levels `k + 1` and `k`, where they exist, backwards.
#[inline(always)]
fn inverse_registers<V: Vector>(row: &mut [u32], table: &NttTable<'_>, first: usize, k: usize, p: &Prime<V>) {
    let lanes = V::LANES.max(1);
    let pairs = row.len().checked_div(lanes << 1).unwrap_or(0);
    let twiddles = (table.inverse, table.inverse_quotient);
    let levels = level::<V>(twiddles, first, k, pairs).zip(level::<V>(twiddles, first, k.wrapping_add(1), pairs));
    for (block, ((w1, q1), (w2, q2))) in row.chunks_exact_mut((lanes << 1).max(1)).zip(levels) {
        let (a, b) = halves(block);
        let (mut x, mut y) = (V::load(a), V::load(b));
        if k.wrapping_add(2) >= V::LEVELS {
            (x, y) = V::scatter(x, y);
        }
        let next = k.wrapping_add(1);
        if next < V::LEVELS {
            (x, y) = p.inverse_butterfly(x, y, Factor::new(V::spread(next, w2), V::spread(next, q2)));
            (x, y) = V::join(next, x, y);
        }
        (x, y) = p.inverse_butterfly(x, y, Factor::new(V::spread(k, w1), V::spread(k, q1)));
        (x, y) = V::join(k, x, y);
        x.store(a);
        y.store(b);
    }
}

/// All levels below node `node` of the level whose nodes have as many words as `block`, backwards.
#[inline(always)]
fn inverse_node<V: Vector>(block: &mut [u32], table: &NttTable<'_>, node: usize, p: &Prime<V>) {
    let words = block.len();
    let mut first = node.wrapping_mul(words >> V::LEVELS);
    if V::LEVELS > 2 {
        inverse_registers(block, table, first, 2, p);
    }
    inverse_registers(block, table, first, 0, p);
    let mut half = V::LANES;
    while half << 2 <= words {
        first >>= 2;
        inverse_pair(block, table, first, half, p);
        half = half.wrapping_shl(2);
    }
}

#[inline(always)]
pub fn inverse<V: Vector>(row: &mut [u32], table: &NttTable<'_>) {
    if !fits(row, table) {
        return portable::inverse(row, table);
    }
    let p = Prime::<V>::new(&table.modulus);
    let n = row.len();
    let mut words = V::LANES;
    while words << 2 <= n.min(NODE_WORDS) {
        words = words.wrapping_shl(2);
    }
    let mut nodes = n.checked_div(words).unwrap_or(0);
    for (node, block) in (nodes..usize::MAX).zip(row.chunks_exact_mut(words.max(1))) {
        inverse_node(block, table, node, &p);
    }
    while nodes >= 4 {
        nodes >>= 2;
        inverse_pair(row, table, nodes, words, &p);
        words = words.wrapping_shl(2);
    }
    if nodes == 2 {
        inverse_single(row, table, 1, words, &p);
    }
    unfold(row, table, &p);
}
