//! From the one output of a batch back to the answers of its requests.

use nereid_inference::{Buffer, BytesElements, DataType, Error, Response, Result, Tensor};

use crate::Batch;

/// Answers every request of `batch` from the outputs of the whole batch.
///
/// Where the batch holds several requests, each output is cut along its first dimension by the
/// requests' batch sizes; the pieces share its memory. Outputs that a request did not ask for are
/// left out.
pub fn scatter(mut batch: Batch, outputs: Vec<Tensor>) {
    batch.mark_computed();
    let requests: Vec<_> = batch.requests.drain(..).collect();
    let sizes: Vec<usize> = requests.iter().map(|request| request.batch_size).collect();
    let cut: Result<Vec<Vec<Tensor>>> = if requests.len() == 1 {
        Ok(vec![outputs])
    } else {
        outputs.into_iter().map(|output| cut(output, &sizes)).collect::<Result<_>>().map(transpose)
    };
    match cut {
        Ok(answers) => {
            for (request, mut outputs) in requests.into_iter().zip(answers) {
                outputs.retain(|output| request.wants(&output.name));
                request.responder.answer(Ok(Response::new(outputs)));
            }
        }
        Err(error) => {
            for request in requests {
                request.responder.answer(Err(error.clone()));
            }
        }
    }
}

/// Outputs by output and request, to outputs by request.
fn transpose(columns: Vec<Vec<Tensor>>) -> Vec<Vec<Tensor>> {
    let mut rows: Vec<Vec<Tensor>> = Vec::new();
    for column in columns {
        rows.resize_with(column.len(), Vec::new);
        for (row, tensor) in rows.iter_mut().zip(column) {
            row.push(tensor);
        }
    }
    rows
}

/// Cuts `output` along its first dimension into pieces of `sizes`.
fn cut(output: Tensor, sizes: &[usize]) -> Result<Vec<Tensor>> {
    let total: usize = sizes.iter().sum();
    if output.shape.first().copied() != i64::try_from(total).ok() {
        return Err(Error::internal(format!(
            "output '{}' has shape {}, expected a first dimension of {total}",
            output.name,
            nereid_inference::display_shape(&output.shape)
        )));
    }
    let data = output.data.contiguous();
    let ends = row_ends(&data, output.datatype, &output.shape)?;
    let mut start_row = 0;
    Ok(sizes
        .iter()
        .map(|&rows| {
            let range = ends[start_row]..ends[start_row + rows];
            start_row += rows;
            let mut shape = output.shape.clone();
            shape[0] = rows as i64;
            Tensor {
                name: output.name.clone(),
                datatype: output.datatype,
                shape,
                data: Buffer::One(data.slice(range)),
            }
        })
        .collect())
}

/// Where each row begins in `data`, and where the last one ends.
fn row_ends(data: &[u8], datatype: DataType, shape: &[i64]) -> Result<Vec<usize>> {
    let rows = shape[0] as usize;
    if datatype.byte_size().is_some() {
        let row = data.len() / rows.max(1);
        return Ok((0..=rows).map(|index| index * row).collect());
    }
    let per_row: usize = shape[1..].iter().map(|&dim| dim.max(0) as usize).product();
    let mut ends = vec![0];
    let mut position = 0;
    for (index, element) in BytesElements::new(data).enumerate() {
        let element = element.map_err(|_| Error::internal("output has a truncated string"))?;
        position += 4 + element.len();
        if (index + 1) % per_row.max(1) == 0 {
            ends.push(position);
        }
    }
    ends.resize(rows + 1, position);
    Ok(ends)
}
