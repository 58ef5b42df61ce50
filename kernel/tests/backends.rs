//! Every backend that this processor supports gives the bits of the portable one.

use cipherlens_kernel::math::{
    Backend, Detected, MAX_DOT, MAX_PRODUCT, MAX_WEIGHT, Modulus, NttTable, PRODUCT_BLOCK, Portable, RowBlock, Shoup,
    TABLE_ROWS, Term, build_table,
};

/// The generator of `cipherlens-tests`, with which an interpreter would have to build the host.
struct Lcg(u64);

impl Lcg {
    fn new(seed: u64) -> Self {
        let mut lcg = Self(seed);
        lcg.word();
        lcg.word();
        lcg
    }

    fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }
}

/// log2 N with primes that are 1 modulo 4N: the smallest and largest in use, and one between.
const CASES: [(u32, &[u32]); 5] = [
    (6, &[163_841, 33_538_049, 1_073_479_681]),
    (11, &[163_841, 66_420_737, 1_073_479_681]),
    (12, &[147_457, 163_841, 1_785_857, 33_538_049, 1_073_479_681]),
    (13, &[65_929_217, 268_369_921, 1_073_479_681]),
    (15, &[249_561_089, 524_943_361, 1_073_479_681]),
];

/// Rows to feed a pass: constant edges, edges mixed, and random words below `bound`.
struct Rows {
    lcg: Lcg,
    n: usize,
    bound: u64,
    kind: usize,
}

const KINDS: usize = 6;

/// The kinds of rows to try; an interpreter has time for the random ones.
fn kinds() -> std::ops::Range<usize> {
    if cfg!(miri) { KINDS - 1..KINDS } else { 0..KINDS }
}

impl Rows {
    fn next(&mut self) -> Vec<u32> {
        let top = (self.bound - 1) as u32;
        let edges = [0, 1, top, top / 2, top / 2 + 1];
        let row = |lcg: &mut Lcg| match self.kind {
            0 => 0,
            1 => 1,
            2 => top,
            3 => edges[lcg.word() as usize % edges.len()],
            _ => ((u64::from(lcg.word()) * self.bound) >> 32) as u32,
        };
        (0..self.n).map(|_| row(&mut self.lcg)).collect()
    }
}

/// What the compiler was told to assume is there is there, also in an interpreter.
#[test]
fn backends_of_the_target_are_found() {
    let names: Vec<_> = Detected::all().iter().map(|backend| backend.name()).collect();
    assert_eq!(names[0], "portable");
    for (expected, name) in [
        (cfg!(all(target_feature = "avx2", target_feature = "bmi2")), "avx2"),
        (cfg!(all(target_arch = "aarch64", target_feature = "neon")), "neon"),
    ] {
        assert!(!expected || names.contains(&name), "{name} is not among {names:?}");
    }
}

/// Runs a pass on a copy of `start` with the portable backend and with all others.
fn compare(name: &str, m: &Modulus, start: &[u32], pass: impl Fn(Detected, &mut [u32])) {
    let mut expected = start.to_vec();
    pass(Detected::Portable(Portable), &mut expected);
    assert!(expected.iter().all(|&x| x < m.value()), "{name} leaves its range modulo {}", m.value());
    for backend in Detected::all() {
        let mut row = start.to_vec();
        pass(backend, &mut row);
        assert!(row == expected, "{name} on {} modulo {}, N = {}", backend.name(), m.value(), row.len());
    }
}

