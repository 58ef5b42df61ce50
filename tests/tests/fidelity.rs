//! The fidelity ladder on every model: simulation, noise model and kernel agree layer by layer.

use cipherlens::compile::{CompileOptions, ModelGraph, load};
use cipherlens::crosscheck::{Ladder, Report, Rung, Search, html};
use cipherlens::models::by_name;
use cipherlens_tests::fixtures::{digits, lesions, root, test_images};

/// Bits by which a predicted output precision may be off.
const BITS: f64 = 1.5;

/// Climbs with these images under the calibration that `compiled` uses.
fn ladder<'m>(model: &'m ModelGraph, calibration: &[Vec<f32>]) -> Ladder<'m> {
    let calibration = calibration.iter().take(64).cloned().collect();
    Ladder::new(model, &CompileOptions { calibration, ..Default::default() }).unwrap()
}

/// Every layer within its interval, and the output's error within [`BITS`] of what the compiler predicted.
fn holds(name: &str, report: &Report) {
    let last = report.layers.last().unwrap();
    let error = last.steps.iter().find(|s| (s.from, s.to) == (Rung::Clear, Rung::Encrypted)).unwrap();
    let bits = (error.rms / last.predicted_sigma).log2();
    println!(
        "{name}: {:.2} bits predicted, error 2^{:.2}, {bits:+.2} bits off; {}",
        report.predicted_precision_bits,
        error.rms.log2(),
        report.verdict()
    );
    assert!(report.holds(), "{name}: {}", report.verdict());
    // As many values as there are tell a deviation to three of theirs.
    let values = (last.elements * report.images) as f64;
    assert!(bits.abs() < BITS + 2.2 / values.sqrt(), "{name}: {bits:+.2} bits off the prediction");
    assert!(report.imported_max_error < 1e-5, "{name}: {}", report.imported_max_error);
}

#[test]
fn networks_of_digits() {
    let digits = digits().images;
    for name in ["mnist-micro", "mnist", "tenseal-cnn", "orion-mlp", "cryptonets"] {
        let model = by_name(name).unwrap().graph();
        let images: Vec<_> = digits.iter().step_by(10).cloned().collect();
        holds(name, &ladder(&model, &digits).run(&images, |_| ()).unwrap());
    }
}

/// Calibrated on drawn lesions, and as precise on photographs.
#[test]
fn network_of_lesions() {
    let drawn = lesions().images;
    let model = by_name("melanoma").unwrap().graph();
    let ladder = ladder(&model, &drawn);
    holds("melanoma, drawn", &ladder.run(&drawn, |_| ()).unwrap());
    match test_images("melanoma", 16) {
        Some(photographs) => holds("melanoma, photographs", &ladder.run(&photographs.images, |_| ()).unwrap()),
        None => println!("photographs skipped: data folder missing"),
    }
}

#[test]
fn segmentation() {
    let drawn = lesions().images;
    let model = load(&root().join("models/unet-lesion.onnx"), None).unwrap();
    holds("unet-lesion", &ladder(&model, &drawn).run(&drawn[..2], |_| ()).unwrap());
}

/// Values that the calibration did not have are named with their layer, and the worst inputs are worse than the mean.
#[test]
fn values_out_of_range_are_reported_with_their_layer() {
    let digits = digits().images;
    let model = by_name("mnist-micro").unwrap().graph();
    // Calibrated on images almost black, so that real ones do not fit.
    let dark: Vec<Vec<f32>> = digits.iter().take(16).map(|i| i.iter().map(|p| p / 64.0).collect()).collect();
    let ladder = ladder(&model, &dark);
    let bright: Vec<Vec<f32>> = digits.iter().take(2).map(|i| i.iter().map(|p| 40.0 * p).collect()).collect();
    let report = ladder.run(&bright, |_| ()).unwrap();
    let last = report.layers.last().unwrap();
    assert!(report.wrapped.contains(&last.layer) && last.wraps, "{}", report.verdict());
    assert!(report.verdict().contains(&format!("wrap in {}", report.wrapped[0])));
    assert!(last.range.max_abs > last.range.calibrated_max_abs);

    let ladder = self::ladder(&model, &digits);
    let search = Search { restarts: 3, moves: 15, seed: 5 };
    let shape = [1, 28, 28];
    let mut report = ladder.run(&digits[..4], |_| ()).unwrap();
    report.adversarial = ladder.adversarial(&digits[..4], &shape, &search).unwrap();
    let found = report.adversarial.as_ref().unwrap();
    assert!(found.worst_error > found.mean_error && found.worst_headroom_bits < found.mean_headroom_bits);
    let page = html(&report);
    assert!(page.matches("<svg").count() == 6 && page.contains("Worst inputs") && !page.contains("http://localhost"));
}
