//! From the bytes of a file to a [`Graph`]. Weights stay where they lie in the mapped file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::elements::{dims, tensor_from_proto};
use super::external::ExternalFiles;
use super::inner::{bring_in_external, captured_names};
use super::mapped::Mapping;
use super::proto::{
    AttributeProto, AttributeType, DataLocation, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto,
    ValueInfoProto,
};
use super::types::declared_type;
use super::{constant, sparse_storage};
use crate::ops::{Op, Opaque};
use crate::{DataType, Dim, Graph, GraphError, NEWEST_OPSET, Node, NodeId, OLDEST_OPSET, Tensor, Value, ValueId, infer};

/// Versions of the file format that are understood.
const IR_VERSIONS: RangeInclusive<i64> = 3..=13;

/// Reads a model. The file and those beside it that hold its weights are mapped, not copied: they must not be written to
/// while the graph or one of its tensors is in use. Replacing them by renaming is safe.
///
/// # Errors
/// When a file cannot be read, is no model of IR version 3 to 13 and opset 7 to 25, or contradicts itself.
pub fn read(path: impl AsRef<Path>) -> Result<Graph, GraphError> {
    let path = path.as_ref();
    let map = Mapping::open(path).map_err(|source| GraphError::Io { action: "read", path: path.into(), source })?;
    let bytes = map.as_ref().map(Mapping::bytes).unwrap_or_default();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut graph = read_model(bytes, path, Some(folder))?;
    graph.kept.mapped.extend(map);
    Ok(graph)
}

/// Reads a model from memory; `folder` is where its external data lie, if they may be read at all.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: impl Into<Bytes>, folder: Option<&Path>) -> Result<Graph, GraphError> {
    read_model(bytes.into(), Path::new("model in memory"), folder)
}

fn read_model(bytes: Bytes, path: &Path, folder: Option<&Path>) -> Result<Graph, GraphError> {
    let refused = |reason: String| GraphError::NotOnnx { path: path.into(), reason };
    let mut model = ModelProto::decode(bytes).map_err(|e| refused(format!("its encoding is broken ({e})")))?;
    let file = model.graph.take().ok_or_else(|| refused("it holds no graph".into()))?;
    check_ir_version(&model).map_err(refused)?;
    let mut reader = Reader {
        graph: Graph { name: file.name.clone(), opsets: opsets(&model).map_err(refused)?, ..Graph::default() },
        path: path.into(),
        ids: HashMap::new(),
        functions: functions(&model).map_err(refused)?,
        files: ExternalFiles::new(folder),
    };
    reader.read(&file)?;
    let Reader { mut graph, files, .. } = reader;
    if model.ir_version() < 4 {
        // Up to IR 3 initializers are inputs too, and constant all the same; from IR 4 on they need not be.
        let is_given = |id: &ValueId| graph.tensor(*id).is_none();
        graph.inputs = graph.inputs.iter().copied().filter(is_given).collect();
    }
    graph.metadata = std::mem::take(&mut model.metadata_props).into_iter().map(|entry| (entry.key, entry.value)).collect();
    let GraphProto { doc_string, quantization_annotation, metadata_props, .. } = file;
    model.graph = Some(GraphProto { doc_string, quantization_annotation, metadata_props, ..GraphProto::default() });
    graph.kept.model = model;
    (graph.kept.external, graph.kept.mapped) = files.into_parts();
    sparse_storage::fold(&mut graph);
    graph.sort_and_check().map_err(refused)?;
    infer::infer(&mut graph)?;
    Ok(graph)
}

fn check_ir_version(model: &ModelProto) -> Result<(), String> {
    let version = model.ir_version();
    if IR_VERSIONS.contains(&version) {
        return Ok(());
    }
    let (oldest, newest) = IR_VERSIONS.into_inner();
    Err(format!(
        "its IR version is {version}, and {oldest} to {newest} are understood (hint: export it again, or set `ir_version` with the `onnx` package)"
    ))
}

/// Version of each operator set; ONNX's own goes by two names.
fn opsets(model: &ModelProto) -> Result<BTreeMap<String, i64>, String> {
    let mut opsets = BTreeMap::new();
    for import in &model.opset_import {
        let domain = if import.domain() == "ai.onnx" { "" } else { import.domain() };
        match opsets.insert(domain.to_string(), import.version()) {
            Some(other) if other != import.version() => {
                return Err(format!("it states versions {other} and {} of operator set `{domain}`", import.version()));
            }
            _ => {}
        }
    }
    match opsets.get("") {
        Some(version) if !(OLDEST_OPSET..=NEWEST_OPSET).contains(version) => Err(format!(
            "its opset is {version}, and {OLDEST_OPSET} to {NEWEST_OPSET} are understood (hint: convert it with `onnx.version_converter`)"
        )),
        _ => Ok(opsets),
    }
}

