//! Measurements on this machine: primitives, single operations, whole models beside their predicted time.

use crate::compile::cost::{KeyUse, OperationCounts};
use crate::compile::emit::{WeightForm, emit};
use crate::compile::lower::{CostReport, Lowered, OpCost};
use crate::compile::outline::Outline;
use crate::compile::place::place;
use crate::compile::schedule::schedule;
use crate::compile::simulate::simulate_registers;
use crate::compile::slots::{SlotInput, SlotOp, SlotOpKind, SlotOutput, SlotProgram};
use crate::encode::Encoder;
use crate::encrypt::{EncryptionKey, Target, encrypt};
use crate::evaluate::Memory;
use crate::keys::{SecretKey, evaluation_keys};
use crate::meta::{Meta, MetaInput, MetaOutput, MetaPacking};
use crate::random::Random;
use crate::ring::Ring;
use anyhow::{Context, Result};
use cipherlens_kernel::math::{Backend, Detected, Modulus, TABLE_ROWS, build_table};
use cipherlens_kernel::parallel::Parallel;
use cipherlens_kernel::params::ParamSet;
use cipherlens_kernel::program::Program;
use serde::Serialize;
use std::time::Instant;

/// Median and least of repeated measurements, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Timing {
    /// Median.
    pub median_us: f64,
    /// Least.
    pub min_us: f64,
}

impl Timing {
    /// Summary of `samples`, each divided by `share`.
    ///
    /// # Panics
    /// If there is no sample.
    pub fn of(mut samples: Vec<f64>, share: f64) -> Self {
        samples.sort_by(f64::total_cmp);
        Self { median_us: samples[samples.len() / 2] / share, min_us: samples[0] / share }
    }
}

