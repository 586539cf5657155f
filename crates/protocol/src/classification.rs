//! The classification extension: instead of its numbers, the largest of them with their classes.

use nereid_inference::{
    Buffer, DataType, Error, Result, Tensor, element_count, push_bytes_element,
};

/// More elements than any classifier has.
const LARGEST: usize = 1_000_000;

/// An output as its `count` largest elements, largest first: strings `<value>:<class>[:<label>]`.
/// Each row is classified by itself where the model batches.
pub fn classify<'l>(
    output: &Tensor,
    count: usize,
    batches: bool,
    label: impl Fn(usize) -> Option<&'l str>,
) -> Result<Tensor> {
    let values = Values::of(output)?;
    let elements = element_count(&output.shape).unwrap_or_default();
    if elements > LARGEST {
        return Err(Error::invalid_arg("classification output tensor too large"));
    }
    let rows =
        if batches { output.shape.first().map_or(1, |&rows| rows.max(0) as usize) } else { 1 };
    let classes = elements / rows.max(1);
    let count = count.min(classes);
    let mut data = Vec::new();
    for row in 0..rows {
        let mut order: Vec<usize> = (0..classes).collect();
        let at = |class: usize| row * classes + class;
        // Stable: of equal values the first class comes first.
        order.sort_by(|&a, &b| values.compare(at(b), at(a)));
        for &class in &order[..count] {
            let mut text = format!("{}:{class}", values.text(at(class)));
            if let Some(label) = label(class) {
                text.push(':');
                text.push_str(label);
            }
            push_bytes_element(&mut data, text.as_bytes());
        }
    }
    let batch = batches.then_some(rows as i64);
    Ok(Tensor {
        name: output.name.clone(),
        datatype: DataType::Bytes,
        shape: batch.into_iter().chain([count as i64]).collect(),
        data: Buffer::from(data),
    })
}

/// The elements of an output, comparable among each other.
enum Values {
    Signed(Vec<i64>),
    Unsigned(Vec<u64>),
    Floats(Vec<f64>),
}

impl Values {
    fn of(output: &Tensor) -> Result<Self> {
        let data = output.data.contiguous();
        macro_rules! read {
            ($kind:ident, $type:ty, $wide:ty) => {{
                let (elements, _) = data.as_chunks();
                let wide = |bytes: &_| <$type>::from_le_bytes(*bytes) as $wide;
                Ok(Self::$kind(elements.iter().map(wide).collect()))
            }};
        }
        match output.datatype {
            DataType::Uint8 => read!(Unsigned, u8, u64),
            DataType::Uint16 => read!(Unsigned, u16, u64),
            DataType::Uint32 => read!(Unsigned, u32, u64),
            DataType::Uint64 => read!(Unsigned, u64, u64),
            DataType::Int8 => read!(Signed, i8, i64),
            DataType::Int16 => read!(Signed, i16, i64),
            DataType::Int32 => read!(Signed, i32, i64),
            DataType::Int64 => read!(Signed, i64, i64),
            DataType::Fp32 => read!(Floats, f32, f64),
            DataType::Fp64 => read!(Floats, f64, f64),
            other => Err(Error::invalid_arg(format!(
                "class result not available for output due to unsupported type '{other}'"
            ))),
        }
    }

    fn compare(&self, a: usize, b: usize) -> std::cmp::Ordering {
        match self {
            Self::Signed(values) => values[a].cmp(&values[b]),
            Self::Unsigned(values) => values[a].cmp(&values[b]),
            Self::Floats(values) => values[a].total_cmp(&values[b]),
        }
    }

    /// As C++ prints it with its default settings.
    fn text(&self, at: usize) -> String {
        match self {
            Self::Signed(values) => values[at].to_string(),
            Self::Unsigned(values) => values[at].to_string(),
            Self::Floats(values) => format!("{:.6}", values[at]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nereid_inference::BytesElements;

    fn texts(tensor: &Tensor) -> Vec<String> {
        let data = tensor.data.contiguous();
        let text = |element: Result<&[u8], _>| String::from_utf8(element.unwrap().to_vec());
        BytesElements::new(&data).map(|element| text(element).unwrap()).collect()
    }

    fn floats(shape: &[i64], values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let name = "OUT".to_owned();
        Tensor { name, datatype: DataType::Fp32, shape: shape.to_vec(), data: data.into() }
    }

    #[test]
    fn rows_are_classified_by_themselves() {
        let output = floats(&[2, 2], &[3., 1., 1., 2.]);
        let classes = classify(&output, 1, true, |class| (class == 1).then_some("one")).unwrap();
        assert_eq!((classes.datatype, &*classes.shape), (DataType::Bytes, &[2, 1][..]));
        assert_eq!(texts(&classes), ["3.000000:0", "2.000000:1:one"]);
        let all = classify(&output, 9, false, |_| None).unwrap();
        assert_eq!(all.shape, [4]);
        assert_eq!(texts(&all), ["3.000000:0", "2.000000:3", "1.000000:1", "1.000000:2"]);
    }

    #[test]
    fn numbers_only() {
        let strings = Tensor { datatype: DataType::Bytes, ..floats(&[1], &[0.]) };
        let error = classify(&strings, 1, false, |_| None).unwrap_err();
        assert!(error.message().ends_with("unsupported type 'BYTES'"), "{error}");
    }
}
