//! Convolution over one or two spatial axes, and its two gradients.
#![allow(unsafe_code)] // Tiles are handed to the innermost loop as pointers.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::functions::clip;
use super::panels::{Order, Panels, panels};
use super::simd::{Level, MOST_LANES, vectorized};
use super::tile::{self, ROWS, Start, Tile, VECTORS};
use super::window::{Block, Correlation};
use super::{depthwise, filled};

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
    pub(super) fn cells(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Elements of one image of the input.
    pub(super) fn in_image(&self) -> usize {
        self.groups * self.in_channels * self.input[0] * self.input[1]
    }

    /// Elements of one image of the output.
    pub(super) fn out_image(&self) -> usize {
        self.groups * self.out_channels * self.output[0] * self.output[1]
    }

    fn weights(&self) -> usize {
        self.groups * self.out_channels * self.in_channels * self.cells()
    }

    /// Whether every channel is convolved by itself.
    fn depthwise(&self) -> bool {
        self.in_channels == 1 && self.out_channels == 1 && self.groups > 1
    }

    fn check(&self, x: usize, w: usize, y: usize) {
        let expected = [self.batch * self.in_image(), self.weights(), self.batch * self.out_image()];
        assert_eq!([x, w, y], expected, "tensors do not fit the convolution {self:?}");
    }

    /// y[q] = Σ w[k] · x[stride·q + dilation·k − before], with the cell of each tap.
    fn forward(&self) -> (Correlation, Vec<usize>) {
        let mut correlation = Correlation {
            source: self.input,
            channels: self.groups * self.in_channels,
            step: self.stride,
            taps: vec![],
            stands: self.output,
            plane: self.output,
            out_step: [1, 1],
            out_at: [0, 0],
        };
        let place = |i: usize, k: usize| (self.dilation[i] * k) as isize - self.before[i] as isize;
        let taps = (0..self.cells()).map(|k| ([place(0, k / self.kernel[1]), place(1, k % self.kernel[1])], k));
        let seen: Vec<_> = taps.filter(|(tap, _)| correlation.sees(*tap)).collect();
        correlation.taps = seen.iter().map(|(tap, _)| *tap).collect();
        (correlation, seen.into_iter().map(|(_, cell)| cell).collect())
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
                let mut correlation = Correlation {
                    source: self.output,
                    channels: self.groups * self.out_channels,
                    step: [1, 1],
                    taps: vec![],
                    stands: [0, 1].map(|i| (self.input[i] - at[i]).div_ceil(self.stride[i])),
                    plane: self.input,
                    out_step: self.stride,
                    out_at: at,
                };
                let (rows, cols) = (taps(0, at[0]), taps(1, at[1]));
                let pairs = rows.iter().flat_map(|row| cols.iter().map(move |col| ([row.1, col.1], row.0 * self.kernel[1] + col.0)));
                let seen: Vec<_> = pairs.filter(|(tap, _)| correlation.sees(*tap)).collect();
                correlation.taps = seen.iter().map(|(tap, _)| *tap).collect();
                (correlation, seen.into_iter().map(|(_, cell)| cell).collect())
            })
            .collect()
    }
}

/// Y [batch, output, groups · out_channels] of X [batch, input, groups · in_channels], W [groups · out_channels, in_channels,
/// kernel] and a bias for each output channel, kept between bounds.
pub(crate) fn forward(shape: &Shape, x: &[f32], w: &[f32], bias: Option<&[f32]>, bounds: Option<[f32; 2]>) -> Vec<f32> {
    forward_on(Level::detect(), shape, x, w, bias, bounds)
}

fn forward_on(level: Level, shape: &Shape, x: &[f32], w: &[f32], bias: Option<&[f32]>, bounds: Option<[f32; 2]>) -> Vec<f32> {
    let size = shape.batch * shape.out_image();
    shape.check(x.len(), w.len(), size);
    if shape.depthwise() {
        return depthwise::forward(level, shape, x, w, bias, bounds);
    }
    let (correlation, cells) = shape.forward();
    let order =
        Order { columns: shape.out_channels, column: shape.in_channels * shape.cells(), depth: shape.in_channels, channel: shape.cells() };
    let panels = Panels::new(level, shape.groups, &order, &cells, w, bias);
    // SAFETY: the stands of a convolution's windows are all places of the output.
    unsafe { filled(size, |y| correlate(&correlation, shape.batch, &panels, x, bounds, y)) }
}

/// Gradient of X from that of Y.
pub(crate) fn input_gradient(shape: &Shape, w: &[f32], dy: &[f32]) -> Vec<f32> {
    input_gradient_on(Level::detect(), shape, w, dy)
}

