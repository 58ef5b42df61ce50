//! Packings of an encrypted input: the client fills the slots, so replication and im2col are free.

use super::graph::{AffineTerm, ConvGeometry, Network, Op, SparseMatrix, Stage, TensorId};
use super::layout::{Layout, Packing, Skewed, Slot};
use std::rc::Rc;

/// One of the ciphertexts that carry an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Position of the input in the network as the user gave it.
    pub input: usize,
    /// Which part it is.
    pub index: usize,
    /// Number of parts.
    pub of: usize,
    /// What it holds.
    pub share: Share,
}

/// What a ciphertext holds of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    All,
    /// Of the columns of the input's first stage every `of`-th, from `index` on.
    Columns,
    /// A tensor of its own: for each of its elements that of the input, if any.
    Pieces(Rc<Vec<Option<u32>>>),
}

impl Part {
    /// The column of the stage that is the part's `column`-th.
    fn column(&self, column: usize) -> usize {
        match self.share {
            Share::Columns => column * self.of + self.index,
            Share::All | Share::Pieces(_) => column,
        }
    }

    /// Number of parts that the columns of the input's first stage are dealt out to.
    fn column_parts(&self) -> usize {
        if self.share == Share::Columns { self.of } else { 1 }
    }

    /// The user's element behind element `e` of the part's tensor.
    pub fn element(&self, e: u32) -> Option<u32> {
        match &self.share {
            Share::All | Share::Columns => Some(e),
            Share::Pieces(elements) => elements[e as usize],
        }
    }
}

/// The tensors that a stage reads.
pub fn reads(stage: &Stage) -> Vec<TensorId> {
    match &stage.op {
        Op::Affine { terms, .. } => terms.iter().map(|t| t.input).collect(),
        Op::Mul(a, b) => vec![*a, *b],
    }
}

/// Splits every input that only one single-term stage reads, a convolution or a dense layer, into `of` parts
/// that are tensors of their own; none when there is no such input. The parts of an input follow each other.
pub fn split(network: &Network, of: usize) -> Option<(Network, Vec<Part>)> {
    let mut result = network.clone();
    result.inputs.clear();
    let mut parts = Vec::new();
    for (input, &tensor) in network.inputs.iter().enumerate() {
        let readers: Vec<usize> =
            (0..network.stages.len()).filter(|&s| reads(&network.stages[s]).contains(&tensor)).collect();
        let whole = match readers.as_slice() {
            [only] => match &network.stages[*only].op {
                Op::Affine { terms, .. } if terms.len() == 1 && terms[0].conv.is_none_or(|c| c.groups == 1) => {
                    Some((*only, &terms[0]))
                }
                _ => None,
            },
            _ => None,
        };
        let Some((stage, term)) = whole.filter(|_| of > 1 && !network.outputs.contains(&tensor)) else {
            result.inputs.push(tensor);
            parts.push(Part { input, index: 0, of: 1, share: Share::All });
            continue;
        };
        let mut terms = Vec::new();
        for index in 0..of {
            let id = if index == 0 { tensor } else { result.tensors.len() };
            if index > 0 {
                result.tensors.push(network.tensors[tensor].clone());
            }
            result.inputs.push(id);
            parts.push(Part { input, index, of, share: Share::Columns });
            let matrix = select(&term.matrix, |row, column| column_of(term.conv.as_ref(), row, column) % of == index);
            terms.push(AffineTerm { input: id, matrix, conv: term.conv });
        }
        if let Op::Affine { terms: old, .. } = &mut result.stages[stage].op {
            *old = terms;
        }
    }
    parts.iter().any(|p| p.of > 1).then_some((result, parts))
}

/// The entries for which `keep(row, column)` holds.
fn select(matrix: &SparseMatrix, keep: impl Fn(usize, usize) -> bool) -> SparseMatrix {
    let mut result = SparseMatrix { row_start: vec![0], col: Vec::new(), value: Vec::new(), ..*matrix };
    for row in 0..matrix.rows {
        for entry in matrix.row_start[row]..matrix.row_start[row + 1] {
            if keep(row, matrix.col[entry] as usize) {
                result.col.push(matrix.col[entry]);
                result.value.push(matrix.value[entry]);
            }
        }
        result.row_start.push(result.col.len());
    }
    result
}

/// The tap by which a convolution's output `row` reads input `column`; the column itself in a dense stage.
fn column_of(conv: Option<&ConvGeometry>, row: usize, column: usize) -> usize {
    let Some(conv) = conv else { return column };
    let [_, height, width] = conv.input;
    let position = row % (conv.output[1] * conv.output[2]);
    let (channel, y, x) = (column / (height * width), column / width % height, column % width);
    let y = (y + conv.pad[0]).saturating_sub(position / conv.output[2] * conv.stride[0]);
    let x = (x + conv.pad[1]).saturating_sub(position % conv.output[2] * conv.stride[1]);
    (channel * conv.kernel[0] + y) * conv.kernel[1] + x
}

/// The columns of a stage as a client packs them: `columns` for each of `positions` inner positions.
struct Columns<'a> {
    count: usize,
    positions: usize,
    rows: usize,
    conv: Option<ConvGeometry>,
    part: &'a Part,
}

