//! Programs with a good digest and one thing wrong: the verifier names it.

use crate::tiny;
use cipherlens_kernel::keys::KeyKind;
use cipherlens_kernel::params::{ParamError, named};
use cipherlens_kernel::program::format::{INSTRUCTION_WORDS, PLAINTEXT_WORDS, SECTION_TABLE, Section, form};
use cipherlens_kernel::program::{MAX_BUFFERS, Program, ProgramError};
use cipherlens_kernel::wire::FileKind;
use cipherlens_tests::assemble::{Assembler, Form, Sections, blocks, everything, join, seal, set_word, split, word};
use std::sync::LazyLock;

static TINY: LazyLock<Sections> = LazyLock::new(|| split(&tiny().bytes));

/// Words of an instruction.
const DST: usize = 2;
const A: usize = 3;
const B: usize = 4;
const LIMBS: usize = 5;
const FLAGS: usize = 6;
const TABLE: usize = 7;
const TABLE_LEN: usize = 8;
const PLAIN: usize = 9;
const SCALE_HIGH: usize = 11;

/// Instructions of the tiny program.
const MUL: usize = 0;
const TRANSFORM: usize = 1;
const MUL_PLAIN: usize = 2;
const ADD: usize = 3;
const RESCALE: usize = 4;
const ADD_PLAIN: usize = 5;
const ROTATE: usize = 6;
const END: usize = 7;

fn refused(change: impl FnOnce(&mut Sections)) -> ProgramError {
    let mut sections = TINY.clone();
    change(&mut sections);
    Program::verify(&join(&sections, &named::N12.fingerprint())).map(|_| ()).expect_err("a bad program")
}

fn set(section: Section, i: usize, value: u32) -> ProgramError {
    refused(|s| set_word(&mut s[section as usize], i, value))
}

fn instruction(index: usize, field: usize, value: u32) -> ProgramError {
    set(Section::Instructions, index * INSTRUCTION_WORDS + field, value)
}

fn field(index: usize, field: usize) -> u32 {
    word(&TINY[Section::Instructions as usize], index * INSTRUCTION_WORDS + field)
}

fn plaintext(index: usize, field: usize, value: u32) -> ProgramError {
    set(Section::Plaintexts, index * PLAINTEXT_WORDS + field, value)
}

/// Word `i` of the table of the linear transform: 1 source, 1 result, 2 babies, 1 resting of 2 giants, 3 terms, then 0, 2
/// | 2 | 0, 3 | 0, 0, 2, 0, 64, 3 | terms.
fn table(i: usize, value: u32) -> ProgramError {
    set(Section::Tables, field(TRANSFORM, TABLE) as usize / 4 + i, value)
}

fn params(i: usize, value: u32) -> ProgramError {
    set(Section::Params, i, value)
}

#[test]
fn the_unchanged_program_passes() {
    let bytes = join(&TINY, &named::N12.fingerprint());
    assert!(bytes == tiny().bytes);
    assert!(Program::verify(&bytes).is_ok());
}

#[test]
fn scales() {
    for index in 0..END {
        let high = field(index, SCALE_HIGH);
        assert_eq!(instruction(index, SCALE_HIGH, high ^ 1), ProgramError::Scale { index });
        // Not a number, infinite, below 1, negative.
        for high in [0x7ff8_0000, 0x7ff0_0000, 0x3fe0_0000, high | 1 << 31] {
            assert_eq!(instruction(index, SCALE_HIGH, high), ProgramError::Instruction { index });
        }
    }
    assert_eq!(
        plaintext(0, 7, word(&TINY[Section::Plaintexts as usize], 7) ^ 1),
        ProgramError::Scale { index: TRANSFORM }
    );
    let input = word(&TINY[Section::Inputs as usize], 3);
    assert_eq!(set(Section::Inputs, 3, input + (40 << 20)), ProgramError::Headroom { index: 0 });
    assert_eq!(set(Section::Inputs, 3, input + (24 << 20)), ProgramError::Headroom { index: 0 });
    assert_eq!(set(Section::Inputs, 3, 0), ProgramError::Section { section: Section::Inputs });
    let output = word(&TINY[Section::Outputs as usize], 3);
    assert_eq!(set(Section::Outputs, 3, output ^ 1), ProgramError::Scale { index: END });
}

