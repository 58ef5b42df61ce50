//! Quadratic activations: one square each, between two affine maps.

use std::collections::HashMap;

use super::draft::{Draft, DraftStage, add_term};
use super::geometry::pointwise;
use crate::compile::graph::{AffineTerm, Op, SparseMatrix, Tensor, TensorId};

/// The largest shift `b / 2a` by which a square is completed: the shifted value is squared and the excess
/// subtracted again, which costs twice as many bits of precision as the shift adds to the value.
pub const MAX_SHIFT: f64 = 32.0;

/// A tensor as `scale * root + shift`, element-wise.
#[derive(Clone)]
struct View {
    root: TensorId,
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Draft {
    /// Rewrites a product of two scaled and shifted views of one tensor into its square and an affine map,
    /// and computes equal products once.
    pub(super) fn unify_polynomials(&mut self) {
        let mut s = 0;
        while s < self.stages.len() {
            let Op::Mul(a, b) = self.stages[s].op else {
                s += 1;
                continue;
            };
            if a != b
                && let Some([p, q]) = self.common_root(a, b)
            {
                let n = self.tensors[a].len();
                let square = self.tensors.len();
                let shape = self.tensors[a].shape.clone();
                self.tensors
                    .push(Tensor { name: format!("{}.square", self.tensors[self.stages[s].output].name), shape });
                let diagonal = |f: &dyn Fn(usize) -> f64| SparseMatrix::diagonal(&(0..n).map(f).collect::<Vec<_>>());
                let conv = pointwise(&self.tensors[a].shape);
                let terms = vec![
                    AffineTerm { input: square, matrix: diagonal(&|i| p.scale[i] * q.scale[i]), conv },
                    AffineTerm {
                        input: p.root,
                        matrix: diagonal(&|i| p.scale[i] * q.shift[i] + p.shift[i] * q.scale[i]),
                        conv,
                    },
                ];
                let terms = terms.into_iter().filter(|t| t.matrix.nnz() > 0 || t.input == square).collect();
                let bias = (0..n).map(|i| p.shift[i] * q.shift[i]).collect();
                let product = &mut self.stages[s];
                let name = product.name.clone();
                product.op = Op::Affine { terms, bias };
                product.name = format!("{name}_poly");
                product.rank = 0;
                let stage = DraftStage { name, rank: 1, output: square, op: Op::Mul(p.root, p.root) };
                self.stages.insert(s, stage);
            }
            s += 1;
        }
        self.share_products();
        self.prune();
    }

    /// `a` and `b` as scaled and shifted views of one tensor, should they be.
    fn common_root(&self, a: TensorId, b: TensorId) -> Option<[View; 2]> {
        let theirs = self.views(b);
        self.views(a).into_iter().find_map(|ours| {
            let other = theirs.iter().find(|v| v.root == ours.root)?;
            Some([ours, other.clone()])
        })
    }

    /// `t` as a view of itself, of the tensor it scales and shifts, of the tensor that one scales and shifts, ...
    fn views(&self, t: TensorId) -> Vec<View> {
        let n = self.tensors[t].len();
        let mut last = View { root: t, scale: vec![1.0; n], shift: vec![0.0; n] };
        let mut views = Vec::new();
        while let Some((root, scale, shift)) = self.producer(last.root).and_then(|p| self.stages[p].as_scaling()) {
            let (d, e) = (&last.scale, &last.shift);
            let (scale, shift) = (0..n).map(|i| (d[i] * scale[i], d[i] * shift[i] + e[i])).unzip();
            views.push(std::mem::replace(&mut last, View { root, scale, shift }));
        }
        views.push(last);
        views
    }

    /// Computes equal products once.
    fn share_products(&mut self) {
        let mut known = HashMap::new();
        for s in 0..self.stages.len() {
            let Op::Mul(a, b) = self.stages[s].op else {
                continue;
            };
            let (output, first) = (self.stages[s].output, *known.entry((a.min(b), a.max(b))).or_insert(s));
            if first == s || self.outputs.contains(&output) {
                continue;
            }
            let same = self.stages[first].output;
            for stage in &mut self.stages {
                match &mut stage.op {
                    Op::Mul(a, b) => [a, b].into_iter().filter(|t| **t == output).for_each(|t| *t = same),
                    Op::Affine { terms, .. } => {
                        for mut term in std::mem::take(terms) {
                            if term.input == output {
                                term.input = same;
                            }
                            add_term(terms, term);
                        }
                    }
                }
            }
        }
    }

    /// Shifts the affine result `x` so that `a x^2 + b x + c` needs only the square.
    pub(super) fn complete_squares(&mut self) {
        for s in 0..self.stages.len() {
            if let Some((x, shift)) = self.completion(s) {
                self.shift_tensor(x, &shift);
            }
        }
    }

    /// The tensor `x` and the shift `b / 2a` for a stage that computes `a x^2 + b x + c`.
    fn completion(&self, s: usize) -> Option<(TensorId, Vec<f64>)> {
        let stage = &self.stages[s];
        let (x, square) = stage.terms().iter().find_map(|term| {
            let p = self.producer(term.input)?;
            match self.stages[p].op {
                Op::Mul(a, b) if a == b && stage.term(a).is_some() => Some((a, term.input)),
                _ => None,
            }
        })?;
        let others = |t: TensorId, s1: usize| self.consumers(t).into_iter().filter(move |&c| c != s1);
        let root = self.producer(x).filter(|&p| self.stages[p].is_affine());
        if root.is_none()
            || self.outputs.contains(&x)
            || self.outputs.contains(&square)
            || others(square, s).next().is_some()
        {
            return None;
        }
        let product = self.producer(square)?;
        if others(x, product).any(|c| !self.stages[c].is_affine()) {
            return None;
        }
        let shift = column_ratios(&stage.term(x)?.matrix, &stage.term(square)?.matrix)?;
        let shift: Vec<f64> = shift.into_iter().map(|ratio| ratio / 2.0).collect();
        shift.iter().all(|d| d.abs() <= MAX_SHIFT).then_some((x, shift))
    }

    /// Replaces the affine result `x` by `x + shift`, and corrects the affine maps that read it or its square.
    fn shift_tensor(&mut self, x: TensorId, shift: &[f64]) {
        let square = self.stages.iter().find(|s| matches!(s.op, Op::Mul(a, b) if a == x && b == x)).map(|s| s.output);
        for stage in &mut self.stages {
            let Op::Affine { terms, bias } = &mut stage.op else {
                continue;
            };
            if stage.output == x {
                bias.iter_mut().zip(shift).for_each(|(b, d)| *b += d);
            }
            if let Some(term) = terms.iter().find(|t| t.input == x) {
                bias.iter_mut().zip(term.matrix.matvec(shift)).for_each(|(b, m)| *b -= m);
            }
            // With x' = x + d: x^2 = x'^2 - 2 d x' + d^2, and the terms in x' cancel.
            if let Some(term) = terms.iter().find(|t| Some(t.input) == square) {
                let squared: Vec<f64> = shift.iter().map(|d| d * d).collect();
                bias.iter_mut().zip(term.matrix.matvec(&squared)).for_each(|(b, m)| *b += m);
                terms.retain(|t| t.input != x);
            }
        }
    }
}

/// The factors `r` (`[cols]`) with `b = a diag(r)`, if there are any.
fn column_ratios(b: &SparseMatrix, a: &SparseMatrix) -> Option<Vec<f64>> {
    let mut ratios: Vec<Option<f64>> = vec![None; a.cols];
    for row in 0..a.rows {
        let mut entries = b.row(row).peekable();
        for (col, value) in a.row(row) {
            let ratio = entries.next_if(|e| e.0 == col).map_or(0.0, |e| e.1 / value);
            let known = *ratios[col].get_or_insert(ratio);
            if (known - ratio).abs() > 1e-12 * ratio.abs() {
                return None;
            }
        }
        if entries.next().is_some() {
            return None;
        }
    }
    Some(ratios.into_iter().map(|r| r.unwrap_or(0.0)).collect())
}
