//! Parameter sets: ring degree, ciphertext primes, special primes, digit size, all checked.
//!
//! The same checks run twice: as `const` assertions for the [named sets](named), so that a set above the
//! security bound does not compile, and when a program or key file is loaded ([`ParamSet::checked`]).
//!
//! Reference: "Security Guidelines for Implementing Homomorphic Encryption", eprint 2024/463 (largest
//! log2 QP for a uniform ternary secret and a discrete Gaussian error of sigma 3.2, 128-bit classical).

pub mod named;
mod security;

pub use security::{SECURITY_TABLE, log2_q16, max_log_qp};

use crate::math::{Modulus, is_prime};
use sha2::{Digest, Sha256};

/// Most ciphertext primes that a set may have.
pub const MAX_LIMBS: usize = 32;
/// Most special primes, and most primes in a key-switching digit. With the prime that a rescale drops these
/// are four, as many products as one Montgomery reduction takes.
pub const MAX_SPECIAL: usize = 3;
/// Most primes of a set.
pub const MAX_PRIMES: usize = MAX_LIMBS + MAX_SPECIAL;

/// Why a parameter set is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ParamError {
    /// The ring degree is outside 2^11 ..= 2^16.
    RingDegree {
        /// log2 N.
        log_n: u32,
    },
    /// No ciphertext prime or no special prime, or more than [`MAX_LIMBS`] or [`MAX_SPECIAL`].
    PrimeCount {
        /// Ciphertext primes.
        limbs: usize,
        /// Special primes.
        special: usize,
    },
    /// The digit size is 0 or above [`MAX_SPECIAL`].
    Digit {
        /// Primes per digit.
        digit: usize,
    },
    /// Not a prime below 2^30 that is 1 modulo 4N.
    Prime {
        /// The offending value.
        value: u32,
    },
    /// The prime occurs twice.
    Repeated {
        /// The prime.
        value: u32,
    },
    /// `log2 QP` is above the bound for 128 bits of security.
    Insecure {
        /// log2 QP, rounded up.
        log_qp: u32,
        /// The bound.
        max: u32,
    },
    /// The list of primes is cut short.
    Truncated,
    /// The name is not a short ASCII word.
    Name,
}

impl core::fmt::Display for ParamError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::RingDegree { log_n } => write!(f, "ring degree 2^{log_n} is outside 2^11..=2^16"),
            Self::PrimeCount { limbs, special } => {
                write!(
                    f,
                    "{limbs} ciphertext and {special} special primes are outside 1..={MAX_LIMBS} and 1..={MAX_SPECIAL}"
                )
            }
            Self::Digit { digit } => write!(f, "digit size {digit} is outside 1..={MAX_SPECIAL}"),
            Self::Prime { value } => write!(f, "{value} is not a prime below 2^30 that is 1 modulo 4N"),
            Self::Repeated { value } => write!(f, "the prime {value} occurs twice"),
            Self::Insecure { log_qp, max } => {
                write!(f, "log2 QP = {log_qp} is above {max}, the bound for 128-bit security")
            }
            Self::Truncated => write!(f, "the list of primes is cut short"),
            Self::Name => write!(f, "the set's name is not a short ASCII word"),
        }
    }
}

impl core::error::Error for ParamError {}

/// A parameter set that has passed every check.
///
/// Primes are ordered `q_0 .. q_(L-1)` (ciphertext) then `p_0 .. p_(K-1)` (special).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamSet {
    name: [u8; 8],
    log_n: u32,
    digit: usize,
    limbs: usize,
    special: usize,
    primes: [u32; MAX_PRIMES],
}

impl ParamSet {
    /// The set with these primes, checked.
    ///
    /// `digit` is the number of primes in a key-switching digit (alpha).
    ///
    /// # Errors
    /// [`ParamError`] names the first check that fails.
    #[allow(clippy::indexing_slicing, reason = "a const fn cannot call get; i < limbs + special = total <= MAX_PRIMES")]
    pub const fn checked(name: &str, log_n: u32, q: &[u32], p: &[u32], digit: usize) -> Result<Self, ParamError> {
        if log_n < 11 || log_n > 16 {
            return Err(ParamError::RingDegree { log_n });
        }
        let limbs = q.len();
        let special = p.len();
        if limbs == 0 || limbs > MAX_LIMBS || special == 0 || special > MAX_SPECIAL {
            return Err(ParamError::PrimeCount { limbs, special });
        }
        if digit == 0 || digit > MAX_SPECIAL {
            return Err(ParamError::Digit { digit });
        }
        let name = match name_bytes(name.as_bytes()) {
            Some(name) => name,
            None => return Err(ParamError::Name),
        };
        let mut primes = [0u32; MAX_PRIMES];
        let mut log_qp = 0u32;
        let total = limbs.wrapping_add(special);
        let mut i = 0usize;
        while i < total {
            let value = if i < limbs { q[i] } else { p[i.wrapping_sub(limbs)] };
            if value >= 1 << 30 || value & 4u32.wrapping_shl(log_n).wrapping_sub(1) != 1 || !is_prime(value) {
                return Err(ParamError::Prime { value });
            }
            let mut k = 0usize;
            while k < i {
                if primes[k] == value {
                    return Err(ParamError::Repeated { value });
                }
                k = k.wrapping_add(1);
            }
            primes[i] = value;
            log_qp = log_qp.wrapping_add(log2_q16(value));
            i = i.wrapping_add(1);
        }
        let max = max_log_qp(log_n);
        if log_qp > max << 16 {
            return Err(ParamError::Insecure { log_qp: log_qp.wrapping_add(0xffff) >> 16, max });
        }
        Ok(Self { name, log_n, digit, limbs, special, primes })
    }

