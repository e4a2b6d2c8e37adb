//! The architectures against what their papers and libraries state.

use penjing_graph::zoo::{self, ZooOptions};
use penjing_graph::{DataType, Dim, Graph, GraphError, Role, roles};

/// Elements of the initializers whose role is among those asked for.
fn elements(graph: &Graph, asked: fn(Role) -> bool) -> usize {
    roles(graph).into_iter().filter(|(_, role)| asked(*role)).filter_map(|(id, _)| graph.tensor(id)).map(|t| t.len()).sum()
}

fn parameters(graph: &Graph) -> usize {
    elements(graph, Role::trainable)
}

fn build(name: &str, options: ZooOptions) -> Graph {
    zoo::build(name, &options).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn refused(name: &str, options: ZooOptions) -> String {
    match zoo::build(name, &options) {
        Err(error @ GraphError::Architecture { .. }) => error.to_string(),
        other => panic!("{name} {options:?}: {:?}", other.map(|g| g.node_count())),
    }
}

#[test]
fn parameter_counts_are_the_published_ones() {
    let published = [
        ("lenet-300-100", 266_610),
        ("lenet-5", 431_080),
        ("convnet-cifar", 62_006),
        ("resnet-20", 269_722),
        ("resnet-32", 464_154),
        ("resnet-56", 853_018),
        ("resnet-18", 11_689_512),
        ("resnet-50", 25_557_032),
        ("mobilenet-v2", 3_504_872),
        ("efficientnet-lite0", 4_652_008),
    ];
    assert_eq!(published.map(|(name, _)| name).to_vec(), zoo::ALL.iter().map(|a| a.name).collect::<Vec<_>>());
    for (name, count) in published {
        assert_eq!(parameters(&build(name, ZooOptions::default())), count, "{name}");
        let about = zoo::find(name).unwrap().about.replace(',', "");
        assert!(about.contains(&format!("({count} parameters)")), "{name}: {about}");
    }
}

#[test]
fn prunable_weights_of_convnet_cifar() {
    assert_eq!(elements(&build("convnet-cifar", ZooOptions::default()), Role::prunable), 61_770);
}

#[test]
fn widths_of_mobilenet_v2_give_the_published_sizes() {
    for (width, millions) in [(0.5, "1.97"), (0.75, "2.64"), (1.4, "6.11")] {
        let count = parameters(&build("mobilenet-v2", ZooOptions { width: Some(width), ..Default::default() }));
        assert_eq!(format!("{:.2}", count as f64 / 1e6), millions, "width {width}");
    }
}

#[test]
fn small_inputs_are_taken() {
    for name in ["resnet-18", "resnet-50", "mobilenet-v2", "efficientnet-lite0", "resnet-20"] {
        for input in [[1, 28, 28], [3, 1, 1]] {
            let graph = build(name, ZooOptions { classes: Some(10), input: Some(input), ..Default::default() });
            assert_eq!(graph.value(graph.outputs()[0]).shape, Some(vec![Dim::symbol("N"), 10.into()]), "{name} {input:?}");
        }
    }
}

#[test]
fn inputs_and_outputs_have_names_and_shapes() {
    for architecture in zoo::ALL {
        let graph = build(architecture.name, ZooOptions { classes: Some(7), ..Default::default() });
        let [input] = graph.inputs().collect::<Vec<_>>()[..] else { panic!("{} has several inputs", architecture.name) };
        let [c, h, w] = architecture.input;
        let (input, output) = (graph.value(input), graph.value(graph.outputs()[0]));
        assert_eq!((input.name.as_str(), output.name.as_str()), ("input", "logits"));
        assert_eq!(input.shape, Some(vec![Dim::symbol("N"), c.into(), h.into(), w.into()]));
        assert_eq!(output.shape, Some(vec![Dim::symbol("N"), 7.into()]), "{}", architecture.name);
        assert_eq!(output.dtype, Some(DataType::Float));
    }
}

#[test]
fn weights_carry_the_names_of_published_state_dicts() {
    let names = |architecture: &str, expected: &[&str]| {
        let graph = build(architecture, ZooOptions::default());
        for name in expected {
            assert!(graph.find_value(name).is_some_and(|id| graph.tensor(id).is_some()), "{architecture} has no {name}");
        }
    };
    names("resnet-18", &["conv1.weight", "bn1.running_var", "layer2.0.downsample.0.weight", "layer2.0.downsample.1.bias", "fc.bias"]);
    names("resnet-50", &["layer1.0.conv3.weight", "layer1.0.downsample.0.weight", "layer4.2.bn3.running_mean"]);
    names(
        "mobilenet-v2",
        &["features.0.0.weight", "features.1.conv.1.weight", "features.2.conv.3.bias", "features.18.1.weight", "classifier.1.bias"],
    );
    names(
        "efficientnet-lite0",
        &["conv_stem.weight", "blocks.0.0.conv_pw.weight", "blocks.6.0.bn3.running_var", "conv_head.weight", "classifier.weight"],
    );
}

#[test]
fn equal_seeds_give_equal_weights_and_others_do_not() {
    let weights = |seed| {
        let graph = build("lenet-5", ZooOptions { seed, ..Default::default() });
        graph.initializers().map(|(_, t)| t.clone()).collect::<Vec<_>>()
    };
    assert_eq!(weights(3), weights(3));
    assert_ne!(weights(3), weights(4));
}

#[test]
fn kaiming_deviation_of_a_large_convolution() {
    let graph = build("resnet-18", ZooOptions::default());
    let tensor = graph.find_value("layer4.1.conv2.weight").and_then(|id| graph.tensor(id)).unwrap();
    let values = tensor.values::<f32>().unwrap();
    let variance = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64;
    let expected = 2.0 / (512.0 * 9.0);
    assert!((variance / expected - 1.0).abs() < 0.01, "{variance} is not {expected}");
}

#[test]
fn what_cannot_be_built_says_what_can() {
    assert_eq!(
        refused("resnet19", ZooOptions::default()),
        "there is no architecture `resnet19` (hint: did you mean `resnet-18`? there are lenet-300-100, lenet-5, convnet-cifar, resnet-20, resnet-32, resnet-56, resnet-18, resnet-50, mobilenet-v2, efficientnet-lite0)"
    );
    assert_eq!(
        refused("lenet-5", ZooOptions { classes: Some(0), ..Default::default() }),
        "`lenet-5` needs at least one class (hint: --classes 10)"
    );
    assert_eq!(
        refused("lenet-5", ZooOptions { input: Some([1, 9, 9]), ..Default::default() }),
        "the input is too small for `lenet-5`: its layer `conv2` slides a 5x5 window over 2x2 cells (hint: a larger --input)"
    );
    assert!(refused("lenet-5", ZooOptions { input: Some([28, 28, 0]), ..Default::default() }).contains("--input 1x28x28, channels first"));
    assert!(refused("resnet-18", ZooOptions { width: Some(0.5), ..Default::default() }).contains("or use mobilenet-v2"));
    for width in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e9] {
        assert!(refused("mobilenet-v2", ZooOptions { width: Some(width), ..Default::default() }).contains("above 0 and at most 100"));
    }
}

#[test]
fn what_no_file_can_hold_is_refused_before_it_is_allocated() {
    for (name, options) in [
        ("lenet-300-100", ZooOptions { input: Some([1 << 16; 3]), ..Default::default() }),
        ("lenet-5", ZooOptions { classes: Some(usize::MAX), ..Default::default() }),
        ("mobilenet-v2", ZooOptions { width: Some(100.0), ..Default::default() }),
    ] {
        assert!(refused(name, options).contains("does not fit into one ONNX file"), "{name}");
    }
}
