//! Every instruction, in every plaintext form, computes on slots what it says, within the predicted noise;
//! and the way a program is run never changes a bit of its result.

use cipherlens_kernel::params::{ParamSet, named};
use cipherlens_kernel::program::Program;
use cipherlens_tests::Lcg;
use cipherlens_tests::assemble::{Assembled, Assembler, Diagonal, Form, Register, blocks, everything, weights};
use cipherlens_tests::lab::{Lab, Setup, run};
use cipherlens_tests::mean_square;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Ratios of measured to predicted variance that pass. Most predictions are exact in expectation; the lower
/// end leaves room for what they bound from above (a sum whose errors partly cancel), the upper end for the
/// spread of a few heavy terms, such as the three key errors that a transform with three rotations shares.
const RATIO: std::ops::RangeInclusive<f64> = 0.5..=1.7;
/// Largest error of a slot, in deviations. Errors are products of two nearly Gaussian slots (an error and a
/// secret), whose tail falls like exp(-x): beyond 20 lies one in 10^8.
const DEVIATIONS: f64 = 20.0;

fn check(name: &str, lab: &Lab, case: &Assembled, files: &[Vec<u8>]) -> Result<(), TestCaseError> {
    for (output, file) in case.outputs.iter().zip(files) {
        let slots = lab.decrypt(file);
        let unit = output.scale.value();
        let errors: Vec<f64> = slots.iter().zip(&output.values).map(|(a, b)| (a - b) * unit).collect();
        let ratio = mean_square(errors.iter().copied()) / output.variance;
        let worst = errors.iter().fold(0.0, |w, e| f64::max(w, e.abs())) / output.variance.sqrt();
        let set = lab.set();
        prop_assert!(RATIO.contains(&ratio), "{name} on {}: variance is {ratio:.2} of the prediction", set.name());
        prop_assert!(worst < DEVIATIONS, "{name} on {}: a slot is {worst:.1} deviations off", set.name());
    }
    Ok(())
}

/// Encrypts, runs and checks a program; returns its output files.
fn evaluate(name: &str, lab: &mut Lab, case: &Assembled, public: bool) -> Result<(), TestCaseError> {
    let program = Program::verify(&case.bytes).expect("verified when it was assembled");
    let keys = lab.keys(&program);
    let inputs: Vec<Vec<u8>> =
        case.inputs.iter().enumerate().map(|(i, x)| lab.encrypt(&program, i, x, public)).collect();
    let files = run(program, &keys, &inputs, Setup::default()).expect("a valid run");
    check(name, lab, case, &files)
}

/// Random sizes of one case.
#[derive(Debug, Clone)]
struct Draw {
    seed: u64,
    limbs: usize,
    rotations: Vec<u32>,
}

struct Bench {
    asm: Assembler,
    lcg: Lcg,
    draw: Draw,
    n: usize,
    /// log2 of the last prime at the drawn level.
    log_q: f64,
    log_scale: f64,
}

impl Bench {
    fn values(&mut self) -> Vec<f64> {
        self.lcg.units(self.n)
    }

    fn input(&mut self, limbs: usize) -> Register {
        let (values, log_scale) = (self.values(), self.log_scale);
        self.asm.input(values, limbs, log_scale)
    }

    fn weights(&mut self, form: Form, log_scale: f64) -> Vec<f64> {
        weights(&mut self.lcg, self.n, form, log_scale)
    }

    fn mul_plain(&mut self, form: Form) -> Register {
        let (x, log_q) = (self.input(self.draw.limbs), self.log_q);
        let w = self.weights(form, log_q);
        self.asm.mul_plain(&x, &w, log_q, form, true)
    }

    fn transform(&mut self, steps: &[(u32, u32)], forms: &[Form]) -> Register {
        let (x, log_q) = (self.input(self.draw.limbs), self.log_q);
        let diagonals: Vec<Diagonal> = steps
            .iter()
            .zip(forms.iter().cycle())
            .map(|(&(baby, giant), &form)| {
                let values = self.weights(form, log_q);
                Diagonal { source: 0, result: 0, baby, giant, values, form }
            })
            .collect();
        self.asm.linear_transform(&x, &diagonals, log_q, true)
    }
}

