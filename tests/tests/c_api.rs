//! The C interface from C: the header, the static libraries of `kernel/c` and the examples beside them, on this machine, on
//! AArch64 Linux and on a Cortex-M7 board, all with the output bits of the engine in Rust.
//!
//! `CIPHERLENS_BLESS=1` writes the header that `kernel/src/ffi.rs` gives now.

use cbindgen::{Builder, Config, DocumentationStyle, ExportConfig, Language, Style};
use cipherlens::compile::{CompileOptions, compile};
use cipherlens::meta::Meta;
use cipherlens_kernel::ffi::status::STATUSES;
use cipherlens_kernel::program::Program;
use cipherlens_tests::firmware::build_release;
use cipherlens_tests::fixtures::{bless, digits, model, root};
use cipherlens_tests::lab::{Lab, Setup, run};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};
use std::fmt::Write;
use std::fs::{read, read_to_string};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// What needs to be installed; `cargo xtask test` does it.
const PACKAGES: &str = "clang lld libc6-dev-arm64-cross libgcc-12-dev-arm64-cross qemu-user-static qemu-system-arm";

/// A run takes seconds; what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(180);

const WARNINGS: [&str; 5] = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion"];

/// The head of the header: what all functions have in common.
const HEAD: &str = "\
/* Cipherlens: evaluates convolutional networks on encrypted images, in firmware, without a heap.
 *
 *   static cipherlens_engine engine;            variables: all RAM is the caller's
 *   static cipherlens_detail detail;
 *   cipherlens_selftest(arena, sizeof arena, &detail);
 *   cipherlens_program_info(program, program_bytes, &info, &detail);
 *   cipherlens_init_mapped(&engine, program, program_bytes, keys, keys_bytes, arena, sizeof arena, &detail);
 *   cipherlens_set_input(&engine, input, input_bytes, &detail);
 *   do { cipherlens_step(&engine, &progress, &detail); feed_the_watchdog(); } while (progress.phase != CIPHERLENS_DONE);
 *   cipherlens_write_output(&engine, 0, output, sizeof output, &written, &detail);
 *
 * Functions return CIPHERLENS_OK or another status; cipherlens_strerror() describes it. detail may be null; if not, it gets the
 * numbers that belong to an error (listed with each status) and zeros on success. Other pointers must not be null unless
 * the function says so. Sizes are in bytes.
 *
 * What the caller promises: memory behind a pointer is as long as stated. Program, keys, reader's storage, directory, arena
 * and cache stay where and what they are while the engine is in use, and nobody else writes them. An engine is used by one
 * thread at a time; different engines are independent. Everything else is checked: null, misaligned and overlapping memory,
 * lengths, and every byte of every file. No function allocates, blocks, prints or aborts.
 *
 * Made from kernel/src/ffi.rs by `cargo xtask header`. */";

/// The statuses as a C enumeration.
fn statuses() -> String {
    let mut text = String::from("/* What functions return. The numbers are stable. */\nenum cipherlens_status {\n");
    for (i, entry) in STATUSES.iter().enumerate() {
        let (what, numbers) = entry.description();
        let numbers = if numbers.is_empty() { String::new() } else { format!(" ({numbers})") };
        let comma = if i + 1 < STATUSES.len() { "," } else { "" };
        writeln!(text, "  /** {what}{numbers} */\n  CIPHERLENS_{} = {}{comma}", entry.name, entry.number).unwrap();
    }
    text + "};"
}

fn header() -> String {
    let names = [
        ("EngineMemory", "cipherlens_engine"),
        ("ProgramInfo", "cipherlens_program"),
        ("Progress", "cipherlens_progress"),
        ("Reader", "cipherlens_reader"),
        ("Detail", "cipherlens_detail"),
    ];
    let config = Config {
        language: Language::C,
        cpp_compat: true,
        header: Some(HEAD.into()),
        include_guard: Some("CIPHERLENS_H".into()),
        no_includes: true,
        sys_includes: vec!["stddef.h".into(), "stdint.h".into()],
        after_includes: Some(format!("\n{}", statuses())),
        style: Style::Both,
        usize_is_size_t: true,
        documentation_style: DocumentationStyle::Doxy,
        line_length: 120,
        export: ExportConfig {
            rename: names.map(|(from, to)| (from.into(), to.into())).into(),
            exclude: vec!["Slot".into(), "Body".into(), "Entry".into()],
            ..ExportConfig::default()
        },
        ..Config::default()
    };
    let source = root().join("kernel/src");
    let bindings = Builder::new()
        .with_config(config)
        .with_src(source.join("ffi.rs"))
        .with_src(source.join("ffi/status.rs"))
        .generate()
        .expect("cbindgen reads the source");
    let mut bytes = Vec::new();
    bindings.write(&mut bytes);
    short_comments(&String::from_utf8(bytes).unwrap())
}

