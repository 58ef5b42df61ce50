//! The special prime is also a ciphertext prime.

use cipherlens_kernel::params::ParamSet;

const SET: ParamSet = ParamSet::named("repeat", 12, &[33_538_049, 163_841], &[33_538_049], 1);

fn main() {
    assert_eq!(SET.limbs(), 2);
}
