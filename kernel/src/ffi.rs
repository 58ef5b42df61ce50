//! The kernel for C: `kernel/c/include/cipherlens.h` is made from this file and [`status`].
//!
//! Nothing is allocated: an engine lies in memory of the caller, with an address for its mark, so that memory that holds
//! none is found. Every pointer is checked as far as a callee can; what it cannot check is the contract at the head of the
//! header: memory is as long as stated, and what an engine was given stays as it is while the engine is in use.

#![allow(clippy::missing_safety_doc, reason = "one contract for all functions, at the head of the header")]

pub mod status;

use crate::engine::{Engine, EngineError, Progress as Step};
use crate::keys::{KeyError, KeyReader, MappedKeys, ReadError, StoredKeys, StreamedKeys};
use crate::math::Detected;
use crate::params::MAX_LIMBS;
use crate::program::{Port, Program};
use crate::selftest::{SELFTEST_BYTES, selftest};
use crate::wire::{CiphertextHeader, Role};
use core::ffi::{c_char, c_void};
use core::mem::MaybeUninit;
use core::ptr::null;
use core::sync::atomic::{AtomicUsize, Ordering};
use status::{Detail, Failure, STATUSES, Status};

/// Bytes of memory that cipherlens_selftest() takes.
pub const CIPHERLENS_SELFTEST_BYTES: usize = 34816;

const _: () = assert!(CIPHERLENS_SELFTEST_BYTES == SELFTEST_BYTES);

/// Double words of an engine: enough on every target.
pub const CIPHERLENS_ENGINE_WORDS: usize = 192;

/// Tables or cache are being built; done and total count these.
pub const CIPHERLENS_PREPARING: u32 = 0;
/// An instruction is being executed; done is its index, total the number of instructions.
pub const CIPHERLENS_RUNNING: u32 = 1;
/// All outputs are ready.
pub const CIPHERLENS_DONE: u32 = 2;

/// Memory for an engine, zeroed before the first use, and again after a call that did not return (a task that was stopped). It must
/// not be copied or moved while it holds an engine.
#[repr(C)]
pub struct EngineMemory {
    opaque: [MaybeUninit<u64>; CIPHERLENS_ENGINE_WORDS],
}

impl EngineMemory {
    /// Memory without an engine.
    pub const EMPTY: Self = Self { opaque: [MaybeUninit::new(0); CIPHERLENS_ENGINE_WORDS] };
}

/// What a verified program says about itself. Sizes are in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProgramInfo {
    /// Arena of an engine.
    pub arena_bytes: usize,
    /// Cache for expanded weights, if one is wanted.
    pub cache_bytes: usize,
    /// The largest checkpoint.
    pub checkpoint_bytes: usize,
    /// Directory of streamed keys, if the key file holds what the program asks for and no more.
    pub key_directory_bytes: usize,
    /// The largest input file. Inputs encrypted under the secret key take about half of it.
    pub input_bytes: usize,
    /// The largest output file.
    pub output_bytes: usize,
    /// Number of inputs.
    pub inputs: usize,
    /// Number of outputs.
    pub outputs: usize,
    /// Number of instructions.
    pub instructions: usize,
    /// Identity of the program, as in its inputs and outputs.
    pub fingerprint: [u8; 16],
    /// Name of the parameter set, with a 0 at its end.
    pub set: [c_char; 9],
}

/// What a step did.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// CIPHERLENS_PREPARING, CIPHERLENS_RUNNING or CIPHERLENS_DONE.
    pub phase: u32,
    /// Bytes of the layer's name.
    pub layer_bytes: u32,
    /// Name of the layer, UTF-8 without a 0 at its end, in the program's memory; null unless an instruction is executed.
    pub layer: *const c_char,
    /// Tables or weights done, or the instruction.
    pub done: usize,
    /// Of how many.
    pub total: usize,
}

/// Storage that holds a key file from its byte 0 on and cannot be mapped: SD card, serial flash.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    /// Passed on to read.
    pub context: *mut c_void,
    /// Bytes that the storage holds; nothing beyond them is read.
    pub bytes: u64,
    /// Fills out with the bytes from offset on. Returns 0, or the device's own number for what happened, which arrives in
    /// cipherlens_detail.have. It must not call a function for the same engine.
    pub read: Option<unsafe extern "C" fn(context: *mut c_void, offset: u64, out: *mut u8, bytes: usize) -> u32>,
}

