//! `millpond artifacts verify` and `download`: many artifacts at once, with a bar on a terminal.

use std::io::IsTerminal;
use std::path::Path;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use millpond::{Artifacts, DamagedArtifact, Result, VerifyArtifacts};
use serde_json::Value;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, Format, counted, value, values};
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

/// Prints what is damaged as it is found, so that memory stays flat however much that is: a table for each thousand, or a
/// line each. One JSON document names the first thousand.
struct Damage<'c> {
    ctx: &'c Context,
    found: Vec<Value>,
    printed: Result<()>,
}

/// Rows of one table.
const TOGETHER: usize = 1_000;

impl Damage<'_> {
    fn add(&mut self, damaged: &DamagedArtifact) {
        if self.ctx.out.format() == Format::Json {
            return;
        }
        let line = value(damaged).and_then(|damaged| {
            if self.ctx.out.is_table() {
                self.found.push(damaged);
                return Ok(());
            }
            self.ctx.out.line(&DAMAGED, &damaged)
        });
        self.print(line);
        if self.found.len() >= TOGETHER {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let found = std::mem::take(&mut self.found);
        if !found.is_empty() {
            let printed = self.ctx.out.list(&DAMAGED, &found);
            self.print(printed);
        }
    }

    /// The first error is the one to tell.
    fn print(&mut self, printed: Result<()>) {
        if self.printed.is_ok() {
            self.printed = printed;
        }
    }
}

/// Every damaged object is printed, and the numbers at the end.
pub(super) async fn verify(ctx: &Context, artifacts: &Artifacts, request: &VerifyArtifacts) -> Result<Exit> {
    let bar = Bar::new();
    let mut damage = Damage { ctx, found: Vec::new(), printed: Ok(()) };
    let done = artifacts.verify_all(request, |progress, damaged| {
        let read = HumanBytes(progress.read_bytes);
        let bad = progress.damaged + progress.unreadable;
        bar.at(progress.looked_at, progress.of, format_args!("{read} read, {bad} damaged"));
        if let Some(damaged) = damaged {
            damage.add(damaged);
        }
    });
    let done = done.await;
    drop(bar);
    // What was found is printed also when it could not go on.
    damage.flush();
    damage.printed?;
    let done = done?;
    match ctx.out.format() {
        Format::Table => {}
        Format::Json => ctx.out.item(&value(&done)?)?,
        // Every one has had its line.
        Format::Jsonl => ctx.out.item(&value(&done.progress)?)?,
    }
    for record in &done.unreadable_records {
        report::note(format_args!("damaged: {}: {}", record.what, record.why));
    }
    let progress = done.progress;
    report::note(format_args!(
        "{} looked at, {} of {} read and compared, {} damaged or missing",
        counted(progress.looked_at, "object"),
        counted(progress.read_bytes, "byte"),
        counted(progress.read, "object"),
        progress.damaged,
    ));
    if progress.unreadable > 0 {
        let verb = if progress.unreadable == 1 { "does" } else { "do" };
        report::note(format_args!("{} {verb} not read back", counted(progress.unreadable, "record")));
    }
    if ctx.out.format() == Format::Json && progress.damaged > done.named.len() as u64 {
        report::note("the first thousand are named; -o jsonl prints all");
    }
    Ok(if progress.damaged + progress.unreadable > 0 { Exit::Unhealthy } else { Exit::Ok })
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
