//! Spreading independent passes over threads.

/// Runs independent pieces of work, by default one after the other.
///
/// The kernel never depends on how the work is split: each unit writes rows of its own, so the result is the same
/// bits for any number of workers.
///
/// # Safety
/// `for_each` calls `run` once for every unit, with worker numbers below `workers()`, and never twice at a time with
/// the same worker number: workers write to scratch rows that belong to their number.
pub unsafe trait Parallel {
    /// Number of workers; each has its own scratch rows, so the arena grows with it.
    fn workers(&self) -> usize;

    /// Calls `run(unit, worker)` once for every `unit` in `0..units` and returns when all are done. `worker` is below
    /// [`workers`](Self::workers), and no two calls with the same `worker` overlap in time.
    fn for_each(&self, units: usize, run: &(dyn Fn(usize, usize) + Sync));
}

/// No threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Serial;

// SAFETY: one unit after the other, all by worker 0.
unsafe impl Parallel for Serial {
    fn workers(&self) -> usize {
        1
    }

    fn for_each(&self, units: usize, run: &(dyn Fn(usize, usize) + Sync)) {
        for unit in 0..units {
            run(unit, 0);
        }
    }
}
