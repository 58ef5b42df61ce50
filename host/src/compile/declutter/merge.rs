//! Products of neighbouring affine maps.

use std::cmp::Ordering;

use super::MAX_NONZEROS;
use super::draft::{Draft, add_term};
use super::geometry::compose;
use crate::compile::graph::{AffineTerm, Op, SparseMatrix, TensorId};

/// Whether two affine maps become one where nobody has priced it: they had `before` entries together, and their
/// product has `after`.
///
/// Multiplying them saves a level and costs `after - before` entries, so up to twice as many are accepted:
/// a pool joins the convolution before it (`4x4` taps instead of `3x3`), not the one after it (`6x6`).
pub fn worth_merging(before: usize, after: usize) -> bool {
    after <= 2 * before
}

/// Most entries of a product that is worth pricing.
const MAX_MERGED: usize = 1 << 22;

impl Draft {
    /// Merges what costs nothing until nothing is left to merge.
    pub(super) fn absorb(&mut self) {
        while let Some((outer, t)) = self.next_forward().or_else(|| self.next_backward()) {
            self.merge_into(outer, t);
        }
    }

    /// Multiplies neighbouring affine maps where [`worth_merging`] says so, the most profitable pair first, and
    /// returns the tensors between them.
    pub(super) fn merge_maps(&mut self) -> Vec<TensorId> {
        let mut merged = Vec::new();
        loop {
            let best = (0..self.stages.len())
                .flat_map(|outer| self.stages[outer].terms().iter().map(move |t| (outer, t)))
                .filter_map(|(outer, term)| Some((self.growth(term)?, outer, term.input)))
                .min_by(|a, b| a.0.total_cmp(&b.0));
            match best {
                Some((_, outer, t)) => {
                    merged.push(t);
                    self.merge_into(outer, t);
                }
                None => return merged,
            }
        }
    }

    /// The tensors between two affine maps that may become one.
    pub(super) fn seams(&self) -> Vec<TensorId> {
        let terms = self.stages.iter().flat_map(|stage| stage.terms());
        terms.filter(|term| self.may_merge(term)).map(|term| term.input).collect()
    }

    /// Multiplies the maps on both sides of `t`, where that is still allowed.
    pub(super) fn merge_at(&mut self, t: TensorId) {
        let outer = self.stages.iter().position(|s| s.term(t).is_some_and(|term| self.may_merge(term)));
        if let Some(outer) = outer {
            self.merge_into(outer, t);
        }
    }

    /// Whether the map that reads `term` and the one before it may be multiplied; a product that would be far too
    /// large is found out from its factors, by one look at each entry of the second.
    fn may_merge(&self, term: &AffineTerm) -> bool {
        let Some(inner) = self.mergeable(term) else { return false };
        let entries = |first: &SparseMatrix| {
            let row = |k: u32| first.row_start[k as usize + 1] - first.row_start[k as usize];
            let products: usize = term.matrix.col.iter().map(|&k| row(k)).sum();
            products.min(term.matrix.rows.saturating_mul(first.cols))
        };
        inner.iter().map(|t| entries(&t.matrix)).sum::<usize>() <= MAX_MERGED
    }

    /// Puts the affine stage that defines `t` into the affine stage `outer` that reads it.
    fn merge_into(&mut self, outer: usize, t: TensorId) {
        let Some(inner) = self.producer(t) else {
            return;
        };
        let (low, high) = self.stages.split_at_mut(outer);
        let (inner, outer) = (&low[inner], &mut high[0]);
        let (Op::Affine { terms: from, bias: shift }, Op::Affine { terms, bias }) = (&inner.op, &mut outer.op) else {
            return;
        };
        let Some(place) = terms.iter().position(|a| a.input == t) else {
            return;
        };
        let AffineTerm { matrix, conv, .. } = terms.remove(place);
        bias.iter_mut().zip(matrix.matvec(shift)).for_each(|(b, s)| *b += s);
        for term in from {
            let conv = term.conv.zip(conv).and_then(|(first, then)| compose(&first, &then));
            add_term(terms, AffineTerm { input: term.input, matrix: matrix.multiply(&term.matrix), conv });
        }
        match inner.rank.cmp(&outer.rank) {
            Ordering::Less => {}
            Ordering::Equal if inner.rank == 5 => outer.name = format!("{}+{}", inner.name, outer.name),
            Ordering::Equal => {}
            Ordering::Greater => {
                outer.name.clone_from(&inner.name);
                outer.rank = inner.rank;
            }
        }
        self.prune();
    }

    /// A scaling, selection or concatenation that all its readers can take in.
    fn next_forward(&self) -> Option<(usize, TensorId)> {
        self.stages.iter().find_map(|stage| {
            let t = stage.output;
            if self.outputs.contains(&t) || !stage.rows_are_single() {
                return None;
            }
            let readers = self.consumers(t);
            let all = readers.iter().all(|&r| self.stages[r].is_affine());
            readers.first().filter(|_| all).map(|&r| (r, t))
        })
    }

    /// An affine stage whose only reader rearranges, scales, shifts or adds it to others.
    fn next_backward(&self) -> Option<(usize, TensorId)> {
        (0..self.stages.len()).find_map(|outer| {
            let mut terms = self.stages[outer].terms().iter();
            let term = terms.find(|term| self.only_reader_is_affine(term.input) && term.matrix.columns_are_single());
            term.map(|term| (outer, term.input))
        })
    }

    /// Whether `t` is the result of an affine stage and read by one affine stage only.
    fn only_reader_is_affine(&self, t: TensorId) -> bool {
        let readers = self.consumers(t);
        !self.outputs.contains(&t)
            && readers.len() == 1
            && self.stages[readers[0]].is_affine()
            && self.producer(t).is_some_and(|p| self.stages[p].is_affine())
    }

    /// The terms of the map before `term`, where the two may be multiplied.
    fn mergeable(&self, term: &AffineTerm) -> Option<&[AffineTerm]> {
        if !self.only_reader_is_affine(term.input) {
            return None;
        }
        let inner = self.stages[self.producer(term.input)?].terms();
        // A plain sum of tensors costs neither a level nor a weight: it stays.
        let plain = |t: &AffineTerm| t.matrix.uniform_value() == Some(1.0) && t.matrix.as_diagonal().is_some();
        (inner.len() == 1 || !inner.iter().all(plain)).then_some(inner)
    }

    /// Entries after merging over entries before, where merging is allowed and worth it.
    fn growth(&self, term: &AffineTerm) -> Option<f64> {
        let inner = self.mergeable(term)?;
        let before = term.matrix.nnz() + inner.iter().map(|t| t.matrix.nnz()).sum::<usize>();
        let after = inner.iter().map(|t| term.matrix.product_nnz(&t.matrix)).sum::<usize>();
        let fits = after <= MAX_NONZEROS && worth_merging(before, after);
        fits.then(|| after as f64 / before as f64)
    }
}
