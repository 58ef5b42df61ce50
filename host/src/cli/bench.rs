//! `bench`: this machine's numbers.

mod strategies;

use super::context::Context;
use anyhow::{Context as _, Result};
use cipherlens::bench::{ProgramTiming, Timing, operation, program, transforms};
use cipherlens::compile::calibration::{CACHE_BYTES, Calibration, Sample};
use cipherlens::compile::cost::CostModel;
use cipherlens::compile::lower::op_counts;
use cipherlens::compile::slots::{Diagonal, SlotOpKind};
use cipherlens::compile::{CompileOptions, compile};
use cipherlens::models;
use cipherlens::pool::Pool;
use cipherlens::roofline::{Peaks, Roofline};
use cipherlens_kernel::math::{Backend, Detected};
use cipherlens_kernel::params::named;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fmt::Write;
use std::process::Command;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    study: Option<Study>,
    /// Measurements of each thing; medians are reported
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    repetitions: u16,
}

#[derive(Debug, Subcommand)]
enum Study {
    /// One network in every way that there is to evaluate it, side by side
    Strategies(strategies::Arguments),
}

#[derive(Debug, Serialize)]
struct Op {
    op: &'static str,
    set: String,
    level: usize,
    threads: usize,
    #[serde(flatten)]
    time: Timing,
}

#[derive(Debug, Serialize)]
struct Model {
    model: String,
    set: String,
    threads: usize,
    predicted_ms: f64,
    median_ms: f64,
    min_ms: f64,
    first_ms: f64,
    /// On one thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    roofline: Option<Roofline>,
}

#[derive(Debug, Serialize)]
struct Report {
    cpu: String,
    backend: &'static str,
    commit: String,
    ops: Vec<Op>,
    models: Vec<Model>,
    /// What a core of this machine can do at best.
    peaks: Peaks,
    /// Constants of the predictions.
    calibration: Calibration,
    /// Those that fit these measurements.
    fitted: Calibration,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    match &arguments.study {
        Some(Study::Strategies(arguments)) => strategies::run(arguments, context),
        None => machine(arguments, context),
    }
}

/// Operations, and every model beside its predicted time.
fn machine(arguments: &Arguments, context: &Context) -> Result<()> {
    let repetitions = usize::from(arguments.repetitions);
    let mut ops = Vec::new();
    let mut ntt_us = Calibration::MEASURED.ntt_us;
    let bar = context.spinner("bench");
    for backend in Detected::all() {
        for log_n in 12..=15 {
            let (forward, inverse) =
                transforms(backend, log_n, 20 * repetitions).context("no root of unity for this ring")?;
            if log_n == 13 {
                // The fastest backend is the last.
                ntt_us = f64::midpoint(forward.median_us, inverse.median_us);
            }
            for (op, time) in [("ntt_forward", forward), ("ntt_inverse", inverse)] {
                let set = format!("{} N={}", backend.name(), 1 << log_n);
                ops.push(Op { op, set, level: 0, threads: 1, time });
            }
        }
    }
    let one = Pool::new(1)?;
    let sample = |n, counts, timing: &ProgramTiming| {
        let memory = timing.cache_bytes > CACHE_BYTES;
        Sample { n, counts, memory, us: timing.evaluate.median_us }
    };
    let mut samples: Vec<Sample> = Vec::new();
    for set in [named::N12, named::N13, named::N14] {
        // The set's full level, but for n12, where one operation leaves no room for a scale at the top.
        let limbs = if set == named::N12 { 3 } else { set.limbs() };
        let model = CostModel::new(set.n(), set.digit(), set.special());
        let mut measure = |op, kind, share: f64| -> Result<Timing> {
            let counts = op_counts(&model, limbs, &kind, 1);
            let timing = program(&operation(set, limbs, kind)?, &one, repetitions)?;
            let time = Timing { median_us: timing.evaluate.median_us / share, min_us: timing.evaluate.min_us / share };
            samples.push(sample(set.n(), counts, &timing));
            ops.push(Op { op, set: set.name().into(), level: limbs, threads: 1, time });
            Ok(timing.encrypt)
        };
        let sum = |steps: u32| SlotOpKind::RotateSum { src: 0, steps: (1..=steps).collect(), rescale: false };
        let encrypt = measure("rotate", sum(1), 1.0)?;
        measure("rotate_hoisted_each_of_8", sum(8), 8.0)?;
        measure("mul_relinearize_rescale", SlotOpKind::Mul { a: 0, b: 0, rescale: true }, 1.0)?;
        let weights = |step: u32| Diagonal {
            source: 0,
            result: 0,
            baby: step % 4,
            giant: step / 4 * 4,
            values: vec![0.25; set.n()],
        };
        let uneven = |mut d: Diagonal| {
            d.values[0] = 0.5;
            d
        };
        let diagonals = (0..16).map(weights).map(uneven).collect();
        measure(
            "linear_transform_16",
            SlotOpKind::LinearTransform { sources: vec![0], diagonals, rescale: true },
            1.0,
        )?;
        ops.push(Op { op: "encrypt_secret", set: set.name().into(), level: limbs, threads: 1, time: encrypt });
    }
    let peaks = Peaks::measure(repetitions);
    let mut timed = Vec::new();
    for embedded in models::ALL.iter().filter(|model| model.twin.is_none()) {
        let calibration = embedded.task.samples(usize::MAX);
        let options = CompileOptions { calibration, ..Default::default() };
        let compiled = compile(&embedded.graph(), &options)?;
        let mut threads = vec![1];
        threads.extend(Some(context.evaluation_threads()).filter(|&t| t > 1));
        for threads in threads {
            let timing = program(&compiled.bytes, &Pool::new(threads)?, repetitions)?;
            let (n, counts) = (compiled.report.n, compiled.lowered.predicted.counts);
            let roofline = (threads == 1).then(|| Roofline::of(&peaks, n, &counts, timing.cache_bytes));
            if threads == 1 {
                samples.push(sample(n, counts, &timing));
            }
            timed.push(Model {
                model: embedded.name.into(),
                set: compiled.report.set.clone(),
                threads,
                predicted_ms: compiled.report.predicted_ms,
                median_ms: timing.evaluate.median_us / 1000.0,
                min_ms: timing.evaluate.min_us / 1000.0,
                first_ms: timing.first_us / 1000.0,
                roofline,
            });
        }
    }
    bar.finish_and_clear();
    let (calibration, fitted) = (Calibration::MEASURED, Calibration::fit(ntt_us, &samples));
    let report = Report {
        cpu: cpu(),
        backend: Detected::new().name(),
        commit: commit(),
        ops,
        models: timed,
        peaks,
        calibration,
        fitted,
    };
    context.result(&report, || text(&report))
}

