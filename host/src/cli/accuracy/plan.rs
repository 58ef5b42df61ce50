//! How a run divides threads and memory.

use cipherlens_kernel::program::Program;

/// Engines, and what each keeps ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Images side by side, each with an arena of its own.
    pub engines: usize,
    /// Threads of each.
    pub workers: usize,
    /// Bytes of the weights that each keeps in the Ntt form.
    pub cache_bytes: usize,
    /// Whether all share expanded keys.
    pub expanded: bool,
    /// Bytes of the process while it evaluates, about.
    pub estimate: usize,
}

/// Bytes of files and of what is made of them.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// The program file.
    pub program: usize,
    /// The evaluation keys.
    pub keys: usize,
    /// The keys, expanded.
    pub expanded: usize,
}

/// The command itself, its images and reports.
const COMMAND: usize = 40 << 20;

impl Plan {
    /// The fastest plan that evaluates within `budget` bytes, else the smallest.
    pub fn new(program: &Program<'_>, sizes: Sizes, threads: usize, budget: usize) -> Self {
        let plan = |engines: usize, workers: usize, expanded: bool| {
            let keys = sizes.keys + if expanded { sizes.expanded } else { 0 };
            // An image on its way takes ciphertexts and encodings, about as much as an arena.
            let each = program.arena_bytes_for(workers) + program.arena_bytes();
            Self {
                engines,
                workers,
                cache_bytes: 0,
                expanded,
                estimate: COMMAND + sizes.program + keys + engines * each,
            }
        };
        let with_cache = |plan: Self| {
            let cache_bytes = program.cache_bytes_within(budget.saturating_sub(plan.estimate) / plan.engines);
            Self { cache_bytes, estimate: plan.estimate + plan.engines * cache_bytes, ..plan }
        };
        // Side by side is faster than together, but each image needs its own arena and weights.
        let side_by_side = with_cache(plan(threads, 1, true));
        let together = with_cache(plan(1, threads, true));
        let whole = |plan: &Self| plan.cache_bytes == program.cache_bytes();
        if !whole(&side_by_side) && whole(&together) {
            together
        } else if side_by_side.estimate <= budget {
            side_by_side
        } else {
            plan(threads, 1, false)
        }
    }
}
