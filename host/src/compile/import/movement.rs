//! Layers that move elements: padding, joining, permuting, selecting and repeating.

use std::collections::HashSet;

use super::call::Call;
use super::error::{Fault, unsupported};
use super::importer::Importer;
use super::model::Layer;
use super::shape::{axes_of, axis, broadcast_dims, broadcast_index, sizes, strided, strides, wrap};
use super::value::{Value, Var, as_var};
use crate::compile::onnx::{Constant, computed, elements};

impl Importer<'_> {
    pub(super) fn pad(&mut self, call: &Call) -> Result<Value, Fault> {
        let x = call.var(0)?;
        let rank = x.dims.len();
        let mode = call.string("mode", "constant");
        if mode != "constant" {
            return unsupported(&format!("its mode is {mode:?}"), "pad with the constant 0");
        }
        let value = match call.optional_constant(2, "value")?.and_then(Constant::scalar) {
            Some(v) => v,
            None => f64::from(call.float("value", 0.0)),
        };
        if value != 0.0 {
            return unsupported(&format!("it pads with {value}"), "pad with the constant 0");
        }
        let pads = call.list("pads", 1)?.ok_or("states no pads")?;
        let axes: Vec<usize> = match call.optional_constant(3, "axes")? {
            Some(c) => axes_of(&c.to_i64(), rank)?,
            None => (0..rank).collect(),
        };
        if pads.len() != 2 * axes.len() || pads.iter().any(|p| !(0..65_536).contains(p)) {
            return Err(format!("has pads {pads:?}; {} numbers from 0 to 65535 are expected", 2 * axes.len()).into());
        }
        let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
        for (i, &a) in axes.iter().enumerate() {
            (before[a], after[a]) = (pads[i] as usize, pads[i + axes.len()] as usize);
        }
        if rank > 1 && before[0] + after[0] > 0 {
            return Err("pads the batch dimension".into());
        }
        if before.iter().chain(&after).all(|&p| p == 0) {
            return Ok(Value::Var(x.clone()));
        }
        let dims = (0..rank).map(|i| x.dims[i] + before[i] + after[i]).collect();
        let layer = Layer::Pad { shape: x.dims.clone(), before, after };
        self.push(call, "pad", &[x.id], layer, dims)
    }

    pub(super) fn concat(&mut self, call: &Call) -> Result<Value, Fault> {
        let first = call.arg(0)?.dims().to_vec();
        let axis = axis(call.int("axis", 1), first.len())?;
        let mut dims = first.clone();
        dims[axis] = 0;
        for i in 0..call.args.len() {
            let d = call.arg(i)?.dims();
            if d.len() != first.len() || (0..d.len()).any(|k| k != axis && d[k] != first[k]) {
                return Err(format!("joins shapes {first:?} and {d:?} along axis {axis}").into());
            }
            dims[axis] += d[axis];
        }
        let outer: usize = dims[..axis].iter().product();
        let mut inner = Vec::new();
        for i in 0..call.args.len() {
            inner.push(call.arg(i)?.dims()[axis..].iter().product::<usize>());
        }
        if (0..call.args.len()).all(|i| matches!(call.arg(i), Ok(Value::Const(_)))) {
            computed(&dims, elements(&first)?)?;
            let parts = (0..call.args.len()).map(|i| call.constant(i, "operand")).collect::<Result<Vec<_>, _>>()?;
            let values = (0..outer)
                .flat_map(|o| parts.iter().zip(&inner).flat_map(move |(c, &n)| c.values[o * n..(o + 1) * n].to_vec()));
            return Ok(Value::constant(dims, values.collect(), parts.iter().all(|c| c.integer)));
        }
        let mut inputs = Vec::new();
        for i in 0..call.args.len() {
            inputs.push(call.var(i)?.id);
        }
        self.push(call, "concat", &inputs, Layer::Concat { outer, inner }, dims)
    }

    pub(super) fn transpose(&mut self, call: &Call) -> Result<Value, Fault> {
        let x = call.arg(0)?;
        let dims = x.dims();
        let perm: Vec<usize> = match call.ints("perm") {
            None => (0..dims.len()).rev().collect(),
            Some(p) => axes_of(p, dims.len())?,
        };
        if perm.len() != dims.len() || perm.iter().collect::<HashSet<_>>().len() != dims.len() {
            return Err(format!("has perm {perm:?} for shape {dims:?}").into());
        }
        let strides = strides(dims);
        let out: Vec<usize> = perm.iter().map(|&p| dims[p]).collect();
        let index = strided(&out, &perm.iter().map(|&p| strides[p]).collect::<Vec<_>>(), 0);
        self.pick(call, x, index, out)
    }

    pub(super) fn slice(&mut self, call: &Call) -> Result<Value, Fault> {
        let x = call.arg(0)?;
        let mut dims = x.dims().to_vec();
        let starts = call.list("starts", 1)?.ok_or("states no starts")?;
        let ends = call.list("ends", 2)?.ok_or("states no ends")?;
        let axes = call.list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = call.list("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err("has starts, ends, axes and steps of different lengths".into());
        }
        let (mut strides, mut offset) = (strides(&dims), 0);
        for i in 0..starts.len() {
            let a = axis(axes[i], dims.len())?;
            let (n, step) = (x.dims()[a] as i64, steps[i]);
            if step == 0 || step == i64::MIN {
                return Err(format!("has the step {step}").into());
            }
            let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
            let place = |v: i64| (if v < 0 { v.saturating_add(n) } else { v }).clamp(low, high);
            let (start, end) = (place(starts[i]), place(ends[i]));
            let span = if step > 0 { end - start } else { start - end };
            dims[a] = if span > 0 { (span as u64).div_ceil(step.unsigned_abs()) as usize } else { 0 };
            offset += start as isize * strides[a];
            strides[a] = strides[a].saturating_mul(step as isize);
        }
        elements(&dims)?;
        let index = strided(&dims, &strides, offset);
        self.pick(call, x, index, dims)
    }

    pub(super) fn gather(&mut self, call: &Call) -> Result<Value, Fault> {
        let x = call.arg(0)?;
        let indices = call.constant(1, "indices")?;
        let a = axis(call.int("axis", 0), x.dims().len())?;
        let n = x.dims()[a];
        let inner: usize = x.dims()[a + 1..].iter().product();
        let outer: usize = x.dims()[..a].iter().product();
        let picks = indices.to_i64().iter().map(|&i| wrap(i, n)).collect::<Option<Vec<_>>>();
        let picks = picks.ok_or_else(|| format!("has an index outside the {n} elements of axis {a}"))?;
        let dims: Vec<usize> = [&x.dims()[..a], &indices.dims, &x.dims()[a + 1..]].concat();
        computed(&dims, elements(x.dims())?)?;
        let mut index = Vec::with_capacity(outer * picks.len() * inner);
        for o in 0..outer {
            for &p in &picks {
                index.extend((0..inner).map(|k| ((o * n + p) * inner + k) as u32));
            }
        }
        self.pick(call, x, index, dims)
    }

    pub(super) fn expand(&mut self, call: &Call) -> Result<Value, Fault> {
        let x = call.arg(0)?;
        let dims = broadcast_dims(x.dims(), &sizes(&call.constant(1, "shape")?.to_i64())?)?;
        computed(&dims, elements(x.dims())?)?;
        let index = broadcast_index(x.dims(), &dims)?;
        self.pick(call, x, index, dims)
    }

    /// `y[i] = x[index[i]]`, folded for constants and left out where nothing moves.
    fn pick(&mut self, call: &Call, x: &Value, index: Vec<u32>, dims: Vec<usize>) -> Result<Value, Fault> {
        match x {
            Value::Const(c) => {
                Ok(Value::constant(dims, index.iter().map(|&i| c.values[i as usize]).collect(), c.integer))
            }
            Value::Var(v)
                if index.len() == elements(&v.dims)? && index.iter().enumerate().all(|(i, &s)| i == s as usize) =>
            {
                Ok(Value::Var(Var { id: v.id, dims }))
            }
            Value::Var(v) => self.push(call, "select", &[v.id], Layer::Select { source: index }, dims),
        }
    }

    /// `x` with the shape `dims`, repeated along axes of size 1.
    pub(super) fn expanded(&mut self, call: &Call, x: &Var, dims: &[usize]) -> Result<Var, Fault> {
        let index = broadcast_index(&x.dims, dims)?;
        as_var(self.pick(call, &Value::Var(x.clone()), index, dims.to_vec())?)
    }
}
