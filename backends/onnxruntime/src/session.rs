//! An ONNX model on ONNX Runtime: one session, run by all instances of the model.

use std::ffi::{CStr, CString};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use nereid_arena::{ARENA_THRESHOLD, Arena, Chunk};
use nereid_backend::GatheredInput;
use nereid_inference::{Buffer, BytesElements, DataType, Error, Result, Tensor, element_count};
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use crate::ffi::{self, Output, RunOptions, Value, c_string};
use crate::graph::{Dim, Graph, Port};
use crate::model::Engine;
use crate::options::{Optimization, Options};

pub(crate) struct OrtEngine {
    session: Arc<Session>,
    run_options: RunOptions,
    inputs: Vec<(CString, Port)>,
    outputs: Vec<(CString, Port)>,
    arena: Arena,
    /// Whether outputs had the shapes that the graph announces. It may be wrong about them.
    announced_shapes_hold: AtomicBool,
}

/// ONNX Runtime's words, before they are put into an error.
type Said<T> = std::result::Result<T, String>;

impl OrtEngine {
    pub(crate) fn load(
        environment: &Environment,
        path: &Path,
        graph: &Graph,
        options: &Options,
        arena: Arena,
    ) -> Said<Self> {
        let session =
            build(environment, path, options).map_err(|error| error.message().to_owned())?;
        let named = |port: &Port| Ok((c_string(&port.name)?, port.clone()));
        let shrink = options.shrink.as_deref();
        let entries = shrink.map(|devices| ("memory.enable_memory_arena_shrinkage", devices));
        Ok(Self {
            session: Arc::new(session),
            run_options: RunOptions::new(entries.as_slice())?,
            inputs: graph
                .inputs
                .iter()
                .chain(&graph.overridable)
                .map(named)
                .collect::<Said<_>>()?,
            outputs: graph.outputs.iter().map(named).collect::<Said<_>>()?,
            arena,
            announced_shapes_hold: AtomicBool::new(true),
        })
    }
}

fn build(environment: &Environment, path: &Path, options: &Options) -> ort::Result<Session> {
    let mut builder = Session::builder(environment)?
        .with_log_id(&options.model)?
        .with_optimization_level(match options.optimization {
            Optimization::All => GraphOptimizationLevel::All,
            Optimization::Extended => GraphOptimizationLevel::Level2,
            Optimization::Basic => GraphOptimizationLevel::Level1,
            Optimization::None => GraphOptimizationLevel::Disable,
        })?
        .with_memory_pattern(options.memory_pattern)?
        .with_parallel_execution(options.parallel)?;
    builder = own_threads(builder, options)?;
    if options.device_allocator_for_initializers {
        builder = builder.with_device_allocated_initializers()?;
    }
    if !options.memory_arena {
        ffi::disable_memory_arena(&mut builder).map_err(ort::Error::new)?;
    }
    for library in &options.operator_libraries {
        builder = builder.with_operator_library(library)?;
    }
    builder.commit_from_file(path)
}

/// A model that asks for a number of threads gets threads of its own.
fn own_threads(mut builder: SessionBuilder, options: &Options) -> ort::Result<SessionBuilder> {
    if options.intra_op_threads + options.inter_op_threads > 0 {
        builder = builder.with_independent_thread_pool()?.with_intra_op_spinning(false)?;
    }
    if options.intra_op_threads > 0 {
        builder = builder.with_intra_threads(options.intra_op_threads)?;
    }
    if options.inter_op_threads > 0 {
        builder = builder.with_inter_threads(options.inter_op_threads)?;
    }
    Ok(builder)
}

impl Engine for OrtEngine {
    fn run(&self, inputs: &[GatheredInput], outputs: &[&str]) -> Result<Vec<Tensor>> {
        let wanted = outputs.iter().map(|wanted| {
            let found = self.outputs.iter().find(|(_, port)| port.name == *wanted);
            found.ok_or_else(|| Error::internal(format!("the graph has no output '{wanted}'")))
        });
        let wanted: Vec<_> = wanted.collect::<Result<_>>()?;
        let sizes = self.named_sizes(inputs);
        let place = |(_, port): &&(CString, Port)| self.place(port, &sizes);
        let mut places: Vec<Option<Place>> = wanted.iter().map(place).collect();
        let ran = self.run_into(inputs, &wanted, &mut places);
        let relied = places.iter().any(Option::is_some);
        let ran =
            ran.or_else(
                |first| if relied { self.run_again(inputs, &wanted, first) } else { Err(first) },
            );
        ran.map_err(|message| Error::internal(format!("onnx runtime error: {message}")))
    }
}

/// Where an output is written, in the arena.
struct Place {
    shape: Vec<i64>,
    chunk: Chunk,
}

