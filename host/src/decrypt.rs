//! Decryption of ciphertext files to slot vectors.

use crate::encode::Encoder;
use crate::files::FileError;
use crate::keys::SecretKey;
use crate::ring::Ring;
use cipherlens_kernel::keys::{Stream, expand_uniform};
use cipherlens_kernel::math::{Backend, Detected, Modulus};
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
        let mut minus = Zeroizing::new(vec![0; n]);
        ring.backend.mul_redc(&mut minus, &c1, secret.minus(ring, header.limbs, t), false, m);
        ring.backend.sub_assign(&mut c0, &minus, m);
        ring.backend.inverse(&mut c0, &table);
        residues.push(c0);
    }
    let primes: Vec<Modulus> = set.q()[..used].iter().map(|&p| Modulus::new(p)).collect();
    let mut coefficients = centred(residues, &primes, ring.backend);
    coefficients.iter_mut().for_each(|c| *c /= header.scale.value());
    Ok((header, Zeroizing::new(encoder.to_slots(&coefficients))))
}

/// The integers nearest 0 with these residues, as doubles. Shape: a row for each prime, at least one, to one row.
///
/// Reference: Garner's algorithm.
fn centred(mut rows: Vec<Zeroizing<Vec<u32>>>, primes: &[Modulus], backend: Detected) -> Zeroizing<Vec<f64>> {
    // From residues to digits in the mixed radix of the primes.
    for t in 1..rows.len() {
        let (digits, rest) = rows.split_at_mut(t);
        let m = &primes[t];
        for (digit, p) in digits.iter().zip(primes) {
            let inverse = m.shoup(m.inv(m.reduce(p.value())));
            backend.garner_step(&mut rest[0], digit, inverse, m);
        }
    }
    let product: u128 = primes.iter().map(|m| u128::from(m.value())).product();
    let value = |i: usize| {
        let digits = rows.iter().zip(primes).rev();
        digits.fold(0u128, |value, (row, m)| value * u128::from(m.value()) + u128::from(row[i]))
    };
    let signed = |value: u128| value as i128 - if value > product / 2 { product as i128 } else { 0 };
    Zeroizing::new((0..rows[0].len()).map(|i| signed(value(i)) as f64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cipherlens_kernel::params::named;

    #[test]
    fn residues_give_the_integer_nearest_zero() {
        let primes: Vec<Modulus> = named::N13.q()[..MESSAGE_LIMBS].iter().map(|&p| Modulus::new(p)).collect();
        for used in 1..=MESSAGE_LIMBS {
            let primes = &primes[..used];
            let half = primes.iter().map(|m| i128::from(m.value())).product::<i128>() / 2;
            let values: Vec<i128> =
                (0..64).map(|i| [0, 1, -1, half, -half, half / 3, 12_345 - half, 99 - i][i as usize % 8]).collect();
            let row = |m: &Modulus| values.iter().map(|v| v.rem_euclid(i128::from(m.value())) as u32).collect();
            let rows = primes.iter().map(|m| Zeroizing::new(row(m))).collect();
            assert!(centred(rows, primes, Detected::new()).iter().zip(&values).all(|(&x, &v)| x == v as f64));
        }
    }
}
