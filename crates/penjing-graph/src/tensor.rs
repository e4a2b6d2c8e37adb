//! Element types and tensors held as raw little-endian bytes, often a slice of a mapped file.

use std::borrow::Cow;

use bytes::Bytes;

use crate::GraphError;

/// Element type of a tensor; names and codes are those of `TensorProto.DataType` (ONNX IR 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataType {
    /// 32-bit IEEE float.
    Float,
    /// Unsigned 8-bit integer.
    Uint8,
    /// Signed 8-bit integer.
    Int8,
    /// Unsigned 16-bit integer.
    Uint16,
    /// Signed 16-bit integer.
    Int16,
    /// Signed 32-bit integer.
    Int32,
    /// Signed 64-bit integer.
    Int64,
    /// UTF-8 text, one string an element.
    String,
    /// One byte an element, 0 or 1.
    Bool,
    /// 16-bit IEEE float.
    Float16,
    /// 64-bit IEEE float.
    Double,
    /// Unsigned 32-bit integer.
    Uint32,
    /// Unsigned 64-bit integer.
    Uint64,
    /// Two 32-bit floats an element.
    Complex64,
    /// Two 64-bit floats an element.
    Complex128,
    /// Float with 8 exponent and 7 fraction bits.
    Bfloat16,
    /// 8-bit float, finite and NaN only.
    Float8E4M3Fn,
    /// 8-bit float, finite and NaN only, no negative zero.
    Float8E4M3Fnuz,
    /// 8-bit float with infinities.
    Float8E5M2,
    /// 8-bit float, finite and NaN only, no negative zero.
    Float8E5M2Fnuz,
    /// Unsigned 4-bit integer, two an octet, low half first.
    Uint4,
    /// Signed 4-bit integer, two an octet, low half first.
    Int4,
    /// 4-bit float, two an octet, low half first.
    Float4E2M1,
    /// 8-bit power of two.
    Float8E8M0,
    /// Unsigned 2-bit integer, four an octet, low bits first.
    Uint2,
    /// Signed 2-bit integer, four an octet, low bits first.
    Int2,
}

impl DataType {
    /// Every type with its ONNX code, name and width in bits (0: variable).
    const TABLE: &[(DataType, i32, &str, usize)] = &[
        (DataType::Float, 1, "float32", 32),
        (DataType::Uint8, 2, "uint8", 8),
        (DataType::Int8, 3, "int8", 8),
        (DataType::Uint16, 4, "uint16", 16),
        (DataType::Int16, 5, "int16", 16),
        (DataType::Int32, 6, "int32", 32),
        (DataType::Int64, 7, "int64", 64),
        (DataType::String, 8, "string", 0),
        (DataType::Bool, 9, "bool", 8),
        (DataType::Float16, 10, "float16", 16),
        (DataType::Double, 11, "float64", 64),
        (DataType::Uint32, 12, "uint32", 32),
        (DataType::Uint64, 13, "uint64", 64),
        (DataType::Complex64, 14, "complex64", 64),
        (DataType::Complex128, 15, "complex128", 128),
        (DataType::Bfloat16, 16, "bfloat16", 16),
        (DataType::Float8E4M3Fn, 17, "float8e4m3fn", 8),
        (DataType::Float8E4M3Fnuz, 18, "float8e4m3fnuz", 8),
        (DataType::Float8E5M2, 19, "float8e5m2", 8),
        (DataType::Float8E5M2Fnuz, 20, "float8e5m2fnuz", 8),
        (DataType::Uint4, 21, "uint4", 4),
        (DataType::Int4, 22, "int4", 4),
        (DataType::Float4E2M1, 23, "float4e2m1", 4),
        (DataType::Float8E8M0, 24, "float8e8m0", 8),
        (DataType::Uint2, 25, "uint2", 2),
        (DataType::Int2, 26, "int2", 2),
    ];

    fn row(self) -> &'static (DataType, i32, &'static str, usize) {
        &Self::TABLE[self as usize]
    }

    /// The code in `TensorProto.data_type`.
    pub fn onnx_code(self) -> i32 {
        self.row().1
    }

    /// The type of a `TensorProto.data_type` code, if it is one.
    pub fn from_onnx_code(code: i32) -> Option<DataType> {
        Self::TABLE.iter().find(|row| row.1 == code).map(|row| row.0)
    }

    /// Lower-case name, numpy's where it has one.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Bits of one element; `None` for strings.
    pub fn bits(self) -> Option<usize> {
        Some(self.row().3).filter(|bits| *bits > 0)
    }

    /// Octets that `elements` take, packed types rounded up; `None` for strings and on overflow.
    pub fn byte_len(self, elements: usize) -> Option<usize> {
        Some(elements.checked_mul(self.bits()?)?.div_ceil(8))
    }

    /// Whether it is a float of 16 bits or more.
    pub fn is_float(self) -> bool {
        matches!(self, DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double)
    }
}

