//! Models grown layer by layer from a seed.

use std::path::Path;

use crate::compile::import::{ModelGraph, import};
use crate::compile::onnx::AttributeProto;
use crate::compile::onnx::testing::{Builder, int, ints};

/// xorshift64*.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    pub(super) fn values(&mut self, n: usize, size: f32) -> Vec<f32> {
        (0..n).map(|_| (self.below(2001) as f32 / 1000.0 - 1.0) * size).collect()
    }
}

/// A model grown layer by layer from `x`.
pub(super) struct Growth {
    b: Builder,
    pub(super) rng: Rng,
    pub(super) at: String,
    pub(super) shape: [usize; 3],
    count: usize,
}

impl Growth {
    pub(super) fn new(seed: u64, shape: [usize; 3]) -> Self {
        let b = Builder::new(&[1, shape[0] as i64, shape[1] as i64, shape[2] as i64]);
        Self { b, rng: Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), at: "x".into(), shape, count: 0 }
    }

    pub(super) fn weights(&mut self, dims: &[usize], size: f32) -> String {
        self.count += 1;
        let name = format!("w{}", self.count);
        let values = self.rng.values(dims.iter().product(), size);
        self.b.floats(&name, &dims.iter().map(|&d| d as i64).collect::<Vec<_>>(), &values);
        name
    }

    pub(super) fn node(&mut self, op: &str, input: &[&str], attributes: &[AttributeProto]) -> String {
        self.count += 1;
        let name = format!("n{}", self.count);
        self.b.node(op, input, &name, attributes);
        name
    }

    /// Appends a node that reads the current tensor first.
    pub(super) fn then(&mut self, op: &str, rest: &[&str], attributes: &[AttributeProto]) {
        let at = self.at.clone();
        let input: Vec<&str> = [at.as_str()].into_iter().chain(rest.iter().copied()).collect();
        self.at = self.node(op, &input, attributes);
    }

    pub(super) fn conv(&mut self, keep: bool) {
        let [c, h, w] = self.shape;
        let groups = if c % 2 == 0 && self.rng.below(3) == 0 { 2 } else { 1 };
        let filters = if keep { c } else { groups * (1 + self.rng.below(3)) };
        let (kernel, stride, dilation, pads) = if keep {
            ([3, 3], [1, 1], [1, 1], [1; 4])
        } else {
            let pads: [usize; 4] = std::array::from_fn(|_| self.rng.below(2));
            let fits = |n: usize| n >= 4;
            let d = if fits(h) && fits(w) && self.rng.below(4) == 0 { 2 } else { 1 };
            let k = [1 + self.rng.below(h.min(3).min((h - 1) / d + 1)), 1 + self.rng.below(w.min(2))];
            (k, [1 + self.rng.below(2), 1 + self.rng.below(3)], [d, d], pads)
        };
        let weight = self.weights(&[filters, c / groups, kernel[0], kernel[1]], 0.5);
        let bias = self.weights(&[filters], 0.5);
        let list = |v: &[usize]| v.iter().map(|&v| v as i64).collect::<Vec<_>>();
        let attributes = [
            ints("strides", &list(&stride)),
            ints("pads", &list(&pads)),
            ints("dilations", &list(&dilation)),
            int("group", groups as i64),
        ];
        self.then("Conv", &[&weight, &bias], &attributes);
        let size = |i: usize, n: usize| (n + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilation[i] - 1) / stride[i] + 1;
        self.shape = [filters, size(0, h), size(1, w)];
    }

    pub(super) fn upconv(&mut self) {
        let [c, h, w] = self.shape;
        let groups = if c % 2 == 0 { 2 } else { 1 };
        let weight = self.weights(&[c, 2 / groups, 3, 2], 0.5);
        let attributes = [
            ints("strides", &[2, 2]),
            ints("pads", &[1, 0, 0, 0]),
            ints("output_padding", &[0, 1]),
            int("group", groups as i64),
        ];
        self.then("ConvTranspose", &[&weight], &attributes);
        self.shape = [2, 2 * h, 2 * w + 1];
    }

    pub(super) fn norm(&mut self) {
        let c = self.shape[0];
        let names: Vec<String> = (0..3).map(|_| self.weights(&[c], 1.0)).collect();
        self.count += 1;
        let variance = format!("w{}", self.count);
        let values: Vec<f32> = self.rng.values(c, 0.5).iter().map(|v| v + 1.0).collect();
        self.b.floats(&variance, &[c as i64], &values);
        self.then("BatchNormalization", &[&names[0], &names[1], &names[2], &variance], &[]);
    }

    /// A quadratic activation, in one of the forms in which people write it.
    pub(super) fn activation(&mut self) {
        let x = self.at.clone();
        let form = self.rng.below(6);
        let dims = if self.rng.below(2) == 0 { vec![] } else { vec![self.shape[0], 1, 1] };
        // Quadratic factors away from zero, as the completion needs.
        let c: usize = dims.iter().product();
        self.count += 1;
        let a = format!("w{}", self.count);
        let values: Vec<f32> = self.rng.values(c, 0.2).iter().map(|v| v + 0.5).collect();
        self.b.floats(&a, &dims.iter().map(|&d| d as i64).collect::<Vec<_>>(), &values);
        let (b, c) = (self.weights(&dims, 1.0), self.weights(&dims, 1.0));
        self.at = match form {
            0 => self.node("Mul", &[&x, &x], &[]),
            1 => {
                self.b.ints(&format!("e{}", self.count), &[], &[2]);
                let e = format!("e{}", self.count);
                self.node("Pow", &[&x, &e], &[])
            }
            2 => {
                let s = self.node("Mul", &[&x, &x], &[]);
                let s = self.node("Mul", &[&a, &s], &[]);
                let l = self.node("Mul", &[&x, &b], &[]);
                let sum = self.node("Add", &[&s, &l], &[]);
                self.node("Add", &[&sum, &c], &[])
            }
            3 => {
                let ax = self.node("Mul", &[&x, &a], &[]);
                let axb = self.node("Add", &[&ax, &b], &[]);
                let product = self.node("Mul", &[&axb, &x], &[]);
                self.node("Sub", &[&c, &product], &[])
            }
            4 => {
                let s = self.node("Mul", &[&x, &x], &[]);
                self.node("Add", &[&s, &x], &[])
            }
            _ => {
                let ax = self.node("Mul", &[&x, &a], &[]);
                let axx = self.node("Mul", &[&ax, &x], &[]);
                let cx = self.node("Mul", &[&c, &x], &[]);
                self.node("Sub", &[&axx, &cx], &[])
            }
        };
    }

    pub(super) fn pool(&mut self) {
        let [c, h, w] = self.shape;
        if h < 2 || w < 2 {
            return;
        }
        let include = int("count_include_pad", self.rng.below(2) as i64);
        let attributes =
            [ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2]), ints("pads", &[1, 0, 0, 0]), include];
        self.then("AveragePool", &[], &attributes);
        self.shape = [c, (h - 1) / 2 + 1, (w - 2) / 2 + 1];
    }

    pub(super) fn pad(&mut self) {
        self.count += 1;
        let name = format!("p{}", self.count);
        self.b.ints(&name, &[8], &[0, 0, 1, 0, 0, 0, 0, 2]);
        self.then("Pad", &[&name], &[]);
        self.shape = [self.shape[0], self.shape[1] + 1, self.shape[2] + 2];
    }

    pub(super) fn residual(&mut self) {
        let x = self.at.clone();
        self.conv(true);
        if self.rng.below(2) == 0 {
            self.activation();
        }
        self.then("Add", &[&x], &[]);
    }

    pub(super) fn skip(&mut self) {
        let x = self.at.clone();
        self.conv(true);
        self.then("Concat", &[&x], &[int("axis", 1)]);
        self.shape[0] *= 2;
    }

    pub(super) fn dense(&mut self) {
        let n: usize = self.shape.iter().product();
        self.then("Flatten", &[], &[]);
        let (weight, bias) = (self.weights(&[n, 4], 0.3), self.weights(&[4], 1.0));
        self.then("Gemm", &[&weight, &bias], &[]);
    }

    pub(super) fn finish(mut self) -> ModelGraph {
        let at = self.at.clone();
        self.b.output(&at);
        import(&self.b.0, Path::new("."), None).unwrap()
    }
}
