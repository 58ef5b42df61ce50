//! The security bound, in arithmetic that runs in `const` and on any target alike.

/// `(log2 N, largest log2 QP)` for 128-bit classical security, uniform ternary secret, sigma 3.2.
///
/// Reference: eprint 2024/463.
pub const SECURITY_TABLE: [(u32, u32); 6] = [(11, 53), (12, 106), (13, 214), (14, 430), (15, 868), (16, 1747)];

/// The largest log2 QP allowed at ring degree 2^`log_n`; 0 for a degree outside the table.
pub const fn max_log_qp(log_n: u32) -> u32 {
    match log_n {
        11 => SECURITY_TABLE[0].1,
        12 => SECURITY_TABLE[1].1,
        13 => SECURITY_TABLE[2].1,
        14 => SECURITY_TABLE[3].1,
        15 => SECURITY_TABLE[4].1,
        16 => SECURITY_TABLE[5].1,
        _ => 0,
    }
}

/// An upper bound of log2 `p` in units of 2^-16 bits, at most 2 units above the true value.
///
/// Binary logarithm by repeated squaring: the mantissa is squared once per fractional bit.
pub const fn log2_q16(p: u32) -> u32 {
    if p < 2 {
        return 0;
    }
    let int = 31u32.wrapping_sub(p.leading_zeros());
    // Mantissa in [1, 2) with 62 - 31 = 31 fractional bits.
    let mut m = (p as u64).wrapping_shl(31u32.wrapping_sub(int));
    let mut frac = 0u32;
    let mut bit = 0u32;
    while bit < 16 {
        // Round up, so that the result errs on the safe side.
        m = m.wrapping_mul(m).wrapping_add((1 << 31) - 1) >> 31;
        frac <<= 1;
        if m >= 1 << 32 {
            frac |= 1;
            m = m.wrapping_add(1) >> 1;
        }
        bit = bit.wrapping_add(1);
    }
    (int << 16).wrapping_add(frac).wrapping_add(if p.is_power_of_two() { 0 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log2_is_a_tight_upper_bound() {
        for p in [2u32, 3, 4, 65537, 12_345_677, (1 << 26) - 1, (1 << 30) - 1, u32::MAX] {
            let exact = libm::log2(f64::from(p)) * 65536.0;
            let bound = f64::from(log2_q16(p));
            assert!(bound >= exact - 1e-6 && bound <= exact + 2.0, "{p}: {bound} {exact}");
        }
    }
}
