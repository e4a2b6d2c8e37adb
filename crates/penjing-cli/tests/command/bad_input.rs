//! What is broken, hostile or does not fit: an error that names the thing and the way out, no panic, nothing half-written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use penjing_graph::onnx::proto::{DataLocation, GraphProto, ModelProto, StringStringEntryProto, TensorProto};
use penjing_graph::onnx::{self, WriteOptions};
use penjing_graph::ops::Gemm;
use penjing_graph::{DataType, Dim, GraphBuilder, Tensor};
use prost::Message;

use super::{clothes, penjing, run};

/// x [N, 2] → three classes.
fn classifier() -> Vec<u8> {
    let mut b = GraphBuilder::new("classifier");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 2.into()]);
    let w = b.tensor("w", Tensor::new([2, 3], vec![1.0f32, -0.5, -0.5, 0.01, 0.9, -0.9]));
    let y = b.node("y", Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false }, &[x, w]);
    onnx::to_bytes(&b.output(y).finish().expect("a model"), WriteOptions::default()).expect("bytes").to_vec()
}

/// A folder with `good.onnx` and, for it, `points.csv`: 60 points of the plane in three clusters.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "good.onnx", classifier());
    let centres = [(2.0, 0.0), (-1.0, 1.7), (-1.0, -1.7)];
    let row = |i: usize| format!("{},{},{}\n", centres[i % 3].0 + (i as f32).sin() / 3.0, centres[i % 3].1, i % 3);
    write(folder.path(), "points.csv", format!("a,b,label\n{}", (0..60).map(row).collect::<String>()));
    folder
}

fn write(folder: &Path, name: &str, contents: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), contents).expect("written");
}

/// Every file and folder below `folder`.
fn tree(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for path in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                open.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}

/// Asserts that a command is refused with that code and these words, and leaves nothing.
fn refused(folder: &Path, args: &[&str], code: i32, words: &[&str]) {
    let before = tree(folder);
    let (out, err, found) = run(args, folder);
    assert_eq!(found, Some(code), "{args:?}: {out}{err}");
    assert!(!err.contains("panicked"), "{args:?}: {err}");
    for word in words {
        assert!(err.contains(word), "{args:?} does not say `{word}`: {err}");
    }
    assert_eq!(tree(folder), before, "{args:?}");
}

/// The four commands that read a model, on `model`.
fn readers(model: &str) -> [Vec<&str>; 4] {
    [
        vec!["inspect", model],
        vec!["eval", model, "--data", "points.csv"],
        vec!["prune", model, "--sparsity", "0.5", "-o", "pruned.onnx"],
        vec!["train", model, "--data", "points.csv", "--epochs", "1", "-o", "trained.onnx"],
    ]
}

#[test]
fn the_model_that_the_others_are_broken_from_is_good() {
    let folder = folder();
    for args in readers("good.onnx") {
        let (out, err, code) = run(&args, folder.path());
        // So small a model gains nothing from pruning.
        assert_eq!(code, Some(if args[0] == "prune" { 3 } else { 0 }), "{args:?}: {out}{err}");
    }
}

#[test]
fn truncated_models() {
    let folder = folder();
    let whole = classifier();
    for length in [0, 1, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        write(folder.path(), "broken.onnx", &whole[..length]);
        for args in readers("broken.onnx") {
            refused(folder.path(), &args, 1, &["broken.onnx", "not an ONNX model"]);
        }
    }
}

/// A flipped bit may leave a model that is as good; it never ends in a panic, a signal or a partial file.
#[test]
fn flipped_bits() {
    let folder = folder();
    let whole = classifier();
    for bit in (0..8 * whole.len()).step_by(37) {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        write(folder.path(), "broken.onnx", flipped);
        let args = &readers("broken.onnx")[bit % 4];
        let (out, err, code) = run(args, folder.path());
        assert!(matches!(code, Some(0 | 1 | 3)), "bit {bit}, {args:?}: {out}{err}");
        assert!(!err.contains("panicked"), "bit {bit}, {args:?}: {err}");
        let left = ["pruned.onnx", "pruned.run", "trained.onnx", "trained.checkpoint"].map(|name| folder.path().join(name));
        let wanted = |name| code != Some(1) && args[0] == name;
        assert_eq!(left.each_ref().map(|path| path.exists()), ["prune", "prune", "train", ""].map(wanted), "bit {bit}: {err}");
        for left in left {
            drop(std::fs::remove_file(&left));
            drop(std::fs::remove_dir_all(&left));
        }
    }
}

