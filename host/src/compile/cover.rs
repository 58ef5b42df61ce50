//! Assigns every weight of a sparse matrix to a partial-sum slot and a diagonal, and derives which slots
//! of the folded result are valid.
//!
//! A chain is the set of partial-sum slots `home + offset` of one row. The weight of column `c` may go to
//! diagonal `d` at chain slot `i` when slot `i + d` of the input holds `c`. Validity is decided by labels:
//! each partial-sum slot carries the sum of 64-bit hashes of its weights' positions, the labels are folded
//! like the values, and a slot is valid for the row whose weights' hashes add up to the same label.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::graph::SparseMatrix;
use super::layout::{Layout, Slot};

/// Candidates looked at beyond which a cover is refused unless it is forced.
const WORK_LIMIT: usize = 1_000_000;

/// Places of a weight, on average, that may be looked at whatever the number of weights.
const FEW_PLACES: usize = 2;

/// Where the rows of a stage are computed.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// Pairs of home slot and row; a row may have several homes.
    pub homes: &'a [(u32, u32)],
    /// Offsets of the partial-sum slots of a chain.
    pub offsets: &'a [usize],
}

/// A weight's hash; `term` tells the summands of a stage apart.
pub fn label(term: usize, row: usize, column: u32) -> u64 {
    let mut z = ((term as u64) << 56) ^ ((row as u64) << 28) ^ u64::from(column);
    z = z.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Assigns each non-zero weight once per home and calls `sink(slot, diagonal, row, entry)` for it, where
/// `entry` indexes the matrix's values. Diagonals are taken from `preferred` in that order, then by how
/// many weights they could take. Returns the diagonals used, ascending; none when a column is in no slot or
/// the search would take too long and `forced` is not set.
pub fn cover(
    matrix: &SparseMatrix,
    layout: &Layout,
    placement: Placement<'_>,
    preferred: &[u32],
    forced: bool,
    mut sink: impl FnMut(usize, u32, usize, usize),
) -> Option<Vec<u32>> {
    let n = layout.slots.len();
    let mask = n - 1;
    let mut pending = vec![0u32; matrix.cols];
    let mut used = vec![false; n];
    let mut left: Vec<(u32, u32, usize)> = Vec::new();
    for &(home, row) in placement.homes {
        let entries = matrix.row_start[row as usize]..matrix.row_start[row as usize + 1];
        let mut count = 0usize;
        for entry in entries.clone() {
            if matrix.value[entry] != 0.0 {
                pending[matrix.col[entry] as usize] = entry as u32 + 1;
                count += 1;
            }
        }
        'search: for &d in preferred {
            if count == 0 {
                break;
            }
            for &offset in placement.offsets {
                let slot = (home as usize + offset) & mask;
                if let Slot::Element(column) = layout.slots[(slot + d as usize) & mask]
                    && pending[column as usize] != 0
                {
                    let entry = pending[column as usize] as usize - 1;
                    pending[column as usize] = 0;
                    used[d as usize] = true;
                    sink(slot, d, row as usize, entry);
                    count -= 1;
                    if count == 0 {
                        break 'search;
                    }
                }
            }
        }
        if count > 0 {
            for entry in entries {
                let column = &mut pending[matrix.col[entry] as usize];
                if *column != 0 {
                    *column = 0;
                    left.push((home, row, entry));
                }
            }
        }
    }
    if !left.is_empty() {
        cover_rest(matrix, layout, placement.offsets, &left, forced, &mut used, &mut sink)?;
    }
    Some((0..n as u32).filter(|&d| used[d as usize]).collect())
}

/// Takes for each remaining weight the most popular diagonal; popularity is first how many weights a
/// diagonal could take, then how many chose it.
fn cover_rest(
    matrix: &SparseMatrix,
    layout: &Layout,
    offsets: &[usize],
    left: &[(u32, u32, usize)],
    forced: bool,
    used: &mut [bool],
    sink: &mut impl FnMut(usize, u32, usize, usize),
) -> Option<()> {
    let n = layout.slots.len();
    let positions = layout.positions(matrix.cols);
    let work: usize =
        left.iter().map(|&(_, _, entry)| positions[matrix.col[entry] as usize].len() * offsets.len()).sum();
    // Where each weight has few places, looking at them all is quick.
    if work > WORK_LIMIT.max(FEW_PLACES * left.len()) && !forced {
        return None;
    }
    let mut popularity = vec![0u32; n];
    for &(home, _, entry) in left {
        for &offset in offsets {
            let slot = home as usize + offset;
            for &p in &positions[matrix.col[entry] as usize] {
                popularity[(p as usize).wrapping_sub(slot) & (n - 1)] += 1;
            }
        }
    }
    // Diagonals in use first, then popular ones, then short ones; the rank ends in the diagonal itself.
    let ranks = |popularity: &[u32], used: &[bool]| -> Vec<u64> {
        (0..n)
            .map(|d| {
                let short = (n - d.min(n - d)) as u64;
                (u64::from(used[d]) << 63)
                    | (u64::from(popularity[d].min((1 << 27) - 1)) << 36)
                    | (short << 18)
                    | (n - 1 - d) as u64
            })
            .collect()
    };
    let choose = |ranks: &[u64], &(home, _, entry): &(u32, u32, usize)| {
        let mut best: Option<(u64, usize, usize)> = None;
        for &offset in offsets {
            let slot = (home as usize + offset) & (n - 1);
            for &p in &positions[matrix.col[entry] as usize] {
                let d = (p as usize).wrapping_sub(slot) & (n - 1);
                if best.is_none_or(|(rank, ..)| ranks[d] > rank) {
                    best = Some((ranks[d], slot, d));
                }
            }
        }
        best
    };
    let first = ranks(&popularity, used);
    let mut chosen = vec![0u32; n];
    for weight in left {
        chosen[choose(&first, weight)?.2] += 1;
    }
    let second = ranks(&chosen, used);
    for weight in left {
        let (_, slot, d) = choose(&second, weight)?;
        used[d] = true;
        sink(slot, d as u32, weight.1 as usize, weight.2);
    }
    Some(())
}