/// Comments of one line on one line.
fn short_comments(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (mut out, mut i) = (String::new(), 0);
    while i < lines.len() {
        let comment = |at: usize| lines.get(at).map_or("", |line| line.trim_start());
        if let ("/**", Some(what), "*/") = (comment(i), comment(i + 1).strip_prefix("* "), comment(i + 2)) {
            let indent = lines[i].trim_end_matches("/**");
            writeln!(out, "{indent}/** {what} */").unwrap();
            i += 3;
        } else {
            writeln!(out, "{}", lines[i]).unwrap();
            i += 1;
        }
    }
    out
}

fn folder() -> PathBuf {
    root().join("kernel/c")
}

#[test]
fn the_header_is_that_of_the_source() {
    let path = folder().join("include/cipherlens.h");
    let found = header();
    if bless() {
        return std::fs::write(path, found).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == found, "{} is out of date; run `cargo xtask header`", path.display());
}

/// Compiles with a compiler that must not have anything to say.
fn compile_c(compiler: &str, arguments: &[&str], rest: impl FnOnce(&mut Command)) -> bool {
    let mut command = Command::new(compiler);
    command.args(WARNINGS).args(arguments).arg("-I").arg(folder().join("include"));
    rest(&mut command);
    let output = command.output().unwrap_or_else(|error| panic!("{compiler}: {error}; apt-get install {PACKAGES}"));
    print!("{}", String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

#[test]
fn the_header_is_c99_and_cxx() {
    let header = folder().join("include/cipherlens.h");
    for language in [["-xc", "-std=c99"], ["-xc", "-std=c11"], ["-xc++", "-std=c++98"], ["-xc++", "-std=c++17"]] {
        for target in ["x86_64-linux-gnu", "thumbv7em-none-eabihf", "aarch64-linux-gnu", "riscv64-none-elf"] {
            let fine = compile_c("clang", &language, |clang| {
                clang.arg(format!("--target={target}")).args(["-ffreestanding", "-fsyntax-only"]).arg(&header);
            });
            assert!(fine, "{language:?} for {target}");
        }
    }
}

/// What an example is given and should give.
struct Files {
    program: Vec<u8>,
    keys: Vec<u8>,
    input: Vec<u8>,
    output: Vec<u8>,
}

static MICRO: LazyLock<Files> = LazyLock::new(|| {
    let program = compile(&model("mnist-micro"), &CompileOptions::default()).unwrap().bytes;
    let view = Program::verify(&program).unwrap();
    let mut lab = Lab::new(*view.set(), 33);
    let keys = lab.keys(&view);
    let meta: Meta = serde_json::from_slice(view.meta()).unwrap();
    let [packing] = &meta.inputs[0].ciphertexts[..] else { panic!("one input") };
    let input = lab.encrypt(&view, 0, &packing.pack(&digits().images[0]), false);
    let [output] =
        <[_; 1]>::try_from(run(view, &keys, std::slice::from_ref(&input), Setup::default()).unwrap()).unwrap();
    Files { program, keys, input, output }
});

/// A target that the examples are built for.
struct Target {
    /// What Rust calls it.
    name: &'static str,
    compiler: &'static str,
    flags: &'static [&'static str],
    /// What runs its programs.
    emulator: &'static [&'static str],
}

const NATIVE: Target = Target {
    name: if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" },
    compiler: "cc",
    flags: &[],
    emulator: &[],
};

const AARCH64: Target = Target {
    name: "aarch64-unknown-linux-gnu",
    compiler: "clang",
    flags: &["--target=aarch64-linux-gnu", "-fuse-ld=lld", "-static"],
    emulator: &["qemu-aarch64-static"],
};

const CORTEX_M7: Target = Target {
    name: "thumbv7em-none-eabihf",
    compiler: "clang",
    flags: &[
        "--target=thumbv7em-none-eabihf",
        "-mcpu=cortex-m7",
        "-mfloat-abi=hard",
        "-ffreestanding",
        "-nostdlib",
        "-static",
        "-fuse-ld=lld",
    ],
    emulator: &["qemu-system-arm", "-machine", "mps2-an500", "-display", "none", "-monitor", "none", "-serial", "none"],
};

/// A program that has ended.
struct Ended {
    status: Option<i32>,
    /// What it printed.
    text: String,
    /// The output file.
    output: Option<Vec<u8>>,
}

