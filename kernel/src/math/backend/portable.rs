//! The portable backend: plain loops that any compiler can vectorise, and the oracle for all others.
//!
//! The bodies are `#[inline(always)]` functions, so that a backend for a wider instruction set can compile
//! the same source under its own `#[target_feature]`.

use super::{Backend, MAX_DOT, PRODUCT_BLOCK, RowBlock, Term};
use crate::math::{Modulus, NttTable, Shoup};
use heapless::Vec;

/// Plain Rust, on every target.
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Portable;

/// Twiddles `m .. 2m` with their quotients.
#[inline(always)]
fn level<'a>(w: &'a [u32], q: &'a [u32], m: usize) -> (&'a [u32], &'a [u32]) {
    let range = m..m.wrapping_shl(1);
    (w.get(range.clone()).unwrap_or(&[]), q.get(range).unwrap_or(&[]))
}

/// From `[0, 4p)` to `[0, 2p)`, given `2p`.
#[inline(always)]
fn halve(x: u32, two_p: u32) -> u32 {
    x.min(x.wrapping_sub(two_p))
}

/// Cooley-Tukey butterfly. Range: `[0, 4p)` to `[0, 4p)`.
#[inline(always)]
fn butterfly(x: u32, y: u32, w: Shoup, m: &Modulus, two_p: u32) -> (u32, u32) {
    let u = halve(x, two_p);
    let v = m.mul_shoup_lazy(y, w);
    (u.wrapping_add(v), u.wrapping_sub(v).wrapping_add(two_p))
}

/// Gentleman-Sande butterfly. Range: `[0, 2p)` to `[0, 2p)`.
#[inline(always)]
fn inverse_butterfly(x: u32, y: u32, w: Shoup, m: &Modulus, two_p: u32) -> (u32, u32) {
    (halve(x.wrapping_add(y), two_p), m.mul_shoup_lazy(x.wrapping_sub(y).wrapping_add(two_p), w))
}

/// The last three levels of the forward transform on one block: distances 4, 2 and 1.
#[inline(always)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::needless_range_loop,
    reason = "constant bounds; this form is the one that compilers turn into vectors"
)]
fn forward_block(block: &mut [u32; 8], w4: Shoup, w2: [&[u32; 2]; 2], w1: [&[u32; 4]; 2], m: &Modulus, two_p: u32) {
    for i in 0..4 {
        (block[i], block[i + 4]) = butterfly(block[i], block[i + 4], w4, m, two_p);
    }
    for k in 0..2 {
        let w = Shoup { value: w2[0][k], quotient: w2[1][k] };
        for i in 0..2 {
            (block[4 * k + i], block[4 * k + i + 2]) = butterfly(block[4 * k + i], block[4 * k + i + 2], w, m, two_p);
        }
    }
    for k in 0..4 {
        let w = Shoup { value: w1[0][k], quotient: w1[1][k] };
        (block[2 * k], block[2 * k + 1]) = butterfly(block[2 * k], block[2 * k + 1], w, m, two_p);
    }
}

/// The first three levels of the inverse transform on one block: distances 1, 2 and 4.
#[inline(always)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::needless_range_loop,
    reason = "constant bounds; this form is the one that compilers turn into vectors"
)]
fn inverse_block(block: &mut [u32; 8], w4: Shoup, w2: [&[u32; 2]; 2], w1: [&[u32; 4]; 2], m: &Modulus, two_p: u32) {
    for k in 0..4 {
        let w = Shoup { value: w1[0][k], quotient: w1[1][k] };
        (block[2 * k], block[2 * k + 1]) = inverse_butterfly(block[2 * k], block[2 * k + 1], w, m, two_p);
    }
    for k in 0..2 {
        let w = Shoup { value: w2[0][k], quotient: w2[1][k] };
        for i in 0..2 {
            (block[4 * k + i], block[4 * k + i + 2]) =
                inverse_butterfly(block[4 * k + i], block[4 * k + i + 2], w, m, two_p);
        }
    }
    for i in 0..4 {
        (block[i], block[i + 4]) = inverse_butterfly(block[i], block[i + 4], w4, m, two_p);
    }
}

