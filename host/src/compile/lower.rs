//! From a network to a slot program: levels, layout search, emission.

use std::collections::BTreeMap;

use thiserror::Error;

use super::check::check;
use super::cost::{CostModel, KeyUse, OperationCounts};
use super::cover::{Placement, cover};
use super::fold::offsets;
use super::graph::{AffineTerm, Network, Op, Stage};
use super::input::{Part, reads, split};
use super::layout::{Layout, Slot};
use super::search::{Found, Plan, Settings, search};
use super::slots::{Diagonal, Register, SlotInput, SlotOp, SlotOpKind, SlotOutput, SlotProgram};

/// What the lowering may choose from.
#[derive(Debug, Clone, PartialEq)]
pub struct LowerOptions {
    /// Ring, key switching and prices.
    pub model: CostModel,
    /// Limbs of the inputs; none for the least that suffices. Limbs beyond that stay to the end.
    pub limbs: Option<usize>,
    /// Whether every rotate-and-sum comes before its rescale: one limb more, less noise.
    pub precise: bool,
    /// States that the layout search keeps.
    pub beam: usize,
    /// Most ciphertexts for one input: more save rotations in the first layer and cost bandwidth.
    pub input_ciphertexts: usize,
}

impl LowerOptions {
    /// Defaults for `n` slots, digits of `alpha` primes and `special` special primes.
    pub fn new(n: usize, alpha: usize, special: usize) -> Self {
        Self { model: CostModel::new(n, alpha, special), limbs: None, precise: false, beam: 12, input_ciphertexts: 1 }
    }
}

/// Why a network cannot be lowered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LowerError {
    /// The number of slots is not a power of two.
    #[error("{n} slots: the number of slots must be a power of two, at least 4")]
    Slots {
        /// Number of slots.
        n: usize,
    },
    /// A tensor does not fit one ciphertext.
    #[error(
        "stage `{stage}`: tensor `{tensor}` has {elements} elements but a ciphertext has {slots} slots; choose a larger ring or a smaller layer"
    )]
    TooLarge {
        /// Stage that defines or first reads the tensor.
        stage: String,
        /// Name of the tensor.
        tensor: String,
        /// Its elements.
        elements: usize,
        /// Slots of a ciphertext.
        slots: usize,
    },
    /// Shapes, matrices or tensor references that do not fit together.
    #[error("stage `{stage}`: {reason}")]
    Malformed {
        /// The stage.
        stage: String,
        /// What is wrong.
        reason: String,
    },
    /// No layout serves a stage.
    #[error("stage `{stage}`: {reason}")]
    NoLayout {
        /// The stage.
        stage: String,
        /// What is missing.
        reason: String,
    },
    /// The inputs have too few limbs for the depth.
    #[error("the network needs {needed} limbs but the inputs have {given}")]
    Limbs {
        /// Limbs needed.
        needed: usize,
        /// Limbs given.
        given: usize,
    },
}

/// Predicted cost of one operation.
#[derive(Debug, Clone, PartialEq)]
pub struct OpCost {
    /// Operation counts.
    pub counts: OperationCounts,
    /// Predicted microseconds.
    pub us: f64,
}

/// Predicted cost of a program.
#[derive(Debug, Clone, PartialEq)]
pub struct CostReport {
    /// By operation of the program.
    pub ops: Vec<OpCost>,
    /// Sums over all operations.
    pub counts: OperationCounts,
    /// Predicted microseconds on one core.
    pub us: f64,
    /// Evaluation keys needed.
    pub keys: KeyUse,
    /// Their bytes, seeded.
    pub key_bytes: usize,
}

/// What became of one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageReport {
    /// The stage's name.
    pub name: String,
    /// Limbs at which it starts.
    pub limbs: usize,
    /// How it is evaluated.
    pub strategy: String,
}

/// A lowered network.
#[derive(Debug, Clone, PartialEq)]
pub struct Lowered {
    /// The program.
    pub program: SlotProgram,
    /// Limbs of each encrypted input.
    pub input_limbs: Vec<usize>,
    /// Limbs at which each operation runs; operands with more are dropped to it first.
    pub levels: Vec<usize>,
    /// Predicted cost.
    pub predicted: CostReport,
    /// How each input is packed, in order of the program's inputs.
    pub input_packings: Vec<String>,
    /// How each stage is evaluated.
    pub stages: Vec<StageReport>,
}