#[test]
fn a_product_must_fit_before_its_rescale() {
    // x * x at 2^36 rescaled fits; at an input scale of 2^20.9 the square reaches the modulus of 2^42.3.
    let error = refused(|s| {
        let scale = 2f64.powf(20.9);
        let bits = |x: f64| [x.to_bits() as u32, (x.to_bits() >> 32) as u32];
        let [lo, hi] = bits(scale);
        set_word(&mut s[Section::Inputs as usize], 2, lo);
        set_word(&mut s[Section::Inputs as usize], 3, hi);
        let at = MUL * INSTRUCTION_WORDS;
        let q = f64::from(named::N12.q()[1]);
        let [lo, hi] = bits(scale * scale / q);
        let code = &mut s[Section::Instructions as usize];
        set_word(code, at + FLAGS, 1);
        set_word(code, at + SCALE_HIGH - 1, lo);
        set_word(code, at + SCALE_HIGH, hi);
    });
    assert_eq!(error, ProgramError::Headroom { index: MUL });
}

#[test]
fn levels() {
    let have = 2;
    for index in 0..END {
        assert_eq!(instruction(index, LIMBS, 0), ProgramError::Level { index, need: 0, have });
        for need in [3, 1 << 31] {
            assert_eq!(instruction(index, LIMBS, need), ProgramError::Level { index, need: need as usize, have });
        }
    }
    for index in [ADD_PLAIN, ROTATE] {
        assert_eq!(instruction(index, LIMBS, 2), ProgramError::Level { index, need: 2, have: 1 });
    }
    // A rescale needs a limb to drop.
    assert_eq!(instruction(RESCALE, LIMBS, 1), ProgramError::Level { index: RESCALE, need: 1, have });
    // A result with more limbs than its buffer.
    assert_eq!(instruction(MUL, DST, 2), ProgramError::Level { index: MUL, need: 2, have: 1 });
    assert_eq!(set(Section::Inputs, 1, 3), ProgramError::Level { index: 0, need: 3, have: 2 });
    assert_eq!(set(Section::Outputs, 1, 2), ProgramError::Level { index: END, need: 2, have: 1 });
    assert_eq!(params(4, 0), ProgramError::Level { index: 0, need: 0, have: 4 });
    assert_eq!(params(4, 5), ProgramError::Level { index: 0, need: 5, have: 4 });
}

#[test]
fn buffers() {
    assert_eq!(instruction(MUL, A, 1), ProgramError::Undefined { index: MUL, buffer: 1 });
    assert_eq!(instruction(MUL, B, 99), ProgramError::Undefined { index: MUL, buffer: 99 });
    assert_eq!(instruction(ADD_PLAIN, A, 6), ProgramError::Undefined { index: ADD_PLAIN, buffer: 6 });
    assert_eq!(instruction(ADD, B, 99), ProgramError::Instruction { index: ADD });
    for index in [MUL, TRANSFORM, RESCALE, ROTATE] {
        assert_eq!(instruction(index, DST, 99), ProgramError::Instruction { index });
    }
    for buffer in [0, 99] {
        let error = set(Section::Outputs, 0, buffer);
        let undefined = ProgramError::Undefined { index: END, buffer: 99 };
        assert!(if buffer == 99 {
            error == undefined
        } else {
            matches!(error, ProgramError::Level { index: END, .. })
        });
    }
    // The result of a later instruction over that of an earlier one that is still read.
    let row = |buffer: usize| word(&TINY[Section::Buffers as usize], 2 * buffer);
    let over = set(Section::Buffers, 4, row(1));
    assert_eq!(over, ProgramError::Undefined { index: ADD, buffer: 1 });
    // A result that covers its operand in part, or its second operand.
    assert_eq!(set(Section::Buffers, 6, row(0) + 1), ProgramError::Aliasing { index: MUL_PLAIN });
    assert_eq!(instruction(ADD, DST, field(ADD, B)), ProgramError::Aliasing { index: ADD });
    assert_eq!(instruction(ADD, B, field(ADD, DST)), ProgramError::Aliasing { index: ADD });
    for limbs in [0, 3, u32::MAX] {
        assert!(matches!(set(Section::Buffers, 1, limbs), ProgramError::Plan { .. }), "{limbs}");
    }
    let error = refused(|s| {
        let one = s[Section::Buffers as usize][..8].to_vec();
        s[Section::Buffers as usize] = one.repeat(MAX_BUFFERS + 1);
    });
    assert_eq!(error, ProgramError::TooManyBuffers { buffers: MAX_BUFFERS + 1 });
}

