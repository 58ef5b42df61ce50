//! Whole models: images in, classes out, and what that costs.

use cipherlens::compile::report::moduli;
use cipherlens::compile::{CompileOptions, Compiled, LayoutKind, ModelGraph, compile, load};
use cipherlens::evaluate::{Memory, infer};
use cipherlens::mask::Mask;
use cipherlens::meta::Meta;
use cipherlens::models::{Task, by_name};
use cipherlens::pool::Pool;
use cipherlens::statistics::Overlap;
use cipherlens_kernel::engine::Counts;
use cipherlens_kernel::params::named;
use cipherlens_kernel::program::Program;
use cipherlens_tests::Lcg;
use cipherlens_tests::fixtures::{
    Images, MODELS, class, compiled, digits, lesions, mnist_test, model, root, test_images,
};
use cipherlens_tests::lab::Lab;

/// Predictions must be of the same size as what is measured: within 1.5 bits.
const PREDICTION_BITS: f64 = 1.5;

/// Largest plaintext cache that a test fills, in bytes.
const MOST_CACHE: usize = 512 << 20;

/// What encrypted runs of one model gave.
struct Outcome {
    compiled: Compiled,
    counts: Counts,
    /// Mean square of the error of an output value against the clear network.
    error: f64,
    /// Images whose encrypted class is not the clear one.
    disagreements: Vec<usize>,
    /// Output values of each image.
    scores: Vec<Vec<f64>>,
}

/// Runs `images` encrypted and in the clear.
fn outcome(model: &ModelGraph, images: &[Vec<f32>], public: bool) -> Outcome {
    outcome_of(model, compiled(model), images, public)
}

/// The same by a program that is there.
fn outcome_of(model: &ModelGraph, compiled: Compiled, images: &[Vec<f32>], public: bool) -> Outcome {
    let program = Program::verify(&compiled.bytes).unwrap();
    let meta: Meta = serde_json::from_slice(program.meta()).unwrap();
    let mut lab = Lab::new(*program.set(), 81);
    let keys = lab.keys(&program);
    assert_eq!(keys.len(), compiled.report.key_bytes);
    let mut memory = Memory::default();
    let mut engine = memory.engine_with(program, &keys, 1, MOST_CACHE).unwrap();
    let pool = Pool::new(1).unwrap();
    let (mut squares, mut count, mut disagreements, mut all) = (0.0, 0.0, Vec::new(), Vec::new());
    for (i, image) in images.iter().enumerate() {
        let pack = |p: &cipherlens::meta::MetaPacking| lab.encrypt(&program, p.index as usize, &p.pack(image), public);
        let inputs: Vec<Vec<u8>> = meta.inputs[0].ciphertexts.iter().map(pack).collect();
        let (files, _) = infer(&mut engine, &inputs, &pool).unwrap();
        let output = &meta.outputs[0];
        let slots = lab.decrypt(&files[output.index as usize]);
        let scores: Vec<f64> = output.slot.iter().map(|&s| slots[s as usize]).collect();
        let clear = model.evaluate(image).unwrap();
        if class(&scores) != class(&clear) {
            disagreements.push(i);
        }
        squares += scores.iter().zip(&clear).map(|(a, &b)| (a - f64::from(b)).powi(2)).sum::<f64>();
        count += scores.len() as f64;
        all.push(scores);
    }
    Outcome { counts: engine.counts(), error: squares / count, compiled, disagreements, scores: all }
}

/// A sample of the drawn digits: every tenth, say.
fn sample(every: usize) -> Vec<Vec<f32>> {
    digits().images.into_iter().step_by(every).collect()
}

fn accuracy(model: &ModelGraph, set: &Images) -> f64 {
    let right = |(image, &label): (&Vec<f32>, &u8)| class(&model.evaluate(image).unwrap()) == usize::from(label);
    let hits = set.images.iter().zip(&set.labels).filter(|&pair| right(pair)).count();
    hits as f64 / set.images.len() as f64
}

