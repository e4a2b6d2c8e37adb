//! Which weights go: the `count` smallest scores of many tensors, without a sort and without a copy.
//!
//! A non-negative float orders as its bit pattern does, so two histograms of the pattern (upper, then lower half) find
//! the threshold exactly; ties at the threshold go in order of tensor and index.

use rayon::prelude::*;

/// Elements that one task looks at. Fixed, so that the result does not depend on the number of threads.
const CHUNK: usize = 1 << 16;
/// Chunks that share a histogram at most, so that its counts fit their type.
const LONGEST_RUN: usize = (u32::MAX as usize) / CHUNK;
const LOWER_BITS: u32 = 16;
const UPPER_BUCKETS: usize = 1 << (31 - LOWER_BITS);
const LOWER_BUCKETS: usize = 1 << LOWER_BITS;

/// The order of magnitudes as integers: |w| with the sign bit cleared. NaN comes after infinity.
fn key(w: f32) -> u32 {
    w.to_bits() & 0x7fff_ffff
}

/// For each tensor, which elements stay: all but the `count` of smallest magnitude over all tensors together.
/// Ties go to the later element: of equals, the one that comes first is removed first.
///
/// # Panics
/// When `count` is more than there are elements.
pub fn keep_largest(tensors: &[&[f32]], count: usize) -> Vec<Vec<bool>> {
    let total: usize = tensors.iter().map(|t| t.len()).sum();
    assert!(count <= total, "{count} of {total} weights cannot be removed");
    if count == total {
        return tensors.iter().map(|t| vec![false; t.len()]).collect();
    }
    let chunks: Vec<&[f32]> = tensors.iter().flat_map(|t| t.chunks(CHUNK)).collect();

    // The first key at which more than `count` elements are at or below it: those below all go, of those equal some.
    let (upper, below) = bucket_of(count, &histogram(&chunks, UPPER_BUCKETS, |k| Some(k >> LOWER_BITS)));
    let in_upper = |k: u32| (k >> LOWER_BITS == upper).then_some(k & (LOWER_BUCKETS as u32 - 1));
    let (lower, below_in_upper) = bucket_of(count - below, &histogram(&chunks, LOWER_BUCKETS, in_upper));
    let threshold = (upper << LOWER_BITS) | lower;
    let ties_removed = count - below - below_in_upper;

    // How many ties stand before each chunk, so that chunks can be marked independently.
    let ties: Vec<usize> = chunks.par_iter().map(|c| c.iter().filter(|w| key(**w) == threshold).count()).collect();
    let ties_before = ties.iter().scan(0, |seen, ties| {
        *seen += ties;
        Some(*seen - ties)
    });
    let ties_before: Vec<usize> = ties_before.collect();

    let mut keep: Vec<Vec<bool>> = tensors.iter().map(|t| vec![false; t.len()]).collect();
    let targets: Vec<&mut [bool]> = keep.iter_mut().flat_map(|k| k.chunks_mut(CHUNK)).collect();
    targets.into_par_iter().zip(&chunks).zip(&ties_before).for_each(|((keep, chunk), before)| {
        mark(keep, chunk, threshold, ties_removed.saturating_sub(*before));
    });
    keep
}

/// The same for one short list, by sorting it.
pub fn keep_largest_few(scores: &[f32], count: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // The sort is stable: of equals the first is removed first.
    order.sort_by_key(|i| key(scores[*i]));
    let mut keep = vec![true; scores.len()];
    order.iter().take(count).for_each(|i| keep[*i] = false);
    keep
}

/// Keeps what is above the threshold, and of those equal to it all but the first `ties_removed`.
fn mark(keep: &mut [bool], weights: &[f32], threshold: u32, mut ties_removed: usize) {
    // Without a branch, so that the compiler takes many elements at a time.
    keep.iter_mut().zip(weights).for_each(|(keep, w)| *keep = key(*w) >= threshold);
    for (keep, w) in keep.iter_mut().zip(weights) {
        if ties_removed == 0 {
            return;
        }
        if key(*w) == threshold {
            *keep = false;
            ties_removed -= 1;
        }
    }
}

