//! From a network to a slot program: levels, layout search, emission.

use std::collections::BTreeMap;
use std::ops::Range;

use thiserror::Error;

use super::bsgs::Step;
use super::check::check;
use super::cost::{CostModel, KeyUse, OperationCounts};
use super::cover::{Placement, cover};
use super::fold::offsets;
use super::graph::{AffineTerm, LayoutKind, Network, Op, Stage, TensorId};
use super::input::{Part, reads, split};
use super::layout::{Layout, Slot};
use super::partition::{Partitioned, partition};
use super::search::{Found, Plan, Settings, is_joint, search};
use super::slots::{Diagonal, Register, SlotInput, SlotOp, SlotOpKind, SlotOutput, SlotProgram};
use super::space_to_depth::space_to_depth;
use super::volley_revolver;

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

/// A run of a tensor's elements in a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The tensor, of the network that was lowered.
    pub tensor: TensorId,
    /// Its first element here.
    pub first: usize,
    /// The register.
    pub register: Register,
    /// Slot of each element; where several hold it, the first.
    pub slot: Vec<u32>,
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
    /// Where the tensors are that the stages define.
    pub held: Vec<Held>,
    /// Images that are to share each ciphertext of the program, which is for one of them.
    pub images: usize,
    /// Elements of one image, by the network's input.
    pub input_elements: Vec<usize>,
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
    if network.layout == LayoutKind::VolleyRevolver {
        // At most: there a mask takes a level of its own.
        let levels = |stage: &Stage| 1 + usize::from(matches!(stage.op, Op::Affine { .. }));
        return 1 + network.stages.iter().map(levels).sum::<usize>();
    }
    let limbs = limbs(network, 1);
    network.inputs.iter().map(|&t| limbs[t]).max().unwrap_or(1)
}

/// Lowers a network: finds layouts, emits the program and predicts its cost.
///
/// # Errors
/// A tensor that does not fit, a malformed network, a product of tensors in different layouts, or too few limbs.
pub fn lower(network: &Network, options: &LowerOptions) -> Result<Lowered, LowerError> {
    let n = options.model.n / network.images;
    check(network, n)?;
    let options = &LowerOptions { model: CostModel { slots: n, ..options.model }, ..options.clone() };
    if network.layout == LayoutKind::VolleyRevolver {
        return volley_revolver::lower(network, &options.model);
    }
    let needed = needed_limbs(network);
    let given = options.limbs.unwrap_or(needed);
    if given < needed {
        return Err(LowerError::Limbs { needed, given });
    }
    let last = 1 + given - needed;
    let as_given = vec![None; network.inputs.len()];
    let mut best = partition(network, &as_given, n).and_then(|p| plan(&p, last, options));
    let mut offer = |other: Result<Lowered, LowerError>| {
        if let Ok(other) = other
            && best.as_ref().map_or(true, |best| other.predicted.us < best.predicted.us)
        {
            best = Ok(other);
        }
    };
    // Where an input fits one ciphertext, the client packs it for the convolution anyway.
    if network.inputs.iter().any(|&t| network.tensors[t].len() > n)
        && let Some((network, elements)) = space_to_depth(network)
    {
        offer(partition(&network, &elements, n).and_then(|p| plan(&p, last, options)));
    }
    let mut of = 2;
    while of <= options.input_ciphertexts {
        if let Some((network, parts)) = split(network, of) {
            offer(plan(&Partitioned { network, parts, groups: Vec::new(), cuts: Vec::new() }, last, options));
        }
        of *= 2;
    }
    let input_elements = network.inputs.iter().map(|&t| network.tensors[t].len()).collect();
    best.map(|lowered| Lowered { input_elements, ..lowered })
}

