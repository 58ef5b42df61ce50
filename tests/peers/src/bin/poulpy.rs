//! poulpy's CKKS on its AVX512-IFMA backend, over the standard ring and over the conjugate-invariant one.
//!
//! Limbs of 52 bits and a key guard of one limb, as in poulpy's own `ckks_hello`: its fastest choice here. A guard of
//! `log2 N` bits more, which it recommends for less noise, would exceed the 128-bit bound on keys at N = 8192.

use anyhow::{Result, ensure};
use peers::{measure, row};
use poulpy_ckks::SlotsKind;
use poulpy_ckks::prelude::*;
use poulpy_core::api::{
    GLWEAutomorphismKeyPreparedFactory, GLWESecretPreparedFactory, GLWESecretSampling, GLWETensorKeyPreparedFactory,
};
use poulpy_core::layouts::{
    GLWEAutomorphismKeyAlloc, GLWEAutomorphismKeyLayout, GLWELayout, GLWESecretAlloc, GLWETensorKeyAlloc,
    GLWETensorKeyLayout, Rank,
};
use poulpy_core::{GLWEAutomorphismKeyEncryptSk, GLWETensorKeyEncryptSk};
use poulpy_cpu_avx512::{NTT3x42CIIfma, NTT3x42Ifma};
use poulpy_hal::api::{ScratchOwnedAlloc, ScratchOwnedBorrow};
use poulpy_hal::layouts::{Module, ScratchOwned};
use poulpy_hal::source::Source;
use serde_json::json;
use std::collections::HashMap;

const BASE2K: usize = 52;
const LOG_DELTA: usize = 30;