fn input_gradient_on(level: Level, shape: &Shape, w: &[f32], dy: &[f32]) -> Vec<f32> {
    let size = shape.batch * shape.in_image();
    shape.check(size, w.len(), dy.len());
    if shape.depthwise() {
        return depthwise::input_gradient(level, shape, w, dy);
    }
    let channel = shape.in_channels * shape.cells();
    let order = Order { columns: shape.in_channels, column: shape.cells(), depth: shape.out_channels, channel };
    // Every place of the input has one remainder, so that together the phases write them all; sums of nothing are written too.
    let write = |dx: &mut [MaybeUninit<f32>]| {
        for (correlation, cells) in shape.backward() {
            let panels = Panels::new(level, shape.groups, &order, &cells, w, None);
            correlate(&correlation, shape.batch, &panels, dy, None, dx);
        }
    };
    // SAFETY: as just said.
    unsafe { filled(size, write) }
}

/// A correlation of every image. Writes the places of the result that the correlation has stands for.
fn correlate(correlation: &Correlation, batch: usize, panels: &Panels, x: &[f32], bounds: Option<[f32; 2]>, y: &mut [MaybeUninit<f32>]) {
    let stands = batch * correlation.stands[0] * correlation.stands[1];
    let channels = panels.groups * panels.columns;
    let line = correlation.plane[1] * channels;
    let (in_image, out_image) = (x.len() / batch.max(1), correlation.plane[0] * line);
    if stands == 0 || y.is_empty() {
        return;
    }
    let wanted = (stands / (2 * rayon::current_num_threads())).clamp(24, 512);
    let portion = correlation.portion(batch, wanted);
    let band = portion.rows * correlation.out_step[0] * line;
    y.par_chunks_mut(portion.images * out_image).zip(x.par_chunks(portion.images * in_image)).for_each(|(y, x)| {
        let band = if portion.images == 1 { band } else { y.len() };
        y.par_chunks_mut(band).enumerate().for_each(|(i, y)| {
            let rows = i * portion.rows..((i + 1) * portion.rows).min(correlation.stands[0]);
            if !rows.is_empty() {
                Block::read(correlation, x, rows, |block| products(&block, panels, bounds, y));
            }
        });
    });
}

/// Taps of `depth` channels whose elements follow each other are read in one run: the first of each run, and its length.
fn runs(taps: &[usize], depth: usize, groups: usize) -> (Vec<usize>, usize) {
    let follows = |pair: &[usize]| groups == 1 && pair[1] == pair[0] + depth;
    let together = taps.windows(2).take_while(|pair| follows(pair)).count() + 1;
    let regular = taps.len().is_multiple_of(together) && taps.chunks(together).all(|taps| taps.windows(2).all(follows));
    if regular { (taps.iter().copied().step_by(together).collect(), together * depth) } else { (taps.to_vec(), depth) }
}

/// The result for one block; `y` begins with its first row.
fn products(block: &Block<'_>, panels: &Panels, bounds: Option<[f32; 2]>, y: &mut [MaybeUninit<f32>]) {
    let (lanes, channels) = (panels.level.lanes(), panels.groups * panels.columns);
    let (stands, taps) = (block.stands(channels), block.taps());
    assert_eq!(taps.len(), panels.taps, "weights have a cell for each tap");
    let (runs, length) = runs(&taps, panels.depth, panels.groups);
    let reach = taps.iter().max().map_or(0, |tap| tap + (panels.groups * panels.depth));
    assert!(stands.iter().all(|[at, out]| at + reach <= block.data.len() && out + channels <= y.len()), "a stand lies outside");
    let mut spread = [0.0; ROWS * VECTORS * MOST_LANES];
    for panel in &panels.panels {
        let width = panel.vectors * lanes;
        let whole = width == panel.columns.len();
        let column = panel.group * panels.columns + panel.columns.start;
        for stands in stands.chunks(tile::rows_for(panels.level, panel.vectors)) {
            let mut call = Tile {
                a: [std::ptr::null(); ROWS],
                runs: &runs,
                length,
                stride: 1,
                b: panel.weights.as_ptr(),
                start: Start::Bias(panel.bias.as_ptr()),
                out: [std::ptr::null_mut(); ROWS],
            };
            for (r, [at, out]) in stands.iter().enumerate() {
                call.a[r] = block.data[at + panel.group * panels.depth..].as_ptr();
                call.out[r] = if whole { y[out + column..].as_mut_ptr().cast() } else { spread[r * width..].as_mut_ptr() };
            }
            // SAFETY: `Level` is of this processor. Each row of A lies in the block from its stand on, as checked above; the panel
            // has a row of `width` for each tap and channel, its bias room for the widest panel. A row of the result has `width`
            // elements in `y` where the panel is whole, else in `spread`, which has room for the largest tile.
            unsafe { tile::kernel(panels.level, stands.len(), panel.vectors)(&call) };
            if !whole {
                for ([_, out], spread) in stands.iter().zip(spread.chunks_exact(width)) {
                    let y = &mut y[out + column..][..panel.columns.len()];
                    y.iter_mut().zip(spread).for_each(|(y, value)| _ = y.write(*value));
                }
            }
        }
    }
    if let Some(bounds) = bounds {
        for [_, out] in &stands {
            // SAFETY: the panels cover every channel of each stand, and have just written them.
            clip_row(panels.level, unsafe { y[*out..*out + channels].assume_init_mut() }, bounds);
        }
    }
}

