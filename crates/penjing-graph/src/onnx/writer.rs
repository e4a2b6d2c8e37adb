//! From a [`Graph`] to the bytes of a file, or of two where the weights are too many for one.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use tempfile::NamedTempFile;

use super::elements::{header, new_entry};
use super::proto::{DataLocation, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};
use super::rope::Rope;
use super::sparse_storage;
use super::types::value_info;
use crate::ops::Op;
use crate::passes::raise_opset;
use crate::whole_file::{sync_folder, temporary};
use crate::{DataType, Graph, GraphError, Node, Tensor, Value, ValueId};

/// A protobuf message, so a model in one file, holds at most so many bytes.
const MAX_MODEL: usize = i32::MAX as usize;
/// Tensors of external data begin at a multiple of this many bytes, so that they can be mapped.
const ALIGNMENT: u64 = 4096;
/// Smaller tensors stay in the model: shapes and axes must be known before other files are.
const MIN_EXTERNAL: usize = 1024;

/// How a model is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// A file that is there already is replaced instead of refused.
    pub overwrite: bool,
    /// Float tensors with many zeros are written as the elements that are not zero and their positions, where that is
    /// smaller. A model of an opset that does not have the operators for it is raised to the first one that has.
    pub sparse: bool,
    /// Weights go to a second file (`NAME.data`) even where the model is small enough for one.
    pub external: bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The files: the model's, and the one beside it where there is one.
    pub files: Vec<PathBuf>,
    /// Bytes of the model's file.
    pub model_bytes: u64,
    /// Bytes of the file beside it; 0 where there is none.
    pub external_bytes: u64,
    /// Every initializer, in order of the graph's ids.
    pub tensors: Vec<StoredTensor>,
    /// Why no tensor was stored sparsely although that was asked for.
    pub sparse_refused: Option<String>,
}

impl Written {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.model_bytes + self.external_bytes
    }
}

/// How one initializer was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its name.
    pub name: String,
    /// Bytes of its elements when each is stored.
    pub dense_bytes: u64,
    /// Bytes that it takes in the file, with all that belongs to it.
    pub stored_bytes: u64,
    /// Whether only the elements that are not zero are stored.
    pub sparse: bool,
}

/// The model as bytes, with everything inside. The same graph gives the same bytes.
///
/// # Errors
/// When it is too large for one file.
pub fn to_bytes(graph: &Graph, options: WriteOptions) -> Result<Bytes, GraphError> {
    let model = encoded(graph, options, None).model;
    if model.len() > MAX_MODEL {
        let reason = format!("the model takes {} bytes, of which one message holds {MAX_MODEL} (hint: write it to a file)", model.len());
        return Err(GraphError::Io {
            action: "encode",
            path: graph.name().into(),
            source: io::Error::new(io::ErrorKind::FileTooLarge, reason),
        });
    }
    Ok(model.joined())
}

/// Writes a model: under a temporary name in the same folder, made durable, then renamed. A model of more than 2 GB keeps
/// its weights in `NAME.data` beside it. Two files cannot be replaced at once: where both are there, the old model goes
/// first, so that an interruption never leaves one model with the weights of another.
///
/// # Errors
/// When a file cannot be written, or is there already and must not be replaced. Nothing is left behind then.
pub fn write(graph: &Graph, path: impl AsRef<Path>, options: WriteOptions) -> Result<Written, GraphError> {
    let path = path.as_ref();
    let failed = |source| GraphError::Io { action: "write", path: path.into(), source };
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidFilename, "not the name of a file")))?;
    let data_name = format!("{name}.data");
    let data_path = path.with_file_name(&data_name);

    let mut encoded = self::encoded(graph, options, options.external.then_some(data_name.as_str()));
    if encoded.model.len() > MAX_MODEL {
        encoded = self::encoded(graph, options, Some(&data_name));
    }
    refuse_existing(path, options.overwrite)?;
    let data = match encoded.external.is_empty() {
        true => None,
        false => {
            refuse_existing(&data_path, options.overwrite)?;
            Some(temporary(&data_path, |out| write_external(&encoded.external, out)).map_err(failed)?)
        }
    };
    let model = temporary(path, |out| encoded.model.write_to(out)).map_err(failed)?;
    let files = std::iter::once(path.into()).chain(data.as_ref().map(|_| data_path.clone())).collect();
    let external_bytes = encoded.external.last().map_or(0, |(offset, bytes)| offset + bytes.len() as u64);
    if let Some(data) = data {
        if data_path.exists() && path.exists() {
            fs::remove_file(path).map_err(failed)?;
        }
        rename(data, &data_path, options.overwrite)?;
        rename(model, path, options.overwrite).inspect_err(|_| drop(fs::remove_file(&data_path)))?;
    } else {
        rename(model, path, options.overwrite)?;
    }
    sync_folder(path).map_err(failed)?;
    Ok(Written {
        files,
        model_bytes: encoded.model.len() as u64,
        external_bytes,
        tensors: encoded.tensors,
        sparse_refused: encoded.sparse_refused,
    })
}

