//! Every limb pass of a backend on rows that do not depend on the target, compared with the portable one.

use cipherlens_kernel::keys::galois_element;
use cipherlens_kernel::math::{
    Backend, Detected, MAX_DOT, MAX_WEIGHT, Modulus, PRODUCT_BLOCK, Portable, RowBlock, TABLE_ROWS, Term, build_table,
};
use cipherlens_kernel::wire::store_words;
use core::fmt::{Display, Formatter};
use sha2::{Digest, Sha256};

/// log2 N with primes that are 1 modulo 4N, among them the smallest and the largest below 2^30 in use.
const CASES: [(u32, &[u32]); 4] = [
    (6, &[163_841, 33_538_049, 1_073_479_681]),
    (8, &[163_841, 33_538_049, 1_073_479_681]),
    (12, &[147_457, 33_538_049, 1_073_479_681]),
    (13, &[65_929_217, 268_369_921, 1_073_479_681]),
];

const MAX_N: usize = 1 << 13;

/// Rows of operands: six reduced, four below 2^30, one of any words.
const OPERANDS: usize = 11;

/// Rows of a matrix product, and most of its columns.
const PRODUCT_ROWS: usize = 9;
const MOST_COLUMNS: usize = 23;

/// Words of memory that [`passes`] takes: the table, the operands, bytes, the result and the portable result.
pub const MEMORY_WORDS: usize = (TABLE_ROWS + OPERANDS + 5) * MAX_N;

/// The first pass whose result is not that of the portable backend.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    /// The pass.
    pub pass: &'static str,
    /// The prime.
    pub p: u32,
    /// Words of a row.
    pub n: usize,
    /// Position of the first word that differs.
    pub at: usize,
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        let Self { pass, p, n, at } = self;
        write!(f, "differs from portable in {pass} modulo {p}, N = {n}, at word {at}")
    }
}

/// What the words of a row are.
#[derive(Clone, Copy)]
enum Rows {
    Largest,
    Edges,
    Random,
}

/// Words from a linear congruential generator.
struct Words(u64);

impl Words {
    fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// Uniform in `0..bound`, for `bound` of at most 2^32.
    fn below(&mut self, bound: u64) -> u32 {
        ((u64::from(self.word()) * bound) >> 32) as u32
    }

    fn fill(&mut self, row: &mut [u32], rows: Rows, bound: u64) {
        let top = (bound - 1) as u32;
        for x in row {
            *x = match rows {
                Rows::Largest => top,
                Rows::Edges => [0, 1, top, top / 2, top / 2 + 1][self.below(5) as usize],
                Rows::Random => self.below(bound),
            };
        }
    }
}

/// Where results are compared and hashed.
struct Comparison<'a> {
    backend: Detected,
    m: Modulus,
    row: &'a mut [u32],
    expected: &'a mut [u32],
    hash: &'a mut Sha256,
    /// Comparisons until one is damaged.
    fault: &'a mut u32,
}

impl Comparison<'_> {
    /// Runs a pass on a copy of `start`, and the portable one on another.
    fn check(
        &mut self,
        pass: &'static str,
        start: &[u32],
        run: impl Fn(Detected, &mut [u32]),
    ) -> Result<(), Difference> {
        let (row, expected) = (&mut self.row[..start.len()], &mut self.expected[..start.len()]);
        row.copy_from_slice(start);
        run(self.backend, row);
        if matches!(self.backend, Detected::Portable(_)) {
            // The digest speaks for it.
            expected.copy_from_slice(row);
        } else {
            expected.copy_from_slice(start);
            run(Detected::Portable(Portable), expected);
        }
        *self.fault = self.fault.wrapping_sub(1);
        if *self.fault == 0 {
            row[start.len() / 2] ^= 1;
        }
        if let Some(at) = row.iter().zip(&*expected).position(|(a, b)| a != b) {
            return Err(Difference { pass, p: self.m.value(), n: start.len(), at });
        }
        for words in row.chunks(64) {
            let mut bytes = [0; 256];
            store_words(&mut bytes, words);
            self.hash.update(bytes);
        }
        Ok(())
    }
}

/// Runs all passes of `backend` and returns the digest of all results. Damages comparison number `fault`.
///
/// # Errors
/// The first difference.
pub fn passes(backend: Detected, seed: u32, fault: u32, memory: &mut [u32]) -> Result<[u8; 32], Difference> {
    let (mut hash, mut words, mut fault) = (Sha256::new(), Words(seed.into()), fault);
    for (log_n, primes) in CASES {
        for &p in primes {
            for rows in [Rows::Largest, Rows::Edges, Rows::Random] {
                case(backend, log_n, p, rows, &mut words, memory, &mut hash, &mut fault)?;
            }
        }
    }
    Ok(hash.finalize().into())
}

