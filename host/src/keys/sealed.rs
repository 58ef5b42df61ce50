//! A secret key at rest under a passphrase.
//!
//! File (`.cls`, kind [`FileKind::SealedSecretKey`]), after the common header: KDF (4 bytes, 1 = Argon2id), its memory
//! in KiB (4), passes (4) and lanes (4), salt (16), nonce (12), 4 zero bytes, then the secret key's file under
//! ChaCha20-Poly1305. Everything before the ciphertext, but the header's digest, is authenticated with it.
//!
//! Reference: RFC 9106 (Argon2), RFC 8439 (ChaCha20-Poly1305).

use super::SecretKey;
use crate::files::FileError;
use crate::random::Random;
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};
use cipherlens_kernel::wire::{FileKind, HEADER_BYTES, Header, WireError, array_at, u32_at};
use zeroize::Zeroizing;

/// Bytes before the ciphertext.
const FRONT: usize = HEADER_BYTES + 48;
const TAG: usize = 16;
const ARGON2ID: u32 = 1;
/// Memory in KiB, passes and lanes of new files: the second recommendation of RFC 9106 on one lane.
const COST: [u32; 3] = [64 << 10, 3, 1];
/// Largest costs that are taken from a file, which nobody has authenticated yet.
const MOST: [u32; 3] = [1 << 20, 64, 16];

/// Why a sealed key cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum SealError {
    /// The file, or the key in it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The passphrase is wrong, or somebody changed the file and its digest.
    #[error("the passphrase does not open this key")]
    Passphrase,
    /// Not enough memory for the derivation.
    #[error("the key derivation takes {0} KiB of memory, which the system did not give")]
    Memory(u32),
}

impl From<WireError> for SealError {
    fn from(error: WireError) -> Self {
        Self::File(error.into())
    }
}

/// Whether these are the bytes of a sealed key. Nothing but the header's first fields is looked at.
pub fn is_sealed(bytes: &[u8]) -> bool {
    Header::read_front(bytes, FileKind::SealedSecretKey).is_ok()
}

/// The bytes of a file that holds `secret` under `passphrase`.
///
/// # Errors
/// [`SealError::Memory`].
pub fn seal(secret: &SecretKey, passphrase: &[u8], random: &mut Random) -> Result<Vec<u8>, SealError> {
    let plain = secret.to_bytes();
    let (set, sealed) = (secret.set().fingerprint(), FRONT + plain.len());
    let mut bytes = vec![0; sealed + TAG];
    for (place, value) in bytes[HEADER_BYTES..].chunks_exact_mut(4).zip([ARGON2ID].into_iter().chain(COST)) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    bytes[80..96].copy_from_slice(&random.bytes::<16>());
    bytes[96..108].copy_from_slice(&random.bytes::<12>());
    bytes[FRONT..sealed].copy_from_slice(&plain);
    let finish = |bytes: &mut [u8]| {
        let end = bytes.len();
        Header::write(bytes, FileKind::SealedSecretKey, &set, end).expect("the buffer holds the file");
    };
    // Kind, length and set are authenticated, so they come first; the digest follows the ciphertext.
    finish(&mut bytes);
    let (cipher, nonce, bound) = cipher(&bytes, passphrase)?;
    let tag = cipher.encrypt_inout_detached(&nonce, &bound, (&mut bytes[FRONT..sealed]).into());
    bytes[sealed..].copy_from_slice(&tag.expect("the key is shorter than the cipher's limit"));
    finish(&mut bytes);
    Ok(bytes)
}

/// The secret key's file inside a sealed one.
///
/// # Errors
/// A damaged file, costs that no file of ours has, or [`SealError::Passphrase`].
pub fn open(bytes: &[u8], passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let header = Header::read(bytes, FileKind::SealedSecretKey)?;
    header.check_digest(bytes, bytes.len())?;
    let short = WireError::Truncated { need: (FRONT + TAG) as u64, have: bytes.len() as u64 };
    let (body, tag) = bytes.get(FRONT..).and_then(<[u8]>::split_last_chunk::<TAG>).ok_or(short)?;
    let (cipher, nonce, bound) = cipher(bytes, passphrase)?;
    let mut plain = Zeroizing::new(body.to_vec());
    let opened = cipher.decrypt_inout_detached(&nonce, &bound, plain.as_mut_slice().into(), &Tag::from(*tag));
    opened.map_err(|_| SealError::Passphrase)?;
    Ok(plain)
}

