//! The engine refuses what does not fit, fails cleanly where keys fail, and comes back after a reset.

use crate::tiny;
use cipherlens::pool::Pool;
use cipherlens_kernel::engine::{Engine, EngineError, Progress};
use cipherlens_kernel::keys::{Half, KeyError, KeyInfo, KeyKind, KeyRequest, KeySource, MappedKeys};
use cipherlens_kernel::math::{Detected, Modulus};
use cipherlens_kernel::params::named;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::{FileKind, WireError};
use cipherlens_tests::assemble::{Assembled, Assembler, Form, seal};
use cipherlens_tests::lab::{Lab, Setup, arena, manifest, outputs, run};
use cipherlens_tests::sha256;
use std::sync::atomic::{AtomicUsize, Ordering};

struct World {
    case: Assembled,
    lab: Lab,
    keys: Vec<u8>,
    input: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let case = tiny();
        let mut lab = Lab::new(named::N12, 61);
        let program = Program::verify(&case.bytes).unwrap();
        let keys = lab.keys(&program);
        let input = lab.encrypt(&program, 0, &case.inputs[0], false);
        Self { case, lab, keys, input }
    }

    fn program(&self) -> Program<'_> {
        Program::verify(&self.case.bytes).unwrap()
    }

    fn source(&self) -> MappedKeys<'_> {
        MappedKeys::verify(&self.keys).unwrap()
    }

    fn run(&self) -> Vec<Vec<u8>> {
        run(self.program(), &self.keys, std::slice::from_ref(&self.input), Setup::default()).unwrap()
    }
}

#[test]
fn memory_that_is_too_small_or_misaligned() {
    let w = World::new();
    let (program, need) = (w.program(), w.program().arena_bytes());
    let mut memory = arena(need + 4);
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut memory);
    let error = Engine::new(program, w.source(), &mut bytes[..need - 1]).err();
    assert_eq!(error, Some(EngineError::ArenaTooSmall { need, have: need - 1 }));
    let error = Engine::new(program, w.source(), &mut bytes[1..]).err();
    assert_eq!(error, Some(EngineError::Misaligned));
    let mut engine = Engine::new(program, w.source(), &mut bytes[..need]).unwrap();
    let need = program.cache_bytes();
    let (mut crooked, mut exact) = (arena(need + 4), arena(need));
    assert_eq!(engine.set_cache(&mut bytemuck::cast_slice_mut(&mut crooked)[1..]), Err(EngineError::Misaligned));
    assert_eq!(engine.set_cache(bytemuck::cast_slice_mut(&mut exact)), Ok(()));
    engine.set_input(&w.input).unwrap();
    engine.run().unwrap();
    assert!(outputs(&engine).unwrap() == w.run());
}

/// Every size below need, in strides that are no multiple of anything: an error that tells both, and nothing is written.
#[test]
fn every_memory_below_need() {
    let w = World::new();
    let program = w.program();
    for workers in [1, 2] {
        let need = program.arena_bytes_for(workers);
        let mut memory = arena(need);
        memory.fill(0xa5a5_a5a5);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut memory);
        for have in (0..need).step_by(1021).chain([4, need - 4]) {
            let error = Engine::with_workers(program, w.source(), &mut bytes[..have], Detected::new(), workers).err();
            assert_eq!(error, Some(EngineError::ArenaTooSmall { need, have }));
        }
        assert!(bytes.iter().all(|&b| b == 0xa5));
    }
    // Enough for one plaintext, or for none.
    let need = (0..=program.cache_bytes()).step_by(program.set().n() * 4).find(|&b| program.cache_bytes_within(b) > 0);
    let need = need.expect("the program has plaintexts");
    let mut cache = arena(need);
    cache.fill(0xa5a5_a5a5);
    for have in (0..need).step_by(1021).chain([need - 1]) {
        let (mut memory, cache) = (arena(program.arena_bytes()), &mut cache[..]);
        let mut engine = Engine::new(program, w.source(), bytemuck::cast_slice_mut(&mut memory)).unwrap();
        let error = engine.set_cache(&mut bytemuck::cast_slice_mut(cache)[..have]);
        assert_eq!(error, Err(EngineError::CacheTooSmall { need, have }));
    }
    assert!(cache.iter().all(|&word| word == 0xa5a5_a5a5));
    let mut memory = arena(program.arena_bytes());
    let mut engine = Engine::new(program, w.source(), bytemuck::cast_slice_mut(&mut memory)).unwrap();
    engine.set_input(&w.input).unwrap();
    engine.run().unwrap();
    let need = engine.output_bytes(0).unwrap();
    let mut out = vec![0xa5; need];
    for have in (0..need).step_by(101) {
        assert_eq!(engine.write_output(0, &mut out[..have]), Err(EngineError::OutputTooSmall { need, have }));
    }
    assert!(out.iter().all(|&b| b == 0xa5));
}

