//! Arrays `x` and `y` in a `.safetensors` file, left in the file.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;

use ::safetensors::Dtype;
use ::safetensors::tensor::Metadata;
use penjing_graph::DataType;

use super::array::{Array, ByteOrder, Store};
use super::inputs::Signature;
use super::npz::named_arrays;
use super::{Contents, Format, bounded};
use crate::ExecError;

/// Longest header that the format allows.
const LONGEST_HEADER: u64 = 100_000_000;

/// Reads `x` and `y`, or `x_train`, `y_train`, `x_test`, `y_test`, taken as they are. `y` may be absent.
pub(super) fn open(path: &Path, signature: Option<&Signature>) -> Result<Contents, ExecError> {
    let mut file = File::open(path).map_err(ExecError::reading(path))?;
    let size = file.metadata().map_err(ExecError::reading(path))?.len();
    let header = read_header(&mut file, size, path)?;
    let start = 8 + header.len() as u64;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| ExecError::data(path, format!("has a damaged header: {e}")))?;
    named_arrays(path, Format::Safetensors, &metadata.offset_keys(), signature, |name| {
        let inside = path.join(name);
        let info = metadata.info(name).ok_or_else(|| ExecError::data(&inside, "is not there"))?;
        let dtype = data_type(info.dtype)
            .ok_or_else(|| ExecError::data(&inside, format!("holds {:?}, not numbers of 8 to 64 bits", info.dtype)))?;
        let [from, to] = [info.data_offsets.0, info.data_offsets.1].map(|offset| start.saturating_add(offset as u64));
        if from > to || to > size {
            let reason = format!("stands at octets {from} to {to} of a file of {size} (hint: fetch the file again)");
            return Err(ExecError::data(&inside, reason));
        }
        // A handle of its own, as a shared one would share its position too.
        let file = File::open(path).map_err(ExecError::reading(path))?;
        Array::new(&inside, dtype, ByteOrder::Little, info.shape.clone(), Store::File(Mutex::new(file), from), to - from)
    })
}

/// Length of the header as little-endian u64, then the header: JSON, which is returned.
fn read_header(file: &mut File, size: u64, path: &Path) -> Result<Vec<u8>, ExecError> {
    let length = u64::from_le_bytes(bounded::read_header(file, path)?);
    if length > size.saturating_sub(8).min(LONGEST_HEADER) {
        return Err(ExecError::data(path, format!("declares a header of {length} octets in a file of {size}")));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(ExecError::reading(path))?;
    Ok(header)
}

fn data_type(dtype: Dtype) -> Option<DataType> {
    Some(match dtype {
        Dtype::F16 => DataType::Float16,
        Dtype::BF16 => DataType::Bfloat16,
        Dtype::F32 => DataType::Float,
        Dtype::F64 => DataType::Double,
        Dtype::BOOL => DataType::Bool,
        Dtype::U8 => DataType::Uint8,
        Dtype::I8 => DataType::Int8,
        Dtype::U16 => DataType::Uint16,
        Dtype::I16 => DataType::Int16,
        Dtype::U32 => DataType::Uint32,
        Dtype::I32 => DataType::Int32,
        Dtype::U64 => DataType::Uint64,
        Dtype::I64 => DataType::Int64,
        // An open enum: new types come with new versions of the format.
        _ => return None,
    })
}
