//! A small batch program that no compiler wrote, with every kind of instruction, and runs of it.

use crate::assemble::{double, join_as, words};
use crate::lab::{Lab, arena};
use cipherlens::encrypt::{EncryptionKey, Target, encrypt};
use cipherlens_kernel::batch::format::{BATCH_SECTIONS, BatchSection, FLAG_ACCUMULATE, NO_BIAS, opcode};
use cipherlens_kernel::batch::{BatchEngine, BatchProgram, BatchProgress, Operation};
use cipherlens_kernel::ckks::Scale;
use cipherlens_kernel::engine::EngineError;
use cipherlens_kernel::keys::{KeyRequest, KeySource, MappedKeys};
use cipherlens_kernel::math::Detected;
use cipherlens_kernel::parallel::Parallel;
use cipherlens_kernel::params::{ParamSet, named};
use cipherlens_kernel::wire::FileKind;

/// The sections of a batch program.
pub type BatchSections = [Vec<u8>; BATCH_SECTIONS];

/// Its set: four limbs and one special prime.
pub const SET: ParamSet = named::N12;

/// Instruction words: opcode, limbs, count, first, cells a and b and the result, extra.
type Line = (u32, u32, u32, u32, [u32; 3], [u32; 2], [u32; 3], u32);

/// Four inputs, a linear layer of two results with biases, their squares, relinearised and rescaled, two more inputs, a sum
/// of all that, and one output for each of two loads.
pub fn sections() -> BatchSections {
    let mut sections: BatchSections = Default::default();
    let lines: [Line; 9] = [
        (opcode::LOAD, 3, 4, 0, [0; 3], [0; 2], [0, 3, 2], 0),
        (opcode::LINEAR, 3, 2, 0, [0, 3, 2], [0; 2], [24, 3, 2], 1),
        (opcode::MUL, 3, 2, 0, [24, 3, 2], [24, 3], [36, 3, 3], 0),
        (opcode::DIVIDE, 3, 2, 0, [36, 3, 3], [0; 2], [54, 2, 2], 1),
        (opcode::STORE, 2, 1, 0, [54, 2, 2], [0; 2], [0; 3], 0),
        (opcode::LOAD, 3, 2, 4, [0; 3], [0; 2], [0, 3, 2], 0),
        (opcode::DIVIDE, 3, 2, 0, [0, 3, 2], [0; 2], [62, 2, 2], 1),
        (opcode::LINEAR, 2, 1, 1, [0, 2, 2], [0; 2], [70, 2, 2], 2),
        (opcode::STORE, 2, 1, 1, [70, 2, 2], [0; 2], [0; 3], 0),
    ];
    let [lo, hi] = double(Scale::new(18f64.exp2()).expect("a scale"));
    for (code, limbs, count, first, a, b, to, extra) in lines {
        let out = &mut sections[BatchSection::Instructions as usize];
        words(out, &[code, 0, limbs, count, first]);
        words(out, &a);
        words(out, &b);
        words(out, &to);
        words(out, &[extra, lo, hi]);
    }
    // Taps are first rows of source cells; weights of a tap for every column.
    let pool: [i32; 24] = [
        0, 6, 12, 18, // taps of group 0
        1, -2, 3, 4, -5, 6, 7, -8, // its weights
        1000, 0, -1000, -1, // its biases
        54, 58, 2, -3, // group 1: taps, weights
        62, 66, 5, 1, // group 2
    ];
    words(&mut sections[BatchSection::Words as usize], &pool.map(|w| w as u32));
    let groups = &mut sections[BatchSection::Groups as usize];
    words(groups, &[0, 4, 4, 2, 0, 12, 0, 3]);
    words(groups, &[16, 2, 18, 1, 0, NO_BIAS, 0, 0]);
    words(groups, &[20, 2, 22, 1, 0, NO_BIAS, FLAG_ACCUMULATE, 0]);
    words(&mut sections[BatchSection::Manifest as usize], &[0, 3]);
    words(&mut sections[BatchSection::Names as usize], &[0, 4]);
    sections[BatchSection::Text as usize] = b"test".to_vec();
    sections[BatchSection::Meta as usize] = b"{}".to_vec();
    let mut name = [0; 8];
    name[..SET.name().len()].copy_from_slice(SET.name().as_bytes());
    let params = &mut sections[BatchSection::Params as usize];
    words(params, &[SET.log_n(), SET.digit() as u32, SET.limbs() as u32, SET.special() as u32, 3, 74, 6, 2]);
    params.extend(name);
    words(params, SET.q());
    words(params, SET.p());
    sections
}