fn agrees(name: &str, every: usize, public: bool) {
    let model = model(name);
    let found = outcome(&model, &sample(every), public);
    assert_eq!(found.disagreements, [] as [usize; 0], "{name}");
    let bits = 0.5 * found.error.log2() - found.compiled.report.output_error[0].log2();
    println!("{name}: error 2^{:.1}, {bits:+.2} bits from the prediction", 0.5 * found.error.log2());
    // The prediction is for encryption under the secret key.
    if !public {
        assert!(bits.abs() < PREDICTION_BITS, "{name}: {bits:.2} bits off the predicted error");
    }
}

#[test]
fn mnist_agrees_with_the_clear_network() {
    agrees("mnist", 10, false);
}

#[test]
fn mnist_under_the_public_key() {
    agrees("mnist", 50, true);
}

#[test]
fn mnist_micro_agrees_with_the_clear_network() {
    agrees("mnist-micro", 5, false);
}

#[test]
fn drawn_digits_are_recognised() {
    for name in ["mnist", "mnist-micro"] {
        let accuracy = accuracy(&model(name), &digits());
        println!("{name}: {:.1} % of the drawn digits", 100.0 * accuracy);
        assert!(accuracy >= 0.98, "{name}: {accuracy}");
    }
}

#[test]
fn mnist_test_images() {
    let Some(mut test) = mnist_test() else {
        println!("skipped: data folder missing");
        return;
    };
    let mnist = model("mnist");
    test.images.truncate(2000);
    let accuracy = accuracy(&mnist, &test);
    assert!(accuracy >= 0.985, "{accuracy} of the first 2,000");
    let found = outcome(&mnist, &test.images[..40], false);
    assert_eq!(found.disagreements, [] as [usize; 0]);
}

/// A plan: model, parameter set, then transforms, key switches, rotations and plaintext products of a run, then keys.
type Plan = (&'static str, &'static str, [u32; 4], usize);

const PLANS: [Plan; 5] = [
    ("mnist-micro", "n12-3+1", [94, 27, 26, 5], 24),
    ("mnist", "n13-5+3", [206, 56, 54, 51], 41),
    ("cryptonets", "n13-5+2", [199, 53, 51, 51], 41),
    ("orion-mlp", "n13-5+2", [261, 45, 43, 28], 30),
    ("tenseal-cnn", "n13-5+2", [220, 37, 35, 16], 25),
];

/// The engine does exactly what the compiler predicted, and the compiler no more than it did when these numbers
/// were written down: fewer is progress to be recorded, more is a worse plan.
#[test]
fn operation_counts() {
    let measured = PLANS.map(|(name, ..)| {
        let found = outcome(&model(name), &sample(300), false);
        let (counts, report) = (found.counts, &found.compiled.report);
        let predicted = [report.ntts, report.key_switches, report.rotations, report.plain_products];
        let done = [counts.ntts, counts.key_switches, counts.rotations, counts.plain_products];
        assert_eq!(done.map(|c| c as usize), predicted, "{name}: done and predicted");
        assert_eq!(counts.plain_ntts, 0, "{name}: everything was prepared");
        (name, report.set.clone(), done, report.keys.len())
    });
    for ((name, set, counts, keys), plan) in measured.iter().zip(&PLANS) {
        assert_eq!(&(*name, set.as_str(), *counts, *keys), plan, "the plan changed; all: {measured:?}");
    }
}

