//! Convolution over one or two spatial axes, and its two gradients.
#![allow(unsafe_code)] // Tiles are handed to the innermost loops as pointers.

use rayon::prelude::*;

use super::simd::Level;
use super::tile::{self, ROWS, SUM_COLS, SUM_ROWS, VECTORS};
use super::view::{Correlation, View};

/// Sizes of a convolution; one spatial axis is a single row. Channels are counted for one group.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) batch: usize,
    pub(crate) groups: usize,
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) input: [usize; 2],
    pub(crate) output: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Padding at the beginning of each axis.
    pub(crate) before: [usize; 2],
}

impl Shape {
    fn cells(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Elements of the input's images.
    fn in_image(&self) -> usize {
        self.groups * self.in_channels * self.input[0] * self.input[1]
    }

    /// Elements of the output's images.
    fn out_image(&self) -> usize {
        self.groups * self.out_channels * self.output[0] * self.output[1]
    }

    fn weights(&self) -> usize {
        self.groups * self.out_channels * self.in_channels * self.cells()
    }

    /// y[q] = Σ w[k] · x[stride·q + dilation·k − before]
    fn forward(&self) -> Correlation {
        let tap = |i: usize, k: usize| (self.dilation[i] * k) as isize - self.before[i] as isize;
        Correlation {
            channels: self.in_channels,
            source: self.input,
            step: self.stride,
            taps: (0..self.cells()).map(|k| [tap(0, k / self.kernel[1]), tap(1, k % self.kernel[1])]).collect(),
            stands: self.output,
            plane: self.output,
            out_step: [1, 1],
            out_at: [0, 0],
        }
    }

    /// The adjoint, one correlation for each remainder of the input's place modulo the stride:
    /// dx[i] = Σ w[k] · dy[(i + before − dilation·k) / stride] over the cells k that divide. With the cell of each tap.
    fn backward(&self) -> Vec<(Correlation, Vec<usize>)> {
        let taps = |i: usize, phase: usize| -> Vec<(usize, isize)> {
            let stride = self.stride[i] as isize;
            let place = |k: usize| phase as isize + self.before[i] as isize - (self.dilation[i] * k) as isize;
            (0..self.kernel[i]).filter(|k| place(*k) % stride == 0).map(|k| (k, place(k) / stride)).collect()
        };
        let phases = (0..self.stride[0].min(self.input[0])).flat_map(|a| (0..self.stride[1].min(self.input[1])).map(move |b| [a, b]));
        phases
            .map(|at| {
                let (rows, cols) = (taps(0, at[0]), taps(1, at[1]));
                let pairs = || rows.iter().flat_map(|row| cols.iter().map(move |col| (*row, *col)));
                let correlation = Correlation {
                    channels: self.out_channels,
                    source: self.output,
                    step: [1, 1],
                    taps: pairs().map(|((_, row), (_, col))| [row, col]).collect(),
                    stands: [0, 1].map(|i| (self.input[i] - at[i]).div_ceil(self.stride[i])),
                    plane: self.input,
                    out_step: self.stride,
                    out_at: at,
                };
                (correlation, pairs().map(|((row, _), (col, _))| row * self.kernel[1] + col).collect())
            })
            .collect()
    }
}

/// Y [batch, groups · out_channels, output] of X [batch, groups · in_channels, input], W [groups · out_channels, in_channels,
/// kernel] and a bias for each output channel.
pub(crate) fn forward(shape: &Shape, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    forward_on(Level::detect(), shape, x, w, bias, y);
}

fn forward_on(level: Level, shape: &Shape, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let (depth, rows) = (shape.in_channels * shape.cells(), shape.out_channels);
    let weight = |group: usize, row: usize, k: usize| w[(group * rows + row) * depth + k];
    correlate(level, &shape.forward(), [shape.batch, shape.groups, rows], weight, bias, x, y);
}

/// Gradient of X from that of Y; `dx` is zero before.
pub(crate) fn input_gradient(shape: &Shape, w: &[f32], dy: &[f32], dx: &mut [f32]) {
    input_gradient_on(Level::detect(), shape, w, dy, dx);
}

fn input_gradient_on(level: Level, shape: &Shape, w: &[f32], dy: &[f32], dx: &mut [f32]) {
    let (rows, cells) = (shape.in_channels, shape.cells());
    for (correlation, cell) in shape.backward() {
        let weight = |group: usize, row: usize, k: usize| {
            let out_channel = group * shape.out_channels + k / cell.len();
            w[(out_channel * rows + row) * cells + cell[k % cell.len()]]
        };
        correlate(level, &correlation, [shape.batch, shape.groups, rows], weight, None, dy, dx);
    }
}

/// Rows of a tile: `rows` in as few parts as there can be, as even as can be.
fn tiles(rows: usize, most: usize) -> impl Iterator<Item = std::ops::Range<usize>> + Clone {
    let parts = rows.div_ceil(most).max(1);
    (0..parts).map(move |part| part * rows / parts..(part + 1) * rows / parts)
}

/// A correlation of every group with `rows` results each; `weight(group, row, k)` for k over channels and taps.
fn correlate(
    level: Level,
    correlation: &Correlation,
    [batch, groups, rows]: [usize; 3],
    weight: impl Fn(usize, usize, usize) -> f32,
    bias: Option<&[f32]>,
    x: &[f32],
    y: &mut [f32],
) {
    const WANTED: usize = 32;
    let depth = correlation.channels * correlation.taps.len();
    let plane = correlation.plane[0] * correlation.plane[1];
    let source = correlation.channels * correlation.source[0] * correlation.source[1];
    let (in_image, out_image) = (groups * source, groups * rows * plane);
    if depth == 0 || y.is_empty() {
        return;
    }
    assert!(x.len() == batch * in_image && y.len() == batch * out_image, "tensors do not fit the convolution");
    let mut packed = Vec::with_capacity(groups * rows * depth);
    for group in 0..groups {
        for tile in tiles(rows, ROWS) {
            packed.extend((0..depth).flat_map(|k| tile.clone().map(move |row| (row, k))).map(|(row, k)| weight(group, row, k)));
        }
    }
    let view = |most: usize| View::new(correlation, level.lanes(), WANTED, most, out_image);
    let full = view(batch.div_ceil(rayon::current_num_threads()));
    let rest = (!batch.is_multiple_of(full.images)).then(|| view(batch % full.images));
    y.par_chunks_mut(full.images * out_image).enumerate().for_each_init(
        || vec![0.0; if full.in_place() { 0 } else { full.size() }],
        |copy, (block, y)| {
            let view = match &rest {
                Some(rest) if y.len() == rest.images * out_image => {
                    copy.fill(0.0);
                    rest
                }
                _ => &full,
            };
            assert_eq!(view.images * out_image, y.len(), "blocks cover the batch");
            let size = if view.in_place() { 0 } else { view.size() };
            for group in 0..groups {
                let x = &x[block * full.images * in_image + group * source..];
                view.fill(x, in_image, &mut copy[..size]);
                let matrix = if view.in_place() { &x[..view.size()] } else { &copy[..size] };
                let packed = &packed[group * rows * depth..][..rows * depth];
                for tile in tiles(rows, ROWS) {
                    let bias = std::array::from_fn(|r| match bias {
                        Some(bias) if r < tile.len() => bias[group * rows + tile.start + r],
                        _ => 0.0,
                    });
                    let weights = &packed[tile.start * depth..][..tile.len() * depth];
                    let y = &mut y[(group * rows + tile.start) * plane..];
                    products(level, view, matrix, weights, tile.len(), bias, plane, y);
                }
            }
        },
    );
}

/// A few rows of the result of a block of images; `y` from the first of them.
#[allow(clippy::too_many_arguments, reason = "one call of the innermost loop over the vectors of a block")]
fn products(level: Level, view: &View, matrix: &[f32], weights: &[f32], rows: usize, bias: [f32; ROWS], plane: usize, y: &mut [f32]) {
    let lanes = level.lanes();
    let mut spread = [0.0; 12 * 16];
    let vectors = view.at.len();
    for first in (0..vectors).step_by(tile::vectors_for(rows)) {
        let count = tile::vectors_for(rows).min(vectors - first);
        let mut call = tile::Products {
            steps: &view.steps,
            weights: weights.as_ptr(),
            bias,
            at: [std::ptr::null(); VECTORS],
            out: [std::ptr::null_mut(); VECTORS],
            out_row: plane,
        };
        for (at, offset) in call.at.iter_mut().zip(&view.at[first..first + count]) {
            *at = matrix[*offset..].as_ptr();
        }
        let kernel = tile::product_kernel(level, rows, count);
        if let Some(places) = view.straight(first, count) {
            for (out, place) in call.out.iter_mut().zip(places) {
                *out = y[place..place + (rows - 1) * plane + lanes].as_mut_ptr();
            }
            // SAFETY: `Level` is of this processor; `View::new` saw to it that every vector lies in the matrix, of which `matrix`
            // has all; `weights` has a row of the tile for each step; rows of the result lie in `y`, as just sliced.
            unsafe { kernel(&call) };
        } else {
            call.out_row = count * lanes;
            for (v, out) in call.out[..count].iter_mut().enumerate() {
                *out = spread[v * lanes..].as_mut_ptr();
            }
            assert!(rows * count * lanes <= spread.len(), "a tile has at most twelve vectors");
            // SAFETY: as above, but that the tile is written to `spread`, which has room for it.
            unsafe { kernel(&call) };
            for (lane, place) in view.lanes_of(first, count) {
                for row in 0..rows {
                    y[row * plane + place] = spread[row * count * lanes + lane];
                }
            }
        }
    }
}

/// Gradient of W from X and the gradient of Y.
pub(crate) fn weight_gradient(shape: &Shape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    weight_gradient_on(Level::detect(), shape, x, dy, dw);
}

fn weight_gradient_on(level: Level, shape: &Shape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    /// Elements of all parts of the gradient together.
    const PARTS: usize = 1 << 19;
    assert!(x.len() == shape.batch * shape.in_image() && dy.len() == shape.batch * shape.out_image(), "tensors do not fit the convolution");
    assert_eq!(dw.len(), shape.weights(), "the gradient does not fit the weight");
    dw.fill(0.0);
    if dw.is_empty() || x.is_empty() || dy.is_empty() {
        return;
    }
    // The batch is cut into parts by the shape alone, so that the order of the sum is always the same.
    let parts = (PARTS / dw.len()).clamp(2, 8).min(shape.batch);
    let part = shape.batch.div_ceil(parts);
    let sums: Vec<Vec<f32>> = (0..shape.batch.div_ceil(part))
        .into_par_iter()
        .map(|i| {
            let images = i * part..((i + 1) * part).min(shape.batch);
            let mut dw = vec![0.0; dw.len()];
            let x = &x[images.start * shape.in_image()..images.end * shape.in_image()];
            let dy = &dy[images.start * shape.out_image()..images.end * shape.out_image()];
            part_of_weight_gradient(level, shape, x, dy, &mut dw);
            dw
        })
        .collect();
    for part in sums {
        dw.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
}

/// Adds what some of the images contribute.
fn part_of_weight_gradient(level: Level, shape: &Shape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    const WANTED: usize = 128;
    let (lanes, rows, depth) = (level.lanes(), shape.out_channels, shape.in_channels * shape.cells());
    let (in_image, out_image) = (shape.in_image(), shape.out_image());
    let source = shape.in_channels * shape.input[0] * shape.input[1];
    let plane = shape.output[0] * shape.output[1];
    let batch = x.len() / in_image;
    let correlation = shape.forward();
    let mut view = View::new(&correlation, lanes, WANTED, batch, out_image);
    let mut copy = vec![0.0; if view.in_place() { 0 } else { view.size() }];
    let mut gathered = vec![0.0; if view.is_line() { 0 } else { rows * view.at.len() * lanes }];
    let mut first = 0;
    while first < batch {
        if batch - first < view.images {
            view = View::new(&correlation, lanes, WANTED, batch - first, out_image);
            copy = vec![0.0; if view.in_place() { 0 } else { view.size() }];
            gathered.fill(0.0);
        }
        let length = view.at.len() * lanes;
        for group in 0..shape.groups {
            let x = &x[first * in_image + group * source..];
            view.fill(x, in_image, &mut copy);
            let matrix = if view.in_place() { &x[..view.size()] } else { &copy };
            let dy = &dy[first * out_image + group * rows * plane..];
            let dy = if view.is_line() {
                &dy[..rows * length]
            } else {
                for (row, gathered) in gathered.chunks_exact_mut(length).take(rows).enumerate() {
                    view.gather(&dy[row * plane..], gathered);
                }
                &gathered[..rows * length]
            };
            let dw = &mut dw[group * rows * depth..][..rows * depth];
            for tile in tiles(rows, SUM_ROWS) {
                for columns in tiles(depth, tile::columns_for(tile.len())) {
                    sums(level, &view, matrix, dy, tile.clone(), columns, dw);
                }
            }
        }
        first += view.images;
    }
}

/// Adds the contribution of a block of images to a few rows and columns of the gradient `dw` [rows, channels · taps].
fn sums(
    level: Level,
    view: &View,
    matrix: &[f32],
    dy: &[f32],
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    dw: &mut [f32],
) {
    let (length, depth) = (view.at.len() * level.lanes(), view.steps.len());
    let place = rows.start * depth + columns.start;
    let mut call = tile::Sums {
        at: &view.at,
        dy: [std::ptr::null(); SUM_ROWS],
        x: [std::ptr::null(); SUM_COLS],
        out: dw[place..place + (rows.len() - 1) * depth + columns.len()].as_mut_ptr(),
        out_row: depth,
    };
    for (to, row) in call.dy.iter_mut().zip(rows.clone()) {
        *to = dy[row * length..(row + 1) * length].as_ptr();
    }
    for (to, step) in call.x.iter_mut().zip(&view.steps[columns.clone()]) {
        *to = matrix[*step..].as_ptr();
    }
    // SAFETY: `Level` is of this processor; `View::new` saw to it that every vector lies in the matrix, of which `matrix` has
    // all; each row of `dy` has a vector for each of the view's; the rows and columns of the result lie in `dw`, as just sliced.
    unsafe { tile::sum_kernel(level, rows.len(), columns.len())(&call) };
}

#[cfg(test)]
mod tests;
