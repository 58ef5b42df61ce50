//! Parameters: the set and the plan under which a network runs fastest with the precision that is asked for.
//!
//! For each ring the network is lowered once for each order of folds and rescales. The plans, with every choice of
//! squares that leave their rescale to the next layer, are priced under every shape of set (digit size, special
//! primes). In the order of price, cheapest first, each gets its primes ([`sized`]) and its rescales: as early as the
//! precision allows, since every operation after one is a limb cheaper. What is certain to be slower than the best so
//! far is not looked at. The best shape is lowered once more under its own prices. Of plans within [`NEAR`] of the
//! fastest the one with the least flash is taken.

pub mod budget;

use super::CompileError;
use super::cost::CostModel;
use super::graph::{Network, Op};
use super::lower::{LowerError, LowerOptions, Lowered, lower, needed_limbs};
use super::outline::Outline;
use super::primes::Primes;
use super::schedule::{Moduli, Schedule, best, schedule, schedule_for};
use super::simulate::simulate_registers;
use super::sizes::{Shape, Sized, sized};
use cipherlens_kernel::params::{MAX_LIMBS, MAX_SPECIAL, ParamSet, SECURITY_TABLE};
use serde::Serialize;
use std::cell::RefCell;

/// Plans that are at most this much slower than the fastest are as good.
pub const NEAR: f64 = 1.03;
/// Special primes that networks are first planned for.
const FIRST_SPECIAL: usize = 2;
/// Share of the time for which an earlier rescale is worth the bits that it costs.
const WORTH_BITS: f64 = 0.005;
/// Squares of which every choice is tried.
const MAX_PRODUCTS: usize = 5;
/// How much fewer operations a ring of twice the degree needs, at best: half would be the limit, and networks that fit
/// the smaller ring are far from it.
const TWICE_THE_SLOTS: f64 = 1.5;

/// A set that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    /// Ring degree.
    pub n: usize,
    /// Ciphertext primes.
    pub limbs: usize,
    /// Special primes.
    pub special: usize,
    /// Primes per key-switching digit.
    pub digit: usize,
    /// Predicted time, or its lower bound where the set was passed over for it.
    pub predicted_ms: f64,
    /// Evaluation keys.
    pub key_bytes: usize,
    /// Predicted precision of the output, where it came to that.
    pub precision_bits: Option<f64>,
    /// Why the set was passed over; none for the one that was taken.
    pub rejected: Option<String>,
}

/// A network under a set.
pub struct Found {
    /// The set.
    pub set: ParamSet,
    /// The program.
    pub lowered: Lowered,
    /// Its levels and scales.
    pub schedule: Schedule,
    /// All sets that were looked at, in the order of predicted time.
    pub trials: Vec<Trial>,
}

/// A lowered network with its statistics.
struct Plan {
    lowered: Lowered,
    outline: Outline,
}

/// A plan whose rescales have their place.
struct Settled {
    outline: Outline,
    sized: Sized,
}

impl Plan {
    fn new(lowered: Lowered, samples: &[Vec<f64>]) -> Self {
        let run = |x| simulate_registers(&lowered.program, std::slice::from_ref(x));
        let outline = Outline::new(&lowered, &samples.iter().map(run).collect::<Vec<_>>());
        Self { lowered, outline }
    }
}

fn plan(network: &Network, samples: &[Vec<f64>], options: &LowerOptions) -> Result<Plan, LowerError> {
    Ok(Plan::new(lower(network, options)?, samples))
}

/// The network lowered with folds after and before the rescale, side by side.
fn plans(
    network: &Network,
    samples: &[Vec<f64>],
    log_n: u32,
    digit: usize,
    special: usize,
) -> Result<[Plan; 2], LowerError> {
    let options = |precise| LowerOptions { precise, ..LowerOptions::new(1 << log_n, digit, special) };
    let (early, late) = std::thread::scope(|scope| {
        let late = scope.spawn(|| plan(network, samples, &options(true)));
        (plan(network, samples, &options(false)), late.join().expect("lowering does not panic"))
    });
    Ok([early?, late?])
}

fn with_rescales(outline: &Outline, last: bool) -> Outline {
    let mut result = outline.clone();
    for chain in 0..outline.chains.len() {
        result.rescale_at(chain, if last { outline.chains[chain].len() - 1 } else { 0 });
    }
    result
}

