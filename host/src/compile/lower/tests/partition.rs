//! Tensors of several ciphertexts.

use super::networks::{Builder, Random};
use super::{LowerOptions, Op, agrees, close, lower, reference, simulate};
use crate::compile::graph::{ConvGeometry, LayoutKind, Network};
use crate::compile::interleave::interleave;
use crate::compile::slots::SlotOpKind;
use crate::compile::space_to_depth::space_to_depth;
use proptest::prelude::*;

/// Sources and results of every linear transform of the lowered network.
fn transforms(network: &Network, n: usize) -> Vec<(usize, usize)> {
    let lowered = agrees(network, &LowerOptions::new(n, 2, 2));
    let shape = |op: &crate::compile::slots::SlotOp| match &op.kind {
        SlotOpKind::LinearTransform { sources, .. } => Some((sources.len(), op.results.len())),
        _ => None,
    };
    lowered.program.ops.iter().filter_map(shape).collect()
}

#[test]
fn a_colour_image_in_three_ciphertexts() {
    let network = Builder::new("colour", &[3, 16, 16], 21).conv(1, 3, 1, 1, 16, 1).square().dense(5).finish();
    assert_eq!(transforms(&network, 256), [(3, 1), (1, 1)]);
}

#[test]
fn maps_in_several_ciphertexts() {
    let mut b = Builder::new("maps", &[3, 16, 16], 22);
    b.conv(5, 3, 1, 1, 16, 1).square().conv(4, 3, 2, 1, 8, 1).square().dense(5);
    // Five maps of 256 in ciphertexts of 512 slots: two, two and one.
    assert_eq!(transforms(&b.finish(), 512), [(2, 3), (3, 1), (1, 1)]);
}

#[test]
fn pooled_and_dense_layers_read_all_pieces() {
    let pooled = Builder::new("pooled", &[4, 16, 16], 23).conv(4, 3, 1, 1, 16, 1).square().pool(4).dense(3).finish();
    agrees(&pooled, &LowerOptions::new(256, 2, 2));
    let dense = Builder::new("dense", &[300], 24).dense(200).square().dense(7).finish();
    agrees(&dense, &LowerOptions::new(128, 2, 2));
}

#[test]
fn a_skip_connection_over_pieces() {
    let mut b = Builder::new("skip", &[2, 16, 16], 25);
    let start = b.conv(2, 3, 1, 1, 16, 1).square().last();
    let inner = b.conv(2, 3, 1, 1, 16, 1).square().last();
    let conv = ConvGeometry {
        input: [2, 16, 16],
        output: [2, 16, 16],
        kernel: [3; 2],
        stride: [1; 2],
        pad: [1; 2],
        groups: 1,
    };
    let path = b.conv_term(inner, conv);
    let skip = b.term(start, (0..512).map(|i| vec![(i, 1.0)]).collect(), None);
    b.affine("add", vec![2, 16, 16], vec![path, skip]);
    agrees(&b.square().dense(4).finish(), &LowerOptions::new(256, 2, 2));
}

#[test]
fn a_strided_convolution_reads_phases() {
    let mut b = Builder::new("strided", &[3, 32, 32], 26);
    let network = b.conv(4, 8, 4, 2, 8, 1).square().conv(8, 3, 2, 1, 4, 1).square().dense(3).finish();
    let lowered = agrees(&network, &LowerOptions::new(1024, 2, 2));
    // Three ciphertexts of 16 phases of 8 x 8: 16 channels times 9 taps at most, not 11 x 11 taps.
    let diagonals = |kind: &SlotOpKind| match kind {
        SlotOpKind::LinearTransform { diagonals, .. } => Some(diagonals.len()),
        _ => None,
    };
    let first = lowered.program.ops.iter().find_map(|op| diagonals(&op.kind));
    assert!(first.is_some_and(|d| d <= 3 * 16 * 9), "{first:?}");
}

/// Two steps down, two up, with skip connections by concatenation.
fn u_net() -> Network {
    let mut b = Builder::new("u-net", &[3, 32, 32], 33);
    let first = b.conv(8, 4, 2, 1, 16, 1).square().last();
    b.conv(8, 3, 2, 1, 8, 1).square();
    let low = b.last();
    let up = b.upsample(low, 4);
    let conv = |channels: usize| ConvGeometry {
        input: [channels, 16, 16],
        output: [4, 16, 16],
        kernel: [3; 2],
        stride: [1; 2],
        pad: [1; 2],
        groups: 1,
    };
    let (a, skip) = (b.conv_term(up, conv(4)), b.conv_term(first, conv(8)));
    b.affine("merge", vec![4, 16, 16], vec![a, skip]);
    let last = b.square().last();
    b.upsample(last, 1);
    b.finish()
}

