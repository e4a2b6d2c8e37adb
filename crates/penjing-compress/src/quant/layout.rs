//! Which elements of a tensor share a scale.

use std::ops::Range;

use super::{Granularity, QuantError};

/// A tensor as [outer, axis, inner] and the groups of its elements that share a scale.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    granularity: Granularity,
    dims: Vec<usize>,
}

/// Consecutive elements and the groups that they belong to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Segment {
    /// All of one group.
    One { values: Range<usize>, group: usize },
    /// Each of its own, consecutive groups.
    Each { values: Range<usize>, groups: Range<usize> },
}

impl Layout {
    pub(crate) fn new(granularity: Granularity, dims: &[usize]) -> Result<Layout, QuantError> {
        match granularity {
            Granularity::Block { size: 0, .. } => return Err(QuantError::EmptyBlock),
            Granularity::Channel { axis } | Granularity::Block { axis, .. } if axis >= dims.len() => {
                return Err(QuantError::Axis { axis, rank: dims.len() });
            }
            Granularity::Tensor | Granularity::Channel { .. } | Granularity::Block { .. } => {}
        }
        Ok(Layout { granularity, dims: dims.to_vec() })
    }

    /// Dimensions of the scales, as QuantizeLinear wants them.
    pub(crate) fn scale_dims(&self) -> Vec<usize> {
        match self.granularity {
            Granularity::Tensor => vec![],
            Granularity::Channel { axis } => vec![self.dims[axis]],
            Granularity::Block { axis, size } => {
                let mut dims = self.dims.clone();
                dims[axis] = dims[axis].div_ceil(size);
                dims
            }
        }
    }

    /// Number of groups.
    pub(crate) fn groups(&self) -> usize {
        self.scale_dims().iter().product()
    }

    /// Whether `len` elements are such a tensor. Whole tensors may be of any length: activations come in batches.
    pub(crate) fn check(&self, len: usize) -> Result<(), QuantError> {
        let expected = self.dims.iter().product();
        match self.granularity {
            Granularity::Channel { .. } | Granularity::Block { .. } if len != expected => {
                Err(QuantError::Length { what: "values", given: len, expected })
            }
            Granularity::Tensor | Granularity::Channel { .. } | Granularity::Block { .. } => Ok(()),
        }
    }

    /// All `len` elements in their order.
    pub(crate) fn segments(&self, len: usize) -> Box<dyn Iterator<Item = Segment> + '_> {
        let around = |axis: usize| (self.dims[axis], self.dims[axis + 1..].iter().product::<usize>());
        match self.granularity {
            Granularity::Tensor => Box::new(std::iter::once(Segment::One { values: 0..len, group: 0 })),
            Granularity::Channel { axis } => {
                let (channels, inner) = around(axis);
                if inner == 1 {
                    let each = move |start| Segment::Each { values: start..start + channels, groups: 0..channels };
                    Box::new((0..len).step_by(channels.max(1)).map(each))
                } else {
                    let one = move |start: usize| Segment::One { values: start..start + inner, group: start / inner % channels };
                    Box::new((0..len).step_by(inner.max(1)).map(one))
                }
            }
            Granularity::Block { axis, size } => {
                let (length, inner) = around(axis);
                let blocks = length.div_ceil(size);
                if inner == 1 {
                    let row = move |start: usize| {
                        let one = move |block: usize| Segment::One {
                            values: start + block * size..start + ((block + 1) * size).min(length),
                            group: start / length * blocks + block,
                        };
                        (0..blocks).map(one)
                    };
                    Box::new((0..len).step_by(length.max(1)).flat_map(row))
                } else {
                    let each = move |start: usize| {
                        let (outer, position) = (start / inner / length, start / inner % length);
                        let first = (outer * blocks + position / size) * inner;
                        Segment::Each { values: start..start + inner, groups: first..first + inner }
                    };
                    Box::new((0..len).step_by(inner.max(1)).map(each))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The group of every element.
    fn groups(layout: &Layout, len: usize) -> Vec<usize> {
        let mut all = vec![];
        for segment in layout.segments(len) {
            let start = all.len();
            match segment {
                Segment::One { values, group } => {
                    assert_eq!(values.start, start);
                    all.extend(values.map(|_| group));
                }
                Segment::Each { values, groups } => {
                    assert_eq!((values.start, values.len()), (start, groups.len()));
                    all.extend(groups);
                }
            }
        }
        all
    }

    #[test]
    fn groups_by_hand() {
        let of = |granularity, dims: &[usize]| {
            let layout = Layout::new(granularity, dims).expect("fits");
            (layout.scale_dims(), groups(&layout, dims.iter().product()))
        };
        assert_eq!(of(Granularity::Tensor, &[2, 2]), (vec![], vec![0; 4]));
        assert_eq!(of(Granularity::Channel { axis: 0 }, &[2, 3]), (vec![2], vec![0, 0, 0, 1, 1, 1]));
        assert_eq!(of(Granularity::Channel { axis: 1 }, &[2, 3]), (vec![3], vec![0, 1, 2, 0, 1, 2]));
        assert_eq!(of(Granularity::Block { axis: 1, size: 2 }, &[2, 3]), (vec![2, 2], vec![0, 0, 1, 2, 2, 3]));
        assert_eq!(of(Granularity::Block { axis: 0, size: 2 }, &[3, 2]), (vec![2, 2], vec![0, 1, 0, 1, 2, 3]));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert_eq!(Layout::new(Granularity::Channel { axis: 2 }, &[2, 3]), Err(QuantError::Axis { axis: 2, rank: 2 }));
        assert_eq!(Layout::new(Granularity::Block { axis: 0, size: 0 }, &[2]), Err(QuantError::EmptyBlock));
        let layout = Layout::new(Granularity::Channel { axis: 0 }, &[2, 3]).expect("fits");
        assert_eq!(layout.check(5), Err(QuantError::Length { what: "values", given: 5, expected: 6 }));
    }

    proptest! {
        /// The definition, index by index: the group of a block is its coordinate with that of the axis divided by the size.
        #[test]
        fn groups_are_those_of_the_coordinates(dims in prop::collection::vec(0usize..5, 1..4), axis in 0usize..3, size in 1usize..4) {
            let axis = axis % dims.len();
            let len: usize = dims.iter().product();
            let inner: usize = dims[axis + 1..].iter().product();
            let channel = Layout::new(Granularity::Channel { axis }, &dims).expect("fits");
            let expected: Vec<usize> = (0..len).map(|i| i / inner % dims[axis]).collect();
            prop_assert_eq!(groups(&channel, len), expected);
            let block = Layout::new(Granularity::Block { axis, size }, &dims).expect("fits");
            let group = |i: usize| {
                let (outer, position) = (i / inner / dims[axis], i / inner % dims[axis]);
                (outer * dims[axis].div_ceil(size) + position / size) * inner + i % inner
            };
            prop_assert_eq!(groups(&block, len), (0..len).map(group).collect::<Vec<_>>());
        }
    }
}