/// An element type of Rust that has an ONNX type and can be viewed as raw bytes.
pub trait Element: bytemuck::Pod + Send {
    /// The matching ONNX type.
    const DATA_TYPE: DataType;
}

macro_rules! elements {
    ($($rust:ty => $onnx:ident),* $(,)?) => {
        $(impl Element for $rust { const DATA_TYPE: DataType = DataType::$onnx; })*
    };
}
elements! {
    f32 => Float, f64 => Double, half::f16 => Float16, half::bf16 => Bfloat16,
    u8 => Uint8, i8 => Int8, u16 => Uint16, i16 => Int16, i32 => Int32, i64 => Int64, u32 => Uint32, u64 => Uint64,
}

#[derive(Clone, Debug, PartialEq)]
enum Storage {
    Raw(Bytes),
    Strings(Vec<Bytes>),
}

/// A dense tensor: type, dimensions, and elements in row-major order. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DataType,
    dims: Vec<usize>,
    storage: Storage,
}

/// Number of elements of a shape; `None` on overflow.
pub fn element_count(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
}

impl Tensor {
    /// A tensor over raw little-endian bytes.
    ///
    /// # Errors
    /// When the number of bytes is not what type and dimensions ask for.
    pub fn from_raw(dtype: DataType, dims: Vec<usize>, raw: Bytes) -> Result<Tensor, GraphError> {
        let expected = element_count(&dims).and_then(|n| dtype.byte_len(n));
        if expected != Some(raw.len()) {
            return Err(GraphError::TensorSize { dtype, dims, expected, actual: raw.len() });
        }
        Ok(Tensor { dtype, dims, storage: Storage::Raw(raw) })
    }

    /// A tensor of strings.
    ///
    /// # Errors
    /// When there are not as many strings as the dimensions say.
    pub fn from_strings(dims: Vec<usize>, strings: Vec<Bytes>) -> Result<Tensor, GraphError> {
        let expected = element_count(&dims);
        if expected != Some(strings.len()) {
            return Err(GraphError::TensorSize { dtype: DataType::String, dims, expected, actual: strings.len() });
        }
        Ok(Tensor { dtype: DataType::String, dims, storage: Storage::Strings(strings) })
    }

    /// A tensor from elements.
    ///
    /// # Panics
    /// When `values.len()` is not the product of `dims`: a mistake of the caller, never of a file.
    pub fn new<T: Element>(dims: impl Into<Vec<usize>>, values: Vec<T>) -> Tensor {
        let dims = dims.into();
        assert_eq!(element_count(&dims), Some(values.len()), "{dims:?} does not hold {} elements", values.len());
        let raw = Bytes::from_owner(Elements(values));
        Tensor { dtype: T::DATA_TYPE, dims, storage: Storage::Raw(raw) }
    }

