//! The portable backend: plain loops that any compiler can vectorise, and the oracle for all others.
//!
//! The bodies are `#[inline(always)]` functions, so that a backend for a wider instruction set can compile
//! the same source under its own `#[target_feature]`.

use super::Backend;
use crate::math::{Modulus, NttTable, Shoup};

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
fn butterfly(x: &mut u32, y: &mut u32, w: Shoup, m: &Modulus, two_p: u32) {
    let u = halve(*x, two_p);
    let v = m.mul_shoup_lazy(*y, w);
    *x = u.wrapping_add(v);
    *y = u.wrapping_sub(v).wrapping_add(two_p);
}

/// Gentleman-Sande butterfly. Range: `[0, 2p)` to `[0, 2p)`.
#[inline(always)]
fn inverse_butterfly(x: &mut u32, y: &mut u32, w: Shoup, m: &Modulus, two_p: u32) {
    let (u, v) = (*x, *y);
    *x = halve(u.wrapping_add(v), two_p);
    *y = m.mul_shoup_lazy(u.wrapping_sub(v).wrapping_add(two_p), w);
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
        if let Some([x, y]) = pair_mut(block, i, i + 4) {
            butterfly(x, y, w4, m, two_p);
        }
    }
    for k in 0..2 {
        let w = Shoup { value: w2[0][k], quotient: w2[1][k] };
        for i in 0..2 {
            if let Some([x, y]) = pair_mut(block, 4 * k + i, 4 * k + i + 2) {
                butterfly(x, y, w, m, two_p);
            }
        }
    }
    for k in 0..4 {
        let w = Shoup { value: w1[0][k], quotient: w1[1][k] };
        if let Some([x, y]) = pair_mut(block, 2 * k, 2 * k + 1) {
            butterfly(x, y, w, m, two_p);
        }
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
        if let Some([x, y]) = pair_mut(block, 2 * k, 2 * k + 1) {
            inverse_butterfly(x, y, w, m, two_p);
        }
    }
    for k in 0..2 {
        let w = Shoup { value: w2[0][k], quotient: w2[1][k] };
        for i in 0..2 {
            if let Some([x, y]) = pair_mut(block, 4 * k + i, 4 * k + i + 2) {
                inverse_butterfly(x, y, w, m, two_p);
            }
        }
    }
    for i in 0..4 {
        if let Some([x, y]) = pair_mut(block, i, i + 4) {
            inverse_butterfly(x, y, w4, m, two_p);
        }
    }
}

#[inline(always)]
fn pair_mut(block: &mut [u32; 8], i: usize, j: usize) -> Option<[&mut u32; 2]> {
    block.get_disjoint_mut([i, j]).ok()
}