#[allow(clippy::too_many_arguments, reason = "one case of a sweep")]
fn case(
    backend: Detected,
    log_n: u32,
    p: u32,
    rows: Rows,
    words: &mut Words,
    memory: &mut [u32],
    hash: &mut Sha256,
    fault: &mut u32,
) -> Result<(), Difference> {
    let (n, m) = (1usize << log_n, Modulus::new(p));
    let (table, memory) = memory.split_at_mut(TABLE_ROWS * n);
    let (operands, memory) = memory.split_at_mut(OPERANDS * n);
    let (bytes, memory) = memory.split_at_mut(n);
    let (row, memory) = memory.split_at_mut(2 * n);
    let expected = &mut memory[..2 * n];

    let table = build_table(table, &m, log_n).expect("a 4N-th root of unity");
    let (reduced, rest) = operands.split_at_mut(6 * n);
    let (digits, any) = rest.split_at_mut(4 * n);
    words.fill(reduced, rows, p.into());
    words.fill(digits, rows, 1 << 30);
    words.fill(any, rows, 1 << 32);
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(bytes);
    store_words(bytes, any);
    let (bytes, any) = (&*bytes, &*any);
    let operand = |k: usize| &reduced[k % 6 * n..][..n];
    let [x, a, b] = [operand(0), operand(1), operand(2)];

    let mut with = Comparison { backend, m, row, expected, hash, fault };
    with.check("forward", x, |k, row| k.forward(row, &table))?;
    with.check("inverse", x, |k, row| k.inverse(row, &table))?;
    with.check("add_assign", x, |k, row| k.add_assign(row, a, &m))?;
    with.check("sub_assign", x, |k, row| k.sub_assign(row, a, &m))?;
    with.check("mul", x, |k, row| k.mul(row, a, b, &m))?;
    with.check("mul_add", x, |k, row| k.mul_add(row, a, b, &m))?;
    with.check("mul_redc", x, |k, row| k.mul_redc(row, a, b, true, &m))?;
    with.check("redc_add", x, |k, row| k.redc_add(row, a, &m))?;
    for s in [0, 1, p - 1, words.below(p.into())] {
        let w = m.shoup(s);
        with.check("mul_scalar", x, |k, row| k.mul_scalar(row, any, w, &m))?;
        with.check("mul_scalar_add", x, |k, row| k.mul_scalar_add(row, any, w, &m))?;
        with.check("mul_scalar_assign", any, |k, row| k.mul_scalar_assign(row, w, &m))?;
        with.check("sub_from_mul", x, |k, row| k.sub_from_mul(row, a, w, &m))?;
        with.check("garner_step", x, |k, row| k.garner_step(row, &digits[..n], w, &m))?;
        with.check("add_scalar_assign", x, |k, row| k.add_scalar_assign(row, s, &m))?;
        with.check("expand_signed, 4 bytes", x, |k, row| k.expand_signed(row, bytes, true, w, &m))?;
        with.check("expand_signed, 2 bytes", x, |k, row| k.expand_signed(row, &bytes[..2 * n], false, w, &m))?;
    }
    for rotation in [1, n as u32 / 2, n as u32 - 1, words.below(n as u64)] {
        let g = galois_element(rotation, log_n);
        with.check("automorphism", x, |k, row| k.automorphism(row, a, g))?;
    }
    let terms: [_; MAX_DOT] =
        core::array::from_fn(|k| Term { shared: operand(k), pair: [operand(k / 6 + 1), operand(k + 2)] });
    let g = galois_element(1 + words.below(n as u64 - 1), log_n);
    let factor = words.below(p.into());
    for count in [0, 1, 2, 3, 4, 5, 7, 8, 15, MAX_DOT] {
        let terms = &terms[..count];
        for accumulate in [false, true] {
            // Both results, one after the other.
            let both = &reduced[..2 * n];
            with.check("dot_pair", both, |k, row| {
                let (first, second) = row.split_at_mut(n);
                k.dot_pair([first, second], terms, accumulate, &m);
            })?;
            with.check("rotate_dot_pair", both, |k, row| {
                let (first, second) = row.split_at_mut(n);
                k.rotate_dot_pair([first, second], terms, Some((a, factor)), g, accumulate, &m);
            })?;
        }
    }
    for count in 1..=4 {
        let weights: [u32; 4] = core::array::from_fn(|_| words.below(p.into()));
        for weights in [weights, [p - 1; 4]] {
            let digits = &digits[..count * n];
            with.check("recompose", x, |k, row| k.recompose(row, digits, &weights[..count], b[0], &m))?;
        }
    }
    // As many columns as a row has blocks, so that tiles of every width are among them.
    let columns = (n / PRODUCT_BLOCK).min(MOST_COLUMNS);
    let mut weights = [[0u8; 4]; PRODUCT_ROWS * MOST_COLUMNS];
    for weight in &mut weights[..PRODUCT_ROWS * columns] {
        let bound = MAX_WEIGHT as i32 - 1;
        *weight = (words.below(2 * u64::from(MAX_WEIGHT) - 1) as i32 - bound).to_le_bytes();
    }
    let weights = &weights[..PRODUCT_ROWS * columns];
    let sources: [&[u32]; PRODUCT_ROWS] = core::array::from_fn(operand);
    for (at, accumulate) in [(0, false), (n - PRODUCT_BLOCK, true)] {
        let block = RowBlock { rows: &sources, at };
        with.check("matrix_product", &x[..columns * PRODUCT_BLOCK], |k, out| {
            k.matrix_product(out, &block, weights, accumulate, &m);
        })?;
    }
    Ok(())
}
