//! From the one output of a batch back to the answers of its requests.

use nereid_inference::{
    Buffer, BytesElements, DataType, Error, Request, Response, Result, Tensor, display_shape,
    element_count,
};

use crate::Batch;

/// Answers every request of `batch` from the outputs of the whole batch, which are cut along their
/// first dimension, or into pieces of the shapes that `special` names.
pub(crate) fn scatter(
    mut batch: Batch,
    outputs: Vec<Tensor>,
    special: impl Fn(&str, &[Request]) -> Option<Result<Vec<Vec<i64>>>>,
) {
    let requests = std::mem::take(&mut batch.requests);
    let cut = |output: Tensor| match special(&output.name, &requests) {
        Some(shapes) => cut_by_shape(&output, shapes?),
        None if requests.len() == 1 => Ok(vec![output]),
        None => cut_by_rows(&output, &requests),
    };
    match outputs.into_iter().map(cut).collect::<Result<_>>() {
        Ok(columns) => {
            let answers = transpose(columns, requests.len());
            requests
                .into_iter()
                .zip(answers)
                .for_each(|(request, outputs)| answer(request, outputs));
        }
        Err(error) => {
            for request in requests {
                request.responder.answer(Err(error.clone()));
            }
        }
    }
}

/// Answers a request with what of `outputs` it asked for.
pub(crate) fn answer(request: Request, mut outputs: Vec<Tensor>) {
    outputs.retain(|output| request.wants(&output.name));
    request.responder.answer(Ok(Response::new(outputs)));
}

/// Outputs by output and request, to outputs by request.
fn transpose(columns: Vec<Vec<Tensor>>, requests: usize) -> Vec<Vec<Tensor>> {
    let mut rows: Vec<Vec<Tensor>> = Vec::new();
    rows.resize_with(requests, || Vec::with_capacity(columns.len()));
    for column in columns {
        for (row, tensor) in rows.iter_mut().zip(column) {
            row.push(tensor);
        }
    }
    rows
}

/// Cuts `output` along its first dimension by the batch sizes of the requests.
fn cut_by_rows(output: &Tensor, requests: &[Request]) -> Result<Vec<Tensor>> {
    let total: usize = requests.iter().map(|request| request.batch_size).sum();
    if output.shape.first().copied() != i64::try_from(total).ok() {
        return Err(Error::internal(format!(
            "output '{}' has shape {}, expected a first dimension of {total}",
            output.name,
            display_shape(&output.shape)
        )));
    }
    let shapes = requests.iter().map(|request| {
        let mut shape = output.shape.clone();
        shape[0] = request.batch_size as i64;
        shape
    });
    cut_by_shape(output, shapes.collect())
}

/// Cuts `output` into pieces of `shapes`, which must make up the whole of it.
fn cut_by_shape(output: &Tensor, shapes: Vec<Vec<i64>>) -> Result<Vec<Tensor>> {
    let data = output.data.contiguous();
    let misfit = || {
        Error::internal(format!(
            "output '{}' of shape {} cannot be cut into the answers of its batch",
            output.name,
            display_shape(&output.shape)
        ))
    };
    let mut start = 0;
    let mut pieces = Vec::with_capacity(shapes.len());
    for shape in shapes {
        let elements = element_count(&shape).ok_or_else(misfit)?;
        let len = length(&data[start..], output.datatype, elements).ok_or_else(misfit)?;
        pieces.push(Tensor {
            name: output.name.clone(),
            datatype: output.datatype,
            shape,
            data: Buffer::One(data.slice(start..start + len)),
        });
        start += len;
    }
    if start == data.len() { Ok(pieces) } else { Err(misfit()) }
}

/// Bytes of the first elements in `data`; `None` if there are not so many.
fn length(data: &[u8], datatype: DataType, elements: usize) -> Option<usize> {
    if let Some(size) = datatype.byte_size() {
        return elements.checked_mul(size).filter(|&len| len <= data.len());
    }
    let mut strings = BytesElements::new(data);
    (0..elements).try_fold(0, |len, _| Some(len + 4 + strings.next()?.ok()?.len()))
}
