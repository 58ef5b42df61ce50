//! The boards, their images, and what runs these.

use crate::budgets::Figures;
use crate::job::{Digests, Job, files};
use cipherlens_tests::firmware::Firmware;
use defmt_decoder::{DecodeError, Table};
use object::{Object, ObjectSymbol};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A run takes seconds; what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A file of `tests/firmware/board/boards`, and what it stands for.
pub struct Board {
    pub name: &'static str,
    pub model: &'static str,
    pub target: &'static str,
    emulator: &'static str,
    package: &'static str,
    machine: &'static str,
    options: &'static [&'static str],
    /// Address and bytes of the memory that job and output are in.
    memory: (u64, u64),
}

pub const CORTEX_M7: Board = Board {
    name: "mps2-an500",
    model: "mnist-micro",
    target: "thumbv7em-none-eabihf",
    emulator: "qemu-system-arm",
    package: "qemu-system-arm",
    machine: "mps2-an500",
    options: &[],
    memory: (0x6000_0000, 16 << 20),
};

pub const CORTEX_M55: Board = Board {
    name: "mps3-an547",
    target: "thumbv8m.main-none-eabihf",
    machine: "mps3-an547",
    memory: (0x6000_0000, 2 << 30),
    ..CORTEX_M7
};

pub const CORTEX_M55_DDR: Board = Board { name: "mps3-an547-ddr", model: "mnist", ..CORTEX_M55 };

pub const AARCH64: Board = Board {
    name: "virt-aarch64",
    model: "mnist",
    target: "aarch64-unknown-none",
    emulator: "qemu-system-aarch64",
    machine: "virt",
    options: &["-cpu", "cortex-a72", "-m", "64M", "-nic", "none"],
    memory: (0x4000_0000, 64 << 20),
    ..CORTEX_M7
};

pub const RISCV64: Board = Board {
    name: "virt-riscv64",
    model: "mnist",
    target: "riscv64gc-unknown-none-elf",
    emulator: "qemu-system-riscv64",
    package: "qemu-system-misc",
    machine: "virt",
    options: &["-bios", "none", "-m", "64M", "-nic", "none"],
    memory: (0x8000_0000, 64 << 20),
};

/// An image that has run.
pub struct Run {
    pub status: Option<i32>,
    pub digests: Digests,
    /// Figures that the image logged, by name.
    pub figures: Figures,
    pub log: Vec<String>,
    /// The memory for the output, as the run left it.
    pub output: Vec<u8>,
    /// The file `checkpoint`.
    pub checkpoint: Vec<u8>,
    pub seconds: f64,
}

/// Images by board and by the program's constants.
static IMAGES: Mutex<BTreeMap<(&str, String), PathBuf>> = Mutex::new(BTreeMap::new());

impl Board {
    /// The image for the board's own model, built once.
    pub fn image(&self) -> PathBuf {
        self.image_for(&files(self.model).contract)
    }

    /// The image for a program with these constants, built once.
    fn image_for(&self, constants: &str) -> PathBuf {
        let mut images = IMAGES.lock().unwrap();
        let number = images.len();
        let build = || {
            let start = Instant::now();
            // In one folder, to build dependencies once; so two boards of one target replace each other's image.
            let firmware = Firmware { name: "board", target: self.target, variant: "all" };
            let contract = Path::new(env!("CARGO_TARGET_TMPDIR")).join("contract.rs");
            std::fs::write(&contract, constants).unwrap();
            let built = firmware.build(env!("CARGO_TARGET_TMPDIR"), |cargo| {
                cargo.env("BOARD", self.name).env("CONTRACT", &contract);
            });
            let image = built.with_file_name(format!("{}-{number}", self.name));
            std::fs::copy(built, &image).unwrap();
            println!("{}: built in {:.1} s", self.name, start.elapsed().as_secs_f64());
            image
        };
        images.entry((self.name, constants.into())).or_insert_with(build).clone()
    }

    /// Runs a job, with its keys in a file if it streams them.
    pub fn run(&self, case: &str, job: &Job) -> Run {
        let image = self.image_for(&job.files.contract);
        self.run_image(&image, case, &job.bytes(), job.streamed.then_some(&job.files.keys))
    }

    /// Runs a job that may be none, on the image for the board's own model.
    pub fn run_bytes(&self, case: &str, job: &[u8], keys: Option<&Vec<u8>>) -> Run {
        self.run_image(&self.image(), case, job, keys)
    }

    /// Loads image and job, and waits for the end.
    fn run_image(&self, image: &Path, case: &str, job: &[u8], keys: Option<&Vec<u8>>) -> Run {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boards").join(format!("{}-{case}", self.name));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("job"), job).unwrap();
        if let Some(keys) = keys {
            std::fs::write(dir.join("keys"), keys).unwrap();
        }
        let elf = std::fs::read(image).unwrap();
        let file = object::File::parse(&*elf).unwrap();
        let address = |name| file.symbols().find(|s| s.name() == Ok(name)).unwrap().address();
        let (memory, bytes) = self.memory;
        let start = Instant::now();
        let mut child = Command::new(self.emulator)
            .current_dir(&dir)
            .args(["-machine", &format!("{},memory-backend=memory", self.machine)])
            .args(self.options)
            // In a file, for this test to see what a run leaves.
            .args(["-object", &format!("memory-backend-file,id=memory,size={bytes},mem-path=memory,share=on")])
            .args(["-display", "none", "-monitor", "none", "-serial", "none", "-icount", "shift=0"])
            .args(["-chardev", "file,id=log,path=log"])
            .args(["-semihosting-config", "enable=on,target=native,chardev=log", "-device"])
            .arg(format!("loader,file=job,addr={:#x},force-raw=on", address("__job")))
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
            figures: Figures::new(),
            log: log.clone(),
            output: part(&dir.join("memory"), address("__output") - memory, address("__output_end") - memory),
            checkpoint: std::fs::read(dir.join("checkpoint")).unwrap_or_default(),
            seconds,
        };
        std::fs::remove_dir_all(&dir).unwrap();
        for line in log {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["instruction", i, digest] => {
                    run.digests.instructions.insert(i.parse().unwrap(), digest.into());
                }
                ["output", digest] => run.digests.output = digest.into(),
                [name, figure] if figure.parse::<u64>().is_ok() => {
                    run.figures.insert(name.into(), figure.parse().unwrap());
                }
                _ => {}
            }
        }
        run
    }
}

/// Bytes of a file.
fn part(path: &Path, start: u64, end: u64) -> Vec<u8> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path).unwrap();
    file.seek(SeekFrom::Start(start)).unwrap();
    let mut bytes = vec![0; (end - start) as usize];
    file.read_exact(&mut bytes).unwrap();
    bytes
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
