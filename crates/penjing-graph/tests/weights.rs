//! Weights from files of other libraries. `testdata/weights` holds state dicts as PyTorch pickles them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use penjing_graph::weights::{self, StateDict};
use penjing_graph::zoo::{self, ZooOptions};
use penjing_graph::{DataType, Graph, GraphError, Tensor};
use proptest::prelude::*;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/weights").join(name)
}

fn load(name: &str) -> StateDict {
    weights::load(&testdata(name)).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(name: &str) -> String {
    weights::load(&testdata(name)).expect_err(name).to_string()
}

/// The public EfficientNet-Lite0 of lukemelas' naming, in the older format with strided tensors.
fn lite0() -> StateDict {
    let assets =
        std::env::var_os("PENJING_ASSETS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/assets"), PathBuf::from);
    let path = assets.join("efficientnet-lite0/efficientnet-lite0-57934424.pth");
    weights::load(&path).unwrap_or_else(|e| panic!("{e}: {:?} (hint: scripts/assets efficientnet-lite0)", std::error::Error::source(&e)))
}

/// Loads bytes as a file.
fn load_bytes(bytes: &[u8]) -> Result<StateDict, GraphError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    weights::load(file.path())
}

fn f32s(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f32().unwrap_or_else(|| panic!("{} is no float", tensor.dtype().name())).into_owned()
}

#[test]
fn every_format_and_protocol_gives_the_same_tensors() {
    for file in ["legacy.pth", "python2.pth", "zip.pth", "big_endian.pth", "protocol3.pth", "protocol4.pth", "protocol5.pth"] {
        let state = load(file);
        assert_eq!(state.len(), 14, "{file}");
        let floats = |name: &str| f32s(&state[name]);
        assert_eq!((state["plain"].dims(), floats("plain")), (&[2, 3][..], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), "{file}");
        assert_eq!((state["transposed"].dims(), floats("transposed")), (&[3, 2][..], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]), "{file}");
        assert_eq!(floats("tail"), [4.0, 5.0], "{file}");
        assert_eq!(floats("parameter"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "{file}");
        assert_eq!((state["scalar"].dims(), state["scalar"].dtype(), floats("scalar")), (&[][..], DataType::Double, vec![0.5]), "{file}");
        assert_eq!(state["empty"].dims(), [0, 4], "{file}");
        assert_eq!((state["half"].dtype(), floats("half")), (DataType::Float16, vec![1.5, -2.0]), "{file}");
        assert_eq!((state["bfloat16"].dtype(), floats("bfloat16")), (DataType::Bfloat16, vec![1.5, -2.0]), "{file}");
        let integers = [("num_batches_tracked", 1 << 40), ("int32", -7), ("int16", -300), ("int8", -3), ("uint8", 200), ("bool", 1)];
        for (name, value) in integers {
            assert_eq!(state[name].to_i64().unwrap()[0], value, "{file}: {name}");
        }
    }
}

#[test]
fn a_state_dict_is_found_in_a_checkpoint() {
    let state = load("wrapped.pth");
    assert_eq!(f32s(&state["module.plain"]), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(state.len(), 14);
}

#[test]
fn what_is_no_state_dict_says_what_it_is() {
    let reason = |name: &str| refused(name).split_once(": ").and_then(|(_, rest)| rest.split_once("`: ")).unwrap().1.to_string();
    assert_eq!(
        reason("not_tensors.pth"),
        "`epoch` is a number, not a tensor (hint: save `model.state_dict()` alone, or under the key `state_dict`)"
    );
    assert_eq!(reason("list.pth"), "the file holds a list, not a state dict");
    assert!(reason("command.pth").starts_with("the pickle wants `posix.system`, which a state dict does not need and which is not loaded"));
    assert!(reason("namespace.pth").starts_with("the pickle wants `argparse.Namespace_`"));
    assert_eq!(reason("outside.pth"), "tensor `weight`: shape [3] with strides [1] from 0 on reaches outside its 2 elements");
    assert_eq!(reason("expanded.pth"), "tensor `weight`: shape [1099511627776] shows more elements than the file holds");
    assert_eq!(reason("make.py"), "it is neither a .safetensors file nor one that torch.save wrote");
    assert!(matches!(weights::load(&testdata("absent.pth")), Err(GraphError::Io { action: "read", .. })));
}

#[test]
fn safetensors_keep_types_and_values() {
    let tensors = BTreeMap::from([
        ("a", safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], bytemuck::cast_slice(&[1.5f32, -2.0])).unwrap()),
        ("b", safetensors::tensor::TensorView::new(safetensors::Dtype::I64, vec![], bytemuck::cast_slice(&[7i64])).unwrap()),
    ]);
    let bytes = safetensors::serialize(tensors, None).unwrap();
    let state = load_bytes(&bytes).unwrap();
    assert_eq!(f32s(&state["a"]), [1.5, -2.0]);
    assert_eq!((state["b"].dims(), state["b"].to_i64().unwrap()[0]), (&[][..], 7));
    let cut = load_bytes(&bytes[..bytes.len() - 1]).unwrap_err().to_string();
    assert!(cut.contains("the file is not intact"), "{cut}");
}

