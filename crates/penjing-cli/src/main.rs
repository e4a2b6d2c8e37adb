//! The command `penjing`: makes trained neural networks smaller and faster, and proves it.

mod commands;
mod options;
mod progress;
mod run;
mod similarity;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use penjing_exec::train::StopFlag;

/// Makes trained neural networks smaller and faster, and proves it. ONNX in, ONNX out.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = "Exit codes: 0 goal met · 1 error · 2 bad usage · 3 done, goal missed")]
struct Cli {
    /// Threads to compute on (default: one for each processor)
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(commands::inspect::Inspect),
    New(commands::new::New),
    Train(commands::train::Train),
    Eval(commands::eval::Eval),
    Prune(Box<commands::prune::Prune>),
    Quantize(Box<commands::quantize::Quantize>),
    Compare(Box<commands::compare::Compare>),
    Bench(commands::bench::Bench),
    Demo(commands::demo::Demo),
}

/// Whether a command reached its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    Met,
    Missed,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let stop = StopFlag::default();
    let ended = set_up(&cli, &stop).and_then(|threads| match cli.command {
        Command::Inspect(command) => command.run(),
        Command::New(command) => command.run(),
        Command::Train(command) => command.run(stop),
        Command::Eval(command) => command.run(threads),
        Command::Prune(command) => command.run(stop, threads),
        Command::Quantize(command) => command.run(stop, threads),
        Command::Compare(command) => command.run(threads),
        Command::Bench(command) => command.run(threads),
        Command::Demo(command) => command.run(stop, threads),
    });
    match ended {
        Ok(Goal::Met) => ExitCode::SUCCESS,
        Ok(Goal::Missed) => ExitCode::from(3),
        Err(error) => {
            progress::warn(&format!("error: {error:#}"));
            ExitCode::from(if error.is::<options::Usage>() { 2 } else { 1 })
        }
    }
}

/// Starts the threads and listens for Ctrl-C; gives the number of threads.
fn set_up(cli: &Cli, stop: &StopFlag) -> anyhow::Result<usize> {
    let threads = match cli.threads {
        Some(0) => return Err(options::Usage("--threads must be at least 1".into()).into()),
        Some(threads) => threads,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    penjing_exec::keep_freed_memory();
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    #[cfg(unix)]
    too_large_files_are_errors()?;
    let asked = stop.clone();
    ctrlc::set_handler(move || {
        // A second Ctrl-C does not wait for the step.
        if asked.requested() {
            std::process::exit(130);
        }
        asked.request();
    })?;
    Ok(threads)
}

/// A write beyond the largest file that is allowed (`ulimit -f`) fails instead of ending the program, so that nothing half-written
/// stays behind.
#[cfg(unix)]
fn too_large_files_are_errors() -> std::io::Result<()> {
    let ignored = std::sync::Arc::default();
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, ignored).map(drop)
}