/// Puts rescales as early as `required` bits of precision allow, where that saves time worth the bits; where they
/// cannot be had at all, as late as possible.
fn settle(
    outline: &Outline,
    required: f64,
    price: impl Fn(&Outline) -> f64,
    size: impl Fn(&Outline) -> Result<Sized, String>,
) -> Result<Settled, String> {
    let late = with_rescales(outline, true);
    let mut best = Settled { sized: size(&late)?, outline: late };
    if best.sized.precision < required {
        return Ok(best);
    }
    let precise = |outline: Outline| {
        let sized = size(&outline).ok().filter(|s| s.precision >= required)?;
        Some(Settled { outline, sized })
    };
    let gain = |from: &Outline, chain: usize, position: usize| {
        let mut moved = from.clone();
        moved.rescale_at(chain, position);
        (price(from) - price(&moved), moved)
    };
    let mut chains: Vec<(f64, usize)> =
        (0..outline.chains.len()).map(|chain| (gain(&best.outline, chain, 0).0, chain)).collect();
    chains.retain(|c| c.0 > WORTH_BITS * price(&best.outline));
    chains.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut early = best.outline.clone();
    chains.iter().for_each(|&(_, chain)| early.rescale_at(chain, 0));
    if let Some(settled) = precise(early) {
        return Ok(settled);
    }
    // The chain that gains most goes first.
    for (_, chain) in chains {
        for position in 0..best.outline.position(chain) {
            let (us, moved) = gain(&best.outline, chain, position);
            if us > WORTH_BITS * price(&best.outline)
                && let Some(settled) = precise(moved)
            {
                best = settled;
                break;
            }
        }
    }
    Ok(best)
}

/// The network under a set that the user names: as precise as asked for where that can be had.
///
/// # Errors
/// Why the network does not fit the set.
pub fn under(network: &Network, samples: &[Vec<f64>], set: ParamSet, required: f64) -> Result<Found, CompileError> {
    let named = |source| CompileError::Lower { set: set.name().into(), source };
    let model = CostModel::new(set.n(), set.digit(), set.special());
    let plans = plans(network, samples, set.log_n(), set.digit(), set.special()).map_err(named)?;
    let mut chosen: Option<(bool, f64, Found)> = None;
    for Plan { mut lowered, outline } in plans {
        // Says what is wrong with the set, where a plan as precise as can be has no scales.
        schedule(&with_rescales(&outline, true), &set)?;
        let size = |outline: &Outline| {
            let moduli = Moduli::of(&set);
            let (precision, aims) = best(outline, &moduli)?;
            Ok(Sized { set, precision, aims })
        };
        let price = |outline: &Outline| outline.microseconds(&model);
        let Ok(settled) = settle(&outline, required, price, size) else { continue };
        settled.outline.apply(&mut lowered, &model);
        let schedule = schedule_for(&settled.outline, &set, &settled.sized.aims)?;
        let enough = schedule.precision >= required;
        let rank = if enough { -price(&settled.outline) } else { schedule.precision };
        if chosen.as_ref().is_none_or(|c| (enough, rank) > (c.0, c.1)) {
            chosen = Some((enough, rank, Found { set, lowered, schedule, trials: Vec::new() }));
        }
    }
    chosen.map(|c| c.2).ok_or_else(|| CompileError::NoSet(vec![format!("  {}: no plan fits", set.name())]))
}

/// The plan with every choice of squares that leave their rescale to the next layer: all choices for a few squares,
/// none or all of many.
fn without_rescales(plan: &Outline) -> Vec<Outline> {
    let products = &plan.products;
    let few = products.len() <= MAX_PRODUCTS;
    let choices = if few { 0..1usize << products.len() } else { 0..2 };
    let chosen = |choice: usize| -> Vec<usize> {
        let take = |i: usize| if few { choice >> i & 1 == 1 } else { choice == 1 };
        products.iter().enumerate().filter(|&(i, _)| take(i)).map(|(_, &p)| p).collect()
    };
    choices
        .map(|choice| {
            let mut outline = plan.clone();
            outline.rescale_products(&chosen(choice));
            outline
        })
        .collect()
}

/// A plan under a shape, priced.
struct Candidate<'p> {
    plan: &'p Plan,
    outline: Outline,
    shape: Shape,
    /// With all rescales as early as can be.
    least_us: f64,
}

