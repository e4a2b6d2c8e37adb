//! Numbers that a model's outputs are to come near to: the `y` of a regression.

use super::array::Array;
use super::samples::locate;
use crate::ExecError;

/// One array of numbers for each part of a set, the same shape for every sample.
#[derive(Debug)]
pub(super) struct Targets(Vec<Array>);

impl Targets {
    /// `None` where there are no arrays, or samples of different shapes.
    pub(super) fn new(arrays: Vec<Array>) -> Option<Targets> {
        let first = arrays.first()?;
        arrays.iter().all(|array| array.dims()[1..] == first.dims()[1..]).then_some(Targets(arrays))
    }

    /// Shape of one sample's, without the batch axis: [1] for an array [N].
    pub(super) fn dims(&self) -> &[usize] {
        match &self.0[0].dims()[1..] {
            [] => &[1],
            dims => dims,
        }
    }

    /// Those of sample `index`.
    pub(super) fn numbers(&self, index: usize) -> Result<Vec<f32>, ExecError> {
        let (array, index) = locate(&self.0, index);
        array.sample(index)
    }
}
