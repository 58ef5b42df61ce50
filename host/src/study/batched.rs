//! Measures a batch program: one image in each slot.

use super::Row;
use crate::batch::{BatchClient, Pixels};
use crate::bench::Timing;
use crate::compile::batch::CompiledBatch;
use crate::encrypt::EncryptionKey;
use crate::keys::{SecretKey, evaluation_keys};
use crate::pool::Pool;
use crate::random::Random;
use anyhow::Result;
use cipherlens_kernel::batch::{BatchEngine, BatchProgram, BatchProgress};
use cipherlens_kernel::keys::RamKeys;
use cipherlens_kernel::math::Detected;
use cipherlens_kernel::wire::KeyBundle;
use std::time::Instant;

/// Measures full batches of `images`, again and again, on `threads` threads; the outputs of the first ones are compared
/// with `clear`.
///
/// # Errors
/// A program that is not valid, or no randomness.
pub fn measure(
    compiled: &CompiledBatch,
    images: &[Vec<f32>],
    clear: &[Vec<f32>],
    threads: usize,
    repetitions: usize,
) -> Result<Row> {
    let program = BatchProgram::verify(&compiled.bytes)?;
    let client = BatchClient::new(program)?;
    let mut random = Random::from_os()?;
    let secret = SecretKey::generate(*program.set(), &mut random);
    let file = evaluation_keys(&secret, client.ring(), &client.requests(), &mut random, |_| ());
    let mut words = vec![0u32; RamKeys::words(&KeyBundle::new_checked(&file)?)];
    let prepared_key_bytes = words.len() * 4;
    let keys = RamKeys::expand(&file, program.set(), &mut words)?;
    let pool = Pool::new(threads)?;
    let mut arena = vec![0u32; program.arena_bytes(threads) / 4];
    let mut engine = BatchEngine::new(program, keys, bytemuck::cast_slice_mut(&mut arena), Detected::new(), threads)?;
    let mut pixels = Pixels::new(client.input_len());
    images.iter().cycle().take(client.images()).for_each(|image| pixels.push(image));
    let ms = |start: Instant| start.elapsed().as_secs_f64() * 1000.0;
    let (mut taken_in, mut samples) = (Vec::new(), Vec::new());
    let (mut encrypt_ms, mut input_bytes) = (0.0, 0);
    let mut outputs = vec![None; program.outputs()];
    for _ in 0..repetitions.max(1) {
        engine.reset();
        let (mut load_ms, mut evaluate_ms) = (0.0, 0.0);
        (encrypt_ms, input_bytes) = (0.0, 0);
        loop {
            let start = Instant::now();
            let progress = engine.run_on(&pool, |_| ())?;
            evaluate_ms += ms(start);
            match progress {
                BatchProgress::Inputs(inputs) => {
                    let start = Instant::now();
                    let files = client.encrypt(inputs, &pixels, EncryptionKey::Secret(&secret), threads)?;
                    encrypt_ms += ms(start);
                    input_bytes += files.iter().map(Vec::len).sum::<usize>();
                    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
                    let start = Instant::now();
                    engine.set_inputs_on(&pool, &files)?;
                    load_ms += ms(start);
                }
                BatchProgress::Outputs(ready) => {
                    for index in ready {
                        let mut file = vec![0; engine.output_bytes(index)?];
                        engine.write_output(index, &mut file)?;
                        outputs[index] = Some(client.decrypt(&file, &secret)?.1);
                    }
                }
                BatchProgress::Running { .. } => {}
                BatchProgress::Done => break,
            }
        }
        taken_in.push(load_ms * 1000.0);
        samples.push((load_ms + evaluate_ms) * 1000.0);
    }
    let scores = client.gather(0, &outputs, clear.len())?;
    let each = scores.iter().zip(clear).flat_map(|(scores, clear)| scores.iter().zip(clear));
    let max_error = each.map(|(a, &b)| (a - f64::from(b)).abs()).fold(0.0, f64::max);
    let counts = engine.counts();
    let row = Row {
        study: "",
        strategy: String::new(),
        set: program.set().name().into(),
        images: client.images(),
        threads,
        ms: 0.0,
        min_ms: 0.0,
        take_in_ms: Some(Timing::of(taken_in, 1.0).median_us / 1000.0),
        encrypt_ms,
        images_per_second: 0.0,
        time_ratio: 1.0,
        arena_bytes: program.arena_bytes(threads),
        prepared_key_bytes,
        cache_bytes: 0,
        memory_bytes: 0,
        program_bytes: compiled.bytes.len(),
        key_bytes: file.len(),
        input_bytes_per_image: input_bytes as f64 / client.images() as f64,
        key_switches: counts.key_switches,
        rotations: 0,
        transforms: counts.ntts,
        predicted_bits: compiled.report.precision_bits,
        max_error,
    };
    Ok(row.timed(Timing::of(samples, 1.0)))
}
