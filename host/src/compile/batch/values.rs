//! The values of a batch program: a network's tensors, and what is between them.
//!
//! A product leaves three polynomials, and the next linear layer takes them as they are: it mostly has fewer results
//! than sources, and relinearisation and rescaling come after it, on the results. Only where such a value meets another
//! product, or is an output, a division comes in between.

use crate::compile::graph::{Network, Op};
use crate::compile::graph::{SparseMatrix, TensorId};

/// Index of a value.
pub type ValueId = usize;

/// How a value is computed.
pub enum Node<'a> {
    /// The network's input.
    Input,
    /// A sum of matrices times values.
    Linear {
        /// The summands.
        terms: Vec<Term<'a>>,
        /// One value for each element.
        bias: &'a [f64],
    },
    /// A product element by element.
    Mul(ValueId, ValueId),
    /// The same value, relinearised and rescaled. An output is not rescaled.
    Divide {
        /// What is divided.
        source: ValueId,
        /// Whether limbs are dropped.
        rescale: bool,
    },
}

/// A matrix of a linear layer, and what its price and error depend on.
pub struct Term<'a> {
    /// The value that it multiplies.
    pub source: ValueId,
    /// The matrix.
    pub matrix: &'a SparseMatrix,
    /// Largest weight.
    pub largest: f64,
    /// Mean over the rows of the sum of squared weights.
    pub power: f64,
    /// Mean number of weights in a row.
    pub entries: f64,
}

/// A value.
pub struct Value<'a> {
    /// The layer's name.
    pub layer: String,
    /// How it is computed.
    pub node: Node<'a>,
    /// Shape of the tensor.
    pub shape: Vec<usize>,
    /// Polynomials of each ciphertext.
    pub polys: usize,
    /// Rescales before it.
    pub depth: usize,
    /// Mean square over samples and elements.
    pub mean_square: f64,
    /// Largest absolute value.
    pub largest: f64,
}

impl Value<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The values that it is computed from.
    pub fn sources(&self) -> Vec<ValueId> {
        match &self.node {
            Node::Input => Vec::new(),
            Node::Linear { terms, .. } => terms.iter().map(|t| t.source).collect(),
            Node::Mul(a, b) => vec![*a, *b],
            Node::Divide { source, .. } => vec![*source],
        }
    }
}

/// All values, each after those that it is computed from.
pub struct Values<'a> {
    /// The values.
    pub list: Vec<Value<'a>>,
    /// The network's outputs.
    pub outputs: Vec<ValueId>,
}

/// Values under construction.
struct Builder<'a> {
    list: Vec<Value<'a>>,
    /// The divided form of a value.
    divided: Vec<Option<ValueId>>,
}

impl<'a> Builder<'a> {
    fn push(&mut self, value: Value<'a>) -> ValueId {
        self.list.push(value);
        self.divided.push(None);
        self.list.len() - 1
    }

    /// The value, or its division.
    fn divide(&mut self, source: ValueId, rescale: bool) -> ValueId {
        if let Some(done) = self.divided[source] {
            return done;
        }
        let of = &self.list[source];
        let value = Value {
            layer: of.layer.clone(),
            node: Node::Divide { source, rescale },
            shape: of.shape.clone(),
            polys: 2,
            depth: of.depth + usize::from(rescale),
            ..*of
        };
        let id = self.push(value);
        self.divided[source] = Some(id);
        id
    }

    /// The value as a factor: of two polynomials, and small if it is the sum of products.
    fn factor(&mut self, id: ValueId) -> ValueId {
        if self.list[id].polys == 3 { self.divide(id, true) } else { id }
    }
}

