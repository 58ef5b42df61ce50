//! An engine that stops anywhere and goes on elsewhere gives the same bits.

use cipherlens::pool::Pool;
use cipherlens_kernel::engine::{Engine, Progress};
use cipherlens_kernel::keys::MappedKeys;
use cipherlens_kernel::math::Detected;
use cipherlens_kernel::params::named;
use cipherlens_kernel::program::Program;
use cipherlens_tests::Lcg;
use cipherlens_tests::assemble::{blocks, tiny, two_groups};
use cipherlens_tests::counting::Counting;
use cipherlens_tests::fixtures::{compiled, model};
use cipherlens_tests::lab::{Cached, Run, Setup, arena, outputs, set_cache};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory of an engine, full of what was there before.
struct Memory {
    arena: Vec<u32>,
    cache: Vec<u32>,
}

impl Memory {
    fn new(program: &Program<'_>, setup: Setup) -> Self {
        let mut memory =
            Self { arena: arena(program.arena_bytes_for(setup.workers)), cache: setup.cached.memory(program) };
        memory.arena.fill(0xdead_beef);
        memory.cache.fill(0xdead_beef);
        memory
    }

    fn engine<'r, 'm>(&'m mut self, run: &'r Run, setup: Setup) -> Engine<'r, 'm, MappedKeys<'r>> {
        let Setup { backend, workers, .. } = setup;
        let memory = bytemuck::cast_slice_mut(&mut self.arena);
        let mut engine = Engine::with_workers(run.program(), run.mapped(), memory, backend, workers).unwrap();
        set_cache(&mut engine, &mut self.cache);
        engine
    }
}

fn checkpoint(engine: &Engine<'_, '_, MappedKeys<'_>>) -> Vec<u8> {
    let need = engine.checkpoint_bytes().unwrap();
    assert!(need <= engine.program().checkpoint_bytes(), "the program states the most");
    let mut bytes = vec![0; need];
    assert_eq!(engine.checkpoint(&mut bytes), Ok(need));
    bytes
}

/// The checkpoint of a new engine after `steps` steps from the start, or from the checkpoint `from`.
fn stopped(run: &Run, setup: Setup, from: Option<&[u8]>, steps: usize) -> Vec<u8> {
    let mut memory = Memory::new(&run.program(), setup);
    let mut engine = memory.engine(run, setup);
    match from {
        Some(bytes) => engine.resume(bytes).unwrap(),
        None => run.inputs.iter().for_each(|input| engine.set_input(input).unwrap()),
    }
    engine.prepare().unwrap();
    (0..steps).for_each(|_| assert!(engine.step().is_ok()));
    checkpoint(&engine)
}

fn finished(run: &Run, setup: Setup, from: &[u8]) -> Vec<Vec<u8>> {
    let mut memory = Memory::new(&run.program(), setup);
    let mut engine = memory.engine(run, setup);
    engine.resume(from).unwrap();
    // What comes back is what was written.
    if setup.cached != Cached::All {
        assert!(checkpoint(&engine) == from || from[96] == 1, "a checkpoint of a resumed engine");
    }
    if setup.workers == 1 {
        engine.run().unwrap();
    } else {
        engine.run_on(&Pool::new(setup.workers).unwrap(), |_| ()).unwrap();
    }
    outputs(&engine).unwrap()
}

fn steps(run: &Run, setup: Setup) -> usize {
    let mut memory = Memory::new(&run.program(), setup);
    let mut engine = memory.engine(run, setup);
    run.inputs.iter().for_each(|input| engine.set_input(input).unwrap());
    engine.prepare().unwrap();
    let mut steps = 0;
    while engine.step().unwrap() != Progress::Done {
        steps += 1;
    }
    steps
}

