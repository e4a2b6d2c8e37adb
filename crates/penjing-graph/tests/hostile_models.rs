//! Models that are broken or mean harm: refused with a reason, never a panic.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use penjing_graph::channels::Channels;
use penjing_graph::onnx::proto::{
    AttributeProto, AttributeType, DataLocation, Dimension, DimensionValue, FunctionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, SparseTensorProto, StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use penjing_graph::onnx::{self, WriteOptions};
use penjing_graph::ops::Binary;
use penjing_graph::{DataType, Dim, GraphBuilder, GraphError, NEWEST_OPSET, OLDEST_OPSET, Tensor};
use proptest::prelude::*;
use prost::Message;

fn text(text: &str) -> String {
    text.into()
}

fn info(name: &str) -> Bytes {
    ValueInfoProto { name: name.into(), ..ValueInfoProto::default() }.encode_to_vec().into()
}

fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|name| text(name)).collect();
    NodeProto { op_type: op_type.into(), input: names(inputs), output: names(outputs), ..NodeProto::default() }
}

fn encoded(nodes: &[NodeProto]) -> Vec<Bytes> {
    nodes.iter().map(|node| node.encode_to_vec().into()).collect()
}

fn floats(name: &str, dims: &[i64], elements: usize) -> TensorProto {
    let raw_data = Some(Bytes::from(vec![0; 4 * elements]));
    TensorProto { name: name.into(), data_type: Some(1), dims: dims.into(), raw_data, ..TensorProto::default() }
}

/// x → `Relu` → y, which every case below breaks in one place.
fn good() -> GraphProto {
    GraphProto { node: encoded(&[node("Relu", &["x"], &["y"])]), input: vec![info("x")], output: vec![info("y")], ..GraphProto::default() }
}

fn with_nodes(nodes: &[NodeProto]) -> GraphProto {
    GraphProto { node: encoded(nodes), ..good() }
}

fn with_tensor(tensor: &TensorProto) -> GraphProto {
    GraphProto { initializer: vec![tensor.encode_to_vec().into()], node: encoded(&[node("Add", &["x", "w"], &["y"])]), ..good() }
}

fn model(graph: GraphProto) -> ModelProto {
    let opset_import = vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(17) }];
    ModelProto { ir_version: Some(8), opset_import, graph: Some(graph), ..ModelProto::default() }
}

fn refusal(model: &ModelProto) -> String {
    let read = onnx::read_bytes(model.encode_to_vec(), None);
    let searched = |graph| {
        // What is read can be searched for channels, whatever it says of itself.
        drop(Channels::find(&graph, true));
        "is read".into()
    };
    read.map_or_else(|e| e.to_string(), searched)
}

#[test]
fn the_model_that_the_cases_break_is_good() {
    assert_eq!(refusal(&model(good())), "is read");
    assert_eq!(refusal(&model(with_tensor(&floats("w", &[2], 2)))), "is read");
}

