//! Whole inferences on emulated boards, without an operating system: the bits of this machine after every instruction,
//! and figures within `fixtures/budgets.toml`.
//!
//! `tests/firmware/board` is built for each board and run in QEMU, which loads program, keys and input into external
//! memory and counts instructions (`-icount shift=0`). `CIPHERLENS_BLESS=1` writes the figures as the new budgets.

use cipherlens::compile::{CompileOptions, compile};
use cipherlens::meta::Meta;
use cipherlens_kernel::engine::{Engine, Progress};
use cipherlens_kernel::keys::MappedKeys;
use cipherlens_kernel::program::Program;
use cipherlens_tests::firmware::Firmware;
use cipherlens_tests::fixtures::{bless, digits, model, root};
use cipherlens_tests::lab::{Lab, arena, outputs};
use cipherlens_tests::sha256;
use defmt_decoder::{DecodeError, Table};
use object::{Object, ObjectSection, ObjectSymbol};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// A figure may exceed its budget by one part in this many: another compiler gives other code.
const MARGIN: u64 = 20;

/// A run takes seconds; what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a board is given.
#[derive(Clone)]
struct Files {
    program: Vec<u8>,
    keys: Vec<u8>,
    input: Vec<u8>,
}

impl Files {
    /// A model of the repository, a drawn digit, fixed seeds.
    fn new(name: &str) -> Self {
        let program = compile(&model(name), &CompileOptions::default()).unwrap().bytes;
        let view = Program::verify(&program).unwrap();
        let mut lab = Lab::new(*view.set(), 33);
        let keys = lab.keys(&view);
        let meta: Meta = serde_json::from_slice(view.meta()).unwrap();
        let [packing] = &meta.inputs[0].ciphertexts[..] else { panic!("a board has one input") };
        let input = lab.encrypt(&view, 0, &packing.pack(&digits().images[0]), false);
        Self { program, keys, input }
    }

    /// As `tests/firmware/board/src/job.rs` reads it.
    fn job(&self) -> Vec<u8> {
        let files = [&self.program, &self.keys, &self.input];
        let mut bytes = b"CLJB".to_vec();
        bytes.extend(files.iter().flat_map(|file| u32::try_from(file.len()).unwrap().to_le_bytes()));
        for file in files {
            bytes.extend(file);
            bytes.resize(bytes.len().next_multiple_of(16), 0);
        }
        bytes
    }

    /// The digests of a run on this machine.
    fn digests(&self) -> Digests {
        let program = Program::verify(&self.program).unwrap();
        let mut memory = arena(program.arena_bytes());
        let keys = MappedKeys::verify(&self.keys).unwrap();
        let mut engine = Engine::new(program, keys, bytemuck::cast_slice_mut(&mut memory)).unwrap();
        engine.set_input(&self.input).unwrap();
        let mut digests = Digests::default();
        loop {
            let next = match engine.step().unwrap() {
                Progress::Preparing { .. } => continue,
                Progress::Running { instruction, .. } => instruction,
                Progress::Done => program.instructions(),
            };
            if next > digests.instructions.len() {
                let done = program.instruction(next - 1).unwrap();
                let digest = engine.buffer_digest(done.dst, done.limbs - usize::from(done.rescale)).unwrap();
                digests.instructions.push(cipherlens::files::hex(&digest));
            }
            if next == program.instructions() {
                break;
            }
        }
        digests.output = sha256(&outputs(&engine).unwrap()[0]);
        digests
    }
}

/// What must be the same on every board.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
struct Digests {
    /// Of the buffer that an instruction defines.
    instructions: Vec<String>,
    output: String,
}

impl Digests {
    /// The first thing that differs from what is expected.
    fn difference(&self, expected: &Self, program: &Program<'_>) -> Option<String> {
        for (i, digest) in expected.instructions.iter().enumerate() {
            if self.instructions.get(i) != Some(digest) {
                let layer = program.layer_name(program.instruction(i).unwrap().layer);
                let found = self.instructions.get(i).map_or("nothing", |found| found);
                return Some(format!("instruction {i}, layer {layer}: {found} is not {digest}"));
            }
        }
        (self != expected).then(|| format!("output: {} is not {}", self.output, expected.output))
    }
}

