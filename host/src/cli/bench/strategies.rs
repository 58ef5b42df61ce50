//! `bench strategies`: one network in every way that there is to evaluate it.

use super::{commit, cpu};
use crate::cli::compile::{drawn, model};
use crate::cli::context::Context;
use crate::cli::error::{Code, Failure};
use crate::cli::units::{bytes, table};
use anyhow::Result;
use cipherlens::study::{self, Options, Row, Study};
use cipherlens_kernel::math::{Backend, Detected};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Embedded model, or path of an .onnx file
    #[arg(long, default_value = "mnist")]
    model: String,
    /// Evaluations of each program; medians are reported
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..))]
    repetitions: u16,
    /// Batches that are evaluated
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    batches: u16,
    /// One evaluation of each, the fewest packings, one thread: what is counted is right, times are rough
    #[arg(long, conflicts_with_all = ["repetitions", "batches"])]
    quick: bool,
    /// Plot to write: images a second against latency
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// File for the results as JSON
    #[arg(short, long, value_name = "FILE.json")]
    output: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    cpu: String,
    cores: usize,
    backend: &'static str,
    commit: String,
    /// Profile, target, and features that the compiler was given.
    flags: String,
    /// Mean number of runnable threads of the last minute, before and after, where the system tells.
    load: [Option<f64>; 2],
    model: String,
    repetitions: usize,
    batches: usize,
    #[serde(flatten)]
    study: Study,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let graph = model(&arguments.model, None)?;
    let images = drawn(&graph);
    if images.is_empty() {
        let failure = Failure::new(Code::Usage, format!("no drawn images are known for {}", arguments.model));
        return Err(failure.hint("name an embedded model").into());
    }
    let count = |asked: u16| if arguments.quick { 1 } else { usize::from(asked) };
    let options = Options {
        repetitions: count(arguments.repetitions),
        batches: count(arguments.batches),
        packings: if arguments.quick { vec![2] } else { vec![2, 8, 32] },
        threads: if arguments.quick { Vec::new() } else { vec![2] },
        images,
    };
    let before = load();
    let bar = context.spinner("study");
    let study = study::run(&graph, &options, |what| bar.set_prefix(what.to_owned()))?;
    bar.finish_and_clear();
    let report = Report {
        cpu: cpu(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        backend: Detected::new().name(),
        commit: commit(),
        flags: flags(),
        load: [before, load()],
        model: graph.name.clone(),
        repetitions: options.repetitions,
        batches: options.batches,
        study,
    };
    if let Some(path) = &arguments.plot {
        context.write(path, study::svg(&report.model, &report.study.rows).as_bytes(), false)?;
    }
    if let Some(path) = &arguments.output {
        context.write(path, (serde_json::to_string_pretty(&report)? + "\n").as_bytes(), false)?;
    }
    context.result(&report, || text(&report))
}

fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn flags() -> String {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let mut flags = format!("{profile} {}", std::env::consts::ARCH);
    for (name, on) in [("avx2", cfg!(target_feature = "avx2")), ("avx512f", cfg!(target_feature = "avx512f"))] {
        if on {
            flags += " +";
            flags += name;
        }
    }
    flags
}

fn text(report: &Report) -> String {
    let load = report.load.map(|l| l.map_or("?".into(), |l| format!("{l:.1}")));
    let mut out = format!(
        "  {}, {}, {}, commit {}, load {} to {}\n\n",
        report.cpu, report.backend, report.flags, report.commit, load[0], load[1]
    );
    out += &rows(&report.study.rows);
    out += "\n  one layer; times against plain weights, inputs with the encrypted ones\n\n";
    out += &rows(&report.study.layers);
    for why in &report.study.left_out {
        out += &format!("\n  left out: {why}\n");
    }
    out += "\n  ms: median of an evaluation, of batches with inputs taken in; x: least time of an image against the first row;\n  \
            memory: arena, keys and plaintexts in memory; transforms: of one limb; error: largest of those decrypted\n";
    out
}

fn rows(rows: &[Row]) -> String {
    let header = [
        "study",
        "strategy",
        "set",
        "ms",
        "least",
        "images/s",
        "x",
        "memory",
        "keys",
        "program",
        "input/image",
        "switches",
        "transforms",
        "bits",
        "error",
    ];
    let cells = rows.iter().map(|r| {
        vec![
            r.study.to_owned(),
            r.strategy.clone(),
            r.set.clone(),
            format!("{:.2}", r.ms),
            format!("{:.2}", r.min_ms),
            format!("{:.0}", r.images_per_second),
            format!("{:.2}", r.time_ratio),
            bytes(r.memory_bytes),
            bytes(r.key_bytes),
            bytes(r.program_bytes),
            bytes(r.input_bytes_per_image as usize),
            r.key_switches.to_string(),
            r.transforms.to_string(),
            format!("{:.1}", r.predicted_bits),
            format!("{:.1e}", r.max_error),
        ]
    });
    table(&header, &cells.collect::<Vec<_>>())
}
