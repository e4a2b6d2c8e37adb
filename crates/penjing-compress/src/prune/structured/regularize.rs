//! Sparse training: channels are pulled towards zero before they are cut, so that little is lost with them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use penjing_exec::train::Penalty;
use penjing_exec::{ExecError, Executor};
use penjing_graph::channels::Removal;
use penjing_graph::{Role, Tensor, ValueId, roles};
use serde::{Deserialize, Serialize};

use super::Cuttable;
use crate::prune::PruneError;

/// What pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regularizer {
    /// λ · Σ over channels of ‖w‖₂, w all weights that go with the channel.
    /// Wen et al. 2016, "Learning Structured Sparsity in Deep Neural Networks".
    GroupLasso,
    /// λ · Σ |γ| over the scales of normalisations. Liu et al. 2017, "Learning Efficient Convolutional Networks through Network
    /// Slimming".
    BnL1,
    /// ½ λ(t) · Σ w² over the weights of the channels that are to go, λ growing from 0 to its full strength.
    /// Wang et al. 2021, "Neural Pruning via Growing Regularization".
    Growing,
}

impl Regularizer {
    /// All, in the order in which they are listed.
    pub const ALL: [Regularizer; 3] = [Regularizer::GroupLasso, Regularizer::BnL1, Regularizer::Growing];

    fn name(self) -> &'static str {
        match self {
            Regularizer::GroupLasso => "group-lasso",
            Regularizer::BnL1 => "bn-l1",
            Regularizer::Growing => "growing",
        }
    }

    /// λ where nothing else is asked for: 10⁻⁴ as Liu et al., 1 as Wang et al. end with.
    fn default_strength(self) -> f32 {
        match self {
            Regularizer::GroupLasso | Regularizer::BnL1 => 1e-4,
            Regularizer::Growing => 1.0,
        }
    }
}

/// What pulls, and how strongly. In text: `group-lasso`, `bn-l1:0.001`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Regularization {
    /// What pulls.
    pub regularizer: Regularizer,
    /// λ > 0.
    pub strength: f32,
}

impl fmt::Display for Regularization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.regularizer.name(), self.strength)
    }
}

impl FromStr for Regularization {
    type Err = PruneError;

    fn from_str(text: &str) -> Result<Regularization, PruneError> {
        let unknown = || PruneError::UnknownRegularization(text.into());
        let (name, strength) = text.split_once(':').map_or((text, None), |(name, strength)| (name, Some(strength)));
        let regularizer = Regularizer::ALL.into_iter().find(|r| r.name() == name).ok_or_else(unknown)?;
        let strength = match strength {
            Some(strength) => strength.parse().map_err(|_| unknown())?,
            None => regularizer.default_strength(),
        };
        if strength > 0.0 && f32::is_finite(strength) { Ok(Regularization { regularizer, strength }) } else { Err(unknown()) }
    }
}

impl TryFrom<String> for Regularization {
    type Error = PruneError;

    fn try_from(text: String) -> Result<Regularization, PruneError> {
        text.parse()
    }
}

impl From<Regularization> for String {
    fn from(regularization: Regularization) -> String {
        regularization.to_string()
    }
}

/// Which elements of one weight go with which channel.
#[derive(Debug)]
struct Pulled {
    weight: ValueId,
    /// Elements behind each position of the axis.
    inner: usize,
    /// The channel at each position of the axis, numbered through all groups; `None` where none is pulled.
    channel_at: Vec<Option<u32>>,
}

impl Pulled {
    /// Calls with each element's place and its channel.
    fn each(&self, elements: usize, mut call: impl FnMut(usize, usize)) {
        let along = self.channel_at.len();
        for row in 0..elements / self.inner.max(1) {
            if let Some(channel) = self.channel_at[row % along] {
                (row * self.inner..(row + 1) * self.inner).for_each(|place| call(place, channel as usize));
            }
        }
    }
}

/// The penalty on the channels of one network.
#[derive(Debug)]
pub(super) struct ChannelPenalty {
    regularization: Regularization,
    pulled: Vec<Pulled>,
    channels: usize,
}

impl ChannelPenalty {
    /// Pulls all channels of a network, or, where they grow, those of `removal`.
    pub(super) fn new(cuttable: &Cuttable, regularization: Regularization, removal: &Removal) -> Result<ChannelPenalty, PruneError> {
        let roles = roles(&cuttable.graph);
        let wanted = |role: Role| match regularization.regularizer {
            Regularizer::BnL1 => role == Role::NormScale,
            Regularizer::GroupLasso | Regularizer::Growing => role.prunable(),
        };
        let (mut pulled, mut first) = (vec![], 0);
        for (group, removed) in cuttable.channels.groups.iter().zip(removal) {
            let all: Vec<usize> = (0..group.channels).collect();
            let channels = if regularization.regularizer == Regularizer::Growing { removed } else { &all };
            for member in &group.members {
                let weight = member.axis.value;
                let tensor = cuttable.graph.tensor(weight).filter(|t| t.values::<f32>().is_some());
                let Some(tensor) = tensor.filter(|_| roles.get(&weight).is_some_and(|role| wanted(*role))) else { continue };
                let mut channel_at = vec![None; member.size];
                for channel in channels {
                    member.positions(*channel).iter().for_each(|p| channel_at[*p as usize] = Some((first + channel) as u32));
                }
                pulled.push(Pulled { weight, inner: tensor.dims()[member.axis.axis + 1..].iter().product(), channel_at });
            }
            first += group.channels;
        }
        if pulled.is_empty() {
            return Err(PruneError::NothingToRegularize { regularizer: regularization.regularizer.name() });
        }
        Ok(ChannelPenalty { regularization, pulled, channels: first })
    }
}

