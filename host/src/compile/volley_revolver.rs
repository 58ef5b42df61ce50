//! Volley Revolver: the other way to lay out a network, for comparison.
//!
//! One ciphertext holds one channel, as a raster of pixels; images beside each other are rows of that matrix
//! ([`interleave`](super::interleave)). A convolution multiplies each channel by the kernel, spread over the image in as many shifted
//! copies as its windows need not to overlap, sums every window into its own position by rotations, masks what is no
//! result, and accumulates; the outer loop over pairs of ciphertexts ("double") is what carries channels and skip
//! connections. A transposed convolution is shifted copies with disjoint weights. Two levels for each convolution, one
//! for the weights and one for the mask.
//!
//! Reference: Chiang, "Volley Revolver" (arXiv:2201.12577; over several ciphertexts: arXiv:2512.18646). Weights are plaintexts
//! here, and products of all channels are summed before a window is.

use super::cost::{CostModel, KeyUse, OperationCounts};
use super::fold::{FoldAxis, rounds};
use super::graph::{AffineTerm, ConvGeometry, Network, Op, TensorId};
use super::lower::{CostReport, LowerError, Lowered, OpCost, StageReport, op_counts};
use super::slots::{Diagonal, Register, SlotInput, SlotOp, SlotOpKind, SlotOutput, SlotProgram};
use std::collections::BTreeMap;

/// Shifts beyond which a sparse matrix is treated as a dense one.
const MAX_SHIFTS: usize = 64;

/// A tensor: a ciphertext for each channel, element (y, x) at slot `y row + x column`.
#[derive(Debug, Clone)]
struct Plane {
    registers: Vec<Register>,
    shape: [usize; 3],
    row: usize,
    column: usize,
}

impl Plane {
    /// Channel and slot of a flat element.
    fn place(&self, element: usize) -> (usize, usize) {
        let [_, height, width] = self.shape;
        let (y, x) = (element / width % height, element % width);
        (element / (height * width), y * self.row + x * self.column)
    }
}

/// A shape with three dimensions.
fn boxed(shape: &[usize]) -> [usize; 3] {
    match *shape {
        [c, h, w] => [c, h, w],
        _ => [1, 1, shape.iter().product()],
    }
}

struct Lowering<'a> {
    network: &'a Network,
    model: &'a CostModel,
    planes: Vec<Option<Plane>>,
    registers: usize,
    ops: Vec<SlotOp>,
}

/// Lowers a network in this layout.
///
/// # Errors
/// A channel with more pixels than slots, an output of several ciphertexts, or a product of unlike rasters.
pub fn lower(network: &Network, model: &CostModel) -> Result<Lowered, LowerError> {
    let mut l = Lowering { network, model, planes: vec![None; network.tensors.len()], registers: 0, ops: Vec::new() };
    let mut inputs = Vec::new();
    for (input, &tensor) in network.inputs.iter().enumerate() {
        let shape = boxed(&network.tensors[tensor].shape);
        let [channels, height, width] = shape;
        if height * width > model.slots {
            let name = network.tensors[tensor].name.clone();
            return Err(LowerError::TooLarge {
                stage: "input".into(),
                tensor: name,
                elements: height * width,
                slots: model.slots,
            });
        }
        let registers: Vec<Register> = (0..channels).map(|_| l.fresh()).collect();
        for (c, &register) in registers.iter().enumerate() {
            let area = height * width;
            let element = (0..model.slots).map(|s| (s < area).then_some((c * area + s) as u32)).collect();
            inputs.push(SlotInput { register, input, element });
        }
        l.planes[tensor] = Some(Plane { registers, shape, row: width, column: 1 });
    }
    let mut stages = Vec::new();
    for stage in &network.stages {
        let first = l.ops.len();
        let plane = match &stage.op {
            Op::Mul(a, b) => l.product(&stage.name, *a, *b)?,
            Op::Affine { terms, bias } => l.affine(&stage.name, stage.output, terms, bias)?,
        };
        l.planes[stage.output] = Some(plane);
        let strategy = format!("volley revolver, {} operations", l.ops.len() - first);
        stages.push(StageReport { name: stage.name.clone(), limbs: 0, strategy });
    }
    l.finish(inputs, stages)
}

