//! Links the image for the board that `BOARD` names.

use std::env::var;

fn main() {
    println!("cargo:rerun-if-env-changed=BOARD");
    println!("cargo:rerun-if-changed=boards");
    let root = var("CARGO_MANIFEST_DIR").unwrap();
    let board = var("BOARD").expect("BOARD names a file of boards/");
    for script in [format!("{root}/boards/{board}.x"), format!("{root}/boards/sections.x"), "defmt.x".into()] {
        println!("cargo:rustc-link-arg-bins=-T{script}");
    }
}
