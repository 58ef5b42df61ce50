//! Hand-built models for the tests of this and the following passes.

use super::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, data_type,
};

/// A model that grows node by node.
pub struct Builder(pub ModelProto);

pub fn value_info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|&d| DimensionProto { dim_value: (d >= 0).then_some(d), dim_param: (d < 0).then(|| "n".into()) });
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: data_type::FLOAT,
                shape: Some(TensorShapeProto { dim: dim.collect() }),
            }),
        }),
    }
}

pub fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: ints.to_vec(), ..Default::default() }
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, ..Default::default() }
}

pub fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f, ..Default::default() }
}

pub fn string(name: &str, s: &str) -> AttributeProto {
    AttributeProto { name: name.into(), s: s.into(), ..Default::default() }
}

impl Builder {
    /// A model with the input `x`; negative dimensions are dynamic.
    pub fn new(dims: &[i64]) -> Self {
        Self(ModelProto {
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
            graph: Some(GraphProto { name: "net".into(), input: vec![value_info("x", dims)], ..Default::default() }),
            metadata_props: Vec::new(),
        })
    }

    pub fn graph(&mut self) -> &mut GraphProto {
        self.0.graph.as_mut().unwrap()
    }

    pub fn floats(&mut self, name: &str, dims: &[i64], values: &[f32]) -> &mut Self {
        self.graph().initializer.push(TensorProto {
            dims: dims.to_vec(),
            data_type: data_type::FLOAT,
            float_data: values.to_vec(),
            name: name.into(),
            ..Default::default()
        });
        self
    }

    pub fn ints(&mut self, name: &str, dims: &[i64], values: &[i64]) -> &mut Self {
        self.graph().initializer.push(TensorProto {
            dims: dims.to_vec(),
            data_type: data_type::INT64,
            int64_data: values.to_vec(),
            name: name.into(),
            ..Default::default()
        });
        self
    }

    /// A node whose name is its result's.
    pub fn node(&mut self, op: &str, input: &[&str], output: &str, attribute: &[AttributeProto]) -> &mut Self {
        self.graph().node.push(NodeProto {
            input: input.iter().map(|&s| s.into()).collect(),
            output: vec![output.into()],
            name: output.into(),
            op_type: op.into(),
            attribute: attribute.to_vec(),
            domain: String::new(),
        });
        self
    }

    pub fn output(&mut self, name: &str) -> &mut Self {
        self.graph().output.push(value_info(name, &[]));
        self
    }
}
