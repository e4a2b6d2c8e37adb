//! How well a model does: accuracy and loss with their intervals, sample by sample.

use penjing_graph::ops::{Op, Softmax};
use penjing_graph::{Graph, Tensor, ValueId};
use serde::Serialize;

use super::progress::{Event, Progress};
use super::statistics::{MeanEstimate, Paired, Proportion};
use crate::ExecError;
use crate::data::{Dataset, Order, Split};
use crate::runtime::Runtime;

/// Fewest classes for which "among the best five" says something.
const CLASSES_FOR_TOP5: usize = 6;

/// How well a classifier does on one split, in the order of the split.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evaluation {
    /// Samples whose class has the highest output; ties go to the lower class.
    pub top1: Proportion,
    /// Samples whose class is among the five highest outputs; `None` with fewer than 6 classes.
    pub top5: Option<Proportion>,
    /// Cross-entropy of a sample, in nats: −ln of the probability of its class, without label smoothing.
    pub loss: MeanEstimate,
    /// Class that was predicted for each sample.
    #[serde(skip)]
    pub predictions: Vec<u32>,
    /// Whether that was right.
    #[serde(skip)]
    pub correct: Vec<bool>,
}

impl Evaluation {
    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.top1.trials
    }

    /// Fraction of samples that were right, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.top1.value()
    }

    /// This one as the first and `other` as the second model on the same samples.
    ///
    /// # Errors
    /// When they were measured on different numbers of samples.
    pub fn paired(&self, other: &Evaluation) -> Result<Paired, ExecError> {
        Paired::count(&self.correct, &other.correct).ok_or_else(|| different_samples(self, other))
    }

    /// Samples for which the two models predict different classes, right or wrong.
    ///
    /// # Errors
    /// When they were measured on different numbers of samples.
    pub fn flips(&self, other: &Evaluation) -> Result<u64, ExecError> {
        if self.predictions.len() != other.predictions.len() {
            return Err(different_samples(self, other));
        }
        Ok(self.predictions.iter().zip(&other.predictions).filter(|(a, b)| a != b).count() as u64)
    }
}

fn different_samples(a: &Evaluation, b: &Evaluation) -> ExecError {
    ExecError::Option(format!(
        "one model was measured on {} samples and the other on {} (hint: evaluate both on the same split of the same data)",
        a.samples(),
        b.samples()
    ))
}

/// Measures a classifier on one split, in inference mode. `batch`: samples at a time.
///
/// # Errors
/// When the split has no samples or no labels, the first output is not one number a class, or the model cannot be run.
pub fn evaluate(
    model: &mut dyn Runtime,
    data: &Dataset,
    split: Split,
    batch: usize,
    progress: &mut dyn Progress,
) -> Result<Evaluation, ExecError> {
    let heads = Heads::of(model.graph())?;
    let mut tally = Tally::default();
    for batch in data.batches(split, batch, Order::Sequential, false) {
        let batch = batch?;
        let labels = batch.labels.as_deref().ok_or_else(unlabelled)?;
        let outputs = model.run(&batch.inputs, &heads.fetch())?;
        tally.add(&outputs[0], outputs.get(1), labels).map_err(|reason| heads.refusal(reason))?;
        progress.event(Event::Evaluated { split, done: tally.correct.len() as u64, samples: data.len(split) as u64 });
    }
    tally.finish().ok_or_else(|| no_samples(split))
}

/// How near the first output comes to the targets of one split: the mean over the samples of the mean squared error of each.
/// `batch`: samples at a time.
///
/// # Errors
/// When the split has no samples or no targets, the output has another shape than they, or the model cannot be run.
pub fn squared_error(
    model: &mut dyn Runtime,
    data: &Dataset,
    split: Split,
    batch: usize,
    progress: &mut dyn Progress,
) -> Result<MeanEstimate, ExecError> {
    let heads = Heads::of(model.graph())?;
    let mut errors = vec![];
    for batch in data.batches(split, batch, Order::Sequential, false) {
        let batch = batch?;
        let none = || ExecError::Option("the data have no targets to hold outputs against (hint: numbers as `y`)".into());
        let target = batch.targets.as_ref().ok_or_else(none)?;
        let outputs = model.run(&batch.inputs, &[heads.output])?;
        if outputs[0].dims() != target.dims() {
            return Err(heads.refusal(format!(
                "has the shape {:?}, but the targets {:?} (hint: save `y` in the output's shape)",
                outputs[0].dims(),
                target.dims()
            )));
        }
        let (Some(given), Some(wanted)) = (outputs[0].to_f32(), target.to_f32()) else {
            return Err(heads.refusal(format!("is {}, not floats", outputs[0].dtype().name())));
        };
        let size = (given.len() / batch.indices.len().max(1)).max(1);
        let squares = |(y, t): (&f32, &f32)| (f64::from(*y) - f64::from(*t)).powi(2);
        errors.extend(given.chunks(size).zip(wanted.chunks(size)).map(|(y, t)| y.iter().zip(t).map(squares).sum::<f64>() / size as f64));
        progress.event(Event::Evaluated { split, done: errors.len() as u64, samples: data.len(split) as u64 });
    }
    MeanEstimate::of_many(&errors).ok_or_else(|| no_samples(split))
}

