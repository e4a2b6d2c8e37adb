//! The binary as a user meets it.

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
fn the_same_seed_gives_the_same_bytes_at_any_thread_count() {
    let folder = tempfile::tempdir().expect("a folder");
    for threads in ["1", "2"] {
        let output = format!("{threads}.onnx");
        let (out, err, code) = run(&["--threads", threads, "prune", "lenet-300-100", "--sparsity", "0.9", "-o", &output], folder.path());
        assert_eq!(code, Some(0), "{out}{err}");
    }
    let read = |name| std::fs::read(folder.path().join(name)).expect("written");
    assert!(read("1.onnx") == read("2.onnx"));
}

/// The images that the demo carries.
fn clothes() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/fashion-mnist-small").to_string()
}

#[test]
fn training_gives_the_same_bytes_at_any_thread_count() {
    let folder = tempfile::tempdir().expect("a folder");
    for threads in ["1", "2"] {
        let output = format!("{threads}.onnx");
        let args = ["--threads", threads, "train", "lenet-300-100", "--data", &clothes(), "--epochs", "1", "-o", &output];
        let (out, err, code) = run(&args, folder.path());
        assert_eq!(code, Some(0), "{out}{err}");
    }
    let read = |name| std::fs::read(folder.path().join(name)).expect("written");
    assert!(read("1.onnx") == read("2.onnx"));
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    let args = |output: &'static str| {
        let args = ["prune", "lenet-300-100", "--data", &data, "--epochs", "1", "--max-drop", "2", "--rounds", "4", "-o", output];
        args.map(String::from)
    };
    let whole = penjing().args(args("whole.onnx")).current_dir(folder.path()).output().expect("the binary runs");
    assert!(matches!(whole.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&whole.stderr));

    let mut killed = std::process::Command::new(env!("CARGO_BIN_EXE_penjing"))
        .args(args("killed.onnx"))
        .current_dir(folder.path())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let log = std::io::BufReader::new(killed.stderr.take().expect("piped"));
    let second = std::io::BufRead::lines(log).map_while(Result::ok).find(|line| line.contains("round-2"));
    assert!(second.is_some(), "the run reaches its second round");
    killed.kill().expect("it runs still");
    killed.wait().expect("it ends");
    assert!(!folder.path().join("killed.onnx").exists());

    let (out, err, code) = run(&["prune", "--resume", "killed.run"], folder.path());
    assert_eq!(code, whole.status.code(), "{out}{err}");
    assert!(!err.contains("round-1\n"), "what was finished is not done again: {err}");
    let read = |name| std::fs::read(folder.path().join(name)).expect("written");
    assert!(read("whole.onnx") == read("killed.onnx"));
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
        (&["inspect", "missing.onnx"], 1, "missing.onnx"),
        (&["new", "lenet-5"], 2, "-o FILE"),
    ] {
        let (_, err, found) = run(args, folder.path());
        assert_eq!(found, Some(code), "{args:?}: {err}");
        assert!(err.contains(text), "{args:?}: {err}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing half-written");
}
