//! The network against the model it came from, and the number and shape of its stages.

use std::path::Path;

use super::*;
use crate::compile::graph::Op;
use crate::compile::import::{import, load};
use crate::compile::onnx::testing::{Builder, int, ints};
use growth::{Growth, Rng};

mod growth;

/// Compares the outputs of model and network on a seeded input.
fn check(model: &ModelGraph, seed: u64) -> Network {
    let network = declutter(model).unwrap();
    let n = model.tensors[model.inputs[0]].len();
    let input = Rng(seed | 1).values(n, 1.0);
    let clear = model.evaluate_all(std::slice::from_ref(&input)).unwrap();
    let stages = network.evaluate(&[input.iter().map(|&v| f64::from(v)).collect()]).unwrap();
    for (&a, &b) in model.outputs.iter().zip(&network.outputs) {
        assert_eq!(model.tensors[a], network.tensors[b]);
        // Cancellation in an activation's polynomial is judged by the largest value before it.
        let size = clear.iter().flatten().fold(1.0f64, |m, v| m.max(f64::from(v.abs())));
        for (x, y) in clear[a].iter().zip(&stages[b]) {
            assert!((f64::from(*x) - y).abs() <= 1e-5 * size, "{x} and {y}, largest {size}");
        }
        assert_eq!(clear[a].len(), stages[b].len());
    }
    network
}

fn names(network: &Network) -> Vec<&str> {
    network.stages.iter().map(|s| s.name.as_str()).collect()
}

fn products(network: &Network) -> usize {
    network.stages.iter().filter(|s| matches!(s.op, Op::Mul(..))).count()
}

#[test]
fn random_models_compute_the_same() {
    for seed in 0..300 {
        let mut g = Growth::new(seed, [2, 6, 5]);
        for _ in 0..2 + g.rng.below(5) {
            match g.rng.below(9) {
                0 | 1 => g.conv(false),
                2 => g.norm(),
                3 => g.activation(),
                4 => g.pool(),
                5 => g.pad(),
                6 => g.residual(),
                7 => g.skip(),
                _ if g.shape[1] < 8 => g.upconv(),
                _ => g.activation(),
            }
        }
        if g.rng.below(2) == 0 {
            g.dense();
        }
        if g.at != "x" {
            check(&g.finish(), seed);
        }
    }
}

#[test]
fn a_square_network_is_five_stages() {
    let mut b = Builder::new(&[1, 1, 8, 8]);
    let w = Rng(5).values(1000, 0.3);
    b.floats("conv1.weight", &[2, 1, 3, 3], &w[..18]).floats("fc1.weight", &[5, 32], &w[..160]);
    b.floats("fc2.weight", &[3, 5], &w[..15]).floats("fc1.bias", &[5], &w[..5]);
    let geometry = [ints("strides", &[2, 2]), ints("pads", &[1, 1, 0, 0])];
    b.node("Conv", &["x", "conv1.weight"], "c", &geometry).node("Mul", &["c", "c"], "/Mul", &[]);
    b.node("Flatten", &["/Mul"], "f", &[]).node("Gemm", &["f", "fc1.weight", "fc1.bias"], "d", &[int("transB", 1)]);
    b.node("Mul", &["d", "d"], "/Mul_1", &[]).node("Gemm", &["/Mul_1", "fc2.weight"], "y", &[int("transB", 1)]);
    b.output("y");
    let network = check(&import(&b.0, Path::new("."), None).unwrap(), 1);
    assert_eq!(names(&network), ["conv1", "square1", "fc1", "square2", "fc2"]);
    let Op::Affine { terms, .. } = &network.stages[0].op else { panic!("an affine stage") };
    let conv = terms[0].conv.unwrap();
    assert_eq!((conv.input, conv.output), ([1, 8, 8], [2, 4, 4]));
    assert_eq!((conv.kernel, conv.stride, conv.pad, conv.groups), ([3, 3], [2, 2], [1, 1], 1));
}

