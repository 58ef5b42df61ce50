//! `cargo xtask peers`: peers that registries install, and ours, measured in one run on this machine.
//!
//! Every peer prints one JSON object per line: `name` (a model or an operation as `cipherlens bench` calls it), `n`,
//! `threads`, `median_us`, `min_us`, `repetitions`, `about`, and `ours` where it has timed ours in turns with its own.
//! A peer that cannot be installed or fails gets a line with the reason, and the others go on.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, thread};

enum Kind {
    /// A program and feature of `tests/peers`, its compiler unless stable, and compiler flags.
    Rust { program: &'static str, nightly: bool, flags: &'static str },
    /// A script of `tests/peers`.
    Python { script: &'static str },
}

struct Peer {
    name: &'static str,
    /// Its name in its registry.
    package: &'static str,
    kind: Kind,
    /// Numbers of threads to run it with.
    threads: &'static [usize],
}

const PEERS: [Peer; 4] = [
    Peer {
        name: "tfhe-ntt",
        package: "tfhe-ntt",
        kind: Kind::Rust { program: "tfhe_ntt", nightly: false, flags: "" },
        threads: &[1],
    },
    Peer {
        name: "poulpy",
        package: "poulpy-ckks",
        kind: Kind::Rust { program: "poulpy", nightly: true, flags: "-C target-cpu=native" },
        threads: &[1],
    },
    Peer { name: "TenSEAL", package: "tenseal", kind: Kind::Python { script: "tenseal_cnn.py" }, threads: &[1] },
    Peer { name: "HElayers", package: "pyhelayers", kind: Kind::Python { script: "helayers.py" }, threads: &[1, 2] },
];

const MANIFEST: &str = "tests/peers/Cargo.toml";
/// All versions that Python peers run with.
const REQUIREMENTS: &str = "tests/peers/requirements.txt";
const MEASURED: &str = "tests/peers/measured.json";

/// Runs the command with its arguments; fails if our own measurement does.
pub fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))?;
    let (only, out) = options(arguments)?;
    let chosen = |peer: &&Peer| only.is_empty() || only.iter().any(|name| name.eq_ignore_ascii_case(peer.name));
    let mut ours = Value::Null;
    let (mut rows, mut missing) = (Vec::new(), Vec::new());
    for peer in PEERS.iter().filter(chosen) {
        for &threads in peer.threads {
            println!("==> ours, then {} on {threads} thread(s)", peer.name);
            // Again before each peer, so that both sides of a ratio have the same weather.
            ours = measure_ours()?;
            let (printed, failure) = peer.run(threads);
            rows.extend(printed.into_iter().map(|row| peer.complete(row, &ours)));
            if let Some(error) = failure {
                let reason = format!("{error:#}");
                missing.push(json!({ "peer": peer.name, "threads": threads, "reason": reason }));
            }
        }
    }
    rows.sort_by_key(|row: &Value| (word(&row["name"]).to_owned(), row["n"].as_u64(), row["threads"].as_u64()));
    let report = json!({
        "commit": ours["commit"],
        "modified": text(Command::new("git").args(["status", "--porcelain"])).is_ok_and(|changes| !changes.is_empty()),
        "cpu": ours["cpu"],
        "cpu_family_model": [cpuinfo("cpu family"), cpuinfo("model")],
        "cores": cores(),
        "backend": ours["backend"],
        "rustc": text(Command::new("rustc").arg("--version"))?,
        "rustc_nightly": text(Command::new("rustup").args(["run", "nightly", "rustc", "--version"])).ok(),
        "flags": flags(),
        "ratio": "theirs / ours",
        "rows": rows,
        "missing": missing,
    });
    println!("\n{}", table(&report));
    println!("{}", earlier(&ours)?);
    let out = out.unwrap_or_else(|| default_file(&report));
    fs::write(&out, serde_json::to_string_pretty(&report)? + "\n").with_context(|| out.display().to_string())?;
    println!("written to {}", out.display());
    Ok(())
}

/// Names after `--only` and the file after `--out`.
fn options(mut arguments: impl Iterator<Item = String>) -> Result<(Vec<String>, Option<PathBuf>)> {
    let (mut only, mut out) = (Vec::new(), None);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--only", Some(name)) if PEERS.iter().any(|peer| name.eq_ignore_ascii_case(peer.name)) => only.push(name),
            ("--out", Some(file)) => out = Some(file.into()),
            _ => bail!("usage: cargo xtask peers [--only {}]... [--out FILE]", PEERS.map(|p| p.name).join("|")),
        }
    }
    Ok((only, out))
}

