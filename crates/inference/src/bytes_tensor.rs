//! The layout of `BYTES` tensors: every element is its length (`u32`, little-endian) and its bytes.

/// Appends one element to the bytes of a `BYTES` tensor.
///
/// # Panics
/// If the element is longer than `u32::MAX`, which no element of a 2 GiB request can be.
pub fn push_bytes_element(tensor: &mut Vec<u8>, element: &[u8]) {
    let length = u32::try_from(element.len()).expect("elements are shorter than 4 GiB");
    tensor.extend_from_slice(&length.to_le_bytes());
    tensor.extend_from_slice(element);
}

/// Walks the elements of a `BYTES` tensor; a truncated tail ends the walk with an `Err`.
#[derive(Clone, Debug)]
pub struct BytesElements<'a> {
    rest: &'a [u8],
}

/// A `BYTES` tensor ended in the middle of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncated {
    /// This many bytes are left where a 4-byte length should be.
    Length(usize),
    /// The element should be `expected` bytes long, `left` are there.
    Element { expected: usize, left: usize },
}

impl<'a> BytesElements<'a> {
    pub fn new(tensor: &'a [u8]) -> Self {
        Self { rest: tensor }
    }
}

impl<'a> Iterator for BytesElements<'a> {
    type Item = Result<&'a [u8], Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return None;
        }
        let Some((length, rest)) = rest.split_first_chunk::<4>() else {
            return Some(Err(Truncated::Length(rest.len())));
        };
        let expected = u32::from_le_bytes(*length) as usize;
        if rest.len() < expected {
            return Some(Err(Truncated::Element { expected, left: rest.len() }));
        }
        let (element, rest) = rest.split_at(expected);
        self.rest = rest;
        Some(Ok(element))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_as_pushed() {
        let mut tensor = Vec::new();
        for element in [&b"ab"[..], b"", b"xyz"] {
            push_bytes_element(&mut tensor, element);
        }
        let elements: Result<Vec<_>, _> = BytesElements::new(&tensor).collect();
        assert_eq!(elements, Ok(vec![&b"ab"[..], b"", b"xyz"]));
    }

    #[test]
    fn a_cut_tensor_ends_with_what_is_missing() {
        let cut_length = BytesElements::new(&[1, 0]).last();
        assert_eq!(cut_length, Some(Err(Truncated::Length(2))));
        let cut_element = BytesElements::new(&[5, 0, 0, 0, b'a']).last();
        assert_eq!(cut_element, Some(Err(Truncated::Element { expected: 5, left: 1 })));
    }
}
