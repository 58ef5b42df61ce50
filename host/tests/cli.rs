//! The command as people and scripts use it: every subcommand, JSON field names, exit codes, bad inputs.

use cipherlens::client::decide;
use cipherlens::compile::onnx::ModelProto;
use cipherlens::datasets::{Dataset, Digits, Pictures};
use cipherlens::models;
use prost::Message;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// What a run of the command left behind.
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// The one JSON object on standard output.
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.stderr);
        assert_eq!(self.stdout.lines().count(), 1, "{}", self.stdout);
        serde_json::from_str(&self.stdout).expect("standard output is one JSON object")
    }

    /// Checks the exit code, that standard output is empty, and that the message holds `fragment`.
    fn fails(&self, code: i32, fragment: &str) {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        assert!(self.stdout.is_empty(), "{}", self.stdout);
        assert!(
            self.stderr.starts_with("error: ") && self.stderr.contains(fragment),
            "{:?} in {}",
            fragment,
            self.stderr
        );
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

/// A folder to work in.
struct Bench(TempDir);

impl Bench {
    fn empty() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    /// A folder with `m.clp`, the compiled `mnist-micro`, and keys for it in `k`.
    fn new() -> Self {
        static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
        let bench = Self::empty();
        let program = PROGRAM.get_or_init(|| {
            bench.ok("compile mnist-micro -o m.clp -q");
            bench.read("m.clp")
        });
        bench.write("m.clp", program);
        bench.ok("keygen --program m.clp --out k -q");
        bench
    }

    /// As [`new`](Self::new), with digit 7 encrypted in `in.clx` and the result in `out.clx`.
    fn evaluated() -> Self {
        let bench = Self::new();
        bench.ok("encrypt --program m.clp --key k/secret.cls --digit 7 -o in.clx -q");
        bench.ok("run --program m.clp --keys k/keys.clk --input in.clx -o out.clx -q");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).expect(name);
    }

    /// `name` with the byte at `offset` inverted, and cut to `len` bytes, as two other files.
    fn damage(&self, name: &str, offset: usize) {
        let mut bytes = self.read(name);
        self.write("cut", &bytes[..offset]);
        bytes[offset] ^= 0xff;
        self.write("flipped", &bytes);
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cipherlens"));
        command.current_dir(self.0.path());
        for variable in ["CIPHERLENS_DATA", "NO_COLOR", "CLICOLOR_FORCE"] {
            command.env_remove(variable);
        }
        command.env("COLUMNS", "100");
        command
    }

    fn finish(command: &mut Command) -> Outcome {
        let output = command.output().expect("the command starts");
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        let code = output.status.code().expect("the command was not killed");
        Outcome { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs the command; arguments are separated by spaces.
    fn run(&self, arguments: &str) -> Outcome {
        Self::finish(self.command().args(arguments.split_whitespace()))
    }

    fn ok(&self, arguments: &str) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, 0, "{arguments}: {}", outcome.stderr);
        outcome
    }
}

/// The class that the clear network gives a drawn digit.
fn clear(model: &str, digit: usize) -> usize {
    let graph = models::by_name(model).expect(model).graph();
    let image = Digits::drawn().image(digit).expect("the digit exists");
    let scores: Vec<f64> = graph.evaluate(&image).expect("the shapes fit").into_iter().map(f64::from).collect();
    decide(&scores)
}