/// Refuses what must not be replaced, and what no file can replace.
fn refuse_existing(path: &Path, overwrite: bool) -> Result<(), GraphError> {
    let failed = |source| GraphError::Io { action: "write", path: path.into(), source };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed(e)),
        Ok(there) if there.is_dir() => Err(failed(io::Error::new(io::ErrorKind::IsADirectory, "a folder has that name"))),
        Ok(_) if overwrite => Ok(()),
        Ok(_) => Err(GraphError::Exists { path: path.into() }),
    }
}

fn rename(file: NamedTempFile, path: &Path, overwrite: bool) -> Result<(), GraphError> {
    let renamed = if overwrite { file.persist(path) } else { file.persist_noclobber(path) };
    match renamed {
        Ok(_) => Ok(()),
        Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists && !overwrite => Err(GraphError::Exists { path: path.into() }),
        Err(e) => Err(GraphError::Io { action: "write", path: path.into(), source: e.error }),
    }
}

fn write_external(tensors: &[(u64, Bytes)], out: &mut impl Write) -> io::Result<()> {
    let mut at = 0;
    for (offset, bytes) in tensors {
        io::copy(&mut io::Read::take(io::repeat(0), offset - at), out)?;
        out.write_all(bytes)?;
        at = offset + bytes.len() as u64;
    }
    Ok(())
}

struct Encoded {
    model: Rope,
    /// Offset and bytes of what goes to the second file, ascending.
    external: Vec<(u64, Bytes)>,
    tensors: Vec<StoredTensor>,
    sparse_refused: Option<String>,
}

/// Encodes a graph, raised to the opset of sparse storage where that is asked for and stores something.
fn encoded(graph: &Graph, options: WriteOptions, data_name: Option<&str>) -> Encoded {
    let as_it_is = |options| Encoder::new(graph, options, data_name).finish();
    if !options.sparse || graph.opset() >= sparse_storage::OLDEST {
        return as_it_is(options);
    }
    let dense = WriteOptions { sparse: false, ..options };
    let mut raised = graph.clone();
    match raise_opset(&mut raised, sparse_storage::OLDEST) {
        Ok(()) => {
            let encoded = Encoder::new(&raised, options, data_name).finish();
            if encoded.tensors.iter().any(|tensor| tensor.sparse) { encoded } else { as_it_is(dense) }
        }
        Err(e) => Encoded { sparse_refused: Some(format!("nothing is stored sparsely: {e}")), ..as_it_is(dense) },
    }
}

struct Encoder<'a> {
    graph: &'a Graph,
    options: WriteOptions,
    data_name: Option<&'a str>,
    nodes: Vec<Bytes>,
    initializers: Vec<Rope>,
    external: Vec<(u64, Bytes)>,
    tensors: Vec<StoredTensor>,
}