/// The cipher for the front of a file, its nonce, and what is authenticated beside the ciphertext.
fn cipher(bytes: &[u8], passphrase: &[u8]) -> Result<(ChaCha20Poly1305, Nonce, Vec<u8>), SealError> {
    let field = |at: usize| u32_at(bytes, at).ok_or(WireError::Field { offset: at as u64 });
    if field(64)? != ARGON2ID {
        return Err(WireError::Field { offset: 64 }.into());
    }
    let cost = [field(68)?, field(72)?, field(76)?];
    let [memory, passes, lanes] = cost;
    if let Some(i) = (0..3).find(|&i| cost[i] > MOST[i]) {
        return Err(WireError::Field { offset: 68 + 4 * i as u64 }.into());
    }
    if field(108)? != 0 {
        return Err(WireError::Field { offset: 108 }.into());
    }
    let refused = |_| WireError::Field { offset: 68 };
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(refused)?;
    let salt: [u8; 16] = array_at(bytes, 80).ok_or(WireError::Field { offset: 80 })?;
    let nonce: [u8; 12] = array_at(bytes, 96).ok_or(WireError::Field { offset: 96 })?;
    let mut key = Zeroizing::new([0u8; 32]);
    let derive = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    derive.hash_password_into(passphrase, &salt, key.as_mut()).map_err(|_| SealError::Memory(memory))?;
    let bound = [&bytes[..32], &bytes[HEADER_BYTES..FRONT]].concat();
    Ok((ChaCha20Poly1305::new(&Key::from(*key)), Nonce::from(nonce), bound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cipherlens_kernel::params::named;

    fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let end = bytes.len();
        Header::write(&mut bytes, FileKind::SealedSecretKey, &named::N12.fingerprint(), end).unwrap();
        bytes
    }

    #[test]
    fn opens_with_its_passphrase_only() {
        let mut random = Random::from_seed([5; 32]);
        let secret = SecretKey::generate(named::N12, &mut random);
        let sealed = seal(&secret, b"correct horse", &mut random).unwrap();
        assert!(is_sealed(&sealed) && !is_sealed(&secret.to_bytes()));
        assert!(open(&sealed, b"correct horse").unwrap() == secret.to_bytes());
        for wrong in [&b"correct horsf"[..], b"", b"correct horse\n"] {
            assert_eq!(open(&sealed, wrong).err(), Some(SealError::Passphrase));
        }
        // Nothing of the key shows: no run of its coefficients, which are three values only.
        assert!(!sealed[FRONT..].windows(8).any(|w| w.iter().all(|&b| matches!(b, 0 | 1 | 255))));
        assert_ne!(seal(&secret, b"correct horse", &mut random).unwrap()[80..], sealed[80..], "a fresh salt and nonce");
    }

    #[test]
    fn damage_is_an_error_with_and_without_a_new_digest() {
        let mut random = Random::from_seed([6; 32]);
        let sealed = seal(&SecretKey::generate(named::N12, &mut random), b"p", &mut random).unwrap();
        for at in (0..sealed.len()).step_by(97) {
            let mut bytes = sealed.clone();
            bytes[at] ^= 4;
            assert!(matches!(open(&bytes, b"p"), Err(SealError::File(_))), "byte {at}");
        }
        // Salt, nonce, ciphertext, tag: a digest that matches does not help.
        for at in [80, 100, FRONT, sealed.len() - 1] {
            let mut bytes = sealed.clone();
            bytes[at] ^= 4;
            assert_eq!(open(&resealed(bytes), b"p").err(), Some(SealError::Passphrase), "byte {at}");
        }
        // Costs that would take the machine down.
        for (at, value) in [(64, 2), (68, u32::MAX), (68, 0), (72, 65), (76, 17), (108, 1)] {
            let mut bytes = sealed.clone();
            bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
            let offset = at as u64;
            let error = SealError::File(FileError::Wire(WireError::Field { offset }));
            assert_eq!(open(&resealed(bytes), b"p").err(), Some(error));
        }
        for cut in [HEADER_BYTES, 100, FRONT, FRONT + TAG - 1] {
            assert!(matches!(open(&resealed(sealed[..cut].to_vec()), b"p"), Err(SealError::File(_))), "cut to {cut}");
        }
    }
}