#[test]
fn keys_that_do_not_fit() {
    let mut w = World::new();
    let requests = manifest(&w.program());
    for missing in 0..requests.len() {
        let kept: Vec<KeyRequest> = requests.iter().copied().filter(|r| *r != requests[missing]).collect();
        let keys = w.lab.bundle(&kept);
        let KeyRequest { kind, limbs } = requests[missing];
        let error = run(w.program(), &keys, &[], Setup::default()).err();
        assert_eq!(error, Some(EngineError::Key(KeyError::Missing { kind, limbs })));
        // The right key at too low a level is as good as none.
        if limbs > 1 {
            let low: Vec<KeyRequest> = requests
                .iter()
                .map(|&r| if r == requests[missing] { KeyRequest { kind, limbs: limbs - 1 } } else { r })
                .collect();
            let keys = w.lab.bundle(&low);
            let error = run(w.program(), &keys, &[], Setup::default()).err();
            assert_eq!(error, Some(EngineError::Key(KeyError::Missing { kind, limbs })));
        }
    }
    // Keys of another program under the same set and secret.
    let mut asm = Assembler::new(named::N12, 2, false);
    let x = asm.input(vec![0.0; named::N12.n()], 2, 18.0);
    let x = asm.rotate_sum(&x, &[777], false, false, 2);
    let other = asm.finish(&[&x]);
    let keys = w.lab.keys(&Program::verify(&other.bytes).unwrap());
    let error = run(w.program(), &keys, &[], Setup::default()).err();
    assert!(matches!(error, Some(EngineError::Key(KeyError::Missing { .. }))));
    // Another parameter set.
    let keys = Lab::new(named::N13, 61).bundle(&requests);
    assert_eq!(run(w.program(), &keys, &[], Setup::default()).err(), Some(EngineError::KeySet));
    // More keys, or keys at a higher level, do no harm.
    let more: Vec<KeyRequest> = requests
        .iter()
        .map(|r| KeyRequest { limbs: 4, ..*r })
        .chain([KeyRequest { kind: KeyKind::Rotation(9), limbs: 1 }])
        .collect();
    let keys = w.lab.bundle(&more);
    assert!(run(w.program(), &keys, std::slice::from_ref(&w.input), Setup::default()).is_ok());
}

#[test]
fn ciphertexts_that_do_not_fit() {
    let mut w = World::new();
    let program = w.program();
    let expect = |input: &[u8], error: EngineError| {
        let found = run(program, &w.keys, &[input.to_vec()], Setup::default()).err();
        assert_eq!(found, Some(error));
    };
    let mut stranger = Lab::new(named::N12, 62);
    expect(&stranger.encrypt(&program, 0, &w.case.inputs[0], false), EngineError::WrongKey);
    let changed = |at: usize, value: &[u8]| {
        let mut bytes = w.input.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        seal(&mut bytes, FileKind::Ciphertext, &named::N12.fingerprint());
        bytes
    };
    expect(&changed(80, &[7; 16]), EngineError::OtherProgram);
    expect(&changed(96, &1u32.to_le_bytes()), EngineError::NotAnInput { index: 0 });
    expect(&changed(100, &5u32.to_le_bytes()), EngineError::NotAnInput { index: 5 });
    expect(&changed(112, &3.0f64.to_le_bytes()), EngineError::InputLevel { index: 0, need: 2, have: 2 });
    expect(&changed(160, &named::N12.q()[0].to_le_bytes()), EngineError::InputRange { index: 0 });
    let mut other_set = w.input.clone();
    seal(&mut other_set, FileKind::Ciphertext, &named::N13.fingerprint());
    expect(&other_set, EngineError::Input(WireError::Set));
    expect(&w.input[..1000], EngineError::Input(WireError::Truncated { need: w.input.len() as u64, have: 1000 }));
    expect(&w.run()[0], EngineError::NotAnInput { index: 0 });
    expect(&w.keys, EngineError::Input(WireError::Kind { expected: FileKind::Ciphertext, found: 2 }));
    // The same image for a program of the same interface.
    let mut asm = Assembler::new(named::N12, 2, false);
    let x = asm.input(w.case.inputs[0].clone(), 2, 18.0);
    let x = asm.add_plain(&x, &vec![1.0; named::N12.n()], Form::Scalar);
    let other = asm.finish(&[&x]);
    let foreign = w.lab.encrypt(&Program::verify(&other.bytes).unwrap(), 0, &other.inputs[0], false);
    let found = run(w.program(), &w.keys, &[foreign], Setup::default()).err();
    assert_eq!(found, Some(EngineError::OtherProgram));
}

