//! `cargo xtask test`: installs the targets and passes every test. `cargo xtask nightly`: the slow sweeps.
//! `cargo xtask firmware`: inferences on emulated boards, in one table. `cargo xtask peers`: other libraries beside ours.
//! `cargo xtask c-api`: the static library for C. `cargo xtask header`: its header, from the source.
//! `cargo xtask fuzz`, `timing`, `miri`, `coverage`, `deny`: what needs tools that the tests do not (also in `nightly`).

mod c_api;
mod coverage;
mod peers;
mod trust;

use anyhow::{Context, Result, bail};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Bare-metal and WebAssembly targets that the kernel builds for.
const TARGETS: [&str; 5] = [
    "thumbv7em-none-eabihf",
    "aarch64-unknown-none",
    "riscv64gc-unknown-none-elf",
    "wasm32-unknown-unknown",
    "x86_64-unknown-none",
];

/// Targets of images that only the tests build: x86-64 with its vector backends, a big-endian one, Cortex-M55.
const IMAGE_TARGETS: [&str; 3] = ["x86_64-unknown-linux-gnu", "s390x-unknown-linux-gnu", "thumbv8m.main-none-eabihf"];

/// A program of each Debian package that the tests need: emulators, and a C compiler for the boards and AArch64 Linux.
const PROGRAMS: [(&str, &str); 5] = [
    ("qemu-aarch64-static", "qemu-user-static"),
    ("qemu-system-arm", "qemu-system-arm"),
    ("qemu-system-riscv64", "qemu-system-misc"),
    ("clang", "clang"),
    ("ld.lld", "lld"),
];

/// A file of each Debian package with what C programs for AArch64 Linux are linked with.
const LIBRARIES: [(&str, &str); 2] = [
    ("/usr/aarch64-linux-gnu/lib/libc.a", "libc6-dev-arm64-cross"),
    ("/usr/lib/gcc-cross/aarch64-linux-gnu/12/libgcc.a", "libgcc-12-dev-arm64-cross"),
];

fn main() -> ExitCode {
    let task = std::env::args().nth(1);
    let steps = match task.as_deref() {
        Some("test") => test(),
        Some("nightly") => nightly(),
        Some("firmware") => firmware(),
        Some("header") => header(),
        Some("fuzz") => trust::fuzz(std::env::args().nth(2).as_deref()),
        Some("timing") => trust::timing(),
        Some("miri") => trust::miri(),
        Some("deny") => trust::deny(),
        Some(task @ ("peers" | "c-api" | "coverage")) => {
            let arguments = std::env::args().skip(2);
            let result = match task {
                "peers" => peers::run(arguments),
                "c-api" => c_api::run(arguments),
                _ => coverage::run(),
            };
            return match result {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("{error:#}");
                    ExitCode::FAILURE
                }
            };
        }
        _ => {
            eprintln!(
                "usage: cargo xtask test | nightly | firmware | peers | c-api [TARGET...] | header | fuzz [SECONDS] | timing | \
                 miri | coverage | deny"
            );
            return ExitCode::from(2);
        }
    };
    let start = Instant::now();
    for command in &steps {
        if let Err(error) = step(command) {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    }
    println!("\n{} steps passed in {:.0} s", steps.len(), start.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

/// Runs one command.
fn step(command: &str) -> Result<()> {
    println!("\n==> {command}");
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    let from = Instant::now();
    let status = Command::new(program).args(words).status().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("failed ({status}): {command}");
    }
    println!("<== {:.0} s", from.elapsed().as_secs_f64());
    Ok(())
}

fn test() -> Vec<String> {
    let mut steps = prepare();
    steps.extend(
        [
            "cargo fmt --all --check",
            "cargo clippy --workspace --all-targets --locked -- -D warnings",
            "cargo clippy -p cipherlens-kernel --locked --target aarch64-unknown-none -- -D warnings",
            "cargo clippy -p cipherlens-kernel --locked --target wasm32-unknown-unknown -- -D warnings",
            "cargo clippy -p cipherlens-kernel --locked --target wasm32-unknown-unknown \
             --config target.wasm32-unknown-unknown.rustflags=['-Ctarget-feature=+simd128'] -- -D warnings",
            "cargo test --workspace --locked --no-fail-fast",
            "cargo doc --workspace --no-deps --locked --config build.rustdocflags=['-Dwarnings']",
            "cargo bench -p cipherlens --locked -- --test",
            "cargo run --release -p cipherlens --locked -- demo mnist",
        ]
        .map(String::from),
    );
    steps.extend(trust::deny());
    for target in TARGETS {
        steps.push(format!("cargo build -p cipherlens-kernel --locked --release --target {target}"));
    }
    steps.push(format!("cargo build -p cipherlens-kernel --locked --release --features defmt --target {}", TARGETS[0]));
    steps.push(format!(
        "cargo clippy -p cipherlens-kernel --locked --features c-api --target {} -- -D warnings",
        TARGETS[0]
    ));
    steps.push("cargo fmt --manifest-path kernel/c/Cargo.toml --check".into());
    steps
}

/// Steps that install the targets, and what `tests/tests/{cross_target,boards,c_api}.rs` run where it is missing.
fn prepare() -> Vec<String> {
    let targets = [&TARGETS[..], &IMAGE_TARGETS, &c_api::TARGETS].concat();
    let mut steps = vec![format!("rustup target add {}", targets.join(" "))];
    let output =
        |program: &str, argument| Command::new(program).arg(argument).output().ok().filter(|o| o.status.success());
    let programs = PROGRAMS.iter().filter(|(program, _)| output(program, "--version").is_none());
    let libraries = LIBRARIES.iter().filter(|(file, _)| !std::path::Path::new(file).exists());
    let packages: Vec<&str> = programs.chain(libraries).map(|&(_, package)| package).collect();
    if !packages.is_empty() {
        let root = output("id", "-u").is_some_and(|id| id.stdout.trim_ascii() == b"0");
        let sudo = if root { "" } else { "sudo " };
        steps.push(format!("{sudo}apt-get update"));
        steps.push(format!("{sudo}apt-get install -y --no-install-recommends {}", packages.join(" ")));
    }
    steps
}

/// Builds the image for every board, runs it and prints what it takes.
fn firmware() -> Vec<String> {
    let mut steps = prepare();
    steps.push("cargo test --quiet -p cipherlens-tests --locked --test boards -- --nocapture every_board".into());
    steps
}

/// Writes `kernel/c/include/cipherlens.h`.
fn header() -> Vec<String> {
    vec![
        "env CIPHERLENS_BLESS=1 cargo test --quiet -p cipherlens-tests --locked --test c_api the_header_is_that_of"
            .into(),
    ]
}

/// The slow sweeps: what needs other tools first, then every model of digits over the whole test set.
fn nightly() -> Vec<String> {
    let models = ["mnist", "mnist-micro", "tenseal-cnn", "orion-mlp", "cryptonets"]
        .map(|model| format!("cargo run --release -p cipherlens --locked -- accuracy {model} --images 10000"));
    let checks = [
        trust::deny(),
        trust::advisories(),
        trust::timing(),
        trust::miri(),
        trust::fuzz(None),
        vec!["cargo xtask coverage".into()],
    ];
    checks.into_iter().flatten().chain(models).collect()
}
