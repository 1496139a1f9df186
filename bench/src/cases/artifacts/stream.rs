//! A stream of 10 GiB, written and read in a process of its own whose memory is looked at.

use std::process::{Command, ExitCode};

use millpond::{Body, NewArtifact};

use super::bytes;
use crate::report::Report;
use crate::world::{self, Done};

/// The name of the process of its own.
pub const STREAM: &str = "artifacts.stream";
/// Pieces of a MiB.
const PIECES: u64 = 10 << 10;

pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("a stream of 10 GiB, written and read (artifacts.stream)");
    let folder = world::folder(args)?;
    let done = Command::new(std::env::current_exe()?)
        .args(["--burst", STREAM, "--store", &folder.path().join("ours").display().to_string()])
        .output()?;
    let said = String::from_utf8(done.stdout)?;
    if !done.status.success() {
        return Err(format!("the stream failed: {said}{}", String::from_utf8_lossy(&done.stderr)).into());
    }
    for line in said.lines() {
        println!("  {line}");
    }
    let most: f64 = said.lines().last().and_then(|l| l.split(' ').nth(2)).ok_or("no last line")?.parse()?;
    report.at_most("resident memory at its highest, MiB", most, 128.0);
    Ok(())
}

/// The process of its own.
pub fn child(args: &crate::Args) -> ExitCode {
    match work(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn work(args: &crate::Args) -> Done {
    let store = args.store.clone().ok_or("no store")?;
    let runtime = world::runtime()?;
    runtime.block_on(async {
        let pond = millpond::open(&store).await?;
        let piece = bytes(1 << 20);
        let begin = std::time::Instant::now();
        let pieces = futures_util::stream::iter((0..PIECES).map(move |_| Ok(piece.clone())));
        let written = pond.artifacts().write("s", Body::stream(pieces), NewArtifact::default()).await?;
        let gib = written.length as f64 / f64::from(1 << 30);
        println!("written {gib:.1} GiB in {:.1} s", begin.elapsed().as_secs_f64());
        let begin = std::time::Instant::now();
        let (mut reader, mut read) = (pond.artifacts().reader("s", None).await?, 0);
        while let Some(piece) = reader.next().await? {
            read += piece.len() as u64;
        }
        if read != written.length {
            return Err("it reads back short".into());
        }
        println!("read {gib:.1} GiB, each block compared, in {:.1} s", begin.elapsed().as_secs_f64());
        pond.close().await?;
        Done::Ok(())
    })?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let most = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: f64 = most.trim().trim_end_matches(" kB").parse()?;
    println!("memory most {:.1} MiB", kib / 1024.0);
    Ok(())
}
