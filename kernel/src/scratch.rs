//! The arena: all memory of an engine, split into rows of N words.

use crate::math::{Modulus, NttTable, TABLE_ROWS};
use crate::parallel::Parallel;
use crate::params::ParamSet;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

/// A row outside the memory plan was asked for. A verified program never does; the check keeps it that way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RowFault {
    /// First row of the request.
    pub row: usize,
    /// Number of rows.
    pub rows: usize,
}

/// What a pass writes, and what it only reads.
pub type Parts<'w, const W: usize, const R: usize> = ([&'w mut [u32]; W], [&'w [u32]; R]);

/// Ciphertext buffers and scratch: rows of N words.
///
/// Passes of one phase may run side by side, so this is a pointer that workers share, not a slice. Every access
/// goes through [`parts`](Self::parts), which gives out what a pass writes and what it only reads apart.
#[derive(Debug)]
pub struct Work<'m> {
    base: NonNull<u32>,
    len: usize,
    n: usize,
    memory: PhantomData<&'m mut [u32]>,
}

// SAFETY: it stands for an exclusive borrow of plain words.
unsafe impl Send for Work<'_> {}

impl<'m> Work<'m> {
    /// Rows of `n` words over `words`.
    pub fn new(words: &'m mut [u32], n: usize) -> Self {
        let len = words.len();
        Self { base: NonNull::from(words).cast(), len, n, memory: PhantomData }
    }

    /// The same rows, for the time of a borrow.
    pub fn reborrow(&mut self) -> Work<'_> {
        Work { base: self.base, len: self.len, n: self.n, memory: PhantomData }
    }

    fn range(&self, (row, rows): (usize, usize)) -> Option<Range<usize>> {
        let start = row.checked_mul(self.n)?;
        let end = start.checked_add(rows.checked_mul(self.n)?)?;
        (end <= self.len).then_some(start..end)
    }

    /// Parts to write and parts to read, each given as first row and number of rows.
    ///
    /// # Errors
    /// [`RowFault`] if a part lies outside, or a part to write overlaps any other.
    pub fn parts<const W: usize, const R: usize>(
        &mut self,
        writes: [(usize, usize); W],
        reads: [(usize, usize); R],
    ) -> Result<Parts<'_, W, R>, RowFault> {
        let fault = |(row, rows): (usize, usize)| RowFault { row, rows };
        for (i, &write) in writes.iter().enumerate() {
            let a = self.range(write).ok_or(fault(write))?;
            for &other in writes.iter().skip(i.wrapping_add(1)).chain(&reads) {
                let b = self.range(other).ok_or(fault(other))?;
                if a.start < b.end && b.start < a.end {
                    return Err(fault(write));
                }
            }
        }
        if let Some(&read) = reads.iter().find(|&&read| self.range(read).is_none()) {
            return Err(fault(read));
        }
        let slice = |part| {
            let range = self.range(part).unwrap_or(0..0);
            // SAFETY: the range lies inside the memory borrowed for 'm.
            (unsafe { self.base.add(range.start) }, range.len())
        };
        let writes = writes.map(|part| {
            let (start, len) = slice(part);
            // SAFETY: in bounds, and disjoint from all other parts of this call; `self` is borrowed meanwhile.
            // Other handles, made by `Workspace::for_each_unit`, touch other rows.
            unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), len) }
        });
        let reads = reads.map(|part| {
            let (start, len) = slice(part);
            // SAFETY: in bounds, and disjoint from what this call writes, as above.
            unsafe { core::slice::from_raw_parts(start.as_ptr(), len) }
        });
        Ok((writes, reads))
    }

    /// Rows to write.
    ///
    /// # Errors
    /// As [`parts`](Self::parts).
    pub fn write(&mut self, row: usize, rows: usize) -> Result<&mut [u32], RowFault> {
        let ([out], []) = self.parts([(row, rows)], [])?;
        Ok(out)
    }

    /// Rows to read.
    ///
    /// # Errors
    /// [`RowFault`] if they lie outside.
    pub fn read(&self, row: usize, rows: usize) -> Result<&[u32], RowFault> {
        let range = self.range((row, rows)).ok_or(RowFault { row, rows })?;
        // SAFETY: in bounds; `self` is borrowed meanwhile.
        Ok(unsafe { core::slice::from_raw_parts(self.base.add(range.start).as_ptr(), range.len()) })
    }

    /// Copies one row.
    ///
    /// # Errors
    /// As [`parts`](Self::parts).
    pub fn copy(&mut self, from: usize, to: usize) -> Result<(), RowFault> {
        let ([out], [row]) = self.parts([(to, 1)], [(from, 1)])?;
        for (x, &y) in out.iter_mut().zip(row) {
            *x = y;
        }
        Ok(())
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Work<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=usize} words in rows of {=usize}", self.len, self.n);
    }
}

