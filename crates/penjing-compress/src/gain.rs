//! What was gained: bytes of a model's file, as it is and after a general compressor.

use penjing_graph::Graph;
use penjing_graph::onnx::WriteOptions;
use serde::Serialize;

use crate::run::RunError;

/// Level at which sizes after zstd are stated.
const ZSTD_LEVEL: i32 = 19;

/// Bytes of a model's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FileSize {
    /// As it is.
    pub bytes: u64,
    /// After `zstd -19`.
    pub zstd: u64,
}

impl FileSize {
    /// Size of encoded models.
    ///
    /// # Errors
    /// When the compressor fails, for want of memory.
    pub fn of(encoded: &[u8]) -> Result<FileSize, RunError> {
        let zstd = zstd::bulk::compress(encoded, ZSTD_LEVEL).map_err(RunError::Compressor)?;
        Ok(FileSize { bytes: encoded.len() as u64, zstd: zstd.len() as u64 })
    }

    /// Size of a graph with all its tensors written out.
    ///
    /// # Errors
    /// When it cannot be encoded or compressed.
    pub fn of_dense(graph: &Graph) -> Result<FileSize, RunError> {
        FileSize::of(&penjing_graph::onnx::to_bytes(graph, WriteOptions::default())?)
    }
}