fn text(report: &Report) -> String {
    let mut out = format!("  {}, {}, commit {}\n\n", report.cpu, report.backend, report.commit);
    let _ = writeln!(out, "  {:26} {:16} {:>5} {:>10} {:>10}", "operation", "set", "limbs", "median us", "least us");
    for op in &report.ops {
        let Timing { median_us, min_us } = op.time;
        let _ = writeln!(out, "  {:26} {:16} {:>5} {median_us:>10.1} {min_us:>10.1}", op.op, op.set, op.level);
    }
    let _ = writeln!(
        out,
        "\n  {:16} {:8} {:>7} {:>12} {:>10} {:>10} {:>10}",
        "model", "set", "threads", "predicted ms", "median ms", "least ms", "first ms"
    );
    for m in &report.models {
        // The prediction is for one thread.
        let predicted = if m.threads == 1 { format!("{:.2}", m.predicted_ms) } else { String::new() };
        let _ = writeln!(
            out,
            "  {:16} {:8} {:>7} {predicted:>12} {:>10.2} {:>10.2} {:>10.1}",
            m.model, m.set, m.threads, m.median_ms, m.min_ms, m.first_ms
        );
    }
    let Peaks { products_per_us, sum_products_per_us, cache_bytes_per_us, memory_bytes_per_us } = report.peaks;
    let _ = writeln!(
        out,
        "\n  at best, a us: {products_per_us:.0} modular products, {sum_products_per_us:.0} products of sums, {cache_bytes_per_us:.0} bytes from cache, {memory_bytes_per_us:.0} from memory"
    );
    let _ = writeln!(
        out,
        "  {:16} {:>12} {:>11} {:>9} {:>13} {:>8} {:>9} {:>16}",
        "model", "M butterfly", "M product", "MiB read", "transforms ms", "sums ms", "least ms", "measured / least"
    );
    for (m, r) in report.models.iter().filter_map(|m| Some((m, m.roofline.as_ref()?))) {
        let (butterflies, products, mib) = (r.butterflies / 1e6, r.sum_products / 1e6, r.bytes / f64::from(1 << 20));
        let _ = writeln!(
            out,
            "  {:16} {butterflies:>12.1} {products:>11.1} {mib:>9.1} {:>13.2} {:>8.2} {:>9.2} {:>16.2}",
            m.model,
            r.transforms_ms,
            r.sums_ms,
            r.least_ms,
            m.median_ms / r.least_ms
        );
    }
    let _ = writeln!(
        out,
        "\n  {:16} {:>7} {:>10} {:>8} {:>13} {:>11} {:>11}",
        "us at N = 8192", "ntt", "limb pass", "key row", "plaintext row", "conversion", "memory row"
    );
    for (name, c) in [("predictions use", report.calibration), ("measured here", report.fitted)] {
        let Calibration { ntt_us, limb_pass_us, key_row_us, plain_row_us, conversion_us, memory_row_us } = c;
        let _ = writeln!(
            out,
            "  {name:16} {ntt_us:>7.3} {limb_pass_us:>10.3} {key_row_us:>8.3} {plain_row_us:>13.3} {conversion_us:>11.3} {memory_row_us:>11.3}"
        );
    }
    out
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| std::env::consts::ARCH.into(), |(_, name)| name.trim().into())
}

/// The commit of the checkout that the command runs in, if it runs in one.
fn commit() -> String {
    Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".into(), |hash| hash.trim().into())
}