impl KeyReader for Reader {
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), ReadError> {
        let end = ReadError::End { have: self.bytes };
        if offset.checked_add(out.len() as u64).ok_or(end)? > self.bytes {
            return Err(end);
        }
        let read = self.read.ok_or(ReadError::Device { code: u32::MAX })?;
        // SAFETY: the buffer is as long as stated; the rest is the contract of the function.
        match unsafe { read(self.context, offset, out.as_mut_ptr(), out.len()) } {
            0 => Ok(()),
            code => Err(ReadError::Device { code }),
        }
    }
}

/// Where an engine's keys are.
type Keys = StoredKeys<'static, Reader>;

/// Addresses of memory in use.
#[derive(Clone, Copy, Default)]
struct Region {
    start: usize,
    end: usize,
}

impl Region {
    /// `len` bytes from `data` on, which must be memory that can exist.
    fn new<T>(data: *const T, len: usize) -> Result<Self, Failure> {
        if data.is_null() {
            return Err(Failure::plain(Status::NULL_POINTER));
        }
        let start = data.addr();
        let end = start.checked_add(len).filter(|_| len <= isize::MAX as usize);
        Ok(Self { start, end: end.ok_or(Failure::plain(Status::LENGTH))? })
    }

    fn meets(&self, other: &Self) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }
}

/// Fails if `region` overlaps one of `others`.
fn apart(region: &Region, others: &[Region]) -> Result<(), Failure> {
    if others.iter().any(|other| region.meets(other)) { Err(Failure::plain(Status::OVERLAP)) } else { Ok(()) }
}

/// Bytes that C lends for reading.
///
/// # Safety
/// The bytes exist, and nothing writes them during `'a`.
unsafe fn bytes<'a>(data: *const u8, len: usize) -> Result<&'a [u8], Failure> {
    Region::new(data, len)?;
    // SAFETY: not null and not too long; the caller answers for the rest.
    Ok(unsafe { core::slice::from_raw_parts(data, len) })
}

/// Bytes that C lends for writing.
///
/// # Safety
/// The bytes exist and hold some value, and nothing else reads or writes them during `'a`.
unsafe fn bytes_mut<'a>(data: *mut u8, len: usize) -> Result<&'a mut [u8], Failure> {
    Region::new(data, len)?;
    // SAFETY: not null and not too long; the caller answers for the rest.
    Ok(unsafe { core::slice::from_raw_parts_mut(data, len) })
}

/// Checks a pointer to a structure.
fn place<T>(pointer: *const T) -> Result<(), Failure> {
    if pointer.is_null() {
        Err(Failure::plain(Status::NULL_POINTER))
    } else if pointer.is_aligned() {
        Ok(())
    } else {
        Err(Failure::plain(Status::MISALIGNED_POINTER))
    }
}

/// The number for C, and the details where it wants them.
///
/// # Safety
/// `detail` is null or can be written.
unsafe fn report(detail: *mut Detail, result: Result<(), Failure>) -> i32 {
    let Failure { status, detail: numbers } = result.err().unwrap_or(Failure::plain(Status::OK));
    if place(detail).is_ok() {
        // SAFETY: checked, and the caller answers for the memory.
        unsafe { detail.write(numbers) };
    }
    status as i32
}

/// An engine and the memory that it uses besides its own.
struct Body {
    engine: Engine<'static, 'static, Keys>,
    program: Region,
    keys: Region,
    directory: Region,
    arena: Region,
    cache: Region,
    own: Region,
}

impl Body {
    /// Memory that the engine writes.
    fn written(&self) -> [Region; 3] {
        [self.arena, self.cache, self.own]
    }

    /// Memory that nobody else may write.
    fn used(&self) -> [Region; 6] {
        [self.program, self.keys, self.directory, self.arena, self.cache, self.own]
    }
}

/// What lies in [`EngineMemory`].
#[repr(C)]
struct Slot {
    mark: AtomicUsize,
    body: Body,
}

