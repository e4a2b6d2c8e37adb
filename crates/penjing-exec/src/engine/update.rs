//! One step of the optimizer.

use std::collections::BTreeMap;

use penjing_graph::ValueId;

use super::Engine;
use crate::ExecError;
use crate::executor::{Objective, UpdateRule};
use crate::kernels::{Float, Kernels, Value};

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
    /// Moves one weight. Weight decay applies to every trainable weight, biases and scales included, as in PyTorch.
    pub(super) fn update(&mut self, id: ValueId, gradient: Float<B>, objective: &Objective, step: u64) -> Result<(), ExecError> {
        let Some(Value::Float(weight)) = self.weights.remove(&id) else {
            return Err(ExecError::Option(format!("`{}` is not a weight of floats", self.name(id))));
        };
        let mut memory = |moment: Moment| self.moments.remove(&(moment, id)).unwrap_or_else(|| weight.zeros_like());
        let rate = objective.learning_rate;
        let (weight, memories) = match objective.rule {
            UpdateRule::Sgd { momentum, nesterov, weight_decay } => {
                let gradient = decayed(gradient, &weight, weight_decay);
                if momentum == 0.0 {
                    (weight - gradient * rate, vec![])
                } else {
                    let velocity = memory(Moment::Momentum) * momentum + gradient.clone();
                    let direction = if nesterov { gradient + velocity.clone() * momentum } else { velocity.clone() };
                    (weight - direction * rate, vec![(Moment::Momentum, velocity)])
                }
            }
            UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled } => {
                let gradient = decayed(gradient, &weight, if decoupled { 0.0 } else { weight_decay });
                let first = memory(Moment::First) * beta1 + gradient.clone() * (1.0 - beta1);
                let second = memory(Moment::Second) * beta2 + gradient.square() * (1.0 - beta2);
                let weight = if decoupled && weight_decay != 0.0 { weight * (1.0 - rate * weight_decay) } else { weight };
                let unbiased = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
                let root = second.clone().sqrt() * (1.0 / unbiased(beta2).sqrt()) as f32 + epsilon;
                let direction = first.clone() / root * (f64::from(rate) / unbiased(beta1)) as f32;
                (weight - direction, vec![(Moment::First, first), (Moment::Second, second)])
            }
        };
        self.weights.insert(id, weight.into());
        self.moments.extend(memories.into_iter().map(|(moment, t)| ((moment, id), t)));
        self.changed.insert(id);
        Ok(())
    }
}

/// g + decay·w
fn decayed<B: Kernels>(gradient: Float<B>, weight: &Float<B>, decay: f32) -> Float<B> {
    if decay == 0.0 { gradient } else { gradient + weight.clone() * decay }
}