impl<'a> Encoder<'a> {
    fn new(graph: &'a Graph, options: WriteOptions, data_name: Option<&'a str>) -> Encoder<'a> {
        Encoder { graph, options, data_name, nodes: vec![], initializers: vec![], external: vec![], tensors: vec![] }
    }

    fn finish(mut self) -> Encoded {
        let graph = self.graph;
        let used = used_values(graph);
        let names: BTreeSet<&str> = used.iter().map(|id| graph.value(*id).name.as_str()).collect();
        self.weights(&used, &names);
        let mut sparse_initializers = vec![];
        for (id, node) in graph.nodes() {
            match graph.kept.sparse_initializers.get(&id) {
                Some(bytes) => sparse_initializers.push(bytes.clone()),
                None => self.nodes.push(encoded_node(graph, node)),
            }
        }
        let outer = outer_values(graph);
        let inner = used.iter().filter(|id| !outer.contains(id) && graph.value(**id).declared.is_some());
        let info = |id: &ValueId| value_info(graph.value(*id));
        let kept = graph.kept.model.graph.clone().unwrap_or_default();

        let mut encoded = Rope::default();
        self.nodes.into_iter().for_each(|node| encoded.bytes(1, node));
        encoded.fields(&GraphProto { name: graph.name.clone(), ..GraphProto::default() });
        self.initializers.into_iter().for_each(|tensor| encoded.message(5, tensor));
        encoded.fields(&GraphProto {
            doc_string: kept.doc_string,
            input: graph.inputs.iter().map(info).collect(),
            output: graph.outputs.iter().map(info).collect(),
            value_info: inner.map(info).collect(),
            quantization_annotation: kept.quantization_annotation.into_iter().filter(|a| names.contains(a.tensor_name.as_str())).collect(),
            sparse_initializer: sparse_initializers,
            metadata_props: kept.metadata_props,
            ..GraphProto::default()
        });
        Encoded { model: model(graph, &used, encoded), external: self.external, tensors: self.tensors, sparse_refused: None }
    }

    fn weights(&mut self, used: &BTreeSet<ValueId>, names: &BTreeSet<&str>) {
        let (graph, sparse) = (self.graph, self.options.sparse);
        // An input's default can be replaced by the caller, and what is given out must be an initializer to be both.
        let outer = outer_values(graph);
        for id in used {
            let Value { name, tensor: Some(tensor), .. } = graph.value(*id) else { continue };
            let dense = initializer(name, tensor).len();
            let packed = (sparse && !outer.contains(id)).then(|| sparse_storage::pack(name, tensor, graph.opset(), names)).flatten();
            let packed = packed.map(|packed| (packed_len(&packed), packed)).filter(|(len, _)| *len < dense);
            self.tensors.push(StoredTensor {
                name: name.clone(),
                dense_bytes: tensor.byte_len() as u64,
                stored_bytes: packed.as_ref().map_or(dense, |(len, _)| *len) as u64,
                sparse: packed.is_some(),
            });
            match packed {
                None => self.place(name, tensor),
                Some((_, packed)) => {
                    packed.tensors.iter().for_each(|(name, tensor)| self.place(name, tensor));
                    self.nodes.extend(packed.nodes);
                }
            }
        }
    }

    /// Puts a tensor into the model, or its elements into the second file.
    fn place(&mut self, name: &str, tensor: &Tensor) {
        match (self.data_name, tensor.raw()) {
            (Some(data_name), Some(raw)) if raw.len() >= MIN_EXTERNAL => {
                let end = self.external.last().map_or(0, |(offset, bytes)| offset + bytes.len() as u64);
                let offset = end.next_multiple_of(ALIGNMENT);
                self.external.push((offset, raw.clone()));
                let mut rope = Rope::default();
                rope.fields(&TensorProto {
                    name: name.into(),
                    external_data: vec![
                        new_entry("location", data_name),
                        new_entry("offset", offset.to_string()),
                        new_entry("length", raw.len().to_string()),
                    ],
                    data_location: Some(DataLocation::External as i32),
                    ..header(tensor)
                });
                self.initializers.push(rope);
            }
            _ => self.initializers.push(initializer(name, tensor)),
        }
    }
}

/// An initializer with its elements inside.
fn initializer(name: &str, tensor: &Tensor) -> Rope {
    let mut rope = Rope::default();
    rope.fields(&TensorProto { name: name.into(), string_data: tensor.strings().unwrap_or_default().to_vec(), ..header(tensor) });
    if let Some(raw) = tensor.raw() {
        rope.bytes(9, raw.clone());
    }
    rope
}

fn packed_len(packed: &sparse_storage::Packed) -> usize {
    let tensors: usize = packed.tensors.iter().map(|(name, tensor)| initializer(name, tensor).len()).sum();
    tensors + packed.nodes.iter().map(Bytes::len).sum::<usize>()
}

/// What a caller gives and gets.
fn outer_values(graph: &Graph) -> BTreeSet<ValueId> {
    graph.inputs.iter().chain(&graph.outputs).copied().collect()
}

/// What the file must name: inputs, outputs, and all that a node reads or gives.
fn used_values(graph: &Graph) -> BTreeSet<ValueId> {
    let nodes = graph.nodes().flat_map(|(_, node)| node.reads().chain(node.outputs.iter().flatten().copied()));
    nodes.chain(outer_values(graph)).collect()
}

