//! The C functions as C calls them, on the stored program, keys and ciphertexts.

#![allow(unused_unsafe, clippy::undocumented_unsafe_blocks, reason = "pointers that keep no contract are the subject")]

use super::status::Detail;
use super::*;
use crate::keys::MappedKeys;
use std::cell::Cell;
use std::ffi::CStr;
use std::ptr::{dangling, dangling_mut, null_mut};
use std::vec::Vec;

const PROGRAM: &[u8] = include_bytes!("../../../fixtures/wire/program.clp");
const KEYS: &[u8] = include_bytes!("../../../fixtures/wire/keys.clk");
const INPUT: &[u8] = include_bytes!("../../../fixtures/wire/input.clx");
const OUTPUT: &[u8] = include_bytes!("../../../fixtures/wire/output.clx");

/// The name of a status in the header.
fn name(status: i32) -> &'static str {
    STATUSES.iter().find(|entry| entry.number == status).expect("a known status").name
}

macro_rules! expect {
    ($name:ident, $call:expr) => {{
        let status = unsafe { $call };
        assert_eq!(name(status), stringify!($name));
    }};
}

fn info() -> ProgramInfo {
    let mut info = ProgramInfo::default();
    expect!(OK, cipherlens_program_info(PROGRAM.as_ptr(), PROGRAM.len(), &raw mut info, null_mut()));
    info
}

/// Memory full of what was there before, aligned for everything.
fn words(bytes: usize) -> Vec<u64> {
    std::vec![0xdead_beef_dead_beef; bytes / 8]
}

/// What a program in C would have as static variables.
struct Device {
    engine: EngineMemory,
    arena: Vec<u64>,
    directory: Vec<u8>,
    program: Vec<u8>,
    keys: Vec<u8>,
    detail: Detail,
}

impl Device {
    fn new() -> Self {
        let info = info();
        Self {
            engine: EngineMemory::EMPTY,
            arena: words(info.arena_bytes),
            directory: std::vec![0; info.key_directory_bytes],
            program: PROGRAM.to_vec(),
            keys: KEYS.to_vec(),
            detail: Detail::default(),
        }
    }

    fn engine(&mut self) -> *mut EngineMemory {
        &raw mut self.engine
    }

    fn init(&mut self) -> i32 {
        let Self { engine, arena, program, keys, detail, .. } = self;
        let arena_bytes = arena.len() * 8;
        unsafe {
            cipherlens_init_mapped(
                engine,
                program.as_ptr(),
                program.len(),
                keys.as_ptr(),
                keys.len(),
                arena.as_mut_ptr().cast(),
                arena_bytes,
                detail,
            )
        }
    }

    fn init_streamed(&mut self, reader: *const Reader) -> i32 {
        let Self { engine, arena, program, directory, detail, .. } = self;
        let arena_bytes = arena.len() * 8;
        unsafe {
            cipherlens_init_streamed(
                engine,
                program.as_ptr(),
                program.len(),
                reader,
                directory.as_mut_ptr(),
                directory.len(),
                arena.as_mut_ptr().cast(),
                arena_bytes,
                detail,
            )
        }
    }

    fn ready() -> std::boxed::Box<Self> {
        let mut device = std::boxed::Box::new(Self::new());
        assert_eq!(name(device.init()), "OK");
        device
    }

    fn set_input(&mut self, input: &[u8]) -> i32 {
        unsafe { cipherlens_set_input(&raw mut self.engine, input.as_ptr(), input.len(), &raw mut self.detail) }
    }

    fn output(&mut self) -> Vec<u8> {
        let (mut bytes, mut written) = (0, 0);
        expect!(OK, cipherlens_output_bytes(self.engine(), 0, &raw mut bytes, null_mut()));
        let mut out = std::vec![0; bytes];
        expect!(
            OK,
            cipherlens_write_output(self.engine(), 0, out.as_mut_ptr(), out.len(), &raw mut written, null_mut())
        );
        assert_eq!(written, bytes);
        out
    }

    fn run(&mut self) -> Vec<u8> {
        assert_eq!(name(self.set_input(INPUT)), "OK");
        expect!(OK, cipherlens_run(self.engine(), null_mut()));
        self.output()
    }
}