#[test]
fn memory_plan() {
    let [arena, scratch, cache] = [5, 6, 7].map(|i| word(&TINY[Section::Params as usize], i));
    let tables = 4 * 3;
    let have = (arena - tables) as usize;
    assert_eq!(params(5, arena - 1), ProgramError::Plan { need: have, have: have - 1 });
    for rows in [0, 3, tables - 1] {
        assert_eq!(params(5, rows), ProgramError::Plan { need: tables as usize, have: rows as usize });
    }
    assert!(matches!(params(6, scratch - 1), ProgramError::Plan { .. }));
    assert!(matches!(params(6, scratch + 1), ProgramError::Plan { .. }));
    assert!(matches!(params(6, u32::MAX), ProgramError::Plan { .. }));
    for rows in [cache - 1, cache + 1, 0] {
        assert_eq!(params(7, rows), ProgramError::Plan { need: cache as usize, have: rows as usize });
    }
    assert_eq!(plaintext(2, 5, 4), ProgramError::Plaintext { index: 2 });
}

#[test]
fn keys() {
    let keys = [KeyKind::Relin, KeyKind::Rotation(3), KeyKind::Rotation(64)];
    for (i, (kind, index)) in keys.into_iter().zip([MUL, TRANSFORM, TRANSFORM]).enumerate() {
        let gone = refused(|s| drop(s[Section::Manifest as usize].drain(8 * i..8 * i + 8)));
        assert_eq!(gone, ProgramError::Manifest { index, kind, limbs: 2 });
        assert_eq!(set(Section::Manifest, 2 * i + 1, 1), ProgramError::Manifest { index, kind, limbs: 2 });
        for limbs in [0, 3, u32::MAX] {
            assert_eq!(set(Section::Manifest, 2 * i + 1, limbs), ProgramError::Section { section: Section::Manifest });
        }
    }
    assert_eq!(set(Section::Manifest, 2, 4096), ProgramError::Section { section: Section::Manifest });
}

#[test]
fn transforms() {
    let malformed = ProgramError::Instruction { index: TRANSFORM };
    let bad: [(usize, u32); 31] = [
        // Other numbers than the lists have.
        (0, 0),
        (0, 2),
        (0, u32::MAX),
        (1, 0),
        (1, 2),
        (2, 1),
        (2, u32::MAX),
        (4, 1),
        (4, u32::MAX),
        (5, 2),
        (5, u32::MAX),
        (3, 0), // a giant step that does not rotate among those that do
        (3, 2), // one that rotates among those that do not
        (3, u32::MAX),
        (7, 0), // a source without baby steps
        (7, 1), // a baby step of no source
        (7, 3),
        (10, 4096), // baby rotation out of range
        (11, 1),    // a result that does not exist
        (14, 1),
        (12, 64),
        (15, 0),
        (15, 4096),
        (13, 0), // first giant step without terms
        (13, 3), // second giant step without terms
        (16, 2), // a term that belongs to none
        (16, 4), // a term that does not exist
        (17, 1), // the same baby step twice
        (19, 0),
        (19, 2),  // baby step that does not exist
        (18, 99), // plaintext that does not exist
    ];
    for (i, value) in bad {
        assert_eq!(table(i, value), malformed, "word {i} = {value}");
    }
    for (i, rotation) in [(10, 5), (15, 65)] {
        let kind = KeyKind::Rotation(rotation);
        assert_eq!(table(i, rotation), ProgramError::Manifest { index: TRANSFORM, kind, limbs: 2 });
    }
    assert_eq!(table(6, 99), ProgramError::Undefined { index: TRANSFORM, buffer: 99 });
    assert_eq!(table(8, 99), malformed);
    // Another result than the instruction's record names.
    assert_eq!(table(8, field(TRANSFORM, DST) + 2), malformed);
    // Every giant step has a term, and one is left over.
    let at = field(TRANSFORM, TABLE) as usize / 4;
    let spare = refused(|s| {
        [(13, 1), (16, 2)].iter().for_each(|&(i, end)| set_word(&mut s[Section::Tables as usize], at + i, end))
    });
    assert_eq!(spare, malformed);
}

