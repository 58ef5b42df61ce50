//! Batches on the command line: four parties with folders of parts, interruptions, bad input.

use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// A folder with `m.clp`, a batch program, keys in `k`, and encrypted digits in `in`.
struct Bench(TempDir);

/// Exit code, standard output, standard error.
type Outcome = (i32, String, String);

impl Bench {
    fn new() -> Self {
        let bench = Self(TempDir::new().unwrap());
        bench.json("compile mnist-micro --mode batch -o m.clp");
        bench.json("keygen --program m.clp --out k");
        bench
    }

    fn encrypted() -> Self {
        let bench = Self::new();
        let report = bench.json(&format!("encrypt --program m.clp --key k/secret.cls --batch {} -o in", digits()));
        assert_eq!((&report["images"], &report["slots"], &report["wasted"]), (&300.into(), &8192.into(), &7892.into()));
        assert_eq!((&report["parts"], &report["kept_parts"]), (&28.into(), &0.into()));
        bench
    }

    fn run(&self, arguments: &str) -> Outcome {
        let words = arguments.split_whitespace();
        let output =
            Command::new(env!("CARGO_BIN_EXE_cipherlens")).args(words).current_dir(self.0.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    fn json(&self, arguments: &str) -> Value {
        let (code, stdout, stderr) = self.run(&format!("{arguments} --json"));
        assert_eq!(code, 0, "{arguments}: {stderr}");
        serde_json::from_str(&stdout).unwrap()
    }

    fn fails(&self, code: i32, arguments: &str, fragment: &str) {
        let (found, stdout, stderr) = self.run(arguments);
        assert_eq!(found, code, "{arguments}: {stdout}{stderr}");
        assert!(stderr.contains(fragment) && !stderr.contains("panicked"), "{fragment:?} in {stderr}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn classes(&self, folder: &str) -> Value {
        self.json(&format!("decrypt --program m.clp --key k/secret.cls --input {folder} --batch in"))["classes"].clone()
    }
}

fn digits() -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/digits").display().to_string()
}

const RUN: &str = "run --program m.clp --keys k/keys.clk --input in -o out";

#[test]
fn four_parties_evaluate_a_batch() {
    let bench = Bench::encrypted();
    let report = bench.json(&format!("{RUN} --threads 2"));
    assert_eq!((&report["slots"], &report["resumed_at"]), (&8192.into(), &0.into()));
    let classes = bench.classes("out");
    assert_eq!(classes.as_array().unwrap().len(), 300);
    // Memory of a file in place of that of the process gives the same.
    bench.json("run --program m.clp --keys k/keys.clk --input in -o stored --store memory.bin");
    assert_eq!(bench.classes("stored"), classes);
    assert!(!bench.path("memory.bin").exists());
    let (_, csv, _) = bench.run("decrypt --program m.clp --key k/secret.cls --input out --images 3");
    assert_eq!(csv.lines().count(), 4, "{csv}");
    let (_, csv, warning) = bench.run("decrypt --program m.clp --key k/secret.cls --input out --images 1 --scores");
    assert!(csv.lines().nth(1).unwrap().split(',').count() == 12 && warning.contains("never show"), "{csv}{warning}");
    let inspected = bench.json("inspect m.clp --security");
    assert_eq!((&inspected["kind"], &inspected["images"]), (&"batch_program".into(), &8192.into()));
    // A batch is not mixed with another one, and parts that are there stay.
    let again = format!("encrypt --program m.clp --key k/secret.cls --batch {} -o in", digits());
    assert_eq!(bench.json(&again)["kept_parts"], 28);
    let other = PathBuf::from(digits()).join("../lesions/test/benign/lesion-1.png");
    bench.fails(3, &format!("encrypt --program m.clp --key k/secret.cls --batch {} -o in", other.display()), "colour");
}

#[test]
fn a_damaged_part_loses_nothing() {
    let bench = Bench::encrypted();
    bench.json("run --program m.clp --keys k/keys.clk --input in -o whole");
    let part = bench.path("in/input-000420.clx");
    let good = std::fs::read(&part).unwrap();
    let mut bad = good.clone();
    bad[5000] ^= 1;
    let resumed = format!("{RUN} --resume state.clc");
    for (bytes, fragment) in [(&bad[..], "digest"), (&good[..good.len() - 5], "cut short"), (&good[..10], "cut short")]
    {
        std::fs::write(&part, bytes).unwrap();
        bench.fails(3, &resumed, fragment);
        assert!(bench.path("state.clc").exists());
    }
    std::fs::remove_file(&part).unwrap();
    bench.fails(3, &resumed, "input-000420.clx");
    std::fs::write(&part, &good).unwrap();
    // The state of one batch is not taken up by another, nor a damaged one.
    let state = std::fs::read(bench.path("state.clc")).unwrap();
    assert_eq!(bench.json("inspect state.clc")["kind"], "batch_checkpoint");
    std::fs::write(bench.path("cut.clc"), &state[..state.len() / 2]).unwrap();
    bench.fails(3, &format!("{RUN} --resume cut.clc"), "cut.clc");
    bench.json(&format!("encrypt --program m.clp --key k/secret.cls --batch {} -o other", digits()));
    bench.fails(4, "run --program m.clp --keys k/keys.clk --input other -o out --resume state.clc", "another batch");
    let report = bench.json(&resumed);
    assert!(report["resumed_at"].as_u64().unwrap() > 0, "{report}");
    assert!(!bench.path("state.clc").exists());
    assert_eq!(bench.classes("out"), bench.classes("whole"));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let bench = Bench::encrypted();
    bench.json("keygen --program m.clp --out k2");
    bench.fails(4, "run --program m.clp --keys k2/keys.clk --input in -o out", "key");
    bench.json("compile mnist-micro -o latency.clp");
    bench.fails(2, "encrypt --program m.clp --key k/secret.cls --digit 0 -o x.clx", "--batch");
    bench.fails(4, "run --program latency.clp --keys k/keys.clk --input in -o out", "parameter set");
    bench.fails(2, "decrypt --program m.clp --key k/secret.cls --input in --images 9000", "8192");
    bench.fails(3, "decrypt --program m.clp --key k/secret.cls --input in --images 1", "result-000000.clx");
    bench.fails(5, "compile melanoma --mode batch -o x.clp --ram 1MiB", "arena");
    bench.fails(5, "compile mnist --mode batch -o x.clp --precision 30", "precision");
}
