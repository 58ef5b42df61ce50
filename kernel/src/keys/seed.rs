//! Uniform polynomials from a seed.

use crate::math::Modulus;
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};

/// Which polynomial a seed is expanded to: its own keystream, so that any row can be expanded alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Stream {
    /// c1 of a ciphertext.
    Ciphertext,
    /// `a` of a public encryption key.
    PublicKey,
    /// `a_j` of an evaluation key.
    Key {
        /// The key's number in files ([`KeyKind::code`](super::KeyKind::code)).
        code: u32,
        /// Digit j.
        digit: u32,
    },
}

/// Fills `row` with words uniform in `[0, p)`: ChaCha20 keystream under `seed`, words masked to the bits of
/// `p`, rejected if not below `p`. The nonce is stream, digit and prime; every target gives the same words.
pub fn expand_uniform(row: &mut [u32], seed: &[u8; 32], stream: Stream, m: &Modulus) {
    let (a, b) = match stream {
        Stream::Ciphertext => (u32::MAX, 0),
        Stream::PublicKey => (u32::MAX, 1),
        Stream::Key { code, digit } => (code, digit),
    };
    let mut nonce = [0u8; 12];
    let words = [a, b, m.value()];
    for (x, byte) in nonce.iter_mut().zip(words.iter().flat_map(|w| w.to_le_bytes())) {
        *x = byte;
    }
    let mut cipher = ChaCha20::new(seed.into(), &nonce.into());
    let mask = u32::MAX.wrapping_shr(m.bits().wrapping_neg() & 31);
    let mut block = [0u8; 512];
    let mut out = row.iter_mut();
    let mut slot = out.next();
    while slot.is_some() {
        block.fill(0);
        if cipher.try_apply_keystream(&mut block).is_err() {
            // 256 GiB of keystream for one row: cannot happen, and the rest stays as it was.
            return;
        }
        for bytes in block.as_chunks::<4>().0 {
            let word = u32::from_le_bytes(*bytes) & mask;
            if word < m.value() {
                match slot {
                    Some(x) => *x = word,
                    None => break,
                }
                slot = out.next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_reproducible_distinct_and_in_range() {
        let m = Modulus::new(163_841);
        let row = |stream| {
            let mut row = [0u32; 4096];
            expand_uniform(&mut row, &[7; 32], stream, &m);
            row
        };
        let a = row(Stream::Ciphertext);
        assert_eq!(a, row(Stream::Ciphertext));
        assert_ne!(a, row(Stream::PublicKey));
        assert_ne!(a, row(Stream::Key { code: 1, digit: 0 }));
        assert!(a.iter().all(|&x| x < m.value()));
        let mean = a.iter().map(|&x| f64::from(x)).sum::<f64>() / 4096.0;
        // Six standard deviations of the mean of a uniform variable.
        assert!((mean / 163_841.0 - 0.5).abs() < 6.0 / (12.0f64 * 4096.0).sqrt());
    }
}
