//! Layout search: a beam over the stages, each state a choice of packings for the tensors still alive.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::rc::Rc;

use super::bsgs::{Split, split};
use super::cost::{CostModel, KeyUse, OperationCounts};
use super::cover::{Labels, Placement, cover, label};
use super::fold::{offsets, rounds};
use super::graph::{AffineTerm, Network, Op, TensorId};
use super::input::{self, Part, reads};
use super::layout::Packing;
use super::strategy::{Site, Strategy};

/// How an affine stage is evaluated.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The proposal behind it.
    pub strategy: Strategy,
    /// For each term its diagonals; giant steps are common to all.
    pub splits: Vec<Split>,
    /// Rounds of the fold.
    pub rounds: Vec<Vec<u32>>,
    /// The rescale follows this many rounds; 0 means that it ends the linear transforms.
    pub rescale_after: usize,
    /// The packing of the result.
    pub packing: Packing,
    /// Operations.
    pub counts: OperationCounts,
    /// Rotations with their limbs.
    pub keys: Vec<(u32, usize)>,
    /// What its keys weigh under the model's pressure.
    keys_us: f64,
    /// What its inner sums weigh: those of one linear transform, whose rows serve the others.
    inner_us: f64,
    /// Fingerprint of the resulting layout.
    fingerprint: u64,
}

/// A finished search.
pub struct Found {
    /// Packing of each tensor that the program holds.
    pub packings: Vec<Option<Rc<Packing>>>,
    /// The plan of each affine stage, by stage.
    pub plans: Vec<Option<Rc<Plan>>>,
    /// Keys of the whole program.
    pub keys: KeyUse,
}

/// What the search is told.
pub struct Settings<'a> {
    /// For each network input which part of the user's input it is.
    pub parts: &'a [Part],
    /// Prices.
    pub model: &'a CostModel,
    /// Limbs at which each stage starts.
    pub limbs: &'a [usize],
    /// Stages that are one block matrix.
    pub groups: &'a [Range<usize>],
    /// Whether every fold comes before its rescale.
    pub precise: bool,
    /// States kept after each stage.
    pub beam: usize,
}

#[derive(Clone)]
struct State {
    packings: Vec<Option<(u64, Rc<Packing>)>>,
    plans: Vec<Option<Rc<Plan>>>,
    keys: KeyUse,
    us: f64,
    /// The most that the inner sums of a stage weigh.
    inner_us: f64,
}

impl State {
    /// Time plus the weights of keys and program.
    fn score(&self, model: &CostModel) -> f64 {
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let keys = self.keys.bytes(model);
        let key_mib_us = model.key_mib_us + model.pressure.key_mib_us;
        self.us
            + self.inner_us
            + mib(keys) * key_mib_us
            + mib(keys.saturating_sub(model.key_budget_bytes)) * model.over_budget_us
    }
}

fn fingerprint(packing: &Packing) -> u64 {
    let mut hasher = DefaultHasher::new();
    packing.layout.slots.hash(&mut hasher);
    packing.skewed.map(|s| (s.stage, s.inner, s.tiles, s.links, s.diagonals)).hash(&mut hasher);
    hasher.finish()
}

/// Where the rescale goes and what the rounds of the fold cost.
fn fold_cost(
    settings: &Settings<'_>,
    limbs: usize,
    rounds: &[Vec<u32>],
    rescale_after: usize,
) -> (OperationCounts, Vec<(u32, usize)>) {
    let mut counts = OperationCounts::default();
    let mut keys = Vec::new();
    for (index, steps) in rounds.iter().enumerate() {
        let at = if index < rescale_after { limbs } else { limbs - 1 };
        counts += settings.model.rotate_sum(at, steps.len(), index + 1 == rescale_after);
        keys.extend(steps.iter().map(|&step| (step, at)));
    }
    (counts, keys)
}

/// Whether the terms of a plan are one block matrix: they are if any of them rotates, since then all of them pay for the
/// extended basis only once.
pub fn is_joint(splits: &[Split]) -> bool {
    splits.iter().any(|s| !s.babies.is_empty() || !s.giants.is_empty())
}

/// A stage among those of its block matrix.
struct Member<'a> {
    /// Number of stages.
    of: usize,
    /// The plan of the first of them, for the others.
    leader: Option<&'a Plan>,
}