#[test]
fn the_same_bits_as_the_engine_in_rust() {
    let program = Program::verify(PROGRAM).unwrap();
    let mut arena = words(program.arena_bytes());
    let keys = MappedKeys::verify(KEYS).unwrap();
    let mut engine = Engine::new(program, keys, bytemuck::cast_slice_mut(&mut arena)).unwrap();
    engine.set_input(INPUT).unwrap();
    engine.run().unwrap();
    let mut expected = std::vec![0; engine.output_bytes(0).unwrap()];
    engine.write_output(0, &mut expected).unwrap();
    assert!(expected == OUTPUT, "the stored answer");

    let mut device = Device::ready();
    assert!(device.run() == expected);
    // For the next image, once more.
    expect!(OK, cipherlens_reset(device.engine()));
    assert!(device.run() == expected);
    // With a cache.
    let mut cache = words(info().cache_bytes);
    let bytes = cache.len() * 8;
    expect!(OK, cipherlens_set_cache(device.engine(), cache.as_mut_ptr().cast(), bytes, null_mut()));
    assert!(device.run() == expected);
}

#[test]
fn a_program_says_what_it_needs() {
    let (info, program) = (info(), Program::verify(PROGRAM).unwrap());
    assert_eq!(info.arena_bytes, program.arena_bytes());
    assert_eq!(info.cache_bytes, program.cache_bytes());
    assert_eq!(info.checkpoint_bytes, program.checkpoint_bytes());
    assert_eq!(info.key_directory_bytes, program.key_directory_bytes());
    assert_eq!((info.inputs, info.outputs, info.instructions), (1, 1, program.instructions()));
    assert_eq!(info.output_bytes, OUTPUT.len());
    assert!(info.input_bytes > INPUT.len(), "an input under a public key is not seeded");
    assert_eq!(info.fingerprint, program.fingerprint());
    assert_eq!(unsafe { CStr::from_ptr(info.set.as_ptr()) }.to_str(), Ok(program.set().name()));
}

#[test]
fn steps_tell_where_they_are() {
    let mut device = Device::ready();
    let mut progress = MaybeUninit::<Progress>::uninit();
    // Tables are built before an input is needed.
    while unsafe { cipherlens_step(device.engine(), progress.as_mut_ptr(), null_mut()) } == 0 {
        let progress = unsafe { progress.assume_init() };
        assert_eq!((progress.phase, progress.layer, progress.layer_bytes), (CIPHERLENS_PREPARING, null(), 0));
        assert!(progress.done <= progress.total);
    }
    expect!(INPUT_MISSING, cipherlens_step(device.engine(), progress.as_mut_ptr(), null_mut()));
    assert_eq!(name(device.set_input(INPUT)), "OK");
    let (mut last, mut names) = (0, Vec::new());
    loop {
        expect!(OK, cipherlens_step(device.engine(), progress.as_mut_ptr(), &raw mut device.detail));
        let progress = unsafe { progress.assume_init() };
        if progress.phase == CIPHERLENS_DONE {
            break;
        }
        assert_eq!((progress.phase, progress.total), (CIPHERLENS_RUNNING, info().instructions));
        assert!(progress.done >= last && progress.done < progress.total);
        last = progress.done;
        let bytes = unsafe { std::slice::from_raw_parts(progress.layer.cast(), progress.layer_bytes as usize) };
        names.push(std::str::from_utf8(bytes).unwrap());
    }
    let program = Program::verify(PROGRAM).unwrap();
    let layer = |i| program.layer_name(program.instruction(i).unwrap().layer);
    assert_eq!((names[0], *names.last().unwrap()), (layer(0), layer(last)));
    expect!(STARTED, device.set_input(INPUT));
    assert!(device.output() == OUTPUT);
}

#[test]
fn checkpoints() {
    let mut device = Device::ready();
    assert_eq!(name(device.set_input(INPUT)), "OK");
    (0..40).for_each(|_| expect!(OK, cipherlens_step(device.engine(), null_mut(), null_mut())));
    let mut file = std::vec![0; info().checkpoint_bytes];
    let mut written = 0;
    expect!(
        CHECKPOINT_TOO_SMALL,
        cipherlens_checkpoint(device.engine(), file.as_mut_ptr(), 64, &raw mut written, &raw mut device.detail)
    );
    assert_eq!(device.detail.have, 64);
    expect!(OK, cipherlens_checkpoint(device.engine(), file.as_mut_ptr(), file.len(), &raw mut written, null_mut()));
    let mut other = Device::ready();
    expect!(CHECKPOINT_TRUNCATED, cipherlens_resume(other.engine(), file.as_ptr(), written - 1, null_mut()));
    expect!(CHECKPOINT_KIND, cipherlens_resume(other.engine(), INPUT.as_ptr(), INPUT.len(), &raw mut other.detail));
    assert_eq!(other.detail, Detail { need: 6, have: 3, at: 0 });
    expect!(OK, cipherlens_resume(other.engine(), file.as_ptr(), written, null_mut()));
    expect!(OK, cipherlens_run(other.engine(), null_mut()));
    assert!(other.output() == OUTPUT);
}