    /// A tensor without dimensions.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        Tensor::new([], vec![value])
    }

    /// Boolean tensor, one byte an element.
    ///
    /// # Panics
    /// When `values.len()` is not the product of `dims`.
    pub fn from_bools(dims: impl Into<Vec<usize>>, values: &[bool]) -> Tensor {
        let mut t = Tensor::new(dims, values.iter().map(|b| u8::from(*b)).collect());
        t.dtype = DataType::Bool;
        t
    }

    /// Element type.
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// Dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.dims.contains(&0)
    }

    /// Raw little-endian bytes; `None` for strings.
    pub fn raw(&self) -> Option<&Bytes> {
        match &self.storage {
            Storage::Raw(raw) => Some(raw),
            Storage::Strings(_) => None,
        }
    }

    /// The strings of a string tensor.
    pub fn strings(&self) -> Option<&[Bytes]> {
        match &self.storage {
            Storage::Raw(_) => None,
            Storage::Strings(strings) => Some(strings),
        }
    }

    /// Octets that the elements take.
    pub fn byte_len(&self) -> usize {
        match &self.storage {
            Storage::Raw(raw) => raw.len(),
            Storage::Strings(strings) => strings.iter().map(Bytes::len).sum(),
        }
    }

    /// The elements, borrowed where the bytes are aligned, copied otherwise; `None` for another type.
    pub fn values<T: Element>(&self) -> Option<Cow<'_, [T]>> {
        if self.dtype != T::DATA_TYPE {
            return None;
        }
        let raw = self.raw()?;
        Some(match bytemuck::try_cast_slice(raw) {
            Ok(slice) => Cow::Borrowed(slice),
            Err(_) => Cow::Owned(bytemuck::allocation::pod_collect_to_vec(raw)),
        })
    }

    /// The elements of any float type of 16 bits or more as `f32`; `None` for another type.
    pub fn to_f32(&self) -> Option<Cow<'_, [f32]>> {
        match self.dtype {
            DataType::Float => self.values(),
            DataType::Float16 => Some(self.values::<half::f16>()?.iter().map(|v| v.to_f32()).collect()),
            DataType::Bfloat16 => Some(self.values::<half::bf16>()?.iter().map(|v| v.to_f32()).collect()),
            DataType::Double => Some(self.values::<f64>()?.iter().map(|v| *v as f32).collect()),
            _ => None,
        }
    }

    /// The elements of any integer or boolean type of 8 bits or more as `i64`; `None` for another type.
    pub fn to_i64(&self) -> Option<Cow<'_, [i64]>> {
        fn widen<T: Element + TryInto<i64>>(t: &Tensor) -> Option<Cow<'_, [i64]>> {
            t.values::<T>()?.iter().map(|v| (*v).try_into().ok()).collect()
        }
        match self.dtype {
            DataType::Int64 => self.values(),
            DataType::Int32 => widen::<i32>(self),
            DataType::Int16 => widen::<i16>(self),
            DataType::Int8 => widen::<i8>(self),
            DataType::Uint8 => widen::<u8>(self),
            DataType::Uint16 => widen::<u16>(self),
            DataType::Uint32 => widen::<u32>(self),
            DataType::Uint64 => widen::<u64>(self),
            DataType::Bool => Some(self.raw()?.iter().map(|v| i64::from(*v)).collect()),
            _ => None,
        }
    }

    /// The elements at some positions of one axis, in that order.
    ///
    /// # Errors
    /// For strings.
    pub fn taken(&self, axis: usize, positions: &[u32]) -> Result<Tensor, GraphError> {
        if self.dtype.bits().is_some_and(|bits| bits < 8)
            && let Some(codes) = self.codes()
        {
            let taken = Tensor::new(self.dims.clone(), codes.into_owned()).taken(axis, positions)?;
            return Tensor::from_codes(self.dtype, taken.dims(), taken.raw().map_or(&[], |raw| raw));
        }
        let whole = self.dtype.bits().filter(|bits| bits % 8 == 0).zip(self.raw());
        let mut dims = self.dims.clone();
        dims[axis] = positions.len();
        let Some((bits, raw)) = whole else {
            return Err(GraphError::TensorSize { dtype: self.dtype, dims, expected: None, actual: self.byte_len() });
        };
        let inner = self.dims[axis + 1..].iter().product::<usize>() * bits / 8;
        let outer: usize = self.dims[..axis].iter().product();
        let mut taken = Vec::with_capacity(outer * positions.len() * inner);
        for block in 0..outer {
            let block = &raw[block * self.dims[axis] * inner..(block + 1) * self.dims[axis] * inner];
            for position in positions {
                taken.extend_from_slice(&block[*position as usize * inner..(*position as usize + 1) * inner]);
            }
        }
        Tensor::from_raw(self.dtype, dims, taken.into())
    }

    /// The same elements under other dimensions.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshaped(&self, dims: Vec<usize>) -> Result<Tensor, GraphError> {
        if element_count(&dims) != Some(self.len()) {
            return Err(GraphError::TensorSize { dtype: self.dtype, expected: element_count(&dims), dims, actual: self.len() });
        }
        Ok(Tensor { dtype: self.dtype, dims, storage: self.storage.clone() })
    }
}

/// Owns elements wider than a byte while `Bytes` shows their octets.
struct Elements<T>(Vec<T>);

impl<T: Element> AsRef<[u8]> for Elements<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_rows_stand_at_their_type() {
        for (i, row) in DataType::TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i);
            assert_eq!(DataType::from_onnx_code(row.1), Some(row.0));
        }
    }

    #[test]
    fn packed_types_round_up_to_octets() {
        assert_eq!(DataType::Int4.byte_len(3), Some(2));
        assert_eq!(DataType::Uint2.byte_len(5), Some(2));
        assert_eq!(DataType::Float.byte_len(usize::MAX), None);
        assert_eq!(DataType::String.byte_len(1), None);
    }

    #[test]
    fn elements_survive_as_bytes() {
        let t = Tensor::new([2, 2], vec![1.0f32, -2.0, 3.5, 0.0]);
        assert_eq!(t.raw().map(|r| r.len()), Some(16));
        assert_eq!(t.values::<f32>().as_deref(), Some(&[1.0, -2.0, 3.5, 0.0][..]));
        assert!(t.values::<i64>().is_none());
        // Bytes at an odd address are copied, not misread.
        let shifted: Vec<u8> = std::iter::once(0).chain(t.raw().cloned().into_iter().flatten()).collect();
        let odd =
            Tensor::from_raw(DataType::Float, vec![4], Bytes::from(shifted).slice(1..)).map(|t| t.values::<f32>().map(|v| v.into_owned()));
        assert_eq!(odd.ok().flatten(), Some(vec![1.0, -2.0, 3.5, 0.0]));
    }

    #[test]
    fn wrong_sizes_are_refused() {
        assert!(Tensor::from_raw(DataType::Float, vec![2], Bytes::from_static(&[0; 7])).is_err());
        assert!(Tensor::from_raw(DataType::Float, vec![usize::MAX, 2], Bytes::new()).is_err());
    }
}