#[test]
fn a_u_net() {
    let lowered = agrees(&u_net(), &LowerOptions::new(1024, 2, 2));
    let diagonals = |layer: &str| {
        let ops = lowered.program.ops.iter().filter(|op| op.layer.starts_with(layer));
        let kinds = ops.filter_map(|op| {
            if let SlotOpKind::LinearTransform { diagonals, .. } = &op.kind { Some(diagonals.len()) } else { None }
        });
        kinds.collect::<Vec<_>>()
    };
    // Structure was found: a generic layout takes hundreds.
    assert!(diagonals("up").iter().all(|&d| d <= 50), "{:?}", diagonals("up"));
    assert!(diagonals("merge")[0] <= 200, "{:?}", diagonals("merge"));
}

/// The layout for comparison computes the same, with a ciphertext for each channel and many more rotations.
#[test]
fn volley_revolver() {
    let options = LowerOptions::new(1024, 2, 2);
    let searched = agrees(&u_net(), &options);
    let lowered = agrees(&Network { layout: LayoutKind::VolleyRevolver, ..u_net() }, &options);
    assert_eq!(lowered.program.inputs.len(), 3);
    assert!(lowered.predicted.counts.rotation > 3 * searched.predicted.counts.rotation);
    let mut b = Builder::new("classifier", &[2, 16, 16], 34);
    let network = b.conv(3, 3, 1, 1, 16, 1).square().conv(2, 3, 2, 0, 7, 1).square().pool(7).dense(4).finish();
    agrees(&Network { layout: LayoutKind::VolleyRevolver, ..network }, &LowerOptions::new(256, 2, 2));
}

#[test]
fn images_side_by_side() {
    let mut b = Builder::new("images", &[3, 16, 16], 29);
    let mut network = b.conv(4, 3, 2, 1, 8, 1).square().dense(9).square().dense(3).finish();
    for images in [1, 2, 4, 8] {
        network.images = images;
        let mut lowered = lower(&network, &LowerOptions::new(2048, 2, 2)).unwrap();
        let steps = lowered.predicted.keys.rotations.len();
        interleave(&mut lowered);
        assert_eq!(lowered.program.n, 2048);
        assert_eq!(lowered.predicted.keys.rotations.len(), steps);
        let mut random = Random(30 + images as u64);
        let each: Vec<Vec<f64>> = (0..images).map(|_| (0..768).map(|_| random.value()).collect()).collect();
        let expected: Vec<f64> =
            each.iter().flat_map(|x| reference(&network, std::slice::from_ref(x)).remove(0)).collect();
        close(&simulate(&lowered.program, &[each.concat()]), &[expected]);
        let used = |step: &u32| (*step as usize).is_multiple_of(images);
        assert!(lowered.predicted.keys.rotations.keys().all(used));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..Default::default() })]
    #[test]
    fn random_networks_over_several_ciphertexts(
        seed in 1u64.., channels in 1usize..5, maps in 1usize..6, stride in 1usize..3, around in 0usize..2,
    ) {
        let (kernel, out) = (2 * around + 1, 16 / stride);
        let mut b = Builder::new("random", &[channels, 16, 16], seed);
        b.conv(maps, kernel, stride, around, out, 1).square().conv(maps, kernel, 1, around, out, 1);
        agrees(&b.square().dense(4).finish(), &LowerOptions::new(256, 2, 2));
    }

    #[test]
    fn the_rearranged_convolution_is_the_same(
        channels in 1usize..3, side in 5usize..12, kernel in 1usize..5, stride in 2usize..4, pad in 0usize..3,
    ) {
        let out = (side + 2 * pad - kernel) / stride + 1;
        let network = Builder::new("conv", &[channels, side, side], 27).conv(2, kernel, stride, pad, out, 1).finish();
        let (rearranged, maps) = space_to_depth(&network).unwrap();
        let mut random = Random(28);
        let x: Vec<f64> = (0..channels * side * side).map(|_| random.value()).collect();
        let moved: Vec<f64> = maps[0].as_ref().unwrap().iter().map(|e| e.map_or(0.0, |e| x[e as usize])).collect();
        let [before, after] = [&network, &rearranged].map(|n| match &n.stages[0].op {
            Op::Affine { terms, .. } => terms[0].clone(),
            Op::Mul(..) => unreachable!("a convolution"),
        });
        let (expected, found) = (before.matrix.matvec(&x), after.matrix.matvec(&moved));
        prop_assert!(expected.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-12));
        // The geometry describes the matrix: every entry is a tap.
        let conv = after.conv.unwrap();
        let [_, height, width] = conv.input;
        for row in 0..after.matrix.rows {
            let position = row % (conv.output[1] * conv.output[2]);
            for (column, _) in after.matrix.row(row) {
                let at = [column / width % height, column % width];
                let window = [position / conv.output[2], position % conv.output[2]];
                for axis in 0..2 {
                    let tap = (at[axis] + conv.pad[axis]).checked_sub(window[axis]);
                    prop_assert!(tap.is_some_and(|tap| tap < conv.kernel[axis]));
                }
            }
        }
    }
}
