//! Axes, strides and broadcasting.

use super::error::Fault;
use crate::compile::onnx::{Constant, computed, elements};

/// An axis of a tensor with `rank` dimensions.
pub(super) fn axis(value: i64, rank: usize) -> Result<usize, String> {
    wrap(value, rank).ok_or_else(|| format!("names axis {value} of a tensor with {rank} dimensions"))
}

/// [`axis`] for each of a list.
pub(super) fn axes_of<C: FromIterator<usize>>(values: &[i64], rank: usize) -> Result<C, String> {
    values.iter().map(|&value| axis(value, rank)).collect()
}

/// An index that counts from the end when negative.
pub(super) fn wrap(value: i64, len: usize) -> Option<usize> {
    let value = if value < 0 { value.checked_add(len as i64)? } else { value };
    usize::try_from(value).ok().filter(|&v| v < len)
}

/// A shape from the elements of a constant.
pub(super) fn sizes(values: &[i64]) -> Result<Vec<usize>, Fault> {
    values.iter().map(|&v| usize::try_from(v).map_err(|_| format!("states the shape {values:?}").into())).collect()
}

/// Distance of neighbours along each axis of a row-major tensor.
pub(super) fn strides(dims: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i] as isize;
    }
    strides
}

/// The flat indices that a view of shape `dims` reads.
pub(super) fn strided(dims: &[usize], strides: &[isize], offset: isize) -> Vec<u32> {
    let mut index = vec![offset];
    for (&n, &s) in dims.iter().zip(strides) {
        index = index.iter().flat_map(|&i| (0..n as isize).map(move |k| i + k * s)).collect();
    }
    index.into_iter().map(|i| i as u32).collect()
}

/// The shape of an element-wise operation on shapes `a` and `b`.
pub(super) fn broadcast_dims(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Fault> {
    let rank = a.len().max(b.len());
    let at = |d: &[usize], i: usize| (i + d.len()).checked_sub(rank).map_or(1, |i| d[i]);
    let dims = (0..rank).map(|i| match (at(a, i), at(b, i)) {
        (x, y) if x == y || y == 1 => Some(x),
        (1, y) => Some(y),
        _ => None,
    });
    let dims = dims.collect::<Option<Vec<_>>>().ok_or_else(|| format!("combines the shapes {a:?} and {b:?}"))?;
    computed(&dims, elements(a)?.max(elements(b)?))?;
    Ok(dims)
}

/// For each element of shape `to`, the flat index of the one of shape `from` that it repeats.
pub(super) fn broadcast_index(from: &[usize], to: &[usize]) -> Result<Vec<u32>, Fault> {
    if broadcast_dims(from, to)? != to {
        return Err(format!("needs shape {to:?}, which {from:?} does not extend to").into());
    }
    let mut view = vec![0; to.len() - from.len()];
    view.extend(strides(from).iter().zip(from).map(|(&s, &d)| if d == 1 { 0 } else { s }));
    Ok(strided(to, &view, 0))
}

/// The elements of `c`, repeated to the shape `dims`.
pub(super) fn expanded_constant(c: &Constant, dims: &[usize]) -> Result<Vec<f64>, Fault> {
    Ok(broadcast_index(&c.dims, dims)?.iter().map(|&i| c.values[i as usize]).collect())
}
