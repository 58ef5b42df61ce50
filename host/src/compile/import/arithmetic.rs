//! Element-wise arithmetic: scalings, shifts, sums, products and whole powers.

use super::call::Call;
use super::error::{Fault, unsupported};
use super::importer::Importer;
use super::model::Layer;
use super::refuse::refuse;
use super::shape::{broadcast_dims, expanded_constant};
use super::value::{Value, Var, as_var};
use crate::compile::onnx::{Constant, elements};

impl Importer<'_> {
    pub(super) fn batch_norm(&mut self, call: &Call) -> Result<Value, Fault> {
        let x = call.var(0)?;
        let channels = *x.dims.get(1).ok_or("normalises a tensor without channels")?;
        if call.int("training_mode", 0) != 0 || call.node.output.iter().skip(1).any(|o| !o.is_empty()) {
            return unsupported("it is in training mode", "export the model in evaluation mode (model.eval())");
        }
        let vector = |i, what| {
            let c = call.constant(i, what)?;
            if c.values.len() == channels {
                Ok(&c.values)
            } else {
                Err(Fault::from(format!("has {} {what} values for {channels} channels", c.values.len())))
            }
        };
        let (gamma, beta) = (vector(1, "scale")?, vector(2, "bias")?);
        let (mean, variance) = (vector(3, "mean")?, vector(4, "variance")?);
        let epsilon = f64::from(call.float("epsilon", 1e-5));
        if variance.iter().any(|v| v + epsilon <= 0.0) {
            return Err("has a variance that is not positive".into());
        }
        let factor: Vec<f64> = (0..channels).map(|c| gamma[c] / (variance[c] + epsilon).sqrt()).collect();
        let inner: usize = x.dims[2..].iter().product();
        let per_element = |f: &dyn Fn(usize) -> f64| {
            (0..elements(&x.dims).unwrap_or(0)).map(|i| f(i / inner % channels) as f32).collect()
        };
        let layer = Layer::ScaleShift {
            scale: per_element(&|c| factor[c]),
            shift: per_element(&|c| beta[c] - mean[c] * factor[c]),
        };
        self.push(call, "norm", &[x.id], layer, x.dims.clone())
    }

    /// `Add`, `Sub`, `Mul` or `Div` with broadcasting.
    pub(super) fn binary(&mut self, call: &Call) -> Result<Value, Fault> {
        let op = call.node.op_type.as_str();
        let (a, b) = (call.arg(0)?, call.arg(1)?);
        let dims = broadcast_dims(a.dims(), b.dims())?;
        match (a, b) {
            (Value::Const(a), Value::Const(b)) => fold_binary(op, a, b, dims),
            (Value::Var(x), Value::Const(c)) => {
                let (x, c) = (self.expanded(call, x, &dims)?, expanded_constant(c, &dims)?);
                match op {
                    "Add" => self.scale_shift(call, &x, |_| 1.0, |i| c[i]),
                    "Sub" => self.scale_shift(call, &x, |_| 1.0, |i| -c[i]),
                    "Mul" => self.scale_shift(call, &x, |i| c[i], |_| 0.0),
                    _ if c.contains(&0.0) => Err("divides by zero".into()),
                    _ => self.scale_shift(call, &x, |i| 1.0 / c[i], |_| 0.0),
                }
            }
            (Value::Const(c), Value::Var(x)) => {
                let (x, c) = (self.expanded(call, x, &dims)?, expanded_constant(c, &dims)?);
                match op {
                    "Add" => self.scale_shift(call, &x, |_| 1.0, |i| c[i]),
                    "Sub" => self.scale_shift(call, &x, |_| -1.0, |i| c[i]),
                    "Mul" => self.scale_shift(call, &x, |i| c[i], |_| 0.0),
                    _ => refuse("Div"),
                }
            }
            (Value::Var(x), Value::Var(y)) => {
                if op == "Div" {
                    return refuse("Div");
                }
                let (x, y) = (self.expanded(call, x, &dims)?, self.expanded(call, y, &dims)?);
                match op {
                    "Mul" => self.product(call, &x, &y),
                    _ => {
                        let weights = vec![1.0, if op == "Add" { 1.0 } else { -1.0 }];
                        self.push(call, "add", &[x.id, y.id], Layer::Sum { weights }, dims)
                    }
                }
            }
        }
    }

    fn product(&mut self, call: &Call, x: &Var, y: &Var) -> Result<Value, Fault> {
        let kind = if x.id == y.id { "square" } else { "mul" };
        self.push(call, kind, &[x.id, y.id], Layer::Mul, x.dims.clone())
    }

    fn scale_shift(
        &mut self,
        call: &Call,
        x: &Var,
        scale: impl Fn(usize) -> f64,
        shift: impl Fn(usize) -> f64,
    ) -> Result<Value, Fault> {
        let n = elements(&x.dims)?;
        let layer = Layer::ScaleShift {
            scale: (0..n).map(|i| scale(i) as f32).collect(),
            shift: (0..n).map(|i| shift(i) as f32).collect(),
        };
        self.push(call, "scale", &[x.id], layer, x.dims.clone())
    }

    pub(super) fn sum(&mut self, call: &Call) -> Result<Value, Fault> {
        let mut inputs = Vec::new();
        let mut dims = call.var(0)?.dims.clone();
        for i in 0..call.args.len() {
            dims = broadcast_dims(&dims, &call.var(i)?.dims)?;
        }
        for i in 0..call.args.len() {
            inputs.push(self.expanded(call, call.var(i)?, &dims)?.id);
        }
        self.push(call, "add", &inputs, Layer::Sum { weights: vec![1.0; inputs.len()] }, dims)
    }

    pub(super) fn negate(&mut self, call: &Call) -> Result<Value, Fault> {
        match call.arg(0)? {
            Value::Const(c) => Ok(Value::mapped(c, |v| -v)),
            Value::Var(x) => self.scale_shift(call, x, |_| -1.0, |_| 0.0),
        }
    }

    pub(super) fn pow(&mut self, call: &Call) -> Result<Value, Fault> {
        let exponent = call.constant(1, "exponent")?;
        let x = match call.arg(0)? {
            Value::Var(x) => x,
            Value::Const(c) => {
                return fold_binary("Pow", c, exponent, broadcast_dims(&c.dims, &exponent.dims)?);
            }
        };
        let n = exponent.values.first().copied().unwrap_or(0.0);
        if exponent.values.iter().any(|&v| v != n) || n.fract() != 0.0 || !(1.0..=16.0).contains(&n) {
            return unsupported(
                &format!("its exponent is {n}, not one whole number from 1 to 16"),
                "use a square, or a polynomial a*x^2 + b*x + c fitted to the function",
            );
        }
        let mut power = x.clone();
        let bits = (n as u32).ilog2();
        for bit in (0..bits).rev() {
            power = as_var(self.product(call, &power, &power)?)?;
            if (n as u32 >> bit) & 1 == 1 {
                power = as_var(self.product(call, &power, x)?)?;
            }
        }
        Ok(Value::Var(power))
    }
}

fn fold_binary(op: &str, a: &Constant, b: &Constant, dims: Vec<usize>) -> Result<Value, Fault> {
    let integer = a.integer && b.integer;
    let (x, y) = (expanded_constant(a, &dims)?, expanded_constant(b, &dims)?);
    let f = |(x, y): (&f64, &f64)| match op {
        "Add" => x + y,
        "Sub" => x - y,
        "Mul" => x * y,
        "Pow" => x.powf(*y),
        _ if integer => (x / y).trunc(),
        _ => x / y,
    };
    let values = x.iter().zip(&y).map(f).collect();
    Ok(Value::constant(dims, values, integer))
}
