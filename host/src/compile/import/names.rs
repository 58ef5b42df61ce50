//! Names that say something: of layers, from their modules; of the model, from its file.

use std::collections::HashSet;
use std::path::Path;

use crate::compile::onnx::NodeProto;

/// How a layer gets its name: from its module or weights, else its kind and a number.
pub(super) struct Hint {
    pub(super) base: Option<String>,
    pub(super) kind: &'static str,
}

/// The name of a layer, numbered where it is taken.
pub(super) fn unique(hint: Hint, used: &mut HashSet<String>) -> String {
    let (base, first) = match hint.base {
        Some(base) => (base, None),
        None => (hint.kind.to_string(), Some(1)),
    };
    let mut number = first;
    loop {
        let name = match number {
            None => base.clone(),
            Some(n) if first.is_some() => format!("{base}{n}"),
            Some(n) => format!("{base}_{n}"),
        };
        if used.insert(name.clone()) {
            return name;
        }
        number = Some(number.unwrap_or(1) + 1);
    }
}

/// The name of the module a node came from: of its weights (`conv1.weight`), or in its own name
/// (`/conv1/Conv`, `conv1`); exporters' running numbers (`Conv_3`, `node_conv2d`) say nothing.
pub(super) fn module_name(node: &NodeProto) -> Option<String> {
    let weight = node.input.get(1).and_then(|w| w.strip_suffix(".weight"));
    let (op, lower) = (node.op_type.as_str(), node.op_type.to_lowercase());
    let own = || {
        let mut path: Vec<&str> = node.name.split('/').filter(|s| !s.is_empty()).collect();
        let is_op = |s: &str| {
            let bare = s.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_');
            bare == op || bare.to_lowercase() == lower
        };
        if path.last().is_some_and(|s| is_op(s) || s.starts_with("node_"))
            && (path.len() > 1 || !path[0].starts_with(&lower))
        {
            path.pop();
        }
        path.last().copied()
    };
    let name: String = weight
        .or_else(own)?
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .collect();
    (!name.is_empty()).then_some(name)
}

/// What exporters call every graph.
const GENERIC: [&str; 8] =
    ["", "main_graph", "main", "graph", "torch_jit", "torch-jit-export", "torch_jit_export", "tf2onnx"];

/// The name of a model: its graph's, or that of its file where the exporter gave none of its own.
pub(super) fn model_name(graph: String, path: &Path) -> String {
    match path.file_stem() {
        Some(stem) if GENERIC.contains(&graph.as_str()) => stem.to_string_lossy().into_owned(),
        _ => graph,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_modules() {
        let name = |op: &str, name: &str, weight: &str| {
            module_name(&NodeProto {
                op_type: op.into(),
                name: name.into(),
                input: vec!["x".into(), weight.into()],
                ..Default::default()
            })
        };
        assert_eq!(name("Conv", "/conv/Conv", "onnx::Conv_20").as_deref(), Some("conv"));
        assert_eq!(name("Conv", "Conv_0", "features.0.weight").as_deref(), Some("features.0"));
        assert_eq!(name("Conv", "node_conv2d", "conv.weight").as_deref(), Some("conv"));
        assert_eq!(name("Conv", "node_Conv_53", "w"), None);
        assert_eq!(name("Mul", "/Mul_1", "w"), None);
        assert_eq!(name("Mul", "/act/Mul_1", "w").as_deref(), Some("act"));
        assert_eq!(name("Conv", "conv1", "w").as_deref(), Some("conv1"));
        assert_eq!(name("Gemm", "", ""), None);
        let mut used = HashSet::new();
        let mut next = |base: Option<&str>| unique(Hint { base: base.map(Into::into), kind: "square" }, &mut used);
        assert_eq!([next(None), next(None)], ["square1", "square2"]);
        assert_eq!([next(Some("fc")), next(Some("fc"))], ["fc", "fc_2"]);
    }

    #[test]
    fn generic_graphs_are_called_after_their_file() {
        let name = |graph: &str, path: &str| model_name(graph.into(), Path::new(path));
        assert_eq!(name("main_graph", "models/mnist.v2.onnx"), "mnist.v2");
        assert_eq!(name("torch-jit-export", "mnist.onnx"), "mnist");
        assert_eq!(name("", "mnist"), "mnist");
        assert_eq!(name("lenet", "mnist.onnx"), "lenet");
        assert_eq!(name("main_graph", ".."), "main_graph");
    }
}
