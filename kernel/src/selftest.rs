//! A known-answer test for power-on: seed expansion, tables, every limb pass and SHA-256 on fixed operands.
//!
//! It finds a processor, memory or build that computes something else than the kernel's authors did, before a patient's
//! image is at stake. It does not look at program and keys: these have digests of their own.
//!
//! Work: 50 passes over rows of 256 and 512 words, two tables, 22 rows from seeds, and SHA-256 over 93 KiB. Counted for
//! a Cortex-M7 (thumbv7em): 6.0 million instructions, 13 ms at 480 MHz and one instruction per cycle; no loop depends on data
//! from outside.

use crate::keys::{Stream, expand_uniform, galois_element};
use crate::math::{Backend, Modulus, NttTable, TABLE_ROWS, Term, build_table};
use crate::wire::store_words;
use sha2::{Digest, Sha256};

/// log2 N and prime of each case: an even and an odd number of levels, the largest and the smallest prime.
const CASES: [(u32, u32); 2] = [(8, 1_073_479_681), (9, 163_841)];
/// N of the largest case.
const MAX_N: usize = 512;
/// Rows besides the table: six reduced operands, three of words below 2^30, one of any words, its bytes, two of results.
const ROWS: usize = 13;

/// Bytes of memory that [`selftest`] takes: 34 KiB.
pub const SELFTEST_BYTES: usize = (TABLE_ROWS + ROWS) * MAX_N * 4;

/// SHA-256 over all results, in the order of the code below. From the portable backend.
const ANSWER: [u8; 32] = [
    0x9b, 0xd4, 0x5e, 0x37, 0x78, 0x7a, 0x18, 0xc5, 0x9e, 0x54, 0x2b, 0x63, 0x79, 0x0a, 0xe0, 0x52, 0xf5, 0x37, 0xcc,
    0x0a, 0x07, 0xbc, 0xba, 0x28, 0xf9, 0xdd, 0x22, 0x3c, 0x5e, 0x00, 0x9b, 0x84,
];

/// SHA-256 of `abc`. Reference: FIPS 180-2, appendix B.1.
const SHA256_ABC: [u8; 32] = [
    0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61,
    0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
];

/// Why the self-test fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SelfTestError {
    /// The memory is smaller than [`SELFTEST_BYTES`].
    MemoryTooSmall {
        /// Bytes needed.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// The memory does not start at a multiple of 4.
    Misaligned,
    /// SHA-256 gives a wrong digest.
    Sha256,
    /// A table cannot be built.
    Table {
        /// The prime.
        p: u32,
    },
    /// Some result is wrong.
    Answer,
}

impl core::fmt::Display for SelfTestError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::MemoryTooSmall { need, have } => write!(f, "the self-test needs {need} bytes, the memory has {have}"),
            Self::Misaligned => write!(f, "the memory of the self-test must start at a multiple of 4 bytes"),
            Self::Sha256 => write!(f, "self-test: SHA-256 gives a wrong digest"),
            Self::Table { p } => write!(f, "self-test: no transform table modulo {p}"),
            Self::Answer => write!(f, "self-test: a result differs from the known answer"),
        }
    }
}

impl core::error::Error for SelfTestError {}

/// Compares this machine's results with the known answer. `memory` may be the arena, before an engine takes it.
///
/// # Errors
/// [`SelfTestError`]; unless it is about the memory, nothing that this machine computes can be trusted.
pub fn selftest<B: Backend>(backend: B, memory: &mut [u8]) -> Result<(), SelfTestError> {
    selftest_with_fault(backend, memory, 0)
}

/// [`selftest`] with one bit of result number `fault` inverted, counted from 1: for a product that has to show what it
/// does when the self-test fails. There are [`RESULTS`] results; other numbers do no harm.
///
/// # Errors
/// As [`selftest`].
pub fn selftest_with_fault<B: Backend>(backend: B, memory: &mut [u8], fault: usize) -> Result<(), SelfTestError> {
    if answer(backend, memory, fault)? == ANSWER { Ok(()) } else { Err(SelfTestError::Answer) }
}

