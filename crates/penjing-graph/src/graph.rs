//! The model as data, and the only way to change it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use bytes::Bytes;

use crate::ops::{Op, Opaque};
use crate::{DataType, Dim, GraphError, PartialValue, Tensor, infer};

/// Newest version of ONNX's own operator set that is understood.
pub const NEWEST_OPSET: i64 = 25;
/// Oldest version of ONNX's own operator set that is understood.
pub const OLDEST_OPSET: i64 = 7;

/// Names a value of one graph: an input, an initializer, or what a node gives. Stays valid through edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) u32);

/// Names a node of one graph. Stays valid through edits until the node is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) u32);

/// What is known of a value.
#[derive(Clone, Debug)]
pub struct Value {
    /// Name in the file, unique in the graph.
    pub name: String,
    /// Element type, where known.
    pub dtype: Option<DataType>,
    /// Dimensions, where the rank is known.
    pub shape: Option<Vec<Dim>>,
    /// The elements of an initializer.
    pub tensor: Option<Tensor>,
    /// Integers known before the model runs, symbols included (Shape → Gather → Concat → Reshape).
    pub partial: Option<PartialValue>,
    /// The node that gives it.
    pub producer: Option<NodeId>,
    /// The encoded `ValueInfoProto` of the file, for types that are no tensors and for what it says beside the type.
    pub(crate) declared: Option<Bytes>,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name in the file; unnamed nodes get one from their first output.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Its inputs; `None`: an optional one left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Its outputs; `None`: an optional one left out.
    pub outputs: Vec<Option<ValueId>>,
    /// Outer values that its inner graphs use.
    pub captures: Vec<ValueId>,
    /// The encoded `NodeProto` of the file.
    pub(crate) source: Option<Bytes>,
    /// Whether an edit has changed the node, so that only what the file says about it beside its meaning still holds.
    pub(crate) edited: bool,
}

impl Node {
    /// Every value that it reads, captured ones included.
    pub fn reads(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.inputs.iter().flatten().chain(&self.captures).copied()
    }

    /// Its input at `index`, if there is one.
    pub fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// Its output at `index`, if there is one.
    pub fn output(&self, index: usize) -> Option<ValueId> {
        self.outputs.get(index).copied().flatten()
    }
}

/// A network: typed nodes in an order in which they can run. Changes only through [`Graph::apply`]. Cloning shares weights.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub(crate) name: String,
    pub(crate) values: Vec<Value>,
    pub(crate) nodes: Vec<Option<Node>>,
    pub(crate) order: Vec<NodeId>,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) outputs: Vec<ValueId>,
    /// Version of each operator set by domain; ONNX's own is "".
    pub(crate) opsets: BTreeMap<String, i64>,
    /// `metadata_props` of the model, in order.
    pub(crate) metadata: Vec<(String, String)>,
    /// What the file holds beside the graph, kept as it is.
    pub(crate) kept: crate::onnx::Kept,
}

