//! Several processes on one PostgreSQL database, beside one process with as many callers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use millpond_core::{Engine, Front, Namespace, Store};
use millpond_postgres::{PostgresEngine, PostgresOptions};

use super::crowd::{closed_loop, ours};
use crate::report::Report;
use crate::rounds::interleave;
use crate::world::{self, Done};

/// Callers of all processes together.
const CALLERS: usize = 64;
const PROCESSES: usize = 4;

/// The line: four processes of sixteen callers against one process of sixty-four, on one namespace.
pub fn run(args: &crate::Args, report: &mut Report, url: &str) -> Done {
    report.heading("PostgreSQL, 64 callers in four processes on one namespace (pg.processes4)");
    let (one, four) = (format!("{url}?schema=one"), format!("{url}?schema=four"));
    let figures = interleave(
        args.rounds,
        &mut [
            ("one process, 64 callers", Box::new(|| together(args, &one, 1))),
            ("four processes, 16 callers each", Box::new(|| together(args, &four, PROCESSES))),
        ],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "commits/s"));
    report.ratio("four processes / one process", figures[1].1.median / figures[0].1.median, 0.8);
    report.product("pg.processes4", figures[1].1, "ops/s")
}

/// Commits a second of all processes together.
fn together(args: &crate::Args, url: &str, processes: usize) -> Done<f64> {
    let mut writers = (0..processes).map(|_| Writer::start(args, url, CALLERS / processes)).collect::<Done<Vec<_>>>()?;
    for writer in &mut writers {
        writer.child.stdin.as_mut().ok_or("no input")?.write_all(b"go\n")?;
    }
    let mut rate = 0.0;
    for mut writer in writers {
        rate += writer.line()?.parse::<f64>()?;
        writer.child.wait()?;
    }
    Ok(rate)
}

/// A process that commits.
struct Writer {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Writer {
    fn start(args: &crate::Args, url: &str, callers: usize) -> Done<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--writer").arg(format!("{callers} {url}")).arg("--secs").arg(args.secs.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let said = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut writer = Self { child, said };
        if writer.line()? != "ready" {
            return Err("a writer did not get ready".into());
        }
        Ok(writer)
    }

    fn line(&mut self) -> Done<String> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

/// The process itself: opens, says so, waits, commits for a while, and prints its rate.
pub fn child(args: &crate::Args, work: &str) -> ExitCode {
    let done = || -> Done {
        let (callers, url) = work.split_once(' ').ok_or("callers and an address")?;
        let runtime = world::runtime()?;
        let store = runtime.block_on(async {
            let engine: Arc<dyn Engine> = Arc::new(PostgresEngine::open(url, PostgresOptions::default()).await?);
            let store = Store::open(Arc::new(Front::new(engine)), Namespace::default()).await?;
            store.declare(&[world::WORK.spec()?]).await?;
            Ok::<_, millpond_core::Error>(store)
        })?;
        let step = ours(&store);
        // Records are expected to be new, so each process begins where no other does: at its clock.
        let first = u64::try_from(store.host().now().as_micros())? * 1_000;
        let counter = Arc::new(AtomicU64::new(first + u64::from(std::process::id()) * 1_000_000));
        closed_loop(&runtime, 4, 0.05, &counter, &step)?;
        println!("ready");
        std::io::stdin().lock().read_line(&mut String::new())?;
        println!("{}", closed_loop(&runtime, callers.parse()?, args.secs, &counter, &step)?);
        Ok(())
    };
    match done() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
