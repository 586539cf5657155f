//! A named tensor.

use crate::{Buffer, DataType, Error, Result};

/// A tensor: name, datatype, shape and bytes in Triton's layout (row-major, little-endian).
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub datatype: DataType,
    pub shape: Vec<i64>,
    pub data: Buffer,
}

impl Tensor {
    /// Copies what lies in the memory of a GPU into the host's.
    pub fn bring_to_host(&mut self) -> Result<()> {
        let Buffer::Device(there) = &self.data else { return Ok(()) };
        let here = there.to_host().map_err(|error| {
            let (name, gpu) = (&self.name, there.place().device);
            Error::internal(format!(
                "tensor '{name}' cannot be read from GPU {gpu}: {}",
                error.message()
            ))
        })?;
        self.data = Buffer::One(here);
        Ok(())
    }
}

/// Product of `shape`; `None` if a dimension is negative or the product overflows.
pub fn element_count(shape: &[i64]) -> Option<usize> {
    shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(usize::try_from(dim).ok()?))
}

/// A shape as Triton prints it: `[1,-1,3]`.
pub fn display_shape(shape: &[i64]) -> String {
    let dims: Vec<String> = shape.iter().map(i64::to_string).collect();
    format!("[{}]", dims.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn element_counts() {
        assert_eq!(element_count(&[]), Some(1));
        assert_eq!(element_count(&[2, 0, 3]), Some(0));
        assert_eq!(element_count(&[2, -1]), None);
        assert_eq!(element_count(&[i64::MAX, 3]), None);
        assert_eq!(display_shape(&[1, -1, 3]), "[1,-1,3]");
    }
}
