//! The encrypted rung: the compiled program with the layers as extra outputs.
//!
//! An output differs from any other register only in that its buffer is not used again. Instructions, weights, levels
//! and scales stay what they are, so every layer is bit for bit what the program without taps computes, and neither the
//! kernel nor the file formats need a way to look inside.

use super::{CrosscheckError, widen};
use crate::compile::emit::emit;
use crate::compile::layout::encode;
use crate::compile::lower::Lowered;
use crate::compile::place::place;
use crate::compile::slots::SlotOutput;
use crate::compile::{Compiled, WeightForm};
use crate::decrypt::decrypt;
use crate::encode::Encoder;
use crate::encrypt::{EncryptionKey, Target, encrypt};
use crate::evaluate::{Memory, infer};
use crate::keys::{SecretKey, evaluation_keys};
use crate::meta::Meta;
use crate::pool::Pool;
use crate::random::Random;
use crate::ring::Ring;
use cipherlens_kernel::params::ParamSet;
use cipherlens_kernel::program::Program;

/// The program with every layer as an output, and the register behind each output.
///
/// # Errors
/// A program that the kernel refuses.
pub fn tapped(
    compiled: &Compiled,
    set: &ParamSet,
    encoder: &Encoder,
) -> Result<(Vec<u8>, Vec<usize>), CrosscheckError> {
    let mut lowered: Lowered = compiled.lowered.clone();
    let outputs = &mut lowered.program.outputs;
    for held in &compiled.lowered.held {
        if outputs.iter().all(|o| o.register != held.register) {
            outputs.push(SlotOutput { register: held.register, output: outputs.len(), slot: held.slot.clone() });
        }
    }
    let registers = outputs.iter().map(|o| o.register).collect();
    let placement = place(&lowered.program, &compiled.schedule, &lowered.input_limbs);
    let unreadable = |e: &dyn std::fmt::Display| CrosscheckError::Unsupported(e.to_string());
    let program = Program::verify(&compiled.bytes).map_err(|e| unreadable(&e))?;
    let meta: Meta = serde_json::from_slice(program.meta()).map_err(|e| unreadable(&e))?;
    let bytes = emit(&lowered, &compiled.schedule, &placement, set, WeightForm::Compact, encoder, &meta)?;
    Ok((bytes, registers))
}

/// Evaluates every image under a fresh key and gives `visit` its number and the decrypted layers, by register; the other
/// registers are empty. Stops where `visit` says no.
///
/// # Errors
/// No randomness, or an error of the kernel.
pub fn encrypted(
    compiled: &Compiled,
    set: &ParamSet,
    encoder: &Encoder,
    images: &[Vec<f32>],
    mut visit: impl FnMut(usize, Vec<Vec<f64>>) -> bool,
) -> Result<(), CrosscheckError> {
    let unsupported = |e: &dyn std::fmt::Display| CrosscheckError::Unsupported(e.to_string());
    let (bytes, taps) = tapped(compiled, set, encoder)?;
    let program = Program::verify(&bytes).map_err(|e| unsupported(&e))?;
    let ring = Ring::new(*set);
    let mut random = Random::from_os()?;
    let secret = SecretKey::generate(*set, &mut random);
    let requests: Vec<_> = (0..program.keys()).filter_map(|i| program.key(i)).collect();
    let keys = evaluation_keys(&secret, &ring, &requests, &mut random, |_| ());
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
    let pool = Pool::new(workers).map_err(|e| unsupported(&e))?;
    let mut memory = Memory::default();
    let mut engine = memory.engine(program, &keys, workers)?;
    let slots = &compiled.lowered.program;
    for (index, image) in images.iter().enumerate() {
        let image = [widen(image)];
        let mut files = Vec::new();
        for (i, input) in slots.inputs.iter().enumerate() {
            let port = program.input(i).ok_or_else(|| unsupported(&"an input is missing"))?;
            let target =
                Target { program: program.fingerprint(), index: i as u32, limbs: port.limbs, scale: port.scale };
            let values = encode(&input.element, &image[input.input]);
            files.push(encrypt(&values, &target, EncryptionKey::Secret(&secret), &ring, encoder, &mut random)?);
        }
        let (outputs, _) = infer(&mut engine, &files, &pool)?;
        let mut registers = vec![Vec::new(); slots.registers];
        for (file, &register) in outputs.iter().zip(&taps) {
            registers[register] = decrypt(file, &secret, &ring, encoder)?.1.to_vec();
        }
        if !visit(index, registers) {
            break;
        }
    }
    Ok(())
}
