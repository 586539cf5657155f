//! What the states of a sequence begin with.

use std::path::Path;

use bytes::Bytes;
use nereid_inference::{DataType, Error, Result, Tensor, element_count};
use nereid_model_config::proto::model_sequence_batching::{State, initial_state::StateData};

/// Beside the versions of a model: the folder of files that states begin with.
const FOLDER: &str = "initial_state";

/// The state's input for the first request of a sequence: zeros, unless a file is named. A size
/// that is left open is 1, as in Triton.
pub(crate) fn read(state: &State, batches: bool, model_dir: &Path) -> Result<Tensor> {
    let name = &state.input_name;
    let datatype = state
        .datatype()
        .ok_or_else(|| Error::invalid_arg(format!("state '{name}' has no data type")))?;
    let initial = state.initial_state.first();
    let dims = initial.map_or(&state.dims, |initial| &initial.dims);
    let dims: Vec<i64> = dims.iter().map(|&dim| if dim == -1 { 1 } else { dim }).collect();
    let elements = element_count(&dims)
        .ok_or_else(|| Error::invalid_arg(format!("state '{name}' has an impossible shape")))?;
    let data = match initial.and_then(|initial| initial.state_data.as_ref()) {
        Some(StateData::DataFile(file)) => {
            read_file(&model_dir.join(FOLDER).join(file), name, datatype, elements)?
        }
        // An empty string is four bytes of length.
        _ => vec![0; elements * datatype.byte_size().unwrap_or(4)].into(),
    };
    let shape = batches.then_some(1).into_iter().chain(dims).collect();
    Ok(Tensor { name: name.clone(), datatype, shape, data: data.into() })
}

fn read_file(path: &Path, name: &str, datatype: DataType, elements: usize) -> Result<Bytes> {
    let data = std::fs::read(path).map_err(|error| {
        Error::invalid_arg(format!(
            "initial state of '{name}' cannot be read from {}: {error}",
            path.display()
        ))
    })?;
    let expected = datatype.byte_size().map(|size| size * elements);
    if expected.is_some_and(|expected| expected != data.len()) {
        return Err(Error::invalid_arg(format!(
            "initial state of '{name}' needs {} bytes, but {} has {}",
            expected.unwrap_or_default(),
            path.display(),
            data.len()
        )));
    }
    Ok(data.into())
}
