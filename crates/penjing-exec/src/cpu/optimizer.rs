//! The optimizer's step: one pass over each weight.

use rayon::prelude::*;

use super::simd::{Level, vectorized};

/// The numbers of one step of SGD.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sgd {
    pub(crate) rate: f32,
    pub(crate) momentum: f32,
    pub(crate) nesterov: bool,
    pub(crate) decay: f32,
    /// What gradients are multiplied with first.
    pub(crate) shrink: f32,
}

/// The numbers of one step of Adam.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adam {
    /// The learning rate, divided by what the first moment lacks at this step.
    pub(crate) rate: f32,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    /// What the root of the second moment is multiplied with, for what it lacks at this step.
    pub(crate) unbiased: f32,
    pub(crate) epsilon: f32,
    /// L2 penalty, added to the gradient.
    pub(crate) decay: f32,
    /// What the weight is multiplied with.
    pub(crate) keep: f32,
    /// What gradients are multiplied with first.
    pub(crate) shrink: f32,
}

/// Elements of a part.
const PART: usize = 1 << 14;

vectorized! {
    fn sgd_part(w: &mut [f32], gradient: &[f32], step: &Sgd) {
        for (w, gradient) in w.iter_mut().zip(gradient) {
            *w -= step.rate * (gradient * step.shrink + step.decay * *w);
        }
    }

    fn momentum_part(w: &mut [f32], gradient: &[f32], velocity: &mut [f32], step: &Sgd) {
        let (of_gradient, of_velocity) = if step.nesterov { (1.0, step.momentum) } else { (0.0, 1.0) };
        for ((w, gradient), velocity) in w.iter_mut().zip(gradient).zip(velocity) {
            let gradient = gradient * step.shrink + step.decay * *w;
            *velocity = step.momentum * *velocity + gradient;
            *w -= step.rate * (of_gradient * gradient + of_velocity * *velocity);
        }
    }

    fn adam_part(w: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], step: &Adam) {
        for (((w, gradient), first), second) in w.iter_mut().zip(gradient).zip(first).zip(second) {
            let gradient = gradient * step.shrink + step.decay * *w;
            *first = step.beta1 * *first + (1.0 - step.beta1) * gradient;
            *second = step.beta2 * *second + (1.0 - step.beta2) * gradient * gradient;
            *w = step.keep * *w - step.rate * *first / (second.sqrt() * step.unbiased + step.epsilon);
        }
    }
}

/// SGD, with momentum where there is a velocity.
pub(crate) fn sgd(w: &mut [f32], gradient: &[f32], velocity: Option<&mut [f32]>, step: &Sgd) {
    let level = Level::detect();
    let parts = w.par_chunks_mut(PART).zip(gradient.par_chunks(PART));
    match velocity {
        None => parts.for_each(|(w, gradient)| sgd_part(level, w, gradient, step)),
        Some(velocity) => {
            let parts = parts.zip(velocity.par_chunks_mut(PART));
            parts.for_each(|((w, gradient), velocity)| momentum_part(level, w, gradient, velocity, step));
        }
    }
}

/// Adam with its first and second moment.
pub(crate) fn adam(w: &mut [f32], gradient: &[f32], [first, second]: [&mut [f32]; 2], step: &Adam) {
    let level = Level::detect();
    let moments = first.par_chunks_mut(PART).zip(second.par_chunks_mut(PART));
    let parts = w.par_chunks_mut(PART).zip(gradient.par_chunks(PART)).zip(moments);
    parts.for_each(|((w, gradient), (first, second))| adam_part(level, w, gradient, first, second, step));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_step_of_each_rule_by_hand() {
        let plain = Sgd { rate: 0.5, momentum: 0.0, nesterov: false, decay: 0.25, shrink: 0.5 };
        let mut w = [2.0];
        sgd(&mut w, &[3.0], None, &plain);
        assert_eq!(w, [1.0]); // 2 − ½·(3·½ + ¼·2)

        let (mut w, mut velocity) = ([2.0], [4.0]);
        sgd(&mut w, &[3.0], Some(&mut velocity), &Sgd { momentum: 0.5, ..plain });
        assert_eq!((w, velocity), ([0.0], [4.0])); // v = ½·4 + 2; w = 2 − ½·4

        let (mut w, mut velocity) = ([2.0], [4.0]);
        sgd(&mut w, &[3.0], Some(&mut velocity), &Sgd { momentum: 0.5, nesterov: true, ..plain });
        assert_eq!((w, velocity), ([0.0], [4.0])); // 2 − ½·(2 + ½·4)

        let step = Adam { rate: 0.5, beta1: 0.5, beta2: 0.75, unbiased: 2.0, epsilon: 0.0, decay: 0.0, keep: 0.5, shrink: 1.0 };
        let (mut w, mut first, mut second) = ([2.0], [0.0], [0.0]);
        adam(&mut w, &[2.0], [&mut first, &mut second], &step);
        assert_eq!((w, first, second), ([0.75], [1.0], [1.0])); // ½·2 − ½·1 / (√1·2)
    }

    #[test]
    fn parts_are_all_of_the_weight() {
        let n = 3 * PART + 5;
        let (mut w, mut velocity) = (vec![1.0; n], vec![0.0; n]);
        sgd(&mut w, &vec![1.0; n], Some(&mut velocity), &Sgd { rate: 1.0, momentum: 0.9, nesterov: false, decay: 0.0, shrink: 1.0 });
        assert!(w.iter().all(|w| *w == 0.0) && velocity.iter().all(|v| *v == 1.0));
    }
}
