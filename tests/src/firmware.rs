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

    /// Fails with the command to run if rustup has not installed the target.
    fn require_target(&self) {
        let target = self.target;
        let output = Command::new("rustc")
            .args(["--print", "target-libdir", "--target", target])
            .current_dir(self.source())
            .output()
            .expect("rustc runs");
        let dir = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && Path::new(dir.trim()).is_dir(),
            "the target {target} is not installed; run `rustup target add {target}`"
        );
    }

    /// Builds the release executable below `tmp`, the test's `CARGO_TARGET_TMPDIR`, and returns its path.
    pub fn build(&self, tmp: &str, configure: impl FnOnce(&mut Command)) -> PathBuf {
        self.require_target();
        let Self { name, target, variant } = self;
        // The workspace's target directory, wherever it is.
        let dir = Path::new(tmp).with_file_name("firmware").join(format!("{name}-{variant}"));
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(self.source());
        cargo
            .args(["build", "--release", "--quiet", "--locked", "--bin", name, "--target", target, "--target-dir"])
            .arg(&dir);
        // Flags meant for the development machine, coverage for one, do not belong in an image.
        for flags in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(flags);
        }
        configure(&mut cargo);
        let output = cargo.output().expect("cargo runs");
        assert!(
            output.status.success(),
            "{name} for {target} does not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let file = if target.starts_with("wasm32") { format!("{name}.wasm") } else { (*name).into() };
        dir.join(target).join("release").join(file)
    }
}
