//! A node with its operands and attributes, checked as they are read.

use super::error::{Fault, unsupported};
use super::model::Window;
use super::value::{Value, Var};
use crate::compile::onnx::{AttributeProto, Constant, NodeProto};

/// A node with its operands.
pub(super) struct Call<'a> {
    pub(super) node: &'a NodeProto,
    pub(super) args: Vec<Option<Value>>,
}

impl Call<'_> {
    pub(super) fn optional(&self, i: usize) -> Option<&Value> {
        self.args.get(i).and_then(Option::as_ref)
    }

    pub(super) fn arg(&self, i: usize) -> Result<&Value, Fault> {
        self.optional(i).ok_or_else(|| format!("input {i} is missing").into())
    }

    pub(super) fn var(&self, i: usize) -> Result<&Var, Fault> {
        match self.arg(i)? {
            Value::Var(v) => Ok(v),
            Value::Const(_) => Err(format!("input {i} is a constant where the layer's input belongs").into()),
        }
    }

    pub(super) fn optional_constant(&self, i: usize, what: &str) -> Result<Option<&Constant>, Fault> {
        match self.optional(i) {
            None => Ok(None),
            Some(Value::Const(c)) => Ok(Some(c)),
            Some(Value::Var(_)) => {
                unsupported(&format!("its {what} depends on the encrypted input"), "make it a constant of the model")
            }
        }
    }

    pub(super) fn constant(&self, i: usize, what: &str) -> Result<&Constant, Fault> {
        self.optional_constant(i, what)?.ok_or_else(|| format!("its {what} (input {i}) is missing").into())
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.node.attribute.iter().find(|a| a.name == name)
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.i)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |a| a.f)
    }

    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    pub(super) fn string(&self, name: &str, default: &str) -> String {
        self.attribute(name).map_or(default.into(), |a| String::from_utf8_lossy(&a.s).into_owned())
    }

    /// A list that older operator sets give as an attribute and newer ones as an input.
    pub(super) fn list(&self, name: &str, input: usize) -> Result<Option<Vec<i64>>, Fault> {
        match self.ints(name) {
            Some(list) => Ok(Some(list.to_vec())),
            None => Ok(self.optional_constant(input, name)?.map(Constant::to_i64)),
        }
    }

    /// `name` as a pair of sizes from `least` to 65,535.
    pub(super) fn pair(&self, name: &str, least: i64) -> Result<[usize; 2], Fault> {
        match self.ints(name) {
            None => Ok([least as usize; 2]),
            Some(&[a, b]) if (least..65_536).contains(&a) && (least..65_536).contains(&b) => {
                Ok([a as usize, b as usize])
            }
            Some(other) => Err(format!("has {name} {other:?}; two numbers from {least} to 65535 are expected").into()),
        }
    }

    /// Padding at the start and at the end, as stated.
    pub(super) fn pads(&self) -> Result<([usize; 2], [usize; 2]), Fault> {
        match self.ints("pads") {
            None => Ok(([0; 2], [0; 2])),
            Some(&[t, l, b, r]) if [t, l, b, r].iter().all(|p| (0..65_536).contains(p)) => {
                Ok(([t as usize, l as usize], [b as usize, r as usize]))
            }
            Some(other) => Err(format!("has pads {other:?}; four numbers from 0 to 65535 are expected").into()),
        }
    }

    /// Padding at the start and at the end: as stated, or as `auto_pad` asks, where `SAME_*` splits `total(axis)`.
    pub(super) fn auto_pads(&self, total: impl Fn(usize) -> usize) -> Result<([usize; 2], [usize; 2]), Fault> {
        let stated = self.pads()?;
        let auto = self.string("auto_pad", "NOTSET");
        let total = || [total(0), total(1)];
        match auto.as_str() {
            "NOTSET" | "" => Ok(stated),
            "VALID" => Ok(([0; 2], [0; 2])),
            "SAME_UPPER" => Ok((total().map(|n| n / 2), total().map(|n| n.div_ceil(2)))),
            "SAME_LOWER" => Ok((total().map(|n| n.div_ceil(2)), total().map(|n| n / 2))),
            other => Err(format!("has the unknown auto_pad {other:?}").into()),
        }
    }

    /// The window of a convolution or pool over an image of height and width `size`, and its output size.
    pub(super) fn window(&self, kernel: [usize; 2], size: [usize; 2]) -> Result<(Window, [usize; 2]), Fault> {
        let (stride, dilation) = (self.pair("strides", 1)?, self.pair("dilations", 1)?);
        let extent = [0, 1].map(|i| (kernel[i] - 1) * dilation[i] + 1);
        let (start, end) = self.auto_pads(|i| {
            let reach = (size[i].div_ceil(stride[i]) - 1) * stride[i] + extent[i];
            reach.saturating_sub(size[i])
        })?;
        let mut output = [0; 2];
        for i in 0..2 {
            let room = (size[i] + start[i] + end[i]).checked_sub(extent[i]).ok_or_else(|| {
                format!("has a kernel of extent {} over a padded input of {}", extent[i], size[i] + start[i] + end[i])
            })?;
            if self.int("ceil_mode", 0) != 0 && !room.is_multiple_of(stride[i]) {
                return unsupported(
                    "ceil_mode adds a partial window",
                    "pad the input so that the windows fit, or use ceil_mode=0",
                );
            }
            output[i] = room / stride[i] + 1;
        }
        Ok((Window { kernel, stride, dilation, pad: start }, output))
    }
}
