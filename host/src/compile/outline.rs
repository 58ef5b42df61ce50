//! Outline: what levels, scales and prices of a lowered program depend on, gathered once.
//!
//! A search over parameters asks for prices and scales thousands of times; an outline answers without looking
//! at weights or slots again. Only one thing about it can be changed: where the rescales go. Levels follow from that.

use super::cost::{CostModel, KeyUse, OperationCounts};
use super::live;
use super::lower::{CostReport, Lowered, OpCost};
use super::slots::{Diagonal, Register, SlotOpKind};

/// The weights of a linear transform.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Distinct non-zero baby steps of each source.
    pub babies: Vec<Vec<u32>>,
    /// Distinct non-zero giant steps of each result.
    pub giants: Vec<Vec<u32>>,
    /// By result, then by source.
    pub blocks: Vec<Vec<Block>>,
}

impl Weights {
    /// Number of diagonals.
    pub fn diagonals(&self) -> usize {
        self.blocks.iter().flatten().map(|b| b.diagonals).sum()
    }

    /// Those that the program stores.
    pub fn stored(&self) -> usize {
        self.blocks.iter().flatten().map(|b| b.stored).sum()
    }
}

/// What a source contributes to a result.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block {
    /// Number of diagonals.
    pub diagonals: usize,
    /// Those that are not the same number in every slot: the program stores them.
    pub stored: usize,
    /// Whether a diagonal takes the input without a baby step.
    pub in_place: bool,
    /// Sum of squares of the weights that a slot meets, mean over the slots that meet any.
    pub power: f64,
    /// The part of `power` on inputs that a baby step rotates.
    pub rotated_power: f64,
    /// Sum over the diagonals of the mean square of what they meet of the source, for the live slots of the result: all of
    /// it meets the rounding of a weight, a weight of zero included.
    pub met_power: f64,
    /// Largest mean absolute weight of a diagonal: a bound for its coefficients.
    pub mean_abs: f64,
}

/// What an operation computes, without the values.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Block matrix times the vector of all sources.
    Linear {
        /// Inputs.
        sources: Vec<Register>,
        /// The weights.
        weights: Weights,
    },
    /// Sum of rotations, the input itself included.
    RotateSum {
        /// Input.
        src: Register,
        /// Left rotations.
        steps: Vec<u32>,
    },
    /// Plaintext sum.
    AddPlain {
        /// Input.
        src: Register,
        /// Mean absolute value of the plaintext.
        mean_abs: f64,
        /// Whether it is not the same number in every slot: the program stores it.
        stored: bool,
    },
    /// Sum.
    Add {
        /// First summand.
        a: Register,
        /// Second summand.
        b: Register,
    },
    /// Product, relinearised.
    Mul {
        /// First factor.
        a: Register,
        /// Second factor.
        b: Register,
    },
}

/// An operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The layer that it belongs to.
    pub layer: String,
    /// The registers that it defines.
    pub results: Vec<Register>,
    /// Limbs of its operands.
    pub limbs: usize,
    /// Whether a rescale follows.
    pub rescale: bool,
    /// What it computes.
    pub step: Step,
}

impl Entry {
    /// The registers that it reads.
    pub fn operands(&self) -> Vec<Register> {
        match &self.step {
            Step::Linear { sources, .. } => sources.clone(),
            Step::RotateSum { src, .. } | Step::AddPlain { src, .. } => vec![*src],
            Step::Add { a, b } | Step::Mul { a, b } => vec![*a, *b],
        }
    }

    fn reads(&self, register: Register) -> bool {
        self.operands().contains(&register)
    }

