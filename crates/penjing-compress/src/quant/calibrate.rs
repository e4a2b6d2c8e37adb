//! The range of each activation, from samples that stream through the float network once.

use std::collections::{BTreeMap, BTreeSet};

use penjing_exec::{ExecError, cpu_executor};
use penjing_graph::{Graph, ValueId};

use super::{Observer, QuantError, Quantizer, RangeMethod, Scheme};
use crate::prune::Calibration;

/// Bytes that the largest activation of a batch may take.
const LARGEST_BYTES: usize = 96 << 20;
/// Samples at a time where activations are small.
const LARGEST_BATCH: usize = 32;

/// What was seen of the activations.
#[derive(Debug)]
pub struct Calibrated {
    /// A quantizer for each value that was observed.
    pub activations: BTreeMap<ValueId, Quantizer>,
    /// How many samples were seen.
    pub samples: usize,
}

/// Observes some values of a network.
///
/// # Errors
/// When a sample cannot be read or run, there is none, or an activation is NaN, infinite or never seen.
pub fn calibrate(
    graph: &Graph,
    watched: &BTreeSet<ValueId>,
    calibration: &dyn Calibration,
    method: RangeMethod,
    scheme: &Scheme,
) -> Result<Calibrated, ExecError> {
    let mut observers: BTreeMap<ValueId, Box<dyn Observer>> = watched.iter().map(|id| (*id, method.observer())).collect();
    let name = |id: ValueId| graph.value(id).name.as_str();
    let mut executor = cpu_executor(graph)?;
    let mut samples = 0;
    for batch in calibration.batches(batch_size(graph)) {
        let batch = batch?;
        samples += batch.indices.len();
        executor.run_watched(&batch.inputs, watched, &mut |id, value| {
            if let (Some(observer), Some(values)) = (observers.get_mut(&id), value.to_f32()) {
                observer.observe(&values).map_err(|e| refused(e.of(name(id))))?;
            }
            Ok(None)
        })?;
    }
    if samples == 0 {
        return Err(ExecError::Option("there is no sample to calibrate with (hint: give the training split a share of the data)".into()));
    }
    let quantizer = |(id, observer): (ValueId, Box<dyn Observer>)| {
        let range = observer.calibrated(scheme, name(id))?;
        Ok((id, Quantizer::new(*scheme, &[], &[range]).map_err(|e| e.of(name(id)))?))
    };
    let activations = observers.into_iter().map(quantizer).collect::<Result<_, QuantError>>().map_err(refused)?;
    Ok(Calibrated { activations, samples })
}

/// How many samples are run at a time where a network is looked at.
pub(super) fn batch_size(graph: &Graph) -> usize {
    samples_at_once(graph, LARGEST_BATCH)
}

/// How many samples, `most` at most, can be run at a time so that memory stays small whatever the network is.
pub(crate) fn samples_at_once(graph: &Graph, most: usize) -> usize {
    let elements = |id: ValueId| -> Option<usize> {
        let shape = graph.value(id).shape.as_ref()?;
        shape.iter().skip(1).map(|dim| dim.fixed()).product()
    };
    let computed = graph.nodes().flat_map(|(_, node)| node.outputs.iter().flatten().copied());
    let largest = computed.chain(graph.inputs()).filter_map(elements).max().unwrap_or(1);
    (LARGEST_BYTES / (4 * largest.max(1))).clamp(1, most)
}

/// What the observers refuse, as the executor says it.
fn refused(error: QuantError) -> ExecError {
    let cause = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
    ExecError::Option(format!("{error}{cause}"))
}
