//! Cross-entropy of corrected outputs, with gradients for each class's scale and offset.

use rayon::prelude::*;

use super::temperature::best_scale;
use super::{Correction, Fitted, Logits, lbfgs};

/// Samples of which sums are added up by one thread: the order of additions does not depend on the number of threads.
const CHUNK: usize = 64;

/// What outputs should say of each sample.
#[derive(Clone, Debug)]
pub(super) enum Targets<'a> {
    /// Its class.
    Labels(&'a [u32]),
    /// The probability of each class, [N, C].
    Probabilities(Vec<f32>),
}

impl Targets<'_> {
    /// The softmax of outputs.
    pub(super) fn of(logits: &Logits<'_>) -> Targets<'static> {
        let mut probabilities = Vec::with_capacity(logits.samples() * logits.classes());
        let mut row = vec![];
        for z in logits.rows() {
            log_softmax(z.iter().map(|z| f64::from(*z)), &mut row);
            probabilities.extend(row.iter().map(|log_p| log_p.exp() as f32));
        }
        Targets::Probabilities(probabilities)
    }

    /// Calls `f` with each class of a sample and how far `p` of it is above the target.
    fn excess(&self, sample: usize, p: &[f64], mut f: impl FnMut(usize, f64)) {
        match self {
            Targets::Labels(labels) => {
                let label = labels[sample] as usize;
                p.iter().enumerate().for_each(|(class, p)| f(class, if class == label { p - 1.0 } else { *p }));
            }
            Targets::Probabilities(targets) => {
                let targets = &targets[sample * p.len()..][..p.len()];
                p.iter().zip(targets).enumerate().for_each(|(class, (p, target))| f(class, p - f64::from(*target)));
            }
        }
    }

    /// Σ t ln (t / p) of a sample; for a label, −ln of its probability.
    fn loss(&self, sample: usize, log_p: &[f64]) -> f64 {
        match self {
            Targets::Labels(labels) => -log_p[labels[sample] as usize],
            Targets::Probabilities(targets) => {
                let targets = targets[sample * log_p.len()..][..log_p.len()].iter().map(|t| f64::from(*t));
                targets.zip(log_p).map(|(t, log_p)| if t > 0.0 { t * (t.ln() - log_p) } else { 0.0 }).sum()
            }
        }
    }
}

/// ln softmax(z), in place of what `log_p` held.
pub(super) fn log_softmax(z: impl Iterator<Item = f64>, log_p: &mut Vec<f64>) {
    log_p.clear();
    log_p.extend(z);
    let largest = log_p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = largest + log_p.iter().map(|z| (z - largest).exp()).sum::<f64>().ln();
    log_p.iter_mut().for_each(|z| *z -= log_sum);
}

/// Mean loss of corrected outputs, in nats.
pub(super) fn mean_loss(logits: &Logits<'_>, targets: &Targets<'_>, correction: &Correction) -> f64 {
    let corrected = correction.apply(logits);
    let samples: Vec<&[f32]> = corrected.chunks_exact(logits.classes()).collect();
    let part = |(chunk, rows): (usize, &[&[f32]])| {
        let mut log_p = vec![];
        let of = |(at, z): (usize, &&[f32])| {
            log_softmax(z.iter().map(|z| f64::from(*z)), &mut log_p);
            targets.loss(chunk * CHUNK + at, &log_p)
        };
        rows.iter().enumerate().map(of).sum::<f64>()
    };
    let sums: Vec<f64> = samples.par_chunks(CHUNK).enumerate().map(part).collect();
    sums.iter().sum::<f64>() / samples.len() as f64
}

/// Derivative of the mean loss of β · z by β, and the second.
pub(super) fn slope(logits: &Logits<'_>, targets: &Targets<'_>, beta: f64) -> (f64, f64) {
    let rows: Vec<&[f32]> = logits.rows().collect();
    let part = |(chunk, rows): (usize, &[&[f32]])| {
        let (mut first, mut second) = (0.0, 0.0);
        let mut p = vec![];
        for (at, z) in rows.iter().enumerate() {
            log_softmax(z.iter().map(|z| beta * f64::from(*z)), &mut p);
            p.iter_mut().for_each(|log_p| *log_p = log_p.exp());
            // E_p[z] − E_t[z] and Var_p[z].
            targets.excess(chunk * CHUNK + at, &p, |class, excess| first += excess * f64::from(z[class]));
            let mean: f64 = p.iter().zip(*z).map(|(p, z)| p * f64::from(*z)).sum();
            second += p.iter().zip(*z).map(|(p, z)| p * (f64::from(*z) - mean).powi(2)).sum::<f64>();
        }
        (first, second)
    };
    let sums: Vec<(f64, f64)> = rows.par_chunks(CHUNK).enumerate().map(part).collect();
    let (first, second) = sums.iter().fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d));
    (first / rows.len() as f64, second / rows.len() as f64)
}

