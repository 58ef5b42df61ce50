//! The network between import and layout: polynomial stages over flat tensors.
//!
//! Every layer that a CKKS evaluator can run is an affine map or a product of two tensors.
//! Import and declutter bring any supported ONNX graph into this form: convolution, dense, pooling,
//! batch normalisation, padding, reshape and addition are all [`Op::Affine`]; a polynomial activation
//! `a x^2 + b x + c` becomes a square between two affine maps (complete the square).

/// Index of a [`Tensor`] in [`Network::tensors`].
pub type TensorId = usize;

/// A tensor without its batch dimension, flattened row-major (`[C, H, W]` or `[F]`).
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The name in the ONNX graph, or one derived from it.
    pub name: String,
    /// The shape without the batch dimension.
    pub shape: Vec<usize>,
}

impl Tensor {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A sparse matrix in compressed-row form.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseMatrix {
    /// Number of rows (output elements).
    pub rows: usize,
    /// Number of columns (input elements).
    pub cols: usize,
    /// Row `r` holds the entries `row_start[r]..row_start[r + 1]`.
    pub row_start: Vec<usize>,
    /// Column of each entry, ascending inside a row.
    pub col: Vec<u32>,
    /// Value of each entry.
    pub value: Vec<f64>,
}

/// The geometry of a stage that is exactly one 2-D convolution of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Input channels, height and width.
    pub input: [usize; 3],
    /// Output channels, height and width.
    pub output: [usize; 3],
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Stride, vertical and horizontal.
    pub stride: [usize; 2],
    /// Zero padding at the top and at the left.
    pub pad: [usize; 2],
    /// Groups.
    pub groups: usize,
}

/// `A x` for one input tensor of an affine stage.
#[derive(Debug, Clone, PartialEq)]
pub struct AffineTerm {
    /// The tensor `x`.
    pub input: TensorId,
    /// The matrix `A`.
    pub matrix: SparseMatrix,
    /// Set when the term is a single convolution.
    pub conv: Option<ConvGeometry>,
}

/// What a stage computes.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// `y = sum A_k x_k + b`.
    Affine {
        /// The summands; at least one.
        terms: Vec<AffineTerm>,
        /// The bias, one value per output element.
        bias: Vec<f64>,
    },
    /// `y = a * b` element-wise; a square when both are the same tensor.
    Mul(TensorId, TensorId),
}

/// One step of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// The layer's name, as reports and the kernel's progress show it.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// The tensor it defines.
    pub output: TensorId,
}

/// A network in topological order.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The graph's name.
    pub name: String,
    /// All tensors.
    pub tensors: Vec<Tensor>,
    /// The network's inputs.
    pub inputs: Vec<TensorId>,
    /// The network's outputs.
    pub outputs: Vec<TensorId>,
    /// The stages, each after those it reads.
    pub stages: Vec<Stage>,
    /// Images that share each ciphertext, a power of two.
    pub images: usize,
    /// How tensors lie in ciphertexts.
    pub layout: LayoutKind,
}

/// How tensors lie in ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LayoutKind {
    /// The fastest that the search finds: rasters with gaps, several channels in a ciphertext.
    #[default]
    Search,
    /// One channel in a ciphertext, windows summed by rotations and masked; for comparison.
    VolleyRevolver,
}
