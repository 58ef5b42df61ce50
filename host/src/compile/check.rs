//! Whether a network is well formed.

use super::graph::{AffineTerm, Network, Op, Stage, TensorId};
use super::input::reads;
use super::lower::LowerError;

fn check_affine(network: &Network, stage: &Stage, terms: &[AffineTerm], bias: &[f64]) -> Result<(), String> {
    let rows = network.tensors[stage.output].len();
    if terms.is_empty() {
        return Err("an affine stage needs at least one term".to_owned());
    }
    if bias.len() != rows {
        return Err(format!("{} bias values for {rows} outputs", bias.len()));
    }
    for term in terms {
        let (matrix, cols) = (&term.matrix, network.tensors[term.input].len());
        if (matrix.rows, matrix.cols) != (rows, cols) {
            return Err(format!("a {}x{} matrix between {cols} inputs and {rows} outputs", matrix.rows, matrix.cols));
        }
        let entries = matrix.value.len();
        let starts = &matrix.row_start;
        let ordered = starts.len() == rows + 1 && starts.windows(2).all(|w| w[0] <= w[1]);
        if !ordered || starts[0] != 0 || starts[rows] != entries || matrix.col.len() != entries {
            return Err("the matrix's rows are inconsistent".to_owned());
        }
        if (0..rows).any(|r| {
            let columns = &matrix.col[starts[r]..starts[r + 1]];
            columns.windows(2).any(|w| w[0] >= w[1]) || columns.last().is_some_and(|&c| c as usize >= cols)
        }) {
            return Err("the matrix's columns are not ascending or out of range".to_owned());
        }
        if let Some(conv) = &term.conv {
            let size = |shape: &[usize; 3]| shape.iter().product::<usize>();
            if size(&conv.input) != cols || size(&conv.output) != rows {
                return Err("the convolution's geometry does not fit its tensors".to_owned());
            }
        }
    }
    Ok(())
}

/// Checks a network for `n` slots.
///
/// # Errors
/// A slot count that is no power of two, or references and sizes that do not agree.
pub fn check(network: &Network, n: usize) -> Result<(), LowerError> {
    if !n.is_power_of_two() || n < 4 {
        return Err(LowerError::Slots { n });
    }
    let mut defined = vec![false; network.tensors.len()];
    let malformed = |stage: &str, reason: String| LowerError::Malformed { stage: stage.to_owned(), reason };
    let fits = |stage: &str, tensor: TensorId| {
        let shape = &network.tensors[tensor];
        if shape.is_empty() {
            return Err(malformed(stage, format!("tensor `{}` is empty", shape.name)));
        }
        Ok(())
    };
    for &input in &network.inputs {
        match defined.get_mut(input) {
            Some(slot) => *slot = true,
            None => return Err(malformed("input", format!("no tensor {input}"))),
        }
        fits("input", input)?;
    }
    for stage in &network.stages {
        let operands = reads(stage);
        if operands.iter().any(|&t| defined.get(t) != Some(&true)) || defined.get(stage.output) != Some(&false) {
            return Err(malformed(&stage.name, "an operand is not defined before, or the output twice".to_owned()));
        }
        fits(&stage.name, stage.output)?;
        match &stage.op {
            Op::Affine { terms, bias } => {
                check_affine(network, stage, terms, bias).map_err(|reason| malformed(&stage.name, reason))?
            }
            Op::Mul(a, b) => {
                let len = |t: TensorId| network.tensors[t].len();
                if len(*a) != len(*b) || len(*a) != len(stage.output) {
                    return Err(malformed(&stage.name, "the factors and the product differ in size".to_owned()));
                }
            }
        }
        defined[stage.output] = true;
    }
    match network.outputs.iter().find(|&&t| defined.get(t) != Some(&true)) {
        Some(output) => Err(malformed("output", format!("tensor {output} is not defined"))),
        None => Ok(()),
    }
}
