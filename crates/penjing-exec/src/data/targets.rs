//! Numbers that a model's outputs are to come near to: the `y` of a regression.

use super::array::Array;
use crate::ExecError;

/// One array of numbers for each part of a set, the same shape for every sample.
#[derive(Debug)]
pub(super) struct Targets(Vec<Array>);

impl Targets {
    /// `None` of no arrays, of shapes that differ, and of arrays that hold one sample's number without an axis for it: `y` [N] stands
    /// for [N, 1].
    pub(super) fn new(arrays: Vec<Array>) -> Option<Targets> {
        let first = arrays.first()?;
        arrays.iter().all(|array| array.dims()[1..] == first.dims()[1..]).then_some(Targets(arrays))
    }

    /// Shape of one sample's, without the batch axis.
    pub(super) fn dims(&self) -> &[usize] {
        match &self.0[0].dims()[1..] {
            [] => &[1],
            dims => dims,
        }
    }

    /// Those of sample `index`.
    pub(super) fn numbers(&self, mut index: usize) -> Result<Vec<f32>, ExecError> {
        for array in &self.0 {
            if index < array.len() {
                return array.sample(index);
            }
            index -= array.len();
        }
        unreachable!("the index is smaller than the number of samples")
    }
}
