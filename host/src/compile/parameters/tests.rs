//! The search: what it finds is secure, precise enough, and no slower than a named set.

use super::super::declutter::declutter;
use super::super::outline::{Block, Entry, Outline, Step, Weights};
use super::super::schedule::best;
use super::*;
use crate::models;
use cipherlens_kernel::params::{log2_q16, max_log_qp, named};
use proptest::prelude::*;

fn network(name: &str) -> Network {
    let model = models::ALL.iter().find(|m| m.name == name).expect("an embedded model");
    declutter(&model.graph()).expect("a network")
}

fn samples(network: &Network) -> Vec<Vec<f64>> {
    let len = network.tensors[network.inputs[0]].len();
    (0..4).map(|k| (0..len).map(|i| ((i * (7 + k)) % 16) as f64 / 16.0).collect()).collect()
}

fn log_qp(set: &ParamSet) -> u32 {
    set.q().iter().chain(set.p()).map(|&p| log2_q16(p)).sum()
}

#[test]
fn a_search_beats_every_named_set() {
    for (name, required) in [("mnist-micro", 7.25), ("mnist-micro", 8.0), ("tenseal-cnn", 8.0)] {
        let network = network(name);
        let samples = samples(&network);
        let found = search(&network, &samples, required).unwrap();
        assert!(found.schedule.precision >= required, "{name}: {}", found.schedule.precision);
        assert!(log_qp(&found.set) <= max_log_qp(found.set.log_n()) << 16);
        assert_eq!(found.trials.iter().filter(|t| t.rejected.is_none()).count(), 1);
        for set in named::ALL {
            let Ok(other) = under(&network, &samples, set, required) else { continue };
            if other.schedule.precision >= required {
                assert!(found.lowered.predicted.us <= NEAR * other.lowered.predicted.us, "{name}, {}", set.name());
            }
        }
        let again = search(&network, &samples, required).unwrap();
        assert_eq!(found.set, again.set);
        assert_eq!((found.lowered, found.schedule), (again.lowered, again.schedule));
    }
}

#[test]
fn what_cannot_be_had_is_listed() {
    let network = network("mnist-micro");
    let reasons = search(&network, &samples(&network), 30.0).err().unwrap().join("\n");
    assert!(reasons.contains("N = 2048: 53 bits are too few") && reasons.contains("not precise enough"), "{reasons}");
}

/// Layers of one linear transform, a fold and a square, and a linear layer last.
fn chain(log_n: u32, squares: usize, size: f64) -> Outline {
    let mut entries = Vec::new();
    let mut push = |step, rescale| {
        let dst = entries.len() + 1;
        entries.push(Entry { layer: String::new(), results: vec![dst], limbs: 1, rescale, step });
        dst
    };
    let weights = Weights {
        babies: vec![vec![1, 2, 3]],
        giants: vec![vec![4]],
        blocks: vec![vec![Block {
            diagonals: 8,
            stored: 8,
            in_place: true,
            power: 1.0,
            rotated_power: 0.75,
            met_power: 8.0 * size * size,
            mean_abs: 0.25,
        }]],
    };
    let mut src = 0;
    for layer in 0..=squares {
        src = push(Step::Linear { sources: vec![src], weights: weights.clone() }, true);
        src = push(Step::RotateSum { src, steps: vec![64, 128, 192] }, false);
        if layer < squares {
            src = push(Step::Mul { a: src, b: src }, true);
        }
    }
    let products = (0..entries.len()).filter(|&i| matches!(entries[i].step, Step::Mul { .. })).collect();
    let chains = (0..entries.len() - 1).filter(|&i| matches!(entries[i].step, Step::Linear { .. }));
    let mut outline = Outline {
        n: 1 << log_n,
        chains: chains.map(|i| vec![i, i + 1]).collect(),
        power: vec![size * size; src + 1],
        mean_abs: vec![size; src + 1],
        inputs: vec![(0, 1)],
        outputs: vec![(src, size)],
        entries,
        products,
        peers: (0..=src).collect(),
    };
    outline.rescale_products(&[]);
    outline
}

#[test]
fn levels_follow_from_rescales() {
    let limbs = |o: &Outline| o.entries.iter().map(|e| e.limbs).collect::<Vec<_>>();
    let mut outline = chain(12, 1, 1.0);
    assert_eq!(limbs(&outline), [4, 3, 3, 2, 1]);
    outline.rescale_at(0, 1);
    assert_eq!((limbs(&outline), outline.position(0)), (vec![4, 4, 3, 2, 1], 1));
    let products = outline.products.clone();
    outline.rescale_products(&products);
    assert_eq!((limbs(&outline), outline.limbs()), (vec![3, 3, 2, 2, 1], 3));
    assert!(outline.is_unrescaled(3) && !outline.is_unrescaled(2));
    assert_eq!(outline.keys().rotations[&64], 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sizes_are_secure_and_no_worse_than_even(
        log_n in 12u32..15, squares in 0usize..4, digit in 1usize..4, special in 1usize..4, size in 0.05f64..4.0,
    ) {
        let outline = chain(log_n, squares, size);
        let shape = Shape { log_n, limbs: outline.limbs(), special, digit };
        let primes = Primes::new(log_n, shape.limbs + MAX_SPECIAL);
        let budget = 2 * max_log_qp(log_n);
        let even = (budget / (shape.limbs + special) as u32).min(super::super::primes::MOST);
        let split = primes.pick(vec![even; shape.limbs + special].into_iter());
        let even = split.and_then(|all| {
            ParamSet::checked("even", log_n, &all[special..], &all[..special], digit).ok()
        });
        match sized(&outline, &primes, shape, 0.0) {
            Ok(found) => {
                let set = found.set;
                prop_assert!(log_qp(&set) <= max_log_qp(log_n) << 16);
                prop_assert_eq!((set.limbs(), set.special(), set.digit()), (shape.limbs, special, digit));
                prop_assert_eq!(set.name(), shape.name());
                let schedule = schedule_for(&outline, &set, &found.aims).unwrap();
                prop_assert!((schedule.precision - found.precision).abs() < 1e-9);
                if let Some(Ok((precision, _))) = even.map(|set| best(&outline, &Moduli::of(&set)))
                    && precision > 0.0
                {
                    prop_assert!(found.precision > precision - 0.5, "{} and {precision}", found.precision);
                }
            }
            Err(why) => prop_assert!(even.is_none_or(|set| best(&outline, &Moduli::of(&set)).is_err()), "{}", why),
        }
    }
}
