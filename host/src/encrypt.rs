//! Encryption of slot vectors under the secret key (seeded, half the size) or the public key.

use crate::encode::{EncodeError, Encoder};
use crate::keys::{PublicKey, SecretKey};
use crate::random::Random;
use crate::ring::{Digits, Ring};
use cipherlens_kernel::ckks::Scale;
use cipherlens_kernel::keys::{Stream, expand_uniform};
use cipherlens_kernel::math::Backend;
use cipherlens_kernel::wire::{CiphertextHeader, Role, store_words};
use zeroize::Zeroizing;

/// Where a ciphertext is going.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Fingerprint of the program.
    pub program: [u8; 16],
    /// Input index.
    pub index: u32,
    /// Limbs that the program expects.
    pub limbs: usize,
    /// Scale that the program expects.
    pub scale: Scale,
}

/// Who encrypts.
#[derive(Clone, Copy)]
pub enum EncryptionKey<'a> {
    /// The key holder: a seeded ciphertext.
    Secret(&'a SecretKey),
    /// Anybody else: a full ciphertext.
    Public(&'a PublicKey),
}

impl EncryptionKey<'_> {
    /// Identity of the secret key that decrypts.
    pub fn id(&self) -> [u8; 16] {
        match self {
            Self::Secret(key) => key.id(),
            Self::Public(key) => key.id(),
        }
    }
}

/// The bytes of a ciphertext file that holds `values` (N slots, missing ones zero).
///
/// Level and scale: those of `target`. Noise: [`SIGMA`](crate::random::SIGMA) per coefficient under the secret
/// key; under the public key `v e + e0 + e1 s` with ternary v.
///
/// # Errors
/// [`EncodeError`] if a value is not finite or too large for the scale.
pub fn encrypt(
    values: &[f64],
    target: &Target,
    key: EncryptionKey<'_>,
    ring: &Ring,
    encoder: &Encoder,
    random: &mut Random,
) -> Result<Vec<u8>, EncodeError> {
    let (set, n, limbs) = (ring.set(), ring.n(), target.limbs);
    let message = Zeroizing::new(encoder.encode(values, target.scale.value())?);
    let seed = match key {
        EncryptionKey::Secret(_) => Some(random.bytes()),
        EncryptionKey::Public(_) => None,
    };
    let header = CiphertextHeader {
        set: set.fingerprint(),
        key_id: key.id(),
        program: target.program,
        role: Role::Input,
        index: target.index,
        limbs,
        log_n: set.log_n(),
        scale: target.scale,
        seed,
    };
    let mut error = Zeroizing::new(vec![0i32; n]);
    random.gaussian(&mut error);
    let noisy = Digits::new(message.iter().zip(error.iter()).map(|(&m, &e)| m + i64::from(e)));
    drop(message);
    let mut mask = Zeroizing::new(Vec::new());
    if seed.is_none() {
        random.gaussian(&mut error);
        mask.resize(n, 0i8);
        random.ternary(&mut mask);
    }
    let mut uniform = vec![0; n];
    let mut bytes = vec![0; header.file_bytes()];
    header
        .write(&mut bytes, |out0, out1| {
            for t in 0..limbs {
                let m = ring.table(limbs, t).modulus;
                let mut c0 = ring.transform_digits(&noisy, limbs, t);
                let place = t * n * 4..(t + 1) * n * 4;
                match (key, seed) {
                    (EncryptionKey::Secret(secret), Some(seed)) => {
                        expand_uniform(&mut uniform, &seed, Stream::Ciphertext, &m);
                        ring.backend.mul_redc(&mut c0, &uniform, secret.minus(ring, limbs, t), true, &m);
                    }
                    (EncryptionKey::Public(public), _) => {
                        let mut v = Zeroizing::new(ring.transform_small(&mask, limbs, t));
                        ring.backend.mul_scalar_assign(&mut v, m.montgomery_factor(), &m);
                        ring.backend.mul_redc(&mut c0, public.b(t), &v, true, &m);
                        let mut c1 = ring.transform_small(&error, limbs, t);
                        ring.backend.mul_redc(&mut c1, public.a(t), &v, true, &m);
                        store_words(&mut out1[place.clone()], &c1);
                    }
                    (EncryptionKey::Secret(_), None) => unreachable!("the secret form always has a seed"),
                }
                store_words(&mut out0[place], &c0);
            }
        })
        .expect("the buffer has the file's length");
    Ok(bytes)
}
