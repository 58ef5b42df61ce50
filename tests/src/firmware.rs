//! Crates of `tests/firmware`, built for targets other than this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A crate of `tests/firmware` and how to build it.
pub struct Firmware<'a> {
    /// Its folder and name.
    pub name: &'a str,
    /// The target.
    pub target: &'a str,
    /// Names the build's folder, so that builds with other flags lie elsewhere.
    pub variant: &'a str,
}

impl Firmware<'_> {
    fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware").join(self.name)
    }

    /// Builds the release executable below `tmp`, the test's `CARGO_TARGET_TMPDIR`, and returns its path.
    pub fn build(&self, tmp: &str, configure: impl FnOnce(&mut Command)) -> PathBuf {
        let Self { name, target, variant } = self;
        let folder = format!("{name}-{variant}");
        let release = build_release(&self.source(), target, tmp, &folder, |cargo| {
            cargo.args(["--bin", name]);
            configure(cargo);
        });
        release.join(if target.starts_with("wasm32") { format!("{name}.wasm") } else { (*name).into() })
    }
}

/// Fails with the command to run if rustup has not installed the target.
fn require_target(source: &Path, target: &str) {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(source)
        .output()
        .expect("rustc runs");
    let dir = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && Path::new(dir.trim()).is_dir(),
        "the target {target} is not installed; run `rustup target add {target}`"
    );
}

/// Builds the crate in `source`, which has a workspace of its own, and returns the folder of what it makes: in `folder` below
/// `tmp`, the test's `CARGO_TARGET_TMPDIR`.
pub fn build_release(
    source: &Path,
    target: &str,
    tmp: &str,
    folder: &str,
    configure: impl FnOnce(&mut Command),
) -> PathBuf {
    require_target(source, target);
    // The workspace's target directory, wherever it is.
    let dir = Path::new(tmp).with_file_name("firmware").join(folder);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(source);
    cargo.args(["build", "--release", "--quiet", "--locked", "--target", target, "--target-dir"]).arg(&dir);
    // Flags meant for the development machine, coverage for one, do not belong in an image.
    for flags in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(flags);
    }
    configure(&mut cargo);
    let output = cargo.output().expect("cargo runs");
    assert!(
        output.status.success(),
        "{} for {target} does not build:\n{}",
        source.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    dir.join(target).join("release")
}
