//! What a name in the ONNX graph stands for.

use std::rc::Rc;

use super::error::Fault;
use crate::compile::graph::TensorId;
use crate::compile::onnx::Constant;

/// A tensor that depends on the input, seen with the shape `dims` (batch included).
#[derive(Debug, Clone)]
pub(super) struct Var {
    pub(super) id: TensorId,
    pub(super) dims: Vec<usize>,
}

/// What a name in the ONNX graph stands for.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Const(Rc<Constant>),
    Var(Var),
}

impl Value {
    pub(super) fn dims(&self) -> &[usize] {
        match self {
            Value::Const(c) => &c.dims,
            Value::Var(v) => &v.dims,
        }
    }

    pub(super) fn constant(dims: Vec<usize>, values: Vec<f64>, integer: bool) -> Self {
        Value::Const(Rc::new(Constant { dims, values, integer }))
    }

    /// `f` of every element of a constant.
    pub(super) fn mapped(c: &Constant, f: impl Fn(f64) -> f64) -> Self {
        Self::constant(c.dims.clone(), c.values.iter().map(|&v| f(v)).collect(), c.integer)
    }
}

pub(super) fn as_var(value: Value) -> Result<Var, Fault> {
    match value {
        Value::Var(v) => Ok(v),
        Value::Const(_) => Err("has a constant where the layer's input belongs".into()),
    }
}

/// Channels, height and width of an image.
pub(super) fn image(x: &Var) -> Result<[usize; 3], Fault> {
    match x.dims[..] {
        [1, c, h, w] => Ok([c, h, w]),
        _ => Err(format!("has an input of shape {:?}; [1, C, H, W] is expected", x.dims).into()),
    }
}