    /// A set for a `const` item, where a failed check is a compile error.
    ///
    /// # Panics
    /// If a check fails: for sets that are known at run time only, use [`checked`](Self::checked).
    #[allow(clippy::panic, reason = "called in const items, where it stops the compiler and not the program")]
    pub const fn named(name: &str, log_n: u32, q: &[u32], p: &[u32], digit: usize) -> Self {
        match Self::checked(name, log_n, q, p, digit) {
            Ok(set) => set,
            Err(ParamError::Insecure { .. }) => {
                panic!("log2 QP is above the bound for 128-bit security (eprint 2024/463)")
            }
            Err(ParamError::Prime { .. }) => panic!("a modulus is not a prime below 2^30 that is 1 modulo 4N"),
            Err(_) => panic!("malformed parameter set"),
        }
    }

    /// The set's name.
    pub fn name(&self) -> &str {
        let len = self.name.iter().position(|&b| b == 0).unwrap_or(self.name.len());
        self.name.get(..len).and_then(|b| core::str::from_utf8(b).ok()).unwrap_or("")
    }

    /// log2 of the ring degree.
    pub const fn log_n(&self) -> u32 {
        self.log_n
    }

    /// The ring degree N, which is also the number of slots.
    pub const fn n(&self) -> usize {
        1usize.wrapping_shl(self.log_n)
    }

    /// Number of ciphertext primes.
    pub const fn limbs(&self) -> usize {
        self.limbs
    }

    /// Number of special primes.
    pub const fn special(&self) -> usize {
        self.special
    }

    /// Primes per key-switching digit (alpha).
    pub const fn digit(&self) -> usize {
        self.digit
    }

    /// The ciphertext primes.
    pub fn q(&self) -> &[u32] {
        self.primes.get(..self.limbs).unwrap_or(&[])
    }

    /// The special primes.
    pub fn p(&self) -> &[u32] {
        self.primes.get(self.limbs..self.limbs.wrapping_add(self.special)).unwrap_or(&[])
    }

    /// Number of key-switching digits at `limbs` limbs.
    pub const fn digits(&self, limbs: usize) -> usize {
        // `digit` is at least 1 by construction; the test only tells the compiler so.
        limbs.div_ceil(if self.digit == 0 { 1 } else { self.digit })
    }

    /// Ciphertext prime `i`, or special prime `i - limbs` where `i` is not below `limbs`.
    ///
    /// This is the basis of a key-switching key at `limbs` limbs.
    pub fn modulus(&self, limbs: usize, i: usize) -> Option<Modulus> {
        let list = if i < limbs { self.q().get(i) } else { self.p().get(i.wrapping_sub(limbs)) };
        list.map(|&p| Modulus::new(p))
    }

    /// log2 of the product of the first `limbs` ciphertext primes and, if asked, all special primes; in bits.
    pub fn log_modulus(&self, limbs: usize, with_special: bool) -> f64 {
        let special = self.p().iter().take(if with_special { self.special } else { 0 });
        let sum = self.q().iter().take(limbs).chain(special).fold(0u32, |sum, &p| sum.wrapping_add(log2_q16(p)));
        f64::from(sum) / 65536.0
    }

    /// Identity of the set: the first 16 bytes of a SHA-256 over all its numbers.
    pub fn fingerprint(&self) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update(b"cipherlens parameter set 1");
        for word in [self.log_n, self.digit as u32, self.limbs as u32, self.special as u32] {
            hash.update(word.to_le_bytes());
        }
        for prime in self.q().iter().chain(self.p()) {
            hash.update(prime.to_le_bytes());
        }
        let digest: [u8; 32] = hash.finalize().into();
        crate::wire::first16(&digest)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for ParamSet {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "{=str}: N = {=usize}, {=usize} + {=usize} primes",
            self.name(),
            self.n(),
            self.limbs,
            self.special
        );
    }
}

#[allow(clippy::indexing_slicing, reason = "a const fn cannot call get; i < name.len() <= 8")]
const fn name_bytes(name: &[u8]) -> Option<[u8; 8]> {
    let mut out = [0u8; 8];
    if name.is_empty() || name.len() > 8 {
        return None;
    }
    let mut i = 0usize;
    while i < name.len() {
        if !(name[i].is_ascii_alphanumeric() || name[i] == b'-' || name[i] == b'+') {
            return None;
        }
        out[i] = name[i];
        i = i.wrapping_add(1);
    }
    Some(out)
}