/// The report of `cipherlens bench`, on one thread and on two.
fn measure_ours() -> Result<Value> {
    let words = "run --release --locked --quiet -p cipherlens -- --threads 2 bench --json --repetitions 30";
    let output = text(Command::new("cargo").args(words.split(' ')))?;
    Ok(serde_json::from_str(&output)?)
}

impl Peer {
    /// What the peer printed, and why it printed no more if it failed.
    fn run(&self, threads: usize) -> (Vec<Value>, Option<anyhow::Error>) {
        let output = self.command().and_then(|mut command| {
            for variable in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"] {
                command.env(variable, threads.to_string());
            }
            Ok(command.output()?)
        });
        match output {
            Ok(output) => {
                let lines = String::from_utf8_lossy(&output.stdout);
                let rows = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
                (rows, (!output.status.success()).then(|| anyhow::anyhow!(reason(&output.stderr))))
            }
            Err(error) => (Vec::new(), Some(error)),
        }
    }

    /// The command that measures, after installing what it needs.
    fn command(&self) -> Result<Command> {
        match self.kind {
            Kind::Rust { program, nightly, flags } => {
                let mut command = if nightly {
                    let mut rustup = Command::new("rustup");
                    rustup.args(["run", "--install", "nightly", "cargo"]);
                    rustup
                } else {
                    Command::new("cargo")
                };
                command.args(["run", "--release", "--locked", "--quiet", "--manifest-path", MANIFEST]);
                command.args(["--features", self.name, "--bin", program]);
                command.env("CARGO_TARGET_DIR", folder().join(program)).env("RUSTFLAGS", flags);
                Ok(command)
            }
            Kind::Python { script } => {
                let environment = folder().join("venv");
                let python = environment.join("bin/python");
                if !python.exists() {
                    // Wheels of both Python peers exist for 3.11.
                    let has = |name: &&&str| text(Command::new(name).arg("--version")).is_ok();
                    let system = ["python3.11", "python3"].iter().find(has).context("no python3")?;
                    text(Command::new(system).args(["-m", "venv"]).arg(&environment))?;
                }
                let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", REQUIREMENTS];
                text(Command::new(&python).args(pip).args(["numpy", "onnx", self.package]))?;
                let mut command = Command::new(&python);
                command.arg(Path::new("tests/peers").join(script));
                Ok(command)
            }
        }
    }

    /// A printed row with the peer, its version, our time for the same and the ratio.
    fn complete(&self, mut row: Value, ours: &Value) -> Value {
        row["peer"] = self.name.into();
        if row["version"].is_null() {
            row["version"] = self.locked_version().into();
        }
        if row["ours"].is_null() {
            row["ours"] = our_time(ours, &row);
        }
        let ratio = |key: &str| Some(row[key].as_f64()? / row["ours"][key].as_f64()?);
        (row["ratio"], row["ratio_of_min"]) = (json!(ratio("median_us")), json!(ratio("min_us")));
        row
    }

    /// The version in the lock file of `tests/peers`.
    fn locked_version(&self) -> Option<String> {
        let lock = fs::read_to_string(Path::new(MANIFEST).with_file_name("Cargo.lock")).ok()?;
        let (_, package) = lock.split_once(&format!("name = \"{}\"\nversion = \"", self.package))?;
        Some(package.split('"').next()?.into())
    }
}

/// Our time for the model or operation of `row`, an operation with its number of limbs; null if we have none.
fn our_time(ours: &Value, row: &Value) -> Value {
    let entries = |key: &str| ours[key].as_array().into_iter().flatten();
    let threads = row["threads"].as_u64().unwrap_or(1);
    if let Some(model) = entries("models").find(|model| model["model"] == row["name"] && model["threads"] == threads) {
        let us = |key: &str| model[key].as_f64().map(|ms| ms * 1000.0);
        return json!({ "median_us": us("median_ms"), "min_us": us("min_ms") });
    }
    let set = row["n"].as_u64().filter(|&n| n > 0).map(|n| format!("n{}", n.ilog2()));
    let same =
        |op: &&Value| op["op"] == row["name"] && op["set"].as_str() == set.as_deref() && op["threads"] == threads;
    entries("ops")
        .find(same)
        .map_or(Value::Null, |op| json!({ "median_us": op["median_us"], "min_us": op["min_us"], "limbs": op["level"] }))
}

