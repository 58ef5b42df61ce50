//! 25 + 25 + 17 bits at N = 4096, where 106 are allowed.

use cipherlens_kernel::params::ParamSet;

const SET: ParamSet = ParamSet::named("sound", 12, &[33_538_049, 163_841], &[33_292_289], 1);

fn main() {
    assert_eq!(SET.limbs(), 2);
}