/// Lists as long as their numbers say, but empty.
#[test]
fn transforms_of_nothing() {
    let words = &TINY[Section::Tables as usize];
    let at = field(TRANSFORM, TABLE) as usize / 4;
    let whole: Vec<u32> = (0..field(TRANSFORM, TABLE_LEN) as usize / 4).map(|i| word(words, at + i)).collect();
    for (count, list) in [(0, 6..8), (1, 8..9)] {
        let mut table = whole.clone();
        table.drain(list);
        table[count] = 0;
        let found = refused(|s| {
            table.iter().enumerate().for_each(|(i, &w)| set_word(&mut s[Section::Tables as usize], at + i, w));
            let len = TRANSFORM * INSTRUCTION_WORDS + TABLE_LEN;
            set_word(&mut s[Section::Instructions as usize], len, 4 * table.len() as u32);
        });
        assert_eq!(found, ProgramError::Instruction { index: TRANSFORM });
    }
}

#[test]
fn block_matrices() {
    let bytes = blocks(named::N12, 3, 19.0, 1).bytes;
    let sections: Sections = split(&bytes);
    let refused = |i: usize, value: u32| {
        let mut sections = sections.clone();
        set_word(&mut sections[Section::Tables as usize], i, value);
        Program::verify(&join(&sections, &named::N12.fingerprint())).map(|_| ()).expect_err("a bad program")
    };
    // 2 sources, 3 results, 7 + 1 babies; the giants are (0, 0), (2, 0), (0, 64), (1, 64), (1, 128).
    let table: Vec<u32> = (0..13).map(|i| word(&sections[Section::Tables as usize], i)).collect();
    assert_eq!(table[..6], [2, 3, 7, 2, 5, 11]);
    let (results, giants) = (10, 10 + 3 + 7);
    // Two results in one buffer, or the second where the first is.
    assert_eq!(refused(results + 1, table[results]), ProgramError::Aliasing { index: 0 });
    // A result without giant step, twice one that does not rotate, and results out of order.
    assert_eq!(refused(giants + 3, 0), ProgramError::Instruction { index: 0 });
    assert_eq!(refused(giants + 3, 1), ProgramError::Instruction { index: 0 });
    assert_eq!(refused(giants + 6, 2), ProgramError::Instruction { index: 0 });
    // A baby step of the other source, which has another scale.
    assert_eq!(refused(7, 7), ProgramError::Instruction { index: 0 });
    assert_eq!(refused(7, 5), ProgramError::Scale { index: 0 });
    // The second source at a lower level than the instruction.
    let mut low = sections.clone();
    set_word(&mut low[Section::Instructions as usize], LIMBS, 3);
    let error = Program::verify(&join(&low, &named::N12.fingerprint())).map(|_| ()).expect_err("a bad program");
    assert_eq!(error, ProgramError::Level { index: 0, need: 3, have: 2 });
}