fn passes(log_n: u32, p: u32, kind: usize) {
    let (n, m) = (1usize << log_n, Modulus::new(p));
    let mut words = vec![0; n * TABLE_ROWS];
    let table = build_table(&mut words, &m, log_n).expect("a 4N-th root of unity");
    let rows = |bound, seed| Rows { lcg: Lcg::new(seed + kind as u64), n, bound, kind };
    let (mut reduced, mut any, mut small) = (rows(p.into(), 1), rows(1 << 32, 2), rows(1 << 30, 3));
    let (x, a, b, word) = (reduced.next(), reduced.next(), reduced.next(), any.next());
    let digit = small.next();
    let mut lcg = Lcg::new(4);
    let scalars = [0, 1, p - 1, lcg.word() % p];
    let few = |count: usize| if cfg!(miri) { 1 } else { count };

    compare("forward", &m, &x, |k, row| k.forward(row, &table));
    compare("inverse", &m, &x, |k, row| k.inverse(row, &table));
    compare("round trip", &m, &x, |k, row| {
        k.forward(row, &table);
        k.inverse(row, &table);
        assert!(row == x);
    });
    compare("add_assign", &m, &x, |k, row| k.add_assign(row, &a, &m));
    compare("sub_assign", &m, &x, |k, row| k.sub_assign(row, &a, &m));
    compare("mul", &m, &x, |k, row| k.mul(row, &a, &b, &m));
    compare("mul_add", &m, &x, |k, row| k.mul_add(row, &a, &b, &m));
    compare("mul_redc", &m, &x, |k, row| k.mul_redc(row, &a, &b, false, &m));
    compare("mul_redc, added", &m, &x, |k, row| k.mul_redc(row, &a, &b, true, &m));
    compare("redc_add", &m, &x, |k, row| k.redc_add(row, &a, &m));
    for &s in scalars.iter().rev().take(few(4)) {
        let w: Shoup = m.shoup(s);
        compare("mul_scalar", &m, &x, |k, row| k.mul_scalar(row, &word, w, &m));
        compare("mul_scalar_add", &m, &x, |k, row| k.mul_scalar_add(row, &word, w, &m));
        compare("mul_scalar_assign", &m, &word, |k, row| k.mul_scalar_assign(row, w, &m));
        compare("sub_from_mul", &m, &x, |k, row| k.sub_from_mul(row, &a, w, &m));
        compare("garner_step", &m, &x, |k, row| k.garner_step(row, &digit, w, &m));
        compare("add_scalar_assign", &m, &x, |k, row| k.add_scalar_assign(row, s, &m));
        let bytes: Vec<u8> = any.next().into_iter().flat_map(u32::to_le_bytes).collect();
        compare("expand_signed 32", &m, &x, |k, row| k.expand_signed(row, &bytes, true, w, &m));
        compare("expand_signed 16", &m, &x, |k, row| k.expand_signed(row, &bytes[..2 * n], false, w, &m));
    }
    for rotation in [1, 2, n as u32 / 2, n as u32 - 1, lcg.word() % n as u32].into_iter().take(few(5)) {
        let g = cipherlens_kernel::keys::galois_element(rotation, log_n);
        compare("automorphism", &m, &x, |k, row| k.automorphism(row, &a, g));
    }
    let many: Vec<[Vec<u32>; 3]> = (0..MAX_DOT).map(|_| [reduced.next(), reduced.next(), reduced.next()]).collect();
    let terms: Vec<Term<'_>> = many.iter().map(|[s, x, y]| Term { shared: s, pair: [x, y] }).collect();
    let g = cipherlens_kernel::keys::galois_element(1 + lcg.word() % (n as u32 - 1), log_n);
    let addends = [None, Some((a.as_slice(), lcg.word() % p))];
    // Of several terms every part of a sum: groups of eight and four, and a rest.
    let counts: &[usize] = if cfg!(miri) { &[15] } else { &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, MAX_DOT] };
    for (count, accumulate) in counts.iter().flat_map(|&c| [(c, false), (c, true)]) {
        let terms = &terms[..count];
        // Both results, one after the other in one row.
        let both = [x.as_slice(), b.as_slice()].concat();
        compare("dot_pair", &m, &both, |k, row| {
            let (first, second) = row.split_at_mut(n);
            k.dot_pair([first, second], terms, accumulate, &m);
        });
        for addend in addends {
            compare("rotate_dot_pair", &m, &both, |k, row| {
                let (first, second) = row.split_at_mut(n);
                k.rotate_dot_pair([first, second], terms, addend, g, accumulate, &m);
            });
        }
    }
    for count in (1..=4).rev().take(few(4)) {
        let digits: Vec<u32> = (0..count).flat_map(|_| small.next()).collect();
        let weights: Vec<u32> = (0..count).map(|_| lcg.word() % p).collect();
        for weights in [weights, vec![p - 1; count]] {
            compare("recompose", &m, &x, |k, row| k.recompose(row, &digits, &weights, scalars[3], &m));
        }
    }
}

