//! Elements of a `TensorProto`, from whichever of its fields holds them, and back as raw bytes.

use bytes::Bytes;

use super::proto::{DataLocation, StringStringEntryProto, TensorProto};
use crate::{DataType, Element, Tensor, element_count};

/// The tensor that a message holds; external data are not looked for.
pub(crate) fn tensor_from_proto(proto: &TensorProto) -> Result<Tensor, String> {
    if proto.data_location() == DataLocation::External {
        return Err(
            "its elements lie in another file, which only an initializer's may (hint: save the model with its weights inside)".into()
        );
    }
    let (dtype, dims) = type_and_dims(proto)?;
    let raw = match &proto.raw_data {
        Some(raw) if dtype != DataType::String && (!raw.is_empty() || element_count(&dims) == Some(0)) => raw.clone(),
        _ => match typed_field(proto, dtype) {
            Field::Raw(raw) => raw,
            Field::Strings(strings) => return Tensor::from_strings(dims, strings).map_err(|e| e.to_string()),
        },
    };
    Tensor::from_raw(dtype, dims, raw).map_err(|e| e.to_string())
}

/// Type and dimensions, checked.
pub(super) fn type_and_dims(proto: &TensorProto) -> Result<(DataType, Vec<usize>), String> {
    if proto.segment.is_some() {
        return Err("it is stored in segments, which nothing reads".into());
    }
    let code = proto.data_type();
    let dtype = DataType::from_onnx_code(code).ok_or_else(|| format!("element type {code} is none of ONNX IR 13"))?;
    Ok((dtype, dims(&proto.dims)?))
}

/// Dimensions of elements that exist: none is negative, and their product fits.
pub(super) fn dims(dims: &[i64]) -> Result<Vec<usize>, String> {
    let sizes: Option<Vec<usize>> = dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    sizes
        .filter(|sizes| element_count(sizes).is_some())
        .ok_or_else(|| format!("its dimensions are {dims:?}, of which there are no elements"))
}

enum Field {
    Raw(Bytes),
    Strings(Vec<Bytes>),
}

/// What the list that `dtype` belongs to holds, narrowed to its width: 8 and 16 bits, and octets of packed elements,
/// stand one an `int32`; 32 unsigned bits stand one a `uint64`; complex numbers are two floats.
fn typed_field(proto: &TensorProto, dtype: DataType) -> Field {
    Field::Raw(match dtype {
        DataType::Float | DataType::Complex64 => octets(proto.float_data.clone()),
        DataType::Double | DataType::Complex128 => octets(proto.double_data.clone()),
        DataType::Int64 => octets(proto.int64_data.clone()),
        DataType::Int32 => octets(proto.int32_data.clone()),
        DataType::Uint64 => octets(proto.uint64_data.clone()),
        DataType::Uint32 => octets(proto.uint64_data.iter().map(|v| *v as u32).collect()),
        DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16 => {
            octets(proto.int32_data.iter().map(|v| *v as u16).collect())
        }
        DataType::Int8
        | DataType::Uint8
        | DataType::Bool
        | DataType::Float8E4M3Fn
        | DataType::Float8E4M3Fnuz
        | DataType::Float8E5M2
        | DataType::Float8E5M2Fnuz
        | DataType::Float8E8M0
        | DataType::Float4E2M1
        | DataType::Uint4
        | DataType::Int4
        | DataType::Uint2
        | DataType::Int2 => octets(proto.int32_data.iter().map(|v| *v as u8).collect()),
        DataType::String => return Field::Strings(proto.string_data.clone()),
    })
}

fn octets<T: Element>(values: Vec<T>) -> Bytes {
    Tensor::new([values.len()], values).raw().cloned().unwrap_or_default()
}

/// The message of a tensor without a name.
pub(crate) fn tensor_to_proto(tensor: &Tensor) -> TensorProto {
    TensorProto { raw_data: tensor.raw().cloned(), string_data: tensor.strings().unwrap_or_default().to_vec(), ..header(tensor) }
}