impl Ended {
    fn expect(&self, case: &str, status: i32, message: &str) {
        assert_eq!(self.status, Some(status), "{case}: {}", self.text);
        assert!(self.text.contains(message), "{case}: {}", self.text);
        assert_eq!(self.output.is_some(), status == 0, "{case}: output only on success");
    }
}

impl Target {
    /// Builds the static library.
    fn library(&self) -> PathBuf {
        self.library_with("", &[])
    }

    fn library_with(&self, variant: &str, arguments: &[&str]) -> PathBuf {
        let release =
            build_release(&folder(), self.name, env!("CARGO_TARGET_TMPDIR"), &format!("c-api{variant}"), |cargo| {
                cargo.args(arguments);
            });
        release.join("libcipherlens.a")
    }

    /// Compiles an example and links it with the library.
    fn link(&self, image: &str, sources: &[&str], flags: &[&str]) -> PathBuf {
        let library = self.library();
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c-api").join(format!("{}-{}", self.name, self.compiler));
        std::fs::create_dir_all(&dir).unwrap();
        let image = dir.join(image);
        let examples = folder().join("examples");
        let built = compile_c(self.compiler, &["-std=c99", "-O2", "-ffunction-sections"], |compiler| {
            compiler.args(self.flags).args(flags).args(sources.iter().map(|source| examples.join(source)));
            compiler.arg(library).arg("-Wl,--gc-sections").arg("-o").arg(&image);
        });
        assert!(built, "{} does not build", image.display());
        image
    }

    fn gateway(&self) -> PathBuf {
        self.link("linux", &["linux.c"], &[])
    }

    fn board(&self, image: &str, flags: &[&str]) -> PathBuf {
        let script = folder().join("examples/mps2-an500/mps2-an500.ld");
        let script = format!("-Wl,-T,{}", script.display());
        self.link(image, &["mps2-an500/main.c", "mps2-an500/board.c"], &[flags, &[&script]].concat())
    }