/// Weights of a matrix product: largest ones of either sign, or random.
fn weights(lcg: &mut Lcg, count: usize, kind: usize) -> Vec<[u8; 4]> {
    let bound = MAX_WEIGHT as i32 - 1;
    let weight = |lcg: &mut Lcg| match kind {
        0 => bound,
        1 => -bound,
        _ => (lcg.word() % (2 * MAX_WEIGHT - 1)) as i32 - bound,
    };
    (0..count).map(|_| weight(lcg).to_le_bytes()).collect()
}

#[test]
fn matrix_products_agree() {
    let mut lcg = Lcg::new(17);
    for p in [163_841u32, 33_538_049, 1_073_479_681] {
        let m = Modulus::new(p);
        for kind in kinds() {
            let mut reduced = Rows { lcg: Lcg::new(kind as u64), n: 2 * PRODUCT_BLOCK, bound: p.into(), kind };
            for (taps, columns) in [(1, 1), (3, 2), (25, 8), (17, 5), (40, 24), (MAX_PRODUCT, 13)] {
                if cfg!(miri) && taps > 3 {
                    continue;
                }
                let rows: Vec<Vec<u32>> = (0..taps).map(|_| reduced.next()).collect();
                let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
                let weights = weights(&mut lcg, taps * columns, kind);
                let start: Vec<u32> = (0..columns * PRODUCT_BLOCK).map(|_| lcg.word() % p).collect();
                for (at, accumulate) in [(0, false), (PRODUCT_BLOCK, true)] {
                    let x = RowBlock { rows: &rows, at };
                    compare("matrix_product", &m, &start, |k, out| {
                        k.matrix_product(out, &x, &weights, accumulate, &m);
                        let (column, word) = (columns - 1, PRODUCT_BLOCK / 3);
                        let weight = |k: usize| i128::from(i32::from_le_bytes(weights[k * columns + column]));
                        let sum: i128 = (0..taps).map(|k| weight(k) * i128::from(rows[k][at + word])).sum();
                        let place = column * PRODUCT_BLOCK + word;
                        let old = if accumulate { i128::from(start[place]) } else { 0 };
                        assert_eq!(i128::from(out[place]), (sum + old).rem_euclid(p.into()), "{taps} x {columns}");
                    });
                }
            }
        }
    }
}