/// Hashes are their own hash.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 << 8) | u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// The label of every complete row of a stage.
pub struct Labels {
    rows: HashMap<u64, u32, BuildHasherDefault<Identity>>,
    empty: Vec<bool>,
}

impl Labels {
    /// Sums the hashes of each row over all terms.
    pub fn new(terms: &[&SparseMatrix], rows: usize) -> Self {
        let mut labels: HashMap<_, _, BuildHasherDefault<Identity>> = HashMap::default();
        let mut empty = vec![false; rows];
        for (row, empty) in empty.iter_mut().enumerate() {
            let mut sum = 0u64;
            let mut entries = 0;
            for (term, matrix) in terms.iter().enumerate() {
                for entry in matrix.row_start[row]..matrix.row_start[row + 1] {
                    if matrix.value[entry] != 0.0 {
                        sum = sum.wrapping_add(label(term, row, matrix.col[entry]));
                        entries += 1;
                    }
                }
            }
            if entries > 0 {
                labels.insert(sum, row as u32);
            }
            *empty = entries == 0;
        }
        Self { rows: labels, empty }
    }

    /// The layout after folding `partial` in these rounds; none when a row has no valid slot.
    pub fn fold(&self, mut partial: Vec<u64>, rounds: &[Vec<u32>], homes: &[(u32, u32)]) -> Option<Layout> {
        let n = partial.len();
        for steps in rounds {
            let src = partial.clone();
            for &step in steps {
                let (head, tail) = src.split_at(step as usize);
                for (sum, value) in partial.iter_mut().zip(tail.iter().chain(head)) {
                    *sum = sum.wrapping_add(*value);
                }
            }
        }
        let mut found = vec![false; self.empty.len()];
        let mut slots = vec![Slot::Garbage; n];
        for (slot, sum) in slots.iter_mut().zip(&partial) {
            if *sum == 0 {
                *slot = Slot::Zero;
            } else if let Some(&row) = self.rows.get(sum) {
                *slot = Slot::Element(row);
                found[row as usize] = true;
            }
        }
        for &(home, row) in homes {
            if self.empty[row as usize] && slots[home as usize] == Slot::Zero {
                slots[home as usize] = Slot::Element(row);
                found[row as usize] = true;
            }
        }
        found.iter().all(|&row| row).then_some(Layout { slots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dense(rows: usize, cols: usize) -> SparseMatrix {
        SparseMatrix {
            rows,
            cols,
            row_start: (0..=rows).map(|r| r * cols).collect(),
            col: (0..rows).flat_map(|_| 0..cols as u32).collect(),
            value: vec![1.0; rows * cols],
        }
    }

    fn run(
        layout: &Layout,
        matrix: &SparseMatrix,
        homes: &[(u32, u32)],
        offsets: &[usize],
        preferred: &[u32],
        rounds: &[Vec<u32>],
    ) -> Option<(Vec<u32>, Layout)> {
        let mut partial = vec![0u64; layout.slots.len()];
        let place = Placement { homes, offsets };
        let diagonals = cover(matrix, layout, place, preferred, true, |slot, _, row, entry| {
            partial[slot] = partial[slot].wrapping_add(label(0, row, matrix.col[entry]));
        })?;
        let layout = Labels::new(&[matrix], matrix.rows).fold(partial, rounds, homes)?;
        Some((diagonals, layout))
    }

    #[test]
    fn a_closed_cycle_replicates_the_result() {
        let layout = Layout { slots: (0..16).map(|i| Slot::Element((2 * (i / 4) + i % 4) % 8)).collect() };
        let homes = [(0, 0), (1, 1), (2, 2), (3, 3)];
        let (diagonals, out) =
            run(&layout, &dense(4, 8), &homes, &[0, 4, 8, 12], &[0, 1], &[vec![4], vec![8]]).unwrap();
        assert_eq!(diagonals, [0, 1]);
        assert!(out.slots.iter().enumerate().all(|(i, s)| *s == Slot::Element(i as u32 % 4)));
    }

    #[test]
    fn an_open_chain_is_valid_at_its_home_only() {
        let layout = Layout { slots: (0..16).map(|i| Slot::Element(i % 8)).collect() };
        let homes = [(0, 0), (8, 1)];
        let offsets: Vec<usize> = (0..8).collect();
        let (diagonals, out) =
            run(&layout, &dense(2, 8), &homes, &offsets, &[0], &[vec![1], vec![2], vec![4]]).unwrap();
        assert_eq!(diagonals, [0]);
        let valid: Vec<usize> = (0..16).filter(|&i| matches!(out.slots[i], Slot::Element(_))).collect();
        assert_eq!(valid, [0, 8]);
    }

    #[test]
    fn without_preference_every_weight_finds_a_diagonal() {
        let layout = Layout { slots: (0..16).map(|i| if i < 5 { Slot::Element(i) } else { Slot::Garbage }).collect() };
        let (diagonals, _) = run(&layout, &dense(3, 5), &[(0, 0), (1, 1), (2, 2)], &[0], &[], &[]).unwrap();
        assert_eq!(diagonals, [0, 1, 2, 3, 4, 14, 15]);
    }

    #[test]
    fn a_missing_column_is_refused() {
        let layout = Layout { slots: vec![Slot::Element(0), Slot::Garbage] };
        assert!(run(&layout, &dense(1, 2), &[(0, 0)], &[0], &[], &[]).is_none());
    }
}
