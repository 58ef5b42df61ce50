//! Programs of networks of every form.

use super::networks::{Builder, residual, tenseal, three_convolutions};
use super::{LowerOptions, Op, agrees, close, lower, reference, simulate};
use crate::compile::graph::Tensor;

#[test]
fn deeper_networks_agree() {
    let residual = agrees(&residual(), &LowerOptions::new(8192, 2, 2));
    assert!(residual.predicted.us < 19_000.0, "{}", residual.predicted.us);
    let cnn = agrees(&three_convolutions(), &LowerOptions::new(8192, 2, 2));
    assert!(cnn.predicted.us < 24_000.0, "{}", cnn.predicted.us);
    agrees(&three_convolutions(), &LowerOptions::new(16384, 3, 3));
}

#[test]
fn strided_colour_network_agrees() {
    let mut b = Builder::new("strided", &[3, 32, 32], 12);
    b.conv(8, 3, 2, 1, 16, 1).square().conv(16, 3, 2, 1, 8, 1).square().conv(32, 3, 2, 1, 4, 1).square();
    let network = b.dense(64).square().dense(10).finish();
    let lowered = agrees(&network, &LowerOptions::new(16384, 3, 3));
    assert!(lowered.predicted.us < 66_000.0, "{}", lowered.predicted.us);
}

#[test]
fn folding_before_the_rescale_agrees() {
    for network in [tenseal(), residual()] {
        agrees(&network, &LowerOptions { precise: true, ..LowerOptions::new(8192, 2, 2) });
    }
}

#[test]
fn products_of_two_tensors_align() {
    let mut b = Builder::new("cube", &[40], 8);
    let x = b.dense(12).last();
    let squared = b.square().last();
    b.stage("cube", vec![12], Op::Mul(squared, x));
    agrees(&b.finish(), &LowerOptions::new(512, 2, 2));

    let mut b = Builder::new("gate", &[40], 9);
    let gate = b.dense(12).last();
    let rows = (0..12).map(|r| (0..40).map(|c| (c, f64::from(r * c % 7) - 3.0)).collect()).collect();
    let term = b.term(0, rows, None);
    let value = b.affine("value", vec![12], vec![term]);
    b.stage("gate", vec![12], Op::Mul(gate, value));
    agrees(&b.finish(), &LowerOptions::new(512, 2, 2));
}

#[test]
fn zero_rows_and_zero_matrices() {
    let mut b = Builder::new("zero", &[10], 10);
    let term = b.term(0, (0..6).map(|r| if r % 2 == 0 { vec![(r, 1.5)] } else { vec![(r, 0.0)] }).collect(), None);
    let sparse = b.affine("sparse", vec![6], vec![term]);
    let term = b.term(sparse, vec![Vec::new(); 3], None);
    b.affine("constant", vec![3], vec![term]);
    agrees(&b.finish(), &LowerOptions::new(64, 1, 1));
}

#[test]
fn two_inputs_and_two_outputs() {
    let mut b = Builder::new("pair", &[20], 11);
    b.network.tensors.push(Tensor { name: "second".to_owned(), shape: vec![30] });
    b.network.inputs.push(1);
    let first = b.term(0, (0..8).map(|r| (0..20).map(|c| (c, f64::from(c + r) * 0.1)).collect()).collect(), None);
    let second = b.term(1, (0..8).map(|r| (0..30).map(|c| (c, f64::from(c * r % 5) * 0.1)).collect()).collect(), None);
    let sum = b.affine("sum", vec![8], vec![first, second]);
    let last = b.square().dense(5).last();
    b.network.outputs = vec![last, sum];
    let network = b.network.clone();
    let lowered = lower(&network, &LowerOptions::new(256, 2, 2)).unwrap();
    let inputs = [(0..20).map(f64::from).collect(), (0..30).map(|i| f64::from(i) - 10.0).collect()];
    close(&simulate(&lowered.program, &inputs), &reference(&network, &inputs));
}
