//! What CKKS adds to the ring: the scale.

mod scale;

pub use scale::Scale;
