//! 28 + 26 + 26 + 28 = 108 bits at N = 4096, where 106 are allowed.

use cipherlens_kernel::params::ParamSet;

const SET: ParamSet = ParamSet::named("insecure", 12, &[268_369_921, 67_043_329, 66_813_953], &[268_271_617], 1);

fn main() {
    assert_eq!(SET.limbs(), 3);
}
