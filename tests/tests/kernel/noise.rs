//! The noise model against measurement, operation by operation, on at least 10^5 slots each.

use cipherlens::noise::NoiseModel;
use cipherlens_kernel::params::{ParamSet, named};
use cipherlens_kernel::program::Program;
use cipherlens_tests::assemble::{Assembler, Diagonal, Form, Register};
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

/// An operation on `x`, and perhaps other inputs, whose noise the assembler predicts from the model.
type Recipe = (&'static str, fn(&mut Assembler, &mut Lcg, Vec<f64>) -> Register);

/// Diagonals of random weights: source, result, baby step, giant step.
fn diagonals(lcg: &mut Lcg, n: usize, places: &[(usize, usize, u32, u32)]) -> Vec<Diagonal> {
    let diagonal = |&(source, result, baby, giant): &(usize, usize, u32, u32)| {
        let values = lcg.units(n).iter().map(|w| w / 4.0).collect();
        Diagonal { source, result, baby, giant, values, form: Form::Compact32 }
    };
    places.iter().map(diagonal).collect()
}

/// Diagonals of ones: baby and giant step.
fn ones(n: usize, places: &[(u32, u32)]) -> Vec<Diagonal> {
    let one = |&(baby, giant)| Diagonal { source: 0, result: 0, baby, giant, values: vec![1.0; n], form: Form::Scalar };
    places.iter().map(one).collect()
}

const OPERATIONS: &[Recipe] = &[
    ("sum", |asm, lcg, x| {
        let y = asm.input(lcg.units(x.len()), 3, 20.0);
        let x = asm.input(x, 3, 20.0);
        asm.add(&x, &y)
    }),
    ("product with weights", |asm, lcg, x| {
        let (w, x) = (lcg.units(x.len()), asm.input(x, 3, 20.0));
        asm.mul_plain(&x, &w, 8.0, Form::Compact32, false)
    }),
    ("product with weights, rescaled", |asm, lcg, x| {
        let log_q = f64::from(asm.prime_at(3)).log2();
        let (w, x) = (lcg.units(x.len()), asm.input(x, 3, 20.0));
        asm.mul_plain(&x, &w, log_q, Form::Compact32, true)
    }),
    ("bias", |asm, lcg, x| {
        let (b, x) = (lcg.units(x.len()), asm.input(x, 3, 20.0));
        asm.add_plain(&x, &b, Form::Compact32)
    }),
    ("product of ciphertexts", |asm, lcg, x| {
        let y = asm.input(lcg.units(x.len()), 3, 20.0);
        let x = asm.input(x, 3, 20.0);
        asm.mul(&x, &y, false)
    }),
    ("square", |asm, _, x| {
        let x = asm.input(x, 3, 20.0);
        asm.mul(&x, &x, false)
    }),
    ("transform with baby steps", |asm, lcg, x| {
        let w = diagonals(lcg, x.len(), &[(0, 0, 0, 0), (0, 0, 3, 0), (0, 0, 7, 0), (0, 0, 11, 0)]);
        let x = asm.input(x, 3, 16.0);
        asm.linear_transform(&x, &w, 14.0, false)
    }),
    ("double-hoisted transform", |asm, lcg, x| {
        let places: Vec<_> = (0..4).flat_map(|g| (0..4).map(move |b| (0, 0, b, 64 * g))).collect();
        let w = diagonals(lcg, x.len(), &places);
        let x = asm.input(x, 3, 16.0);
        asm.linear_transform(&x, &w, 14.0, false)
    }),
    // Weights of 1 are exact, so that the noise of the keys is what is left.
    ("baby steps", |asm, _, x| {
        let w = ones(x.len(), &std::array::from_fn::<_, 24, _>(|i| (100 * i as u32 + 1, 0)));
        let x = asm.input(x, 3, 20.0);
        asm.linear_transform(&x, &w, 0.0, false)
    }),
    // Behind a baby step, or what is divided by P would be its multiple and leave no rounding.
    ("giant steps", |asm, _, x| {
        let w = ones(x.len(), &std::array::from_fn::<_, 24, _>(|i| (7, 100 * i as u32 + 1)));
        let x = asm.input(x, 3, 20.0);
        asm.linear_transform(&x, &w, 0.0, false)
    }),
    ("double-hoisted transform of two sources, rescaled", |asm, lcg, x| {
        let places: Vec<_> =
            (0..2).flat_map(|s| (0..3).flat_map(move |g| (0..4).map(move |b| (s, 0, b, 32 * g)))).collect();
        let w = diagonals(lcg, x.len(), &places);
        let log_q = f64::from(asm.prime_at(3)).log2();
        let y = asm.input(lcg.units(x.len()), 3, 17.0);
        let x = asm.input(x, 3, 16.0);
        asm.block_transform(&[&x, &y], 1, &w, log_q, true).remove(0)
    }),
];

/// Every other operation: what its formula predicts is what is measured, on both sides.
#[test]
fn operations() {
    for set in [named::N12, named::N13] {
        for (what, recipe) in OPERATIONS {
            let runs = SLOTS.div_ceil(set.n());
            let mut lcg = Lcg::new(23);
            let ratios = (0..runs).map(|run_index| {
                let mut lab = Lab::new(set, 50 + run_index as u8);
                let mut asm = Assembler::new(set, 3, false);
                let x = lcg.units(set.n());
                let output = recipe(&mut asm, &mut lcg, x);
                let case = asm.finish(&[&output]);
                let program = Program::verify(&case.bytes).unwrap();
                let keys = lab.keys(&program);
                let inputs: Vec<_> =
                    case.inputs.iter().enumerate().map(|(i, x)| lab.encrypt(&program, i, x, false)).collect();
                let slots = lab.decrypt(&run(program, &keys, &inputs, Setup::default()).unwrap()[0]);
                let unit = output.scale.value();
                let measured = mean_square(slots.iter().zip(&output.values).map(|(a, b)| (a - b) * unit));
                measured / output.variance
            });
            let ratio = mean_square(ratios.map(f64::sqrt));
            within(what, set, ratio, 1.0, EXACT);
        }
    }
}

/// Relinearisation: the product less the product of what its factors decrypt to. The factors' own noise, which is far
/// greater, is no part of that.
#[test]
fn relinearisation() {
    for set in [named::N12, named::N13] {
        let model = NoiseModel::new(set);
        let mut lcg = Lcg::new(24);
        let squares = (0..SLOTS.div_ceil(set.n())).map(|run_index| {
            let mut lab = Lab::new(set, 90 + run_index as u8);
            let mut asm = Assembler::new(set, 3, false);
            let (x, y) = (asm.input(lcg.units(set.n()), 3, 18.0), asm.input(lcg.units(set.n()), 3, 18.0));
            let product = asm.mul(&x, &y, false);
            let (x, y) = (pass(&mut asm, &x), pass(&mut asm, &y));
            let case = asm.finish(&[&product, &x, &y]);
            let program = Program::verify(&case.bytes).unwrap();
            let keys = lab.keys(&program);
            let inputs = [0, 1].map(|i| lab.encrypt(&program, i, &case.inputs[i], false));
            let files = run(program, &keys, &inputs, Setup::default()).unwrap();
            let [xy, x, y] = [0, 1, 2].map(|i| lab.decrypt(&files[i]));
            let factors = x.iter().zip(&y).map(|(x, y)| x * y);
            mean_square(xy.iter().zip(factors).map(|(xy, f)| (xy - f) * product.scale.value()))
        });
        let measured = mean_square(squares.map(f64::sqrt));
        within("relinearisation", set, measured, model.key_switch(3) + model.division(), EXACT);
    }
}