/// The program file of these sections.
pub fn join(sections: &BatchSections) -> Vec<u8> {
    join_as(FileKind::BatchProgram, sections, &SET.fingerprint())
}

/// Where each input is taken in: its limbs and scale.
pub fn ports(program: &BatchProgram<'_>) -> Vec<(usize, Scale)> {
    let loads = (0..program.instructions()).filter_map(|i| program.instruction(i));
    let loads = loads.filter(|i| matches!(i.operation, Operation::Load { .. }));
    loads.flat_map(|i| std::iter::repeat_n((i.limbs, i.scale), i.count)).collect()
}

/// The program with keys, inputs and outputs.
pub struct BatchRun {
    /// The program file.
    pub program: Vec<u8>,
    /// The key file.
    pub keys: Vec<u8>,
    /// Input files.
    pub inputs: Vec<Vec<u8>>,
    /// What an engine makes of them.
    pub outputs: Vec<Vec<u8>>,
    /// The key holder.
    pub lab: Lab,
}

impl BatchRun {
    /// Keys, and inputs of small random values, from a seed.
    pub fn new(seed: u8) -> Self {
        let (program, mut lab) = (join(&sections()), Lab::new(SET, seed));
        let view = BatchProgram::verify(&program).expect("a valid batch program");
        let requests: Vec<KeyRequest> = (0..view.keys()).filter_map(|i| view.key(i)).collect();
        let keys = lab.bundle(&requests);
        let mut lcg = crate::Lcg::new(seed.into());
        let inputs: Vec<Vec<u8>> = ports(&view)
            .into_iter()
            .enumerate()
            .map(|(index, (limbs, scale))| {
                let target = Target { program: view.fingerprint(), index: index as u32, limbs, scale };
                let Lab { secret, ring, encoder, random, .. } = &mut lab;
                encrypt(&lcg.units(SET.n()), &target, EncryptionKey::Secret(secret), ring, encoder, random)
                    .expect("the values fit")
            })
            .collect();
        let mut run = Self { program, keys, inputs, outputs: Vec::new(), lab };
        run.outputs = {
            let mut memory = arena(run.view().arena_bytes(1));
            let mut engine = run.engine(&mut memory, 1);
            drive(&mut engine, &run.inputs, &cipherlens_kernel::parallel::Serial).expect("the program runs")
        };
        run
    }

    /// The program.
    pub fn view(&self) -> BatchProgram<'_> {
        BatchProgram::verify(&self.program).expect("a valid batch program")
    }

    /// The keys, mapped.
    pub fn mapped(&self) -> MappedKeys<'_> {
        MappedKeys::verify(&self.keys).expect("a valid key file")
    }

    /// An engine in `memory`.
    pub fn engine<'r, 'm>(&'r self, memory: &'m mut [u32], workers: usize) -> BatchEngine<'r, 'm, MappedKeys<'r>> {
        let memory = bytemuck::cast_slice_mut(memory);
        BatchEngine::new(self.view(), self.mapped(), memory, Detected::new(), workers).expect("memory enough")
    }
}

/// Runs an engine from where it is to its end and returns the outputs that it gives out, in order.
///
/// # Errors
/// As the engine, and an input that is not there as [`EngineError::InputMissing`].
pub fn drive<K: KeySource + Sync, P: Parallel>(
    engine: &mut BatchEngine<'_, '_, K>,
    inputs: &[Vec<u8>],
    pool: &P,
) -> Result<Vec<Vec<u8>>, EngineError> {
    let mut outputs = Vec::new();
    loop {
        match engine.run_on(pool, |_| ())? {
            BatchProgress::Inputs(wanted) => {
                for index in wanted {
                    engine.set_input(inputs.get(index).ok_or(EngineError::InputMissing { index })?)?;
                }
            }
            BatchProgress::Outputs(ready) => {
                for index in ready {
                    let mut bytes = vec![0; engine.output_bytes(index)?];
                    engine.write_output(index, &mut bytes)?;
                    outputs.push(bytes);
                }
            }
            BatchProgress::Running { .. } => {}
            BatchProgress::Done => return Ok(outputs),
        }
    }
}
