//! Measures a program for one ciphertext's images.

use super::Row;
use crate::bench::Timing;
use crate::client::Client;
use crate::encrypt::EncryptionKey;
use crate::keys::{SecretKey, evaluation_keys};
use crate::pool::Pool;
use crate::random::Random;
use anyhow::Result;
use cipherlens_kernel::engine::Engine;
use cipherlens_kernel::keys::{KeyRequest, KeySource, MappedKeys, RamKeys};
use cipherlens_kernel::math::Detected;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::KeyBundle;
use std::time::Instant;

/// Where evaluation keys are, and up to which level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Up to the level of use, expanded in memory.
    Expanded,
    /// Every one at the program's top level, expanded in memory.
    TopLevel,
    /// Up to the level of use, read from the file; seeds are expanded on every use.
    InPlace,
}

/// How a program is evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// Threads.
    pub threads: usize,
    /// Whether plaintexts are in the Ntt form in memory.
    pub cached: bool,
    /// Evaluation keys.
    pub keys: Keys,
    /// Evaluations.
    pub repetitions: usize,
}

impl Way {
    /// On one thread, everything prepared.
    pub fn prepared(repetitions: usize) -> Self {
        Self { threads: 1, cached: true, keys: Keys::Expanded, repetitions }
    }
}

/// Measures the program `bytes` on `inputs`, by input tensor, against the `clear` outputs.
///
/// # Errors
/// A program that is not valid, inputs of another shape, or no randomness.
pub fn measure(bytes: &[u8], inputs: &[Vec<f32>], clear: &[f32], images: usize, way: &Way) -> Result<Row> {
    let program = Program::verify(bytes)?;
    let client = Client::new(program)?;
    let mut random = Random::from_os()?;
    let secret = SecretKey::generate(*program.set(), &mut random);
    let mut requests = client.requests();
    if way.keys == Keys::TopLevel {
        requests = requests.iter().map(|&r| KeyRequest { limbs: program.limbs(), ..r }).collect();
    }
    let file = evaluation_keys(&secret, client.ring(), &requests, &mut random, |_| ());
    let start = Instant::now();
    let mut files = Vec::new();
    for (input, values) in inputs.iter().enumerate() {
        files.extend(client.encrypt(input, values, EncryptionKey::Secret(&secret), &mut random)?);
    }
    let encrypt_ms = start.elapsed().as_secs_f64() * 1000.0;
    let mut row = Row {
        study: "",
        strategy: String::new(),
        set: program.set().name().into(),
        images,
        threads: way.threads,
        ms: 0.0,
        min_ms: 0.0,
        take_in_ms: None,
        encrypt_ms,
        images_per_second: 0.0,
        time_ratio: 1.0,
        arena_bytes: program.arena_bytes_for(way.threads),
        prepared_key_bytes: 0,
        cache_bytes: if way.cached { program.cache_bytes() } else { 0 },
        memory_bytes: 0,
        program_bytes: bytes.len(),
        key_bytes: file.len(),
        input_bytes_per_image: files.iter().map(Vec::len).sum::<usize>() as f64 / images as f64,
        key_switches: 0,
        rotations: 0,
        transforms: 0,
        predicted_bits: client.meta().precision_bits,
        max_error: 0.0,
    };
    let (time, output) = if way.keys == Keys::InPlace {
        evaluate(program, MappedKeys::verify(&file)?, &files, way, &mut row)?
    } else {
        let mut words = vec![0; RamKeys::words(&KeyBundle::new_checked(&file)?)];
        row.prepared_key_bytes = words.len() * 4;
        evaluate(program, RamKeys::expand(&file, program.set(), &mut words)?, &files, way, &mut row)?
    };
    let scores = client.decrypt(&output, &secret)?.scores;
    let errors = scores.iter().zip(clear).map(|(a, &b)| (a - f64::from(b)).abs());
    row.max_error = errors.fold(0.0, f64::max);
    Ok(row.timed(time))
}

/// Times of evaluations after a first one, and the output file; counts go to `row`.
fn evaluate<K: KeySource + Sync>(
    program: Program<'_>,
    keys: K,
    files: &[Vec<u8>],
    way: &Way,
    row: &mut Row,
) -> Result<(Timing, Vec<u8>)> {
    let pool = Pool::new(way.threads)?;
    let mut arena = vec![0u32; row.arena_bytes / 4];
    let mut cache = vec![0u32; row.cache_bytes / 4];
    let arena = bytemuck::cast_slice_mut(&mut arena);
    let mut engine = Engine::with_workers(program, keys, arena, Detected::new(), way.threads)?;
    if way.cached {
        engine.set_cache(bytemuck::cast_slice_mut(&mut cache))?;
    }
    engine.prepare()?;
    let mut samples = Vec::new();
    for _ in 0..=way.repetitions.max(1) {
        engine.reset();
        for file in files {
            engine.set_input(file)?;
        }
        let start = Instant::now();
        engine.run_on(&pool, |_| ())?;
        samples.push(start.elapsed().as_secs_f64() * 1e6);
    }
    // The first one finds cold memory.
    samples.remove(0);
    let counts = engine.counts();
    row.key_switches = counts.key_switches.into();
    row.rotations = counts.rotations.into();
    row.transforms = u64::from(counts.ntts) + u64::from(counts.plain_ntts);
    let mut output = vec![0; engine.output_bytes(0)?];
    engine.write_output(0, &mut output)?;
    Ok((Timing::of(samples, 1.0), output))
}
