//! How images are read under a sliding window.

use std::cell::RefCell;
use std::ops::Range;

/// A convolution, or one phase of its adjoint, over images [rows, columns, channels]: for every stand q of the window
/// `y[out_at + out_step·q] = Σ over taps and channels of w · x[step·q + tap]`, where what lies outside x is zero.
#[derive(Clone, Debug)]
pub(super) struct Correlation {
    pub(super) source: [usize; 2],
    /// Channels of all groups.
    pub(super) channels: usize,
    pub(super) step: [usize; 2],
    /// Those that see the source from some stand.
    pub(super) taps: Vec<[isize; 2]>,
    pub(super) stands: [usize; 2],
    /// Rows and columns of the result.
    pub(super) plane: [usize; 2],
    pub(super) out_step: [usize; 2],
    pub(super) out_at: [usize; 2],
}

/// Rows of stands in some images, and how many of each a task takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portion {
    pub(super) images: usize,
    pub(super) rows: usize,
}

/// Elements of a copy that stay in the second-level cache.
const CACHED: usize = 1 << 16;

impl Correlation {
    /// Whether a tap sees the source, rather than its border, from some stand.
    pub(super) fn sees(&self, tap: [isize; 2]) -> bool {
        (0..2).all(|i| (0..self.stands[i]).any(|q| (q * self.step[i]).checked_add_signed(tap[i]).is_some_and(|at| at < self.source[i])))
    }

    /// First and last row or column that a stand at the origin sees.
    fn reach(&self, axis: usize) -> [isize; 2] {
        let taps = || self.taps.iter().map(|tap| tap[axis]);
        [taps().min().unwrap_or(0), taps().max().unwrap_or(0)]
    }

    /// Whether no stand sees beyond the border.
    fn inside(&self) -> bool {
        (0..2).all(|i| {
            let [lo, hi] = self.reach(i);
            lo >= 0 && ((self.stands[i] - 1) * self.step[i]).checked_add_signed(hi).is_some_and(|at| at < self.source[i])
        })
    }

    /// Whether each stand sees one place and all places are seen in order: images are rows of a matrix, one behind the other.
    pub(super) fn is_matrix(&self) -> bool {
        self.taps == [[0, 0]] && self.step == [1, 1] && self.stands == self.source
    }

    /// Tasks of about `wanted` stands, and of no more than the cache holds.
    pub(super) fn portion(&self, batch: usize, wanted: usize) -> Portion {
        let per_image = (self.stands[0] * self.stands[1]).max(1);
        let line = (self.source[1] * self.channels).max(1);
        if per_image * 2 <= wanted {
            let cached = CACHED / (self.source[0].max(1) * line);
            return Portion { images: (wanted / per_image).min(batch).min(cached).max(1), rows: self.stands[0] };
        }
        let cached = CACHED / (self.step[0] * line);
        let rows = if batch >= 2 * rayon::current_num_threads() { self.stands[0] } else { wanted.div_ceil(self.stands[1].max(1)) };
        Portion { images: 1, rows: rows.min(cached).clamp(1, self.stands[0].max(1)) }
    }
}

/// Some rows of stands of some images, ready to be read.
pub(super) struct Block<'a> {
    correlation: &'a Correlation,
    /// Source, or a copy of it with a border of zeros.
    pub(super) data: &'a [f32],
    images: usize,
    rows: Range<usize>,
    /// The row of stands, and the row and column as a stand sees them, at which `data` begins.
    first: usize,
    corner: [isize; 2],
    /// Rows and columns that `data` holds of each image.
    held: [usize; 2],
}