#[test]
fn graphs_that_contradict_themselves_are_refused() {
    let chain = |a: &str, b: &str| with_nodes(&[node("Relu", &[a], &["y"]), node("Relu", &["y"], &[b])]);
    let twice = |bytes: &Bytes| vec![bytes.clone(), bytes.clone()];
    let named = |name: &str| SparseTensorProto { values: Some(floats(name, &[1], 1)), dims: vec![-1], ..SparseTensorProto::default() };
    let tensor = floats("w", &[2], 2).encode_to_vec().into();
    let cases = [
        (chain("z", "z"), "node `y` depends on its own output"),
        (chain("missing", "z"), "node `y` reads `missing`, which nothing gives"),
        (with_nodes(&[node("Relu", &["x"], &["y"]), node("Relu", &["x"], &["y"])]), "value `y` is given twice"),
        (with_nodes(&[node("Relu", &["x"], &["x"])]), "value `x` is given twice"),
        (with_nodes(&[]), "output `y` is not given by any node"),
        (with_nodes(&[node("Relu", &[], &["y"])]), "node `y` (Relu): needs 1 inputs"),
        (GraphProto { input: twice(&info("x")), ..good() }, "input `x` stands there twice"),
        (GraphProto { input: vec![info("")], ..good() }, "has no name"),
        (GraphProto { output: vec![info("")], ..good() }, "has no name"),
        (GraphProto { initializer: twice(&tensor), ..good() }, "tensor `w`: it is given twice"),
        (GraphProto { initializer: vec![floats("", &[2], 2).encode_to_vec().into()], ..good() }, "it has no name"),
        (GraphProto { sparse_initializer: vec![named("").encode_to_vec().into()], ..good() }, "sparse initializers has no name"),
        (GraphProto { sparse_initializer: vec![named("s").encode_to_vec().into()], ..good() }, "tensor `s`: its dimensions are [-1]"),
        (GraphProto { node: vec![Bytes::from_static(&[0xff])], ..good() }, "the encoding of a node is broken"),
    ];
    for (graph, expected) in cases {
        let found = refusal(&model(graph));
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
}

#[test]
fn versions_that_are_not_understood_are_refused_with_the_way_out() {
    let of = |domain: &str, version: i64| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
    let opsets = |opset_import: Vec<OperatorSetIdProto>| ModelProto { opset_import, ..model(good()) };
    for (model, expected) in [
        (ModelProto { ir_version: Some(2), ..model(good()) }, "its IR version is 2, and 3 to 13 are understood (hint: "),
        (ModelProto { ir_version: Some(14), ..model(good()) }, "its IR version is 14"),
        (ModelProto { ir_version: None, ..model(good()) }, "its IR version is 0"),
        (opsets(vec![of("", OLDEST_OPSET - 1)]), "its opset is 6, and 7 to 25 are understood (hint: "),
        (opsets(vec![of("ai.onnx", NEWEST_OPSET + 1)]), "its opset is 26"),
        (opsets(vec![of("", i64::MIN)]), "its opset is -9223372036854775808"),
        (opsets(vec![of("", 17), of("ai.onnx", 18)]), "it states versions 17 and 18 of operator set ``"),
        (opsets(vec![]), "does not state its version of ONNX's own operator set"),
        (ModelProto { graph: None, ..model(good()) }, "it holds no graph"),
    ] {
        let found = refusal(&model);
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
    assert!(refusal(&ModelProto::default()).contains("it holds no graph"), "an empty file");
}

#[test]
fn elements_that_are_not_there_are_not_asked_of_memory() {
    let strings = TensorProto { data_type: Some(8), string_data: vec![], raw_data: None, ..floats("w", &[i64::MAX], 0) };
    for (tensor, expected) in [
        (floats("w", &[3], 2), "tensor `w`: a float32 tensor of shape [3] needs 12 but has 8"),
        (floats("w", &[-2], 2), "tensor `w`: its dimensions are [-2], of which there are no elements"),
        (floats("w", &[-1, -2], 2), "tensor `w`: its dimensions are [-1, -2]"),
        (floats("w", &[i64::MAX], 0), "needs more than this machine can address but has 0"),
        (floats("w", &[i64::MAX, i64::MAX, i64::MAX], 1), "of which there are no elements"),
        (floats("w", &[1 << 40], 1), "needs 4398046511104 but has 4"),
        (strings, "tensor `w`: a string tensor"),
        (TensorProto { data_type: None, ..floats("w", &[2], 2) }, "element type 0"),
        (TensorProto { data_type: Some(-1), ..floats("w", &[2], 2) }, "element type -1"),
    ] {
        let found = refusal(&model(with_tensor(&tensor)));
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
}

#[test]
fn a_name_given_twice_through_sparse_storage_is_refused() {
    let mut b = GraphBuilder::new("sparse");
    let x = b.input("x", DataType::Float, [Dim::Fixed(1000)]);
    let w = b.tensor("w", Tensor::new([1000], (0..1000).map(|i| f32::from(i % 10 == 0)).collect()));
    let y = b.node("y", Binary::Add, &[x, w]);
    let graph = b.output(y).finish().expect("a graph");
    let bytes = onnx::to_bytes(&graph, WriteOptions { sparse: true, ..WriteOptions::default() }).expect("bytes");
    let stored = ModelProto::decode(bytes).expect("a model");
    assert_eq!(refusal(&stored), "is read");
    let graph = stored.graph.as_ref().expect("a graph");
    let reshape = graph.node.iter().find(|node| NodeProto::decode((*node).clone()).is_ok_and(|node| node.op_type == "Reshape"));
    let twice = graph.node.iter().chain(reshape).cloned().collect();
    let as_input = [graph.input.clone(), vec![info("w")]].concat();
    for graph in [GraphProto { node: twice, ..graph.clone() }, GraphProto { input: as_input, ..graph.clone() }] {
        let found = refusal(&ModelProto { graph: Some(graph), ..stored.clone() });
        assert!(found.contains("value `w` is given twice"), "{found}");
    }
}

fn attribute(name: &str, kind: AttributeType, value: AttributeProto) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: Some(kind as i32), ..value }
}

/// A node with an inner graph of that one node.
fn around(inner: &NodeProto) -> NodeProto {
    let graph = GraphProto { node: encoded(std::slice::from_ref(inner)), ..GraphProto::default() };
    let body = attribute("body", AttributeType::Graph, AttributeProto { g: Some(graph), ..AttributeProto::default() });
    NodeProto { attribute: vec![body], ..node("Loop", &["x"], &["y"]) }
}

#[test]
fn nesting_without_end_is_refused() {
    let mut inner = node("Relu", &["x"], &["y"]);
    for _ in 0..2000 {
        inner = around(&inner);
    }
    assert!(refusal(&model(with_nodes(std::slice::from_ref(&inner)))).contains("nested more than 32 deep"));
    // A function's nodes are only carried along, however deep they are.
    let function = FunctionProto { name: text("F"), node: encoded(&[inner]), ..FunctionProto::default() };
    let functions = vec![function.encode_to_vec().into()];
    assert_eq!(refusal(&ModelProto { functions, ..model(good()) }), "is read");
}

#[test]
fn inner_graphs_cannot_read_what_nothing_gives() {
    let reader = |name: &str| model(with_nodes(&[around(&node("Relu", &[name], &["inner"]))]));
    assert_eq!(refusal(&reader("x")), "is read");
    assert!(refusal(&reader("z")).contains("node `y` reads `z`, which nothing gives"));
    assert!(refusal(&reader("y")).contains("node `y` depends on its own output"));
}

/// A float input of these dimensions.
fn sized(name: &str, dims: &[i64]) -> Bytes {
    let dim = dims.iter().map(|n| Dimension { value: Some(DimensionValue::DimValue(*n)), denotation: String::new() }).collect();
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(TensorShapeProto { dim }) };
    let r#type = Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: String::new() });
    ValueInfoProto { name: name.into(), r#type, ..ValueInfoProto::default() }.encode_to_vec().into()
}

#[test]
fn attributes_beyond_reason_make_no_typed_operator_panic() {
    let extreme = [i64::MIN, -1, 0, 1, i64::MAX];
    let int = |i| AttributeProto { i: Some(i), ..AttributeProto::default() };
    let ints = |i| AttributeProto { ints: vec![i; 2], ..AttributeProto::default() };
    let operators = [
        ("Conv", &["group", "kernel_shape", "strides", "pads", "dilations"][..]),
        ("ConvTranspose", &["group", "kernel_shape", "output_padding", "output_shape", "strides", "pads", "dilations"]),
        ("MaxPool", &["kernel_shape", "strides", "pads", "dilations", "ceil_mode"]),
        ("Concat", &["axis"]),
        ("Split", &["axis", "num_outputs"]),
        ("Flatten", &["axis"]),
        ("Transpose", &["perm"]),
        ("Gather", &["axis"]),
        ("Softmax", &["axis"]),
        ("ReduceMean", &["axes", "keepdims"]),
        ("Shape", &["start", "end"]),
        ("DepthToSpace", &["blocksize"]),
        ("LayerNormalization", &["axis"]),
        ("ArgMax", &["axis"]),
        ("Cast", &["to"]),
        ("CumSum", &["exclusive"]),
    ];
    let mut read = 0;
    for (op_type, names) in operators {
        for (name, n) in names.iter().flat_map(|name| extreme.map(|n| (name, n))) {
            for (kind, value) in [(AttributeType::Int, int(n)), (AttributeType::Ints, ints(n))] {
                for dims in [&[1, 4, 8, 8][..], &[i64::MAX; 4], &[0, 0, 0, 0], &[]] {
                    let node = NodeProto { attribute: vec![attribute(name, kind, value.clone())], ..node(op_type, &["x", "w"], &["y"]) };
                    let kernel = floats("w", &[4, 4, 1, 1], 16);
                    let graph = GraphProto { input: vec![sized("x", dims)], node: encoded(&[node]), ..with_tensor(&kernel) };
                    read += usize::from(refusal(&model(graph)) == "is read");
                }
            }
        }
    }
    assert!(read > 100, "only {read} are not refused, and so shapes are hardly inferred");
}

#[test]
fn elements_outside_the_folder_are_not_read() {
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path().join("model");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(outer.path().join("secret"), [1; 8]).expect("a file");
    std::fs::write(folder.join("weights"), [1; 8]).expect("a file");
    #[cfg(unix)]
    std::os::unix::fs::symlink("../secret", folder.join("link")).expect("a link");
    let read = |location: &str, more: &[(&str, &str)]| {
        let entries = [("location", location)].into_iter().chain(more.iter().copied());
        let external_data = entries.map(|(key, value)| StringStringEntryProto { key: key.into(), value: value.into() }).collect();
        let data_location = Some(DataLocation::External as i32);
        let tensor = TensorProto { external_data, data_location, raw_data: None, ..floats("w", &[2], 0) };
        let path = folder.join("model.onnx");
        std::fs::write(&path, model(with_tensor(&tensor)).encode_to_vec()).expect("a file");
        onnx::read(&path).map_or_else(|e| e.to_string(), |_| "is read".into())
    };
    assert_eq!(read("weights", &[]), "is read");
    let absolute = outer.path().join("secret").display().to_string();
    for (location, more, expected) in [
        ("../secret", &[][..], "tensor `w` lies in `../secret`, which is not a path below the model's folder"),
        (&absolute, &[], "which is not a path below the model's folder"),
        #[cfg(unix)]
        ("link", &[], "tensor `w` lies in `link`, which leads out of the model's folder (hint: "),
        ("missing", &[], "tensor `w` lies in `missing`, which cannot be found beside the model"),
        (".", &[], "which cannot be mapped"),
        ("weights", &[("offset", "1")], "which has 8 bytes, not 8 from 1 on"),
        ("weights", &[("offset", "-1")], "which has the offset `-1`, which is no number"),
        ("weights", &[("length", "9")], "which has 8 bytes, not 9 from 0 on"),
        ("weights", &[("length", "4")], "needs 8 but has 4"),
        ("weights", &[("offset", "18446744073709551615")], "which has 8 bytes"),
    ] {
        let found = read(location, more);
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
    assert_eq!(
        onnx::read_bytes(std::fs::read(folder.join("model.onnx")).expect("the file"), None).map_err(|e| e.to_string()).err().as_deref(),
        Some("tensor `w` lies in `weights`, which cannot be found without knowing the model's folder")
    );
}

#[test]
fn files_that_are_no_models_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, contents: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, contents).expect("a file");
        path
    };
    for (path, expected) in [
        (file("empty.onnx", &[]), "empty.onnx` is not an ONNX model that can be read: it holds no graph"),
        (file("text.onnx", b"not a model"), "text.onnx` is not an ONNX model that can be read: its encoding is broken"),
        (folder.path().join("missing.onnx"), "cannot read `"),
        (folder.path().to_path_buf(), "cannot read `"),
    ] {
        let found = onnx::read(&path).map_or_else(|e| e.to_string(), |_| "is read".into());
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
}

