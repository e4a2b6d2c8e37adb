//! Criteria: how much the network needs each channel. One file each; every criterion for single weights is one too, its scores
//! added up over the weights that a channel takes along.

mod activation;
mod bn_scale;
mod fpgm;
mod l2;
mod random;

use std::fmt;
use std::str::FromStr;

use penjing_graph::channels::Member;
use penjing_graph::{Graph, Role, Tensor};
use serde::{Deserialize, Serialize};

pub use activation::{Apoz, MeanActivation};
pub use bn_scale::BnScale;
pub use fpgm::Fpgm;
pub use l2::L2;
pub use random::RandomChannel;

use crate::prune::criteria::{Criterion, Fisher, Lamp, Magnitude, Needs, Snip, Taylor, Wanda};
use crate::prune::{Layer, PruneError, Stats};

/// One axis of one weight, and which of its positions each channel of a group takes along.
#[derive(Clone, Copy, Debug)]
pub struct MemberWeight<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// The axis and the positions.
    pub member: &'a Member,
    /// Number of channels.
    pub channels: usize,
    /// What the weight is for.
    pub role: Role,
    /// The weight, where it is one of those that pruning chooses among.
    pub layer: Option<&'a Layer<'a>>,
    /// The group's name, for criteria that draw.
    pub group: &'a str,
}

impl MemberWeight<'_> {
    /// For each channel the sum over the elements that go with it, of one number for each element of the weight.
    pub fn sums(&self, of_elements: &[f32]) -> Vec<f32> {
        let dims = self.graph.tensor(self.member.axis.value).map_or(&[][..], Tensor::dims);
        let (along, inner) = (dims[self.member.axis.axis], dims[self.member.axis.axis + 1..].iter().product::<usize>());
        let mut at = vec![0.0f64; along];
        for (row, elements) in of_elements.chunks_exact(inner.max(1)).enumerate() {
            at[row % along] += elements.iter().map(|x| f64::from(*x)).sum::<f64>();
        }
        let sum = |channel: usize| self.member.positions(channel).iter().map(|p| at[*p as usize]).sum::<f64>() as f32;
        (0..self.channels).map(sum).collect()
    }
}

/// Scores how much the network needs each channel: the higher, the more.
pub trait ChannelCriterion: fmt::Debug + Sync {
    /// Its name in the command and in records.
    fn name(&self) -> &'static str;

    /// What must be collected before.
    fn needs(&self) -> Needs {
        Needs::Weights
    }

    /// One finite score ≥ 0 for each channel by this weight alone; `None` where it says nothing about such a weight.
    ///
    /// # Errors
    /// When `stats` do not hold what it needs.
    fn score(&self, weight: &MemberWeight<'_>, stats: &Stats) -> Result<Option<Vec<f32>>, PruneError>;
}

/// A criterion for single weights, under the name that it has for channels.
#[derive(Clone, Copy, Debug)]
pub struct WeightSums {
    name: &'static str,
    criterion: &'static dyn Criterion,
}

/// How channels are scored.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ChannelChoice {
    /// By the sum of the scores of single weights.
    Weights(WeightSums),
    /// By a criterion of its own.
    Channels(&'static dyn ChannelCriterion),
}

const fn weights(name: &'static str, criterion: &'static dyn Criterion) -> ChannelChoice {
    ChannelChoice::Weights(WeightSums { name, criterion })
}

/// Every choice, in the order in which they are listed.
pub const ALL: &[ChannelChoice] = &[
    weights("l1", &Magnitude),
    ChannelChoice::Channels(&L2),
    ChannelChoice::Channels(&BnScale),
    weights("taylor", &Taylor),
    ChannelChoice::Channels(&Fpgm),
    weights("lamp", &Lamp),
    weights("fisher", &Fisher),
    weights("snip", &Snip),
    weights("wanda", &Wanda),
    ChannelChoice::Channels(&MeanActivation),
    ChannelChoice::Channels(&Apoz),
    ChannelChoice::Channels(&RandomChannel),
];

impl ChannelChoice {
    /// Its name in the command and in records.
    pub fn name(self) -> &'static str {
        match self {
            ChannelChoice::Weights(sums) => sums.name,
            ChannelChoice::Channels(criterion) => criterion.name(),
        }
    }

    /// What must be collected before.
    pub fn needs(self) -> Needs {
        match self {
            ChannelChoice::Weights(sums) => sums.criterion.needs(),
            ChannelChoice::Channels(criterion) => criterion.needs(),
        }
    }

    /// One score for each channel by this weight alone; `None` where the choice says nothing about such a weight.
    ///
    /// # Errors
    /// When `stats` do not hold what it needs, or a score is not finite.
    pub fn score(self, weight: &MemberWeight<'_>, stats: &Stats) -> Result<Option<Vec<f32>>, PruneError> {
        let scores = match self {
            ChannelChoice::Channels(criterion) => criterion.score(weight, stats)?,
            ChannelChoice::Weights(sums) => match weight.layer {
                Some(layer) => Some(weight.sums(&sums.criterion.score(layer, stats)?)),
                None => None,
            },
        };
        match &scores {
            Some(scores) if !scores.iter().all(|s| s.is_finite()) => {
                let weight = weight.graph.value(weight.member.axis.value).name.clone();
                Err(PruneError::ScoreNotFinite { criterion: self.name(), weight })
            }
            _ => Ok(scores),
        }
    }
}

/// The names of all choices, for people.
pub(crate) fn names() -> String {
    ALL.iter().map(|choice| choice.name()).collect::<Vec<_>>().join(", ")
}

impl Default for ChannelChoice {
    fn default() -> ChannelChoice {
        weights("l1", &Magnitude)
    }
}

impl PartialEq for ChannelChoice {
    fn eq(&self, other: &ChannelChoice) -> bool {
        self.name() == other.name()
    }
}

impl fmt::Debug for ChannelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ChannelChoice {
    type Err = PruneError;

    fn from_str(text: &str) -> Result<ChannelChoice, PruneError> {
        // What is `magnitude` for single weights is `l1` for channels.
        let text = if text == "magnitude" { "l1" } else { text };
        ALL.iter().find(|choice| choice.name() == text).copied().ok_or_else(|| PruneError::UnknownChannelCriterion { name: text.into() })
    }
}

impl TryFrom<String> for ChannelChoice {
    type Error = PruneError;

    fn try_from(text: String) -> Result<ChannelChoice, PruneError> {
        text.parse()
    }
}

impl From<ChannelChoice> for String {
    fn from(choice: ChannelChoice) -> String {
        choice.name().into()
    }
}
