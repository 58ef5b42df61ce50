//! Modular arithmetic on 32-bit words and the number-theoretic transform.

pub mod backend;
mod modulus;
mod ntt;
mod prime;

pub use backend::{Backend, Detected, MAX_DOT, MAX_PRODUCT, MAX_WEIGHT, PRODUCT_BLOCK, Portable, RowBlock, Term};
pub use modulus::{Modulus, Shoup};
pub use ntt::{NttTable, TABLE_ROWS, build_table};
pub use prime::{is_prime, primitive_root};