#[test]
fn activations_cost_one_product_and_no_stage() {
    for seed in 0..60 {
        let mut g = Growth::new(seed, [1, 4, 4]);
        g.pad();
        g.conv(true);
        g.norm();
        g.activation();
        g.dense();
        let network = check(&g.finish(), seed);
        let shape: Vec<bool> = network.stages.iter().map(|s| matches!(s.op, Op::Mul(..))).collect();
        assert_eq!(shape, [false, true, false], "seed {seed}: {:?}", names(&network));
        let Op::Affine { terms, .. } = &network.stages[0].op else { panic!("an affine stage") };
        assert_eq!(terms.len(), 1);
        assert_eq!(terms[0].conv.unwrap().pad, [2, 1], "the pad joins the convolution");
        assert_eq!(terms[0].conv.unwrap().kernel, [3, 3]);
    }
}

#[test]
fn a_trailing_activation_ends_in_an_affine_stage() {
    let mut b = Builder::new(&[1, 3]);
    b.floats("w", &[3, 2], &[1., 2., 3., 4., 5., 6.]).floats("a", &[2], &[0.5, -2.0]).floats("b", &[2], &[3.0, 1.0]);
    b.node("MatMul", &["x", "w"], "h", &[]).node("Mul", &["h", "h"], "s", &[]).node("Mul", &["a", "s"], "as", &[]);
    b.node("Mul", &["h", "b"], "bh", &[]).node("Add", &["as", "bh"], "y", &[]).output("y");
    let network = check(&import(&b.0, Path::new("."), None).unwrap(), 3);
    let [first, square, last] = network.stages.as_slice() else { panic!("three stages") };
    assert!(matches!(&first.op, Op::Affine { bias, .. } if bias == &[3.0, -0.25]));
    assert!(matches!(square.op, Op::Mul(a, b) if a == b));
    assert!(matches!(&last.op, Op::Affine { bias, terms } if bias == &[-4.5, 0.125] && terms.len() == 1));
}

#[test]
fn squares_far_from_the_origin_are_not_completed() {
    let mut b = Builder::new(&[1, 2]);
    b.floats("w", &[2, 2], &[1., 2., 3., 4.]).floats("a", &[], &[0.001]);
    b.node("MatMul", &["x", "w"], "h", &[]).node("Mul", &["h", "h"], "s", &[]);
    b.node("Mul", &["a", "s"], "as", &[]).node("Add", &["as", "h"], "y", &[]).output("y");
    let network = check(&import(&b.0, Path::new("."), None).unwrap(), 3);
    assert!(matches!(&network.stages[2].op, Op::Affine { terms, .. } if terms.len() == 2));
}

#[test]
fn a_shared_tensor_is_computed_once() {
    let mut g = Growth::new(7, [2, 4, 4]);
    g.conv(true);
    let shared = g.at.clone();
    let (s, a) = (g.node("Mul", &[&shared, &shared], &[]), g.weights(&[2, 1, 1], 1.0));
    let scaled = g.node("Mul", &[&a, &shared], &[]);
    g.at = g.node("Add", &[&s, &scaled], &[]);
    g.conv(true);
    g.then("Add", &[&shared], &[]);
    let network = check(&g.finish(), 7);
    // conv, square, and one stage that adds conv(square) and the shared tensor.
    assert_eq!(network.stages.len(), 3, "{:?}", names(&network));
    let Op::Affine { terms, .. } = &network.stages[2].op else { panic!("an affine stage") };
    assert_eq!(terms.len(), 2);
}

