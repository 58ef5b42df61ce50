//! Layers as stages.

use super::draft::{Draft, DraftStage, add_term};
use super::geometry::{conv_geometry, pad_geometry, pointwise};
use super::matrices::{conv_matrix, conv_transpose_matrix, dense_matrix, pad_matrix, plane_bias, pool_matrix};
use super::{DeclutterError, MAX_NONZEROS};
use crate::compile::graph::{AffineTerm, ConvGeometry, Op, SparseMatrix, TensorId};
use crate::compile::import::{Layer, Node};

impl Draft {
    /// Writes a layer as a stage.
    pub(super) fn lower(&mut self, node: &Node) -> Result<(), DeclutterError> {
        let rank = match &node.layer {
            Layer::Conv(_) | Layer::ConvTranspose(_) | Layer::Dense(_) => 5,
            Layer::AveragePool(_) => 4,
            Layer::Sum { .. } | Layer::Concat { .. } => 3,
            Layer::ScaleShift { .. } => 2,
            _ => 1,
        };
        let nonzeros = nonzeros(&node.layer);
        if nonzeros > MAX_NONZEROS {
            return Err(DeclutterError::TooLarge { layer: node.name.clone(), nonzeros });
        }
        let n = self.tensors[node.output].len();
        let single = |matrix, bias, conv| {
            let terms = vec![AffineTerm { input: node.inputs[0], matrix, conv }];
            Op::Affine { terms, bias }
        };
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let op = match &node.layer {
            Layer::Conv(c) => {
                single(conv_matrix(c), plane_bias(c), conv_geometry(c.input, c.output, c.window, c.groups))
            }
            Layer::ConvTranspose(c) => single(conv_transpose_matrix(c), plane_bias(c), None),
            Layer::Dense(d) => {
                let bias = wide(&d.bias).repeat(d.rows);
                single(dense_matrix(d), bias, None)
            }
            Layer::AveragePool(p) => {
                let [c, oh, ow] = [p.input[0], p.output[0], p.output[1]];
                let whole = [oh, ow] == [1, 1] && p.window.kernel == [p.input[1], p.input[2]];
                let conv = conv_geometry(p.input, [c, oh, ow], p.window, c).filter(|_| !whole);
                single(pool_matrix(p), vec![0.0; n], conv)
            }
            Layer::ScaleShift { scale, shift } => {
                let conv = pointwise(&self.tensors[node.output].shape);
                single(SparseMatrix::diagonal(&wide(scale)), wide(shift), conv)
            }
            Layer::Pad { shape, before, after } => {
                single(pad_matrix(shape, before, after), vec![0.0; n], pad_geometry(shape, before, after))
            }
            Layer::Select { source } => {
                let cols = self.tensors[node.inputs[0]].len();
                let matrix = SparseMatrix::from_rows(n, cols, |r, out| out.push((source[r] as usize, 1.0)));
                let conv = self.channelwise(node.inputs[0], node.output);
                single(matrix, vec![0.0; n], conv)
            }
            Layer::Sum { weights } => {
                let mut terms = Vec::new();
                for (&input, &w) in node.inputs.iter().zip(weights) {
                    let matrix = SparseMatrix::diagonal(&vec![f64::from(w); n]);
                    add_term(
                        &mut terms,
                        AffineTerm { input, matrix, conv: pointwise(&self.tensors[node.output].shape) },
                    );
                }
                Op::Affine { terms, bias: vec![0.0; n] }
            }
            Layer::Mul => Op::Mul(node.inputs[0], node.inputs[1]),
            Layer::Concat { outer, inner } => {
                let (mut terms, mut offset) = (Vec::new(), 0);
                for (&input, &width) in node.inputs.iter().zip(inner) {
                    let all: usize = inner.iter().sum();
                    let matrix = SparseMatrix::from_rows(n, outer * width, |r, out| {
                        if let Some(c) = (r % all).checked_sub(offset).filter(|&c| c < width) {
                            out.push((r / all * width + c, 1.0));
                        }
                    });
                    offset += width;
                    let conv = self.channelwise(input, node.output);
                    add_term(&mut terms, AffineTerm { input, matrix, conv });
                }
                Op::Affine { terms, bias: vec![0.0; n] }
            }
        };
        self.stages.push(DraftStage { name: node.name.clone(), rank, output: node.output, op });
        Ok(())
    }

    /// The geometry of a selection that moves whole channels, should it be one.
    fn channelwise(&self, input: TensorId, output: TensorId) -> Option<ConvGeometry> {
        let (input, output) = (&self.tensors[input].shape, &self.tensors[output].shape);
        let input = input.as_slice().try_into().ok()?;
        Some(ConvGeometry { input, groups: 1, ..pointwise(output)? })
    }
}

/// An upper bound on the entries of a layer's matrices.
fn nonzeros(layer: &Layer) -> usize {
    let product = |f: &[usize]| f.iter().fold(1usize, |a, &b| a.saturating_mul(b));
    match layer {
        Layer::Conv(c) => product(&[product(&c.output), c.input[0] / c.groups, product(&c.window.kernel)]),
        Layer::ConvTranspose(c) => product(&[product(&c.input), c.output[0] / c.groups, product(&c.window.kernel)]),
        Layer::Dense(d) => product(&[d.rows, d.inputs, d.outputs]),
        Layer::AveragePool(p) => product(&[p.input[0], product(&p.output), product(&p.window.kernel)]),
        _ => 0,
    }
}
