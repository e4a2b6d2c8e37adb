//! What a run found: the record that a report is made from. `outcome.json` in the run's folder.

use std::path::PathBuf;

use penjing_exec::ExecError;
use penjing_exec::data::Split;
use penjing_exec::train::statistics::Interval;
use penjing_exec::train::{Evaluation, Similarity};
use serde::Serialize;

use crate::fastest::Tried;
use crate::floor::FloorVerdict;
use crate::gain::FileSize;
use crate::prune::structured::{Cost, GroupChannels, GroupSensitivity};
use crate::prune::{LayerSparsity, Mark};
use crate::quant::{ConversionReport, QuantizationReport};
use crate::recipe::Recipe;
use crate::run::{accuracy, percent};
use crate::speed::SpeedUp;
use crate::verify::Verification;

/// Version of the record's format.
pub const OUTCOME_VERSION: u32 = 1;

/// All that a run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Version of the format.
    pub version: u32,
    /// Version of the program.
    pub penjing: &'static str,
    /// What was to be done.
    pub recipe: Recipe,
    /// Whether the goal was met, and if not, why.
    pub verdict: Verdict,
    /// The data as they were used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<penjing_exec::data::Description>,
    /// Accuracy on the split that choices were made on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<BeforeAfter>,
    /// Accuracy on the split that no choice saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<BeforeAfter>,
    /// How near the outputs are to the original's, where the data have no labels to measure an accuracy by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub likeness: Option<Likeness>,
    /// What the user's own metric says of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<MetricChange>,
    /// Weights of every layer.
    pub layers: Vec<LayerSparsity>,
    /// Channels of every group, where channels were cut.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<GroupChannels>,
    /// What became integers, where the network was quantized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<QuantizationReport>,
    /// What got another form, where numbers were converted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversion: Option<ConversionReport>,
    /// Forms of the numbers that were tried to find the fastest, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Tried>,
    /// What both networks cost.
    pub cost: CostChange,
    /// How long both take for one sample, where that was measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub speed: Vec<SpeedUp>,
    /// What the accuracy loses where one group of channels is cut alone, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sensitivity: Vec<GroupSensitivity>,
    /// Every sparsity that was tried.
    pub rounds: Vec<Round>,
    /// Bytes of the original, of the result written densely, and of the result as written.
    pub size: SizeChange,
    /// How the written file was checked.
    pub verification: Verification,
    /// The file that was written.
    pub output: PathBuf,
    /// What a reader should know beside the numbers.
    pub notes: Vec<String>,
}

/// Whether the goal was met.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was.
    Met,
    /// It was not, for this reason.
    Missed(String),
}

/// An accuracy in percent with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// Percent right.
    pub percent: f64,
    /// Wilson's 95 % interval, in percent.
    pub interval: Interval,
    /// Mean loss.
    pub loss: f64,
}

/// Original and result on the same samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BeforeAfter {
    /// Number of samples.
    pub samples: u64,
    /// The original.
    pub original: Accuracy,
    /// The result.
    pub result: Accuracy,
    /// Result minus original in percentage points, with its paired 95 % interval.
    pub change: f64,
    /// The paired 95 % interval of the change.
    pub change_interval: Interval,
    /// Predictions that differ.
    pub flipped: u64,
    /// McNemar's mid-p: how likely a difference as large is by chance.
    pub mcnemar_p: f64,
    /// How the result stands to its floor, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<FloorVerdict>,
}

impl BeforeAfter {
    /// Both on the same samples.
    ///
    /// # Errors
    /// When they were measured on different numbers of samples.
    pub(crate) fn of(before: &Evaluation, after: &Evaluation, floor: Option<FloorVerdict>) -> Result<BeforeAfter, ExecError> {
        let paired = before.paired(after)?;
        Ok(BeforeAfter {
            samples: before.samples(),
            original: accuracy(before),
            result: accuracy(after),
            change: 100.0 * paired.difference(),
            change_interval: percent(paired.interval()),
            flipped: before.flips(after)?,
            mcnemar_p: paired.mcnemar_mid_p(),
            floor,
        })
    }
}

/// The result's outputs beside the original's on one split, which needs no labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Likeness {
    /// The split.
    pub split: Split,
    /// Number of samples.
    pub samples: usize,
    /// Each float output.
    pub outputs: Vec<Similarity>,
}

/// The user's own metric of both networks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricChange {
    /// Of the original.
    pub original: f64,
    /// Of the result.
    pub result: f64,
}

/// One sparsity that was tried. Accuracies are those of validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Round {
    /// Number, from 1.
    pub round: usize,
    /// Fraction of the weights removed.
    pub sparsity: f64,
    /// Weights that are not zero.
    pub left: usize,
    /// Multiply-accumulates that are left, where channels are cut; `sparsity` is then the fraction of them that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs: Option<u64>,
    /// Accuracy in percent after retraining; `None` where none is measured.
    pub accuracy: Option<f64>,
    /// The user's own metric, where a floor is judged by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<f64>,
    /// How it ended, where there is a floor.
    pub mark: Option<Mark>,
}

/// What both networks cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CostChange {
    /// The original.
    pub original: Cost,
    /// The result.
    pub result: Cost,
}

/// Bytes before and after.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SizeChange {
    /// The original.
    pub original: FileSize,
    /// The result with its zeros written out.
    pub dense: FileSize,
    /// The result as it was written.
    pub result: FileSize,
    /// Tensors written as their non-zero values.
    pub sparse_tensors: usize,
}
