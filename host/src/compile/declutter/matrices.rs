//! The matrices of layers over flat tensors.

use crate::compile::graph::SparseMatrix;
use crate::compile::import::{AveragePool, Conv, Dense, Window};

/// The bias of a convolution for every output element.
pub(super) fn plane_bias(c: &Conv) -> Vec<f64> {
    c.bias.iter().flat_map(|&b| std::iter::repeat_n(f64::from(b), c.output[1] * c.output[2])).collect()
}

/// Channel, row and column of a flat index into `[C, h, w]`.
pub(super) fn place(index: usize, [_, h, w]: [usize; 3]) -> (usize, usize, usize) {
    (index / (h * w), index / w % h, index % w)
}

/// The input position that tap `k` reads for output `o` along axis `i`, unless it is padding.
fn source(window: &Window, i: usize, o: usize, k: usize, size: usize) -> Option<usize> {
    (o * window.stride[i] + k * window.dilation[i]).checked_sub(window.pad[i]).filter(|&p| p < size)
}

pub(super) fn conv_matrix(c: &Conv) -> SparseMatrix {
    let ([channels, h, w], [kh, kw]) = (c.input, c.window.kernel);
    let (per_group, per_filter) = (channels / c.groups, c.output[0] / c.groups);
    SparseMatrix::from_rows(c.output.iter().product(), channels * h * w, |row, out| {
        let (f, y, x) = place(row, c.output);
        for k in 0..per_group * kh {
            let (channel, ky) = (f / per_filter * per_group + k / kh, k % kh);
            let Some(iy) = source(&c.window, 0, y, ky, h) else {
                continue;
            };
            for kx in 0..kw {
                if let Some(ix) = source(&c.window, 1, x, kx, w) {
                    let weight = c.weight[(f * per_group * kh + k) * kw + kx];
                    out.push(((channel * h + iy) * w + ix, f64::from(weight)));
                }
            }
        }
    })
}

pub(super) fn conv_transpose_matrix(c: &Conv) -> SparseMatrix {
    let ([channels, h, w], [kh, kw]) = (c.input, c.window.kernel);
    let (per_group, per_filter) = (channels / c.groups, c.output[0] / c.groups);
    // Taps (input position, kernel position) that reach output `o`, by ascending input position.
    let taps = |i: usize, o: usize, size: usize| {
        let (window, reach) = (&c.window, o + c.window.pad[i]);
        let mut taps: Vec<(usize, usize)> = (0..window.kernel[i])
            .filter_map(|k| {
                let from = reach.checked_sub(k * window.dilation[i])?;
                let position = from / window.stride[i];
                (from % window.stride[i] == 0 && position < size).then_some((position, k))
            })
            .collect();
        taps.sort_unstable();
        taps
    };
    let rows: Vec<_> = (0..c.output[1]).map(|y| taps(0, y, h)).collect();
    let columns: Vec<_> = (0..c.output[2]).map(|x| taps(1, x, w)).collect();
    SparseMatrix::from_rows(c.output.iter().product(), channels * h * w, |row, out| {
        let (f, y, x) = place(row, c.output);
        let group = f / per_filter;
        for channel in group * per_group..(group + 1) * per_group {
            for &(iy, ky) in &rows[y] {
                for &(ix, kx) in &columns[x] {
                    let weight = c.weight[((channel * per_filter + f % per_filter) * kh + ky) * kw + kx];
                    out.push(((channel * h + iy) * w + ix, f64::from(weight)));
                }
            }
        }
    })
}

pub(super) fn dense_matrix(d: &Dense) -> SparseMatrix {
    SparseMatrix::from_rows(d.rows * d.outputs, d.rows * d.inputs, |row, out| {
        let (r, o) = (row / d.outputs, row % d.outputs);
        out.extend((0..d.inputs).map(|i| (r * d.inputs + i, f64::from(d.weight[o * d.inputs + i]))));
    })
}

pub(super) fn pool_matrix(p: &AveragePool) -> SparseMatrix {
    let ([channels, h, w], [oh, ow], [kh, kw]) = (p.input, p.output, p.window.kernel);
    SparseMatrix::from_rows(channels * oh * ow, channels * h * w, |row, out| {
        let (c, y, x) = place(row, [channels, oh, ow]);
        for iy in (0..kh).filter_map(|k| source(&p.window, 0, y, k, h)) {
            out.extend((0..kw).filter_map(|k| source(&p.window, 1, x, k, w)).map(|ix| ((c * h + iy) * w + ix, 1.0)));
        }
        let divisor = if p.count_pad { kh * kw } else { out.len() };
        out.iter_mut().for_each(|e| e.1 = 1.0 / divisor as f64);
    })
}

pub(super) fn pad_matrix(shape: &[usize], before: &[usize], after: &[usize]) -> SparseMatrix {
    let size = |i: usize| before[i] + shape[i] + after[i];
    let rows = (0..shape.len()).map(size).product();
    SparseMatrix::from_rows(rows, shape.iter().product(), |row, out| {
        let (mut rest, mut stride, mut index) = (row, 1, 0);
        for i in (0..shape.len()).rev() {
            let Some(k) = (rest % size(i)).checked_sub(before[i]).filter(|&k| k < shape[i]) else {
                return;
            };
            index += k * stride;
            (rest, stride) = (rest / size(i), stride * shape[i]);
        }
        out.push((index, 1.0));
    })
}
