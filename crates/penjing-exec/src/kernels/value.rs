//! What flows along an edge of the graph: a tensor of floats, integers or booleans, or of codes that stand for numbers.

use std::collections::BTreeMap;

use burn_backend::tensor::{BoolTensor, Device, IntTensor};
use burn_backend::{BoolDType, BoolStore, Bytes, DType, Shape, TensorData, TensorMetadata, read_sync};
use penjing_graph::{DataType, Tensor, small_float};

use super::device::{self, Span};
use super::{Float, Kernels};

/// A tensor of run-time type and rank on the device.
#[derive(Debug)]
pub(crate) enum Value<B: Kernels> {
    Float(Float<B>),
    Int(IntTensor<B>),
    Bool(BoolTensor<B>),
    /// Elements of a type that the device does not have, one code of 8 bits each: narrow integers as their number, small floats
    /// as their bits.
    Codes(IntTensor<B>, DataType),
}

impl<B: Kernels> Clone for Value<B> {
    fn clone(&self) -> Self {
        match self {
            Value::Float(t) => Value::Float(t.clone()),
            Value::Int(t) => Value::Int(t.clone()),
            Value::Bool(t) => Value::Bool(t.clone()),
            Value::Codes(t, dtype) => Value::Codes(t.clone(), *dtype),
        }
    }
}

impl<B: Kernels> From<Float<B>> for Value<B> {
    fn from(t: Float<B>) -> Self {
        Value::Float(t)
    }
}

/// The device's type for an ONNX type; `None` for strings, complex numbers and packed or 8-bit floats.
pub(crate) fn device_type(dtype: DataType) -> Option<DType> {
    Some(match dtype {
        DataType::Float => DType::F32,
        DataType::Double => DType::F64,
        DataType::Float16 => DType::F16,
        DataType::Bfloat16 => DType::BF16,
        DataType::Int64 => DType::I64,
        DataType::Int32 => DType::I32,
        DataType::Int16 => DType::I16,
        DataType::Int8 => DType::I8,
        DataType::Uint64 => DType::U64,
        DataType::Uint32 => DType::U32,
        DataType::Uint16 => DType::U16,
        DataType::Uint8 => DType::U8,
        DataType::Bool => DType::Bool(BoolStore::Native),
        DataType::String
        | DataType::Complex64
        | DataType::Complex128
        | DataType::Float8E4M3Fn
        | DataType::Float8E4M3Fnuz
        | DataType::Float8E5M2
        | DataType::Float8E5M2Fnuz
        | DataType::Uint4
        | DataType::Int4
        | DataType::Float4E2M1
        | DataType::Float8E8M0
        | DataType::Uint2
        | DataType::Int2 => return None,
    })
}

/// The device's type for codes of an ONNX type that the device does not have.
pub(crate) fn code_type(dtype: DataType) -> Option<DType> {
    match dtype {
        DataType::Int4 | DataType::Int2 => Some(DType::I8),
        DataType::Uint4
        | DataType::Uint2
        | DataType::Float4E2M1
        | DataType::Float8E4M3Fn
        | DataType::Float8E4M3Fnuz
        | DataType::Float8E5M2
        | DataType::Float8E5M2Fnuz
        | DataType::Float8E8M0 => Some(DType::U8),
        _ => None,
    }
}

fn onnx_type(dtype: DType) -> DataType {
    match dtype {
        DType::F64 => DataType::Double,
        DType::F32 | DType::Flex32 | DType::QFloat(_) => DataType::Float,
        DType::F16 => DataType::Float16,
        DType::BF16 => DataType::Bfloat16,
        DType::I64 => DataType::Int64,
        DType::I32 => DataType::Int32,
        DType::I16 => DataType::Int16,
        DType::I8 => DataType::Int8,
        DType::U64 => DataType::Uint64,
        DType::U32 => DataType::Uint32,
        DType::U16 => DataType::Uint16,
        DType::U8 => DataType::Uint8,
        DType::Bool(_) => DataType::Bool,
    }
}

/// Applies a function to whatever kind of tensor it is; each kind has its own name of the operation.
macro_rules! each_kind {
    ($value:expr, $t:ident => $float:expr, $int:expr, $bool:expr) => {
        match $value {
            Value::Float(Float($t)) => Value::Float(Float($float)),
            Value::Int($t) => Value::Int($int),
            Value::Bool($t) => Value::Bool($bool),
            Value::Codes($t, dtype) => Value::Codes($int, dtype),
        }
    };
}

