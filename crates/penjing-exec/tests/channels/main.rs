//! The law of channels: what is left after a cut computes what the whole computes with zeros in the place of what went.

mod graphs;

use std::sync::OnceLock;

use penjing_exec::cpu_executor;
use penjing_exec::runtime::OnnxRuntime;
use penjing_graph::channels::{Channels, Removal};
use penjing_graph::onnx::{self, WriteOptions};
use penjing_graph::passes::fold_known_integers;
use penjing_graph::weights;
use penjing_graph::zoo::{self, ZooOptions};
use penjing_graph::{DataType, Edit, Graph, Role, Tensor, node_costs, roles};
use proptest::prelude::*;

use graphs::numbers;

/// A random input of the graph; free dimensions become 2.
fn input(graph: &Graph) -> Tensor {
    let x = graph.inputs().next().expect("an input");
    let dims: Vec<usize> = graph.value(x).shape.iter().flatten().map(|d| d.fixed().unwrap_or(2)).collect();
    numbers(&dims, 5)
}

fn run(graph: &Graph, x: &Tensor) -> Vec<Tensor> {
    cpu_executor(graph).expect("an executor").run(std::slice::from_ref(x), graph.outputs()).expect("a run")
}

/// Largest difference of two lists of outputs, relative to the largest number in them.
fn difference(a: &[Tensor], b: &[Tensor]) -> f32 {
    assert_eq!(a.iter().map(Tensor::dims).collect::<Vec<_>>(), b.iter().map(Tensor::dims).collect::<Vec<_>>());
    let numbers = |t: &Tensor| match t.to_i64() {
        Some(integers) => integers.iter().map(|n| *n as f32).collect(),
        None => t.to_f32().expect("numbers").into_owned(),
    };
    let floats = |tensors: &[Tensor]| tensors.iter().flat_map(numbers).collect::<Vec<f32>>();
    let (a, b) = (floats(a), floats(b));
    let largest = a.iter().fold(1e-6f32, |largest, n| largest.max(n.abs()));
    assert!(largest.is_finite());
    a.iter().zip(&b).fold(0f32, |worst, (a, b)| worst.max((a - b).abs())) / largest
}

/// A channel stays where `keep` says so, and wherever an axis would be left without positions.
fn removal(graph: &Graph, channels: &Channels, remove: impl Fn(usize, usize) -> bool) -> Removal {
    let mut removal: Removal =
        channels.groups.iter().enumerate().map(|(g, group)| (0..group.channels).filter(|c| remove(g, *c)).collect()).collect();
    let mut left: std::collections::BTreeMap<_, usize> = std::collections::BTreeMap::new();
    for group in &channels.groups {
        for member in &group.members {
            left.entry(member.axis).or_insert(member.size);
        }
    }
    for (group, removed) in channels.groups.iter().zip(&mut removal) {
        removed.retain(|channel| {
            let fits = group.members.iter().all(|m| left[&m.axis] > m.positions(*channel).len());
            if fits {
                group.members.iter().for_each(|m| *left.get_mut(&m.axis).expect("counted") -= m.positions(*channel).len());
            }
            fits
        });
    }
    assert!(graph.node_count() > 0);
    removal
}

fn check_law(graph: &Graph, channels: &Channels, removal: &Removal, in_onnx_runtime: bool) {
    let cut = channels.cut(graph, removal).unwrap_or_else(|e| panic!("{}: {e}", graph.name()));
    let masked = channels.mask(graph, removal).expect("masked");
    let x = input(graph);
    let (after, expected) = (run(&cut, &x), run(&masked, &x));
    let off = difference(&expected, &after);
    assert!(off <= 1e-5, "{}: off by {off:.1e} without {removal:?}", graph.name());

    let (parameters, macs) = channels.cost(graph, &node_costs(graph), removal).expect("costs");
    let costs = node_costs(&cut);
    let counted: usize = cut.initializers().filter(|(_, t)| t.dtype().is_float()).map(|(_, t)| t.len()).sum();
    assert_eq!((parameters, macs), (counted, costs.iter().filter_map(|c| c.macs).sum()), "{}: predicted costs", graph.name());

    if in_onnx_runtime {
        let off = difference(&after, &run_there(&cut, std::slice::from_ref(&x)));
        assert!(off <= 1e-4, "{}: off by {off:.1e} in ONNX Runtime", graph.name());
    }
}