/// Evaluates a strategy exactly; none when it does not compute every row.
fn evaluate(
    settings: &Settings<'_>,
    site: &Site<'_>,
    member: &Member<'_>,
    labels: &Labels,
    strategy: Strategy,
    forced: bool,
    has_bias: bool,
) -> Option<Plan> {
    // One rescale ends all results of a block matrix at once, so none may be left to a fold.
    if member.of > 1 && !strategy.fold.is_empty() {
        return None;
    }
    let model = settings.model;
    let n = model.slots;
    let limbs = site.limbs;
    let fold_limbs = if settings.precise { limbs } else { limbs - 1 };
    let price = |counts: OperationCounts| model.microseconds(&counts);
    let key_weight = |limbs: usize| model.key_bytes(limbs) as f64 / f64::from(1 << 20) * model.key_mib_us;
    let round_price = |steps: usize| {
        price(model.rotate_sum(fold_limbs, steps, false))
            + steps as f64 * key_weight(fold_limbs)
            + model.keys_us(fold_limbs, steps)
    };
    let chain = offsets(&strategy.fold, n);
    let placement = Placement { homes: &strategy.homes, offsets: &chain };
    let mut partial = vec![0u64; n];
    let mut diagonals = Vec::new();
    for (index, (term, input)) in site.terms.iter().zip(&site.inputs).enumerate() {
        let matrix = &term.matrix;
        diagonals.push(cover(
            matrix,
            &input.layout,
            placement,
            &strategy.preferred[index],
            forced,
            |slot, _, row, entry| {
                partial[slot] = partial[slot].wrapping_add(label(index, row, matrix.col[entry]));
            },
        )?);
    }
    let attempt = |padded: bool| {
        let rounds = rounds(&strategy.fold, n, padded, round_price)?;
        let layout = labels.fold(partial.clone(), &rounds, &strategy.homes)?;
        Some((rounds, layout))
    };
    let (rounds, layout) = attempt(true).or_else(|| attempt(false))?;

    let used = diagonals.iter().filter(|d| !d.is_empty()).count().max(1);
    let mut all: Vec<u32> = diagonals.iter().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    let joint = split(&all, n, |babies, giants| {
        let counts =
            model.linear_transform(limbs, &vec![babies; used], &vec![giants; member.of], all.len() * used, true);
        price(counts)
            + (babies + giants) as f64 * key_weight(limbs)
            + model.keys_us(limbs, babies + giants)
            + model.inner_us(limbs, giants * member.of)
    });
    let splits: Vec<Split> = diagonals.iter().map(|d| joint.restricted(d)).collect();
    let linear = |rescale: bool| {
        let active = splits.iter().filter(|s| !s.steps.is_empty());
        if !is_joint(&splits) && member.of == 1 {
            let each = active.clone().fold(OperationCounts::default(), |sum, s| {
                sum + model.linear_transform(limbs, &[0], &[0], s.steps.len(), rescale)
            });
            let left = if rescale { limbs - 1 } else { limbs };
            return (1..active.count()).fold(each, |sum, _| sum + model.add(left));
        }
        let steps = splits.iter().map(|s| s.steps.len()).sum();
        match member.leader {
            None => {
                let babies: Vec<usize> = active.map(|s| s.babies.len()).collect();
                model.linear_transform(limbs, &babies, &[joint.giants.len()], steps, rescale)
            }
            Some(leader) => {
                model.further_result(limbs, joint.giants.len(), steps, rescale)
                    + model.rotations(limbs, further_babies(leader, &splits))
            }
        }
    };
    let choices = if settings.precise { rounds.len()..=rounds.len() } else { 0..=rounds.len().min(1) };
    let total = |after: usize| linear(after == 0) + fold_cost(settings, limbs, &rounds, after).0;
    let rescale_after = choices.min_by(|&a, &b| price(total(a)).total_cmp(&price(total(b))))?;
    let mut counts = total(rescale_after);
    if has_bias {
        counts += model.add_plain(limbs - 1);
    }
    let mut keys = fold_cost(settings, limbs, &rounds, rescale_after).1;
    keys.extend(splits.iter().flat_map(|s| s.babies.iter().chain(&s.giants)).map(|&step| (step, limbs)));
    let packing = Packing::new(layout, site.shape, None, strategy.name.clone())?;
    let fingerprint = fingerprint(&packing);
    let keys_us: f64 = keys.iter().map(|&(_, limbs)| model.keys_us(limbs, 1)).sum();
    let inner_us = model.inner_us(limbs, joint.giants.len());
    Some(Plan { strategy, splits, rounds, rescale_after, packing, counts, keys, keys_us, inner_us, fingerprint })
}