fn fields(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn assert_fields(value: &Value, expected: &str) {
    let found = fields(value);
    for field in expected.split_whitespace() {
        assert!(found.contains(&field), "{field} is not in {found:?}");
    }
}

const RUN_FIELDS: &str = "model set n log_qp security_bits threads mode prepare_ms encrypt_ms infer_ms decrypt_ms \
    agree clear encrypted max_error key_bytes program_bytes arena_bytes cache_bytes input_bytes output_bytes \
    key_switches rotations levels";

#[test]
fn each_party_runs_its_own_step() {
    let bench = Bench::new();
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/digits/images.idx3-ubyte.gz");
    let pixels: Vec<f32> = Digits::drawn().image(11).expect("the digit exists");
    bench.write(
        "values.json",
        serde_json::to_string(&pixels.chunks(28).collect::<Vec<_>>()).expect("numbers").as_bytes(),
    );
    let words: Vec<String> = pixels.iter().map(f32::to_string).collect();
    bench.write("values.txt", words.join(" \n").as_bytes());
    let sources = [
        (3, "--key k/secret.cls --digit 3".to_string()),
        (5, format!("--public k/public.clu --image {}:5", images.display())),
        (11, "--key k/secret.cls --values values.json".into()),
        (11, "--public k/public.clu --values values.txt".into()),
    ];
    for (digit, source) in sources {
        bench.ok(&format!("encrypt --program m.clp {source} -o in.clx"));
        bench.ok("run --program m.clp --keys k/keys.clk --input in.clx -o out.clx");
        let class = bench.ok("decrypt --program m.clp --key k/secret.cls --input out.clx").stdout;
        assert_eq!(class, format!("{}\n", clear("mnist-micro", digit)), "{source}");
    }
}

#[test]
fn every_way_to_run_gives_the_same_ciphertext() {
    let bench = Bench::evaluated();
    for option in [
        "--no-cache",
        "--mapped",
        "--threads 1",
        "--threads 3",
        "--mapped --threads 2",
        "--stream-keys",
        "--stream-keys --mapped --threads 3",
    ] {
        bench.ok(&format!("run --program m.clp --keys k/keys.clk --input in.clx -o other.clx {option}"));
        assert_eq!(bench.read("other.clx"), bench.read("out.clx"), "{option}");
    }
}

#[test]
fn demo_reports_agreement_and_sizes() {
    let bench = Bench::empty();
    let report = bench.run("demo mnist-micro --index 7 --json --threads 1").json();
    assert_fields(&report, RUN_FIELDS);
    assert_fields(&report, "label correct compile_ms keygen_ms ntts backend");
    assert_eq!(report["agree"], true);
    assert_eq!(report["clear"], clear("mnist-micro", 7));
    assert_eq!(report["encrypted"], report["clear"]);
    assert_eq!((&report["set"], &report["threads"]), (&"n12-3+1".into(), &1.into()));
    assert!(report["max_error"].as_f64().expect("a number") < 0.1);
    assert!(report["log_qp"].as_f64().expect("a number") <= 106.0 && report["security_bits"] == 128);

    let text = bench.ok("demo mnist-micro --index 7 -v").stdout;
    for part in
        ["encrypted network", "the same class", "key switches", "of at most 106 for 128 bits", "log2 scale", "@@"]
    {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours where standard output is no terminal");
    let forced = Bench::finish(bench.command().args(["demo", "mnist-micro"]).env("CLICOLOR_FORCE", "1")).stdout;
    assert!(forced.contains('\u{2580}') && forced.contains("\u{1b}[38;5;"));
}

#[test]
fn compile_reports_and_respects_budgets() {
    let bench = Bench::empty();
    let report = bench.run("compile mnist-micro -o m.clp --ram 4MiB --flash 8MiB --json").json();
    assert_fields(
        &report,
        "model mode set n log_qp max_log_qp security_bits moduli input_limbs levels layers key_switches rotations ntts \
         plain_products predicted_ms program_bytes key_bytes arena_bytes cache_bytes input_bytes output_bytes keys \
         output_error precision_bits fingerprint prime_bits special_bits digit seams candidates key_directory_bytes \
         checkpoint_bytes targets",
    );
    assert_eq!(report["program_bytes"], bench.read("m.clp").len());
    assert_eq!(report["set"], "n12-3+1");
    let candidates = report["candidates"].as_array().expect("candidates");
    assert_eq!(candidates.iter().filter(|c| c["rejected"].is_null()).count(), 1, "one was taken");
    assert!(report["precision_bits"].as_f64() >= Some(7.25));
    let precise = bench.run("compile mnist-micro -o p.clp --precision 8 --json").json();
    assert!(precise["precision_bits"].as_f64() >= Some(8.0));
    bench.run("compile mnist-micro -o x.clp --precision 30").fails(5, "not precise enough");
    bench.run("compile mnist-micro -o x.clp --precision none").fails(2, "bits");
    assert!(bench.ok("compile mnist-micro -o m.clp -v").stdout.contains("taken"));
    assert!(bench.ok("compile mnist-micro -o m.clp").stdout.contains("precision"));
    assert_eq!(bench.ok("compile mnist-micro -o ntt.clp --weights ntt --set n12 -q").stdout, "");
    assert!(bench.read("ntt.clp").len() > bench.read("m.clp").len());
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/digits");
    let folder = bench.ok(&format!("compile mnist-micro -o a.clp -q --calibrate {}", digits.display()));
    assert_eq!(folder.stderr, "");

    let over = bench.run("compile mnist-micro -o x.clp --ram 64KiB");
    over.fails(5, "no plan fits RAM 65536 bytes");
    assert!(over.stderr.contains("least RAM: RAM ") && over.stderr.contains("\nhint: "), "{}", over.stderr);
    bench.run("compile mnist-micro -o x.clp --flash 64KiB").fails(5, "least flash: RAM ");
    let small = bench.run("compile mnist-micro -o s.clp --flash 2MiB --target thumbv7em-none-eabihf --json").json();
    let image = small["targets"].as_array().and_then(|t| t.iter().find(|t| t["target"] == "thumbv7em-none-eabihf"));
    assert!(image.expect("the target")["flash_bytes"].as_u64() <= Some(2 << 20));
    bench.run("compile mnist-micro -o x.clp --target z80").fails(2, "thumbv7em-none-eabihf");
    bench.run("compile mnist-micro -o x.clp --cache").fails(2, "--ram");
    let images = bench.ok("compile mnist-micro -o m.clp --rust c.rs --header c.h").stdout;
    for part in ["checkpoint", "directory of streamed keys", ".rodata", "thumbv8m.main-none-eabihf"] {
        assert!(images.contains(part), "{part} in {images}");
    }
    assert!(bench.read("c.rs").starts_with(b"// Memory") && bench.read("c.h").starts_with(b"/* Memory"));
    bench.run("compile mnist-micro -o x2.clp --rust no/c.rs").fails(7, "no/c.rs");
    bench.run("compile mnist -o x.clp --set n12").fails(5, "n12");
    bench.run("compile mnist-micro -o x.clp --set n11").fails(2, "n12, n13");
    bench.run("compile mnist-micro -o x.clp --ram 1furlong").fails(2, "KiB");
    bench.run("compile mnist-micro -o x.clp --calibrate nothing").fails(3, "nothing");
    let labels = digits.join("labels.idx1-ubyte.gz");
    bench.run(&format!("compile mnist-micro -o x.clp --calibrate {}", labels.display())).fails(3, "784");
    assert!(!bench.path("x.clp").exists());
}

#[test]
fn models_that_cannot_be_compiled_are_named_with_the_reason() {
    let bench = Bench::empty();
    let mut model = ModelProto::decode(models::by_name("mnist-micro").expect("embedded").onnx).expect("a model");
    let graph = model.graph.as_mut().expect("a graph");
    let square = graph.node.iter_mut().find(|n| n.op_type == "Mul").expect("a square");
    square.op_type = "Relu".into();
    square.input.truncate(1);
    bench.write("relu.onnx", &model.encode_to_vec());
    let relu = bench.run("compile relu.onnx -o x.clp");
    relu.fails(5, "Relu");
    assert!(relu.stderr.contains("relu.onnx") && relu.stderr.contains("square"), "{}", relu.stderr);
    bench.run("demo relu.onnx").fails(5, "Relu");

    bench.write("text.onnx", b"certainly not an ONNX file");
    bench.run("compile text.onnx -o x.clp").fails(3, "text.onnx");
    bench.write("empty.onnx", b"");
    bench.run("compile empty.onnx -o x.clp").fails(3, "empty.onnx");
    bench.run("compile none.onnx -o x.clp").fails(3, "none.onnx");
    let unknown = bench.run("demo nonsense");
    unknown.fails(2, "nonsense");
    assert!(unknown.stderr.contains("hint: ") && unknown.stderr.contains("mnist-micro"));
    bench.run("accuracy nonsense --fixtures").fails(2, "nonsense");
}

#[test]
fn keygen_guards_the_secret_key() {
    let bench = Bench::empty();
    bench.ok("compile mnist-micro -o m.clp -q");
    let report = bench.run("keygen --program m.clp --out k --json").json();
    assert_fields(&report, "set key_id program secret_key evaluation_keys public_key keys key_bytes");
    assert_eq!(report["key_bytes"], bench.read("k/keys.clk").len());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| std::fs::metadata(bench.path(name)).expect(name).permissions().mode() & 0o777;
        assert_eq!(mode("k/secret.cls"), 0o600);
        assert_ne!(mode("k/keys.clk") & 0o044, 0);
        std::fs::set_permissions(bench.path("k/secret.cls"), PermissionsExt::from_mode(0o644)).expect("chmod");
        let careless = bench.ok("encrypt --program m.clp --key k/secret.cls --digit 0 -o x.clx -q");
        assert!(careless.stderr.contains("chmod 600"), "{}", careless.stderr);
    }
    let secret = bench.read("k/secret.cls");
    let refused = bench.run("keygen --program m.clp --out k");
    refused.fails(7, "not overwritten");
    assert!(refused.stderr.contains("--force"));
    assert_eq!(bench.read("k/secret.cls"), secret);

    let again = bench.run("keygen --program m.clp --secret k/secret.cls --out more --json").json();
    assert_eq!(again["key_id"], report["key_id"]);
    assert!(bench.path("more/keys.clk").exists() && !bench.path("more/secret.cls").exists());
    assert_ne!(bench.run("keygen --program m.clp --out k --force --json").json()["key_id"], report["key_id"]);
    bench.run("keygen --program m.clp --out m.clp/k").fails(7, "m.clp/k");
}

#[test]
fn run_and_decrypt_report_only_what_each_may_know() {
    let bench = Bench::evaluated();
    let report = bench.run("run --program m.clp --keys k/keys.clk --input in.clx -o o.clx --json").json();
    assert_fields(&report, RUN_FIELDS);
    for unknown in ["agree", "clear", "encrypted", "max_error", "encrypt_ms", "decrypt_ms"] {
        assert!(report[unknown].is_null(), "{unknown}");
    }
    assert_eq!(report["output_bytes"], bench.read("o.clx").len());
    assert_eq!(report["input_bytes"], bench.read("in.clx").len());

    let decide = "decrypt --program m.clp --key k/secret.cls --input out.clx";
    let decision = bench.run(&format!("{decide} --json"));
    assert_eq!(decision.json()["class"], clear("mnist-micro", 7));
    assert!(decision.json().get("scores").is_none() && decision.stderr.is_empty());
    let scores = bench.run(&format!("{decide} --scores --json"));
    assert_eq!(scores.json()["scores"].as_array().expect("scores").len(), 10);
    assert!(scores.stderr.contains("warning: ") && scores.stderr.contains("evaluator"));
    assert_eq!(bench.ok(&format!("{decide} --scores -q")).stdout.lines().count(), 11);
}

#[test]
fn accuracy_runs_on_the_drawn_digits() {
    let bench = Bench::empty();
    let report = bench.run("accuracy mnist-micro --fixtures --images 20 --json").json();
    assert_fields(
        &report,
        "model images clear_accuracy encrypted_accuracy agreement infer_ms_median images_per_second clear_interval \
         encrypted_interval agreement_interval max_error",
    );
    assert_eq!((&report["images"], &report["clear_images"]), (&20.into(), &300.into()));
    assert_eq!(report["agreement"], 1.0);
    let text = bench.ok("accuracy mnist-micro --fixtures --images 4 --clear-images 10 --threads 1").stdout;
    assert!(text.contains("10 images") && text.contains("same class") && text.contains("images/s"), "{text}");

    let missing = bench.run("accuracy mnist-micro --data nowhere");
    missing.fails(6, "nowhere");
    assert!(missing.stderr.contains("hint: ") && missing.stderr.contains("--fixtures"), "{}", missing.stderr);
    std::fs::create_dir(bench.path("data")).expect("a folder");
    let incomplete = Bench::finish(bench.command().args(["accuracy", "mnist-micro"]).env("CIPHERLENS_DATA", "data"));
    incomplete.fails(6, "data/mnist");
    std::fs::create_dir(bench.path("data/mnist")).expect("a folder");
    bench.run("accuracy mnist-micro --data data").fails(6, "t10k-images-idx3-ubyte");
    bench.write("data/mnist/t10k-images-idx3-ubyte", b"rubbish");
    bench.run("accuracy mnist-micro --data data").fails(3, "not an IDX file");
    bench.run("accuracy mnist-micro --fixtures --images 301").fails(2, "300");
    bench.run("accuracy mnist-micro --fixtures --images 0").fails(2, "0");
}

/// A small network that reads colour pictures and decides by the sign of one score.
fn lesion_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/onnx/lesion.onnx")
}

