//! Average pools.

use super::call::Call;
use super::error::{Fault, unsupported};
use super::importer::Importer;
use super::model::{AveragePool, Layer, Window};
use super::shape::axes_of;
use super::value::{Value, Var, image};

impl Importer<'_> {
    pub(super) fn average_pool(&mut self, call: &Call, kernel: [usize; 2], global: bool) -> Result<Value, Fault> {
        let x = call.var(0)?;
        let input = image(x)?;
        let (window, output) = if global {
            (Window { kernel, stride: [1, 1], dilation: [1, 1], pad: [0, 0] }, [1, 1])
        } else {
            call.window(kernel, [input[1], input[2]])?
        };
        let pads = if global { ([0; 2], [0; 2]) } else { call.pads()? };
        if (0..2).any(|i| window.pad[i] >= kernel[i] || pads.1[i] >= kernel[i]) {
            return Err("has padding as large as its kernel, so some windows are empty".into());
        }
        let count_pad = call.int("count_include_pad", 0) != 0;
        let layer = Layer::AveragePool(AveragePool { input, output, window, count_pad });
        self.push(call, "pool", &[x.id], layer, vec![1, input[0], output[0], output[1]])
    }

    pub(super) fn reduce_mean(&mut self, call: &Call) -> Result<Value, Fault> {
        let x = call.var(0)?;
        let rank = x.dims.len();
        let axes = call.list("axes", 1)?.unwrap_or_default();
        let mut axes = axes_of::<Vec<_>>(&axes, rank)?;
        axes.sort_unstable();
        if rank != 4 || axes != [2, 3] {
            return unsupported("only the mean over height and width is supported", "average with GlobalAveragePool");
        }
        let [c, h, w] = image(x)?;
        match self.average_pool(call, [h, w], true)? {
            Value::Var(v) if call.int("keepdims", 1) == 0 => Ok(Value::Var(Var { id: v.id, dims: vec![1, c] })),
            value => Ok(value),
        }
    }
}
