//! Storage that is cut, damaged or fails while keys are read from it.

use crate::tiny;
use cipherlens::pool::Pool;
use cipherlens_kernel::engine::{Engine, EngineError};
use cipherlens_kernel::keys::{KeyError, KeyReader, KeyRequest, ReadError, StreamedKeys};
use cipherlens_kernel::math::Detected;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::{FileKind, KEY_FRONT, WireError};
use cipherlens_tests::lab::{Lab, Run, arena, manifest, outputs};
use std::sync::atomic::{AtomicUsize, Ordering};

fn open(bytes: &[u8]) -> Result<(), KeyError> {
    StreamedKeys::open(bytes, &mut vec![0; 4096]).map(|_| ())
}

#[test]
fn cut_storage() {
    let run = Run::new(tiny().bytes, 81);
    let length = run.keys.len() as u64;
    let front = [0, 1, 63, 64, 100, 127, 128, KEY_FRONT - 1, KEY_FRONT, KEY_FRONT + 1, 500, run.keys.len() - 1];
    for cut in front {
        let need = if cut < 64 { 64 } else { length };
        let expected = KeyError::File(WireError::Truncated { need, have: cut as u64 });
        assert_eq!(open(&run.keys[..cut]), Err(expected), "cut to {cut}");
    }
    assert_eq!(open(&run.keys), Ok(()));
    assert_eq!(
        open(&run.program),
        Err(KeyError::File(WireError::Kind { expected: FileKind::Keys, found: FileKind::Program.code() }))
    );
}

/// Every bit of the front, which stays in memory.
#[test]
fn damaged_directory() {
    let run = Run::new(tiny().bytes, 82);
    let front = run.program().key_directory_bytes();
    let mut bytes = run.keys.clone();
    for bit in 0..8 * front {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Bits anywhere in the payload, also where only the digest looks: keys here have more limbs than the program uses.
#[test]
fn damaged_blocks() {
    let tiny = tiny();
    let program = Program::verify(&tiny.bytes).unwrap();
    let mut lab = Lab::new(*program.set(), 83);
    let requests: Vec<KeyRequest> = manifest(&program).iter().map(|r| KeyRequest { limbs: 4, ..*r }).collect();
    let mut keys = lab.bundle(&requests);
    let input = lab.encrypt(&program, 0, &tiny.inputs[0], false);
    let accesses: Vec<_> = program.key_accesses().collect();
    for access in accesses.iter().step_by(3) {
        let place = {
            let bundle = cipherlens_kernel::wire::KeyBundle::new_checked(&keys).unwrap();
            let entry = (0..bundle.len()).filter_map(|i| bundle.entry(i)).find(|e| e.request.kind == access.kind);
            let block = if access.prime < access.limbs { access.prime } else { 4 + access.prime - access.limbs };
            bundle.directory().place(&entry.unwrap(), block).unwrap()
        };
        for at in [place.0, place.0 + place.1 - 1] {
            keys[at] ^= 16;
            let mut directory = vec![0; 4096];
            // Opening looks at the front only.
            let source = StreamedKeys::open(keys.as_slice(), &mut directory).unwrap();
            let mut memory = arena(program.arena_bytes());
            let mut engine = Engine::new(program, source, bytemuck::cast_slice_mut(&mut memory)).unwrap();
            engine.set_input(&input).unwrap();
            let error = engine.run().unwrap_err();
            assert!(
                matches!(error, EngineError::Key(KeyError::Damaged { kind, .. }) if kind == access.kind),
                "{error} for {access:?}"
            );
            assert_eq!(engine.step(), Err(error));
            keys[at] ^= 16;
        }
    }
}

/// Storage of which some reads fail, once.
struct Failing<'a> {
    bytes: &'a [u8],
    reads: AtomicUsize,
    /// First read that fails, and how many do.
    fail: (AtomicUsize, usize),
    error: ReadError,
}

impl<'a> Failing<'a> {
    fn new(bytes: &'a [u8], count: usize, error: ReadError) -> Self {
        Self { bytes, reads: AtomicUsize::new(0), fail: (AtomicUsize::new(usize::MAX), count), error }
    }

    fn fail_at(&self, read: usize) {
        self.reads.store(0, Ordering::SeqCst);
        self.fail.0.store(read, Ordering::SeqCst);
    }
}

impl KeyReader for Failing<'_> {
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), ReadError> {
        let read = self.reads.fetch_add(1, Ordering::SeqCst);
        let first = self.fail.0.load(Ordering::SeqCst);
        if read >= first && read - first < self.fail.1 {
            return Err(self.error);
        }
        self.bytes.read(offset, out)
    }
}

