//! The noise model against measurement, operation by operation, on at least 10^5 slots each.

use cipherlens::noise::NoiseModel;
use cipherlens_kernel::params::{ParamSet, named};
use cipherlens_kernel::program::Program;
use cipherlens_tests::assemble::{Assembler, Register};
use cipherlens_tests::lab::{Lab, Setup, run};
use cipherlens_tests::{Lcg, mean_square};
use std::ops::RangeInclusive;

const SLOTS: usize = 100_000;
/// The model is exact in expectation. A ciphertext of N slots has N independent coefficients, so 10^5 slots
/// estimate a variance to 0.5 %; what remains is the weight of one secret key (1 %) and of one set of keys.
const EXACT: RangeInclusive<f64> = 0.95..=1.05;

/// Measures the mean square error of `recipe`'s result in integer units, over fresh keys and inputs.
fn measure(set: ParamSet, public: bool, recipe: impl Fn(&mut Assembler, Vec<f64>) -> Register) -> f64 {
    let runs = SLOTS.div_ceil(set.n());
    let mut lcg = Lcg::new(21);
    let squares = (0..runs).map(|run_index| {
        let mut lab = Lab::new(set, run_index as u8);
        let mut asm = Assembler::new(set, 3, public);
        let output = recipe(&mut asm, lcg.units(set.n()));
        let case = asm.finish(&[&output]);
        let program = Program::verify(&case.bytes).unwrap();
        let keys = lab.keys(&program);
        let input = lab.encrypt(&program, 0, &case.inputs[0], public);
        let files = run(program, &keys, &[input], Setup::default()).unwrap();
        let slots = lab.decrypt(&files[0]);
        let unit = output.scale.value();
        mean_square(slots.iter().zip(&output.values).map(|(a, b)| (a - b) * unit))
    });
    mean_square(squares.map(f64::sqrt))
}

fn within(what: &str, set: ParamSet, measured: f64, predicted: f64, interval: RangeInclusive<f64>) {
    let ratio = measured / predicted;
    println!("{what} on {}: measured 2^{:.2}, ratio {ratio:.3}", set.name(), measured.log2() / 2.0);
    assert!(interval.contains(&ratio), "{what} on {}: {ratio:.3} of the predicted variance", set.name());
}

/// An addition of a zero integer changes nothing: the way to make an input an output.
fn pass(asm: &mut Assembler, x: &Register) -> Register {
    asm.add_plain(x, &vec![0.0; x.values.len()], cipherlens_tests::assemble::Form::Scalar)
}

#[test]
fn fresh_encryption() {
    for set in [named::N12, named::N13] {
        let model = NoiseModel::new(set);
        for (what, public, fresh) in [("secret key", false, model.fresh()), ("public key", true, model.fresh_public())]
        {
            let measured = measure(set, public, |asm, x| {
                let x = asm.input(x, 3, 20.0);
                pass(asm, &x)
            });
            within(what, set, measured, fresh + model.encoding(), EXACT);
        }
    }
}

#[test]
fn plaintext_encoding() {
    for set in [named::N12, named::N13, named::N14] {
        let lab = Lab::new(set, 1);
        let mut lcg = Lcg::new(22);
        let scale = 20f64.exp2();
        let squares = (0..SLOTS.div_ceil(set.n())).map(|_| {
            let values = lcg.units(set.n());
            let rounded = lab.encoder.encode(&values, scale).unwrap();
            let slots = lab.encoder.to_slots(&rounded.iter().map(|&c| c as f64).collect::<Vec<_>>());
            mean_square(slots.iter().zip(&values).map(|(a, b)| a - b * scale))
        });
        let measured = mean_square(squares.map(f64::sqrt));
        within("encoding", set, measured, NoiseModel::new(set).encoding(), EXACT);
    }
}

/// Rescale: the input's noise is divided by q and vanishes; what is left is the rounding of both components.
#[test]
fn rescale() {
    for set in [named::N12, named::N13] {
        let measured = measure(set, false, |asm, x| {
            let x = asm.input(x, 3, 38.0);
            asm.rescale(&x)
        });
        within("rescale", set, measured, NoiseModel::new(set).division(), EXACT);
    }
}

/// Mod-down: one rotation where P is at least 2^4 times every digit, so that the key's noise is small.
#[test]
fn mod_down() {
    let set = named::N14;
    let model = NoiseModel::new(set);
    assert!(model.key_switch(3) < 0.1 * model.division());
    let measured = measure(set, false, |asm, x| {
        let x = asm.input(x, 3, 24.0);
        asm.rotate_sum(&x, &[5], false, false, 3)
    });
    within("mod-down", set, measured, model.division() + model.fresh() + model.key_switch(3), EXACT);
}

/// Key switching: a sum of many rotations has one mod-down, so the noise of the keys dominates. A digit of
/// several primes is uniform; a digit of one prime is too.
#[test]
fn key_switch() {
    for set in [named::N12, named::N13] {
        let steps: Vec<u32> = (1..=24).map(|i| i * 100 + 1).collect();
        let model = NoiseModel::new(set);
        let expected = steps.len() as f64 * (model.key_switch(3) + model.fresh() + model.encoding()) + model.division();
        let measured = measure(set, false, |asm, x| {
            let x = asm.input(x, 3, 24.0);
            asm.rotate_sum(&x, &steps, false, false, 3)
        });
        within("24 key switches", set, measured, expected, EXACT);
    }
}
