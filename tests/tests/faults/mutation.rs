//! Random changes of a program's words, with a digest to match: whatever the verifier lets through must run or
//! fail with an error. Debug assertions are on, so an arithmetic overflow anywhere in the kernel would panic.

use crate::tiny;
use cipherlens_kernel::engine::Engine;
use cipherlens_kernel::keys::{KeyKind, KeyRequest, KeySource, MappedKeys};
use cipherlens_kernel::params::named;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::program::format::Section;
use cipherlens_tests::assemble::{Sections, join, set_word, split, word};
use cipherlens_tests::lab::{Cached, Lab, any_input, arena, outputs, set_cache};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;

/// More memory than this is not worth a run.
const MOST_BYTES: usize = 16 << 20;

const TARGETS: [Section; 9] = [
    Section::Params,
    Section::Manifest,
    Section::Buffers,
    Section::Inputs,
    Section::Outputs,
    Section::Instructions,
    Section::Tables,
    Section::Plaintexts,
    Section::Names,
];

#[derive(Debug, Clone)]
enum Change {
    Small(u32),
    Add(i32),
    Flip(u32),
    Word(u32),
    Copy(prop::sample::Index),
}

fn change() -> impl Strategy<Value = (usize, prop::sample::Index, Change)> {
    let kind = prop_oneof![
        4 => (0u32..12).prop_map(Change::Small),
        2 => prop_oneof![Just(-1), Just(1), Just(2)].prop_map(Change::Add),
        2 => (0u32..32).prop_map(Change::Flip),
        1 => any::<u32>().prop_map(Change::Word),
        3 => any::<prop::sample::Index>().prop_map(Change::Copy),
    ];
    // Instructions, tables and plaintexts hold most of what can go wrong.
    let target = prop_oneof![0..TARGETS.len(), 5..8usize];
    (target, any::<prop::sample::Index>(), kind)
}

fn apply(sections: &mut Sections, target: usize, at: prop::sample::Index, change: &Change) {
    let section = &mut sections[TARGETS[target] as usize];
    let words = section.len() / 4;
    let at = at.index(words);
    let old = word(section, at);
    let new = match change {
        Change::Small(value) | Change::Word(value) => *value,
        Change::Add(value) => old.wrapping_add_signed(*value),
        Change::Flip(bit) => old ^ 1 << bit,
        Change::Copy(from) => word(section, from.index(words)),
    };
    set_word(section, at, new);
}

#[test]
fn mutated_programs_never_panic() {
    let sections: Sections = split(&tiny().bytes);
    let fingerprint = named::N12.fingerprint();
    let kinds =
        [KeyKind::Relin, KeyKind::Rotation(3), KeyKind::Rotation(64), KeyKind::Rotation(1), KeyKind::Rotation(2)];
    let requests = kinds.map(|kind| KeyRequest { kind, limbs: 4 });
    let keys = Lab::new(named::N12, 71).bundle(&requests);
    let keys = MappedKeys::verify(&keys).unwrap();
    let (verified, finished) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig { cases: 6000, failure_persistence: None, ..ProptestConfig::default() };
    let changes = prop::collection::vec(change(), 1..4);
    TestRunner::new(config)
        .run(&changes, |changes| {
            let mut sections = sections.clone();
            for (target, at, change) in &changes {
                apply(&mut sections, *target, *at, change);
            }
            let bytes = join(&sections, &fingerprint);
            let Ok(program) = Program::verify(&bytes) else { return Ok(()) };
            if program.arena_bytes().max(program.cache_bytes()) > MOST_BYTES {
                return Ok(());
            }
            verified.set(verified.get() + 1);
            let mut results = Vec::new();
            for cached in Cached::WAYS {
                let (mut memory, mut cache) = (arena(program.arena_bytes()), cached.memory(&program));
                let Ok(mut engine) = Engine::new(program, keys, bytemuck::cast_slice_mut(&mut memory)) else {
                    return Ok(());
                };
                set_cache(&mut engine, &mut cache);
                for i in 0..program.inputs() {
                    let port = program.input(i).unwrap();
                    let id = program.fingerprint();
                    let input = any_input(program.set(), id, keys.key_id(), i, port.limbs, port.scale);
                    prop_assert_eq!(engine.set_input(&input), Ok(()));
                }
                // Every key is there and sound, so a verified program runs to its end.
                prop_assert_eq!(engine.run(), Ok(()));
                results.push(outputs(&engine));
            }
            prop_assert!(results.iter().all(|result| *result == results[0]), "the cache changes the result");
            finished.set(finished.get() + 1);
            Ok(())
        })
        .unwrap();
    println!("{} of 6000 verified, {} ran", verified.get(), finished.get());
    assert!(finished.get() > 100, "too few mutants run for the test to mean anything");
}
