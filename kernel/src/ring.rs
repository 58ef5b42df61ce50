//! Base conversion between sets of primes: the mixed-radix form, mod-up and mod-down.

mod basis;
mod mod_down;
mod mod_up;

pub use basis::{Basis, MAX_BASIS};
pub use mod_down::{divide, tail_inverse};
pub use mod_up::{extend, mixed_radix};