/// Storage of a test: how many reads it still grants, how many it has seen, and an engine to call from inside a read.
struct Storage {
    left: Cell<usize>,
    reads: Cell<usize>,
    engine: Cell<*mut EngineMemory>,
    inner: Cell<i32>,
}

unsafe extern "C" fn read(context: *mut c_void, offset: u64, out: *mut u8, bytes: usize) -> u32 {
    let storage = unsafe { &*context.cast::<Storage>() };
    storage.reads.set(storage.reads.get() + 1);
    if storage.left.get() == 0 {
        return 77;
    }
    storage.left.set(storage.left.get() - 1);
    if !storage.engine.get().is_null() {
        storage.inner.set(unsafe { cipherlens_step(storage.engine.get(), null_mut(), null_mut()) });
    }
    let out = unsafe { std::slice::from_raw_parts_mut(out, bytes) };
    out.copy_from_slice(&KEYS[offset as usize..][..bytes]);
    0
}

impl Storage {
    fn new() -> Self {
        Self {
            left: Cell::new(usize::MAX),
            reads: Cell::default(),
            engine: Cell::new(null_mut()),
            inner: Cell::new(-1),
        }
    }

    fn reader(&self) -> Reader {
        Reader { context: (&raw const *self).cast_mut().cast(), bytes: KEYS.len() as u64, read: Some(read) }
    }
}

#[test]
fn streamed_keys() {
    let mut device = Device::new();
    let storage = Storage::new();
    let reader = storage.reader();
    assert_eq!(name(device.init_streamed(&raw const reader)), "OK");
    let opened = storage.reads.get();
    assert!(device.run() == OUTPUT);
    assert!(storage.reads.get() > opened);

    // A callback that calls back finds the engine busy, and a step outside one goes on.
    expect!(OK, cipherlens_reset(device.engine()));
    storage.engine.set(device.engine());
    assert!(device.run() == OUTPUT);
    assert_eq!(name(storage.inner.get()), "BUSY");
    storage.engine.set(null_mut());

    // The device's number arrives, again and again until a reset.
    expect!(OK, cipherlens_reset(device.engine()));
    storage.left.set(0);
    expect!(OK, device.set_input(INPUT));
    for _ in 0..2 {
        expect!(KEY_READ, cipherlens_run(device.engine(), &raw mut device.detail));
        assert_eq!(device.detail.have, 77);
    }
    storage.left.set(usize::MAX);
    expect!(OK, cipherlens_reset(device.engine()));
    assert!(device.run() == OUTPUT);
}

#[test]
fn storage_that_is_cut_or_absent() {
    let mut device = Device::new();
    let storage = Storage::new();
    let reader = storage.reader();
    expect!(NULL_POINTER, device.init_streamed(null()));
    expect!(NULL_POINTER, device.init_streamed(&Reader { read: None, ..reader }));
    let cut = Reader { bytes: KEYS.len() as u64 - 1, ..reader };
    expect!(KEYS_TRUNCATED, device.init_streamed(&raw const cut));
    assert_eq!(device.detail, Detail { need: KEYS.len() as u64, have: KEYS.len() as u64 - 1, at: 0 });
    expect!(KEYS_TRUNCATED, device.init_streamed(&Reader { bytes: 0, ..reader }));
    let need = device.directory.len() as u64;
    device.directory.pop();
    expect!(KEY_DIRECTORY_TOO_SMALL, device.init_streamed(&raw const reader));
    assert_eq!(device.detail, Detail { need, have: need - 1, at: 0 });
    expect!(NOT_INITIALISED, cipherlens_run(device.engine(), null_mut()));
}