/// The halves of a block.
#[inline(always)]
pub(super) fn halves(block: &mut [u32]) -> (&mut [u32], &mut [u32]) {
    let half = block.len() >> 1;
    block.split_at_mut_checked(half).unwrap_or_default()
}

#[inline(always)]
pub(super) fn forward(row: &mut [u32], table: &NttTable<'_>) {
    let m = &table.modulus;
    let two_p = m.value().wrapping_shl(1);
    let n = row.len();
    let unit = table.imaginary_unit();
    // Fold: c_i = a_i - I a_(N-i), lazily below 3p; the middle is its own partner.
    if let ([_, low @ ..], [mid, high @ ..]) = halves(row) {
        *mid = mid.wrapping_add(two_p).wrapping_sub(m.mul_shoup_lazy(*mid, unit));
        for (x, y) in low.iter_mut().zip(high.iter_mut().rev()) {
            let (a, b) = (*x, *y);
            *x = a.wrapping_add(two_p).wrapping_sub(m.mul_shoup_lazy(b, unit));
            *y = b.wrapping_add(two_p).wrapping_sub(m.mul_shoup_lazy(a, unit));
        }
    }
    let mut nodes = 1usize;
    let mut half = n >> 1;
    while half >= 8 {
        let (w, q) = level(table.forward, table.forward_quotient, nodes);
        for (block, (&value, &quotient)) in row.chunks_exact_mut((half << 1).max(1)).zip(w.iter().zip(q)) {
            let w = Shoup { value, quotient };
            let (xs, ys) = halves(block);
            for (x, y) in xs.iter_mut().zip(ys) {
                (*x, *y) = butterfly(*x, *y, w, m, two_p);
            }
        }
        nodes = nodes.wrapping_shl(1);
        half >>= 1;
    }
    // Last three levels on blocks of eight, then the final reduction.
    let (w4, q4) = level(table.forward, table.forward_quotient, n >> 3);
    let (w2, q2) = level(table.forward, table.forward_quotient, n >> 2);
    let (w1, q1) = level(table.forward, table.forward_quotient, n >> 1);
    let pairs = w2.as_chunks::<2>().0.iter().zip(q2.as_chunks::<2>().0);
    let quads = w1.as_chunks::<4>().0.iter().zip(q1.as_chunks::<4>().0);
    let tw = w4.iter().zip(q4).zip(pairs).zip(quads);
    for (block, (((&wa, &qa), (wb, qb)), (wc, qc))) in row.as_chunks_mut::<8>().0.iter_mut().zip(tw) {
        let w = Shoup { value: wa, quotient: qa };
        forward_block(block, w, [wb, qb], [wc, qc], m, two_p);
        for x in block {
            *x = m.reduce_once(halve(*x, two_p));
        }
    }
}

/// 1 / 2N, from 1 / N by halving modulo p. Both are odd: 1 / N = p - (p - 1) / N, and 4N divides p - 1.
#[inline(always)]
pub(super) fn half_scale(table: &NttTable<'_>) -> Shoup {
    let (m, full) = (&table.modulus, table.n_inverse().value);
    m.shoup(full.wrapping_add(m.value()) >> 1)
}

