//! How the image under a sliding window is read as the columns of a matrix.

/// A convolution, or one phase of its adjoint, of one group: for every stand q of the window
/// `y[out_at + out_step·q] = Σ over channels and taps of w · x[step·q + tap]`, where what lies outside x is zero.
#[derive(Clone, Debug)]
pub(super) struct Correlation {
    pub(super) channels: usize,
    pub(super) source: [usize; 2],
    pub(super) step: [usize; 2],
    pub(super) taps: Vec<[isize; 2]>,
    pub(super) stands: [usize; 2],
    /// Rows and columns of the result.
    pub(super) plane: [usize; 2],
    pub(super) out_step: [usize; 2],
    pub(super) out_at: [usize; 2],
}

impl Correlation {
    /// A window of one cell that reads each place once sees no rows: the plane is one line.
    fn flattened(mut self) -> Self {
        if self.taps == [[0, 0]] && self.step == [1, 1] && self.out_step == [1, 1] && self.stands == self.source {
            for axes in [&mut self.source, &mut self.stands, &mut self.plane] {
                *axes = [1, axes[0] * axes[1]];
            }
        }
        self
    }
}

/// Where elements of the matrix lie.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// In the image itself.
    InPlace,
    /// In a copy with a border of zeros, its columns sorted by their remainder modulo the step:
    /// `[images, channels, rows, step, segment]`, the first row and column `lo`.
    Padded { lo: [isize; 2], rows: usize, segment: usize },
    /// Written out: `[channels · taps, pitch]`, the stands of all images side by side.
    Columns { pitch: usize },
}

/// Marks a lane that belongs to no stand.
const NOWHERE: usize = usize::MAX;
/// Elements of a copy that stay in the second-level cache.
const CACHED: usize = 1 << 16;

/// A block of images as a matrix `[channels · taps, stands]`, in vectors of stands.
#[derive(Debug)]
pub(super) struct View {
    correlation: Correlation,
    layout: Layout,
    lanes: usize,
    /// Images of the block.
    pub(super) images: usize,
    /// Offset of each row of the matrix.
    pub(super) steps: Vec<usize>,
    /// Offset of each vector of stands.
    pub(super) at: Vec<usize>,
    /// Place of each lane in the result of the block's first channel.
    to: Vec<usize>,
    /// Whether the lanes of a vector lie side by side in the result.
    whole: Vec<bool>,
}

impl View {
    /// A block of at most `most` images, about `wanted` vectors wide. Images of the result are `out_image` elements apart.
    pub(super) fn new(correlation: &Correlation, lanes: usize, wanted: usize, most: usize, out_image: usize) -> Self {
        let plain = correlation.clone().flattened();
        let [rows, cols] = plain.stands;
        let per_row = cols.div_ceil(lanes);
        let line = plain.taps == [[0, 0]] && plain.step == [1, 1] && plain.source == [1, cols] && rows == 1;
        let lo = [0, 1].map(|i| plain.taps.iter().map(|tap| tap[i]).min().unwrap_or(0));
        let padded = [0, 1].map(|i| {
            let last = plain.taps.iter().map(|tap| tap[i]).max().unwrap_or(0) - lo[i];
            (plain.stands[i] - 1) * plain.step[i] + last.unsigned_abs() + 1
        });
        let depth = plain.channels * plain.taps.len();
        let fit = |per_image: usize, size: usize| wanted.div_ceil(per_image).min(CACHED / size.max(1)).clamp(1, most.max(1));
        let (layout, images) = if line && cols.is_multiple_of(lanes) {
            (Layout::InPlace, 1)
        } else if per_row * lanes * 4 <= cols * 5 {
            let segment = padded[1].div_ceil(plain.step[1]);
            let size = plain.channels * padded[0] * segment * plain.step[1];
            (Layout::Padded { lo, rows: padded[0], segment }, fit(rows * per_row, size))
        } else {
            let images = fit((rows * cols).div_ceil(lanes), depth * rows * cols);
            (Layout::Columns { pitch: (images * rows * cols).next_multiple_of(lanes) }, images)
        };
        let mut view = View { correlation: plain, layout, lanes, images, steps: vec![], at: vec![], to: vec![], whole: vec![] };
        view.steps = view.rows_of_matrix();
        view.place_vectors(out_image);
        let reach = view.at.iter().max().unwrap_or(&0) + view.steps.iter().max().unwrap_or(&0) + lanes;
        assert!(reach <= view.size() || view.steps.is_empty(), "a vector reaches beyond the matrix");
        view
    }