fn micros(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

/// Forward and inverse transform, folds included, under a 30-bit prime.
pub fn transforms(backend: Detected, log_n: u32, repetitions: usize) -> Option<(Timing, Timing)> {
    // 1 modulo 4N for every N up to 2^15.
    let modulus = Modulus::new(1_073_479_681);
    let n = 1usize << log_n;
    let mut words = vec![0; n * TABLE_ROWS];
    let table = build_table(&mut words, &modulus, log_n)?;
    let mut row: Vec<u32> = (0..n as u32).map(|i| i.wrapping_mul(2_654_435_761) % modulus.value()).collect();
    let mut time = |pass: &dyn Fn(&mut [u32])| {
        let sample = |_| {
            let start = Instant::now();
            pass(&mut row);
            micros(start)
        };
        Timing::of((0..repetitions.max(1)).map(sample).collect(), 1.0)
    };
    let forward = time(&|row| backend.forward(row, &table));
    Some((forward, time(&|row| backend.inverse(row, &table))))
}

/// A program of one operation on one ciphertext with `limbs` limbs: register 0 in, register 1 out.
///
/// # Errors
/// If no scale fits the set.
pub fn operation(set: ParamSet, limbs: usize, kind: SlotOpKind) -> Result<Vec<u8>> {
    let n = set.n();
    let program = SlotProgram {
        n,
        registers: 2,
        inputs: vec![SlotInput { register: 0, input: 0, element: (0..n as u32).map(Some).collect() }],
        ops: vec![SlotOp { layer: "bench".into(), results: vec![1], kind }],
        outputs: vec![SlotOutput { register: 1, output: 0, slot: vec![0] }],
    };
    let sample: Vec<f64> = (0..n).map(|i| (i % 7) as f64 / 7.0).collect();
    by_hand(set, program, limbs, vec![limbs], &[sample])
}

/// The file of a program that was written by hand, whose scales suit the one sample `inputs`. Its inputs have `limbs`
/// limbs and each is a tensor in one ciphertext; `levels` has the limbs at which each operation runs.
///
/// # Errors
/// If no scale fits the set.
pub fn by_hand(
    set: ParamSet,
    program: SlotProgram,
    limbs: usize,
    levels: Vec<usize>,
    inputs: &[Vec<f64>],
) -> Result<Vec<u8>> {
    let counts = OperationCounts::default();
    let ops = program.ops.iter().map(|_| OpCost { counts, us: 0.0 }).collect();
    let predicted = CostReport { ops, counts, us: 0.0, keys: KeyUse::default(), key_bytes: 0 };
    let runs = [simulate_registers(&program, inputs)];
    let input_limbs = vec![limbs; program.inputs.len()];
    let lowered = Lowered {
        program,
        input_limbs,
        levels,
        predicted,
        input_packings: Vec::new(),
        stages: Vec::new(),
        held: Vec::new(),
        images: 1,
        input_elements: Vec::new(),
    };
    let schedule = schedule(&Outline::new(&lowered, &runs), &set)?;
    let placement = place(&lowered.program, &schedule, &lowered.input_limbs);
    let port = |(index, input): (usize, &SlotInput)| MetaInput {
        name: format!("input {index}"),
        shape: vec![inputs[input.input].len()],
        ciphertexts: vec![MetaPacking {
            index: index as u32,
            element: input.element.iter().map(|e| e.map_or(-1, |e| e as i32)).collect(),
        }],
    };
    let result = |(index, output): (usize, &SlotOutput)| MetaOutput {
        name: format!("output {index}"),
        shape: vec![output.slot.len()],
        index: index as u32,
        slot: output.slot.clone(),
    };
    let meta = Meta {
        model: "bench".into(),
        mode: "latency".into(),
        images: 1,
        inputs: lowered.program.inputs.iter().enumerate().map(port).collect(),
        outputs: lowered.program.outputs.iter().enumerate().map(result).collect(),
        stages: Vec::new(),
        output_error: schedule.output_error.clone(),
        predicted_ms: 0.0,
        precision_bits: schedule.precision,
        labels: Vec::new(),
        view: Default::default(),
    };
    let encoder = Encoder::new(set.log_n());
    Ok(emit(&lowered, &schedule, &placement, &set, WeightForm::Compact, &encoder, &meta)?)
}

/// Times of one program under fresh keys, on encrypted zeros.
#[derive(Debug, Clone, Copy)]
pub struct ProgramTiming {
    /// Encryption of all inputs under the secret key.
    pub encrypt: Timing,
    /// Evaluation alone, keys expanded, plaintexts in the Ntt form.
    pub evaluate: Timing,
    /// The first evaluation of a new engine, in microseconds: tables, plaintexts and expanded keys included.
    pub first_us: f64,
    /// Expanded keys and plaintexts.
    pub cache_bytes: usize,
}

/// Measures `bytes`, a program, on the workers of `pool`.
///
/// # Errors
/// A program that is not valid, or no randomness.
pub fn program(bytes: &[u8], pool: &impl Parallel, repetitions: usize) -> Result<ProgramTiming> {
    let program = Program::verify(bytes)?;
    let ring = Ring::new(*program.set());
    let encoder = Encoder::new(program.set().log_n());
    let mut random = Random::from_os()?;
    let secret = SecretKey::generate(*program.set(), &mut random);
    let requests: Vec<_> = (0..program.keys()).filter_map(|i| program.key(i)).collect();
    let keys = evaluation_keys(&secret, &ring, &requests, &mut random, |_| ());
    let mut inputs = Vec::new();
    let mut encryptions = Vec::new();
    for _ in 0..repetitions.max(1) {
        let start = Instant::now();
        inputs = (0..program.inputs())
            .map(|i| {
                let port = program.input(i).context("an input is missing")?;
                let (limbs, scale) = (port.limbs, port.scale);
                let target = Target { program: program.fingerprint(), index: i as u32, limbs, scale };
                Ok(encrypt(&[0.0], &target, EncryptionKey::Secret(&secret), &ring, &encoder, &mut random)?)
            })
            .collect::<Result<Vec<_>>>()?;
        encryptions.push(micros(start));
    }
    let start = Instant::now();
    let mut memory = Memory::default();
    let mut engine = memory.engine(program, &keys, pool.workers())?;
    let mut samples = Vec::new();
    let mut first_us = None;
    for _ in 0..repetitions.max(1) {
        engine.reset();
        for input in &inputs {
            engine.set_input(input)?;
        }
        let from = Instant::now();
        engine.run_on(pool, |_| ())?;
        samples.push(micros(from));
        first_us.get_or_insert_with(|| micros(start));
    }
    let first_us = first_us.unwrap_or_default();
    let cache_bytes = memory.cache_bytes();
    let (encrypt, evaluate) = (Timing::of(encryptions, 1.0), Timing::of(samples, 1.0));
    Ok(ProgramTiming { encrypt, evaluate, first_us, cache_bytes })
}
