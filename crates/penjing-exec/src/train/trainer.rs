//! The loop over epochs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use penjing_graph::{Tensor, ValueId};
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, Position, restore_weights, weights};
use super::eval::{evaluate, squared_error};
use super::progress::{Event, Progress};
use super::statistics::Proportion;
use super::{Length, TrainSettings};
use crate::data::{Batch, Dataset, Order, Split};
use crate::runtime::Builtin;
use crate::{ExecError, Executor, Objective, StepReport};

/// What one epoch gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EpochSummary {
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// Mean loss over the samples of the epoch, each before the update that it led to.
    pub mean_loss: f32,
    /// Learning rate of the last step.
    pub learning_rate: f32,
    /// Accuracy on the validation split after the epoch, where it was measured.
    pub validation: Option<Proportion>,
    /// Mean squared error there, where the data have targets instead of classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_error: Option<f64>,
}

/// How a training ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// All epochs are done.
    Finished,
    /// Validation did not get better for as many epochs as the settings allow.
    StoppedEarly,
    /// It was asked to stop; from here it goes on to the same bits.
    Interrupted(Box<Checkpoint>),
}

/// What a training gave.
#[derive(Clone, Debug, PartialEq)]
pub struct FitReport {
    /// The epochs that are done, those before a resume included.
    pub epochs: Vec<EpochSummary>,
    /// The epoch whose weights the model has now, from 1: the last, or with early stopping the best. 0: none was finished.
    pub kept: u64,
    /// How it ended.
    pub ended: Ended,
}

/// Asks a training to stop after the step at hand. Clones ask together, e.g. one in the handler of Ctrl-C.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is added to the loss to pull weights towards zero: ½ Σ λ·w², with a λ for each element that follows the weights.
pub trait Penalty: std::fmt::Debug + Send + Sync {
    /// The λ of each element of those weights that are pulled, `progress` (0 to 1) into the training.
    ///
    /// # Errors
    /// When the executor does not hold a weight.
    fn factors(&self, executor: &dyn Executor, progress: f64) -> Result<BTreeMap<ValueId, Vec<f32>>, ExecError>;
}

/// A training that is about to run.
#[derive(Clone, Debug, Default)]
pub struct Trainer {
    /// How to train.
    pub settings: TrainSettings,
    /// End after so many epochs, at the learning rates of all that the settings ask for.
    pub until: Option<u64>,
    /// Measure the accuracy on the validation split after each epoch, where there is one. Early stopping does so anyway.
    pub validate: bool,
    /// Where to save a checkpoint after each epoch and on interruption.
    pub save: Option<PathBuf>,
    /// Where to go on from.
    pub resume: Option<Checkpoint>,
    /// Asks to stop.
    pub stop: StopFlag,
    /// Pulls weights towards zero.
    pub penalty: Option<Arc<dyn Penalty>>,
}

/// Trains with these settings from start to end, measuring on the validation split after each epoch where there is one.
///
/// # Errors
/// As [`Trainer::fit`].
pub fn fit(
    executor: &mut dyn Executor,
    data: &Dataset,
    settings: TrainSettings,
    progress: &mut dyn Progress,
) -> Result<FitReport, ExecError> {
    Trainer { settings, validate: true, ..Trainer::default() }.fit(executor, data, progress)
}

impl Trainer {
    /// Trains the weights that `executor` holds on the training split.
    ///
    /// Each epoch visits every sample once, in an order that follows from seed and epoch. The last batch has what is left; if that is
    /// a single sample beside larger batches it is left out, since batch normalization has no statistics of one sample. The order
    /// differs between epochs, so it is another sample each time.
    ///
    /// # Errors
    /// When settings, data and model do not fit, a step fails (its place is in the error, the cause in `source`), or the checkpoint
    /// to resume from belongs to another training.
    pub fn fit(&self, executor: &mut dyn Executor, data: &Dataset, progress: &mut dyn Progress) -> Result<FitReport, ExecError> {
        let mut run = Run::start(self, executor, data, progress)?;
        let epochs = self.until.map_or(self.settings.epochs, |until| until.min(self.settings.epochs));
        while run.position.epoch < epochs {
            if !run.train_epoch()? {
                return run.interrupted();
            }
            run.close_epoch()?;
            if run.is_stale() {
                return run.finish(Ended::StoppedEarly);
            }
        }
        run.finish(Ended::Finished)
    }
}

