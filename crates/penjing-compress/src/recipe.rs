//! What a run is to do: model, data, training, steps. A run folder holds it as `recipe.toml`.

use std::path::PathBuf;

use penjing_exec::data::{Augment, Preprocess, SplitOptions};
use penjing_exec::train::TrainSettings;
use serde::{Deserialize, Serialize};

use crate::fastest::Fastest;
use crate::floor::Floor;
use crate::prune::criteria::Choice;
use crate::prune::structured::criteria::ChannelChoice;
use crate::prune::structured::{Budget, ChannelScope, Limits, Normalize, Reduce, Regularization, Regularizer};
use crate::prune::{Pattern, PruningSchedule, Scope, Sparsity, Until};
use crate::quant::{Conversion, Quantization};

/// Version of the recipe's format that this program writes and reads.
pub const RECIPE_VERSION: u32 = 1;

/// An ordered list of methods with their goals, and all that they need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recipe {
    /// Version of the format.
    pub version: u32,
    /// Where the network comes from.
    pub model: ModelSource,
    /// Where the data come from; without data, only what needs none is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataSource>,
    /// How the network is trained where `model` names an architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<TrainSettings>,
    /// How it is trained again after each change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrain: Option<TrainSettings>,
    /// What is done, in this order.
    #[serde(rename = "step", default)]
    pub steps: Vec<Step>,
    /// The user's own measure, the higher the better: given a model's path it prints one number. A floor is judged by it where it is
    /// given, else by accuracy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_command: Option<String>,
    /// Where the result goes.
    pub output: PathBuf,
    /// Zeros are written densely even where that takes more bytes.
    #[serde(default)]
    pub dense: bool,
}

/// Where the network comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ModelSource {
    /// A file.
    File {
        /// The ONNX file.
        path: PathBuf,
    },
    /// An architecture of the zoo, initialised and trained first.
    New {
        /// Its name.
        architecture: String,
        /// Number of classes; without it, the data's or the architecture's own.
        #[serde(skip_serializing_if = "Option::is_none")]
        classes: Option<usize>,
        /// Channels, height and width; without it, the data's or the architecture's own.
        #[serde(skip_serializing_if = "Option::is_none")]
        input: Option<[usize; 3]>,
        /// Seed of the initial weights.
        seed: u64,
    },
}

/// Where the data come from and how they are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DataSource {
    /// File or folder.
    pub path: PathBuf,
    /// What is done to each sample; without it, what the model's metadata say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
    /// Classes of a set that has none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Seed of the split into training, validation and test.
    pub split_seed: u64,
    /// What may happen to training images.
    #[serde(default)]
    pub augment: Augment,
}

impl DataSource {
    /// How samples are shared out where the set does not do so itself.
    pub fn split(&self) -> SplitOptions {
        SplitOptions { seed: self.split_seed, ..SplitOptions::default() }
    }
}

/// One method with its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Remove single weights.
    Prune(WeightPruning),
    /// Remove channels, heads and units.
    PruneChannels(ChannelPruning),
    /// Take the form of the numbers that is fastest here.
    Fastest(Fastest),
    /// Compute in integers.
    Quantize(Quantization),
    /// Give the numbers another form, without ranges of activations.
    Convert(Conversion),
}

/// Which single weights are removed, and how far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WeightPruning {
    /// Over which weights one threshold holds.
    #[serde(default)]
    pub scope: Scope,
    /// The shape that zeros have.
    #[serde(default)]
    pub pattern: Pattern,
    /// How weights are chosen.
    #[serde(default)]
    pub criterion: Choice,
    /// Training samples that a criterion may look at.
    #[serde(default = "calibration_samples")]
    pub calibration_samples: usize,
    /// How the sparsity grows where it is reached in several steps.
    #[serde(default)]
    pub schedule: PruningSchedule,
    /// After each step the weights left go back to what they were after so many epochs of the first training, 0 the initial ones,
    /// and are trained anew: Frankle & Carbin 2019, "The Lottery Ticket Hypothesis"; Frankle et al. 2020, "Linear Mode Connectivity
    /// and the Lottery Ticket Hypothesis". Only for a network that is trained here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewind_epoch: Option<u64>,
    /// How far.
    pub goal: PruneGoal,
}

