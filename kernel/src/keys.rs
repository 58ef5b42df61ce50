//! Evaluation keys: what a program needs, where they come from, how their uniform half is expanded.
//!
//! A key-switching key from `s'` to `s` over the basis `q_0 .. q_(l-1), p_0 .. p_(K-1)` has, for each digit j of
//! alpha primes, the pair `(b_j, a_j)` with `b_j + a_j s = e_j + P gamma_j s'`, where `gamma_j` is 1 modulo the
//! primes of digit j and 0 modulo all others. Because `gamma_j` does not depend on the level, a key at l limbs
//! serves every lower level. `a_j` is a seed. All words are in the Ntt domain and in Montgomery form.
//!
//! A Galois key for `g` takes `s` to `phi_g^-1(s)`: the inner product comes first, the automorphism after it.
//!
//! Reference: hybrid key switching, Han and Ki, eprint 2019/688; rotations of hoisted digits, eprint 2020/1203.

mod seed;
mod source;
mod stored;
mod streamed;

pub use seed::{Stream, expand_uniform};
pub use source::{Half, KeyError, KeyInfo, KeySource, MappedKeys, RamKeys};
pub use stored::StoredKeys;
pub use streamed::{KeyReader, ReadError, StreamedKeys};

/// Which key: the relinearisation key, or the one for a left rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum KeyKind {
    /// From s^2 to s.
    Relin,
    /// For a rotation by this many slots to the left.
    Rotation(u32),
}

impl KeyKind {
    /// The number in files: 0, or the rotation.
    pub const fn code(self) -> u32 {
        match self {
            Self::Relin => 0,
            Self::Rotation(r) => r,
        }
    }

    /// The kind with this number.
    pub const fn from_code(code: u32) -> Self {
        if code == 0 { Self::Relin } else { Self::Rotation(code) }
    }
}

impl core::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Relin => write!(f, "relinearisation key"),
            Self::Rotation(r) => write!(f, "Galois key for rotation {r}"),
        }
    }
}

/// A key that a program needs, and the highest number of limbs at which it uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct KeyRequest {
    /// Which key.
    pub kind: KeyKind,
    /// Limbs.
    pub limbs: usize,
}

/// The Galois element `5^rotation mod 4N`: X -> X^g rotates the slots left by `rotation`.
pub fn galois_element(rotation: u32, log_n: u32) -> u32 {
    let mask = 4u32.wrapping_shl(log_n).wrapping_sub(1);
    let (mut g, mut square, mut left) = (1u32, 5u32, rotation);
    while left > 0 {
        if left & 1 == 1 {
            g = g.wrapping_mul(square) & mask;
        }
        square = square.wrapping_mul(square) & mask;
        left >>= 1;
    }
    g
}