/// A scale and an offset for each class with the least mean loss: the best scale β for all classes first, then aᵢ · (β·zᵢ − μᵢ) / σᵢ + bᵢ
/// more for each, with mean and deviation of β·zᵢ. aᵢ and bᵢ have a Gaussian prior of `deviation` logits around 0, so that a class that
/// was hardly seen stays as the others are. The loss is convex.
pub(super) fn fit(logits: &Logits<'_>, targets: &Targets<'_>, deviation: f64) -> Fitted {
    let (samples, classes) = (logits.samples(), logits.classes());
    let beta = best_scale(logits, targets);
    let rows: Vec<&[f32]> = logits.rows().collect();
    let (means, deviations) = moments(&rows, classes, beta);
    let prior = 1.0 / (samples as f64 * deviation * deviation);
    let objective = |ab: &[f64]| {
        let (a, b) = ab.split_at(classes);
        let part = |(chunk, rows): (usize, &[&[f32]])| {
            let mut sums = vec![0.0; 2 * classes];
            let (mut loss, mut p) = (0.0, vec![]);
            for (at, z) in rows.iter().enumerate() {
                let scaled = |class: usize| beta * f64::from(z[class]);
                let normal = |class: usize| (scaled(class) - means[class]) / deviations[class];
                log_softmax((0..classes).map(|i| scaled(i) + a[i] * normal(i) + b[i]), &mut p);
                loss += targets.loss(chunk * CHUNK + at, &p);
                p.iter_mut().for_each(|log_p| *log_p = log_p.exp());
                targets.excess(chunk * CHUNK + at, &p, |class, excess| {
                    sums[class] += excess * normal(class);
                    sums[classes + class] += excess;
                });
            }
            (loss, sums)
        };
        let parts: Vec<(f64, Vec<f64>)> = rows.par_chunks(CHUNK).enumerate().map(part).collect();
        let mut gradient: Vec<f64> = ab.iter().map(|x| prior * x).collect();
        let mut value = prior / 2.0 * ab.iter().map(|x| x * x).sum::<f64>();
        for (loss, sums) in &parts {
            value += loss / samples as f64;
            gradient.iter_mut().zip(sums).for_each(|(g, sum)| *g += sum / samples as f64);
        }
        (value, gradient)
    };
    let ab = lbfgs::minimize(vec![0.0; 2 * classes], objective);
    let (a, b) = ab.split_at(classes);
    // A class that the fit would turn over keeps the scale of all.
    let slopes: Vec<f64> = a.iter().zip(&deviations).map(|(a, deviation)| if a + deviation > 0.0 { a / deviation } else { 0.0 }).collect();
    let correction = Correction {
        scale: slopes.iter().map(|slope| (beta * (1.0 + slope)).max(f64::from(f32::MIN_POSITIVE)) as f32).collect(),
        offset: slopes.iter().zip(b).zip(&means).map(|((slope, b), mean)| (b - slope * mean) as f32).collect(),
    };
    keep_if_better(logits, targets, correction)
}

/// The correction with its losses, or the identity where that has less.
pub(super) fn keep_if_better(logits: &Logits<'_>, targets: &Targets<'_>, correction: Correction) -> Fitted {
    let identity = Correction::identity(logits.classes());
    let before = mean_loss(logits, targets, &identity);
    let after = mean_loss(logits, targets, &correction);
    if after < before { Fitted { correction, before, after } } else { Fitted { correction: identity, before, after: before } }
}

/// Mean and standard deviation of each class's β·z; deviation 1 where all are equal.
fn moments(rows: &[&[f32]], classes: usize, beta: f64) -> (Vec<f64>, Vec<f64>) {
    let mean_of = |f: &dyn Fn(usize, f64) -> f64| {
        let mut sums = vec![0.0; classes];
        rows.iter().for_each(|row| sums.iter_mut().zip(*row).enumerate().for_each(|(i, (sum, z))| *sum += f(i, beta * f64::from(*z))));
        sums.iter().map(|sum| sum / rows.len() as f64).collect::<Vec<f64>>()
    };
    let means = mean_of(&|_, z| z);
    let variances = mean_of(&|i, z| (z - means[i]).powi(2));
    let deviations = variances.iter().map(|v| if *v > 0.0 { v.sqrt() } else { 1.0 }).collect();
    (means, deviations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_softmax_by_hand() {
        let mut log_p = vec![];
        log_softmax([1000.0, 1000.0 + 3f64.ln()].into_iter(), &mut log_p);
        assert!((log_p[0] - 0.25f64.ln()).abs() < 1e-12 && (log_p[1] - 0.75f64.ln()).abs() < 1e-12, "{log_p:?}");
    }

    #[test]
    fn the_slope_is_that_of_the_loss() {
        let values: Vec<f32> = (0..300).map(|i| (i as f32 * 1.7).sin() * 3.0).collect();
        let logits = Logits::new(&values, 3).expect("fits");
        let labels: Vec<u32> = (0..100).map(|i| i % 3).collect();
        for targets in [Targets::Labels(&labels), Targets::of(&Logits::new(&vec![0.5; 300], 3).expect("fits"))] {
            let loss = |beta: f32| mean_loss(&logits, &targets, &Correction { scale: vec![beta; 3], offset: vec![0.0; 3] });
            let step = 1.0 / 128.0;
            let (first, second) = slope(&logits, &targets, 0.75);
            let (below, at, above) = (loss(0.75 - step), loss(0.75), loss(0.75 + step));
            assert!((first - (above - below) / f64::from(2.0 * step)).abs() < 1e-3, "{first}");
            assert!((second - (above - 2.0 * at + below) / f64::from(step * step)).abs() < 2e-2, "{second}");
        }
    }
}
