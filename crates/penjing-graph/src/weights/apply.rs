//! Weights into a graph, by name.

use std::collections::{BTreeMap, BTreeSet};

use super::StateDict;
use crate::zoo::inverted_residual::stages_of;
use crate::zoo::naming::Naming;
use crate::{DataType, Edit, Graph, GraphError, Role, Tensor, ValueId, roles};

/// Prefixes that wrappers of PyTorch put before every name: data parallel and compiled modules.
const PREFIXES: &[&str] = &["module.", "_orig_mod."];

/// Names that an error lists before it counts the rest.
const MOST_NAMES: usize = 6;

/// The graph with the weights of a state dict: every float initializer is replaced but the constants of formulas.
///
/// Names are those of the graph, or what torchvision, timm or lukemelas' EfficientNet-PyTorch call the same modules of
/// `mobilenet-v2` and `efficientnet-lite0`; prefixes of wrappers are taken off and counters of batches ignored. Half,
/// bfloat16 and double weights become the graph's type.
///
/// # Errors
/// When a weight is missing, unknown, of another shape, or not a float; the error lists them.
pub fn apply(graph: &Graph, state: &StateDict) -> Result<Graph, GraphError> {
    let wanted = wanted(graph);
    let given = Given::new(graph.name(), &wanted, state);
    let mut edit = Edit::new(graph, "load weights");
    let (mut missing, mut unexpected, mut misshaped) = (vec![], given.names(), vec![]);
    for (id, name, ours) in wanted {
        let Some((name, theirs)) = given.find(name) else {
            missing.push(name);
            continue;
        };
        unexpected.remove(name);
        if theirs.dims() == ours.dims() {
            edit.set_tensor(id, converted(name, theirs, ours.dtype())?);
        } else {
            misshaped.push(Misshaped { id, name, theirs: theirs.dims(), ours: ours.dims() });
        }
    }
    names_match(graph, &missing, &unexpected)?;
    shapes_match(graph, &misshaped)?;
    let mut graph = graph.clone();
    graph.apply(edit)?;
    Ok(graph)
}

/// Weights of one shape in the file and of another in the network.
struct Misshaped<'a> {
    id: ValueId,
    name: &'a str,
    theirs: &'a [usize],
    ours: &'a [usize],
}

fn names_match(graph: &Graph, missing: &[&str], unexpected: &BTreeSet<&str>) -> Result<(), GraphError> {
    let mut parts = vec![];
    if !missing.is_empty() {
        parts.push(format!("missing in the file: {}", listed(missing.iter())));
    }
    if !unexpected.is_empty() {
        parts.push(format!("not in the network: {}", listed(unexpected.iter())));
    }
    if parts.is_empty() {
        return Ok(());
    }
    let parts = parts.join("; ");
    Err(refused(format!("names do not match those of `{}`; {parts} (hint: is it the same architecture?)", graph.name())))
}

fn shapes_match(graph: &Graph, misshaped: &[Misshaped<'_>]) -> Result<(), GraphError> {
    let Some(first) = misshaped.first() else { return Ok(()) };
    let head = head(graph);
    if let (Some(theirs), Some(ours)) = (first.theirs.first(), first.ours.first())
        && theirs != ours
        && misshaped.iter().all(|m| head.contains(&m.id))
    {
        return Err(refused(format!("the file is for {theirs} classes, the network has {ours} (hint: build it with --classes {theirs})")));
    }
    let shapes = misshaped.iter().map(|m| format!("{} is {:?}, not {:?}", m.name, m.theirs, m.ours));
    Err(refused(format!("shapes do not match those of `{}`: {}", graph.name(), listed(shapes))))
}

fn refused(reason: String) -> GraphError {
    GraphError::Weights { reason }
}

/// Initializers that a state dict must give, with their names.
fn wanted(graph: &Graph) -> Vec<(ValueId, &str, &Tensor)> {
    let roles = roles(graph).into_iter().filter(|(_, role)| *role != Role::Constant);
    roles.filter_map(|(id, _)| Some((id, graph.value(id).name.as_str(), graph.tensor(id)?))).collect()
}

/// Weights of the node that gives the first output.
fn head(graph: &Graph) -> BTreeSet<ValueId> {
    let producer = graph.outputs().first().and_then(|id| graph.value(*id).producer);
    producer.into_iter().flat_map(|node| graph.node(node).reads()).filter(|id| graph.tensor(*id).is_some()).collect()
}

/// A state dict seen under the graph's names.
struct Given<'a> {
    /// By name without the prefixes of wrappers: the name in the file, and the weights.
    tensors: BTreeMap<&'a str, (&'a str, &'a Tensor)>,
    /// The file's name of a module by the graph's, where they differ.
    modules: BTreeMap<String, String>,
}

