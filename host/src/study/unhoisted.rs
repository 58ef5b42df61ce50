//! A program without hoisting: every rotation decomposes its ciphertext anew.
//!
//! The kernel decomposes each source of a linear transform once, for all of its baby steps. So the same ciphertext is
//! listed as a source once for each baby step, and a sum of rotations becomes a transform whose weights are ones at the
//! scale 1. Rotations, keys, products, levels and scales stay as they are, and so does what the kernel shares
//! otherwise: the one division at the end of a transform.

use crate::compile::Compiled;
use crate::compile::WeightForm;
use crate::compile::emit::{EmitError, emit};
use crate::compile::place::place;
use crate::compile::schedule::Scheduled;
use crate::compile::slots::{Diagonal, Register, SlotOpKind};
use crate::encode::Encoder;
use crate::meta::Meta;
use cipherlens_kernel::ckks::Scale;
use cipherlens_kernel::program::Program;

/// The file of that program. Predictions in it are those of the compiled one.
///
/// # Errors
/// As [`emit`].
///
/// # Panics
/// If `compiled` was not written by the compiler.
pub fn unhoisted(compiled: &Compiled) -> Result<Vec<u8>, EmitError> {
    let (mut lowered, mut schedule) = (compiled.lowered.clone(), compiled.schedule.clone());
    let n = lowered.program.n;
    for (op, scheduled) in lowered.program.ops.iter_mut().zip(&mut schedule.ops) {
        match &mut op.kind {
            SlotOpKind::LinearTransform { sources, diagonals, .. } => by_baby_step(sources, diagonals, scheduled),
            SlotOpKind::RotateSum { src, steps, rescale } if steps.len() > 1 => {
                scheduled.plain = vec![Scale::new(1.0).expect("1 is a scale"); steps.len() + 1];
                op.kind = sum(*src, steps, *rescale, n);
            }
            _ => {}
        }
    }
    let placement = place(&lowered.program, &schedule, &lowered.input_limbs);
    let program = Program::verify(&compiled.bytes).expect("the compiler's programs are valid");
    let meta: Meta = serde_json::from_slice(program.meta()).expect("the compiler wrote it");
    let set = program.set();
    emit(&lowered, &schedule, &placement, set, WeightForm::Compact, &Encoder::new(set.log_n()), &meta)
}

/// Lists each source once for each of its baby steps.
fn by_baby_step(sources: &mut Vec<Register>, diagonals: &mut [Diagonal], scheduled: &mut Scheduled) {
    let mut pairs: Vec<(usize, u32)> = diagonals.iter().map(|d| (d.source, d.baby)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    for diagonal in diagonals {
        diagonal.source = pairs.binary_search(&(diagonal.source, diagonal.baby)).expect("collected above");
    }
    *sources = pairs.iter().map(|pair| sources[pair.0]).collect();
    scheduled.plain = pairs.iter().map(|pair| scheduled.plain[pair.0]).collect();
}

/// `src` and its rotations, each from a source of its own.
fn sum(src: Register, steps: &[u32], rescale: bool, n: usize) -> SlotOpKind {
    let babies = std::iter::once(0).chain(steps.iter().copied());
    let one = |(source, baby)| Diagonal { source, result: 0, baby, giant: 0, values: vec![1.0; n] };
    let diagonals: Vec<Diagonal> = babies.enumerate().map(one).collect();
    SlotOpKind::LinearTransform { sources: vec![src; diagonals.len()], diagonals, rescale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::simulate::simulate;
    use crate::compile::{CompileOptions, compile};
    use crate::models;
    use cipherlens_kernel::program::Operation;

    #[test]
    fn rotations_stay_and_decompose_alone() {
        let model = models::by_name("mnist-micro").unwrap();
        let options = CompileOptions { calibration: model.task.samples(4), ..Default::default() };
        let compiled = compile(&model.graph(), &options).unwrap();
        let bytes = unhoisted(&compiled).unwrap();
        let (hoisted, alone) = (Program::verify(&compiled.bytes).unwrap(), Program::verify(&bytes).unwrap());
        assert_eq!(hoisted.instructions(), alone.instructions());
        assert_eq!(
            (0..hoisted.keys()).map(|i| hoisted.key(i)).collect::<Vec<_>>(),
            (0..alone.keys()).map(|i| alone.key(i)).collect::<Vec<_>>()
        );
        for instruction in (0..alone.instructions()).filter_map(|i| alone.instruction(i)) {
            if let Operation::LinearTransform { transform } = instruction.operation {
                assert_eq!(transform.sources(), transform.babies());
            }
        }
        // The slot program that it was made of computes the same.
        let mut lowered = compiled.lowered.clone();
        for op in &mut lowered.program.ops {
            if let SlotOpKind::RotateSum { src, steps, rescale } = &op.kind {
                op.kind = sum(*src, steps, *rescale, lowered.program.n);
            }
        }
        let image = [model.task.samples(1)[0].iter().map(|&x| f64::from(x)).collect()];
        let (a, b) = (simulate(&compiled.lowered.program, &image), simulate(&lowered.program, &image));
        assert!(a[0].iter().zip(&b[0]).all(|(a, b)| (a - b).abs() < 1e-9));
    }
}
