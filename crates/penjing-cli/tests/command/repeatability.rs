//! The same seed gives the same bytes at any number of threads.

use std::path::Path;

use super::{clothes, run};

/// Runs the command, with `-o` added, on one thread and on two, and compares what it writes.
fn same_bytes(folder: &Path, args: &[&str]) {
    let written = ["1", "2"].map(|threads| {
        let output = format!("{threads}.onnx");
        let (out, err, code) = run(&[&["--threads", threads], args, &["-o", &output]].concat(), folder);
        assert_eq!(code, Some(0), "{args:?} on {threads} threads: {out}{err}");
        std::fs::read(folder.join(output)).expect("written")
    });
    assert!(written[0] == written[1], "{args:?}");
}

#[test]
fn pruning_without_data() {
    let folder = tempfile::tempdir().expect("a folder");
    same_bytes(folder.path(), &["prune", "lenet-300-100", "--sparsity", "0.9"]);
}

#[test]
fn training_a_perceptron() {
    let folder = tempfile::tempdir().expect("a folder");
    same_bytes(folder.path(), &["train", "lenet-300-100", "--data", &clothes(), "--epochs", "1"]);
}

/// 28×28 images whose class is the quarter that is bright, in IDX files.
fn quarters(folder: &Path, images: usize) {
    let class = |i: usize| i % 4;
    let noise = |i: usize, p: usize| ((i * 784 + p) as u32).wrapping_mul(2_654_435_761) >> 26;
    let pixel = |i: usize, p: usize| {
        let quarter = 2 * (p / 28 / 14) + p % 28 / 14;
        (noise(i, p) + if quarter == class(i) { 150 } else { 0 }) as u8
    };
    let dims = |dims: &[usize]| dims.iter().flat_map(|d| (*d as u32).to_be_bytes()).collect::<Vec<u8>>();
    let pixels = (0..images).flat_map(|i| (0..784).map(move |p| pixel(i, p))).collect::<Vec<u8>>();
    let labels = (0..images).map(|i| class(i) as u8).collect::<Vec<u8>>();
    let write = |name: &str, bytes: Vec<u8>| std::fs::write(folder.join(name), bytes).expect("written");
    write("train-images-idx3-ubyte", [vec![0, 0, 8, 3], dims(&[images, 28, 28]), pixels].concat());
    write("train-labels-idx1-ubyte", [vec![0, 0, 8, 1], dims(&[images]), labels].concat());
}

/// Batch normalisation, residual additions and every augmentation.
#[test]
fn training_a_residual_network() {
    let folder = tempfile::tempdir().expect("a folder");
    quarters(folder.path(), 80);
    let augment = ["--flip", "--crop-padding", "2", "--cutout", "6"];
    same_bytes(folder.path(), &[&["train", "resnet-20", "--data", ".", "--epochs", "1", "--batch", "32"], &augment[..]].concat());
}

/// Depthwise convolutions.
#[test]
fn training_inverted_residuals() {
    let folder = tempfile::tempdir().expect("a folder");
    quarters(folder.path(), 40);
    same_bytes(folder.path(), &["train", "mobilenet-v2", "--input", "1x28x28", "--data", ".", "--epochs", "1", "--batch", "16"]);
}

#[test]
fn pruning_and_retraining_a_convolutional_network() {
    let folder = tempfile::tempdir().expect("a folder");
    quarters(folder.path(), 200);
    let train = ["--data", ".", "--epochs", "2", "--batch", "16", "--lr", "0.02"];
    same_bytes(folder.path(), &[&["prune", "convnet-cifar", "--sparsity", "0.8", "--steps", "2"], &train[..]].concat());
}
