//! Space to depth: the client packs the input of a strided convolution by phases, so that the convolution has stride 1.
//!
//! Channel `(c, py, px)` of the rearranged input holds the pixels `(c, s y + py, s x + px)`. A kernel of k x k with
//! stride s becomes one of about k / s x k / s on s^2 as many channels: fewer diagonals, and every slot in use.

use super::graph::{AffineTerm, ConvGeometry, Network, Op, SparseMatrix, TensorId};
use super::input::reads;
use std::rc::Rc;

/// For each element of a tensor the user's element that it holds, if any.
pub type Elements = Option<Rc<Vec<Option<u32>>>>;

/// Rearranges every input that only a strided convolution reads; none when there is no such input.
pub fn space_to_depth(network: &Network) -> Option<(Network, Vec<Elements>)> {
    let mut result = network.clone();
    let mut maps: Vec<Elements> = Vec::new();
    for &input in &network.inputs {
        let map = convolution_of(network, input).map(|(stage, conv)| {
            let Op::Affine { terms, .. } = &mut result.stages[stage].op else { unreachable!("an affine stage") };
            let (shape, map, term) = rearrange(&terms[0], &conv);
            terms[0] = term;
            result.tensors[input].shape = shape.to_vec();
            Rc::new(map)
        });
        maps.push(map);
    }
    maps.iter().any(Option::is_some).then_some((result, maps))
}

/// The strided convolution that alone reads `input`, and its stage.
fn convolution_of(network: &Network, input: TensorId) -> Option<(usize, ConvGeometry)> {
    let mut readers = (0..network.stages.len()).filter(|&s| reads(&network.stages[s]).contains(&input));
    let (stage, more) = (readers.next()?, readers.next());
    let Op::Affine { terms, .. } = &network.stages[stage].op else { return None };
    let [term] = terms.as_slice() else { return None };
    let conv = term.conv.filter(|c| c.groups == 1 && c.stride[0] == c.stride[1] && c.stride[0] > 1)?;
    (more.is_none() && !network.outputs.contains(&input)).then_some((stage, conv))
}

/// First and last block row that a window reads, counted from its own.
fn reach(kernel: usize, pad: usize, stride: usize) -> (i64, i64) {
    let block = |offset: i64| offset.div_euclid(stride as i64);
    (block(-(pad as i64)), block(kernel as i64 - 1 - pad as i64))
}

/// The rearranged input's shape, its elements, and the term that reads it.
fn rearrange(term: &AffineTerm, conv: &ConvGeometry) -> ([usize; 3], Vec<Option<u32>>, AffineTerm) {
    let s = conv.stride[0];
    let [channels, height, width] = conv.input;
    let blocks = [height.div_ceil(s), width.div_ceil(s)];
    let shape = [channels * s * s, blocks[0], blocks[1]];
    // Where pixel (c, y, x) goes.
    let place = |c: usize, y: usize, x: usize| (((c * s + y % s) * s + x % s) * blocks[0] + y / s) * blocks[1] + x / s;
    let mut map = vec![None; shape.iter().product()];
    let mut to = Vec::with_capacity(term.matrix.cols);
    for element in 0..term.matrix.cols {
        let place = place(element / (height * width), element / width % height, element % width);
        map[place] = Some(element as u32);
        to.push(place);
    }
    let matrix = SparseMatrix::from_rows(term.matrix.rows, map.len(), |row, out| {
        out.extend(term.matrix.row(row).map(|(column, value)| (to[column], value)));
        out.sort_unstable_by_key(|entry| entry.0);
    });
    let reach = [0, 1].map(|axis| reach(conv.kernel[axis], conv.pad[axis], s));
    let conv = ConvGeometry {
        input: shape,
        kernel: reach.map(|(first, last)| (last - first + 1) as usize),
        stride: [1, 1],
        pad: reach.map(|(first, _)| -first as usize),
        ..*conv
    };
    (shape, map, AffineTerm { input: term.input, matrix, conv: Some(conv) })
}