/// Which channels are removed, and how far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ChannelPruning {
    /// How channels are scored.
    #[serde(default)]
    pub criterion: ChannelChoice,
    /// How the scores that a channel has by each of its weights become one.
    #[serde(default)]
    pub reduce: Reduce,
    /// What makes scores of different groups comparable.
    #[serde(default)]
    pub normalize: Normalize,
    /// Among which channels scores are compared.
    #[serde(default)]
    pub scope: ChannelScope,
    /// Bounds on what is left of a group.
    #[serde(default)]
    pub limits: Limits,
    /// Whether channels may go that an operator reduces along in a way that zeros do not stand for.
    #[serde(default)]
    pub approximate: bool,
    /// Training samples that a criterion may look at.
    #[serde(default = "calibration_samples")]
    pub calibration_samples: usize,
    /// How what is removed grows over the steps.
    #[serde(default)]
    pub schedule: PruningSchedule,
    /// What pulls channels towards zero in a training before the first cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regularize: Option<Regularization>,
    /// Training samples from which the running statistics of batch normalisations are measured anew after each cut; 0 leaves them.
    #[serde(default = "bn_samples")]
    pub bn_samples: usize,
    /// Ratios by which each group is cut alone to see what the accuracy loses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensitivity: Vec<f64>,
    /// How far.
    pub goal: ChannelGoal,
}

impl ChannelPruning {
    /// Whether what is asked for goes together.
    ///
    /// # Errors
    /// Says what does not, and the way out.
    pub fn check(&self) -> Result<(), String> {
        if self.limits.round_to == 0 || self.limits.min_channels == 0 {
            return Err("a group keeps at least one channel (hint: --round-to 1, --min-channels 1)".into());
        }
        if self.calibration_samples == 0 {
            return Err("a criterion needs a sample to look at (hint: --calibration-samples 512)".into());
        }
        if let Some(ratio) = self.sensitivity.iter().find(|ratio| !(0.0..1.0).contains(*ratio)) {
            return Err(format!("{ratio} is no ratio to measure sensitivity at (hint: from 0 to below 1, such as 0.25,0.5,0.75)"));
        }
        match &self.goal {
            ChannelGoal::Floor { .. } if self.regularize.is_some_and(|r| r.regularizer == Regularizer::Growing) => {
                Err("growing pulls at the channels that are to go, and a floor does not say which (hint: group-lasso, or --macs 0.5)"
                    .into())
            }
            ChannelGoal::Remove { fraction, .. } if fraction.value() >= 1.0 => {
                Err("nothing would be left of the network (hint: a fraction below 1)".into())
            }
            ChannelGoal::Remove { .. } | ChannelGoal::Floor { .. } => Ok(()),
        }
    }
}

/// How far to cut channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ChannelGoal {
    /// Until so much of a budget is gone.
    Remove {
        /// What is counted.
        budget: Budget,
        /// Fraction of the original's to remove.
        fraction: Sparsity,
        /// In so many steps, retraining after each.
        steps: usize,
    },
    /// To the network with the fewest multiply-accumulates whose accuracy holds the floor.
    Floor {
        /// The floor.
        floor: Floor,
        /// When the search ends.
        until: Until,
        /// Rounds at most.
        rounds: usize,
    },
}

/// Training samples that normalisations are measured on after a cut where nothing else is asked for.
pub const BN_SAMPLES: usize = 512;

fn bn_samples() -> usize {
    BN_SAMPLES
}

/// Training samples that a criterion looks at where nothing else is asked for.
pub const CALIBRATION_SAMPLES: usize = 512;

fn calibration_samples() -> usize {
    CALIBRATION_SAMPLES
}

impl WeightPruning {
    /// By magnitude, any weight, one threshold for all: Han et al. 2015.
    pub fn by_magnitude(goal: PruneGoal) -> WeightPruning {
        WeightPruning {
            scope: Scope::Global,
            pattern: Pattern::Unstructured,
            criterion: Choice::default(),
            calibration_samples: CALIBRATION_SAMPLES,
            schedule: PruningSchedule::default(),
            rewind_epoch: None,
            goal,
        }
    }

