//! Tables of the number-theoretic transform of the conjugate-invariant ring.
//!
//! R+ is spanned by `1, X^i + X^-i (0 < i < N)` inside `Z[X]/(X^2N + 1)`. With Z a primitive 4N-th root of
//! unity modulo p and `I = Z^N` (so `I^2 = -1`), the *fold* `c_0 = a_0, c_i = a_i - I a_(N-i)` turns the
//! evaluations of `a` at `Z^(4k+1)` into evaluations of `c`, which an ordinary decimation tree with root
//! node `X^N - I` computes: node `X^m - Z^e` splits into the exponents `e/2` and `e/2 + 2N`. Position j of
//! the output holds the evaluation at exponent `1 + 4 bitrev(j)`.
//!
//! Reference: real-slot CKKS, eprint 2018/952; lazy butterflies, Harvey 2014.

use super::{Modulus, Shoup, primitive_root};

/// Rows of N words that a table takes: twiddles and their Shoup quotients, forward and inverse.
pub const TABLE_ROWS: usize = 4;

/// A borrowed table for one prime.
#[derive(Debug, Clone, Copy)]
pub struct NttTable<'a> {
    /// The prime.
    pub modulus: Modulus,
    /// Forward twiddles: entry `m + i` splits node `i` of the level with `m` nodes.
    pub forward: &'a [u32],
    /// Their Shoup quotients.
    pub forward_quotient: &'a [u32],
    /// Inverses of the forward twiddles, in the same order.
    pub inverse: &'a [u32],
    /// Their Shoup quotients.
    pub inverse_quotient: &'a [u32],
}

impl<'a> NttTable<'a> {
    /// The view of a table of `4 N` words that [`build_table`] filled; none if the length does not fit.
    pub fn new(words: &'a [u32], modulus: Modulus, n: usize) -> Option<Self> {
        let (forward, rest) = words.split_at_checked(n)?;
        let (forward_quotient, rest) = rest.split_at_checked(n)?;
        let (inverse, inverse_quotient) = rest.split_at_checked(n)?;
        (inverse_quotient.len() == n).then_some(Self { modulus, forward, forward_quotient, inverse, inverse_quotient })
    }

    /// Number of points.
    pub fn n(&self) -> usize {
        self.forward.len()
    }

    /// `I = Z^N`, a square root of -1.
    #[inline(always)]
    pub fn imaginary_unit(&self) -> Shoup {
        // The builder keeps it in entry 0.
        Shoup {
            value: self.forward.first().copied().unwrap_or(0),
            quotient: self.forward_quotient.first().copied().unwrap_or(0),
        }
    }

    /// `1 / N`, kept in entry 0 of the inverse twiddles.
    #[inline(always)]
    pub fn n_inverse(&self) -> Shoup {
        Shoup {
            value: self.inverse.first().copied().unwrap_or(0),
            quotient: self.inverse_quotient.first().copied().unwrap_or(0),
        }
    }
}

/// Fills the `4 N` words of a table; none if the prime has no 4N-th root of unity or the length is off.
pub fn build_table<'a>(words: &'a mut [u32], modulus: &Modulus, log_n: u32) -> Option<NttTable<'a>> {
    let n = 1usize.wrapping_shl(log_n);
    let root = primitive_root(modulus, log_n)?;
    let (forward, rest) = words.split_at_mut_checked(n)?;
    let (forward_quotient, rest) = rest.split_at_mut_checked(n)?;
    let (inverse, inverse_quotient) = rest.split_at_mut_checked(n)?;
    if inverse_quotient.len() != n {
        return None;
    }
    // Node i of the level with m nodes has twiddle Z^(N/(2m) (1 + 4 bitrev(i))): a level is a geometric
    // progression over k = bitrev(i).
    let unit = modulus.shoup(modulus.pow(root, n as u32));
    let n_inverse = modulus.shoup(modulus.inv(modulus.reduce(n as u32)));
    let halves = [
        (&mut *forward, &mut *forward_quotient, root, unit),
        (&mut *inverse, &mut *inverse_quotient, modulus.inv(root), n_inverse),
    ];
    for (twiddles, quotients, base, zeroth) in halves {
        let mut put = |at: usize, w: Shoup| {
            if let (Some(twiddle), Some(quotient)) = (twiddles.get_mut(at), quotients.get_mut(at)) {
                (*twiddle, *quotient) = (w.value, w.quotient);
            }
        };
        // Entry 0 is not a node.
        put(0, zeroth);
        for level in 0..log_n {
            let m = 1usize.wrapping_shl(level);
            let first = modulus.pow(base, 1u32.wrapping_shl(log_n.wrapping_sub(level).wrapping_sub(1)));
            let step = modulus.shoup(modulus.pow(first, 4));
            let mut power = first;
            for k in 0..m as u32 {
                // Natural order k of the exponents 1 + 4k sits at position bitrev(k).
                let i = if level == 0 { 0 } else { k.reverse_bits().wrapping_shr(32u32.wrapping_sub(level)) };
                put(m.wrapping_add(i as usize), modulus.shoup(power));
                power = modulus.mul_shoup(power, step);
            }
        }
    }
    Some(NttTable { modulus: *modulus, forward, forward_quotient, inverse, inverse_quotient })
}

#[cfg(test)]
#[allow(clippy::needless_range_loop, reason = "the formulas are in terms of indices")]
mod tests {
    use super::*;
    use crate::math::backend::{Backend, Detected, Portable};
    use proptest::prelude::*;
    use std::vec::Vec;

