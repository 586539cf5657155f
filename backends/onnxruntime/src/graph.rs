//! What an ONNX file says about its inputs and outputs, read without running it.
//!
//! The messages below are the few of ONNX's that are needed, with the numbers of its fields;
//! everything else in the file is skipped.

use std::path::Path;

use nereid_inference::{DataType, Error, Result};
use prost::Message;

use crate::datatypes::datatype;

/// The signature of a graph.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Graph {
    pub(crate) inputs: Vec<Port>,
    /// Initializers that a request may replace: inputs with a default.
    pub(crate) overridable: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
}

/// An input or an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    /// `None`: one that no protocol carries, or no tensor at all.
    pub(crate) datatype: Option<DataType>,
    pub(crate) dims: Vec<Dim>,
    /// Whether the file says anything about its shape; without that, `dims` is empty.
    pub(crate) has_shape: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Dim {
    Known(i64),
    /// Equal names are equal sizes; an empty one says nothing.
    Named(String),
}

impl Port {
    /// Dimensions as Triton writes them: -1 where they are left open.
    pub(crate) fn shape(&self) -> Vec<i64> {
        self.dims.iter().map(|dim| if let Dim::Known(size) = dim { *size } else { -1 }).collect()
    }

    pub(crate) fn is_scalar(&self) -> bool {
        self.has_shape && self.dims.is_empty()
    }
}

impl Graph {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let fail = |reason: String| {
            Error::invalid_arg(format!("{} is not an ONNX model: {reason}", path.display()))
        };
        let file = std::fs::read(path).map_err(|error| {
            Error::unavailable(format!("cannot read {}: {error}", path.display()))
        })?;
        let model = ModelProto::decode(file.as_slice()).map_err(|error| fail(error.to_string()))?;
        let graph = model.graph.ok_or_else(|| fail("it has no graph".to_owned()))?;
        if graph.output.is_empty() {
            return Err(fail("its graph has no outputs".to_owned()));
        }
        let has_default = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
        let ports = graph.input.iter().map(ValueInfoProto::port);
        let (overridable, inputs) = ports.partition(|port: &Port| has_default(&port.name));
        let outputs = graph.output.iter().map(ValueInfoProto::port).collect();
        Ok(Self { inputs, overridable, outputs })
    }

    pub(crate) fn input(&self, name: &str) -> Option<&Port> {
        self.inputs.iter().chain(&self.overridable).find(|port| port.name == name)
    }

    pub(crate) fn output(&self, name: &str) -> Option<&Port> {
        self.outputs.iter().find(|port| port.name == name)
    }
}

impl ValueInfoProto {
    fn port(&self) -> Port {
        let tensor = self.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
        let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
        let dim = |dim: &DimensionProto| match dim.dim_value {
            Some(size) if size >= 0 => Dim::Known(size),
            _ => Dim::Named(dim.dim_param.clone().unwrap_or_default()),
        };
        Port {
            name: self.name.clone(),
            datatype: tensor.and_then(|tensor| datatype(tensor.elem_type)),
            dims: shape.map(|shape| shape.dim.iter().map(dim).collect()).unwrap_or_default(),
            has_shape: shape.is_some(),
        }
    }
}

#[derive(Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
}

#[derive(Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
}

#[derive(Message)]
struct TensorProto {
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Message)]
struct ValueInfoProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
}

#[derive(Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorTypeProto>,
}

#[derive(Message)]
struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<ShapeProto>,
}

#[derive(Message)]
struct ShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<DimensionProto>,
}

#[derive(Message)]
struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    dim_param: Option<String>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A port with -1 for open dimensions.
    pub(crate) fn port(name: &str, datatype: DataType, shape: &[i64]) -> Port {
        let dim = |&size: &i64| if size < 0 { Dim::Named(String::new()) } else { Dim::Known(size) };
        let dims = shape.iter().map(dim).collect();
        Port { name: name.to_owned(), datatype: Some(datatype), dims, has_shape: true }
    }

    fn value(name: &str, dims: Vec<DimensionProto>) -> ValueInfoProto {
        let tensor_type =
            Some(TensorTypeProto { elem_type: 1, shape: Some(ShapeProto { dim: dims }) });
        ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
    }

    fn written(model: &ModelProto) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), model.encode_to_vec()).unwrap();
        file
    }

    #[test]
    fn the_signature_is_read() {
        let batch = DimensionProto { dim_value: None, dim_param: Some("batch".to_owned()) };
        let three = DimensionProto { dim_value: Some(3), dim_param: None };
        let graph = GraphProto {
            initializer: vec![TensorProto { name: "weight".to_owned() }],
            input: vec![value("x", vec![batch, three]), value("weight", vec![])],
            output: vec![value("y", vec![])],
        };
        let file = written(&ModelProto { graph: Some(graph) });
        let graph = Graph::read(file.path()).unwrap();
        let dims = vec![Dim::Named("batch".to_owned()), Dim::Known(3)];
        assert_eq!(graph.inputs, [Port { dims, ..port("x", DataType::Fp32, &[]) }]);
        assert_eq!(graph.overridable, [port("weight", DataType::Fp32, &[])]);
        assert_eq!(graph.inputs[0].shape(), [-1, 3]);
        assert!(graph.output("y").unwrap().is_scalar());
    }

    #[test]
    fn what_is_no_model_is_refused_by_name() {
        let nothing = written(&ModelProto { graph: None });
        let error = Graph::read(nothing.path()).unwrap_err();
        assert!(error.message().contains("is not an ONNX model"), "{error}");
        let garbage = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(garbage.path(), [0xff; 100]).unwrap();
        assert!(Graph::read(garbage.path()).is_err());
        assert!(Graph::read(Path::new("/nonexistent/model.onnx")).is_err());
    }
}
