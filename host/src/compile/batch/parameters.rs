//! Parameters of a batch program: the cheapest ring, primes and weights that are secure and precise enough.

use super::LEAST_LOG_IMAGES;
use super::levels::{Choice, Levels};
use super::values::{Node, Value, Values};
use crate::compile::calibration::Calibration;
use crate::compile::primes::Primes;
use cipherlens_kernel::params::{MAX_LIMBS, SECURITY_TABLE};

/// Products of a word with a weight per microsecond of one core with AVX-512.
const PRODUCTS_PER_US: f64 = 25_000.0;
/// Words of input per microsecond: reading, checking and expanding a ciphertext.
const WORDS_PER_US: f64 = 250.0;
/// Bits of the largest weight that are tried, doubled.
const WEIGHT_HALF_BITS: std::ops::RangeInclusive<u32> = 10..=32;
/// log2 of the scale after a division, doubled.
const AIM_HALF_BITS: std::ops::RangeInclusive<u32> = 30..=76;
/// Bits that a division may leave in the scale.
const SLACKS: [f64; 5] = [0.0, 8.0, 14.0, 20.0, 29.5];

/// Predicted microseconds for one image.
pub fn price(values: &Values<'_>, levels: &Levels) -> f64 {
    let set = &levels.set;
    let n = set.n() as f64;
    let ntt = Calibration::MEASURED.ntt_us * n / 8192.0 * f64::from(set.log_n()) / 13.0;
    let pass = Calibration::MEASURED.limb_pass_us * n / 8192.0;
    let of = |value: &Value<'_>| {
        let limbs = levels.limbs[value.depth] as f64;
        let count = value.len() as f64;
        match &value.node {
            Node::Input => 2.0 * limbs * n * count / WORDS_PER_US,
            Node::Linear { terms, .. } => {
                let products = terms.iter().map(|t| (t.matrix.nnz() * values.list[t.source].polys) as f64);
                products.sum::<f64>() * limbs * n / PRODUCTS_PER_US
            }
            Node::Mul(..) => 4.0 * pass * limbs * count,
            Node::Divide { source, .. } => {
                let source = &values.list[*source];
                let l = levels.limbs[source.depth];
                let t = l + set.special();
                let each = if source.polys == 3 { set.digits(l) * t + 2 * t } else { 2 * l };
                each as f64 * (ntt + pass) * count
            }
        }
    };
    values.list.iter().map(of).sum::<f64>() / n
}

/// The cheapest levels of at least `precision` bits.
///
/// # Errors
/// Why each ring was passed over.
pub fn search(values: &Values<'_>, log_images: Option<u32>, precision: f64) -> Result<Levels, Vec<String>> {
    let mut best: Option<(f64, Levels)> = None;
    let mut reasons = Vec::new();
    let rings = SECURITY_TABLE.iter().map(|r| r.0);
    for log_n in rings.filter(|&r| log_images.map_or(r >= LEAST_LOG_IMAGES, |asked| r == asked)) {
        let primes = Primes::new(log_n, MAX_LIMBS);
        let mut nearest: Option<f64> = None;
        let mut reason = String::from("no levels");
        let halves = |range: std::ops::RangeInclusive<u32>| range.map(|half| f64::from(half) / 2.0);
        let choices = halves(WEIGHT_HALF_BITS)
            .flat_map(|weight_bits| halves(AIM_HALF_BITS).map(move |aim| (weight_bits, aim)))
            .flat_map(|(weight_bits, aim)| SLACKS.map(|slack| (weight_bits, aim, slack)))
            .flat_map(|(weight_bits, aim, slack)| [1, 2].map(|special| Choice { special, weight_bits, aim, slack }));
        for choice in choices {
            match Levels::new(values, &primes, choice) {
                Ok(levels) if levels.precision >= precision => {
                    let price = price(values, &levels);
                    // Of equal prices the more precise.
                    let better = |(least, best): &(f64, Levels)| {
                        price < least * 0.999 || (price < least * 1.001 && levels.precision > best.precision)
                    };
                    if best.as_ref().is_none_or(better) {
                        best = Some((price, levels));
                    }
                }
                Ok(levels) => nearest = Some(nearest.map_or(levels.precision, |n| n.max(levels.precision))),
                Err(why) => reason = why,
            }
        }
        if best.is_some() {
            // A larger ring has the same price for each image, and more of everything to keep.
            break;
        }
        let what = nearest.map_or(reason, |bits| format!("at most {bits:.1} of {precision:.1} bits of precision"));
        reasons.push(format!("N = 2^{log_n}: {what}"));
    }
    best.map(|b| b.1).ok_or(reasons)
}
