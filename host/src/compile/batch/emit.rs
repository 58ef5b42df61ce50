//! The program file: instructions, groups of products, integer weights.

use super::levels::Levels;
use super::stream::{RowId, Step, Stream};
use super::values::{Node, Term, Values};
use crate::batch::{BatchMeta, BatchOutput};
use crate::compile::emit::{EmitError, assemble, double, params, words};
use crate::compile::graph::Network;
use crate::compile::import::ModelGraph;
use cipherlens_kernel::batch::BatchProgram;
use cipherlens_kernel::batch::format::{
    BATCH_SECTIONS, BatchSection, FLAG_ACCUMULATE, GROUP_WORDS, MAX_COLUMNS, NO_BIAS, opcode,
};
use cipherlens_kernel::ckks::Scale;
use cipherlens_kernel::math::MAX_PRODUCT;
use cipherlens_kernel::wire::FileKind;
use std::collections::HashMap;

/// Words that several groups may share.
#[derive(Default)]
struct Pool {
    words: Vec<u8>,
    known: HashMap<Vec<u32>, u32>,
}

impl Pool {
    fn put(&mut self, list: Vec<u32>) -> u32 {
        let at = (self.words.len() / 4) as u32;
        if let Some(&known) = self.known.get(&list) {
            return known;
        }
        words(&mut self.words, &list);
        self.known.insert(list, at);
        at
    }
}

struct Emitter<'e, 'a> {
    values: &'e Values<'a>,
    levels: &'e Levels,
    stream: &'e Stream,
    pool: Pool,
    groups: Vec<u8>,
    instructions: Vec<u8>,
}

/// Where the cells of a row lie: first row, limbs, polynomials.
type CellWords = [u32; 3];

impl Emitter<'_, '_> {
    fn cells(&self, row: RowId) -> CellWords {
        let polys = self.values.list[row.0].polys as u32;
        [self.stream.placement.of[&row] as u32, self.levels.of(self.values, row.0) as u32, polys]
    }

    fn cell(&self, row: RowId, place: usize) -> u32 {
        let [at, limbs, polys] = self.cells(row);
        at + place as u32 * limbs * polys
    }

    /// The groups of a step: first one and number.
    fn linear(&mut self, to: RowId, term: usize, rows: &[usize], accumulate: bool) -> (u32, u32) {
        let Node::Linear { terms, bias } = &self.values.list[to.0].node else { unreachable!("a linear step") };
        let Term { source, matrix, .. } = terms[term];
        let (layout, from) = (self.stream.layouts[to.0], self.stream.layouts[source]);
        let factor = self.levels.factor(to.0, source);
        let first = self.groups.len() / (4 * GROUP_WORDS);
        // Results that follow each other and are sums over the same ciphertexts.
        let entries = |place: usize| -> Vec<(u32, i32)> {
            let row = matrix.row(layout.element(to.1, place)).filter_map(|(column, weight)| {
                let (row, place) = from.place(column);
                let weight = (weight * factor).round() as i32;
                rows.contains(&row).then(|| (self.cell((source, row), place), weight))
            });
            row.collect()
        };
        let any = self.cell((source, rows[0]), 0);
        let all: Vec<Vec<(u32, i32)>> = (0..layout.len(to.1)).map(entries).collect();
        let taps = |place: usize| all[place].iter().map(|e| e.0);
        let mut start = 0;
        while start < all.len() {
            let same = (start..all.len()).take_while(|&place| taps(place).eq(taps(start))).count();
            self.group(&all[start..start + same], start, (!accumulate).then_some((to, bias)), (any, accumulate));
            start += same;
        }
        let number = self.groups.len() / (4 * GROUP_WORDS) - first;
        (first as u32, number as u32)
    }