    /// Whether what is asked for goes together.
    ///
    /// # Errors
    /// Says what does not, and the way out.
    pub fn check(&self) -> Result<(), String> {
        let pattern = self.pattern;
        match (pattern.sparsity(), &self.goal) {
            (None, PruneGoal::Pattern) => {
                return Err(format!("the pattern {pattern} does not say how far to prune (hint: --sparsity 0.9, or --pattern 2:4)"));
            }
            (Some(_), PruneGoal::Floor { .. }) => {
                return Err(format!(
                    "the pattern {pattern} fixes the sparsity, so that there is none to search for (hint: leave --max-drop and \
                     --min-accuracy out)"
                ));
            }
            (Some(fixed), PruneGoal::Sparsity { fraction, steps }) => {
                let (fixed, asked) = (fixed.value(), fraction.value());
                if (fixed - asked).abs() > 1e-9 {
                    return Err(format!(
                        "the pattern {pattern} is a sparsity of {fixed}, not of {asked} (hint: leave --sparsity out, or another pattern)"
                    ));
                }
                if *steps > 1 {
                    return Err(format!("the pattern {pattern} is reached in one step, not in {steps} (hint: leave --steps out)"));
                }
            }
            (Some(_), PruneGoal::Pattern) | (None, PruneGoal::Sparsity { .. } | PruneGoal::Floor { .. }) => {}
        }
        if self.criterion == Choice::SparseGpt && self.scope != Scope::Layer {
            return Err("sparsegpt compares the weights of one layer (hint: --scope layer, or leave it out)".into());
        }
        if self.criterion == Choice::SparseGpt && self.rewind_epoch.is_some() {
            return Err("sparsegpt changes the weights that stay, and rewinding would undo it (hint: another criterion)".into());
        }
        if self.calibration_samples == 0 {
            return Err("a criterion needs a sample to look at (hint: --calibration-samples 512)".into());
        }
        Ok(())
    }
}

/// How far to prune.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PruneGoal {
    /// To exactly that sparsity.
    Sparsity {
        /// Fraction of the weights to remove.
        fraction: Sparsity,
        /// In so many steps along the schedule, retraining after each.
        steps: usize,
    },
    /// As far as the pattern says by itself.
    Pattern,
    /// To the sparsest network whose accuracy holds the floor.
    Floor {
        /// The floor.
        floor: Floor,
        /// When the search ends.
        until: Until,
        /// Rounds at most.
        rounds: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::{Certainty, Limit};

    fn step(pattern: &str, goal: PruneGoal) -> WeightPruning {
        WeightPruning { pattern: pattern.parse().expect(pattern), ..WeightPruning::by_magnitude(goal) }
    }

    fn to(fraction: f64, steps: usize) -> PruneGoal {
        PruneGoal::Sparsity { fraction: fraction.try_into().expect("a fraction"), steps }
    }

    #[test]
    fn what_goes_together() {
        for sound in [step("2:4", PruneGoal::Pattern), step("2:4", to(0.5, 1)), step("1:4", to(0.75, 1)), step("4x1", to(0.9, 3))] {
            assert_eq!(sound.check(), Ok(()));
        }
        let floor = Floor { limit: Limit::MaxDrop(1.0), certainty: Certainty::Point };
        let by_sparsegpt = WeightPruning { criterion: Choice::SparseGpt, ..step("2:4", PruneGoal::Pattern) };
        for (unsound, says) in [
            (step("unstructured", PruneGoal::Pattern), "how far"),
            (step("2:4", to(0.9, 1)), "a sparsity of 0.5, not of 0.9"),
            (step("2:4", to(0.5, 2)), "one step"),
            (step("2:4", PruneGoal::Floor { floor, until: Until::Floor, rounds: 3 }), "none to search for"),
            (by_sparsegpt, "--scope layer"),
        ] {
            let reason = unsound.check().expect_err("refused");
            assert!(reason.contains(says) && reason.contains("hint"), "{reason}");
        }
    }

    #[test]
    fn a_step_as_text() {
        let text = "method = \"prune\"\npattern = \"2:4\"\ncriterion = \"wanda\"\nscope = \"row\"\ngoal = \"pattern\"\n";
        let Step::Prune(step) = toml::from_str(text).expect("a step") else { panic!("another step") };
        assert_eq!((step.pattern.to_string().as_str(), step.criterion.name(), step.calibration_samples), ("2:4", "wanda", 512));
        assert_eq!(toml::from_str::<Step>(&toml::to_string(&Step::Prune(step.clone())).expect("text")).expect("read"), Step::Prune(step));
        // As it was written before there were patterns.
        let text = "method = \"prune\"\n[goal.sparsity]\nfraction = 0.5\nsteps = 1\n";
        let Step::Prune(step) = toml::from_str(text).expect("a step") else { panic!("another step") };
        assert_eq!(step, WeightPruning::by_magnitude(to(0.5, 1)));
        assert!(toml::from_str::<Step>("method = \"prune\"\ngoal = \"pattern\"\npatern = \"2:4\"\n").is_err());
    }
}
