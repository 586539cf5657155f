//! From the tensors of several requests to the one tensor that a model runs on.

use bytes::{Bytes, BytesMut};
use nereid_inference::{DataType, Error, Request, Result, element_count};

/// One input of a whole batch.
#[derive(Debug)]
pub struct GatheredInput {
    pub name: String,
    pub datatype: DataType,
    /// Of the batch: where the model batches, the first dimension is the sum over its requests; of a
    /// ragged input, how many elements they have together.
    pub shape: Vec<i64>,
    pub data: Bytes,
}

/// Joins the inputs of `requests` along the first dimension, in the order of the first request.
/// Requests of one batch agree in everything but their first dimension and their ragged inputs.
pub(crate) fn gather(requests: &[Request], ragged: &[String]) -> Result<Vec<GatheredInput>> {
    let Some((first, rest)) = requests.split_first() else { return Ok(Vec::new()) };
    first
        .inputs
        .iter()
        .map(|input| {
            let ragged = ragged.contains(&input.name);
            let mut shape = if ragged { vec![elements(&input.shape)] } else { input.shape.clone() };
            let data = if rest.is_empty() {
                aligned(input.data.contiguous(), input.datatype)
            } else {
                let mut data = BytesMut::new();
                append(&mut data, first, &input.name)?;
                for request in rest {
                    let dims = append(&mut data, request, &input.name)?;
                    shape[0] += if ragged { elements(dims) } else { dims[0] };
                }
                data.freeze()
            };
            let (name, datatype) = (input.name.clone(), input.datatype);
            Ok(GatheredInput { name, datatype, shape, data })
        })
        .collect()
}

fn append<'a>(data: &mut BytesMut, request: &'a Request, name: &str) -> Result<&'a [i64]> {
    let input = request
        .input(name)
        .ok_or_else(|| Error::internal(format!("input '{name}' is missing in a batch")))?;
    input.data.segments().iter().for_each(|segment| data.extend_from_slice(segment));
    Ok(&input.shape)
}

fn elements(shape: &[i64]) -> i64 {
    element_count(shape).and_then(|count| i64::try_from(count).ok()).unwrap_or(0)
}

/// Small tensors lie wherever their request put them; frameworks want them aligned.
fn aligned(data: Bytes, datatype: DataType) -> Bytes {
    let size = datatype.byte_size().unwrap_or(1);
    if (data.as_ptr() as usize).is_multiple_of(size) { data } else { Bytes::copy_from_slice(&data) }
}
