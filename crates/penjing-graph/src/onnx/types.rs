//! Types of values: `ValueInfoProto` read and written.

use bytes::Bytes;
use prost::Message;

use super::proto::{Dimension, DimensionValue, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
use crate::{DataType, Dim, Value};

/// Element type and dimensions that a message declares; nothing for what is no dense tensor.
pub(crate) fn declared_type(info: &ValueInfoProto) -> (Option<DataType>, Option<Vec<Dim>>) {
    let Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), .. }) = &info.r#type else { return (None, None) };
    let shape = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(dim).collect());
    (DataType::from_onnx_code(tensor.elem_type()), shape)
}

/// Some exporters write −1 for a dimension that they do not know.
fn dim(dimension: &Dimension) -> Dim {
    match &dimension.value {
        Some(DimensionValue::DimValue(n)) => usize::try_from(*n).map_or(Dim::Unknown, Dim::Fixed),
        Some(DimensionValue::DimParam(name)) => Dim::symbol(name),
        None => Dim::Unknown,
    }
}

/// The message of a value: the file's own while what it says is still true.
pub(super) fn value_info(value: &Value) -> Bytes {
    let declared = value.declared.as_ref().and_then(|bytes| Some((bytes, ValueInfoProto::decode(bytes.clone()).ok()?)));
    match declared {
        Some((bytes, info)) if still_true(&info, value) => bytes.clone(),
        Some((_, info)) => encode(ValueInfoProto { r#type: Some(tensor_type(value)), ..info }),
        None if value.dtype.is_none() => encode(ValueInfoProto { name: value.name.clone(), ..ValueInfoProto::default() }),
        None => encode(ValueInfoProto { name: value.name.clone(), r#type: Some(tensor_type(value)), ..ValueInfoProto::default() }),
    }
}

fn encode(info: ValueInfoProto) -> Bytes {
    info.encode_to_vec().into()
}

fn still_true(info: &ValueInfoProto, value: &Value) -> bool {
    let (dtype, shape) = declared_type(info);
    let type_holds = dtype.is_none() || value.dtype.is_none() || dtype == value.dtype;
    let shape_holds = match (&shape, &value.shape) {
        (Some(declared), Some(known)) => declared.len() == known.len() && declared.iter().zip(known).all(|(a, b)| a.compatible(b)),
        _ => true,
    };
    type_holds && shape_holds
}

fn tensor_type(value: &Value) -> TypeProto {
    let dimension = |dim: &Dim| Dimension {
        value: match dim {
            Dim::Fixed(n) => Some(DimensionValue::DimValue(*n as i64)),
            Dim::Symbolic { .. } => Some(DimensionValue::DimParam(dim.to_string())),
            Dim::Unknown => None,
        },
        denotation: String::new(),
    };
    let tensor = type_proto::Tensor {
        elem_type: value.dtype.map(DataType::onnx_code),
        shape: value.shape.as_ref().map(|shape| TensorShapeProto { dim: shape.iter().map(dimension).collect() }),
    };
    TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(shape: Vec<Dim>) -> Value {
        let (name, dtype) = ("x".into(), Some(DataType::Float));
        Value { name, dtype, shape: Some(shape), tensor: None, partial: None, producer: None, declared: None }
    }

    fn read(bytes: &Bytes) -> Result<ValueInfoProto, prost::DecodeError> {
        ValueInfoProto::decode(bytes.clone())
    }

    #[test]
    fn dimensions_survive_in_each_form() -> Result<(), prost::DecodeError> {
        let shape = vec![Dim::symbol("N"), Dim::Fixed(3), Dim::Unknown];
        let info = read(&value_info(&value(shape.clone())))?;
        assert_eq!(declared_type(&info), (Some(DataType::Float), Some(shape)));
        Ok(())
    }

    #[test]
    fn a_declaration_is_kept_until_it_is_wrong() -> Result<(), prost::DecodeError> {
        let info = ValueInfoProto { doc_string: "an image".into(), ..read(&value_info(&value(vec![Dim::symbol("N"), Dim::Fixed(3)])))? };
        let declared = encode(info);
        let now = |shape| value_info(&Value { declared: Some(declared.clone()), ..value(shape) });
        assert_eq!(now(vec![Dim::symbol("N"), Dim::Fixed(3)]), declared);
        assert_eq!(now(vec![Dim::Fixed(1), Dim::Unknown]), declared);
        let cut = read(&now(vec![Dim::symbol("N"), Dim::Fixed(2)]))?;
        assert_eq!(cut.doc_string, "an image");
        assert_eq!(declared_type(&cut).1, Some(vec![Dim::symbol("N"), Dim::Fixed(2)]));
        Ok(())
    }

    #[test]
    fn a_negative_dimension_is_an_unknown_one() {
        assert_eq!(dim(&Dimension { value: Some(DimensionValue::DimValue(-1)), denotation: String::new() }), Dim::Unknown);
    }
}