#[test]
fn every_read_that_fails() {
    let run = Run::new(tiny().bytes, 84);
    let program = run.program();
    let cases = [
        (ReadError::Device { code: 17 }, None),
        (
            ReadError::End { have: 5 },
            Some(KeyError::File(WireError::Truncated { need: run.keys.len() as u64, have: 5 })),
        ),
    ];
    for (error, expected) in cases {
        let storage = Failing::new(&run.keys, 1, error);
        // While the file is opened.
        for read in 0..4 {
            storage.fail_at(read);
            assert!(StreamedKeys::open(&storage, &mut vec![0; 4096]).is_err());
        }
        storage.fail_at(usize::MAX);
        let mut directory = vec![0; 4096];
        let keys = StreamedKeys::open(&storage, &mut directory).unwrap();
        let mut memory = arena(program.arena_bytes());
        let mut engine = Engine::new(program, keys, bytemuck::cast_slice_mut(&mut memory)).unwrap();
        for read in 0..program.key_accesses().count() {
            engine.reset();
            engine.set_input(&run.inputs[0]).unwrap();
            storage.fail_at(read);
            let found = engine.run().unwrap_err();
            match expected {
                Some(expected) => assert_eq!(found, EngineError::Key(expected)),
                None => assert!(matches!(found, EngineError::Key(KeyError::Read { code: 17, .. })), "{found}"),
            }
            // The storage works again; the engine stays failed all the same.
            assert_eq!(engine.step(), Err(found));
            assert_eq!(engine.checkpoint(&mut []), Err(found));
            assert_eq!(engine.write_output(0, &mut []), Err(EngineError::NotDone));
        }
        engine.reset();
        storage.fail_at(usize::MAX);
        engine.set_input(&run.inputs[0]).unwrap();
        engine.run().unwrap();
        assert!(outputs(&engine).unwrap() == run.outputs);
    }
}

/// Units of one phase that fail side by side and would not fail again: none of them may go missing.
#[test]
fn reads_that_fail_once_on_several_threads() {
    let run = Run::new(tiny().bytes, 85);
    let program = run.program();
    let pool = Pool::new(3).unwrap();
    for count in [1, 2, 3] {
        let storage = Failing::new(&run.keys, count, ReadError::Device { code: 3 });
        let mut directory = vec![0; 4096];
        let keys = StreamedKeys::open(&storage, &mut directory).unwrap();
        let mut memory = arena(program.arena_bytes_for(3));
        let memory = bytemuck::cast_slice_mut(&mut memory);
        let mut engine = Engine::with_workers(program, keys, memory, Detected::new(), 3).unwrap();
        for read in 0..program.key_accesses().count() {
            engine.reset();
            engine.set_input(&run.inputs[0]).unwrap();
            storage.fail_at(read);
            let found = engine.run_on(&pool, |_| ()).unwrap_err();
            assert!(matches!(found, EngineError::Key(KeyError::Read { code: 3, .. })), "{found}");
        }
        engine.reset();
        storage.fail_at(usize::MAX);
        engine.set_input(&run.inputs[0]).unwrap();
        engine.run_on(&pool, |_| ()).unwrap();
        assert!(outputs(&engine).unwrap() == run.outputs);
    }
}