impl OrtEngine {
    /// The sizes that the inputs give to the graph's named dimensions.
    fn named_sizes<'a>(&'a self, inputs: &[GatheredInput]) -> Vec<(&'a str, i64)> {
        let mut sizes = Vec::new();
        for input in inputs {
            let Some((_, port)) = self.inputs.iter().find(|(_, p)| p.name == input.name) else {
                continue;
            };
            for (dim, &size) in port.dims.iter().zip(&input.shape) {
                if let Dim::Named(name) = dim
                    && !name.is_empty()
                {
                    sizes.push((name.as_str(), size));
                }
            }
        }
        sizes
    }

    /// A place in the arena for an output that is large and whose shape is known before the run:
    /// there it can be handed to another model or process without a copy.
    fn place(&self, port: &Port, sizes: &[(&str, i64)]) -> Option<Place> {
        if !port.has_shape || !self.announced_shapes_hold.load(Ordering::Relaxed) {
            return None;
        }
        let size = |dim: &Dim| match dim {
            Dim::Known(size) => Some(*size),
            Dim::Named(name) => {
                sizes.iter().find(|(known, _)| known == name).map(|(_, size)| *size)
            }
        };
        let shape: Vec<i64> = port.dims.iter().map(size).collect::<Option<_>>()?;
        let len = element_count(&shape)?.checked_mul(port.datatype?.byte_size()?)?;
        let chunk = (len >= ARENA_THRESHOLD).then(|| self.arena.allocate(len)).flatten()?;
        Some(Place { shape, chunk })
    }

    fn run_into(
        &self,
        inputs: &[GatheredInput],
        wanted: &[&(CString, Port)],
        places: &mut [Option<Place>],
    ) -> Said<Vec<Tensor>> {
        let values = self.values(inputs)?;
        let mut outputs = Vec::with_capacity(wanted.len());
        for ((name, port), place) in wanted.iter().zip(&mut *places) {
            let output = match place {
                Some(Place { shape, chunk }) => {
                    let datatype = port.datatype.ok_or("an output has no type")?;
                    Output::Into(Value::writing(chunk, datatype, shape)?)
                }
                None => Output::Anywhere,
            };
            outputs.push((name.as_c_str(), output));
        }
        let made = ffi::run(&self.session, &self.run_options, &values, &outputs)?;
        drop(outputs);
        let inputs: Vec<Range<*const u8>> = inputs.iter().map(|i| i.data.as_ptr_range()).collect();
        wanted
            .iter()
            .zip(places)
            .zip(made)
            .map(|(((_, port), place), value)| match (place.take(), value) {
                (Some(place), _) => Ok(in_place(port, place)),
                (None, Some(value)) => self.tensor(port, value, &inputs),
                (None, None) => Err(format!("output '{}' is missing", port.name)),
            })
            .collect()
    }

    /// The shapes that the graph announces may be wrong: once more, without relying on them.
    fn run_again(
        &self,
        inputs: &[GatheredInput],
        wanted: &[&(CString, Port)],
        first: String,
    ) -> Said<Vec<Tensor>> {
        let mut nowhere: Vec<Option<Place>> = wanted.iter().map(|_| None).collect();
        let again = self.run_into(inputs, wanted, &mut nowhere).map_err(|_| first)?;
        self.announced_shapes_hold.store(false, Ordering::Relaxed);
        Ok(again)
    }

    fn values<'a>(&'a self, inputs: &'a [GatheredInput]) -> Said<Vec<(&'a CStr, Value<'a>)>> {
        let value = |input: &'a GatheredInput| {
            let named = self.inputs.iter().find(|(_, port)| port.name == input.name);
            let (name, _) =
                named.ok_or_else(|| format!("the graph has no input '{}'", input.name))?;
            let value = if input.datatype == DataType::Bytes {
                let elements: Vec<&[u8]> = BytesElements::new(&input.data)
                    .collect::<std::result::Result<_, _>>()
                    .map_err(|_| format!("input '{}' has a truncated string", input.name))?;
                if Some(elements.len()) != element_count(&input.shape) {
                    return Err(format!("input '{}' has too few strings", input.name));
                }
                Value::of_strings(&elements, &input.shape)?
            } else {
                Value::reading(&input.data, input.datatype, &input.shape)?
            };
            Ok((name.as_c_str(), value))
        };
        inputs.iter().map(value).collect()
    }

    /// A tensor around what ONNX Runtime made, which it keeps alive.
    fn tensor(
        &self,
        port: &Port,
        value: Value<'static>,
        inputs: &[Range<*const u8>],
    ) -> Said<Tensor> {
        let describe = |reason| format!("output '{}': {reason}", port.name);
        let (datatype, shape) = value.describe().map_err(describe)?;
        let count = element_count(&shape).ok_or_else(|| describe("too large".to_owned()))?;
        let data = match datatype.byte_size() {
            None => Bytes::from(value.strings(count)?),
            Some(size) => {
                let bytes = value.bytes(count * size)?;
                // A graph may answer with its input itself, which we only have until we answer.
                if inputs.iter().any(|input| input.contains(&bytes.as_ptr())) {
                    Bytes::copy_from_slice(bytes)
                } else {
                    Bytes::from_owner(Kept {
                        len: bytes.len(),
                        value,
                        _session: self.session.clone(),
                    })
                }
            }
        };
        Ok(Tensor { name: port.name.clone(), datatype, shape, data: Buffer::One(data) })
    }
}

fn in_place(port: &Port, place: Place) -> Tensor {
    Tensor {
        name: port.name.clone(),
        datatype: port.datatype.unwrap_or(DataType::Uint8),
        shape: place.shape,
        data: Buffer::One(place.chunk.freeze()),
    }
}

/// The memory of an output. A constant output lies in its session.
struct Kept {
    value: Value<'static>,
    len: usize,
    _session: Arc<Session>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        self.value.bytes(self.len).unwrap_or_default()
    }
}
