//! Clear evaluation: the imported model layer by layer in f32, and the decluttered network in f64.
//!
//! The two share no code, so that comparing them tests the passes in between.

use crate::compile::graph::{Network, Op, Tensor, TensorId};
use crate::compile::import::{AveragePool, Conv, Dense, Layer, ModelGraph, Node};

/// Why an evaluation did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// Another number of inputs is needed.
    #[error("the network has {expected} inputs, and {got} were given")]
    InputCount {
        /// Inputs of the network.
        expected: usize,
        /// Inputs given.
        got: usize,
    },
    /// An input has the wrong length.
    #[error("input {name:?} has {expected} elements, and {got} were given")]
    InputLen {
        /// The input.
        name: String,
        /// Its number of elements.
        expected: usize,
        /// The number given.
        got: usize,
    },
}

/// A slot per tensor, with the inputs filled in.
fn with_inputs<T: Clone>(
    tensors: &[Tensor],
    ids: &[TensorId],
    inputs: &[Vec<T>],
) -> Result<Vec<Vec<T>>, EvaluateError> {
    if ids.len() != inputs.len() {
        return Err(EvaluateError::InputCount { expected: ids.len(), got: inputs.len() });
    }
    let mut values = vec![Vec::new(); tensors.len()];
    for (&id, input) in ids.iter().zip(inputs) {
        let Tensor { name, .. } = &tensors[id];
        let (expected, got) = (tensors[id].len(), input.len());
        if expected != got {
            return Err(EvaluateError::InputLen { name: name.clone(), expected, got });
        }
        values[id].clone_from(input);
    }
    Ok(values)
}

impl ModelGraph {
    /// Evaluates a model with one input; the result is its first output, flat.
    ///
    /// # Errors
    /// If the model has another number of inputs, or `input` another length than the model's.
    pub fn evaluate(&self, input: &[f32]) -> Result<Vec<f32>, EvaluateError> {
        let mut values = self.evaluate_all(&[input.to_vec()])?;
        Ok(self.outputs.first().map(|&id| std::mem::take(&mut values[id])).unwrap_or_default())
    }

