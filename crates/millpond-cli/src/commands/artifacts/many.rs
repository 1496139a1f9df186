//! `millpond artifacts verify` and `download`: many artifacts at once, with a bar on a terminal.

use std::io::IsTerminal;
use std::path::Path;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use millpond::{Artifacts, DamagedArtifact, Result, VerifyArtifacts};

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, counted, value, values};
use crate::report;

const DAMAGED: [Column; 8] = [
    Column::new("key", "/key"),
    Column::new("location", "/location"),
    Column::new("problem", "/problem"),
    Column::new("expected", "/expected_length"),
    Column::new("found", "/found_length"),
    Column::new("expected sha-256", "/expected_sha256"),
    Column::new("found sha-256", "/found_sha256"),
    Column::new("place", "/place"),
];

const FAILED: [Column; 2] = [Column::new("key", "/key"), Column::new("error", "/error")];

/// How far it is, on a terminal; nothing elsewhere. It is taken away at the end, also after an error.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new() -> Self {
        Self(std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("[{bar:32}] {pos}/{len}  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar
        }))
    }

    fn at(&self, done: u64, of: u64, said: impl std::fmt::Display) {
        if let Some(bar) = &self.0 {
            bar.set_length(of.max(done));
            bar.set_position(done);
            bar.set_message(said.to_string());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Every damaged object is printed; more than an answer names are printed as they are found.
pub(super) async fn verify(ctx: &Context, artifacts: &Artifacts, request: &VerifyArtifacts) -> Result<Exit> {
    let bar = Bar::new();
    let mut all: Vec<DamagedArtifact> = Vec::new();
    let done = artifacts.verify_all(request, |progress, damaged| {
        let read = HumanBytes(progress.read_bytes);
        bar.at(progress.looked_at, progress.of, format_args!("{read} read, {} damaged", progress.damaged));
        all.extend(damaged.cloned());
    });
    let done = done.await?;
    drop(bar);
    if !ctx.out.is_table() {
        let mut item = value(&done)?;
        item["named"] = values(&all)?.into();
        ctx.out.item(&item)?;
    } else if !all.is_empty() {
        ctx.out.list(&DAMAGED, &values(&all)?)?;
    }
    let progress = done.progress;
    report::note(format_args!(
        "{} looked at, {} of {} read and compared, {} damaged or missing",
        counted(progress.looked_at, "artifact"),
        counted(progress.read_bytes, "byte"),
        counted(progress.read, "artifact"),
        progress.damaged,
    ));
    Ok(if progress.damaged > 0 { Exit::Unhealthy } else { Exit::Ok })
}

pub(super) async fn download(ctx: &Context, artifacts: &Artifacts, execution: &str, folder: &Path) -> Result<Exit> {
    let bar = Bar::new();
    let done = artifacts.download(execution, folder, |done, file| {
        bar.at(done.written + done.were_there + done.failed, done.of, &file.key);
    });
    let done = done.await?;
    drop(bar);
    let written = format!("{} of {}", counted(done.written, "file"), counted(done.written_bytes, "byte"));
    ctx.out.say(format_args!("{written} written to {}, {} there already", folder.display(), done.were_there), &value(&done)?)?;
    if done.failed == 0 {
        return Ok(Exit::Ok);
    }
    if ctx.out.is_table() {
        ctx.out.list(&FAILED, &values(&done.named)?)?;
    }
    report::note(format_args!("{} not written", counted(done.failed, "artifact")));
    Ok(Exit::Error)
}