impl Graph {
    /// Name of the graph.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Nodes in an order in which they can run.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> + '_ {
        self.order.iter().map(|id| (*id, self.node(*id)))
    }

    /// Number of nodes.
    pub fn node_count(&self) -> usize {
        self.order.len()
    }

    /// The node of that name.
    ///
    /// # Panics
    /// When the node was removed or belongs to another graph: a mistake of the caller, never of a file.
    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes[id.0 as usize].as_ref().expect("node was removed")
    }

    /// The node of that name; `None` once an edit has removed it.
    pub fn find_node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)?.as_ref()
    }

    /// The value of that name.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// All values, also those that nothing uses any more.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, &Value)> + '_ {
        self.values.iter().enumerate().map(|(i, v)| (ValueId(i as u32), v))
    }

    /// The value called `name`.
    pub fn find_value(&self, name: &str) -> Option<ValueId> {
        self.values().find(|(_, v)| v.name == name).map(|(id, _)| id)
    }

    /// The elements of an initializer.
    pub fn tensor(&self, id: ValueId) -> Option<&Tensor> {
        self.value(id).tensor.as_ref()
    }

    /// The elements of an initializer that no caller can replace by an input.
    pub fn constant(&self, id: ValueId) -> Option<&Tensor> {
        self.tensor(id).filter(|_| !self.inputs.contains(&id))
    }

    /// How often a value is read: by inputs of nodes, by inner graphs, by the caller.
    pub fn uses(&self, id: ValueId) -> usize {
        self.nodes().flat_map(|(_, node)| node.reads()).chain(self.outputs.iter().copied()).filter(|read| *read == id).count()
    }

    /// Initializers that something uses, in order of their ids.
    pub fn initializers(&self) -> impl Iterator<Item = (ValueId, &Tensor)> + '_ {
        let used: BTreeSet<ValueId> = self.nodes().flat_map(|(_, n)| n.reads()).chain(self.outputs.iter().copied()).collect();
        self.values().filter_map(move |(id, v)| v.tensor.as_ref().filter(|_| used.contains(&id)).map(|t| (id, t)))
    }

    /// Files beside the model's that it had weights in when it was read, sorted.
    pub fn external_files(&self) -> impl Iterator<Item = &Path> {
        self.kept.external_files()
    }

    /// Inputs that a caller must give: those without an initializer.
    pub fn inputs(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.inputs.iter().copied().filter(|id| self.tensor(*id).is_none())
    }

    /// Outputs.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// Version of ONNX's own operator set.
    pub fn opset(&self) -> i64 {
        self.opsets.get("").copied().unwrap_or(1)
    }

    /// Version of each operator set by domain; ONNX's own is "".
    pub fn opsets(&self) -> &BTreeMap<String, i64> {
        &self.opsets
    }

    /// The model's metadata entry called `key`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// All entries of the model's metadata, in order.
    pub fn metadata_entries(&self) -> &[(String, String)] {
        &self.metadata
    }

    /// Who reads each value, in running order.
    pub fn consumers(&self) -> BTreeMap<ValueId, Vec<NodeId>> {
        let mut consumers: BTreeMap<ValueId, Vec<NodeId>> = BTreeMap::new();
        for (id, node) in self.nodes() {
            for value in node.reads() {
                consumers.entry(value).or_default().push(id);
            }
        }
        consumers
    }

    /// Applies an edit, infers types and shapes anew and checks the result. On error the graph is as it was.
    ///
    /// # Errors
    /// When the edit was made for another state of the graph, or would leave a graph that is no model.
    pub fn apply(&mut self, edit: Edit) -> Result<(), GraphError> {
        let mut next = self.clone();
        let label = edit.label.clone();
        let refused = |reason: String| GraphError::EditRefused { edit: label.clone(), reason };
        if (edit.first_value, edit.first_node) != (next.values.len(), next.nodes.len()) {
            return Err(refused(
                "it was made for another state of the graph (hint: make each edit from the graph it is applied to)".into(),
            ));
        }
        let mut names: BTreeSet<String> = next.values.iter().map(|v| v.name.clone()).collect();
        for change in edit.changes {
            change.perform(&mut next, &mut names).map_err(refused)?;
        }
        next.sort_and_check().map_err(refused)?;
        infer::infer_edited(&mut next, self)?;
        *self = next;
        Ok(())
    }

    /// Orders the nodes, ties by id, and checks that every value that is read is given exactly once.
    pub(crate) fn sort_and_check(&mut self) -> Result<(), String> {
        for value in &mut self.values {
            value.producer = None;
        }
        let inputs: BTreeSet<ValueId> = self.inputs.iter().copied().collect();
        for (i, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            for id in node.outputs.iter().flatten() {
                let value = &mut self.values[id.0 as usize];
                if value.tensor.is_some() || inputs.contains(id) || value.producer.is_some() {
                    return Err(format!("value `{}` is given twice", value.name));
                }
                value.producer = Some(NodeId(i as u32));
            }
        }
        let available = |id: ValueId| self.values[id.0 as usize].tensor.is_some() || inputs.contains(&id);
        for id in &self.outputs {
            if self.values[id.0 as usize].producer.is_none() && !available(*id) {
                return Err(format!("output `{}` is not given by any node", self.values[id.0 as usize].name));
            }
        }
        // Kahn's algorithm with the smallest id first, so that an order that already runs stays as it is.
        let mut waiting: Vec<usize> = vec![0; self.nodes.len()];
        let mut readers: HashMap<ValueId, Vec<usize>> = HashMap::new();
        let mut ready = BTreeSet::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            for id in node.reads() {
                if self.values[id.0 as usize].producer.is_some() {
                    waiting[i] += 1;
                    readers.entry(id).or_default().push(i);
                } else if !available(id) {
                    return Err(format!("node `{}` reads `{}`, which nothing gives", node.name, self.values[id.0 as usize].name));
                }
            }
            if waiting[i] == 0 {
                ready.insert(i);
            }
        }
        self.order.clear();
        while let Some(i) = ready.pop_first() {
            self.order.push(NodeId(i as u32));
            for id in self.nodes[i].iter().flat_map(|n| n.outputs.iter().flatten()) {
                for reader in readers.get(id).into_iter().flatten() {
                    waiting[*reader] -= 1;
                    if waiting[*reader] == 0 {
                        ready.insert(*reader);
                    }
                }
            }
        }
        match self.nodes.iter().enumerate().find(|(i, n)| n.is_some() && waiting[*i] > 0) {
            Some((_, Some(node))) => Err(format!("node `{}` depends on its own output", node.name)),
            _ => Ok(()),
        }
    }
}

