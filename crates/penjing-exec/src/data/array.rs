//! Numbers of any width and byte order, in memory as the file holds them or left in the file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};
use penjing_graph::{DataType, element_count};

use crate::ExecError;

/// Order of the octets of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    Little,
    Big,
}

/// Where the elements are.
#[derive(Debug)]
pub(crate) enum Store {
    Memory(Vec<u8>),
    /// In the file, from this octet on: read sample by sample.
    File(Mutex<File>, u64),
}

/// An array [N, …] in row-major order. Its first axis counts samples.
#[derive(Debug)]
pub(crate) struct Array {
    path: PathBuf,
    dtype: DataType,
    order: ByteOrder,
    dims: Vec<usize>,
    sample_bytes: usize,
    store: Store,
}

impl Array {
    /// `available`: octets that `store` holds.
    pub(crate) fn new(
        path: &Path,
        dtype: DataType,
        order: ByteOrder,
        dims: Vec<usize>,
        store: Store,
        available: u64,
    ) -> Result<Array, ExecError> {
        let bytes = byte_count(path, dtype, &dims)?;
        if bytes != available {
            return Err(ExecError::data(path, format!("{dims:?} of {} take {bytes} octets, but there are {available}", dtype.name())));
        }
        let Some((&samples, sample_dims)) = dims.split_first() else {
            return Err(ExecError::data(path, "holds one number (hint: the first axis counts the samples)"));
        };
        let sample_bytes = byte_count(path, dtype, sample_dims)? as usize;
        if samples == 0 || sample_bytes == 0 {
            return Err(ExecError::data(path, format!("shape {dims:?} holds nothing")));
        }
        Ok(Array { path: path.into(), dtype, order, dims, sample_bytes, store })
    }

    /// Octets in memory.
    pub(crate) fn in_memory(path: &Path, dtype: DataType, order: ByteOrder, dims: Vec<usize>, octets: Vec<u8>) -> Result<Array, ExecError> {
        let available = octets.len() as u64;
        Array::new(path, dtype, order, dims, Store::Memory(octets), available)
    }

    /// Number of samples, at least 1.
    pub(crate) fn len(&self) -> usize {
        self.dims[0]
    }

    /// All dimensions.
    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The file that it comes from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Elements of sample `index`.
    pub(crate) fn sample(&self, index: usize) -> Result<Vec<f32>, ExecError> {
        let mut values = Vec::with_capacity(element_count(&self.dims[1..]).unwrap_or(0));
        self.visit(index, |v| values.push(v as f32))?;
        Ok(values)
    }

    /// Elements of sample `index`, exact but for 64-bit integers beyond 2⁵³.
    pub(crate) fn numbers(&self, index: usize) -> Result<Vec<f64>, ExecError> {
        let mut values = Vec::with_capacity(element_count(&self.dims[1..]).unwrap_or(0));
        self.visit(index, |v| values.push(v))?;
        Ok(values)
    }

    /// One class for each sample, from [N] or [N, 1] integers or whole floats.
    pub(crate) fn classes(&self) -> Result<Vec<u32>, ExecError> {
        if !matches!(self.dims[..], [_] | [_, 1]) {
            return Err(ExecError::data(
                &self.path,
                format!("labels have the shape {:?} (hint: one class number a sample, [N]; from one-hot rows take the argmax)", self.dims),
            ));
        }
        let mut classes = Vec::with_capacity(self.len());
        for i in 0..self.len() {
            let mut value = f64::NAN;
            self.visit(i, |v| value = v)?;
            classes.push(class_number(value).ok_or_else(|| {
                ExecError::data(&self.path, format!("label {value} of sample {i} is no class (hint: classes are whole numbers from 0)"))
            })?);
        }
        Ok(classes)
    }

    /// Whether the elements are one class for each sample: integers always, floats where all are whole numbers from 0.
    pub(crate) fn holds_classes(&self) -> Result<bool, ExecError> {
        if !self.dtype.is_float() {
            return Ok(true);
        }
        let mut whole = matches!(self.dims[..], [_] | [_, 1]);
        for i in 0..if whole { self.len() } else { 0 } {
            self.visit(i, |value| whole &= class_number(value).is_some())?;
        }
        Ok(whole)
    }

    fn visit(&self, index: usize, sink: impl FnMut(f64)) -> Result<(), ExecError> {
        let start = index * self.sample_bytes;
        match &self.store {
            Store::Memory(octets) => decode(self.dtype, self.order, &octets[start..start + self.sample_bytes], sink),
            Store::File(file, offset) => {
                let mut octets = vec![0; self.sample_bytes];
                // A reader that panicked leaves nothing half done: every read seeks first.
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(offset + start as u64)).map_err(ExecError::reading(&self.path))?;
                file.read_exact(&mut octets).map_err(ExecError::reading(&self.path))?;
                drop(file);
                decode(self.dtype, self.order, &octets, sink);
            }
        }
        Ok(())
    }
}

