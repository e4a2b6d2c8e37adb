//! Two models on the same samples, each of which runs once in each.

use penjing_graph::ValueId;

use super::eval::{Evaluation, Heads, Tally, no_samples, unlabelled};
use super::progress::{Event, Progress};
use super::similarity::{Comparison, Similarity};
use crate::ExecError;
use crate::data::{Batch, Dataset, Order, Split};
use crate::runtime::Runtime;

/// What two models make of the same samples.
#[derive(Clone, Debug)]
pub struct SideBySide {
    /// Both as classifiers, the original first; `None` where labels were not asked for.
    pub evaluations: Option<[Evaluation; 2]>,
    /// Every float output of the result beside the original's.
    pub outputs: Vec<Similarity>,
}

/// Samples to run models on, from the first of a split on.
#[derive(Clone, Copy, Debug)]
pub struct Portion {
    /// The split.
    pub split: Split,
    /// Samples at a time.
    pub batch: usize,
    /// Samples at most, rounded up to whole batches.
    pub most: usize,
}

impl Portion {
    /// All of a split.
    pub fn whole(split: Split, batch: usize) -> Portion {
        Portion { split, batch, most: usize::MAX }
    }

    /// Number of samples that there are of it.
    pub(super) fn samples(self, data: &Dataset) -> usize {
        let whole = self.most.div_ceil(self.batch).saturating_mul(self.batch);
        data.len(self.split).min(whole)
    }

    pub(super) fn batches(self, data: &Dataset) -> impl Iterator<Item = Result<Batch, ExecError>> + use<> {
        data.batches(self.split, self.batch, Order::Sequential, false).take(self.most.div_ceil(self.batch))
    }
}

/// Runs both models on the same samples and compares their outputs, one by one; with `labelled`, measures both as classifiers too.
///
/// # Errors
/// When the models have different outputs or none to compare, the split has no samples or no labels, or one cannot be run.
pub fn side_by_side(
    original: &mut dyn Runtime,
    result: &mut dyn Runtime,
    data: &Dataset,
    portion: Portion,
    labelled: bool,
    progress: &mut dyn Progress,
) -> Result<SideBySide, ExecError> {
    let (a, b) = (original.graph(), result.graph());
    let names: Vec<String> = a.outputs().iter().map(|id| a.value(*id).name.clone()).collect();
    if names.len() != b.outputs().len() {
        return Err(ExecError::Option(format!(
            "the original has {} outputs and the result {} (hint: compare a model with the one it was made from)",
            names.len(),
            b.outputs().len()
        )));
    }
    let heads = if labelled { Some([Heads::of(a)?, Heads::of(b)?]) } else { None };
    // What goes into a final softmax stands behind the outputs.
    let logits = |i: usize| heads.as_ref().and_then(|heads| heads[i].logits);
    let fetch: [Vec<ValueId>; 2] =
        [a.outputs().iter().copied().chain(logits(0)).collect(), b.outputs().iter().copied().chain(logits(1)).collect()];
    let mut tallies = [Tally::default(), Tally::default()];
    let mut counts = vec![Comparison::default(); names.len()];
    let mut done = 0;
    for batch in portion.batches(data) {
        let batch = batch?;
        let samples = batch.indices.len();
        let values = [original.run(&batch.inputs, &fetch[0])?, result.run(&batch.inputs, &fetch[1])?];
        for (((count, name), a), b) in counts.iter_mut().zip(&names).zip(&values[0]).zip(&values[1]) {
            count.add(a, b, samples).map_err(|reason| ExecError::Option(format!("output `{name}` {reason}")))?;
        }
        for ((tally, values), heads) in tallies.iter_mut().zip(&values).zip(heads.iter().flatten()) {
            let labels = batch.labels.as_deref().ok_or_else(unlabelled)?;
            tally.add(&values[0], values.get(names.len()), labels).map_err(|reason| heads.refusal(reason))?;
        }
        done += samples as u64;
        progress.event(Event::Evaluated { split: portion.split, done, samples: portion.samples(data) as u64 });
    }
    let outputs: Vec<Similarity> = names.into_iter().zip(counts).filter_map(|(name, count)| count.finish(name)).collect();
    if outputs.is_empty() {
        return Err(ExecError::Option("there is no float output or no sample to compare (hint: give a --metric-command)".into()));
    }
    let finished = |tally: Tally| tally.finish().ok_or_else(|| no_samples(portion.split));
    let [first, second] = tallies;
    let evaluations = if labelled { Some([finished(first)?, finished(second)?]) } else { None };
    Ok(SideBySide { evaluations, outputs })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Linear, clusters};
    use super::super::{Silent, evaluate, fit, similarity};
    use super::*;
    use crate::runtime::Builtin;
    use crate::train::TrainSettings;

    #[test]
    fn one_pass_finds_what_three_do() -> Result<(), Box<dyn std::error::Error>> {
        let (_folder, data) = clusters(60)?;
        let (mut a, mut b) = (Linear::new(2, 3), Linear::new(2, 3));
        fit(&mut b, &data, TrainSettings { epochs: 2, batch: 8, ..TrainSettings::default() }, &mut Silent)?;
        let (mut a, mut b) = (Builtin(&mut a), Builtin(&mut b));
        let found = side_by_side(&mut a, &mut b, &data, Portion::whole(Split::Train, 7), true, &mut Silent)?;
        let apart = [&mut a, &mut b].map(|model| evaluate(model, &data, Split::Train, 7, &mut Silent));
        let [first, second] = apart;
        let apart = [first?, second?];
        assert!(apart[0].correct != apart[1].correct, "training changes something");
        assert_eq!(found.evaluations, Some(apart));
        let part = Portion { split: Split::Train, batch: 7, most: 8 };
        let part = side_by_side(&mut a, &mut b, &data, part, true, &mut Silent)?;
        assert_eq!(part.evaluations.map(|[a, _]| a.samples()), Some(14));
        assert_eq!(found.outputs, similarity(&mut a, &mut b, &data, Split::Train, 7, &mut Silent)?);
        Ok(())
    }
}