impl<B: Kernels> Value<B> {
    /// A copy on the device; `None` for strings and complex numbers.
    pub(crate) fn from_tensor(tensor: &Tensor, device: &Device<B>) -> Option<Self> {
        if let Some(dtype) = code_type(tensor.dtype()) {
            let codes = Bytes::from_bytes_vec(tensor.codes()?.into_owned());
            let data = TensorData::from_bytes(codes, Shape::from(tensor.dims().to_vec()), dtype);
            return Some(Value::Codes(B::int_from_data(data, device), tensor.dtype()));
        }
        let dtype = device_type(tensor.dtype())?;
        let bytes = match dtype {
            // One octet of a file's boolean may be any non-zero number.
            DType::Bool(_) => tensor.raw()?.iter().map(|b| u8::from(*b != 0)).collect::<Vec<u8>>(),
            _ => tensor.raw()?.to_vec(),
        };
        let data = TensorData::from_bytes(Bytes::from_bytes_vec(bytes), Shape::from(tensor.dims().to_vec()), dtype);
        Some(if dtype.is_float() {
            Value::Float(Float(B::float_from_data(data, device)))
        } else if dtype.is_bool() {
            Value::Bool(B::bool_from_data(data, device))
        } else {
            Value::Int(B::int_from_data(data, device))
        })
    }

    /// A copy on the host.
    pub(crate) fn into_tensor(self) -> Tensor {
        let coded = match &self {
            Value::Codes(_, dtype) => Some(*dtype),
            Value::Float(_) | Value::Int(_) | Value::Bool(_) => None,
        };
        let data = match self {
            Value::Float(Float(t)) => read_sync(B::float_into_data(t)),
            Value::Int(t) | Value::Codes(t, _) => read_sync(B::int_into_data(t)),
            Value::Bool(t) => read_sync(B::bool_into_data(t)),
        };
        let (bytes, shape, dtype) = data.expect("the device answers").into_parts();
        let tensor = match coded {
            Some(dtype) => Tensor::from_codes(dtype, shape.to_vec(), &bytes),
            None => Tensor::from_raw(onnx_type(dtype), shape.to_vec(), bytes::Bytes::copy_from_slice(&bytes)),
        };
        tensor.expect("the device gives as many elements as the shape says")
    }

    /// The numbers that codes stand for; anything else as it is.
    pub(crate) fn decoded(self) -> Self {
        let Value::Codes(codes, dtype) = self else { return self };
        if dtype.integer_range().is_some() {
            return Value::Int(codes);
        }
        let device = codes.device();
        let tensor = Value::<B>::Codes(codes, dtype).into_tensor();
        let number = |code: &u8| small_float::decode(dtype, *code).unwrap_or(f32::NAN);
        let numbers: Vec<f32> = tensor.codes().iter().flat_map(|codes| codes.iter().map(number)).collect();
        Value::Float(Float(B::float_from_data(TensorData::new(numbers, Shape::from(tensor.dims().to_vec())), &device)))
    }

    /// Integers from the host.
    pub(crate) fn ints(values: Vec<i64>, dims: &[usize], device: &Device<B>) -> Self {
        Value::Int(index::<B>(values, dims, device))
    }

    pub(crate) fn dtype(&self) -> DataType {
        match self {
            Value::Float(t) => onnx_type(t.0.dtype()),
            Value::Int(t) => onnx_type(t.dtype()),
            Value::Bool(t) => onnx_type(t.dtype()),
            Value::Codes(_, dtype) => *dtype,
        }
    }

    pub(crate) fn dims(&self) -> Vec<usize> {
        match self {
            Value::Float(t) => t.dims(),
            Value::Int(t) | Value::Codes(t, _) => t.shape().to_vec(),
            Value::Bool(t) => t.shape().to_vec(),
        }
    }

    pub(crate) fn reshape(self, dims: &[usize]) -> Self {
        let shape = Shape::from(dims.to_vec());
        each_kind!(self, t => B::float_reshape(t, shape), B::int_reshape(t, shape), B::bool_reshape(t, shape))
    }