vectorized! {
    fn clip_row(y: &mut [f32], bounds: [f32; 2]) {
        y.iter_mut().for_each(|y| *y = clip(*y, bounds));
    }
}

/// Gradient of W from X and the gradient of Y.
pub(crate) fn weight_gradient(shape: &Shape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    weight_gradient_on(Level::detect(), shape, x, dy)
}

fn weight_gradient_on(level: Level, shape: &Shape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    /// Elements of all parts of the gradient together.
    const PARTS: usize = 1 << 19;
    /// Stands that are worth a part.
    const STANDS: usize = 1 << 9;
    let size = shape.weights();
    shape.check(x.len(), size, dy.len());
    if shape.depthwise() {
        return depthwise::weight_gradient(level, shape, x, dy);
    }
    let mut dw = vec![0.0; size];
    if dw.is_empty() || x.is_empty() || dy.is_empty() {
        return dw;
    }
    let (correlation, cells) = shape.forward();
    let width = shape.out_channels.next_multiple_of(level.lanes());
    let depth = cells.len() * shape.in_channels;
    if depth == 0 {
        // Every window stands beside the input.
        return dw;
    }
    // The batch is cut into parts by the shape alone, so that the order of the sum is always the same.
    let stands = shape.batch * shape.output[0] * shape.output[1];
    let parts = (PARTS / (shape.groups * depth * width).max(1)).clamp(1, 8).min(stands.div_ceil(STANDS)).min(shape.batch);
    let part = shape.batch.div_ceil(parts);
    // Where parts are few, the rows of the gradient are shared out as well.
    let rows = (shape.groups * depth).div_ceil(8 / parts).next_multiple_of(ROWS);
    let sums: Vec<Vec<f32>> = x
        .par_chunks(part * shape.in_image())
        .zip(dy.par_chunks(part * shape.out_image()))
        .map(|(x, dy)| {
            let mut sums = vec![0.0; shape.groups * depth * width];
            sums.par_chunks_mut(rows * width).enumerate().for_each(|(i, sums)| {
                part_of_weight_gradient(level, shape, &correlation, x, dy, i * rows, sums);
            });
            sums
        })
        .collect();
    // From [groups, taps, in_channels, out_channels] to W's order, some output channels at a time.
    let of_column = shape.in_channels * shape.cells();
    dw.par_chunks_mut(shape.out_channels * of_column).enumerate().for_each(|(group, dw)| {
        dw.par_chunks_mut(MOST_LANES * of_column).enumerate().for_each(|(i, dw)| {
            for (t, cell) in cells.iter().enumerate() {
                for c in 0..shape.in_channels {
                    let at = ((group * cells.len() + t) * shape.in_channels + c) * width + i * MOST_LANES;
                    for (column, dw) in dw.iter_mut().skip(c * shape.cells() + cell).step_by(of_column).enumerate() {
                        *dw = sums.iter().map(|sums| sums[at + column]).sum();
                    }
                }
            }
        });
    });
    dw
}

/// Adds what some of the images contribute to `sums`: rows from `first` on of the gradient [groups · taps · in_channels, width].
fn part_of_weight_gradient(level: Level, shape: &Shape, correlation: &Correlation, x: &[f32], dy: &[f32], first: usize, sums: &mut [f32]) {
    /// Stands of a block, so many that starting a tile costs little.
    const WANTED: usize = 256;
    let out_channels = shape.groups * shape.out_channels;
    let mut vectors = vec![];
    if correlation.is_matrix() {
        // One row of stands that goes on from image to image.
        for (x, dy) in x.chunks(WANTED * correlation.channels).zip(dy.chunks(WANTED * out_channels)) {
            let stands = dy.len() / out_channels;
            let line = Correlation { source: [1, stands], stands: [1, stands], plane: [1, stands], ..correlation.clone() };
            Block::read(&line, x, 0..1, |block| sums_of_products(level, shape, &block, dy, first, &mut vectors, sums));
        }
        return;
    }
    let portion = correlation.portion(x.len() / shape.in_image(), WANTED);
    let images = x.chunks(portion.images * shape.in_image()).zip(dy.chunks(portion.images * shape.out_image()));
    for (x, dy) in images {
        let band = if portion.images == 1 { WANTED.div_ceil(shape.output[1]).min(shape.output[0]) } else { shape.output[0] };
        for top in (0..shape.output[0]).step_by(band) {
            let rows = top..(top + band).min(shape.output[0]);
            let line = shape.output[1] * out_channels;
            let dy = if portion.images == 1 { &dy[rows.start * line..rows.end * line] } else { dy };
            Block::read(correlation, x, rows, |block| sums_of_products(level, shape, &block, dy, first, &mut vectors, sums));
        }
    }
}