    /// Its operation counts.
    fn counts(&self, model: &CostModel) -> OperationCounts {
        match &self.step {
            Step::Linear { weights: w, .. } => {
                let counts = |steps: &[Vec<u32>]| steps.iter().map(Vec::len).collect::<Vec<_>>();
                model.linear_transform(self.limbs, &counts(&w.babies), &counts(&w.giants), w.diagonals(), self.rescale)
            }
            Step::RotateSum { steps, .. } => model.rotate_sum(self.limbs, steps.len(), self.rescale),
            Step::AddPlain { .. } => model.add_plain(self.limbs),
            Step::Add { .. } => model.add(self.limbs),
            Step::Mul { .. } => model.mul(self.limbs, self.rescale),
        }
    }
}

/// Chains of which each rescale is placed by itself.
const MAX_CHAINS: usize = 64;

/// A program's operations with the statistics of its weights and values.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// Ring degree.
    pub n: usize,
    /// In the program's order.
    pub entries: Vec<Entry>,
    /// Registers of the inputs and their limbs.
    pub inputs: Vec<(Register, usize)>,
    /// Registers of the outputs and the root mean square of their elements.
    pub outputs: Vec<(Register, f64)>,
    /// Mean square of each register's slots, of those that the outputs depend on: layouts leave gaps, and sums leave parts
    /// beside them.
    pub power: Vec<f64>,
    /// Largest mean absolute value of each register's slots: a bound for its coefficients.
    pub mean_abs: Vec<f64>,
    /// Runs of operations, each the only reader of the one before, of which any may end with the layer's rescale.
    pub chains: Vec<Vec<usize>>,
    /// Products that only linear transforms read: their rescale may be left to these.
    pub products: Vec<usize>,
    /// Of each register the first one that the same operations made from parts of the same tensors: they have the same
    /// scale.
    pub peers: Vec<Register>,
}

impl Outline {
    /// Outlines `lowered`; `runs` are all its registers for some sample inputs.
    pub fn new(lowered: &Lowered, runs: &[Vec<Vec<f64>>]) -> Self {
        let program = &lowered.program;
        let count = runs.len().max(1) as f64;
        let mean =
            |values: &[f64], f: fn(f64) -> f64| values.iter().map(|&v| f(v)).sum::<f64>() / values.len().max(1) as f64;
        let registers = 0..program.registers;
        let live = live::slots(program);
        let squares: Vec<Vec<f64>> = registers.clone().map(|r| mean_squares(runs, r, program.n)).collect();
        let power = registers.clone().map(|r| over_live(&squares[r], &live[r]));
        let mean_abs = registers.map(|r| runs.iter().map(|run| mean(&run[r], f64::abs)).fold(0.0, f64::max));
        let outputs = program.outputs.iter().map(|output| {
            let of = |run: &Vec<Vec<f64>>| {
                output.slot.iter().map(|&s| run[output.register][s as usize].powi(2)).sum::<f64>()
                    / output.slot.len().max(1) as f64
            };
            (output.register, (runs.iter().map(of).sum::<f64>() / count).sqrt())
        });
        let entries = program.ops.iter().zip(&lowered.levels).map(|(op, &limbs)| {
            let (step, rescale) = match &op.kind {
                SlotOpKind::LinearTransform { sources, diagonals, rescale } => {
                    let live: Vec<&[bool]> = op.results.iter().map(|&r| live[r].as_slice()).collect();
                    let squares: Vec<&[f64]> = sources.iter().map(|&r| squares[r].as_slice()).collect();
                    let weights = weights(diagonals, &squares, &live);
                    (Step::Linear { sources: sources.clone(), weights }, *rescale)
                }
                SlotOpKind::RotateSum { src, steps, rescale } => {
                    (Step::RotateSum { src: *src, steps: steps.clone() }, *rescale)
                }
                SlotOpKind::AddPlain { src, values } => {
                    let stored = values.iter().any(|v| *v != values[0]);
                    (Step::AddPlain { src: *src, mean_abs: mean(values, f64::abs), stored }, false)
                }
                SlotOpKind::Add { a, b } => (Step::Add { a: *a, b: *b }, false),
                SlotOpKind::Mul { a, b, rescale } => (Step::Mul { a: *a, b: *b }, *rescale),
            };
            Entry { layer: op.layer.clone(), results: op.results.clone(), limbs, rescale, step }
        });
        let mut outline = Self {
            n: program.n * lowered.images,
            entries: entries.collect(),
            inputs: program.inputs.iter().map(|i| i.register).zip(lowered.input_limbs.iter().copied()).collect(),
            outputs: outputs.collect(),
            power: power.collect(),
            mean_abs: mean_abs.collect(),
            chains: Vec::new(),
            products: Vec::new(),
            peers: (0..program.registers).collect(),
        };
        outline.find_peers();
        outline.chains = outline.find_chains();
        outline.products = outline.find_products();
        outline
    }

