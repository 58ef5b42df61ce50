//! Averages as sums, whose factor the next weights carry.

use super::draft::Draft;
use crate::compile::graph::{Op, TensorId};

/// Averages over more elements than this keep their factor, since sums that large cost precision.
const MAX_AVERAGE: f64 = 1024.0;

impl Draft {
    /// Turns averages into sums where the next weights can take the factor.
    pub(super) fn move_averages(&mut self) {
        for s in 0..self.stages.len() {
            let mut values = self.stages[s].terms().iter().map(|t| t.matrix.uniform_value());
            let Some(factor) = values.next().flatten().filter(|&v| values.all(|o| o == Some(v))) else {
                continue;
            };
            let output = self.stages[s].output;
            if (MAX_AVERAGE.recip()..1.0).contains(&factor) && self.can_take_factor(output) {
                if let Op::Affine { terms, bias } = &mut self.stages[s].op {
                    terms.iter_mut().for_each(|t| t.matrix.scale_assign(factor.recip()));
                    bias.iter_mut().for_each(|b| *b /= factor);
                }
                self.give_factor(output, factor);
            }
        }
    }

    fn can_take_factor(&self, t: TensorId) -> bool {
        let mut readers = self.consumers(t).into_iter();
        !self.outputs.contains(&t)
            && readers.all(|c| self.stages[c].is_affine() || self.can_take_factor(self.stages[c].output))
    }

    fn give_factor(&mut self, t: TensorId, factor: f64) {
        for c in self.consumers(t) {
            match &mut self.stages[c].op {
                Op::Affine { terms, .. } => {
                    terms.iter_mut().filter(|a| a.input == t).for_each(|a| a.matrix.scale_assign(factor));
                }
                Op::Mul(a, b) => {
                    let power = if a == b { factor * factor } else { factor };
                    let output = self.stages[c].output;
                    self.give_factor(output, power);
                }
            }
        }
    }
}
