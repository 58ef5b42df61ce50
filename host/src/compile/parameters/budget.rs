//! Budgets: the fastest plan whose RAM and flash fit.
//!
//! The plans of the usual search are joined by plans lowered under pressure, where a mebibyte of keys or of inner sums
//! counts as so many microseconds: these have fewer keys (steps of a smaller radix that layers share, more giant steps) or
//! fewer giant steps, whose inner sums are what a linear transform takes most scratch for. Every plan, with every choice of
//! squares that leave their rescale to the next layer, under every shape of set is a candidate.
//!
//! What a candidate takes is known in three steps of rising cost: a bound, with all rescales as early as can be; its
//! primes and rescales; the program itself. The candidate with the least of what is looked for takes its next step, until
//! the least is a written program: no other can be better. Candidates do not depend on the budgets, so that a larger one
//! never leads to a slower plan, but for the [`NEAR`](super::NEAR) with which the usual search prefers less flash.

use super::super::cost::{CostModel, Pressure};
use super::super::footprint::Footprint;
use super::super::graph::Network;
use super::super::lower::{LowerError, LowerOptions, Lowered, lower, needed_limbs};
use super::super::outline::Outline;
use super::super::primes::Primes;
use super::super::schedule::{Moduli, best, schedule_for};
use super::super::sizes::{Shape, Sized, some_set};
use super::super::{CompileError, WeightForm, Written};
use super::{Candidate, FIRST_SPECIAL, Found, Plan, Ring, Settled, Trial};
use super::{may_hold, settle, shapes, with_rescales, without_rescales};
use cipherlens_kernel::params::{MAX_SPECIAL, ParamSet, SECURITY_TABLE};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;

/// Weights of a mebibyte of keys and of inner sums, in microseconds: from those that decide between plans of nearly one
/// speed to those beside which speed does not count. Of a grid of five by four these gave all plans of `mnist` and
/// `mnist-micro` that no other beat (`notes/memory.md`).
const PRESSURES: [(f64, f64); 10] = [
    (0.0, 0.0),
    (0.0, 16000.0),
    (60.0, 0.0),
    (60.0, 300.0),
    (250.0, 0.0),
    (250.0, 60.0),
    (250.0, 300.0),
    (1000.0, 0.0),
    (1000.0, 16000.0),
    (16000.0, 16000.0),
];

/// What a program takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Needs {
    /// Predicted time, in milliseconds.
    pub ms: f64,
    /// Bytes of RAM.
    pub ram: usize,
    /// Bytes of flash.
    pub flash: usize,
}

impl fmt::Display for Needs {
    /// In units that `--ram` and `--flash` take, rounded up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: usize| bytes.div_ceil(1024);
        write!(f, "RAM {} KiB and flash {} KiB ({:.2} ms)", kib(self.ram), kib(self.flash), self.ms)
    }
}

/// The most that a program may take; none for as much as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of RAM.
    pub ram: Option<usize>,
    /// Bytes of flash.
    pub flash: Option<usize>,
}

impl Budget {
    /// Whether what is needed fits.
    pub fn admits(&self, needs: &Needs) -> bool {
        self.ram.is_none_or(|ram| needs.ram <= ram) && self.flash.is_none_or(|flash| needs.flash <= flash)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |name: &str, bytes: Option<usize>| bytes.map(|bytes| format!("{name} {bytes} bytes"));
        let parts: Vec<String> = [part("RAM", self.ram), part("flash", self.flash)].into_iter().flatten().collect();
        write!(f, "{}", parts.join(" and "))
    }
}

/// What candidates are measured by.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Least precision, in bits.
    pub required: f64,
    /// How weights are stored.
    pub weights: WeightForm,
    /// Whether the plaintext cache counts as RAM.
    pub cache: bool,
    /// RAM besides the arena and the cache.
    pub other_ram: usize,
    /// Flash besides program and keys.
    pub other_flash: usize,
}

impl Terms {
    /// What a program of that footprint takes.
    pub fn needs(&self, ms: f64, f: &Footprint) -> Needs {
        Needs {
            ms,
            ram: self.other_ram + f.arena + if self.cache { f.cache } else { 0 },
            flash: self.other_flash + f.program + f.keys,
        }
    }
}

/// How far a candidate has come.
enum Progress {
    Bounded,
    Settled(Box<Settled>),
    Written(Box<Written>),
    /// It is not precise enough, or cannot be written.
    Out,
}

struct Entrant<'r> {
    ring: &'r Pressed,
    candidate: Candidate<'r>,
    needs: Needs,
    progress: Progress,
}

