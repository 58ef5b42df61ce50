//! The network while it is rewritten.

use std::collections::{HashMap, HashSet};

use super::DeclutterError;
use super::geometry::{is_convolution, union};
use crate::compile::graph::{AffineTerm, LayoutKind, Network, Op, Stage, Tensor, TensorId};

/// A stage, and how much its name says about what it does.
#[derive(Clone)]
pub(super) struct DraftStage {
    pub(super) name: String,
    pub(super) rank: u8,
    pub(super) output: TensorId,
    pub(super) op: Op,
}

/// Stages in topological order over the tensors of the model, and of those added on the way.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) tensors: Vec<Tensor>,
    pub(super) inputs: Vec<TensorId>,
    pub(super) outputs: Vec<TensorId>,
    pub(super) stages: Vec<DraftStage>,
}

impl DraftStage {
    pub(super) fn terms(&self) -> &[AffineTerm] {
        match &self.op {
            Op::Affine { terms, .. } => terms,
            Op::Mul(..) => &[],
        }
    }

    pub(super) fn is_affine(&self) -> bool {
        matches!(self.op, Op::Affine { .. })
    }

    pub(super) fn reads(&self, t: TensorId) -> bool {
        match &self.op {
            Op::Affine { terms, .. } => terms.iter().any(|a| a.input == t),
            Op::Mul(a, b) => *a == t || *b == t,
        }
    }

    /// The term that reads `t`.
    pub(super) fn term(&self, t: TensorId) -> Option<&AffineTerm> {
        self.terms().iter().find(|a| a.input == t)
    }

    /// Whether every output element is at most one scaled and shifted input element.
    pub(super) fn rows_are_single(&self) -> bool {
        let mut used = vec![false; self.terms().first().map_or(0, |t| t.matrix.rows)];
        self.is_affine()
            && self.terms().iter().all(|t| {
                (0..t.matrix.rows).all(|r| match t.matrix.row_start[r + 1] - t.matrix.row_start[r] {
                    0 => true,
                    1 => !std::mem::replace(&mut used[r], true),
                    _ => false,
                })
            })
    }

    /// `(input, scale, shift)` if the stage scales and shifts one tensor element-wise.
    pub(super) fn as_scaling(&self) -> Option<(TensorId, Vec<f64>, &[f64])> {
        match &self.op {
            Op::Affine { terms, bias } if terms.len() == 1 => {
                Some((terms[0].input, terms[0].matrix.as_diagonal()?, bias))
            }
            _ => None,
        }
    }
}

impl Draft {
    /// The stages that read `t`.
    pub(super) fn consumers(&self, t: TensorId) -> Vec<usize> {
        (0..self.stages.len()).filter(|&s| self.stages[s].reads(t)).collect()
    }

    /// The stage that defines `t`.
    pub(super) fn producer(&self, t: TensorId) -> Option<usize> {
        self.stages.iter().position(|s| s.output == t)
    }

    /// Drops stages that nothing reads.
    pub(super) fn prune(&mut self) {
        let mut needed: HashSet<TensorId> = self.outputs.iter().copied().collect();
        for s in (0..self.stages.len()).rev() {
            let stage = &self.stages[s];
            if !needed.contains(&stage.output) {
                self.stages.remove(s);
                continue;
            }
            match &stage.op {
                Op::Affine { terms, .. } => needed.extend(terms.iter().map(|t| t.input)),
                Op::Mul(a, b) => needed.extend([a, b]),
            }
        }
    }

    /// Numbers the tensors that are left, checks the geometries and the values.
    pub(super) fn finish(mut self, name: String) -> Result<Network, DeclutterError> {
        self.prune();
        let mut id = HashMap::new();
        let mut tensors = Vec::new();
        for t in self.inputs.iter().copied().chain(self.stages.iter().map(|s| s.output)) {
            id.insert(t, tensors.len());
            tensors.push(self.tensors[t].clone());
        }
        let mut used = HashSet::new();
        let mut stages = Vec::new();
        for mut stage in self.stages {
            let mut finite = true;
            match &mut stage.op {
                Op::Mul(a, b) => (*a, *b) = (id[a], id[b]),
                Op::Affine { terms, bias } => {
                    finite = bias.iter().all(|b| b.is_finite());
                    for term in terms {
                        finite &= term.matrix.value.iter().all(|v| v.is_finite());
                        term.input = id[&term.input];
                        term.conv = term.conv.filter(|g| is_convolution(&term.matrix, g));
                    }
                }
            }
            let mut name = stage.name.clone();
            for k in 2.. {
                if used.insert(name.clone()) {
                    break;
                }
                name = format!("{}_{k}", stage.name);
            }
            if !finite {
                return Err(DeclutterError::NotFinite { layer: name });
            }
            stages.push(Stage { name, op: stage.op, output: id[&stage.output] });
        }
        let renumber = |list: &[TensorId]| list.iter().map(|t| id[t]).collect();
        let (inputs, outputs) = (renumber(&self.inputs), renumber(&self.outputs));
        Ok(Network { name, inputs, outputs, tensors, stages, images: 1, layout: LayoutKind::Search })
    }
}

/// Adds a term to a sum; terms of one tensor become one.
pub(super) fn add_term(terms: &mut Vec<AffineTerm>, term: AffineTerm) {
    match terms.iter_mut().find(|t| t.input == term.input) {
        None => terms.push(term),
        Some(same) => {
            same.conv = same.conv.zip(term.conv).and_then(|(a, b)| union(&a, &b));
            same.matrix = same.matrix.add(&term.matrix);
        }
    }
}
