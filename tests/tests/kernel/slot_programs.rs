//! Random slot programs through the compiler's last passes (schedule, place, emit): what the kernel computes is
//! what the simulator computes, within the predicted error.

use cipherlens::compile::cost::{KeyUse, OperationCounts};
use cipherlens::compile::emit::{EmitError, WeightForm, emit};
use cipherlens::compile::lower::{CostReport, Lowered};
use cipherlens::compile::outline::Outline;
use cipherlens::compile::place::place;
use cipherlens::compile::schedule::schedule;
use cipherlens::compile::simulate::simulate_slots;
use cipherlens::compile::slots::{Diagonal, SlotInput, SlotOp, SlotOpKind, SlotOutput, SlotProgram};
use cipherlens::meta::Meta;
use cipherlens_kernel::params::named;
use cipherlens_kernel::program::Program;
use cipherlens_tests::lab::{Lab, Setup, run};
use cipherlens_tests::{Lcg, mean_square};

/// Measured root mean square over the predicted one: the predictions are for weights and values as even as these.
const FACTOR: f64 = 2.8;

/// A program of random operations on two inputs of `limbs` limbs; its last results are outputs.
fn random_program(lcg: &mut Lcg, n: usize, limbs: usize) -> Lowered {
    // Limbs of each register.
    let mut left = vec![limbs, limbs];
    let (mut ops, mut levels) = (Vec::new(), Vec::new());
    let step = |lcg: &mut Lcg| 1 + lcg.below(n - 1) as u32;
    for _ in 0..6 {
        let src = left.len() - 1 - lcg.below(left.len().min(3));
        let mut level = left[src];
        let rescale = level > 1;
        let mut drops = rescale;
        let mut results = 1;
        let kind = match lcg.below(6) {
            0 | 1 if rescale => {
                let (baby, giant) = (step(lcg), step(lcg));
                let mut steps = [(0, 0), (baby, 0), (baby, giant)];
                steps.rotate_left(lcg.below(3));
                let mut steps = steps[..1 + lcg.below(3)].to_vec();
                steps.sort_by_key(|s| (s.1, s.0));
                let mut sources = vec![src];
                // Half of them read another register too and give two results.
                let blocks = lcg.below(2) == 0;
                if blocks && let Some(other) = (0..left.len()).find(|&r| r != src && left[r] >= level) {
                    sources.push(other);
                }
                results = 1 + usize::from(blocks);
                let mut diagonals = Vec::new();
                for (result, source) in (0..results).flat_map(|r| (0..sources.len()).map(move |s| (r, s))) {
                    diagonals.extend(steps.iter().map(|&(baby, giant)| Diagonal {
                        source,
                        result,
                        baby,
                        giant,
                        values: lcg.units(n),
                    }));
                }
                diagonals.sort_by_key(Diagonal::rank);
                SlotOpKind::LinearTransform { sources, diagonals, rescale }
            }
            2 => {
                SlotOpKind::RotateSum { src, steps: (0..1 + lcg.below(3)).map(|_| step(lcg)).collect(), rescale: false }
            }
            3 => SlotOpKind::AddPlain { src, values: lcg.units(n) },
            4 if rescale => {
                let b = lcg.below(left.len());
                level = level.min(left[b]);
                if level < 2 {
                    continue;
                }
                // A product may leave its rescale to what reads it.
                drops = lcg.below(4) > 0;
                SlotOpKind::Mul { a: src, b, rescale: drops }
            }
            _ => {
                let Some(b) = (0..left.len()).find(|&b| b != src && left[b] == level) else { continue };
                SlotOpKind::Add { a: src, b }
            }
        };
        drops &= matches!(kind, SlotOpKind::LinearTransform { .. } | SlotOpKind::Mul { .. });
        let layer = format!("layer {}", ops.len() / 2);
        ops.push(SlotOp { layer, results: (left.len()..left.len() + results).collect(), kind });
        levels.push(level);
        left.resize(left.len() + results, level - usize::from(drops));
    }
    if ops.is_empty() {
        ops.push(SlotOp { layer: "sum".into(), results: vec![2], kind: SlotOpKind::Add { a: 0, b: 1 } });
        levels.push(limbs);
        left.push(limbs);
    }
    let outputs = (left.len() - ops.len().min(2)..left.len())
        .enumerate()
        .map(|(output, register)| SlotOutput { register, output, slot: (0..n as u32).collect() })
        .collect();
    let input = |register| SlotInput { register, input: register, element: (0..n as u32).map(Some).collect() };
    let counts = OperationCounts::default();
    Lowered {
        program: SlotProgram { n, registers: left.len(), inputs: vec![input(0), input(1)], ops, outputs },
        input_limbs: vec![limbs; 2],
        levels,
        predicted: CostReport { ops: Vec::new(), counts, us: 0.0, keys: KeyUse::default(), key_bytes: 0 },
        input_packings: Vec::new(),
        stages: Vec::new(),
        held: Vec::new(),
        images: 1,
        input_elements: Vec::new(),
    }
}