/// Small models that hold a bit of everything.
fn samples() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/onnx");
    let names = ["kept.onnx", "constants.onnx", "elements.onnx", "ir3.onnx", "external.onnx"];
    names.iter().map(|name| folder.join(name)).map(|path| (path.clone(), std::fs::read(&path).expect("a model"))).collect()
}

/// Reads what may be broken; what is read must also survive being written.
fn read_and_write(bytes: Vec<u8>, folder: &Path) -> Result<(), GraphError> {
    let graph = onnx::read_bytes(bytes, Some(folder))?;
    let channels = Channels::find(&graph, false);
    // A cut may be refused, but does not panic.
    drop(channels.cut(&graph, &channels.groups.iter().map(|g| vec![0; usize::from(g.channels > 1)]).collect()));
    let written = onnx::to_bytes(&graph, WriteOptions { sparse: true, ..WriteOptions::default() })?;
    if let Err(e) = onnx::read_bytes(written, None) {
        panic!("what was written is refused: {e}");
    }
    Ok(())
}

#[test]
fn a_model_cut_anywhere_is_no_panic() {
    for (path, whole) in samples() {
        let cut = |end: usize| read_and_write(whole[..end].to_vec(), path.parent().expect("a folder"));
        let read = (0..whole.len()).filter(|end| cut(*end).is_ok()).count();
        // The graph is one message: only what stands after it can be cut off.
        assert!(read < whole.len() / 8, "{}: {read} of {} cut files are read", path.display(), whole.len());
        assert!(cut(whole.len()).is_ok(), "{}", path.display());
    }
}

#[test]
fn a_model_with_any_bit_flipped_is_no_panic() {
    for (path, whole) in samples() {
        // 7 and 8 share no divisor: every bit of a byte has its turn.
        let step = if whole.len() < 1000 { 1 } else { 7 };
        let read = (0..8 * whole.len()).step_by(step).filter(|bit| {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            read_and_write(flipped, path.parent().expect("a folder")).is_ok()
        });
        assert!(read.count() > 100, "{}: nothing is left of it to be read", path.display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_model_with_bytes_replaced_is_no_panic(
        sample in 0usize..5,
        replaced in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (path, mut bytes) = samples().swap_remove(sample);
        for (index, byte) in replaced {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read_and_write(bytes, path.parent().expect("a folder"));
    }

    #[test]
    fn any_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_and_write(bytes, Path::new("."));
    }
}