/// A proposed change: nothing happens until [`Graph::apply`] accepts it as a whole.
#[derive(Clone, Debug)]
pub struct Edit {
    label: String,
    first_value: usize,
    first_node: usize,
    new_values: usize,
    new_nodes: usize,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Input { name: String, dtype: DataType, shape: Vec<Dim> },
    Output(ValueId),
    Initializer { name: String, tensor: Tensor },
    SetTensor { value: ValueId, tensor: Tensor },
    AddNode { name: String, op: Box<Op>, inputs: Vec<Option<ValueId>>, outputs: Vec<String> },
    InsertBehind { node: NodeId, index: usize, name: String, op: Box<Op>, others: Vec<Option<ValueId>>, between: String },
    SetOp { node: NodeId, op: Box<Op>, inputs: Vec<Option<ValueId>> },
    SetOutput { node: NodeId, index: usize, value: Option<ValueId> },
    RemoveNode(NodeId),
    ReplaceUses { old: ValueId, new: ValueId },
    Opset { domain: String, version: i64 },
    Metadata { key: String, value: Option<String> },
}

impl Edit {
    /// An empty edit of `graph`; the label says in errors and logs what it is for.
    pub fn new(graph: &Graph, label: impl Into<String>) -> Edit {
        Edit {
            label: label.into(),
            first_value: graph.values.len(),
            first_node: graph.nodes.len(),
            new_values: 0,
            new_nodes: 0,
            changes: vec![],
        }
    }