/// Columns `first..first + count` of rows of `stand` elements side by side, each row `width` wide with zeros at its end; `room`
/// takes them where they do not stand so already.
fn panel_of_rows<'a>(rows: &'a [f32], stand: usize, first: usize, count: usize, width: usize, room: &'a mut Vec<f32>) -> &'a [f32] {
    fn copy<const N: usize>(rows: &[f32], stand: usize, first: usize, room: &mut [f32]) {
        for (to, row) in room.as_chunks_mut::<N>().0.iter_mut().zip(rows.chunks_exact(stand)) {
            to.copy_from_slice(&row[first..first + N]);
        }
    }
    if stand == width && count == width {
        return rows;
    }
    room.clear();
    room.resize(rows.len() / stand * width, 0.0);
    match count {
        // Two vectors or one: copied without a call.
        8 if width == 8 => copy::<8>(rows, stand, first, room),
        16 if width == 16 => copy::<16>(rows, stand, first, room),
        32 if width == 32 => copy::<32>(rows, stand, first, room),
        _ => {
            for (to, row) in room.chunks_exact_mut(width).zip(rows.chunks_exact(stand)) {
                to[..count].copy_from_slice(&row[first..first + count]);
            }
        }
    }
    room
}

/// Adds the contribution of one block: sums[k][m] += Σ over stands of x[stand + k] · dy[stand][m]. `vectors` is room for dY.
fn sums_of_products(level: Level, shape: &Shape, block: &Block<'_>, dy: &[f32], first: usize, vectors: &mut Vec<f32>, sums: &mut [f32]) {
    let (taps, runs) = (block.taps(), block.row_starts());
    let stand = shape.groups * shape.out_channels;
    let length = dy.len() / stand / runs.len();
    let width = shape.out_channels.next_multiple_of(level.lanes());
    let depth = taps.len() * shape.in_channels;
    let reach = runs.iter().max().map_or(0, |run| run + (length - 1) * block.stride());
    let channel = |row: usize| {
        let (group, k) = (row / depth, row % depth);
        let at = taps[k / shape.in_channels] + group * shape.in_channels + k % shape.in_channels;
        block.data[at..][..=reach].as_ptr()
    };
    let end = first + sums.len() / width;
    let channels: Vec<*const f32> = (first..end).map(channel).collect();
    for group in first / depth..end.div_ceil(depth) {
        // Rows of this group, counted from `first`.
        let (top, bottom) = ((group * depth).max(first) - first, ((group + 1) * depth).min(end) - first);
        for (column, panel) in panels(shape.out_channels, level.lanes()) {
            let panel_width = panel * level.lanes();
            let columns = column..(column + panel_width).min(shape.out_channels);
            let dy = panel_of_rows(dy, stand, group * shape.out_channels + columns.start, columns.len(), panel_width, vectors);
            let rows = tile::rows_for(level, panel);
            for row in (top..bottom).step_by(rows) {
                let count = rows.min(bottom - row);
                let mut call = Tile {
                    a: [std::ptr::null(); ROWS],
                    runs: &runs,
                    length,
                    stride: block.stride(),
                    b: dy.as_ptr(),
                    start: Start::Result,
                    out: [std::ptr::null_mut(); ROWS],
                };
                call.a[..count].copy_from_slice(&channels[row..row + count]);
                for (out, sums) in call.out.iter_mut().zip(sums[row * width..(row + count) * width].chunks_exact_mut(width)) {
                    *out = sums[column..][..panel_width].as_mut_ptr();
                }
                // SAFETY: `Level` is of this processor. Each row of A is read at the stands alone, the last of which lies in the block,
                // as just sliced; the panel of dY has a row for each stand; rows of the result were sliced.
                unsafe { tile::kernel(level, count, panel)(&call) };
            }
        }
    }
}

#[cfg(test)]
mod tests;
