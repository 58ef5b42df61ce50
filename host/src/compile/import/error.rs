//! Why a model is not imported.

use std::path::PathBuf;

/// Why a model was not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not an ONNX model, or is cut.
    #[error("{} is not a complete ONNX file ({source}); export or copy the model again", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        source: prost::DecodeError,
    },
    /// The model as a whole cannot be used.
    #[error("the model {reason}")]
    Model {
        /// Why, and what to do.
        reason: String,
    },
    /// An input has no usable shape.
    #[error("input {input:?}: {reason}")]
    Input {
        /// The input.
        input: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A constant cannot be decoded.
    #[error("initialiser {tensor:?} {reason}")]
    Initialiser {
        /// The constant.
        tensor: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A node is malformed.
    #[error("node {node:?} ({op}): {reason}")]
    Node {
        /// The node's name in the file, or its output's.
        node: String,
        /// Its operator.
        op: String,
        /// Why.
        reason: String,
    },
    /// A node computes what cannot be evaluated on encrypted data.
    #[error("node {node:?} ({op}) is not supported: {reason}; {rewrite}")]
    Unsupported {
        /// The node's name in the file, or its output's.
        node: String,
        /// Its operator.
        op: String,
        /// Why.
        reason: String,
        /// What to use instead.
        rewrite: String,
    },
}

/// Why a node was refused; the importer adds its name.
pub(super) enum Fault {
    Invalid(String),
    Unsupported(String, String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Fault::Invalid(reason)
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Fault::Invalid(reason.into())
    }
}

/// The error of a node that computes what cannot be evaluated, with what to use instead.
pub(super) fn unsupported<T>(reason: &str, rewrite: &str) -> Result<T, Fault> {
    Err(Fault::Unsupported(reason.into(), rewrite.into()))
}