/// Limbs of each tensor when every limb that no later stage needs is dropped.
fn limbs(network: &Network, last: usize) -> Vec<usize> {
    let mut limbs = vec![last; network.tensors.len()];
    for stage in network.stages.iter().rev() {
        let start = limbs[stage.output] + 1;
        for tensor in reads(stage) {
            limbs[tensor] = limbs[tensor].max(start);
        }
    }
    limbs
}

/// Limbs that the inputs need for the depth of the network.
pub fn needed_limbs(network: &Network) -> usize {
    let limbs = limbs(network, 1);
    network.inputs.iter().map(|&t| limbs[t]).max().unwrap_or(1)
}

/// Lowers a network: finds layouts, emits the program and predicts its cost.
///
/// # Errors
/// A tensor that does not fit, a malformed network, a product of tensors in different layouts, or too few limbs.
pub fn lower(network: &Network, options: &LowerOptions) -> Result<Lowered, LowerError> {
    check(network, options.model.n)?;
    let needed = needed_limbs(network);
    let given = options.limbs.unwrap_or(needed);
    if given < needed {
        return Err(LowerError::Limbs { needed, given });
    }
    let last = 1 + given - needed;
    let whole: Vec<Part> = (0..network.inputs.len()).map(|input| Part { input, index: 0, of: 1 }).collect();
    let mut best = plan(network, &whole, last, options);
    let mut of = 2;
    while of <= options.input_ciphertexts {
        if let Some((network, parts)) = split(network, of)
            && let Ok(lowered) = plan(&network, &parts, last, options)
            && best.as_ref().map_or(true, |best| lowered.predicted.us < best.predicted.us)
        {
            best = Ok(lowered);
        }
        of *= 2;
    }
    best
}

/// Searches and emits a network whose inputs are those parts; its outputs end with `last` limbs.
fn plan(network: &Network, parts: &[Part], last: usize, options: &LowerOptions) -> Result<Lowered, LowerError> {
    let tensor_limbs = limbs(network, last);
    let starts: Vec<usize> = network.stages.iter().map(|s| tensor_limbs[s.output] + 1).collect();
    let settings =
        Settings { parts, model: &options.model, limbs: &starts, precise: options.precise, beam: options.beam };
    let found = search(network, &settings).map_err(|index| LowerError::NoLayout {
        stage: network.stages[index].name.clone(),
        reason: match network.stages[index].op {
            Op::Mul(..) => {
                "the factors are in different layouts; compute one of them by an affine stage next to the product"
                    .to_owned()
            }
            Op::Affine { .. } => "no layout reaches every input element".to_owned(),
        },
    })?;
    Emitter::new(network, options, &tensor_limbs, &starts).emit(parts, &found)
}

struct Emitter<'a> {
    network: &'a Network,
    model: &'a CostModel,
    tensor_limbs: &'a [usize],
    starts: &'a [usize],
    register: Vec<Option<Register>>,
    registers: usize,
    ops: Vec<SlotOp>,
    levels: Vec<usize>,
    costs: Vec<OpCost>,
}

impl<'a> Emitter<'a> {
    fn new(network: &'a Network, options: &'a LowerOptions, tensor_limbs: &'a [usize], starts: &'a [usize]) -> Self {
        Self {
            network,
            model: &options.model,
            tensor_limbs,
            starts,
            register: vec![None; network.tensors.len()],
            registers: 0,
            ops: Vec::new(),
            levels: Vec::new(),
            costs: Vec::new(),
        }
    }

    fn fresh(&mut self) -> Register {
        self.registers += 1;
        self.registers - 1
    }

    fn push(&mut self, layer: &str, limbs: usize, kind: SlotOpKind) -> Register {
        let counts = op_counts(self.model, limbs, &kind);
        let dst = self.fresh();
        self.ops.push(SlotOp { layer: layer.to_owned(), dst, kind });
        self.levels.push(limbs);
        self.costs.push(OpCost { counts, us: self.model.microseconds(&counts) });
        dst
    }

