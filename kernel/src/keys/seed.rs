//! Uniform polynomials from a seed.

use crate::math::Modulus;
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use core::cell::Cell;

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
    let mut rest = row;
    while !rest.is_empty() {
        // Into the row itself, as many words as are missing: long runs keep the cipher's vectors full.
        let written =
            bytemuck::try_cast_slice_mut::<u32, u8>(rest).is_ok_and(|b| cipher.try_write_keystream(b).is_ok());
        if !written {
            // 256 GiB of keystream for one row: cannot happen, and the rest stays as it was.
            return;
        }
        let kept = keep_below(Cell::from_mut(&mut *rest).as_slice_of_cells(), mask, m.value());
        rest = rest.get_mut(kept..).unwrap_or(&mut []);
    }
}

/// Moves the words that are below `p` once they are masked to the front, in their order: how many these are.
fn keep_below(words: &[Cell<u32>], mask: u32, p: u32) -> usize {
    let mut kept = 0usize;
    let (chunks, tail) = words.as_chunks::<16>();
    for drawn in chunks {
        // A copy, because the places to write may be among those to read.
        let mut chunk = [0; 16];
        for (word, drawn) in chunk.iter_mut().zip(drawn) {
            *word = u32::from_le(drawn.get()) & mask;
        }
        let all = chunk.iter().fold(true, |all, &word| all & (word < p));
        match words.get(kept..).and_then(|slots| slots.first_chunk::<16>()) {
            Some(slots) if all => {
                slots.iter().zip(chunk).for_each(|(slot, word)| slot.set(word));
                kept = kept.wrapping_add(chunk.len());
            }
            _ => kept = chunk.iter().fold(kept, |kept, &word| keep(words, kept, word, p)),
        }
    }
    tail.iter().fold(kept, |kept, word| keep(words, kept, u32::from_le(word.get()) & mask, p))
}

/// Writes `word` to slot `kept`, to stay there if it is below `p`: the next slot to write. Without a branch, because for
/// some primes almost half of the words are rejected.
#[inline(always)]
fn keep(slots: &[Cell<u32>], kept: usize, word: u32, p: u32) -> usize {
    if let Some(slot) = slots.get(kept) {
        slot.set(word);
    }
    kept.wrapping_add(usize::from(word < p))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: a keystream read word by word.
    #[test]
    fn rows_are_the_accepted_words_in_order() {
        for (p, n) in [(163_841, 512), (66_420_737, 4096), (268_369_921, 1001), (3, 5), (1_073_479_681, 16)] {
            let m = Modulus::new(p);
            let mut row = std::vec![0u32; n];
            expand_uniform(&mut row, &[9; 32], Stream::PublicKey, &m);
            let mut nonce = [0xffu8; 12];
            nonce[4..8].copy_from_slice(&1u32.to_le_bytes());
            nonce[8..].copy_from_slice(&p.to_le_bytes());
            let mut cipher = ChaCha20::new(&[9; 32].into(), &nonce.into());
            let mut next = || {
                let mut bytes = [0; 4];
                cipher.apply_keystream(&mut bytes);
                u32::from_le_bytes(bytes) & (u32::MAX >> p.leading_zeros())
            };
            let expected: std::vec::Vec<u32> = core::iter::repeat_with(&mut next).filter(|&x| x < p).take(n).collect();
            assert_eq!(row, expected);
        }
    }

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
