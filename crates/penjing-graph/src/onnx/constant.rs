//! Weights in `Constant` nodes.

use super::elements::tensor_from_proto;
use super::proto::{AttributeProto, AttributeType, NodeProto};
use crate::Tensor;

/// The tensor that a `Constant` gives; `None` for any other node, and for a sparse one, which is kept as it is.
pub(super) fn tensor(node: &NodeProto) -> Result<Option<Tensor>, String> {
    let ("Constant", [output], [attribute]) = (node.op_type.as_str(), node.output.as_slice(), node.attribute.as_slice()) else {
        return Ok(None);
    };
    if output.is_empty() || !attribute.ref_attr_name.is_empty() {
        return Ok(None);
    }
    match (attribute.name.as_str(), attribute.r#type()) {
        ("value", AttributeType::Tensor) => tensor_of(attribute).map(Some),
        ("value_float", AttributeType::Float) => Ok(Some(Tensor::scalar(attribute.f()))),
        ("value_floats", AttributeType::Floats) => Ok(Some(Tensor::new([attribute.floats.len()], attribute.floats.clone()))),
        ("value_int", AttributeType::Int) => Ok(Some(Tensor::scalar(attribute.i()))),
        ("value_ints", AttributeType::Ints) => Ok(Some(Tensor::new([attribute.ints.len()], attribute.ints.clone()))),
        ("value_string", AttributeType::String) => {
            Tensor::from_strings(vec![], attribute.s.iter().cloned().collect()).map(Some).map_err(|e| e.to_string())
        }
        ("value_strings", AttributeType::Strings) => {
            let strings = attribute.strings.clone();
            Tensor::from_strings(vec![strings.len()], strings).map(Some).map_err(|e| e.to_string())
        }
        _ => Ok(None),
    }
}

fn tensor_of(attribute: &AttributeProto) -> Result<Tensor, String> {
    attribute.t.as_ref().ok_or_else(|| "attribute `value` holds no tensor".to_string()).and_then(tensor_from_proto)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn constant(name: &str, kind: AttributeType, value: AttributeProto) -> Result<Option<Tensor>, String> {
        let attribute = vec![AttributeProto { name: name.into(), r#type: Some(kind as i32), ..value }];
        tensor(&NodeProto { op_type: "Constant".into(), output: vec!["c".into()], attribute, ..NodeProto::default() })
    }

    #[test]
    fn each_form_gives_its_tensor() {
        let none = AttributeProto::default;
        assert_eq!(
            constant("value_float", AttributeType::Float, AttributeProto { f: Some(0.5), ..none() }),
            Ok(Some(Tensor::scalar(0.5f32)))
        );
        let ints = AttributeProto { ints: vec![1, -1], ..none() };
        assert_eq!(constant("value_ints", AttributeType::Ints, ints), Ok(Some(Tensor::new([2], vec![1i64, -1]))));
        let text = AttributeProto { s: Some(Bytes::from_static(b"hi")), ..none() };
        assert_eq!(constant("value_string", AttributeType::String, text).map(|t| t.map(|t| t.dims().len())), Ok(Some(0)));
        assert_eq!(constant("sparse_value", AttributeType::SparseTensor, none()), Ok(None));
        assert!(constant("value", AttributeType::Tensor, none()).is_err());
    }
}