    fn find_chains(&self) -> Vec<Vec<usize>> {
        let mut chains: Vec<Vec<usize>> = Vec::new();
        for (i, entry) in self.entries.iter().enumerate() {
            let Step::RotateSum { src, .. } = entry.step else {
                if matches!(entry.step, Step::Linear { .. }) && entry.results.len() == 1 {
                    chains.push(vec![i]);
                }
                continue;
            };
            let readers = self.entries.iter().filter(|e| e.reads(src)).count();
            let alone = readers == 1 && self.outputs.iter().all(|o| o.0 != src);
            match chains.iter_mut().find(|c| alone && c.last().is_some_and(|&last| self.entries[last].results == [src]))
            {
                Some(chain) => chain.push(i),
                None => chains.push(vec![i]),
            }
        }
        chains.retain(|chain| chain.len() > 1 && chain.iter().any(|&i| self.entries[i].rescale));
        // More are those of one layer over and over; their rescales stay where they are.
        if chains.len() > MAX_CHAINS {
            chains.clear();
        }
        chains
    }

    fn find_peers(&mut self) {
        type Made = Vec<(String, Vec<Register>, Register)>;
        let known = |made: &mut Made, entry: &Entry, operands: Vec<Register>| {
            let same = made.iter().find(|(layer, from, _)| *layer == entry.layer && *from == operands);
            let first = same.map_or(entry.results[0], |k| k.2);
            made.push((entry.layer.clone(), operands, first));
            first
        };
        let mut made: Made = Vec::new();
        for entry in &self.entries {
            let first = match &entry.step {
                Step::Linear { sources, .. } => {
                    // The parts of an input are encrypted alike.
                    let mut inputs = sources.iter().filter(|s| self.inputs.iter().any(|i| i.0 == **s));
                    if let Some(&first) = inputs.next() {
                        inputs.for_each(|&input| self.peers[input] = self.peers[first]);
                    }
                    let operands = sources.iter().map(|&r| self.peers[r]).collect();
                    known(&mut made, entry, operands)
                }
                _ => {
                    let operands = entry.operands().iter().map(|&r| self.peers[r]).collect();
                    known(&mut made, entry, operands)
                }
            };
            entry.results.iter().for_each(|&r| self.peers[r] = first);
        }
    }

    fn find_products(&self) -> Vec<usize> {
        let linear = |e: &Entry| matches!(e.step, Step::Linear { .. });
        let only_linear =
            |dst| self.entries.iter().filter(|e| e.reads(dst)).all(linear) && self.outputs.iter().all(|o| o.0 != dst);
        let products = self.entries.iter().enumerate().filter(|(_, e)| matches!(e.step, Step::Mul { .. }));
        products.filter(|(_, e)| only_linear(e.results[0])).map(|(i, _)| i).collect()
    }

    /// Limbs of all operations and inputs: the least with which the outputs keep theirs.
    fn relevel(&mut self, ends: &[usize]) {
        let mut need = vec![1; self.power.len()];
        for (&(register, _), &end) in self.outputs.iter().zip(ends) {
            need[register] = end;
        }
        for entry in self.entries.iter_mut().rev() {
            let end = entry.results.iter().map(|&r| need[r]).max().unwrap_or(1);
            entry.limbs = end + usize::from(entry.rescale);
            for operand in entry.operands() {
                need[operand] = need[operand].max(entry.limbs);
            }
        }
        for (register, limbs) in &mut self.inputs {
            *limbs = need[*register];
        }
    }

