//! A data set: samples, classes, split.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use penjing_graph::{DataType, Dim, Graph};
use serde::Serialize;

use super::batch::{Batches, Order, Pass};
use super::inputs::Inputs;
use super::samples::{Sample, Samples, differs};
use super::split::{Assignment, Split, assign};
use super::targets::Targets;
use super::{Augment, Contents, DataOptions, Format, Preprocess};
use crate::ExecError;

/// A labelled or unlabelled data set, shared out. Cloning shares it. The test split is never read by anything that makes a choice.
#[derive(Clone, Debug)]
pub struct Dataset {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    path: PathBuf,
    format: Format,
    samples: Samples,
    pub(super) labels: Option<Vec<u32>>,
    pub(super) targets: Option<Targets>,
    classes: Option<usize>,
    class_names: Option<Vec<String>>,
    assignment: Assignment,
    preprocess: Preprocess,
    fitted: bool,
    augment: Augment,
    /// Shape of a sample after preprocessing.
    pub(super) shape: Vec<usize>,
}

/// What is known of a set, for the log and the record of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Where it is.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// Shape of a sample after preprocessing, without the batch axis.
    pub sample_shape: Vec<usize>,
    /// Number of classes, where it has any.
    pub classes: Option<usize>,
    /// Shape of the numbers that outputs are to come near to, where it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_shape: Option<Vec<usize>>,
    /// The parts in the order train, validation, test.
    pub parts: Vec<PartDescription>,
    /// How samples were shared out.
    pub split: String,
    /// What is done to each sample.
    pub preprocess: Preprocess,
    /// Whether `resize` and `channels` are not the user's but the model's.
    pub fitted: bool,
    /// What may happen to training images beside.
    pub augment: Augment,
}

/// One split in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartDescription {
    /// Which.
    pub split: Split,
    /// Number of samples.
    pub samples: usize,
    /// Samples of each class that occurs.
    pub class_counts: BTreeMap<u32, usize>,
}

impl Dataset {
    pub(super) fn new(path: &Path, contents: Contents, options: &DataOptions) -> Result<Dataset, ExecError> {
        let Contents { format, samples, labels, targets, class_names, parts } = contents;
        let assignment = assign(parts, labels.as_deref(), &options.split, path)?;
        let named = class_names.as_ref().map(Vec::len);
        let classes = labels.as_ref().map(|l| named.unwrap_or(l.iter().max().map_or(0, |m| *m as usize + 1)));
        let fit = options.fit_to.filter(|_| options.preprocess.is_none()).map(|shape| samples.fitting(shape));
        let fitted = fit.as_ref().is_some_and(Preprocess::needs_images);
        let preprocess = options.preprocess.clone().or(fit).unwrap_or_default().resolved(samples.are_pixels());
        let shape = samples.shape_after(&preprocess, path)?;
        if !options.augment.is_none() && shape.len() != 3 {
            return Err(ExecError::data(path, format!("augmentation is for images, but a sample has the shape {shape:?}")));
        }
        let augment = options.augment;
        let set = Inner {
            path: path.into(),
            format,
            samples,
            labels,
            targets,
            classes,
            class_names,
            assignment,
            preprocess,
            fitted,
            augment,
            shape,
        };
        set.check_classes()?;
        Ok(Dataset { inner: Arc::new(set) })
    }

    /// Number of samples of a split.
    pub fn len(&self, split: Split) -> usize {
        self.inner.part(split).len()
    }

    /// Whether a split has no samples.
    pub fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// Number of classes; `None` for an unlabelled set.
    pub fn classes(&self) -> Option<usize> {
        self.inner.classes
    }

    /// Shape of the numbers that the outputs for one sample are to come near to; `None` where the set has none.
    pub fn target_shape(&self) -> Option<&[usize]> {
        self.inner.targets.as_ref().map(Targets::dims)
    }

    /// Name of each class, where the set has names.
    pub fn class_names(&self) -> Option<&[String]> {
        self.inner.class_names.as_deref()
    }

