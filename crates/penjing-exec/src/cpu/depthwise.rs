//! Convolution of every channel by itself: vectors of channels, one product each.
#![allow(unsafe_code)] // `filled`

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::conv::Shape;
use super::filled;
use super::functions::clip;
use super::simd::{Level, vectorized};

/// Channels that are summed up together: one line of the cache.
const CHUNK: usize = 16;

/// A cell of the window along one axis, and the place that it sees.
type Seen = (usize, usize);

/// The cells that each stand of an axis sees.
fn seen_by_stands(shape: &Shape, axis: usize) -> Vec<Vec<Seen>> {
    (0..shape.output[axis]).map(|q| (0..shape.kernel[axis]).filter_map(|k| Some((k, place(shape, axis, q, k)?))).collect()).collect()
}

/// The cells that see each place of an axis, and the stand from which they do.
fn seen_from_places(shape: &Shape, axis: usize) -> Vec<Vec<Seen>> {
    let mut seen = vec![vec![]; shape.input[axis]];
    for q in 0..shape.output[axis] {
        for k in 0..shape.kernel[axis] {
            if let Some(place) = place(shape, axis, q, k) {
                seen[place].push((k, q));
            }
        }
    }
    seen
}

fn place(shape: &Shape, axis: usize, q: usize, k: usize) -> Option<usize> {
    (q * shape.stride[axis] + k * shape.dilation[axis]).checked_sub(shape.before[axis]).filter(|place| *place < shape.input[axis])
}

pub(super) fn forward(level: Level, shape: &Shape, x: &[f32], w: &[f32], bias: Option<&[f32]>, bounds: Option<[f32; 2]>) -> Vec<f32> {
    let seen = [0, 1].map(|axis| seen_by_stands(shape, axis));
    // SAFETY: `seen` has every place of the output, and `weighted_sums` writes each of them.
    unsafe { filled(shape.batch * shape.out_image(), |y| weighted_sums(level, shape, &seen, shape.input, x, w, bias, bounds, y)) }
}

pub(super) fn input_gradient(level: Level, shape: &Shape, w: &[f32], dy: &[f32]) -> Vec<f32> {
    let seen = [0, 1].map(|axis| seen_from_places(shape, axis));
    // SAFETY: `seen` has every place of the input, and `weighted_sums` writes each of them.
    unsafe { filled(shape.batch * shape.in_image(), |dx| weighted_sums(level, shape, &seen, shape.output, dy, w, None, None, dx)) }
}

/// Every place of the result is the sum of the places of the source that it sees, weighted by cell.
#[allow(clippy::too_many_arguments, reason = "the operands of one loop")]
fn weighted_sums(
    level: Level,
    shape: &Shape,
    seen: &[Vec<Vec<Seen>>; 2],
    source: [usize; 2],
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    bounds: Option<[f32; 2]>,
    y: &mut [MaybeUninit<f32>],
) {
    let (channels, cells) = (shape.groups, shape.cells());
    if y.is_empty() {
        return;
    }
    // [cells, channels]
    let w: Vec<f32> = (0..cells).flat_map(|cell| (0..channels).map(move |c| w[c * cells + cell])).collect();
    let zeros = vec![0.0; channels];
    let start = bias.unwrap_or(&zeros);
    let bounds = bounds.unwrap_or([f32::NEG_INFINITY, f32::INFINITY]);
    let image = source[0] * source[1] * channels;
    y.par_chunks_mut(seen[1].len() * channels).enumerate().for_each(|(i, y)| {
        let x = &x[i / seen[0].len() * image..][..image];
        let rows = &seen[0][i % seen[0].len()];
        let mut terms: Vec<(&[f32], &[f32])> = Vec::with_capacity(cells);
        for (y, cols) in y.chunks_exact_mut(channels).zip(&seen[1]) {
            terms.clear();
            for (a, row) in rows {
                let term = |(b, col): &Seen| {
                    (&x[(row * source[1] + col) * channels..][..channels], &w[(a * shape.kernel[1] + b) * channels..][..channels])
                };
                terms.extend(cols.iter().map(term));
            }
            sum_of_terms(level, start, &terms, bounds, y);
        }
    });
}

