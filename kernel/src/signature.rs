//! Ed25519 signatures of programs (feature `signature`), to be checked before use.
//!
//! The signature is detached, 64 bytes over the whole program file, and comes with no header: any Ed25519 tool makes it.
//! Digests tell damage; a signature tells who compiled the program.
//!
//! **The library's point arithmetic is not free of panics by the symbols of a linked image**, as the rest of the kernel is: a bounds
//! check stays that its invariants rule out. The feature is off unless asked for.
//!
//! Reference: RFC 8032; strict verification as in eprint 2020/1244, which refuses keys and signatures of small order.

use crate::batch::BatchProgram;
use crate::program::{Program, ProgramError};
use ed25519_dalek::{Signature, VerifyingKey};

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Bytes of a public key.
pub const PUBLIC_KEY_BYTES: usize = 32;

/// Why a signed program is refused.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SignedError {
    /// The public key is no point of the curve, or of small order.
    Key,
    /// Not a signature of these bytes under this key.
    Signature,
    /// Signed, and yet no program.
    Program(ProgramError),
}

impl core::fmt::Display for SignedError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Key => write!(f, "not a public key for signatures"),
            Self::Signature => write!(f, "the signature is not that of this file under this key"),
            Self::Program(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SignedError {}

/// Checks that `signature` is one of `bytes` under `public_key`.
///
/// # Errors
/// [`SignedError::Key`], [`SignedError::Signature`].
pub fn check(
    bytes: &[u8],
    signature: &[u8; SIGNATURE_BYTES],
    public_key: &[u8; PUBLIC_KEY_BYTES],
) -> Result<(), SignedError> {
    let key = VerifyingKey::from_bytes(public_key).ok().filter(|key| !key.is_weak()).ok_or(SignedError::Key)?;
    key.verify_strict(bytes, &Signature::from_bytes(signature)).map_err(|_| SignedError::Signature)
}

impl<'a> Program<'a> {
    /// As [`verify`](Self::verify), after the signature. Nothing of a file without a good signature is looked at.
    ///
    /// # Errors
    /// [`SignedError`].
    pub fn verify_signed(
        bytes: &'a [u8],
        signature: &[u8; SIGNATURE_BYTES],
        public_key: &[u8; PUBLIC_KEY_BYTES],
    ) -> Result<Self, SignedError> {
        check(bytes, signature, public_key)?;
        Self::verify(bytes).map_err(SignedError::Program)
    }
}

impl<'a> BatchProgram<'a> {
    /// As [`verify`](Self::verify), after the signature. Nothing of a file without a good signature is looked at.
    ///
    /// # Errors
    /// [`SignedError`].
    pub fn verify_signed(
        bytes: &'a [u8],
        signature: &[u8; SIGNATURE_BYTES],
        public_key: &[u8; PUBLIC_KEY_BYTES],
    ) -> Result<Self, SignedError> {
        check(bytes, signature, public_key)?;
        Self::verify(bytes).map_err(SignedError::Program)
    }
}
