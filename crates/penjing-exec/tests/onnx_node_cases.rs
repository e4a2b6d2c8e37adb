//! ONNX's own conformance cases: every one whose nodes are all typed must give what the case says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use penjing_exec::cpu_executor;
use penjing_graph::onnx::proto::{GraphProto, ModelProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use penjing_graph::ops::Op;
use penjing_graph::{DataType, Graph, Tensor, onnx};
use prost::Message;

/// Cases that cannot pass: their nodes ask for training mode, and their random numbers are the reference's own.
const RANDOM: [&str; 4] =
    ["test_training_dropout", "test_training_dropout_default", "test_training_dropout_default_mask", "test_training_dropout_mask"];

enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

fn cases_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("PENJING_ONNX_NODE_TESTS") {
        return folder.into();
    }
    let assets = std::env::var_os("PENJING_ASSETS").map(PathBuf::from);
    assets.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/assets")).join("onnx-node-tests")
}

#[test]
fn typed_operators_conform() {
    let folder = cases_folder();
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| {
        panic!("{}: {e} (hint: run `scripts/assets onnx-node-tests`, or set PENJING_ONNX_NODE_TESTS)", folder.display())
    });
    let mut cases: Vec<PathBuf> =
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.join("model.onnx").is_file()).collect();
    cases.sort();
    let mut passed = vec![];
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    let mut failed = vec![];
    for case in &cases {
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A panic is a failure of its case, not of all.
        let outcome = std::panic::catch_unwind(|| run(case, &name)).unwrap_or_else(|_| Outcome::Failed("panics".into()));
        match outcome {
            Outcome::Passed => passed.push(name),
            Outcome::Skipped(reason) => *skipped.entry(reason).or_default() += 1,
            Outcome::Failed(reason) => failed.push(format!("{name}: {reason}")),
        }
    }
    let count: usize = skipped.values().sum();
    let mut table = format!("{:>5} cases\n{:>5} passed\n{count:>5} skipped, by reason:\n", cases.len(), passed.len());
    for (reason, count) in &skipped {
        table += &format!("{count:>11} {reason}\n");
    }
    show(&table);
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
    assert!(passed.len() > 300, "only {} cases were run (hint: are these all of ONNX's node cases?)", passed.len());
}

#[allow(clippy::print_stdout, reason = "the table of what was skipped is this test's second result")]
fn show(table: &str) {
    println!("{table}");
}

fn run(case: &Path, name: &str) -> Outcome {
    let graph = match onnx::read(case.join("model.onnx")) {
        Ok(graph) => graph,
        Err(e) if e.to_string().contains("opset") || e.to_string().contains("IR version") => {
            return Outcome::Skipped("an opset or IR version that is not read".into());
        }
        Err(e) => return Outcome::Failed(format!("cannot be read: {e}")),
    };
    if let Some(reason) = not_run(&graph, name) {
        return Outcome::Skipped(reason);
    }
    let data = case.join("test_data_set_0");
    let mut inputs = vec![];
    for (i, id) in graph.inputs().enumerate() {
        let value = graph.value(id);
        let tensor = read_tensor(&data.join(format!("input_{i}.pb")), value.dtype);
        let declared = value.shape.iter().flatten().zip(tensor.dims());
        if declared.into_iter().any(|(dim, n)| !dim.compatible(&(*n).into())) {
            return Outcome::Skipped("an input is not of the shape that its model declares".into());
        }
        inputs.push(tensor);
    }
    let mut executor = match cpu_executor(&graph) {
        Ok(executor) => executor,
        Err(e) => return Outcome::Failed(e.to_string()),
    };
    let outputs = match executor.run(&inputs, graph.outputs()) {
        Ok(outputs) => outputs,
        Err(e) => return Outcome::Failed(e.to_string()),
    };
    for (i, found) in outputs.iter().enumerate() {
        if let Err(reason) = compare(found, &read_tensor(&data.join(format!("output_{i}.pb")), Some(found.dtype()))) {
            return Outcome::Failed(format!("output {i}: {reason}"));
        }
    }
    Outcome::Passed
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
        .or_else(|| RANDOM.contains(&name).then(|| "its random numbers are the reference's own".into()))
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