    /// Shape of a sample after preprocessing, without the batch axis, e.g. [1, 28, 28].
    pub fn sample_shape(&self) -> Vec<usize> {
        self.inner.shape.clone()
    }

    /// What is done to each sample, complete: it means the same for any file. Belongs into the metadata of the model.
    pub fn preprocess(&self) -> &Preprocess {
        &self.inner.preprocess
    }

    /// What is known of the set, to be printed when it is used.
    pub fn describe(&self) -> Description {
        let set = &self.inner;
        Description {
            path: set.path.clone(),
            format: set.format,
            sample_shape: set.shape.clone(),
            classes: set.classes,
            target_shape: self.target_shape().map(Vec::from),
            parts: [Split::Train, Split::Validation, Split::Test].map(|split| set.describe_part(split)).to_vec(),
            split: set.assignment.how.clone(),
            preprocess: set.preprocess.clone(),
            fitted: set.fitted,
            augment: set.augment,
        }
    }

    /// One pass over a split, prepared on another thread: the same order and the same bits at any number of threads.
    /// `augment`: apply [`DataOptions::augment`].
    pub fn batches(&self, split: Split, batch: usize, order: Order, augment: bool) -> Batches {
        self.batches_after(0, split, batch, order, augment)
    }

    /// The same pass from batch number `done` on, from 0: those before it are not prepared.
    pub fn batches_after(&self, done: usize, split: Split, batch: usize, order: Order, augment: bool) -> Batches {
        let augment = augment && !self.inner.augment.is_none();
        let pass = Pass::new(self.inner.part(split), order, augment).after(done.saturating_mul(batch.max(1)));
        Batches::start(Arc::clone(&self.inner), pass, batch)
    }

    /// Whether a model can take these samples and tell these classes apart, before anything runs.
    ///
    /// # Errors
    /// Names what does not fit and the way out.
    pub fn check_against(&self, graph: &Graph) -> Result<(), ExecError> {
        self.check_input(graph)?;
        self.check_output(graph)
    }