fn lesion_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/lesions")
}

/// The class that it gives a drawn lesion.
fn clear_lesion(index: usize) -> usize {
    let graph = cipherlens::compile::load(&lesion_model(), None).expect("the model is supported");
    let image = Pictures::lesions().picture(index).expect("the lesion exists").resized(16, 16).values();
    let scores: Vec<f64> = graph.evaluate(&image).expect("the shapes fit").into_iter().map(f64::from).collect();
    assert_eq!(scores.len(), 1);
    decide(&scores)
}

#[test]
fn one_score_decides_by_its_sign_at_every_step() {
    let bench = Bench::empty();
    let model = lesion_model().display().to_string();
    bench.ok(&format!("compile {model} -o m.clp --calibrate {}", lesion_folder().display()));
    bench.ok("keygen --program m.clp --out k -q");
    let classes: Vec<usize> = (0..8).map(clear_lesion).collect();
    assert!(classes.contains(&0) && classes.contains(&1), "both decisions are seen: {classes:?}");
    for (index, class) in classes.iter().enumerate() {
        // The lesions are shown by turns, benign ones first.
        let (name, number) = [("benign", 1), ("malignant", 5)][index % 2];
        let file = lesion_folder().join(format!("test/{name}/lesion-{}.png", number + index / 2));
        let report = bench.run(&format!("demo {model} --image {} --json --threads 1", file.display())).json();
        assert_eq!((&report["encrypted"], &report["agree"]), (&(*class).into(), &true.into()), "{index}");
        assert!(report["label"].is_null() && report["peak_rss_bytes"].as_u64() > Some(1 << 20));
        bench.ok(&format!("encrypt --program m.clp --key k/secret.cls --image {} -o in.clx -q", file.display()));
        bench.ok("run --program m.clp --keys k/keys.clk --input in.clx -o out.clx -q");
        let decide = "decrypt --program m.clp --key k/secret.cls --input out.clx";
        assert_eq!(bench.ok(decide).stdout, format!("{class}\n"), "{index}");
        assert_eq!(bench.run(&format!("{decide} --json")).json()["class"], *class);
    }
    let text = bench.ok(&format!("demo {model} --index 1 -v")).stdout;
    assert!(text.contains("drawn lesions, image 1") && text.contains("process ") && text.contains("label"), "{text}");
    let forced = Bench::finish(bench.command().args(["demo", &model]).env("CLICOLOR_FORCE", "1")).stdout;
    assert!(forced.contains('\u{2580}'));
    let exact =
        bench.command().args(["demo", &model]).env("CLICOLOR_FORCE", "1").env("COLORTERM", "truecolor").output();
    assert!(String::from_utf8_lossy(&exact.expect("the command starts").stdout).contains("38;2;"));
    bench.run(&format!("demo {model} --index 8")).fails(2, "0 to 7");
    bench.run("encrypt --program m.clp --key k/secret.cls --lesion 8 -o x.clx").fails(2, "0 to 7");
    bench.run("encrypt --program m.clp --key k/secret.cls --lesion 0 -o x.clx").fails(3, "768 values");
}

