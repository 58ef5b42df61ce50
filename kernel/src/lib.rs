//! Encrypted evaluation of convolutional networks, for firmware: CKKS over real slots without an operating
//! system, a heap or a reachable panic.
//!
//! # The tour, bottom up
//! A module uses only what stands above it in this list.
//!
//! | module | holds |
//! | --- | --- |
//! | [`math`] | one prime below 2^30, its transform, the limb passes and their backends |
//! | [`params`] | parameter sets; every check is a `const` assertion and runs again at load |
//! | [`wire`] | checked zero-copy views of files |
//! | [`scratch`] | the arena: rows of N words |
//! | [`ring`] | base conversion: mod-up and mod-down |
//! | [`keys`] | evaluation keys and where they are read from |
//! | [`ckks`] | exact scales |
//! | [`program`] | the program blob, its verifier and memory plan |
//! | [`layers`] | instructions as phases of independent limb passes |
//! | [`engine`] | verify once, then step until done; checkpoint and resume |
//! | [`batch`] | programs and engine for one image in each slot |
//! | [`selftest`] | known-answer test for power-on |
//! | `signature` | Ed25519 signatures of programs (feature `signature`) |
//! | `ffi` | the same for C (feature `c-api`) |
//!
//! # Use
//! ```
//! use cipherlens_kernel::engine::{Engine, EngineError};
//! use cipherlens_kernel::keys::MappedKeys;
//! use cipherlens_kernel::program::Program;
//!
//! /// Everything is borrowed: program and keys from flash, the arena from any RAM section.
//! fn infer(program: &[u8], keys: &[u8], input: &[u8], arena: &mut [u8], output: &mut [u8]) -> Result<usize, EngineError> {
//!     let Ok(program) = Program::verify(program) else { return Ok(0) };
//!     let mut engine = Engine::new(program, MappedKeys::verify(keys)?, arena)?;
//!     engine.set_input(input)?;
//!     engine.run_with(|_progress| { /* feed the watchdog */ })?;
//!     engine.write_output(0, output)
//! }
//! ```
//!
//! # Promises
//! * No heap, no panic, no unbounded loop: a linked image without panic symbols is part of the tests.
//! * RAM is a number in the program: [`Program::arena_bytes`](program::Program::arena_bytes).
//! * The same output bits on every target and backend.
//! * A wrong key, level, scale or set, or a damaged file, is an error and never a wrong answer.
//! * There is no secret key type: the kernel cannot decrypt.
//!
//! # What it does not do
//! **It does not hide the weights** from the machine it runs on, nor from the key holder (no circuit privacy).
//! **It does not resist chosen ciphertexts, power or EM analysis.** It does not encrypt, decrypt, allocate, log
//! by itself, or trust any byte that it has not verified.

#![no_std]
// `unsafe` is allowed module by module: the backends for wider instruction sets, workers, pointers from C.
#![deny(unsafe_code)]
// What could panic does not pass clippy; `tests/tests/no_panic.rs` looks at linked images.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used,
        clippy::allow_attributes_without_reason
    )
)]
#[cfg(test)]
extern crate std;

pub mod batch;
pub mod ckks;
pub mod engine;
#[cfg(feature = "c-api")]
#[allow(unsafe_code, reason = "pointers from C")]
pub mod ffi;
#[cfg(feature = "defmt")]
mod fmt;
pub mod keys;
pub mod layers;
pub mod math;
#[allow(unsafe_code, reason = "the contract of pools")]
pub mod parallel;
pub mod params;
pub mod program;
pub mod ring;
#[allow(unsafe_code, reason = "workers share the arena")]
pub mod scratch;
pub mod selftest;
#[cfg(feature = "signature")]
pub mod signature;
pub mod wire;