#[test]
fn random_slot_programs_match_the_simulator() {
    let set = named::N13;
    let n = set.n();
    let mut lab = Lab::new(set, 91);
    let mut done = 0;
    for seed in 0..60 {
        let mut lcg = Lcg::new(seed);
        let limbs = 3 + lcg.below(4);
        let lowered = random_program(&mut lcg, n, limbs);
        let inputs = vec![lcg.units(n), lcg.units(n)];
        let registers = simulate_slots(&lowered.program, &inputs);
        // Sums of results with fixed, different scales are not for this pass to solve.
        let Ok(schedule) = schedule(&Outline::new(&lowered, std::slice::from_ref(&registers)), &set) else { continue };
        let placement = place(&lowered.program, &schedule, &lowered.input_limbs);
        let weights = [WeightForm::Compact, WeightForm::Ntt][seed as usize % 2];
        let bytes = match emit(&lowered, &schedule, &placement, &set, weights, &lab.encoder, &meta()) {
            Ok(bytes) => bytes,
            // Full-size random weights at the largest scale that the levels allow.
            Err(EmitError::Wide { .. }) => continue,
            Err(error) => panic!("program {seed}: {error}"),
        };
        let program = Program::verify(&bytes).unwrap();
        let keys = lab.keys(&program);
        let files: Vec<Vec<u8>> = (0..2).map(|i| lab.encrypt(&program, i, &inputs[i], false)).collect();
        let outputs = run(program, &keys, &files, Setup::default()).unwrap();
        for ((file, output), error) in outputs.iter().zip(&lowered.program.outputs).zip(&schedule.output_error) {
            let slots = lab.decrypt(file);
            let measured = mean_square(slots.iter().zip(&registers[output.register]).map(|(a, b)| a - b)).sqrt();
            assert!(
                measured < FACTOR * error,
                "program {seed}: error {measured:e}, predicted {error:e}: {:?}",
                kinds(&lowered)
            );
        }
        done += 1;
    }
    println!("{done} of 60 programs ran");
    assert!(done >= 30);
}

fn kinds(lowered: &Lowered) -> Vec<&'static str> {
    let kind = |op: &SlotOp| match op.kind {
        SlotOpKind::LinearTransform { .. } => "transform",
        SlotOpKind::RotateSum { .. } => "rotations",
        SlotOpKind::AddPlain { .. } => "bias",
        SlotOpKind::Add { .. } => "sum",
        SlotOpKind::Mul { .. } => "product",
    };
    lowered.program.ops.iter().map(kind).collect()
}

fn meta() -> Meta {
    Meta {
        model: "random".into(),
        mode: "latency".into(),
        images: 1,
        inputs: Vec::new(),
        outputs: Vec::new(),
        stages: Vec::new(),
        labels: Vec::new(),
        view: Default::default(),
        output_error: Vec::new(),
        predicted_ms: 0.0,
        precision_bits: 0.0,
    }
}