fn answer<B: Backend>(backend: B, memory: &mut [u8], fault: usize) -> Result<[u8; 32], SelfTestError> {
    let have = memory.len();
    let too_small = SelfTestError::MemoryTooSmall { need: SELFTEST_BYTES, have };
    let memory = memory.get_mut(..SELFTEST_BYTES).ok_or(too_small)?;
    let memory: &mut [u32] = bytemuck::try_cast_slice_mut(memory).map_err(|_| SelfTestError::Misaligned)?;
    // First the judge of all others.
    let abc: [u8; 32] = Sha256::digest(b"abc").into();
    if abc != SHA256_ABC {
        return Err(SelfTestError::Sha256);
    }
    let mut results = Results { hash: Sha256::new(), until_fault: fault };
    for (log_n, p) in CASES {
        case(backend, log_n, p, memory, &mut results)?;
    }
    Ok(results.hash.finalize().into())
}

/// Results that are compared.
pub const RESULTS: usize = 56;

struct Results {
    hash: Sha256,
    until_fault: usize,
}

impl Results {
    fn add(&mut self, words: &mut [u32]) {
        self.until_fault = self.until_fault.wrapping_sub(1);
        if self.until_fault == 0
            && let Some(word) = words.last_mut()
        {
            *word ^= 1;
        }
        for words in words.chunks(16) {
            let mut bytes = [0; 64];
            store_words(&mut bytes, words);
            self.hash.update(bytes);
        }
    }
}

/// Takes `len` words off the front of `rest`.
fn take<'m>(rest: &mut &'m mut [u32], len: usize) -> Option<&'m mut [u32]> {
    let (front, tail) = core::mem::take(rest).split_at_mut_checked(len)?;
    *rest = tail;
    Some(front)
}

