//! Fixed seeds, stored digests: a change of any format, sampler or plan shows here. `CIPHERLENS_BLESS=1` writes
//! what the code computes now to `fixtures/known-answers.json` and `fixtures/wire`.

use cipherlens::compile::{CompileOptions, compile};
use cipherlens::encrypt::{EncryptionKey, Target, encrypt};
use cipherlens::keys::{PublicKey, SecretKey};
use cipherlens::meta::Meta;
use cipherlens_kernel::engine::Engine;
use cipherlens_kernel::keys::{KeySource, MappedKeys, Stream, expand_uniform};
use cipherlens_kernel::math::{Backend, Modulus};
use cipherlens_kernel::params::named;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::{CiphertextView, KeyBundle};
use cipherlens_tests::assemble::{Assembled, Assembler, Form};
use cipherlens_tests::fixtures::{bless, digits, model, root};
use cipherlens_tests::lab::{Lab, Setup, arena, run};
use cipherlens_tests::{Lcg, sha256};
use std::collections::BTreeMap;

fn bytes_of(row: &[u32]) -> Vec<u8> {
    row.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Compares with the stored answers, or stores these.
fn compare(found: &BTreeMap<String, String>) {
    let path = root().join("fixtures/known-answers.json");
    if bless() {
        std::fs::write(&path, serde_json::to_string_pretty(found).unwrap() + "\n").unwrap();
        return;
    }
    let stored: BTreeMap<String, String> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let names: Vec<_> = stored.keys().chain(found.keys()).collect();
    for name in names {
        assert_eq!(found.get(name), stored.get(name), "the known answer `{name}` changed");
    }
}

/// A program with a rotation and a plaintext of each stored kind, over one or two limbs of n12.
fn sample() -> Assembled {
    let set = named::N12;
    let mut lcg = Lcg::new(31);
    let mut asm = Assembler::new(set, 2, false);
    let x = asm.input(lcg.units(set.n()), 2, 18.0);
    let w: Vec<f64> = lcg.units(set.n()).into_iter().map(|w| w / 8.0).collect();
    let x = asm.mul_plain(&x, &w, 17.0, Form::Compact16, true);
    let x = asm.add_plain(&x, &vec![0.5; set.n()], Form::Scalar);
    let x = asm.rotate_sum(&x, &[3], true, false, 1);
    asm.finish(&[&x])
}

#[test]
fn digests_from_fixed_seeds() {
    let mut found = BTreeMap::new();
    let mut put = |name: String, bytes: &[u8]| assert!(found.insert(name, sha256(bytes)).is_none());
    for set in named::ALL {
        let lab = Lab::new(set, 0);
        let mut rows = Vec::new();
        for t in 0..set.limbs() + set.special() {
            let table = lab.ring.table(set.limbs(), t);
            let mut lcg = Lcg::new(32);
            let mut row: Vec<u32> = (0..set.n()).map(|_| lcg.word() % table.modulus.value()).collect();
            lab.ring.backend.forward(&mut row, &table);
            rows.extend(bytes_of(&row));
        }
        put(format!("ntt-{}", set.name()), &rows);
    }
    let m = Modulus::new(named::N12.q()[1]);
    for (name, stream) in [
        ("ciphertext", Stream::Ciphertext),
        ("public-key", Stream::PublicKey),
        ("key", Stream::Key { code: 5, digit: 1 }),
    ] {
        let mut row = vec![0; named::N12.n()];
        expand_uniform(&mut row, &[7; 32], stream, &m);
        put(format!("uniform-{name}"), &bytes_of(&row));
    }

    let micro = model("mnist-micro");
    let compiled = compile(&micro, &CompileOptions::default()).unwrap();
    let program = Program::verify(&compiled.bytes).unwrap();
    put("mnist-micro-program".into(), &compiled.bytes);
    let mut lab = Lab::new(*program.set(), 33);
    put("mnist-micro-secret-key".into(), &lab.secret.to_bytes());
    put("mnist-micro-public-key".into(), &lab.public.to_bytes());
    let keys = lab.keys(&program);
    put("mnist-micro-keys".into(), &keys);
    let meta: Meta = serde_json::from_slice(program.meta()).unwrap();
    let image = &digits().images[0];
    for (name, public) in [("secret", false), ("public", true)] {
        let packings = &meta.inputs[0].ciphertexts;
        let inputs: Vec<Vec<u8>> =
            packings.iter().map(|p| lab.encrypt(&program, p.index as usize, &p.pack(image), public)).collect();
        put(format!("mnist-micro-input-{name}"), &inputs.concat());
        let outputs = run(program, &keys, &inputs, Setup::default()).unwrap();
        put(format!("mnist-micro-output-{name}"), &outputs.concat());
    }
    compare(&found);
}

/// The name of each stored file and the code that makes it.
fn wire_samples() -> [(&'static str, Vec<u8>); 6] {
    let case = sample();
    let program = Program::verify(&case.bytes).unwrap();
    let mut lab = Lab::new(named::N12, 34);
    let keys = lab.keys(&program);
    let input = lab.encrypt(&program, 0, &case.inputs[0], false);
    let output = run(program, &keys, std::slice::from_ref(&input), Setup::default()).unwrap().remove(0);
    [
        ("secret.cls", lab.secret.to_bytes().to_vec()),
        ("public.clu", lab.public.to_bytes()),
        ("keys.clk", keys),
        ("input.clx", input),
        ("output.clx", output),
        ("program.clp", case.bytes),
    ]
}

#[test]
fn wire_samples_are_what_the_code_writes() {
    for (name, bytes) in wire_samples() {
        let path = root().join("fixtures/wire").join(name);
        if bless() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == bytes, "{name} changed");
    }
}

/// The stored files alone are enough to run, decrypt, and encrypt once more.
#[test]
fn wire_samples_are_read() {
    if bless() {
        return;
    }
    let read = |name: &str| std::fs::read(root().join("fixtures/wire").join(name)).unwrap();
    let (program, keys, input, output) = (read("program.clp"), read("keys.clk"), read("input.clx"), read("output.clx"));
    let program = Program::verify(&program).unwrap();
    assert_eq!(program.set(), &named::N12);
    KeyBundle::new_checked(&keys).unwrap().verify().unwrap();
    assert!(CiphertextView::new_checked(&input).unwrap().header.seed.is_some());
    let result = run(program, &keys, &[input], Setup::default()).unwrap();
    assert!(result[0] == output, "the stored program gives another result");

    let mut lab = Lab::new(named::N12, 35);
    lab.secret = SecretKey::from_bytes(&read("secret.cls"), None).unwrap();
    lab.public = PublicKey::from_bytes(&read("public.clu"), None).unwrap();
    let case = sample();
    let expected = &case.outputs[0];
    let near = |slots: &[f64]| slots.iter().zip(&expected.values).all(|(a, b)| (a - b).abs() < 0.5);
    assert!(near(&lab.decrypt(&output)));

    let source = MappedKeys::verify(&keys).unwrap();
    assert_eq!(source.key_id(), lab.secret.id());
    let mut memory = arena(program.arena_bytes());
    let mut engine = Engine::new(program, source, bytemuck::cast_slice_mut(&mut memory)).unwrap();
    let port = program.input(0).unwrap();
    let target = Target { program: program.fingerprint(), index: 0, limbs: port.limbs, scale: port.scale };
    let key = EncryptionKey::Public(&lab.public);
    let input = encrypt(&case.inputs[0], &target, key, &lab.ring, &lab.encoder, &mut lab.random).unwrap();
    engine.set_input(&input).unwrap();
    engine.run().unwrap();
    let mut bytes = vec![0; engine.output_bytes(0).unwrap()];
    engine.write_output(0, &mut bytes).unwrap();
    assert!(near(&lab.decrypt(&bytes)));
}
