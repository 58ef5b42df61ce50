//! Roofline: what an inference computes and moves, and the least time that this machine could take for it.
//!
//! Three peaks are measured on the kernel's own passes: modular products in cache, sums of products in cache, and
//! key rows streamed through such a sum. Transforms and base conversions can at best run at the first two, inner
//! products at the slower of the last two.

use crate::compile::calibration::CACHE_BYTES;
use crate::compile::cost::OperationCounts;
use cipherlens_kernel::math::{Backend, Detected, Modulus, Term};
use serde::Serialize;
use std::hint::black_box;
use std::time::Instant;

/// Words of a row.
const N: usize = 8192;
/// 1 modulo 4N for every N up to 2^15.
const PRIME: u32 = 1_073_479_681;
/// Bytes that no cache holds.
const MEMORY_BYTES: usize = 96 << 20;

/// What one core can do at best.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Peaks {
    /// Modular products with a constant, in a microsecond: one butterfly has one.
    pub products_per_us: f64,
    /// Products of a sum, in a microsecond.
    pub sum_products_per_us: f64,
    /// Bytes read in a microsecond from half the last cache.
    pub cache_bytes_per_us: f64,
    /// Bytes read in a microsecond from memory.
    pub memory_bytes_per_us: f64,
}

/// Least microseconds of several runs.
fn least(repetitions: usize, mut run: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e6
    };
    (0..repetitions.max(1)).map(time).fold(f64::INFINITY, f64::min)
}

impl Peaks {
    /// Measures this machine.
    pub fn measure(repetitions: usize) -> Self {
        let (backend, m) = (Detected::new(), Modulus::new(PRIME));
        let (mut out0, mut out1) = (vec![1; N], vec![2; N]);
        let factor = m.shoup(3);
        let products = least(100 * repetitions, || backend.mul_scalar_assign(black_box(&mut out0), factor, &m));
        let words = vec![5u32; MEMORY_BYTES / 4];
        let mut rows = words.chunks_exact(N);
        let hot: Vec<Term<'_>> =
            rows.by_ref().take(8).map(|shared| Term { shared, pair: [&words[..N], shared] }).collect();
        let sums = least(100 * repetitions, || {
            backend.dot_pair([black_box(&mut out0), &mut out1], &hot, false, &m);
        });
        // Both halves of a key with three digits; the digits stay.
        let digits = vec![7u32; N];
        let mut stream = |bytes: usize| {
            let terms: Vec<Term<'_>> = words[..bytes / 4]
                .chunks_exact(2 * N)
                .map(|pair| Term { shared: &digits, pair: [&pair[..N], &pair[N..]] })
                .collect();
            let us = least(repetitions.min(20), || {
                for terms in terms.chunks_exact(3) {
                    backend.dot_pair([black_box(&mut out0), &mut out1], terms, false, &m);
                }
            });
            bytes as f64 / us
        };
        Self {
            products_per_us: N as f64 / products,
            sum_products_per_us: (2 * hot.len() * N) as f64 / sums,
            cache_bytes_per_us: stream(CACHE_BYTES / 2),
            memory_bytes_per_us: stream(MEMORY_BYTES),
        }
    }
}

/// An inference on the roofline.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Roofline {
    /// Butterflies of all transforms.
    pub butterflies: f64,
    /// Products of sums: keys, plaintexts and base conversions.
    pub sum_products: f64,
    /// Bytes of keys and plaintexts read.
    pub bytes: f64,
    /// Least time of the transforms and conversions.
    pub transforms_ms: f64,
    /// Least time of the inner products: arithmetic or traffic, whichever is longer.
    pub sums_ms: f64,
    /// The sum of both.
    pub least_ms: f64,
}

impl Roofline {
    /// Of `counts` in a ring of degree `n`, with `cache_bytes` bytes of expanded keys and plaintexts.
    pub fn of(peaks: &Peaks, n: usize, counts: &OperationCounts, cache_bytes: usize) -> Self {
        let words = n as f64;
        let butterflies = counts.ntt as f64 * words / 2.0 * f64::from(n.max(2).ilog2());
        let conversions = counts.conversion as f64 * words;
        let products = (counts.key_row + 2 * counts.plain_row) as f64 * words;
        let bytes = (counts.key_row + counts.plain_row) as f64 * words * 4.0;
        let rate = if cache_bytes > CACHE_BYTES { peaks.memory_bytes_per_us } else { peaks.cache_bytes_per_us };
        let transforms_ms = (butterflies / peaks.products_per_us + conversions / peaks.sum_products_per_us) / 1e3;
        let sums_ms = (products / peaks.sum_products_per_us).max(bytes / rate) / 1e3;
        let sum_products = products + conversions;
        Self { butterflies, sum_products, bytes, transforms_ms, sums_ms, least_ms: transforms_ms + sums_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_arithmetic_and_traffic_bounds_the_sums() {
        let peaks = Peaks {
            products_per_us: 10_000.0,
            sum_products_per_us: 20_000.0,
            cache_bytes_per_us: 100_000.0,
            memory_bytes_per_us: 20_000.0,
        };
        let counts = OperationCounts { ntt: 10, key_row: 100, plain_row: 50, conversion: 20, ..Default::default() };
        let cold = Roofline::of(&peaks, 8192, &counts, CACHE_BYTES + 1);
        assert_eq!(cold.butterflies, 10.0 * 4096.0 * 13.0);
        assert_eq!(cold.bytes, 150.0 * 32768.0);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} and {b}");
        close(cold.sums_ms, 150.0 * 32768.0 / 20e6);
        let hot = Roofline::of(&peaks, 8192, &counts, CACHE_BYTES);
        close(hot.sums_ms, 200.0 * 8192.0 / 20e6);
        close(hot.least_ms, hot.transforms_ms + hot.sums_ms);
    }
}