static MICRO: LazyLock<Files> = LazyLock::new(|| Files::new("mnist-micro"));
static MNIST: LazyLock<Files> = LazyLock::new(|| Files::new("mnist"));

/// A file of `tests/firmware/board/boards`, and what it stands for.
struct Board {
    name: &'static str,
    model: &'static str,
    target: &'static str,
    emulator: &'static str,
    package: &'static str,
    machine: &'static [&'static str],
}

const CORTEX_M7: Board = Board {
    name: "mps2-an500",
    model: "mnist-micro",
    target: "thumbv7em-none-eabihf",
    emulator: "qemu-system-arm",
    package: "qemu-system-arm",
    machine: &["-machine", "mps2-an500"],
};

const CORTEX_M55: Board = Board {
    name: "mps3-an547",
    target: "thumbv8m.main-none-eabihf",
    machine: &["-machine", "mps3-an547"],
    ..CORTEX_M7
};

const BOARDS: [Board; 5] = [
    CORTEX_M7,
    CORTEX_M55,
    Board { name: "mps3-an547-ddr", model: "mnist", ..CORTEX_M55 },
    Board {
        name: "virt-aarch64",
        model: "mnist",
        target: "aarch64-unknown-none",
        emulator: "qemu-system-aarch64",
        machine: &["-machine", "virt", "-cpu", "cortex-a72", "-m", "128M", "-nic", "none"],
        ..CORTEX_M7
    },
    Board {
        name: "virt-riscv64",
        model: "mnist",
        target: "riscv64gc-unknown-none-elf",
        emulator: "qemu-system-riscv64",
        package: "qemu-system-misc",
        machine: &["-machine", "virt", "-bios", "none", "-m", "128M", "-nic", "none"],
    },
];

/// An image that has run.
struct Run {
    status: Option<i32>,
    digests: Digests,
    /// Figures that the image logged, by name.
    figures: BTreeMap<String, u64>,
    log: Vec<String>,
    seconds: f64,
}

impl Board {
    fn build(&self) -> PathBuf {
        // In one folder, to build dependencies once; two boards of one target replace each other's image.
        let firmware = Firmware { name: "board", target: self.target, variant: "all" };
        firmware.build(env!("CARGO_TARGET_TMPDIR"), |cargo| {
            cargo.env("BOARD", self.name);
        })
    }

    /// Loads image and job, and waits for the end.
    fn run(&self, case: &str, image: &Path, job: &[u8]) -> Run {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boards").join(format!("{}-{case}", self.name));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("job"), job).unwrap();
        let elf = std::fs::read(image).unwrap();
        let file = object::File::parse(&*elf).unwrap();
        let place = file.symbols().find(|s| s.name() == Ok("__job")).unwrap().address();
        let start = Instant::now();
        let mut child = Command::new(self.emulator)
            .current_dir(&dir)
            .args(self.machine)
            .args(["-display", "none", "-monitor", "none", "-serial", "none", "-icount", "shift=0"])
            .args(["-chardev", "file,id=log,path=log"])
            .args(["-semihosting-config", "enable=on,target=native,chardev=log", "-device"])
            .arg(format!("loader,file=job,addr={place:#x},force-raw=on"))
            .arg("-kernel")
            .arg(image)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot run {}: {error}; run `apt-get install {}`", self.emulator, self.package)
            });
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > PATIENCE {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let seconds = start.elapsed().as_secs_f64();
        let log = decode(&elf, &std::fs::read(dir.join("log")).unwrap());
        let mut run = Run {
            status: status.code(),
            digests: Digests::default(),
            figures: BTreeMap::new(),
            log: log.clone(),
            seconds,
        };
        for line in log {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["instruction", _, digest] => run.digests.instructions.push(digest.into()),
                ["output", digest] => run.digests.output = digest.into(),
                [name, figure] if figure.parse::<u64>().is_ok() => {
                    run.figures.insert(name.into(), figure.parse().unwrap());
                }
                _ => {}
            }
        }
        run
    }

    fn files(&self) -> &'static Files {
        if self.model == "mnist" { &MNIST } else { &MICRO }
    }
}