#[test]
fn instructions() {
    for index in 0..END {
        let malformed = ProgramError::Instruction { index };
        assert_eq!(instruction(index, 0, 0), malformed);
        assert_eq!(instruction(index, 0, 8), malformed);
        assert_eq!(instruction(index, 1, 1), malformed, "a layer without a name");
        assert_eq!(instruction(index, FLAGS, 4), malformed);
    }
    for index in [TRANSFORM, ROTATE] {
        assert_eq!(instruction(index, TABLE, u32::MAX), ProgramError::Instruction { index });
        assert_eq!(instruction(index, TABLE_LEN, u32::MAX), ProgramError::Instruction { index });
    }
    for index in [MUL_PLAIN, ADD_PLAIN] {
        assert_eq!(instruction(index, PLAIN, 99), ProgramError::Instruction { index });
    }
    assert_eq!(instruction(RESCALE, FLAGS, 0), ProgramError::Instruction { index: RESCALE });
    assert_eq!(instruction(ADD, FLAGS, 1), ProgramError::Scale { index: ADD });
    assert_eq!(instruction(ADD_PLAIN, FLAGS, 1), ProgramError::Level { index: ADD_PLAIN, need: 1, have: 2 });
    // A sum that rescales, with a limb to spare.
    let mut asm = Assembler::new(named::N12, 2, false);
    let x = asm.input(vec![0.0; named::N12.n()], 2, 18.0);
    let y = asm.add_plain(&x, &vec![1.0; named::N12.n()], Form::Scalar);
    let mut sections = split(&asm.finish(&[&y]).bytes);
    set_word(&mut sections[Section::Instructions as usize], FLAGS, 1);
    let error = Program::verify(&join(&sections, &named::N12.fingerprint())).err();
    assert_eq!(error, Some(ProgramError::Scale { index: 0 }));
    for len in [0, 3] {
        assert_eq!(instruction(ROTATE, TABLE_LEN, len), ProgramError::Instruction { index: ROTATE });
    }
    let steps = field(ROTATE, TABLE) as usize / 4;
    for rotation in [0, 4096, u32::MAX] {
        assert_eq!(set(Section::Tables, steps, rotation), ProgramError::Instruction { index: ROTATE });
    }
}

#[test]
fn plaintexts() {
    let malformed = |index| ProgramError::Plaintext { index };
    for form in [0, 5] {
        assert_eq!(plaintext(0, 0, form), malformed(0));
    }
    // 16-bit coefficients read as 32-bit ones or as rows.
    for form in [3, 4] {
        assert_eq!(plaintext(0, 0, form), malformed(0));
    }
    for (field, value) in [(1, 0), (1, 3), (2, 2), (3, u32::MAX), (4, 8190), (4, 0), (7, 0)] {
        assert_eq!(plaintext(0, field, value), malformed(0), "field {field} = {value}");
    }
    // The scalar diagonal takes no cache, so its level can be changed alone.
    assert_eq!(plaintext(1, 1, 1), ProgramError::Level { index: TRANSFORM, need: 2, have: 1 });
    assert_eq!(plaintext(1, 2, 0), ProgramError::Level { index: TRANSFORM, need: 2, have: 2 });
}

#[test]
fn residues_of_plaintexts() {
    let bytes = everything(named::N12, 3, 19.0, 1).bytes;
    assert!(Program::verify(&bytes).is_ok());
    let mut sections: Sections = split(&bytes);
    let records = &sections[Section::Plaintexts as usize];
    let of = |index: usize, field: usize| word(records, index * PLAINTEXT_WORDS + field);
    let count = records.len() / 4 / PLAINTEXT_WORDS;
    let index = (0..count).find(|&i| of(i, 0) == form::NTT).expect("one in the Ntt form");
    let (first, last) = (of(index, 3) as usize / 4, (of(index, 3) + of(index, 4)) as usize / 4 - 1);
    for place in [first, last] {
        let good = word(&sections[Section::Data as usize], place);
        // The largest prime of the set is 33,538,049.
        set_word(&mut sections[Section::Data as usize], place, 33_538_049);
        let refused = Program::verify(&join(&sections, &named::N12.fingerprint())).map(|_| ());
        assert_eq!(refused, Err(ProgramError::Plaintext { index }));
        set_word(&mut sections[Section::Data as usize], place, good);
    }
}