/// Measures rotation, product and encryption with ciphertexts of `k` bits.
macro_rules! measure_ring {
    ($backend:ty, $ring:literal, $slots:expr, $n:expr, $k:expr) => {{
        let (n, k): (usize, usize) = ($n, $k);
        let module = Module::<$backend>::new(n as u64);
        let (mut xs, mut xa, mut xe) = (Source::new([0; 32]), Source::new([1; 32]), Source::new([2; 32]));
        let glwe = GLWELayout { n: n.into(), base2k: BASE2K.into(), k: k.into(), rank: Rank(1) };
        let dnum = k.div_ceil(BASE2K);
        let galois_layout = GLWEAutomorphismKeyLayout {
            n: n.into(),
            base2k: BASE2K.into(),
            dnum: dnum.into(),
            k_aux: BASE2K.into(),
            rank: Rank(1),
            k_digit: BASE2K.into(),
        };
        let relin_layout = GLWETensorKeyLayout {
            n: n.into(),
            base2k: BASE2K.into(),
            dnum: dnum.into(),
            k_aux: BASE2K.into(),
            rank: Rank(1),
            k_digit: BASE2K.into(),
        };
        let infos = module.ckks_ciphertext_alloc_from_glwe_infos(&glwe);
        let mut scratch = ScratchOwned::<$backend>::alloc(module.ckks_all_ops_with_atk_tmp_bytes(
            &infos,
            &infos,
            &relin_layout,
            &galois_layout,
        ));

        let mut secret = module.glwe_secret_alloc_from_infos(&glwe);
        module.glwe_secret_fill_ternary_prob(&mut secret, 2.0 / 3.0, &mut xs);
        let mut prepared_secret = module.glwe_secret_prepared_alloc_from_infos(&glwe);
        module.glwe_secret_prepare(&mut prepared_secret, &secret);
        let mut key = module.glwe_tensor_key_alloc_from_infos(&relin_layout);
        module.glwe_tensor_key_encrypt_sk(&mut key, &secret, &mut xa, &mut xe, &mut scratch.borrow());
        let mut relin = module.glwe_tensor_key_prepared_alloc_from_infos(&relin_layout);
        module.glwe_tensor_key_prepare(&mut relin, &key, &mut scratch.borrow());
        let element = module.ckks_galois_element(1);
        let mut key = module.glwe_automorphism_key_alloc_from_infos(&galois_layout);
        module.glwe_automorphism_key_encrypt_sk(&mut key, element, &secret, &mut xa, &mut xe, &mut scratch.borrow());
        let mut galois = module.glwe_automorphism_key_prepared_alloc_from_infos(&galois_layout);
        module.glwe_automorphism_key_prepare(&mut galois, &key, &mut scratch.borrow());
        let galois = HashMap::from([(element, galois)]);

        let slots = module.ckks_max_slots();
        let values: Vec<f64> = (0..slots).map(|i| (i % 7) as f64 / 7.0).collect();
        let zeros = vec![0.0; slots];
        let meta = GLWEPlaintextMeta { scale: Scale::Log(LOG_DELTA), slots: $slots, log_sparsity: 0 };
        let mut plain = module.ckks_plaintext_alloc_from_slots(slots, BASE2K.into(), k.into());
        let mut cipher = module.ckks_ciphertext_alloc(BASE2K.into(), k.into());
        let mut encrypt = || {
            plain.set_meta(meta);
            module.ckks_encode_slots_host_into(&mut plain, &values, &zeros, &mut scratch.borrow())?;
            module.ckks_encrypt_sk(&mut cipher, &plain, &prepared_secret, &mut xe, &mut xa, &mut scratch.borrow())
        };
        encrypt()?;
        let [encrypt_time] = measure(100, [&mut || encrypt().expect("worked before")]);

        let mut rotated = module.ckks_ciphertext_alloc(BASE2K.into(), k.into());
        let mut rotate = || module.ckks_rotate_into(1, &mut rotated, &cipher, &galois, &mut scratch.borrow());
        rotate()?;
        let [rotate_time] = measure(100, [&mut || rotate().expect("worked before")]);

        // The width that a rescaled product has.
        let mut product = module.ckks_ciphertext_alloc(BASE2K.into(), (k - LOG_DELTA).into());
        let mut multiply = || module.ckks_mul_into(&mut product, &cipher, &cipher, &relin, &mut scratch.borrow());
        multiply()?;
        let [multiply_time] = measure(100, [&mut || multiply().expect("worked before")]);

        let mut error = |cipher: &_, want: &dyn Fn(usize) -> f64| -> Result<f64> {
            // Decoding takes no more than 127 bits.
            let mut plain = module.ckks_plaintext_alloc_from_slots(slots, BASE2K.into(), (2 * BASE2K).into());
            plain.set_meta(meta);
            module.ckks_decrypt(&mut plain, cipher, &prepared_secret, &mut scratch.borrow())?;
            let (mut re, mut im) = (vec![0.0; slots], vec![0.0; slots]);
            module.ckks_decode_slots_host_into(&plain, &mut re, &mut im, &mut scratch.borrow())?;
            let worst = (0..slots).map(|i| (re[i] - want(i)).abs()).fold(0.0, f64::max);
            ensure!(worst < 1e-3, "wrong by {worst}");
            Ok(worst)
        };
        let about = format!("{} ring, {k} bits, keys {} bits", $ring, (dnum + 1) * BASE2K);
        for (name, time, error) in [
            ("rotate", rotate_time, error(&rotated, &|i| values[(i + 1) % slots])?),
            ("mul_relinearize_rescale", multiply_time, error(&product, &|i| values[i] * values[i])?),
            ("encrypt_secret", encrypt_time, error(&cipher, &|i| values[i])?),
        ] {
            row(json!({ "name": name, "n": n, "threads": 1, "about": about, "error": error }), time);
        }
    }};
}

fn main() -> Result<()> {
    measure_ring!(NTT3x42Ifma, "standard", SlotsKind::Complex, 1 << 13, 156);
    measure_ring!(NTT3x42CIIfma, "conjugate-invariant", SlotsKind::Real, 1 << 13, 156);
    measure_ring!(NTT3x42Ifma, "standard", SlotsKind::Complex, 1 << 14, 338);
    measure_ring!(NTT3x42CIIfma, "conjugate-invariant", SlotsKind::Real, 1 << 14, 338);
    Ok(())
}
