//! Progress and warnings, on stderr: bars on a terminal, plain lines otherwise.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use penjing_exec::train::{Event, Progress};

/// A line on stderr. A closed stderr is nobody's loss.
pub(crate) fn warn(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Shows how a training goes on.
pub(crate) struct Display {
    bar: Option<ProgressBar>,
}

impl Display {
    pub(crate) fn new() -> Display {
        Display { bar: None }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    pub(crate) fn line(&mut self, text: &str) {
        self.clear();
        warn(text);
    }
}

impl Progress for Display {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::EpochStarted { epoch, epochs, steps, done } => {
                self.clear();
                if std::io::stderr().is_terminal() {
                    let bar = ProgressBar::new(steps).with_position(done).with_prefix(format!("epoch {epoch}/{epochs}"));
                    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg}, {eta} left");
                    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                    bar.enable_steady_tick(Duration::from_millis(200));
                    self.bar = Some(bar);
                }
            }
            Event::Step { done, loss, samples_per_second, .. } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(done);
                    bar.set_message(format!("loss {loss:.3}, {samples_per_second:.0} samples/s"));
                }
            }
            Event::Evaluated { .. } => {}
            Event::EpochEnded(epoch) => {
                let error = || epoch.validation_error.map_or(String::new(), |error| format!(", validation error {error:.4}"));
                let validation = epoch.validation.map_or_else(error, |v| format!(", validation {:.2} %", 100.0 * v.value()));
                self.line(&format!("epoch {}: mean loss {:.4}{validation}", epoch.epoch, epoch.mean_loss));
            }
            Event::StoppedEarly { best } => self.line(&format!("stopped early: epoch {best} was the best")),
        }
    }
}
