//! The shape of the model's input: declared, stated by the user, or both.

use crate::compile::onnx::{ValueInfoProto, computed};

/// The dimensions of a graph input, batch included.
pub(super) fn input_dims(info: &ValueInfoProto, given: Option<&[usize]>) -> Result<Vec<usize>, String> {
    let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).ok_or("is not a tensor")?;
    let Some(shape) = &tensor.shape else {
        let given = given.ok_or("has no shape; state it with --input-shape")?;
        let batch = if matches!(given.len(), 2 | 4) { None } else { Some(1) };
        return checked_dims(batch.into_iter().chain(given.iter().copied()).collect());
    };
    let declared: Vec<Option<usize>> =
        shape.dim.iter().map(|d| d.dim_value.and_then(|v| usize::try_from(v).ok())).collect();
    let rank = declared.len();
    let skip = usize::from(rank >= 2);
    if skip == 1
        && let Some(batch) = declared[0]
        && batch != 1
    {
        return Err(format!("has the batch size {batch}; export the model with a batch size of 1 or a dynamic one"));
    }
    if let Some(given) = given
        && given.len() != rank
        && given.len() + skip != rank
    {
        return Err(format!("has {rank} dimensions, and --input-shape states {}", given.len()));
    }
    let mut dims = vec![1; skip];
    for axis in skip..rank {
        let stated = given.map(|g| g[g.len() + axis - rank]);
        dims.push(match (declared[axis], stated) {
            (Some(d), Some(s)) if d != s => {
                return Err(format!("has the size {d} along axis {axis}, and --input-shape states {s}"));
            }
            (Some(d), _) | (None, Some(d)) => d,
            (None, None) => {
                let name = shape.dim[axis].dim_param.as_deref().unwrap_or("unnamed");
                return Err(format!("has the dynamic dimension {name:?} at axis {axis}; state it with --input-shape"));
            }
        });
    }
    if let Some(given) = given
        && skip == 1
        && given.len() == rank
        && given[0] != 1
    {
        return Err(format!("--input-shape states the batch size {}; it must be 1", given[0]));
    }
    checked_dims(dims)
}

fn checked_dims(dims: Vec<usize>) -> Result<Vec<usize>, String> {
    if dims.is_empty() || computed(&dims, 0)? == 0 {
        return Err(format!("has the empty shape {dims:?}"));
    }
    if dims.len() >= 2 && dims[0] != 1 {
        return Err(format!("has the batch size {}; it must be 1", dims[0]));
    }
    Ok(dims)
}

/// The shape without the batch dimension.
pub(super) fn without_batch(dims: &[usize]) -> Vec<usize> {
    match dims {
        [] => vec![1],
        [1, rest @ ..] if !rest.is_empty() => rest.to_vec(),
        _ => dims.to_vec(),
    }
}
