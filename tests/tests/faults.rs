//! Bad input: every kind gives its own error, never a wrong answer and never a panic.

#[path = "faults/engine.rs"]
mod engine;
#[path = "faults/files.rs"]
mod files;
#[path = "faults/mutation.rs"]
mod mutation;
#[path = "faults/programs.rs"]
mod programs;

use cipherlens_kernel::params::named;
use cipherlens_tests::Lcg;
use cipherlens_tests::assemble::{Assembled, Assembler, Diagonal, Form};

/// A small program on n12 with every kind of instruction at two limbs and fewer.
fn tiny() -> Assembled {
    let (set, mut lcg) = (named::N12, Lcg::new(41));
    let n = set.n();
    let mut asm = Assembler::new(set, 2, false);
    let x = asm.input(lcg.units(n), 2, 18.0);
    let mut small = || lcg.units(n).into_iter().map(|w| w / 8.0).collect::<Vec<f64>>();
    let square = asm.mul(&x, &x, false);
    let diagonals = [(0, 0, Form::Compact16), (3, 0, Form::Scalar), (3, 64, Form::Compact16)];
    let diagonals = diagonals.map(|(baby, giant, form)| {
        let values = if form == Form::Scalar { vec![0.5; n] } else { small() };
        Diagonal { baby, giant, values, form }
    });
    let y = asm.linear_transform(&x, &diagonals, 17.0, true);
    let z = asm.mul_plain(&x, &small(), 18.0, Form::Compact16, false);
    let z = asm.add(&z, &square);
    let z = asm.rescale(&z);
    let y = asm.add_plain(&y, &vec![0.25; n], Form::Scalar);
    let y = asm.rotate_sum(&y, &[64], true, false, 1);
    asm.finish(&[&y, &z])
}