/// Rows that no set has, and rows that do not match: all backends do what the portable one does, which is in bounds.
#[test]
fn rows_of_other_lengths_agree() {
    let m = Modulus::new(33_538_049);
    let mut lcg = Lcg::new(23);
    let mut words = vec![0; 64 * TABLE_ROWS];
    let table = build_table(&mut words, &m, 6).expect("a 4N-th root of unity");
    let lengths = [0usize, 1, 2, 7, 15, 16, 24, 31, 32, 48, 63, 65, 96, 128];
    let mut row = |n: usize| -> Vec<u32> { (0..n).map(|_| lcg.word() % m.value()).collect() };
    let (long, other) = (row(64), row(64));
    let all = |name: &str, start: &[u32], pass: &dyn Fn(Detected, &mut [u32])| {
        let mut expected = start.to_vec();
        pass(Detected::Portable(Portable), &mut expected);
        for backend in Detected::all() {
            let mut row = start.to_vec();
            pass(backend, &mut row);
            assert!(row == expected, "{name} of {} words on {}", start.len(), backend.name());
        }
        expected
    };
    for n in lengths {
        let start = row(n);
        all("forward", &start, &|k, row| k.forward(row, &table));
        all("inverse", &start, &|k, row| k.inverse(row, &table));
        // Into fewer words than there are, and into more.
        let moved = all("automorphism", &start, &|k, row| k.automorphism(row, &long, 5));
        assert!(n >= 16 || moved == start, "there is no whole block");
        for count in 1..=4 {
            let digits = row(n * count);
            all("recompose", &start, &|k, row| k.recompose(row, &digits, &[1, 2, 3, 4][..count], 5, &m));
        }
        // One of the rows is shorter or longer than the others: a result, a factor, or the addend.
        let (short, addend) = (row(n), Some((start.as_slice(), 9)));
        let both = [long.as_slice(), &other].concat();
        let terms = |shared, x, y| [Term { shared, pair: [x, y] }, Term { shared: &other, pair: [&long, &other] }];
        for (terms, addend) in [
            (terms(&short, &long, &other), None),
            (terms(&long, &short, &other), None),
            (terms(&long, &other, &short), None),
            (terms(&long, &other, &long), addend),
        ] {
            all("dot_pair", &both, &|k, row| {
                let (first, second) = row.split_at_mut(64);
                k.dot_pair([first, second], &terms, true, &m);
            });
            all("rotate_dot_pair", &both, &|k, row| {
                let (first, second) = row.split_at_mut(64);
                k.rotate_dot_pair([first, second], &terms, addend, 5, false, &m);
            });
        }
        for (first, second) in [(&short, &long), (&long, &short)] {
            let both = [first.as_slice(), second].concat();
            let terms = terms(&long, &other, &long);
            all("dot_pair", &both, &|k, row| {
                let (first, second) = row.split_at_mut(first.len());
                k.dot_pair([first, second], &terms, false, &m);
            });
            all("rotate_dot_pair", &both, &|k, row| {
                let (first, second) = row.split_at_mut(first.len());
                k.rotate_dot_pair([first, second], &terms, None, 5, true, &m);
            });
        }
    }
    // More terms than one sum takes.
    let term = Term { shared: &long, pair: [&other, &long] };
    let both = [long.as_slice(), &other].concat();
    let sums = all("dot_pair", &both, &|k, row| {
        let (first, second) = row.split_at_mut(64);
        k.dot_pair([first, second], &[term; MAX_DOT + 1], false, &m);
    });
    let most = all("dot_pair", &both, &|k, row| {
        let (first, second) = row.split_at_mut(64);
        k.dot_pair([first, second], &[term; MAX_DOT], false, &m);
    });
    assert!(sums == most, "those beyond are left out");
    // Rows of a matrix product that end early, and results that are no whole number of blocks.
    for backend in Detected::all() {
        for have in [0, 1, PRODUCT_BLOCK - 1] {
            let rows = [&long[..have.min(64)], &other];
            let weights = [[1, 0, 0, 0]; 6];
            for columns in 0..=3 {
                let mut out = vec![7; columns * PRODUCT_BLOCK + 5];
                backend.matrix_product(&mut out, &RowBlock { rows: &rows, at: 0 }, &weights[..2 * columns], false, &m);
                assert!(out.iter().all(|&x| x < m.value()) && out[columns * PRODUCT_BLOCK..] == [7; 5]);
            }
        }
    }
    // Tables of other lengths, and of a prime that has no root.
    for len in [0, 64, 128, 192, 255, 257, 320] {
        assert!(build_table(&mut vec![0; len], &m, 6).is_none(), "{len} words");
        assert!(NttTable::new(&vec![0; len], m, 64).is_none(), "{len} words");
    }
    assert!(build_table(&mut vec![0; 256], &Modulus::new(33_538_051), 6).is_none());
}