    /// Evaluates the model and returns every tensor, indexed like [`ModelGraph::tensors`].
    ///
    /// # Errors
    /// As [`ModelGraph::evaluate`].
    pub fn evaluate_all(&self, inputs: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, EvaluateError> {
        let mut values = with_inputs(&self.tensors, &self.inputs, inputs)?;
        for node in &self.nodes {
            values[node.output] = layer(node, &values);
        }
        Ok(values)
    }
}

impl Network {
    /// Evaluates the network in f64 and returns every tensor, indexed like [`Network::tensors`].
    ///
    /// # Errors
    /// If there are too few or too many inputs, or one has the wrong length.
    pub fn evaluate(&self, inputs: &[Vec<f64>]) -> Result<Vec<Vec<f64>>, EvaluateError> {
        let mut values = with_inputs(&self.tensors, &self.inputs, inputs)?;
        for stage in &self.stages {
            values[stage.output] = match &stage.op {
                Op::Mul(a, b) => values[*a].iter().zip(&values[*b]).map(|(a, b)| a * b).collect(),
                Op::Affine { terms, bias } => {
                    let mut sum = bias.clone();
                    for term in terms {
                        let part = term.matrix.matvec(&values[term.input]);
                        sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
                    }
                    sum
                }
            };
        }
        Ok(values)
    }
}

fn layer(node: &Node, values: &[Vec<f32>]) -> Vec<f32> {
    let input = |k: usize| values[node.inputs[k]].as_slice();
    match &node.layer {
        Layer::Conv(c) => conv(c, input(0)),
        Layer::ConvTranspose(c) => conv_transpose(c, input(0)),
        Layer::Dense(d) => dense(d, input(0)),
        Layer::AveragePool(p) => average_pool(p, input(0)),
        Layer::ScaleShift { scale, shift } => {
            input(0).iter().zip(scale.iter().zip(shift)).map(|(x, (a, b))| a * x + b).collect()
        }
        Layer::Pad { shape, before, after } => pad(shape, before, after, input(0)),
        Layer::Select { source } => source.iter().map(|&s| input(0)[s as usize]).collect(),
        Layer::Sum { weights } => {
            (0..input(0).len()).map(|i| (0..weights.len()).map(|k| weights[k] * input(k)[i]).sum()).collect()
        }
        Layer::Mul => input(0).iter().zip(input(1)).map(|(a, b)| a * b).collect(),
        Layer::Concat { outer, inner } => {
            let parts = (0..*outer)
                .flat_map(|o| inner.iter().enumerate().flat_map(move |(k, &n)| &input(k)[o * n..(o + 1) * n]));
            parts.copied().collect()
        }
    }
}

/// The outputs `x` of a row for which `x * stride + offset` is inside an input row of `width`.
fn inside(offset: isize, stride: usize, width: usize, outputs: usize) -> std::ops::Range<usize> {
    let first = if offset < 0 { offset.unsigned_abs().div_ceil(stride) } else { 0 };
    let last = width as isize - 1 - offset;
    let end = if last < 0 { 0 } else { last as usize / stride + 1 };
    first..end.min(outputs).max(first)
}

fn conv(c: &Conv, x: &[f32]) -> Vec<f32> {
    let ([channels, h, w], [filters, oh, ow]) = (c.input, c.output);
    let ([kh, kw], [sy, sx], [dy, dx]) = (c.window.kernel, c.window.stride, c.window.dilation);
    let [top, left] = c.window.pad.map(|p| p as isize);
    let (per_group, per_filter) = (channels / c.groups, filters / c.groups);
    let mut out = Vec::with_capacity(filters * oh * ow);
    let mut plane = vec![0.0f64; oh * ow];
    for f in 0..filters {
        plane.fill(f64::from(c.bias[f]));
        for k in 0..per_group * kh * kw {
            let (channel, ky, kx) = (f / per_filter * per_group + k / (kh * kw), k / kw % kh, k % kw);
            let weight = f64::from(c.weight[f * per_group * kh * kw + k]);
            let (oy, ox) = ((ky * dy) as isize - top, (kx * dx) as isize - left);
            let columns = inside(ox, sx, w, ow);
            if columns.is_empty() {
                continue;
            }
            let start = (columns.start * sx).wrapping_add_signed(ox);
            for y in inside(oy, sy, h, oh) {
                let row = channel * h + (y * sy).wrapping_add_signed(oy);
                let source = &x[row * w + start..(row + 1) * w];
                let target = &mut plane[y * ow + columns.start..y * ow + columns.end];
                if sx == 1 {
                    target.iter_mut().zip(source).for_each(|(t, &s)| *t += weight * f64::from(s));
                } else {
                    let strided = source.iter().step_by(sx);
                    target.iter_mut().zip(strided).for_each(|(t, &s)| *t += weight * f64::from(s));
                }
            }
        }
        out.extend(plane.iter().map(|&v| v as f32));
    }
    out
}

fn conv_transpose(c: &Conv, x: &[f32]) -> Vec<f32> {
    let ([channels, h, w], [filters, oh, ow]) = (c.input, c.output);
    let ([kh, kw], [sy, sx], [dy, dx]) = (c.window.kernel, c.window.stride, c.window.dilation);
    let [top, left] = c.window.pad;
    let (per_group, per_filter) = (channels / c.groups, filters / c.groups);
    let mut out: Vec<f64> = c.bias.iter().flat_map(|&b| std::iter::repeat_n(f64::from(b), oh * ow)).collect();
    for channel in 0..channels {
        for k in 0..per_filter * kh * kw {
            let (f, ky, kx) = (channel / per_group * per_filter + k / (kh * kw), k / kw % kh, k % kw);
            let weight = f64::from(c.weight[channel * per_filter * kh * kw + k]);
            for iy in 0..h {
                let Some(y) = (iy * sy + ky * dy).checked_sub(top).filter(|&y| y < oh) else {
                    continue;
                };
                for ix in 0..w {
                    let Some(x_out) = (ix * sx + kx * dx).checked_sub(left).filter(|&x| x < ow) else {
                        continue;
                    };
                    out[(f * oh + y) * ow + x_out] += weight * f64::from(x[(channel * h + iy) * w + ix]);
                }
            }
        }
    }
    out.into_iter().map(|v| v as f32).collect()
}

fn dense(d: &Dense, x: &[f32]) -> Vec<f32> {
    let rows = x.chunks_exact(d.inputs);
    let out = rows.flat_map(|row| {
        d.weight.chunks_exact(d.inputs).zip(&d.bias).map(move |(w, &b)| (f64::from(b) + dot(w, row)) as f32)
    });
    out.collect()
}

/// The inner product in f64, in eight lanes that the compiler can vectorise.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let ((a8, a1), (b8, b1)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0.0f64; 8];
    for (a, b) in a8.iter().zip(b8) {
        for i in 0..8 {
            lanes[i] += f64::from(a[i]) * f64::from(b[i]);
        }
    }
    let rest = a1.iter().zip(b1).map(|(&a, &b)| f64::from(a) * f64::from(b));
    lanes.into_iter().chain(rest).sum()
}

fn average_pool(p: &AveragePool, x: &[f32]) -> Vec<f32> {
    let ([channels, h, w], [oh, ow]) = (p.input, p.output);
    let ([kh, kw], [sy, sx], [dy, dx]) = (p.window.kernel, p.window.stride, p.window.dilation);
    let [top, left] = p.window.pad;
    let mut out = Vec::with_capacity(channels * oh * ow);
    for image in x.chunks_exact(h * w) {
        for y in 0..oh {
            for x_out in 0..ow {
                let (mut sum, mut count) = (0.0f64, 0usize);
                for ky in 0..kh {
                    let Some(iy) = (y * sy + ky * dy).checked_sub(top).filter(|&i| i < h) else {
                        continue;
                    };
                    for kx in 0..kw {
                        let Some(ix) = (x_out * sx + kx * dx).checked_sub(left).filter(|&i| i < w) else {
                            continue;
                        };
                        sum += f64::from(image[iy * w + ix]);
                        count += 1;
                    }
                }
                let divisor = if p.count_pad { kh * kw } else { count.max(1) };
                out.push((sum / divisor as f64) as f32);
            }
        }
    }
    out
}

