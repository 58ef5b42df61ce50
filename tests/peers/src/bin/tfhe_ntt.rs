//! Forward transforms under a 30-bit prime: tfhe-ntt and our kernel in turns, both on the best instructions they find.
//!
//! Ours is the transform of the conjugate-invariant ring, which begins with a fold that tfhe-ntt has no need of. Where
//! the kernel runs on AVX-512 the fold is also timed as a pass of its own, to compare without it.

use anyhow::{Context, Result, ensure};
use cipherlens_kernel::math::{Backend, Detected, Modulus, Shoup, TABLE_ROWS, build_table};
use peers::{Timing, measure, row};
use serde_json::json;
use tfhe_ntt::prime32::Plan;

/// 1 modulo 4N for every N up to 2^15.
const PRIME: u32 = 1_073_479_681;

fn main() -> Result<()> {
    let backend = Detected::new();
    let modulus = Modulus::new(PRIME);
    for log_n in 12..=15 {
        let n = 1usize << log_n;
        let mut words = vec![0; n * TABLE_ROWS];
        let table = build_table(&mut words, &modulus, log_n).with_context(|| format!("no root of unity for N = {n}"))?;
        let plan = Plan::try_new(n, PRIME).context("a prime that tfhe-ntt refuses")?;
        let values: Vec<u32> = (0..n as u32).map(|i| i.wrapping_mul(2_654_435_761) % PRIME).collect();

        let mut theirs = values.clone();
        plan.fwd(&mut theirs);
        plan.inv(&mut theirs);
        plan.normalize(&mut theirs);
        ensure!(theirs == values, "tfhe-ntt does not give its input back");
        let (mut ours, mut folded) = (values.clone(), values);
        let [their_time, our_time, fold_time] = measure(
            2000,
            [&mut || plan.fwd(&mut theirs), &mut || backend.forward(&mut ours, &table), &mut || {
                fold(backend, &mut folded, table.imaginary_unit())
            }],
        );
        let report = |name: &str, ours: Timing, about: &str| {
            let about = format!("30-bit prime; ours on {} {about}", backend.name());
            row(json!({ "name": name, "n": n, "threads": 1, "about": about, "ours": ours.json() }), their_time);
        };
        if backend.name() == "avx512" {
            let without = Timing {
                median_us: our_time.median_us - fold_time.median_us,
                min_us: our_time.min_us - fold_time.min_us,
                ..our_time
            };
            let about = format!("less a fold pass of {:.2} us", fold_time.median_us);
            report("ntt_forward", without, &about);
        }
        report("ntt_forward_with_fold", our_time, "with the fold of the conjugate-invariant ring");
    }
    Ok(())
}

/// `c_i = a_i - I a_(N-i)` as the kernel computes it, if it does so on AVX-512.
fn fold(backend: Detected, row: &mut [u32], unit: Shoup) {
    #[cfg(target_arch = "x86_64")]
    if matches!(backend, Detected::Avx512(_)) {
        // SAFETY: the kernel has detected the instructions.
        unsafe { avx512::fold(row, unit) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (backend, row, unit);
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{PRIME, Shoup};
    use std::arch::x86_64::*;

    /// All but the middle and the unpaired ends of the row, which take no time.
    #[target_feature(enable = "avx512f")]
    pub fn fold(row: &mut [u32], unit: Shoup) {
        let splat = |word: u32| _mm512_set1_epi32(word as i32);
        let (value, quotient, p, two_p) = (splat(unit.value), splat(unit.quotient), splat(PRIME), splat(2 * PRIME));
        let order = _mm512_set_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        // addend + 2p - I x, with x reversed.
        let step = |addend: __m512i, x: __m512i| {
            let x = _mm512_permutexvar_epi32(order, x);
            let even = _mm512_srli_epi64::<32>(_mm512_mul_epu32(x, quotient));
            let odd = _mm512_mul_epu32(_mm512_srli_epi64::<32>(x), quotient);
            let high = _mm512_mask_blend_epi32(0xaaaa, even, odd);
            let product = _mm512_sub_epi32(_mm512_mullo_epi32(x, value), _mm512_mullo_epi32(high, p));
            _mm512_sub_epi32(_mm512_add_epi32(addend, two_p), product)
        };
        let (low, high) = row.split_at_mut(row.len() / 2);
        let (front, _) = low[1..].as_chunks_mut::<16>();
        let (_, back) = high[1..].as_rchunks_mut::<16>();
        for (x, y) in front.iter_mut().zip(back.iter_mut().rev()) {
            // SAFETY: a chunk holds the sixteen words that each load and store touches.
            unsafe {
                let (a, b) = (_mm512_loadu_si512(x.as_ptr().cast()), _mm512_loadu_si512(y.as_ptr().cast()));
                _mm512_storeu_si512(x.as_mut_ptr().cast(), step(a, b));
                _mm512_storeu_si512(y.as_mut_ptr().cast(), step(b, a));
            }
        }
    }
}