pub(super) fn no_samples(split: Split) -> ExecError {
    ExecError::Option(format!("the {} split has no samples (hint: give it a share of the data)", split_name(split)))
}

pub(super) fn unlabelled() -> ExecError {
    ExecError::Option(
        "the data have no labels, so that no accuracy can be measured (hint: --labels FILE, or --reference ORIGINAL to compare outputs)"
            .into(),
    )
}

fn split_name(split: Split) -> &'static str {
    match split {
        Split::Train => "training",
        Split::Validation => "validation",
        Split::Test => "test",
    }
}

/// The first output, and where that is a softmax what goes into it.
pub(super) struct Heads {
    output: ValueId,
    pub(super) logits: Option<ValueId>,
    name: String,
}

impl Heads {
    pub(super) fn of(graph: &Graph) -> Result<Heads, ExecError> {
        let output = *graph.outputs().first().ok_or_else(|| ExecError::Option("the model has no output to measure".into()))?;
        let producer = graph.value(output).producer.map(|id| graph.node(id));
        let logits = producer.and_then(|node| match node.op {
            Op::Softmax(Softmax { log: false, .. }) => node.input(0),
            _ => None,
        });
        Ok(Heads { output, logits, name: graph.value(output).name.clone() })
    }

    fn fetch(&self) -> Vec<ValueId> {
        std::iter::once(self.output).chain(self.logits).collect()
    }

    pub(super) fn refusal(&self, reason: String) -> ExecError {
        ExecError::Option(format!("output `{}` {reason}", self.name))
    }
}

/// Counts batch by batch, whatever ran the model.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    classes: usize,
    predictions: Vec<u32>,
    correct: Vec<bool>,
    in_top5: u64,
    losses: Vec<f64>,
}

impl Tally {
    /// Takes the outputs of a batch: [N, C], axes of size 1 beside. `logits`: what goes into a final softmax, where the output is one.
    ///
    /// # Errors
    /// Says what the output is not, to follow its name.
    pub fn add(&mut self, output: &Tensor, logits: Option<&Tensor>, labels: &[u32]) -> Result<(), String> {
        let logits = logits.unwrap_or(output);
        let classes = classes(output, labels.len())?;
        if self.classes != 0 && self.classes != classes {
            return Err(format!("has {classes} classes in one batch and {} in another", self.classes));
        }
        self.classes = classes;
        let not_float = |t: &Tensor| format!("is {}, not one float a class", t.dtype().name());
        let output = output.to_f32().ok_or_else(|| not_float(output))?;
        let logits = logits.to_f32().filter(|l| l.len() == output.len()).ok_or_else(|| not_float(logits))?;
        for ((row, logits), &label) in output.chunks_exact(classes).zip(logits.chunks_exact(classes)).zip(labels) {
            if label as usize >= classes {
                return Err(format!(
                    "tells {classes} classes apart, but a sample has class {label} (hint: the labels do not match the model)"
                ));
            }
            let rank = rank(row, label as usize);
            self.predictions.push(best(row));
            self.correct.push(rank == Some(0));
            self.in_top5 += u64::from(rank.is_some_and(|rank| rank < 5));
            self.losses.push(cross_entropy(logits, label as usize));
        }
        Ok(())
    }

    /// The result; `None` of no samples.
    pub fn finish(self) -> Option<Evaluation> {
        let trials = self.correct.len() as u64;
        Some(Evaluation {
            loss: MeanEstimate::of_many(&self.losses)?,
            top1: Proportion { successes: self.correct.iter().filter(|c| **c).count() as u64, trials },
            top5: (self.classes >= CLASSES_FOR_TOP5).then_some(Proportion { successes: self.in_top5, trials }),
            predictions: self.predictions,
            correct: self.correct,
        })
    }
}

/// C of an output [N, C] with axes of size 1 beside.
fn classes(output: &Tensor, samples: usize) -> Result<usize, String> {
    match output.dims() {
        [n, c, rest @ ..] if *n == samples && *c > 1 && rest.iter().all(|d| *d == 1) => Ok(*c),
        dims => Err(format!(
            "has the shape {dims:?} for {samples} samples, not one number a class (hint: --reference ORIGINAL to compare outputs, or your \
             own --metric-command)"
        )),
    }
}

