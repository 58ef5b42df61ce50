//! Keys that stay in storage: the same bits, and reads in the order that the program announces.

use cipherlens::pool::Pool;
use cipherlens_kernel::engine::Engine;
use cipherlens_kernel::keys::{
    Half, KeyError, KeyInfo, KeyKind, KeyReader, KeyRequest, KeySource, MappedKeys, ReadError, StreamedKeys,
};
use cipherlens_kernel::math::{Detected, Modulus};
use cipherlens_kernel::params::named;
use cipherlens_kernel::program::Program;
use cipherlens_tests::assemble::{blocks, tiny, two_groups};
use cipherlens_tests::fixtures::{compiled, model};
use cipherlens_tests::lab::{Cached, Lab, Run, arena, manifest, outputs, run, set_cache};
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Storage that counts reads of more than a few sectors.
struct Storage<'a> {
    bytes: &'a [u8],
    reads: AtomicUsize,
    most: AtomicUsize,
}

impl<'a> Storage<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, reads: AtomicUsize::new(0), most: AtomicUsize::new(0) }
    }
}

impl KeyReader for Storage<'_> {
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), ReadError> {
        self.reads.fetch_add(usize::from(out.len() > 512), Ordering::Relaxed);
        self.most.fetch_max(out.len(), Ordering::Relaxed);
        self.bytes.read(offset, out)
    }
}

/// Runs with streamed keys and checks the outputs.
fn check(run: &Run, keys: &[u8], workers: usize) -> usize {
    let program = run.program();
    // A partition is larger than the file in it.
    let partition = [keys, &[0xa5; 1000]].concat();
    let storage = Storage::new(&partition);
    let mut directory = vec![0; StreamedKeys::directory_bytes(&&storage).unwrap()];
    let keys = StreamedKeys::open(&storage, &mut directory).unwrap();
    let mut memory = arena(program.arena_bytes_for(workers));
    let memory = bytemuck::cast_slice_mut(&mut memory);
    let mut engine = Engine::with_workers(program, keys, memory, Detected::new(), workers).unwrap();
    for input in &run.inputs {
        engine.set_input(input).unwrap();
    }
    storage.reads.store(0, Ordering::Relaxed);
    storage.most.store(0, Ordering::Relaxed);
    engine.run_on(&Pool::new(workers).unwrap(), |_| ()).unwrap();
    assert!(outputs(&engine).unwrap() == run.outputs);
    let block = 4 * program.set().n() * program.set().digits(program.limbs());
    assert!(storage.most.into_inner() <= block, "no more than a block at a time");
    storage.reads.into_inner()
}

#[test]
fn streamed_keys_give_the_same_bits() {
    let run = Run::new(tiny().bytes, 71);
    for workers in [1, 3] {
        let reads = check(&run, &run.keys, workers);
        assert_eq!(reads, run.program().key_accesses().count(), "one read for each block");
    }
}

#[test]
fn a_model_runs_on_streamed_keys() {
    let run = Run::new(compiled(&model("mnist-micro")).bytes, 72);
    check(&run, &run.keys, 1);
}

/// The rest of a block that is longer than the instruction asks for is hashed.
#[test]
fn keys_above_the_level_of_the_program() {
    let tiny = tiny();
    let program = Program::verify(&tiny.bytes).unwrap();
    let mut lab = Lab::new(*program.set(), 73);
    let requests: Vec<KeyRequest> = manifest(&program).iter().map(|r| KeyRequest { limbs: 4, ..*r }).collect();
    let keys = lab.bundle(&requests);
    let inputs = vec![lab.encrypt(&program, 0, &tiny.inputs[0], false)];
    let outputs = run(program, &keys, &inputs, Default::default()).unwrap();
    let run = Run { program: tiny.bytes, keys, inputs, outputs };
    check(&run, &run.keys, 1);
}

#[test]
fn memory_for_the_directory_is_known_from_the_program() {
    let run = Run::new(tiny().bytes, 74);
    let need = StreamedKeys::directory_bytes(&run.keys.as_slice()).unwrap();
    assert_eq!(need, run.program().key_directory_bytes());
    let error = StreamedKeys::open(run.keys.as_slice(), &mut vec![0; need - 1]).err();
    assert_eq!(error, Some(KeyError::DirectoryTooSmall { need, have: need - 1 }));
    let mut directory = vec![0; need];
    let keys = StreamedKeys::open(run.keys.as_slice(), &mut directory).unwrap();
    assert_eq!((keys.set(), keys.key_id()), (run.mapped().set(), run.mapped().key_id()));
}

/// Keys that note what is asked for.
struct Recorder<'a> {
    keys: MappedKeys<'a>,
    asked: &'a RefCell<Vec<(KeyKind, usize, usize, Half)>>,
}

impl KeySource for Recorder<'_> {
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
        self.asked.borrow_mut().push((key.kind, block, digits, half));
        self.keys.rows(key, half, block, digits, m, scratch)
    }
}

#[test]
fn keys_are_read_in_the_announced_order() {
    let blocks = blocks(named::N12, 3, 19.0, 2);
    for bytes in [tiny().bytes, two_groups().bytes, blocks.bytes, compiled(&model("mnist-micro")).bytes] {
        let run = Run::new(bytes, 75);
        let program = run.program();
        let announced: Vec<_> = program
            .key_accesses()
            .flat_map(|access| {
                let key = run.mapped().find(access.kind, access.limbs).unwrap();
                [Half::B, Half::A].map(|half| (access.kind, access.block(&key), access.digits, half))
            })
            .collect();
        assert!(program.key_accesses().is_sorted_by_key(|access| access.instruction));
        for cached in Cached::WAYS {
            let asked = RefCell::default();
            let keys = Recorder { keys: run.mapped(), asked: &asked };
            let (mut memory, mut cache) = (arena(program.arena_bytes()), cached.memory(&program));
            let mut engine = Engine::new(program, keys, bytemuck::cast_slice_mut(&mut memory)).unwrap();
            set_cache(&mut engine, &mut cache);
            for input in &run.inputs {
                engine.set_input(input).unwrap();
            }
            engine.run().unwrap();
            let accesses = asked.borrow().len();
            let switches = engine.counts().key_switches as usize;
            assert!(accesses > 2 * switches, "{accesses} reads for {switches} key switches");
            drop(engine);
            assert!(asked.into_inner() == announced);
        }
    }
}