/// Both layouts compute what the clear network does, each within its predicted error; the comparison of their prices in
/// `notes/performance.md` is between equals.
#[test]
fn both_layouts_agree_with_the_clear_network() {
    for name in ["darkness", "unet_tiny"] {
        let model = load(&root().join("fixtures/onnx").join(format!("{name}.onnx")), None).unwrap();
        let mut lcg = Lcg::new(5);
        let len = model.tensors[model.inputs[0]].len();
        let images: Vec<Vec<f32>> = (0..3).map(|_| (0..len).map(|_| lcg.unit() as f32).collect()).collect();
        for layout in [LayoutKind::Search, LayoutKind::VolleyRevolver] {
            let options = CompileOptions { layout, calibration: images.clone(), ..Default::default() };
            let compiled = compile(&model, &options).unwrap();
            let found = outcome_of(&model, compiled, &images, false);
            let bits = 0.5 * found.error.log2() - found.compiled.report.output_error[0].log2();
            let switches = found.counts.key_switches;
            println!("{name}, {layout:?}: {switches} key switches, {bits:+.2} bits from the prediction");
            assert!(bits < PREDICTION_BITS, "{name}, {layout:?}: {bits:.2} bits above the predicted error");
        }
    }
}

/// The plan of the lesion network, as in [`PLANS`], and its levels.
const MELANOMA: (Plan, usize) = (("melanoma", "n14-10+3", [1677, 146, 142, 785], 67), 9);

/// The lesion network, whose tensors fill several ciphertexts: the same decisions as in the clear within the
/// predicted error, by a plan that costs no more than it did.
#[test]
fn melanoma_agrees_with_the_clear_network() {
    let mut images = lesions().images;
    match test_images("melanoma", 8) {
        Some(real) => images.extend(real.images),
        None => println!("real lesions skipped: data folder missing"),
    }
    // As it is embedded, with the precision that it asks for.
    let model = by_name("melanoma").expect("an embedded model").graph();
    let found = outcome(&model, &images, false);
    assert_eq!(found.disagreements, [] as [usize; 0]);
    let report = &found.compiled.report;
    let bits = 0.5 * found.error.log2() - report.output_error[0].log2();
    println!("melanoma: error 2^{:.1}, {bits:+.2} bits from the prediction", 0.5 * found.error.log2());
    // Eight values of one score tell a root mean square to half a bit.
    assert!(bits.abs() < PREDICTION_BITS + 0.5, "{bits:.2} bits off the predicted error");

    let counts = found.counts;
    let done = [counts.ntts, counts.key_switches, counts.rotations, counts.plain_products];
    let predicted = [report.ntts, report.key_switches, report.rotations, report.plain_products];
    assert_eq!(done.map(|c| c as usize), predicted, "done and predicted");
    let plan = (("melanoma", report.set.as_str(), done, report.keys.len()), report.levels);
    assert_eq!(plan, MELANOMA, "the plan changed");
    for (what, bytes, most) in [
        ("program", report.program_bytes, 52 << 20),
        ("evaluation keys", report.key_bytes, 116 << 20),
        ("arena", report.arena_bytes, 26 << 20),
        ("plaintext cache", report.cache_bytes, 512 << 20),
        ("input", report.input_bytes, 2 << 20),
        ("output", report.output_bytes, 136 << 10),
    ] {
        assert!(bytes <= most, "{what}: {bytes} bytes, at most {most}");
    }
    assert_secure("melanoma", &found.compiled);
}

