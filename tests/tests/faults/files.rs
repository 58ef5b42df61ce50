//! Cut, damaged, foreign and swapped files of all kinds.

use crate::tiny;
use cipherlens::batch::{BatchState, StateError};
use cipherlens::decrypt::{DecryptError, decrypt};
use cipherlens::files::FileError;
use cipherlens::keys::sealed::{self, SealError};
use cipherlens::keys::{PublicKey, SecretKey};
use cipherlens_kernel::batch::{BatchEngine, BatchProgram, BatchProgress};
use cipherlens_kernel::engine::Engine;
use cipherlens_kernel::keys::{KeyError, KeySource, MappedKeys, RamKeys};
use cipherlens_kernel::params::named;
use cipherlens_kernel::program::{Program, ProgramError};
use cipherlens_kernel::wire::{CheckpointHeader, CiphertextView, FileKind, HEADER_BYTES, Header, KeyBundle, WireError};
use cipherlens_tests::Lcg;
use cipherlens_tests::assemble::seal;
use cipherlens_tests::batch::BatchRun;
use cipherlens_tests::lab::{Lab, Setup, arena, run};
use std::cell::RefCell;
use std::sync::LazyLock;

struct Files {
    program: Vec<u8>,
    keys: Vec<u8>,
    input: Vec<u8>,
    output: Vec<u8>,
    secret: Vec<u8>,
    sealed: Vec<u8>,
    public: Vec<u8>,
    checkpoint: Vec<u8>,
    batch_checkpoint: Vec<u8>,
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let case = tiny();
    let program = Program::verify(&case.bytes).unwrap();
    let mut lab = Lab::new(named::N12, 51);
    let keys = lab.keys(&program);
    let input = lab.encrypt(&program, 0, &case.inputs[0], false);
    let output = run(program, &keys, std::slice::from_ref(&input), Setup::default()).unwrap().remove(0);
    let (secret, public) = (lab.secret.to_bytes().to_vec(), lab.public.to_bytes());
    let sealed = sealed::seal(&lab.secret, b"passphrase", &mut lab.random).unwrap();
    let checkpoint = {
        let mut memory = arena(program.arena_bytes());
        let keys = MappedKeys::verify(&keys).unwrap();
        let mut engine = Engine::new(program, keys, bytemuck::cast_slice_mut(&mut memory)).unwrap();
        engine.set_input(&input).unwrap();
        (0..30).for_each(|_| assert!(engine.step().is_ok()));
        let mut bytes = vec![0; engine.checkpoint_bytes().unwrap()];
        engine.checkpoint(&mut bytes).unwrap();
        bytes
    };
    let batch_checkpoint = {
        let mut memory = arena(BATCH.view().arena_bytes(1));
        let mut engine = BATCH.engine(&mut memory, 1);
        BATCH.inputs[..4].iter().for_each(|input| engine.set_input(input).unwrap());
        while engine.step().unwrap() != BatchProgress::Inputs(4..6) {}
        STATE.save(&engine).unwrap().expect("between two instructions")
    };
    Files { program: case.bytes, keys, input, output, secret, sealed, public, checkpoint, batch_checkpoint }
});

static BATCH: LazyLock<BatchRun> = LazyLock::new(|| BatchRun::new(54));
static STATE: LazyLock<BatchState> = LazyLock::new(|| BatchState { key_id: BATCH.mapped().key_id(), batch: [0; 32] });

type StaticEngine = BatchEngine<'static, 'static, MappedKeys<'static>>;

thread_local! {
    static ENGINE: RefCell<StaticEngine> =
        RefCell::new(BATCH.engine(Vec::leak(arena(BATCH.view().arena_bytes(1))), 1));
}

fn batch_state(bytes: &[u8]) -> Result<(), WireError> {
    match ENGINE.with(|engine| STATE.restore(&mut engine.borrow_mut(), bytes)) {
        Ok(()) => Ok(()),
        Err(StateError::File(error)) => Err(error),
        Err(error) => panic!("the digest did not catch {error}"),
    }
}

fn batch_program(bytes: &[u8]) -> Result<(), WireError> {
    match BatchProgram::verify(bytes) {
        Ok(_) => Ok(()),
        Err(ProgramError::File(error)) => Err(error),
        Err(error) => panic!("the digest did not catch {error}"),
    }
}

