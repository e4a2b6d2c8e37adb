//! AdaRound of one layer: for each weight a number h from 0 (down) to 1 (up) that Adam moves until it is one of the two.
//!
//! Nagel et al. 2020, section 3.3: h = clip(σ(v)·(ζ − γ) + γ, 0, 1) with ζ = 1.1 and γ = −0.1, and a regulariser λ·Σ(1 − |2h − 1|^β) whose
//! β falls from 20 to 2 after a while without it. Output channels share nothing but their inputs, so that each is a problem of its own,
//! measured in its error with every weight at the nearest code.

use std::ops::Range;

use penjing_exec::{Matrix, products};
use rayon::prelude::*;

use crate::quant::Codes;

const ZETA: f32 = 1.1;
const GAMMA: f32 = -0.1;
/// Steps of Adam.
const STEPS: usize = 1000;
/// Share of the steps without the regulariser.
const WARM_UP: f32 = 0.2;
/// λ times the number of weights of a channel.
const LAMBDA: f32 = 8.0;
/// β at its first and its last step.
const BETA: (f32, f32) = (20.0, 2.0);
const LEARNING_RATE: f32 = 0.01;
/// Rows that a step looks at.
const BATCH: usize = 256;

/// What a layer reads and should give, and the codes that it has.
pub(super) struct LayerProblem<'a> {
    /// For each group of the layer what the quantized network gives it, [R, K]: rows in an order without meaning.
    pub(super) inputs: &'a [Vec<f32>],
    /// For each group what the layer gives in float behind its activation function, [R, N].
    pub(super) targets: &'a [Vec<f32>],
    /// The float weights, [N of all groups, K].
    pub(super) weights: &'a [f32],
    /// What a code is worth in each output channel.
    pub(super) scales: &'a [f32],
    /// What is added to each output channel.
    pub(super) biases: &'a [f32],
    pub(super) codes: Codes,
    /// What the activation function behind the layer keeps its outputs between.
    pub(super) bounds: (f32, f32),
    /// K.
    pub(super) columns: usize,
}

/// The codes that were found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rounded {
    /// Steps of each weight, [N, K].
    pub(super) steps: Vec<f32>,
    /// Σ of squared errors of the outputs with every weight at the nearest code.
    pub(super) nearest: f64,
    /// The same with these codes.
    pub(super) rounded: f64,
}

