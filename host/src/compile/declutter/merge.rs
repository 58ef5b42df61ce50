//! Products of neighbouring affine maps.

use std::cmp::Ordering;

use super::MAX_NONZEROS;
use super::draft::{Draft, add_term};
use super::geometry::compose;
use crate::compile::graph::{AffineTerm, Op, TensorId};

/// Whether two affine maps become one: they had `before` entries together, and their product has `after`.
///
/// Multiplying them saves a level and costs `after - before` entries, so up to twice as many are accepted:
/// a pool joins the convolution before it (`4x4` taps instead of `3x3`), not the one after it (`6x6`).
pub fn worth_merging(before: usize, after: usize) -> bool {
    after <= 2 * before
}

impl Draft {
    /// Merges what costs nothing until nothing is left to merge.
    pub(super) fn absorb(&mut self) {
        while let Some((outer, t)) = self.next_forward().or_else(|| self.next_backward()) {
            self.merge_into(outer, t);
        }
    }

    /// Multiplies neighbouring affine maps, the most profitable pair first.
    pub(super) fn merge_maps(&mut self) {
        loop {
            let best = (0..self.stages.len())
                .flat_map(|outer| self.stages[outer].terms().iter().map(move |t| (outer, t)))
                .filter_map(|(outer, term)| Some((self.growth(term)?, outer, term.input)))
                .min_by(|a, b| a.0.total_cmp(&b.0));
            match best {
                Some((_, outer, t)) => self.merge_into(outer, t),
                None => break,
            }
        }
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

    /// Entries after merging over entries before, where merging is allowed and worth it.
    fn growth(&self, term: &AffineTerm) -> Option<f64> {
        if !self.only_reader_is_affine(term.input) {
            return None;
        }
        let inner = self.stages[self.producer(term.input)?].terms();
        // A plain sum of tensors costs neither a level nor a weight: it stays.
        if inner.len() > 1
            && inner.iter().all(|t| t.matrix.uniform_value() == Some(1.0) && t.matrix.as_diagonal().is_some())
        {
            return None;
        }
        let before = term.matrix.nnz() + inner.iter().map(|t| t.matrix.nnz()).sum::<usize>();
        let after = inner.iter().map(|t| term.matrix.product_nnz(&t.matrix)).sum::<usize>();
        let fits = after <= MAX_NONZEROS && worth_merging(before, after);
        fits.then(|| after as f64 / before as f64)
    }
}