    /// What it is for.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn next_value(&mut self) -> ValueId {
        self.new_values += 1;
        ValueId((self.first_value + self.new_values - 1) as u32)
    }

    /// Adds an input of the model.
    pub fn add_input(&mut self, name: impl Into<String>, dtype: DataType, shape: Vec<Dim>) -> ValueId {
        self.changes.push(Change::Input { name: name.into(), dtype, shape });
        self.next_value()
    }

    /// Makes a value an output of the model.
    pub fn add_output(&mut self, value: ValueId) {
        self.changes.push(Change::Output(value));
    }

    /// Adds an initializer; a name that is taken gets a number.
    pub fn add_tensor(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        self.changes.push(Change::Initializer { name: name.into(), tensor });
        self.next_value()
    }

    /// Replaces the elements, the shape or the type of an initializer.
    pub fn set_tensor(&mut self, value: ValueId, tensor: Tensor) {
        self.changes.push(Change::SetTensor { value, tensor });
    }

    /// Adds a node whose outputs are new values of these names; a name that is taken gets a number.
    pub fn add_node(&mut self, name: impl Into<String>, op: impl Into<Op>, inputs: Vec<Option<ValueId>>, outputs: &[&str]) -> Vec<ValueId> {
        let outputs: Vec<String> = outputs.iter().map(|s| (*s).to_string()).collect();
        let ids = outputs.iter().map(|_| self.next_value()).collect();
        self.changes.push(Change::AddNode { name: name.into(), op: Box::new(op.into()), inputs, outputs });
        self.new_nodes += 1;
        ids
    }

    /// Puts a node between a node and its output `index`: the output's value keeps its name and its readers, and is given by the new
    /// node, which reads the value that is returned, called `between`, and after it `others`.
    pub fn insert_behind(
        &mut self,
        (node, index): (NodeId, usize),
        name: impl Into<String>,
        op: impl Into<Op>,
        others: &[ValueId],
        between: impl Into<String>,
    ) -> ValueId {
        let others = others.iter().copied().map(Some).collect();
        self.changes.push(Change::InsertBehind {
            node,
            index,
            name: name.into(),
            op: Box::new(op.into()),
            others,
            between: between.into(),
        });
        self.new_nodes += 1;
        self.next_value()
    }

    /// Gives a node another operation and other inputs.
    pub fn set_op(&mut self, node: NodeId, op: impl Into<Op>, inputs: Vec<Option<ValueId>>) {
        self.changes.push(Change::SetOp { node, op: Box::new(op.into()), inputs });
    }

    /// Lets a node give another value, e.g. an output of the model whose producer is removed.
    pub fn set_output(&mut self, node: NodeId, index: usize, value: ValueId) {
        self.changes.push(Change::SetOutput { node, index, value: Some(value) });
    }

    /// Lets a node leave an output out, which must not be read by anything.
    pub fn drop_output(&mut self, node: NodeId, index: usize) {
        self.changes.push(Change::SetOutput { node, index, value: None });
    }

    /// Removes a node; its outputs must not be read by anything that stays.
    pub fn remove_node(&mut self, node: NodeId) {
        self.changes.push(Change::RemoveNode(node));
    }

    /// Lets every node that reads `old` read `new`. Outputs of the model keep their names and are left alone.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        self.changes.push(Change::ReplaceUses { old, new });
    }

    /// States the version of an operator set. Does not rewrite nodes.
    pub fn set_opset(&mut self, domain: impl Into<String>, version: i64) {
        self.changes.push(Change::Opset { domain: domain.into(), version });
    }

    /// Sets or, with `None`, removes an entry of the model's metadata.
    pub fn set_metadata(&mut self, key: impl Into<String>, value: Option<String>) {
        self.changes.push(Change::Metadata { key: key.into(), value });
    }
}