/// The good model with its weight changed.
fn with_weight(change: impl Fn(&mut TensorProto)) -> Vec<u8> {
    let mut model = ModelProto::decode(Bytes::from(classifier())).expect("a model");
    let graph: &mut GraphProto = model.graph.as_mut().expect("a graph");
    let mut weight = TensorProto::decode(graph.initializer[0].clone()).expect("a tensor");
    change(&mut weight);
    graph.initializer[0] = weight.encode_to_vec().into();
    model.encode_to_vec()
}

#[test]
fn weights_outside_the_folder_or_not_there() {
    let folder = folder();
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    std::fs::create_dir(folder.path().join("models")).expect("a folder");
    write(folder.path(), "secret.bin", [0; 24]);
    let absolute = folder.path().join("secret.bin");
    for location in ["../secret.bin", absolute.to_str().expect("text"), "missing.bin"] {
        let model = with_weight(|weight| {
            weight.raw_data = None;
            weight.data_location = Some(DataLocation::External as i32);
            weight.external_data = vec![entry("location", location)];
        });
        write(folder.path(), "models/broken.onnx", model);
        for args in readers("models/broken.onnx") {
            refused(folder.path(), &args, 1, &["tensor `w`", location]);
        }
    }
}

#[test]
fn hostile_models() {
    let folder = folder();
    for (dims, words) in [(vec![1 << 40, 1 << 40], "tensor `w`"), (vec![2, -3], "tensor `w`"), (vec![2, 4], "tensor"), (vec![3, 2], "y")] {
        write(folder.path(), "broken.onnx", with_weight(|weight| weight.dims.clone_from(&dims)));
        for args in readers("broken.onnx") {
            refused(folder.path(), &args, 1, &[words]);
        }
    }
    write(folder.path(), "broken.onnx", "this is no model, but text that somebody gave the wrong name");
    for args in readers("broken.onnx") {
        refused(folder.path(), &args, 1, &["broken.onnx", "not an ONNX model"]);
    }
}

#[test]
fn paths_that_are_not_models() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("models")).expect("a folder");
    for args in readers("models") {
        refused(folder.path(), &args, 2, &["`models` is a folder", "hint"]);
    }
    for args in readers("missing.onnx") {
        refused(folder.path(), &args, 1, &["`missing.onnx`", "No such file"]);
    }
}

#[test]
fn outputs_that_cannot_be() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("models")).expect("a folder");
    write(folder.path(), "there.onnx", "mine");
    for command in [&["prune", "good.onnx", "--sparsity", "0.5"][..], &["train", "good.onnx", "--data", "points.csv"]] {
        let to = |output: &'static str| [command, &["-o", output]].concat();
        refused(folder.path(), &to("there.onnx"), 1, &["`there.onnx` exists already", "--force"]);
        refused(folder.path(), &to("models"), 2, &["`models` is a folder", "models/model.onnx"]);
        refused(folder.path(), &to("nowhere/out.onnx"), 2, &["no folder `nowhere`"]);
        for same in ["good.onnx", "./models/../good.onnx"] {
            refused(folder.path(), &[&to(same)[..], &["--force"]].concat(), 2, &["is the model that comes in"]);
        }
    }
    refused(folder.path(), &["new", "lenet-5", "-o", "there.onnx"], 1, &["`there.onnx` exists already", "--force"]);
    assert_eq!(std::fs::read(folder.path().join("there.onnx")).expect("the file"), b"mine");
    assert_eq!(std::fs::read(folder.path().join("good.onnx")).expect("the model"), classifier());
}

#[test]
fn data_that_do_not_fit() {
    let folder = folder();
    let numbers =
        |columns: usize, labels: usize| (0..30).map(|i| format!("{}{}\n", "0.5,".repeat(columns), i % labels)).collect::<String>();
    write(folder.path(), "wide.csv", format!("a,b,c,label\n{}", numbers(3, 3)));
    write(folder.path(), "four.csv", format!("a,b,label\n{}", numbers(2, 4)));
    write(folder.path(), "gap.csv", format!("a,b,label\n{}0,0,9\n", numbers(2, 3)));
    write(folder.path(), "negative.csv", format!("a,b,label\n{}0,0,-1\n", numbers(2, 3)));
    write(folder.path(), "empty.csv", "");
    write(folder.path(), "notes.txt", "no data");
    write(folder.path(), "broken.toml", "mean = [0.5,");
    for (rest, code, words) in [
        (&["--data", "wide.csv"][..], 1, &["input `x`", "takes 2", "gives 3", "hint"][..]),
        (&["--data", "four.csv"], 1, &["`four.csv` has 4 classes", "tells 3 apart", "hint"]),
        (&["--data", "gap.csv"], 1, &["gap.csv", "class", "hint"]),
        (&["--data", "negative.csv"], 1, &["negative.csv", "-1"]),
        (&["--data", "empty.csv"], 1, &["empty.csv"]),
        (&["--data", "notes.txt"], 1, &["notes.txt", "known format", "hint"]),
        (&["--data", "point.csv"], 1, &["point.csv", "No such file"]),
        (&["--data", "points.csv", "--preprocess", "broken.toml"], 1, &["broken.toml", "no TOML"]),
        (&["--data", "points.csv", "--preprocess", "imagnet"], 1, &["`imagnet`", "imagenet, tf, none"]),
        (&["--data", "points.csv", "--labels", "missing.txt"], 1, &["missing.txt"]),
        (&[], 2, &["--data PATH"]),
    ] {
        refused(folder.path(), &[&["eval", "good.onnx"], rest].concat(), code, words);
        refused(folder.path(), &[&["train", "good.onnx", "-o", "out.onnx"], rest].concat(), code, words);
        if !rest.is_empty() {
            refused(folder.path(), &[&["prune", "good.onnx", "--sparsity", "0.5", "-o", "out.onnx"], rest].concat(), code, words);
        }
    }
}