fn run_there(graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    static RUNTIME: OnceLock<OnnxRuntime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| OnnxRuntime::find(None).expect("looked for").expect("ONNX Runtime (hint: scripts/python)"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    onnx::write(graph, &path, WriteOptions::default()).expect("written");
    runtime.open(&path, 1).expect("a session").run(inputs).expect("a run")
}

fn prepared(mut graph: Graph) -> Graph {
    fold_known_integers(&mut graph).expect("folded");
    graph
}

/// Norms and biases that tell channels apart, which a network that was just initialised does not have.
fn told_apart(graph: Graph) -> Graph {
    let mut edit = Edit::new(&graph, "tell channels apart");
    for (i, (id, role)) in roles(&graph).into_iter().enumerate() {
        let Some(tensor) = graph.tensor(id) else { continue };
        let noise = numbers(tensor.dims(), i);
        let noise = noise.values::<f32>().expect("floats");
        let values = match role {
            Role::NormScale | Role::RunningVariance => noise.iter().map(|n| 1.0 + n).collect(),
            Role::NormBias | Role::Bias | Role::RunningMean => noise.into_owned(),
            _ => continue,
        };
        edit.set_tensor(id, Tensor::new(tensor.dims(), values));
    }
    let mut graph = graph;
    graph.apply(edit).expect("applied");
    graph
}

/// Everything else that a zoo model needs is its own.
fn small(name: &str) -> Graph {
    let input = match name {
        "lenet-300-100" | "lenet-5" => None,
        "efficientnet-lite0" | "mobilenet-v2" => Some([3, 64, 64]),
        _ => Some([3, 32, 32]),
    };
    prepared(told_apart(zoo::build(name, &ZooOptions { input, ..ZooOptions::default() }).expect(name)))
}

fn built() -> &'static [(Graph, Channels)] {
    static BUILT: OnceLock<Vec<(Graph, Channels)>> = OnceLock::new();
    BUILT.get_or_init(|| {
        let with_channels = |graph: Graph| {
            let channels = Channels::find(&graph, false);
            (graph, channels)
        };
        graphs::all().into_iter().map(prepared).map(with_channels).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn cutting_is_masking_on_built_graphs(seed in any::<u64>(), share in 0.05f64..0.95) {
        for (graph, channels) in built() {
            let removal = removal(graph, channels, |g, c| chance(seed, g, c) < share);
            check_law(graph, channels, &removal, false);
        }
    }
}

/// A number from 0 to 1 that looks random.
fn chance(seed: u64, group: usize, channel: usize) -> f64 {
    let mut x = seed ^ (group as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (channel as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x >> 11) as f64 / (1u64 << 53) as f64
}

#[test]
fn cut_built_graphs_run_in_onnx_runtime() {
    for (graph, channels) in built() {
        assert!(!channels.is_empty(), "{}: nothing can be cut; pinned: {:#?}", graph.name(), channels.pinned);
        for seed in 0..3 {
            check_law(graph, channels, &removal(graph, channels, |g, c| chance(seed, g, c) < 0.4), true);
        }
    }
}

fn zoo() -> &'static [(Graph, Channels)] {
    static ZOO: OnceLock<Vec<(Graph, Channels)>> = OnceLock::new();
    ZOO.get_or_init(|| {
        let with_channels = |graph: Graph| {
            let channels = Channels::find(&graph, false);
            (graph, channels)
        };
        zoo::ALL.iter().map(|a| with_channels(small(a.name))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    #[test]
    fn cutting_is_masking_on_the_zoo(seed in any::<u64>(), share in 0.05f64..0.95) {
        for (graph, channels) in zoo() {
            check_law(graph, channels, &removal(graph, channels, |g, c| chance(seed, g, c) < share), false);
        }
    }
}

#[test]
fn cut_zoo_models_run_in_onnx_runtime() {
    for (i, (graph, channels)) in zoo().iter().enumerate() {
        assert!(!channels.is_empty(), "{}", graph.name());
        check_law(graph, channels, &removal(graph, channels, |g, c| chance(i as u64, g, c) < 0.3), true);
    }
}

/// Groups as one reads them: how many channels, and which axes carry how many positions of each.
fn described(graph: &Graph, channels: &Channels) -> String {
    let mut lines = vec![format!("{}:", graph.name())];
    for group in &channels.groups {
        let weights: Vec<String> = group
            .members
            .iter()
            .filter(|m| graph.tensor(m.axis.value).is_some_and(|t| t.dtype().is_float()))
            .map(|m| {
                let each: Vec<usize> = (0..group.channels).map(|c| m.positions(c).len()).collect();
                let each = if each.windows(2).all(|w| w[0] == w[1]) { each[0].to_string() } else { format!("{each:?}") };
                format!("{}[{}]×{each}", graph.value(m.axis.value).name, m.axis.axis)
            })
            .collect();
        lines.push(format!("  {}: {} of {}", group.name, group.channels, weights.join(" ")));
    }
    lines.join("\n")
}

#[test]
fn groups_of_built_graphs() {
    let all: Vec<String> = built().iter().map(|(graph, channels)| described(graph, channels)).collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn around_an_operator_that_is_not_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    onnx::write(&graphs::before_unknown_operator(), &path, WriteOptions::default()).expect("written");
    let mut bytes = std::fs::read(&path).expect("read");
    let at = bytes.windows(7).position(|w| w == b"Softmax").expect("the operator");
    bytes[at..at + 7].copy_from_slice(b"Hardmax");
    std::fs::write(&path, bytes).expect("written");
    let graph = onnx::read(&path).expect("read");
    let channels = Channels::find(&graph, false);
    // The first convolution's channels can go. Those that the operator sees cannot, and behind it no shape is known.
    let sizes: Vec<(usize, &str)> = channels.groups.iter().map(|g| (g.channels, g.name.as_str())).collect();
    assert_eq!(sizes, [(6, "conv3")]);
    let why: Vec<&str> = channels.pinned.iter().map(|p| p.pin.reason.as_str()).collect();
    assert!(why.contains(&"unknown operator"), "{why:?}");
    assert!(why.iter().any(|why| why.contains("the shape of")), "{why:?}");

    let removal = removal(&graph, &channels, |_, channel| channel % 2 == 0);
    let (cut, masked) = (channels.cut(&graph, &removal).expect("cut"), channels.mask(&graph, &removal).expect("masked"));
    let x = [input(&graph)];
    let off = difference(&run_there(&masked, &x), &run_there(&cut, &x));
    assert!(off <= 1e-5, "off by {off:.1e}");
}

fn asset(name: &str) -> std::path::PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/assets");
    let path = std::env::var_os("PENJING_ASSETS").map_or(here, Into::into).join(name);
    assert!(path.exists(), "there is no {} (hint: scripts/assets)", path.display());
    path
}

/// A quarter of every group, the channels with the smallest numbers.
fn a_quarter(graph: &Graph, channels: &Channels) -> Removal {
    removal(graph, channels, |group, channel| channel < channels.groups[group].channels / 4)
}

fn bytes(graph: &Graph) -> usize {
    onnx::to_bytes(graph, WriteOptions::default()).expect("encoded").len()
}

#[test]
fn a_quarter_of_the_real_efficientnet_lite0() {
    let state = weights::load(&asset("efficientnet-lite0/efficientnet-lite0-57934424.pth")).expect("weights");
    let graph = weights::apply(&zoo::build("efficientnet-lite0", &ZooOptions::default()).expect("built"), &state).expect("applied");
    let channels = Channels::find(&graph, false);
    let removal = a_quarter(&graph, &channels);
    check_law(&graph, &channels, &removal, true);
    let (parameters, macs) = channels.cost(&graph, &node_costs(&graph), &removal).expect("costs");
    let whole: u64 = node_costs(&graph).iter().filter_map(|c| c.macs).sum();
    let count: usize = graph.initializers().map(|(_, t)| t.len()).sum();
    // Layers between two groups keep 9/16 of their weights, those beside the input or the classes 3/4.
    assert!((0.5..0.75).contains(&(macs as f64 / whole as f64)), "{macs} of {whole}");
    assert!((0.5..0.75).contains(&(parameters as f64 / count as f64)), "{parameters} of {count}");
    let smaller = bytes(&channels.cut(&graph, &removal).expect("cut")) as f64 / bytes(&graph) as f64;
    assert!((0.5..0.75).contains(&smaller), "{smaller}");
}

#[test]
fn a_quarter_of_the_real_minilm() {
    let graph = prepared(onnx::read(asset("minilm/paraphrase-MiniLM-L3-v2.onnx")).expect("read"));
    let channels = Channels::find(&graph, false);
    let sizes: Vec<usize> = channels.groups.iter().map(|g| g.channels).collect();
    // Three layers of 12 heads and 1,536 units each; the model's width of 384 is normalised and stays.
    assert_eq!(sizes, [12, 1536, 12, 1536, 12, 1536]);
    let removal = a_quarter(&graph, &channels);
    let (cut, masked) = (channels.cut(&graph, &removal).expect("cut"), channels.mask(&graph, &removal).expect("masked"));
    let inputs: Vec<Tensor> = graph
        .inputs()
        .map(|id| {
            assert_eq!(graph.value(id).dtype, Some(DataType::Int64));
            let mask = graph.value(id).name.contains("mask");
            Tensor::new(
                [2, 16],
                (0..32i64)
                    .map(|i| {
                        if mask {
                            1
                        } else if graph.value(id).name.contains("type") {
                            0
                        } else {
                            1000 + 37 * i
                        }
                    })
                    .collect(),
            )
        })
        .collect();
    let run = |graph: &Graph| cpu_executor(graph).expect("an executor").run(&inputs, graph.outputs()).expect("a run");
    let (after, expected) = (run(&cut), run(&masked));
    let off = difference(&expected, &after);
    assert!(off <= 1e-5, "off by {off:.1e}");
    let off = difference(&after, &run_there(&cut, &inputs));
    assert!(off <= 1e-4, "off by {off:.1e} in ONNX Runtime");
    assert!(bytes(&cut) < bytes(&graph));
}
