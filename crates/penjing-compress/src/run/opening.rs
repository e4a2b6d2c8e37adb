//! The data of a run, opened for its model, and a model of the zoo built for the data.

use penjing_exec::data::{DataOptions, Dataset, Split, SplitOptions};
use penjing_graph::zoo::ZooOptions;
use penjing_graph::{Graph, zoo};

use super::RunError;
use crate::recipe::DataSource;

/// Opens the data for a model as [`open_data`] does, all samples in the test split: nothing is chosen from them.
///
/// # Errors
/// When the data cannot be read or do not fit the model.
pub fn open_all(source: &DataSource, graph: &Graph) -> Result<Dataset, RunError> {
    checked(read_data(source, SplitOptions::all_test(), graph)?, graph)
}

/// Opens the data for a model: preprocessing as asked for, else as the model's metadata say, else images fitted to its input.
///
/// # Errors
/// When the data cannot be read or do not fit the model.
pub fn open_data(source: &DataSource, graph: &Graph) -> Result<Dataset, RunError> {
    checked(read_data(source, source.split(), graph)?, graph)
}

/// Opens the data for a model that labels mean nothing to: only that it can take the samples is checked.
///
/// # Errors
/// When the data cannot be read or the model cannot take them.
pub fn open_inputs(source: &DataSource, split: SplitOptions, graph: &Graph) -> Result<Dataset, RunError> {
    let data = read_data(source, split, graph)?;
    data.check_input(graph)?;
    Ok(data)
}

/// Why no accuracy of a network can be measured on data, if none can.
pub(crate) fn no_accuracy(data: &Dataset, graph: &Graph) -> Option<String> {
    match (data.classes(), data.target_shape()) {
        (Some(_), _) => data.tells_no_classes(graph),
        (None, Some(_)) => Some("the data hold numbers to come near to, not classes".into()),
        (None, None) => Some("the data have no labels (hint: --labels FILE)".into()),
    }
}

fn checked(data: Dataset, graph: &Graph) -> Result<Dataset, RunError> {
    data.check_against(graph)?;
    Ok(data)
}

fn read_data(source: &DataSource, split: SplitOptions, graph: &Graph) -> Result<Dataset, RunError> {
    let options = DataOptions {
        preprocess: source.preprocess.clone(),
        labels: source.labels.clone(),
        split,
        augment: source.augment,
        ..DataOptions::default()
    };
    Ok(penjing_exec::data::open(&source.path, &options.for_model(graph)?)?)
}

/// A fresh network of the zoo, with as many classes as the data have unless another number is asked for.
///
/// # Errors
/// When there is no such architecture or the data cannot be read.
pub fn build_for(
    architecture: &str,
    classes: Option<usize>,
    input: Option<[usize; 3]>,
    seed: u64,
    data: Option<&DataSource>,
) -> Result<Graph, RunError> {
    let options = ZooOptions { classes, input, seed, ..ZooOptions::default() };
    let graph = zoo::build(architecture, &options)?;
    let (None, Some(source)) = (classes, data) else { return Ok(graph) };
    // Images of many sizes are a set only once a model says which size they get.
    let classes = read_data(source, source.split(), &graph)?.classes();
    Ok(zoo::build(architecture, &ZooOptions { classes, ..options })?)
}

/// Share of the commonest class in a split: what an answer that never changes scores.
pub(super) fn commonest_share(data: &Dataset, split: Split) -> f64 {
    let description = data.describe();
    let Some(part) = description.parts.iter().find(|p| p.split == split) else { return 0.0 };
    part.class_counts.values().copied().max().unwrap_or(0) as f64 / part.samples.max(1) as f64
}