/// Every step of small programs, each time from one way to run to another.
#[test]
fn every_step_of_small_programs() {
    let ways = Setup::all();
    let mut lcg = Lcg::new(77);
    for program in [tiny(), two_groups(), blocks(named::N12, 3, 19.0, 2)] {
        let run = Run::new(program.bytes, 76);
        for cached in Cached::WAYS {
            let first = ways.iter().filter(|s| s.cached == cached).copied().collect::<Vec<_>>();
            for step in 0..=steps(&run, first[0]) + 1 {
                let (from, to) = (first[lcg.below(first.len())], ways[lcg.below(ways.len())]);
                let bytes = stopped(&run, from, None, step);
                assert!(finished(&run, to, &bytes) == run.outputs, "step {step}: {from:?}, then {to:?}");
            }
        }
    }
}

/// A compiled model, whose buffers share memory, interrupted several times.
#[test]
fn random_steps_of_a_model() {
    let run = Run::new(compiled(&model("mnist-micro")).bytes, 78);
    let ways = Setup::all();
    let mut lcg = Lcg::new(79);
    for _ in 0..40 {
        let mut way = || ways[lcg.below(ways.len())];
        let (first, second, third) = (way(), way(), way());
        let total = steps(&run, first);
        let at = lcg.below(total);
        let bytes = stopped(&run, first, None, at);
        let more = lcg.below((total - at) / 2 + 1);
        let bytes = stopped(&run, second, Some(&bytes), more);
        assert!(
            finished(&run, third, &bytes) == run.outputs,
            "{at} steps on {first:?}, {more} on {second:?}, {third:?}"
        );
    }
}

/// Before the first step: with the inputs that are set, also while tables and cache are being built.
#[test]
fn before_the_start() {
    let run = Run::new(tiny().bytes, 80);
    let setup = Setup { cached: Cached::All, ..Setup::default() };
    let mut memory = Memory::new(&run.program(), setup);
    let mut engine = memory.engine(&run, setup);
    let empty = checkpoint(&engine);
    engine.step().unwrap();
    engine.set_input(&run.inputs[0]).unwrap();
    let full = checkpoint(&engine);
    assert!(empty.len() < full.len());
    assert!(finished(&run, Setup::default(), &full) == run.outputs);
    engine.resume(&empty).unwrap();
    assert!(engine.run().is_err(), "no input");
    engine.set_input(&run.inputs[0]).unwrap();
    engine.run().unwrap();
    assert!(outputs(&engine).unwrap() == run.outputs);
    // And after the end.
    let done = checkpoint(&engine);
    assert!(finished(&run, Setup::default(), &done) == run.outputs);
}

/// A watchdog is fed after each step: no step takes more than one pass, and no pass more than one transform.
#[test]
fn a_step_is_one_limb_pass() {
    for bytes in [tiny().bytes, compiled(&model("mnist-micro")).bytes] {
        let run = Run::new(bytes, 81);
        let program = run.program();
        for cached in Cached::WAYS {
            let transforms = AtomicUsize::new(0);
            let backend = Counting { backend: Detected::new(), transforms: &transforms };
            let (mut memory, mut cache) = (arena(program.arena_bytes()), cached.memory(&program));
            let memory = bytemuck::cast_slice_mut(&mut memory);
            let mut engine = Engine::with_backend(program, run.mapped(), memory, backend).unwrap();
            set_cache(&mut engine, &mut cache);
            run.inputs.iter().for_each(|input| engine.set_input(input).unwrap());
            let (mut passes, mut all, mut done) = (0, 0, false);
            while !done {
                done = engine.step().unwrap() == Progress::Done;
                assert!(engine.counts().passes - passes <= 1, "one pass");
                passes = engine.counts().passes;
                let found = transforms.swap(0, Ordering::Relaxed);
                assert!(found <= 1, "one transform");
                all += found as u32;
            }
            let counts = engine.counts();
            assert!(counts.passes > 0 && all >= counts.ntts + counts.plain_ntts);
            assert!(cached != Cached::None || all == counts.ntts + counts.plain_ntts, "the counts are exact");
        }
    }
}
