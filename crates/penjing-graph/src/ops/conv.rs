//! Convolutions.

/// How implicit padding is chosen (`auto_pad`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoPad {
    /// `pads` counts.
    #[default]
    NotSet,
    /// Output = ceil(input / stride), the odd cell at the end.
    SameUpper,
    /// Output = ceil(input / stride), the odd cell at the beginning.
    SameLower,
    /// No padding.
    Valid,
}

/// A window that slides over the spatial axes, shared by convolutions and pools. Empty lists mean the default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Cells along each spatial axis; empty: those of the weight.
    pub kernel: Vec<usize>,
    /// Steps along each spatial axis; empty: all 1.
    pub strides: Vec<usize>,
    /// Distance between cells along each spatial axis; empty: all 1.
    pub dilations: Vec<usize>,
    /// Cells added at the begin of every axis, then at the end of every axis; empty: all 0. Negative ones crop.
    pub pads: Vec<i64>,
    /// Overrides `pads` unless `NotSet`.
    pub auto_pad: AutoPad,
}

/// `Conv`: X [N, C, D1…], W [M, C/group, k1…], B [M]? → Y [N, M, …].
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// The sliding window.
    pub window: Window,
    /// Channels are split into that many independent groups.
    pub group: usize,
}

/// `ConvTranspose`: X [N, C, D1…], W [C, M/group, k1…], B [M]? → Y [N, M, …].
#[derive(Clone, Debug, PartialEq)]
pub struct ConvTranspose {
    /// The sliding window.
    pub window: Window,
    /// Channels are split into that many independent groups.
    pub group: usize,
    /// Cells added at the end of each output axis; empty: all 0.
    pub output_padding: Vec<usize>,
    /// Spatial shape of the output, from which the padding follows; empty: computed.
    pub output_shape: Vec<usize>,
}
