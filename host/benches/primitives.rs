//! Times of the kernel's parts on one core: transforms on every backend, key switches, a square, an inference.
//!
//! `cargo bench -p cipherlens` measures; with `-- --test` everything runs once.

use cipherlens::bench::operation;
use cipherlens::compile::slots::SlotOpKind;
use cipherlens::compile::{CompileOptions, compile, load};
use cipherlens::encode::Encoder;
use cipherlens::encrypt::{EncryptionKey, Target, encrypt};
use cipherlens::evaluate::{Memory, infer};
use cipherlens::keys::{SecretKey, evaluation_keys};
use cipherlens::random::Random;
use cipherlens::ring::Ring;
use cipherlens_kernel::math::{Backend, Detected, Modulus, PRODUCT_BLOCK, RowBlock};
use cipherlens_kernel::parallel::Serial;
use cipherlens_kernel::params::named;
use cipherlens_kernel::program::Program;
use criterion::{Criterion, Throughput};
use std::hint::black_box;
use std::path::Path;

fn transforms(c: &mut Criterion) {
    for set in [named::N12, named::N13, named::N14] {
        let ring = Ring::new(set);
        let table = ring.table(set.limbs(), 0);
        let p = table.modulus.value();
        for backend in Detected::all() {
            let mut row: Vec<u32> = (0..set.n() as u32).map(|i| i.wrapping_mul(2_654_435_761) % p).collect();
            let id = |name: &str| format!("ntt/{name}/{}/{}", backend.name(), set.n());
            c.bench_function(&id("forward"), |b| b.iter(|| backend.forward(black_box(&mut row), &table)));
            c.bench_function(&id("inverse"), |b| b.iter(|| backend.inverse(black_box(&mut row), &table)));
        }
    }
}

/// The product of a dense layer in batches: 104 rows of a block, 24 columns. Throughput is in products of a word with a
/// weight; `peak` is what registers alone do.
fn matrix_products(c: &mut Criterion) {
    const ROWS: usize = 104;
    const COLUMNS: usize = 24;
    let p = named::N13.q()[0];
    let m = Modulus::new(p);
    let n = named::N13.n();
    let rows: Vec<Vec<u32>> = (0..ROWS as u32)
        .map(|k| (0..n as u32).map(|i| (i ^ k << 20).wrapping_mul(2_654_435_761) % p).collect())
        .collect();
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let weights: Vec<[u8; 4]> = (0..(ROWS * COLUMNS) as i32).map(|i| (i % 255 - 127).to_le_bytes()).collect();
    let mut out = vec![0; COLUMNS * PRODUCT_BLOCK];
    let mut group = c.benchmark_group("matrix_product");
    for backend in Detected::all() {
        group.throughput(Throughput::Elements((ROWS * COLUMNS * n) as u64));
        group.bench_function(backend.name(), |b| {
            b.iter(|| {
                for at in (0..n).step_by(PRODUCT_BLOCK) {
                    let block = RowBlock { rows: &rows, at };
                    backend.matrix_product(black_box(&mut out), &block, &weights, false, &m);
                }
            });
        });
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        const STEPS: u64 = 100_000;
        group.throughput(Throughput::Elements(STEPS * 64));
        // SAFETY: the processor has these instructions.
        group.bench_function("peak/avx512", |b| b.iter(|| unsafe { peak(STEPS) }));
    }
    group.finish();
}

/// `steps` times eight products of eight words, each added to a sum, all in registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn peak(steps: u64) {
    for _ in 0..steps {
        // SAFETY: computes on registers only. In assembly, because a compiler would find the same product eight times.
        unsafe {
            std::arch::asm!(
                "vpmuldq {t}, {x}, {w}", "vpaddq {a}, {a}, {t}", "vpmuldq {u}, {x}, {w}", "vpaddq {b}, {b}, {u}",
                "vpmuldq {t}, {x}, {w}", "vpaddq {c}, {c}, {t}", "vpmuldq {u}, {x}, {w}", "vpaddq {d}, {d}, {u}",
                "vpmuldq {t}, {x}, {w}", "vpaddq {e}, {e}, {t}", "vpmuldq {u}, {x}, {w}", "vpaddq {f}, {f}, {u}",
                "vpmuldq {t}, {x}, {w}", "vpaddq {g}, {g}, {t}", "vpmuldq {u}, {x}, {w}", "vpaddq {h}, {h}, {u}",
                x = out(zmm_reg) _, w = out(zmm_reg) _, t = out(zmm_reg) _, u = out(zmm_reg) _,
                a = out(zmm_reg) _, b = out(zmm_reg) _, c = out(zmm_reg) _, d = out(zmm_reg) _,
                e = out(zmm_reg) _, f = out(zmm_reg) _, g = out(zmm_reg) _, h = out(zmm_reg) _,
                options(nomem, nostack, preserves_flags)
            );
        }
    }
}

/// Runs a program on zeros, everything prepared.
fn inference(c: &mut Criterion, name: &str, bytes: &[u8]) {
    let program = Program::verify(bytes).expect("the compiler's output is valid");
    let ring = Ring::new(*program.set());
    let encoder = Encoder::new(program.set().log_n());
    let mut random = Random::from_os().expect("the system has randomness");
    let secret = SecretKey::generate(*program.set(), &mut random);
    let requests: Vec<_> = (0..program.keys()).filter_map(|i| program.key(i)).collect();
    let keys = evaluation_keys(&secret, &ring, &requests, &mut random, |_| ());
    let inputs: Vec<Vec<u8>> = (0..program.inputs())
        .filter_map(|i| Some((i, program.input(i)?)))
        .map(|(i, port)| {
            let target =
                Target { program: program.fingerprint(), index: i as u32, limbs: port.limbs, scale: port.scale };
            encrypt(&[0.0], &target, EncryptionKey::Secret(&secret), &ring, &encoder, &mut random).expect("zeros fit")
        })
        .collect();
    let mut memory = Memory::default();
    let mut engine = memory.engine(program, &keys, 1).expect("the keys fit the program");
    c.bench_function(name, |b| b.iter(|| infer(&mut engine, &inputs, &Serial).expect("a valid run")));
}

fn operations(c: &mut Criterion) {
    for (set, limbs) in [(named::N12, 3), (named::N13, 6), (named::N14, 12)] {
        for steps in [1, 8] {
            let kind = SlotOpKind::RotateSum { src: 0, steps: (1..=steps).collect(), rescale: true };
            let program = operation(set, limbs, kind).expect("one operation fits");
            inference(c, &format!("rotate-sum/{steps}/{}", set.name()), &program);
        }
        let program = operation(set, limbs, SlotOpKind::Mul { a: 0, b: 0, rescale: true }).expect("one operation fits");
        inference(c, &format!("square/{}", set.name()), &program);
    }
}

fn models(c: &mut Criterion) {
    for name in ["mnist-micro", "mnist", "tenseal-cnn", "cryptonets", "orion-mlp"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../models/{name}.onnx"));
        let model = load(&path, None).expect("a model of the repository");
        let compiled = compile(&model, &CompileOptions::default()).expect("the model compiles");
        inference(c, &format!("inference/{name}"), &compiled.bytes);
    }
}

fn main() {
    let mut c = Criterion::default().sample_size(20).configure_from_args();
    transforms(&mut c);
    matrix_products(&mut c);
    operations(&mut c);
    models(&mut c);
    c.final_summary();
}
