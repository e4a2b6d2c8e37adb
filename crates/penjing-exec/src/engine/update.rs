//! One step of the optimizer.

use std::collections::BTreeMap;

use penjing_graph::ValueId;

use super::Engine;
use crate::ExecError;
use crate::executor::{Objective, UpdateRule};
use crate::kernels::{Adam, Float, Kernels, Sgd, Value};

/// What an optimizer remembers of each weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// SGD's velocity.
    Momentum,
    /// Adam's running mean of gradients.
    First,
    /// Adam's running mean of squared gradients.
    Second,
}

impl Moment {
    const ALL: [Moment; 3] = [Moment::Momentum, Moment::First, Moment::Second];

    /// Its name in checkpoints.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Moment::Momentum => "momentum",
            Moment::First => "first-moment",
            Moment::Second => "second-moment",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Moment> {
        Moment::ALL.into_iter().find(|moment| moment.name() == name)
    }
}

pub(super) type Moments<B> = BTreeMap<(Moment, ValueId), Float<B>>;

impl<B: Kernels> Engine<B> {
    /// Moves one weight by its gradient times `shrink`. Weight decay applies to every trainable weight, biases and scales
    /// included, as in PyTorch.
    pub(super) fn update(
        &mut self,
        id: ValueId,
        gradient: Float<B>,
        shrink: f32,
        objective: &Objective,
        step: u64,
    ) -> Result<(), ExecError> {
        let Some(Value::Float(weight)) = self.weights.remove(&id) else {
            return Err(ExecError::Option(format!("`{}` is not a weight of floats", self.name(id))));
        };
        let mut memory = |moment: Moment| self.moments.remove(&(moment, id)).unwrap_or_else(|| weight.zeros_like()).0;
        let rate = objective.learning_rate;
        let (weight, memories) = match objective.rule {
            UpdateRule::Sgd { momentum, nesterov, weight_decay: decay } => {
                let velocity = (momentum != 0.0).then(|| memory(Moment::Momentum));
                let (weight, velocity) = B::sgd(weight.0, gradient.0, velocity, Sgd { rate, momentum, nesterov, decay, shrink });
                (weight, velocity.map(|velocity| (Moment::Momentum, velocity)).into_iter().collect::<Vec<_>>())
            }
            UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled } => {
                let unbiased = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
                let numbers = Adam {
                    rate: (f64::from(rate) / unbiased(beta1)) as f32,
                    beta1,
                    beta2,
                    unbiased: (1.0 / unbiased(beta2).sqrt()) as f32,
                    epsilon,
                    decay: if decoupled { 0.0 } else { weight_decay },
                    keep: if decoupled { 1.0 - rate * weight_decay } else { 1.0 },
                    shrink,
                };
                let moments = [memory(Moment::First), memory(Moment::Second)];
                let [weight, first, second] = B::adam(weight.0, gradient.0, moments, numbers);
                (weight, vec![(Moment::First, first), (Moment::Second, second)])
            }
        };
        self.weights.insert(id, Float(weight).into());
        self.moments.extend(memories.into_iter().map(|(moment, t)| ((moment, id), Float(t))));
        self.changed.insert(id);
        Ok(())
    }
}
