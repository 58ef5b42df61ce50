//! The plans of the named networks, and what options change in them.

use super::networks::{cryptonets, micro, mnist, orion, tenseal};
use super::{LowerOptions, Network, agrees, lower};

/// Key switches, NTTs, plain products and key bytes of a plan.
fn plan(network: &Network, options: &LowerOptions) -> (usize, usize, usize, usize) {
    let predicted = agrees(network, options).predicted;
    let counts = predicted.counts;
    (counts.key_switch, counts.ntt, counts.plain_product, predicted.key_bytes)
}

fn n13() -> LowerOptions {
    LowerOptions { limbs: Some(6), ..LowerOptions::new(8192, 2, 2) }
}

fn n12() -> LowerOptions {
    LowerOptions { limbs: Some(4), precise: true, ..LowerOptions::new(4096, 1, 1) }
}

#[test]
fn plan_of_mnist() {
    assert_eq!(plan(&mnist(), &n13()), (49, 270, 52, 16_089_088));
}

#[test]
fn plan_of_mnist_micro() {
    assert_eq!(plan(&micro(), &n12()), (27, 146, 5, 4_521_984));
}

#[test]
fn plan_of_tenseal() {
    assert_eq!(plan(&tenseal(), &n13()), (37, 270, 16, 11_010_048));
}

#[test]
fn plan_of_orion() {
    assert_eq!(plan(&orion(), &n13()), (45, 326, 28, 16_351_232));
}

#[test]
fn plan_of_cryptonets() {
    assert_eq!(plan(&cryptonets(), &n13()), (53, 241, 51, 16_580_608));
}

#[test]
fn more_input_ciphertexts_save_rotations() {
    for network in [mnist(), orion()] {
        let one = agrees(&network, &n13());
        let many = agrees(&network, &LowerOptions { input_ciphertexts: 16, ..n13() });
        assert!(many.program.inputs.len() > 1 && many.program.inputs.iter().all(|i| i.input == 0));
        assert!(many.predicted.us < 0.9 * one.predicted.us, "{} {}", many.predicted.us, one.predicted.us);
    }
}

#[test]
fn more_limbs_stay_to_the_end() {
    let options = LowerOptions { limbs: Some(6), precise: true, ..LowerOptions::new(4096, 2, 2) };
    let lowered = agrees(&micro(), &options);
    assert_eq!(lowered.input_limbs, [6]);
    assert_eq!(lowered.stages.last().map(|s| s.limbs), Some(4));
}

#[test]
fn lowering_is_deterministic() {
    assert_eq!(lower(&cryptonets(), &n13()), lower(&cryptonets(), &n13()));
}