#[inline(always)]
pub(super) fn inverse(row: &mut [u32], table: &NttTable<'_>) {
    let m = &table.modulus;
    let two_p = m.value().wrapping_shl(1);
    let n = row.len();
    let (w4, q4) = level(table.inverse, table.inverse_quotient, n >> 3);
    let (w2, q2) = level(table.inverse, table.inverse_quotient, n >> 2);
    let (w1, q1) = level(table.inverse, table.inverse_quotient, n >> 1);
    let pairs = w2.as_chunks::<2>().0.iter().zip(q2.as_chunks::<2>().0);
    let quads = w1.as_chunks::<4>().0.iter().zip(q1.as_chunks::<4>().0);
    let tw = w4.iter().zip(q4).zip(pairs).zip(quads);
    for (block, (((&wa, &qa), (wb, qb)), (wc, qc))) in row.as_chunks_mut::<8>().0.iter_mut().zip(tw) {
        let w = Shoup { value: wa, quotient: qa };
        inverse_block(block, w, [wb, qb], [wc, qc], m, two_p);
    }
    let mut nodes = n >> 4;
    let mut half = 8usize;
    while nodes >= 1 {
        let (w, q) = level(table.inverse, table.inverse_quotient, nodes);
        for (block, (&value, &quotient)) in row.chunks_exact_mut((half << 1).max(1)).zip(w.iter().zip(q)) {
            let w = Shoup { value, quotient };
            let (xs, ys) = halves(block);
            for (x, y) in xs.iter_mut().zip(ys) {
                (*x, *y) = inverse_butterfly(*x, *y, w, m, two_p);
            }
        }
        nodes >>= 1;
        half = half.wrapping_shl(1);
    }
    // Unfold: a_i = (c_i + I c_(N-i)) / 2N, a_0 = c_0 / N.
    let unit = table.imaginary_unit();
    let full = table.n_inverse();
    let half_scale = half_scale(table);
    if let ([zero, low @ ..], [mid, high @ ..]) = halves(row) {
        *zero = m.mul_shoup(*zero, full);
        *mid = m.mul_shoup(mid.wrapping_add(m.mul_shoup_lazy(*mid, unit)), half_scale);
        for (x, y) in low.iter_mut().zip(high.iter_mut().rev()) {
            let (a, b) = (*x, *y);
            *x = m.mul_shoup(a.wrapping_add(m.mul_shoup_lazy(b, unit)), half_scale);
            *y = m.mul_shoup(b.wrapping_add(m.mul_shoup_lazy(a, unit)), half_scale);
        }
    }
}

#[inline(always)]
pub(super) fn add_assign(dst: &mut [u32], src: &[u32], m: &Modulus) {
    for (x, &y) in dst.iter_mut().zip(src) {
        *x = m.add(*x, y);
    }
}

#[inline(always)]
pub(super) fn sub_assign(dst: &mut [u32], src: &[u32], m: &Modulus) {
    for (x, &y) in dst.iter_mut().zip(src) {
        *x = m.sub(*x, y);
    }
}

#[inline(always)]
pub(super) fn mul(dst: &mut [u32], a: &[u32], b: &[u32], m: &Modulus) {
    for (x, (&a, &b)) in dst.iter_mut().zip(a.iter().zip(b)) {
        *x = m.mul(a, b);
    }
}

#[inline(always)]
pub(super) fn mul_scalar(dst: &mut [u32], src: &[u32], w: Shoup, m: &Modulus) {
    for (x, &y) in dst.iter_mut().zip(src) {
        *x = m.mul_shoup(y, w);
    }
}

#[inline(always)]
pub(super) fn mul_scalar_assign(dst: &mut [u32], w: Shoup, m: &Modulus) {
    for x in dst {
        *x = m.mul_shoup(*x, w);
    }
}

#[inline(always)]
pub(super) fn mul_add(dst: &mut [u32], a: &[u32], b: &[u32], m: &Modulus) {
    for (x, (&a, &b)) in dst.iter_mut().zip(a.iter().zip(b)) {
        *x = m.add(*x, m.mul(a, b));
    }
}

#[inline(always)]
pub(super) fn mul_redc(dst: &mut [u32], a: &[u32], b: &[u32], accumulate: bool, m: &Modulus) {
    dot(dst, &[(a, b)], accumulate, m);
}

#[inline(always)]
pub(super) fn redc_add(dst: &mut [u32], src: &[u32], m: &Modulus) {
    for (x, &y) in dst.iter_mut().zip(src) {
        *x = m.add(*x, m.redc(u64::from(y)));
    }
}

#[inline(always)]
pub(super) fn mul_scalar_add(dst: &mut [u32], src: &[u32], w: Shoup, m: &Modulus) {
    for (x, &y) in dst.iter_mut().zip(src) {
        *x = m.add(*x, m.mul_shoup(y, w));
    }
}