fn build(name: &str, options: ZooOptions) -> Graph {
    zoo::build(name, &options).unwrap()
}

/// The weights of a graph as its library would save them, each filled with its own number.
fn numbered(graph: &Graph) -> StateDict {
    let floats = graph.initializers().filter(|(_, t)| t.dtype() == DataType::Float && !t.dims().is_empty());
    floats.enumerate().map(|(i, (id, t))| (graph.value(id).name.clone(), Tensor::new(t.dims(), vec![i as f32; t.len()]))).collect()
}

fn assert_holds(graph: &Graph, state: &StateDict) {
    for (name, tensor) in state {
        let id = graph.find_value(name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(graph.tensor(id), Some(tensor), "{name}");
    }
}

fn renamed(state: &StateDict, name: impl Fn(&str) -> String) -> StateDict {
    state.iter().map(|(key, tensor)| (name(key), tensor.clone())).collect()
}

#[test]
fn weights_load_by_name_and_the_graph_given_stays_as_it_was() {
    let small = ZooOptions { classes: Some(3), input: Some([3, 32, 32]), ..Default::default() };
    for name in ["resnet-18", "resnet-20", "mobilenet-v2"] {
        let graph = build(name, small.clone());
        let before = numbered(&graph);
        let mut state = renamed(&before, |key| format!("module._orig_mod.{key}"));
        state.insert("module._orig_mod.bn1.num_batches_tracked".into(), Tensor::scalar(5i64));
        let loaded = weights::apply(&graph, &state).unwrap();
        assert_holds(&loaded, &before);
        assert_ne!(loaded.initializers().last().map(|(_, t)| t.clone()), graph.initializers().last().map(|(_, t)| t.clone()), "{name}");
    }
}

#[test]
fn timm_names_of_mobilenet_v2_are_known() {
    let graph = build("mobilenet-v2", ZooOptions { input: Some([3, 32, 32]), ..Default::default() });
    let ours = numbered(&graph);
    // Blocks 0 to 16 of stages 1, 2, 3, 4, 3, 3, 1; by hand for the modules that show every rule.
    let pairs = [
        ("features.0.0.weight", "conv_stem.weight"),
        ("features.0.1.running_var", "bn1.running_var"),
        ("features.1.conv.0.0.weight", "blocks.0.0.conv_dw.weight"),
        ("features.1.conv.2.bias", "blocks.0.0.bn2.bias"),
        ("features.3.conv.0.0.weight", "blocks.1.1.conv_pw.weight"),
        ("features.7.conv.1.1.weight", "blocks.3.0.bn2.weight"),
        ("features.17.conv.2.weight", "blocks.6.0.conv_pwl.weight"),
        ("features.18.0.weight", "conv_head.weight"),
        ("classifier.1.bias", "classifier.bias"),
    ];
    let timm = timm_from_torchvision(&ours);
    for (ours_name, theirs) in pairs {
        assert_eq!(timm.get(theirs), ours.get(ours_name), "{theirs}");
    }
    assert_holds(&weights::apply(&graph, &timm).unwrap(), &ours);
}

/// timm's names, from the table of stages alone.
fn timm_from_torchvision(state: &StateDict) -> StateDict {
    let stages = [1, 2, 3, 4, 3, 3, 1];
    let blocks: Vec<(usize, usize)> = stages.iter().enumerate().flat_map(|(s, n)| (0..*n).map(move |i| (s, i))).collect();
    renamed(state, |name| {
        let (module, part) = name.rsplit_once('.').unwrap();
        let module = match module.split('.').collect::<Vec<_>>()[..] {
            ["features", "0", "0"] => "conv_stem".into(),
            ["features", "0", "1"] => "bn1".into(),
            ["features", "18", "0"] => "conv_head".into(),
            ["features", "18", "1"] => "bn2".into(),
            ["classifier", "1"] => "classifier".into(),
            ["features", block, "conv", ref inner @ ..] => {
                let (s, i) = blocks[block.parse::<usize>().unwrap() - 1];
                let inner = match (block, inner.join(".").as_str()) {
                    ("1", "0.0") => "conv_dw",
                    ("1", "0.1") => "bn1",
                    ("1", "1") => "conv_pw",
                    ("1", "2") => "bn2",
                    (_, "0.0") => "conv_pw",
                    (_, "0.1") => "bn1",
                    (_, "1.0") => "conv_dw",
                    (_, "1.1") => "bn2",
                    (_, "2") => "conv_pwl",
                    (_, "3") => "bn3",
                    other => panic!("{other:?}"),
                };
                format!("blocks.{s}.{i}.{inner}")
            }
            ref other => panic!("{other:?}"),
        };
        format!("{module}.{part}")
    })
}

#[test]
fn the_public_efficientnet_lite0_loads() {
    let state = lite0();
    let graph = build("efficientnet-lite0", ZooOptions::default());
    let loaded = weights::apply(&graph, &state).unwrap();
    let holds = |ours: &str, theirs: &str| assert_eq!(loaded.tensor(loaded.find_value(ours).unwrap()), Some(&state[theirs]), "{ours}");
    holds("conv_stem.weight", "_conv_stem.weight");
    holds("blocks.0.0.conv_pw.weight", "_blocks.0._project_conv.weight");
    holds("blocks.2.1.conv_dw.weight", "_blocks.4._depthwise_conv.weight");
    holds("blocks.6.0.bn3.running_var", "_blocks.15._bn2.running_var");
    holds("bn2.weight", "_bn1.weight");
    holds("classifier.bias", "_fc.bias");
}

#[test]
fn half_precision_becomes_the_type_of_the_graph() {
    let graph = build("lenet-300-100", ZooOptions::default());
    let halves: StateDict = numbered(&graph)
        .into_iter()
        .map(|(name, t)| (name, Tensor::new(t.dims(), f32s(&t).iter().map(|v| half::f16::from_f32(*v)).collect())))
        .collect();
    assert_holds(&weights::apply(&graph, &halves).unwrap(), &numbered(&graph));
    let mut integers = numbered(&graph);
    integers.insert("fc3.bias".into(), Tensor::new([10], vec![1i32; 10]));
    assert_eq!(weights::apply(&graph, &integers).unwrap_err().to_string(), "weights: `fc3.bias` is int32, the network wants float32");
}

#[test]
fn what_does_not_match_is_listed() {
    let graph = build("lenet-5", ZooOptions::default());
    let refused = |state: &StateDict| weights::apply(&graph, state).unwrap_err().to_string();

    let mut state = numbered(&graph);
    let moved = state.remove("conv2.bias").unwrap();
    state.insert("conv3.bias".into(), moved);
    assert_eq!(
        refused(&state),
        "weights: names do not match those of `lenet-5`; missing in the file: conv2.bias; not in the network: conv3.bias (hint: is it the same architecture?)"
    );
    assert!(
        refused(&StateDict::new())
            .contains("missing in the file: conv1.weight, conv1.bias, conv2.weight, conv2.bias, fc1.weight, fc1.bias and 2 more")
    );

    let mut state = numbered(&graph);
    state.insert("conv2.bias".into(), Tensor::new([49], vec![0.0f32; 49]));
    assert_eq!(refused(&state), "weights: shapes do not match those of `lenet-5`: conv2.bias is [49], not [50]");

    let other = numbered(&build("lenet-5", ZooOptions { classes: Some(26), ..Default::default() }));
    assert_eq!(refused(&other), "weights: the file is for 26 classes, the network has 10 (hint: build it with --classes 26)");
}

/// A file, one stretch of which is overwritten, and which is then cut.
fn damaged(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let bytes = std::fs::read(testdata(name)).unwrap();
    let length = bytes.len();
    (0..length, prop::collection::vec(any::<u8>(), 1..9), 0..=length).prop_map(move |(at, octets, cut)| {
        let mut bytes = bytes.clone();
        for (place, octet) in bytes[at..].iter_mut().zip(octets) {
            *place = octet;
        }
        // Half of the files keep their end, so that the damage itself is reached.
        bytes.truncate(if cut % 2 == 0 { length } else { cut });
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_are_errors_or_tensors_but_never_a_panic(
        bytes in prop_oneof![damaged("legacy.pth"), damaged("zip.pth"), damaged("protocol4.pth"), damaged("wrapped.pth")]
    ) {
        if let Ok(state) = load_bytes(&bytes) {
            let held: usize = state.values().map(|t| t.byte_len()).sum();
            // Shared storages may be seen by several tensors; copies are limited to the file's length.
            prop_assert!(held <= (state.len() + 1) * bytes.len(), "{held} octets from a file of {}", bytes.len());
        }
    }
}