/// Counts of the keys by bucket; keys without a bucket are left out.
fn histogram(chunks: &[&[f32]], buckets: usize, bucket: impl Fn(u32) -> Option<u32> + Sync) -> Vec<usize> {
    // A few long runs of chunks rather than one histogram per chunk: the histograms are about as large as a chunk.
    let run = chunks.len().div_ceil(rayon::current_num_threads() * 4).clamp(1, LONGEST_RUN);
    chunks
        .par_chunks(run)
        .map(|chunks| {
            let mut counts = vec![0u32; buckets];
            for chunk in chunks {
                for b in chunk.iter().filter_map(|w| bucket(key(*w))) {
                    counts[b as usize] += 1;
                }
            }
            counts.into_iter().map(|count| count as usize).collect()
        })
        .reduce(
            || vec![0; buckets],
            |mut a, b| {
                a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                a
            },
        )
}

/// The bucket that holds the element of rank `rank` (from 0), and how many elements are in the buckets before it.
fn bucket_of(rank: usize, counts: &[usize]) -> (u32, usize) {
    let mut below = 0;
    for (bucket, count) in counts.iter().enumerate() {
        if below + count > rank {
            return (bucket as u32, below);
        }
        below += count;
    }
    unreachable!("rank {rank} of {below} elements")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn removes_the_smallest_magnitudes_over_all_tensors() {
        let (a, b) = ([0.5f32, -0.1, 3.0], [-0.2f32, 0.4]);
        // |w| in order: 0.1, 0.2, 0.4, 0.5, 3.0
        assert_eq!(keep_largest(&[&a, &b], 3), [vec![true, false, true], vec![false, false]]);
        assert_eq!(keep_largest(&[&a, &b], 0), [vec![true; 3], vec![true; 2]]);
        assert_eq!(keep_largest(&[&a, &b], 5), [vec![false; 3], vec![false; 2]]);
    }

    #[test]
    fn of_equals_the_first_goes() {
        let (a, b) = ([1.0f32, -1.0, 1.0], [1.0f32, -1.0]);
        assert_eq!(keep_largest(&[&a, &b], 4), [vec![false; 3], vec![false, true]]);
        assert_eq!(keep_largest(&[&[0.0, -0.0, f32::INFINITY]], 1), [vec![false, true, true]]);
    }

    proptest! {
        /// The definition: sort by magnitude, stable in tensor and index, and remove the first `count`.
        #[test]
        fn agrees_with_a_stable_sort(
            tensors in prop::collection::vec(prop::collection::vec(prop_oneof![-2i8..=2, any::<i8>()], 0..300), 1..5),
            fraction in 0.0f64..=1.0,
        ) {
            let tensors: Vec<Vec<f32>> = tensors.into_iter().map(|t| t.into_iter().map(|w| f32::from(w) / 7.0).collect()).collect();
            let total: usize = tensors.iter().map(Vec::len).sum();
            let count = (fraction * total as f64) as usize;
            let mut order: Vec<(usize, usize)> = tensors.iter().enumerate().flat_map(|(t, v)| (0..v.len()).map(move |i| (t, i))).collect();
            order.sort_by(|a, b| tensors[a.0][a.1].abs().total_cmp(&tensors[b.0][b.1].abs()));
            let mut expected: Vec<Vec<bool>> = tensors.iter().map(|t| vec![true; t.len()]).collect();
            for (t, i) in &order[..count] {
                expected[*t][*i] = false;
            }
            let slices: Vec<&[f32]> = tensors.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(keep_largest(&slices, count), expected);
            let few = count.min(slices[0].len());
            prop_assert_eq!(&[keep_largest_few(slices[0], few)][..], &keep_largest(&slices[..1], few)[..]);
        }

        /// Ties that straddle chunks, at any number of threads.
        #[test]
        fn ties_over_chunk_borders(count in 0usize..=3 * CHUNK + 5) {
            let tensor = vec![0.25f32; 3 * CHUNK + 5];
            for threads in [1, 2] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
                let keep = pool.install(|| keep_largest(&[&tensor], count));
                prop_assert!(keep[0][..count].iter().all(|k| !k) && keep[0][count..].iter().all(|k| *k));
            }
        }
    }
}
