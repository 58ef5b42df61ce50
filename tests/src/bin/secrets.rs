//! Sampling, key generation and encryption with every secret marked as undefined memory: under Valgrind's memcheck a
//! branch or an index that depends on one is an error (`cargo xtask timing`). Without Valgrind it does nothing special.
//!
//! What is public although it comes from the same generator, or is thrown away, is in `secrets.supp` beside this file.
//! Built without overflow checks, which are branches.
//!
//! Reference: ctgrind (A. Langley, 2010).

#[cfg(target_arch = "x86_64")]
mod memcheck {
    /// Asks Valgrind: the sequence of instructions does nothing on a processor.
    fn request(code: usize, address: usize, length: usize) -> usize {
        let arguments = [code, address, length, 0, 0, 0];
        let mut result = 0usize;
        // SAFETY: rotations of a register by 128 bits in all and an exchange of a register with itself change nothing;
        // Valgrind, which knows the sequence, reads the six arguments and writes rdx.
        unsafe {
            std::arch::asm!(
                "rol rdi, 3",
                "rol rdi, 13",
                "rol rdi, 61",
                "rol rdi, 51",
                "xchg rbx, rbx",
                in("rax") &raw const arguments,
                inout("rdx") result,
                options(nostack)
            );
        }
        result
    }

    const MEMCHECK: usize = (b'M' as usize) << 24 | (b'C' as usize) << 16;

    /// Whether Valgrind runs this.
    pub fn is_running() -> bool {
        request(0x1001, 0, 0) != 0
    }

    /// Marks `bytes` as secret.
    pub fn secret(bytes: &mut [u8]) {
        request(MEMCHECK + 1, bytes.as_ptr() as usize, bytes.len());
    }

    /// Marks `bytes` as public.
    pub fn public(bytes: &[u8]) {
        request(MEMCHECK + 2, bytes.as_ptr() as usize, bytes.len());
    }
}

#[cfg(target_arch = "x86_64")]
fn main() {
    use cipherlens::encode::Encoder;
    use cipherlens::encrypt::{EncryptionKey, Target, encrypt};
    use cipherlens::keys::{PublicKey, SecretKey, evaluation_keys};
    use cipherlens::random::Random;
    use cipherlens::ring::Ring;
    use cipherlens_kernel::ckks::Scale;
    use cipherlens_kernel::keys::{KeyKind, KeyRequest};
    use cipherlens_kernel::params::named;
    use memcheck::{is_running, public, secret};

    if std::env::args().nth(1).as_deref() == Some("leak") {
        // The negative control: a branch that the check must find.
        let mut word = [1u8; 4];
        secret(&mut word);
        println!("{}", if word[0] == 1 { "one" } else { "other" });
        return;
    }
    let (set, encoder) = (named::N12, Encoder::new(named::N12.log_n()));
    let ring = Ring::new(set);
    // A generator for each step: how much a ternary sample takes from one is public, but derived from secrets.
    let random = || {
        let mut seed = [7u8; 32];
        secret(&mut seed);
        Random::from_seed(seed)
    };
    let mut errors = vec![0i32; 4096];
    random().gaussian(&mut errors);
    let key = SecretKey::generate(set, &mut random());
    let public_key = PublicKey::generate(&key, &ring, &mut random());
    let requests = [KeyKind::Relin, KeyKind::Rotation(3)].map(|kind| KeyRequest { kind, limbs: 3 });
    let keys = evaluation_keys(&key, &ring, &requests, &mut random(), |_| ());
    let target = Target { program: [1; 16], index: 0, limbs: 3, scale: Scale::new(262_144.0).expect("a scale") };
    let image: Vec<f64> = (0..set.n()).map(|i| i as f64 / set.n() as f64).collect();
    let mut made = keys.len() + errors.len();
    for key in [EncryptionKey::Secret(&key), EncryptionKey::Public(&public_key)] {
        let file = encrypt(&image, &target, key, &ring, &encoder, &mut random()).expect("the image fits");
        public(&file);
        made += file.len();
    }
    println!("{made} bytes{}", if is_running() { ", under Valgrind" } else { "" });
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("Valgrind is asked on x86-64 only");
}
