//! `cargo xtask coverage`: branches and lines of the kernel that the tests reach, with floors, and what they do not.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Suites that drive the kernel; those of the command line add hours and no lines.
const SUITES: [&str; 5] = ["backends", "faults", "fuzz", "kernel", "batch"];
/// Where the figures go.
const REPORT: &str = "target/coverage.json";
/// Least share of branches by place, in per cent; what is open is in `notes/soundness.md`.
const FLOORS: [(&str, f64); 3] = [("kernel/src/", 95.0), ("kernel/src/wire", 98.0), ("kernel/src/program", 98.0)];

/// Runs the suites, prints a table by module and every branch that is not taken both ways.
///
/// # Errors
/// A step that fails, or less than the floors.
pub fn run() -> Result<()> {
    for step in super::trust::coverage_tools() {
        super::step(&step)?;
    }
    let suites = SUITES.map(|suite| format!("--test {suite}")).join(" ");
    super::step(&format!(
        "cargo +nightly llvm-cov --branch --no-report -p cipherlens-kernel -p cipherlens-tests --locked --lib {suites}"
    ))?;
    super::step(&format!("cargo +nightly llvm-cov report --json --output-path {REPORT}"))?;
    let text = std::fs::read_to_string(REPORT).context(REPORT)?;
    let report: Value = serde_json::from_str(&text).context(REPORT)?;
    let root = std::env::current_dir()?;
    let files: Vec<File> =
        report["data"][0]["files"].as_array().context("files")?.iter().filter_map(|f| File::of(f, &root)).collect();
    let mut modules: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
    for file in &files {
        let sums = modules.entry(file.module()).or_default();
        sums.iter_mut().zip(file.counts).for_each(|(sum, n)| *sum += n);
    }
    println!("\n{:<10} {:>16} {:>16}", "module", "branches", "lines");
    for (module, [branches, taken, lines, reached]) in &modules {
        println!("{module:<10} {:>16} {:>16}", share(*taken, *branches), share(*reached, *lines));
    }
    println!("\nnot taken both ways, or never reached:");
    for file in &files {
        file.open.iter().for_each(|place| println!("{}:{place}", file.name));
    }
    println!();
    let mut low = false;
    for (place, floor) in FLOORS {
        let [branches, taken, ..] = files.iter().filter(|f| f.name.starts_with(place)).fold([0; 4], |mut sums, f| {
            sums.iter_mut().zip(f.counts).for_each(|(sum, n)| *sum += n);
            sums
        });
        println!("{place}: {} of the branches, at least {floor} %", share(taken, branches));
        low |= (taken as f64) < floor / 100.0 * branches as f64;
    }
    if low {
        bail!("less than the floor");
    }
    Ok(())
}

fn share(part: u64, all: u64) -> String {
    format!("{:.2} % of {all}", 100.0 * part as f64 / all.max(1) as f64)
}

/// A source file of the kernel.
struct File {
    name: String,
    /// Branches, those taken; lines, those reached.
    counts: [u64; 4],
    /// Lines with a branch that is not taken both ways.
    open: Vec<String>,
}

impl File {
    /// Of what the tool says of a file, if it is the kernel's and no test; a test module at its end is left out.
    fn of(value: &Value, root: &Path) -> Option<Self> {
        let name = Path::new(value["filename"].as_str()?).strip_prefix(root).ok()?.to_str()?.to_owned();
        if !name.starts_with("kernel/src/") || name.ends_with("/tests.rs") {
            return None;
        }
        let source = std::fs::read_to_string(root.join(&name)).ok()?;
        let end = source.lines().position(|line| line == "#[cfg(test)]").map_or(u64::MAX, |line| line as u64);
        let count = |what: &str| value["summary"]["lines"][what].as_u64().unwrap_or(0);
        // A way that one instance of generic code took is taken.
        let mut ways: BTreeMap<(u64, u64), [u64; 2]> = BTreeMap::new();
        for branch in value["branches"].as_array()? {
            let at = |i: usize| branch[i].as_u64().unwrap_or(0);
            if at(0) > end {
                continue;
            }
            let way = ways.entry((at(0), at(1))).or_default();
            way[0] += at(4);
            way[1] += at(5);
        }
        let taken = ways.values().flatten().filter(|&&times| times > 0).count();
        let counts = [2 * ways.len() as u64, taken as u64, count("count"), count("covered")];
        let open =
            ways.into_iter().filter(|(_, [yes, no])| *yes == 0 || *no == 0).map(|((line, column), [yes, no])| {
                let missing = match (yes, no) {
                    (0, 0) => "not reached",
                    (0, _) => "never true",
                    _ => "never false",
                };
                format!("{line}:{column} {missing}")
            });
        let open = open.collect();
        Some(Self { name, counts, open })
    }

    /// The folder or file below `kernel/src`.
    fn module(&self) -> &str {
        let inside = &self.name["kernel/src/".len()..];
        inside.split(['/', '.']).next().unwrap_or(inside)
    }
}
