//! Sums over the elements of tensors of any numeric type.

use half::{bf16, f16};
use nereid_inference::{DataType, Error, Result, Tensor};

/// A sum: whole numbers wrap around, as they do in the type of their tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Total {
    Whole(i64),
    Real(f64),
}

impl Total {
    /// Of all elements of `tensor`.
    pub(crate) fn of(tensor: &Tensor) -> Result<Self> {
        let Some(size) = tensor.datatype.byte_size() else {
            return Err(Error::unsupported(format!("input '{}' is not numeric", tensor.name)));
        };
        let data = tensor.data.contiguous();
        let elements = data.chunks_exact(size).map(|bytes| Self::read(tensor.datatype, bytes));
        Ok(elements.reduce(Self::plus).unwrap_or(Self::Whole(0)))
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Self::Whole(a.wrapping_add(b)),
            (a, b) => Self::Real(a.real() + b.real()),
        }
    }

    pub(crate) fn is_zero(self) -> bool {
        self.real() == 0.0
    }

    /// Its lower bits, where it does not fit.
    pub(crate) fn whole(self) -> i64 {
        match self {
            Self::Whole(number) => number,
            Self::Real(number) => number as i64,
        }
    }

    fn real(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Real(number) => number,
        }
    }

    fn read(datatype: DataType, bytes: &[u8]) -> Self {
        let mut low = [0; 8];
        low[..bytes.len()].copy_from_slice(bytes);
        let bits = i64::from_le_bytes(low);
        match datatype {
            DataType::Fp64 => Self::Real(f64::from_bits(bits as u64)),
            DataType::Fp32 => Self::Real(f32::from_bits(bits as u32).into()),
            DataType::Fp16 => Self::Real(f16::from_bits(bits as u16).into()),
            DataType::Bf16 => Self::Real(bf16::from_bits(bits as u16).into()),
            DataType::Int8 => Self::Whole((bits as i8).into()),
            DataType::Int16 => Self::Whole((bits as i16).into()),
            DataType::Int32 => Self::Whole((bits as i32).into()),
            _ => Self::Whole(bits),
        }
    }

    /// A tensor in which every element is this number.
    pub(crate) fn fill(self, name: &str, like: &Tensor) -> Tensor {
        let (element, size) = self.write(like.datatype);
        let count = like.data.len() / size;
        Tensor {
            name: name.to_owned(),
            datatype: like.datatype,
            shape: like.shape.clone(),
            data: element[..size].repeat(count).into(),
        }
    }

    fn write(self, datatype: DataType) -> ([u8; 8], usize) {
        let bits = match datatype {
            DataType::Fp64 => self.real().to_bits(),
            DataType::Fp32 => (self.real() as f32).to_bits().into(),
            DataType::Fp16 => f16::from_f64(self.real()).to_bits().into(),
            DataType::Bf16 => bf16::from_f64(self.real()).to_bits().into(),
            _ => self.whole() as u64,
        };
        (bits.to_le_bytes(), datatype.byte_size().unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(datatype: DataType, data: Vec<u8>) -> Tensor {
        let size = datatype.byte_size().unwrap();
        let shape = vec![1, (data.len() / size) as i64];
        Tensor { name: "IN".into(), datatype, shape, data: data.into() }
    }

    #[test]
    fn sums_go_there_and_back_in_every_type() {
        for datatype in DataType::ALL.into_iter().filter(|datatype| datatype.byte_size().is_some())
        {
            let like = tensor(datatype, vec![0; 3 * datatype.byte_size().unwrap()]);
            let threes = Total::Whole(3).fill("OUT", &like);
            assert_eq!(threes.shape, like.shape);
            assert_eq!(Total::of(&threes).unwrap().whole(), 9, "{datatype}");
        }
    }

    #[test]
    fn negative_numbers_keep_their_sign() {
        let minus = tensor(DataType::Int16, (-2i16).to_le_bytes().to_vec());
        assert_eq!(Total::of(&minus).unwrap(), Total::Whole(-2));
        let half = tensor(DataType::Fp32, (-0.5f32).to_le_bytes().repeat(2));
        assert_eq!(Total::of(&half).unwrap(), Total::Real(-1.0));
    }
}