#[inline(always)]
fn dot(dst: &mut [u32], pairs: &[(&[u32], &[u32])], accumulate: bool, m: &Modulus) {
    let mut add = accumulate;
    if pairs.is_empty() && !accumulate {
        dst.fill(0);
    }
    // Four products below 2^30 p stay below p 2^32, the range of one Montgomery reduction.
    for group in pairs.chunks(4) {
        let old = |x: u32| if add { x } else { 0 };
        let wide = |a: u32, b: u32| (a as u64).wrapping_mul(b as u64);
        match *group {
            [(a, b)] => {
                for (x, (&a, &b)) in dst.iter_mut().zip(a.iter().zip(b)) {
                    *x = m.add(old(*x), m.redc(wide(a, b)));
                }
            }
            [(a, b), (c, d)] => {
                let terms = a.iter().zip(b).zip(c.iter().zip(d));
                for (x, ((&a, &b), (&c, &d))) in dst.iter_mut().zip(terms) {
                    *x = m.add(old(*x), m.redc(wide(a, b).wrapping_add(wide(c, d))));
                }
            }
            [(a, b), (c, d), (e, f)] => {
                let terms = a.iter().zip(b).zip(c.iter().zip(d)).zip(e.iter().zip(f));
                for (x, (((&a, &b), (&c, &d)), (&e, &f))) in dst.iter_mut().zip(terms) {
                    let sum = wide(a, b).wrapping_add(wide(c, d)).wrapping_add(wide(e, f));
                    *x = m.add(old(*x), m.redc(sum));
                }
            }
            [(a, b), (c, d), (e, f), (g, h)] => {
                let terms = a.iter().zip(b).zip(c.iter().zip(d)).zip(e.iter().zip(f).zip(g.iter().zip(h)));
                for (x, (((&a, &b), (&c, &d)), ((&e, &f), (&g, &h)))) in dst.iter_mut().zip(terms) {
                    let sum = wide(a, b).wrapping_add(wide(c, d)).wrapping_add(wide(e, f)).wrapping_add(wide(g, h));
                    *x = m.add(old(*x), m.redc(sum));
                }
            }
            _ => {}
        }
        add = true;
    }
}

#[inline(always)]
pub(super) fn sub_from_mul(dst: &mut [u32], a: &[u32], w: Shoup, m: &Modulus) {
    for (x, &a) in dst.iter_mut().zip(a) {
        *x = m.mul_shoup(a.wrapping_sub(*x).wrapping_add(m.value()), w);
    }
}

