//! Channels that go, from the command to the file.

use penjing_graph::{Graph, node_costs, onnx};

use super::{clothes, run};

fn macs(graph: &Graph) -> u64 {
    node_costs(graph).iter().filter_map(|cost| cost.macs).sum()
}

#[test]
fn a_quarter_of_the_channels_go_without_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let prune = ["prune", "resnet-20", "--structured", "--channel-ratio", "0.25", "--scope", "layer", "--round-to", "1", "-o", "cut.onnx"];
    let (out, err, code) = run(&prune, folder.path());
    assert_eq!(code, Some(0), "{out}{err}");
    // Shortcuts of 16, 32 and 64 channels, the first part of which is padded with zeros to the next, and 9 blocks with channels of
    // their own: 64 + 3·16 + 3·32 + 3·64.
    assert!(out.contains("Removed 100 of 400 channels (25.0 %)"), "{out}");
    let cut = onnx::read(folder.path().join("cut.onnx")).expect("a model");
    let classes = cut.outputs()[0];
    assert_eq!(cut.value(classes).shape.as_ref().and_then(|s| s[1].fixed()), Some(10));
    let dims = |name: &str| cut.tensor(cut.find_value(name).expect(name)).expect("a tensor").dims().to_vec();
    assert_eq!(dims("fc.weight"), [10, 48]);

    // The same bytes again.
    let again = [&prune[..prune.len() - 1], &["again.onnx"]].concat();
    assert_eq!(run(&again, folder.path()).2, Some(0));
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).expect("read");
    assert!(bytes("cut.onnx") == bytes("again.onnx"));
}

/// What is left of 20, 50 and 500 channels is what the device computes at once, or a multiple.
#[test]
fn channels_that_are_left_fit_the_device() {
    let folder = tempfile::tempdir().expect("a folder");
    let left = |device: &[&str]| {
        let prune = ["prune", "lenet-5", "--structured", "--channel-ratio", "0.3", "--scope", "layer", "-o", "cut.onnx", "--force"];
        let (out, err, code) = run(&[&prune[..], device].concat(), folder.path());
        assert_eq!(code, Some(0), "{out}{err}");
        let cut = onnx::read(folder.path().join("cut.onnx")).expect("a model");
        ["conv1.weight", "conv2.weight", "fc1.weight"]
            .map(|name| cut.tensor(cut.find_value(name).expect(name)).expect("a tensor").dims()[0])
    };
    let whole = left(&[]);
    assert_eq!(whole.map(|channels| channels % 8), [0; 3], "{whole:?}");
    assert_eq!(left(&["--target", "x86-vnni"]).map(|channels| channels % 16), [0; 3]);
    let mcu = left(&["--target", "mcu"]);
    assert!(mcu.map(|channels| channels % 4) == [0; 3] && mcu != whole, "{mcu:?}");
    assert_eq!(left(&["--target", "mcu", "--round-to", "1"]), [14, 35, 350]);
    let (_, err, code) = run(&["prune", "lenet-5", "--sparsity", "0.5", "--target", "mcu", "-o", "o.onnx"], folder.path());
    assert!(code == Some(2) && err.contains("--structured"), "{err}");
}

#[test]
fn half_of_the_products_go_and_the_network_is_retrained() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    let train = ["train", "lenet-5", "--data", &data, "--epochs", "1", "-o", "whole.onnx"];
    assert_eq!(run(&train, folder.path()).2, Some(0));
    let prune = ["prune", "whole.onnx", "--structured", "--macs", "0.5", "--criterion", "taylor", "--calibration-samples", "32"];
    let prune = [&prune[..], &["--data", &data, "--epochs", "1", "--round-to", "1", "-o", "cut.onnx"]].concat();
    let (out, err, code) = run(&prune, folder.path());
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("Time in built-in executor:"), "{out}");
    let graph = |name: &str| onnx::read(folder.path().join(name)).expect("a model");
    let left = macs(&graph("cut.onnx")) as f64 / macs(&graph("whole.onnx")) as f64;
    assert!((0.45..=0.5).contains(&left), "{left}");
}

#[test]
fn sparse_training_and_sensitivity() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    let train = ["train", "lenet-5", "--data", &data, "--epochs", "1", "-o", "whole.onnx"];
    assert_eq!(run(&train, folder.path()).2, Some(0));
    let prune = ["prune", "whole.onnx", "--structured", "--channel-ratio", "0.25", "--regularize", "group-lasso", "--sensitivity", "0,0.5"];
    let prune = [&prune[..], &["--criterion", "apoz", "--data", &data, "--epochs", "1", "--round-to", "1", "-o", "cut.onnx"]].concat();
    let (out, err, code) = run(&prune, folder.path());
    assert!(matches!(code, Some(0 | 3)), "{out}{err}");
    assert!(err.contains("sparse-training") && out.contains("cut alone"), "{out}{err}");
    let record = std::fs::read(folder.path().join("cut.run/outcome.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
    let groups = record["sensitivity"].as_array().expect("groups");
    assert_eq!(groups.len(), 3);
    for group in groups {
        let (none, half) = (&group["points"][0], &group["points"][1]);
        assert_eq!((none["removed"].as_u64(), half["removed"].as_u64()), (Some(0), group["channels"].as_u64().map(|n| n / 2)));
        assert_eq!(none["change"].as_f64(), Some(0.0));
        assert!(half["loss"].as_f64() > none["loss"].as_f64(), "{group}");
    }
    // The first training pulls, the second does not.
    let log = std::fs::read_to_string(folder.path().join("cut.run/log.jsonl")).expect("a log");
    let stages: Vec<&str> = ["sparse-training", "sensitivity-conv1-0.5", "step-1"].into_iter().filter(|s| log.contains(s)).collect();
    assert_eq!(stages.len(), 3, "{log}");
}

#[test]
fn time_is_a_budget_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let prune = ["prune", "resnet-20", "--structured", "--latency", "0.7", "-o", "cut.onnx"];
    let (out, err, code) = run(&prune, folder.path());
    assert!(matches!(code, Some(0 | 3)), "{out}{err}");
    assert!(err.contains("latency-2"), "{err}");
    assert!(macs(&onnx::read(folder.path().join("cut.onnx")).expect("a model")) < 40_551_040, "nothing was removed");
    let (_, err, code) = run(&["prune", "lenet-5", "--structured", "--latency", "0.02", "-o", "o.onnx"], folder.path());
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("2 % of the time are asked for"), "{err}");
}

