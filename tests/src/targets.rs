//! What the fuzzers call: each takes any bytes and panics only where the code under test breaks a promise.
//!
//! `fuzz/` runs them under libFuzzer; `tests/fuzz.rs` feeds them the committed seeds and some thousand mutations.
//! Inputs are made so that small ones reach deep: files are padded with zeros and get digests that match, and programs
//! are changes of a valid one.

use crate::assemble::{Sections, join, seal, split, tiny};
use crate::batch::{self, BatchSections, ports};
use crate::lab::{Lab, any_input, arena, outputs};
use cipherlens::batch::BatchState;
use cipherlens::compile::declutter::declutter;
use cipherlens::compile::import::import;
use cipherlens::compile::onnx::ModelProto;
use cipherlens::keys::{PublicKey, SecretKey, sealed};
use cipherlens_kernel::batch::{BatchEngine, BatchProgram, BatchProgress};
use cipherlens_kernel::engine::Engine;
use cipherlens_kernel::keys::{KeyKind, KeyRequest, KeySource, MappedKeys, StreamedKeys};
use cipherlens_kernel::math::Detected;
use cipherlens_kernel::params::named;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::{
    CheckpointHeader, CiphertextView, FileKind, HEADER_BYTES, Header, KeyBundle, KeyDirectory, u32_at,
};
use prost::Message;
use std::path::Path;
use std::sync::OnceLock;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All of them by name.
pub const TARGETS: [(&str, Target); 6] = [
    ("wire", wire),
    ("program", program),
    ("batch_program", batch_program),
    ("engine", engine),
    ("batch_engine", batch_engine),
    ("onnx", onnx),
];

/// More arena or cache than this is not worth a run, in bytes.
const MOST_BYTES: usize = 16 << 20;

/// Most zeros that are added to a file, in units of 64 bytes: as a public key of the smallest ring needs them. Hashing more
/// would take nearly all the time.
const MOST_PADDING: u16 = 1100;

/// A file from fuzz input: kind (0 for the bytes as they are), zeros to add in units of 64 bytes (2), fewer than `most`,
/// then the file.
fn file(data: &[u8], most: u16) -> Option<(Vec<u8>, Option<FileKind>)> {
    let (&[kind, lo, hi], body) = data.split_first_chunk::<3>()?;
    let padding = usize::from(u16::from_le_bytes([lo, hi]) % most) * 64;
    let mut bytes = body.to_vec();
    bytes.resize(body.len() + padding, 0);
    let kind = FileKind::from_code(kind.into());
    if let Some(kind) = kind.filter(|_| bytes.len() >= HEADER_BYTES) {
        let set: [u8; 16] = bytes[16..32].try_into().expect("16 bytes");
        // Only the directory of a key file is digested.
        let keys = kind == FileKind::Keys;
        let end = keys.then(|| KeyDirectory::front_bytes(&bytes, bytes.len() as u64).ok()).flatten();
        let digested = end.unwrap_or(bytes.len()).clamp(HEADER_BYTES, bytes.len());
        Header::write(&mut bytes, kind, &set, digested).expect("a whole file");
    }
    Some((bytes, kind))
}

