//! The kernel's table of moduli against an estimate that shares nothing with it.

use cipherlens::security::{CostModel, estimate};
use cipherlens_kernel::params::{SECURITY_TABLE, named};

/// By how many bits the table and the estimate may differ.
const BITS: f64 = 3.0;

#[test]
fn the_table_is_what_the_attacks_cost() {
    for (log_n, log_qp) in SECURITY_TABLE {
        let level = |model| estimate(1 << log_n, f64::from(log_qp), model);
        let (gates, sieve) = (level(CostModel::Matzov), level(CostModel::Bdgl16));
        let stricter = if gates.bits() >= 128.0 { "the table" } else { "the estimate" };
        println!(
            "2^{log_n}, {log_qp} bits: primal {:.1}, dual {:.1} (block size {}); {:.1} by BDGL16; {stricter} is stricter",
            gates.primal,
            gates.dual,
            gates.beta,
            sieve.bits()
        );
        assert!((gates.bits() - 128.0).abs() <= BITS, "2^{log_n}: {gates:?}");
        // The older model takes every row for safe.
        assert!(sieve.bits() >= 128.0, "2^{log_n}: {sieve:?}");
    }
}

#[test]
fn named_sets_have_the_level_that_they_claim() {
    for set in named::ALL {
        let level = estimate(set.n(), set.log_modulus(set.limbs(), true), CostModel::Matzov);
        assert!(level.bits() > 128.0 - BITS, "{}: {level:?}", set.name());
    }
}