    /// Whether a model can take these samples, whatever it makes of them.
    ///
    /// # Errors
    /// Names what does not fit and the way out.
    pub fn check_input(&self, graph: &Graph) -> Result<(), ExecError> {
        if let Some(inputs) = self.inner.inputs() {
            return inputs.check(graph);
        }
        let inputs: Vec<_> = graph.inputs().map(|id| graph.value(id)).collect();
        let [input] = inputs[..] else {
            let names = inputs.iter().map(|v| format!("`{}`", v.name)).collect::<Vec<_>>().join(", ");
            return Err(ExecError::Option(format!(
                "the model takes {} inputs ({names}), but `{}` gives one array a sample (hint: save an array of each input's name)",
                inputs.len(),
                self.inner.path.display()
            )));
        };
        let refused = |reason| Err(ExecError::Input { input: input.name.clone(), reason });
        if let Some(dtype) = input.dtype.filter(|t| *t != DataType::Float) {
            return refused(format!("the model takes {}, but data are given as float32", dtype.name()));
        }
        let Some(shape) = &input.shape else { return Ok(()) };
        let given: Vec<Dim> = self.inner.shape.iter().map(|d| Dim::Fixed(*d)).collect();
        let fits = shape.len() == given.len() + 1 && shape[1..].iter().zip(&given).all(|(a, b)| a.compatible(b));
        if fits {
            return Ok(());
        }
        let list = |dims: &[Dim]| dims.iter().map(Dim::to_string).collect::<Vec<_>>().join("×");
        let wanted = shape.get(1..).unwrap_or_default();
        let hint = match (wanted, &given[..]) {
            ([Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)], [_, _, _]) => {
                let channels = if given[0] == Dim::Fixed(*c) { String::new() } else { format!(" and `channels = {c}`") };
                format!("`--preprocess FILE` with `resize = [{h}, {w}]`{channels}, or `penjing new --input {}`", list(&given))
            }
            _ => format!("`penjing new --input {}`, or save the samples in the model's shape", list(&given)),
        };
        refused(format!(
            "the model takes {} a sample, but `{}` gives {} after preprocessing (hint: {hint})",
            list(wanted),
            self.inner.path.display(),
            list(&given)
        ))
    }

    /// Why the first output of a model is not one number for each class of this set, e.g. an image or a regression's only
    /// number; `None` where it may be. A vector that is as long as a sample is taken for one, unless there are as many classes.
    pub fn tells_no_classes(&self, graph: &Graph) -> Option<String> {
        let (classes, output) = (self.inner.classes?, graph.value(*graph.outputs().first()?));
        let shape = output.shape.as_ref()?;
        let one = Dim::Fixed(1);
        let sample: usize = self.inner.shape.iter().product();
        let (is_vector, length) = match &shape[..] {
            [_, length, rest @ ..] => (rest.iter().all(|dim| dim.compatible(&one)), length.fixed()),
            _ => (false, None),
        };
        let is_sample = length == Some(sample) && sample != classes;
        (!is_vector || length == Some(1) || is_sample).then(|| {
            let dims = shape.iter().map(Dim::to_string).collect::<Vec<_>>().join("×");
            format!("output `{}` of the model is {dims}, not one number for each of the {classes} classes", output.name)
        })
    }

    /// Whether the first output of a model can come near to this set's targets.
    fn check_target(&self, graph: &Graph) -> Result<(), ExecError> {
        let (Some(target), Some(output)) = (self.target_shape(), graph.outputs().first()) else { return Ok(()) };
        let output = graph.value(*output);
        let Some([_, rest @ ..]) = output.shape.as_deref() else { return Ok(()) };
        let fits = rest.len() == target.len() && rest.iter().zip(target).all(|(dim, size)| dim.compatible(&Dim::Fixed(*size)));
        let dims = || rest.iter().map(Dim::to_string).collect::<Vec<_>>().join("×");
        fits.then_some(()).ok_or_else(|| {
            ExecError::Option(format!(
                "output `{}` of the model is {} for one sample, but `{}` has targets of {target:?} (hint: save `y` in the output's shape)",
                output.name,
                dims(),
                self.inner.path.display()
            ))
        })
    }

    fn check_output(&self, graph: &Graph) -> Result<(), ExecError> {
        self.check_target(graph)?;
        let (Some(classes), Some(output)) = (self.inner.classes, graph.outputs().first()) else { return Ok(()) };
        if let Some(reason) = self.tells_no_classes(graph) {
            let hint = "(hint: `penjing eval --reference ORIGINAL` compares outputs, or measure with your own --metric-command)";
            return Err(ExecError::Option(format!("{reason} {hint}")));
        }
        let output = graph.value(*output);
        let Some(outputs) = output.shape.as_ref().and_then(|s| s.get(1)).and_then(Dim::fixed) else { return Ok(()) };
        // A set that only measures need not show every class that the model knows.
        let only_tests = self.inner.assignment.train.is_empty();
        if outputs == classes || (only_tests && classes < outputs) {
            return Ok(());
        }
        Err(ExecError::Option(format!(
            "`{}` has {classes} classes, but output `{}` of the model tells {outputs} apart (hint: `penjing new --classes {classes}`, or the \
             labels do not match)",
            self.inner.path.display(),
            output.name
        )))
    }
}

/// [C, H, W] of the model's only input, where it takes images of a fixed shape.
pub(super) fn image_input(graph: &Graph) -> Option<[usize; 3]> {
    let [input] = graph.inputs().collect::<Vec<_>>()[..] else { return None };
    match graph.value(input).shape.as_deref() {
        Some([_, channels, height, width]) => Some([channels.fixed()?, height.fixed()?, width.fixed()?]),
        _ => None,
    }
}

impl Inner {
    /// The arrays of each input, where there are several.
    pub(super) fn inputs(&self) -> Option<&Inputs> {
        self.samples.inputs()
    }