#[test]
fn calls_out_of_order() {
    let w = World::new();
    let mut memory = arena(w.program().arena_bytes());
    let mut engine = Engine::new(w.program(), w.source(), bytemuck::cast_slice_mut(&mut memory)).unwrap();
    let mut out = vec![0; engine.output_bytes(0).unwrap()];
    assert_eq!(engine.output_bytes(2), Err(EngineError::NotAnOutput { index: 2 }));
    assert_eq!(engine.write_output(0, &mut out), Err(EngineError::NotDone));
    // Nothing is lost by running too early.
    for _ in 0..3 {
        assert_eq!(engine.run(), Err(EngineError::InputMissing { index: 0 }));
    }
    // An input may be replaced until the program runs.
    engine.set_input(&w.input).unwrap();
    engine.set_input(&w.input).unwrap();
    loop {
        match engine.step().unwrap() {
            Progress::Preparing { .. } => continue,
            // In the middle of an instruction and between two.
            Progress::Running { .. } => assert_eq!(engine.set_input(&w.input), Err(EngineError::Started)),
            Progress::Done => break,
        }
        assert_eq!(engine.write_output(0, &mut out), Err(EngineError::NotDone));
    }
    assert_eq!(engine.set_input(&w.input), Err(EngineError::Started));
    assert_eq!(engine.step(), Ok(Progress::Done));
    // A buffer that is too small is left alone.
    let (need, have) = (out.len(), out.len() - 1);
    out.fill(0xa5);
    assert_eq!(engine.write_output(0, &mut out[..have]), Err(EngineError::OutputTooSmall { need, have }));
    assert!(out.iter().all(|&b| b == 0xa5));
    assert_eq!(engine.write_output(2, &mut out), Err(EngineError::NotAnOutput { index: 2 }));
    assert!(out.iter().all(|&b| b == 0xa5));
    assert!(outputs(&engine).unwrap() == w.run());
}

#[test]
fn more_threads_than_the_engine_has_memory_for() {
    let w = World::new();
    let program = w.program();
    let (one, three) = (program.arena_bytes(), program.arena_bytes_for(3));
    assert!(one == program.arena_bytes_for(1) && one < three);
    let mut memory = arena(three);
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut memory);
    let error = Engine::with_workers(program, w.source(), &mut bytes[..three - 1], Detected::new(), 3).err();
    assert_eq!(error, Some(EngineError::ArenaTooSmall { need: three, have: three - 1 }));
    let mut engine = Engine::new(program, w.source(), bytes).unwrap();
    engine.set_input(&w.input).unwrap();
    let error = engine.run_on(&Pool::new(3).unwrap(), |_| ());
    assert_eq!(error, Err(EngineError::Workers { need: 3, have: 1 }));
    engine.run_on(&Pool::new(1).unwrap(), |_| ()).unwrap();
    assert!(outputs(&engine).unwrap() == w.run());
}

/// An input that is refused half-way must not leave the engine ready to run on what is left of it.
#[test]
fn a_refused_input_is_no_input() {
    let w = World::new();
    let mut memory = arena(w.program().arena_bytes());
    let mut engine = Engine::new(w.program(), w.source(), bytemuck::cast_slice_mut(&mut memory)).unwrap();
    engine.set_input(&w.input).unwrap();
    let mut bad = w.input.clone();
    let last = bad.len() - 4;
    bad[last..].fill(0xff);
    seal(&mut bad, FileKind::Ciphertext, &named::N12.fingerprint());
    assert_eq!(engine.set_input(&bad), Err(EngineError::InputRange { index: 0 }));
    assert_eq!(engine.run(), Err(EngineError::InputMissing { index: 0 }));
    engine.set_input(&w.input).unwrap();
    engine.run().unwrap();
    assert!(outputs(&engine).unwrap() == w.run());
}