/// How many classes stand before `label`: those of a higher output, and of the same output and a lower number. `None` beside a NaN.
fn rank(row: &[f32], label: usize) -> Option<usize> {
    let before = |(class, x): (usize, &f32)| *x > row[label] || (*x == row[label] && class < label);
    (!row.iter().any(|x| x.is_nan())).then(|| row.iter().enumerate().filter(|x| before(*x)).count())
}

/// The class of the highest output; ties go to the lower class, and NaN to nobody.
fn best(row: &[f32]) -> u32 {
    let mut best = 0;
    for (class, x) in row.iter().enumerate() {
        if *x > row[best] || (row[best].is_nan() && !x.is_nan()) {
            best = class;
        }
    }
    best as u32
}

/// ln Σ eˣ − x of the class.
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|x| (f64::from(*x) - highest).exp()).sum();
    highest + sum.ln() - f64::from(logits[label])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(classes: usize, rows: Vec<f32>, labels: &[u32]) -> Result<Evaluation, String> {
        let mut tally = Tally::default();
        tally.add(&Tensor::new([labels.len(), classes], rows), None, labels)?;
        tally.finish().ok_or_else(|| "no samples".into())
    }

    #[test]
    fn three_samples_by_hand() -> Result<(), String> {
        let ln = f32::ln;
        // Probabilities ¼ and ¾, ½ and ½ (a tie: class 0), ¾ and ¼.
        let e = tally(2, vec![0.0, ln(3.0), 7.0, 7.0, ln(3.0), 0.0], &[1, 1, 1])?;
        assert_eq!((e.predictions.clone(), e.correct.clone()), (vec![1, 0, 0], vec![true, false, false]));
        assert_eq!((e.top1.successes, e.top5), (1, None));
        let by_hand = ((4f64 / 3.0).ln() + 2f64.ln() + 4f64.ln()) / 3.0;
        assert!((e.loss.mean - by_hand).abs() < 1e-6, "{}", e.loss.mean);
        Ok(())
    }

    #[test]
    fn top_five_of_six() -> Result<(), String> {
        let row = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        let e = tally(6, [row, row].concat(), &[4, 5])?;
        assert_eq!((e.top1.successes, e.top5.map(|p| p.successes)), (0, Some(1)));
        Ok(())
    }

    #[test]
    fn nan_is_never_right() -> Result<(), String> {
        let e = tally(2, vec![f32::NAN, f32::NAN, f32::NAN, 1.0, 1.0, f32::NAN], &[0, 1, 0])?;
        assert_eq!((e.correct, e.predictions), (vec![false; 3], vec![0, 1, 0]));
        assert!(e.loss.mean.is_nan());
        Ok(())
    }

    #[test]
    fn large_logits_do_not_overflow() {
        assert!((cross_entropy(&[1000.0, 999.0], 1) - (1.0 + (1.0 + (-1f64).exp()).ln())).abs() < 1e-9);
    }

    #[test]
    fn outputs_that_are_no_classes_are_refused() {
        let mut counted = Tally::default();
        let image = Tensor::new([1, 3, 2, 2], vec![0.0f32; 12]);
        let text = counted.add(&image, None, &[0]).expect_err("an image");
        assert!(text.starts_with("has the shape [1, 3, 2, 2] for 1 samples, not one number a class"), "{text}");
        let pooled = Tensor::new([1, 3, 1, 1], vec![0.0f32; 3]);
        assert_eq!(counted.add(&pooled, None, &[0]), Ok(()));
        let text = counted.add(&pooled, None, &[3]).expect_err("three classes");
        assert!(text.starts_with("tells 3 classes apart, but a sample has class 3"), "{text}");
    }

    #[test]
    fn models_are_paired_on_the_same_samples() -> Result<(), Box<dyn std::error::Error>> {
        let first = tally(2, vec![1.0, 0.0, 1.0, 0.0, 1.0, 0.0], &[0, 1, 1])?; // right, wrong, wrong
        let second = tally(2, vec![0.0, 1.0, 0.0, 1.0, 1.0, 0.0], &[0, 1, 1])?; // wrong, right, wrong
        assert_eq!(first.paired(&second)?, Paired { both: 0, lost: 1, gained: 1, neither: 1 });
        assert_eq!(first.flips(&second)?, 2);
        let fewer = tally(2, vec![1.0, 0.0], &[0])?;
        assert!(first.paired(&fewer).is_err() && first.flips(&fewer).is_err());
        Ok(())
    }
}
