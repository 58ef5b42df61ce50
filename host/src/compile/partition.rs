//! Partition: a tensor with more elements than a ciphertext has slots becomes several tensors, one for each ciphertext.
//!
//! Tensors are cut between channels, so that every piece is a raster like the whole. An affine stage becomes one stage
//! for each piece of its output, with a term for each piece of its inputs that it reads; these stages form a *group*,
//! which the kernel evaluates as one block matrix: rotations of a piece are shared by all results.

use super::graph::{AffineTerm, ConvGeometry, Network, Op, SparseMatrix, Stage, Tensor, TensorId};
use super::input::{Part, Share};
use super::lower::LowerError;
use super::space_to_depth::Elements;
use std::ops::Range;
use std::rc::Rc;

/// A network whose tensors all fit a ciphertext.
#[derive(Debug, Clone)]
pub struct Partitioned {
    /// The network.
    pub network: Network,
    /// What each of its inputs is of the inputs before.
    pub parts: Vec<Part>,
    /// Stages that are one block matrix, in order, each at least two.
    pub groups: Vec<Range<usize>>,
    /// Tensors of which a part was made: the part, the whole in the network before, and the part's first element.
    pub cuts: Vec<(TensorId, TensorId, usize)>,
}

/// A run of a tensor's elements that is a tensor of its own.
#[derive(Debug, Clone)]
struct Piece {
    id: TensorId,
    elements: Range<usize>,
}

/// The shapes of the pieces of a tensor in ciphertexts of `n` slots; none if not even one channel fits.
fn shapes(shape: &[usize], n: usize) -> Option<Vec<Vec<usize>>> {
    let len: usize = shape.iter().product();
    if len <= n {
        return Some(vec![shape.to_vec()]);
    }
    // Rasters of a power of two of slots, since those repeat.
    let (count, rest) = match *shape {
        [channels, height, width] => (channels, vec![height, width]),
        _ => (len, Vec::new()),
    };
    let area = rest.iter().product::<usize>().next_power_of_two();
    let most = n.checked_div(area).filter(|&most| most > 0)?;
    let piece = |first: usize| [vec![most.min(count - first)], rest.clone()].concat();
    Some((0..count).step_by(most).map(piece).collect())
}

/// Rows `rows` and columns `columns` of a matrix.
fn block(matrix: &SparseMatrix, rows: &Range<usize>, columns: &Range<usize>) -> SparseMatrix {
    if (rows.len(), columns.len()) == (matrix.rows, matrix.cols) {
        return matrix.clone();
    }
    SparseMatrix::from_rows(rows.len(), columns.len(), |row, out| {
        let entries = matrix.row_start[rows.start + row]..matrix.row_start[rows.start + row + 1];
        let first = matrix.col[entries.clone()].partition_point(|&c| (c as usize) < columns.start);
        let inside = matrix.col[entries.clone()][first..].iter().zip(&matrix.value[entries][first..]);
        let inside = inside.take_while(|(c, _)| (**c as usize) < columns.end);
        out.extend(inside.map(|(&c, &v)| (c as usize - columns.start, v)));
    })
}

/// A convolution between pieces of its tensors, if the term is one that looks at all channels alike.
fn geometry(term: &AffineTerm, input: &[usize], output: &[usize]) -> Option<ConvGeometry> {
    let conv = term.conv?;
    if (input, output) == (&conv.input[..], &conv.output[..]) {
        return Some(conv);
    }
    match (input, output) {
        (&[i, ..], &[o, ..]) if conv.groups == 1 && input.len() == 3 && output.len() == 3 => {
            let [_, height, width] = conv.input;
            let [_, below, beside] = conv.output;
            Some(ConvGeometry { input: [i, height, width], output: [o, below, beside], ..conv })
        }
        _ => None,
    }
}