/// A node as the file had it while nothing touched it, encoded anew otherwise.
fn encoded_node(graph: &Graph, node: &Node) -> Bytes {
    if let Some(source) = node.source.as_ref().filter(|_| !node.edited) {
        return source.clone();
    }
    let name = |id: &Option<ValueId>| id.map_or(String::new(), |id| graph.value(id).name.clone());
    let given = |ids: &[Option<ValueId>]| ids.len() - ids.iter().rev().take_while(|id| id.is_none()).count();
    let decoded = |bytes: &Bytes| NodeProto::decode(bytes.clone()).unwrap_or_default();
    let kept = match &node.op {
        Op::Opaque(opaque) => NodeProto { op_type: opaque.op_type.clone(), domain: opaque.domain.clone(), ..decoded(&opaque.raw) },
        op => {
            let NodeProto { doc_string, metadata_props, .. } = node.source.as_ref().map(decoded).unwrap_or_default();
            NodeProto { op_type: op.op_type().into(), attribute: op.attributes(), doc_string, metadata_props, ..NodeProto::default() }
        }
    };
    let proto = NodeProto {
        name: node.name.clone(),
        input: node.inputs[..given(&node.inputs)].iter().map(name).collect(),
        output: node.outputs[..given(&node.outputs)].iter().map(name).collect(),
        ..kept
    };
    proto.encode_to_vec().into()
}

/// The model around an encoded graph.
fn model(graph: &Graph, used: &BTreeSet<ValueId>, encoded: Rope) -> Rope {
    let kept = &graph.kept.model;
    let ours = || ModelProto { producer_name: "penjing".into(), producer_version: env!("CARGO_PKG_VERSION").into(), ..kept.clone() };
    let model = if kept.ir_version.is_none() { ours() } else { kept.clone() };
    let entry = |(domain, version): (&String, &i64)| OperatorSetIdProto { domain: Some(domain.clone()), version: Some(*version) };
    let mut rope = Rope::default();
    rope.fields(&ModelProto {
        ir_version: Some(ir_version(graph, used)),
        producer_name: model.producer_name,
        producer_version: model.producer_version,
        domain: model.domain,
        model_version: model.model_version,
        doc_string: model.doc_string,
        ..ModelProto::default()
    });
    rope.message(7, encoded);
    rope.fields(&ModelProto {
        opset_import: graph.opsets.iter().map(entry).collect(),
        metadata_props: graph.metadata.iter().map(|(key, value)| new_entry(key, value)).collect(),
        training_info: model.training_info,
        functions: model.functions,
        configuration: model.configuration,
        ..ModelProto::default()
    });
    rope
}

/// The file's own IR version, or a later one where an opset or an element type asks for it. At least 4, from which on
/// initializers need not be inputs.
fn ir_version(graph: &Graph, used: &BTreeSet<ValueId>) -> i64 {
    let kept = &graph.kept.model;
    let untouched = kept.opset_import.iter().any(|import| matches!(import.domain(), "" | "ai.onnx") && import.version() == graph.opset());
    let of_opset = if untouched { 0 } else { ir_version_of_opset(graph.opset()) };
    let of_types = used.iter().filter_map(|id| graph.value(*id).dtype).map(ir_version_of_type).max().unwrap_or(0);
    kept.ir_version().max(of_opset).max(of_types).max(4)
}

/// The IR version that was current when the opset came out.
fn ir_version_of_opset(opset: i64) -> i64 {
    match opset {
        ..=9 => 4,
        10 => 5,
        11 => 6,
        12..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        24 => 12,
        25.. => 13,
    }
}

/// The IR version that brought the element type.
fn ir_version_of_type(dtype: DataType) -> i64 {
    match dtype {
        DataType::Float8E4M3Fn | DataType::Float8E4M3Fnuz | DataType::Float8E5M2 | DataType::Float8E5M2Fnuz => 9,
        DataType::Uint4 | DataType::Int4 => 10,
        DataType::Float4E2M1 => 11,
        DataType::Float8E8M0 => 12,
        DataType::Uint2 | DataType::Int2 => 13,
        DataType::Float
        | DataType::Uint8
        | DataType::Int8
        | DataType::Uint16
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::String
        | DataType::Bool
        | DataType::Float16
        | DataType::Double
        | DataType::Uint32
        | DataType::Uint64
        | DataType::Complex64
        | DataType::Complex128
        | DataType::Bfloat16 => 4,
    }
}
