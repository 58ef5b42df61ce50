//! The program on slots: what the encrypted evaluation does to vectors of `n` real numbers, before
//! levels, scales and buffers are decided. The simulator runs it as it stands.

/// A slot vector that an operation reads or defines; every register is written once.
pub type Register = usize;

/// One diagonal of a matrix on slots, split into a baby and a giant step.
///
/// Contributes `values[i] * x[(i + baby + giant) mod n]` to slot `i` of a result, where x is a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagonal {
    /// Which of the operation's sources it reads.
    pub source: usize,
    /// Which of the operation's results it adds to.
    pub result: usize,
    /// Rotation applied before the product (hoisted).
    pub baby: u32,
    /// Rotation applied after the product.
    pub giant: u32,
    /// `n` weights, by output slot.
    pub values: Vec<f64>,
}

impl Diagonal {
    /// The order of the diagonals of a transform: those without giant step first, then by result and giant step; under
    /// each giant step by source and baby step.
    pub fn rank(&self) -> (bool, usize, u32, usize, u32) {
        (self.giant != 0, self.result, self.giant, self.source, self.baby)
    }
}

/// What an operation computes.
#[derive(Debug, Clone, PartialEq)]
pub enum SlotOpKind {
    /// A block matrix times the vector of all sources, by diagonals in the order of [`Diagonal::rank`].
    LinearTransform {
        /// Inputs.
        sources: Vec<Register>,
        /// The non-zero diagonals; each source and each result has at least one.
        diagonals: Vec<Diagonal>,
        /// Whether a rescale follows (else a later operation of the same layer rescales).
        rescale: bool,
    },
    /// `sum over r in {0} and steps of rotate_left(src, r)`: one hoisted decomposition for all steps.
    RotateSum {
        /// Input.
        src: Register,
        /// Left rotations, distinct and not zero.
        steps: Vec<u32>,
        /// Whether a rescale follows.
        rescale: bool,
    },
    /// `src + values`; `values` has `n` entries.
    AddPlain {
        /// Input.
        src: Register,
        /// What is added to each slot.
        values: Vec<f64>,
    },
    /// `a + b`.
    Add {
        /// First summand.
        a: Register,
        /// Second summand.
        b: Register,
    },
    /// `a * b` slot-wise, relinearised; a square when both are the same register.
    Mul {
        /// First factor.
        a: Register,
        /// Second factor.
        b: Register,
        /// Whether a rescale follows (else that of the next layer serves both).
        rescale: bool,
    },
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotOp {
    /// The network stage that it belongs to.
    pub layer: String,
    /// The registers that it defines: one, but for linear transforms.
    pub results: Vec<Register>,
    /// What it computes.
    pub kind: SlotOpKind,
}

/// An encrypted input.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotInput {
    /// Register that holds it.
    pub register: Register,
    /// Position in `Network::inputs`.
    pub input: usize,
    /// For each slot the flat input element that it holds, or none for zero. Elements may be repeated.
    pub element: Vec<Option<u32>>,
}

/// An encrypted output.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotOutput {
    /// Register that holds it.
    pub register: Register,
    /// Position in `Network::outputs`.
    pub output: usize,
    /// For each output element the slot that holds it. All other slots are meaningless.
    pub slot: Vec<u32>,
}

/// A network lowered to slot operations, in execution order.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotProgram {
    /// Number of slots, equal to the ring degree N.
    pub n: usize,
    /// Number of registers.
    pub registers: usize,
    /// Encrypted inputs.
    pub inputs: Vec<SlotInput>,
    /// Operations.
    pub ops: Vec<SlotOp>,
    /// Encrypted outputs.
    pub outputs: Vec<SlotOutput>,
}
