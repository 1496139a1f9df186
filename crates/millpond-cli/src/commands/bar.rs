//! How far a long job is: a bar on a terminal, a line for each stretch of it elsewhere. Always on stderr.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report;

/// The progress of one job.
#[derive(Debug)]
pub struct Bar {
    bar: Option<ProgressBar>,
    stretch: String,
}

impl Bar {
    /// A bar on a terminal, lines elsewhere.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, stretch: String::new() }
    }

    /// Shows where the work stands: in which stretch of it, how much is done, and of how much where that is known.
    pub fn at(&mut self, stretch: &str, done: u64, of: Option<u64>, more: &str) {
        let new = self.stretch != stretch;
        if new {
            stretch.clone_into(&mut self.stretch);
        }
        match &self.bar {
            Some(bar) => {
                if new {
                    let bars = if of.is_some() {
                        "{prefix:>10} [{bar:32}] {pos}/{len}  {msg}"
                    } else {
                        "{prefix:>10} {spinner} {pos}  {msg}"
                    };
                    bar.set_style(ProgressStyle::with_template(bars).unwrap_or_else(|_| ProgressStyle::default_bar()));
                    bar.set_prefix(stretch.to_owned());
                }
                if let Some(of) = of {
                    bar.set_length(of);
                }
                bar.set_position(done);
                bar.set_message(more.to_owned());
            }
            None if new => report::note(match of {
                Some(of) => format!("{stretch}: {done} of {of}"),
                None => stretch.to_owned(),
            }),
            None => {}
        }
    }
}

// Also when the job failed: the error is not to stand behind half a bar.
impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
