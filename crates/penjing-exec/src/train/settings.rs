//! All that decides how a training runs, beside the data.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Schedule, Shape};
use crate::{ExecError, Loss, UpdateRule};

/// How to train. The augmentation belongs to the data set ([`crate::data::DataOptions`]).
///
/// The defaults are the usual recipe for small image networks: SGD with momentum 0.9 and weight decay 5·10⁻⁴ (Krizhevsky et al. 2012),
/// a learning rate of 0.1 for every 256 samples of the batch (Goyal et al. 2017), a cosine down to zero (Loshchilov & Hutter 2017).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TrainSettings {
    /// Passes over the training split.
    pub epochs: u64,
    /// Samples in a step, at least 1. The last step of an epoch has what is left.
    pub batch: usize,
    /// The optimizer.
    pub optimizer: UpdateRule,
    /// The base of the schedule.
    pub learning_rate: f32,
    /// How the learning rate runs.
    pub schedule: Schedule,
    /// The loss.
    pub loss: Loss,
    /// Largest norm of the gradient of all weights together; larger ones are scaled down to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f32>,
    /// Stop after this many epochs without a better validation accuracy, and keep the weights of the best epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<u64>,
    /// Seeds order and augmentation.
    pub seed: u64,
}

impl Default for TrainSettings {
    /// 10 epochs, batch 64, SGD with momentum, learning rate 0.025 along a cosine, cross-entropy, seed 0.
    fn default() -> TrainSettings {
        TrainSettings {
            epochs: 10,
            batch: 64,
            optimizer: Optimizer::Sgd.default_rule(),
            learning_rate: Optimizer::Sgd.default_learning_rate(64),
            schedule: Schedule::new(Shape::Cosine),
            loss: Loss::CrossEntropy { smoothing: 0.0 },
            clip_norm: None,
            early_stopping: None,
            seed: 0,
        }
    }
}

impl TrainSettings {
    /// Whether every number is one that can be trained with.
    ///
    /// # Errors
    /// Names the first that is not, and its range.
    pub fn check(&self) -> Result<(), ExecError> {
        let positive = |x: f32| x.is_finite() && x > 0.0;
        let not_negative = |x: f32| x.is_finite() && x >= 0.0;
        let below_one = |x: f32| (0.0..1.0).contains(&x);
        let rule = match self.optimizer {
            UpdateRule::Sgd { momentum, nesterov, weight_decay } => vec![
                (
                    "momentum",
                    momentum,
                    below_one(momentum) && (momentum > 0.0 || !nesterov),
                    "at least 0 (with Nesterov above 0) and below 1",
                ),
                ("weight decay", weight_decay, not_negative(weight_decay), "at least 0"),
            ],
            UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled: _ } => vec![
                ("beta1", beta1, below_one(beta1), "at least 0 and below 1"),
                ("beta2", beta2, below_one(beta2), "at least 0 and below 1"),
                ("epsilon", epsilon, positive(epsilon), "above 0"),
                ("weight decay", weight_decay, not_negative(weight_decay), "at least 0"),
            ],
        };
        let smoothing = match self.loss {
            Loss::CrossEntropy { smoothing } => smoothing,
            Loss::Mse => 0.0,
        };
        let clip_norm = self.clip_norm.unwrap_or(1.0);
        let others = [
            ("learning rate", self.learning_rate, positive(self.learning_rate), "above 0"),
            ("label smoothing", smoothing, below_one(smoothing), "at least 0 and below 1"),
            ("clip norm", clip_norm, positive(clip_norm), "above 0"),
            ("batch", self.batch as f32, self.batch > 0, "at least 1"),
        ];
        match rule.into_iter().chain(others).find(|(_, _, fits, _)| !fits) {
            None => Ok(()),
            Some((name, value, _, range)) => Err(ExecError::Option(format!("{name} {value} must be {range}"))),
        }
    }
}

impl fmt::Display for TrainSettings {
    /// All that is in force, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} epochs, batch {}, ", self.epochs, self.batch)?;
        match self.optimizer {
            UpdateRule::Sgd { momentum, nesterov, weight_decay } => {
                let nesterov = if nesterov { "Nesterov " } else { "" };
                write!(f, "SGD with {nesterov}momentum {momentum}, weight decay {weight_decay}")?;
            }
            UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled } => {
                let name = if decoupled { "AdamW" } else { "Adam" };
                write!(f, "{name} with betas {beta1} and {beta2}, epsilon {epsilon}, weight decay {weight_decay}")?;
            }
        }
        write!(f, ", learning rate {} {}, loss {}", self.learning_rate, self.schedule, self.loss)?;
        match self.clip_norm {
            Some(norm) => write!(f, ", gradient norm up to {norm}")?,
            None => write!(f, ", no gradient clipping")?,
        }
        match self.early_stopping {
            Some(patience) => write!(f, ", stop after {patience} epochs without gain")?,
            None => write!(f, ", no early stopping")?,
        }
        write!(f, ", seed {}", self.seed)
    }
}

/// An optimizer by name, with the settings that it usually has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// The same with Nesterov's momentum.
    Nesterov,
    /// Adam.
    Adam,
    /// Adam with decoupled weight decay.
    Adamw,
}

impl Optimizer {
    /// All, in the order shown to the user.
    pub const ALL: [Optimizer; 4] = [Optimizer::Sgd, Optimizer::Nesterov, Optimizer::Adam, Optimizer::Adamw];