    fn part(&self, split: Split) -> &[usize] {
        match split {
            Split::Train => &self.assignment.train,
            Split::Validation => &self.assignment.validation,
            Split::Test => &self.assignment.test,
        }
    }

    fn describe_part(&self, split: Split) -> PartDescription {
        let mut class_counts = BTreeMap::new();
        if let Some(labels) = &self.labels {
            self.part(split).iter().for_each(|i| *class_counts.entry(labels[*i]).or_default() += 1);
        }
        PartDescription { split, samples: self.part(split).len(), class_counts }
    }

    /// Every label is a class, and there is something to learn about each class.
    fn check_classes(&self) -> Result<(), ExecError> {
        let (Some(labels), Some(classes)) = (&self.labels, self.classes) else { return Ok(()) };
        if labels.len() != self.samples.len() {
            return Err(ExecError::data(&self.path, format!("has {} labels for {} samples", labels.len(), self.samples.len())));
        }
        if let Some(i) = labels.iter().position(|l| *l as usize >= classes) {
            let reason = format!("label {} is out of range: there are {classes} classes, numbered from 0", labels[i]);
            return Err(ExecError::data(self.samples.origin(i), reason));
        }
        if self.assignment.train.is_empty() {
            return Ok(());
        }
        let counts = self.describe_part(Split::Train).class_counts;
        match (0..classes).find(|class| !counts.contains_key(&(*class as u32))) {
            None => Ok(()),
            Some(class) => Err(ExecError::data(&self.path, {
                let name = self.class_names.as_ref().map_or(String::new(), |names| format!(" (`{}`)", names[class]));
                format!(
                    "class {class}{name} of {classes} has no training samples (hint: number the classes from 0 without gaps, and give each \
                     some samples)"
                )
            })),
        }
    }

    /// Sample `index` as the model takes it; `draws`: seed and epoch of the augmentation.
    pub(super) fn prepare(&self, index: usize, draws: Option<(u64, u64)>) -> Result<Vec<f32>, ExecError> {
        let as_image = self.preprocess.needs_images() || draws.is_some();
        let mut image = match self.samples.load(index, as_image)? {
            Sample::Image(image) => image,
            Sample::Numbers(mut values) => {
                self.preprocess.normalise(0, &mut values);
                return Ok(values);
            }
        };
        let origin = || self.samples.origin(index);
        let shape = self.preprocess.image_shape(image.shape()).map_err(|reason| ExecError::data(origin(), reason))?;
        if shape[..] != self.shape {
            return Err(differs(origin(), shape, &self.shape));
        }
        image = self.preprocess.apply(image);
        if let Some((seed, epoch)) = draws {
            let black = |channel| {
                let mut black = [0.0];
                self.preprocess.normalise(channel, &mut black);
                black[0]
            };
            self.augment.apply(&mut image, black, seed, epoch, index as u64);
        }
        Ok(image.values)
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes = match (self.classes, &self.target_shape) {
            (Some(classes), _) => format!("{classes} classes"),
            (None, Some(shape)) => format!("targets of {shape:?}"),
            (None, None) => "no classes".into(),
        };
        writeln!(f, "{} `{}`: samples of {:?}, {classes}", self.format.name(), self.path.display(), self.sample_shape)?;
        let parts: Vec<String> = self.parts.iter().map(PartDescription::to_string).collect();
        writeln!(f, "split: {} ({})", parts.join(", "), self.split)?;
        let why = if self.fitted { " (to fit the model)" } else { "" };
        write!(f, "preprocessing: {}{why}", self.preprocess)?;
        if !self.augment.is_none() {
            write!(f, "\naugmentation: {}", self.augment)?;
        }
        Ok(())
    }
}

impl fmt::Display for PartDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.split {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        };
        write!(f, "{name} {}", self.samples)?;
        match (self.class_counts.values().min(), self.class_counts.values().max()) {
            (Some(least), Some(most)) if least == most => write!(f, " [{least} a class]"),
            (Some(least), Some(most)) => write!(f, " [{least} to {most} a class]"),
            _ => Ok(()),
        }
    }
}
