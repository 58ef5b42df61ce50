//! A backend that counts what it is asked for.

use cipherlens_kernel::math::{Backend, Detected, Modulus, NttTable, RowBlock, Shoup, Term};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Any backend, with its transforms counted.
#[derive(Debug, Clone, Copy)]
pub struct Counting<'a> {
    /// What does the work.
    pub backend: Detected,
    /// Forward and inverse transforms.
    pub transforms: &'a AtomicUsize,
}

macro_rules! delegate {
    ($($name:ident($($arg:ident: $ty:ty),*), $count:literal;)*) => {
        impl Backend for Counting<'_> {
            fn name(&self) -> &'static str {
                self.backend.name()
            }
            $(
                fn $name(&self, $($arg: $ty),*) {
                    self.transforms.fetch_add($count, Ordering::Relaxed);
                    self.backend.$name($($arg),*);
                }
            )*
        }
    };
}

type Pair<'a> = [&'a mut [u32]; 2];

delegate! {
    forward(row: &mut [u32], table: &NttTable<'_>), 1;
    inverse(row: &mut [u32], table: &NttTable<'_>), 1;
    dot_pair(out: Pair<'_>, terms: &[Term<'_>], add: bool, m: &Modulus), 0;
    rotate_dot_pair(out: Pair<'_>, terms: &[Term<'_>], row: Option<(&[u32], u32)>, g: u32, add: bool, m: &Modulus), 0;
    automorphism(dst: &mut [u32], src: &[u32], g: u32), 0;
    recompose(dst: &mut [u32], digits: &[u32], weights: &[u32], centre: u32, m: &Modulus), 0;
    add_assign(dst: &mut [u32], src: &[u32], m: &Modulus), 0;
    sub_assign(dst: &mut [u32], src: &[u32], m: &Modulus), 0;
    mul(dst: &mut [u32], a: &[u32], b: &[u32], m: &Modulus), 0;
    mul_scalar(dst: &mut [u32], src: &[u32], w: Shoup, m: &Modulus), 0;
    mul_scalar_add(dst: &mut [u32], src: &[u32], w: Shoup, m: &Modulus), 0;
    mul_scalar_assign(dst: &mut [u32], w: Shoup, m: &Modulus), 0;
    mul_add(dst: &mut [u32], a: &[u32], b: &[u32], m: &Modulus), 0;
    mul_redc(dst: &mut [u32], a: &[u32], b: &[u32], accumulate: bool, m: &Modulus), 0;
    redc_add(dst: &mut [u32], src: &[u32], m: &Modulus), 0;
    sub_from_mul(dst: &mut [u32], a: &[u32], w: Shoup, m: &Modulus), 0;
    garner_step(dst: &mut [u32], digit: &[u32], w: Shoup, m: &Modulus), 0;
    add_scalar_assign(dst: &mut [u32], c: u32, m: &Modulus), 0;
    expand_signed(dst: &mut [u32], src: &[u8], wide: bool, w: Shoup, m: &Modulus), 0;
    matrix_product(out: &mut [u32], x: &RowBlock<'_>, weights: &[[u8; 4]], add: bool, m: &Modulus), 0;
}
