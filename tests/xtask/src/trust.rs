//! Checks that need tools of their own: fuzzers, Valgrind, Miri, coverage, cargo-deny. Each list of steps begins with the
//! installation of what is missing.

use std::process::{Command, Stdio};

const FUZZ_TARGETS: [&str; 6] = ["wire", "program", "batch_program", "engine", "batch_engine", "onnx"];
/// What Miri interprets, by target, features and tests: the shared arena with threads; pointers from C; all passes on AVX2;
/// on NEON those without a table look-up, which Miri does not know. Neither does it know AVX-512, and whole runs take it hours.
const MIRI_RUNS: [(&str, &str); 5] = [
    ("", "--lib -- scratch modulus seed"),
    ("", "--lib --features c-api -- ffi::tests::memory_without ffi::tests::pointers_that ffi::tests::an_engine_in_use"),
    ("RUSTFLAGS=-Ctarget-feature=+avx2,+bmi2", "--test backends -- found rows_of matrix n64"),
    ("CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu", "--test backends -- found matrix"),
    ("CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu", "--lib -- math::ntt::tests::edge_rows"),
];

fn missing(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    !status.is_ok_and(|status| status.success())
}

fn install(subcommand: &str, steps: &mut Vec<String>) {
    if missing("cargo", &[subcommand, "--version"]) {
        steps.push(format!("cargo install --locked cargo-{subcommand}"));
    }
}

/// Nightly with these components.
fn nightly(components: &[&str], steps: &mut Vec<String>) {
    if missing("cargo", &["+nightly", "--version"]) {
        steps.push("rustup toolchain install nightly --profile minimal".into());
    }
    if !components.is_empty() {
        steps.push(format!("rustup component add --toolchain nightly {}", components.join(" ")));
    }
}

/// Every fuzzer, for `seconds` each (60 unless told), from the committed seeds.
pub fn fuzz(seconds: Option<&str>) -> Vec<String> {
    let seconds = seconds.and_then(|s| s.parse().ok()).unwrap_or(60u32);
    let mut steps = Vec::new();
    nightly(&[], &mut steps);
    install("fuzz", &mut steps);
    for target in FUZZ_TARGETS {
        let seeds = if target == "onnx" { "fixtures/onnx".into() } else { format!("fuzz/seeds/{target}") };
        steps.push(format!("mkdir -p fuzz/corpus/{target}"));
        steps.push(format!(
            "cargo +nightly fuzz run --fuzz-dir fuzz {target} fuzz/corpus/{target} {seeds} -- \
             -max_total_time={seconds} -timeout=25 -rss_limit_mb=6000"
        ));
    }
    steps
}

/// Sampling and key code under Valgrind, secrets marked as undefined; and a leak that it has to find.
pub fn timing() -> Vec<String> {
    let mut steps = Vec::new();
    if missing("valgrind", &["--version"]) {
        steps.push("sudo apt-get install -y --no-install-recommends valgrind".into());
    }
    steps.push("cargo build -p cipherlens-tests --bin secrets --profile timing --locked".into());
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    steps.push(format!("sh tests/src/bin/secrets.sh {target}/timing/secrets"));
    steps
}

/// The modules with `unsafe` in an interpreter that finds undefined behaviour.
pub fn miri() -> Vec<String> {
    let mut steps = Vec::new();
    nightly(&["miri", "rust-src"], &mut steps);
    let variables = "MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=4";
    steps.extend(MIRI_RUNS.map(|(variable, tests)| {
        format!("env {variables} {variable} cargo +nightly miri test -p cipherlens-kernel {tests}")
    }));
    steps
}

/// Installs what counts branches.
pub fn coverage_tools() -> Vec<String> {
    let mut steps = Vec::new();
    nightly(&["llvm-tools"], &mut steps);
    install("llvm-cov", &mut steps);
    steps
}

/// Licences, bans and sources of all dependencies.
pub fn deny() -> Vec<String> {
    let mut steps = Vec::new();
    install("deny", &mut steps);
    steps.push("cargo deny --workspace check bans licenses sources".into());
    steps
}

/// Known vulnerabilities of all dependencies, by a database that is fetched.
pub fn advisories() -> Vec<String> {
    vec!["cargo deny --workspace check advisories".into()]
}