impl<'a> Values<'a> {
    /// The values of a network, with their sizes on the samples. With `eager` every product is divided at once: more
    /// key switches and levels, and smaller ciphertexts.
    pub fn new(network: &'a Network, samples: &[Vec<f64>], eager: bool) -> Self {
        let sizes = sizes(network, samples);
        let mut builder = Builder { list: Vec::new(), divided: Vec::new() };
        let mut of: Vec<Option<ValueId>> = vec![None; network.tensors.len()];
        let defined = "stages are in topological order";
        let value = |tensor: TensorId, layer: &str, node, polys, depth| {
            let (mean_square, largest) = sizes[tensor];
            let shape = network.tensors[tensor].shape.clone();
            Value { layer: layer.into(), node, shape, polys, depth, mean_square, largest }
        };
        for &input in &network.inputs {
            let name = network.tensors[input].name.clone();
            of[input] = Some(builder.push(value(input, &name, Node::Input, 2, 0)));
        }
        for stage in &network.stages {
            let made = match &stage.op {
                Op::Affine { terms, bias } => {
                    let terms: Vec<Term<'a>> =
                        terms.iter().map(|t| Term::new(of[t.input].expect(defined), &t.matrix)).collect();
                    let polys = terms.iter().map(|t| builder.list[t.source].polys).max().unwrap_or(2);
                    let depth = terms.iter().map(|t| builder.list[t.source].depth).max().unwrap_or(0);
                    value(stage.output, &stage.name, Node::Linear { terms, bias }, polys, depth)
                }
                Op::Mul(a, b) => {
                    let [a, b] = [a, b].map(|&x| builder.factor(of[x].expect(defined)));
                    let depth = builder.list[a].depth.max(builder.list[b].depth);
                    value(stage.output, &stage.name, Node::Mul(a, b), 3, depth)
                }
            };
            let id = builder.push(made);
            let product = matches!(stage.op, Op::Mul(..));
            of[stage.output] = Some(if eager && product { builder.divide(id, true) } else { id });
        }
        let outputs = network.outputs.iter().map(|&output| {
            let id = of[output].expect(defined);
            if builder.list[id].polys == 3 { builder.divide(id, false) } else { id }
        });
        let outputs = outputs.collect();
        Self { list: builder.list, outputs }
    }

    /// Rescales on the longest way.
    pub fn depth(&self) -> usize {
        self.list.iter().map(|v| v.depth).max().unwrap_or(0)
    }
}

impl<'a> Term<'a> {
    fn new(source: ValueId, matrix: &'a SparseMatrix) -> Self {
        let rows = matrix.rows.max(1) as f64;
        Self {
            source,
            matrix,
            largest: matrix.value.iter().fold(0.0, |largest, w| w.abs().max(largest)),
            power: matrix.value.iter().map(|w| w * w).sum::<f64>() / rows,
            entries: matrix.nnz() as f64 / rows,
        }
    }
}

/// Mean square and largest absolute value of every tensor on the samples.
fn sizes(network: &Network, samples: &[Vec<f64>]) -> Vec<(f64, f64)> {
    let mut sizes = vec![(0.0, 0.0); network.tensors.len()];
    for sample in samples {
        let mut tensors: Vec<Vec<f64>> = vec![Vec::new(); network.tensors.len()];
        tensors[network.inputs[0]].clone_from(sample);
        for stage in &network.stages {
            tensors[stage.output] = match &stage.op {
                Op::Affine { terms, bias } => terms.iter().fold(bias.clone(), |mut sum, term| {
                    let product = term.matrix.matvec(&tensors[term.input]);
                    sum.iter_mut().zip(product).for_each(|(s, p)| *s += p);
                    sum
                }),
                Op::Mul(a, b) => tensors[*a].iter().zip(&tensors[*b]).map(|(x, y)| x * y).collect(),
            };
        }
        for ((square, largest), tensor) in sizes.iter_mut().zip(&tensors) {
            *square += tensor.iter().map(|x| x * x).sum::<f64>() / (tensor.len().max(1) * samples.len()) as f64;
            *largest = tensor.iter().fold(*largest, |largest: f64, x| x.abs().max(largest));
        }
    }
    sizes
}
