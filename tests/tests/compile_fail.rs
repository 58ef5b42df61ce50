//! A parameter set above the security bound, or with a bad prime, stops the compiler and says why.

use std::path::Path;
use std::process::Command;

/// Checks one program of `tests/compile_fail`; none if it compiles, else what the compiler says.
fn refusal(program: &str) -> Option<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("compile_fail");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_fail");
    let output = Command::new(env!("CARGO"))
        .current_dir(source)
        .args(["check", "--quiet", "--bin", program, "--target-dir"])
        .arg(target)
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn bad_parameter_sets_do_not_compile() {
    assert_eq!(refusal("sound"), None);
    for (program, reason) in [
        ("insecure", "log2 QP is above the bound for 128-bit security (eprint 2024/463)"),
        ("not_prime", "a modulus is not a prime below 2^30 that is 1 modulo 4N"),
        ("repeated", "malformed parameter set"),
    ] {
        let message = refusal(program).unwrap_or_else(|| panic!("{program} compiles"));
        assert!(message.contains("E0080") && message.contains(reason), "{program}: {message}");
    }
}