const _: () = assert!(size_of::<Slot>() <= size_of::<EngineMemory>(), "an engine needs more words");
const _: () = assert!(align_of::<Slot>() <= align_of::<EngineMemory>());

/// The marks of an engine at this address that is ready, and of one that is in use.
fn marks(memory: *const EngineMemory) -> [usize; 2] {
    let ready = memory.addr() ^ 0x7e4c_3a91;
    [ready, !ready]
}

/// The mark of this memory.
///
/// # Safety
/// The pointer was checked, and the memory is there during `'a`.
unsafe fn mark<'a>(memory: *const EngineMemory) -> &'a AtomicUsize {
    // SAFETY: the mark is an atomic from the first use on, and zero before; no reference to the whole slot exists.
    unsafe { &(*memory.cast::<Slot>()).mark }
}

/// Runs `act` on the engine in this memory, which nobody else uses meanwhile.
///
/// # Safety
/// The pointer is null, or the memory holds an engine or has been zeroed.
unsafe fn with<T>(memory: *mut EngineMemory, act: impl FnOnce(&mut Body) -> Result<T, Failure>) -> Result<T, Failure> {
    place(memory)?;
    // SAFETY: checked; the caller answers for the memory.
    let mark = unsafe { mark(memory) };
    let [ready, busy] = marks(memory);
    match mark.compare_exchange(ready, busy, Ordering::Acquire, Ordering::Relaxed) {
        Ok(_) => {}
        Err(found) if found == busy => return Err(Failure::plain(Status::BUSY)),
        Err(_) => return Err(Failure::plain(Status::NOT_INITIALISED)),
    }
    // SAFETY: the mark says that there is an engine, and that this call is the only one to use it.
    let result = act(unsafe { &mut (*memory.cast::<Slot>()).body });
    mark.store(ready, Ordering::Release);
    result
}

/// Puts an engine into `memory`. `open` makes its keys apart from program, arena and engine, and says where file
/// and directory lie.
///
/// # Safety
/// As the functions that call it.
unsafe fn init(
    memory: *mut EngineMemory,
    (program, program_bytes): (*const u8, usize),
    (arena, arena_bytes): (*mut u8, usize),
    open: impl FnOnce(&[Region]) -> Result<(Keys, [Region; 2]), Failure>,
) -> Result<(), Failure> {
    place(memory)?;
    let own = Region::new(memory, size_of::<EngineMemory>())?;
    // SAFETY: checked; the caller answers for the memory.
    let mark = unsafe { mark(memory) };
    let [ready, busy] = marks(memory);
    if mark.load(Ordering::Acquire) == busy {
        return Err(Failure::plain(Status::BUSY));
    }
    // Until the end of this function there is no engine.
    mark.store(0, Ordering::Relaxed);
    let program_region = Region::new(program, program_bytes)?;
    let arena_region = Region::new(arena, arena_bytes)?;
    apart(&arena_region, &[program_region, own])?;
    apart(&program_region, &[own])?;
    // SAFETY: apart; the caller answers for the memory.
    let (program, arena) = unsafe { (bytes(program, program_bytes)?, bytes_mut(arena, arena_bytes)?) };
    let program = Program::verify(program)?;
    let (keys, [keys_region, directory]) = open(&[program_region, arena_region, own])?;
    let body = Body {
        engine: Engine::new(program, keys, arena)?,
        program: program_region,
        keys: keys_region,
        directory,
        arena: arena_region,
        cache: Region::default(),
        own,
    };
    // SAFETY: large and aligned enough; there is no engine, so nobody looks at it.
    unsafe { (&raw mut (*memory.cast::<Slot>()).body).write(body) };
    mark.store(ready, Ordering::Release);
    Ok(())
}

/// Version of the library, as "1.2.3".
#[unsafe(no_mangle)]
pub extern "C" fn cipherlens_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// sizeof(cipherlens_engine) in the library. If it is not the header's, the two do not belong together.
#[unsafe(no_mangle)]
pub extern "C" fn cipherlens_engine_bytes() -> usize {
    size_of::<EngineMemory>()
}

