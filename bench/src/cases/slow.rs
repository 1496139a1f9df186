//! The same burst on an ordinary disk: every flush slowed by 2 ms, with strace in front of a child process.

use std::process::{Command, ExitCode};

use crate::hand::Hand;
use crate::report::Report;
use crate::rounds::{interleave, rate};
use crate::world::{self, Done};

/// Commits of the burst.
const CALLERS: u64 = 10_000;

/// The line.
pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    if !report.wants("slow") {
        return Ok(());
    }
    report.heading("10,000 callers at once, each flush slowed by 2 ms (slow)");
    let folder = world::folder(args)?;
    let figures = interleave(
        args.rounds,
        &mut [
            ("millpond, burst", Box::new(|| traced(folder.path(), "ours"))),
            ("by hand, one transaction each", Box::new(|| traced(folder.path(), "hand"))),
        ],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "commits/s"));
    report.ratio("millpond / one transaction each", figures[0].1.median / figures[1].1.median, 60.0);
    Ok(())
}

fn traced(folder: &std::path::Path, variant: &str) -> Done<f64> {
    let strace = [
        "strace",
        "-f",
        "-qq",
        // Without it the child stops at each system call, not only at the flushes, and that is what would be measured.
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync,fsync",
        "-e",
        "inject=fdatasync,fsync:delay_enter=2000",
    ];
    in_a_process(folder, variant, &strace)
}

/// Runs a variant in a process of its own, behind a command if one is given, and takes the number it prints.
pub fn in_a_process(folder: &std::path::Path, variant: &str, behind: &[&str]) -> Done<f64> {
    let own = std::env::current_exe()?;
    let mut command = match behind {
        [] => Command::new(own),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(own);
            command
        }
    };
    let output = command
        .args(["--burst", variant, "--dir"])
        .arg(folder)
        .output()
        .map_err(|e| format!("cannot start {}: {e}", behind.first().unwrap_or(&"the bench again")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| format!("the child said {text:?} {:?}", String::from_utf8_lossy(&output.stderr)).into())
}

/// What a child runs: prints commits a second, or MiB.
pub fn child(args: &crate::Args, variant: &str) -> ExitCode {
    let measure = || -> Done<f64> {
        let folder = world::folder(args)?;
        if variant == "ours" {
            // Each variant measures steady work: by hand the second holds thousands of commits, here a burst comes before.
            return super::crowd::second_burst(&world::runtime()?, folder.path(), CALLERS);
        }
        if variant == "memory" {
            return super::crowd::growth_of_a_burst(folder.path());
        }
        let mut hand = Hand::open(&folder.path().join("hand.db"))?;
        rate(1.0, || hand.one_step())
    };
    match measure() {
        Ok(rate) => {
            println!("{rate}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
