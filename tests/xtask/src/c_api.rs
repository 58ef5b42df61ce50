//! `cargo xtask c-api [TARGET...]`: the static library for C.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Targets of the examples in `kernel/c/examples`.
pub const TARGETS: [&str; 2] = ["thumbv7em-none-eabihf", "aarch64-unknown-linux-gnu"];

const MANIFEST: &str = "kernel/c/Cargo.toml";
const HEADER: &str = "kernel/c/include/cipherlens.h";

/// Builds the library for these targets, or for those of the examples and this machine, and tells where it is.
pub fn run(targets: impl Iterator<Item = String>) -> Result<()> {
    env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))?;
    let mut targets: Vec<String> = targets.collect();
    if targets.is_empty() {
        targets.extend(TARGETS.map(String::from));
        targets.push(host()?);
        targets.dedup();
    }
    let dir = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from).join("c-api");
    succeed(Command::new("rustup").args(["target", "add"]).args(&targets))?;
    for target in &targets {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--quiet", "--locked", "--manifest-path", MANIFEST, "--target", target]);
        succeed(cargo.arg("--target-dir").arg(&dir))?;
    }
    println!("{HEADER}");
    for target in &targets {
        let library = dir.join(target).join("release/libcipherlens.a");
        let bytes = fs::metadata(&library).with_context(|| library.display().to_string())?.len();
        println!("{} ({} KiB; an image takes what it uses)", library.display(), bytes.div_ceil(1024));
    }
    Ok(())
}

/// The target of this machine.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not tell its host")?.into())
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("failed ({status}): {command:?}");
    }
    Ok(())
}