/// A description of a status in English, as a constant string; never null.
#[unsafe(no_mangle)]
pub extern "C" fn cipherlens_strerror(status: i32) -> *const c_char {
    let known = STATUSES.iter().find(|entry| entry.number == status);
    known.map_or("unknown status\0", |entry| entry.c_text()).as_ptr().cast()
}

/// Verifies the program of program_bytes bytes at program and says what it needs. Takes some milliseconds: the whole file is
/// hashed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cipherlens_program_info(
    program: *const u8,
    program_bytes: usize,
    info: *mut ProgramInfo,
    detail: *mut Detail,
) -> i32 {
    let result = || {
        place(info)?;
        apart(&Region::new(program, program_bytes)?, &[Region::new(info, size_of::<ProgramInfo>())?])?;
        // SAFETY: the caller answers for the memory.
        let program = unsafe { bytes(program, program_bytes)? };
        let found = describe(&Program::verify(program)?);
        // SAFETY: checked; the caller answers for the memory.
        unsafe { info.write(found) };
        Ok(())
    };
    // SAFETY: the caller answers for the memory.
    unsafe { report(detail, result()) }
}

fn describe(program: &Program<'_>) -> ProgramInfo {
    let file_bytes = |role, port: Port| {
        let header = CiphertextHeader {
            set: [0; 16],
            key_id: [0; 16],
            program: [0; 16],
            role,
            index: 0,
            limbs: port.limbs.min(MAX_LIMBS),
            log_n: program.set().log_n(),
            scale: port.scale,
            seed: None,
        };
        header.file_bytes()
    };
    let inputs = (0..program.inputs()).filter_map(|i| program.input(i));
    let outputs = (0..program.outputs()).filter_map(|i| program.output(i));
    let mut set = [0; 9];
    // The last byte stays 0.
    for (to, from) in set.iter_mut().zip(program.set().name().bytes().take(8)) {
        *to = from as c_char;
    }
    ProgramInfo {
        arena_bytes: program.arena_bytes(),
        cache_bytes: program.cache_bytes(),
        checkpoint_bytes: program.checkpoint_bytes(),
        key_directory_bytes: program.key_directory_bytes(),
        input_bytes: inputs.map(|port| file_bytes(Role::Input, port)).max().unwrap_or(0),
        output_bytes: outputs.map(|port| file_bytes(Role::Output, port)).max().unwrap_or(0),
        inputs: program.inputs(),
        outputs: program.outputs(),
        instructions: program.instructions(),
        fingerprint: program.fingerprint(),
        set,
    }
}

/// Compares this processor's results with a known answer, at power-on. memory has at least CIPHERLENS_SELFTEST_BYTES bytes,
/// aligned to 4; it may be the arena, before an engine takes it.
///
/// Unless the error is about the memory, nothing that this processor computes can be trusted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cipherlens_selftest(memory: *mut u8, bytes: usize, detail: *mut Detail) -> i32 {
    let result = || {
        // SAFETY: the caller answers for the memory.
        let memory = unsafe { bytes_mut(memory, bytes)? };
        Ok(selftest(Detected::new(), memory)?)
    };
    // SAFETY: the caller answers for the memory.
    unsafe { report(detail, result()) }
}

/// Makes an engine with keys that are in memory as a whole, in flash or mapped. Program and keys are verified and stay where
/// they are; the arena is aligned to 4 and has the bytes that cipherlens_program_info() tells.
///
/// On an error there is no engine. An engine that was there is gone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cipherlens_init_mapped(
    engine: *mut EngineMemory,
    program: *const u8,
    program_bytes: usize,
    keys: *const u8,
    keys_bytes: usize,
    arena: *mut u8,
    arena_bytes: usize,
    detail: *mut Detail,
) -> i32 {
    let open = |others: &[Region]| {
        let region = Region::new(keys, keys_bytes)?;
        // It may lie in one block with the program.
        apart(&region, others.get(1..).unwrap_or(&[]))?;
        // SAFETY: apart from what is written; the caller answers for the memory.
        let keys = unsafe { bytes(keys, keys_bytes)? };
        let keys = MappedKeys::verify(keys).map_err(KeyError::File)?;
        Ok((Keys::Mapped(keys), [region, Region::default()]))
    };
    // SAFETY: the caller answers for the memory.
    unsafe { report(detail, init(engine, (program, program_bytes), (arena, arena_bytes), open)) }
}

