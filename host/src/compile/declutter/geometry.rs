//! Which matrices are convolutions, followed through merges and checked at the end.

use super::matrices::place;
use crate::compile::graph::{ConvGeometry, SparseMatrix};
use crate::compile::import::Window;

/// The geometry of a convolution or pool; none where dilation spreads its taps.
pub(super) fn conv_geometry(
    input: [usize; 3],
    output: [usize; 3],
    window: Window,
    groups: usize,
) -> Option<ConvGeometry> {
    let Window { kernel, stride, pad, .. } = window;
    let dense = (0..2).all(|i| window.dilation[i] == 1 || kernel[i] == 1);
    dense.then_some(ConvGeometry { input, output, kernel, stride, pad, groups })
}

/// An element-wise scaling seen as a convolution, which it is when each channel has one factor.
pub(super) fn pointwise(shape: &[usize]) -> Option<ConvGeometry> {
    let &[c, h, w] = shape else { return None };
    Some(ConvGeometry { input: [c, h, w], output: [c, h, w], kernel: [1; 2], stride: [1; 2], pad: [0; 2], groups: c })
}

/// Zero padding seen as a convolution, which it is when the channels stay.
pub(super) fn pad_geometry(shape: &[usize], before: &[usize], after: &[usize]) -> Option<ConvGeometry> {
    let &[1, c, h, w] = shape else { return None };
    let output = [c + before[1] + after[1], h + before[2] + after[2], w + before[3] + after[3]];
    let pad = [before[2], before[3]];
    let channels_stay = output[0] == c;
    channels_stay.then_some(ConvGeometry { input: [c, h, w], output, kernel: [1; 2], stride: [1; 2], pad, groups: c })
}

/// The geometry of one convolution after another, if it is one; borders are left to [`is_convolution`].
pub(super) fn compose(first: &ConvGeometry, then: &ConvGeometry) -> Option<ConvGeometry> {
    if first.output != then.input {
        return None;
    }
    let each = |f: &dyn Fn(usize) -> usize| [f(0), f(1)];
    Some(ConvGeometry {
        input: first.input,
        output: then.output,
        kernel: each(&|i| first.kernel[i] + (then.kernel[i] - 1) * first.stride[i]),
        stride: each(&|i| first.stride[i] * then.stride[i]),
        pad: each(&|i| first.pad[i] + then.pad[i] * first.stride[i]),
        groups: gcd(first.groups, then.groups),
    })
}

/// The geometry of the sum of two convolutions, if it is one.
pub(super) fn union(a: &ConvGeometry, b: &ConvGeometry) -> Option<ConvGeometry> {
    if (a.input, a.output, a.stride) != (b.input, b.output, b.stride) {
        return None;
    }
    let pad = [a.pad[0].max(b.pad[0]), a.pad[1].max(b.pad[1])];
    let reach = |g: &ConvGeometry, i: usize| g.kernel[i] + pad[i] - g.pad[i];
    let kernel = [reach(a, 0).max(reach(b, 0)), reach(a, 1).max(reach(b, 1))];
    Some(ConvGeometry { kernel, pad, groups: gcd(a.groups, b.groups), ..*a })
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Whether `matrix` applies one kernel at every position, with zeros around the image.
pub(super) fn is_convolution(matrix: &SparseMatrix, g: &ConvGeometry) -> bool {
    let ([channels, h, w], [kh, kw]) = (g.input, g.kernel);
    let (per_group, per_filter) = (channels / g.groups, g.output[0] / g.groups);
    if matrix.rows != g.output.iter().product::<usize>() || matrix.cols != channels * h * w {
        return false;
    }
    let taps = per_group * kh * kw;
    let mut kernel = vec![0.0f64; g.output[0] * taps];
    let mut uses = vec![0usize; kernel.len()];
    for row in 0..matrix.rows {
        let (f, y, x) = place(row, g.output);
        for (col, value) in matrix.row(row) {
            let (channel, iy, ix) = place(col, g.input);
            let tap =
                |i: usize, o: usize, p: usize| (p + g.pad[i]).checked_sub(o * g.stride[i]).filter(|&k| k < g.kernel[i]);
            let (Some(c), Some(ky), Some(kx)) =
                (channel.checked_sub(f / per_filter * per_group), tap(0, y, iy), tap(1, x, ix))
            else {
                return false;
            };
            if c >= per_group {
                return false;
            }
            let at = f * taps + (c * kh + ky) * kw + kx;
            if uses[at] == 0 {
                kernel[at] = value;
            }
            uses[at] += 1;
            if (kernel[at] - value).abs() > 1e-9 * value.abs() {
                return false;
            }
        }
    }
    // Every tap in use is applied wherever it falls inside the image.
    let positions = |i: usize, k: usize, size: usize| {
        (0..g.output[i + 1]).filter(|o| (o * g.stride[i] + k).checked_sub(g.pad[i]).is_some_and(|p| p < size)).count()
    };
    let rows: Vec<usize> = (0..kh).map(|k| positions(0, k, h)).collect();
    let columns: Vec<usize> = (0..kw).map(|k| positions(1, k, w)).collect();
    uses.iter().enumerate().all(|(at, &n)| n == 0 || n == rows[at / kw % kh] * columns[at % kw])
}