/// Two digits in one ciphertext, and a decision on each.
#[test]
fn images_share_a_ciphertext() {
    let bench = Bench::empty();
    bench.ok("compile mnist-micro -o m.clp --images-per-ciphertext 2 -q");
    bench.ok("keygen --program m.clp --out k -q");
    bench.run("encrypt --program m.clp --key k/secret.cls --digit 3 -o x.clx").fails(3, "1568 values");
    bench.ok("encrypt --program m.clp --key k/secret.cls --digit 3 17 -o in.clx -q");
    bench.ok("run --program m.clp --keys k/keys.clk --input in.clx -o out.clx -q");
    let decrypted = bench.run("decrypt --program m.clp --key k/secret.cls --input out.clx --json").json();
    let graph = models::by_name("mnist-micro").expect("embedded").graph();
    let class = |index| {
        let scores = graph.evaluate(&Digits::drawn().image(index).expect("a digit")).expect("the shapes fit");
        scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |best| best.0)
    };
    assert_eq!(decrypted["classes"], serde_json::json!([class(3), class(17)]));
    let text = bench.ok("decrypt --program m.clp --key k/secret.cls --input out.clx").stdout;
    assert_eq!(text, format!("{}\n{}\n", class(3), class(17)));
    bench.run("compile mnist-micro -o n.clp --images-per-ciphertext 3").fails(5, "not a power of two");
}

/// The whole way of the embedded network, whose program is tens of MiB: compiled once.
#[test]
fn lesions_are_called_benign_or_malignant() {
    let bench = Bench::empty();
    let report = bench.run("compile melanoma -o m.clp --json").json();
    assert_eq!((&report["model"], &report["levels"]), (&"melanoma".into(), &9.into()));
    bench.ok("keygen --program m.clp --out k -q");
    bench.ok("encrypt --program m.clp --key k/secret.cls --lesion 1 -o in.clx -q");
    let inputs = (0..).map(|i| format!("in.{i}.clx")).take_while(|name| bench.path(name).exists());
    let inputs = inputs.collect::<Vec<_>>().join(" ");
    let run = bench.run(&format!("run --program m.clp --keys k/keys.clk --input {inputs} -o out.clx --json"));
    assert_fields(&run.json(), RUN_FIELDS);
    let graph = models::by_name("melanoma").expect("embedded").graph();
    let scores = graph.evaluate(&Pictures::lesions().image(1).expect("a lesion")).expect("the shapes fit");
    let class = usize::from(scores[0] > 0.0);
    let decide = "decrypt --program m.clp --key k/secret.cls --input out.clx";
    assert_eq!(bench.ok(decide).stdout, ["benign\n", "malignant\n"][class]);
    let json = bench.run(&format!("{decide} --json")).json();
    assert_eq!((&json["class"], &json["class_name"]), (&class.into(), &graph.labels[class].as_str().into()));
    let accuracy = bench.run("accuracy melanoma --fixtures --program m.clp --images 2 --clear-images 2 --json").json();
    assert_eq!(accuracy["agreement"], 1.0);
    // Without the compiler the whole run stays within the budget of memory.
    #[cfg(target_os = "linux")]
    assert!(accuracy["peak_rss_bytes"].as_u64() < Some(600 << 20), "{accuracy}");
}

#[test]
fn photographs_that_cannot_be_read_are_refused() {
    let bench = Bench::empty();
    bench.ok(&format!("compile {} -o m.clp -q", lesion_model().display()));
    bench.ok("keygen --program m.clp --out k -q");
    let encrypt =
        |file: &str| bench.run(&format!("encrypt --program m.clp --key k/secret.cls -o x.clx --image {file}"));
    let png = std::fs::read(lesion_folder().join("test/benign/lesion-1.png")).expect("a lesion");
    bench.write("cut.png", &png[..png.len() / 2]);
    encrypt("cut.png").fails(3, "cut.png: damaged or cut image");
    bench.write("text.jpg", b"certainly no image");
    encrypt("text.jpg").fails(3, "text.jpg: neither a PNG nor a JPEG file");
    encrypt("gone.jpg").fails(3, "gone.jpg");
    let grey = image::GrayImage::from_fn(40, 20, |x, y| image::Luma([(x * y) as u8]));
    grey.save(bench.path("grey.png")).expect("the image is written");
    let noted = encrypt("grey.png");
    assert_eq!(noted.code, 0, "{}", noted.stderr);
    assert!(noted.stderr.contains("grey.png is grey") && noted.stderr.contains("40x20 pixels, squashed to 16x16"));
    let clear = image::RgbaImage::from_pixel(16, 16, image::Rgba([1, 2, 3, 4]));
    clear.save(bench.path("clear.png")).expect("the image is written");
    encrypt("clear.png").fails(3, "transparent");
    image::RgbImage::new(28, 28).save(bench.path("colour.png")).expect("the image is written");
    bench.run("demo mnist-micro --image colour.png").fails(3, "reads grey");
    image::GrayImage::new(28, 28).save(bench.path("digit.png")).expect("the image is written");
    bench.ok("demo mnist-micro --image digit.png");
    bench.run("demo mnist-micro --image digit.png --index 3").fails(2, "cannot be used with");
}

const TWO_CLASSES: &str = "auc auc_interval balanced_accuracy balanced_accuracy_interval sensitivity sensitivity_interval \
    specificity specificity_interval clear_auc clear_auc_interval clear_balanced_accuracy \
    clear_balanced_accuracy_interval clear_sensitivity clear_sensitivity_interval clear_specificity \
    clear_specificity_interval peak_rss_bytes side_by_side cache_bytes";

#[test]
fn accuracy_of_one_score_reports_both_classes_and_resumes() {
    let bench = Bench::empty();
    let model = lesion_model().display().to_string();
    let folder = lesion_folder().display().to_string();
    bench.ok(&format!("compile {model} -o m.clp -q"));
    let run = |more: &str| bench.run(&format!("accuracy {model} --folder {folder} --program m.clp {more}"));
    let whole = run("--json --resume state").json();
    assert_fields(&whole, TWO_CLASSES);
    assert_eq!((&whole["images"], &whole["agreement"]), (&8.into(), &1.0.into()), "all images of a folder");
    assert_eq!(whole["auc"], whole["clear_auc"]);
    let right = (0..8).filter(|&i| clear_lesion(i) == i % 2).count();
    assert_eq!(whole["clear_accuracy"], right as f64 / 8.0);

    // What was done is not done again, and more images go on from there.
    let again = run("--resume state");
    assert!(again.stderr.contains("8 of 8 images were done before"), "{}", again.stderr);
    assert!(again.stdout.contains("AUC") && again.stdout.contains("sensitivity"), "{}", again.stdout);
    run("--images 3 --resume part -q");
    let rest = run("--resume part --json").json();
    assert_eq!((&rest["images"], &rest["clear_auc"]), (&8.into(), &whole["clear_auc"]));

    // Damage and mistakes are errors, and the file stays as it is.
    for (name, bytes) in [
        ("cut", &bench.read("state")[..100]),
        ("flipped", &bench.read("state").iter().enumerate().map(|(i, &b)| b ^ u8::from(i == 200)).collect::<Vec<_>>()),
        ("text", b"some text"),
    ] {
        bench.write(name, bytes);
        run(&format!("--resume {name}")).fails(3, name);
        assert_eq!(bench.read(name), bytes);
    }
    bench.ok(&format!("compile {model} -o other.clp --weights ntt -q"));
    let other = bench.run(&format!("accuracy {model} --folder {folder} --program other.clp --resume state"));
    other.fails(4, "of another program");
    bench.run(&format!("accuracy {model} --fixtures --program m.clp --resume state")).fails(5, "takes 768 values");
    bench.run("accuracy mnist-micro --fixtures --program m.clp").fails(4, "of the model");
    assert_eq!(bench.run(&format!("accuracy {model} --folder {folder} --memory 1MiB --json")).json()["cache_bytes"], 0);
}

