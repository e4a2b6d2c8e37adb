//! The operand that tiles read as vectors, in the order in which they read it.

use rayon::prelude::*;

use super::simd::{Level, MOST_LANES};
use super::tile::VECTORS;

/// Source channels that are turned together, so that what is written stays in the first-level cache.
const CHANNELS: usize = 16;

/// The weights in the order in which tiles read them.
pub(super) struct Panels {
    pub(super) level: Level,
    pub(super) groups: usize,
    /// Channels of the result and of the source, of one group.
    pub(super) columns: usize,
    pub(super) depth: usize,
    pub(super) taps: usize,
    pub(super) panels: Vec<Panel>,
}

/// Some channels of the result, all of one group: `[taps · depth, width]`, and where they start from.
pub(super) struct Panel {
    pub(super) group: usize,
    pub(super) columns: std::ops::Range<usize>,
    pub(super) vectors: usize,
    pub(super) weights: Vec<f32>,
    pub(super) bias: [f32; VECTORS * MOST_LANES],
}

/// Splits columns into panels: (first column, vectors).
pub(super) fn panels(columns: usize, lanes: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut left = columns.div_ceil(lanes);
    let mut first = 0;
    std::iter::from_fn(move || {
        let vectors = left.min(VECTORS);
        let panel = (first, vectors);
        left -= vectors;
        first += vectors * lanes;
        (vectors > 0).then_some(panel)
    })
}

/// How the weights of a group are read: channels of the result and of the source, and elements from one to the next.
pub(super) struct Order {
    pub(super) columns: usize,
    pub(super) column: usize,
    pub(super) depth: usize,
    pub(super) channel: usize,
}

impl Panels {
    pub(super) fn new(level: Level, groups: usize, order: &Order, cells: &[usize], w: &[f32], bias: Option<&[f32]>) -> Self {
        let places: Vec<_> = (0..groups).flat_map(|group| panels(order.columns, level.lanes()).map(move |panel| (group, panel))).collect();
        let of_group = w.len() / groups;
        let panel = |(group, (first, vectors)): (usize, (usize, usize))| {
            let width = vectors * level.lanes();
            let columns = first..(first + width).min(order.columns);
            let w = &w[group * of_group..(group + 1) * of_group];
            let mut weights = vec![0.0; cells.len() * order.depth * width];
            for (cell, weights) in cells.iter().zip(weights.chunks_exact_mut(order.depth * width)) {
                // Read in the order of memory, as far as a line of the cache reaches.
                if order.column == 1 {
                    for (c, weights) in weights.chunks_exact_mut(width).enumerate() {
                        weights[..columns.len()].copy_from_slice(&w[c * order.channel + cell..][columns.clone()]);
                    }
                } else if order.channel < order.column {
                    for (c, weights) in weights.chunks_mut(CHANNELS * width).enumerate() {
                        let first = c * CHANNELS * order.channel + cell;
                        for (i, column) in columns.clone().enumerate() {
                            let w = &w[column * order.column + first..];
                            for (c, weights) in weights.chunks_exact_mut(width).enumerate() {
                                weights[i] = w[c * order.channel];
                            }
                        }
                    }
                } else {
                    for (c, weights) in weights.chunks_exact_mut(width).enumerate() {
                        let w = w[c * order.channel + columns.start * order.column + cell..].iter().step_by(order.column);
                        weights.iter_mut().take(columns.len()).zip(w).for_each(|(to, w)| *to = *w);
                    }
                }
            }
            let mut start = [0.0; VECTORS * MOST_LANES];
            if let Some(bias) = bias {
                start[..columns.len()].copy_from_slice(&bias[group * order.columns..][columns.clone()]);
            }
            Panel { group, columns, vectors, weights, bias: start }
        };
        let panels = places.into_par_iter().map(panel).collect();
        Panels { level, groups, columns: order.columns, depth: order.depth, taps: cells.len(), panels }
    }
}