#[test]
fn parameters() {
    let prime = |i: usize, value: u32| params(10 + i, value);
    let of = ProgramError::Params;
    for log_n in [0, 10, 17, u32::MAX] {
        assert_eq!(params(0, log_n), of(ParamError::RingDegree { log_n }));
    }
    for digit in [0, 4] {
        assert_eq!(params(1, digit), of(ParamError::Digit { digit: digit as usize }));
    }
    assert_eq!(params(2, 0), of(ParamError::PrimeCount { limbs: 0, special: 1 }));
    assert_eq!(params(2, 200), of(ParamError::PrimeCount { limbs: 200, special: 1 }));
    assert_eq!(params(3, 0), of(ParamError::PrimeCount { limbs: 4, special: 0 }));
    assert_eq!(params(3, u32::MAX), of(ParamError::PrimeCount { limbs: 4, special: u32::MAX as usize }));
    assert_eq!(params(2, 5), of(ParamError::Truncated));
    // Composite; a prime that is 3 modulo 4; above 2^30; 0.
    for value in [16_385, 163_843, 1_073_872_897, 0] {
        assert_eq!(prime(1, value), of(ParamError::Prime { value }));
    }
    let first = named::N12.q()[0];
    assert_eq!(prime(2, first), of(ParamError::Repeated { value: first }));
    // 115 + 30 - 17 bits at N = 4096, where 106 are allowed.
    assert_eq!(prime(1, 1_073_479_681), of(ParamError::Insecure { log_qp: 118, max: 106 }));
    assert_eq!(params(8, 0), of(ParamError::Name));
    assert_eq!(params(8, 0xffff_ffff), of(ParamError::Name));
    let error = refused(|s| s[Section::Params as usize].truncate(20));
    assert_eq!(error, of(ParamError::Truncated));
    let other = Program::verify(&join(&TINY, &named::N13.fingerprint())).map(|_| ()).unwrap_err();
    assert_eq!(other, ProgramError::Fingerprint);
    // A sound set, but not the one that the header names.
    assert_eq!(params(1, 2), ProgramError::Fingerprint);
}

#[test]
fn sections() {
    use Section::*;
    let all = [Params, Manifest, Buffers, Inputs, Outputs, Instructions, Tables, Plaintexts, Data, Names, Text, Meta];
    let bytes = join(&TINY, &named::N12.fingerprint());
    for (i, section) in all.into_iter().enumerate() {
        for (at, value) in [(0, bytes.len() as u32 + 1), (0, u32::MAX), (4, bytes.len() as u32), (4, u32::MAX)] {
            let mut changed = bytes.clone();
            set_word(&mut changed[SECTION_TABLE + 8 * i + at..], 0, value);
            seal(&mut changed, FileKind::Program, &named::N12.fingerprint());
            let error = Program::verify(&changed).map(|_| ()).unwrap_err();
            assert_eq!(error, ProgramError::Section { section }, "word {at} = {value}");
        }
    }
    for section in [Manifest, Buffers, Inputs, Outputs, Instructions, Tables, Plaintexts, Names] {
        let error = refused(|s| s[section as usize].push(0));
        assert_eq!(error, ProgramError::Section { section });
    }
    for section in [Inputs, Outputs] {
        assert_eq!(refused(|s| s[section as usize].clear()), ProgramError::Section { section });
        let error = refused(|s| s[section as usize] = s[section as usize][..16].repeat(MAX_BUFFERS + 1));
        assert_eq!(error, ProgramError::Section { section });
    }
    let names = ProgramError::Section { section: Names };
    assert_eq!(set(Names, 0, 1), names);
    assert_eq!(set(Names, 1, 5), names);
    assert_eq!(set(Names, 1, u32::MAX), names);
    assert_eq!(refused(|s| s[Text as usize][0] = 0xff), names);
    assert_eq!(refused(|s| s[Names as usize].clear()), ProgramError::Instruction { index: 0 });
}