#[test]
fn folders_of_images_that_do_not_fit_are_refused() {
    let bench = Bench::empty();
    let model = lesion_model().display().to_string();
    let missing = bench.run("accuracy melanoma --data nowhere");
    missing.fails(6, "nowhere");
    assert!(missing.stderr.contains("--data DIR") && missing.stderr.contains("--fixtures"), "{}", missing.stderr);
    std::fs::create_dir(bench.path("data")).expect("a folder");
    bench.run("accuracy melanoma --data data").fails(6, "data/melanoma/isic");
    bench.run(&format!("accuracy {model} --data data")).fails(2, "no data set is known");
    bench.run(&format!("accuracy {model} --folder data")).fails(6, "labels.csv");
    bench.run("accuracy mnist-micro --folder data").fails(6, "data");
    std::fs::create_dir_all(bench.path("data/test/benign")).expect("a folder");
    bench.run(&format!("accuracy {model} --folder data")).fails(3, "holds no image");
    bench.write("data/labels.csv", b"file,split,label\nx.png,test,benign\n");
    let gone = bench.run(&format!("accuracy {model} --folder data"));
    gone.fails(3, "labels.csv, line 2: there is no file x.png");
    assert!(gone.stderr.contains("hint: "), "{}", gone.stderr);
    bench.run(&format!("compile {model} -o x.clp --calibrate data")).fails(3, "no row of the split \"train\"");
}

/// A network that gives a mask: a logit for each pixel, positive where the smoothed colour picture is dark. Its input is 16x16.
fn mask_model() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/onnx/darkness.onnx").display().to_string()
}

/// Half of the pixels dark: a mask with a vertical edge.
fn two_halves(path: PathBuf, width: u32, height: u32) -> Vec<bool> {
    let dark = |x: u32| x < width / 2;
    let level = |x| image::Rgb([if dark(x) { 30 } else { 220 }; 3]);
    image::RgbImage::from_fn(width, height, |x, _| level(x)).save(path).expect("the image is written");
    (0..width * height).map(|i| dark(i % width)).collect()
}

/// Pixels of a mask file.
fn mask_at(bench: &Bench, name: &str) -> (u32, u32, Vec<bool>) {
    let mask = image::open(bench.path(name)).expect(name).into_luma8();
    assert!(mask.pixels().all(|p| p.0[0] == 0 || p.0[0] == 255));
    (mask.width(), mask.height(), mask.pixels().map(|p| p.0[0] == 255).collect())
}

/// Pixels on which two masks differ.
fn differing(a: &[bool], b: &[bool]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a != b).count()
}

#[test]
fn masks_go_the_way_of_four_parties() {
    let bench = Bench::empty();
    bench.ok(&format!("compile {} -o m.clp -q", mask_model()));
    bench.ok("keygen --program m.clp --out k -q");
    let truth = two_halves(bench.path("photo.png"), 40, 24);
    std::fs::create_dir_all(bench.path("in")).expect("a folder");
    std::fs::create_dir_all(bench.path("out")).expect("a folder");

    // Tiles at the picture's own scale.
    let report =
        bench.run("encrypt --program m.clp --key k/secret.cls --image photo.png --tile -o in/photo.clx --json").json();
    assert_eq!(report["tiling"], "in/photo.tiles.json");
    let inputs = report["files"].as_array().expect("files").len();
    assert!(inputs >= 6 && inputs.is_multiple_of(6), "3 x 2 tiles: {report}");
    let record: Value = serde_json::from_slice(&bench.read("in/photo.tiles.json")).expect("a record");
    assert_eq!((&record["picture"], &record["tile"]), (&serde_json::json!([40, 24]), &serde_json::json!([16, 16])));
    assert_eq!((&record["columns"], &record["rows"]), (&serde_json::json!([0, 12, 24]), &serde_json::json!([0, 8])));
    assert_eq!(record["program"], report["program"]);
    let run = bench.run("run --program m.clp --keys k/keys.clk --input in -o out/photo.clx --json").json();
    assert_eq!(run["tiles"], 6);
    let decrypt = "decrypt --program m.clp --key k/secret.cls --input out --tiling in/photo.tiles.json";
    let decrypted = bench.run(&format!("{decrypt} -o mask.png --overlay photo.png --json")).json();
    assert_eq!((&decrypted["width"], &decrypted["height"]), (&40.into(), &24.into()));
    assert!(decrypted["scores"].is_null() && decrypted["class"].is_null());
    let (width, height, mask) = mask_at(&bench, "mask.png");
    assert_eq!((width, height), (40, 24));
    assert!(differing(&mask, &truth) <= 24 * 2, "the edge alone: {}", differing(&mask, &truth));
    let overlay = image::open(bench.path("mask.overlay.png")).expect("the overlay");
    assert_eq!((overlay.width(), overlay.height()), (520, 312));
    assert!(bench.ok(decrypt).stdout.contains("% of 40x24 pixels; -o FILE.png"));

    // The same in one process, by two other ways to hold keys.
    for option in ["", "--mapped", "--memory 1MiB --threads 2"] {
        let whole =
            format!("run --program m.clp --keys k/keys.clk --key k/secret.cls --image photo.png --tile {option}");
        let outcome = bench.ok(&format!("{whole} -o whole.png"));
        assert!(outcome.stderr.contains("warning: ") && outcome.stderr.contains("gateway"), "{}", outcome.stderr);
        assert!(differing(&mask_at(&bench, "whole.png").2, &mask) <= 2, "{option}");
    }

    // Squashed, and scaled back.
    bench.ok("encrypt --program m.clp --public k/public.clu --image photo.png -o one.clx -q");
    let ones: Vec<String> =
        (0..inputs / 6).map(|i| if inputs == 6 { "one.clx".into() } else { format!("one.{i}.clx") }).collect();
    bench.ok(&format!("run --program m.clp --keys k/keys.clk --input {} -o answer.clx -q", ones.join(" ")));
    bench.ok("decrypt --program m.clp --key k/secret.cls --input answer.clx --tiling one.tiles.json -o one.png");
    let (width, height, one) = mask_at(&bench, "one.png");
    assert_eq!((width, height), (40, 24));
    assert!(differing(&one, &truth) <= 24 * 4, "{}", differing(&one, &truth));
    bench.ok("decrypt --program m.clp --key k/secret.cls --input answer.clx -o small.png");
    assert_eq!(mask_at(&bench, "small.png").0, 16);

    // What does not fit is named.
    let refused = |arguments: &str, code, fragment| bench.run(arguments).fails(code, fragment);
    refused(
        "decrypt --program m.clp --key k/secret.cls --input answer.clx --tiling in/photo.tiles.json",
        2,
        "6 tiles, 1 results",
    );
    refused(&decrypt.replace("in/photo.tiles.json", "photo.png"), 3, "no tiling");
    refused(&decrypt.replace("in/photo.tiles.json", "gone.json"), 3, "gone.json");
    bench.write(
        "odd.json",
        &String::from_utf8_lossy(&bench.read("in/photo.tiles.json")).replace("[0,8]", "[0,9]").into_bytes(),
    );
    refused(&decrypt.replace("in/photo.tiles.json", "odd.json"), 3, "do not cover");
    two_halves(bench.path("other.png"), 30, 30);
    refused(&format!("{decrypt} -o x.png --overlay other.png"), 4, "30x30 pixels, the mask 40x24");
    refused(&format!("{decrypt} -o no/x.png"), 7, "no/x.png");
    bench.ok(&format!("compile {} -o ntt.clp --weights ntt -q", mask_model()));
    refused("encrypt --program m.clp --key k/secret.cls --image photo.png other.png -o x.clx", 2, "one picture; 2");
    refused(
        "encrypt --program m.clp --key k/secret.cls --image photo.png --tile --resize -o x.clx",
        2,
        "cannot be used",
    );
    refused("run --program m.clp --keys k/keys.clk --image photo.png -o x.png", 2, "--key");
    refused("run --program m.clp --keys k/keys.clk --input k -o x.clx", 3, "no ciphertext");
    bench.write("cut.png", &bench.read("photo.png")[..40]);
    refused("run --program m.clp --keys k/keys.clk --key k/secret.cls --image cut.png -o x.png", 3, "cut.png: damaged");
    assert!(!bench.path("x.clx").exists() && !bench.path("x.png").exists());
}

