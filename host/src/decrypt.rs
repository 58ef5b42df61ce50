//! Decryption of ciphertext files to slot vectors.

use crate::encode::Encoder;
use crate::files::FileError;
use crate::keys::SecretKey;
use crate::ring::Ring;
use cipherlens_kernel::keys::{Stream, expand_uniform};
use cipherlens_kernel::math::{Backend, Modulus};
use cipherlens_kernel::wire::{CiphertextHeader, CiphertextView, WireError, load_words};
use zeroize::Zeroizing;

/// Why a ciphertext cannot be decrypted.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum DecryptError {
    /// The file.
    #[error("{0}")]
    File(FileError),
    /// Encrypted under another key.
    #[error("this ciphertext belongs to the key {}, not to {}", crate::files::hex(.found), crate::files::hex(.expected))]
    WrongKey {
        /// Identity of the key given.
        expected: [u8; 16],
        /// Identity in the ciphertext.
        found: [u8; 16],
    },
}

impl From<WireError> for DecryptError {
    fn from(error: WireError) -> Self {
        Self::File(error.into())
    }
}

/// Limbs that are enough for any message: their product is below 2^120 and exceeds every scale in use.
const MESSAGE_LIMBS: usize = 4;

/// The N slots of a ciphertext file, divided by its scale.
///
/// # Errors
/// [`DecryptError`] for a damaged file, another parameter set or another key.
pub fn decrypt(
    bytes: &[u8],
    secret: &SecretKey,
    ring: &Ring,
    encoder: &Encoder,
) -> Result<(CiphertextHeader, Zeroizing<Vec<f64>>), DecryptError> {
    let view = CiphertextView::new_checked(bytes)?;
    let header = view.header;
    let set = ring.set();
    if header.set != set.fingerprint() || header.log_n != set.log_n() || header.limbs > set.limbs() {
        return Err(WireError::Set.into());
    }
    if header.key_id != secret.id() {
        return Err(DecryptError::WrongKey { expected: secret.id(), found: header.key_id });
    }
    let n = ring.n();
    // The message is congruent modulo each prime, so a few limbs determine it.
    let used = header.limbs.min(MESSAGE_LIMBS);
    let mut residues = Vec::with_capacity(used);
    for t in 0..used {
        let table = ring.table(header.limbs, t);
        let m = &table.modulus;
        let mut c1 = vec![0; n];
        match header.seed {
            Some(seed) => expand_uniform(&mut c1, &seed, Stream::Ciphertext, m),
            None => load_words(&mut c1, &view.c1[t * n * 4..]),
        }
        let mut c0 = Zeroizing::new(vec![0; n]);
        load_words(&mut c0, &view.c0[t * n * 4..]);
        if c0.iter().chain(&c1).any(|&x| x >= m.value()) {
            return Err(WireError::Field { offset: 160 }.into());
        }
        ring.backend.mul_add(&mut c0, &c1, &secret.transformed(ring, header.limbs, t), m);
        ring.backend.inverse(&mut c0, &table);
        residues.push(c0);
    }
    let primes: Vec<Modulus> = set.q()[..used].iter().map(|&p| Modulus::new(p)).collect();
    let coefficients: Zeroizing<Vec<f64>> = Zeroizing::new(
        (0..n).map(|i| centred(residues.iter().map(|row| row[i]), &primes) / header.scale.value()).collect(),
    );
    Ok((header, Zeroizing::new(encoder.to_slots(&coefficients))))
}

/// The integer nearest 0 with these residues (Garner's algorithm), as a double.
fn centred(residues: impl Iterator<Item = u32>, primes: &[Modulus]) -> f64 {
    let (mut value, mut product) = (0u128, 1u128);
    for (x, m) in residues.zip(primes) {
        let p = u128::from(m.value());
        let below = m.reduce((value % p) as u32);
        let digit = m.mul(m.sub(x, below), m.inv((product % p) as u32));
        value += product * u128::from(digit);
        product *= p;
    }
    if value > product / 2 { -((product - value) as f64) } else { value as f64 }
}