/// A candidate that is precise enough.
struct Accepted<'p> {
    plan: &'p Plan,
    shape: Shape,
    settled: Settled,
    us: f64,
    flash: usize,
    trial: usize,
}

/// The fastest; of those within [`NEAR`] of it the smallest, then the most precise.
fn choose<'a, 'p>(accepted: &'a [Accepted<'p>]) -> Option<&'a Accepted<'p>> {
    let fastest = accepted.iter().map(|a| a.us).fold(f64::INFINITY, f64::min);
    let near = accepted.iter().filter(|a| a.us <= fastest * NEAR);
    near.min_by(|a, b| {
        let precision = b.settled.sized.precision.total_cmp(&a.settled.sized.precision);
        a.flash.cmp(&b.flash).then(precision)
    })
}

/// All shapes of sets with that many ciphertext primes.
fn shapes(log_n: u32, limbs: usize) -> impl Iterator<Item = Shape> {
    let pairs = (1..=MAX_SPECIAL.min(limbs)).flat_map(|digit| (1..=MAX_SPECIAL).map(move |special| (digit, special)));
    pairs.map(move |(digit, special)| Shape { log_n, limbs, special, digit })
}

/// One ring.
struct Ring {
    log_n: u32,
    required: f64,
    primes: Primes,
    /// Plans that were tried, with all rescales early.
    seen: RefCell<Vec<Outline>>,
}

impl Ring {
    /// Tries plans under the shapes that `keep` names, the cheapest first.
    fn try_plans<'p>(
        &self,
        plans: &'p [Plan],
        keep: impl Fn(Shape) -> bool,
        accepted: &mut Vec<Accepted<'p>>,
        trials: &mut Vec<Trial>,
    ) {
        let mut candidates: Vec<Candidate<'p>> = Vec::new();
        for plan in plans {
            for outline in without_rescales(&plan.outline) {
                let outline = with_rescales(&outline, false);
                if self.seen.borrow().contains(&outline) {
                    continue;
                }
                self.seen.borrow_mut().push(outline.clone());
                for shape in shapes(self.log_n, outline.limbs()).filter(|&s| keep(s)) {
                    let least_us = outline.microseconds(&shape.model());
                    candidates.push(Candidate { plan, outline: outline.clone(), shape, least_us });
                }
            }
        }
        candidates.sort_by(|a, b| a.least_us.total_cmp(&b.least_us));
        for candidate in candidates {
            let fastest = accepted.iter().map(|a| a.us).fold(f64::INFINITY, f64::min);
            let mut trial = Trial::new(&candidate);
            if candidate.least_us > fastest * NEAR {
                trial.rejected = Some("slower".into());
            } else {
                match self.settle(&candidate, &mut trial) {
                    Ok(settled) => {
                        let model = candidate.shape.model();
                        let (us, flash) = (settled.outline.microseconds(&model), settled.outline.flash(&model));
                        let (plan, shape) = (candidate.plan, candidate.shape);
                        accepted.push(Accepted { plan, shape, settled, us, flash, trial: trials.len() });
                    }
                    Err(why) => trial.rejected = Some(why),
                }
            }
            trials.push(trial);
        }
    }

    fn settle(&self, candidate: &Candidate<'_>, trial: &mut Trial) -> Result<Settled, String> {
        let (shape, model) = (candidate.shape, candidate.shape.model());
        let price = |outline: &Outline| outline.microseconds(&model);
        let size = |outline: &Outline| sized(outline, &self.primes, shape, self.required);
        let settled = settle(&candidate.outline, self.required, price, size)?;
        trial.predicted_ms = price(&settled.outline) / 1000.0;
        trial.key_bytes = settled.outline.keys().bytes(&model);
        trial.precision_bits = Some(settled.sized.precision);
        trial.rejected = Some("slower, or as fast with more flash".into());
        if settled.sized.precision < self.required { Err("not precise enough".into()) } else { Ok(settled) }
    }
}

impl Trial {
    fn new(candidate: &Candidate<'_>) -> Self {
        let Shape { log_n, limbs, special, digit } = candidate.shape;
        Self {
            n: 1 << log_n,
            limbs,
            special,
            digit,
            predicted_ms: candidate.least_us / 1000.0,
            key_bytes: candidate.outline.keys().bytes(&candidate.shape.model()),
            precision_bits: None,
            rejected: None,
        }
    }
}