    /// The groups of results `first ..` that are sums over the same ciphertexts.
    fn group(
        &mut self,
        results: &[Vec<(u32, i32)>],
        first: usize,
        bias: Option<(RowId, &[f64])>,
        (any, accumulate): (u32, bool),
    ) {
        if results[0].is_empty() && accumulate {
            return;
        }
        // A result without any source is its bias: plus no times some ciphertext.
        let padding = [(any, 0i32)];
        let padded = results[0].is_empty();
        let length = results[0].len().max(1);
        for (i, at) in (0..length).step_by(MAX_PRODUCT).enumerate() {
            let end = (at + MAX_PRODUCT).min(length);
            let of = |result: &'_ Vec<(u32, i32)>| -> Vec<(u32, i32)> {
                if padded { padding.to_vec() } else { result[at..end].to_vec() }
            };
            let taps = self.pool.put(of(&results[0]).iter().map(|e| e.0).collect());
            for (j, columns) in results.chunks(MAX_COLUMNS).enumerate() {
                let columns: Vec<Vec<(u32, i32)>> = columns.iter().map(of).collect();
                let weights = (0..end - at).flat_map(|k| columns.iter().map(move |c| c[k].1 as u32)).collect();
                let weights = self.pool.put(weights);
                let place = first + j * MAX_COLUMNS;
                let (biases, shift) = match bias.filter(|_| i == 0) {
                    Some((to, bias)) => self.biases(to, bias, place, columns.len()),
                    None => (NO_BIAS, 0),
                };
                let flags = if accumulate || i > 0 { FLAG_ACCUMULATE } else { 0 };
                let (taps_len, count) = ((end - at) as u32, columns.len() as u32);
                words(&mut self.groups, &[taps, taps_len, weights, count, place as u32, biases, flags, shift]);
            }
        }
    }

    /// Biases as integers of 62 bits and their unit.
    fn biases(&mut self, to: RowId, bias: &[f64], first: usize, count: usize) -> (u32, u32) {
        let layout = self.stream.layouts[to.0];
        let scale = self.levels.scales[to.0];
        let scaled: Vec<f64> = (first..first + count).map(|p| bias[layout.element(to.1, p)] * scale).collect();
        let largest = scaled.iter().fold(0.0, |largest: f64, b| b.abs().max(largest));
        if largest < 0.5 {
            return (NO_BIAS, 0);
        }
        let shift = (libm::log2(largest) - 61.0).ceil().max(0.0) as u32;
        let unit = libm::exp2(f64::from(shift));
        let integers = scaled.iter().map(|b| (b / unit).round() as i64);
        (self.pool.put(integers.flat_map(|b| [b as u32, (b >> 32) as u32]).collect()), shift)
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of a record")]
    fn record(
        &mut self,
        code: u32,
        id: usize,
        limbs: usize,
        count: usize,
        first: u32,
        [a, b, to]: [CellWords; 3],
        extra: u32,
        scale: f64,
    ) -> Result<(), EmitError> {
        let scale = Scale::new(scale).ok_or(EmitError::Scale { layer: self.values.list[id].layer.clone() })?;
        let [lo, hi] = double(scale);
        words(&mut self.instructions, &[code, id as u32, limbs as u32, count as u32, first]);
        words(&mut self.instructions, &a);
        words(&mut self.instructions, &b[..2]);
        words(&mut self.instructions, &to);
        words(&mut self.instructions, &[extra, lo, hi]);
        Ok(())
    }
}