/// Searches and emits a network of single ciphertexts; its outputs end with `last` limbs.
fn plan(partitioned: &Partitioned, last: usize, options: &LowerOptions) -> Result<Lowered, LowerError> {
    let Partitioned { network, parts, groups, cuts } = partitioned;
    let tensor_limbs = limbs(network, last);
    let starts: Vec<usize> = network.stages.iter().map(|s| tensor_limbs[s.output] + 1).collect();
    let settings =
        Settings { parts, groups, model: &options.model, limbs: &starts, precise: options.precise, beam: options.beam };
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
    let mut lowered = Emitter::new(network, options, &tensor_limbs, &starts).emit(parts, groups, &found)?;
    for held in &mut lowered.held {
        if let Some(&(_, whole, first)) = cuts.iter().find(|cut| cut.0 == held.tensor) {
            (held.tensor, held.first) = (whole, first);
        }
    }
    Ok(lowered)
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
        self.push_all(layer, limbs, kind, 1)[0]
    }

    fn push_all(&mut self, layer: &str, limbs: usize, kind: SlotOpKind, results: usize) -> Vec<Register> {
        let counts = op_counts(self.model, limbs, &kind, results);
        let results: Vec<Register> = (0..results).map(|_| self.fresh()).collect();
        self.ops.push(SlotOp { layer: layer.to_owned(), results: results.clone(), kind });
        self.levels.push(limbs);
        self.costs.push(OpCost { counts, us: self.model.microseconds(&counts) });
        results
    }

    fn emit(mut self, parts: &[Part], groups: &[Range<usize>], found: &Found) -> Result<Lowered, LowerError> {
        let network = self.network;
        let missing =
            |stage: &str| LowerError::NoLayout { stage: stage.to_owned(), reason: "a tensor has no layout".to_owned() };
        let mut inputs = Vec::new();
        let mut input_packings = Vec::new();
        for (part, &tensor) in parts.iter().zip(&network.inputs) {
            let packing = found.packings[tensor].as_ref().ok_or_else(|| missing("input"))?;
            let register = self.fresh();
            self.register[tensor] = Some(register);
            let element = packing
                .layout
                .slots
                .iter()
                .map(|slot| if let Slot::Element(e) = slot { part.element(*e) } else { None });
            inputs.push(SlotInput { register, input: part.input, element: element.collect() });
            input_packings.push(packing.name.clone());
        }
        let mut stages: Vec<StageReport> = Vec::new();
        let mut index = 0;
        while let Some(stage) = network.stages.get(index) {
            let limbs = self.starts[index];
            let group = groups.iter().find(|g| g.start == index).cloned().unwrap_or(index..index + 1);
            let strategy = match &stage.op {
                Op::Affine { .. } => self.affine(group.clone(), limbs, found),
                Op::Mul(a, b) => self.register[*a].zip(self.register[*b]).map(|(x, y)| {
                    let product = self.push(&stage.name, limbs, SlotOpKind::Mul { a: x, b: y, rescale: true });
                    self.register[stage.output] = Some(product);
                    if a == b { "square" } else { "product" }.to_owned()
                }),
            };
            let strategy = strategy.ok_or_else(|| missing(&stage.name))?;
            match stages.last_mut() {
                // Pieces of one tensor, each by itself.
                Some(last) if last.name == stage.name => last.strategy = format!("{}; {strategy}", last.strategy),
                _ => stages.push(StageReport { name: stage.name.clone(), limbs, strategy }),
            }
            index = group.end;
        }
        let held = network.stages.iter().filter_map(|stage| {
            let (tensor, register) = (stage.output, self.register[stage.output]?);
            let layout = &found.packings[tensor].as_ref()?.layout;
            let slot = layout.first_slots(network.tensors[tensor].len())?;
            Some(Held { tensor, first: 0, register, slot })
        });
        let held = held.collect();
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
            program: SlotProgram { n: self.model.slots, registers: self.registers, inputs, ops: self.ops, outputs },
            input_limbs: network.inputs.iter().map(|&t| self.tensor_limbs[t]).collect(),
            levels: self.levels,
            predicted,
            input_packings,
            stages,
            held,
            images: network.images,
            input_elements: Vec::new(),
        })
    }

    /// Emits stages that are one block matrix, or a single one, and returns how they are evaluated.
    fn affine(&mut self, group: Range<usize>, limbs: usize, found: &Found) -> Option<String> {
        let network = self.network;
        let mut sources: Vec<TensorId> = Vec::new();
        let mut all: Vec<Diagonal> = Vec::new();
        let mut plans: Vec<&Plan> = Vec::new();
        for (result, index) in group.clone().enumerate() {
            let Op::Affine { terms, .. } = &network.stages[index].op else { return None };
            let plan = found.plans[index].as_deref()?;
            for (t, term) in terms.iter().enumerate() {
                let layout = &found.packings[term.input].as_ref()?.layout;
                let weights = weights(self.model.slots, term, layout, plan, t)?;
                if weights.is_empty() {
                    continue;
                }
                let known = sources.iter().position(|&s| s == term.input);
                let source = known.unwrap_or_else(|| {
                    sources.push(term.input);
                    sources.len() - 1
                });
                all.extend(weights.into_iter().map(|(step, values)| Diagonal {
                    source,
                    result,
                    baby: step.baby,
                    giant: step.giant,
                    values,
                }));
            }
            if !all.iter().any(|d| d.result == result) {
                // All weights are zero.
                if sources.is_empty() {
                    sources.push(terms[0].input);
                }
                all.push(Diagonal { source: 0, result, baby: 0, giant: 0, values: vec![0.0; self.model.slots] });
            }
            plans.push(plan);
        }
        all.sort_by_key(Diagonal::rank);
        let first = &network.stages[group.start];
        let layer = first.name.as_str();
        let sources = sources.iter().map(|&t| self.register[t]).collect::<Option<Vec<_>>>()?;
        let rescale = plans[0].rescale_after == 0;
        let left = limbs - usize::from(rescale);
        let results = if group.len() > 1 || plans.iter().any(|p| is_joint(&p.splits)) {
            self.push_all(layer, limbs, SlotOpKind::LinearTransform { sources, diagonals: all, rescale }, group.len())
        } else {
            // Nothing rotates: products, and a sum.
            let mut sum: Option<Register> = None;
            for diagonal in all {
                let sources = vec![sources[diagonal.source]];
                let diagonals = vec![Diagonal { source: 0, ..diagonal }];
                let product = self.push(layer, limbs, SlotOpKind::LinearTransform { sources, diagonals, rescale });
                sum = Some(match sum {
                    Some(a) => self.push(layer, left, SlotOpKind::Add { a, b: product }),
                    None => product,
                });
            }
            vec![sum?]
        };
        for ((index, plan), mut register) in group.zip(&plans).zip(results) {
            let stage = &network.stages[index];
            let mut limbs = left;
            for (round, steps) in plan.rounds.iter().enumerate() {
                let rescale = round + 1 == plan.rescale_after;
                let kind = SlotOpKind::RotateSum { src: register, steps: steps.clone(), rescale };
                register = self.push(layer, limbs, kind);
                limbs -= usize::from(rescale);
            }
            let Op::Affine { bias, .. } = &stage.op else { return None };
            if bias.iter().any(|&b| b != 0.0) {
                let value = |slot: &Slot| if let Slot::Element(e) = slot { bias[*e as usize] } else { 0.0 };
                let values = plan.packing.layout.slots.iter().map(value).collect();
                register = self.push(layer, limbs, SlotOpKind::AddPlain { src: register, values });
            }
            self.register[stage.output] = Some(register);
        }
        let each = describe(plans[0]);
        Some(if plans.len() > 1 { format!("{} results, each {each}", plans.len()) } else { each })
    }
}

