//! From the tensors of several requests to the one tensor that a model runs on.

use bytes::{Bytes, BytesMut};
use nereid_inference::{DataType, Error, Request, Result};

/// One input of a whole batch.
#[derive(Debug)]
pub struct GatheredInput {
    pub name: String,
    pub datatype: DataType,
    /// Of the batch: where the model batches, the first dimension is the sum over its requests.
    pub shape: Vec<i64>,
    pub data: Bytes,
}

/// Joins the inputs of `requests` along the first dimension, in the order of the first request.
///
/// The inputs of a single request are passed on as they are, without a copy, unless their address
/// is not a multiple of their element's size; those of several are copied once. Requests of one batch must agree in everything but their first dimension.
pub fn gather(requests: &[Request]) -> Result<Vec<GatheredInput>> {
    let Some((first, rest)) = requests.split_first() else { return Ok(Vec::new()) };
    first
        .inputs
        .iter()
        .map(|input| {
            let mut gathered = GatheredInput {
                name: input.name.clone(),
                datatype: input.datatype,
                shape: input.shape.clone(),
                data: Bytes::new(),
            };
            if rest.is_empty() {
                gathered.data = aligned(input.data.contiguous(), input.datatype);
                return Ok(gathered);
            }
            let mut data = BytesMut::new();
            append(&mut data, first, &input.name)?;
            for request in rest {
                let dims = append(&mut data, request, &input.name)?;
                // Only ragged inputs get here with shapes that differ in more than the batch.
                if dims.get(1..) != input.shape.get(1..) {
                    return Err(Error::unsupported(format!(
                        "input '{}' has another shape in each request of a batch, which this \
                         backend cannot join",
                        input.name
                    )));
                }
                gathered.shape[0] += dims[0];
            }
            gathered.data = data.freeze();
            Ok(gathered)
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

/// Small tensors lie wherever their request put them; frameworks want them aligned.
fn aligned(data: Bytes, datatype: DataType) -> Bytes {
    let size = datatype.byte_size().unwrap_or(1);
    if (data.as_ptr() as usize).is_multiple_of(size) { data } else { Bytes::copy_from_slice(&data) }
}