    /// Limbs that the outputs are left with.
    fn ends(&self) -> Vec<usize> {
        let end = |register| {
            let last = self.entries.iter().rev().find(|e| e.results.contains(&register));
            last.map_or(1, |e| e.limbs - usize::from(e.rescale))
        };
        self.outputs.iter().map(|o| end(o.0)).collect()
    }

    /// Lets the products in `without` go without a rescale, all others rescale.
    pub fn rescale_products(&mut self, without: &[usize]) {
        let ends = self.ends();
        for &i in &self.products {
            self.entries[i].rescale = !without.contains(&i);
        }
        self.relevel(&ends);
    }

    /// Whether `register` is a product that was not rescaled.
    pub fn is_unrescaled(&self, register: Register) -> bool {
        self.products.iter().any(|&i| self.entries[i].results == [register] && !self.entries[i].rescale)
    }

    /// The position in `chain` that rescales.
    pub fn position(&self, chain: usize) -> usize {
        self.chains[chain].iter().position(|&i| self.entries[i].rescale).unwrap_or(0)
    }

    /// Lets position `to` of `chain` rescale: later is more precise, earlier is cheaper.
    pub fn rescale_at(&mut self, chain: usize, to: usize) {
        let ends = self.ends();
        for (position, &i) in self.chains[chain].iter().enumerate() {
            self.entries[i].rescale = position == to;
        }
        self.relevel(&ends);
    }

    /// Limbs that the inputs need.
    pub fn limbs(&self) -> usize {
        self.inputs.iter().map(|i| i.1).chain(self.entries.iter().map(|e| e.limbs)).max().unwrap_or(1)
    }

    /// Predicted microseconds.
    pub fn microseconds(&self, model: &CostModel) -> f64 {
        self.entries.iter().map(|e| model.microseconds(&e.counts(model))).sum()
    }

    /// Evaluation keys.
    pub fn keys(&self) -> KeyUse {
        let mut keys = KeyUse::default();
        for entry in &self.entries {
            match &entry.step {
                Step::Linear { weights, .. } => {
                    let steps = weights.babies.iter().chain(&weights.giants).flatten();
                    steps.for_each(|&r| keys.rotate(r, entry.limbs));
                }
                Step::RotateSum { steps, .. } => steps.iter().for_each(|&r| keys.rotate(r, entry.limbs)),
                Step::Mul { .. } => keys.relinearization = keys.relinearization.max(entry.limbs),
                Step::AddPlain { .. } | Step::Add { .. } => {}
            }
        }
        keys
    }

    /// Bytes of evaluation keys and of plaintexts at 16 bits a coefficient.
    pub fn flash(&self, model: &CostModel) -> usize {
        let plaintexts: usize = self
            .entries
            .iter()
            .map(|e| match &e.step {
                Step::Linear { weights, .. } => weights.diagonals(),
                Step::AddPlain { .. } => 1,
                _ => 0,
            })
            .sum();
        self.keys().bytes(model) + plaintexts * self.n * 2
    }

    /// Predicted cost, operation by operation.
    pub fn report(&self, model: &CostModel) -> CostReport {
        let ops = self.entries.iter().map(|entry| {
            let counts = entry.counts(model);
            OpCost { counts, us: model.microseconds(&counts) }
        });
        let ops: Vec<OpCost> = ops.collect();
        let keys = self.keys();
        CostReport {
            counts: ops.iter().fold(OperationCounts::default(), |sum, op| sum + op.counts),
            us: ops.iter().map(|op| op.us).sum(),
            key_bytes: keys.bytes(model),
            keys,
            ops,
        }
    }