    fn emit(mut self, parts: &[Part], found: &Found) -> Result<Lowered, LowerError> {
        let network = self.network;
        let missing =
            |stage: &str| LowerError::NoLayout { stage: stage.to_owned(), reason: "a tensor has no layout".to_owned() };
        let mut inputs = Vec::new();
        let mut input_packings = Vec::new();
        for (part, &tensor) in parts.iter().zip(&network.inputs) {
            let packing = found.packings[tensor].as_ref().ok_or_else(|| missing("input"))?;
            let register = self.fresh();
            self.register[tensor] = Some(register);
            let element =
                packing.layout.slots.iter().map(|slot| if let Slot::Element(e) = slot { Some(*e) } else { None });
            inputs.push(SlotInput { register, input: part.input, element: element.collect() });
            input_packings.push(packing.name.clone());
        }
        let mut stages = Vec::new();
        for (index, stage) in network.stages.iter().enumerate() {
            let limbs = self.starts[index];
            let (register, strategy) = match (&stage.op, &found.plans[index]) {
                (Op::Affine { terms, bias }, Some(plan)) => {
                    let layouts: Option<Vec<&Layout>> =
                        terms.iter().map(|t| found.packings[t.input].as_ref().map(|p| &p.layout)).collect();
                    let layouts = layouts.ok_or_else(|| missing(&stage.name))?;
                    let register = self.affine(stage, limbs, terms, &layouts, bias, plan);
                    (register, Some(describe(plan)))
                }
                (Op::Mul(a, b), _) => {
                    let operands = self.register[*a].zip(self.register[*b]);
                    let register =
                        operands.map(|(a, b)| self.push(&stage.name, limbs, SlotOpKind::Mul { a, b, rescale: true }));
                    (register, Some(if a == b { "square" } else { "product" }.to_owned()))
                }
                _ => (None, None),
            };
            let (Some(register), Some(strategy)) = (register, strategy) else {
                return Err(missing(&stage.name));
            };
            self.register[stage.output] = Some(register);
            stages.push(StageReport { name: stage.name.clone(), limbs, strategy });
        }
        let mut outputs = Vec::new();
        for (output, &tensor) in network.outputs.iter().enumerate() {
            let packing = found.packings[tensor].as_ref().ok_or_else(|| missing("output"))?;
            let slot = packing.layout.first_slots(network.tensors[tensor].len());
            let (Some(register), Some(slot)) = (self.register[tensor], slot) else {
                return Err(missing("output"));
            };
            outputs.push(SlotOutput { register, output, slot });
        }
        let counts = self.costs.iter().fold(OperationCounts::default(), |sum, op| sum + op.counts);
        let predicted = CostReport {
            us: self.costs.iter().map(|op| op.us).sum(),
            counts,
            key_bytes: found.keys.bytes(self.model),
            keys: found.keys.clone(),
            ops: self.costs,
        };
        Ok(Lowered {
            program: SlotProgram { n: self.model.n, registers: self.registers, inputs, ops: self.ops, outputs },
            input_limbs: network.inputs.iter().map(|&t| self.tensor_limbs[t]).collect(),
            levels: self.levels,
            predicted,
            input_packings,
            stages,
        })
    }