#[test]
fn the_floor_holds_for_channels_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    let train = ["train", "lenet-300-100", "--data", &data, "--epochs", "2", "-o", "whole.onnx"];
    assert_eq!(run(&train, folder.path()).2, Some(0));
    let prune =
        ["prune", "whole.onnx", "--structured", "--max-drop", "3", "--rounds", "2", "--data", &data, "--epochs", "1", "-o", "cut.onnx"];
    let (out, err, code) = run(&prune, folder.path());
    assert!(matches!(code, Some(0 | 3)), "{out}{err}");
    assert!(err.contains("round 1:") && err.contains("MACs left"), "{err}");
    assert!(macs(&onnx::read(folder.path().join("cut.onnx")).expect("a model")) < 266_200);
}

#[test]
fn a_floor_that_nothing_breaks_ends_where_no_more_can_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    let train = ["train", "lenet-300-100", "--data", &data, "--epochs", "1", "-o", "whole.onnx"];
    assert_eq!(run(&train, folder.path()).2, Some(0));
    let prune = ["prune", "whole.onnx", "--structured", "--max-drop", "100", "--min-channels", "100", "--data", &data, "--epochs", "1"];
    let (out, err, code) = run(&[&prune[..], &["--rounds", "8", "-o", "cut.onnx"]].concat(), folder.path());
    assert_eq!(code, Some(0), "{out}{err}");
    // 104 of 300, the next multiple of 8, and 100 of 100 are the least that can be left; the search comes near.
    let least = (784 * 104 + 104 * 100 + 100 * 10) as f64;
    let left = macs(&onnx::read(folder.path().join("cut.onnx")).expect("a model")) as f64;
    assert!((least..1.3 * least).contains(&left), "{left} of {least}: {err}");
}

#[test]
fn what_does_not_go_together_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |args: &[&str]| {
        let (_, err, code) = run(&[&["prune", "lenet-5", "-o", "o.onnx"], args].concat(), folder.path());
        (err, code)
    };
    for (args, text, code) in [
        (&["--structured"][..], "--channel-ratio 0.25", 2),
        (&["--structured", "--sparsity", "0.5"], "for single weights", 2),
        (&["--channel-ratio", "0.5"], "--structured", 2),
        (&["--structured", "--channel-ratio", "25"], "0.25", 2),
        (&["--structured", "--macs", "0"], "nothing would be left", 2),
        (&["--structured", "--channel-ratio", "0.5", "--criterion", "taylor"], "--criterion l1", 2),
        (&["--structured", "--channel-ratio", "0.5", "--criterion", "l3"], "l1, l2, bn-scale", 2),
        (&["--structured", "--channel-ratio", "0.5", "--keep", "nothing*"], "nothing*", 1),
        (&["--structured", "--macs", "0.001"], "a larger budget", 1),
        (&["--regularize", "bn-l1"], "--structured", 2),
        (&["--structured", "--macs", "0.5", "--regularize", "bn"], "group-lasso", 2),
        (&["--structured", "--macs", "0.5", "--regularize", "bn-l1"], "--data", 1),
        (&["--structured", "--macs", "0.5", "--sensitivity", "1.5"], "0.25,0.5,0.75", 2),
        (&["--structured", "--macs", "0.5", "--latency", "0.5"], "cannot be used with", 2),
    ] {
        let (err, exit) = refused(args);
        assert!(err.contains(text), "{args:?}: {err}");
        assert_eq!(exit, Some(code), "{args:?}: {err}");
        assert!(!folder.path().join("o.onnx").exists() && !folder.path().join("o.run").exists(), "{args:?}");
    }
}

#[test]
fn groups_are_listed_and_so_is_what_keeps_the_rest() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(run(&["new", "resnet-20", "-o", "m.onnx"], folder.path()).2, Some(0));
    let (out, _, code) = run(&["inspect", "m.onnx"], folder.path());
    assert_eq!(code, Some(0));
    assert!(out.contains("12 groups of channels that can be removed"), "{out}");
    assert!(out.contains("it is an input of the model") && out.contains("it is an output of the model"), "{out}");
    let (json, _, code) = run(&["inspect", "m.onnx", "--json"], folder.path());
    assert_eq!(code, Some(0));
    let model: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(model["groups"].as_array().map(Vec::len), Some(12));
    assert_eq!(model["groups"][0]["channels"], 16);
}
