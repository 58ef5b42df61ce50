//! Key custody on the command line: passphrases, counted releases, signed programs.

use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A folder with `m.clp`, the compiled `mnist-micro`.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(TempDir::new().expect("a temporary folder"));
        folder.ok("compile mnist-micro -o m.clp -q");
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, line: &str, passphrase: Option<&str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cipherlens"));
        command.current_dir(self.0.path()).args(line.split_whitespace()).stdin(Stdio::null());
        command.env_remove("CIPHERLENS_PASSPHRASE");
        if let Some(passphrase) = passphrase {
            command.env("CIPHERLENS_PASSPHRASE", passphrase);
        }
        command.output().expect("the command starts")
    }

    fn ok(&self, line: &str) -> String {
        let output = self.run(line, None);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} --json"))).expect("one JSON object")
    }

    fn fails(&self, line: &str, passphrase: Option<&str>, code: i32, fragment: &str) {
        let output = self.run(line, passphrase);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {error}");
        assert!(error.contains(fragment) && !error.contains("panicked"), "{fragment:?} in {error}");
        assert!(output.stdout.is_empty());
    }

    #[cfg(unix)]
    fn mode(&self, name: &str) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(self.path(name)).expect(name).permissions().mode() & 0o777
    }
}

const DECRYPT: &str = "decrypt --program m.clp --key k/secret.cls --input out.clx";

/// Keys in `k`, and digit 7 in `in.clx` with its result in `out.clx`.
fn evaluate(folder: &Folder, options: &str) {
    folder.ok(&format!("encrypt --program m.clp --key k/secret.cls --digit 7 -o in.clx -q {options}"));
    folder.ok("run --program m.clp --keys k/keys.clk --input in.clx -o out.clx -q");
}

#[test]
fn a_secret_key_under_a_passphrase() {
    let folder = Folder::new();
    std::fs::write(folder.path("word"), "open sesame\n").expect("a file");
    folder.fails("keygen --program m.clp --out k --passphrase", None, 2, "--passphrase-file");
    folder.fails("keygen --program m.clp --out k --passphrase", Some(""), 2, "empty");
    folder.ok("keygen --program m.clp --out k --passphrase --passphrase-file word -q");
    #[cfg(unix)]
    assert_eq!(folder.mode("k/secret.cls"), 0o600);
    // Every command that reads the key asks for it.
    evaluate(&folder, "--passphrase-file word");
    let right = folder.run(DECRYPT, Some("open sesame"));
    assert!(right.status.success());
    for line in [
        DECRYPT,
        "encrypt --program m.clp --key k/secret.cls --digit 7 -o x.clx",
        "keygen --program m.clp --secret k/secret.cls --out more",
        "inspect k/secret.cls",
    ] {
        folder.fails(line, None, 2, "needs a passphrase");
        folder.fails(line, Some("open sesam"), 4, "does not open");
        assert!(folder.run(line, Some("open sesame")).status.success(), "{line}");
    }
    // A damaged file is told from a wrong passphrase.
    let mut bytes = std::fs::read(folder.path("k/secret.cls")).expect("the key");
    bytes[500] ^= 1;
    std::fs::write(folder.path("k/secret.cls"), bytes).expect("a file");
    folder.fails(DECRYPT, Some("open sesame"), 3, "damaged");
}

#[test]
fn releases_are_counted_and_noised() {
    let folder = Folder::new();
    folder.ok("keygen --program m.clp --out k -q");
    evaluate(&folder, "");
    let class = folder.json(DECRYPT)["class"].clone();
    let release = format!("{DECRYPT} --release");
    folder.fails(&release, None, 2, "declare");
    folder.fails(&format!("{release} --scores"), None, 2, "cannot be used");
    folder.fails(&format!("{DECRYPT} --queries 3"), None, 2, "--release");
    folder.fails(&format!("{release} --queries 3 --statistical-bits 20"), None, 2, "30 to 128");
    let first = folder.json(&format!("{release} --queries 3"));
    let told = &first["release"];
    assert_eq!((&told["queries_used"], &told["queries"]), (&1.into(), &3.into()));
    assert_eq!(told["statistical_bits"], 30);
    // A program of about ten bits has none left, and then nothing but the decision is told.
    assert!(told["bits"].as_f64().expect("bits") < 0.0 && told["sigma"].as_f64().expect("sigma") > 1.0);
    assert!(told.get("noised").is_none() && first.get("scores").is_none());
    assert_eq!(first["class"], class);
    let text = folder.ok(&release);
    assert!(text.contains("release 2 of 3, 30 bits") && text.contains("the decision alone"), "{text}");
    folder.fails(&format!("{release} --queries 4"), None, 2, "cannot be changed");
    folder.ok(&release);
    for _ in 0..2 {
        folder.fails(&release, None, 4, "3 of 3");
    }
    #[cfg(unix)]
    assert_eq!(folder.mode("k/secret.cls.queries"), 0o600);
    // What stays with the key holder is not counted, and a spoilt ledger does not start anew.
    folder.ok(DECRYPT);
    std::fs::write(folder.path("k/secret.cls.queries"), "{}").expect("a file");
    folder.fails(&release, None, 3, "damaged");
}

#[test]
fn signed_programs() {
    let folder = Folder::new();
    folder.ok("keygen --program m.clp --out k -q");
    evaluate(&folder, "");
    folder.ok("keygen --signing --out s -q");
    folder.fails("keygen --signing --out s", None, 7, "not overwritten");
    #[cfg(unix)]
    assert_eq!(folder.mode("s/signing.key"), 0o600);
    let run = "run --program m.clp --keys k/keys.clk --input in.clx -o out.clx -q --signer s/signing.pub";
    folder.fails(run, None, 3, "m.clp.sig");
    let report = folder.json("sign --program m.clp --signing-key s/signing.key");
    assert_eq!(report["signature"], "m.clp.sig");
    folder.ok(run);
    // Another signer, a cut signature, a changed program.
    folder.ok("keygen --signing --out other -q");
    folder.fails(&run.replace("s/signing.pub", "other/signing.pub"), None, 4, "not signed by");
    folder.fails(&run.replace("s/signing.pub", "s/../m.clp"), None, 3, "bytes, not 32");
    let signature = std::fs::read(folder.path("m.clp.sig")).expect("the signature");
    std::fs::write(folder.path("m.clp.sig"), &signature[..63]).expect("a file");
    folder.fails(run, None, 3, "63 bytes, not 64");
    std::fs::write(folder.path("m.clp.sig"), signature).expect("a file");
    folder.fails("sign --program in.clx --signing-key s/signing.key", None, 3, "program");
    folder.ok("compile tenseal-cnn -o m.clp -q");
    folder.fails(run, None, 4, "not signed by");
}