/// A ring with its plans.
pub struct Pressed {
    ring: Ring,
    set: Option<ParamSet>,
    plans: Vec<Plan>,
}

/// Lowers the network under every pressure, in the ring of `found` and in all smaller ones that are precise enough; with
/// `set` in that one.
pub fn pressed(
    network: &Network,
    samples: &[Vec<f64>],
    required: f64,
    found: &ParamSet,
    set: Option<ParamSet>,
) -> Vec<Pressed> {
    let limbs = needed_limbs(network);
    let rings = SECURITY_TABLE.iter().filter(|&&(log_n, max_log_qp)| match set {
        Some(set) => log_n == set.log_n(),
        None => log_n <= found.log_n() && may_hold(network, log_n, max_log_qp),
    });
    rings
        .filter_map(|&(log_n, _)| {
            let primes = Primes::new(log_n, limbs + MAX_SPECIAL);
            let ring = Ring { log_n, required, primes, seen: RefCell::default() };
            let first = LowerOptions::new(1 << log_n, MAX_SPECIAL.min(limbs), FIRST_SPECIAL);
            let plans = lower_all(network, samples, &[first]).ok()?;
            let mut pressed = Pressed { ring, set, plans };
            if log_n < found.log_n() && !pressed.any_is_precise() {
                return None;
            }
            let own = LowerOptions::new(1 << log_n, found.digit(), found.special());
            let under = |&(key_mib_us, inner_mib_us)| {
                let pressure = Pressure { key_mib_us, inner_mib_us };
                LowerOptions { model: CostModel { pressure, ..own.model }, ..own }
            };
            let more = lower_all(network, samples, &PRESSURES.iter().map(under).collect::<Vec<_>>()).ok()?;
            for plan in more {
                if pressed.plans.iter().all(|p| p.outline != plan.outline) {
                    pressed.plans.push(plan);
                }
            }
            Some(pressed)
        })
        .collect()
}

/// The network lowered with each of the options and with folds after and before the rescale.
fn lower_all(network: &Network, samples: &[Vec<f64>], options: &[LowerOptions]) -> Result<Vec<Plan>, LowerError> {
    let all = |precise: bool| -> Result<Vec<Lowered>, LowerError> {
        options.iter().map(|o| lower(network, &LowerOptions { precise, ..o.clone() })).collect()
    };
    let (early, late) = std::thread::scope(|scope| {
        let late = scope.spawn(|| all(true));
        (all(false), late.join().expect("lowering does not panic"))
    });
    let mut distinct: Vec<Lowered> = Vec::new();
    for lowered in early?.into_iter().chain(late?) {
        if distinct.iter().all(|d| (&d.program, &d.levels) != (&lowered.program, &lowered.levels)) {
            distinct.push(lowered);
        }
    }
    Ok(distinct.into_iter().map(|lowered| Plan::new(lowered, samples)).collect())
}

impl Pressed {
    /// Whether a set of this ring gives its plans the precision that is asked for.
    fn any_is_precise(&self) -> bool {
        let mut outlines = self.plans.iter().flat_map(|plan| {
            without_rescales(&plan.outline).into_iter().map(move |o| (plan, with_rescales(&o, false)))
        });
        outlines.any(|(plan, outline)| {
            self.shapes(&outline).into_iter().any(|shape| {
                let candidate = Candidate { plan, outline: outline.clone(), shape, least_us: 0.0 };
                self.settle(&candidate).is_some()
            })
        })
    }

    /// A set with the digits and special primes of a shape; none where the ring has too few primes.
    fn some_set(&self, shape: Shape) -> Option<ParamSet> {
        match self.set {
            Some(set) => Some(set),
            None => some_set(&self.ring.primes, shape),
        }
    }

    fn shapes(&self, outline: &Outline) -> Vec<Shape> {
        match self.set {
            Some(set) if outline.limbs() > set.limbs() => Vec::new(),
            Some(set) => {
                let (limbs, special, digit) = (set.limbs(), set.special(), set.digit());
                vec![Shape { log_n: set.log_n(), limbs, special, digit }]
            }
            None => shapes(self.ring.log_n, outline.limbs()).collect(),
        }
    }

    /// With its primes and rescales; none where that is not precise enough.
    fn settle(&self, candidate: &Candidate<'_>) -> Option<Settled> {
        let Some(set) = self.set else { return self.ring.settle(candidate, &mut Trial::new(candidate)).ok() };
        let required = self.ring.required;
        let moduli = Moduli::of(&set);
        let model = candidate.shape.model();
        let size = |outline: &Outline| {
            let (precision, aims) = best(outline, &moduli)?;
            Ok(Sized { set, precision, aims })
        };
        let settled = settle(&candidate.outline, required, |o| o.microseconds(&model), size).ok()?;
        (settled.sized.precision >= required).then_some(settled)
    }
}

