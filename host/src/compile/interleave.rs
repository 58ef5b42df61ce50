//! Interleave: B images side by side in each ciphertext, so that one evaluation serves them all.
//!
//! The network is lowered for n / B slots. Slot s of image b then goes to slot B s + b of a ciphertext with n slots: a
//! rotation by r of every image is one rotation by B r, cyclic in the same way, and weights repeat B times.

use super::lower::Lowered;
use super::slots::SlotOpKind;

/// Puts the images of `lowered` into full ciphertexts. Inputs and outputs then have the elements of all images, one image
/// after the other.
pub fn interleave(lowered: &mut Lowered) {
    let images = std::mem::replace(&mut lowered.images, 1);
    if images == 1 {
        return;
    }
    let b = images as u32;
    let program = &mut lowered.program;
    program.n *= images;
    let repeated = |values: &mut Vec<f64>| {
        *values = values.iter().flat_map(|&value| std::iter::repeat_n(value, images)).collect();
    };
    for input in &mut program.inputs {
        let len = lowered.input_elements[input.input] as u32;
        let of_image = |e: Option<u32>| (0..b).map(move |image| e.map(|e| image * len + e));
        input.element = input.element.iter().flat_map(|&e| of_image(e)).collect();
    }
    for output in &mut program.outputs {
        output.slot = (0..b).flat_map(|image| output.slot.iter().map(move |slot| slot * b + image)).collect();
    }
    for op in &mut program.ops {
        match &mut op.kind {
            SlotOpKind::LinearTransform { diagonals, .. } => {
                for diagonal in diagonals {
                    diagonal.baby *= b;
                    diagonal.giant *= b;
                    repeated(&mut diagonal.values);
                }
            }
            SlotOpKind::RotateSum { steps, .. } => steps.iter_mut().for_each(|step| *step *= b),
            SlotOpKind::AddPlain { values, .. } => repeated(values),
            SlotOpKind::Add { .. } | SlotOpKind::Mul { .. } => {}
        }
    }
    let keys = &mut lowered.predicted.keys.rotations;
    *keys = std::mem::take(keys).into_iter().map(|(step, limbs)| (step * b, limbs)).collect();
}