#[inline(always)]
pub(super) fn matrix_product(out: &mut [u32], x: &RowBlock<'_>, weights: &[[u8; 4]], accumulate: bool, m: &Modulus) {
    let (blocks, _) = out.as_chunks_mut::<PRODUCT_BLOCK>();
    let columns = blocks.len().max(1);
    // 2^31 p, which makes every sum positive and leaves its residue.
    let positive = u64::from(m.value()) << 31;
    for (column, out) in (0..columns).zip(blocks) {
        let mut sums = [0i64; PRODUCT_BLOCK];
        for (row, weights) in x.rows.iter().zip(weights.chunks_exact(columns)) {
            let w = i64::from(weights.get(column).map_or(0, |&w| i32::from_le_bytes(w)));
            for (sum, &x) in sums.iter_mut().zip(row.iter().skip(x.at)) {
                *sum = sum.wrapping_add(w.wrapping_mul(i64::from(x)));
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            let sum = m.to_montgomery(m.redc(positive.wrapping_add(sum as u64)));
            *out = if accumulate { m.add(*out, sum) } else { sum };
        }
    }
}

/// Both sums of a list of terms.
#[inline(always)]
pub(super) fn dot_pair(out: [&mut [u32]; 2], terms: &[Term<'_>], accumulate: bool, m: &Modulus) {
    for (c, dst) in out.into_iter().enumerate() {
        let mut pairs: Vec<(&[u32], &[u32]), MAX_DOT> = Vec::new();
        for Term { shared, pair: [x, y] } in terms {
            // More terms than the contract allows are left out.
            let _ = pairs.push((shared, if c == 0 { x } else { y }));
        }
        dot(dst, &pairs, accumulate, m);
    }
}

/// Words that an automorphism moves together.
pub(super) const BLOCK: usize = 16;

/// The automorphism X -> X^g of rows in the Ntt domain as a map of blocks.
///
/// With k = bitrev(j), it maps evaluation k' = g k + (g - 1)/4 mod N to k. The lane bits of j are the top bits of
/// k, so all lanes of a block come from one and the same source block, in an order that depends only on the carry
/// into the top four bits.
pub(super) struct BlockMap {
    g: u32,
    g_inverse: u32,
    offset: u32,
    low_bits: u32,
    orders: [[u8; BLOCK]; BLOCK],
}

impl BlockMap {
    #[inline(always)]
    pub fn new(n: usize, g: u32) -> Self {
        let rev4 = |x: u32| (x & 15).reverse_bits() >> 28;
        let mut orders = [[0u8; BLOCK]; BLOCK];
        for (carry, order) in (0..16u32).zip(orders.iter_mut()) {
            for (lane, source) in (0..16u32).zip(order.iter_mut()) {
                *source = rev4(g.wrapping_mul(rev4(lane)).wrapping_add(carry)) as u8;
            }
        }
        // Newton's iteration doubles the correct bits, of which an odd g has three.
        let mut g_inverse = g;
        for _ in 0..4 {
            g_inverse = g_inverse.wrapping_mul(2u32.wrapping_sub(g.wrapping_mul(g_inverse)));
        }
        Self { g, g_inverse, offset: g.wrapping_sub(1) >> 2, low_bits: n.trailing_zeros().wrapping_sub(4), orders }
    }

    /// Where source block `block` goes, and the source lane of each lane there.
    #[inline(always)]
    pub fn target(&self, block: u32) -> (usize, &[u8; BLOCK]) {
        let shift = 32u32.wrapping_sub(self.low_bits);
        let mask = 1u32.wrapping_shl(self.low_bits).wrapping_sub(1);
        let source = block.reverse_bits().wrapping_shr(shift);
        let k = self.g_inverse.wrapping_mul(source.wrapping_sub(self.offset)) & mask;
        let carry = self.g.wrapping_mul(k).wrapping_add(self.offset).wrapping_shr(self.low_bits) & 15;
        let [first, ..] = &self.orders;
        let order = self.orders.get(carry as usize).unwrap_or(first);
        (k.reverse_bits().wrapping_shr(shift) as usize, order)
    }
}

#[inline(always)]
fn permuted(block: &[u32; BLOCK], order: &[u8; BLOCK]) -> [u32; BLOCK] {
    order.map(|lane| block.get((lane & 15) as usize).copied().unwrap_or(0))
}

#[inline(always)]
pub(super) fn rotate_dot_pair(
    out: [&mut [u32]; 2],
    terms: &[Term<'_>],
    addend: Option<(&[u32], u32)>,
    g: u32,
    accumulate: bool,
    m: &Modulus,
) {
    let map = BlockMap::new(out.first().map_or(0, |row| row.len()), g);
    for (c, dst) in out.into_iter().enumerate() {
        let (blocks, _) = dst.as_chunks_mut::<BLOCK>();
        for source in 0..blocks.len() {
            let at = source.wrapping_mul(BLOCK);
            let part = |row| <[u32]>::get(row, at..at.wrapping_add(BLOCK)).unwrap_or(&[]);
            let mut sum = [0u32; BLOCK];
            if let (0, Some((row, factor))) = (c, addend) {
                dot(&mut sum, &[(part(row), &[factor; BLOCK])], false, m);
            }
            let mut pairs: Vec<(&[u32], &[u32]), MAX_DOT> = Vec::new();
            for Term { shared, pair: [x, y] } in terms {
                let _ = pairs.push((part(shared), part(if c == 0 { x } else { y })));
            }
            dot(&mut sum, &pairs, true, m);
            let (target, order) = map.target(source as u32);
            if let Some(block) = blocks.get_mut(target) {
                for (x, y) in block.iter_mut().zip(permuted(&sum, order)) {
                    *x = if accumulate { m.add(*x, y) } else { y };
                }
            }
        }
    }
}

#[inline(always)]
pub(super) fn automorphism(dst: &mut [u32], src: &[u32], g: u32) {
    let map = BlockMap::new(dst.len(), g);
    let (blocks, _) = dst.as_chunks_mut::<BLOCK>();
    for (source, block) in (0..src.len() as u32).zip(src.as_chunks::<BLOCK>().0) {
        let (target, order) = map.target(source);
        if let Some(out) = blocks.get_mut(target) {
            *out = permuted(block, order);
        }
    }
}

#[inline(always)]
pub(super) fn garner_step(dst: &mut [u32], digit: &[u32], w: Shoup, m: &Modulus) {
    // A multiple of p of at least 2^30 keeps the difference positive.
    let p = m.value();
    let multiple = (1u32 << 30).checked_div(p).unwrap_or(0).wrapping_add(1).wrapping_mul(p);
    for (x, &v) in dst.iter_mut().zip(digit) {
        *x = m.mul_shoup(x.wrapping_add(multiple).wrapping_sub(v), w);
    }
}

#[inline(always)]
pub(super) fn recompose(dst: &mut [u32], digits: &[u32], weights: &[u32], centre: u32, m: &Modulus) {
    let mut rows = digits.chunks_exact(dst.len().max(1)).zip(weights);
    let wide = |a: u32, b: u32| (a as u64).wrapping_mul(b as u64);
    match [rows.next(), rows.next(), rows.next(), rows.next()] {
        [Some((a, &wa)), None, ..] => {
            for (x, &a) in dst.iter_mut().zip(a) {
                *x = m.sub(m.redc(wide(a, wa)), centre);
            }
        }
        [Some((a, &wa)), Some((b, &wb)), None, _] => {
            for (x, (&a, &b)) in dst.iter_mut().zip(a.iter().zip(b)) {
                *x = m.sub(m.redc(wide(a, wa).wrapping_add(wide(b, wb))), centre);
            }
        }
        [Some((a, &wa)), Some((b, &wb)), Some((c, &wc)), None] => {
            for (x, ((&a, &b), &c)) in dst.iter_mut().zip(a.iter().zip(b).zip(c)) {
                let sum = wide(a, wa).wrapping_add(wide(b, wb)).wrapping_add(wide(c, wc));
                *x = m.sub(m.redc(sum), centre);
            }
        }
        [Some((a, &wa)), Some((b, &wb)), Some((c, &wc)), Some((d, &wd))] => {
            for (x, ((&a, &b), (&c, &d))) in dst.iter_mut().zip(a.iter().zip(b).zip(c.iter().zip(d))) {
                let sum = wide(a, wa).wrapping_add(wide(b, wb)).wrapping_add(wide(c, wc)).wrapping_add(wide(d, wd));
                *x = m.sub(m.redc(sum), centre);
            }
        }
        _ => {}
    }
}

#[inline(always)]
pub(super) fn add_scalar_assign(dst: &mut [u32], c: u32, m: &Modulus) {
    for x in dst {
        *x = m.add(*x, c);
    }
}

#[inline(always)]
pub(super) fn expand_signed(dst: &mut [u32], src: &[u8], wide: bool, w: Shoup, m: &Modulus) {
    if wide {
        for (x, &c) in dst.iter_mut().zip(src.as_chunks::<4>().0) {
            *x = m.mul_shoup_signed(i32::from_le_bytes(c), w);
        }
    } else {
        for (x, &c) in dst.iter_mut().zip(src.as_chunks::<2>().0) {
            *x = m.mul_shoup_signed(i16::from_le_bytes(c), w);
        }
    }
}

macro_rules! implement {
    (
        vector { $($name:ident($($arg:ident: $ty:ty),*);)* }
        plain { $($plain:ident($($parg:ident: $pty:ty),*);)* }
    ) => {
        impl Backend for Portable {
            fn name(&self) -> &'static str {
                "portable"
            }
            $(
                fn $name(&self, $($arg: $ty),*) {
                    $name($($arg),*)
                }
            )*
            $(
                fn $plain(&self, $($parg: $pty),*) {
                    $plain($($parg),*)
                }
            )*
        }
    };
}
with_passes!(implement!());
