//! Products with constant matrices.

use super::call::Call;
use super::error::{Fault, unsupported};
use super::importer::Importer;
use super::model::{Dense, Layer};
use super::shape::broadcast_index;
use super::value::Value;
use crate::compile::onnx::{Constant, elements};

impl Importer<'_> {
    pub(super) fn gemm(&mut self, call: &Call) -> Result<Value, Fault> {
        let x = call.var(0)?;
        let weight = call.constant(1, "matrix")?;
        let (&[rows, inputs], &[r, c]) = (x.dims.as_slice(), weight.dims.as_slice()) else {
            return Err(
                format!("multiplies shapes {:?} and {:?}; two matrices are expected", x.dims, weight.dims).into()
            );
        };
        if call.int("transA", 0) != 0 {
            return unsupported("it transposes its encrypted operand", "use transA=0");
        }
        let transposed = call.int("transB", 0) != 0;
        let (outputs, k) = if transposed { (r, c) } else { (c, r) };
        let alpha = f64::from(call.float("alpha", 1.0));
        let beta = f64::from(call.float("beta", 1.0));
        let bias = match call.optional_constant(2, "bias")? {
            None => vec![0.0; outputs],
            Some(c) => {
                let index = broadcast_index(&c.dims, &[1, outputs])?;
                index.iter().map(|&i| (beta * c.values[i as usize]) as f32).collect()
            }
        };
        let layer = dense(weight, transposed, alpha, bias, [rows, inputs, outputs], k)?;
        self.push(call, "fc", &[x.id], layer, vec![rows, outputs])
    }

    pub(super) fn matmul(&mut self, call: &Call) -> Result<Value, Fault> {
        let (x, weight) = match (call.arg(0)?, call.arg(1)?) {
            (Value::Var(x), Value::Const(w)) => (x, w),
            (Value::Var(_), Value::Var(_)) => {
                return unsupported(
                    "it multiplies two encrypted matrices",
                    "multiply by a constant matrix, or element by element (Mul)",
                );
            }
            _ => {
                return unsupported(
                    "its left operand is a constant",
                    "transpose it, so that the constant is on the right",
                );
            }
        };
        let (Some((&inputs, lead)), &[k, outputs]) = (x.dims.split_last(), weight.dims.as_slice()) else {
            return Err(format!(
                "multiplies shapes {:?} and {:?}; the right one must be a matrix",
                x.dims, weight.dims
            )
            .into());
        };
        let layer = dense(weight, false, 1.0, vec![0.0; outputs], [elements(lead)?, inputs, outputs], k)?;
        let dims = lead.iter().copied().chain([outputs]).collect();
        self.push(call, "fc", &[x.id], layer, dims)
    }
}

/// A dense layer from a `[inputs][outputs]` matrix, or `[outputs][inputs]` when `transposed`.
fn dense(
    weight: &Constant,
    transposed: bool,
    alpha: f64,
    bias: Vec<f32>,
    [rows, inputs, outputs]: [usize; 3],
    k: usize,
) -> Result<Layer, Fault> {
    if k != inputs {
        return Err(format!("has a matrix for {k} features, and its input has {inputs}").into());
    }
    let at = |o: usize, i: usize| weight.values[if transposed { o * inputs + i } else { i * outputs + o }];
    let weight = (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))).map(|(o, i)| (alpha * at(o, i)) as f32);
    Ok(Layer::Dense(Dense { rows, inputs, outputs, weight: weight.collect(), bias }))
}
