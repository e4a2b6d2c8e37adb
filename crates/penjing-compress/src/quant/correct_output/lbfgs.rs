//! L-BFGS: minima of smooth functions of many numbers by their gradients. Nocedal & Wright, "Numerical Optimization", 2nd ed.,
//! algorithms 7.4 and 3.1.

use std::collections::VecDeque;

/// Steps that the curvature is remembered from.
const MEMORY: usize = 10;
const MOST_STEPS: usize = 200;
/// The largest component of the gradient at which it ends.
const FLAT: f64 = 1e-7;
/// The share of the expected decrease that a step has to bring.
const ARMIJO: f64 = 1e-4;
const MOST_HALVINGS: usize = 40;

/// A point from which `f`, which gives its value and its gradient, falls no further; at most [`MOST_STEPS`] from `start`.
pub(super) fn minimize(start: Vec<f64>, f: impl Fn(&[f64]) -> (f64, Vec<f64>)) -> Vec<f64> {
    let mut x = start;
    let (mut value, mut gradient) = f(&x);
    // (s, y): steps and how the gradient changed.
    let mut pairs: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::with_capacity(MEMORY);
    for _ in 0..MOST_STEPS {
        if gradient.iter().all(|g| g.abs() <= FLAT) {
            break;
        }
        let direction = direction(&gradient, &pairs);
        let slope = dot(&gradient, &direction);
        let mut length = if pairs.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1.0) } else { 1.0 };
        let found = (0..MOST_HALVINGS).find_map(|_| {
            let next: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
            let (next_value, next_gradient) = f(&next);
            let falls = next_value <= value + ARMIJO * length * slope;
            length /= 2.0;
            falls.then_some((next, next_value, next_gradient))
        });
        let Some((next, next_value, next_gradient)) = found else { break };
        let s: Vec<f64> = next.iter().zip(&x).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        if dot(&s, &y) > 1e-10 * dot(&y, &y) {
            pairs.truncate(MEMORY - 1);
            pairs.push_front((s, y));
        }
        (x, value, gradient) = (next, next_value, next_gradient);
    }
    x
}

/// −H⁻¹g, with the inverse of the curvature as the pairs show it, the latest first.
fn direction(gradient: &[f64], pairs: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let alphas: Vec<f64> = pairs
        .iter()
        .map(|(s, y)| {
            let alpha = dot(s, &q) / dot(s, y);
            add(&mut q, -alpha, y);
            alpha
        })
        .collect();
    if let Some((s, y)) = pairs.front() {
        let scale = dot(s, y) / dot(y, y);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((s, y), alpha) in pairs.iter().zip(&alphas).rev() {
        let beta = dot(y, &q) / dot(s, y);
        add(&mut q, alpha - beta, s);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// a += factor · b
fn add(a: &mut [f64], factor: f64, b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += factor * b);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretched_bowl() {
        // Σ i·(x − i)², from 0.
        let f = |x: &[f64]| {
            let terms = || x.iter().zip(1u32..).map(|(x, i)| (f64::from(i), x - f64::from(i)));
            (terms().map(|(i, d)| i * d * d).sum(), terms().map(|(i, d)| 2.0 * i * d).collect())
        };
        let x = minimize(vec![0.0; 50], f);
        assert!(x.iter().zip(1u32..).all(|(x, i)| (x - f64::from(i)).abs() < 1e-6), "{x:?}");
    }

    #[test]
    fn the_valley_of_rosenbrock() {
        let f = |x: &[f64]| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            (a * a + 100.0 * b * b, vec![-2.0 * a - 400.0 * x[0] * b, 200.0 * b])
        };
        let x = minimize(vec![-1.2, 1.0], f);
        assert!((x[0] - 1.0).abs() < 1e-5 && (x[1] - 1.0).abs() < 1e-5, "{x:?}");
    }
}