vectorized! {
    /// y = start + Σ x·w, channel by channel, kept between bounds.
    fn sum_of_terms(start: &[f32], terms: &[(&[f32], &[f32])], bounds: [f32; 2], y: &mut [MaybeUninit<f32>]) {
        let whole = y.len() / CHUNK * CHUNK;
        let (chunks, rest) = y.split_at_mut(whole);
        for (i, y) in chunks.chunks_exact_mut(CHUNK).enumerate() {
            let chunk = i * CHUNK..(i + 1) * CHUNK;
            let mut sums = [0.0; CHUNK];
            sums.copy_from_slice(&start[chunk.clone()]);
            for (x, w) in terms {
                let (x, w) = (&x[chunk.clone()], &w[chunk.clone()]);
                for c in 0..CHUNK {
                    sums[c] += x[c] * w[c];
                }
            }
            y.iter_mut().zip(sums).for_each(|(y, sum)| _ = y.write(clip(sum, bounds)));
        }
        for (c, y) in rest.iter_mut().enumerate() {
            let c = whole + c;
            y.write(clip(terms.iter().fold(start[c], |sum, (x, w)| sum + x[c] * w[c]), bounds));
        }
    }
}

pub(super) fn weight_gradient(level: Level, shape: &Shape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    /// Parts that the batch is cut into, so that the order of the sum is always the same.
    const PARTS: usize = 8;
    let (channels, cells) = (shape.groups, shape.cells());
    if x.is_empty() || dy.is_empty() {
        return vec![0.0; channels * cells];
    }
    let part = shape.batch.div_ceil(PARTS);
    let sums: Vec<Vec<f32>> = x
        .par_chunks(part * shape.in_image())
        .zip(dy.par_chunks(part * shape.out_image()))
        .map(|(x, dy)| {
            let mut sums = vec![0.0; cells * channels];
            for (x, dy) in x.chunks_exact(shape.in_image()).zip(dy.chunks_exact(shape.out_image())) {
                add_image(level, shape, x, dy, &mut sums);
            }
            sums
        })
        .collect();
    (0..channels * cells).map(|i| sums.iter().map(|sums| sums[i % cells * channels + i / cells]).sum()).collect()
}

vectorized! {
    /// Adds what one image contributes to `sums` [cells, channels].
    fn add_image(shape: &Shape, x: &[f32], dy: &[f32], sums: &mut [f32]) {
        let channels = shape.groups;
        // Along a row the stands at which a cell sees the image are neighbours.
        let stands = |b: usize| {
            let sees = |q: &usize| place(shape, 1, *q, b).is_some();
            let first = (0..shape.output[1]).find(sees)?;
            let end = (first..shape.output[1]).find(|q| !sees(q)).unwrap_or(shape.output[1]);
            Some((b, first..end, place(shape, 1, first, b)?))
        };
        let columns: Vec<_> = (0..shape.kernel[1]).filter_map(stands).collect();
        for (q, dy) in dy.chunks_exact(shape.output[1] * channels).enumerate() {
            for chunk in (0..channels).step_by(CHUNK) {
                let width = CHUNK.min(channels - chunk);
                for (a, row) in (0..shape.kernel[0]).filter_map(|a| Some((a, place(shape, 0, q, a)?))) {
                    for (b, stands, first) in &columns {
                        let x = x[(row * shape.input[1] + first) * channels..].chunks(shape.stride[1] * channels);
                        let dy = dy[stands.start * channels..stands.end * channels].chunks_exact(channels);
                        let mut products = [0.0; CHUNK];
                        if width == CHUNK {
                            for (x, dy) in x.zip(dy) {
                                let (x, dy) = (&x[chunk..chunk + CHUNK], &dy[chunk..chunk + CHUNK]);
                                for c in 0..CHUNK {
                                    products[c] += x[c] * dy[c];
                                }
                            }
                        } else {
                            for (x, dy) in x.zip(dy) {
                                for c in 0..width {
                                    products[c] += x[chunk + c] * dy[chunk + c];
                                }
                            }
                        }
                        let sums = &mut sums[(a * shape.kernel[1] + b) * channels + chunk..][..width];
                        sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
                    }
                }
            }
        }
    }
}