/// The transform tables of all primes in use: `q_0 .. q_(L-1)`, then the special primes.
#[derive(Debug)]
pub struct Tables<'m> {
    words: &'m mut [u32],
    n: usize,
    limbs: usize,
}

impl<'m> Tables<'m> {
    /// Tables for `limbs` ciphertext primes over `words`.
    pub fn new(words: &'m mut [u32], n: usize, limbs: usize) -> Self {
        Self { words, n, limbs }
    }

    /// The words of table `i`, to be filled.
    pub fn slot(&mut self, i: usize) -> Option<&mut [u32]> {
        let len = self.n.wrapping_mul(TABLE_ROWS);
        self.words.chunks_exact_mut(len.max(1)).nth(i)
    }

    /// Number of the table of prime `t` of the extended basis at `limbs` limbs.
    pub fn index(&self, limbs: usize, t: usize) -> usize {
        if t < limbs { t } else { t.wrapping_sub(limbs).wrapping_add(self.limbs) }
    }

    /// The table of prime `t` of the extended basis at `limbs` limbs.
    ///
    /// # Errors
    /// [`RowFault`] if there is none.
    pub fn get(&self, set: &ParamSet, limbs: usize, t: usize) -> Result<NttTable<'_>, RowFault> {
        let fault = RowFault { row: t, rows: TABLE_ROWS };
        let len = self.n.wrapping_mul(TABLE_ROWS);
        let start = self.index(limbs, t).saturating_mul(len);
        let words = self.words.get(start..start.saturating_add(len)).ok_or(fault)?;
        let modulus = set.modulus(limbs, t).ok_or(fault)?;
        NttTable::new(words, modulus, self.n).ok_or(fault)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Tables<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "tables for N = {=usize}, {=usize} limbs", self.n, self.limbs);
    }
}

/// What every pass works with.
#[derive(Debug)]
pub struct Workspace<'w, B> {
    /// The parameter set.
    pub set: ParamSet,
    /// The limb passes.
    pub backend: B,
    /// Transform tables.
    pub tables: &'w Tables<'w>,
    /// Buffers and scratch.
    pub work: Work<'w>,
}

impl<B> Workspace<'_, B> {
    /// Prime `t` of the extended basis at `limbs` limbs.
    ///
    /// # Errors
    /// [`RowFault`] if there is none.
    pub fn modulus(&self, limbs: usize, t: usize) -> Result<Modulus, RowFault> {
        self.set.modulus(limbs, t).ok_or(RowFault { row: t, rows: 0 })
    }
}

impl<B: Copy + Sync> Workspace<'_, B> {
    /// Calls `run(unit, worker, workspace)` for every unit, on the workers of `pool`. All units run, whatever fails.
    ///
    /// The caller guarantees that no unit writes a row that another unit reads or writes, unless both have the
    /// same worker number: `layers` calls this with the passes of one phase.
    ///
    /// # Errors
    /// That of the unit which failed first. It is kept, not asked for again: slow storage may fail once only.
    pub(crate) fn for_each_unit<P: Parallel, E: Copy + Send>(
        &mut self,
        pool: &P,
        units: usize,
        run: impl Fn(usize, usize, &mut Workspace<'_, B>) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let shared = Shared(self.work.base);
        let (len, n, set, backend, tables) = (self.work.len, self.work.n, &self.set, self.backend, self.tables);
        let failure = Failure { claimed: AtomicBool::new(false), error: UnsafeCell::new(None) };
        pool.for_each(units, &|unit, worker| {
            // Another handle on the same memory; `parts` explains why no two of them meet in a row.
            let work = Work { base: shared.base(), len, n, memory: PhantomData };
            if let Err(error) = run(unit, worker, &mut Workspace { set: *set, backend, tables, work }) {
                failure.keep(error);
            }
        });
        failure.error.into_inner().map_or(Ok(()), Err)
    }
}

