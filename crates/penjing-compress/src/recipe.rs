//! What a run is to do: model, data, training, steps. A run folder holds it as `recipe.toml`.

use std::path::PathBuf;

use penjing_exec::data::{Augment, Preprocess, SplitOptions};
use penjing_exec::train::TrainSettings;
use serde::{Deserialize, Serialize};

use crate::floor::Floor;
use crate::prune::{Scope, Sparsity, Until};

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
    /// Remove single weights by magnitude.
    Prune {
        /// Over which weights one threshold holds.
        #[serde(default)]
        scope: Scope,
        /// How far.
        goal: PruneGoal,
    },
}

/// How far to prune.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PruneGoal {
    /// To exactly that sparsity.
    Sparsity {
        /// Fraction of the weights to remove.
        fraction: Sparsity,
        /// In so many steps along a cubic schedule, retraining after each.
        steps: usize,
    },
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