fn case<B: Backend>(
    backend: B,
    log_n: u32,
    p: u32,
    mut memory: &mut [u32],
    results: &mut Results,
) -> Result<(), SelfTestError> {
    let (n, m) = (1usize.wrapping_shl(log_n), Modulus::new(p));
    let no_table = SelfTestError::Table { p };
    let mut rows = |count: usize| {
        let too_small = SelfTestError::MemoryTooSmall { need: SELFTEST_BYTES, have: 0 };
        take(&mut memory, n.wrapping_mul(count)).ok_or(too_small)
    };
    let table = rows(TABLE_ROWS)?;
    build_table(table, &m, log_n).ok_or(no_table)?;
    results.add(table);
    let table = NttTable::new(table, m, n).ok_or(no_table)?;

    let wide = Modulus::new(1_073_479_681);
    let mut operand = |code: u32, m: &Modulus| {
        let row = rows(1)?;
        expand_uniform(row, &[0x5a; 32], Stream::Key { code, digit: log_n }, m);
        Ok::<&[u32], SelfTestError>(row)
    };
    let (x, a, b) = (operand(1, &m)?, operand(2, &m)?, operand(3, &m)?);
    let (c, d, e) = (operand(4, &m)?, operand(5, &m)?, operand(6, &m)?);
    let digits = rows(3)?;
    for (code, row) in (7..10).zip(digits.chunks_exact_mut(n.max(1))) {
        expand_uniform(row, &[0xa5; 32], Stream::Key { code, digit: log_n }, &wide);
    }
    let digits = &*digits;
    let digit = digits.get(..n).unwrap_or(&[]);
    let any = rows(1)?;
    expand_uniform(any, &[0x3c; 32], Stream::Ciphertext, &wide);
    // An odd factor spreads the words over all 32 bits.
    any.iter_mut().for_each(|word| *word = word.wrapping_mul(0x9e37_79b9));
    let any = &*any;
    let bytes: &mut [u8] = bytemuck::try_cast_slice_mut(rows(1)?).unwrap_or(&mut []);
    store_words(bytes, any);
    let (bytes, half) = (&*bytes, bytes.get(..n << 1).unwrap_or(&[]));
    let (out, out1) = (rows(1)?, rows(1)?);
    let first = |row: &[u32]| row.first().copied().unwrap_or(0);
    let (w, s, g) = (m.shoup(first(a)), first(b), galois_element(5, log_n));

    let mut with = |start: &[u32], pass: &dyn Fn(&mut [u32])| {
        for (to, from) in out.iter_mut().zip(start) {
            *to = *from;
        }
        pass(out);
        results.add(out);
    };
    with(x, &|row| backend.forward(row, &table));
    with(x, &|row| backend.inverse(row, &table));
    with(x, &|row| backend.add_assign(row, a, &m));
    with(x, &|row| backend.sub_assign(row, a, &m));
    with(x, &|row| backend.mul(row, a, b, &m));
    with(x, &|row| backend.mul_add(row, a, b, &m));
    with(x, &|row| backend.mul_redc(row, a, b, false, &m));
    with(x, &|row| backend.mul_redc(row, a, b, true, &m));
    with(x, &|row| backend.redc_add(row, a, &m));
    with(x, &|row| backend.mul_scalar(row, any, w, &m));
    with(x, &|row| backend.mul_scalar_add(row, any, w, &m));
    with(any, &|row| backend.mul_scalar_assign(row, w, &m));
    with(x, &|row| backend.sub_from_mul(row, a, w, &m));
    with(x, &|row| backend.garner_step(row, digit, w, &m));
    with(x, &|row| backend.add_scalar_assign(row, s, &m));
    with(x, &|row| backend.expand_signed(row, bytes, true, w, &m));
    with(x, &|row| backend.expand_signed(row, half, false, w, &m));
    with(x, &|row| backend.automorphism(row, a, g));
    with(x, &|row| backend.recompose(row, digits, &[first(c), first(d), first(e)], s, &m));

    let term = |shared, pair| Term { shared, pair };
    let terms = [term(a, [b, c]), term(b, [c, d]), term(c, [d, e]), term(d, [e, a]), term(e, [a, b])];
    for accumulate in [false, true] {
        backend.dot_pair([&mut *out, &mut *out1], &terms, accumulate, &m);
        results.add(out);
        results.add(out1);
        let addend = accumulate.then_some((a, s));
        backend.rotate_dot_pair([&mut *out, &mut *out1], &terms, addend, g, accumulate, &m);
        results.add(out);
        results.add(out1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::{Detected, Portable};

    fn with_fault(backend: Detected, fault: usize) -> Result<(), SelfTestError> {
        let mut memory = std::vec![0xdead_beef_u32; SELFTEST_BYTES / 4];
        selftest_with_fault(backend, bytemuck::cast_slice_mut(&mut memory), fault)
    }

    #[test]
    fn the_answer_is_that_of_the_portable_backend() {
        let mut memory = std::vec![0u32; SELFTEST_BYTES / 4];
        assert_eq!(answer(Portable, bytemuck::cast_slice_mut(&mut memory), 0), Ok(ANSWER));
    }

    #[test]
    fn every_backend_gives_the_known_answer() {
        for backend in Detected::all() {
            assert_eq!(with_fault(backend, 0), Ok(()), "{}", backend.name());
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        for fault in 1..=RESULTS {
            assert_eq!(with_fault(Detected::new(), fault), Err(SelfTestError::Answer), "result {fault}");
        }
        // The last number is the last result.
        assert_eq!(with_fault(Detected::new(), RESULTS + 1), Ok(()));
    }

    #[test]
    fn memory_is_checked() {
        let mut memory = std::vec![0u32; SELFTEST_BYTES / 4 + 1];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut memory);
        let (need, have) = (SELFTEST_BYTES, SELFTEST_BYTES - 1);
        assert_eq!(selftest(Portable, &mut bytes[..have]), Err(SelfTestError::MemoryTooSmall { need, have }));
        assert_eq!(selftest(Portable, &mut bytes[1..]), Err(SelfTestError::Misaligned));
        assert_eq!(selftest(Portable, bytes), Ok(()));
    }
}
