//! A graph in ONNX Runtime, with its inner values.

use std::collections::BTreeSet;

use ort::session::Session;
use penjing_graph::onnx::{self, WriteOptions};
use penjing_graph::ops::Cast;
use penjing_graph::{DataType, Edit, Graph, GraphError, Tensor, ValueId};

use super::tensors::widened;
use super::{NAME, OnnxRuntime, SessionOptions, failed, run_session};
use crate::ExecError;
use crate::runtime::Runtime;

/// One graph in ONNX Runtime. Sessions are made when they are first needed.
///
/// Floats of 16 and 8 bits come back as `float32`, which holds all of their numbers.
#[derive(Debug)]
pub struct OnnxModel {
    runtime: OnnxRuntime,
    graph: Graph,
    options: SessionOptions,
    /// Gives the outputs of the graph.
    plain: Option<Session>,
    /// Gives further values beside, those that were asked for last.
    further: Option<(Vec<ValueId>, Tapped)>,
}

/// A session of the graph with further outputs, and the name under which it gives each.
#[derive(Debug)]
struct Tapped {
    session: Session,
    names: Vec<String>,
}

impl OnnxRuntime {
    /// A graph to be run on that many threads, with its inner values. Where values that are no outputs are fetched, a session
    /// has them as further outputs: with optimisation, what ONNX Runtime fuses depends on them.
    pub fn load(&self, graph: &Graph, options: SessionOptions) -> OnnxModel {
        OnnxModel { runtime: *self, graph: graph.clone(), options, plain: None, further: None }
    }

    /// A session for a graph: from memory, or through a temporary file where it is larger than one message.
    fn session(&self, graph: &Graph, options: SessionOptions) -> Result<Session, ExecError> {
        let opening = || format!("open `{}` in ONNX Runtime", graph.name());
        let mut builder = self.builder(options).map_err(failed(opening()))?;
        match onnx::to_bytes(graph, WriteOptions::default()) {
            Ok(bytes) => builder.commit_from_memory(&bytes).map_err(failed(opening())),
            Err(GraphError::Io { source, .. }) if source.kind() == std::io::ErrorKind::FileTooLarge => {
                let folder = tempfile::tempdir().map_err(failed(format!("make a temporary folder for `{}`", graph.name())))?;
                let path = folder.path().join("model.onnx");
                onnx::write(graph, &path, WriteOptions::default())?;
                builder.commit_from_file(&path).map_err(failed(opening()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl OnnxModel {
    /// Whether the session without further outputs gives a value as it is.
    fn is_plain(&self, id: ValueId) -> bool {
        self.graph.outputs().contains(&id) && !self.graph.value(id).dtype.is_some_and(widened)
    }

    /// The graph with `values` as outputs too, and the names that they have there.
    fn tapped(&self, values: &[ValueId]) -> Result<(Graph, Vec<String>), ExecError> {
        let mut graph = self.graph.clone();
        let mut edit = Edit::new(&graph, "show inner values");
        let mut show = |id: &ValueId| {
            let value = self.graph.value(*id);
            let shown = match value.dtype.is_some_and(widened) {
                true => {
                    let name = format!("{}_as_float32", value.name);
                    edit.add_node(&name, Cast { to: DataType::Float, saturate: true }, vec![Some(*id)], &[&name])[0]
                }
                false => *id,
            };
            edit.add_output(shown);
            shown
        };
        let shown: Vec<ValueId> = values.iter().map(&mut show).collect();
        graph.apply(edit)?;
        let names = shown.iter().map(|id| graph.value(*id).name.clone()).collect();
        Ok((graph, names))
    }
}

impl Runtime for OnnxModel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn run(&mut self, inputs: &[Tensor], fetch: &[ValueId]) -> Result<Vec<Tensor>, ExecError> {
        let given: Vec<ValueId> = self.graph.inputs().collect();
        // What no node gives is at hand already.
        let at_hand = |graph: &Graph, id: ValueId| match given.iter().position(|input| *input == id) {
            Some(i) => inputs.get(i).cloned(),
            None => graph.tensor(id).cloned(),
        };
        let computed: BTreeSet<ValueId> = fetch.iter().copied().filter(|id| at_hand(&self.graph, *id).is_none()).collect();
        let further: Vec<ValueId> = computed.iter().copied().filter(|id| !self.is_plain(*id)).collect();
        let (session, further_names) = if further.is_empty() {
            let session = match self.plain.take() {
                Some(session) => session,
                None => self.runtime.session(&self.graph, self.options)?,
            };
            (self.plain.insert(session), &[][..])
        } else {
            let tapped = match self.further.take() {
                Some((values, tapped)) if values == further => tapped,
                _ => {
                    let (graph, names) = self.tapped(&further)?;
                    Tapped { session: self.runtime.session(&graph, self.options)?, names }
                }
            };
            let (_, Tapped { session, names }) = self.further.insert((further.clone(), tapped));
            (session, &names[..])
        };
        let wanted: Vec<ValueId> = fetch.iter().copied().filter(|id| computed.contains(id)).collect();
        let name = |id: &ValueId| match further.iter().position(|other| other == id) {
            Some(i) => further_names[i].as_str(),
            None => self.graph.value(*id).name.as_str(),
        };
        let names: Vec<&str> = wanted.iter().map(name).collect();
        let mut outputs = run_session(session, inputs, Some(&names))?.into_iter();
        let value = |id: &ValueId| {
            let missing = || ExecError::Option(format!("nothing gives the value `{}`", self.graph.value(*id).name));
            if computed.contains(id) { outputs.next() } else { at_hand(&self.graph, *id) }.ok_or_else(missing)
        };
        fetch.iter().map(value).collect()
    }
}