/// Makes an engine that reads keys from storage, block by block when it needs them, each checked against its digest. reader is
/// copied. directory has the bytes that cipherlens_program_info() tells; for a key file with other keys besides, detail.need of
/// CIPHERLENS_KEY_DIRECTORY_TOO_SMALL tells. Otherwise as cipherlens_init_mapped().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cipherlens_init_streamed(
    engine: *mut EngineMemory,
    program: *const u8,
    program_bytes: usize,
    reader: *const Reader,
    directory: *mut u8,
    directory_bytes: usize,
    arena: *mut u8,
    arena_bytes: usize,
    detail: *mut Detail,
) -> i32 {
    let open = |others: &[Region]| {
        place(reader)?;
        let region = Region::new(directory, directory_bytes)?;
        apart(&region, others)?;
        // SAFETY: checked; the caller answers for the memory.
        let (reader, directory) = unsafe { (*reader, bytes_mut(directory, directory_bytes)?) };
        if reader.read.is_none() {
            return Err(Failure::plain(Status::NULL_POINTER));
        }
        Ok((Keys::Streamed(StreamedKeys::open(reader, directory)?), [Region::default(), region]))
    };
    // SAFETY: the caller answers for the memory.
    unsafe { report(detail, init(engine, (program, program_bytes), (arena, arena_bytes), open)) }
}

/// Gives the engine a cache for expanded weights, aligned to 4, with the bytes that cipherlens_program_info() tells, or fewer for
/// a part of the weights: the first image fills it, and later ones are faster. Starts over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cipherlens_set_cache(
    engine: *mut EngineMemory,
    cache: *mut u8,
    cache_bytes: usize,
    detail: *mut Detail,
) -> i32 {
    // SAFETY: the caller answers for the memory.
    unsafe {
        let result = with(engine, |body| {
            let region = Region::new(cache, cache_bytes)?;
            apart(&region, &body.used())?;
            body.engine.set_cache(bytes_mut(cache, cache_bytes)?)?;
            body.cache = region;
            Ok(())
        });
        report(detail, result)
    }
}

/// Loads an encrypted input; the file says which. It is copied into the arena.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cipherlens_set_input(
    engine: *mut EngineMemory,
    input: *const u8,
    input_bytes: usize,
    detail: *mut Detail,
) -> i32 {
    // SAFETY: the caller answers for the memory, and the input is not what the engine writes.
    unsafe {
        let result = with(engine, |body| {
            apart(&Region::new(input, input_bytes)?, &body.written())?;
            Ok(body.engine.set_input(bytes(input, input_bytes)?)?)
        });
        report(detail, result)
    }
}

/// Does a bounded piece of work, at most one pass over one limb: feed the watchdog after each. progress may be null; when its
/// phase is CIPHERLENS_DONE, the outputs are ready.
///
/// After CIPHERLENS_INPUT_MISSING nothing is lost: set it and go on. After a key that is missing or damaged, every step returns
/// the same error until cipherlens_reset().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cipherlens_step(
    engine: *mut EngineMemory,
    progress: *mut Progress,
    detail: *mut Detail,
) -> i32 {
    // SAFETY: the caller answers for the memory.
    unsafe {
        let result = with(engine, |body| {
            if progress.is_null() {
                body.engine.step()?;
                return Ok(());
            }
            place(progress)?;
            apart(&Region::new(progress, size_of::<Progress>())?, &body.used())?;
            let step = body.engine.step()?;
            progress.write(told(step));
            Ok(())
        });
        report(detail, result)
    }
}

fn told(step: Step<'static>) -> Progress {
    let (phase, layer, done, total) = match step {
        Step::Preparing { done, total } => (CIPHERLENS_PREPARING, None, done, total),
        Step::Running { layer, instruction, total } => (CIPHERLENS_RUNNING, Some(layer), instruction, total),
        Step::Done => (CIPHERLENS_DONE, None, 0, 0),
    };
    Progress {
        phase,
        layer_bytes: layer.map_or(0, str::len) as u32,
        layer: layer.map_or(null(), |name| name.as_ptr().cast()),
        done,
        total,
    }
}

