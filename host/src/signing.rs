//! Signatures of programs: who compiled what a gateway runs.
//!
//! Files: `signing.key` is the 32-byte seed of an Ed25519 key (mode 0600), `signing.pub` its 32-byte public key, and
//! `PROGRAM.sig` the 64-byte signature of the whole program file. The kernel's `signature` feature checks it.

use crate::random::Random;
use cipherlens_kernel::signature::{PUBLIC_KEY_BYTES, SIGNATURE_BYTES};
use ed25519_dalek::{Signer, SigningKey};
use zeroize::Zeroizing;

/// Bytes of a signing key.
pub const SIGNING_KEY_BYTES: usize = 32;

/// A key that signs; it is zeroed when it is dropped.
pub struct ProgramSigner(SigningKey);

impl ProgramSigner {
    /// A fresh key.
    pub fn generate(random: &mut Random) -> Self {
        Self::from_bytes(&Zeroizing::new(random.bytes()))
    }

    /// The key in the bytes of a file. Any 32 bytes are one.
    pub fn from_bytes(seed: &[u8; SIGNING_KEY_BYTES]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The bytes of its file.
    pub fn to_bytes(&self) -> Zeroizing<[u8; SIGNING_KEY_BYTES]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public key, which goes into firmware or to gateways.
    pub fn public(&self) -> [u8; PUBLIC_KEY_BYTES] {
        self.0.verifying_key().to_bytes()
    }

    /// The signature of a file.
    pub fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(bytes).to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cipherlens_kernel::signature::{SignedError, check};

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn known_answer() {
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
        };
        let seed = bytes("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let signer = ProgramSigner::from_bytes(seed.as_slice().try_into().unwrap());
        assert_eq!(signer.public().to_vec(), bytes("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"));
        let signature = bytes(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        );
        assert_eq!(signer.sign(&[0x72]).to_vec(), signature);
        assert_eq!(check(&[0x72], &signer.sign(&[0x72]), &signer.public()), Ok(()));
    }

    #[test]
    fn keys_that_sign_everything_are_refused() {
        // The neutral element: with it, a signature of all zeros but R = 1 would hold for every message.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert_eq!(check(b"anything", &signature, &neutral), Err(SignedError::Key));
        // No point of the curve has y = 2.
        neutral[0] = 2;
        assert_eq!(check(b"anything", &signature, &neutral), Err(SignedError::Key));
    }
}