#[test]
fn masks_are_shown_and_judged() {
    let bench = Bench::empty();
    for name in ["a", "b", "c"] {
        for part in ["images", "masks"] {
            std::fs::create_dir_all(bench.path(&format!("set/{part}"))).expect("a folder");
        }
        let truth = two_halves(bench.path(&format!("set/images/{name}.png")), 32, 16);
        let mask = truth.iter().map(|&p| if p { 255 } else { 0 }).collect();
        let mask = image::GrayImage::from_raw(32, 16, mask).expect("a mask");
        mask.save(bench.path(&format!("set/masks/{name}.png"))).expect("the mask is written");
    }
    bench.ok(&format!("compile {} -o m.clp -q", mask_model()));
    let judge = format!("accuracy {} --folder set --program m.clp --tile", mask_model());
    let report = bench.run(&format!("{judge} --json --resume state")).json();
    assert_fields(
        &report,
        "model data images clear_images foreground background right_pixels dice_difference largest_dice_difference \
         pixel_agreement least_pixel_agreement max_error infer_ms_median tiles images_per_second",
    );
    assert_eq!((&report["images"], &report["tiles"]), (&3.into(), &2.into()));
    assert!(report["pixel_agreement"].as_f64() > Some(0.99), "{report}");
    let encrypted = &report["foreground"]["encrypted"];
    assert_fields(encrypted, "dice iou pooled_dice pooled_iou");
    assert!(encrypted["dice"]["mean"].as_f64() > Some(0.9), "{report}");
    let again = bench.ok(&format!("{judge} --resume state"));
    assert!(again.stderr.contains("3 of 3 images were done before"), "{}", again.stderr);
    for part in ["Dice", "IoU", "same pixels", "change of Dice", "foreground", "background", "2 tiles"] {
        assert!(again.stdout.contains(part), "{part} in {}", again.stdout);
    }
    std::fs::remove_file(bench.path("set/masks/b.png")).expect("the mask is removed");
    bench.run(&judge).fails(3, "b.png: no mask of that name");
    two_halves(bench.path("set/masks/b.png"), 32, 16);
    bench.run(&judge).fails(3, "the mask has colours");
    std::fs::remove_dir_all(bench.path("set/masks")).expect("the masks are removed");
    bench.run(&judge).fails(6, "folder of masks");
    bench.run("accuracy unet-lesion --data nowhere").fails(6, "nowhere");
    bench.run("accuracy mnist-micro --fixtures --tile").fails(2, "--tile");

    let shown =
        bench.run(&format!("demo {} --image set/images/a.png --tile --output shown --json", mask_model())).json();
    assert_fields(&shown, RUN_FIELDS);
    assert_eq!((&shown["tiles"], &shown["mask"]), (&2.into(), &"shown/mask.png".into()));
    assert!(shown["pixel_agreement"].as_f64() > Some(0.99) && shown["dice"].is_null());
    assert_eq!(mask_at(&bench, "shown/mask.png").0, 32);
    let text = bench.ok(&format!("demo {} --image set/images/a.png", mask_model())).stdout;
    assert!(text.contains("cipherlens-demo/overlay.png") && text.contains("of 32x16 pixels"), "{text}");
    bench.run(&format!("demo {} --image set/images/a.png --output m.clp/x", mask_model())).fails(7, "m.clp/x");
}

#[test]
fn each_output_of_a_program_is_decrypted_by_itself() {
    let bench = Bench::empty();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/onnx/two_outputs.onnx");
    bench.ok(&format!("compile {} -o m.clp -q", model.display()));
    bench.ok("keygen --program m.clp --out k -q");
    let values: Vec<f32> = (0..64).map(|i| (i * 37 % 64) as f32 / 64.0).collect();
    let words: Vec<String> = values.iter().map(f32::to_string).collect();
    bench.write("x.txt", words.join(" ").as_bytes());
    bench.ok("encrypt --program m.clp --key k/secret.cls --values x.txt -o in.clx -q");
    bench.ok("run --program m.clp --keys k/keys.clk --input in.clx -o out.clx -q");
    let graph = cipherlens::compile::load(&model, None).expect("the model is supported");
    let clear = graph.evaluate_all(&[values]).expect("the shapes fit");
    for (i, (name, &tensor)) in ["scores", "energy"].iter().zip(&graph.outputs).enumerate() {
        let decrypt = format!("decrypt --program m.clp --key k/secret.cls --input out.{i}.clx --scores --json");
        let found = bench.run(&decrypt).json();
        assert_eq!(&found["output"], name);
        let scores: Vec<f64> = serde_json::from_value(found["scores"].clone()).expect("scores");
        let expected: Vec<f64> = clear[tensor].iter().copied().map(f64::from).collect();
        assert_eq!((scores.len(), &found["class"]), (expected.len(), &decide(&expected).into()));
        let size = expected.iter().fold(0f64, |m, x| m.max(x.abs()));
        assert!(scores.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 0.05 * size), "{scores:?}, not {expected:?}");
    }
    bench.run("decrypt --program m.clp --key k/secret.cls --input out.0.clx out.1.clx").fails(2, "no mask");
    bench.run("decrypt --program m.clp --key k/secret.cls --input out.0.clx -o x.png").fails(2, "no mask");
}