impl Columns<'_> {
    /// The input element of column `column` at inner position `position`, or zero.
    fn element(&self, column: usize, position: usize) -> Slot {
        let column = self.part.column(column);
        if column >= self.count {
            return Slot::Zero;
        }
        let Some(conv) = &self.conv else {
            return Slot::Element(column as u32);
        };
        let [_, height, width] = conv.input;
        let [kernel_height, kernel_width] = conv.kernel;
        let y = position / conv.output[2] * conv.stride[0] + column / kernel_width % kernel_height;
        let x = position % conv.output[2] * conv.stride[1] + column % kernel_width;
        match (y.checked_sub(conv.pad[0]), x.checked_sub(conv.pad[1])) {
            (Some(y), Some(x)) if y < height && x < width => {
                let channel = column / (kernel_height * kernel_width);
                Slot::Element(((channel * height + y) * width + x) as u32)
            }
            _ => Slot::Zero,
        }
    }
}

fn skewed(columns: &Columns<'_>, stage: usize, n: usize, shape: &[usize]) -> Vec<Packing> {
    let inner = columns.positions.next_power_of_two();
    let count = columns.count.div_ceil(columns.part.column_parts());
    let mut packings = Vec::new();
    let mut tiles = columns.rows.next_power_of_two();
    while tiles * inner <= n {
        let mut links = n / (tiles * inner);
        while links >= 1 && tiles * links >= count {
            let least = count.div_ceil(links);
            let mut sizes = vec![least, least.next_power_of_two()];
            sizes.dedup();
            for diagonals in sizes {
                if diagonals > tiles {
                    continue;
                }
                let slots = (0..n)
                    .map(|slot| {
                        let tile = slot / inner;
                        let column = (diagonals * (tile / tiles % links) + tile % tiles) % (diagonals * links);
                        columns.element(column, slot % inner % columns.positions)
                    })
                    .collect();
                let skewed = Skewed { stage, inner, tiles, links, diagonals };
                let kind = if columns.conv.is_some() { "im2col" } else { "skewed" };
                let name = format!("{kind} {diagonals}x{links} tiles of {inner}");
                let layout = Layout { slots };
                if columns.part.column_parts() > 1 {
                    packings.push(Packing::part(layout, skewed, name));
                } else {
                    packings.extend(Packing::new(layout, shape, Some(skewed), name));
                }
            }
            links /= 2;
        }
        tiles *= 2;
    }
    packings
}

/// `(c, y, x)` at `c * channel + y * row + x`, once per `period` slots.
fn raster(shape: [usize; 3], row: usize, channel: usize, period: usize, n: usize) -> Option<Packing> {
    let [channels, height, width] = shape;
    if channels * channel > period || period > n {
        return None;
    }
    let slots = (0..n)
        .map(|slot| {
            let (c, inside) = (slot % period / channel, slot % period % channel);
            let (y, x) = (inside / row, inside % row);
            if c < channels && y < height && x < width {
                Slot::Element(((c * height + y) * width + x) as u32)
            } else {
                Slot::Zero
            }
        })
        .collect();
    let name = format!("raster row {row} channel {channel} period {period}");
    Packing::new(Layout { slots }, &shape, None, name)
}

/// Candidate packings of input tensor `tensor`, or of a part of an input: as many, in the same order, for every
/// part. Empty only when the tensor has more elements than slots, or for parts that have no packing.
pub fn packings(network: &Network, tensor: TensorId, part: &Part, n: usize) -> Vec<Packing> {
    let shape = &network.tensors[tensor].shape;
    let elements = network.tensors[tensor].len();
    let mut result = Vec::new();
    for (index, stage) in network.stages.iter().enumerate() {
        let Op::Affine { terms, .. } = &stage.op else { continue };
        let Some(term) = terms.iter().find(|t| t.input == tensor && (terms.len() == 1 || part.share == Share::Columns))
        else {
            continue;
        };
        let columns = match term.conv {
            Some(conv) if conv.groups == 1 => Columns {
                count: conv.input[0] * conv.kernel[0] * conv.kernel[1],
                positions: conv.output[1] * conv.output[2],
                rows: conv.output[0],
                conv: Some(conv),
                part,
            },
            Some(_) => continue,
            None => Columns { count: elements, positions: 1, rows: term.matrix.rows, conv: None, part },
        };
        result.extend(skewed(&columns, index, n, shape));
    }
    if part.share == Share::Columns {
        return result;
    }
    let boxed = match *shape.as_slice() {
        [c, h, w] => [c, h, w],
        _ => [1, 1, elements],
    };
    let [channels, height, width] = boxed;
    if matches!(part.share, Share::Pieces(_)) && part.of > 1 {
        // Pieces fill their ciphertexts, all with the same raster.
        let mut rows = vec![width, width.next_power_of_two()];
        rows.dedup();
        let area = |row: usize| (height * row).next_power_of_two();
        return rows.into_iter().filter_map(|row| raster(boxed, row, area(row), n, n)).collect();
    }
    let mut seen = Vec::new();
    for row in [width, width.next_power_of_two()] {
        let area = height * row;
        for channel in [area, area.next_power_of_two()] {
            let period = (channels * channel).next_power_of_two();
            for period in [period, n] {
                if !seen.contains(&(row, channel, period)) {
                    seen.push((row, channel, period));
                    let packing = raster(boxed, row, channel, period, n);
                    result.extend(packing.and_then(|p| Packing::new(p.layout, shape, None, p.name)));
                }
            }
        }
    }
    if result.is_empty() {
        result.extend(raster(boxed, width, height * width, n, n));
    }
    result
}