    /// Writes levels, rescales and prices back to the program that was outlined.
    pub fn apply(&self, lowered: &mut Lowered, model: &CostModel) {
        for (op, entry) in lowered.program.ops.iter_mut().zip(&self.entries) {
            if let SlotOpKind::LinearTransform { rescale, .. }
            | SlotOpKind::RotateSum { rescale, .. }
            | SlotOpKind::Mul { rescale, .. } = &mut op.kind
            {
                *rescale = entry.rescale;
            }
        }
        for stage in &mut lowered.stages {
            let first = self.entries.iter().find(|e| e.layer == stage.name);
            stage.limbs = first.map_or(stage.limbs, |e| e.limbs);
        }
        lowered.input_limbs = self.inputs.iter().map(|i| i.1).collect();
        lowered.levels = self.entries.iter().map(|e| e.limbs).collect();
        lowered.predicted = self.report(model);
    }
}

fn distinct(steps: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut steps: Vec<u32> = steps.filter(|&s| s != 0).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

/// Mean square of each slot of register `r`.
fn mean_squares(runs: &[Vec<Vec<f64>>], r: usize, n: usize) -> Vec<f64> {
    let mut squares = vec![0.0; n];
    for run in runs {
        squares.iter_mut().zip(&run[r]).for_each(|(square, v)| *square += v * v);
    }
    squares.iter_mut().for_each(|square| *square /= runs.len().max(1) as f64);
    squares
}

/// Mean over the live slots.
fn over_live(values: &[f64], live: &[bool]) -> f64 {
    let values = values.iter().zip(live).filter(|v| *v.1);
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), (v, _)| (sum + v, count + 1));
    sum / count.max(1) as f64
}

/// The weights of the sources with these mean squares, by what each result's live slots meet of them.
fn weights(diagonals: &[Diagonal], squares: &[&[f64]], live: &[&[bool]]) -> Weights {
    let sources = squares.len();
    let babies = |s: usize| distinct(diagonals.iter().filter(|d| d.source == s).map(|d| d.baby));
    let giants = |r: usize| distinct(diagonals.iter().filter(|d| d.result == r).map(|d| d.giant));
    let of_result = |r: usize| {
        // Slots without weights carry no error; the mean over those with weights is what counts.
        let n = live[r].len();
        let mut met = vec![false; n];
        for d in diagonals.iter().filter(|d| d.result == r) {
            met.iter_mut().zip(&d.values).for_each(|(met, &v)| *met |= v != 0.0);
        }
        met.iter_mut().zip(live[r]).for_each(|(met, &live)| *met &= live);
        let alive = live[r].iter().filter(|&&l| l).count().max(1) as f64;
        let used = met.iter().filter(|&&m| m).count().max(1) as f64;
        let mut blocks = vec![Block::default(); sources];
        for d in diagonals.iter().filter(|d| d.result == r) {
            let block = &mut blocks[d.source];
            let power = d.values.iter().zip(&met).filter(|v| *v.1).map(|(v, _)| v * v).sum::<f64>() / used;
            block.diagonals += 1;
            block.stored += usize::from(d.values.iter().any(|v| *v != d.values[0]));
            block.in_place |= d.baby == 0;
            block.power += power;
            block.rotated_power += if d.baby == 0 { 0.0 } else { power };
            let step = (d.baby as usize + d.giant as usize) % n;
            let (now, later) = squares[d.source].split_at(step);
            let meets = live[r].iter().zip(later.iter().chain(now)).filter(|m| *m.0);
            block.met_power += meets.map(|m| m.1).sum::<f64>() / alive;
            block.mean_abs = block.mean_abs.max(d.values.iter().map(|v| v.abs()).sum::<f64>() / n as f64);
        }
        blocks
    };
    Weights {
        babies: (0..sources).map(babies).collect(),
        giants: (0..live.len()).map(giants).collect(),
        blocks: (0..live.len()).map(of_result).collect(),
    }
}
