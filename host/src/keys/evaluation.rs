//! Evaluation keys for a program's manifest: seeded, generated only up to the level of use.

use super::SecretKey;
use crate::random::Random;
use crate::ring::Ring;
use cipherlens_kernel::keys::{KeyKind, KeyRequest, Stream, expand_uniform, galois_element};
use cipherlens_kernel::math::{Backend, Modulus};
use cipherlens_kernel::ring::Basis;
use cipherlens_kernel::wire::{BundleShape, store_words};
use zeroize::Zeroizing;

/// The bytes of a key file that holds a key for every request.
///
/// Level: a key at l limbs lives over `q_0 .. q_(l-1)` and all special primes; its modulus is the product of
/// those, which the parameter check bounds. `progress` is called after each key with the number done.
///
/// Reference: eprint 2019/688; the kernel's `keys` module states the equation.
pub fn evaluation_keys(
    secret: &SecretKey,
    ring: &Ring,
    requests: &[KeyRequest],
    random: &mut Random,
    mut progress: impl FnMut(usize),
) -> Vec<u8> {
    let set = *secret.set();
    let n = set.n();
    let shape = BundleShape { log_n: set.log_n(), special: set.special(), digit: set.digit(), requests };
    let mut bytes = vec![0u8; shape.file_bytes()];
    let seed: [u8; 32] = random.bytes();
    let entries: Vec<_> = shape.entries().collect();
    let mut a = vec![0; n];
    for (done, entry) in entries.iter().enumerate() {
        let KeyRequest { kind, limbs } = entry.request;
        let digits = set.digits(limbs);
        let mut errors = Zeroizing::new(vec![0i32; n * digits]);
        random.gaussian(&mut errors);
        let block = shape.block_bytes(limbs);
        for t in 0..limbs + set.special() {
            let table = ring.table(limbs, t);
            let m = &table.modulus;
            let s = secret.minus(ring, limbs, t);
            let other = derived(kind, s, ring, m, set.log_n());
            let (from, to) = match kind {
                KeyKind::Relin => (&other[..], s),
                KeyKind::Rotation(_) => (s, &other[..]),
            };
            let out = &mut bytes[entry.offset + t * block..][..block];
            for (j, out) in out.chunks_exact_mut(n * 4).enumerate() {
                // All in Montgomery form: b R = e R + P gamma_j (s_from R) - (a R) s_to, with a R the seed's words.
                let mut b = ring.transform_small(&errors[j * n..(j + 1) * n], limbs, t);
                ring.backend.mul_scalar_assign(&mut b, m.montgomery_factor(), m);
                let own = t < limbs && (t / set.digit()) == j;
                if own {
                    let p = Basis::tail(&set, limbs, true, 0).product(m);
                    ring.backend.mul_scalar_add(&mut b, from, m.shoup(m.neg(p)), m);
                }
                expand_uniform(&mut a, &seed, Stream::Key { code: kind.code(), digit: j as u32 }, m);
                ring.backend.mul_redc(&mut b, &a, to, true, m);
                store_words(out, &b);
            }
        }
        progress(done + 1);
    }
    shape.finish(&mut bytes, &set.fingerprint(), &secret.id(), &seed).expect("the buffer has the file's length");
    bytes
}

/// The secret that a key leads from (relinearisation) or to (rotation) besides s, modulo one prime. As `s`, which is
/// [`SecretKey::minus`], the result is negative and in Montgomery form.
fn derived(kind: KeyKind, s: &[u32], ring: &Ring, m: &Modulus, log_n: u32) -> Zeroizing<Vec<u32>> {
    let mut other = Zeroizing::new(vec![0; s.len()]);
    match kind {
        KeyKind::Relin => {
            ring.backend.mul_redc(&mut other, s, s, false, m);
            ring.backend.mul_scalar_assign(&mut other, m.shoup(m.neg(1)), m);
        }
        KeyKind::Rotation(r) => {
            // phi_g^-1 is the rotation by -r, and rotations have order N.
            let inverse = (1u32 << log_n) - r;
            ring.backend.automorphism(&mut other, s, galois_element(inverse, log_n));
        }
    }
    other
}
