//! Nodes that are constants, or that constants and shapes are folded through.

use std::path::Path;
use std::rc::Rc;

use super::call::Call;
use super::error::{Fault, unsupported};
use super::refuse::refuse;
use super::shape::sizes;
use super::value::Value;
use crate::compile::onnx::{Constant, elements};

pub(super) fn constant(call: &Call, folder: &Path) -> Result<Value, Fault> {
    let a = call.node.attribute.first().ok_or("states no value")?;
    let scalar = |mut c: Constant| {
        c.dims.clear();
        c
    };
    let value = match a.name.as_str() {
        "value" => Constant::decode(a.t.as_ref().ok_or("states no value")?, folder)?,
        "value_float" => scalar(Constant::floats([a.f])),
        "value_floats" => Constant::floats(a.floats.iter().copied()),
        "value_int" => Constant { dims: Vec::new(), values: vec![a.i as f64], integer: true },
        "value_ints" => {
            Constant { dims: vec![a.ints.len()], values: a.ints.iter().map(|&i| i as f64).collect(), integer: true }
        }
        other => {
            return unsupported(&format!("its value is a {other}"), "use a float32 or int64 tensor");
        }
    };
    Ok(Value::Const(Rc::new(value)))
}

pub(super) fn constant_of_shape(call: &Call, folder: &Path) -> Result<Value, Fault> {
    let dims = sizes(&call.constant(0, "shape")?.to_i64())?;
    let fill = call.attribute("value").and_then(|a| a.t.as_ref());
    let fill = fill.map(|t| Constant::decode(t, folder)).transpose()?;
    let (fill, integer) = fill.map_or((0.0, false), |c| (c.scalar().unwrap_or(0.0), c.integer));
    let n = elements(&dims)?;
    Ok(Value::constant(dims, vec![fill; n], integer))
}

pub(super) fn shape(call: &Call) -> Result<Value, Fault> {
    let dims = call.arg(0)?.dims();
    let rank = dims.len() as i64;
    let bound = |v: i64| (if v < 0 { v + rank } else { v }).clamp(0, rank) as usize;
    let (start, end) = (bound(call.int("start", 0)), bound(call.int("end", i64::MAX)));
    Ok(Value::Const(Rc::new(Constant::ints(dims[start..end.max(start)].iter().copied()))))
}

pub(super) fn size(call: &Call) -> Result<Value, Fault> {
    let n = elements(call.arg(0)?.dims())?;
    Ok(Value::constant(Vec::new(), vec![n as f64], true))
}

pub(super) fn dropout(call: &Call) -> Result<Value, Fault> {
    match call.optional_constant(2, "training_mode")?.and_then(Constant::scalar) {
        Some(training) if training != 0.0 => {
            unsupported("it is in training mode", "export the model in evaluation mode (model.eval())")
        }
        _ => Ok(call.arg(0)?.clone()),
    }
}

pub(super) fn sqrt(call: &Call) -> Result<Value, Fault> {
    match call.arg(0)? {
        Value::Const(c) => Ok(Value::mapped(c, f64::sqrt)),
        Value::Var(_) => refuse("Sqrt"),
    }
}

pub(super) fn cast(call: &Call) -> Result<Value, Fault> {
    let to = call.int("to", 1);
    let float = matches!(to, 1 | 10 | 11 | 16);
    match call.arg(0)? {
        Value::Const(c) => {
            let values = if float { c.values.clone() } else { c.values.iter().map(|v| v.trunc()).collect() };
            Ok(Value::constant(c.dims.clone(), values, !float))
        }
        x if float => Ok(x.clone()),
        _ => unsupported("it rounds encrypted values to integers", "keep them as float32"),
    }
}