    /// Elements of the copy, or of the image's channels where there is none.
    pub(super) fn size(&self) -> usize {
        let c = &self.correlation;
        match self.layout {
            Layout::InPlace => c.channels * c.source[0] * c.source[1],
            Layout::Padded { rows, segment, .. } => self.images * c.channels * rows * segment * c.step[1] + self.lanes,
            Layout::Columns { pitch } => c.channels * c.taps.len() * pitch,
        }
    }

    /// Whether images are read where they are.
    pub(super) fn in_place(&self) -> bool {
        matches!(self.layout, Layout::InPlace)
    }

    fn rows_of_matrix(&self) -> Vec<usize> {
        let c = &self.correlation;
        let mut steps = Vec::with_capacity(c.channels * c.taps.len());
        for channel in 0..c.channels {
            for tap in &c.taps {
                steps.push(match self.layout {
                    Layout::InPlace => channel * c.source[0] * c.source[1],
                    Layout::Padded { lo, rows, segment } => {
                        let pitch = segment * c.step[1];
                        let [row, col] = [0, 1].map(|i| (tap[i] - lo[i]).unsigned_abs());
                        (channel * rows + row) * pitch + col % c.step[1] * segment + col / c.step[1]
                    }
                    Layout::Columns { pitch } => steps.len() * pitch,
                });
            }
        }
        steps
    }

    fn place_vectors(&mut self, out_image: usize) {
        let c = &self.correlation;
        let [rows, cols] = c.stands;
        let place = |image: usize, row: usize, col: usize| {
            image * out_image + (c.out_at[0] + row * c.out_step[0]) * c.plane[1] + c.out_at[1] + col * c.out_step[1]
        };
        match self.layout {
            Layout::InPlace | Layout::Padded { .. } => {
                let (image_size, row_size) = match self.layout {
                    Layout::Padded { rows, segment, .. } => {
                        let pitch = segment * c.step[1];
                        (c.channels * rows * pitch, c.step[0] * pitch)
                    }
                    Layout::InPlace | Layout::Columns { .. } => (0, 0),
                };
                for image in 0..self.images {
                    for row in 0..rows {
                        for first in (0..cols).step_by(self.lanes) {
                            self.at.push(image * image_size + row * row_size + first);
                            self.to
                                .extend((first..first + self.lanes).map(|col| if col < cols { place(image, row, col) } else { NOWHERE }));
                        }
                    }
                }
            }
            Layout::Columns { pitch } => {
                self.at.extend((0..pitch).step_by(self.lanes));
                let per_image = rows * cols;
                self.to.extend((0..pitch).map(|i| {
                    let (image, stand) = (i / per_image, i % per_image);
                    if image < self.images { place(image, stand / cols, stand % cols) } else { NOWHERE }
                }));
            }
        }
        self.whole = self.to.chunks_exact(self.lanes).map(|to| to.windows(2).all(|w| w[1] != NOWHERE && w[1] == w[0] + 1)).collect();
    }

