//! Links the image for the board that `BOARD` names, with the memory that the constants in `CONTRACT` ask for: what
//! `cipherlens compile --rust` writes.

use std::env::var;
use std::fs::{read_to_string, write};

fn main() {
    println!("cargo:rerun-if-env-changed=BOARD");
    println!("cargo:rerun-if-changed=boards");
    let root = var("CARGO_MANIFEST_DIR").unwrap();
    let board = var("BOARD").expect("BOARD names a file of boards/");
    let contract = contract();
    for script in [contract, format!("{root}/boards/{board}.x"), format!("{root}/boards/sections.x"), "defmt.x".into()]
    {
        println!("cargo:rustc-link-arg-bins=-T{script}");
    }
}

/// Copies the constants for `main.rs`, with this target's as `target`, and gives a linker script of those that the
/// program has.
fn contract() -> String {
    println!("cargo:rerun-if-env-changed=CONTRACT");
    let file = var("CONTRACT").expect("CONTRACT names a file of `cipherlens compile --rust`");
    println!("cargo:rerun-if-changed={file}");
    let mut text = read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let constant = |line: &str| {
        let (name, value) = line.strip_prefix("pub const ")?.split_once(": usize = ")?;
        Some(format!("{name} = {};\n", value.trim_end_matches(';').replace('_', "")))
    };
    let script: String = text.lines().filter_map(constant).collect();
    let module = var("TARGET").unwrap().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    text += &format!("\npub use self::{module} as target;\n");
    let out = var("OUT_DIR").unwrap();
    write(format!("{out}/contract.rs"), text).unwrap();
    write(format!("{out}/contract.x"), script).unwrap();
    format!("{out}/contract.x")
}
