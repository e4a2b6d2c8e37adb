//! The binary as a user meets it.

mod bad_input;
mod bench;
mod compare;
mod convert;
mod interruption;
mod patterns;
mod quantize;
mod repeatability;
mod runtimes;
mod structured;
mod unlabelled;

use std::path::Path;

use assert_cmd::Command;

fn penjing() -> Command {
    Command::new(env!("CARGO_BIN_EXE_penjing"))
}

/// Standard output, standard error and exit code.
fn run(args: &[&str], folder: &Path) -> (String, String, Option<i32>) {
    let output = penjing().args(args).current_dir(folder).output().expect("the binary runs");
    (String::from_utf8_lossy(&output.stdout).into(), String::from_utf8_lossy(&output.stderr).into(), output.status.code())
}

/// The images that the demo carries.
fn clothes() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/fashion-mnist-small").to_string()
}

#[test]
fn half_of_the_weights_go_without_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, err, code) = run(&["prune", "convnet-cifar", "--sparsity", "0.5", "-o", "pruned.onnx"], folder.path());
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("Pruned 30885 of 61770 weights (50.0 %)"), "{out}");
    assert!(folder.path().join("pruned.onnx").exists() && folder.path().join("pruned.run/outcome.json").exists());
    // Nothing is overwritten unless asked to.
    let (_, err, code) = run(&["prune", "convnet-cifar", "--sparsity", "0.5", "-o", "pruned.onnx"], folder.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("exists already"), "{err}");
    let (out, _, code) = run(&["inspect", "pruned.onnx"], folder.path());
    assert_eq!(code, Some(0));
    assert!(out.contains("61,770 weights that pruning may remove"), "{out}");
}

#[test]
fn starting_anew_removes_the_run_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let prune = ["prune", "lenet-300-100", "--sparsity", "0.9", "-o", "p.onnx", "--force"];
    assert_eq!(run(&prune, folder.path()).2, Some(0));
    std::fs::write(folder.path().join("p.run/mine.txt"), "notes").expect("written");
    assert_eq!(run(&prune, folder.path()).2, Some(0));
    assert!(folder.path().join("p.run/mine.txt").exists());
}

#[test]
fn a_network_that_always_says_the_same_is_no_baseline() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(run(&["prune", "lenet-300-100", "--sparsity", "1", "-o", "empty.onnx"], folder.path()).2, Some(0));
    let (_, err, code) = run(&["prune", "empty.onnx", "--data", &clothes(), "--max-drop", "1", "-o", "p.onnx"], folder.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("train it first"), "{err}");
    assert!(!folder.path().join("p.onnx").exists());
}

#[test]
fn bad_usage_names_the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    for (args, code, text) in [
        (&["prune", "lenet-5", "--sparsity", "50", "-o", "x.onnx"][..], 2, "for 50 percent write 0.5"),
        (&["prune", "lenet-5", "-o", "x.onnx"], 2, "how far?"),
        (&["prune", "lenet-5", "--max-drop", "0.5", "-o", "x.onnx"], 2, "needs data"),
        (&["prune", "lenet-6", "--sparsity", "0.5", "-o", "x.onnx"], 2, "lenet-5"),
        (&["prune", "lenet-5", "--sparsity", "0.5", "--steps", "0", "-o", "x.onnx"], 2, "whole number from 1"),
        (&["inspect", "missing.onnx"], 1, "missing.onnx"),
        (&["inspect", "lenet-5"], 2, "penjing new lenet-5 -o lenet-5.onnx"),
        (&["new", "lenet5", "-o", "x.onnx"], 2, "did you mean `lenet-5`"),
        (&["new", "lenet-5"], 2, "-o FILE"),
    ] {
        let (_, err, found) = run(args, folder.path());
        assert_eq!(found, Some(code), "{args:?}: {err}");
        assert!(err.contains(text), "{args:?}: {err}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing half-written");
}
