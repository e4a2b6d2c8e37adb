//! The method: prune, retrain, measure, go on.

use penjing_exec::data::Split;
use penjing_graph::Graph;
use penjing_graph::onnx::{self, WriteOptions};

use super::criteria::Choice;
use super::structured::{ChannelCut, group_channels};
use super::{
    Compensated, FloorSearch, Mark, Masks, PruneError, Pruner, PruningSchedule, Sparsity, Until, apply_masks, layer_sparsities, layers,
    sparsegpt,
};
use crate::floor::{Floor, Limit};
use crate::outcome::Round;
use crate::recipe::{ChannelGoal, ChannelPruning, PruneGoal, WeightPruning};
use crate::run::{Baseline, Judged, RunError, RunEvent, Work, Workshop};

/// A way to make a network smaller by a given amount, of 0 to 1 of the original.
pub(crate) trait Shrink {
    /// How much of the original is gone from a network.
    fn gone(&self, graph: &Graph) -> Sparsity;

    /// The network with that much gone, and the weights that must stay at zero from then on.
    fn shrink(
        &self,
        workshop: &mut Workshop<'_, '_>,
        graph: &Graph,
        amount: Sparsity,
        notes: &mut Vec<String>,
    ) -> Result<(Graph, Masks), RunError>;

    /// Weights that are left, and multiply-accumulates where those become fewer.
    fn left(&self, graph: &Graph) -> (usize, Option<u64>);
}

/// One pruning step of a recipe.
pub(crate) struct Pruning<'a> {
    pub(crate) method: &'a dyn Shrink,
    /// How what is removed grows over several steps.
    pub(crate) schedule: PruningSchedule,
    /// The network that the floor is measured against.
    pub(crate) original: &'a Graph,
    /// Its measure; `None` without labelled data and without a metric command.
    pub(crate) baseline: Option<Baseline<'a>>,
}