/// The messages of a defmt log.
fn decode(elf: &[u8], bytes: &[u8]) -> Vec<String> {
    let table = Table::parse(elf).unwrap().expect("the image has a table of messages");
    let mut decoder = table.new_stream_decoder();
    decoder.received(bytes);
    let mut messages = Vec::new();
    loop {
        match decoder.decode() {
            Ok(frame) => messages.push(frame.display_message().to_string()),
            Err(DecodeError::UnexpectedEof) => return messages,
            Err(DecodeError::Malformed) => panic!("after {messages:?} the log is damaged"),
        }
    }
}

/// Sizes of an image, and that no panic is reachable in it.
fn measure(image: &Path, figures: &mut BTreeMap<String, u64>) {
    let elf = std::fs::read(image).unwrap();
    let file = object::File::parse(&*elf).unwrap();
    let size = |names: &[&str]| file.sections().filter(|s| names.contains(&s.name().unwrap())).map(|s| s.size()).sum();
    figures.insert("code".into(), size(&[".start", ".boot", ".text"]));
    figures.insert("constants".into(), size(&[".rodata", ".data"]));
    figures.insert("variables".into(), size(&[".data", ".bss"]));
    let names: Vec<_> = file.symbols().filter_map(|s| s.name().ok()).collect();
    assert!(names.iter().any(|name| name.contains("Engine")), "{} has no symbols", image.display());
    let panic = names.iter().find(|name| name.contains("cipherlens_panic_is_reachable"));
    assert_eq!(panic, None, "{}: a panic is reachable", image.display());
}

/// Figures by board: `[board]`, then `name = number`.
type Budgets = BTreeMap<String, BTreeMap<String, u64>>;

const BUDGETS: &str = "fixtures/budgets.toml";

const BUDGETS_HEAD: &str = "\
# What an inference takes on each board of tests/firmware/board, as tests/tests/boards.rs measures it: bytes (arena, code,
# constants, keys, program, stack, variables), instructions (verify: program and keys once; run: an inference with its
# transform tables; longest: the longest step, which a watchdog has to wait for) and steps.
#
# A figure that exceeds its budget by more than 5 % fails. CIPHERLENS_BLESS=1 writes what is measured.
";

fn read_budgets() -> Budgets {
    let text = std::fs::read_to_string(root().join(BUDGETS)).unwrap_or_default();
    let mut budgets = Budgets::new();
    let mut board = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            board = name.into();
        } else if let Some((name, figure)) = line.split_once(" = ") {
            let figure = figure.parse().unwrap_or_else(|_| panic!("{BUDGETS}: {line}"));
            budgets.entry(board.clone()).or_default().insert(name.into(), figure);
        }
    }
    budgets
}

fn write_budgets(budgets: &Budgets) {
    let mut text = BUDGETS_HEAD.to_string();
    for (board, figures) in budgets {
        write!(text, "\n[{board}]\n").unwrap();
        for (name, figure) in figures {
            writeln!(text, "{name} = {figure}").unwrap();
        }
    }
    std::fs::write(root().join(BUDGETS), text).unwrap();
}

/// Prints what differs from the budget and returns what exceeds it.
fn over_budget(board: &str, found: &BTreeMap<String, u64>, budget: &BTreeMap<String, u64>) -> Vec<String> {
    let mut over = Vec::new();
    for (name, &figure) in found {
        let line = match budget.get(name) {
            Some(&allowed) if figure == allowed => continue,
            Some(&allowed) => format!("{board}: {name} {figure}, budget {allowed}"),
            None => format!("{board}: {name} {figure} has no budget"),
        };
        println!("{line}");
        if budget.get(name).is_none_or(|allowed| figure > allowed + allowed / MARGIN) {
            over.push(line);
        }
    }
    over
}

const TABLE_HEAD: &str = "\
| board | model | RAM: arena + stack, KiB | flash: program + keys + code, KiB | instructions: verify + run, millions | longest step, \
thousands | output |
| --- | --- | --- | --- | --- | --- | --- |";

