//! The batch engine refuses what does not fit, fails cleanly where keys fail, and comes back after a reset.

use crate::engine::Failing;
use cipherlens::batch::{BatchState, StateError};
use cipherlens::pool::Pool;
use cipherlens_kernel::batch::{BatchEngine, BatchProgress};
use cipherlens_kernel::engine::EngineError;
use cipherlens_kernel::keys::{KeyError, KeyKind, KeyRequest, KeySource, MappedKeys};
use cipherlens_kernel::math::Detected;
use cipherlens_kernel::parallel::{Parallel, Serial};
use cipherlens_kernel::params::named;
use cipherlens_kernel::wire::{FileKind, WireError};
use cipherlens_tests::assemble::seal;
use cipherlens_tests::batch::{BatchRun, SET, drive, ports};
use cipherlens_tests::lab::{Lab, any_input, arena};
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn memory_that_is_too_small_or_misaligned() {
    let run = BatchRun::new(101);
    let program = run.view();
    for workers in [1, 3] {
        let need = program.arena_bytes(workers);
        let mut memory = arena(need + 4);
        memory.fill(0xa5a5_a5a5);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut memory);
        for have in (0..need).step_by(4093).chain([1, need - 4, need - 1]) {
            let error = BatchEngine::new(program, run.mapped(), &mut bytes[..have], Detected::new(), workers).err();
            assert_eq!(error, Some(EngineError::ArenaTooSmall { need, have }));
        }
        let error = BatchEngine::new(program, run.mapped(), &mut bytes[1..], Detected::new(), workers).err();
        assert_eq!(error, Some(EngineError::Misaligned));
        assert!(bytes.iter().all(|&b| b == 0xa5), "a refusal writes nothing");
        let pool = Pool::new(workers).unwrap();
        let bytes = &mut bytes[..need];
        let mut engine = BatchEngine::new(program, run.mapped(), bytes, Detected::new(), workers).unwrap();
        assert!(drive(&mut engine, &run.inputs, &pool).unwrap() == run.outputs);
        let larger = Pool::new(workers + 1).unwrap();
        let error = engine.run_on(&larger, |_| ()).err();
        assert_eq!(error, Some(EngineError::Workers { need: workers + 1, have: workers }));
    }
}

#[test]
fn keys_that_do_not_fit() {
    let mut run = BatchRun::new(102);
    let relin = |limbs| KeyRequest { kind: KeyKind::Relin, limbs };
    let rotation = KeyRequest { kind: KeyKind::Rotation(1), limbs: 3 };
    let missing = EngineError::Key(KeyError::Missing { kind: KeyKind::Relin, limbs: 3 });
    let too_few = [vec![], vec![rotation], vec![relin(2)], vec![relin(1), rotation]].map(|k| run.lab.bundle(&k));
    let other_set = Lab::new(named::N13, 102).bundle(&[relin(3)]);
    let more = run.lab.bundle(&[relin(4), rotation]);
    let mut memory = arena(run.view().arena_bytes(1));
    let mut new = |keys: &[u8]| {
        let keys = MappedKeys::verify(keys).unwrap();
        let memory = bytemuck::cast_slice_mut(&mut memory);
        BatchEngine::new(run.view(), keys, memory, Detected::new(), 1).map(|mut e| drive(&mut e, &run.inputs, &Serial))
    };
    for keys in &too_few {
        assert_eq!(new(keys).err(), Some(missing));
    }
    assert_eq!(new(&other_set).err(), Some(EngineError::KeySet));
    // A key at a higher level does no harm, but has other noise, so other bits.
    assert_eq!(new(&more).unwrap().unwrap().len(), run.outputs.len());
}

