//! How sparsity grows from step to step.

use crate::prune::Sparsity;

/// Sparsity after each of `steps` steps, from `start` to exactly `end`: s = end + (start − end)·(1 − t/steps)³.
/// Source: Zhu & Gupta 2017, "To prune, or not to prune", eq. 1.
pub fn cubic(start: Sparsity, end: Sparsity, steps: usize) -> Vec<Sparsity> {
    let steps = steps.max(1);
    (1..=steps)
        .map(|t| {
            if t == steps {
                return end;
            }
            let left = 1.0 - t as f64 / steps as f64;
            Sparsity(end.0 + (start.0 - end.0) * left.powi(3))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cubic_by_hand() {
        // (1 − 1/2)³ = 1/8 of the way is left after the first of two steps.
        let s: Vec<f64> = cubic(Sparsity(0.0), Sparsity(0.8), 2).into_iter().map(|s| s.0).collect();
        assert_eq!(s, [0.7000000000000001, 0.8]);
        assert_eq!(cubic(Sparsity(0.2), Sparsity(0.9), 1), [Sparsity(0.9)]);
        assert_eq!(cubic(Sparsity(0.2), Sparsity(0.9), 0), [Sparsity(0.9)]);
    }

    #[test]
    fn cubic_never_falls_and_never_overshoots() {
        let s = cubic(Sparsity(0.1), Sparsity(0.95), 10);
        assert!(s.windows(2).all(|w| w[0].0 <= w[1].0) && s.iter().all(|s| s.0 <= 0.95));
    }
}
