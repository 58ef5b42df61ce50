//! What the programs of this crate share: timing, and the lines that they print for `cargo xtask peers`.

use serde_json::{Value, json};
use std::time::Instant;

/// Repeated measurements in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Median.
    pub median_us: f64,
    /// Least.
    pub min_us: f64,
    /// How many.
    pub repetitions: usize,
}

impl Timing {
    /// The fields of an object.
    pub fn json(self) -> Value {
        json!({ "median_us": self.median_us, "min_us": self.min_us, "repetitions": self.repetitions })
    }
}

/// Measures `steps` in turns, after a turn that warms up.
pub fn measure<const K: usize>(repetitions: usize, mut steps: [&mut dyn FnMut(); K]) -> [Timing; K] {
    let mut samples = [const { Vec::new() }; K];
    for turn in 0..=repetitions {
        for (step, samples) in steps.iter_mut().zip(&mut samples) {
            let start = Instant::now();
            step();
            if turn > 0 {
                samples.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    samples.map(|mut samples| {
        samples.sort_by(f64::total_cmp);
        Timing { median_us: samples[repetitions / 2], min_us: samples[0], repetitions }
    })
}

/// Prints one result: the members of `fields` and those of `timing`.
pub fn row(mut fields: Value, timing: Timing) {
    if let (Some(row), Value::Object(timing)) = (fields.as_object_mut(), timing.json()) {
        row.extend(timing);
    }
    println!("{fields}");
}
