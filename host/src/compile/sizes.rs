//! Sizes: how many bits each prime gets, so that a plan is as precise as the security bound lets it be.
//!
//! The bits of log2 QP are dealt out among the ciphertext primes and, evenly, the special primes. Bits then move
//! between any two of these as long as the predicted precision grows: first two bits at a time, then one, then half
//! a bit. Each trial uses the primes themselves, and the check of the security bound is the kernel's.

use super::cost::CostModel;
use super::outline::Outline;
use super::primes::{MOST, Primes};
use super::schedule::{Aims, Moduli, improve, scan};
use cipherlens_kernel::params::{MAX_SPECIAL, ParamSet, max_log_qp};

/// A parameter set made for a plan.
#[derive(Debug, Clone)]
pub struct Sized {
    /// The set.
    pub set: ParamSet,
    /// Predicted precision, in bits.
    pub precision: f64,
    /// The scales behind it.
    pub aims: Aims,
}

/// Shape of a set: everything but the primes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// log2 of the ring degree.
    pub log_n: u32,
    /// Ciphertext primes.
    pub limbs: usize,
    /// Special primes.
    pub special: usize,
    /// Primes per key-switching digit.
    pub digit: usize,
}

impl Shape {
    /// The name of sets of this shape, such as `n13-6+3`.
    pub fn name(&self) -> String {
        format!("n{}-{}+{}", self.log_n, self.limbs, self.special)
    }

    /// Prices under sets of this shape.
    pub fn model(&self) -> CostModel {
        CostModel::new(1 << self.log_n, self.digit, self.special)
    }
}

/// Trials after which a search ends: enough for MNIST-size networks to settle, and a bound for deep ones.
const TRIALS: usize = 600;

/// Bits of precision that moving bits between primes does not gain.
const HOPELESS: f64 = 5.0;

/// Sizes in half bits of the ciphertext primes, then of every special prime.
type Sizes = Vec<u32>;

/// Prime sizes of a shape.
struct Sizing<'a> {
    primes: &'a Primes,
    shape: Shape,
}

struct Search<'a> {
    outline: &'a Outline,
    sizing: Sizing<'a>,
}

impl Sizing<'_> {
    /// The checked set; none where primes are missing or the bound is exceeded.
    fn set(&self, sizes: &Sizes) -> Option<ParamSet> {
        let Shape { log_n, limbs, special, digit } = self.shape;
        // Special primes first: among equal sizes they are to be the largest.
        let all = self.primes.pick([sizes[limbs]].repeat(special).into_iter().chain(sizes[..limbs].iter().copied()))?;
        ParamSet::checked(&self.shape.name(), log_n, &all[special..], &all[..special], digit).ok()
    }

    /// Even splits to start from: special primes of several sizes, and room for the output in q_0.
    fn starts(&self) -> Vec<Sizes> {
        let Shape { log_n, limbs, special, .. } = self.shape;
        let budget = 2 * max_log_qp(log_n);
        let mut starts = Vec::new();
        for p in [MOST, 57, 54, 50, 46, 42] {
            for extra in [0, 6, 12] {
                let Some(rest) = budget.checked_sub(p * special as u32 + extra) else { continue };
                let each = (rest / limbs as u32).min(MOST);
                let mut sizes = vec![each; limbs];
                sizes[0] = (each + extra).min(MOST);
                sizes.push(p);
                if !starts.contains(&sizes) {
                    starts.push(sizes);
                }
            }
        }
        starts
    }
}

impl Search<'_> {
    fn best_start(&self) -> Result<(Sizes, ParamSet, f64, Aims), String> {
        let mut best: Option<(Sizes, ParamSet, f64, Aims)> = None;
        let mut reason = "too few primes of the sizes that the security bound leaves".to_owned();
        for sizes in self.sizing.starts() {
            let Some(set) = self.sizing.set(&sizes) else { continue };
            match scan(self.outline, &Moduli::of(&set)) {
                Ok((precision, aims)) if best.as_ref().is_none_or(|b| precision > b.2) => {
                    best = Some((sizes, set, precision, aims));
                }
                Ok(_) => {}
                Err(why) => reason = why,
            }
        }
        best.ok_or(reason)
    }

    fn climb(&self, mut sizes: Sizes, start: Sized) -> Sized {
        let Sized { mut set, mut precision, mut aims } = start;
        let mut trials = 0;
        let places = sizes.len();
        let weight = |place: usize| if place + 1 == places { self.sizing.shape.special as u32 } else { 1 };
        for step in [4, 2, 1] {
            let mut moved = true;
            while moved && trials < TRIALS {
                moved = false;
                // From every place to every other; from nowhere where the bound leaves room.
                for to in 0..places {
                    for from in (0..=places).filter(|&f| f != to) {
                        let mut next = sizes.clone();
                        next[to] += step;
                        if from < places {
                            let less = (step * weight(to)).div_ceil(weight(from));
                            next[from] = next[from].saturating_sub(less);
                        }
                        if next[to] > MOST || trials >= TRIALS {
                            continue;
                        }
                        let Some(candidate) = self.sizing.set(&next) else { continue };
                        trials += 1;
                        let found = improve(self.outline, &Moduli::of(&candidate), aims.clone());
                        if found.0 > precision + 1e-3 {
                            (precision, aims) = found;
                            (sizes, set) = (next, candidate);
                            moved = true;
                        }
                    }
                }
            }
        }
        Sized { set, precision, aims }
    }
}

/// The primes of that shape for which `outline` is predicted to be most precise. The search is not gone through
/// with where it starts out hopelessly below `required` bits.
///
/// # Errors
/// Why there are none.
pub fn sized(outline: &Outline, primes: &Primes, shape: Shape, required: f64) -> Result<Sized, String> {
    assert!(shape.special <= MAX_SPECIAL && shape.limbs >= outline.limbs(), "a shape for this plan");
    let search = Search { outline, sizing: Sizing { primes, shape } };
    let (sizes, set, _, aims) = search.best_start()?;
    let (precision, aims) = improve(outline, &Moduli::of(&set), aims);
    if precision < required - HOPELESS {
        return Ok(Sized { set, precision, aims });
    }
    Ok(search.climb(sizes, Sized { set, precision, aims }))
}

/// A set of that shape with evenly sized primes, whatever its precision; none where the ring has too few primes.
pub fn some_set(primes: &Primes, shape: Shape) -> Option<ParamSet> {
    let sizing = Sizing { primes, shape };
    sizing.starts().iter().find_map(|sizes| sizing.set(sizes))
}
