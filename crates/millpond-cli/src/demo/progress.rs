//! How far it is: a bar on a terminal, a line for each stage elsewhere. Always on stderr.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::state::{Stage, State};
use crate::report;

/// The progress of one demo.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    stage: Option<Stage>,
}

impl Progress {
    /// A bar on a terminal, lines elsewhere.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix:>8} [{bar:32}] {pos}/{len}  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, stage: None }
    }

    /// Shows where the work stands.
    pub fn at(&mut self, state: &State) {
        let steps = state.steps_of(state.stage);
        if self.stage != Some(state.stage) {
            self.stage = Some(state.stage);
            match &self.bar {
                Some(bar) => bar.set_prefix(state.stage.name()),
                None if state.stage == Stage::Done => {}
                None => {
                    let from = if state.step > 0 { format!(", from step {}", state.step + 1) } else { String::new() };
                    report::note(format_args!("{}: {}{from}", state.stage.name(), crate::output::counted(steps, "step")));
                }
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_length(steps);
            bar.set_position(state.step);
            bar.set_message(format!(
                "{} files, {} segments, {} terms",
                state.counts.files, state.counts.segments, state.counts.terms
            ));
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

// Also when a step failed: the error is not to stand behind half a bar.
impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