#[test]
fn inputs_that_do_not_fit_are_not_taken_in() {
    let mut run = BatchRun::new(103);
    let (id, key_id) = (run.view().fingerprint(), run.mapped().key_id());
    let (limbs, scale) = ports(&run.view())[0];
    let lower = any_input(&SET, id, key_id, 0, limbs - 1, scale);
    let other_scale = any_input(&SET, id, key_id, 0, limbs, scale.product(scale).unwrap());
    let other_program = any_input(&SET, [9; 16], key_id, 0, limbs, scale);
    let other_key = any_input(&SET, id, [9; 16], 0, limbs, scale);
    let other_set = any_input(&named::N13, id, key_id, 0, limbs, scale);
    let first = run.inputs[0].clone();
    let sealed = |at: usize, value: u32| {
        let mut bytes = first.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        seal(&mut bytes, FileKind::Ciphertext, &SET.fingerprint());
        bytes
    };
    let mut damaged = first.clone();
    damaged[1000] ^= 1;
    let last = first.len() - 4;
    let (need, have) = (first.len() as u64, 999);
    let out_of_order = std::mem::take(&mut run.inputs[1]);
    let cases = [
        (lower, EngineError::InputLevel { index: 0, need: 3, have: 2 }),
        (other_scale, EngineError::InputLevel { index: 0, need: 3, have: 3 }),
        (other_program, EngineError::OtherProgram),
        (other_key, EngineError::WrongKey),
        (other_set, EngineError::Input(WireError::Set)),
        (out_of_order.clone(), EngineError::InputMissing { index: 0 }),
        (sealed(160, u32::MAX), EngineError::InputRange { index: 0 }),
        (sealed(last, u32::MAX), EngineError::InputRange { index: 0 }),
        (damaged, EngineError::Input(WireError::Digest { offset: 0 })),
        (first[..999].to_vec(), EngineError::Input(WireError::Truncated { need, have })),
        (run.outputs[0].clone(), EngineError::InputMissing { index: 0 }),
        (Vec::new(), EngineError::Input(WireError::Truncated { need: 64, have: 0 })),
        (run.keys.clone(), EngineError::Input(WireError::Kind { expected: FileKind::Ciphertext, found: 2 })),
    ];
    run.inputs[1] = out_of_order;
    let mut memory = arena(run.view().arena_bytes(3));
    let (mut engine, pool) = (run.engine(&mut memory, 3), Pool::new(3).unwrap());
    for (bytes, error) in &cases {
        assert_eq!(engine.set_input(bytes), Err(*error));
        assert_eq!(engine.wants(), Some(BatchProgress::Inputs(0..4)), "nothing is taken in");
        // Side by side with good ones, too; those come after it, or before it.
        assert!(engine.set_inputs_on(&pool, &[bytes, &run.inputs[1], &run.inputs[2]]).is_err());
        if *bytes != run.inputs[1] {
            assert!(engine.set_inputs_on(&pool, &[&run.inputs[0], bytes]).is_err());
        }
        assert_eq!(engine.position(), Some(0));
    }
    let all: Vec<&[u8]> = run.inputs.iter().map(Vec::as_slice).collect();
    assert_eq!(engine.set_inputs_on(&pool, &all), Err(EngineError::NotAnInput { index: 4 }));
    engine.set_inputs_on(&pool, &all[..3]).unwrap();
    // The first again, one too far, and then the right one.
    assert_eq!(engine.set_input(all[0]), Err(EngineError::InputMissing { index: 3 }));
    assert_eq!(engine.set_input(all[4]), Err(EngineError::InputMissing { index: 3 }));
    assert_eq!(engine.step(), Ok(BatchProgress::Inputs(3..4)));
    engine.set_input(all[3]).unwrap();
    assert_eq!(engine.set_input(all[4]), Err(EngineError::Started));
    assert!(drive(&mut engine, &run.inputs, &pool).unwrap() == run.outputs);
    assert_eq!(engine.set_input(all[0]), Err(EngineError::Started));
}

#[test]
fn outputs_out_of_turn_and_buffers_too_small() {
    let run = BatchRun::new(104);
    let mut memory = arena(run.view().arena_bytes(1));
    let mut engine = run.engine(&mut memory, 1);
    let mut out = vec![0xa5; run.outputs[0].len()];
    for index in 0..3 {
        assert_eq!(engine.write_output(index, &mut out), Err(EngineError::NotDone));
    }
    run.inputs[..4].iter().for_each(|input| engine.set_input(input).unwrap());
    assert_eq!(engine.run_on(&Serial, |_| ()), Ok(BatchProgress::Outputs(0..1)));
    let need = out.len();
    for have in (0..need).step_by(997).chain([need - 1]) {
        let error = engine.write_output(0, &mut out[..have]);
        assert_eq!(error, Err(EngineError::OutputTooSmall { need, have }));
    }
    for index in [1, usize::MAX] {
        assert_eq!(engine.write_output(index, &mut out), Err(EngineError::NotAnOutput { index }));
    }
    assert!(out.iter().all(|&b| b == 0xa5), "a refusal writes nothing");
    assert_eq!(engine.resume(engine.program().instructions() + 1), Err(EngineError::NotDone));
    assert_eq!(engine.write_output(0, &mut out), Ok(need));
    assert!(out == run.outputs[0]);
    // Once left, an output is gone.
    assert_eq!(engine.step(), Ok(BatchProgress::Inputs(4..6)));
    assert_eq!(engine.write_output(0, &mut out), Err(EngineError::NotDone));
}

