//! The slot program on plain `f64` vectors.

use super::layout::{decode, encode};
use super::slots::{SlotOpKind, SlotProgram};

fn rotated_sum(src: &[f64], steps: impl Iterator<Item = usize>) -> Vec<f64> {
    let n = src.len();
    let mut sum = src.to_vec();
    for step in steps {
        for (i, value) in sum.iter_mut().enumerate() {
            *value += src[(i + step) % n];
        }
    }
    sum
}

/// Runs the program on encoded inputs (`n` slots each, one per [`SlotProgram::inputs`]) and returns every
/// register; a register that nothing defines is empty.
pub fn simulate_slots(program: &SlotProgram, encoded: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = program.n;
    let mut registers = vec![Vec::new(); program.registers];
    for (input, slots) in program.inputs.iter().zip(encoded) {
        registers[input.register] = slots.clone();
    }
    for op in &program.ops {
        let zip = |a: &[f64], b: &[f64], f: fn(f64, f64) -> f64| a.iter().zip(b).map(|(&x, &y)| f(x, y)).collect();
        let result = match &op.kind {
            SlotOpKind::LinearTransform { sources, diagonals, .. } => {
                let mut sums = vec![vec![0.0; n]; op.results.len()];
                for diagonal in diagonals {
                    let src = &registers[sources[diagonal.source]];
                    let step = (diagonal.baby as usize + diagonal.giant as usize) % n;
                    for (i, value) in sums[diagonal.result].iter_mut().enumerate() {
                        *value += diagonal.values[i] * src[(i + step) % n];
                    }
                }
                for (&result, sum) in op.results.iter().zip(sums) {
                    registers[result] = sum;
                }
                continue;
            }
            SlotOpKind::RotateSum { src, steps, .. } => {
                rotated_sum(&registers[*src], steps.iter().map(|&s| s as usize))
            }
            SlotOpKind::AddPlain { src, values } => zip(&registers[*src], values, |x, y| x + y),
            SlotOpKind::Add { a, b } => zip(&registers[*a], &registers[*b], |x, y| x + y),
            SlotOpKind::Mul { a, b, .. } => zip(&registers[*a], &registers[*b], |x, y| x * y),
        };
        registers[op.results[0]] = result;
    }
    registers
}

/// Encodes the network's inputs, runs the program and returns every register.
pub fn simulate_registers(program: &SlotProgram, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let encoded: Vec<Vec<f64>> =
        program.inputs.iter().map(|input| encode(&input.element, &inputs[input.input])).collect();
    simulate_slots(program, &encoded)
}

/// Runs the program on the network's inputs (flat, in order) and returns its outputs in element order.
pub fn simulate(program: &SlotProgram, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let registers = simulate_registers(program, inputs);
    let mut outputs = vec![Vec::new(); program.outputs.len()];
    for output in &program.outputs {
        outputs[output.output] = decode(&output.slot, &registers[output.register]);
    }
    outputs
}

#[cfg(test)]
mod tests {
    use super::super::slots::{Diagonal, SlotInput, SlotOp, SlotOutput};
    use super::*;

    #[test]
    fn every_operation() {
        let op = |dst, kind| SlotOp { layer: String::new(), results: vec![dst], kind };
        let diagonal = Diagonal { source: 0, result: 0, baby: 3, giant: 2, values: vec![2.0, 0.0, 0.0, 1.0] };
        let program = SlotProgram {
            n: 4,
            registers: 6,
            inputs: vec![SlotInput { register: 0, input: 0, element: vec![Some(0), Some(1), Some(2), None] }],
            ops: vec![
                op(1, SlotOpKind::LinearTransform { sources: vec![0], diagonals: vec![diagonal], rescale: true }),
                op(2, SlotOpKind::RotateSum { src: 1, steps: vec![3], rescale: false }),
                op(3, SlotOpKind::AddPlain { src: 2, values: vec![1.0; 4] }),
                op(4, SlotOpKind::Add { a: 3, b: 1 }),
                op(5, SlotOpKind::Mul { a: 4, b: 4, rescale: true }),
            ],
            outputs: vec![SlotOutput { register: 5, output: 0, slot: vec![0, 1, 2, 3] }],
        };
        // x = [1, 2, 3, 0]; step 1: [2*2, 0, 0, 1*1]; plus the left rotation by 3: [5, 4, 0, 1].
        let result = simulate(&program, &[vec![1.0, 2.0, 3.0]]);
        assert_eq!(result, [vec![100.0, 25.0, 1.0, 9.0]]);
    }
}
