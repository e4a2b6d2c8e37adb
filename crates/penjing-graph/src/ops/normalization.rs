//! Normalisation layers.

/// `BatchNormalization`: Y = (X − mean) / √(var + epsilon) · scale + B, per channel (axis 1). Inputs X, scale, B, mean, var.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormalization {
    /// Added to the variance.
    pub epsilon: f32,
    /// running = running · momentum + batch · (1 − momentum)
    pub momentum: f32,
    /// The file asks for batch statistics (opset 14).
    pub training_mode: bool,
}

/// `LayerNormalization` over the axes from `axis` on. Inputs X, scale, B?.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNormalization {
    /// First normalised axis; negative counts from the end.
    pub axis: i64,
    /// Added to the variance.
    pub epsilon: f32,
    /// Type of the computation's first stage, kept for the file (1: float).
    pub stash_type: i64,
}

/// `InstanceNormalization` over the spatial axes of every sample and channel. Inputs X, scale, B.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstanceNormalization {
    /// Added to the variance.
    pub epsilon: f32,
}