impl<'a> Given<'a> {
    /// Under the naming that finds the most weights; ties go to the graph's own names.
    fn new(architecture: &str, wanted: &[(ValueId, &str, &Tensor)], state: &'a StateDict) -> Given<'a> {
        let mut prefix = String::new();
        while let Some(more) = PREFIXES.iter().find(|more| {
            let longer = format!("{prefix}{more}");
            !state.is_empty() && state.keys().all(|name| name.starts_with(&longer))
        }) {
            prefix.push_str(more);
        }
        let counter = |name: &str| name == "num_batches_tracked" || name.ends_with(".num_batches_tracked");
        let tensors: BTreeMap<_, _> = state
            .iter()
            .filter(|(name, _)| !counter(name))
            .map(|(name, tensor)| (&name[prefix.len()..], (name.as_str(), tensor)))
            .collect();
        let mut best = Given { tensors, modules: BTreeMap::new() };
        for modules in renamings(architecture) {
            let candidate = Given { tensors: best.tensors.clone(), modules };
            if candidate.found(wanted) > best.found(wanted) {
                best = candidate;
            }
        }
        best
    }

    fn found(&self, wanted: &[(ValueId, &str, &Tensor)]) -> usize {
        wanted.iter().filter(|(_, name, _)| self.find(name).is_some()).count()
    }

    /// What the file calls the graph's `name`, and its weights.
    fn find(&self, name: &str) -> Option<(&'a str, &'a Tensor)> {
        let theirs = name.rsplit_once('.').and_then(|(module, part)| Some(format!("{}.{part}", self.modules.get(module)?)));
        self.tensors.get(theirs.as_deref().unwrap_or(name)).copied()
    }

    fn names(&self) -> BTreeSet<&'a str> {
        self.tensors.values().map(|(name, _)| *name).collect()
    }
}

/// From one library's module names to another's, for the architectures that several libraries publish.
fn renamings(architecture: &str) -> impl Iterator<Item = BTreeMap<String, String>> {
    let stages = stages_of(architecture);
    let pairs = Naming::ALL.into_iter().flat_map(|ours| Naming::ALL.into_iter().map(move |theirs| (ours, theirs)));
    pairs.filter(|(ours, theirs)| ours != theirs).filter_map(move |(ours, theirs)| {
        let stages = stages?;
        Some(ours.modules(stages).into_iter().zip(theirs.modules(stages)).collect())
    })
}

/// The weights in the graph's type.
fn converted(name: &str, weights: &Tensor, dtype: DataType) -> Result<Tensor, GraphError> {
    if weights.dtype() == dtype {
        return Ok(weights.clone());
    }
    match (dtype, weights.to_f32()) {
        (DataType::Float, Some(values)) => Ok(Tensor::new(weights.dims(), values.into_owned())),
        _ => Err(refused(format!("`{name}` is {}, the network wants {}", weights.dtype().name(), dtype.name()))),
    }
}

/// The first names, and how many more there are.
fn listed<T: std::fmt::Display>(names: impl ExactSizeIterator<Item = T>) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    let mut text = names.take(MOST_NAMES).map(|name| name.to_string()).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