#[inline(always)]
pub(super) fn forward(row: &mut [u32], table: &NttTable<'_>) {
    let m = &table.modulus;
    let two_p = m.value().wrapping_shl(1);
    let n = row.len();
    let unit = table.imaginary_unit();
    // Fold: c_i = a_i - I a_(N-i), lazily below 3p; the middle is its own partner.
    if let Some((low, high)) = row.split_at_mut_checked(n >> 1) {
        if let Some(mid) = high.first_mut() {
            *mid = mid.wrapping_add(two_p).wrapping_sub(m.mul_shoup_lazy(*mid, unit));
        }
        for (x, y) in low.iter_mut().skip(1).zip(high.iter_mut().skip(1).rev()) {
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
            if let Some((xs, ys)) = block.split_at_mut_checked(half) {
                for (x, y) in xs.iter_mut().zip(ys) {
                    butterfly(x, y, w, m, two_p);
                }
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

/// 1 / 2N, from 1 / N by halving modulo an odd p: (x + (x odd) p) / 2.
#[inline(always)]
pub(super) fn half_scale(table: &NttTable<'_>) -> Shoup {
    let (m, full) = (&table.modulus, table.n_inverse().value);
    m.shoup(full.wrapping_add(if full & 1 == 1 { m.value() } else { 0 }) >> 1)
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
            if let Some((xs, ys)) = block.split_at_mut_checked(half) {
                for (x, y) in xs.iter_mut().zip(ys) {
                    inverse_butterfly(x, y, w, m, two_p);
                }
            }
        }
        nodes >>= 1;
        half = half.wrapping_shl(1);
    }
    // Unfold: a_i = (c_i + I c_(N-i)) / 2N, a_0 = c_0 / N.
    let unit = table.imaginary_unit();
    let full = table.n_inverse();
    let half_scale = half_scale(table);
    if let Some((low, high)) = row.split_at_mut_checked(n >> 1) {
        if let Some(zero) = low.first_mut() {
            *zero = m.mul_shoup(*zero, full);
        }
        if let Some(mid) = high.first_mut() {
            *mid = m.mul_shoup(mid.wrapping_add(m.mul_shoup_lazy(*mid, unit)), half_scale);
        }
        for (x, y) in low.iter_mut().skip(1).zip(high.iter_mut().skip(1).rev()) {
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
pub(super) fn dot(dst: &mut [u32], pairs: &[(&[u32], &[u32])], accumulate: bool, m: &Modulus) {
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

const LANES: usize = 16;

/// Calls `visit(dst block, src block, source lane of each lane)` for every block of 16.
///
/// With k = bitrev(j), X -> X^g maps evaluation k' = g k + (g - 1)/4 mod N to k. The lane bits of j are the
/// top bits of k, so all lanes of a block read one and the same source block, in an order that depends only
/// on the carry into the top four bits.
#[inline(always)]
pub(super) fn permute(
    dst: &mut [u32],
    src: &[u32],
    g: u32,
    mut visit: impl FnMut(&mut [u32; LANES], &[u32; LANES], &[u8; LANES]),
) {
    let log_n = dst.len().trailing_zeros();
    let low_bits = log_n.wrapping_sub(4);
    let mask = 1u32.wrapping_shl(low_bits).wrapping_sub(1);
    let rev4 = |x: u32| (x & 15).reverse_bits() >> 28;
    let mut lanes = [[0u8; LANES]; LANES];
    for (carry, order) in lanes.iter_mut().enumerate() {
        for (lane, source) in order.iter_mut().enumerate() {
            *source = rev4(g.wrapping_mul(rev4(lane as u32)).wrapping_add(carry as u32)) as u8;
        }
    }
    let offset = g.wrapping_sub(1) >> 2;
    let shift = 32u32.wrapping_sub(low_bits);
    let (blocks, _) = src.as_chunks::<LANES>();
    for (hi, out) in dst.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let k = (hi as u32).reverse_bits().wrapping_shr(shift);
        let v = g.wrapping_mul(k).wrapping_add(offset);
        let source = (v & mask).reverse_bits().wrapping_shr(shift);
        let carry = v.wrapping_shr(low_bits) & 15;
        if let (Some(block), Some(order)) = (blocks.get(source as usize), lanes.get(carry as usize)) {
            visit(out, block, order);
        }
    }
}

#[inline(always)]
#[allow(clippy::indexing_slicing, reason = "the mask keeps the index below LANES")]
pub(super) fn automorphism(dst: &mut [u32], src: &[u32], g: u32) {
    permute(dst, src, g, |out, block, order| {
        for (x, &lane) in out.iter_mut().zip(order) {
            *x = block[(lane & 15) as usize];
        }
    });
}

#[inline(always)]
#[allow(clippy::indexing_slicing, reason = "the mask keeps the index below LANES")]
pub(super) fn automorphism_add(dst: &mut [u32], src: &[u32], g: u32, m: &Modulus) {
    permute(dst, src, g, |out, block, order| {
        for (x, &lane) in out.iter_mut().zip(order) {
            *x = m.add(*x, block[(lane & 15) as usize]);
        }
    });
}

#[inline(always)]
pub(super) fn garner_step(dst: &mut [u32], digit: &[u32], w: Shoup, m: &Modulus) {
    for (x, &v) in dst.iter_mut().zip(digit) {
        *x = m.sub(m.mul_shoup(*x, w), m.mul_shoup(v, w));
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
