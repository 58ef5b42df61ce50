//! The public encryption key: lets a device encrypt that must not be able to decrypt.

use super::SecretKey;
use crate::files::{FileError, set_by_fingerprint};
use crate::random::Random;
use crate::ring::Ring;
use cipherlens_kernel::keys::{Stream, expand_uniform};
use cipherlens_kernel::math::{Backend, Modulus};
use cipherlens_kernel::params::ParamSet;
use cipherlens_kernel::wire::{FileKind, HEADER_BYTES, Header, WireError, array_at, load_words, store_words, u32_at};
use zeroize::Zeroizing;

/// `(b, a)` with `b = -a s + e` modulo all ciphertext primes, Ntt domain; `a` is a seed.
///
/// File (`.clu`), after the common header: key id (16 bytes), seed (32), limbs (4), log2 N (4), 8 zero bytes,
/// then `[limbs][N]` words of b.
pub struct PublicKey {
    set: ParamSet,
    id: [u8; 16],
    seed: [u8; 32],
    b: Vec<Vec<u32>>,
    a: Vec<Vec<u32>>,
}

const BODY: usize = HEADER_BYTES + 64;

impl PublicKey {
    /// The public key of `secret`.
    pub fn generate(secret: &SecretKey, ring: &Ring, random: &mut Random) -> Self {
        let set = *secret.set();
        let seed = random.bytes();
        let mut error = Zeroizing::new(vec![0i32; set.n()]);
        random.gaussian(&mut error);
        let limbs = set.limbs();
        let a = Self::expand(&set, &seed);
        let b = a
            .iter()
            .enumerate()
            .map(|(t, a)| {
                let mut row = ring.transform_small(&error, limbs, t);
                ring.backend.mul_redc(&mut row, a, secret.minus(ring, limbs, t), true, &ring.table(limbs, t).modulus);
                row
            })
            .collect();
        Self { set, id: secret.id(), seed, b, a }
    }

    /// The uniform half.
    fn expand(set: &ParamSet, seed: &[u8; 32]) -> Vec<Vec<u32>> {
        let row = |&p: &u32| {
            let mut row = vec![0; set.n()];
            expand_uniform(&mut row, seed, Stream::PublicKey, &Modulus::new(p));
            row
        };
        set.q().iter().map(row).collect()
    }

    /// The parameter set.
    pub fn set(&self) -> &ParamSet {
        &self.set
    }

    /// Identity of the secret key.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// b modulo `q_t`.
    pub(crate) fn b(&self, t: usize) -> &[u32] {
        &self.b[t]
    }

    /// a modulo `q_t`.
    pub(crate) fn a(&self, t: usize) -> &[u32] {
        &self.a[t]
    }

    /// The bytes of a key file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let n = self.set.n();
        let mut bytes = vec![0; BODY + self.b.len() * n * 4];
        bytes[64..80].copy_from_slice(&self.id);
        bytes[80..112].copy_from_slice(&self.seed);
        bytes[112..116].copy_from_slice(&(self.b.len() as u32).to_le_bytes());
        bytes[116..120].copy_from_slice(&self.set.log_n().to_le_bytes());
        for (out, row) in bytes[BODY..].chunks_exact_mut(n * 4).zip(&self.b) {
            store_words(out, row);
        }
        let end = bytes.len();
        Header::write(&mut bytes, FileKind::PublicKey, &self.set.fingerprint(), end)
            .expect("the buffer holds the file");
        bytes
    }

    /// Reads a key file. `custom` is the set to use if it is not a named one.
    ///
    /// # Errors
    /// A damaged file, an unknown parameter set, or a residue that is not below its prime.
    pub fn from_bytes(bytes: &[u8], custom: Option<&ParamSet>) -> Result<Self, FileError> {
        let header = Header::read(bytes, FileKind::PublicKey)?;
        header.check_digest(bytes, bytes.len())?;
        let short = WireError::Truncated { need: BODY as u64, have: bytes.len() as u64 };
        let set = set_by_fingerprint(&header.set, custom)?;
        let n = set.n();
        let limbs = u32_at(bytes, 112).ok_or(short)? as usize;
        if limbs != set.limbs() || bytes.len() != BODY + limbs * n * 4 {
            return Err(WireError::Field { offset: 112 }.into());
        }
        let mut b = Vec::with_capacity(limbs);
        for (t, part) in bytes[BODY..].chunks_exact(n * 4).enumerate() {
            let mut row = vec![0; n];
            load_words(&mut row, part);
            if row.iter().any(|&x| x >= set.q()[t]) {
                return Err(WireError::Field { offset: (BODY + t * n * 4) as u64 }.into());
            }
            b.push(row);
        }
        let seed = array_at(bytes, 80).ok_or(short)?;
        Ok(Self { set, id: array_at(bytes, 64).ok_or(short)?, seed, b, a: Self::expand(&set, &seed) })
    }
}