fn sealed_key(bytes: &[u8]) -> Result<(), WireError> {
    match sealed::open(bytes, b"passphrase") {
        Ok(_) => Ok(()),
        Err(SealError::File(FileError::Wire(error))) => Err(error),
        Err(error) => panic!("the digest did not catch {error}"),
    }
}

fn program(bytes: &[u8]) -> Result<(), WireError> {
    match Program::verify(bytes) {
        Ok(_) => Ok(()),
        Err(ProgramError::File(error)) => Err(error),
        Err(error) => panic!("the digest did not catch {error}"),
    }
}

fn host(result: Result<(), FileError>) -> Result<(), WireError> {
    match result {
        Err(FileError::Wire(error)) => Err(error),
        other => {
            other.expect("no other error");
            Ok(())
        }
    }
}

type Reader = fn(&[u8]) -> Result<(), WireError>;

fn kinds() -> [(FileKind, &'static [u8], Reader); 10] {
    let f = &*FILES;
    [
        (FileKind::Program, &f.program, program),
        (FileKind::Keys, &f.keys, |b| MappedKeys::verify(b).map(|_| ())),
        (FileKind::Ciphertext, &f.input, |b| CiphertextView::new_checked(b).map(|_| ())),
        (FileKind::Ciphertext, &f.output, |b| CiphertextView::new_checked(b).map(|_| ())),
        (FileKind::SecretKey, &f.secret, |b| host(SecretKey::from_bytes(b, None).map(|_| ()))),
        (FileKind::PublicKey, &f.public, |b| host(PublicKey::from_bytes(b, None).map(|_| ()))),
        (FileKind::SealedSecretKey, &f.sealed, sealed_key),
        (FileKind::Checkpoint, &f.checkpoint, |b| CheckpointHeader::read(b).map(|_| ())),
        (FileKind::BatchProgram, &BATCH.program, batch_program),
        (FileKind::BatchCheckpoint, &f.batch_checkpoint, batch_state),
    ]
}

#[test]
fn whole_files_are_read() {
    for (kind, bytes, read) in kinds() {
        assert_eq!(read(bytes), Ok(()), "{kind:?}");
    }
}

/// Cut at every 64-byte boundary and one byte before the end.
#[test]
fn cut_files() {
    for (kind, bytes, read) in kinds() {
        let len = bytes.len() as u64;
        for cut in (0..bytes.len()).step_by(64).chain([1, 63, bytes.len() - 1]) {
            let need = if cut < HEADER_BYTES { HEADER_BYTES as u64 } else { len };
            let expected = WireError::Truncated { need, have: cut as u64 };
            assert_eq!(read(&bytes[..cut]), Err(expected), "{kind:?} cut to {cut}");
        }
    }
}

/// A file that was cut and given a header to match is damaged all the same.
#[test]
fn cut_files_with_a_new_length() {
    for (kind, bytes, read) in kinds() {
        for cut in (HEADER_BYTES..bytes.len()).step_by(64 * 37) {
            let mut short = bytes[..cut].to_vec();
            short[8..16].copy_from_slice(&(cut as u64).to_le_bytes());
            assert!(read(&short).is_err(), "{kind:?} cut to {cut}");
        }
    }
}

/// Cut, and everything that a digest covers written anew: the structure itself must catch it.
#[test]
fn cut_files_with_a_new_digest() {
    for (kind, bytes, read) in kinds()
        .into_iter()
        .filter(|k| !matches!(k.0, FileKind::Program | FileKind::BatchProgram | FileKind::SealedSecretKey))
    {
        let set = named::N12.fingerprint();
        for cut in (HEADER_BYTES..bytes.len()).step_by(64 * 37) {
            let mut short = bytes[..cut].to_vec();
            seal(&mut short, kind, &set);
            assert!(read(&short).is_err(), "{kind:?} cut to {cut}");
        }
    }
}

#[test]
fn trailing_bytes() {
    for (kind, bytes, read) in kinds() {
        let need = bytes.len() as u64;
        let long = [bytes, &[0]].concat();
        assert_eq!(read(&long), Err(WireError::Trailing { need, have: need + 1 }), "{kind:?}");
    }
}

#[test]
fn flipped_bits_of_the_header() {
    for (kind, bytes, read) in kinds() {
        for bit in 0..8 * HEADER_BYTES {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = read(&damaged).expect_err("a damaged header");
            let fits = match bit / 8 {
                0..4 => error == WireError::Magic,
                4..6 => matches!(error, WireError::Kind { .. } | WireError::Field { offset: 4 }),
                6..8 => matches!(error, WireError::Version { .. }),
                8..16 => matches!(error, WireError::Truncated { .. } | WireError::Trailing { .. }),
                _ => error == WireError::Digest { offset: 0 },
            };
            assert!(fits, "{kind:?}, bit {bit}: {error}");
        }
    }
}

/// Every bit of the fields and directories after the header, and a sample of the payload.
#[test]
fn flipped_bits_of_the_body() {
    let mut lcg = Lcg::new(52);
    for (kind, bytes, read) in kinds() {
        let directory = (8 * HEADER_BYTES..8 * 320).step_by(3);
        let sample: Vec<usize> =
            (0..300).map(|_| 8 * HEADER_BYTES + lcg.below(8 * (bytes.len() - HEADER_BYTES))).collect();
        let mut damaged = bytes.to_vec();
        for bit in directory.chain(sample) {
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&damaged).is_err(), "{kind:?}: bit {bit} of {} went unnoticed", 8 * bytes.len());
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn other_kinds_of_files() {
    for (expected, _, read) in kinds() {
        for (kind, bytes, _) in kinds().into_iter().filter(|k| k.0 != expected) {
            assert_eq!(read(bytes), Err(WireError::Kind { expected, found: kind.code() }));
        }
        assert_eq!(read(b"\x89PNG\r\n\x1a\nand so on"), Err(WireError::Magic));
    }
}

#[test]
fn a_damaged_key_block_is_named() {
    let bundle = KeyBundle::new_checked(&FILES.keys).unwrap();
    for entry in (0..bundle.len()).filter_map(|i| bundle.entry(i)) {
        let mut damaged = FILES.keys.clone();
        damaged[entry.offset + 5] ^= 1;
        assert_eq!(MappedKeys::verify(&damaged).err(), Some(WireError::Digest { offset: entry.offset as u64 }));
        let mut words = vec![0; RamKeys::words(&bundle)];
        let error = RamKeys::expand(&damaged, &named::N12, &mut words).err();
        assert_eq!(error, Some(KeyError::File(WireError::Digest { offset: entry.offset as u64 })));
    }
}

/// Between directory and payload there are only zeros, and after the payload nothing.
#[test]
fn gaps_of_a_key_file() {
    let bundle = KeyBundle::new_checked(&FILES.keys).unwrap();
    let first = bundle.entry(0).unwrap().offset;
    let blocks: usize = (0..bundle.len()).map(|i| bundle.entry(i).unwrap().request.limbs + bundle.special()).sum();
    let end = 128 + 16 * bundle.len() + 32 * blocks;
    for at in end..first {
        let mut damaged = FILES.keys.clone();
        damaged[at] = 1;
        assert_eq!(KeyBundle::new_checked(&damaged).err(), Some(WireError::Field { offset: end as u64 }));
    }
    assert!(end < first, "the sample has a gap");
    let seal = |mut bytes: Vec<u8>| {
        Header::write(&mut bytes, FileKind::Keys, &named::N12.fingerprint(), end).unwrap();
        KeyBundle::new_checked(&bytes).map(|_| ()).err()
    };
    assert_eq!(seal(FILES.keys.clone()), None);
    assert_eq!(seal([&FILES.keys[..], &[0; 64]].concat()), Some(WireError::Field { offset: 112 }));
    for (at, word) in [
        (112, 1 << 30),
        (112, 4),
        (116, 10),
        (116, 17),
        (120, 0),
        (120, 4),
        (124, 0),
        (124, 4),
        (132, 0),
        (132, 33),
        (136, 1),
        (140, 9),
    ] {
        let mut bytes = FILES.keys.clone();
        bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(word));
        let field = if at < 128 { at as u64 } else { 128 };
        assert!(
            matches!(seal(bytes), Some(WireError::Field { offset }) if offset == field || (at, word) == (112, 4)),
            "{at} = {word}"
        );
    }
}

#[test]
fn expanded_keys_need_their_memory() {
    let need = RamKeys::words(&KeyBundle::new_checked(&FILES.keys).unwrap());
    let mut words = vec![0; need - 1];
    let error = RamKeys::expand(&FILES.keys, &named::N12, &mut words).err();
    assert_eq!(error, Some(KeyError::BufferTooSmall { need, have: need - 1 }));
    let mut words = vec![0; need];
    let error = RamKeys::expand(&FILES.keys, &named::N13, &mut words).err();
    assert_eq!(error, Some(KeyError::File(WireError::Set)));
}

#[test]
fn decryption_refuses_other_keys_and_sets() {
    let bytes = &FILES.output;
    let attempt = |lab: &Lab, bytes: &[u8]| decrypt(bytes, &lab.secret, &lab.ring, &lab.encoder).map(|_| ());
    let holder = Lab::new(named::N12, 51);
    assert_eq!(attempt(&holder, bytes), Ok(()));
    let other = Lab::new(named::N12, 53);
    let wrong = DecryptError::WrongKey { expected: other.secret.id(), found: holder.secret.id() };
    assert_eq!(attempt(&other, bytes), Err(wrong));
    let larger = Lab::new(named::N13, 53);
    assert_eq!(attempt(&larger, bytes), Err(DecryptError::File(FileError::Wire(WireError::Set))));
    // A residue that is not below its prime.
    let mut damaged = bytes.clone();
    damaged[160..164].fill(0xff);
    seal(&mut damaged, FileKind::Ciphertext, &named::N12.fingerprint());
    assert_eq!(attempt(&holder, &damaged), Err(DecryptError::File(FileError::Wire(WireError::Field { offset: 160 }))));
}

/// Key files with a good digest and bad content.
#[test]
fn keys_with_bad_content() {
    let seal = |mut bytes: Vec<u8>, kind| {
        seal(&mut bytes, kind, &named::N12.fingerprint());
        bytes
    };
    let mut secret = FILES.secret.clone();
    let at = secret.len() - 7;
    secret[at] = 2;
    let error = SecretKey::from_bytes(&seal(secret, FileKind::SecretKey), None).err();
    assert_eq!(error, Some(FileError::Wire(WireError::Field { offset: at as u64 })));
    let mut public = FILES.public.clone();
    let row = public.len() - 4 * named::N12.n();
    public[row..row + 4].fill(0xff);
    let error = PublicKey::from_bytes(&seal(public, FileKind::PublicKey), None).err();
    assert_eq!(error, Some(FileError::Wire(WireError::Field { offset: row as u64 })));
    let mut unknown = FILES.secret.clone();
    cipherlens_tests::assemble::seal(&mut unknown, FileKind::SecretKey, &[9; 16]);
    assert_eq!(SecretKey::from_bytes(&unknown, None).err(), Some(FileError::UnknownSet([9; 16])));
}

/// Ciphertext headers with a good digest and fields that no valid file has.
#[test]
fn ciphertexts_with_bad_fields() {
    let cases: [(usize, u32, WireError); 7] = [
        (96, 2, WireError::Field { offset: 96 }),
        (104, 0, WireError::Field { offset: 104 }),
        (104, 33, WireError::Field { offset: 104 }),
        (108, 10, WireError::Field { offset: 108 }),
        (108, 17, WireError::Field { offset: 108 }),
        (116, 0x7ff0_0000, WireError::Field { offset: 112 }),
        (120, 2, WireError::Field { offset: 120 }),
    ];
    for (offset, value, error) in cases {
        let mut bytes = FILES.input.clone();
        bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        seal(&mut bytes, FileKind::Ciphertext, &named::N12.fingerprint());
        assert_eq!(CiphertextView::new_checked(&bytes).err(), Some(error));
    }
    let mut bytes = FILES.input.clone();
    bytes[104..108].copy_from_slice(&1u32.to_le_bytes());
    seal(&mut bytes, FileKind::Ciphertext, &named::N12.fingerprint());
    assert!(matches!(CiphertextView::new_checked(&bytes), Err(WireError::Truncated { .. })));
}