#[test]
fn pointers_that_are_null() {
    let mut device = Device::ready();
    let (program, engine) = (PROGRAM.as_ptr(), device.engine());
    let (mut bytes, mut info) = (0, ProgramInfo::default());
    let arena: *mut u8 = device.arena.as_mut_ptr().cast();
    let (none, no_engine) = (null_mut::<Detail>(), null_mut::<EngineMemory>());
    expect!(NULL_POINTER, cipherlens_program_info(null(), 0, &raw mut info, none));
    expect!(NULL_POINTER, cipherlens_program_info(program, PROGRAM.len(), null_mut(), none));
    expect!(NULL_POINTER, cipherlens_selftest(null_mut(), CIPHERLENS_SELFTEST_BYTES, none));
    expect!(NULL_POINTER, cipherlens_set_cache(engine, null_mut(), 0, none));
    expect!(NULL_POINTER, cipherlens_set_input(engine, null(), 0, none));
    expect!(NULL_POINTER, cipherlens_output_bytes(engine, 0, null_mut(), none));
    expect!(NULL_POINTER, cipherlens_write_output(engine, 0, null_mut(), 0, &raw mut bytes, none));
    expect!(NULL_POINTER, cipherlens_checkpoint(engine, null_mut(), 1, &raw mut bytes, none));
    expect!(NULL_POINTER, cipherlens_resume(engine, null(), 1, none));
    let mut out = std::vec![0; OUTPUT.len()];
    expect!(NULL_POINTER, cipherlens_write_output(engine, 0, out.as_mut_ptr(), out.len(), null_mut(), none));
    expect!(NULL_POINTER, cipherlens_set_cache(no_engine, out.as_mut_ptr(), out.len(), none));
    expect!(NULL_POINTER, cipherlens_set_input(no_engine, INPUT.as_ptr(), INPUT.len(), none));
    expect!(NULL_POINTER, cipherlens_step(no_engine, null_mut(), none));
    expect!(NULL_POINTER, cipherlens_run(no_engine, none));
    expect!(NULL_POINTER, cipherlens_output_bytes(no_engine, 0, &raw mut bytes, none));
    expect!(NULL_POINTER, cipherlens_write_output(no_engine, 0, out.as_mut_ptr(), 1, &raw mut bytes, none));
    expect!(NULL_POINTER, cipherlens_checkpoint(no_engine, out.as_mut_ptr(), 1, &raw mut bytes, none));
    expect!(NULL_POINTER, cipherlens_resume(no_engine, INPUT.as_ptr(), 1, none));
    expect!(NULL_POINTER, cipherlens_reset(no_engine));
    let (keys, len, arena_bytes) = (KEYS.as_ptr(), PROGRAM.len(), device.arena.len() * 8);
    let init = |engine, program, keys, arena| unsafe {
        cipherlens_init_mapped(engine, program, len, keys, KEYS.len(), arena, arena_bytes, none)
    };
    expect!(NULL_POINTER, init(no_engine, program, keys, arena));
    // The engine is still there, and gone after a failure that came later.
    expect!(OK, cipherlens_reset(engine));
    expect!(NULL_POINTER, init(engine, null(), keys, arena));
    expect!(NOT_INITIALISED, cipherlens_reset(engine));
    expect!(NULL_POINTER, init(engine, program, null(), arena));
    expect!(NULL_POINTER, init(engine, program, keys, null_mut()));
    expect!(OK, init(engine, program, keys, arena));
}