/// What the next ring takes at least, given a plan in this one.
fn bound(plan: &Plan, log_n: u32) -> f64 {
    let least = |shape: Shape| with_rescales(&plan.outline, false).microseconds(&shape.model()) / TWICE_THE_SLOTS;
    shapes(log_n, plan.outline.limbs()).map(least).fold(f64::INFINITY, f64::min)
}

/// Whether the modulus of a ring may have enough bits for the network: primes are 1 modulo 4N, and a squaring may save a
/// level.
fn may_hold(network: &Network, log_n: u32, max_log_qp: u32) -> bool {
    let limbs = needed_limbs(network);
    let squares = network.stages.iter().filter(|s| matches!(s.op, Op::Mul(..))).count();
    limbs <= MAX_LIMBS && (limbs.saturating_sub(squares).max(1) as u32 + 1) * (log_n + 3) <= max_log_qp
}

/// Finds the parameter set for a network.
///
/// # Errors
/// What was tried.
pub fn search(network: &Network, samples: &[Vec<f64>], required: f64) -> Result<Found, Vec<String>> {
    let mut trials: Vec<Trial> = Vec::new();
    let mut reasons: Vec<String> = Vec::new();
    let mut best: Option<(f64, usize, Found)> = None;
    let mut previous: Option<[Plan; 2]> = None;
    let limbs = needed_limbs(network);
    let digit = MAX_SPECIAL.min(limbs);
    for (log_n, max_log_qp) in SECURITY_TABLE {
        if let (Some((us, ..)), Some(plans)) = (&best, &previous)
            && plans.iter().all(|plan| bound(plan, log_n) > us * NEAR)
        {
            break;
        }
        if !may_hold(network, log_n, max_log_qp) {
            reasons.push(format!("  N = {}: {max_log_qp} bits are too few for {limbs} limbs", 1 << log_n));
            continue;
        }
        let plans = match plans(network, samples, log_n, digit, FIRST_SPECIAL) {
            Ok(plans) => plans,
            Err(error) => {
                reasons.push(format!("  N = {}: {error}", 1 << log_n));
                continue;
            }
        };
        let ring = Ring { log_n, required, primes: Primes::new(log_n, limbs + MAX_SPECIAL), seen: RefCell::default() };
        let mut accepted = Vec::new();
        ring.try_plans(&plans, |_| true, &mut accepted, &mut trials);
        // The best shape once more, planned under its own prices.
        let own = choose(&accepted).map(|a| a.shape).filter(|s| (s.digit, s.special) != (digit, FIRST_SPECIAL));
        let again = own.and_then(|s| Some((s, self::plans(network, samples, log_n, s.digit, s.special).ok()?)));
        if let Some((shape, plans)) = &again {
            ring.try_plans(plans, |s| s == *shape, &mut accepted, &mut trials);
        }
        if let Some(chosen) = choose(&accepted)
            && best.as_ref().is_none_or(|(us, ..)| chosen.us < *us)
        {
            let Settled { outline, sized } = &chosen.settled;
            let mut lowered = chosen.plan.lowered.clone();
            outline.apply(&mut lowered, &chosen.shape.model());
            match schedule_for(outline, &sized.set, &sized.aims) {
                Ok(schedule) => {
                    let found = Found { set: sized.set, lowered, schedule, trials: Vec::new() };
                    best = Some((chosen.us, chosen.trial, found));
                }
                Err(error) => reasons.push(format!("  {}: {error}", sized.set.name())),
            }
        }
        previous = Some(plans);
    }
    let Some((_, taken, mut found)) = best else {
        // What came closest in each ring.
        for of_ring in trials.chunk_by(|a, b| a.n == b.n) {
            let bits = |trial: &Trial| trial.precision_bits.unwrap_or(f64::NEG_INFINITY);
            reasons.extend(of_ring.iter().max_by(|a, b| bits(a).total_cmp(&bits(b))).map(describe));
        }
        return Err(reasons);
    };
    trials[taken].rejected = None;
    found.trials = trials;
    Ok(found)
}

/// A rejected trial in a line.
fn describe(trial: &Trial) -> String {
    let why = trial.rejected.as_deref().unwrap_or("taken");
    let bits = trial.precision_bits.map_or(String::new(), |bits| format!(" ({bits:.1} bits)"));
    format!("  N = {}, {} + {} primes in digits of {}: {why}{bits}", trial.n, trial.limbs, trial.special, trial.digit)
}

#[cfg(test)]
mod tests;
