//! One of ONNX's conformance cases: a model, its inputs, and what must come out.

use std::path::{Path, PathBuf};

use penjing_graph::onnx::proto::{GraphProto, ModelProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use penjing_graph::ops::Op;
use penjing_graph::{DataType, Graph, Tensor, onnx};
use prost::Message;

/// Cases that cannot pass: their nodes ask for training mode, and their random numbers are the reference's own.
const RANDOM: [&str; 4] =
    ["test_training_dropout", "test_training_dropout_default", "test_training_dropout_default_mask", "test_training_dropout_mask"];

/// Why a case did not pass.
pub(crate) enum NotPassed {
    Skipped(String),
    Failed(String),
}

/// A case that can be run.
pub(crate) struct Case {
    pub(crate) graph: Graph,
    pub(crate) inputs: Vec<Tensor>,
    expected: Vec<Tensor>,
}

impl Case {
    /// The case in `folder`, or why it is not run.
    pub(crate) fn read(folder: &Path) -> Result<Case, NotPassed> {
        let graph = match onnx::read(folder.join("model.onnx")) {
            Ok(graph) => graph,
            Err(e) if e.to_string().contains("opset") || e.to_string().contains("IR version") => {
                return Err(NotPassed::Skipped("an opset or IR version that is not read".into()));
            }
            Err(e) => return Err(NotPassed::Failed(format!("cannot be read: {e}"))),
        };
        if let Some(reason) = not_run(&graph, &name(folder)) {
            return Err(NotPassed::Skipped(reason));
        }
        let data = folder.join("test_data_set_0");
        let mut inputs = vec![];
        for (i, id) in graph.inputs().enumerate() {
            let value = graph.value(id);
            let tensor = read_tensor(&data.join(format!("input_{i}.pb")), value.dtype);
            let declared = value.shape.iter().flatten().zip(tensor.dims());
            if declared.into_iter().any(|(dim, n)| !dim.compatible(&(*n).into())) {
                return Err(NotPassed::Skipped("an input is not of the shape that its model declares".into()));
            }
            inputs.push(tensor);
        }
        let output = |(i, id)| read_tensor(&data.join(format!("output_{i}.pb")), graph.value(id).dtype);
        let expected = graph.outputs().iter().copied().enumerate().map(output).collect();
        Ok(Case { graph, inputs, expected })
    }

    /// Whether outputs are what the case says, and if not, what they are.
    pub(crate) fn check(&self, outputs: &[Tensor]) -> Result<(), String> {
        for (i, (found, expected)) in outputs.iter().zip(&self.expected).enumerate() {
            compare(found, expected).map_err(|reason| format!("output {i}: {reason}"))?;
        }
        Ok(())
    }
}

/// The folders of the cases in `$PENJING_ASSETS/NAME`, sorted. `hint` says how to get them.
pub(crate) fn folders(name: &str, hint: &str) -> Vec<PathBuf> {
    let assets = std::env::var_os("PENJING_ASSETS").map(PathBuf::from);
    let folder = assets.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/assets")).join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e} (hint: {hint})", folder.display()));
    let mut cases: Vec<PathBuf> =
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.join("model.onnx").is_file()).collect();
    cases.sort();
    cases
}

/// A case is called as its folder.
pub(crate) fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Why a case is not run, if it is not.
fn not_run(graph: &Graph, name: &str) -> Option<String> {
    let opaque = graph.nodes().find_map(|(_, node)| match &node.op {
        Op::Opaque(op) => Some(format!("operator {} ({})", op.op_type, op.reason)),
        _ => None,
    });
    let value_types = graph.nodes().flat_map(|(_, node)| node.reads().chain(node.outputs.iter().flatten().copied()).collect::<Vec<_>>());
    let unusable = |dtype: &DataType| matches!(dtype, DataType::String | DataType::Complex64 | DataType::Complex128);
    let dtype = value_types.filter_map(|id| graph.value(id).dtype).find(unusable);
    let no_tensor = graph.inputs().any(|id| graph.value(id).dtype.is_none()).then(|| "an input that is no tensor".into());
    opaque
        .or(no_tensor)
        .or_else(|| dtype.map(|dtype| format!("values of type {}", dtype.name())))
        .or_else(|| of_booleans(graph).then(|| "the largest or smallest of booleans".into()))
        .or_else(|| RANDOM.contains(&name).then(|| "its random numbers are the reference's own".into()))
}

/// Whether a node reduces booleans, which the executor refuses.
fn of_booleans(graph: &Graph) -> bool {
    graph.nodes().any(|(_, node)| {
        let first = node.input(0).and_then(|id| graph.value(id).dtype);
        matches!(node.op, Op::Reduce(_)) && first == Some(DataType::Bool)
    })
}

/// A tensor on its own, read as the only initializer of a model. These files keep bfloat16 as the uint16 of the same bits.
fn read_tensor(path: &Path, declared: Option<DataType>) -> Tensor {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut tensor = TensorProto::decode(bytes.as_slice()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    tensor.name = "t".into();
    let output = ValueInfoProto { name: "t".into(), ..ValueInfoProto::default() };
    let initializer = vec![tensor.encode_to_vec().into()];
    let graph = GraphProto { initializer, output: vec![output.encode_to_vec().into()], ..GraphProto::default() };
    let opset = OperatorSetIdProto { version: Some(17), ..OperatorSetIdProto::default() };
    let model = ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() };
    let graph = onnx::read_bytes(model.encode_to_vec(), None).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let tensor =
        graph.outputs().first().and_then(|id| graph.tensor(*id)).cloned().unwrap_or_else(|| panic!("{}: no tensor", path.display()));
    match (declared, tensor.dtype(), tensor.raw()) {
        (Some(DataType::Bfloat16), DataType::Uint16, Some(bits)) => {
            Tensor::from_raw(DataType::Bfloat16, tensor.dims().to_vec(), bits.clone()).expect("as many octets")
        }
        _ => tensor,
    }
}

fn compare(found: &Tensor, expected: &Tensor) -> Result<(), String> {
    if (found.dtype(), found.dims()) != (expected.dtype(), expected.dims()) {
        return Err(format!("is {} {:?}, not {} {:?}", found.dtype().name(), found.dims(), expected.dtype().name(), expected.dims()));
    }
    if !expected.dtype().is_float() {
        return if found.raw() == expected.raw() { Ok(()) } else { Err(format!("is {:?}, not {:?}", found.to_i64(), expected.to_i64())) };
    }
    // The reference cuts bfloat16 off where IEEE rounds, so that the last of its 8 bits may differ.
    let relative = if expected.dtype() == DataType::Bfloat16 { 1.0 / 128.0 } else { 1e-3 };
    let (found, expected) = (found.to_f32().unwrap_or_default(), expected.to_f32().unwrap_or_default());
    let close = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-5 + relative * b.abs();
    match found.iter().zip(expected.iter()).position(|(a, b)| !close(*a, *b)) {
        None => Ok(()),
        Some(i) => Err(format!("element {i} is {}, not {}", found[i], expected[i])),
    }
}
