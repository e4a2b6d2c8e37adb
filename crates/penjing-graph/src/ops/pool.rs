//! Pooling over spatial axes.

use super::Window;

/// `MaxPool`: padding never wins. Outputs Y and, where asked for, the indices.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPool {
    /// The sliding window.
    pub window: Window,
    /// Output sizes round up.
    pub ceil_mode: bool,
    /// Indices count column by column.
    pub storage_order: i64,
}

/// `AveragePool`.
#[derive(Clone, Debug, PartialEq)]
pub struct AveragePool {
    /// The sliding window.
    pub window: Window,
    /// Output sizes round up.
    pub ceil_mode: bool,
    /// Padding counts in the divisor.
    pub count_include_pad: bool,
}

/// `GlobalAveragePool` and `GlobalMaxPool`: [N, C, D1…] → [N, C, 1…].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalPool {
    /// Mean of all cells.
    Average,
    /// Largest cell.
    Max,
}
