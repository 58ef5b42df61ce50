//! The same bits on every target: all limb passes of all backends, and one encrypted inference with a checkpoint in the
//! middle, resumed on streamed keys. Every target passes the self-test.
//!
//! `tests/firmware/conformance` is built for each target and run under an emulator or an interpreter. All digests must
//! be those of x86-64, and the inference that of `fixtures/known-answers.json`.

use cipherlens::compile::{CompileOptions, compile};
use cipherlens::meta::Meta;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::FileKind;
use cipherlens_tests::assemble::seal;
use cipherlens_tests::firmware::Firmware;
use cipherlens_tests::fixtures::{bless, digits, model, root};
use cipherlens_tests::lab::Lab;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Instant;

/// A job's parts.
#[derive(Clone)]
struct Parts {
    seed: u32,
    fault: u32,
    program: Vec<u8>,
    keys: Vec<u8>,
    input: Vec<u8>,
}

impl Parts {
    /// The files behind the known answers: `mnist-micro`, a drawn digit, fixed seeds.
    fn new() -> Self {
        let program = compile(&model("mnist-micro"), &CompileOptions::default()).unwrap().bytes;
        let view = Program::verify(&program).unwrap();
        let mut lab = Lab::new(*view.set(), 33);
        let keys = lab.keys(&view);
        let meta: Meta = serde_json::from_slice(view.meta()).unwrap();
        let [packing] = &meta.inputs[0].ciphertexts[..] else { panic!("a job has one input") };
        let input = lab.encrypt(&view, 0, &packing.pack(&digits().images[0]), false);
        Self { seed: 41, fault: 0, program, keys, input }
    }

    /// The job as the image reads it.
    fn bytes(&self) -> Vec<u8> {
        let sections = [&self.program, &self.keys, &self.input];
        let [program, keys, input] = sections.map(|s| u32::try_from(s.len()).unwrap());
        let mut bytes: Vec<u8> =
            [self.seed, self.fault, program, keys, input, 0].into_iter().flat_map(u32::to_le_bytes).collect();
        for section in sections {
            bytes.extend(section);
            bytes.resize(bytes.len() + section.len().next_multiple_of(16) - section.len(), 0);
        }
        bytes
    }

    /// The same with one bit of the encrypted image flipped, in a file that is valid again.
    fn with_flipped_bit(mut self) -> Self {
        let word = self.input.len() - 4;
        self.input[word] ^= 1;
        let set = Program::verify(&self.program).unwrap().set().fingerprint();
        seal(&mut self.input, FileKind::Ciphertext, &set);
        self
    }
}

static PARTS: LazyLock<Parts> = LazyLock::new(Parts::new);

/// What a target answers, line by line: backend, digests of the passes, of a checkpoint and of the output.
type Answer = Vec<(String, Result<[String; 3], String>)>;

fn parse(text: &str) -> Answer {
    let line = |line: &str| {
        let (backend, rest) = line.split_once(' ').unwrap_or((line, ""));
        let result = match rest.split(' ').collect::<Vec<_>>()[..] {
            ["passes", passes, "checkpoint", checkpoint, "output", output] => {
                Ok([passes, checkpoint, output].map(String::from))
            }
            _ => Err(rest.into()),
        };
        (backend.into(), result)
    };
    text.lines().map(line).collect()
}

/// The digests that all backends of x86-64 agree on.
static EXPECTED: LazyLock<[String; 3]> = LazyLock::new(|| {
    let answer = X86_64.answer(&PARTS);
    let first = answer[0].1.clone().unwrap();
    for (backend, result) in &answer {
        assert_eq!(result.as_ref(), Ok(&first), "{backend}");
    }
    first
});

