//! What a board is given, and what this machine makes of it.

use cipherlens::compile::{CompileOptions, compile};
use cipherlens::contract::Contract;
use cipherlens::meta::Meta;
use cipherlens_kernel::engine::{Engine, Progress};
use cipherlens_kernel::keys::MappedKeys;
use cipherlens_kernel::program::Program;
use cipherlens_tests::fixtures::{digits, model};
use cipherlens_tests::lab::{Lab, arena, outputs};
use cipherlens_tests::sha256;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A program, keys for it and an encrypted digit.
#[derive(Clone)]
pub struct Files {
    pub program: Vec<u8>,
    /// The constants that an image for the program is built with.
    pub contract: String,
    pub keys: Vec<u8>,
    pub input: Vec<u8>,
}

pub static MICRO: LazyLock<Files> = LazyLock::new(|| Files::new("mnist-micro"));
pub static MNIST: LazyLock<Files> = LazyLock::new(|| Files::new("mnist"));

/// The whole run of a model on this machine.
pub fn whole(model: &str) -> &'static Here {
    static MICRO_HERE: LazyLock<Here> = LazyLock::new(|| MICRO.run_here(&[], None));
    static MNIST_HERE: LazyLock<Here> = LazyLock::new(|| MNIST.run_here(&[], None));
    if model == "mnist" { &MNIST_HERE } else { &MICRO_HERE }
}

/// The files of a model.
pub fn files(model: &str) -> &'static Files {
    if model == "mnist" { &MNIST } else { &MICRO }
}

impl Files {
    /// A model of the repository, a drawn digit, fixed seeds.
    fn new(name: &str) -> Self {
        let compiled = compile(&model(name), &CompileOptions::default()).unwrap();
        let contract = Contract::new(&compiled.report).rust();
        let program = compiled.bytes;
        let view = Program::verify(&program).unwrap();
        let mut lab = Lab::new(*view.set(), 33);
        let keys = lab.keys(&view);
        let meta: Meta = serde_json::from_slice(view.meta()).unwrap();
        let [packing] = &meta.inputs[0].ciphertexts[..] else { panic!("a board has one input") };
        let input = lab.encrypt(&view, 0, &packing.pack(&digits().images[0]), false);
        Self { program, contract, keys, input }
    }

    pub fn program(&self) -> Program<'_> {
        Program::verify(&self.program).unwrap()
    }

    /// The run of a board on this machine: from the start, or from a checkpoint, to the end or to a number of steps.
    pub fn run_here(&self, checkpoint: &[u8], stop: Option<u32>) -> Here {
        let program = self.program();
        let mut memory = arena(program.arena_bytes());
        let keys = MappedKeys::verify(&self.keys).unwrap();
        let mut engine = Engine::new(program, keys, bytemuck::cast_slice_mut(&mut memory)).unwrap();
        if checkpoint.is_empty() {
            engine.set_input(&self.input).unwrap();
        } else {
            engine.resume(checkpoint).unwrap();
        }
        let mut here = Here::default();
        let mut current = checkpoint.is_empty().then_some(0);
        loop {
            let progress = engine.step().unwrap();
            here.steps += 1;
            let next = match progress {
                Progress::Preparing { .. } => None,
                Progress::Running { instruction, .. } => Some(instruction),
                Progress::Done => Some(program.instructions()),
            };
            if let Some(next) = next
                && let Some(done) = current.replace(next).filter(|done| *done != next)
            {
                let instruction = program.instruction(done).unwrap();
                let limbs = instruction.limbs - usize::from(instruction.rescale);
                let digest = engine.buffer_digest(instruction.dst, limbs).unwrap();
                here.digests.instructions.insert(done, cipherlens::files::hex(&digest));
            }
            if stop == Some(here.steps) {
                here.checkpoint = vec![0; engine.checkpoint_bytes().unwrap()];
                engine.checkpoint(&mut here.checkpoint).unwrap();
                return here;
            }
            if progress == Progress::Done {
                here.output = outputs(&engine).unwrap().remove(0);
                here.digests.output = sha256(&here.output);
                return here;
            }
        }
    }
}

/// A run on this machine.
#[derive(Default)]
pub struct Here {
    pub digests: Digests,
    pub steps: u32,
    /// Empty if the run was stopped.
    pub output: Vec<u8>,
    /// Empty if it was not.
    pub checkpoint: Vec<u8>,
}

/// What must be the same on every board.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
pub struct Digests {
    /// Of the buffer that an instruction defines, by instruction.
    pub instructions: BTreeMap<usize, String>,
    pub output: String,
}

impl Digests {
    /// The first thing that differs from what is expected.
    pub fn difference(&self, expected: &Self, program: &Program<'_>) -> Option<String> {
        for (i, digest) in &expected.instructions {
            if self.instructions.get(i) != Some(digest) {
                let layer = program.layer_name(program.instruction(*i).unwrap().layer);
                let found = self.instructions.get(i).map_or("nothing", |found| found);
                return Some(format!("instruction {i}, layer {layer}: {found} is not {digest}"));
            }
        }
        (self != expected).then(|| format!("output: {} is not {}", self.output, expected.output))
    }

    /// Without the instructions before number `first`, which a resumed run does not see.
    pub fn from(&self, first: usize) -> Self {
        let instructions = self.instructions.range(first..).map(|(i, digest)| (*i, digest.clone())).collect();
        Self { instructions, output: self.output.clone() }
    }
}

/// What goes wrong on a board on purpose.
#[derive(Clone, Copy)]
pub enum Fault {
    None,
    SelfTest(u32),
    Read(u32),
    Hang(u32),
    Recursion,
}

/// As `tests/firmware/board/src/job.rs` reads it.
#[derive(Clone)]
pub struct Job {
    pub files: Files,
    /// Keys are in the file `keys` beside the emulator, not in the job.
    pub streamed: bool,
    /// Where to go on; empty for the start.
    pub checkpoint: Vec<u8>,
    /// The watchdog's, in instructions.
    pub period: u32,
    /// The step after which the power goes, and the bytes of the checkpoint that are written until then.
    pub power: (u32, u32),
    pub fault: Fault,
}

impl Job {
    /// From the start to the end on mapped keys.
    pub fn new(files: &Files, period: u32) -> Self {
        Self {
            files: files.clone(),
            streamed: false,
            checkpoint: Vec::new(),
            period,
            power: (0, 0),
            fault: Fault::None,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let keys = if self.streamed { &[][..] } else { &self.files.keys };
        let files = [&self.files.program, keys, &self.files.input, &self.checkpoint];
        let (fault, at) = match self.fault {
            Fault::None => (0, 0),
            Fault::SelfTest(result) => (1, result),
            Fault::Read(number) => (2, number),
            Fault::Hang(step) => (3, step),
            Fault::Recursion => (4, 0),
        };
        let [program, keys, input, checkpoint] = files.map(|file| u32::try_from(file.len()).unwrap());
        let (steps, written) = self.power;
        let mark = u32::from_le_bytes(*b"CLJB");
        let streamed = u32::from(self.streamed);
        let words = [mark, program, keys, input, checkpoint, streamed, self.period, steps, written, fault, at];
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        bytes.resize(64, 0);
        for file in files {
            bytes.extend(file);
            bytes.resize(bytes.len().next_multiple_of(16), 0);
        }
        bytes
    }
}
