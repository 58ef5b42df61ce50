//! Batches: one ciphertext for each element of a tensor, one image in each slot.
//!
//! Up to N images are evaluated at once, without a rotation. A linear layer is a product of a matrix of small integers
//! with the ciphertexts, limb by limb ([`Backend::matrix_product`](crate::math::Backend::matrix_product)); products of
//! ciphertexts keep three polynomials until a [`Operation::Divide`] relinearises and rescales them, mostly after the
//! next linear layer, which has fewer results. Inputs are taken in row by row and outputs given out as soon as they are
//! ready, so that the arena holds a few rows of each tensor and not the whole.
//!
//! Reference: one image for each slot is CryptoNets' packing (Gilad-Bachrach et al., ICML 2016); late relinearisation is
//! in eprint 2021/204 and elsewhere.

mod engine;
pub mod format;
mod passes;
mod program;
mod verify;

pub use engine::{BatchCounts, BatchEngine, BatchProgress};
pub use program::{BatchProgram, Cells, Group, Instruction, Operation};