#[test]
fn labels_out_of_range() {
    let folder = folder();
    // IDX: three images of 2×1, whose last label is 200.
    write(folder.path(), "train-images-idx3-ubyte", [&[0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1][..], &[1, 2, 3, 4, 5, 6]].concat());
    write(folder.path(), "train-labels-idx1-ubyte", [0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 200]);
    refused(folder.path(), &["train", "lenet-5", "--classes", "10", "--data", ".", "-o", "out.onnx"], 1, &["class", "hint"]);
}

#[test]
fn a_class_without_images() {
    let folder = folder();
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/data/folder/ant");
    std::fs::create_dir_all(folder.path().join("animals/ant")).expect("a folder");
    std::fs::create_dir(folder.path().join("animals/bee")).expect("a folder");
    for image in tree(&images) {
        std::fs::copy(&image, folder.path().join("animals/ant").join(image.file_name().expect("a name"))).expect("copied");
    }
    let train = ["train", "convnet-cifar", "--data", "animals", "-o", "out.onnx"];
    refused(folder.path(), &train, 1, &["animals/bee", "class without PNG or JPEG images", "hint"]);
}

/// No file may grow beyond some kilobytes: what a full disk does to a program.
#[cfg(unix)]
#[test]
fn a_full_disk() {
    let folder = folder();
    let data = clothes();
    for args in [
        &["new", "lenet-5", "-o", "out.onnx"][..],
        &["train", "lenet-300-100", "--data", &data, "--epochs", "1", "-o", "out.onnx"],
        &["prune", "lenet-300-100", "--sparsity", "0.5", "-o", "out.onnx"],
    ] {
        let before = tree(folder.path());
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -f 16; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_penjing")]).args(args);
        let output = limited.current_dir(folder.path()).output().expect("a shell");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {err}");
        assert!(err.contains("cannot write `") && err.contains("File too large") && !err.contains("panicked"), "{args:?}: {err}");
        assert_eq!(tree(folder.path()), before, "{args:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_stdout() {
    let folder = folder();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("the device");
    let mut command = Command::new(env!("CARGO_BIN_EXE_penjing"));
    let output = command.args(["inspect", "good.onnx"]).current_dir(folder.path()).stdout(full).output().expect("the binary runs");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("cannot write to stdout: No space left"), "{err}");
}

/// A name that is no text is a name all the same, save in a recipe, which is text.
#[cfg(unix)]
#[test]
fn a_path_that_is_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder();
    let name = std::ffi::OsStr::from_bytes(b"mod\xffel.onnx");
    let inspect = || penjing().arg("inspect").arg(name).current_dir(folder.path()).output().expect("the binary runs");
    let missing = inspect();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("mod\u{fffd}el.onnx"));
    std::fs::copy(folder.path().join("good.onnx"), folder.path().join(name)).expect("copied");
    assert_eq!(inspect().status.code(), Some(0));
    let train = ["--data", "points.csv", "--epochs", "1", "-o", "out.onnx"];
    let trained = penjing().arg("train").arg(name).args(train).current_dir(folder.path()).output().expect("the binary runs");
    assert_eq!(trained.status.code(), Some(0), "{}", String::from_utf8_lossy(&trained.stderr));
    let prune = ["--sparsity", "0.5", "-o", "pruned.onnx"];
    let pruned = penjing().arg("prune").arg(name).args(prune).current_dir(folder.path()).output().expect("the binary runs");
    let err = String::from_utf8_lossy(&pruned.stderr);
    assert_eq!(pruned.status.code(), Some(2), "{err}");
    assert!(err.contains("mod\u{fffd}el.onnx") && err.contains("rename") && !folder.path().join("pruned.run").exists(), "{err}");
}
