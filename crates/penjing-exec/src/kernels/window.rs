//! Where a window stands while it slides over the spatial axes.

use penjing_graph::ops::{AutoPad, Window};

/// A window with every default filled in for one input, in cells along each spatial axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sliding {
    /// Cells of the window.
    pub(crate) kernel: Vec<usize>,
    /// Steps from one stand to the next.
    pub(crate) strides: Vec<usize>,
    /// Distance between cells of the window.
    pub(crate) dilations: Vec<usize>,
    /// Cells added before and after.
    pub(crate) pads: Vec<(usize, usize)>,
}

impl Sliding {
    /// Fills in the defaults for an input of `spatial` cells; the error says what does not fit.
    pub(crate) fn new(window: &Window, kernel: &[usize], spatial: &[usize]) -> Result<Sliding, String> {
        let axes = spatial.len();
        if !window.kernel.is_empty() && window.kernel != kernel {
            return Err(format!("kernel_shape {:?} is not that of the weight, {kernel:?}", window.kernel));
        }
        let list = |name: &str, given: &[usize]| match given {
            [] => Ok(vec![1; axes]),
            given if given.len() != axes => Err(format!("{} {name} are given for {axes} spatial axes", given.len())),
            given if given.contains(&0) => Err(format!("{name} contain 0")),
            given => Ok(given.to_vec()),
        };
        let strides = list("strides", &window.strides)?;
        let dilations = list("dilations", &window.dilations)?;
        if kernel.len() != axes || kernel.contains(&0) {
            return Err(format!("a window of {kernel:?} cells does not slide over {axes} spatial axes"));
        }
        let mut sliding = Sliding { kernel: kernel.to_vec(), strides, dilations, pads: vec![(0, 0); axes] };
        let extent = sliding.extent().ok_or("the window is larger than this machine can address")?;
        for i in 0..axes {
            let same =
                (spatial[i].div_ceil(sliding.strides[i]).saturating_sub(1) * sliding.strides[i] + extent[i]).saturating_sub(spatial[i]);
            sliding.pads[i] = match window.auto_pad {
                AutoPad::Valid => (0, 0),
                AutoPad::SameUpper => (same / 2, same - same / 2),
                AutoPad::SameLower => (same - same / 2, same / 2),
                AutoPad::NotSet if window.pads.is_empty() => (0, 0),
                AutoPad::NotSet => {
                    let [Some(before), Some(after)] = [window.pads.get(i), window.pads.get(axes + i)] else {
                        return Err(format!("{} pads are given for {axes} spatial axes", window.pads.len()));
                    };
                    let width =
                        |pad: &i64| usize::try_from(*pad).map_err(|_| "negative pads are not run by the built-in executor".to_string());
                    (width(before)?, width(after)?)
                }
            };
        }
        Ok(sliding)
    }

    /// Cells from the first to the last of the window, both included; `None` on overflow.
    pub(crate) fn extent(&self) -> Option<Vec<usize>> {
        self.kernel.iter().zip(&self.dilations).map(|(k, d)| (k - 1).checked_mul(*d)?.checked_add(1)).collect()
    }

    /// Stands along each axis of an input of `spatial` cells; `None` where the window does not fit.
    pub(crate) fn output(&self, spatial: &[usize]) -> Option<Vec<usize>> {
        let extent = self.extent()?;
        (0..spatial.len())
            .map(|i| {
                let padded = spatial[i].checked_add(self.pads[i].0)?.checked_add(self.pads[i].1)?;
                Some(padded.checked_sub(extent[i])? / self.strides[i] + 1)
            })
            .collect()
    }

    /// Every cell of the window, row by row.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Vec<usize>> + '_ {
        (0..self.kernel.iter().product()).map(|flat| {
            let mut rest = flat;
            let mut cell: Vec<usize> = self.kernel.iter().rev().map(|k| (rest % k, rest /= k).0).collect();
            cell.reverse();
            cell
        })
    }

    /// Pads the end so far that the output size rounds up; a last stand wholly in the padding does not count.
    pub(crate) fn round_up(&mut self, spatial: &[usize]) {
        let Some(extent) = self.extent() else { return };
        for i in 0..spatial.len() {
            let (before, after) = self.pads[i];
            let Some(room) = (spatial[i] + before + after).checked_sub(extent[i]) else { continue };
            let mut stands = room.div_ceil(self.strides[i]) + 1;
            if (stands - 1) * self.strides[i] >= spatial[i] + before {
                stands -= 1;
            }
            self.pads[i].1 = ((stands - 1) * self.strides[i] + extent[i]).saturating_sub(spatial[i] + before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_puts_the_odd_cell_at_the_end_or_the_beginning() {
        let window = |auto_pad| Window { strides: vec![2], auto_pad, ..Window::default() };
        // 5 cells, stride 2: 3 stands of 2 cells need (3 − 1)·2 + 2 = 6 cells.
        let upper = Sliding::new(&window(AutoPad::SameUpper), &[2], &[5]);
        assert_eq!(upper.as_ref().map(|s| s.pads.clone()), Ok(vec![(0, 1)]));
        assert_eq!(upper.ok().and_then(|s| s.output(&[5])), Some(vec![3]));
        assert_eq!(Sliding::new(&window(AutoPad::SameLower), &[2], &[5]).map(|s| s.pads), Ok(vec![(1, 0)]));
    }

    #[test]
    fn rounding_up_adds_a_stand_that_still_touches_the_input() {
        let mut sliding = Sliding::new(&Window { strides: vec![2], ..Window::default() }, &[3], &[6]).expect("fits");
        assert_eq!(sliding.output(&[6]), Some(vec![2])); // ⌊(6 − 3)/2⌋ + 1
        sliding.round_up(&[6]);
        assert_eq!(sliding.output(&[6]), Some(vec![3])); // ⌈(6 − 3)/2⌉ + 1
        // One cell, window 1, stride 2, one cell of padding after: the second stand would see padding only.
        let mut alone = Sliding::new(&Window { strides: vec![2], pads: vec![0, 1], ..Window::default() }, &[1], &[1]).expect("fits");
        alone.round_up(&[1]);
        assert_eq!(alone.output(&[1]), Some(vec![1]));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let zero = Window { strides: vec![0], ..Window::default() };
        assert_eq!(Sliding::new(&zero, &[2], &[5]), Err("strides contain 0".into()));
        let short = Window { pads: vec![1], ..Window::default() };
        assert_eq!(Sliding::new(&short, &[2], &[5]), Err("1 pads are given for 1 spatial axes".into()));
    }
}