/// Baby steps that a plan's leader has not.
fn further_babies(leader: &Plan, splits: &[Split]) -> usize {
    let own = |(split, lead): (&Split, &Split)| split.babies.iter().filter(|b| !lead.babies.contains(b)).count();
    splits.iter().zip(&leader.splits).map(own).sum()
}

/// Whether the stages from `from` on, or the outputs, read `tensor`.
fn is_live(network: &Network, from: usize, tensor: TensorId) -> bool {
    network.outputs.contains(&tensor) || network.stages[from..].iter().any(|stage| reads(stage).contains(&tensor))
}

/// The tensor that a later product multiplies `tensor` with, if another one.
fn partner(network: &Network, tensor: TensorId) -> Option<TensorId> {
    network.stages.iter().find_map(|stage| match stage.op {
        Op::Mul(a, b) if a == tensor && b != tensor => Some(b),
        Op::Mul(a, b) if b == tensor && a != tensor => Some(a),
        _ => None,
    })
}

/// Keeps the best state for each set of live layouts, and of those the best `beam`.
fn prune(states: &mut Vec<State>, network: &Network, next: usize, settings: &Settings<'_>) {
    let live: Vec<bool> = (0..network.tensors.len()).map(|t| is_live(network, next, t)).collect();
    let mut scored: Vec<(f64, State)> = states.drain(..).map(|s| (s.score(settings.model), s)).collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut seen = Vec::new();
    for (_, state) in scored {
        let key: Vec<Option<u64>> =
            state.packings.iter().zip(&live).map(|(p, live)| p.as_ref().filter(|_| *live).map(|p| p.0)).collect();
        if !seen.contains(&key) && states.len() < settings.beam {
            seen.push(key);
            states.push(state);
        }
    }
}

/// All plans of an affine stage for the packings of a state, at most one for each resulting layout.
fn plans(
    settings: &Settings<'_>,
    network: &Network,
    index: usize,
    labels: &Labels,
    terms: &[AffineTerm],
    bias: &[f64],
    state: &State,
) -> Vec<Rc<Plan>> {
    let stage = &network.stages[index];
    let packing = |tensor: TensorId| state.packings[tensor].as_ref().map(|p| p.1.as_ref());
    let Some(inputs) = terms.iter().map(|t| packing(t.input)).collect::<Option<Vec<_>>>() else {
        return Vec::new();
    };
    let output = &network.tensors[stage.output];
    let target = partner(network, stage.output).and_then(packing).and_then(|p| p.layout.first_slots(output.len()));
    let site = Site {
        stage: index,
        terms,
        inputs,
        shape: &output.shape,
        target,
        model: settings.model,
        limbs: settings.limbs[index],
    };
    let has_bias = bias.iter().any(|&b| b != 0.0);
    let group = settings.groups.iter().find(|g| g.contains(&index)).cloned().unwrap_or(index..index + 1);
    let leader = if index > group.start { state.plans[group.start].as_deref() } else { None };
    let member = Member { of: group.len(), leader };
    let mut tiers = site.tiers();
    if let Some(leader) = leader {
        // Results that are computed alike share baby steps.
        let alike = tiers.iter().flatten().filter(|s| s.name == leader.strategy.name).cloned().collect();
        tiers.insert(0, alike);
    }
    let mut found = Vec::new();
    for (tier, forced) in tiers.iter().map(|tier| (tier, false)).chain(tiers.iter().map(|tier| (tier, true))) {
        if found.is_empty() {
            found.extend(
                tier.iter().filter_map(|s| evaluate(settings, &site, &member, labels, s.clone(), forced, has_bias)),
            );
        }
    }
    let weight = |plan: &Plan| settings.model.microseconds(&plan.counts) + plan.keys_us + plan.inner_us;
    found.sort_by(|a, b| weight(a).total_cmp(&weight(b)));
    let mut seen = Vec::new();
    found.retain(|plan| {
        let new = !seen.contains(&plan.fingerprint);
        seen.push(plan.fingerprint);
        new
    });
    found.into_iter().map(Rc::new).collect()
}

