//! The user's own metric: a command that is given a model and prints one number.

use std::path::Path;
use std::process::Command;

use crate::ExecError;

/// Runs `command` in the shell with the model's path as one more argument and reads the number that it prints.
///
/// # Errors
/// When it cannot be started, fails, or prints anything but one finite number; what it wrote to stderr is quoted.
pub fn metric_command(command: &str, model: &Path) -> Result<f64, ExecError> {
    let failed = |reason: String| ExecError::Metric { command: format!("{command} {}", model.display()), reason };
    let output = shell(command, model).output().map_err(|e| failed(format!("cannot be started: {e}")))?;
    let said = match String::from_utf8_lossy(&output.stderr).trim() {
        "" => "it wrote nothing to stderr".into(),
        text => format!("it says `{}`", last_characters(text, 400)),
    };
    if !output.status.success() {
        return Err(failed(format!("ended with {}; {said}", output.status)));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let printed = printed.trim();
    match printed.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(failed(format!(
            "printed `{}`, not one finite number (hint: print only the number on stdout, all else on stderr); {said}",
            last_characters(printed, 100)
        ))),
    }
}

/// The path is an argument of the shell, not part of its text, so that no character of it is special.
#[cfg(unix)]
fn shell(command: &str, model: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{command} \"$@\"")).arg("sh").arg(model);
    shell
}

#[cfg(not(unix))]
fn shell(command: &str, model: &Path) -> Command {
    let mut shell = Command::new("cmd");
    shell.arg("/C").arg(format!("{command} \"{}\"", model.display()));
    shell
}

fn last_characters(text: &str, count: usize) -> String {
    let skipped = text.chars().count().saturating_sub(count);
    let start = if skipped > 0 { "…" } else { "" };
    start.chars().chain(text.chars().skip(skipped)).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn run(command: &str) -> Result<f64, String> {
        metric_command(command, Path::new("a b;'$x.onnx")).map_err(|e| e.to_string())
    }

    #[test]
    fn one_number_is_read_and_the_path_arrives_whole() {
        assert_eq!(run("printf '%s' 0.5; true"), Ok(0.5));
        assert_eq!(run("f() { test \"$1\" = \"a b;'\\$x.onnx\" && echo ' -2e1 '; }; f"), Ok(-20.0));
    }

    #[test]
    fn failures_quote_stderr() {
        let text = run("echo no GPU >&2; exit 3; true").expect_err("fails");
        assert!(text.starts_with("metric command `echo no GPU >&2; exit 3; true a b;'$x.onnx`: ended with exit status: 3"), "{text}");
        assert!(text.ends_with("it says `no GPU`"), "{text}");
    }

    #[test]
    fn anything_but_a_number_is_refused() {
        for printed in ["", "accuracy 0.5", "NaN", "inf", "0.5 0.6"] {
            let text = run(&format!("echo '{printed}'; true")).expect_err(printed);
            assert!(text.contains(&format!("printed `{printed}`, not one finite number")), "{text}");
        }
    }

    #[test]
    fn long_texts_are_cut_at_the_front() {
        assert_eq!((last_characters("äöü", 2), last_characters("äöü", 3)), ("…öü".into(), "äöü".into()));
    }
}