/// Every parser of a file but the programs'.
pub fn wire(data: &[u8]) {
    let Some((bytes, _)) = file(data, MOST_PADDING) else { return };
    let bytes = &bytes[..];
    let _ = Header::peek(bytes);
    let _ = CheckpointHeader::read(bytes).map(|(header, rows)| assert!(rows.len() <= bytes.len() + header.row_bytes()));
    if let Ok(view) = CiphertextView::new_checked(bytes) {
        let row = view.header.limbs << (view.header.log_n + 2);
        assert!(view.c0.len() == row && (view.c1.len() == row || view.header.seed.is_some()));
        assert_eq!(view.header.file_bytes(), bytes.len());
    }
    if let Ok(bundle) = KeyBundle::new_checked(bytes) {
        for entry in (0..bundle.len()).filter_map(|i| bundle.entry(i)) {
            for t in 0..entry.request.limbs + bundle.special() {
                assert!(bundle.block(&entry, t).is_some(), "every block of a checked file is in it");
                let _ = bundle.verify_block(&entry, t);
            }
            assert!(bundle.block(&entry, usize::MAX).is_none());
        }
        let _ = bundle.verify();
    }
    let _ = MappedKeys::verify(bytes);
    let _ = StreamedKeys::open(bytes, &mut [0; 4096]);
    let _ = SecretKey::from_bytes(bytes, None);
    let _ = PublicKey::from_bytes(bytes, None);
    // Memory and passes as a file of ours has them take too long.
    if u32_at(bytes, 68).is_some_and(|memory| memory <= 64) && u32_at(bytes, 72).is_some_and(|passes| passes <= 2) {
        let _ = sealed::open(bytes, b"fuzz");
    }
}

/// The verifier of programs and every accessor.
pub fn program(data: &[u8]) {
    let Some((bytes, _)) = file(data, 1) else { return };
    let Ok(program) = Program::verify(&bytes) else { return };
    for i in 0..program.instructions() {
        assert!(program.instruction(i).is_some(), "instruction {i} of a verified program");
    }
    assert!((0..program.buffers()).all(|i| program.buffer(i).is_some()));
    assert!((0..program.plaintexts()).all(|i| program.plaintext(i).is_some()));
    assert!((0..program.inputs()).all(|i| program.input(i).is_some()));
    assert!((0..program.outputs()).all(|i| program.output(i).is_some()));
    assert!((0..program.keys()).all(|i| program.key(i).is_some()));
    let _ = (program.arena_bytes(), program.arena_bytes_for(usize::MAX), program.cache_bytes());
    assert!(program.key_accesses().take(1 << 20).all(|access| access.instruction < program.instructions()));
}

/// The verifier of batch programs and every accessor.
pub fn batch_program(data: &[u8]) {
    let Some((bytes, _)) = file(data, 1) else { return };
    let Ok(program) = BatchProgram::verify(&bytes) else { return };
    assert!((0..program.instructions()).all(|i| program.instruction(i).is_some()));
    assert!((0..program.keys()).all(|i| program.key(i).is_some()));
    let _ = (0..program.groups()).filter_map(|i| program.group(i)).map(|g| g.taps.len()).sum::<usize>();
    let _ = (program.arena_bytes(0), program.arena_bytes(usize::MAX), program.worker_rows());
    let _ = (0..program.layers()).map(|i| program.layer_name(i).len()).sum::<usize>();
}

/// Changes of words: records of section (1), how (1), word (2), value (4).
fn mutate(sections: &mut [Vec<u8>], script: &[u8]) {
    for &[section, how, lo, hi, a, b, c, d] in script.as_chunks::<8>().0 {
        let count = sections.len();
        let section = &mut sections[usize::from(section) % count];
        let words = section.len() / 4;
        if words == 0 {
            continue;
        }
        let at = usize::from(u16::from_le_bytes([lo, hi])) % words;
        let value = u32::from_le_bytes([a, b, c, d]);
        let old = crate::assemble::word(section, at);
        let new = match how % 5 {
            0 => value,
            1 => old.wrapping_add(value),
            2 => old ^ 1 << (value % 32),
            3 => value % 16,
            _ => crate::assemble::word(section, value as usize % words),
        };
        crate::assemble::set_word(section, at, new);
    }
}

/// Keys at every level for what [`tiny`] and its mutants ask for.
fn keys() -> &'static [u8] {
    static KEYS: OnceLock<Vec<u8>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let rotations = [3, 64, 1, 2].map(KeyKind::Rotation);
        let kinds = [KeyKind::Relin].into_iter().chain(rotations);
        let requests: Vec<KeyRequest> = kinds.map(|kind| KeyRequest { kind, limbs: 4 }).collect();
        Lab::new(named::N12, 71).bundle(&requests)
    })
}