#[test]
fn inspect_knows_every_kind_of_file() {
    let bench = Bench::evaluated();
    let inspect = |file: &str| bench.run(&format!("inspect {file} --program m.clp --json --security")).json();
    let program = inspect("m.clp");
    assert_fields(
        &program,
        "prime_bits special_bits digit precision_bits kind bytes fingerprint set n layers instructions keys arena_bytes cache_bytes key_bytes inputs outputs moduli",
    );
    let keys = inspect("k/keys.clk");
    assert_fields(&keys, "kind bytes key_id set keys moduli");
    assert_eq!(keys["keys"].as_array().expect("keys").len(), program["keys"].as_array().expect("keys").len());
    let (input, output) = (inspect("in.clx"), inspect("out.clx"));
    assert_fields(&input, "kind role index key_id program set limbs log_scale form");
    assert_eq!((&input["role"], &input["form"]), (&"input".into(), &"seeded".into()));
    assert_eq!((&output["role"], &output["form"]), (&"output".into(), &"full".into()));
    assert_eq!(input["program"], program["fingerprint"]);
    assert_eq!((&input["key_id"], &output["key_id"]), (&keys["key_id"], &keys["key_id"]));
    let secret = inspect("k/secret.cls");
    assert_eq!(
        fields(&secret),
        [
            "bytes",
            "error_sigma",
            "key_id",
            "kind",
            "log_qp",
            "max_log_qp",
            "moduli",
            "n",
            "path",
            "secret_distribution",
            "security_bits",
            "security_table",
            "set",
            "set_fingerprint",
        ],
        "nothing of a secret key but its identity and set"
    );
    assert_eq!(inspect("k/public.clu")["key_id"], secret["key_id"]);
    for file in ["k/secret.cls", "k/public.clu", "k/keys.clk", "in.clx"] {
        assert!(bench.ok(&format!("inspect {file}")).stdout.contains("--program"), "{file} belongs to no named set");
    }
    for (file, kind) in
        [(&program, "program"), (&keys, "evaluation_keys"), (&input, "ciphertext"), (&secret, "secret_key")]
    {
        assert_eq!(file["kind"], kind);
        for modulus in file["moduli"].as_array().expect("moduli") {
            assert!(modulus["log_qp"].as_f64() <= modulus["max_log_qp"].as_f64(), "{modulus}");
        }
    }
    assert!(bench.ok("inspect m.clp -v --security").stdout.contains("uniform ternary"));
    for (name, offset) in
        [("m.clp", 3000), ("k/keys.clk", 100_000), ("in.clx", 3000), ("k/secret.cls", 3000), ("k/public.clu", 3000)]
    {
        bench.damage(name, offset);
        bench.run("inspect cut").fails(3, "cut short");
        bench.run("inspect flipped").fails(3, "damaged");
    }
    bench.write("text", b"some text that is no Cipherlens file");
    bench.run("inspect text").fails(3, "not a Cipherlens file");
    bench.run("inspect nothing").fails(3, "nothing");
}

#[test]
fn crosscheck_climbs_the_ladder() {
    let bench = Bench::empty();
    let report = bench.run("crosscheck mnist-micro --images 4 --html page.html --json").json();
    assert_fields(&report, "model set images predicted_precision_bits layers first_beyond wrapped");
    assert_eq!(report["layers"].as_array().expect("layers").len(), 3);
    assert!(bench.ok("crosscheck mnist-micro --images 2").stdout.contains("within its interval"));
    bench.run("crosscheck mnist-micro --set n1").fails(2, "no set is called");
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let bench = Bench::evaluated();
    bench.ok("keygen --program m.clp --out other -q");
    bench.ok("compile mnist-micro --set n13 -o n13.clp -q");
    bench.ok("keygen --program n13.clp --out k13 -q");
    bench.ok("compile mnist-micro --weights ntt -o ntt.clp -q");
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/onnx/conv_plain.onnx");
    bench.ok(&format!("compile {} --set n12 -o small.clp -q", small.display()));
    bench.ok("compile mnist-micro --set n12 -o n12.clp -q");
    bench.ok("keygen --program n12.clp --out k12 -q");
    bench.ok("encrypt --program n12.clp --key k12/secret.cls --digit 7 -o in12.clx -q");
    bench.ok("keygen --program small.clp --secret k12/secret.cls --out few -q");
    let cases = [
        ("decrypt --program m.clp --key other/secret.cls --input out.clx", "belongs to the key"),
        ("decrypt --program m.clp --key k/secret.cls --input in.clx", "no output"),
        ("decrypt --program ntt.clp --key k/secret.cls --input out.clx", "belongs to the program"),
        ("decrypt --program n13.clp --key k/secret.cls --input out.clx", "n13"),
        ("decrypt --program n13.clp --key k12/secret.cls --input out.clx", "n12, the program to n13"),
        ("decrypt --program n13.clp --key k13/secret.cls --input out.clx", "another parameter set"),
        ("run --program m.clp --keys other/keys.clk --input in.clx -o x.clx", "different secret keys"),
        ("run --program m.clp --keys k13/keys.clk --input in.clx -o x.clx", "k13/keys.clk"),
        ("run --program m.clp --keys k13/keys.clk --input in.clx -o x.clx --mapped", "k13/keys.clk"),
        ("run --program m.clp --keys k13/keys.clk --input in.clx -o x.clx --stream-keys", "k13/keys.clk"),
        ("run --program n12.clp --keys few/keys.clk --input in12.clx -o x.clx", "few/keys.clk: no "),
        ("run --program ntt.clp --keys k/keys.clk --input in.clx -o x.clx", "another program"),
        ("run --program m.clp --keys k/keys.clk --input out.clx -o x.clx", "not an input"),
        ("run --program n13.clp --keys k13/keys.clk --input in.clx -o x.clx", "another parameter set"),
        ("encrypt --program n13.clp --key k/secret.cls --digit 0 -o x.clx", "n13"),
        ("encrypt --program n13.clp --public k/public.clu --digit 0 -o x.clx", "n13"),
        ("keygen --program n13.clp --secret k/secret.cls --out x", "n13"),
    ];
    for (arguments, fragment) in cases {
        let outcome = bench.run(arguments);
        outcome.fails(4, fragment);
        assert!(outcome.stderr.contains("\nhint: "), "{arguments}: {}", outcome.stderr);
    }
    assert!(!bench.path("x.clx").exists() && !bench.path("x").exists());
}