type Recipe = (&'static str, fn(&mut Bench) -> Register);

const COMPACT: [Form; 2] = [Form::Compact32, Form::Ntt];

const RECIPES: &[Recipe] = &[
    ("fresh", |b| {
        let (x, y) = (b.input(b.draw.limbs), b.input(b.draw.limbs));
        b.asm.add(&x, &y)
    }),
    ("sum across levels", |b| {
        let (x, y) = (b.input(b.draw.limbs), b.input(b.draw.limbs - 1));
        b.asm.add(&x, &y)
    }),
    ("plaintext sum, scalar", |b| {
        let x = b.input(b.draw.limbs);
        let c = b.lcg.unit();
        b.asm.add_plain(&x, &vec![c; b.n], Form::Scalar)
    }),
    ("plaintext sum, 16 bits", |b| {
        let x = b.input(b.draw.limbs);
        let w = b.weights(Form::Compact16, b.log_scale);
        b.asm.add_plain(&x, &w, Form::Compact16)
    }),
    ("plaintext sum, 32 bits", |b| {
        let (x, w) = (b.input(b.draw.limbs), b.values());
        b.asm.add_plain(&x, &w, Form::Compact32)
    }),
    ("plaintext sum, Ntt", |b| {
        let (x, w) = (b.input(b.draw.limbs), b.values());
        b.asm.add_plain(&x, &w, Form::Ntt)
    }),
    ("plaintext product, scalar", |b| b.mul_plain(Form::Scalar)),
    ("plaintext product, 16 bits", |b| b.mul_plain(Form::Compact16)),
    ("plaintext product, 32 bits", |b| b.mul_plain(Form::Compact32)),
    ("plaintext product, Ntt", |b| b.mul_plain(Form::Ntt)),
    ("plaintext product without rescale", |b| {
        let (x, w) = (b.input(b.draw.limbs), b.values());
        b.asm.mul_plain(&x, &w, 12.0, Form::Compact32, false)
    }),
    ("rescale", |b| {
        let scale = b.log_scale + b.log_q;
        let values = b.values();
        let x = b.asm.input(values, b.draw.limbs, scale);
        b.asm.rescale(&x)
    }),
    ("product", |b| {
        let (x, y) = (b.input(b.draw.limbs), b.input(b.draw.limbs));
        b.asm.mul(&x, &y, true)
    }),
    ("product across levels, without rescale", |b| {
        let (x, y) = (b.input(b.draw.limbs), b.input(b.draw.limbs - 1));
        b.asm.mul(&x, &y, false)
    }),
    ("square", |b| {
        let x = b.input(b.draw.limbs);
        b.asm.mul(&x, &x, true)
    }),
    ("rotation", |b| {
        let x = b.input(b.draw.limbs);
        b.asm.rotate_sum(&x, &b.draw.rotations[..1], false, false, b.draw.limbs)
    }),
    ("rotation at a dropped level", |b| {
        let x = b.input(b.draw.limbs);
        b.asm.rotate_sum(&x, &b.draw.rotations[..1], false, false, b.draw.limbs - 1)
    }),
    ("sum of rotations, rescaled", |b| {
        let values = b.values();
        let x = b.asm.input(values, b.draw.limbs, b.log_scale + b.log_q);
        b.asm.rotate_sum(&x, &b.draw.rotations.clone(), true, true, b.draw.limbs)
    }),
    ("transform without giant steps", |b| {
        let r = b.draw.rotations.clone();
        b.transform(&[(0, 0), (r[0], 0), (r[1], 0)], &COMPACT)
    }),
    ("transform without giant step 0", |b| {
        let r = b.draw.rotations.clone();
        b.transform(&[(0, r[0]), (r[2], r[0]), (r[2], r[1])], &COMPACT)
    }),
    ("transform with scalar diagonals", |b| {
        let r = b.draw.rotations.clone();
        let forms = [Form::Scalar, Form::Compact16, Form::Ntt, Form::Scalar, Form::Compact32];
        b.transform(&[(0, 0), (r[2], 0), (0, r[0]), (r[2], r[0]), (r[2], r[1])], &forms)
    }),
    ("transform of scalars only", |b| {
        let r = b.draw.rotations.clone();
        b.transform(&[(r[0], 0), (r[2], r[1])], &[Form::Scalar])
    }),
    ("chain over all levels", |b| {
        let mut x = b.input(b.draw.limbs);
        while x.limbs > 1 {
            // Signs: products of many uniform weights would make the errors' tail heavier than `DEVIATIONS` is for.
            let w: Vec<f64> = b.values().into_iter().map(f64::signum).collect();
            let log_q = f64::from(b.asm.prime_at(x.limbs)).log2();
            x = b.asm.mul_plain(&x, &w, log_q, Form::Compact32, true);
            let c = b.values();
            x = b.asm.add_plain(&x, &c, Form::Compact32);
        }
        x
    }),
];

/// Scale of the inputs: above the noise of a rescale, and small enough for a square at two limbs.
fn log_scale(set: &ParamSet) -> f64 {
    if set.log_n() == 12 { 19.0 } else { 24.0 }
}

fn laws(set: ParamSet, lab: &mut Lab, recipe: &Recipe, draw: Draw) -> Result<(), TestCaseError> {
    let public = draw.seed & 1 == 1;
    let mut bench = Bench {
        asm: Assembler::new(set, draw.limbs, public),
        lcg: Lcg::new(draw.seed),
        n: set.n(),
        log_q: f64::from(set.q()[draw.limbs - 1]).log2(),
        log_scale: log_scale(&set),
        draw,
    };
    let output = recipe.1(&mut bench);
    let case = bench.asm.finish(&[&output]);
    evaluate(recipe.0, lab, &case, public)
}

fn draws(set: ParamSet) -> impl Strategy<Value = Draw> {
    let rotations = prop::collection::btree_set(1..set.n() as u32, 3).prop_shuffle_into();
    (any::<u64>(), 3..=set.limbs(), rotations).prop_map(|(seed, limbs, rotations)| Draw { seed, limbs, rotations })
}

/// A set of rotations in any order.
trait ShuffleInto: Strategy<Value = std::collections::BTreeSet<u32>> + Sized {
    fn prop_shuffle_into(self) -> impl Strategy<Value = Vec<u32>> {
        self.prop_map(|set| set.into_iter().collect::<Vec<_>>()).prop_shuffle()
    }
}

impl<S: Strategy<Value = std::collections::BTreeSet<u32>>> ShuffleInto for S {}

fn random_laws(set: ParamSet, cases: u32) {
    let mut lab = Lab::new(set, 11);
    for recipe in RECIPES {
        let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        let lab = std::cell::RefCell::new(&mut lab);
        TestRunner::new(config)
            .run(&draws(set), |draw| laws(set, &mut lab.borrow_mut(), recipe, draw))
            .unwrap_or_else(|error| panic!("{}: {error}", recipe.0));
    }
}

#[test]
fn laws_hold_on_n12() {
    random_laws(named::N12, 6);
}

#[test]
fn laws_hold_on_n13() {
    random_laws(named::N13, 4);
}

/// Once at a level whose last digit is partial, where digits have three primes.
fn fixed_laws(set: ParamSet, limbs: usize) {
    let mut lab = Lab::new(set, 12);
    let rotations = vec![1, set.n() as u32 - 1, 77];
    for recipe in RECIPES {
        laws(set, &mut lab, recipe, Draw { seed: 3, limbs, rotations: rotations.clone() }).unwrap();
    }
}

#[test]
fn laws_hold_on_n14() {
    fixed_laws(named::N14, 7);
}

#[test]
fn laws_hold_on_n15() {
    fixed_laws(named::N15, 5);
}

/// Backend, cache, and where keys come from: 12 ways on a processor with AVX-512, one result.
fn one_result(set: ParamSet, limbs: usize) {
    let mut lab = Lab::new(set, 13);
    for case in [everything(set, limbs, log_scale(&set), 5), blocks(set, limbs, log_scale(&set), 6)] {
        one_result_of(set, &mut lab, &case);
    }
}

fn one_result_of(set: ParamSet, lab: &mut Lab, case: &Assembled) {
    let program = Program::verify(&case.bytes).unwrap();
    let keys = lab.keys(&program);
    for public in [false, true] {
        let inputs: Vec<Vec<u8>> =
            case.inputs.iter().enumerate().map(|(i, x)| lab.encrypt(&program, i, x, public)).collect();
        let expected = run(program, &keys, &inputs, Setup::default()).unwrap();
        if !public {
            check("everything", lab, case, &expected).unwrap();
        }
        for setup in Setup::all() {
            let found = run(program, &keys, &inputs, setup).unwrap();
            assert!(found == expected, "{setup:?} gives other bits on {}", set.name());
        }
    }
}

#[test]
fn results_are_bit_exact_on_n12() {
    one_result(named::N12, 3);
}

#[test]
fn results_are_bit_exact_on_n13() {
    one_result(named::N13, 4);
}

#[test]
fn results_are_bit_exact_on_n14() {
    one_result(named::N14, 4);
}

#[test]
fn results_are_bit_exact_on_n15() {
    one_result(named::N15, 4);
}