/// A training that runs.
struct Run<'a> {
    trainer: &'a Trainer,
    executor: &'a mut dyn Executor,
    data: &'a Dataset,
    progress: &'a mut dyn Progress,
    length: Length,
    position: Position,
    best: Option<BTreeMap<String, Tensor>>,
}

impl<'a> Run<'a> {
    fn start(
        trainer: &'a Trainer,
        executor: &'a mut dyn Executor,
        data: &'a Dataset,
        progress: &'a mut dyn Progress,
    ) -> Result<Run<'a>, ExecError> {
        let settings = &trainer.settings;
        settings.check()?;
        let samples = data.len(Split::Train);
        let length = Length { epochs: settings.epochs, steps_per_epoch: steps(samples, settings.batch) };
        settings.schedule.check(length)?;
        if samples == 0 {
            return Err(ExecError::Option("the training split has no samples (hint: give it a share of the data)".into()));
        }
        settings.loss.check(data)?;
        if settings.early_stopping.is_some() && data.is_empty(Split::Validation) {
            return Err(ExecError::Option("early stopping needs a validation split (hint: give it a share, or leave it out)".into()));
        }
        let mut run = Run { trainer, executor, data, progress, length, position: Position::default(), best: None };
        if let Some(checkpoint) = &trainer.resume {
            run.resume(checkpoint)?;
        }
        Ok(run)
    }

    fn resume(&mut self, checkpoint: &Checkpoint) -> Result<(), ExecError> {
        let (then, now) = (&checkpoint.settings, &self.trainer.settings);
        if then != now {
            return Err(ExecError::Option(format!(
                "the checkpoint belongs to another training: it has {then}; asked for is {now} (hint: use the same settings, or start afresh)"
            )));
        }
        let samples = self.data.len(Split::Train) as u64;
        if checkpoint.samples != samples {
            return Err(ExecError::Option(format!(
                "the checkpoint belongs to a training on {} samples, but there are {samples} (hint: use the same data and split, or start \
                 afresh)",
                checkpoint.samples
            )));
        }
        checkpoint.restore(self.executor)?;
        self.position = checkpoint.position.clone();
        self.best = checkpoint.best().cloned();
        Ok(())
    }

    /// Takes the steps of the epoch that are left. False: it was asked to stop.
    fn train_epoch(&mut self) -> Result<bool, ExecError> {
        let settings = &self.trainer.settings;
        let steps = self.length.steps_per_epoch;
        let (epoch, done) = (self.position.epoch, self.position.step);
        self.progress.event(Event::EpochStarted { epoch: epoch + 1, epochs: settings.epochs, steps, done });
        let order = Order::Shuffled { seed: settings.seed, epoch };
        let batches = self.data.batches_after(done as usize, Split::Train, settings.batch, order, true);
        let (started, already) = (Instant::now(), self.position.samples);
        for batch in batches.take(steps.saturating_sub(done) as usize) {
            if self.trainer.stop.requested() {
                return Ok(false);
            }
            let batch = batch?;
            let learning_rate = self.learning_rate(self.position.step);
            let report = self.train_step(&batch, learning_rate).map_err(|source| ExecError::Step {
                epoch: epoch + 1,
                step: self.position.step + 1,
                steps,
                source: Box::new(source),
            })?;
            let samples = batch.indices.len() as u64;
            self.position.step += 1;
            self.position.samples += samples;
            self.position.loss_sum += f64::from(report.loss) * samples as f64;
            self.progress.event(Event::Step {
                done: self.position.step,
                steps,
                loss: report.loss,
                learning_rate,
                samples_per_second: (self.position.samples - already) as f64 / started.elapsed().as_secs_f64(),
            });
        }
        Ok(!self.trainer.stop.requested())
    }

    fn train_step(&mut self, batch: &Batch, learning_rate: f32) -> Result<StepReport, ExecError> {
        let TrainSettings { optimizer: rule, loss, clip_norm, .. } = self.trainer.settings;
        if let Some(penalty) = &self.trainer.penalty {
            let step = self.position.epoch * self.length.steps_per_epoch + self.position.step;
            let all = (self.length.epochs * self.length.steps_per_epoch).max(1);
            let factors = penalty.factors(self.executor, step as f64 / all as f64)?;
            self.executor.set_penalties(&factors)?;
        }
        let target = loss.target(batch, self.data.classes().unwrap_or_default())?;
        self.executor.train_step(&batch.inputs, &target, &Objective { loss, rule, learning_rate, clip_norm })
    }

    fn learning_rate(&self, step: u64) -> f32 {
        let settings = &self.trainer.settings;
        let step = self.position.epoch * self.length.steps_per_epoch + step;
        settings.schedule.rate(settings.learning_rate, step, self.length)
    }

    /// Measures and takes down the epoch whose steps are all done.
    fn close_epoch(&mut self) -> Result<(), ExecError> {
        let settings = &self.trainer.settings;
        let wanted = self.trainer.validate || settings.early_stopping.is_some();
        let (mut validation, mut validation_error) = (None, None);
        if wanted && !self.data.is_empty(Split::Validation) {
            let (model, split) = (&mut Builtin(&mut *self.executor), Split::Validation);
            match self.data.target_shape() {
                None => validation = Some(evaluate(model, self.data, split, settings.batch, self.progress)?.top1),
                Some(_) => validation_error = Some(squared_error(model, self.data, split, settings.batch, self.progress)?.mean),
            }
        }
        let Position { epoch, step, loss_sum, samples, .. } = self.position;
        let summary = EpochSummary {
            epoch: epoch + 1,
            mean_loss: (loss_sum / samples as f64) as f32,
            learning_rate: self.learning_rate(step.saturating_sub(1)),
            validation,
            validation_error,
        };
        self.position.history.push(summary);
        self.position = Position { epoch: epoch + 1, history: std::mem::take(&mut self.position.history), ..Position::default() };
        if settings.early_stopping.is_some() && best_epoch(&self.position.history) == epoch + 1 {
            self.best = Some(weights(self.executor)?);
        }
        self.progress.event(Event::EpochEnded(&summary));
        if let Some(path) = &self.trainer.save {
            self.checkpoint()?.write(path)?;
        }
        Ok(())
    }

    /// Whether the patience with the validation accuracy is at its end.
    fn is_stale(&self) -> bool {
        let waited = self.position.epoch - best_epoch(&self.position.history);
        self.trainer.settings.early_stopping.is_some_and(|patience| waited >= patience.max(1))
    }

    fn checkpoint(&self) -> Result<Checkpoint, ExecError> {
        let samples = self.data.len(Split::Train) as u64;
        Checkpoint::capture(self.executor, self.trainer.settings, samples, self.position.clone(), self.best.clone())
    }

    fn interrupted(self) -> Result<FitReport, ExecError> {
        let checkpoint = self.checkpoint()?;
        if let Some(path) = &self.trainer.save {
            checkpoint.write(path)?;
        }
        Ok(FitReport { kept: self.position.epoch, epochs: self.position.history, ended: Ended::Interrupted(Box::new(checkpoint)) })
    }

    fn finish(self, ended: Ended) -> Result<FitReport, ExecError> {
        self.executor.set_penalties(&BTreeMap::new())?;
        let mut kept = self.position.epoch;
        if let Some(best) = &self.best {
            restore_weights(self.executor, best)?;
            kept = best_epoch(&self.position.history);
        }
        if ended == Ended::StoppedEarly {
            self.progress.event(Event::StoppedEarly { best: kept });
        }
        Ok(FitReport { epochs: self.position.history, kept, ended })
    }
}

