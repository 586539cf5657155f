//! An ONNX model on the engine that is part of the server: rten, pure Rust.
//!
//! It computes with four types of elements; the others are converted on the way in and out.

use std::path::Path;

use bytes::Bytes;
use half::f16;
use nereid_backend::GatheredInput;
use nereid_inference::{Buffer, DataType, Error, Result, Tensor, display_shape};
use rten::{Model, NodeId, Value, ValueOrView};
use rten_tensor::{AsView, Layout, Tensor as RtenTensor};

use crate::graph::{Graph, Port};
use crate::model::Engine;

pub(crate) struct EmbeddedEngine {
    model: Model,
    inputs: Vec<(NodeId, Port)>,
    outputs: Vec<(NodeId, Port)>,
}

impl EmbeddedEngine {
    /// An error says what the engine lacks for this model.
    pub(crate) fn load(path: &Path, graph: &Graph) -> std::result::Result<Self, String> {
        let carried = |port: &&Port| port.datatype.is_some_and(is_carried);
        let ports = graph.inputs.iter().chain(&graph.outputs);
        if let Some(port) = ports.clone().find(|port| !carried(port)) {
            let name = port.datatype.map_or("unknown", DataType::name);
            return Err(format!("'{}' has elements of type {name}", port.name));
        }
        let model = Model::load_file(path).map_err(|error| error.to_string())?;
        let node = |port: &Port| {
            let id = model.node_id(&port.name).map_err(|error| error.to_string())?;
            Ok::<_, String>((id, port.clone()))
        };
        let inputs = graph.inputs.iter().map(node).collect::<std::result::Result<_, _>>()?;
        let outputs = graph.outputs.iter().map(node).collect::<std::result::Result<_, _>>()?;
        Ok(Self { model, inputs, outputs })
    }
}

impl Engine for EmbeddedEngine {
    fn run(&self, inputs: &[GatheredInput], outputs: &[&str]) -> Result<Vec<Tensor>> {
        let value = |input: &GatheredInput| {
            let (id, _) = find(&self.inputs, &input.name)?;
            Ok((*id, ValueOrView::Value(to_value(input)?)))
        };
        let values = inputs.iter().map(value).collect::<Result<_>>()?;
        let wanted: Vec<&(NodeId, Port)> =
            outputs.iter().map(|name| find(&self.outputs, name)).collect::<Result<_>>()?;
        let ids: Vec<NodeId> = wanted.iter().map(|(id, _)| *id).collect();
        let results = self.model.run(values, &ids, None).map_err(|error| {
            Error::internal(format!(
                "rten error: {error} (the built-in engine, used where ONNX Runtime is not \
                     installed)"
            ))
        })?;
        wanted.iter().zip(results).map(|((_, port), value)| to_tensor(port, &value)).collect()
    }
}

fn find<'a>(ports: &'a [(NodeId, Port)], name: &str) -> Result<&'a (NodeId, Port)> {
    let found = ports.iter().find(|(_, port)| port.name == name);
    found.ok_or_else(|| {
        // What is left are inputs with a default, which are constants to this engine.
        Error::unsupported(format!("'{name}' cannot be given: that needs ONNX Runtime"))
    })
}

fn is_carried(datatype: DataType) -> bool {
    !matches!(
        datatype,
        DataType::Bytes
            | DataType::Bf16
            | DataType::Uint16
            | DataType::Uint32
            | DataType::Uint64
            | DataType::Int16
    )
}