/// Domain and name of the functions that the model brings along.
fn functions(model: &ModelProto) -> Result<BTreeSet<(String, String)>, String> {
    let read = |bytes: &Bytes| FunctionProto::decode(bytes.clone()).map(|f| (domain_of(f.domain), f.name));
    model.functions.iter().map(read).collect::<Result<_, _>>().map_err(|e| format!("one of its functions is broken ({e})"))
}

fn domain_of(domain: String) -> String {
    if domain == "ai.onnx" { String::new() } else { domain }
}

struct Reader<'a> {
    graph: Graph,
    path: PathBuf,
    ids: HashMap<String, ValueId>,
    functions: BTreeSet<(String, String)>,
    files: ExternalFiles<'a>,
}

impl Reader<'_> {
    fn read(&mut self, file: &GraphProto) -> Result<(), GraphError> {
        for bytes in &file.input {
            self.input(bytes)?;
        }
        for bytes in &file.initializer {
            self.initializer(bytes)?;
        }
        for bytes in &file.sparse_initializer {
            self.sparse_initializer(bytes)?;
        }
        for bytes in &file.node {
            self.node(bytes)?;
        }
        for bytes in &file.output {
            let id = self.declare(bytes)?;
            self.graph.outputs.push(id);
        }
        for bytes in &file.value_info {
            let info: ValueInfoProto = self.decode(bytes, "value")?;
            if self.ids.contains_key(&info.name) {
                self.declare(bytes)?;
            }
        }
        Ok(())
    }

    fn refused(&self, reason: String) -> GraphError {
        GraphError::NotOnnx { path: self.path.clone(), reason }
    }

    fn decode<M: Message + Default>(&self, bytes: &Bytes, what: &str) -> Result<M, GraphError> {
        M::decode(bytes.clone()).map_err(|e| self.refused(format!("the encoding of a {what} is broken ({e})")))
    }

    /// The value of that name, which may be given later.
    fn value(&mut self, name: &str) -> ValueId {
        let values = &mut self.graph.values;
        *self.ids.entry(name.into()).or_insert_with(|| {
            let id = ValueId(values.len() as u32);
            values.push(Value { name: name.into(), dtype: None, shape: None, tensor: None, partial: None, producer: None, declared: None });
            id
        })
    }

    fn values(&mut self, names: &[String]) -> Vec<Option<ValueId>> {
        names.iter().map(|name| (!name.is_empty()).then(|| self.value(name))).collect()
    }

    /// What the file says of a value; the first statement counts.
    fn declare(&mut self, bytes: &Bytes) -> Result<ValueId, GraphError> {
        let info: ValueInfoProto = self.decode(bytes, "value")?;
        if info.name.is_empty() {
            return Err(self.refused("one of its inputs or outputs has no name".into()));
        }
        let id = self.value(&info.name);
        let value = &mut self.graph.values[id.0 as usize];
        if value.declared.is_none() {
            value.declared = Some(bytes.clone());
            if value.tensor.is_none() {
                (value.dtype, value.shape) = declared_type(&info);
            }
        }
        Ok(id)
    }

    fn input(&mut self, bytes: &Bytes) -> Result<(), GraphError> {
        let id = self.declare(bytes)?;
        if self.graph.inputs.len() > id.0 as usize {
            return Err(self.refused(format!("input `{}` stands there twice", self.graph.value(id).name)));
        }
        self.graph.inputs.push(id);
        Ok(())
    }

    fn set_tensor(&mut self, name: &str, tensor: Tensor) -> Result<(), GraphError> {
        let refused = |reason: &str| GraphError::Tensor { tensor: name.into(), reason: reason.into() };
        if name.is_empty() {
            return Err(refused("it has no name"));
        }
        let id = self.value(name);
        let value = &mut self.graph.values[id.0 as usize];
        if value.tensor.is_some() {
            return Err(refused("it is given twice"));
        }
        value.dtype = Some(tensor.dtype());
        value.shape = Some(tensor.dims().iter().map(|d| (*d).into()).collect());
        value.tensor = Some(tensor);
        Ok(())
    }

    fn initializer(&mut self, bytes: &Bytes) -> Result<(), GraphError> {
        let proto: TensorProto = self.decode(bytes, "initializer")?;
        let tensor = match proto.data_location() {
            DataLocation::External => self.files.tensor(&proto.name, &proto)?,
            DataLocation::Default => {
                tensor_from_proto(&proto).map_err(|reason| GraphError::Tensor { tensor: proto.name.clone(), reason })?
            }
        };
        self.set_tensor(&proto.name, tensor)
    }

    /// A sparse initializer becomes an opaque `Constant`, which it equals, and is written as what it was.
    fn sparse_initializer(&mut self, bytes: &Bytes) -> Result<(), GraphError> {
        let sparse: SparseTensorProto = self.decode(bytes, "sparse initializer")?;
        let values = sparse.values.clone().unwrap_or_default();
        if values.name.is_empty() {
            return Err(self.refused("one of its sparse initializers has no name".into()));
        }
        let refused = |reason: String| GraphError::Tensor { tensor: values.name.clone(), reason };
        if [&sparse.values, &sparse.indices].into_iter().flatten().any(|part| part.data_location() == DataLocation::External) {
            return Err(refused(
                "it is sparse and lies in another file, which nothing writes (hint: save the model with it inside)".into(),
            ));
        }
        let shape = dims(&sparse.dims).map_err(refused)?.into_iter().map(Dim::from).collect();
        let id = self.value(&values.name);
        let value = &mut self.graph.values[id.0 as usize];
        (value.dtype, value.shape) = (DataType::from_onnx_code(values.data_type()), Some(shape));
        let attribute = AttributeProto {
            name: "sparse_value".into(),
            r#type: Some(AttributeType::SparseTensor as i32),
            sparse_tensor: Some(sparse),
            ..AttributeProto::default()
        };
        let (op_type, output) = ("Constant".to_string(), vec![values.name.clone()]);
        let node = NodeProto { op_type: op_type.clone(), output, attribute: vec![attribute], ..NodeProto::default() };
        let raw = Bytes::from(node.encode_to_vec());
        let op = Op::Opaque(Opaque { domain: String::new(), op_type, raw, reason: "sparse initializer".into() });
        self.graph.kept.sparse_initializers.insert(NodeId(self.graph.nodes.len() as u32), bytes.clone());
        let node = Node { name: values.name, op, inputs: vec![], outputs: vec![Some(id)], captures: vec![], source: None, edited: false };
        self.graph.nodes.push(Some(node));
        Ok(())
    }

    fn node(&mut self, bytes: &Bytes) -> Result<(), GraphError> {
        let mut proto: NodeProto = self.decode(bytes, "node")?;
        let mut raw = bytes.clone();
        let name = match proto.output.iter().find(|output| !output.is_empty()) {
            _ if !proto.name.is_empty() => proto.name.clone(),
            Some(output) => output.clone(),
            None => proto.op_type.clone(),
        };
        let refused = |reason: String| GraphError::Node { node: name.clone(), op_type: proto.op_type.clone(), reason };
        let captured = captured_names(&proto).map_err(refused)?;
        let own = matches!(proto.domain.as_str(), "" | "ai.onnx");
        if own && !self.graph.opsets.contains_key("") {
            return Err(refused("the model does not state its version of ONNX's own operator set".into()));
        }
        let function = self.functions.contains(&(domain_of(proto.domain.clone()), proto.op_type.clone()));
        if bring_in_external(&mut proto, &mut self.files)? {
            raw = proto.encode_to_vec().into();
        }
        if own && !function {
            let refused = |reason: String| GraphError::Node { node: name.clone(), op_type: proto.op_type.clone(), reason };
            if let Some(tensor) = constant::tensor(&proto).map_err(refused)? {
                return self.set_tensor(&proto.output[0], tensor);
            }
        }
        let op = if function {
            let (domain, op_type) = (proto.domain.clone(), proto.op_type.clone());
            Op::Opaque(Opaque { domain, op_type, raw: raw.clone(), reason: "function of the model".into() })
        } else {
            Op::read(&proto, self.graph.opset(), raw.clone())
        };
        let (inputs, outputs) = (self.values(&proto.input), self.values(&proto.output));
        let captures = captured.iter().map(|name| self.value(name)).collect();
        self.graph.nodes.push(Some(Node { name, op, inputs, outputs, captures, source: Some(raw), edited: false }));
        Ok(())
    }
}