fn mapped() -> MappedKeys<'static> {
    static CHECKED: OnceLock<MappedKeys<'static>> = OnceLock::new();
    *CHECKED.get_or_init(|| MappedKeys::verify(keys()).expect("a valid key file"))
}

/// A changed program that the verifier lets through runs to its end, with the same outputs from memory full of anything
/// and with no, some or all plaintexts in a cache. First byte: whether to cut the run in two by a checkpoint, of which
/// step, and how much is cached; the rest changes [`tiny`].
pub fn engine(data: &[u8]) {
    static TINY: OnceLock<Sections> = OnceLock::new();
    let Some((&cut, script)) = data.split_first() else { return };
    let mut sections = TINY.get_or_init(|| split(&tiny().bytes)).clone();
    mutate(&mut sections, script);
    let bytes = join(&sections, &named::N12.fingerprint());
    let Ok(program) = Program::verify(&bytes) else { return };
    if program.arena_bytes().max(program.cache_bytes()) > MOST_BYTES {
        return;
    }
    let mut results = Vec::new();
    for garbage in [0, u32::MAX] {
        let mut memory = arena(program.arena_bytes());
        memory.fill(garbage);
        let mut cache = arena(if garbage == 0 { 0 } else { program.cache_bytes() / 3 * usize::from(cut % 4) });
        let Ok(mut engine) = Engine::new(program, mapped(), bytemuck::cast_slice_mut(&mut memory)) else { return };
        // One that is too small for any is no cache.
        let _ = engine.set_cache(bytemuck::cast_slice_mut(&mut cache));
        for i in 0..program.inputs() {
            let port = program.input(i).expect("a verified input");
            let (id, key_id) = (program.fingerprint(), mapped().key_id());
            let input = any_input(program.set(), id, key_id, i, port.limbs, port.scale);
            engine.set_input(&input).expect("a sound input");
        }
        if cut != 0 && garbage != 0 {
            for _ in 0..cut {
                engine.step().expect("a verified program runs");
            }
            let mut state = vec![0; engine.checkpoint_bytes().expect("a state")];
            engine.checkpoint(&mut state).expect("memory enough");
            engine.reset();
            engine.resume(&state).expect("the state that was written");
        }
        engine.run().expect("a verified program runs, for every key is there");
        results.push(outputs(&engine).expect("a finished run"));
    }
    assert!(results[0] == results[1], "memory from before the run, or a checkpoint, changes the result");
}

/// A changed batch program that the verifier lets through does not panic, whatever memory and states hold.
/// First byte: word that fills the memory; second: words of a state to forge; the rest changes [`batch::sections`].
pub fn batch_engine(data: &[u8]) {
    let Some((&[fill, forged], script)) = data.split_first_chunk::<2>() else { return };
    let mut sections: BatchSections = batch::sections();
    mutate(&mut sections, script);
    let bytes = batch::join(&sections);
    let Ok(program) = BatchProgram::verify(&bytes) else { return };
    if program.arena_bytes(1) > MOST_BYTES || program.inputs() > 64 {
        return;
    }
    let mut memory = arena(program.arena_bytes(1));
    memory.fill(u32::from_le_bytes([fill; 4]));
    let memory = bytemuck::cast_slice_mut(&mut memory);
    let Ok(mut engine) = BatchEngine::new(program, mapped(), memory, Detected::new(), 1) else { return };
    let ports = ports(&program);
    let state = BatchState { key_id: mapped().key_id(), batch: [0; 32] };
    let mut output = vec![0; 1 << 20];
    let mut restored = false;
    // No loop: every step goes on, or takes inputs that are there.
    for _ in 0..100_000 {
        match engine.step().expect("a verified program runs, for every key is there") {
            BatchProgress::Inputs(wanted) => {
                for index in wanted {
                    let (limbs, scale) = ports[index];
                    let input = any_input(program.set(), program.fingerprint(), mapped().key_id(), index, limbs, scale);
                    engine.set_input(&input).expect("a sound input");
                }
            }
            BatchProgress::Outputs(ready) => {
                ready.for_each(|i| assert!(engine.write_output(i, &mut output).is_ok(), "output {i} is ready"));
            }
            BatchProgress::Running { .. } => {}
            BatchProgress::Done => return,
        }
        if forged != 0 && !restored && engine.position().is_some_and(|p| p >= usize::from(forged) % 8) {
            restored = true;
            let mut file = state.save(&engine).expect("rows of the plan").expect("between two instructions");
            for word in file[144..].chunks_exact_mut(4).step_by(usize::from(forged)) {
                word.fill(0xff);
            }
            seal(&mut file, FileKind::BatchCheckpoint, &batch::SET.fingerprint());
            state.restore(&mut engine, &file).expect("the shape of a state of this program");
        }
    }
    panic!("the run does not end");
}

