//! Checkpoints that are cut, damaged, foreign or at a position that does not exist.

use crate::tiny;
use cipherlens_kernel::engine::{Engine, EngineError, Progress};
use cipherlens_kernel::keys::MappedKeys;
use cipherlens_kernel::params::named;
use cipherlens_kernel::wire::{FileKind, HEADER_BYTES, WireError, u32_at};
use cipherlens_tests::Lcg;
use cipherlens_tests::assemble::{Assembler, seal};
use cipherlens_tests::lab::{Run, arena, outputs};

fn engine<'r, 'm>(run: &'r Run, memory: &'m mut [u32]) -> Engine<'r, 'm, MappedKeys<'r>> {
    Engine::new(run.program(), run.mapped(), bytemuck::cast_slice_mut(memory)).unwrap()
}

/// A checkpoint in the middle of an instruction, at least `steps` steps after preparation.
fn within(run: &Run, steps: usize) -> Vec<u8> {
    let mut memory = arena(run.program().arena_bytes());
    let mut engine = engine(run, &mut memory);
    engine.set_input(&run.inputs[0]).unwrap();
    engine.prepare().unwrap();
    (0..steps).for_each(|_| assert!(engine.step().is_ok()));
    loop {
        let mut bytes = vec![0; engine.checkpoint_bytes().unwrap()];
        engine.checkpoint(&mut bytes).unwrap();
        if u32_at(&bytes, 96) == Some(1) && u32_at(&bytes, 108) != Some(0) {
            return bytes;
        }
        assert!(matches!(engine.step(), Ok(Progress::Running { .. })), "too late");
    }
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    seal(&mut bytes, FileKind::Checkpoint, &named::N12.fingerprint());
    bytes
}

#[test]
fn damaged_checkpoints_leave_the_engine_as_it_was() {
    let run = Run::new(tiny().bytes, 91);
    let checkpoint = within(&run, 40);
    let mut memory = arena(run.program().arena_bytes());
    let mut engine = engine(&run, &mut memory);
    engine.set_input(&run.inputs[0]).unwrap();
    let have =
        |n| WireError::Truncated { need: if n < HEADER_BYTES { 64 } else { checkpoint.len() as u64 }, have: n as u64 };
    for cut in (0..checkpoint.len()).step_by(4099).chain([1, 63, 64, 159, 160, checkpoint.len() - 1]) {
        assert_eq!(engine.resume(&checkpoint[..cut]), Err(EngineError::Checkpoint(have(cut))));
    }
    let mut lcg = Lcg::new(92);
    let sample: Vec<usize> = (0..300).map(|_| lcg.below(8 * checkpoint.len())).collect();
    let mut damaged = checkpoint.clone();
    for bit in (0..8 * 200).chain(sample) {
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(engine.resume(&damaged), Err(EngineError::Checkpoint(_))), "bit {bit}");
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
    let long = [&checkpoint[..], &[0]].concat();
    assert!(matches!(engine.resume(&long), Err(EngineError::Checkpoint(WireError::Trailing { .. }))));
    assert!(matches!(engine.resume(&run.inputs[0]), Err(EngineError::Checkpoint(WireError::Kind { found: 3, .. }))));
    // All of that did not touch it.
    engine.run().unwrap();
    assert!(outputs(&engine).unwrap() == run.outputs);
    // And what is accepted is no half of anything.
    engine.resume(&checkpoint).unwrap();
    assert_eq!(engine.set_input(&run.inputs[0]), Err(EngineError::Started));
    engine.run().unwrap();
    assert!(outputs(&engine).unwrap() == run.outputs);
}

#[test]
fn checkpoints_of_other_programs_and_keys() {
    let run = Run::new(tiny().bytes, 93);
    let checkpoint = within(&run, 10);
    let mut asm = Assembler::new(named::N12, 2, false);
    let x = asm.input(vec![0.0; named::N12.n()], 2, 18.0);
    let x = asm.mul(&x, &x, true);
    let other = Run::new(asm.finish(&[&x]).bytes, 93);
    let stranger = Run::new(tiny().bytes, 94);
    for (run, expected) in [(&other, EngineError::OtherProgram), (&stranger, EngineError::WrongKey)] {
        let mut memory = arena(run.program().arena_bytes());
        assert_eq!(engine(run, &mut memory).resume(&checkpoint), Err(expected));
    }
    let mut set = checkpoint.clone();
    seal(&mut set, FileKind::Checkpoint, &named::N13.fingerprint());
    let mut memory = arena(run.program().arena_bytes());
    assert_eq!(engine(&run, &mut memory).resume(&set), Err(EngineError::Checkpoint(WireError::Set)));
}