/// The U-Net, whose output is a logit for each pixel: the mask of a drawn lesion is the clear network's but for pixels on
/// its very edge.
#[test]
fn unet_lesion_marks_the_pixels_of_the_clear_network() {
    let model = by_name("unet-lesion").expect("an embedded model").graph();
    let set = Task::LesionPixels.fixtures();
    let image = set.image(1).expect("a drawn lesion");
    let truth = set.mask(1).expect("a readable mask").expect("lesions have masks");
    let found = outcome(&model, std::slice::from_ref(&image), false);
    let [width, _] = truth.size();
    let clear: Vec<f64> = model.evaluate(&image).unwrap().into_iter().map(f64::from).collect();
    let (encrypted, clear) = (Mask::of_logits(&found.scores[0], width), Mask::of_logits(&clear, width));
    let report = &found.compiled.report;
    let bits = 0.5 * found.error.log2() - report.output_error[0].log2();
    let alike = Overlap::new(&encrypted, &clear).alike();
    let [dice, clear_dice] = [&encrypted, &clear].map(|mask| Overlap::new(mask, &truth).dice());
    println!(
        "unet-lesion: {alike} of the pixels, Dice {dice}, clear {clear_dice}, {bits:+.2} bits from the prediction"
    );
    assert!(alike >= 0.999 && (dice - clear_dice).abs() <= 0.002, "{alike}, {dice}, {clear_dice}");
    assert!(clear_dice > 0.5, "the outline is the lesion's: {clear_dice}");
    assert!(bits.abs() < PREDICTION_BITS, "{bits:.2} bits off the predicted error");
    let counts = found.counts;
    let done = [counts.ntts, counts.key_switches, counts.rotations, counts.plain_products];
    let predicted = [report.ntts, report.key_switches, report.rotations, report.plain_products];
    assert_eq!(done.map(|c| c as usize), predicted, "done and predicted");
    for (what, bytes, most) in [
        ("program", report.program_bytes, 150 << 20),
        ("evaluation keys", report.key_bytes, 220 << 20),
        ("arena", report.arena_bytes, 42 << 20),
        ("input", report.input_bytes, 3 << 20),
        ("output", report.output_bytes, 136 << 10),
    ] {
        assert!(bytes <= most, "{what}: {bytes} bytes, at most {most}");
    }
    assert_secure("unet-lesion", &found.compiled);
}

/// What one image may cost.
#[test]
fn budgets() {
    for name in MODELS {
        let model = model(name);
        let start = std::time::Instant::now();
        let compiled = compiled(&model);
        let report = &compiled.report;
        println!("{name}: compiled in {:.1} s", start.elapsed().as_secs_f64());
        assert!(report.key_bytes <= 32 << 20, "{name}: {} bytes of keys", report.key_bytes);
        assert!(report.arena_bytes <= 12 << 20, "{name}: {} bytes of arena", report.arena_bytes);
        assert!(report.input_bytes <= 256 << 10, "{name}: {} bytes of input", report.input_bytes);
    }
}

fn assert_secure(name: &str, compiled: &Compiled) {
    let bound = |log_n: u32| SECURITY.iter().find(|s| s.0 == log_n).unwrap().1;
    let program = Program::verify(&compiled.bytes).unwrap();
    let set = program.set();
    for key in (0..program.keys()).filter_map(|i| program.key(i)) {
        let log_qp = log2_product(&set.q()[..key.limbs]) + log2_product(set.p());
        assert!(log_qp <= bound(set.log_n()), "{name}, {}: {log_qp}", key.kind);
    }
    for m in moduli(&program) {
        assert!(m.log_qp <= bound(set.log_n()) && m.limbs <= program.limbs(), "{name}: {}", m.used_by);
    }
    assert!(compiled.report.log_qp <= f64::from(compiled.report.max_log_qp));
}

/// Largest log2 QP for 128 bits, typed in again from eprint 2024/463.
const SECURITY: [(u32, f64); 6] = [(11, 53.0), (12, 106.0), (13, 214.0), (14, 430.0), (15, 868.0), (16, 1747.0)];

fn log2_product(primes: &[u32]) -> f64 {
    primes.iter().map(|&p| f64::from(p).log2()).sum()
}

#[test]
fn every_modulus_in_use_is_secure() {
    let bound = |log_n: u32| SECURITY.iter().find(|s| s.0 == log_n).unwrap().1;
    for set in named::ALL {
        let whole = log2_product(set.q()) + log2_product(set.p());
        assert!(whole <= bound(set.log_n()), "{}: {whole}", set.name());
    }
    for name in MODELS {
        assert_secure(name, &compiled(&model(name)));
    }
}