/// Runs an executable, under an emulator if one is named.
fn execute(image: &Path, emulator: Option<&str>, job: &[u8]) -> String {
    let mut command = Command::new(emulator.map_or(image.as_os_str(), OsStr::new));
    if emulator.is_some() {
        command.arg(image);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap_or_else(|error| {
        let hint = emulator.map_or("", |_| "; run `apt-get install qemu-user-static`");
        panic!("cannot run {command:?}: {error}{hint}")
    });
    // An image reads its whole job before it writes.
    child.stdin.take().unwrap().write_all(job).expect("the image reads its job");
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}: {}\n{text}", image.display(), output.status);
    text
}

/// Runs a WebAssembly module in an interpreter.
fn interpret(image: &Path, job: &[u8]) -> String {
    struct Host {
        job: Vec<u8>,
        read: usize,
        text: Vec<u8>,
    }
    let engine = wasmi::Engine::default();
    let module = wasmi::Module::new(&engine, std::fs::read(image).unwrap()).unwrap();
    let mut store = wasmi::Store::new(&engine, Host { job: job.into(), read: 0, text: Vec::new() });
    let mut linker = wasmi::Linker::new(&engine);
    let memory = |caller: &wasmi::Caller<'_, Host>| caller.get_export("memory").unwrap().into_memory().unwrap();
    let read = move |mut caller: wasmi::Caller<'_, Host>, at: u32, len: u32| -> u32 {
        let (bytes, host) = memory(&caller).data_and_store_mut(&mut caller);
        let count = (host.job.len() - host.read).min(len as usize);
        bytes[at as usize..][..count].copy_from_slice(&host.job[host.read..][..count]);
        host.read += count;
        count as u32
    };
    let write = move |mut caller: wasmi::Caller<'_, Host>, at: u32, len: u32| {
        let (bytes, host) = memory(&caller).data_and_store_mut(&mut caller);
        host.text.extend(&bytes[at as usize..][..len as usize]);
    };
    linker.func_wrap("host", "read", read).unwrap();
    linker.func_wrap("host", "write", write).unwrap();
    let instance = linker.instantiate_and_start(&mut store, &module).unwrap();
    let start = instance.get_typed_func::<(), ()>(&store, "_start").unwrap();
    let outcome = start.call(&mut store, ());
    let text = String::from_utf8(store.into_data().text).unwrap();
    outcome.unwrap_or_else(|error| panic!("{}: {error}\n{text}", image.display()));
    text
}

/// A target and what runs it.
struct Target {
    name: &'static str,
    /// Of two builds for one target.
    variant: &'static str,
    rustflags: Option<&'static str>,
    emulator: Option<&'static str>,
    backends: &'static [&'static str],
}

impl Target {
    const fn new(name: &'static str, emulator: Option<&'static str>, backends: &'static [&'static str]) -> Self {
        Self { name, variant: "default", rustflags: None, emulator, backends }
    }

    fn answer(&self, parts: &Parts) -> Answer {
        let &Self { name: target, variant, rustflags, emulator, .. } = self;
        let start = Instant::now();
        let image = Firmware { name: "conformance", target, variant }.build(env!("CARGO_TARGET_TMPDIR"), |cargo| {
            if let Some(flags) = rustflags {
                cargo.env("RUSTFLAGS", flags);
            }
        });
        let (built, start) = (start.elapsed(), Instant::now());
        let job = parts.bytes();
        let text = if target.starts_with("wasm32") { interpret(&image, &job) } else { execute(&image, emulator, &job) };
        println!(
            "{target} ({variant}): built in {:.1} s, ran in {:.1} s",
            built.as_secs_f64(),
            start.elapsed().as_secs_f64()
        );
        print!("{text}");
        parse(&text)
    }

    /// Builds, runs and compares.
    fn check(&self) {
        let answer = self.answer(&PARTS);
        let backends: Vec<&str> = answer.iter().map(|(backend, _)| backend.as_str()).collect();
        assert_eq!(backends, self.backends, "{}: backends", self.name);
        for (backend, result) in &answer {
            assert_eq!(result.as_ref(), Ok(&*EXPECTED), "{}, {backend}: not the bits of x86-64", self.name);
        }
    }
}