impl<'a> Block<'a> {
    /// Calls `f` with rows `rows` of the stands of the images `x`.
    pub(super) fn read<R>(correlation: &Correlation, x: &[f32], rows: Range<usize>, f: impl FnOnce(Block<'_>) -> R) -> R {
        thread_local! {
            // A task of the pool does not start another one while it reads, so that the copy is its own.
            static COPY: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        let [height, width] = correlation.source;
        let images = x.len() / (height * width * correlation.channels);
        if correlation.inside() {
            return f(Block { correlation, data: x, images, rows, first: 0, corner: [0, 0], held: correlation.source });
        }
        let [[top, bottom], [left, right]] = [correlation.reach(0), correlation.reach(1)];
        let held_rows = ((rows.len() - 1) * correlation.step[0] + 1).saturating_add_signed(bottom - top);
        let held_cols = ((correlation.stands[1] - 1) * correlation.step[1] + 1).saturating_add_signed(right - left);
        let size = images * held_rows * held_cols * correlation.channels;
        COPY.with_borrow_mut(|copy| {
            if copy.len() < size {
                copy.resize(size, 0.0);
            }
            let copy = &mut copy[..size];
            let (first, corner, held) = (rows.start, [top, left], [held_rows, held_cols]);
            fill(correlation, x, [(first * correlation.step[0]) as isize + top, left], held, copy);
            f(Block { correlation, data: copy, images, rows, first, corner, held })
        })
    }

    /// Offset of each tap from its stand.
    pub(super) fn taps(&self) -> Vec<usize> {
        let offset = |tap: &[isize; 2]| {
            let [row, col] = [0, 1].map(|i| (tap[i] - self.corner[i]).unsigned_abs());
            (row * self.held[1] + col) * self.correlation.channels
        };
        self.correlation.taps.iter().map(offset).collect()
    }

    /// Offset of the first stand of each row, image after image.
    pub(super) fn row_starts(&self) -> Vec<usize> {
        let line = self.held[1] * self.correlation.channels;
        let row = |row: usize| (row - self.first) * self.correlation.step[0] * line;
        (0..self.images).flat_map(|n| self.rows.clone().map(move |r| n * self.held[0] * line + row(r))).collect()
    }

    /// Elements from a stand to the next of its row.
    pub(super) fn stride(&self) -> usize {
        self.correlation.step[1] * self.correlation.channels
    }

    /// Offset of each stand here, and in a result of `channels` channels that begins with these rows of stands.
    pub(super) fn stands(&self, channels: usize) -> Vec<[usize; 2]> {
        let c = self.correlation;
        let plane = c.plane[0] * c.plane[1] * channels;
        let mut stands = Vec::with_capacity(self.images * self.rows.len() * c.stands[1]);
        for (i, start) in self.row_starts().into_iter().enumerate() {
            let (image, row) = (i / self.rows.len(), i % self.rows.len());
            let out = image * plane + ((c.out_at[0] + row * c.out_step[0]) * c.plane[1] + c.out_at[1]) * channels;
            stands.extend((0..c.stands[1]).map(|q| [start + q * self.stride(), out + q * c.out_step[1] * channels]));
        }
        stands
    }
}

/// Copies rows and columns from `lo` on, zeros where they lie outside.
fn fill(correlation: &Correlation, x: &[f32], lo: [isize; 2], held: [usize; 2], copy: &mut [f32]) {
    let ([height, width], channels) = (correlation.source, correlation.channels);
    let before = held[1].min(if lo[1] < 0 { lo[1].unsigned_abs() } else { 0 });
    let from = usize::try_from(lo[1]).unwrap_or(0).min(width);
    let inner = (width - from).min(held[1] - before);
    for (copy, x) in copy.chunks_exact_mut(held[0] * held[1] * channels).zip(x.chunks_exact(height * width * channels)) {
        for (row, copy) in copy.chunks_exact_mut(held[1] * channels).enumerate() {
            let Some(row) = row.checked_add_signed(lo[0]).filter(|row| *row < height) else {
                copy.fill(0.0);
                continue;
            };
            let (left, rest) = copy.split_at_mut(before * channels);
            let (middle, right) = rest.split_at_mut(inner * channels);
            left.fill(0.0);
            middle.copy_from_slice(&x[(row * width + from) * channels..][..inner * channels]);
            right.fill(0.0);
        }
    }
}