    /// Name in recipes and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Optimizer::Sgd => "sgd",
            Optimizer::Nesterov => "nesterov",
            Optimizer::Adam => "adam",
            Optimizer::Adamw => "adamw",
        }
    }

    /// SGD: momentum 0.9, weight decay 5·10⁻⁴. Adam: betas 0.9 and 0.999, epsilon 10⁻⁸, no weight decay; AdamW: 0.01.
    pub fn default_rule(self) -> UpdateRule {
        let sgd = |nesterov| UpdateRule::Sgd { momentum: 0.9, nesterov, weight_decay: 5e-4 };
        let adam = |decoupled, weight_decay| UpdateRule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay, decoupled };
        match self {
            Optimizer::Sgd => sgd(false),
            Optimizer::Nesterov => sgd(true),
            Optimizer::Adam => adam(false, 0.0),
            Optimizer::Adamw => adam(true, 0.01),
        }
    }

    /// The default rule with another momentum or weight decay.
    ///
    /// # Errors
    /// When a momentum is given to an optimizer that has none.
    pub fn rule(self, momentum: Option<f32>, weight_decay: Option<f32>) -> Result<UpdateRule, ExecError> {
        let mut rule = self.default_rule();
        match (&mut rule, momentum) {
            (UpdateRule::Sgd { momentum, .. }, Some(given)) => *momentum = given,
            (UpdateRule::Adam { .. }, Some(_)) => {
                return Err(ExecError::Option(format!("{} has betas, no momentum (hint: leave it out, or --optimizer sgd)", self.name())));
            }
            (UpdateRule::Sgd { .. } | UpdateRule::Adam { .. }, None) => {}
        }
        match &mut rule {
            UpdateRule::Sgd { weight_decay: decay, .. } | UpdateRule::Adam { weight_decay: decay, .. } => {
                *decay = weight_decay.unwrap_or(*decay);
            }
        }
        Ok(rule)
    }

    /// SGD: 0.1 for every 256 samples of the batch. Adam: 0.001.
    pub fn default_learning_rate(self, batch: usize) -> f32 {
        match self {
            Optimizer::Sgd | Optimizer::Nesterov => 0.1 * batch as f32 / 256.0,
            Optimizer::Adam | Optimizer::Adamw => 1e-3,
        }
    }
}

impl FromStr for Optimizer {
    type Err = ExecError;

    fn from_str(text: &str) -> Result<Optimizer, ExecError> {
        let names = Optimizer::ALL.map(Optimizer::name);
        let found = Optimizer::ALL.into_iter().find(|optimizer| optimizer.name() == text);
        found.ok_or_else(|| ExecError::Option(format!("optimizer `{text}` is none of {}", names.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound_and_said() {
        let settings = TrainSettings::default();
        assert!(settings.check().is_ok());
        assert_eq!(
            settings.to_string(),
            "10 epochs, batch 64, SGD with momentum 0.9, weight decay 0.0005, learning rate 0.025 cosine, loss cross-entropy, \
             no gradient clipping, no early stopping, seed 0"
        );
    }

    #[test]
    fn a_recipe_says_only_what_differs() {
        let text = "epochs = 2\nlearning-rate = 0.001\nschedule = \"constant+warmup:5\"\nloss = \"cross-entropy:0.1\"\n\
                    optimizer = { rule = \"sgd\", momentum = 0.9, nesterov = true, weight_decay = 0.0 }\n";
        let settings: TrainSettings = toml::from_str(text).expect("a recipe");
        let expected = TrainSettings {
            epochs: 2,
            learning_rate: 0.001,
            schedule: Schedule { shape: Shape::Constant, warmup: 5 },
            loss: Loss::CrossEntropy { smoothing: 0.1 },
            optimizer: UpdateRule::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 },
            ..TrainSettings::default()
        };
        assert_eq!(settings, expected);
        let written = toml::to_string(&settings).expect("a recipe");
        assert_eq!(toml::from_str::<TrainSettings>(&written).ok(), Some(settings));
        assert!(toml::from_str::<TrainSettings>("epoch = 2").is_err());
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let base = TrainSettings::default();
        let sgd = |momentum, nesterov| UpdateRule::Sgd { momentum, nesterov, weight_decay: 0.0 };
        for (settings, text) in [
            (TrainSettings { batch: 0, ..base }, "batch 0 must be at least 1"),
            (TrainSettings { learning_rate: f32::NAN, ..base }, "learning rate NaN must be above 0"),
            (TrainSettings { clip_norm: Some(0.0), ..base }, "clip norm 0 must be above 0"),
            (TrainSettings { loss: Loss::CrossEntropy { smoothing: 1.0 }, ..base }, "label smoothing 1 must be at least 0 and below 1"),
            (TrainSettings { optimizer: sgd(1.0, false), ..base }, "momentum 1 must be at least 0 (with Nesterov above 0) and below 1"),
            (TrainSettings { optimizer: sgd(0.0, true), ..base }, "momentum 0 must be at least 0 (with Nesterov above 0) and below 1"),
        ] {
            assert_eq!(settings.check().map_err(|e| e.to_string()), Err(text.into()));
        }
    }

    #[test]
    fn optimizers_by_name() {
        assert_eq!("nesterov".parse::<Optimizer>().ok(), Some(Optimizer::Nesterov));
        assert_eq!(
            "lion".parse::<Optimizer>().map_err(|e| e.to_string()),
            Err("optimizer `lion` is none of sgd, nesterov, adam, adamw".into())
        );
        let rule = Optimizer::Sgd.rule(Some(0.5), Some(0.0)).ok();
        assert_eq!(rule, Some(UpdateRule::Sgd { momentum: 0.5, nesterov: false, weight_decay: 0.0 }));
        assert!(Optimizer::Adam.rule(Some(0.9), None).is_err());
        assert!((Optimizer::Sgd.default_learning_rate(128) - 0.05).abs() < 1e-8);
    }
}