/// The emulator of a Linux target; none where this machine runs it itself.
const fn unless(native: bool, emulator: &'static str) -> Option<&'static str> {
    if native && cfg!(target_os = "linux") { None } else { Some(emulator) }
}

const EMULATOR_X86_64: Option<&str> = unless(cfg!(target_arch = "x86_64"), "qemu-x86_64-static");
/// With whichever of AVX2 and AVX-512 the processor has.
const X86_64: Target = Target::new("x86_64-unknown-linux-gnu", EMULATOR_X86_64, &[]);
const AARCH64: Target = Target::new("aarch64-unknown-none", Some("qemu-aarch64-static"), &["portable", "neon"]);
const WASM32: Target = Target::new("wasm32-unknown-unknown", None, &["portable"]);
const WASM32_SIMD: Target = Target {
    variant: "simd128",
    rustflags: Some("-C target-feature=+simd128"),
    backends: &["portable", "simd128"],
    ..WASM32
};

#[test]
fn x86_64_gives_the_known_answer() {
    if bless() {
        return;
    }
    let stored = std::fs::read(root().join("fixtures/known-answers.json")).unwrap();
    let stored: BTreeMap<String, String> = serde_json::from_slice(&stored).unwrap();
    assert_eq!(EXPECTED[2], stored["mnist-micro-output-secret"]);
}

/// Without vector registers or floating-point instructions.
#[test]
fn x86_64_without_vectors() {
    Target::new("x86_64-unknown-none", EMULATOR_X86_64, &["portable"]).check();
}

#[test]
fn aarch64() {
    AARCH64.check();
}

#[test]
fn wasm32() {
    WASM32.check();
}

#[test]
fn wasm32_with_vectors() {
    WASM32_SIMD.check();
}

#[test]
fn cortex_m() {
    Target::new("thumbv7em-none-eabihf", Some("qemu-arm-static"), &["portable"]).check();
}

#[test]
fn riscv64() {
    Target::new("riscv64gc-unknown-none-elf", Some("qemu-riscv64-static"), &["portable"]).check();
}

/// The only target whose byte order is not that of the files.
#[test]
fn big_endian() {
    Target::new("s390x-unknown-linux-gnu", Some("qemu-s390x-static"), &["portable"]).check();
}

/// The comparison of outputs can fail: one bit of the input shows, and shows alike.
#[test]
fn a_flipped_bit_shows() {
    let parts = PARTS.clone().with_flipped_bit();
    let flipped = X86_64.answer(&parts)[0].1.clone().unwrap();
    for (backend, result) in AARCH64.answer(&parts) {
        let [passes, checkpoint, output] = result.unwrap();
        assert_eq!(passes, EXPECTED[0], "{backend}");
        assert_ne!(output, EXPECTED[2], "{backend}: the flipped bit went unnoticed");
        assert_eq!([passes, checkpoint, output], flipped, "{backend}");
    }
}

/// The comparison of passes can fail: a wrong bit in one result shows, and another seed does.
#[test]
fn a_wrong_pass_shows() {
    let parts = Parts { fault: 2, ..PARTS.clone() };
    for (backend, result) in WASM32_SIMD.answer(&parts) {
        let complaint = "differs from portable in inverse modulo 163841, N = 64, at word 32";
        assert_eq!(result, Err(complaint.into()), "{backend}");
    }
    let parts = Parts { seed: PARTS.seed ^ 1, ..PARTS.clone() };
    for (backend, result) in X86_64.answer(&parts) {
        let [passes, checkpoint, output] = result.unwrap();
        assert_ne!(passes, EXPECTED[0], "{backend}: the seed has no effect");
        assert_eq!([&checkpoint, &output], [&EXPECTED[1], &EXPECTED[2]], "{backend}");
    }
}
