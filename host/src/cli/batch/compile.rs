//! `compile --mode batch`.

use crate::cli::context::Context;
use crate::cli::report::{primes_line, security_line};
use crate::cli::units::{bytes, duration, pairs, table};
use anyhow::{Context as _, Result};
use cipherlens::compile::ModelGraph;
use cipherlens::compile::batch::{BatchLayer, BatchOptions, BatchReport, compile_batch};
use std::path::Path;

/// Compiles and writes the program.
pub fn run(name: &str, model: &ModelGraph, options: &BatchOptions, output: &Path, context: &Context) -> Result<()> {
    let spinner = context.spinner("compile");
    let compiled = compile_batch(model, options).with_context(|| name.to_string())?;
    spinner.finish_and_clear();
    context.write(output, &compiled.bytes, false)?;
    context.summary(&compiled.report, || text(&compiled.report, &output.display().to_string()))
}

fn text(report: &BatchReport, output: &str) -> String {
    let row = |l: &BatchLayer| {
        vec![
            l.layer.clone(),
            l.operation.clone(),
            l.ciphertexts.to_string(),
            l.limbs.to_string(),
            l.polys.to_string(),
            format!("{:.1}", l.log_scale),
            format!("{:.1e}", l.error),
        ]
    };
    let rows: Vec<_> = report.layers.iter().map(row).collect();
    let layers = table(&["layer", "operation", "ciphertexts", "limbs", "polynomials", "log2 scale", "error"], &rows);
    let head = pairs(&[
        ("program", output.to_string()),
        ("batch", format!("{} images, one in each slot", report.images)),
        ("security", security_line(&report.set, report.images, "QP", report.log_qp)),
        ("primes", primes_line(&report.prime_bits, &report.special_bits, report.special_bits.len())),
        (
            "work",
            format!(
                "{:.2e} products with weights of {} bits, {} of ciphertexts, {} key switches",
                report.products as f64, report.weight_bits, report.multiplications, report.key_switches
            ),
        ),
        (
            "time",
            format!(
                "{} predicted for a full batch, one thread: {:.0} images/s",
                duration(report.predicted_ms),
                report.predicted_images_per_s
            ),
        ),
        ("memory", format!("arena {}", bytes(report.arena_bytes))),
        ("files", format!("program {}, evaluation keys {}", bytes(report.program_bytes), bytes(report.key_bytes))),
        (
            "traffic",
            format!(
                "input {} in {} ciphertexts, output {} in {}",
                bytes(report.input_bytes),
                report.inputs,
                bytes(report.output_bytes),
                report.outputs
            ),
        ),
        ("precision", format!("{:.1} bits at the output, predicted", report.precision_bits)),
    ]);
    format!("{layers}\n{head}")
}
