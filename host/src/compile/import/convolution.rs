//! Convolutions and transposed convolutions.

use super::call::Call;
use super::error::{Fault, unsupported};
use super::importer::Importer;
use super::model::{Conv, Layer, Window};
use super::value::{Value, image};
use crate::compile::onnx::Constant;

impl Importer<'_> {
    pub(super) fn conv(&mut self, call: &Call) -> Result<Value, Fault> {
        let x = call.var(0)?;
        let input = image(x)?;
        let weight = call.constant(1, "weight")?;
        let [m, per_group, kh, kw] = filters(weight)?;
        let groups = groups(call, m, per_group, input[0])?;
        let kernel = kernel(call, [kh, kw])?;
        let (window, [oh, ow]) = call.window(kernel, [input[1], input[2]])?;
        let bias = channel_vector(call, 2, "bias", m)?.unwrap_or_else(|| vec![0.0; m]);
        let layer = Conv { input, output: [m, oh, ow], window, groups, weight: weight.to_f32(), bias };
        self.push(call, "conv", &[x.id], Layer::Conv(layer), vec![1, m, oh, ow])
    }

    pub(super) fn conv_transpose(&mut self, call: &Call) -> Result<Value, Fault> {
        let x = call.var(0)?;
        let input = image(x)?;
        let weight = call.constant(1, "weight")?;
        let [c, per_group, kh, kw] = filters(weight)?;
        let groups = groups(call, input[0], per_group, per_group * groups_attribute(call)?)?;
        if c != input[0] {
            return Err(format!("has weights for {c} input channels, and the input has {}", input[0]).into());
        }
        let m = per_group * groups;
        let kernel = kernel(call, [kh, kw])?;
        let (stride, dilation) = (call.pair("strides", 1)?, call.pair("dilations", 1)?);
        let extra = call.pair("output_padding", 0)?;
        if call.ints("output_shape").is_some() {
            return unsupported("it states output_shape", "state pads and output_padding instead");
        }
        let full = |i: usize| stride[i] * (input[i + 1] - 1) + extra[i] + (kernel[i] - 1) * dilation[i] + 1;
        let (start, end) = call.auto_pads(|i| full(i).saturating_sub(stride[i] * input[i + 1]))?;
        let mut output = [m, 0, 0];
        for i in 0..2 {
            let size = full(i).checked_sub(start[i] + end[i]).filter(|&n| n > 0);
            output[i + 1] = size.ok_or("has pads larger than its output")?;
        }
        let bias = channel_vector(call, 2, "bias", m)?.unwrap_or_else(|| vec![0.0; m]);
        let window = Window { kernel, stride, dilation, pad: start };
        let layer = Conv { input, output, window, groups, weight: weight.to_f32(), bias };
        self.push(call, "upconv", &[x.id], Layer::ConvTranspose(layer), vec![1, m, output[1], output[2]])
    }
}

/// The four dimensions of a 2-D convolution's weights.
fn filters(weight: &Constant) -> Result<[usize; 4], Fault> {
    weight
        .dims
        .as_slice()
        .try_into()
        .map_err(|_| format!("has weights of shape {:?}; only 2-D convolutions are supported", weight.dims).into())
}

fn groups_attribute(call: &Call) -> Result<usize, Fault> {
    let groups = call.int("group", 1);
    usize::try_from(groups)
        .ok()
        .filter(|g| (1..65_536).contains(g))
        .ok_or_else(|| format!("has {groups} groups").into())
}

/// Checks that `split` channels fall into groups, and that each group covers `per_group` of `whole` channels.
fn groups(call: &Call, split: usize, per_group: usize, whole: usize) -> Result<usize, Fault> {
    let groups = groups_attribute(call)?;
    if per_group.checked_mul(groups) != Some(whole) || split == 0 || !split.is_multiple_of(groups) {
        return Err(format!(
            "has weights for {per_group} channels in each of {groups} groups ({split} filters), and an input of {whole} channels"
        )
        .into());
    }
    Ok(groups)
}

fn kernel(call: &Call, weights: [usize; 2]) -> Result<[usize; 2], Fault> {
    let stated = call.attribute("kernel_shape").map(|_| call.pair("kernel_shape", 1)).transpose()?;
    if stated.is_some_and(|k| k != weights) || weights.iter().any(|k| !(1..65_536).contains(k)) {
        return Err(format!("has a kernel of {weights:?} in its weights and {:?} in kernel_shape", stated).into());
    }
    Ok(weights)
}

fn channel_vector(call: &Call, input: usize, what: &str, len: usize) -> Result<Option<Vec<f32>>, Fault> {
    match call.optional_constant(input, what)? {
        Some(c) if c.values.len() != len => {
            Err(format!("has {} {what} values for {len} channels", c.values.len()).into())
        }
        c => Ok(c.map(Constant::to_f32)),
    }
}