/// Steps, runs and repeated runs give the same bits, and every step names where it is.
#[test]
fn steps_equal_a_run() {
    let w = World::new();
    let expected = w.run();
    let mut memory = arena(w.program().arena_bytes());
    let mut engine = Engine::new(w.program(), w.source(), bytemuck::cast_slice_mut(&mut memory)).unwrap();
    for _ in 0..2 {
        engine.set_input(&w.input).unwrap();
        let (mut last, mut steps) = (0, 0);
        loop {
            match engine.step().unwrap() {
                Progress::Preparing { done, total } => assert!(done <= total && steps == 0),
                Progress::Running { layer, instruction, total } => {
                    assert_eq!((layer, total), ("test", engine.program().instructions()));
                    assert!(instruction >= last && instruction < total);
                    last = instruction;
                    steps += 1;
                }
                Progress::Done => break,
            }
        }
        // One step per pass, and one to fetch each instruction.
        assert_eq!(engine.counts().passes + engine.program().instructions() as u32, steps);
        assert!(outputs(&engine).unwrap() == expected);
        engine.reset();
    }
}

/// Keys whose `fail`-th read fails.
pub struct Failing<'a> {
    pub keys: MappedKeys<'a>,
    pub reads: &'a AtomicUsize,
    pub fail: &'a AtomicUsize,
}

impl KeySource for Failing<'_> {
    fn set(&self) -> [u8; 16] {
        self.keys.set()
    }

    fn key_id(&self) -> [u8; 16] {
        self.keys.key_id()
    }

    fn find(&self, kind: KeyKind, limbs: usize) -> Option<KeyInfo> {
        self.keys.find(kind, limbs)
    }

    fn rows<'a>(
        &'a self,
        key: &KeyInfo,
        half: Half,
        block: usize,
        digits: usize,
        m: &Modulus,
        scratch: &'a mut [u32],
    ) -> Result<&'a [u32], KeyError> {
        if self.reads.fetch_add(1, Ordering::SeqCst) == self.fail.load(Ordering::SeqCst) {
            return Err(KeyError::Damaged { kind: key.kind, block });
        }
        self.keys.rows(key, half, block, digits, m, scratch)
    }
}

#[test]
fn every_key_read_that_fails() {
    let w = World::new();
    let expected = w.run();
    let program = w.program();
    let (reads, fail) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let keys = Failing { keys: w.source(), reads: &reads, fail: &fail };
    let mut memory = arena(program.arena_bytes());
    let mut engine = Engine::new(program, keys, bytemuck::cast_slice_mut(&mut memory)).unwrap();
    engine.set_input(&w.input).unwrap();
    engine.run().unwrap();
    let total = reads.load(Ordering::SeqCst);
    assert!(total >= 20, "{total} reads");
    for n in 0..total {
        engine.reset();
        reads.store(0, Ordering::SeqCst);
        fail.store(n, Ordering::SeqCst);
        engine.set_input(&w.input).unwrap();
        let error = engine.run().unwrap_err();
        assert!(matches!(error, EngineError::Key(KeyError::Damaged { .. })), "read {n}: {error}");
        assert_eq!(reads.load(Ordering::SeqCst), n + 1);
        for _ in 0..2 {
            assert_eq!(engine.step(), Err(error));
            assert_eq!(engine.run(), Err(error));
        }
        assert_eq!(engine.set_input(&w.input), Err(EngineError::Started));
        assert_eq!(engine.write_output(0, &mut []), Err(EngineError::NotDone));
        for i in 0..program.buffers() {
            let limbs = program.buffer(i).unwrap().limbs;
            let zeros = vec![0; 2 * limbs * program.set().n() * 4];
            let digest = engine.buffer_digest(i, limbs).unwrap();
            assert_eq!(cipherlens::files::hex(&digest), sha256(&zeros), "buffer {i} after read {n}");
        }
    }
    engine.reset();
    fail.store(usize::MAX, Ordering::SeqCst);
    engine.set_input(&w.input).unwrap();
    engine.run().unwrap();
    assert!(outputs(&engine).unwrap() == expected, "a reset brings everything back");
}