/// The weights of one term by diagonal, in the order of the plan's split.
fn weights(n: usize, term: &AffineTerm, layout: &Layout, plan: &Plan, index: usize) -> Option<Vec<(Step, Vec<f64>)>> {
    let chain = offsets(&plan.strategy.fold, n);
    let placement = Placement { homes: &plan.strategy.homes, offsets: &chain };
    let mut values: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    cover(&term.matrix, layout, placement, &plan.strategy.preferred[index], true, |slot, d, _, entry| {
        values.entry(d).or_insert_with(|| vec![0.0; n])[slot] = term.matrix.value[entry];
    })?;
    plan.splits[index].steps.iter().map(|s| Some((*s, values.remove(&s.diagonal)?))).collect()
}

/// The operation counts of one operation at `limbs` limbs.
pub fn op_counts(model: &CostModel, limbs: usize, kind: &SlotOpKind, results: usize) -> OperationCounts {
    match kind {
        SlotOpKind::LinearTransform { sources, diagonals, rescale } => {
            let distinct = |of: &dyn Fn(&Diagonal) -> Option<u32>| {
                let mut steps: Vec<u32> = diagonals.iter().filter_map(of).filter(|&s| s != 0).collect();
                steps.sort_unstable();
                steps.dedup();
                steps.len()
            };
            let babies = (0..sources.len()).map(|s| distinct(&|d| (d.source == s).then_some(d.baby)));
            let giants = (0..results).map(|r| distinct(&|d| (d.result == r).then_some(d.giant)));
            let (babies, giants): (Vec<_>, Vec<_>) = (babies.collect(), giants.collect());
            model.linear_transform(limbs, &babies, &giants, diagonals.len(), *rescale)
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