/// Steps of an epoch: a last batch of one sample beside larger ones is left out.
fn steps(samples: usize, batch: usize) -> u64 {
    let lonely = samples > batch && batch > 1 && samples % batch == 1;
    (samples.div_ceil(batch) - usize::from(lonely)) as u64
}

/// The first epoch of the highest validation accuracy, or the least error, from 1; 0 where none was measured.
fn best_epoch(history: &[EpochSummary]) -> u64 {
    let mut best = (0, f64::NEG_INFINITY);
    for summary in history {
        let accuracy = summary.validation.map(|v| v.successes as f64);
        match accuracy.or(summary.validation_error.map(|error| -error)) {
            Some(score) if score > best.1 => best = (summary.epoch, score),
            Some(_) | None => {}
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use penjing_graph::ops::{Activation, BatchNormalization, MatMul};
    use penjing_graph::{DataType, Dim, GraphBuilder};
    use proptest::prelude::*;

    use super::super::testing::{Linear, clusters};
    use super::super::{Optimizer, Schedule, Shape, Silent};
    use super::*;
    use crate::{UpdateRule, cpu_executor};

    type Outcome = Result<(), Box<dyn Error>>;

    fn settings() -> TrainSettings {
        TrainSettings {
            epochs: 3,
            batch: 8,
            learning_rate: 0.1,
            optimizer: UpdateRule::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 },
            ..TrainSettings::default()
        }
    }

    #[test]
    fn steps_by_hand() {
        for ((samples, batch), expected) in [((10, 4), 3), ((9, 4), 2), ((8, 4), 2), ((1, 4), 1), ((5, 1), 5), ((0, 4), 0)] {
            assert_eq!(steps(samples, batch), expected, "{samples} in batches of {batch}");
        }
    }

    #[test]
    fn the_first_of_the_best_epochs_counts() {
        let summary = |(i, successes): (usize, Option<u64>)| EpochSummary {
            epoch: i as u64 + 1,
            mean_loss: 0.0,
            learning_rate: 0.0,
            validation: successes.map(|successes| Proportion { successes, trials: 9 }),
            validation_error: None,
        };
        let history = |of: &[Option<u64>]| of.iter().copied().enumerate().map(summary).collect::<Vec<_>>();
        assert_eq!(best_epoch(&history(&[Some(3), Some(7), Some(7), Some(5)])), 2);
        assert_eq!(best_epoch(&history(&[Some(0)])), 1);
        assert_eq!(best_epoch(&history(&[None, None])), 0);
        let by_error: Vec<EpochSummary> = [0.5, 0.25, 0.25, 0.75]
            .into_iter()
            .enumerate()
            .map(|(i, error)| EpochSummary { validation_error: Some(error), ..summary((i, None)) })
            .collect();
        assert_eq!(best_epoch(&by_error), 2);
    }

    #[test]
    fn it_learns_and_tells() -> Outcome {
        let (_folder, data) = clusters(60)?;
        let mut model = Linear::new(2, 3);
        let mut losses = vec![];
        let report = fit(&mut model, &data, settings(), &mut |event: Event<'_>| {
            if let Event::Step { loss, .. } = event {
                losses.push(loss);
            }
        })?;
        assert_eq!((report.epochs.len(), report.kept, &report.ended), (3, 3, &Ended::Finished));
        let per_epoch = losses.len() / 3;
        assert_eq!(per_epoch as u64, steps(data.len(Split::Train), 8));
        assert!(report.epochs[2].mean_loss < report.epochs[0].mean_loss, "{:?}", report.epochs);
        assert!(report.epochs[2].validation.is_some_and(|v| v.value() > 0.9), "{:?}", report.epochs);
        // All batches but the last have 8 samples.
        let n = data.len(Split::Train);
        let last = n - 8 * (per_epoch - 1);
        let (full, rest) = (&losses[..per_epoch - 1], losses[per_epoch - 1]);
        let by_hand = (full.iter().map(|l| f64::from(*l) * 8.0).sum::<f64>() + f64::from(rest) * last as f64) / n as f64;
        assert!((f64::from(report.epochs[0].mean_loss) - by_hand).abs() < 1e-6);
        Ok(())
    }

    /// The weights after some of the epochs are those that all of them pass through.
    #[test]
    fn a_training_that_ends_earlier_is_the_beginning_of_the_whole() -> Outcome {
        let (_folder, data) = clusters(60)?;
        let settings = TrainSettings { schedule: Schedule::new(Shape::Cosine), ..settings() };
        let (mut part, mut whole) = (Linear::new(2, 3), Linear::new(2, 3));
        let trainer = Trainer { settings, until: Some(2), ..Trainer::default() };
        let report = trainer.fit(&mut part, &data, &mut Silent)?;
        assert_eq!((report.epochs.len(), report.ended), (2, Ended::Finished));
        let stop = StopFlag::default();
        let interrupted = Trainer { settings, stop: stop.clone(), ..Trainer::default() };
        interrupted.fit(&mut whole, &data, &mut |event: Event<'_>| {
            if let Event::EpochEnded(EpochSummary { epoch: 2, .. }) = event {
                stop.request();
            }
        })?;
        for id in part.trainable() {
            assert_eq!(part.weight(id)?, whole.weight(id)?);
        }
        Ok(())
    }

    /// Trains until `stop_at` steps are done, puts it into a file, and goes on with a fresh model.
    fn interrupted_and_resumed(data: &Dataset, settings: TrainSettings, stop_at: u64) -> Result<(FitReport, Linear), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("checkpoint.safetensors");
        let mut model = Linear::new(2, 3);
        let first = Trainer { settings, validate: true, save: Some(path.clone()), ..Trainer::default() };
        let mut taken = 0;
        let stop = first.stop.clone();
        let report = first.fit(&mut model, data, &mut |event: Event<'_>| {
            taken += u64::from(matches!(event, Event::Step { .. }));
            if taken == stop_at {
                stop.request();
            }
        })?;
        assert!(matches!(report.ended, Ended::Interrupted(_)));
        assert_eq!(taken, stop_at);
        let mut model = Linear::new(2, 3);
        let second = Trainer { settings, validate: true, resume: Some(Checkpoint::read(&path)?), ..Trainer::default() };
        let report = second.fit(&mut model, data, &mut Silent)?;
        Ok((report, model))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn a_resumed_training_ends_in_the_same_bits(part in 0.0f64..1.0, early in any::<bool>(), seed in 0u64..9) {
            let (_folder, data) = clusters(40).expect("data");
            let settings = TrainSettings { seed, early_stopping: early.then_some(2), ..settings() };
            let total = settings.epochs * steps(data.len(Split::Train), settings.batch);
            let mut whole = Linear::new(2, 3);
            let report = Trainer { settings, validate: true, ..Trainer::default() }.fit(&mut whole, &data, &mut Silent).expect("whole");
            let taken = report.epochs.len() as u64 * total / settings.epochs;
            let stop_at = 1 + (part * taken as f64) as u64;
            let (resumed, model) = interrupted_and_resumed(&data, settings, stop_at).expect("resumed");
            prop_assert_eq!(resumed, report);
            prop_assert_eq!(weights(&model).ok(), weights(&whole).ok());
            prop_assert_eq!(model.optimizer_state(), whole.optimizer_state());
        }
    }

    /// Two features → 8 with batch normalization and ReLU → 3 classes, in the built-in executor.
    fn network() -> Result<Box<dyn Executor>, Box<dyn Error>> {
        let mut b = GraphBuilder::new("network");
        let values = |n: usize| (0..n).map(|i| (i as f32 * 1.7).sin() / 2.0).collect::<Vec<f32>>();
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 2.into()]);
        let first = b.tensor("first.weight", Tensor::new([2, 8], values(16)));
        let [scale, variance] = ["scale", "running_var"].map(|name| b.tensor(name, Tensor::new([8], vec![1.0f32; 8])));
        let [bias, mean] = ["bias", "running_mean"].map(|name| b.tensor(name, Tensor::new([8], vec![0.0f32; 8])));
        let second = b.tensor("second.weight", Tensor::new([8, 3], values(24)));
        let hidden = b.node("first", MatMul, &[x, first]);
        let normal = BatchNormalization { epsilon: 1e-5, momentum: 0.9, training_mode: false };
        let hidden = b.node("norm", normal, &[hidden, scale, bias, mean, variance]);
        let hidden = b.node("relu", Activation::Relu, &[hidden]);
        let y = b.node("y", MatMul, &[hidden, second]);
        Ok(cpu_executor(&b.output(y).finish()?)?)
    }

    #[test]
    fn the_built_in_executor_resumes_with_its_running_statistics() -> Outcome {
        let (_folder, data) = clusters(60)?;
        for optimizer in Optimizer::ALL {
            let settings = TrainSettings { optimizer: optimizer.default_rule(), learning_rate: 0.02, ..settings() };
            let mut whole = network()?;
            let report = fit(whole.as_mut(), &data, settings, &mut Silent)?;
            assert!(report.epochs[2].mean_loss < report.epochs[0].mean_loss, "{optimizer:?}: {:?}", report.epochs);
            let mut half = network()?;
            let trainer = Trainer { settings, validate: true, ..Trainer::default() };
            let stop = trainer.stop.clone();
            let stopped = trainer.fit(half.as_mut(), &data, &mut |event: Event<'_>| {
                if matches!(event, Event::Step { done: 3, .. }) {
                    stop.request();
                }
            })?;
            let Ended::Interrupted(checkpoint) = stopped.ended else { panic!("{:?}", stopped.ended) };
            let mut resumed = network()?;
            let trainer = Trainer { resume: Some(*checkpoint), stop: StopFlag::default(), ..trainer };
            assert_eq!(trainer.fit(resumed.as_mut(), &data, &mut Silent)?, report);
            assert_eq!(weights(resumed.as_ref())?, weights(whole.as_ref())?);
            assert_ne!(weights(whole.as_ref())?["running_mean"], Tensor::new([8], vec![0.0f32; 8]));
        }
        Ok(())
    }

    #[test]
    fn early_stopping_keeps_the_best_epoch() -> Outcome {
        let (_folder, data) = clusters(60)?;
        let mut model = Linear::new(2, 3);
        let settings = TrainSettings { epochs: 50, early_stopping: Some(2), ..settings() };
        let report = fit(&mut model, &data, settings, &mut Silent)?;
        assert_eq!(report.ended, Ended::StoppedEarly);
        assert_eq!(report.epochs.len() as u64, report.kept + 2);
        let again = evaluate(&mut Builtin(&mut model), &data, Split::Validation, 7, &mut Silent)?;
        assert_eq!(Some(again.top1), report.epochs[report.kept as usize - 1].validation);
        Ok(())
    }

    #[test]
    fn a_failing_step_is_placed() -> Outcome {
        let (_folder, data) = clusters(40)?;
        let mut model = Linear::new(2, 3);
        model.diverges_at = Some(3);
        let error = fit(&mut model, &data, settings(), &mut Silent).expect_err("diverges");
        let steps = steps(data.len(Split::Train), 8);
        assert_eq!(error.to_string(), format!("training stopped in epoch 1, step 3 of {steps}"));
        assert!(error.source().is_some_and(|cause| cause.to_string().starts_with("the loss became NaN at step 3")), "{error:?}");
        Ok(())
    }

    #[test]
    fn another_training_is_not_resumed() -> Outcome {
        let (_folder, data) = clusters(40)?;
        let checkpoint = Checkpoint::capture(&Linear::new(2, 3), settings(), 7, Position::default(), None)?;
        let resume = |settings: TrainSettings| {
            let trainer = Trainer { settings, resume: Some(checkpoint.clone()), ..Trainer::default() };
            trainer.fit(&mut Linear::new(2, 3), &data, &mut Silent).map_err(|e| e.to_string())
        };
        let other = resume(TrainSettings { epochs: 5, ..settings() }).expect_err("other settings");
        assert!(other.contains("it has 3 epochs") && other.contains("asked for is 5 epochs"), "{other}");
        let other = resume(settings()).expect_err("other data");
        assert!(other.starts_with("the checkpoint belongs to a training on 7 samples"), "{other}");
        Ok(())
    }

    #[test]
    fn settings_that_do_not_fit_are_refused_before_the_first_step() -> Outcome {
        let (_folder, data) = clusters(40)?;
        let refusal = |settings: TrainSettings| fit(&mut Linear::new(2, 3), &data, settings, &mut Silent).map_err(|e| e.to_string());
        let warmup = Schedule { shape: Shape::Cosine, warmup: 10_000 };
        assert!(refusal(TrainSettings { schedule: warmup, ..settings() }).is_err_and(|e| e.starts_with("a warm-up of 10000 steps")));
        assert!(refusal(TrainSettings { batch: 0, ..settings() }).is_err_and(|e| e.starts_with("batch 0")));
        Ok(())
    }
}
