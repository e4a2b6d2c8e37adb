//! The safetensors format: a JSON table of names, types, shapes and ranges, then the elements.

use std::error::Error;

use bytes::Bytes;
use safetensors::{Dtype, SafeTensors};

use super::StateDict;
use crate::{DataType, Tensor};

/// Every tensor of a file, sharing its bytes.
pub(super) fn from_safetensors(file: &Bytes) -> Result<StateDict, String> {
    let tensors = SafeTensors::deserialize(file).map_err(|e| match e.source() {
        Some(cause) => format!("the file is not intact: {cause}"),
        None => format!("the file is not intact: {e}"),
    })?;
    let mut state = StateDict::new();
    for (name, view) in tensors.iter() {
        let dtype = data_type(view.dtype()).ok_or_else(|| format!("tensor `{name}` has type {}, which ONNX has not", view.dtype()))?;
        let tensor = Tensor::from_raw(dtype, view.shape().to_vec(), file.slice_ref(view.data()));
        state.insert(name.to_string(), tensor.map_err(|e| format!("tensor `{name}`: {e}"))?);
    }
    Ok(state)
}

fn data_type(dtype: Dtype) -> Option<DataType> {
    Some(match dtype {
        Dtype::BOOL => DataType::Bool,
        Dtype::F4 => DataType::Float4E2M1,
        Dtype::U8 => DataType::Uint8,
        Dtype::I8 => DataType::Int8,
        Dtype::F8_E5M2 => DataType::Float8E5M2,
        Dtype::F8_E4M3 => DataType::Float8E4M3Fn,
        Dtype::F8_E8M0 => DataType::Float8E8M0,
        Dtype::F8_E4M3FNUZ => DataType::Float8E4M3Fnuz,
        Dtype::F8_E5M2FNUZ => DataType::Float8E5M2Fnuz,
        Dtype::I16 => DataType::Int16,
        Dtype::U16 => DataType::Uint16,
        Dtype::F16 => DataType::Float16,
        Dtype::BF16 => DataType::Bfloat16,
        Dtype::I32 => DataType::Int32,
        Dtype::U32 => DataType::Uint32,
        Dtype::F32 => DataType::Float,
        Dtype::C64 => DataType::Complex64,
        Dtype::F64 => DataType::Double,
        Dtype::I64 => DataType::Int64,
        Dtype::U64 => DataType::Uint64,
        // 6-bit floats; the enumeration is open.
        _ => return None,
    })
}