impl Pruning<'_> {
    /// Removes single weights as a step says.
    pub(crate) fn weights(
        step: &WeightPruning,
        original: &Graph,
        baseline: Option<Baseline<'_>>,
        workshop: &mut Workshop<'_, '_>,
        work: &mut Work,
    ) -> Result<(), RunError> {
        step.check().map_err(RunError::Recipe)?;
        work.notes.extend(layers(&work.graph)?.iter().filter_map(|layer| step.pattern.left_whole(layer)));
        let pruning = Pruning { method: step, schedule: step.schedule, original, baseline };
        match step.goal {
            PruneGoal::Sparsity { fraction, steps } => pruning.to_sparsity(workshop, work, fraction, steps),
            PruneGoal::Pattern => pruning.to_sparsity(workshop, work, step.pattern.sparsity().unwrap_or(Sparsity(0.0)), 1),
            PruneGoal::Floor { floor, until, rounds } => pruning.to_floor(workshop, work, floor, until, rounds),
        }
    }

    /// Removes channels as a step says.
    pub(crate) fn channels(
        step: &ChannelPruning,
        original: &Graph,
        baseline: Option<Baseline<'_>>,
        workshop: &mut Workshop<'_, '_>,
        work: &mut Work,
    ) -> Result<(), RunError> {
        step.check().map_err(RunError::Recipe)?;
        let method = ChannelCut::new(step, original)?;
        method.prepare(workshop, work, baseline)?;
        let pruning = Pruning { method: &method, schedule: step.schedule, original, baseline };
        match step.goal {
            ChannelGoal::Remove { fraction, steps, .. } => pruning.to_sparsity(workshop, work, fraction, steps)?,
            ChannelGoal::Floor { floor, until, rounds } => pruning.to_floor(workshop, work, floor, until, rounds)?,
        }
        work.channels = group_channels(original, &work.graph, step.approximate);
        Ok(())
    }

    fn to_sparsity(&self, workshop: &mut Workshop<'_, '_>, work: &mut Work, fraction: Sparsity, steps: usize) -> Result<(), RunError> {
        let start = self.method.gone(&work.graph);
        // Without retraining, several steps remove what one would.
        let steps = if workshop.can_train() { steps } else { 1 };
        for (i, sparsity) in self.schedule.sparsities(start.min(fraction), fraction, steps).into_iter().enumerate() {
            let round = work.rounds.len() + 1;
            let (graph, masks) = self.method.shrink(workshop, &work.graph, sparsity, &mut work.notes)?;
            work.graph = workshop.retrain(&format!("step-{}", i + 1), graph, &masks)?;
            let accuracy = match workshop.has_labels() {
                true => Some(100.0 * workshop.evaluate(&work.graph, Split::Validation)?.accuracy()),
                false => None,
            };
            let (left, macs) = self.method.left(&work.graph);
            let round = Round { round, sparsity: sparsity.value(), left, macs, accuracy, metric: None, mark: None };
            workshop.tell(RunEvent::Round(&round));
            work.rounds.push(round);
        }
        Ok(())
    }

    /// Iterative magnitude pruning to the sparsest network that holds the floor.
    fn to_floor(
        &self,
        workshop: &mut Workshop<'_, '_>,
        work: &mut Work,
        floor: Floor,
        until: Until,
        rounds: usize,
    ) -> Result<(), RunError> {
        let Some(baseline) = self.baseline else {
            let reason = "an accuracy floor needs labelled data to measure on (hint: --labels FILE, a --metric-command, or --sparsity)";
            return Err(RunError::Recipe(reason.into()));
        };
        if let Baseline::Accuracy(_) = baseline {
            floor.check()?;
            work.floor = Some(floor);
        }
        let mut search = FloorSearch::new(self.method.gone(self.original), rounds);
        // What the original has to spare above the floor: each result's share of it says how boldly to go on.
        let room = baseline.spare(floor)?;
        let mut spare = 1.0;
        let mut held: Option<Graph> = None;
        let mut highest: Option<f64> = None;
        while let Some(sparsity) = search.next(spare) {
            let number = work.rounds.len() + 1;
            let shrunk = self.method.shrink(workshop, held.as_ref().unwrap_or(&work.graph), sparsity, &mut work.notes);
            let (graph, masks) = match shrunk {
                // As little as that cannot be had: the search goes on between the last that held and here.
                Err(RunError::Prune(PruneError::BudgetOutOfReach { .. } | PruneError::NoChannels)) => {
                    search.note(sparsity, Mark::Broke);
                    continue;
                }
                shrunk => shrunk?,
            };
            let stage = format!("round-{number}");
            let graph = workshop.retrain(&stage, graph, &masks)?;
            let Judged { score, verdict } = workshop.judge(&stage, &graph, baseline, floor)?;
            let mark = match verdict.holds {
                false => Mark::Broke,
                true if score > baseline.score() => Mark::Improved,
                true => Mark::Held,
            };
            let (accuracy, metric) = match baseline {
                Baseline::Accuracy(_) => (Some(score), None),
                Baseline::Metric(_) => (None, Some(score)),
            };
            let (left, macs) = self.method.left(&graph);
            let round = Round { round: number, sparsity: sparsity.value(), left, macs, accuracy, metric, mark: Some(mark) };
            workshop.tell(RunEvent::Round(&round));
            work.rounds.push(round);
            search.note(sparsity, mark);
            if highest.is_none_or(|best| score > best) {
                let path = workshop.journal.folder().join("most-accurate.onnx");
                onnx::write(&graph, path, WriteOptions { overwrite: true, sparse: true, external: false })?;
                highest = Some(score);
            }
            if mark != Mark::Broke {
                spare = if room > 0.0 { verdict.spare() / room } else { 0.0 };
                held = Some(graph);
            }
            if until == Until::Improved && mark == Mark::Improved {
                break;
            }
        }
        let improved = work.rounds.iter().any(|r| r.mark == Some(Mark::Improved));
        work.missed = match &held {
            None => Some(match floor.limit {
                Limit::MaxDrop(drop) => {
                    format!(
                        "no sparsity that was tried lost at most {drop}{} (hint: more --epochs for retraining, or a larger --max-drop)",
                        match baseline {
                            Baseline::Accuracy(_) => " points",
                            Baseline::Metric(_) => "",
                        }
                    )
                }
                Limit::MinAccuracy(least) => {
                    format!(
                        "no sparsity that was tried reached {least}{} (hint: more --epochs for retraining, or a lower --min-accuracy)",
                        match baseline {
                            Baseline::Accuracy(_) => " %",
                            Baseline::Metric(_) => "",
                        }
                    )
                }
            }),
            Some(_) if until == Until::Improved && !improved => Some("no round was more accurate than the original".into()),
            Some(_) => None,
        };
        if let Some(graph) = held {
            work.graph = graph;
        }
        Ok(())
    }
}

impl Shrink for WeightPruning {
    fn gone(&self, graph: &Graph) -> Sparsity {
        let layers = layer_sparsities(graph);
        let total: usize = layers.iter().map(|l| l.total).sum();
        if total == 0 { Sparsity(0.0) } else { Sparsity(1.0 - self.left(graph).0 as f64 / total as f64) }
    }

    fn left(&self, graph: &Graph) -> (usize, Option<u64>) {
        (layer_sparsities(graph).iter().map(|l| l.left).sum(), None)
    }

    fn shrink(
        &self,
        workshop: &mut Workshop<'_, '_>,
        graph: &Graph,
        sparsity: Sparsity,
        notes: &mut Vec<String>,
    ) -> Result<(Graph, Masks), RunError> {
        let WeightPruning { scope, pattern, criterion, calibration_samples, rewind_epoch, .. } = *self;
        match criterion {
            Choice::Scores(criterion) => {
                let stats = workshop.statistics(graph, criterion.name(), criterion.needs(), calibration_samples)?;
                let masks = Pruner { sparsity, scope, pattern, criterion }.select(graph, &stats)?;
                let weights = match rewind_epoch {
                    Some(epoch) => &workshop.rewound(epoch)?,
                    None => graph,
                };
                Ok((apply_masks(weights, &masks)?, masks))
            }
            Choice::SparseGpt => {
                let calibration = workshop.calibration(criterion.name(), calibration_samples)?;
                let Compensated { graph, masks, notes: found } = sparsegpt(graph, &calibration, pattern, sparsity)?;
                let new: Vec<String> = found.into_iter().filter(|note| !notes.contains(note)).collect();
                notes.extend(new);
                Ok((graph, masks))
            }
        }
    }
}
