//! Threads for the passes of one inference.
//!
//! A phase lasts tens of microseconds, about as long as it takes to wake a sleeping thread, so the workers of this pool
//! spin for the next phase before they sleep. Between inferences they sleep. A phase ends when all units are done: it
//! does not wait for workers that never came, because another program had their core.

use cipherlens_kernel::parallel::Parallel;
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Turns of the spin loop before a thread yields, and yields before it sleeps.
const SPINS: u32 = 20_000;
const YIELDS: u32 = 64;

/// What a pass of a phase is: unit and worker number.
type Job<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// One phase, as the workers see it. The job lives only until `for_each` returns, which is after all have left it.
#[derive(Clone, Copy)]
struct Phase {
    job: &'static Job<'static>,
    units: usize,
}

/// Most workers of a pool: they are counted below the gate's open bit.
const MOST_WORKERS: usize = 200;
/// Bit of the gate that lets workers in; below it, how many came in; above it, the number of the phase.
const OPEN: usize = 1 << 8;
const PHASE: usize = OPEN << 1;

struct Shared {
    /// The current phase: its number, whether it is open, and how many workers came in.
    gate: AtomicUsize,
    /// The next unit to take.
    next: AtomicUsize,
    /// Workers that have left the current phase.
    left: AtomicUsize,
    stop: AtomicBool,
    phase: Mutex<Option<Phase>>,
}

impl Shared {
    fn phase(&self) -> MutexGuard<'_, Option<Phase>> {
        // Nothing can panic while it is held.
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes units until there are none.
    fn work(&self, job: &Job<'_>, units: usize, worker: usize) {
        loop {
            let unit = self.next.fetch_add(1, Ordering::Relaxed);
            if unit >= units {
                return;
            }
            job(unit, worker);
        }
    }

    fn serve(&self, worker: usize) {
        let mut seen = 0;
        while let Some(number) = self.enter(seen) {
            seen = number;
            // Copied out, so that the lock is not held while the units run.
            let phase = *self.phase();
            if let Some(Phase { job, units }) = phase {
                self.work(job, units, worker);
            }
            self.left.fetch_add(1, Ordering::Release);
        }
    }

    /// Comes into the next open phase after number `seen`, and returns its number; none to stop.
    fn enter(&self, seen: usize) -> Option<usize> {
        let mut turns = 0;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let gate = self.gate.load(Ordering::Acquire);
            let number = gate / PHASE;
            if number != seen && gate & OPEN != 0 {
                // Fails if the phase has been closed, or another worker was faster.
                if self.gate.compare_exchange(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    return Some(number);
                }
                continue;
            }
            turns += 1;
            if turns < SPINS {
                spin_loop();
            } else if turns < SPINS + YIELDS {
                std::thread::yield_now();
            } else {
                std::thread::park();
            }
        }
    }
}

/// A pool of threads for [`Engine::run_on`](cipherlens_kernel::engine::Engine::run_on). The caller is worker 0.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Held for the time of a phase: one caller at a time.
    turn: Mutex<()>,
}

impl Pool {
    /// A pool of `workers` workers, the caller included.
    ///
    /// # Errors
    /// If the system gives no threads, or more than 200 workers are asked for.
    pub fn new(workers: usize) -> std::io::Result<Self> {
        if workers > MOST_WORKERS {
            return Err(std::io::Error::other(format!("{workers} workers are more than {MOST_WORKERS}")));
        }
        let shared = Arc::new(Shared {
            gate: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            phase: Mutex::new(None),
        });
        let mut pool = Self { shared, threads: Vec::new(), turn: Mutex::new(()) };
        for worker in 1..workers {
            let shared = pool.shared.clone();
            let thread = std::thread::Builder::new().name(format!("worker {worker}"));
            pool.threads.push(thread.spawn(move || shared.serve(worker))?);
        }
        Ok(pool)
    }
}

// SAFETY: units are taken from one counter, so each runs once; worker numbers are 0 for the caller, of whom `turn` lets
// in one at a time, and each thread's own; a thread runs its units one after the other; all that came in have left on
// return, and none comes in after the gate is closed.
unsafe impl Parallel for Pool {
    fn workers(&self) -> usize {
        self.threads.len() + 1
    }

    fn for_each(&self, units: usize, run: &(dyn Fn(usize, usize) + Sync)) {
        if self.threads.is_empty() || units < 2 {
            (0..units).for_each(|unit| run(unit, 0));
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; the workers that came in have left before this function returns.
        let job: &'static Job<'static> = unsafe { std::mem::transmute::<&Job<'_>, &'static Job<'static>>(run) };
        *shared.phase() = Some(Phase { job, units });
        shared.next.store(0, Ordering::Relaxed);
        shared.left.store(0, Ordering::Relaxed);
        let number = shared.gate.load(Ordering::Relaxed) / PHASE;
        shared.gate.store(number.wrapping_add(1).wrapping_mul(PHASE) | OPEN, Ordering::Release);
        self.threads.iter().for_each(|thread| thread.thread().unpark());
        shared.work(run, units, 0);
        let came = shared.gate.fetch_and(!OPEN, Ordering::AcqRel) % OPEN;
        let mut turns = 0u32;
        while shared.left.load(Ordering::Acquire) < came {
            turns = turns.saturating_add(1);
            if turns < SPINS { spin_loop() } else { std::thread::yield_now() }
        }
        *shared.phase() = None;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A worker does not panic; if one did, there is nothing left to do about it here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_runs_once_and_workers_do_not_overlap() {
        for workers in [1, 2, 3, 5] {
            let pool = Pool::new(workers).unwrap();
            assert_eq!(pool.workers(), workers);
            for units in [0, 1, 2, 7, 200] {
                for _ in 0..50 {
                    let runs: Vec<AtomicUsize> = (0..units).map(|_| AtomicUsize::new(0)).collect();
                    let busy: Vec<AtomicBool> = (0..workers).map(|_| AtomicBool::new(false)).collect();
                    pool.for_each(units, &|unit, worker| {
                        assert!(!busy[worker].swap(true, Ordering::SeqCst));
                        runs[unit].fetch_add(1, Ordering::SeqCst);
                        busy[worker].store(false, Ordering::SeqCst);
                    });
                    assert!(runs.iter().all(|r| r.load(Ordering::SeqCst) == 1));
                }
            }
        }
    }

    #[test]
    fn sleeping_workers_wake_up() {
        let pool = Pool::new(3).unwrap();
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(30));
            let sum = AtomicUsize::new(0);
            pool.for_each(100, &|unit, _| {
                sum.fetch_add(unit, Ordering::SeqCst);
            });
            assert_eq!(sum.into_inner(), 4950);
        }
    }
}