#[test]
fn pointers_and_lengths_that_cannot_be() {
    let mut device = Device::ready();
    let engine = device.engine();
    let none = null_mut::<Detail>();
    let (mut bytes, mut info) = (0usize, ProgramInfo::default());
    let too_long = isize::MAX as usize + 1;
    for len in [too_long, usize::MAX] {
        expect!(LENGTH, cipherlens_program_info(PROGRAM.as_ptr(), len, &raw mut info, none));
        expect!(LENGTH, cipherlens_selftest(dangling_mut(), len, none));
        expect!(LENGTH, cipherlens_set_input(engine, INPUT.as_ptr(), len, none));
        expect!(LENGTH, cipherlens_set_cache(engine, dangling_mut(), len, none));
        expect!(LENGTH, cipherlens_resume(engine, INPUT.as_ptr(), len, none));
        expect!(LENGTH, cipherlens_checkpoint(engine, dangling_mut(), len, &raw mut bytes, none));
    }
    let last = std::ptr::without_provenance::<u8>(usize::MAX - 8);
    expect!(LENGTH, cipherlens_set_input(engine, last, 16, none));

    fn off<T>(pointer: *mut T) -> *mut T {
        pointer.wrapping_byte_add(1)
    }
    expect!(MISALIGNED_POINTER, cipherlens_run(off(engine), none));
    expect!(MISALIGNED_POINTER, cipherlens_reset(off(engine)));
    expect!(MISALIGNED_POINTER, cipherlens_output_bytes(engine, 0, off(&raw mut bytes), none));
    expect!(MISALIGNED_POINTER, cipherlens_step(engine, dangling::<u8>().cast_mut().cast(), none));
    let info = off(&raw mut info);
    expect!(MISALIGNED_POINTER, cipherlens_program_info(PROGRAM.as_ptr(), PROGRAM.len(), info, none));
    // Details that cannot be written are not; the status still comes.
    expect!(INPUT_MISSING, cipherlens_run(engine, off(&raw mut device.detail)));
    assert_eq!(device.detail, Detail::default());

    let memory: *mut u8 = device.arena.as_mut_ptr().cast();
    let need = device.arena.len() * 8;
    let (keys, program) = (&device.keys, &device.program);
    let mut at = |arena, bytes| unsafe {
        cipherlens_init_mapped(
            engine,
            program.as_ptr(),
            program.len(),
            keys.as_ptr(),
            keys.len(),
            arena,
            bytes,
            &raw mut device.detail,
        )
    };
    expect!(ARENA_TOO_SMALL, at(memory, need - 1));
    expect!(ARENA_TOO_SMALL, at(memory, 0));
    assert_eq!(device.detail, Detail { need: need as u64, have: 0, at: 0 });
    let mut larger = words(need + 8);
    let arena = larger.as_mut_ptr().cast::<u8>();
    let misaligned = unsafe {
        let detail = &raw mut device.detail;
        cipherlens_init_mapped(
            engine,
            program.as_ptr(),
            program.len(),
            keys.as_ptr(),
            keys.len(),
            arena.add(1),
            need,
            detail,
        )
    };
    assert_eq!(name(misaligned), "MISALIGNED");
}

#[test]
fn memory_that_overlaps() {
    let mut device = Device::ready();
    let engine = device.engine();
    let none = null_mut::<Detail>();
    let arena: *mut u8 = device.arena.as_mut_ptr().cast();
    let last = unsafe { arena.add(device.arena.len() * 8 - 1) };
    let mut bytes = 0;
    expect!(OVERLAP, cipherlens_set_input(engine, arena, 64, none));
    expect!(OVERLAP, cipherlens_set_input(engine, last, 1, none));
    expect!(OVERLAP, cipherlens_set_cache(engine, last, 1, none));
    expect!(OVERLAP, cipherlens_write_output(engine, 0, arena, 64, &raw mut bytes, none));
    expect!(OVERLAP, cipherlens_write_output(engine, 0, engine.cast(), 64, &raw mut bytes, none));
    expect!(OVERLAP, cipherlens_write_output(engine, 0, device.keys.as_mut_ptr(), 1, &raw mut bytes, none));
    expect!(OVERLAP, cipherlens_checkpoint(engine, device.program.as_mut_ptr(), 1, &raw mut bytes, none));
    expect!(OVERLAP, cipherlens_step(engine, arena.cast(), none));
    expect!(OVERLAP, cipherlens_output_bytes(engine, 0, arena.cast(), none));
    let mut out = words(64);
    let written: *mut usize = unsafe { out.as_mut_ptr().add(2).cast() };
    expect!(OVERLAP, cipherlens_write_output(engine, 0, out.as_mut_ptr().cast(), 64, written, none));
    // Keys in the arena, program in the engine.
    let (len, need) = (PROGRAM.len(), device.arena.len() * 8);
    let init =
        |program, keys, bytes| unsafe { cipherlens_init_mapped(engine, program, len, keys, bytes, arena, need, none) };
    expect!(OVERLAP, init(PROGRAM.as_ptr(), arena, 64));
    expect!(OVERLAP, init(engine.cast(), KEYS.as_ptr(), KEYS.len()));
    expect!(OVERLAP, init(arena, KEYS.as_ptr(), KEYS.len()));
    // The byte after the arena is free.
    expect!(OK, init(PROGRAM.as_ptr(), KEYS.as_ptr(), KEYS.len()));
    expect!(INPUT_TRUNCATED, cipherlens_set_input(engine, last.wrapping_add(1), 0, none));
}

#[test]
fn memory_without_an_engine() {
    let mut empty = EngineMemory::EMPTY;
    let (engine, none) = (&raw mut empty, null_mut::<Detail>());
    expect!(NOT_INITIALISED, cipherlens_run(engine, none));
    expect!(NOT_INITIALISED, cipherlens_set_input(engine, INPUT.as_ptr(), INPUT.len(), none));
    expect!(NOT_INITIALISED, cipherlens_reset(engine));
    let mut noise = EngineMemory { opaque: [MaybeUninit::new(0x5555_aaaa_1234_5678); CIPHERLENS_ENGINE_WORDS] };
    expect!(NOT_INITIALISED, cipherlens_run(&raw mut noise, none));
    // A copy of an engine is none: both would use one arena.
    let device = Device::ready();
    let mut copy = EngineMemory { opaque: device.engine.opaque };
    expect!(NOT_INITIALISED, cipherlens_run(&raw mut copy, none));
}

