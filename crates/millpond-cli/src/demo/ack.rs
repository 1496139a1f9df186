//! A testing aid: one line for each acknowledged commit, written to a pipe as soon as the store has answered.
//!
//! A parent that kills this process knows from these lines what must still be there afterwards.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use millpond::{Error, Receipt, Result};
use serde_json::json;

use super::state::State;

/// Where acknowledgements go, if anywhere.
#[derive(Debug)]
pub struct Ack(Option<File>);

impl Ack {
    /// Opens the pipe, which may be a file, a FIFO or `/dev/fd/N`.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be opened for writing.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let open = |p: &Path| {
            File::options()
                .append(true)
                .open(p)
                .map_err(|e| Error::unavailable(format!("cannot write acknowledgements to {}", p.display())).with_source(e))
        };
        path.map(open).transpose().map(Self)
    }

    /// Tells of the commit that began a run.
    ///
    /// # Errors
    /// As [`Ack::tell`].
    pub fn tell_begin(&mut self, receipt: &Receipt) -> Result<()> {
        self.line("begin", 0, 1, receipt)
    }

    /// Tells of one commit: which step it was, counted from 0, and how many its stage has.
    ///
    /// # Errors
    /// `Unavailable` when nobody reads any more.
    pub fn tell(&mut self, step: &State, receipt: &Receipt) -> Result<()> {
        self.line(step.stage.name(), step.step, step.steps_of(step.stage), receipt)
    }

    fn line(&mut self, stage: &str, step: u64, steps: u64, receipt: &Receipt) -> Result<()> {
        let Some(pipe) = &mut self.0 else { return Ok(()) };
        let line = json!({
            "stage": stage,
            "step": step,
            "steps": steps,
            "position": receipt.position,
            "commit": receipt.id,
        });
        // One write: a line is there whole or not at all.
        pipe.write_all(format!("{line}\n").as_bytes())
            .map_err(|e| Error::unavailable("cannot write an acknowledgement").with_source(e))
    }
}