/// All candidates.
pub struct Pool<'r> {
    terms: Terms,
    entrants: Vec<Entrant<'r>>,
}

impl<'r> Pool<'r> {
    /// Every plan of `rings` under every shape.
    pub fn new(rings: &'r [Pressed], terms: Terms) -> Self {
        let mut entrants = Vec::new();
        for ring in rings {
            let mut sets: HashMap<Shape, Option<ParamSet>> = HashMap::new();
            let mut seen: Vec<Outline> = Vec::new();
            for plan in &ring.plans {
                for outline in without_rescales(&plan.outline) {
                    let outline = with_rescales(&outline, false);
                    if seen.contains(&outline) {
                        continue;
                    }
                    seen.push(outline.clone());
                    for shape in ring.shapes(&outline) {
                        let Some(set) = *sets.entry(shape).or_insert_with(|| ring.some_set(shape)) else { continue };
                        let least_us = outline.microseconds(&shape.model());
                        let needs = terms.needs(least_us / 1000.0, &Footprint::of(&outline, &set, terms.weights));
                        let candidate = Candidate { plan, outline: outline.clone(), shape, least_us };
                        entrants.push(Entrant { ring, candidate, needs, progress: Progress::Bounded });
                    }
                }
            }
        }
        Self { terms, entrants }
    }

    /// The candidate within `budget` that `order` puts first, written by `write`; none where nothing fits.
    pub fn first(
        &mut self,
        budget: Budget,
        order: fn(&Needs, &Needs) -> Ordering,
        write: &dyn Fn(Found) -> Result<Written, CompileError>,
    ) -> Option<Chosen> {
        loop {
            let open = self.entrants.iter().enumerate();
            let open = open.filter(|(_, e)| !matches!(e.progress, Progress::Out) && budget.admits(&e.needs));
            let (index, entrant) = open.min_by(|a, b| order(&a.1.needs, &b.1.needs))?;
            if matches!(entrant.progress, Progress::Written(_)) {
                return Some(Chosen { index, needs: entrant.needs });
            }
            self.step(index, write);
        }
    }

    fn step(&mut self, index: usize, write: &dyn Fn(Found) -> Result<Written, CompileError>) {
        let terms = self.terms;
        let entrant = &mut self.entrants[index];
        let Candidate { plan, shape, .. } = &entrant.candidate;
        let model = shape.model();
        entrant.progress = match std::mem::replace(&mut entrant.progress, Progress::Out) {
            Progress::Bounded => match entrant.ring.settle(&entrant.candidate) {
                Some(settled) => {
                    let footprint = Footprint::of(&settled.outline, &settled.sized.set, terms.weights);
                    entrant.needs = terms.needs(settled.outline.microseconds(&model) / 1000.0, &footprint);
                    Progress::Settled(Box::new(settled))
                }
                None => Progress::Out,
            },
            Progress::Settled(settled) => {
                let Settled { outline, sized } = *settled;
                let mut lowered = plan.lowered.clone();
                outline.apply(&mut lowered, &model);
                let schedule = schedule_for(&outline, &sized.set, &sized.aims).ok();
                let found = schedule.map(|schedule| Found { set: sized.set, lowered, schedule, trials: Vec::new() });
                match found.and_then(|found| write(found).ok()) {
                    Some(written) => {
                        entrant.needs = terms.needs(entrant.needs.ms, &written.footprint());
                        Progress::Written(Box::new(written))
                    }
                    None => Progress::Out,
                }
            }
            done => done,
        };
    }

    /// The program of a candidate, and its line in the list of those that were looked at.
    pub fn take(mut self, chosen: &Chosen) -> Option<(Written, Trial)> {
        let entrant = self.entrants.swap_remove(chosen.index);
        let Progress::Written(written) = entrant.progress else { return None };
        let mut trial = Trial::new(&entrant.candidate);
        trial.predicted_ms = entrant.needs.ms;
        trial.key_bytes = written.report.key_bytes;
        trial.precision_bits = Some(written.report.precision_bits);
        Some((*written, trial))
    }
}

/// A written candidate of a pool.
#[derive(Debug, Clone, Copy)]
pub struct Chosen {
    index: usize,
    /// What it takes.
    pub needs: Needs,
}