    pub(crate) fn expand(self, dims: &[usize]) -> Self {
        let shape = Shape::from(dims.to_vec());
        let aligned = super::float::with_rank(&self.dims(), dims.len());
        each_kind!(self.reshape(&aligned), t => B::float_expand(t, shape), B::int_expand(t, shape), B::bool_expand(t, shape))
    }

    pub(crate) fn permute(self, perm: &[usize]) -> Self {
        each_kind!(self, t => B::float_permute(t, perm), B::int_permute(t, perm), B::bool_permute(t, perm))
    }

    pub(crate) fn window(self, spans: &[(usize, usize)]) -> Self {
        self.cut(&spans.iter().map(|(start, count)| Span { start: *start, count: *count, step: 1 }).collect::<Vec<_>>())
    }

    /// What stands at the positions of every axis.
    pub(crate) fn cut(self, spans: &[Span]) -> Self {
        let slices = device::slices(spans);
        match self {
            Value::Float(t) => Value::Float(t.cut(spans)),
            Value::Int(t) => Value::Int(B::int_slice(t, &slices)),
            Value::Bool(t) => Value::Bool(B::bool_slice(t, &slices)),
            Value::Codes(t, dtype) => Value::Codes(B::int_slice(t, &slices), dtype),
        }
    }

    pub(crate) fn select(self, axis: usize, index: IntTensor<B>) -> Self {
        each_kind!(self, t => B::float_select(t, axis, index), B::int_select(t, axis, index), B::bool_select(t, axis, index))
    }

    pub(crate) fn repeat(self, axis: usize, times: usize) -> Self {
        each_kind!(self, t => B::float_repeat_dim(t, axis, times), B::int_repeat_dim(t, axis, times), B::bool_repeat_dim(t, axis, times))
    }

    /// Joins values of one kind; `None` where kinds differ.
    pub(crate) fn concat(parts: Vec<Self>, axis: usize) -> Option<Self> {
        let (mut floats, mut ints, mut bools, mut codes) = (vec![], vec![], vec![], BTreeMap::<DataType, Vec<_>>::new());
        for part in parts {
            match part {
                Value::Float(t) => floats.push(t),
                Value::Int(t) => ints.push(t),
                Value::Bool(t) => bools.push(t),
                Value::Codes(t, dtype) => codes.entry(dtype).or_default().push(t),
            }
        }
        match (floats.is_empty(), ints.is_empty(), bools.is_empty(), codes.len()) {
            (false, true, true, 0) => Some(Value::Float(Float::concat(floats, axis))),
            (true, false, true, 0) => Some(Value::Int(B::int_cat(ints, axis))),
            (true, true, false, 0) => Some(Value::Bool(B::bool_cat(bools, axis))),
            (true, true, true, 1) => codes.pop_first().map(|(dtype, codes)| Value::Codes(B::int_cat(codes, axis), dtype)),
            _ => None,
        }
    }

    /// The same numbers in another type; booleans are 0 and 1.
    pub(crate) fn cast(self, to: DType) -> Self {
        let truth = BoolDType::Native;
        let value = self.decoded();
        if to.is_float() {
            let to = to.into();
            Value::Float(match value {
                Value::Float(t) => t.cast(to),
                Value::Int(t) | Value::Codes(t, _) => Float(B::int_into_float(t, to)),
                Value::Bool(t) => Float(B::bool_into_float(t, to)),
            })
        } else if to.is_bool() {
            Value::Bool(match value {
                Value::Float(t) => B::float_not_equal_elem(t.0, 0.0.into(), truth),
                Value::Int(t) | Value::Codes(t, _) => B::int_not_equal_elem(t, 0.into(), truth),
                Value::Bool(t) => t,
            })
        } else {
            let to = to.into();
            Value::Int(match value {
                Value::Float(t) => B::float_into_int(t.0, to),
                Value::Int(t) | Value::Codes(t, _) => B::int_cast(t, to),
                Value::Bool(t) => B::bool_into_int(t, to),
            })
        }
    }
}

/// Integers of the host on the device, e.g. positions to select.
pub(crate) fn index<B: Kernels>(values: Vec<i64>, dims: &[usize], device: &Device<B>) -> IntTensor<B> {
    B::int_from_data(TensorData::new(values, Shape::from(dims.to_vec())), device)
}