#[test]
fn every_key_read_that_fails() {
    let run = BatchRun::new(105);
    for workers in [1, 3] {
        let pool = Pool::new(workers).unwrap();
        let (reads, fail) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let keys = Failing { keys: run.mapped(), reads: &reads, fail: &fail };
        let mut memory = arena(run.view().arena_bytes(workers));
        let memory = bytemuck::cast_slice_mut(&mut memory);
        let mut engine = BatchEngine::new(run.view(), keys, memory, Detected::new(), workers).unwrap();
        assert!(drive(&mut engine, &run.inputs, &pool).unwrap() == run.outputs);
        let total = reads.load(Ordering::SeqCst);
        assert!(total >= 16, "{total} reads");
        for n in 0..total {
            engine.reset();
            reads.store(0, Ordering::SeqCst);
            fail.store(n, Ordering::SeqCst);
            let error = drive(&mut engine, &run.inputs, &pool).expect_err("a read failed");
            assert!(matches!(error, EngineError::Key(KeyError::Damaged { .. })), "read {n}: {error}");
            for _ in 0..2 {
                assert_eq!(engine.step(), Err(error));
                assert_eq!(engine.run_on(&pool, |_| ()), Err(error));
            }
            assert_eq!((engine.position(), engine.wants()), (None, None));
            assert_eq!(engine.set_input(&run.inputs[0]), Err(EngineError::Started));
            assert_eq!(engine.write_output(0, &mut []), Err(EngineError::NotDone));
            let state = BatchState { key_id: run.mapped().key_id(), batch: [0; 32] };
            assert!(state.save(&engine).unwrap().is_none(), "there is no state of a failed run");
        }
        engine.reset();
        fail.store(usize::MAX, Ordering::SeqCst);
        assert!(drive(&mut engine, &run.inputs, &pool).unwrap() == run.outputs, "a reset brings everything back");
    }
}

/// Saved and taken up between any two instructions; every state of something else is refused and changes nothing.
#[test]
fn states_of_other_programs_keys_and_batches() {
    let run = BatchRun::new(106);
    let state = BatchState { key_id: run.mapped().key_id(), batch: [3; 32] };
    let (mut here, mut there) = (arena(run.view().arena_bytes(1)), arena(run.view().arena_bytes(1)));
    there.fill(u32::MAX);
    let (mut engine, mut other) = (run.engine(&mut here, 1), run.engine(&mut there, 1));
    let mut states = 0;
    let mut given_out = 0;
    loop {
        if let Some(bytes) = state.save(&engine).unwrap() {
            states += 1;
            for (wrong, what) in
                [(BatchState { key_id: [0; 16], ..state }, "key"), (BatchState { batch: [0; 32], ..state }, "batch")]
            {
                let error = wrong.restore(&mut engine, &bytes);
                assert!(matches!(error, Err(StateError::Other(found)) if found == what));
            }
            let mut foreign = bytes.clone();
            foreign[64] ^= 1;
            seal(&mut foreign, FileKind::BatchCheckpoint, &SET.fingerprint());
            assert!(matches!(state.restore(&mut engine, &foreign), Err(StateError::Other("program"))));
            // Positions that the program does not have, or whose rows are others.
            for position in [u64::MAX, run.view().instructions() as u64 + 1] {
                let mut bytes = bytes.clone();
                bytes[128..136].copy_from_slice(&position.to_le_bytes());
                seal(&mut bytes, FileKind::BatchCheckpoint, &SET.fingerprint());
                assert!(state.restore(&mut engine, &bytes).is_err());
            }
            state.restore(&mut other, &bytes).unwrap();
            let rest = drive(&mut other, &run.inputs, &Serial).unwrap();
            // Outputs that are ready are given out again: those of the state's own instruction may have been lost.
            let least = run.outputs.len() - given_out;
            assert!(rest.len() >= least && run.outputs.ends_with(&rest), "taken up after {states} states");
        }
        match engine.step().unwrap() {
            BatchProgress::Inputs(wanted) => {
                wanted.for_each(|i| engine.set_input(&run.inputs[i]).unwrap());
            }
            BatchProgress::Outputs(ready) => given_out = ready.end,
            BatchProgress::Running { .. } => {}
            BatchProgress::Done => break,
        }
    }
    assert!(states > 8, "{states} states");
}

/// Single steps and runs on any number of workers give the same bits.
#[test]
fn steps_equal_runs() {
    let run = BatchRun::new(107);
    for workers in [1, 2, 3] {
        let mut memory = arena(run.view().arena_bytes(workers));
        let mut engine = run.engine(&mut memory, workers);
        let pool = Pool::new(workers).unwrap();
        assert_eq!(pool.workers(), workers);
        for _ in 0..2 {
            assert!(drive(&mut engine, &run.inputs, &pool).unwrap() == run.outputs);
            engine.reset();
        }
    }
    let mut memory = arena(run.view().arena_bytes(1));
    let mut engine = run.engine(&mut memory, 1);
    let mut outputs = Vec::new();
    loop {
        match engine.step().unwrap() {
            BatchProgress::Inputs(wanted) => wanted.for_each(|i| engine.set_input(&run.inputs[i]).unwrap()),
            BatchProgress::Outputs(ready) => outputs.extend(ready.map(|i| {
                let mut bytes = vec![0; engine.output_bytes(i).unwrap()];
                engine.write_output(i, &mut bytes).unwrap();
                bytes
            })),
            BatchProgress::Running { layer, .. } => assert_eq!(layer, "test"),
            BatchProgress::Done => break,
        }
    }
    assert!(outputs == run.outputs);
}