/// How everything was compiled, by peer.
fn flags() -> Value {
    let mut flags = json!({ "ours": "release profile (thin LTO), no RUSTFLAGS, instructions chosen at run time" });
    for peer in &PEERS {
        flags[peer.name] = match peer.kind {
            Kind::Rust { flags: "", .. } => json!("release profile (thin LTO), no RUSTFLAGS"),
            Kind::Rust { flags, .. } => json!(format!("release profile (thin LTO), RUSTFLAGS {flags}")),
            Kind::Python { .. } => json!("wheel"),
        };
    }
    flags
}

/// Standard output of a command that must succeed.
fn text(command: &mut Command) -> Result<String> {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().display().to_string();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}", reason(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

/// The line of an error output that says most: the first that starts with "error", else the last.
fn reason(stderr: &[u8]) -> String {
    let stderr = String::from_utf8_lossy(stderr);
    let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines.clone().find(|line| line.to_ascii_lowercase().starts_with("error"));
    error.or_else(|| lines.next_back()).unwrap_or("failed without a word").into()
}

/// Where peers are built and installed.
fn folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from).join("peers")
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A field of the first processor, where the system tells.
fn cpuinfo(field: &str) -> Option<u32> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let (_, value) = info.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == field)?;
    value.trim().parse().ok()
}

fn default_file(report: &Value) -> PathBuf {
    let cpu = report["cpu"].as_str().unwrap_or("cpu").to_ascii_lowercase();
    let words: Vec<&str> = cpu.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    format!("notes/bench/peers-{}-{}core.json", words.join("-"), cores()).into()
}

/// A time with its unit.
fn time(us: &Value) -> String {
    match us.as_f64() {
        Some(us) if us < 10_000.0 => format!("{us:.1} us"),
        Some(us) => format!("{:.1} ms", us / 1000.0),
        None => "-".into(),
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// One line of a table; the same columns for all.
fn line(name: &str, [n, threads, ours, theirs, ratio]: [&str; 5], peer: &str, about: &str) -> String {
    let line = format!("  {name:24} {n:>6} {threads:>7} {ours:>11} {theirs:>11} {ratio:>13}  {peer:23} {about}");
    line.trim_end().to_owned() + "\n"
}

fn table(report: &Value) -> String {
    let list = |key: &str| report[key].as_array().into_iter().flatten();
    let [cpu, backend, commit, rustc] = ["cpu", "backend", "commit", "rustc"].map(|key| word(&report[key]));
    let mut out = format!("{cpu}, {} core(s), {backend}, commit {commit}, {rustc}; medians\n\n", report["cores"]);
    out += &line("model or operation", ["N", "threads", "ours", "theirs", "theirs / ours"], "peer", "about");
    for row in list("rows") {
        let ratio = row["ratio"].as_f64().map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"));
        let [n, threads] = ["n", "threads"].map(|key| row[key].to_string());
        let [ours, theirs] = [&row["ours"]["median_us"], &row["median_us"]].map(time);
        let peer = format!("{} {}", word(&row["peer"]), word(&row["version"]));
        out += &line(word(&row["name"]), [&n, &threads, &ours, &theirs, &ratio], &peer, word(&row["about"]));
    }
    for row in list("missing") {
        let [peer, reason] = ["peer", "reason"].map(|key| word(&row[key]));
        out += &format!("  not measured: {peer}, {} thread(s): {reason}\n", row["threads"]);
    }
    out
}

/// Earlier measurements, beside ours of this run and without a ratio, since they are from another day.
fn earlier(ours: &Value) -> Result<String> {
    let measured: Value = serde_json::from_str(&fs::read_to_string(MEASURED)?)?;
    let mut out = format!("NOT FROM THIS RUN. {}: {}\n", word(&measured["about"]), word(&measured["cpu"]));
    for row in measured["rows"].as_array().into_iter().flatten() {
        let (ours, theirs) = (time(&our_time(ours, row)["median_us"]), time(&row["median_us"]));
        out += &line(word(&row["name"]), [&row["n"].to_string(), "1", &ours, &theirs, ""], word(&row["peer"]), "");
    }
    Ok(out)
}