/// Another thread is in a call: nothing may take its arena away.
#[test]
fn an_engine_in_use_is_not_made_anew() {
    let mut device = Device::ready();
    let arena = device.arena.clone();
    let [ready, busy] = marks(device.engine());
    unsafe { mark(device.engine()) }.store(busy, Ordering::Release);
    expect!(BUSY, device.init());
    expect!(BUSY, cipherlens_run(device.engine(), null_mut()));
    assert!(device.arena == arena);
    unsafe { mark(device.engine()) }.store(ready, Ordering::Release);
    assert_eq!(name(device.set_input(INPUT)), "OK");
}

#[test]
fn damaged_files() {
    let mut device = Device::new();
    device.program[PROGRAM.len() / 2] ^= 1;
    expect!(PROGRAM_DIGEST, device.init());
    let mut info = ProgramInfo::default();
    let (program, bytes) = (device.program.as_ptr(), device.program.len());
    expect!(PROGRAM_DIGEST, cipherlens_program_info(program, bytes, &raw mut info, null_mut()));
    assert_eq!(info, ProgramInfo::default());
    device.program = PROGRAM[..100].to_vec();
    expect!(PROGRAM_TRUNCATED, device.init());
    assert_eq!(device.detail, Detail { need: PROGRAM.len() as u64, have: 100, at: 0 });
    device.program = KEYS.to_vec();
    expect!(PROGRAM_KIND, device.init());
    assert_eq!(device.detail, Detail { need: 1, have: 2, at: 0 });
    device.program = PROGRAM.to_vec();
    device.keys.pop();
    expect!(KEYS_TRUNCATED, device.init());
    device.keys = KEYS.to_vec();
    *device.keys.last_mut().unwrap() ^= 1;
    expect!(KEYS_DIGEST, device.init());
    device.keys = KEYS.to_vec();
    expect!(OK, device.init());
    assert_eq!(device.detail, Detail::default());
    let mut input = INPUT.to_vec();
    input[4000] ^= 4;
    expect!(INPUT_DIGEST, device.set_input(&input));
    expect!(NOT_AN_INPUT, device.set_input(OUTPUT));
    let mut written = 0;
    let mut out = std::vec![7; OUTPUT.len()];
    let (engine, to, len) = (device.engine(), out.as_mut_ptr(), out.len());
    let mut write =
        |index, len| unsafe { cipherlens_write_output(engine, index, to, len, &raw mut written, null_mut()) };
    expect!(NOT_DONE, write(0, len));
    assert!(device.run() == OUTPUT);
    expect!(NOT_AN_OUTPUT, write(1, len));
    expect!(OUTPUT_TOO_SMALL, write(0, len - 1));
    assert!(out.iter().all(|&byte| byte == 7) && written == 0);
}

#[test]
fn selftest_and_texts() {
    let mut memory = words(CIPHERLENS_SELFTEST_BYTES);
    let (to, mut detail) = (memory.as_mut_ptr().cast::<u8>(), Detail::default());
    expect!(OK, cipherlens_selftest(to, CIPHERLENS_SELFTEST_BYTES, &raw mut detail));
    expect!(SELFTEST_MEMORY_TOO_SMALL, cipherlens_selftest(to, 100, &raw mut detail));
    assert_eq!(detail, Detail { need: CIPHERLENS_SELFTEST_BYTES as u64, have: 100, at: 0 });
    let text = |status| unsafe { CStr::from_ptr(cipherlens_strerror(status)) }.to_str().unwrap();
    assert_eq!(text(0), "no error");
    assert_eq!(text(301), "the arena is too small");
    for status in [-1, 7, 100, 999, i32::MAX, i32::MIN] {
        assert_eq!(text(status), "unknown status");
    }
    assert_eq!(cipherlens_engine_bytes(), CIPHERLENS_ENGINE_WORDS * 8);
    let version = unsafe { CStr::from_ptr(cipherlens_version()) };
    assert_eq!(version.to_str(), Ok(env!("CARGO_PKG_VERSION")));
}
