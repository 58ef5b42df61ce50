//! Live slots: those that an output depends on. The others are gaps of a layout, or the rest of a sum.

use super::slots::{SlotOpKind, SlotProgram};

fn mark(live: &mut [bool], by: &[bool], step: usize, keep: impl Fn(usize) -> bool) {
    let n = live.len();
    let step = step % n;
    for (i, &by) in by.iter().enumerate() {
        if by && keep(i) {
            let at = i + step;
            live[if at < n { at } else { at - n }] = true;
        }
    }
}

/// For each register its live slots. Shape: `n` for every register.
pub fn slots(program: &SlotProgram) -> Vec<Vec<bool>> {
    let mut live = vec![vec![false; program.n]; program.registers];
    for output in &program.outputs {
        output.slot.iter().for_each(|&s| live[output.register][s as usize] = true);
    }
    for op in program.ops.iter().rev() {
        let by: Vec<Vec<bool>> = op.results.iter().map(|&r| live[r].clone()).collect();
        match &op.kind {
            SlotOpKind::LinearTransform { sources, diagonals, .. } => {
                for d in diagonals {
                    let step = d.baby as usize + d.giant as usize;
                    mark(&mut live[sources[d.source]], &by[d.result], step, |i| d.values[i] != 0.0);
                }
            }
            SlotOpKind::RotateSum { src, steps, .. } => {
                mark(&mut live[*src], &by[0], 0, |_| true);
                steps.iter().for_each(|&step| mark(&mut live[*src], &by[0], step as usize, |_| true));
            }
            SlotOpKind::AddPlain { src, .. } => mark(&mut live[*src], &by[0], 0, |_| true),
            SlotOpKind::Add { a, b } | SlotOpKind::Mul { a, b, .. } => {
                mark(&mut live[*a], &by[0], 0, |_| true);
                mark(&mut live[*b], &by[0], 0, |_| true);
            }
        }
    }
    live
}

#[cfg(test)]
mod tests {
    use super::super::slots::{Diagonal, SlotInput, SlotOp, SlotOutput};
    use super::*;

    #[test]
    fn an_output_keeps_what_it_is_made_of() {
        let op = |dst, kind| SlotOp { layer: String::new(), results: vec![dst], kind };
        let diagonal = Diagonal { source: 0, result: 0, baby: 1, giant: 2, values: vec![2.0, 0.0, 0.0, 1.0] };
        let program = SlotProgram {
            n: 4,
            registers: 3,
            inputs: vec![SlotInput { register: 0, input: 0, element: vec![Some(0); 4] }],
            ops: vec![
                op(1, SlotOpKind::LinearTransform { sources: vec![0], diagonals: vec![diagonal], rescale: true }),
                op(2, SlotOpKind::RotateSum { src: 1, steps: vec![3], rescale: false }),
            ],
            outputs: vec![SlotOutput { register: 2, output: 0, slot: vec![0] }],
        };
        // Slot 0 is the sum of slots 0 and 3, which take slots 3 and 2 of the input.
        let [input, product, sum] = slots(&program).try_into().unwrap();
        assert_eq!(sum, [true, false, false, false]);
        assert_eq!(product, [true, false, false, true]);
        assert_eq!(input, [false, false, true, true]);
    }
}