impl LayerProblem<'_> {
    /// The codes. No channel's error is larger than with every weight at the nearest code.
    pub(super) fn solve(&self) -> Rounded {
        let scaled = self.scaled();
        let nearest: Vec<f32> = scaled.iter().map(|w| w.round_ties_even()).collect();
        let below: Vec<f32> = scaled.iter().map(|w| w.floor().min(self.codes.high as f32 - 1.0)).collect();
        let before = self.errors(&nearest);
        let up = self.optimize(&scaled, &below, &before);
        let mut steps: Vec<f32> = below.iter().zip(&up).map(|(below, h)| below + f32::from(u8::from(*h >= 0.5))).collect();
        let after = self.errors(&steps);
        let mut total = 0.0;
        for (channel, (before, after)) in before.iter().zip(&after).enumerate() {
            if after >= before {
                let of_channel = channel * self.columns..(channel + 1) * self.columns;
                steps[of_channel.clone()].copy_from_slice(&nearest[of_channel]);
            }
            total += before.min(*after);
        }
        Rounded { steps, nearest: before.iter().sum(), rounded: total }
    }

    /// Weights in steps, as far as there are codes.
    fn scaled(&self) -> Vec<f32> {
        let (low, high) = (self.codes.low as f32, self.codes.high as f32);
        let channels = self.weights.chunks_exact(self.columns).zip(self.scales);
        channels.flat_map(|(row, scale)| row.iter().map(move |w| (w / scale).clamp(low, high))).collect()
    }

    fn channels(&self) -> usize {
        self.weights.len() / self.columns
    }

    /// Channels of a group.
    fn share(&self) -> usize {
        self.channels() / self.inputs.len()
    }

    fn rows(&self) -> usize {
        self.inputs[0].len() / self.columns
    }

    /// y − t of some rows, group by group [rows, N].
    fn residuals(&self, rows: Range<usize>, steps: &[f32]) -> Vec<f32> {
        let (k, n) = (self.columns, self.share());
        let weights: Vec<f32> =
            steps.chunks_exact(k).zip(self.scales).flat_map(|(row, scale)| row.iter().map(move |step| step * scale)).collect();
        let a: Vec<Matrix<'_>> = self.rows_of(&rows).map(|elements| Matrix { elements, row: k, column: 1 }).collect();
        let b: Vec<Matrix<'_>> = weights.chunks_exact(n * k).map(|elements| Matrix { elements, row: 1, column: k }).collect();
        let mut outputs = products(&a, &b, [rows.len(), k, n]);
        let (low, high) = self.bounds;
        for ((group, outputs), targets) in outputs.chunks_exact_mut(rows.len() * n).enumerate().zip(self.targets) {
            let biases = &self.biases[group * n..(group + 1) * n];
            for (outputs, targets) in outputs.chunks_exact_mut(n).zip(targets[rows.start * n..].chunks_exact(n)) {
                for ((y, t), b) in outputs.iter_mut().zip(targets).zip(biases) {
                    *y = (*y + b).clamp(low, high) - t;
                }
            }
        }
        outputs
    }

    fn rows_of(&self, rows: &Range<usize>) -> impl Iterator<Item = &[f32]> {
        let of = rows.start * self.columns..rows.end * self.columns;
        self.inputs.iter().map(move |rows| &rows[of.clone()])
    }

    /// Σ of squared errors of each channel over all rows.
    fn errors(&self, steps: &[f32]) -> Vec<f64> {
        let n = self.share();
        let mut sums = vec![0.0f64; self.channels()];
        for start in (0..self.rows()).step_by(BATCH) {
            let rows = start..(start + BATCH).min(self.rows());
            let residuals = self.residuals(rows.clone(), steps);
            for (group, residuals) in residuals.chunks_exact(rows.len() * n).enumerate() {
                for row in residuals.chunks_exact(n) {
                    sums[group * n..].iter_mut().zip(row).for_each(|(sum, e)| *sum += f64::from(*e).powi(2));
                }
            }
        }
        sums
    }

    /// h of each weight.
    fn optimize(&self, scaled: &[f32], below: &[f32], nearest: &[f64]) -> Vec<f32> {
        let (k, n) = (self.columns, self.share());
        let mut weights: Vec<Moving> = scaled.iter().zip(below).map(|(w, below)| Moving::at(w - below)).collect();
        let batches: Vec<Range<usize>> = (0..self.rows()).step_by(BATCH).map(|start| start..(start + BATCH).min(self.rows())).collect();
        for step in 0..STEPS {
            let rows = batches[step % batches.len()].clone();
            let steps: Vec<f32> = below.iter().zip(&weights).map(|(below, weight)| below + weight.h()).collect();
            let residuals = self.flat_removed(&rows, &steps);
            // Gᵀ [N, K] of each group: residuals transposed times inputs.
            let a: Vec<Matrix<'_>> =
                residuals.chunks_exact(rows.len() * n).map(|elements| Matrix { elements, row: 1, column: n }).collect();
            let b: Vec<Matrix<'_>> = self.rows_of(&rows).map(|elements| Matrix { elements, row: k, column: 1 }).collect();
            let gradients = products(&a, &b, [n, rows.len(), k]);
            let pull = pull(step);
            let adam = Adam::at(step);
            let channels = weights.par_chunks_mut(k).zip(gradients.par_chunks(k)).zip(nearest).zip(self.scales);
            channels.for_each(|(((weights, gradients), nearest), scale)| {
                // Of the mean squared error over that of the nearest codes, by h.
                let mean = (*nearest as f32 / self.rows() as f32).max(f32::MIN_POSITIVE);
                let factor = 2.0 * scale / (rows.len() as f32 * mean);
                for (weight, gradient) in weights.iter_mut().zip(gradients) {
                    weight.step(factor * gradient, pull.map(|beta| (beta, LAMBDA / k as f32)), &adam);
                }
            });
        }
        weights.iter().map(Moving::h).collect()
    }

    /// y − t where the activation function lets the derivative through, else zero.
    fn flat_removed(&self, rows: &Range<usize>, steps: &[f32]) -> Vec<f32> {
        let (low, high) = self.bounds;
        let mut residuals = self.residuals(rows.clone(), steps);
        if low == f32::NEG_INFINITY && high == f32::INFINITY {
            return residuals;
        }
        let n = self.share();
        for (residuals, targets) in residuals.chunks_exact_mut(rows.len() * n).zip(self.targets) {
            let targets = &targets[rows.start * n..rows.end * n];
            residuals.iter_mut().zip(targets).for_each(|(e, t)| {
                let y = *e + t;
                *e = if y > low && y < high { *e } else { 0.0 };
            });
        }
        residuals
    }
}

/// β of the regulariser at a step, once there is one.
fn pull(step: usize) -> Option<f32> {
    let progress = (step as f32 / STEPS as f32 - WARM_UP) / (1.0 - WARM_UP);
    let cosine = 0.5 * (1.0 + (progress * std::f32::consts::PI).cos());
    (progress >= 0.0).then_some(BETA.1 + (BETA.0 - BETA.1) * cosine)
}

/// Adam's factors at a step.
struct Adam {
    rate: f32,
    unbiased: f32,
}

impl Adam {
    const BETA1: f32 = 0.9;
    const BETA2: f32 = 0.999;
    const EPSILON: f32 = 1e-8;

    fn at(step: usize) -> Adam {
        let unbiased = |beta: f32| 1.0 - f64::from(beta).powi(step as i32 + 1);
        let rate = f64::from(LEARNING_RATE) / unbiased(Adam::BETA1);
        Adam { rate: rate as f32, unbiased: (1.0 / unbiased(Adam::BETA2).sqrt()) as f32 }
    }
}