/// The bytes of the program file.
///
/// # Errors
/// A scale that is out of range, a file above 4 GiB, or a program that the kernel's verifier refuses.
pub fn emit(
    model: &ModelGraph,
    network: &Network,
    values: &Values<'_>,
    levels: &Levels,
    stream: &Stream,
) -> Result<Vec<u8>, EmitError> {
    let mut e = Emitter { values, levels, stream, pool: Pool::default(), groups: Vec::new(), instructions: Vec::new() };
    let none = [0u32; 3];
    let mut inputs = Vec::new();
    let mut outputs: Vec<BatchOutput> = network
        .outputs
        .iter()
        .map(|&t| BatchOutput {
            name: network.tensors[t].name.clone(),
            shape: network.tensors[t].shape.clone(),
            element: Vec::new(),
        })
        .collect();
    let mut stored = 0u32;
    for step in &stream.steps {
        let row = step.writes();
        let id = row.map_or(0, |r| r.0);
        let (value, len) = (&values.list[id], row.map_or(0, |r| stream.layouts[r.0].len(r.1)));
        let limbs = levels.of(values, id);
        match step {
            Step::Load(row) => {
                let to = e.cells(*row);
                e.record(opcode::LOAD, id, limbs, len, inputs.len() as u32, [none, none, to], 0, levels.scales[id])?;
                inputs.extend((0..len).map(|p| stream.layouts[id].element(row.1, p) as u32));
            }
            Step::Linear { to, term, rows, accumulate } => {
                let Node::Linear { terms, .. } = &value.node else { unreachable!("a linear step") };
                let source = terms[*term].source;
                let (first, number) = e.linear(*to, *term, rows, *accumulate);
                let [_, from_limbs, polys] = e.cells((source, rows[0]));
                let cells = [[0, from_limbs, polys], none, e.cells(*to)];
                e.record(opcode::LINEAR, id, limbs, len, first, cells, number, levels.scales[id])?;
            }
            Step::Mul(row) => {
                let sources = value.sources();
                let cells = [e.cells((sources[0], row.1)), e.cells((sources[1], row.1)), e.cells(*row)];
                e.record(opcode::MUL, id, limbs, len, 0, cells, 0, levels.scales[id])?;
            }
            Step::Divide(row) => {
                let source = value.sources()[0];
                let before = levels.of(values, source);
                let cells = [e.cells((source, row.1)), none, e.cells(*row)];
                let drop = (before - limbs) as u32;
                e.record(opcode::DIVIDE, id, before, len, 0, cells, drop, levels.scales[id])?;
            }
            Step::Store(row, output) => {
                let layout = stream.layouts[row.0];
                let cells = [e.cells(*row), none, none];
                let limbs = levels.of(values, row.0);
                e.record(opcode::STORE, row.0, limbs, layout.len(row.1), stored, cells, 0, levels.scales[row.0])?;
                let elements = (0..layout.len(row.1)).map(|p| [stored + p as u32, layout.element(row.1, p) as u32]);
                outputs[*output].element.extend(elements);
                stored += layout.len(row.1) as u32;
            }
        }
    }
    let mut sections = vec![Vec::new(); BATCH_SECTIONS];
    let switched = values.list.iter().filter_map(|v| match v.node {
        Node::Divide { source, .. } if values.list[source].polys == 3 => Some(levels.of(values, source)),
        _ => None,
    });
    if let Some(limbs) = switched.max() {
        words(&mut sections[BatchSection::Manifest as usize], &[0, limbs as u32]);
    }
    for value in &values.list {
        let text = &mut sections[BatchSection::Text as usize];
        let at = text.len() as u32;
        text.extend_from_slice(value.layer.as_bytes());
        words(&mut sections[BatchSection::Names as usize], &[at, value.layer.len() as u32]);
    }
    let set = &levels.set;
    let input = &network.tensors[network.inputs[0]];
    let meta = BatchMeta {
        model: model.name.clone(),
        mode: "batch".into(),
        input: BatchOutput {
            name: input.name.clone(),
            shape: input.shape.clone(),
            element: inputs.iter().enumerate().map(|(i, &e)| [i as u32, e]).collect(),
        },
        outputs,
        output_error: values.outputs.iter().map(|&o| levels.errors[o]).collect(),
        precision_bits: levels.precision,
        view: model.view,
        labels: model.labels.clone(),
    };
    let ports = [levels.limbs[0] as u32, stream.placement.rows as u32, inputs.len() as u32, stored];
    sections[BatchSection::Params as usize] = params(set, ports);
    sections[BatchSection::Instructions as usize] = e.instructions;
    sections[BatchSection::Groups as usize] = e.groups;
    sections[BatchSection::Words as usize] = e.pool.words;
    sections[BatchSection::Meta as usize] = serde_json::to_vec(&meta).expect("the metadata is plain data");
    let bytes = assemble(&sections, FileKind::BatchProgram, set)?;
    BatchProgram::verify(&bytes).map_err(EmitError::Refused)?;
    Ok(bytes)
}