fn to_value(input: &GatheredInput) -> Result<Value> {
    let shape: Vec<usize> = input.shape.iter().map(|&dim| dim.max(0) as usize).collect();
    let (shape, data) = (shape.as_slice(), &input.data[..]);
    Ok(match input.datatype {
        DataType::Fp32 => tensor(input, shape, elements(data, f32::from_le_bytes))?.into(),
        DataType::Fp16 => {
            tensor(input, shape, elements(data, |b| f16::from_le_bytes(b).to_f32()))?.into()
        }
        DataType::Fp64 => {
            tensor(input, shape, elements(data, |b| f64::from_le_bytes(b) as f32))?.into()
        }
        DataType::Int32 => tensor(input, shape, elements(data, i32::from_le_bytes))?.into(),
        DataType::Int64 => tensor(input, shape, narrowed(input)?)?.into(),
        DataType::Bool => tensor(input, shape, elements(data, |[b]| i32::from(b != 0)))?.into(),
        DataType::Int8 => tensor(input, shape, elements(data, i8::from_le_bytes))?.into(),
        DataType::Uint8 => tensor(input, shape, data.to_vec())?.into(),
        other => {
            return Err(Error::unsupported(format!(
                "input '{}' has elements of type {other}, which need ONNX Runtime",
                input.name
            )));
        }
    })
}

fn tensor<T>(input: &GatheredInput, shape: &[usize], data: Vec<T>) -> Result<RtenTensor<T>> {
    RtenTensor::try_from_data(shape, data).map_err(|_| {
        let shape = display_shape(&input.shape);
        Error::invalid_arg(format!("input '{}' does not fill shape {shape}", input.name))
    })
}

fn elements<T, const N: usize>(data: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks().0.iter().map(|element| convert(*element)).collect()
}

/// Whole numbers are 32 bits wide in this engine.
fn narrowed(input: &GatheredInput) -> Result<Vec<i32>> {
    elements(&input.data, i64::from_le_bytes)
        .into_iter()
        .map(|wide| {
            i32::try_from(wide).map_err(|_| {
                Error::invalid_arg(format!(
                    "input '{}' holds {wide}, which needs ONNX Runtime: without it whole numbers \
                     have 32 bits",
                    input.name
                ))
            })
        })
        .collect()
}

/// The tensor with the type that the graph gives it.
fn to_tensor(port: &Port, value: &Value) -> Result<Tensor> {
    let wanted = port.datatype.unwrap_or(DataType::Fp32);
    let data: Option<Vec<u8>> = match (value, wanted) {
        (Value::FloatTensor(t), DataType::Fp32) => Some(bytes(t, f32::to_le_bytes)),
        (Value::FloatTensor(t), DataType::Fp16) => {
            Some(bytes(t, |v| f16::from_f32(v).to_le_bytes()))
        }
        (Value::FloatTensor(t), DataType::Fp64) => Some(bytes(t, |v| f64::from(v).to_le_bytes())),
        (Value::Int32Tensor(t), DataType::Int32) => Some(bytes(t, i32::to_le_bytes)),
        (Value::Int32Tensor(t), DataType::Int64) => Some(bytes(t, |v| i64::from(v).to_le_bytes())),
        (Value::Int32Tensor(t), DataType::Bool) => Some(bytes(t, |v| [u8::from(v != 0)])),
        (Value::Int8Tensor(t), DataType::Int8) => Some(bytes(t, i8::to_le_bytes)),
        (Value::UInt8Tensor(t), DataType::Uint8) => Some(bytes(t, |v| [v])),
        _ => None,
    };
    let data = data.ok_or_else(|| {
        Error::internal(format!(
            "output '{}' came out as {}, the graph says {wanted}",
            port.name,
            value.dtype()
        ))
    })?;
    let shape = value.shape().iter().map(|&size| size as i64).collect();
    Ok(Tensor {
        name: port.name.clone(),
        datatype: wanted,
        shape,
        data: Buffer::One(Bytes::from(data)),
    })
}

fn bytes<T: Copy, const N: usize>(
    tensor: &RtenTensor<T>,
    convert: impl Fn(T) -> [u8; N],
) -> Vec<u8> {
    let mut data = Vec::with_capacity(tensor.len() * N);
    tensor.iter().for_each(|value| data.extend_from_slice(&convert(*value)));
    data
}
