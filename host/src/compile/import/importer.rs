//! From nodes to layers: what each operator becomes, and what the outputs need of it.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::call::Call;
use super::constants::{cast, constant, constant_of_shape, dropout, shape, size, sqrt};
use super::error::{Fault, ImportError, unsupported};
use super::input::without_batch;
use super::model::{Layer, ModelGraph, Node};
use super::names::{Hint, module_name, unique};
use super::refuse::refuse;
use super::reshape::reshape;
use super::value::{Value, Var, image};
use crate::compile::graph::{Tensor, TensorId};
use crate::compile::onnx::{NodeProto, computed};
use crate::view::View;

/// The state of an import: what is known by name, and the layers so far.
pub(super) struct Importer<'a> {
    pub(super) folder: &'a Path,
    pub(super) values: HashMap<String, Value>,
    pub(super) tensors: Vec<Tensor>,
    pub(super) nodes: Vec<(Node, Hint)>,
}

impl Importer<'_> {
    /// A new tensor that depends on the input.
    pub(super) fn tensor(&mut self, name: &str, dims: Vec<usize>) -> Var {
        self.tensors.push(Tensor { name: name.into(), shape: without_batch(&dims) });
        Var { id: self.tensors.len() - 1, dims }
    }

    /// Imports a node and defines its result.
    pub(super) fn node(&mut self, node: &NodeProto) -> Result<(), ImportError> {
        let first = self.tensors.len();
        let fault = |fault| {
            let label = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
            let (node, op) = (label.cloned().unwrap_or_default(), node.op_type.clone());
            match fault {
                Fault::Invalid(reason) => ImportError::Node { node, op, reason },
                Fault::Unsupported(reason, rewrite) => ImportError::Unsupported { node, op, reason, rewrite },
            }
        };
        let value = self.operands(node).and_then(|call| self.dispatch(&call)).map_err(fault)?;
        let name = node.output.first().filter(|n| !n.is_empty());
        let name = name.ok_or_else(|| fault("has no output".into()))?;
        if let Value::Var(v) = &value
            && v.id >= first
        {
            self.tensors[v.id].name.clone_from(name);
        }
        match self.values.insert(name.clone(), value) {
            Some(_) => Err(fault(format!("defines {name:?} a second time").into())),
            None => Ok(()),
        }
    }

    fn operands<'n>(&self, node: &'n NodeProto) -> Result<Call<'n>, Fault> {
        let mut args = Vec::new();
        for name in &node.input {
            args.push(match self.values.get(name) {
                _ if name.is_empty() => None,
                Some(value) => Some(value.clone()),
                None => {
                    return Err(format!(
                        "input {name:?} is neither an initialiser nor the first output of an earlier node"
                    )
                    .into());
                }
            });
        }
        Ok(Call { node, args })
    }

    /// Appends a layer and defines its output.
    pub(super) fn push(
        &mut self,
        call: &Call,
        kind: &'static str,
        inputs: &[TensorId],
        layer: Layer,
        dims: Vec<usize>,
    ) -> Result<Value, Fault> {
        if computed(&dims, 0)? == 0 {
            return Err(format!("its output has the empty shape {dims:?}").into());
        }
        let finite = |v: &[f32]| v.iter().all(|x| x.is_finite());
        let ok = match &layer {
            Layer::Conv(c) | Layer::ConvTranspose(c) => finite(&c.weight) && finite(&c.bias),
            Layer::Dense(d) => finite(&d.weight) && finite(&d.bias),
            Layer::ScaleShift { scale, shift } => finite(scale) && finite(shift),
            Layer::Sum { weights } => finite(weights),
            _ => true,
        };
        if !ok {
            return Err("its weights hold NaN or infinite values; train or export the model again".into());
        }
        let name = format!("{}.{}", call.node.output.first().map_or("", String::as_str), self.tensors.len());
        let var = self.tensor(&name, dims);
        let node = Node { name: String::new(), inputs: inputs.to_vec(), layer, output: var.id };
        self.nodes.push((node, Hint { base: module_name(call.node), kind }));
        Ok(Value::Var(var))
    }

    fn dispatch(&mut self, call: &Call) -> Result<Value, Fault> {
        if !matches!(call.node.domain.as_str(), "" | "ai.onnx") {
            return unsupported(
                &format!("it belongs to the domain {:?}", call.node.domain),
                "export with the standard ONNX operators only",
            );
        }
        match call.node.op_type.as_str() {
            "Conv" => self.conv(call),
            "ConvTranspose" => self.conv_transpose(call),
            "Gemm" => self.gemm(call),
            "MatMul" => self.matmul(call),
            "AveragePool" => {
                let kernel = call.pair("kernel_shape", 1)?;
                self.average_pool(call, kernel, false)
            }
            "GlobalAveragePool" => {
                let [_, h, w] = image(call.var(0)?)?;
                self.average_pool(call, [h, w], true)
            }
            "ReduceMean" => self.reduce_mean(call),
            "BatchNormalization" => self.batch_norm(call),
            "Add" | "Sub" | "Mul" | "Div" => self.binary(call),
            "Sum" => self.sum(call),
            "Neg" => self.negate(call),
            "Pow" => self.pow(call),
            "Pad" => self.pad(call),
            "Concat" => self.concat(call),
            "Transpose" => self.transpose(call),
            "Slice" => self.slice(call),
            "Gather" => self.gather(call),
            "Expand" => self.expand(call),
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => reshape(call),
            "Constant" => constant(call, self.folder),
            "ConstantOfShape" => constant_of_shape(call, self.folder),
            "Shape" => shape(call),
            "Size" => size(call),
            "Identity" => Ok(call.arg(0)?.clone()),
            "Dropout" => dropout(call),
            "Cast" => cast(call),
            "Sqrt" => sqrt(call),
            op => refuse(op),
        }
    }

    /// Keeps what the outputs need, and names it.
    pub(super) fn finish(self, name: String, inputs: Vec<TensorId>, outputs: Vec<TensorId>) -> ModelGraph {
        let mut needed: HashSet<TensorId> = outputs.iter().copied().collect();
        let mut nodes: Vec<(Node, Hint)> = Vec::new();
        for (node, hint) in self.nodes.into_iter().rev() {
            if needed.contains(&node.output) {
                needed.extend(&node.inputs);
                nodes.push((node, hint));
            }
        }
        nodes.reverse();
        needed.extend(&inputs);
        let mut id = vec![0; self.tensors.len()];
        let mut tensors = Vec::new();
        for (old, tensor) in self.tensors.into_iter().enumerate() {
            id[old] = tensors.len();
            if needed.contains(&old) {
                tensors.push(tensor);
            }
        }
        let mut used = HashSet::new();
        let nodes = nodes.into_iter().map(|(node, hint)| Node {
            name: unique(hint, &mut used),
            inputs: node.inputs.iter().map(|&t| id[t]).collect(),
            output: id[node.output],
            ..node
        });
        let nodes = nodes.collect();
        let renumber = |list: Vec<TensorId>| list.into_iter().map(|t| id[t]).collect();
        let (inputs, outputs) = (renumber(inputs), renumber(outputs));
        ModelGraph { name, inputs, outputs, nodes, tensors, labels: Vec::new(), precision: None, view: View::default() }
    }
}