impl Lowering<'_> {
    fn fresh(&mut self) -> Register {
        self.registers += 1;
        self.registers - 1
    }

    fn push(&mut self, layer: &str, kind: SlotOpKind) -> Register {
        let result = self.fresh();
        self.ops.push(SlotOp { layer: layer.to_owned(), results: vec![result], kind });
        result
    }

    fn plane(&self, tensor: TensorId) -> &Plane {
        self.planes[tensor].as_ref().expect("defined before it is read")
    }

    fn product(&mut self, layer: &str, a: TensorId, b: TensorId) -> Result<Plane, LowerError> {
        let (x, y) = (self.plane(a).clone(), self.plane(b).clone());
        if (x.shape, x.row, x.column) != (y.shape, y.row, y.column) {
            let reason = "the factors are on different rasters".to_owned();
            return Err(LowerError::NoLayout { stage: layer.to_owned(), reason });
        }
        let pairs = x.registers.iter().zip(&y.registers);
        let registers = pairs.map(|(&a, &b)| self.push(layer, SlotOpKind::Mul { a, b, rescale: true })).collect();
        Ok(Plane { registers, ..x })
    }

    /// The sum of products of ciphertexts with plaintexts, by register.
    fn weighted(&mut self, layer: &str, weights: BTreeMap<Register, Vec<f64>>) -> Register {
        let sources: Vec<Register> = weights.keys().copied().collect();
        let diagonal = |(source, values)| Diagonal { source, result: 0, baby: 0, giant: 0, values };
        let diagonals = weights.into_values().enumerate().map(diagonal).collect();
        self.push(layer, SlotOpKind::LinearTransform { sources, diagonals, rescale: true })
    }

    fn sum(&mut self, layer: &str, summands: Vec<Register>) -> Option<Register> {
        summands.into_iter().reduce(|a, b| self.push(layer, SlotOpKind::Add { a, b }))
    }

    fn affine(
        &mut self,
        layer: &str,
        output: TensorId,
        terms: &[AffineTerm],
        bias: &[f64],
    ) -> Result<Plane, LowerError> {
        let shape = boxed(&self.network.tensors[output].shape);
        let raster = terms.iter().filter_map(|t| self.raster_of(t, shape)).next();
        let mut registers = Vec::new();
        let (row, column) = raster.unwrap_or((shape[2], 1));
        let plane = Plane { registers: Vec::new(), shape, row, column };
        let area = shape[1] * shape[2];
        for channel in 0..shape[0] {
            let rows = channel * area..(channel + 1) * area;
            let homes: Vec<(usize, usize)> = rows.map(|r| (r, plane.place(r).1)).collect();
            let mut parts = Vec::new();
            for term in terms {
                let same = self.raster_of(term, shape) == Some((row, column));
                let part = match term.conv {
                    Some(conv) if same && conv.pad[0] < conv.kernel[0] && conv.pad[1] < conv.kernel[1] => {
                        self.windows(layer, term, &conv, &homes)
                    }
                    _ => self.shifted(layer, term, &homes).or_else(|| self.dense(layer, term, &homes)),
                };
                parts.extend(part);
            }
            let none = || LowerError::NoLayout { stage: layer.to_owned(), reason: "no weight is there".to_owned() };
            let mut register = self.sum(layer, parts).ok_or_else(none)?;
            if homes.iter().any(|&(r, _)| bias[r] != 0.0) {
                let mut values = vec![0.0; self.model.slots];
                homes.iter().for_each(|&(r, home)| values[home] = bias[r]);
                register = self.push(layer, SlotOpKind::AddPlain { src: register, values });
            }
            registers.push(register);
        }
        Ok(Plane { registers, ..plane })
    }

    /// Row and column distance of an output that lies on the raster of a term's input, coarser or finer.
    fn raster_of(&self, term: &AffineTerm, [_, height, width]: [usize; 3]) -> Option<(usize, usize)> {
        let plane = self.plane(term.input);
        if let Some(conv) = term.conv {
            return Some((plane.row * conv.stride[0], plane.column * conv.stride[1]));
        }
        let [_, input_height, input_width] = plane.shape;
        let scaled = |pitch: usize, from: usize, to: usize| {
            let fits = (pitch * from).is_multiple_of(to) && (from.is_multiple_of(to) || to.is_multiple_of(from));
            fits.then(|| pitch * from / to)
        };
        let many = input_height > 1 && height > 1;
        scaled(plane.row, input_height, height).zip(scaled(plane.column, input_width, width)).filter(|_| many)
    }

    /// One output channel of a convolution: windows that do not overlap at a time.
    fn windows(
        &mut self,
        layer: &str,
        term: &AffineTerm,
        conv: &ConvGeometry,
        homes: &[(usize, usize)],
    ) -> Option<Register> {
        let n = self.model.slots;
        let plane = self.plane(term.input).clone();
        let along = |kernel: usize, pad: usize, pitch: usize| -> Vec<usize> {
            let shift = |k: usize| (k as i64 - pad as i64) * pitch as i64;
            (0..kernel).map(|k| shift(k).rem_euclid(n as i64) as usize).collect()
        };
        let rows = along(conv.kernel[0], conv.pad[0], plane.row);
        let columns = along(conv.kernel[1], conv.pad[1], plane.column);
        let window: Vec<usize> = rows.iter().flat_map(|y| columns.iter().map(move |x| (y + x) % n)).collect();
        // Of each copy the slots that its windows take, and their outputs.
        let mut taken: Vec<Vec<bool>> = Vec::new();
        let mut copies: Vec<Vec<(usize, usize)>> = Vec::new();
        for &(r, home) in homes {
            let slots = || window.iter().map(|d| (home + d) % n);
            let free = taken.iter().position(|taken| slots().all(|s| !taken[s]));
            let index = free.unwrap_or_else(|| {
                taken.push(vec![false; n]);
                copies.push(Vec::new());
                taken.len() - 1
            });
            slots().for_each(|s| taken[index][s] = true);
            copies[index].push((r, home));
        }
        let mut parts = Vec::new();
        for members in copies {
            let mut weights: BTreeMap<Register, Vec<f64>> = BTreeMap::new();
            for &(r, _) in &members {
                for (element, value) in term.matrix.row(r) {
                    let (channel, slot) = plane.place(element);
                    weights.entry(plane.registers[channel]).or_insert_with(|| vec![0.0; n])[slot] = value;
                }
            }
            if weights.is_empty() {
                continue;
            }
            let mut register = self.weighted(layer, weights);
            for steps in [&columns, &rows] {
                let steps: Vec<u32> = steps.iter().filter(|&&s| s != 0).map(|&s| s as u32).collect();
                if !steps.is_empty() {
                    register = self.push(layer, SlotOpKind::RotateSum { src: register, steps, rescale: false });
                }
            }
            parts.push(self.mask(layer, register, members.iter().map(|m| m.1)));
        }
        self.sum(layer, parts)
    }

    /// Keeps these slots.
    fn mask(&mut self, layer: &str, register: Register, slots: impl Iterator<Item = usize>) -> Register {
        let mut mask = vec![0.0; self.model.slots];
        slots.for_each(|s| mask[s] = 1.0);
        self.weighted(layer, BTreeMap::from([(register, mask)]))
    }

    /// One output channel as shifted copies with disjoint weights, if these are few.
    fn shifted(&mut self, layer: &str, term: &AffineTerm, homes: &[(usize, usize)]) -> Option<Register> {
        let n = self.model.slots;
        let plane = self.plane(term.input).clone();
        let mut copies: BTreeMap<(usize, u32), Vec<f64>> = BTreeMap::new();
        for &(r, home) in homes {
            for (element, value) in term.matrix.row(r) {
                let (channel, slot) = plane.place(element);
                let shift = (slot + n - home) % n;
                copies.entry((channel, shift as u32)).or_insert_with(|| vec![0.0; n])[home] = value;
            }
        }
        let mut shifts: Vec<u32> = copies.keys().map(|k| k.1).collect();
        shifts.sort_unstable();
        shifts.dedup();
        if copies.is_empty() || shifts.len() > MAX_SHIFTS {
            return None;
        }
        let mut channels: Vec<usize> = copies.keys().map(|k| k.0).collect();
        channels.dedup();
        let sources = channels.iter().map(|&c| plane.registers[c]).collect();
        let diagonal = |((channel, giant), values)| {
            let source = channels.binary_search(&channel).expect("collected above");
            Diagonal { source, result: 0, baby: 0, giant, values }
        };
        let mut diagonals: Vec<Diagonal> = copies.into_iter().map(diagonal).collect();
        diagonals.sort_by_key(Diagonal::rank);
        Some(self.push(layer, SlotOpKind::LinearTransform { sources, diagonals, rescale: true }))
    }

    /// Rows of a dense matrix, each a product, a sum over all slots and a mask.
    fn dense(&mut self, layer: &str, term: &AffineTerm, homes: &[(usize, usize)]) -> Option<Register> {
        let n = self.model.slots;
        let plane = self.plane(term.input).clone();
        let price = |steps: usize| self.model.microseconds(&self.model.rotate_sum(4, steps, false));
        let fold = rounds(&[FoldAxis { stride: 1, count: n, exact: true }], n, false, price)?;
        let mut parts = Vec::new();
        for &(r, home) in homes {
            let mut weights: BTreeMap<Register, Vec<f64>> = BTreeMap::new();
            for (element, value) in term.matrix.row(r) {
                let (channel, slot) = plane.place(element);
                weights.entry(plane.registers[channel]).or_insert_with(|| vec![0.0; n])[slot] = value;
            }
            if weights.is_empty() {
                continue;
            }
            let mut register = self.weighted(layer, weights);
            for steps in &fold {
                let kind = SlotOpKind::RotateSum { src: register, steps: steps.clone(), rescale: false };
                register = self.push(layer, kind);
            }
            parts.push(self.mask(layer, register, std::iter::once(home)));
        }
        self.sum(layer, parts)
    }

    /// Levels from the outputs back, and prices.
    fn finish(self, inputs: Vec<SlotInput>, mut stages: Vec<StageReport>) -> Result<Lowered, LowerError> {
        let mut outputs = Vec::new();
        for (output, &tensor) in self.network.outputs.iter().enumerate() {
            let plane = self.plane(tensor);
            let &[register] = plane.registers.as_slice() else {
                let stage = self.network.tensors[tensor].name.clone();
                let reason = "an output of several channels would take several ciphertexts".to_owned();
                return Err(LowerError::NoLayout { stage, reason });
            };
            let len = self.network.tensors[tensor].len();
            outputs.push(SlotOutput { register, output, slot: (0..len).map(|e| plane.place(e).1 as u32).collect() });
        }
        let mut need = vec![1usize; self.registers];
        let mut levels = vec![0; self.ops.len()];
        let mut keys = KeyUse::default();
        for (op, level) in self.ops.iter().zip(&mut levels).rev() {
            let (operands, rescale) = match &op.kind {
                SlotOpKind::LinearTransform { sources, rescale, .. } => (sources.clone(), *rescale),
                SlotOpKind::RotateSum { src, rescale, .. } => (vec![*src], *rescale),
                SlotOpKind::AddPlain { src, .. } => (vec![*src], false),
                SlotOpKind::Add { a, b } => (vec![*a, *b], false),
                SlotOpKind::Mul { a, b, rescale } => (vec![*a, *b], *rescale),
            };
            *level = need[op.results[0]] + usize::from(rescale);
            operands.iter().for_each(|&r| need[r] = need[r].max(*level));
            match &op.kind {
                SlotOpKind::LinearTransform { diagonals, .. } => {
                    let giants = diagonals.iter().map(|d| d.giant).filter(|&g| g != 0);
                    giants.for_each(|g| keys.rotate(g, *level));
                }
                SlotOpKind::RotateSum { steps, .. } => steps.iter().for_each(|&s| keys.rotate(s, *level)),
                SlotOpKind::Mul { .. } => keys.relinearization = keys.relinearization.max(*level),
                SlotOpKind::AddPlain { .. } | SlotOpKind::Add { .. } => {}
            }
        }
        let costs: Vec<OpCost> = self
            .ops
            .iter()
            .zip(&levels)
            .map(|(op, &limbs)| {
                let counts = op_counts(self.model, limbs, &op.kind, 1);
                OpCost { counts, us: self.model.microseconds(&counts) }
            })
            .collect();
        for stage in &mut stages {
            let first = self.ops.iter().position(|op| op.layer == stage.name);
            stage.limbs = first.map_or(1, |i| levels[i]);
        }
        let predicted = CostReport {
            us: costs.iter().map(|op| op.us).sum(),
            counts: costs.iter().fold(OperationCounts::default(), |sum, op| sum + op.counts),
            key_bytes: keys.bytes(self.model),
            keys,
            ops: costs,
        };
        let input_elements = self.network.inputs.iter().map(|&t| self.network.tensors[t].len()).collect();
        Ok(Lowered {
            input_limbs: inputs.iter().map(|i| need[i.register]).collect(),
            input_packings: vec!["a channel".to_owned(); inputs.len()],
            program: SlotProgram { n: self.model.slots, registers: self.registers, inputs, ops: self.ops, outputs },
            levels,
            predicted,
            stages,
            held: Vec::new(),
            images: self.network.images,
            input_elements,
        })
    }
}