/// `value` as a class number, where it is one.
pub(crate) fn class_number(value: f64) -> Option<u32> {
    (value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value)).then_some(value as u32)
}

/// Octets of `dims` elements; too many for a machine word, or elements without a fixed width, are errors.
pub(crate) fn byte_count(path: &Path, dtype: DataType, dims: &[usize]) -> Result<u64, ExecError> {
    element_count(dims)
        .and_then(|n| dtype.byte_len(n))
        .map(|n| n as u64)
        .ok_or_else(|| ExecError::data(path, format!("shape {dims:?} of {} is larger than any file", dtype.name())))
}

/// Every element as `f64`, which holds all of them exactly but 64-bit integers beyond 2⁵³.
fn decode(dtype: DataType, order: ByteOrder, octets: &[u8], mut sink: impl FnMut(f64)) {
    macro_rules! each {
        ($element:ty, $widen:expr) => {
            for chunk in octets.as_chunks::<{ size_of::<$element>() }>().0 {
                let element = match order {
                    ByteOrder::Little => <$element>::from_le_bytes(*chunk),
                    ByteOrder::Big => <$element>::from_be_bytes(*chunk),
                };
                sink($widen(element));
            }
        };
    }
    match dtype {
        DataType::Uint8 | DataType::Bool => each!(u8, f64::from),
        DataType::Int8 => each!(i8, f64::from),
        DataType::Uint16 => each!(u16, f64::from),
        DataType::Int16 => each!(i16, f64::from),
        DataType::Uint32 => each!(u32, f64::from),
        DataType::Int32 => each!(i32, f64::from),
        DataType::Uint64 => each!(u64, |v| v as f64),
        DataType::Int64 => each!(i64, |v| v as f64),
        DataType::Float16 => each!(f16, f64::from),
        DataType::Bfloat16 => each!(bf16, f64::from),
        DataType::Float => each!(f32, f64::from),
        DataType::Double => each!(f64, |v| v),
        other => unreachable!("no reader gives arrays of {}", other.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(dtype: DataType, order: ByteOrder, dims: &[usize], octets: &[u8]) -> Result<Array, ExecError> {
        Array::in_memory(Path::new("x"), dtype, order, dims.to_vec(), octets.to_vec())
    }

    #[test]
    fn both_byte_orders_and_signs() -> Result<(), ExecError> {
        let little = array(DataType::Int16, ByteOrder::Little, &[2, 1], &[0xfe, 0xff, 0x01, 0x02])?;
        assert_eq!((little.sample(0)?, little.sample(1)?), (vec![-2.0], vec![513.0]));
        let big = array(DataType::Int16, ByteOrder::Big, &[2, 1], &[0xff, 0xfe, 0x02, 0x01])?;
        assert_eq!((big.sample(0)?, big.sample(1)?), (vec![-2.0], vec![513.0]));
        let half = array(DataType::Float16, ByteOrder::Little, &[1, 1], &[0x00, 0x3e])?; // 1.5 = 0x3e00
        assert_eq!(half.sample(0)?, [1.5]);
        Ok(())
    }

    #[test]
    fn classes_are_whole_numbers_from_zero() -> Result<(), ExecError> {
        assert_eq!(array(DataType::Float, ByteOrder::Big, &[2], &[0x40, 0x40, 0, 0, 0, 0, 0, 0])?.classes()?, [3, 0]);
        assert!(array(DataType::Int8, ByteOrder::Little, &[1], &[0xff])?.classes().is_err());
        assert!(array(DataType::Float, ByteOrder::Little, &[1], &1.5f32.to_le_bytes())?.classes().is_err());
        assert!(array(DataType::Uint8, ByteOrder::Little, &[1, 2], &[0, 1])?.classes().is_err());
        Ok(())
    }

    #[test]
    fn floats_that_are_no_classes() -> Result<(), ExecError> {
        let floats = |dims: &[usize], values: &[f32]| {
            let octets: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            array(DataType::Float, ByteOrder::Little, dims, &octets)?.holds_classes()
        };
        assert!(floats(&[2], &[0.0, 3.0])? && floats(&[2, 1], &[0.0, 3.0])?);
        assert!(!floats(&[2], &[0.0, 0.5])? && !floats(&[2], &[0.0, -1.0])? && !floats(&[1], &[f32::NAN])?);
        assert!(!floats(&[1, 2], &[0.0, 1.0])?, "several numbers for a sample are no class");
        assert!(array(DataType::Int8, ByteOrder::Little, &[1], &[0xff])?.holds_classes()?, "-1 is a mistake, not a target");
        Ok(())
    }

    #[test]
    fn shapes_that_lie_are_refused() {
        assert!(array(DataType::Uint8, ByteOrder::Little, &[3], &[0, 1]).is_err());
        assert!(array(DataType::Double, ByteOrder::Little, &[usize::MAX, 2], &[]).is_err());
        assert!(array(DataType::Uint8, ByteOrder::Little, &[], &[1]).is_err());
        assert!(array(DataType::Uint8, ByteOrder::Little, &[0, 5], &[]).is_err());
    }
}