/// Below this norm a channel is as good as gone, and no longer pulled harder.
const LEAST_NORM: f64 = 1e-6;

impl Penalty for ChannelPenalty {
    fn factors(&self, executor: &dyn Executor, progress: f64) -> Result<BTreeMap<ValueId, Vec<f32>>, ExecError> {
        let strength = self.regularization.strength;
        let mut weights: BTreeMap<ValueId, Tensor> = BTreeMap::new();
        for Pulled { weight, .. } in &self.pulled {
            weights.insert(*weight, executor.weight(*weight)?);
        }
        let values = |id: ValueId| weights[&id].values::<f32>().unwrap_or_default();
        // ∂‖w‖/∂w = w/‖w‖ and ∂|γ|/∂γ = γ/|γ|: λ over the norm, times the weight.
        let by_channel: Vec<f32> = match self.regularization.regularizer {
            Regularizer::Growing => vec![(f64::from(strength) * progress) as f32; self.channels],
            Regularizer::GroupLasso => {
                let mut squares = vec![0.0f64; self.channels];
                for pulled in &self.pulled {
                    let values = values(pulled.weight);
                    pulled.each(values.len(), |place, channel| squares[channel] += f64::from(values[place]).powi(2));
                }
                squares.iter().map(|s| (f64::from(strength) / s.sqrt().max(LEAST_NORM)) as f32).collect()
            }
            Regularizer::BnL1 => vec![],
        };
        let mut factors: BTreeMap<ValueId, Vec<f32>> = BTreeMap::new();
        for pulled in &self.pulled {
            let values = values(pulled.weight);
            let of_weight = factors.entry(pulled.weight).or_insert_with(|| vec![0.0; values.len()]);
            pulled.each(values.len(), |place, channel| {
                of_weight[place] += match self.regularization.regularizer {
                    Regularizer::BnL1 => strength / values[place].abs().max(LEAST_NORM as f32),
                    Regularizer::GroupLasso | Regularizer::Growing => by_channel[channel],
                };
            });
        }
        Ok(factors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penjing_exec::cpu_executor;
    use penjing_graph::ops::{Activation, MatMul};
    use penjing_graph::{DataType, Dim, Graph, GraphBuilder};

    /// x [N, 1] · v [1, 2], ReLU, · w [2, 1].
    fn two_units() -> Graph {
        let mut b = GraphBuilder::new("units");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 1.into()]);
        let v = b.tensor("v", Tensor::new([1, 2], vec![3.0f32, 0.6]));
        let h = b.node("h", MatMul, &[x, v]);
        let r = b.node("r", Activation::Relu, &[h]);
        let w = b.tensor("w", Tensor::new([2, 1], vec![-4.0f32, 0.8]));
        let y = b.node("y", MatMul, &[r, w]);
        b.output(y).finish().expect("valid")
    }

    fn factors(text: &str, removal: &Removal, progress: f64) -> Vec<Vec<f32>> {
        let cuttable = Cuttable::new(&two_units(), false).expect("can be cut");
        let penalty = ChannelPenalty::new(&cuttable, text.parse().expect("known"), removal).expect("a penalty");
        let executor = cpu_executor(&cuttable.graph).expect("runs");
        penalty.factors(&*executor, progress).expect("factors").into_values().collect()
    }

    #[test]
    fn by_hand() {
        // ‖(3, −4)‖ = 5 and ‖(0.6, 0.8)‖ = 1.
        assert_eq!(factors("group-lasso:0.5", &vec![vec![]], 0.0), [[0.1, 0.5], [0.1, 0.5]]);
        assert_eq!(factors("growing:2", &vec![vec![1]], 0.25), [[0.0, 0.5], [0.0, 0.5]]);
        let cuttable = Cuttable::new(&two_units(), false).expect("can be cut");
        let refused = ChannelPenalty::new(&cuttable, "bn-l1".parse().expect("known"), &vec![vec![]]).expect_err("no norms");
        assert!(refused.to_string().contains("bn-l1"), "{refused}");
    }

    #[test]
    fn as_text() {
        for text in ["group-lasso:0.0001", "bn-l1:0.001", "growing:1"] {
            assert_eq!(text.parse::<Regularization>().expect("known").to_string(), text);
        }
        for text in ["lasso", "bn-l1:", "bn-l1:-1", "growing:inf", "growing:nan"] {
            assert!(text.parse::<Regularization>().is_err(), "{text}");
        }
    }
}