/// Steps to the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cipherlens_run(engine: *mut EngineMemory, detail: *mut Detail) -> i32 {
    // SAFETY: the caller answers for the memory.
    unsafe { report(detail, with(engine, |body| Ok(body.engine.run()?))) }
}

/// Writes `made` bytes into memory that the engine does not use.
///
/// # Safety
/// As the functions that call it.
unsafe fn write(
    engine: *mut EngineMemory,
    (out, out_bytes): (*mut u8, usize),
    written: *mut usize,
    make: impl FnOnce(&mut Body, &mut [u8]) -> Result<usize, EngineError>,
) -> Result<(), Failure> {
    let act = |body: &mut Body| {
        place(written)?;
        let region = Region::new(out, out_bytes)?;
        apart(&region, &body.used())?;
        let count = Region::new(written, size_of::<usize>())?;
        apart(&count, &body.used())?;
        apart(&count, &[region])?;
        // SAFETY: the caller answers for the memory, which is apart from all other memory in use.
        let out = unsafe { bytes_mut(out, out_bytes)? };
        let made = make(body, out)?;
        // SAFETY: checked; the caller answers for the memory.
        unsafe { written.write(made) };
        Ok(())
    };
    // SAFETY: the caller answers for the memory.
    unsafe { with(engine, act) }
}

/// Tells the bytes of output file number index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cipherlens_output_bytes(
    engine: *mut EngineMemory,
    index: usize,
    bytes: *mut usize,
    detail: *mut Detail,
) -> i32 {
    // SAFETY: the caller answers for the memory.
    unsafe {
        let result = with(engine, |body| {
            place(bytes)?;
            apart(&Region::new(bytes, size_of::<usize>())?, &body.used())?;
            bytes.write(body.engine.output_bytes(index)?);
            Ok(())
        });
        report(detail, result)
    }
}

/// Writes output number index as a ciphertext file, and its length to written. On an error out is unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cipherlens_write_output(
    engine: *mut EngineMemory,
    index: usize,
    out: *mut u8,
    out_bytes: usize,
    written: *mut usize,
    detail: *mut Detail,
) -> i32 {
    // SAFETY: the caller answers for the memory.
    unsafe {
        let result = write(engine, (out, out_bytes), written, |body, out| body.engine.write_output(index, out));
        report(detail, result)
    }
}

/// Writes the state between two steps as a checkpoint file, and its length to written. On an error out is unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cipherlens_checkpoint(
    engine: *mut EngineMemory,
    out: *mut u8,
    out_bytes: usize,
    written: *mut usize,
    detail: *mut Detail,
) -> i32 {
    // SAFETY: the caller answers for the memory.
    unsafe {
        let result = write(engine, (out, out_bytes), written, |body, out| body.engine.checkpoint(out));
        report(detail, result)
    }
}

/// Goes on where an engine for the same program and keys made a checkpoint, on any machine: the outputs are the same bits. On an
/// error the engine is unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cipherlens_resume(
    engine: *mut EngineMemory,
    checkpoint: *const u8,
    checkpoint_bytes: usize,
    detail: *mut Detail,
) -> i32 {
    // SAFETY: the caller answers for the memory, and the file is not what the engine writes.
    unsafe {
        let result = with(engine, |body| {
            apart(&Region::new(checkpoint, checkpoint_bytes)?, &body.written())?;
            Ok(body.engine.resume(bytes(checkpoint, checkpoint_bytes)?)?)
        });
        report(detail, result)
    }
}

/// Starts over for the next image: inputs must be set again. Tables and cache are kept.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cipherlens_reset(engine: *mut EngineMemory) -> i32 {
    let act = |body: &mut Body| {
        body.engine.reset();
        Ok(())
    };
    // SAFETY: the caller answers for the memory; there are no details.
    unsafe { report(core::ptr::null_mut(), with(engine, act)) }
}

#[cfg(test)]
mod tests;
