//! Programs that undo steps outside of the store.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use millpond::{Error, Result, StepToUndo};

/// How often it is looked whether a program has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A program that undoes steps: it gets the step as JSON on stdin, and ends with 0 when the step is undone.
#[derive(Debug, Clone)]
pub(super) struct Compensation {
    program: PathBuf,
}

impl Compensation {
    /// # Errors
    /// `Invalid` without a program.
    pub(super) fn new(program: &str) -> Result<Self> {
        if program.is_empty() {
            return Err(Error::invalid("a compensation needs a program").with_next("write --compensation NAME=PROGRAM"));
        }
        Ok(Self { program: program.into() })
    }

    /// Runs it for a step. What it prints is for people: stdout is data.
    pub(super) async fn run(self, step: StepToUndo) -> Result<()> {
        let shown = self.program.display();
        let told = serde_json::to_vec(&step).map_err(|e| Error::corrupt("the step is no JSON").with_source(e))?;
        let cannot = |what: &str, e: std::io::Error| Error::unavailable(format!("cannot {what} {shown}")).with_source(e);
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::piped()).stdout(Stdio::from(std::io::stderr()));
        let mut running = Running(command.spawn().map_err(|e| cannot("run", e))?);
        if let Some(stdin) = running.0.stdin.take() {
            tell(stdin, told).await.map_err(|e| cannot("tell", e))?;
        }
        let status = running.ended().await.map_err(|e| cannot("wait for", e))?;
        if status.success() { Ok(()) } else { Err(Error::unavailable(format!("{shown} did not undo the step: {status}"))) }
    }
}

/// Writes the step, on a thread that may wait until it is read, and closes stdin.
async fn tell(mut stdin: ChildStdin, told: Vec<u8>) -> std::io::Result<()> {
    let written = tokio::task::spawn_blocking(move || stdin.write_all(&told)).await.unwrap_or_else(|e| Err(e.into()));
    match written {
        // It knew without reading.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// A program that runs. It ends with whoever waits for it: who lost the unit's lease does not go on undoing.
#[derive(Debug)]
struct Running(Child);

impl Running {
    async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is not there to be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
