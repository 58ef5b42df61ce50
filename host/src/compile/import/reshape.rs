//! Reshapes, which only change how a flat tensor is seen.

use std::collections::HashSet;

use super::call::Call;
use super::error::Fault;
use super::shape::{axes_of, axis};
use super::value::{Value, Var};
use crate::compile::onnx::elements;

pub(super) fn reshape(call: &Call) -> Result<Value, Fault> {
    let x = call.arg(0)?;
    let old = x.dims();
    let count = elements(old)?;
    let dims = match call.node.op_type.as_str() {
        "Flatten" => {
            let a = call.int("axis", 1);
            let a = if a == old.len() as i64 { old.len() } else { axis(a, old.len())? };
            vec![old[..a].iter().product(), old[a..].iter().product()]
        }
        "Squeeze" => {
            let axes = match call.list("axes", 1)? {
                Some(list) => axes_of::<HashSet<_>>(&list, old.len())?,
                None => (0..old.len()).filter(|&i| old[i] == 1).collect(),
            };
            if axes.iter().any(|&a| old[a] != 1) {
                return Err(format!("removes an axis of {old:?} that is not 1").into());
            }
            (0..old.len()).filter(|i| !axes.contains(i)).map(|i| old[i]).collect()
        }
        "Unsqueeze" => {
            let axes = call.list("axes", 1)?.ok_or("states no axes")?;
            let rank = old.len() + axes.len();
            let axes = axes_of::<HashSet<_>>(&axes, rank)?;
            let mut rest = old.iter().copied();
            (0..rank).map(|i| if axes.contains(&i) { 1 } else { rest.next().unwrap_or(1) }).collect()
        }
        _ => {
            let shape = call.list("shape", 1)?.ok_or("states no shape")?;
            let keep = call.int("allowzero", 0) == 0;
            let mut dims = Vec::new();
            for (i, &s) in shape.iter().enumerate() {
                dims.push(match s {
                    0 if keep => *old.get(i).ok_or("keeps a dimension that its input does not have")?,
                    -1 => 1,
                    s => usize::try_from(s).map_err(|_| format!("states the shape {shape:?}"))?,
                });
            }
            let known = elements(&dims)?;
            if let Some(free) = shape.iter().position(|&s| s == -1)
                && known > 0
            {
                dims[free] = count / known;
            }
            dims
        }
    };
    if elements(&dims)? != count {
        return Err(format!("reshapes {old:?} into {dims:?}").into());
    }
    Ok(match x {
        Value::Const(c) => Value::constant(dims, c.values.clone(), c.integer),
        Value::Var(v) => Value::Var(Var { id: v.id, dims }),
    })
}
