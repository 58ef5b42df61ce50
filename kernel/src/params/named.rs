//! The named parameter sets. Each line is a `const` item, so a set that fails a check does not compile.

use super::ParamSet;

/// N = 4096, 4 limbs of 17 to 25 bits, one special prime: microcontrollers, multiplicative depth 3.
///
/// The first and third rescale only undo a product with weights, so they use the smallest primes that
/// exist; the middle one follows the square and carries the full scale.
pub const N12: ParamSet = ParamSet::named("n12", 12, &[33_538_049, 163_841, 1_785_857, 147_457], &[33_292_289], 1);

/// N = 8192, 6 limbs of 26 to 28 bits in digits of two, two special primes: MNIST-size networks, depth 5.
pub const N13: ParamSet = ParamSet::named(
    "n13",
    13,
    &[268_369_921, 67_043_329, 66_813_953, 66_551_809, 66_420_737, 65_929_217],
    &[268_271_617, 268_238_849],
    2,
);

/// N = 16384, 12 limbs of 28 to 30 bits in digits of three, three special primes: depth 11.
pub const N14: ParamSet = ParamSet::named(
    "n14",
    14,
    &[
        1_073_479_681,
        268_369_921,
        268_238_849,
        268_042_241,
        267_059_201,
        265_486_337,
        265_420_801,
        264_634_369,
        264_306_689,
        263_913_473,
        263_454_721,
        263_323_649,
    ],
    &[1_072_496_641, 1_071_513_601, 1_070_727_169],
    3,
);

/// N = 32768, 26 limbs of 28 to 30 bits in digits of three, three special primes: depth 25.
pub const N15: ParamSet = ParamSet::named(
    "n15",
    15,
    &[
        1_073_479_681,
        268_042_241,
        265_420_801,
        264_634_369,
        263_454_721,
        263_323_649,
        261_881_857,
        261_488_641,
        260_702_209,
        260_571_137,
        258_605_057,
        257_949_697,
        256_770_049,
        256_376_833,
        254_279_681,
        536_608_769,
        536_215_553,
        533_463_041,
        532_283_393,
        531_628_033,
        529_924_097,
        529_268_737,
        528_351_233,
        526_123_009,
        525_729_793,
        524_943_361,
    ],
    &[1_071_513_601, 1_070_727_169, 1_068_236_801],
    3,
);

/// Every named set, smallest ring first.
pub const ALL: [ParamSet; 4] = [N12, N13, N14, N15];

/// The named set called `name`.
pub fn by_name(name: &str) -> Option<ParamSet> {
    ALL.iter().find(|set| set.name() == name).copied()
}
