//! The lowered program against direct evaluation of the network, and the plans of the named networks.

use super::*;
use crate::compile::layout::encode;
use crate::compile::simulate::{simulate, simulate_slots};
use networks::{Builder, Random};

mod agreement;
mod networks;
mod partition;
mod plans;
mod random;

/// The outputs of a network, stage by stage.
fn reference(network: &Network, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut tensors = vec![Vec::new(); network.tensors.len()];
    for (&tensor, values) in network.inputs.iter().zip(inputs) {
        tensors[tensor] = values.clone();
    }
    for stage in &network.stages {
        tensors[stage.output] = match &stage.op {
            Op::Mul(a, b) => tensors[*a].iter().zip(&tensors[*b]).map(|(x, y)| x * y).collect(),
            Op::Affine { terms, bias } => {
                let mut sum = bias.clone();
                for term in terms {
                    let (m, x) = (&term.matrix, &tensors[term.input]);
                    for (row, sum) in sum.iter_mut().enumerate() {
                        *sum += (m.row_start[row]..m.row_start[row + 1])
                            .map(|e| m.value[e] * x[m.col[e] as usize])
                            .sum::<f64>();
                    }
                }
                sum
            }
        };
    }
    network.outputs.iter().map(|&t| tensors[t].clone()).collect()
}

fn close(found: &[Vec<f64>], expected: &[Vec<f64>]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len());
        let size = expected.iter().fold(1e-30, |m: f64, v| m.max(v.abs()));
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() <= 1e-9 * size, "{f} is not {e}");
        }
    }
}

/// Lowers, simulates on random inputs, and checks levels and counts for consistency.
fn agrees(network: &Network, options: &LowerOptions) -> Lowered {
    let lowered = lower(network, options).unwrap();
    let mut random = Random(99);
    let inputs: Vec<Vec<f64>> =
        network.inputs.iter().map(|&t| (0..network.tensors[t].len()).map(|_| random.value()).collect()).collect();
    let expected = reference(network, &inputs);
    close(&simulate(&lowered.program, &inputs), &expected);

    // Slots of the input that hold no element may hold anything.
    let poisoned: Vec<Vec<f64>> = lowered
        .program
        .inputs
        .iter()
        .map(|input| {
            let clean = encode(&input.element, &inputs[input.input]);
            clean.iter().zip(&input.element).map(|(&v, e)| if e.is_some() { v } else { 1e6 * random.value() }).collect()
        })
        .collect();
    let registers = simulate_slots(&lowered.program, &poisoned);
    let found: Vec<Vec<f64>> = lowered
        .program
        .outputs
        .iter()
        .map(|o| o.slot.iter().map(|&s| registers[o.register][s as usize]).collect())
        .collect();
    close(&found, &expected);
    consistent(&lowered, options);
    lowered
}

/// Replays the levels; every rotation must be in the key list at no fewer limbs.
fn consistent(lowered: &Lowered, options: &LowerOptions) {
    let program = &lowered.program;
    let mut limbs = vec![0usize; program.registers];
    for (input, &l) in program.inputs.iter().zip(&lowered.input_limbs) {
        limbs[input.register] = l;
    }
    let mut keys = KeyUse::default();
    for (op, &level) in program.ops.iter().zip(&lowered.levels) {
        let (operands, rescale) = match &op.kind {
            SlotOpKind::LinearTransform { sources, diagonals, rescale } => {
                assert!(diagonals.windows(2).all(|d| d[0].rank() < d[1].rank()));
                for d in diagonals {
                    for step in [d.baby, d.giant] {
                        if step != 0 {
                            keys.rotate(step, level);
                        }
                    }
                }
                (sources.clone(), *rescale)
            }
            SlotOpKind::RotateSum { src, steps, rescale } => {
                steps.iter().for_each(|&s| keys.rotate(s, level));
                (vec![*src], *rescale)
            }
            SlotOpKind::AddPlain { src, .. } => (vec![*src], false),
            SlotOpKind::Add { a, b } => (vec![*a, *b], false),
            SlotOpKind::Mul { a, b, rescale } => {
                keys.relinearization = keys.relinearization.max(level);
                (vec![*a, *b], *rescale)
            }
        };
        assert!(operands.iter().all(|&r| limbs[r] >= level), "{}: operand below its level", op.layer);
        for &result in &op.results {
            limbs[result] = level - usize::from(rescale);
            assert!(limbs[result] >= 1);
        }
    }
    assert_eq!(keys, lowered.predicted.keys);
    assert_eq!(keys.bytes(&options.model), lowered.predicted.key_bytes);
    for output in &program.outputs {
        let least = options.limbs.map_or(1, |_| limbs[output.register]);
        assert_eq!(limbs[output.register], least);
    }
}

#[test]
fn errors_name_the_stage() {
    let large = Builder::new("large", &[1, 8, 8], 1).conv(4, 3, 1, 1, 8, 1).finish();
    let error = lower(&large, &LowerOptions::new(128, 1, 1)).unwrap_err();
    let expected =
        LowerError::TooLarge { stage: "conv0".to_owned(), tensor: "conv0".to_owned(), elements: 256, slots: 128 };
    assert_eq!(error, expected);
    assert_eq!(lower(&large, &LowerOptions::new(100, 1, 1)), Err(LowerError::Slots { n: 100 }));
    let few = LowerOptions { limbs: Some(1), ..LowerOptions::new(512, 1, 1) };
    assert_eq!(lower(&large, &few), Err(LowerError::Limbs { needed: 2, given: 1 }));
    let mut broken = large.clone();
    if let Op::Affine { bias, .. } = &mut broken.stages[0].op {
        bias.pop();
    }
    let error = lower(&broken, &LowerOptions::new(512, 1, 1)).unwrap_err();
    assert_eq!(error.to_string(), "stage `conv0`: 255 bias values for 256 outputs");
}