/// The portable passes against plain 128-bit arithmetic, so that the oracle itself is checked.
#[test]
fn portable_matches_wide_arithmetic() {
    let (n, k) = (64, Portable);
    for p in [163_841u32, 33_538_049, 1_073_479_681] {
        let m = Modulus::new(p);
        let wide = u128::from(p);
        let r_inverse = u128::from(m.inv(m.to_montgomery(1)));
        for kind in 0..KINDS {
            let mut rows = Rows { lcg: Lcg::new(9), n, bound: p.into(), kind };
            let [x, a, b, c, d] = std::array::from_fn(|_| rows.next());
            let check = |name: &str, row: &[u32], f: &dyn Fn(usize) -> u128| {
                for (i, &value) in row.iter().enumerate() {
                    assert_eq!(u128::from(value), f(i) % wide, "{name} modulo {p}");
                }
            };
            let at = |row: &[u32], i: usize| u128::from(row[i]);
            let mut row = x.clone();
            k.mul_add(&mut row, &a, &b, &m);
            check("mul_add", &row, &|i| at(&x, i) + at(&a, i) * at(&b, i));
            row.clone_from(&x);
            let mut other = b.clone();
            let terms = [(&a, &b), (&c, &d), (&a, &d), (&b, &c), (&a, &c)]
                .map(|(shared, first)| Term { shared, pair: [first.as_slice(), shared.as_slice()] });
            k.dot_pair([&mut row, &mut other], &terms, true, &m);
            check("dot_pair, first", &row, &|i| {
                let [a, b, c, d] = [&a, &b, &c, &d].map(|r| at(r, i));
                at(&x, i) + (a * b + c * d + a * d + b * c + a * c) * r_inverse
            });
            check("dot_pair, second", &other, &|i| {
                let [a, b, c] = [&a, &b, &c].map(|r| at(r, i));
                b + (3 * a * a + c * c + b * b) * r_inverse
            });
            // The same sums, with an addend, moved by an automorphism.
            let (mut sums, mut moved, mut expected) = (row.clone(), x.clone(), x.clone());
            let mut ignored = other.clone();
            k.dot_pair([&mut sums, &mut ignored], &terms, false, &m);
            k.mul_scalar_add(&mut sums, &d, m.shoup(3), &m);
            k.automorphism(&mut expected, &sums, 5);
            k.rotate_dot_pair([&mut moved, &mut ignored], &terms, Some((&d, m.to_montgomery(3))), 5, false, &m);
            assert_eq!(moved, expected, "rotate_dot_pair, first, modulo {p}");
            k.automorphism(&mut expected, &sums, 5);
            k.add_assign(&mut expected, &x, &m);
            moved.clone_from(&x);
            k.rotate_dot_pair([&mut moved, &mut ignored], &terms, Some((&d, m.to_montgomery(3))), 5, true, &m);
            assert_eq!(moved, expected, "rotate_dot_pair, accumulated, modulo {p}");
            row.clone_from(&x);
            k.sub_from_mul(&mut row, &a, m.shoup(p - 1), &m);
            check("sub_from_mul", &row, &|i| (at(&a, i) + wide - at(&x, i)) * (wide - 1));
            row.clone_from(&x);
            k.recompose(&mut row, &[a.clone(), b.clone()].concat(), &[p - 1, 5], 7, &m);
            check("recompose", &row, &|i| (at(&a, i) * (wide - 1) + at(&b, i) * 5) * r_inverse + wide - 7);
        }
    }
}

macro_rules! conformance {
    ($($name:ident: $case:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let (log_n, primes) = CASES[$case];
                for &p in if cfg!(miri) { &primes[..1] } else { primes } {
                    for kind in kinds() {
                        passes(log_n, p, kind);
                    }
                }
            }
        )*
    };
}

conformance! {
    n64: 0;
    n2048: 1;
    n4096: 2;
    n8192: 3;
    n32768: 4;
}
