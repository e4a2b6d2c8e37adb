//! A run that is cut short, by a kill or by Ctrl-C, goes on to the same bytes.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{clothes, run};

/// Starts the command and waits for a line on stderr that holds `text`.
fn start_until(text: &str, args: &[&str], folder: &Path) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penjing"));
    let mut child = command.args(args).current_dir(folder).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary runs");
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    let found = log.by_ref().lines().map_while(Result::ok).any(|line| line.contains(text));
    assert!(found, "`{text}` is never said");
    (child, log)
}

fn bytes(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).expect("written")
}

fn prune<'a>(data: &'a str, output: &'a str) -> Vec<&'a str> {
    vec!["prune", "lenet-300-100", "--data", data, "--epochs", "1", "--max-drop", "2", "--rounds", "4", "-o", output]
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    let whole = run(&prune(&data, "whole.onnx"), folder.path());
    assert!(matches!(whole.2, Some(0 | 3)), "{}", whole.1);

    let (mut killed, _log) = start_until("round-2", &prune(&data, "killed.onnx"), folder.path());
    killed.kill().expect("it runs still");
    killed.wait().expect("it ends");
    assert!(!folder.path().join("killed.onnx").exists());

    let (out, err, code) = run(&["prune", "--resume", "killed.run"], folder.path());
    assert_eq!(code, whole.2, "{out}{err}");
    assert!(!err.contains("round-1\n"), "what was finished is not done again: {err}");
    assert!(bytes(folder.path(), "whole.onnx") == bytes(folder.path(), "killed.onnx"));
    let (out, err, code) = run(&["prune", "--resume", "killed.run"], folder.path());
    assert_eq!((code, err.as_str()), (whole.2, ""), "nothing is left to do: {out}");
    assert!(out.starts_with("`killed.run` is finished, the goal was") && out.contains("the result is `killed.onnx`"), "{out}");
}

/// Ctrl-C, as a terminal sends it, and the last that the command says.
#[cfg(unix)]
fn interrupt(mut child: Child, mut log: impl std::io::Read) -> (Option<i32>, String) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success(), "it runs still");
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("text");
    (child.wait().expect("it ends").code(), rest)
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    let whole = run(&prune(&data, "whole.onnx"), folder.path());

    let (child, log) = start_until("round-2", &prune(&data, "stopped.onnx"), folder.path());
    let (code, said) = interrupt(child, log);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--resume stopped.run"), "{said}");
    assert!(folder.path().join("stopped.run/round-2.checkpoint").exists() && !folder.path().join("stopped.onnx").exists());

    let (out, err, code) = run(&["prune", "--resume", "stopped.run"], folder.path());
    assert_eq!(code, whole.2, "{out}{err}");
    assert!(bytes(folder.path(), "whole.onnx") == bytes(folder.path(), "stopped.onnx"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_training_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    let train = |output: &'static str| ["train", "lenet-300-100", "--data", &data, "--epochs", "3", "-o", output];
    let (out, err, code) = run(&train("whole.onnx"), folder.path());
    assert_eq!(code, Some(0), "{out}{err}");

    let (child, log) = start_until("epoch 1:", &train("stopped.onnx"), folder.path());
    let (code, said) = interrupt(child, log);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("stopped.checkpoint") && said.contains("--resume"), "{said}");
    assert!(!folder.path().join("stopped.onnx").exists());
    // Started afresh by mistake, it would be lost.
    let (_, err, code) = run(&train("stopped.onnx"), folder.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("interrupted training"), "{err}");

    let resumed = [&train("stopped.onnx")[..], &["--resume"]].concat();
    let (out, err, code) = run(&resumed, folder.path());
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(!err.contains("epoch 1:"), "what was finished is not done again: {err}");
    assert!(bytes(folder.path(), "whole.onnx") == bytes(folder.path(), "stopped.onnx"));
    assert!(!folder.path().join("stopped.checkpoint").exists());
}

#[test]
fn a_damaged_checkpoint_is_not_gone_on_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    let train = ["train", "lenet-300-100", "--data", &data, "--epochs", "2", "-o", "t.onnx"];
    let (mut child, _log) = start_until("epoch 1:", &train, folder.path());
    // The checkpoint of an epoch is written after its line; the next epoch takes longer.
    let checkpoint = folder.path().join("t.checkpoint");
    while !checkpoint.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().expect("it runs still");
    child.wait().expect("it ends");
    let mut held = std::fs::read(&checkpoint).expect("the checkpoint");
    let last = held.len() - 1;
    held[last] ^= 1;
    std::fs::write(&checkpoint, held).expect("written");
    let (_, err, code) = run(&[&train[..], &["--resume"]].concat(), folder.path());
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("t.checkpoint") && err.contains("damaged") && err.contains("hint"), "{err}");
    assert!(!folder.path().join("t.onnx").exists());
}
