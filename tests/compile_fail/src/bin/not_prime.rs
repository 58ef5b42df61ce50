//! 16385 = 5 * 29 * 113 is 1 modulo 4N.

use cipherlens_kernel::params::ParamSet;

const SET: ParamSet = ParamSet::named("compose", 12, &[33_538_049, 16_385], &[33_292_289], 1);

fn main() {
    assert_eq!(SET.limbs(), 2);
}
