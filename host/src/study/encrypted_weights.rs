//! Encrypted against plain weights: one dense layer of 64 by 64, and one product.
//!
//! Rows lie one after the other, slot 64 i + j holding weight (i, j) and input j, so that an encrypted matrix is one
//! ciphertext and the layer is one product and a sum over 64 slots in two rounds of eight. Plain weights also allow
//! diagonals, which sum before they rotate.

use super::Row;
use super::latency::{Way, measure as latency};
use crate::bench::by_hand;
use crate::compile::simulate::simulate;
use crate::compile::slots::{Diagonal, Register, SlotInput, SlotOp, SlotOpKind, SlotOutput, SlotProgram};
use anyhow::Result;
use cipherlens_kernel::params::ParamSet;

/// Rows and columns of the matrix.
const SIDE: usize = 64;
/// Rotations of each of the two rounds of a sum, and baby steps.
const ROUND: usize = 8;

fn weight(row: usize, column: usize) -> f64 {
    ((row * 37 + column * 11) % 23) as f64 / 11.5 - 1.0
}

fn diagonal(baby: usize, giant: usize, values: Vec<f64>) -> Diagonal {
    Diagonal { source: 0, result: 0, baby: baby as u32, giant: giant as u32, values }
}

/// A layer to measure.
struct Layer {
    strategy: &'static str,
    /// Operations by the limbs that they give up before them.
    ops: Vec<(usize, SlotOpKind)>,
    /// Whether the weights are the second input.
    encrypted: bool,
    outputs: Vec<u32>,
}

fn layers(n: usize) -> Vec<Layer> {
    let area = SIDE * SIDE;
    let by_row = |slot: usize| if slot < area { weight(slot / SIDE, slot % SIDE) } else { 0.0 };
    let plain = |rescale| SlotOpKind::LinearTransform {
        sources: vec![0],
        diagonals: vec![diagonal(0, 0, (0..n).map(by_row).collect())],
        rescale,
    };
    let encrypted = |rescale| SlotOpKind::Mul { a: 0, b: 1, rescale };
    let rounds = |first: SlotOpKind, src: Register| {
        let sum = |src, unit: usize| SlotOpKind::RotateSum {
            src,
            steps: (1..ROUND).map(|i| (i * unit) as u32).collect(),
            rescale: false,
        };
        vec![(0, first), (1, sum(src, 1)), (1, sum(src + 1, ROUND))]
    };
    // Slot i of diagonal d meets input (i + d) mod 64, which repeats in all slots.
    let of = |d: usize| (0..n).map(|i| weight(i % SIDE, (i + d) % SIDE)).collect::<Vec<_>>();
    let mut diagonals: Vec<Diagonal> = (0..SIDE).map(|d| diagonal(d % ROUND, d / ROUND * ROUND, of(d))).collect();
    diagonals.sort_by_key(Diagonal::rank);
    let by_diagonal = SlotOpKind::LinearTransform { sources: vec![0], diagonals, rescale: true };
    let starts: Vec<u32> = (0..SIDE).map(|row| (row * SIDE) as u32).collect();
    let all: Vec<u32> = (0..area as u32).collect();
    let layer =
        |strategy, ops, encrypted, outputs: &[u32]| Layer { strategy, ops, encrypted, outputs: outputs.to_vec() };
    vec![
        layer("product, plain", vec![(0, plain(true))], false, &all),
        layer("product, encrypted", vec![(0, encrypted(true))], true, &all),
        layer("dense 64x64 by rows, plain", rounds(plain(true), 2), false, &starts),
        layer("dense 64x64 by rows, encrypted", rounds(encrypted(true), 2), true, &starts),
        layer("dense 64x64 by diagonals, plain", vec![(0, by_diagonal)], false, &(0..SIDE as u32).collect::<Vec<_>>()),
    ]
}

/// Measures the layers at three limbs of `set`, or as many as it has.
///
/// # Errors
/// As the measurement of a program.
pub fn measure(set: ParamSet, repetitions: usize) -> Result<Vec<Row>> {
    let (n, limbs) = (set.n(), set.limbs().min(3));
    let x: Vec<f64> = (0..SIDE).map(|j| (j % 7) as f64 / 7.0).collect();
    let w: Vec<f64> = (0..SIDE * SIDE).map(|i| weight(i / SIDE, i % SIDE)).collect();
    let mut rows: Vec<Row> = Vec::new();
    for Layer { strategy, ops, encrypted, outputs } in layers(n) {
        let repeated = (0..n).map(|slot| Some((slot % SIDE) as u32)).collect();
        let matrix = (0..n).map(|slot| (slot < SIDE * SIDE).then_some(slot as u32)).collect();
        let mut inputs = vec![SlotInput { register: 0, input: 0, element: repeated }];
        let mut values = vec![x.clone()];
        if encrypted {
            inputs.push(SlotInput { register: 1, input: 1, element: matrix });
            values.push(w.clone());
        }
        let levels = ops.iter().map(|op| limbs - op.0).collect();
        let op =
            |(i, (_, kind)): (usize, (usize, SlotOpKind))| SlotOp { layer: "layer".into(), results: vec![2 + i], kind };
        let ops: Vec<SlotOp> = ops.into_iter().enumerate().map(op).collect();
        let outputs = vec![SlotOutput { register: 1 + ops.len(), output: 0, slot: outputs }];
        let program = SlotProgram { n, registers: 2 + ops.len(), inputs, ops, outputs };
        let clear: Vec<f32> = simulate(&program, &values)[0].iter().map(|&y| y as f32).collect();
        let bytes = by_hand(set, program, limbs, levels, &values)?;
        let inputs: Vec<Vec<f32>> = values.iter().map(|v| v.iter().map(|&x| x as f32).collect()).collect();
        let row = latency(&bytes, &inputs, &clear, 1, &Way::prepared(repetitions))?.named("weights", strategy);
        // Against the first row of the same layer, which has plain weights.
        let layer = |strategy: &str| strategy.split([' ', ',']).next().map(str::to_owned);
        let first = rows.iter().find(|r| layer(&r.strategy) == layer(strategy)).cloned();
        rows.push(match first {
            Some(first) => row.against(&first),
            None => row,
        });
    }
    Ok(rows)
}