    /// Runs an image in a folder of its own, where `files` lie, and waits for the end.
    fn run(&self, case: &str, image: &Path, files: &[(&str, &[u8])], arguments: &[String]) -> Ended {
        let name = format!("{}-{case}", image.file_name().unwrap().display());
        let dir = image.with_file_name("runs").join(name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        for (name, bytes) in files {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
        let mut words = self.emulator.iter().map(PathBuf::from).collect::<Vec<_>>();
        if self.name.ends_with("linux-gnu") {
            words.push(image.into());
        }
        let log = || std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let start = Instant::now();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .args(arguments)
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; apt-get install {PACKAGES}", words[0].display()));
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.code();
            }
            if start.elapsed() > PATIENCE {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = read_to_string(dir.join("log")).unwrap();
        println!("{} {case}: {status:?} in {:.1} s\n{text}", self.name, start.elapsed().as_secs_f64());
        Ended { status, text, output: read(dir.join("output.clx")).ok() }
    }

    /// Runs the gateway with these options.
    fn run_gateway(&self, case: &str, image: &Path, options: &[&str], files: &Files) -> Ended {
        let list: [(&str, &[u8]); 3] =
            [("program.clp", &files.program), ("keys.clk", &files.keys), ("input.clx", &files.input)];
        let present: Vec<_> = list.into_iter().filter(|(_, bytes)| *bytes != ABSENT).collect();
        let names = ["program.clp", "keys.clk", "input.clx", "output.clx"];
        let arguments: Vec<_> = options.iter().chain(&names).map(|word| (*word).to_string()).collect();
        self.run(case, image, &present, &arguments)
    }

    /// Loads image and files and runs the board.
    fn run_board(&self, case: &str, image: &Path, files: &Files) -> Ended {
        let elf = read(image).unwrap();
        let elf = object::File::parse(&*elf).unwrap();
        let place = |name| elf.symbols().find(|symbol| symbol.name() == Ok(name)).unwrap().address();
        let list: [(&str, &str, &[u8]); 3] = [
            ("program.clp", "__program", &files.program),
            ("keys.clk", "__keys", &files.keys),
            ("input.clx", "__input", &files.input),
        ];
        let present: Vec<_> = list.into_iter().filter(|(.., bytes)| *bytes != ABSENT).collect();
        let words = ["-icount", "shift=0", "-chardev", "file,id=log,path=log,append=on"];
        let mut arguments: Vec<_> = words.map(String::from).into();
        arguments.extend(["-semihosting-config", "enable=on,target=native,chardev=log"].map(String::from));
        for (name, window, _) in &present {
            arguments.push("-device".into());
            arguments.push(format!("loader,file={name},addr={:#x},force-raw=on", place(window)));
        }
        arguments.extend(["-kernel".into(), image.display().to_string()]);
        let files: Vec<_> = present.into_iter().map(|(name, _, bytes)| (name, bytes)).collect();
        self.run(case, image, &files, &arguments)
    }
}

/// The content of a file that does not exist.
const ABSENT: &[u8] = b"absent";

/// What the functions do not have, by the parts of names that `tests/tests/no_panic.rs` looks for.
const FORBIDDEN: [&str; 7] = [
    "cipherlens_panic_is_reachable",
    "rust_begin_unwind",
    "panicking",
    "core::panic",
    "__rust_alloc",
    "__rust_realloc",
    "alloc::",
];

/// Whether the optimiser has left the panic handler in a library, because something can reach it.
fn may_panic(archive: &[u8]) -> bool {
    let mark = FORBIDDEN[0].as_bytes();
    archive.windows(mark.len()).any(|window| window == mark)
}

/// That an image holds the library and nothing of it that panics or allocates.
fn check_symbols(library: &Path, image: &Path, more: &[&str]) {
    let archive = read(library).unwrap();
    assert!(!may_panic(&archive), "{}: a panic is reachable", library.display());
    let bytes = read(image).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let names: Vec<String> = file
        .symbols()
        .filter_map(|symbol| symbol.name().ok())
        .map(|name| format!("{:#}", rustc_demangle::demangle(name)))
        .collect();
    assert!(names.iter().any(|name| name == "cipherlens_step"), "{} has no symbols", image.display());
    let found: Vec<_> = names.iter().filter(|name| FORBIDDEN.iter().chain(more).any(|f| name.contains(f))).collect();
    assert!(found.is_empty(), "{}: {found:?}", image.display());
    let size = |kinds: &[_]| file.sections().filter(|s| kinds.contains(&s.kind())).map(|s| s.size()).sum::<u64>();
    let constants = [SectionKind::ReadOnlyData, SectionKind::ReadOnlyDataWithRel, SectionKind::ReadOnlyString];
    let (code, constants) = (size(&[SectionKind::Text]), size(&constants));
    println!("{}: code {code} bytes, constants {constants} bytes, library {} bytes", image.display(), archive.len());
}

/// The functions that the header declares.
fn functions() -> Vec<String> {
    let header = read_to_string(folder().join("include/cipherlens.h")).unwrap();
    let declared = |line: &str| Some(line.split_once('(')?.0.split_once("cipherlens_")?.1.to_string());
    let lines = header.lines().filter(|line| line.starts_with(['i', 's', 'c']) && !line.contains("enum"));
    lines.filter_map(declared).map(|name| format!("cipherlens_{name}")).collect()
}

fn damaged(files: &Files) -> Vec<(&'static str, Files, i32, &'static str, &'static str)> {
    let whole = || Files {
        program: files.program.clone(),
        keys: files.keys.clone(),
        input: files.input.clone(),
        output: files.output.clone(),
    };
    let mut program = whole();
    let middle = program.program.len() / 2;
    program.program[middle] ^= 1;
    let mut keys = whole();
    keys.keys.truncate(files.keys.len() / 2);
    let mut swapped = whole();
    swapped.keys.clone_from(&files.program);
    let mut input = whole();
    input.input[4000] ^= 1;
    let mut foreign = whole();
    foreign.input.clone_from(&files.output);
    // What the gateway sees, and what the board does, which has no file system but windows of memory.
    vec![
        ("damaged-program", program, 3, "error 106: program: the file is damaged", "error 106: program: "),
        ("cut-keys", keys, 4, "error 204: keys: the file is cut short (need ", "error 206: keys: the file is damaged"),
        (
            "swapped-keys",
            swapped,
            4,
            "error 202: keys: a Cipherlens file of another kind (need 2, have 1,",
            "error 202: ",
        ),
        ("damaged-input", input, 5, "error 406: input: the file is damaged", "error 406: input: "),
        ("foreign-input", foreign, 5, "error 307: the ciphertext is not an input", "error 307: "),
    ]
}

fn gateway(target: &Target) {
    let files = &*MICRO;
    let image = target.gateway();
    check_symbols(&target.library(), &image, &[]);
    for (case, options) in [
        ("plain", &[][..]),
        ("cache", &["--cache"]),
        ("stream", &["--stream-keys"]),
        ("both", &["--cache", "--stream-keys"]),
    ] {
        let ended = target.run_gateway(case, &image, options, files);
        ended.expect(case, 0, &format!("output.clx: {} bytes\n", files.output.len()));
        assert!(ended.output.as_ref() == Some(&files.output), "{case}: other bits than the engine's");
        let program = Program::verify(&files.program).unwrap();
        let last = program.layer_name(program.instruction(program.instructions() - 1).unwrap().layer);
        assert!(ended.text.contains(&format!("/{} {last}\n", program.instructions())), "{case}: {}", ended.text);
    }
    for (case, files, status, message, _) in damaged(files) {
        target.run_gateway(case, &image, &[], &files).expect(case, status, message);
    }
    // Streamed keys are checked when they are used.
    let mut late = Files { keys: files.keys.clone(), ..damaged(files).remove(0).1 };
    late.program.clone_from(&files.program);
    *late.keys.last_mut().unwrap() ^= 1;
    target.run_gateway("late", &image, &["--stream-keys"], &late).expect(
        "late",
        6,
        "error 212: keys: a key is damaged",
    );
    late.keys.truncate(files.keys.len() - 1);
    target.run_gateway("cut", &image, &["--stream-keys"], &late).expect("cut", 4, "error 204: keys: ");
    late.keys = Vec::new();
    target.run_gateway("empty", &image, &[], &late).expect("empty", 4, "error 204: keys: ");
    late.keys = ABSENT.into();
    target.run_gateway("absent", &image, &[], &late).expect("absent", 1, "keys.clk: No such file or directory");
    let usage = "usage: linux [--cache] [--stream-keys] PROGRAM KEYS INPUT OUTPUT";
    target.run_gateway("option", &image, &["--fast"], files).expect("option", 1, usage);
    target.run_gateway("more", &image, &["more"], files).expect("more", 1, usage);
}

#[cfg(target_os = "linux")]
#[test]
fn a_gateway_on_this_machine() {
    gateway(&NATIVE);
}

#[test]
fn a_gateway_on_aarch64() {
    gateway(&AARCH64);
}

#[test]
fn a_board_with_a_cortex_m7() {
    let files = &*MICRO;
    let image = CORTEX_M7.board("mps2-an500", &[]);
    check_symbols(&CORTEX_M7.library(), &image, &["malloc", "_fail"]);
    let ended = CORTEX_M7.run_board("whole", &image, files);
    ended.expect("whole", 0, &format!("output.clx: {} bytes\n", files.output.len()));
    assert!(ended.output.as_ref() == Some(&files.output), "other bits than the engine's");
    for (case, files, status, _, message) in damaged(files) {
        CORTEX_M7.run_board(case, &image, &files).expect(case, status, message);
    }
    let nothing = Files { program: ABSENT.into(), keys: ABSENT.into(), input: ABSENT.into(), output: Vec::new() };
    CORTEX_M7.run_board("nothing", &image, &nothing).expect("nothing", 3, "error 104: program: the file is cut short");
}

/// With a period that is shorter than the run, only a watchdog that is fed stays quiet.
#[test]
fn the_watchdog_of_the_board_is_fed() {
    let fed = CORTEX_M7.board("mps2-an500-fed", &["-DWATCHDOG_MS=20"]);
    CORTEX_M7.run_board("whole", &fed, &MICRO).expect("fed", 0, "output.clx: ");
    let starved = CORTEX_M7.board("mps2-an500-starved", &["-DWATCHDOG_MS=20", "-DSTARVE_THE_WATCHDOG"]);
    CORTEX_M7.run_board("whole", &starved, &MICRO).expect("starved", 8, "the watchdog was not fed");
}

/// The examples do not call every function; an image that keeps all of them has no panic and no allocation either.
#[test]
fn no_function_panics_or_allocates() {
    let functions = functions();
    assert!(functions.len() >= 16 && functions.contains(&"cipherlens_resume".into()), "{functions:?}");
    let keep: Vec<String> = functions.iter().map(|name| format!("-Wl,-u,{name}")).collect();
    let keep: Vec<&str> = keep.iter().map(String::as_str).collect();
    let image = CORTEX_M7.board("mps2-an500-all", &keep);
    check_symbols(&CORTEX_M7.library(), &image, &["malloc", "_fail"]);
    for target in [NATIVE, AARCH64] {
        let image = target.link("linux-all", &["linux.c"], &keep);
        check_symbols(&target.library(), &image, &[]);
        let bytes = read(&image).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let there = |name: &str| file.symbols().any(|symbol| symbol.name() == Ok(name));
        assert!(functions.iter().all(|name| there(name)), "{}", image.display());
    }
    let control = CORTEX_M7.library_with("-control", &["--features", "deliberate-panic"]);
    assert!(may_panic(&read(control).unwrap()), "a deliberate panic went unnoticed");
}