/// Pads axis by axis, from the innermost.
fn pad(shape: &[usize], before: &[usize], after: &[usize], x: &[f32]) -> Vec<f32> {
    let mut out = x.to_vec();
    let mut inner = 1;
    for axis in (0..shape.len()).rev() {
        let blocks = out.chunks(shape[axis] * inner);
        let zeros = |n: usize| std::iter::repeat_n(0.0, n * inner);
        out = blocks.flat_map(|b| zeros(before[axis]).chain(b.iter().copied()).chain(zeros(after[axis]))).collect();
        inner *= before[axis] + shape[axis] + after[axis];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::import::Window;

    const PLAIN: Window = Window { kernel: [2, 2], stride: [1, 1], dilation: [1, 1], pad: [0, 0] };

    fn ramp(n: usize) -> Vec<f32> {
        (0..n).map(|v| v as f32).collect()
    }

    #[test]
    fn convolution_by_hand() {
        let mut c = Conv {
            input: [1, 3, 3],
            output: [1, 2, 2],
            window: PLAIN,
            groups: 1,
            weight: vec![1.0, 2.0, 3.0, 4.0],
            bias: vec![0.5],
        };
        let x = ramp(9);
        // 0 + 2 + 9 + 16, and so on.
        assert_eq!(conv(&c, &x), [27.5, 37.5, 57.5, 67.5]);
        c.window = Window { stride: [2, 2], pad: [1, 1], ..PLAIN };
        assert_eq!(conv(&c, &x), [0.5, 11.5, 30.5, 67.5]);
        c.window = Window { dilation: [2, 2], ..PLAIN };
        c.output = [1, 1, 1];
        assert_eq!(conv(&c, &x), [0.0 + 4.0 + 18.0 + 32.0 + 0.5]);
        c.output = [1, 5, 1];
        c.window = Window { kernel: [1, 4], pad: [1, 1], ..PLAIN };
        assert_eq!(conv(&c, &x)[..2], [0.5, 0.0 + 3.0 + 8.0 + 0.5]);
    }

    #[test]
    fn grouped_convolution_keeps_groups_apart() {
        let c = Conv {
            input: [2, 1, 2],
            output: [4, 1, 2],
            window: Window { kernel: [1, 1], ..PLAIN },
            groups: 2,
            weight: vec![1.0, 10.0, 100.0, 1000.0],
            bias: vec![0.0; 4],
        };
        let y = conv(&c, &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(y, [1.0, 2.0, 10.0, 20.0, 300.0, 400.0, 3000.0, 4000.0]);
    }

    #[test]
    fn transposed_convolution_by_hand() {
        let mut c = Conv {
            input: [1, 2, 2],
            output: [1, 4, 4],
            window: Window { stride: [2, 2], ..PLAIN },
            groups: 1,
            weight: vec![1.0, 2.0, 3.0, 4.0],
            bias: vec![0.0],
        };
        let y = conv_transpose(&c, &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(y, [1., 2., 2., 4., 3., 4., 6., 8., 3., 6., 4., 8., 9., 12., 12., 16.]);
        c.window = PLAIN;
        c.output = [1, 3, 3];
        let y = conv_transpose(&c, &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(y, [1., 4., 4., 6., 20., 16., 9., 24., 16.]);
    }

    #[test]
    fn pools_count_padding_or_not() {
        let mut p = AveragePool {
            input: [1, 2, 2],
            output: [2, 2],
            window: Window { stride: [2, 2], pad: [1, 1], ..PLAIN },
            count_pad: true,
        };
        assert_eq!(average_pool(&p, &[4.0, 8.0, 12.0, 16.0]), [1.0, 2.0, 3.0, 4.0]);
        p.count_pad = false;
        assert_eq!(average_pool(&p, &[4.0, 8.0, 12.0, 16.0]), [4.0, 8.0, 12.0, 16.0]);
    }

    #[test]
    fn dense_pad_and_lanes() {
        let d = Dense { rows: 2, inputs: 2, outputs: 1, weight: vec![2.0, -1.0], bias: vec![1.0] };
        assert_eq!(dense(&d, &[1.0, 2.0, 3.0, 4.0]), [1.0, 3.0]);
        assert_eq!(dot(&ramp(19), &[2.0; 19]), 342.0);
        let y = pad(&[2, 2], &[1, 0], &[0, 1], &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(y, [0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 0.0]);
    }

    #[test]
    fn inputs_are_checked() {
        let tensors = [Tensor { name: "x".into(), shape: vec![2] }];
        let error = with_inputs(&tensors, &[0], &[vec![1.0f32]]).unwrap_err();
        assert_eq!(error.to_string(), "input \"x\" has 2 elements, and 1 were given");
        let error = with_inputs::<f32>(&tensors, &[0], &[]).unwrap_err();
        assert_eq!(error, EvaluateError::InputCount { expected: 1, got: 0 });
    }
}