/// One weight between two codes.
#[derive(Clone, Copy, Debug)]
struct Moving {
    v: f32,
    first: f32,
    second: f32,
}

impl Moving {
    /// With h at the fraction that lies between the weight and the code below it.
    fn at(fraction: f32) -> Moving {
        // σ(v)·(ζ − γ) + γ = fraction
        let sigmoid = (fraction - GAMMA) / (ZETA - GAMMA);
        Moving { v: (sigmoid / (1.0 - sigmoid)).ln(), first: 0.0, second: 0.0 }
    }

    fn sigmoid(&self) -> f32 {
        1.0 / (1.0 + (-self.v).exp())
    }

    fn h(&self) -> f32 {
        (self.sigmoid() * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)
    }

    /// One step of Adam down the gradient by h, with the regulariser's of that β and λ.
    fn step(&mut self, by_h: f32, pull: Option<(f32, f32)>, adam: &Adam) {
        let sigmoid = self.sigmoid();
        let stretched = sigmoid * (ZETA - GAMMA) + GAMMA;
        // d(1 − |2h − 1|^β)/dh = −2β·|2h − 1|^(β−1)·sign(2h − 1)
        let pulled = pull.map_or(0.0, |(beta, lambda)| {
            let far = 2.0 * stretched - 1.0;
            -2.0 * lambda * beta * far.abs().powf(beta - 1.0) * far.signum()
        });
        let inside = stretched > 0.0 && stretched < 1.0;
        let gradient = if inside { (by_h + pulled) * sigmoid * (1.0 - sigmoid) * (ZETA - GAMMA) } else { 0.0 };
        self.first = Adam::BETA1 * self.first + (1.0 - Adam::BETA1) * gradient;
        self.second = Adam::BETA2 * self.second + (1.0 - Adam::BETA2) * gradient * gradient;
        self.v -= adam.rate * self.first / (self.second.sqrt() * adam.unbiased + Adam::EPSILON);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FOUR_BITS: Codes = Codes { low: -7, high: 7 };

    fn solve(inputs: &[f32], weights: &[f32], columns: usize, bounds: (f32, f32)) -> Rounded {
        let channels = weights.len() / columns;
        let inputs = [inputs.to_vec()];
        let rows = inputs[0].chunks_exact(columns);
        let target = |(x, w): (&[f32], &[f32])| x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>().clamp(bounds.0, bounds.1);
        let targets = [rows.flat_map(|x| weights.chunks_exact(columns).map(move |w| target((x, w)))).collect()];
        let (scales, biases) = (vec![1.0; channels], vec![0.0; channels]);
        let problem = LayerProblem {
            inputs: &inputs,
            targets: &targets,
            weights,
            scales: &scales,
            biases: &biases,
            codes: FOUR_BITS,
            bounds,
            columns,
        };
        problem.solve()
    }

    const LINEAR: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

    #[test]
    fn errors_that_cancel_by_hand() {
        // Inputs are always equal, so that the output is x·(w₁ + w₂ + w₃ + w₄) = 1.55x: the nearest codes, 1, 0, 0 and 0, sum to 1, and of the
        // others the nearest to its code above, 0.45, has to be 1 too.
        let inputs: Vec<f32> = [1.0f32, 2.0, -1.0, 0.5].iter().flat_map(|x| [*x; 4]).collect();
        let found = solve(&inputs, &[0.6, 0.2, 0.3, 0.45], 4, LINEAR);
        assert_eq!(found.steps, [1.0, 0.0, 0.0, 1.0]);
        // Σx² = 6.25: 0.55² · 6.25 = 1.890625 becomes 0.45² · 6.25 = 1.265625.
        assert!((found.nearest - 1.890_625).abs() < 1e-3 && (found.rounded - 1.265_625).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn what_the_activation_function_cuts_does_not_count() {
        // Only outputs above zero count: w = −0.4 meets positive inputs alone, so that nothing of it is seen, and stays at the nearest.
        let found = solve(&[1.0, 2.0, 3.0], &[-0.4], 1, (0.0, f32::INFINITY));
        assert_eq!((found.steps, found.nearest, found.rounded), (vec![0.0], 0.0, 0.0));
    }

    #[test]
    fn codes_end_where_they_end() {
        let found = solve(&[1.0, -1.0], &[9.0, 7.0, -9.0], 1, LINEAR);
        assert_eq!(found.steps, [7.0, 7.0, -7.0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Never worse than the nearest codes, and the same at any number of threads.
        #[test]
        fn never_worse_than_nearest(
            inputs in prop::collection::vec(-1.0f32..1.0, 60),
            weights in prop::collection::vec(-8.0f32..8.0, 15),
            relu in any::<bool>(),
        ) {
            let bounds = if relu { (0.0, f32::INFINITY) } else { LINEAR };
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
                pool.install(|| solve(&inputs, &weights, 5, bounds))
            };
            let found = on(1);
            prop_assert!(found.rounded <= found.nearest);
            prop_assert!(found.steps.iter().all(|step| step.fract() == 0.0 && (-7.0..=7.0).contains(step)));
            prop_assert_eq!(on(2), found);
        }
    }
}