/// The first error that any worker meets.
struct Failure<E> {
    claimed: AtomicBool,
    error: UnsafeCell<Option<E>>,
}

// SAFETY: only the one caller of `keep` that claims the cell writes to it, and nobody reads it while it is shared.
unsafe impl<E: Send> Sync for Failure<E> {}

impl<E: Copy> Failure<E> {
    fn keep(&self, error: E) {
        if !self.claimed.swap(true, Ordering::Relaxed) {
            // SAFETY: no other call gets here. The pool returns after all units have, so the read comes after.
            unsafe { *self.error.get() = Some(error) };
        }
    }
}

/// The base pointer on its way to other threads.
struct Shared(NonNull<u32>);

// SAFETY: it is only turned into `Work` handles, whose rows no two workers share (`for_each_unit`).
unsafe impl Sync for Shared {}

impl Shared {
    fn base(&self) -> NonNull<u32> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::Portable;
    use crate::params::named;
    use std::vec;

    /// Real threads: worker w takes units w, w + workers, and so on.
    struct Threads(usize);

    // SAFETY: every unit once; what has the same worker number runs on one thread, one after the other.
    unsafe impl Parallel for Threads {
        fn workers(&self) -> usize {
            self.0
        }

        fn for_each(&self, units: usize, run: &(dyn Fn(usize, usize) + Sync)) {
            std::thread::scope(|scope| {
                for worker in 0..self.0 {
                    scope.spawn(move || (worker..units).step_by(self.0).for_each(|unit| run(unit, worker)));
                }
            });
        }
    }

    const N: usize = 4;
    const UNITS: usize = 12;
    const WORKERS: usize = 3;

    /// Rows of results, rows of scratch, one row that all read. Miri runs this too.
    #[test]
    fn workers_share_the_memory() {
        let mut words = vec![0; N * (UNITS + WORKERS + 1)];
        words[N * (UNITS + WORKERS)..].fill(100);
        let tables = Tables::new(&mut [], N, 0);
        let work = Work::new(&mut words, N);
        let mut ws = Workspace { set: named::N12, backend: Portable, tables: &tables, work };
        for fail in [None, Some(5)] {
            let run = ws.for_each_unit(&Threads(WORKERS), UNITS, |unit, worker, ws| {
                let ([scratch], [common]) = ws.work.parts([(UNITS + worker, 1)], [(UNITS + WORKERS, 1)]).unwrap();
                scratch.iter_mut().zip(common).for_each(|(x, &y)| *x = y + unit as u32);
                ws.work.copy(UNITS + worker, unit).unwrap();
                if fail == Some(unit) { Err(unit) } else { Ok(()) }
            });
            assert_eq!(run, fail.map_or(Ok(()), Err));
            for unit in 0..UNITS {
                assert_eq!(ws.work.read(unit, 1), Ok(&[100 + unit as u32; N][..]), "all units run, whatever fails");
            }
        }
    }

    #[test]
    fn parts_lie_inside_and_apart() {
        let mut words = vec![7; 3 * N + 1];
        let mut work = Work::new(&mut words, N);
        let fault = |row, rows| Err(RowFault { row, rows });
        let mut ask = |writes, reads| work.parts::<2, 1>(writes, reads).map(|_| ());
        assert_eq!(ask([(0, 1), (1, 1)], [(2, 1)]), Ok(()));
        assert_eq!(ask([(0, 0), (0, 1)], [(1, 2)]), Ok(()));
        assert_eq!(ask([(0, 2), (1, 1)], [(2, 1)]), fault(0, 2));
        assert_eq!(ask([(0, 1), (1, 1)], [(1, 1)]), fault(1, 1));
        assert_eq!(ask([(0, 1), (1, 1)], [(3, 1)]), fault(3, 1));
        for (row, rows) in [(3, 1), (usize::MAX, 1), (1, usize::MAX), (usize::MAX / N, 2)] {
            assert_eq!(ask([(0, 1), (row, rows)], [(1, 1)]), fault(row, rows));
            assert_eq!(work_read(row, rows), fault(row, rows));
        }
        fn work_read(row: usize, rows: usize) -> Result<(), RowFault> {
            let mut words = vec![7; 3 * N + 1];
            Work::new(&mut words, N).read(row, rows).map(|_| ())
        }
    }
}
