//! Import: an ONNX file becomes a graph of typed layers with every constant folded.
//!
//! The batch dimension is 1 and vanishes; reshapes vanish too, since tensors are flat and row-major.
//! What CKKS cannot evaluate is refused here, with the node, the reason and a rewrite that would work.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use prost::Message;

use super::graph::TensorId;
use super::onnx::{Constant, ModelProto};
use importer::Importer;
use input::{input_dims, without_batch};
use names::model_name;
use value::Value;

pub use error::ImportError;
pub use model::{AveragePool, Conv, Dense, Layer, ModelGraph, Node, Window};

mod arithmetic;
mod call;
mod constants;
mod convolution;
mod dense;
mod error;
mod importer;
mod input;
mod model;
mod movement;
mod names;
mod pool;
mod refuse;
mod reshape;
mod shape;
#[cfg(test)]
mod tests;
mod value;

/// Imports the ONNX model at `path`; external weights are read from its folder.
///
/// A graph without a name of its own is called after the file.
///
/// # Shape
/// `input_shape` (`[C, H, W]`, with or without a leading 1) fills in dynamic dimensions of the only input.
///
/// # Errors
/// Names the file, input, initialiser or node, the reason, and where there is one the rewrite.
pub fn load(path: &Path, input_shape: Option<&[usize]>) -> Result<ModelGraph, ImportError> {
    let bytes = std::fs::read(path).map_err(|source| ImportError::Read { path: path.into(), source })?;
    let model =
        ModelProto::decode(bytes.as_slice()).map_err(|source| ImportError::Decode { path: path.into(), source })?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut graph = import(&model, folder, input_shape)?;
    graph.name = model_name(graph.name, path);
    Ok(graph)
}

/// Imports a decoded model; `folder` is where external weights are.
///
/// # Errors
/// As [`load`].
pub fn import(model: &ModelProto, folder: &Path, input_shape: Option<&[usize]>) -> Result<ModelGraph, ImportError> {
    let broken = |reason: &str| ImportError::Model { reason: reason.into() };
    let graph = model.graph.as_ref().ok_or_else(|| broken("has no graph; the file is empty or cut"))?;
    if !model.opset_import.iter().any(|o| matches!(o.domain.as_str(), "" | "ai.onnx")) {
        return Err(broken("names no ONNX operator set; the file is cut, or uses operators of another framework"));
    }
    let mut importer = Importer { folder, values: HashMap::new(), tensors: Vec::new(), nodes: Vec::new() };
    for t in &graph.initializer {
        let value = Constant::decode(t, folder)
            .map_err(|reason| ImportError::Initialiser { tensor: t.name.clone(), reason })?;
        importer.values.insert(t.name.clone(), Value::Const(Rc::new(value)));
    }
    let infos: Vec<_> = graph.input.iter().filter(|i| !importer.values.contains_key(&i.name)).collect();
    if infos.is_empty() {
        return Err(broken("has no input"));
    }
    if infos.len() > 1 && input_shape.is_some() {
        return Err(broken("has several inputs, so one input shape is ambiguous; export it with fixed shapes"));
    }
    for info in &infos {
        let dims =
            input_dims(info, input_shape).map_err(|reason| ImportError::Input { input: info.name.clone(), reason })?;
        let var = importer.tensor(&info.name, dims);
        importer.values.insert(info.name.clone(), Value::Var(var));
    }
    let inputs: Vec<TensorId> = (0..infos.len()).collect();
    for node in &graph.node {
        importer.node(node)?;
    }
    let mut outputs = Vec::new();
    for info in &graph.output {
        let Some(Value::Var(var)) = importer.values.get(&info.name) else {
            return Err(broken(&format!("output {:?} is not computed from the input", info.name)));
        };
        if inputs.contains(&var.id) {
            return Err(broken(&format!("output {:?} is the input itself; there is nothing to evaluate", info.name)));
        }
        importer.tensors[var.id].shape = without_batch(&var.dims);
        outputs.push(var.id);
    }
    if outputs.is_empty() {
        return Err(broken("has no output"));
    }
    Ok(importer.finish(graph.name.clone(), inputs, outputs))
}