/// Searches the packings of all tensors; the error is the index of the stage for which none was found.
pub fn search(network: &Network, settings: &Settings<'_>) -> Result<Found, usize> {
    let model = settings.model;
    let start = State {
        packings: vec![None; network.tensors.len()],
        plans: vec![None; network.stages.len()],
        keys: KeyUse::default(),
        us: 0.0,
        inner_us: 0.0,
    };
    let mut states = vec![start];
    let candidates: Vec<Vec<(u64, Rc<Packing>)>> = network
        .inputs
        .iter()
        .zip(settings.parts)
        .map(|(&tensor, part)| {
            input::packings(network, tensor, part, model.slots)
                .into_iter()
                .map(|p| (fingerprint(&p), Rc::new(p)))
                .collect()
        })
        .collect();
    for (position, part) in settings.parts.iter().enumerate() {
        if part.index > 0 {
            continue;
        }
        // All parts of an input are packed alike.
        let pack = |state: &State, choice: usize| {
            let mut state = state.clone();
            for (candidates, &tensor) in
                candidates[position..position + part.of].iter().zip(&network.inputs[position..])
            {
                state.packings[tensor] = Some(candidates[choice].clone());
            }
            state
        };
        states = states
            .iter()
            .flat_map(|state| (0..candidates[position].len()).map(move |c| pack(state, c)))
            .take(256)
            .collect();
    }
    for (index, stage) in network.stages.iter().enumerate() {
        let limbs = settings.limbs[index];
        let mut next = Vec::new();
        match &stage.op {
            Op::Mul(a, b) => {
                for mut state in states {
                    let (Some(x), Some(y)) = (&state.packings[*a], &state.packings[*b]) else {
                        continue;
                    };
                    let product = if x.0 == y.0 {
                        Some(x.clone())
                    } else {
                        let layout = x.1.layout.product(&y.1.layout);
                        let shape = &network.tensors[stage.output].shape;
                        Packing::new(layout, shape, None, "product".to_owned()).map(|p| (fingerprint(&p), Rc::new(p)))
                    };
                    let Some(product) = product else { continue };
                    state.packings[stage.output] = Some(product);
                    state.us += model.microseconds(&model.mul(limbs, true));
                    state.keys.relinearization = state.keys.relinearization.max(limbs);
                    next.push(state);
                }
            }
            Op::Affine { terms, bias } => {
                let matrices: Vec<_> = terms.iter().map(|t| &t.matrix).collect();
                let labels = Labels::new(&matrices, network.tensors[stage.output].len());
                let mut memo: HashMap<Vec<Option<u64>>, Vec<Rc<Plan>>> = HashMap::new();
                for state in &states {
                    let mut read: Vec<TensorId> = terms.iter().map(|t| t.input).collect();
                    read.extend(partner(network, stage.output));
                    let mut key: Vec<Option<u64>> =
                        read.iter().map(|&t| state.packings[t].as_ref().map(|p| p.0)).collect();
                    let before = settings.groups.iter().find(|g| g.contains(&index) && g.start < index);
                    key.push(before.and_then(|g| Some(state.plans[g.start].as_ref()?.fingerprint)));
                    let plans =
                        memo.entry(key).or_insert_with(|| plans(settings, network, index, &labels, terms, bias, state));
                    for plan in plans.iter() {
                        let mut state = state.clone();
                        let program: usize =
                            plan.splits.iter().map(|s| s.steps.len()).sum::<usize>() * model.n * 4 * limbs;
                        state.us += model.microseconds(&plan.counts);
                        state.inner_us = state.inner_us.max(plan.inner_us);
                        state.us += program as f64 / f64::from(1 << 20) * model.program_mib_us;
                        for &(step, limbs) in &plan.keys {
                            state.keys.rotate(step, limbs);
                        }
                        state.packings[stage.output] = Some((plan.fingerprint, Rc::new(plan.packing.clone())));
                        state.plans[index] = Some(plan.clone());
                        next.push(state);
                    }
                }
            }
        }
        states = next;
        prune(&mut states, network, index + 1, settings);
        if states.is_empty() {
            return Err(index);
        }
    }
    let best = states.into_iter().next().ok_or(0usize)?;
    Ok(Found {
        packings: best.packings.into_iter().map(|p| p.map(|p| p.1)).collect(),
        plans: best.plans,
        keys: best.keys,
    })
}
