//! Nothing in the kernel allocates or panics: shown on linked images, not on source.
//!
//! `tests/firmware/no-panic` is a firmware that uses the whole kernel on inputs that the optimiser cannot know.
//! Here it is built for every bare target, and the symbols of the linked image are read: where a panic or an
//! allocation is reachable, the function that starts it is in the image and has a name. The kernel in these images is
//! compiled with overflow checks, so plain arithmetic that could overflow shows as a panic too.
//!
//! Each target is also built with one index that can fail, to show that the check would find it.
//!
//! Holds at `opt-level` 3, 2 and s. At 1 and z the compiler leaves checks in `chacha20` and `sha2` that can never
//! fail, but that it does not remove.

use cipherlens_tests::firmware::Firmware;
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};
use std::path::{Path, PathBuf};

/// What a name contains if the function panics, reports a panic, or allocates.
const FORBIDDEN: [&str; 12] = [
    "cipherlens_panic_is_reachable",
    "rust_begin_unwind",
    "panicking",
    "core::panic",
    "panic_bounds_check",
    "panic_const",
    "_failed",
    "_fail",
    "__rust_alloc",
    "__rust_realloc",
    "__rust_dealloc",
    "alloc::",
];

/// What an image may import: nothing on a bare target; on the development machine, what libc gives any program.
const HOST_IMPORTS: [&str; 5] = ["memcpy", "memmove", "memset", "memcmp", "bcmp"];

struct Image {
    symbols: Vec<String>,
    imports: Vec<String>,
    code: u64,
    read_only: u64,
}

impl Image {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = object::File::parse(&*bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut symbols = Vec::new();
        let mut imports = Vec::new();
        for symbol in file.symbols().chain(file.dynamic_symbols()) {
            let Ok(name) = symbol.name() else { continue };
            let name = format!("{:#}", rustc_demangle::demangle(name));
            if symbol.is_undefined() && !name.is_empty() {
                imports.push(name);
            } else {
                symbols.push(name);
            }
        }
        let size =
            |kinds: &[SectionKind]| file.sections().filter(|s| kinds.contains(&s.kind())).map(|s| s.size()).sum();
        Self {
            code: size(&[SectionKind::Text]),
            read_only: size(&[
                SectionKind::ReadOnlyData,
                SectionKind::ReadOnlyDataWithRel,
                SectionKind::ReadOnlyString,
            ]) + if path.extension().is_some() { size(&[SectionKind::Data]) } else { 0 },
            symbols,
            imports,
        }
    }

    fn forbidden(&self) -> Vec<&str> {
        let mut found: Vec<&str> =
            self.symbols.iter().map(String::as_str).filter(|s| FORBIDDEN.iter().any(|f| s.contains(f))).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Builds the image for `target` at `opt-level` and returns its path.
fn build(target: &str, opt_level: &str, deliberate: bool) -> PathBuf {
    Firmware { name: "no-panic", target, variant: opt_level }.build(env!("CARGO_TARGET_TMPDIR"), |cargo| {
        if deliberate {
            cargo.args(["--features", "deliberate-panic"]);
        }
        cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", opt_level);
    })
}

fn check(target: &str, opt_level: &str) {
    let image = Image::read(&build(target, opt_level, false));
    println!("{target}, opt-level {opt_level}: code {} bytes, constants {} bytes", image.code, image.read_only);

    // An image whose names were stripped, or that lost what it should link, would pass anything.
    let parts = ["_start", "program::verify", "engine::Engine", "wire::keys::KeyBundle", "parts::Parts", "sha256"];
    for part in parts.into_iter().chain([
        "keys::streamed",
        "engine::checkpoint",
        "selftest::",
        "batch::engine",
        "batch::passes",
    ]) {
        let present = image.symbols.iter().any(|s| s.contains(part));
        assert!(present, "{target}: none of {} symbols contains {part}", image.symbols.len());
    }
    let found = image.forbidden();
    assert!(found.is_empty(), "{target}, opt-level {opt_level}: the image can reach\n  {}", found.join("\n  "));
    let host = target.contains("linux");
    let foreign: Vec<_> = image.imports.iter().filter(|s| !host || !HOST_IMPORTS.contains(&s.as_str())).collect();
    assert!(foreign.is_empty(), "{target}: the image needs {foreign:?} from outside");

    let control = Image::read(&build(target, opt_level, true));
    let found = control.forbidden();
    assert!(
        found.iter().any(|s| s.contains("cipherlens_panic_is_reachable")),
        "{target}: a deliberate panic went unnoticed; found only {found:?}"
    );
}

#[test]
fn cortex_m() {
    check("thumbv7em-none-eabihf", "3");
}

#[test]
fn cortex_m_for_size() {
    check("thumbv7em-none-eabihf", "s");
}

#[test]
fn aarch64() {
    check("aarch64-unknown-none", "3");
}

#[test]
fn riscv64() {
    check("riscv64gc-unknown-none-elf", "3");
}

#[test]
fn wasm32() {
    check("wasm32-unknown-unknown", "3");
}

#[test]
fn x86_64() {
    check("x86_64-unknown-none", "3");
}

/// The only image with the AVX2 and AVX-512 backends: `x86_64-unknown-none` has no vector registers.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn x86_64_with_vectors() {
    check("x86_64-unknown-linux-gnu", "3");
}