impl Change {
    fn perform(self, graph: &mut Graph, names: &mut BTreeSet<String>) -> Result<(), String> {
        let known = |graph: &Graph, id: ValueId| match graph.values.get(id.0 as usize) {
            Some(_) => Ok(()),
            None => Err(format!("value number {} does not exist", id.0)),
        };
        match self {
            Change::Input { name, dtype, shape } => {
                let id = new_value(graph, names, name);
                let value = &mut graph.values[id.0 as usize];
                (value.dtype, value.shape) = (Some(dtype), Some(shape));
                graph.inputs.push(id);
            }
            Change::Output(value) => {
                known(graph, value)?;
                graph.outputs.push(value);
            }
            Change::Initializer { name, tensor } => {
                let id = new_value(graph, names, name);
                set_tensor(&mut graph.values[id.0 as usize], tensor);
            }
            Change::SetTensor { value, tensor } => {
                known(graph, value)?;
                let value = &mut graph.values[value.0 as usize];
                if value.tensor.is_none() {
                    return Err(format!("`{}` is not an initializer", value.name));
                }
                set_tensor(value, tensor);
            }
            Change::AddNode { name, op, inputs, outputs } => {
                for id in inputs.iter().flatten() {
                    known(graph, *id)?;
                }
                let outputs = outputs.into_iter().map(|name| Some(new_value(graph, names, name))).collect();
                graph.nodes.push(Some(Node { name, op: *op, inputs, outputs, captures: vec![], source: None, edited: false }));
            }
            Change::InsertBehind { node, index, name, op, others, between } => {
                for id in others.iter().flatten() {
                    known(graph, *id)?;
                }
                let between = new_value(graph, names, between);
                let before = existing(graph, node)?;
                let missing = || format!("node `{}` has no output number {index}", before.name);
                let output = before.outputs.get(index).copied().flatten().ok_or_else(missing)?;
                (before.outputs[index], before.edited) = (Some(between), true);
                let (inputs, outputs) = ([vec![Some(between)], others].concat(), vec![Some(output)]);
                graph.nodes.push(Some(Node { name, op: *op, inputs, outputs, captures: vec![], source: None, edited: false }));
            }
            Change::SetOp { node, op, inputs } => {
                for id in inputs.iter().flatten() {
                    known(graph, *id)?;
                }
                let node = existing(graph, node)?;
                (node.op, node.inputs, node.edited) = (*op, inputs, true);
            }
            Change::SetOutput { node, index, value } => {
                value.map_or(Ok(()), |value| known(graph, value))?;
                let node = existing(graph, node)?;
                let name = node.name.clone();
                *node.outputs.get_mut(index).ok_or_else(|| format!("node `{name}` has no output number {index}"))? = value;
                let given = node.outputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
                node.outputs.truncate(given);
                node.edited = true;
            }
            Change::RemoveNode(node) => {
                existing(graph, node)?;
                graph.nodes[node.0 as usize] = None;
            }
            Change::ReplaceUses { old, new } => {
                known(graph, old)?;
                known(graph, new)?;
                for node in graph.nodes.iter_mut().flatten() {
                    if node.captures.contains(&old) {
                        return Err(format!("an inner graph of node `{}` uses `{}` by name", node.name, graph.values[old.0 as usize].name));
                    }
                    if node.inputs.contains(&Some(old)) {
                        node.inputs.iter_mut().filter(|i| **i == Some(old)).for_each(|i| *i = Some(new));
                        node.edited = true;
                    }
                }
            }
            Change::Opset { domain, version } => drop(graph.opsets.insert(domain, version)),
            Change::Metadata { key, value } => match (graph.metadata.iter().position(|(k, _)| *k == key), value) {
                (Some(i), Some(value)) => graph.metadata[i].1 = value,
                (Some(i), None) => drop(graph.metadata.remove(i)),
                (None, Some(value)) => graph.metadata.push((key, value)),
                (None, None) => {}
            },
        }
        Ok(())
    }
}

fn existing(graph: &mut Graph, id: NodeId) -> Result<&mut Node, String> {
    graph.nodes.get_mut(id.0 as usize).and_then(Option::as_mut).ok_or_else(|| format!("node number {} does not exist", id.0))
}

fn new_value(graph: &mut Graph, names: &mut BTreeSet<String>, name: String) -> ValueId {
    let mut unique = name.clone();
    let mut n = 1;
    while unique.is_empty() || !names.insert(unique.clone()) {
        unique = format!("{name}_{n}");
        n += 1;
    }
    graph.values.push(Value { name: unique, dtype: None, shape: None, tensor: None, partial: None, producer: None, declared: None });
    ValueId((graph.values.len() - 1) as u32)
}

fn set_tensor(value: &mut Value, tensor: Tensor) {
    value.dtype = Some(tensor.dtype());
    value.shape = Some(tensor.dims().iter().map(|d| Dim::Fixed(*d)).collect());
    value.tensor = Some(tensor);
}

/// Whether the node is one that is kept but not understood.
pub(crate) fn opaque(node: &Node) -> Option<&Opaque> {
    match &node.op {
        Op::Opaque(opaque) => Some(opaque),
        _ => None,
    }
}