    /// Place in the result of the first lane of each of `count` vectors from `first`, if all their lanes lie side by side.
    pub(super) fn straight(&self, first: usize, count: usize) -> Option<impl Iterator<Item = usize> + '_> {
        self.whole[first..first + count].iter().all(|w| *w).then(|| (first..first + count).map(|v| self.to[v * self.lanes]))
    }

    /// Place in the result of each lane that has one, of `count` vectors from `first`: (lane, place).
    pub(super) fn lanes_of(&self, first: usize, count: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.to[first * self.lanes..(first + count) * self.lanes].iter().copied().enumerate().filter(|(_, to)| *to != NOWHERE)
    }

    /// Whether the result of one image is all vectors, one behind the other.
    pub(super) fn is_line(&self) -> bool {
        self.images == 1 && self.whole.iter().all(|w| *w) && self.to.iter().enumerate().all(|(i, to)| i == *to)
    }

    /// One channel of the result of the block, in the order of the vectors; lanes of no stand are left alone.
    pub(super) fn gather(&self, result: &[f32], row: &mut [f32]) {
        for (v, (to, row)) in self.to.chunks_exact(self.lanes).zip(row.chunks_exact_mut(self.lanes)).enumerate() {
            if self.whole[v] {
                row.copy_from_slice(&result[to[0]..to[0] + self.lanes]);
            } else {
                for (to, row) in to.iter().zip(row) {
                    if *to != NOWHERE {
                        *row = result[*to];
                    }
                }
            }
        }
    }

    /// Copies the block's channels, `x` from the first of them, images `image` elements apart. `copy` was zero at first.
    pub(super) fn fill(&self, x: &[f32], image: usize, copy: &mut [f32]) {
        match self.layout {
            Layout::InPlace => {}
            Layout::Padded { lo, rows, segment } => self.fill_padded(x, image, copy, lo, rows, segment),
            Layout::Columns { pitch } => self.fill_columns(x, image, copy, pitch),
        }
    }

    fn fill_padded(&self, x: &[f32], image: usize, copy: &mut [f32], lo: [isize; 2], rows: usize, segment: usize) {
        let c = &self.correlation;
        let ([height, width], step) = (c.source, c.step[1]);
        let pitch = segment * step;
        for (n, copy) in copy.chunks_exact_mut(c.channels * rows * pitch).take(self.images).enumerate() {
            for (channel, copy) in copy.chunks_exact_mut(rows * pitch).enumerate() {
                let plane = &x[n * image + channel * height * width..][..height * width];
                for (row, copy) in copy.chunks_exact_mut(pitch).enumerate() {
                    let Some(row) = row.checked_add_signed(lo[0]).filter(|row| *row < height) else { continue };
                    let line = &plane[row * width..][..width];
                    for (phase, copy) in copy.chunks_exact_mut(segment).enumerate() {
                        // The column of cell j is lo + phase + j·step; those before the image are skipped.
                        let first = lo[1] + phase as isize;
                        let skipped = if first < 0 { first.unsigned_abs().div_ceil(step) } else { 0 };
                        let from = first + (skipped * step) as isize;
                        let (Some(copy), Some(line)) = (copy.get_mut(skipped..), line.get(from.unsigned_abs()..)) else { continue };
                        if step == 1 {
                            let n = copy.len().min(line.len());
                            copy[..n].copy_from_slice(&line[..n]);
                        } else {
                            copy.iter_mut().zip(line.iter().step_by(step)).for_each(|(copy, x)| *copy = *x);
                        }
                    }
                }
            }
        }
    }

    fn fill_columns(&self, x: &[f32], image: usize, copy: &mut [f32], pitch: usize) {
        let c = &self.correlation;
        let ([height, width], [rows, cols]) = (c.source, c.stands);
        for (k, copy) in copy.chunks_exact_mut(pitch).enumerate() {
            let (channel, tap) = (k / c.taps.len(), c.taps[k % c.taps.len()]);
            // Stands whose column lies in the image: 0 ≤ step·q + tap < width.
            let first = if tap[1] < 0 { tap[1].unsigned_abs().div_ceil(c.step[1]) } else { 0 }.min(cols);
            let end = (width as isize - tap[1]).max(0).unsigned_abs().div_ceil(c.step[1]).clamp(first, cols);
            for (n, copy) in copy.chunks_exact_mut(rows * cols).take(self.images).enumerate() {
                let plane = &x[n * image + channel * height * width..][..height * width];
                for (row, copy) in copy.chunks_exact_mut(cols).enumerate() {
                    let row = (row * c.step[0]).checked_add_signed(tap[0]).filter(|row| *row < height && first < end);
                    let Some(row) = row else {
                        copy.fill(0.0);
                        continue;
                    };
                    copy[..first].fill(0.0);
                    copy[end..].fill(0.0);
                    let from = (first * c.step[1]).checked_add_signed(tap[1]).expect("`first` is the first stand in the image");
                    let line = &plane[row * width..][..width][from..];
                    if c.step[1] == 1 {
                        copy[first..end].copy_from_slice(&line[..end - first]);
                    } else {
                        copy[first..end].iter_mut().zip(line.iter().step_by(c.step[1])).for_each(|(copy, x)| *copy = *x);
                    }
                }
            }
        }
    }
}