#[test]
fn every_board_gives_the_bits_of_this_machine() {
    let budgets = read_budgets();
    let mut found = Budgets::new();
    let (mut differences, mut over, mut table) = (Vec::new(), Vec::new(), Vec::new());
    for board in &BOARDS {
        let start = Instant::now();
        let image = board.build();
        println!("{}: built in {:.1} s", board.name, start.elapsed().as_secs_f64());
        let files = board.files();
        let mut run = board.run("whole", &image, &files.job());
        println!("{}: ran in {:.1} s", board.name, run.seconds);
        assert_eq!(run.status, Some(0), "{}: {:#?}", board.name, run.log);
        let program = Program::verify(&files.program).unwrap();
        let expected = files.digests();
        differences.extend(run.digests.difference(&expected, &program).map(|what| format!("{}: {what}", board.name)));

        let figures = &mut run.figures;
        measure(&image, figures);
        figures.insert("program".into(), files.program.len() as u64);
        figures.insert("keys".into(), files.keys.len() as u64);
        over.extend(over_budget(board.name, figures, budgets.get(board.name).unwrap_or(&BTreeMap::new())));
        let sum = |names: &[&str]| names.iter().map(|&name| figures[name]).sum::<u64>() as f64 / 1024.0;
        table.push(format!(
            "| {} | {} | {:.0} + {:.1} | {:.0} + {:.0} + {:.0} | {:.1} + {:.1} | {:.0} | {} |",
            board.name,
            board.model,
            sum(&["arena"]),
            sum(&["stack", "variables"]),
            sum(&["program"]),
            sum(&["keys"]),
            sum(&["code", "constants"]),
            figures["verify"] as f64 / 1e6,
            figures["run"] as f64 / 1e6,
            figures["longest"] as f64 / 1e3,
            &run.digests.output[..16],
        ));
        found.insert(board.name.into(), run.figures);
    }
    println!("\n{TABLE_HEAD}\n{}", table.join("\n"));
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
    if bless() {
        return write_budgets(&found);
    }
    assert!(over.is_empty(), "\n{}", over.join("\n"));
}

/// What is wrong ends the run with the status for it.
#[test]
fn faults_have_a_status() {
    let image = CORTEX_M7.build();
    let whole = &*MICRO;
    let mut damaged = whole.clone();
    let middle = damaged.program.len() / 2;
    damaged.program[middle] ^= 1;
    let mut cut = whole.clone();
    cut.keys.truncate(cut.keys.len() / 2);
    let mut foreign = whole.clone();
    foreign.input[40] ^= 1;
    // More RAM than the board's image sets aside.
    let large = Files { program: MNIST.program.clone(), ..whole.clone() };
    let cases = [
        ("no-job", vec![0; 64], 1, "Job"),
        ("damaged-program", damaged.job(), 2, "Program("),
        ("cut-keys", cut.job(), 3, "Keys("),
        ("small-arena", large.job(), 4, "Engine(ArenaTooSmall { need: "),
        ("damaged-input", foreign.job(), 5, "Input("),
        // Longer than the memory that it is in.
        ("cut-job", [b"CLJB".to_vec(), vec![0xFF; 12]].concat(), 1, "Job"),
    ];
    for (case, job, status, message) in cases {
        let run = CORTEX_M7.run(case, &image, &job);
        println!("{case}: {:?}, {:?}, {:.1} s", run.status, run.log, run.seconds);
        assert_eq!(run.status, Some(status), "{case}: {:?}", run.log);
        let [line] = &run.log[..] else { panic!("{case}: {:?}", run.log) };
        assert!(line.starts_with(message), "{case}: {line}");
    }
}

/// The comparison can fail: it names the first instruction that differs, or the output.
#[test]
fn a_difference_is_named() {
    let program = Program::verify(&MICRO.program).unwrap();
    let expected = MICRO.digests();
    assert_eq!(expected.difference(&expected, &program), None);
    let mut other = expected.clone();
    other.instructions[2..].fill("0".into());
    let layer = program.layer_name(program.instruction(2).unwrap().layer);
    let complaint = format!("instruction 2, layer {layer}: 0 is not {}", expected.instructions[2]);
    assert_eq!(other.difference(&expected, &program), Some(complaint));
    other.instructions.truncate(2);
    assert!(other.difference(&expected, &program).unwrap().contains("nothing is not"));
    let other = Digests { output: "0".into(), ..expected.clone() };
    assert_eq!(other.difference(&expected, &program), Some(format!("output: 0 is not {}", expected.output)));
}