    const CASES: [(u32, u32); 4] = [(6, 163_841), (8, 33_538_049), (11, 66_420_737), (12, 1_073_479_681)];

    fn table(log_n: u32, p: u32) -> (Vec<u32>, Modulus) {
        let m = Modulus::new(p);
        let mut words = std::vec![0; TABLE_ROWS << log_n];
        assert!(build_table(&mut words, &m, log_n).is_some());
        (words, m)
    }

    fn row(n: usize, p: u32, seed: u64) -> Vec<u32> {
        let mut x = seed | 1;
        (0..n)
            .map(|_| {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (x >> 33) as u32 % p
            })
            .collect()
    }

    /// Evaluation of `a_0 + sum a_i (Z^(i e) + Z^(-i e))` straight from the definition.
    fn evaluate(a: &[u32], m: &Modulus, root: u32, e: u32) -> u32 {
        let n = a.len() as u32;
        let order = 4 * n;
        (1..n).fold(a[0], |sum, i| {
            let k = (u64::from(i) * u64::from(e) % u64::from(order)) as u32;
            let both = m.add(m.pow(root, k), m.pow(root, order - k));
            m.add(sum, m.mul(a[i as usize], both))
        })
    }

    #[test]
    fn transform_matches_the_definition() {
        for (log_n, p) in [(6, 163_841), (7, 33_538_049)] {
            let (words, m) = table(log_n, p);
            let n = 1usize << log_n;
            let view = NttTable::new(&words, m, n).unwrap();
            let root = primitive_root(&m, log_n).unwrap();
            let a = row(n, p, 7);
            let mut t = a.clone();
            Portable.forward(&mut t, &view);
            for j in 0..n as u32 {
                let k = j.reverse_bits() >> (32 - log_n);
                assert_eq!(t[j as usize], evaluate(&a, &m, root, 1 + 4 * k));
            }
        }
    }

    #[test]
    fn edge_rows_survive_a_round_trip() {
        // An interpreter has time for the small ones.
        for (log_n, p) in CASES.into_iter().take(if cfg!(miri) { 2 } else { CASES.len() }) {
            let (words, m) = table(log_n, p);
            let n = 1usize << log_n;
            let view = NttTable::new(&words, m, n).unwrap();
            for value in [0, 1, p / 2, p - 1] {
                for backend in Detected::all() {
                    let mut t = std::vec![value; n];
                    backend.forward(&mut t, &view);
                    assert!(t.iter().all(|&x| x < p));
                    backend.inverse(&mut t, &view);
                    assert!(t.iter().all(|&x| x == value), "{}", backend.name());
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// X^i + X^-i times X^j + X^-j is X^(i+j) + ... : the slot-wise product is the ring product.
        #[test]
        fn product_is_the_ring_product(seed: u64) {
            let (log_n, p) = (6, 33_538_049);
            let (words, m) = table(log_n, p);
            let n = 64usize;
            let view = NttTable::new(&words, m, n).unwrap();
            let (a, b) = (row(n, p, seed), row(n, p, !seed));
            // Schoolbook on the basis e_0 = 1, e_i = X^i + X^-i with e_(2N-k) = -e_k and e_N = 0.
            let mut expected = std::vec![0u32; n];
            let mut put = |k: usize, v: u32| {
                let k = if k > 2 * n { 4 * n - k } else { k };
                if k < n {
                    expected[k] = m.add(expected[k], if k == 0 { m.add(v, v) } else { v });
                } else if k > n {
                    expected[2 * n - k] = m.sub(expected[2 * n - k], v);
                }
            };
            for i in 0..n {
                for j in 0..n {
                    let v = m.mul(a[i], b[j]);
                    match (i, j) {
                        (0, 0) => put(0, m.mul(v, m.inv(2))),
                        (0, k) | (k, 0) => put(k, v),
                        _ => {
                            put(i + j, v);
                            put(i.abs_diff(j), v);
                        }
                    }
                }
            }
            let (mut x, mut y, mut z) = (a, b, std::vec![0; n]);
            Portable.forward(&mut x, &view);
            Portable.forward(&mut y, &view);
            Portable.mul(&mut z, &x, &y, &m);
            Portable.inverse(&mut z, &view);
            prop_assert_eq!(z, expected);
        }

        #[test]
        fn automorphism_matches_the_coefficient_map(seed: u64, r in 0u32..64) {
            let (log_n, p) = (6, 33_538_049);
            let (words, m) = table(log_n, p);
            let n = 64usize;
            let view = NttTable::new(&words, m, n).unwrap();
            let g = (0..r).fold(1u32, |g, _| g * 5 % 256);
            let a = row(n, p, seed);
            let mut mapped = std::vec![0u32; n];
            mapped[0] = a[0];
            for i in 1..n {
                let k = i * g as usize % (4 * n);
                let k = if k > 2 * n { 4 * n - k } else { k };
                if k < n { mapped[k] = a[i] } else { mapped[2 * n - k] = m.neg(a[i]) }
            }
            let (mut x, mut y) = (a, std::vec![0; n]);
            Portable.forward(&mut x, &view);
            Portable.automorphism(&mut y, &x, g);
            Portable.forward(&mut mapped, &view);
            prop_assert_eq!(y, mapped);
        }
    }
}
