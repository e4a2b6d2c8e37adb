//! Tensors on their way into ONNX Runtime and back.

use bytes::Bytes;
use ort::value::{DynValue, PrimitiveTensorElementType, TensorElementType, Value};
use penjing_graph::{DataType, Element, Tensor};

use super::AnyError;

/// Whether a type of floats cannot be handed over, while `float32` holds all of its numbers.
pub(super) fn widened(dtype: DataType) -> bool {
    match dtype {
        DataType::Float16
        | DataType::Bfloat16
        | DataType::Float8E4M3Fn
        | DataType::Float8E4M3Fnuz
        | DataType::Float8E5M2
        | DataType::Float8E5M2Fnuz => true,
        DataType::Float
        | DataType::Double
        | DataType::Uint8
        | DataType::Int8
        | DataType::Uint16
        | DataType::Int16
        | DataType::Uint32
        | DataType::Int32
        | DataType::Uint64
        | DataType::Int64
        | DataType::Bool
        | DataType::String
        | DataType::Complex64
        | DataType::Complex128
        | DataType::Uint4
        | DataType::Int4
        | DataType::Uint2
        | DataType::Int2
        | DataType::Float4E2M1
        | DataType::Float8E8M0 => false,
    }
}

pub(super) fn to_value(tensor: &Tensor) -> Result<DynValue, AnyError> {
    fn typed<T: Element + PrimitiveTensorElementType + std::fmt::Debug + 'static>(tensor: &Tensor) -> Result<DynValue, AnyError> {
        let values = tensor.values::<T>().ok_or("the tensor has another type")?.into_owned();
        Ok(Value::from_array((tensor.dims().to_vec(), values))?.into_dyn())
    }
    match tensor.dtype() {
        DataType::Float => typed::<f32>(tensor),
        DataType::Double => typed::<f64>(tensor),
        DataType::Int64 => typed::<i64>(tensor),
        DataType::Int32 => typed::<i32>(tensor),
        DataType::Int16 => typed::<i16>(tensor),
        DataType::Int8 => typed::<i8>(tensor),
        DataType::Uint64 => typed::<u64>(tensor),
        DataType::Uint32 => typed::<u32>(tensor),
        DataType::Uint16 => typed::<u16>(tensor),
        DataType::Uint8 => typed::<u8>(tensor),
        DataType::Bool => {
            let values: Vec<bool> = tensor.raw().ok_or("the tensor has another type")?.iter().map(|octet| *octet != 0).collect();
            Ok(Value::from_array((tensor.dims().to_vec(), values))?.into_dyn())
        }
        other => Err(format!("inputs of type {} cannot be given to ONNX Runtime yet", other.name()).into()),
    }
}

pub(super) fn from_value(value: &DynValue) -> Result<Tensor, AnyError> {
    fn dims(shape: &[i64]) -> Result<Vec<usize>, AnyError> {
        Ok(shape.iter().map(|d| usize::try_from(*d)).collect::<Result<_, _>>()?)
    }
    fn typed<T: Element + PrimitiveTensorElementType>(value: &DynValue) -> Result<Tensor, AnyError> {
        let (shape, values) = value.try_extract_tensor::<T>()?;
        Ok(Tensor::from_raw(T::DATA_TYPE, dims(shape)?, Bytes::copy_from_slice(bytemuck::cast_slice(values)))?)
    }
    match value.dtype().tensor_type() {
        Some(TensorElementType::Float32) => typed::<f32>(value),
        Some(TensorElementType::Float64) => typed::<f64>(value),
        Some(TensorElementType::Int64) => typed::<i64>(value),
        Some(TensorElementType::Int32) => typed::<i32>(value),
        Some(TensorElementType::Int16) => typed::<i16>(value),
        Some(TensorElementType::Int8) => typed::<i8>(value),
        Some(TensorElementType::Uint64) => typed::<u64>(value),
        Some(TensorElementType::Uint32) => typed::<u32>(value),
        Some(TensorElementType::Uint16) => typed::<u16>(value),
        Some(TensorElementType::Uint8) => typed::<u8>(value),
        Some(TensorElementType::Bool) => {
            let (shape, values) = value.try_extract_tensor::<bool>()?;
            Ok(Tensor::from_bools(dims(shape)?, values))
        }
        _ => Err(format!("outputs of type {:?} cannot be taken from ONNX Runtime yet", value.dtype()).into()),
    }
}
