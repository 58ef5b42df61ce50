//! Primality and roots of unity.

use super::Modulus;

/// Whether `n` is prime (deterministic Miller-Rabin: bases 2, 3, 5, 7 decide every n below 3.2 * 10^9).
pub const fn is_prime(n: u32) -> bool {
    if n < 2 {
        return false;
    }
    const BASES: [u32; 4] = [2, 3, 5, 7];
    let mut bases = BASES.as_slice();
    while let [base, rest @ ..] = bases {
        if n.is_multiple_of(*base) {
            return n == *base;
        }
        bases = rest;
    }
    if n >= 3_215_031_751 {
        return false;
    }
    let minus_one = n.wrapping_sub(1);
    let shift = minus_one.trailing_zeros();
    let odd = minus_one.wrapping_shr(shift);
    bases = BASES.as_slice();
    while let [base, rest @ ..] = bases {
        let mut x = pow_mod(*base, odd, n);
        if x != 1 && x != minus_one {
            let mut k = 1u32;
            while k < shift && x != minus_one {
                x = mul_mod(x, x, n);
                k = k.wrapping_add(1);
            }
            if x != minus_one {
                return false;
            }
        }
        bases = rest;
    }
    true
}

const fn mul_mod(a: u32, b: u32, n: u32) -> u32 {
    match (a as u64).wrapping_mul(b as u64).checked_rem(n as u64) {
        Some(r) => r as u32,
        None => 0,
    }
}

const fn pow_mod(base: u32, mut exponent: u32, n: u32) -> u32 {
    let mut result = 1;
    let mut square = base;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = mul_mod(result, square, n);
        }
        square = mul_mod(square, square, n);
        exponent >>= 1;
    }
    result
}

/// A primitive 4N-th root of unity modulo `m`, the same on every target: `g^((p-1)/4N)` for the smallest
/// `g >= 2` that gives one. None if `p` is not 1 modulo 4N.
pub fn primitive_root(m: &Modulus, log_n: u32) -> Option<u32> {
    let order_log = log_n.wrapping_add(2);
    let group = m.value().wrapping_sub(1);
    if group.trailing_zeros() < order_log {
        return None;
    }
    let exponent = group.wrapping_shr(order_log);
    (2..100u32).find_map(|g| {
        let z = m.pow(g, exponent);
        // Of order 4N exactly when its 2N-th power is -1.
        let half = m.pow(z, 1u32.wrapping_shl(log_n.wrapping_add(1)));
        (half == group).then_some(z)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_agree_with_trial_division() {
        let trial = |n: u32| n >= 2 && (2..n).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
        for n in 0..20_000 {
            assert_eq!(is_prime(n), trial(n), "{n}");
        }
        // Strong pseudoprimes to bases 2, 3 and 5.
        for n in [25_326_001u32, 161_304_001, 960_946_321] {
            assert!(!is_prime(n));
        }
        assert!(is_prime(1_073_479_681));
    }
}
