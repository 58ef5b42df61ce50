//! Networks built stage by stage with weights from a seed.

use crate::compile::graph::{AffineTerm, ConvGeometry, LayoutKind, Network, Op, SparseMatrix, Stage, Tensor, TensorId};

/// xorshift64*, so that the networks are the same everywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 33) as usize) % bound
    }

    pub(super) fn value(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// A network that grows stage by stage.
pub(super) struct Builder {
    pub(super) network: Network,
    pub(super) random: Random,
}

impl Builder {
    pub(super) fn new(name: &str, shape: &[usize], seed: u64) -> Self {
        let input = Tensor { name: "input".to_owned(), shape: shape.to_vec() };
        let network = Network {
            name: name.to_owned(),
            tensors: vec![input],
            inputs: vec![0],
            outputs: Vec::new(),
            stages: Vec::new(),
            images: 1,
            layout: LayoutKind::Search,
        };
        Self { network, random: Random(seed | 1) }
    }

    pub(super) fn last(&self) -> TensorId {
        self.network.tensors.len() - 1
    }

    pub(super) fn stage(&mut self, kind: &str, shape: Vec<usize>, op: Op) -> TensorId {
        let name = format!("{kind}{}", self.network.stages.len());
        self.network.tensors.push(Tensor { name: name.clone(), shape });
        let output = self.last();
        self.network.stages.push(Stage { name, op, output });
        output
    }

    pub(super) fn term(
        &mut self,
        input: TensorId,
        rows: Vec<Vec<(u32, f64)>>,
        conv: Option<ConvGeometry>,
    ) -> AffineTerm {
        let mut matrix = SparseMatrix {
            rows: rows.len(),
            cols: self.network.tensors[input].len(),
            row_start: vec![0],
            col: Vec::new(),
            value: Vec::new(),
        };
        for mut row in rows {
            row.sort_by_key(|e| e.0);
            for (column, value) in row {
                matrix.col.push(column);
                matrix.value.push(value);
            }
            matrix.row_start.push(matrix.col.len());
        }
        AffineTerm { input, matrix, conv }
    }

    fn bias(&mut self, len: usize) -> Vec<f64> {
        (0..len).map(|_| self.random.value()).collect()
    }

    pub(super) fn affine(&mut self, kind: &str, shape: Vec<usize>, terms: Vec<AffineTerm>) -> TensorId {
        let bias = self.bias(shape.iter().product());
        self.stage(kind, shape, Op::Affine { terms, bias })
    }

    pub(super) fn dense(&mut self, rows: usize) -> &mut Self {
        let input = self.last();
        let cols = self.network.tensors[input].len();
        let scale = 1.0 / (cols as f64).sqrt();
        let matrix = (0..rows).map(|_| (0..cols as u32).map(|c| (c, scale * self.random.value())).collect()).collect();
        let term = self.term(input, matrix, None);
        self.affine("dense", vec![rows], vec![term]);
        self
    }

    pub(super) fn conv_term(&mut self, input: TensorId, conv: ConvGeometry) -> AffineTerm {
        let [_, height, width] = conv.input;
        let [maps, out_height, out_width] = conv.output;
        let per_group = [conv.input[0] / conv.groups, maps / conv.groups];
        let taps = per_group[0] * conv.kernel[0] * conv.kernel[1];
        let mut rows = Vec::new();
        for map in 0..maps {
            let weights: Vec<f64> = (0..taps).map(|_| self.random.value() / (taps as f64).sqrt()).collect();
            for position in 0..out_height * out_width {
                let mut row = Vec::new();
                for (tap, &weight) in weights.iter().enumerate() {
                    let y = position / out_width * conv.stride[0] + tap / conv.kernel[1] % conv.kernel[0];
                    let x = position % out_width * conv.stride[1] + tap % conv.kernel[1];
                    let channel = map / per_group[1] * per_group[0] + tap / (conv.kernel[0] * conv.kernel[1]);
                    if let (Some(y), Some(x)) = (y.checked_sub(conv.pad[0]), x.checked_sub(conv.pad[1]))
                        && y < height
                        && x < width
                    {
                        row.push((((channel * height + y) * width + x) as u32, weight));
                    }
                }
                rows.push(row);
            }
        }
        self.term(input, rows, Some(conv))
    }

    pub(super) fn conv(
        &mut self,
        maps: usize,
        kernel: usize,
        stride: usize,
        pad: usize,
        out: usize,
        groups: usize,
    ) -> &mut Self {
        let input = self.last();
        let &[c, h, w] = self.network.tensors[input].shape.as_slice() else { panic!("not an image") };
        let conv = ConvGeometry {
            input: [c, h, w],
            output: [maps, out, out],
            kernel: [kernel; 2],
            stride: [stride; 2],
            pad: [pad; 2],
            groups,
        };
        let term = self.conv_term(input, conv);
        self.affine("conv", vec![maps, out, out], vec![term]);
        self
    }

    /// An average pool without geometry, as a bare matrix.
    pub(super) fn pool(&mut self, size: usize) -> &mut Self {
        let input = self.last();
        let &[c, h, w] = self.network.tensors[input].shape.as_slice() else { panic!("not an image") };
        let (oh, ow) = (h / size, w / size);
        let rows = (0..c * oh * ow)
            .map(|i| {
                let (channel, y, x) = (i / (oh * ow), i / ow % oh, i % ow);
                let column = |k: usize| ((channel * h + y * size + k / size) * w + x * size + k % size) as u32;
                (0..size * size).map(|k| (column(k), 1.0 / (size * size) as f64)).collect()
            })
            .collect();
        let term = self.term(input, rows, None);
        self.affine("pool", vec![c, oh, ow], vec![term]);
        self
    }

    /// A transposed convolution of `input` with kernel and stride 2, as a bare matrix.
    pub(super) fn upsample(&mut self, input: TensorId, maps: usize) -> TensorId {
        let &[c, h, w] = self.network.tensors[input].shape.as_slice() else { panic!("not an image") };
        let weights: Vec<f64> = (0..maps * c * 4).map(|_| self.random.value() / (c as f64).sqrt()).collect();
        let rows = (0..maps * 4 * h * w).map(|i| {
            let (m, y, x) = (i / (4 * h * w), i / (2 * w) % (2 * h), i % (2 * w));
            let weight = |k: usize| weights[((m * c + k) * 2 + y % 2) * 2 + x % 2];
            (0..c).map(|k| (((k * h + y / 2) * w + x / 2) as u32, weight(k))).collect()
        });
        let term = self.term(input, rows.collect(), None);
        self.affine("up", vec![maps, 2 * h, 2 * w], vec![term])
    }

    pub(super) fn square(&mut self) -> &mut Self {
        let input = self.last();
        let shape = self.network.tensors[input].shape.clone();
        self.stage("square", shape, Op::Mul(input, input));
        self
    }

    pub(super) fn finish(&mut self) -> Network {
        self.network.outputs = vec![self.last()];
        self.network.clone()
    }
}

pub(super) fn mnist() -> Network {
    Builder::new("mnist", &[1, 28, 28], 1).conv(8, 5, 2, 1, 13, 1).square().dense(100).square().dense(10).finish()
}

pub(super) fn micro() -> Network {
    Builder::new("mnist-micro", &[1, 28, 28], 2).conv(4, 7, 3, 0, 8, 1).square().dense(10).finish()
}

pub(super) fn tenseal() -> Network {
    Builder::new("tenseal", &[1, 28, 28], 3).conv(4, 7, 3, 0, 8, 1).square().dense(64).square().dense(10).finish()
}

pub(super) fn orion() -> Network {
    Builder::new("orion", &[784], 4).dense(128).square().dense(128).square().dense(10).finish()
}

pub(super) fn cryptonets() -> Network {
    Builder::new("cryptonets", &[1, 28, 28], 5).conv(5, 5, 2, 1, 13, 1).square().dense(100).square().dense(10).finish()
}

/// Two convolutions with a skip connection around the second.
pub(super) fn residual() -> Network {
    let mut b = Builder::new("residual", &[1, 16, 16], 6);
    let start = b.conv(4, 3, 1, 1, 16, 1).square().last();
    let inner = b.conv(4, 3, 1, 1, 16, 1).square().last();
    let geometry = ConvGeometry {
        input: [4, 16, 16],
        output: [4, 16, 16],
        kernel: [3; 2],
        stride: [1; 2],
        pad: [1; 2],
        groups: 1,
    };
    let path = b.conv_term(inner, geometry);
    let skip = b.term(start, (0..1024).map(|i| vec![(i, 1.0)]).collect(), None);
    b.affine("add", vec![4, 16, 16], vec![path, skip]);
    b.square().pool(4).dense(10).finish()
}

pub(super) fn three_convolutions() -> Network {
    Builder::new("cnn3", &[1, 28, 28], 7)
        .conv(4, 3, 1, 1, 28, 1)
        .square()
        .pool(2)
        .conv(8, 3, 1, 1, 14, 1)
        .square()
        .pool(2)
        .conv(16, 3, 1, 1, 7, 1)
        .square()
        .dense(10)
        .finish()
}
