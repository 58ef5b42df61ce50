//! The fuzz targets without a fuzzer: the committed seeds, and deterministic mutations of them.

use cipherlens_tests::Lcg;
use cipherlens_tests::fixtures::{bless, root};
use cipherlens_tests::targets::{TARGETS, Target, seeds};
use std::path::{Path, PathBuf};

fn corpus(target: &str) -> PathBuf {
    match target {
        "onnx" => root().join("fixtures/onnx"),
        _ => root().join("fuzz/seeds").join(target),
    }
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|p| (p.file_name().unwrap().to_string_lossy().into(), std::fs::read(p).unwrap())).collect()
}

/// One to four changes as a fuzzer makes them.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], lcg: &mut Lcg) {
    for _ in 0..1 + lcg.below(4) {
        let at = lcg.below(bytes.len() + 1);
        match lcg.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << lcg.below(8),
            1 if at < bytes.len() => bytes[at] = lcg.word() as u8,
            2 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][lcg.below(5)],
            3 => bytes.truncate(at),
            4 => bytes.insert(at, lcg.word() as u8),
            5 => (0..8).for_each(|_| bytes.push(lcg.word() as u8)),
            6 if !other.is_empty() => {
                let from = lcg.below(other.len());
                let piece = &other[from..(from + 1 + lcg.below(64)).min(other.len())];
                let end = (at + piece.len()).min(bytes.len());
                bytes.splice(at..end, piece.iter().copied());
            }
            _ if at < bytes.len() => bytes[at] = bytes[at].wrapping_add([1, 255][lcg.below(2)]),
            _ => {}
        }
    }
}

fn smoke(name: &str, mutations: usize) {
    let target: Target = TARGETS.iter().find(|(n, _)| *n == name).expect("a target").1;
    let corpus = files(&corpus(name));
    assert!(!corpus.is_empty());
    for (_, bytes) in &corpus {
        target(bytes);
    }
    target(&[]);
    let mut lcg = Lcg::new(name.len() as u64 + 300);
    for i in 0..mutations {
        let mut bytes = corpus[lcg.below(corpus.len())].1.clone();
        let other = &corpus[lcg.below(corpus.len())].1;
        mutate(&mut bytes, other, &mut lcg);
        let run = std::panic::catch_unwind(|| target(&bytes));
        if run.is_err() {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{i}"));
            std::fs::write(&path, &bytes).expect("a file");
            panic!("mutation {i} of {name} panics; it is kept in {}", path.display());
        }
    }
}

#[test]
fn seeds_are_those_of_the_formats() {
    let made = seeds();
    for (target, name, bytes) in &made {
        let path = corpus(target).join(name);
        if bless() {
            std::fs::create_dir_all(corpus(target)).expect("a folder");
            std::fs::write(&path, bytes).expect("a file");
        }
        let found = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; CIPHERLENS_BLESS=1", path.display()));
        assert!(found == *bytes, "{}; CIPHERLENS_BLESS=1 writes it anew", path.display());
    }
    let total: usize = made.iter().map(|(_, _, bytes)| bytes.len()).sum();
    assert!(total < 100_000, "{total} bytes of seeds");
}

#[test]
fn wire() {
    smoke("wire", 5000);
}

#[test]
fn program() {
    smoke("program", 3000);
}

#[test]
fn batch_program() {
    smoke("batch_program", 5000);
}

#[test]
fn engine() {
    smoke("engine", 400);
}

#[test]
fn batch_engine() {
    smoke("batch_engine", 1500);
}

#[test]
fn onnx() {
    smoke("onnx", 5000);
}
