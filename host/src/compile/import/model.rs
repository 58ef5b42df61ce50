//! The imported model: typed layers over flat row-major tensors.

use crate::compile::graph::{Tensor, TensorId};
use crate::view::View;

/// The layers of an imported model in topological order.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelGraph {
    /// The graph's name.
    pub name: String,
    /// All tensors.
    pub tensors: Vec<Tensor>,
    /// The model's inputs.
    pub inputs: Vec<TensorId>,
    /// The model's outputs.
    pub outputs: Vec<TensorId>,
    /// The layers, each after those it reads.
    pub nodes: Vec<Node>,
    /// What each class is called, by index; empty where the file's author alone knows.
    pub labels: Vec<String>,
    /// Least precision of the outputs that the model is to be compiled for, in bits, unless its user asks for another.
    pub precision: Option<f64>,
    /// How its input is made of a picture.
    pub view: View,
}

/// One layer of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// A readable name, unique in the model.
    pub name: String,
    /// The tensors it reads.
    pub inputs: Vec<TensorId>,
    /// What it computes.
    pub layer: Layer,
    /// The tensor it defines.
    pub output: TensorId,
}

/// What a layer computes from flat row-major tensors.
#[derive(Debug, Clone, PartialEq)]
pub enum Layer {
    /// 2-D convolution.
    Conv(Conv),
    /// Transposed 2-D convolution; the weights are `[input channels][output channels / groups][kh][kw]`.
    ConvTranspose(Conv),
    /// `y = W x + b` for each row of the input.
    Dense(Dense),
    /// Average over windows.
    AveragePool(AveragePool),
    /// `y = scale * x + shift`, element-wise; both vectors have the tensor's length.
    ScaleShift {
        /// Factor per element.
        scale: Vec<f32>,
        /// Addend per element.
        shift: Vec<f32>,
    },
    /// Zero padding of a tensor of shape `shape` by `before` and `after` elements along each axis.
    Pad {
        /// Shape of the input.
        shape: Vec<usize>,
        /// Zeros before, per axis.
        before: Vec<usize>,
        /// Zeros after, per axis.
        after: Vec<usize>,
    },
    /// `y[i] = x[source[i]]`: transposition, slicing, broadcasting.
    Select {
        /// Source element per output element.
        source: Vec<u32>,
    },
    /// `y = sum weights[k] * x_k`, element-wise.
    Sum {
        /// Factor per input.
        weights: Vec<f32>,
    },
    /// `y = x_0 * x_1`, element-wise.
    Mul,
    /// Concatenation: for each of `outer` blocks, `inner[k]` elements of every input `k`.
    Concat {
        /// Number of blocks.
        outer: usize,
        /// Elements per block, per input.
        inner: Vec<usize>,
    },
}

/// Weights and geometry of a convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// Input channels, height and width.
    pub input: [usize; 3],
    /// Output channels, height and width.
    pub output: [usize; 3],
    /// The kernel's geometry.
    pub window: Window,
    /// Groups.
    pub groups: usize,
    /// Weights, `[output channels][input channels / groups][kh][kw]`.
    pub weight: Vec<f32>,
    /// Bias, `[output channels]`.
    pub bias: Vec<f32>,
}

/// Geometry of a sliding window, vertical then horizontal; padding at the bottom and right follows from the output size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Kernel size.
    pub kernel: [usize; 2],
    /// Stride.
    pub stride: [usize; 2],
    /// Dilation.
    pub dilation: [usize; 2],
    /// Zero padding at the top and at the left.
    pub pad: [usize; 2],
}

/// Weights of a dense layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// Rows the layer is applied to; 1 for a plain feature vector.
    pub rows: usize,
    /// Input features.
    pub inputs: usize,
    /// Output features.
    pub outputs: usize,
    /// Weights, `[outputs][inputs]`.
    pub weight: Vec<f32>,
    /// Bias, `[outputs]`.
    pub bias: Vec<f32>,
}

/// Geometry of an average pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AveragePool {
    /// Input channels, height and width.
    pub input: [usize; 3],
    /// Output height and width.
    pub output: [usize; 2],
    /// The window's geometry.
    pub window: Window,
    /// Whether padding counts in the divisor.
    pub count_pad: bool,
}