#[test]
fn damaged_and_mistaken_files_are_refused() {
    let bench = Bench::evaluated();
    let cases = [
        ("m.clp", 20_000, "run --program FILE --keys k/keys.clk --input in.clx -o x.clx"),
        ("m.clp", 40, "run --program FILE --keys k/keys.clk --input in.clx -o x.clx"),
        ("m.clp", 60_000, "encrypt --program FILE --key k/secret.cls --digit 0 -o x.clx"),
        ("k/keys.clk", 200, "run --program m.clp --keys FILE --input in.clx -o x.clx"),
        ("k/keys.clk", 1_000_000, "run --program m.clp --keys FILE --input in.clx -o x.clx"),
        ("k/keys.clk", 1_000_000, "run --program m.clp --keys FILE --input in.clx -o x.clx --mapped"),
        ("k/keys.clk", 200, "run --program m.clp --keys FILE --input in.clx -o x.clx --stream-keys"),
        ("k/keys.clk", 1_000_000, "run --program m.clp --keys FILE --input in.clx -o x.clx --stream-keys --threads 2"),
        ("in.clx", 10_000, "run --program m.clp --keys k/keys.clk --input FILE -o x.clx"),
        ("out.clx", 10_000, "decrypt --program m.clp --key k/secret.cls --input FILE"),
        ("k/secret.cls", 1000, "decrypt --program m.clp --key FILE --input out.clx"),
        ("k/public.clu", 1000, "encrypt --program m.clp --public FILE --digit 0 -o x.clx"),
    ];
    for (file, offset, arguments) in cases {
        bench.damage(file, offset);
        for (name, fragment) in [("cut", "cut short"), ("flipped", "damaged")] {
            let outcome = bench.run(&arguments.replace("FILE", name));
            outcome.fails(3, name);
            assert!(outcome.stderr.contains(fragment), "{}", outcome.stderr);
        }
        bench.run(&arguments.replace("FILE", "absent")).fails(3, "absent");
        let mistaken = if file == "in.clx" || file == "out.clx" { "m.clp" } else { "in.clx" };
        bench.run(&arguments.replace("FILE", mistaken)).fails(3, mistaken);
    }
    assert!(!bench.path("x.clx").exists());
}

#[test]
fn images_of_the_wrong_shape_and_unknown_indices_are_refused() {
    let bench = Bench::new();
    let encrypt = |source: &str| bench.run(&format!("encrypt --program m.clp --key k/secret.cls -o x.clx {source}"));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/digits");
    encrypt("--digit 300").fails(2, "0 to 299");
    encrypt(&format!("--image {}:300", fixtures.join("images.idx3-ubyte.gz").display())).fails(2, "300");
    encrypt(&format!("--image {}", fixtures.join("labels.idx1-ubyte.gz").display())).fails(3, "784");
    encrypt("--image m.clp").fails(3, "not an IDX file");
    encrypt("--image nothing.idx:3").fails(3, "nothing.idx");
    encrypt("--mnist-index 0 --data nowhere").fails(6, "nowhere");
    for (name, content, fragment) in [
        ("short.json", "[1, 2, 3]", "784 values (shape [1, 28, 28]), 3 were given"),
        ("word.json", "[1, \"two\"]", "\"two\""),
        ("broken.json", "[1, 2", "broken.json"),
        ("word.txt", "1 two", "\"two\" is not a number"),
        ("infinite.txt", "1 inf", "value 1 is not finite"),
    ] {
        bench.write(name, content.as_bytes());
        encrypt(&format!("--values {name}")).fails(3, fragment);
    }
    bench.write("huge.txt", "1e30 ".repeat(784).as_bytes());
    encrypt("--values huge.txt").fails(3, "cannot encrypt");
    encrypt("").fails(2, "--digit");
    encrypt("--digit 1 --mnist-index 2").fails(2, "cannot be used with");
    bench.run("demo mnist-micro --index 300").fails(2, "0 to 299");
    bench.run("demo mnist-micro --mnist-index 0 --data nowhere").fails(6, "nowhere");
    bench.run("run --program m.clp --keys k/keys.clk -o x.clx").fails(2, "--input");
    assert!(!bench.path("x.clx").exists());
}

#[test]
fn unwritable_output_is_an_error_and_leaves_nothing_behind() {
    let bench = Bench::evaluated();
    let missing = bench.run("encrypt --program m.clp --key k/secret.cls --digit 0 -o no/such/x.clx");
    missing.fails(7, "no/such/x.clx");
    assert!(missing.stderr.contains("mkdir -p no/such"));
    bench.run("compile mnist-micro -o no/x.clp").fails(7, "no/x.clp");
    bench.run("run --program m.clp --keys k/keys.clk --input in.clx -o no/x.clx").fails(7, "no/x.clx");
    bench.run("run --program m.clp --keys k/keys.clk --input in.clx -o k").fails(7, "cannot write k");
    let partial = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("an entry").file_name().to_string_lossy().contains("partial")
    };
    assert!(!std::fs::read_dir(bench.0.path()).expect("the folder").any(partial));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_an_error_and_stays_a_device() {
    use std::os::unix::fs::FileTypeExt;
    let bench = Bench::evaluated();
    bench.run("encrypt --program m.clp --key k/secret.cls --digit 0 -o /dev/full").fails(7, "/dev/full");
    assert!(std::fs::metadata("/dev/full").expect("/dev/full").file_type().is_char_device());
    for arguments in ["inspect m.clp", "inspect m.clp --json", "completions bash", "demo mnist-micro --json"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let status = bench.command().args(arguments.split(' ')).stdout(full).status().expect("the command starts");
        assert_eq!(status.code(), Some(7), "{arguments}");
    }
}

#[test]
fn quiet_commands_say_nothing_and_completions_cover_the_commands() {
    let bench = Bench::evaluated();
    for arguments in [
        "compile mnist-micro -o m2.clp -q",
        "keygen --program m.clp --out k2 -q",
        "encrypt --program m.clp --key k/secret.cls --digit 1 -o i.clx -q",
        "run --program m.clp --keys k/keys.clk --input in.clx -o o.clx -q",
    ] {
        let outcome = bench.ok(arguments);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""), "{arguments}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = bench.ok(&format!("completions {shell}")).stdout;
        assert!(script.contains("accuracy") && script.contains("keygen"), "{shell}");
    }
}

/// The help texts, as `fixtures/cli/help.txt` keeps them. `UPDATE_GOLDEN=1` writes that file anew.
#[test]
fn help_is_as_recorded() {
    let bench = Bench::empty();
    let mut text = bench.ok("--help").stdout;
    let list = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<String> = list.filter_map(|line| line.split_whitespace().next()).map(String::from).collect();
    let nested = "bench strategies".to_owned();
    for command in commands.iter().filter(|command| *command != "help").chain([&nested]) {
        let help = bench.ok(&format!("{command} --help")).stdout;
        let own = help.split("\nGlobal options:").next().unwrap_or_default();
        text += &format!("\n--- {command}\n{own}");
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/cli/help.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &text).expect("the golden file can be written");
    }
    let recorded = std::fs::read_to_string(&golden).expect("fixtures/cli/help.txt");
    for (number, (now, then)) in text.lines().zip(recorded.lines()).enumerate() {
        assert_eq!(now, then, "line {} of {}; UPDATE_GOLDEN=1 where it is meant", number + 1, golden.display());
    }
    assert_eq!(text.lines().count(), recorded.lines().count(), "UPDATE_GOLDEN=1 where it is meant");
}