/// Type and dimensions without elements.
pub(super) fn header(tensor: &Tensor) -> TensorProto {
    TensorProto {
        dims: tensor.dims().iter().map(|d| *d as i64).collect(),
        data_type: Some(tensor.dtype().onnx_code()),
        ..TensorProto::default()
    }
}

/// The value of an entry called `key`.
pub(super) fn entry<'a>(entries: &'a [StringStringEntryProto], key: &str) -> Option<&'a str> {
    entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

/// An entry.
pub(super) fn new_entry(key: impl Into<String>, value: impl Into<String>) -> StringStringEntryProto {
    StringStringEntryProto { key: key.into(), value: value.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proto(dtype: DataType, dims: &[i64]) -> TensorProto {
        TensorProto { data_type: Some(dtype.onnx_code()), dims: dims.into(), ..TensorProto::default() }
    }

    fn raw(proto: &TensorProto) -> Option<Vec<u8>> {
        tensor_from_proto(proto).ok().and_then(|t| t.raw().map(|r| r.to_vec()))
    }

    #[test]
    fn typed_fields_become_octets() {
        let float = TensorProto { float_data: vec![1.0, -2.0], ..proto(DataType::Float, &[2]) };
        assert_eq!(raw(&float), Some(vec![0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]));
        let half = TensorProto { int32_data: vec![0x3c00], ..proto(DataType::Float16, &[]) };
        assert_eq!(raw(&half), Some(vec![0, 0x3c]));
        let int8 = TensorProto { int32_data: vec![-1, 127], ..proto(DataType::Int8, &[2]) };
        assert_eq!(raw(&int8), Some(vec![0xff, 0x7f]));
        let int4 = TensorProto { int32_data: vec![0x21, 0x03], ..proto(DataType::Int4, &[3]) };
        assert_eq!(raw(&int4), Some(vec![0x21, 0x03]));
        let uint32 = TensorProto { uint64_data: vec![u64::from(u32::MAX)], ..proto(DataType::Uint32, &[1]) };
        assert_eq!(raw(&uint32), Some(vec![0xff; 4]));
        let complex = TensorProto { float_data: vec![1.0, 0.0], ..proto(DataType::Complex64, &[1]) };
        assert_eq!(raw(&complex).map(|r| r.len()), Some(8));
        let text = TensorProto { string_data: vec![Bytes::from_static(b"a"), Bytes::new()], ..proto(DataType::String, &[2]) };
        assert_eq!(tensor_from_proto(&text).ok().and_then(|t| t.strings().map(<[_]>::len)), Some(2));
    }

    #[test]
    fn an_empty_tensor_has_no_elements_in_either_form() {
        assert_eq!(raw(&TensorProto { raw_data: Some(Bytes::new()), ..proto(DataType::Int64, &[0]) }), Some(vec![]));
        assert_eq!(raw(&proto(DataType::Int64, &[0])), Some(vec![]));
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let values = |dims: &[i64]| TensorProto { float_data: vec![1.0; 4], ..proto(DataType::Float, dims) };
        assert!(tensor_from_proto(&values(&[2, 2])).is_ok());
        for dims in [&[5][..], &[-4], &[-2, -2], &[i64::MAX, i64::MAX], &[0], &[]] {
            assert!(tensor_from_proto(&values(dims)).is_err(), "{dims:?}");
        }
        assert!(tensor_from_proto(&TensorProto { data_type: Some(99), ..values(&[4]) }).is_err());
        assert!(tensor_from_proto(&TensorProto { data_location: Some(1), ..values(&[4]) }).is_err());
    }

    #[test]
    fn messages_give_the_same_tensor_back() {
        for tensor in [
            Tensor::new([2, 2], vec![1.0f32, 2.0, 3.0, 4.0]),
            Tensor::scalar(7i64),
            Tensor::from_bools([3], &[true, false, true]),
            Tensor::new([0, 4], Vec::<f32>::new()),
        ] {
            assert_eq!(tensor_from_proto(&tensor_to_proto(&tensor)).as_ref(), Ok(&tensor));
        }
    }
}