/// Digests that match and fields that do not.
#[test]
fn positions_that_do_not_exist() {
    let run = Run::new(tiny().bytes, 95);
    let checkpoint = within(&run, 30);
    let mut memory = arena(run.program().arena_bytes());
    let mut engine = engine(&run, &mut memory);
    let changed = |at: usize, value: u32| {
        let mut bytes = checkpoint.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        sealed(bytes)
    };
    assert_eq!(engine.resume(&sealed(checkpoint.clone())), Ok(()));
    let total = run.program().instructions() as u32;
    let field = |offset| Err(EngineError::Checkpoint(WireError::Field { offset }));
    for (at, value, offset) in [
        (96, 3, 96),
        (96, 0, 104),
        (96, 2, 100),
        (100, total, 100),
        (100, u32::MAX, 100),
        (104, 1000, 104),
        (104, u32::MAX, 104),
        (108, 1 << 20, 108),
        (108, u32::MAX, 108),
        // No input, and one that the program does not have.
        (112, 0, 112),
        (112, 3, 112),
        (116, 1, 112),
        (120, 10, 120),
        (152, 1, 112),
    ] {
        assert_eq!(engine.resume(&changed(at, value)), field(offset), "{at} = {value}");
    }
    assert!(matches!(engine.resume(&changed(120, 13)), Err(EngineError::Checkpoint(_))));
    assert!(matches!(engine.resume(&changed(124, 1)), Err(EngineError::Checkpoint(WireError::Truncated { .. }))));
    // A row more than the position has.
    let mut more = [&checkpoint[..], &vec![0; 4 * named::N12.n()]].concat();
    let rows = u32_at(&more, 124).unwrap() + 1;
    more[124..128].copy_from_slice(&rows.to_le_bytes());
    assert_eq!(engine.resume(&sealed(more)), field(124));
    // A residue of the first buffer that is not below its prime.
    assert_eq!(engine.resume(&changed(160, u32::MAX)), field(160));
}

/// Any words in the fields and rows: an error, or a run that ends.
#[test]
fn forged_checkpoints_do_no_harm() {
    let run = Run::new(tiny().bytes, 96);
    let mut memory = arena(run.program().arena_bytes());
    let mut engine = engine(&run, &mut memory);
    let (mut lcg, mut accepted) = (Lcg::new(97), 0);
    for _ in 0..400 {
        let mut bytes = within(&run, lcg.below(100));
        for _ in 0..1 + lcg.below(2) {
            let at = [96, 100, 104, 108, 112, 124, 128, 160 + 4 * lcg.below(40_000)][lcg.below(8)];
            let value = if lcg.below(3) == 0 { lcg.word() } else { lcg.below(8) as u32 };
            let at = at.min(bytes.len() - 4);
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        if engine.resume(&sealed(bytes)).is_ok() {
            accepted += 1;
            engine.run().unwrap();
        }
    }
    assert!(accepted > 20, "{accepted} accepted");
}

#[test]
fn memory_for_a_checkpoint() {
    let run = Run::new(tiny().bytes, 98);
    let mut memory = arena(run.program().arena_bytes());
    let mut engine = engine(&run, &mut memory);
    engine.set_input(&run.inputs[0]).unwrap();
    (0..30).for_each(|_| assert!(engine.step().is_ok()));
    let need = engine.checkpoint_bytes().unwrap();
    let mut bytes = vec![0xa5; need - 1];
    assert_eq!(engine.checkpoint(&mut bytes), Err(EngineError::CheckpointTooSmall { need, have: need - 1 }));
    assert!(bytes.iter().all(|&b| b == 0xa5));
}