#[test]
fn pools_join_the_map_before_them_and_not_the_one_after() {
    let mut b = Builder::new(&[1, 1, 16, 16]);
    let w = Rng(3).values(36, 1.0);
    b.floats("v", &[1, 1, 3, 3], &w[..9]).floats("w", &[4, 1, 3, 3], &w);
    let pool = [ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
    let same = [ints("pads", &[1, 1, 1, 1])];
    b.node("Conv", &["x", "v"], "c", &same).node("AveragePool", &["c"], "p", &pool);
    b.node("Mul", &["p", "p"], "s", &[]).node("AveragePool", &["s"], "q", &pool);
    b.node("Conv", &["q", "w"], "y", &same).output("y");
    let network = check(&import(&b.0, Path::new("."), None).unwrap(), 3);
    assert_eq!(names(&network), ["c", "s", "q", "y"]);
    let term = |s: usize| match &network.stages[s].op {
        Op::Affine { terms, .. } => terms[0].clone(),
        Op::Mul(..) => panic!("an affine stage"),
    };
    let merged = term(0).conv.unwrap();
    assert_eq!((merged.kernel, merged.stride, merged.pad), ([4, 4], [2, 2], [1, 1]));
    assert_eq!(term(2).matrix.uniform_value(), Some(1.0), "the next weights divide");
    assert!(term(2).conv.is_some() && term(3).conv.is_some());
    assert!(worth_merging(2, 4) && !worth_merging(2, 5));
}

#[test]
fn concatenations_join_their_readers() {
    let mut b = Builder::new(&[1, 2, 4, 4]);
    let w = Rng(3).values(200, 0.5);
    b.floats("w", &[2, 2, 3, 3], &w[..36]).floats("v", &[3, 4, 3, 3], &w[..108]);
    let same = [ints("pads", &[1, 1, 1, 1])];
    b.node("Conv", &["x", "w"], "c1", &same).node("Mul", &["c1", "c1"], "s1", &[]);
    b.node("Conv", &["s1", "w"], "c2", &same).node("Mul", &["c2", "c2"], "s2", &[]);
    b.node("Concat", &["s2", "s1"], "cat", &[int("axis", 1)]);
    b.node("Conv", &["cat", "v"], "y", &same).output("y");
    let network = check(&import(&b.0, Path::new("."), None).unwrap(), 11);
    assert_eq!(names(&network), ["c1", "s1", "c2", "s2", "y"]);
    let Op::Affine { terms, .. } = &network.stages[4].op else { panic!("an affine stage") };
    assert_eq!(terms.len(), 2);
    assert!(terms.iter().all(|t| t.conv.is_some_and(|g| g.input == [2, 4, 4])));
}

#[test]
fn layers_too_large_or_too_hot_are_named() {
    let mut b = Builder::new(&[1, 1, 1024, 1024]);
    b.floats("w", &[4, 1, 11, 11], &[0.1; 484]).node("Conv", &["x", "w"], "big", &[]).output("big");
    let error = declutter(&import(&b.0, Path::new("."), None).unwrap()).unwrap_err();
    assert!(error.to_string().starts_with("layer \"big\" needs a matrix of 497646864 entries"), "{error}");
    let mut b = Builder::new(&[1, 1]);
    b.floats("w", &[], &[1e38]);
    let mut at = "x".to_string();
    for k in 0..9 {
        b.node("Mul", &[&at, "w"], &format!("y{k}"), &[]);
        at = format!("y{k}");
    }
    b.output(&at);
    let error = declutter(&import(&b.0, Path::new("."), None).unwrap()).unwrap_err();
    assert_eq!(error, DeclutterError::NotFinite { layer: "y8".into() });
}

#[test]
fn repository_models_import() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files: Vec<_> = entries.map(|e| e.path()).collect();
    for path in files.iter().filter(|p| p.extension().is_some_and(|e| e == "onnx")) {
        let model = load(path, None).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let network = check(&model, 99);
        if path.ends_with("mnist.onnx") {
            assert_eq!(network.stages.len(), 5, "{:?}", names(&network));
            assert_eq!(products(&network), 2);
            assert_eq!(network.tensors[network.outputs[0]].shape, [10]);
        }
    }
}
