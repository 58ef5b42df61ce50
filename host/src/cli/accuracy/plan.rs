//! How a run divides threads and memory.

use cipherlens_kernel::program::Program;

/// Engines, and what each keeps ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Images side by side, each with an arena of its own.
    pub engines: usize,
    /// Threads of each.
    pub workers: usize,
    /// Whether each keeps its weights in the Ntt form.
    pub cached: bool,
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
        // Side by side is faster than together, but each image needs its own arena and weights.
        let ways = [(threads, 1, true, true), (1, threads, true, true), (threads, 1, false, true)];
        let plan = |(engines, workers, cached, expanded): (usize, usize, bool, bool)| {
            let cache = if cached { program.cache_bytes() } else { 0 };
            let keys = sizes.keys + if expanded { sizes.expanded } else { 0 };
            // An image on its way takes ciphertexts and encodings, about as much as an arena.
            let each = program.arena_bytes_for(workers) + program.arena_bytes() + cache;
            let estimate = COMMAND + sizes.program + keys + engines * each;
            Self { engines, workers, cached, expanded, estimate }
        };
        let least = plan((threads, 1, false, false));
        ways.into_iter().map(plan).find(|plan| plan.estimate <= budget).unwrap_or(least)
    }
}