/// The ONNX importer and the passes that simplify its graph.
pub fn onnx(data: &[u8]) {
    let Ok(model) = ModelProto::decode(data) else { return };
    let Ok(graph) = import(&model, Path::new("/nonexistent"), None) else { return };
    // Large tensors take long and tell nothing new.
    if graph.tensors.iter().map(|t| t.len()).sum::<usize>() < 1 << 14 {
        let _ = declutter(&graph);
    }
}

/// Small inputs for each target, which reach what random bytes do not: target, name, bytes. The importer's are
/// `fixtures/onnx`.
pub fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let run = crate::lab::Run::new(tiny().bytes, 21);
    let mut seeds = Vec::new();
    // The front of a file, with zeros in place of the rest.
    let mut front = |name: &str, kind: FileKind, bytes: &[u8], keep: usize| {
        let keep = keep.min(bytes.len()) + bytes.len().saturating_sub(keep) % 64;
        let padding = u16::try_from((bytes.len() - keep) / 64).expect("a small file").to_le_bytes();
        let seed = [&[kind.code() as u8], &padding[..], &bytes[..keep]].concat();
        seeds.push(("wire", name.to_owned(), seed));
    };
    let lab = Lab::new(named::N12, 21);
    front("input", FileKind::Ciphertext, &run.inputs[0], 256);
    front("output", FileKind::Ciphertext, &run.outputs[0], 256);
    front("keys", FileKind::Keys, &run.keys, 2048);
    front("secret", FileKind::SecretKey, &lab.secret.to_bytes(), 256);
    front("public", FileKind::PublicKey, &lab.public.to_bytes(), 256);
    let mut memory = arena(run.program().arena_bytes());
    let mut engine =
        Engine::new(run.program(), run.mapped(), bytemuck::cast_slice_mut(&mut memory)).expect("an engine");
    engine.set_input(&run.inputs[0]).expect("an input");
    (0..30).for_each(|_| assert!(engine.step().is_ok()));
    let mut state = vec![0; engine.checkpoint_bytes().expect("a state")];
    engine.checkpoint(&mut state).expect("memory enough");
    front("checkpoint", FileKind::Checkpoint, &state, 256);
    let program = |kind: FileKind, bytes: &[u8]| [&[kind.code() as u8, 0, 0], bytes].concat();
    let small = include_bytes!("../../fixtures/wire/program.clp");
    seeds.push(("program", "fixture".into(), program(FileKind::Program, small)));
    let valid = batch::join(&batch::sections());
    seeds.push(("batch_program", "every_instruction".into(), program(FileKind::BatchProgram, &valid)));
    let change = |section: u8, how: u8, word: u16, value: u32| {
        [&[section, how][..], &word.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    for (name, cut, changes) in
        [("whole", 0, vec![]), ("cut", 40, vec![]), ("one_word", 3, [change(5, 3, 15, 1), change(6, 4, 4, 9)].concat())]
    {
        seeds.push(("engine", name.into(), [&[cut][..], &changes].concat()));
        seeds.push(("batch_engine", name.into(), [&[cut, cut][..], &changes].concat()));
    }
    seeds
}