    fn affine(
        &mut self,
        stage: &Stage,
        limbs: usize,
        terms: &[AffineTerm],
        layouts: &[&Layout],
        bias: &[f64],
        plan: &Plan,
    ) -> Option<Register> {
        let chain = offsets(&plan.strategy.fold, self.model.n);
        let placement = Placement { homes: &plan.strategy.homes, offsets: &chain };
        let layer = stage.name.as_str();
        let mut limbs = limbs;
        let partial_limbs = if plan.rescale_after == 0 { limbs - 1 } else { limbs };
        let mut sum: Option<Register> = None;
        for (index, term) in terms.iter().enumerate() {
            let is_last = index + 1 == terms.len();
            if plan.splits[index].steps.is_empty() && !(is_last && sum.is_none()) {
                continue;
            }
            let diagonals = diagonals(self.model.n, term, layouts[index], placement, plan, index)?;
            let src = self.register[term.input]?;
            let kind = SlotOpKind::LinearTransform { src, diagonals, rescale: plan.rescale_after == 0 };
            let register = self.push(layer, limbs, kind);
            sum = Some(match sum {
                Some(a) => self.push(layer, partial_limbs, SlotOpKind::Add { a, b: register }),
                None => register,
            });
        }
        let mut register = sum?;
        limbs = partial_limbs;
        for (index, steps) in plan.rounds.iter().enumerate() {
            let rescale = index + 1 == plan.rescale_after;
            register = self.push(layer, limbs, SlotOpKind::RotateSum { src: register, steps: steps.clone(), rescale });
            limbs -= usize::from(rescale);
        }
        if bias.iter().any(|&b| b != 0.0) {
            let value = |slot: &Slot| {
                if let Slot::Element(e) = slot { bias[*e as usize] } else { 0.0 }
            };
            let values = plan.packing.layout.slots.iter().map(value).collect();
            register = self.push(layer, limbs, SlotOpKind::AddPlain { src: register, values });
        }
        Some(register)
    }
}

/// The weights of one term by diagonal, in the order of the plan's split.
fn diagonals(
    n: usize,
    term: &AffineTerm,
    layout: &Layout,
    placement: Placement<'_>,
    plan: &Plan,
    index: usize,
) -> Option<Vec<Diagonal>> {
    let mut values: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    cover(&term.matrix, layout, placement, &plan.strategy.preferred[index], true, |slot, d, _, entry| {
        values.entry(d).or_insert_with(|| vec![0.0; n])[slot] = term.matrix.value[entry];
    })?;
    if values.is_empty() {
        return Some(vec![Diagonal { baby: 0, giant: 0, values: vec![0.0; n] }]);
    }
    let steps = plan.splits[index].steps.iter();
    steps.map(|s| Some(Diagonal { baby: s.baby, giant: s.giant, values: values.remove(&s.diagonal)? })).collect()
}

/// The operation counts of one operation at `limbs` limbs.
pub fn op_counts(model: &CostModel, limbs: usize, kind: &SlotOpKind) -> OperationCounts {
    match kind {
        SlotOpKind::LinearTransform { diagonals, rescale, .. } => {
            let distinct = |step: fn(&Diagonal) -> u32| {
                let mut steps: Vec<u32> = diagonals.iter().map(step).filter(|&s| s != 0).collect();
                steps.sort_unstable();
                steps.dedup();
                steps.len()
            };
            model.linear_transform(limbs, distinct(|d| d.baby), distinct(|d| d.giant), diagonals.len(), *rescale)
        }
        SlotOpKind::RotateSum { steps, rescale, .. } => model.rotate_sum(limbs, steps.len(), *rescale),
        SlotOpKind::AddPlain { .. } => model.add_plain(limbs),
        SlotOpKind::Add { .. } => model.add(limbs),
        SlotOpKind::Mul { rescale, .. } => model.mul(limbs, *rescale),
    }
}

fn describe(plan: &Plan) -> String {
    let mut splits: Vec<(usize, String)> = Vec::new();
    for split in &plan.splits {
        let (babies, giants) = (split.babies.len(), split.giants.len());
        let text = format!("{} diagonals ({babies} baby, {giants} giant steps)", split.steps.len());
        match splits.last_mut() {
            Some((times, last)) if *last == text => *times += 1,
            _ => splits.push((1, text)),
        }
    }
    let splits: Vec<String> =
        splits.into_iter().map(|(times, text)| if times > 1 { format!("{times} x {text}") } else { text }).collect();
    let mut text = format!("{}: {}", plan.strategy.name, splits.join(" + "));
    if !plan.rounds.is_empty() {
        let radices: Vec<String> = plan.rounds.iter().map(|r| (r.len() + 1).to_string()).collect();
        text += &format!(", fold {}", radices.join("x"));
    }
    text
}

#[cfg(test)]
mod tests;