/// Cuts all tensors that need it. `elements` maps the elements of the network's inputs to those of the user's, where
/// they were rearranged.
///
/// # Errors
/// [`LowerError::TooLarge`] for a channel with more elements than slots, or an output with more.
pub fn partition(network: &Network, elements: &[Elements], n: usize) -> Result<Partitioned, LowerError> {
    let too_large = |id: TensorId| LowerError::TooLarge {
        stage: network.stages.iter().find(|s| s.output == id).map_or_else(|| "input".into(), |s| s.name.clone()),
        tensor: network.tensors[id].name.clone(),
        elements: network.tensors[id].len(),
        slots: n,
    };
    let mut result = Network {
        name: network.name.clone(),
        tensors: network.tensors.clone(),
        inputs: Vec::new(),
        outputs: network.outputs.clone(),
        stages: Vec::new(),
        images: network.images,
        layout: network.layout,
    };
    let mut pieces: Vec<Vec<Piece>> = Vec::new();
    let mut cuts = Vec::new();
    for (id, tensor) in network.tensors.iter().enumerate() {
        let shapes = shapes(&tensor.shape, n).ok_or_else(|| too_large(id))?;
        if shapes.len() > 1 && network.outputs.contains(&id) {
            return Err(too_large(id));
        }
        let mut first = 0;
        let mut list = Vec::new();
        let count = shapes.len();
        for (index, shape) in shapes.into_iter().enumerate() {
            let name = if count > 1 { format!("{} {}/{count}", tensor.name, index + 1) } else { tensor.name.clone() };
            let piece = Tensor { name, shape };
            let elements = first..first + piece.len();
            first = elements.end;
            let whole = id;
            let id = if index == 0 { id } else { result.tensors.len() };
            if count > 1 {
                cuts.push((id, whole, elements.start));
            }
            match result.tensors.get_mut(id) {
                Some(place) => *place = piece,
                None => result.tensors.push(piece),
            }
            list.push(Piece { id, elements });
        }
        pieces.push(list);
    }
    let mut parts = Vec::new();
    for (input, &tensor) in network.inputs.iter().enumerate() {
        let list = &pieces[tensor];
        for (index, piece) in list.iter().enumerate() {
            let of_user = |e: usize| match &elements[input] {
                Some(map) => map[e],
                None => Some(e as u32),
            };
            let map: Vec<Option<u32>> = piece.elements.clone().map(of_user).collect();
            let share =
                if list.len() == 1 && elements[input].is_none() { Share::All } else { Share::Pieces(Rc::new(map)) };
            result.inputs.push(piece.id);
            parts.push(Part { input, index, of: list.len(), share });
        }
    }
    let mut groups = Vec::new();
    for stage in &network.stages {
        let first = result.stages.len();
        for (index, piece) in pieces[stage.output].iter().enumerate() {
            let op = match &stage.op {
                Op::Mul(a, b) => Op::Mul(pieces[*a][index].id, pieces[*b][index].id),
                Op::Affine { terms, bias } => Op::Affine {
                    terms: blocks(&result, terms, &pieces, piece),
                    bias: bias[piece.elements.clone()].to_vec(),
                },
            };
            result.stages.push(Stage { name: stage.name.clone(), op, output: piece.id });
        }
        let group = first..result.stages.len();
        if shares_a_source(&result.stages[group.clone()]) {
            groups.push(group);
        }
    }
    Ok(Partitioned { network: result, parts, groups, cuts })
}

/// The terms of the stage that computes `piece`.
fn blocks(network: &Network, terms: &[AffineTerm], pieces: &[Vec<Piece>], piece: &Piece) -> Vec<AffineTerm> {
    let mut result = Vec::new();
    for term in terms {
        for source in &pieces[term.input] {
            let matrix = block(&term.matrix, &piece.elements, &source.elements);
            let shape = |id: TensorId| network.tensors[id].shape.as_slice();
            let conv = geometry(term, shape(source.id), shape(piece.id));
            result.push(AffineTerm { input: source.id, matrix, conv });
        }
    }
    // An affine stage has at least one term, even if it is zero.
    let empty = result.iter().position(|t| t.matrix.nnz() > 0).is_none();
    let mut first = true;
    result.retain(|t| t.matrix.nnz() > 0 || (empty && std::mem::take(&mut first)));
    result
}

/// Whether these stages are affine and two of them read the same tensor.
fn shares_a_source(stages: &[Stage]) -> bool {
    let mut read: Vec<TensorId> = Vec::new();
    let mut shared = false;
    for stage in stages {
        let Op::Affine { terms, .. } = &stage.op else { return false };
        shared |= terms.iter().any(|t| read.contains(&t.input));
        read.extend(terms.iter().map(|t| t.input));
    }
    shared
}
