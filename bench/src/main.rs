//! Millpond beside hand-written SQL, in one run.
//!
//! Every line is a ratio of medians of interleaved rounds on one disk; the figures alone mean nothing elsewhere.

mod cases;
mod hand;
mod hand_pg;
mod report;
mod rounds;
mod world;

use clap::Parser;

/// Measures Millpond against hand-written rusqlite doing the same durable work.
#[derive(Parser, Debug)]
pub struct Args {
    /// Rounds of each line, at least five; each round measures every variant once.
    #[arg(long, default_value_t = 5, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(5..))]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 0.8)]
    secs: f64,
    /// Only lines whose item holds this text.
    #[arg(long)]
    only: Option<String>,
    /// Result files of the peers' benches; their figures are printed beside ours.
    #[arg(long)]
    peers: Vec<std::path::PathBuf>,
    /// Where the databases go; the disk matters.
    #[arg(long)]
    dir: Option<std::path::PathBuf>,
    /// Also write `product<TAB>item<TAB>median<TAB>min<TAB>max<TAB>unit` lines to this file.
    #[arg(long)]
    tsv: Option<std::path::PathBuf>,
    /// Also measure growth up to a million records, and opening stores of that size (about ten minutes).
    #[arg(long)]
    growth: bool,
    /// Also measure bursts with every flush slowed by 2 ms (needs strace).
    #[arg(long)]
    slow_flush: bool,
    /// Used by the bench itself, in a process of its own: run one burst and print what was asked for.
    #[arg(long, hide = true)]
    burst: Option<String>,
    /// Used by the bench itself, with `--burst`: the store a process of its own opens.
    #[arg(long, hide = true)]
    store: Option<String>,
    /// Used by the bench itself, in a process of its own: commit to a database and print the rate.
    #[arg(long, hide = true)]
    writer: Option<String>,
}

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    if let Some(variant) = &args.burst {
        if variant == cases::artifacts::STREAM {
            return cases::artifacts::child(&args);
        }
        if matches!(variant.as_str(), cases::journals::WRITER | cases::journals::OPENER) {
            return cases::journals::child(&args, variant);
        }
        return cases::slow::child(&args, variant);
    }
    if let Some(work) = &args.writer {
        return cases::processes::child(&args, work);
    }
    match run(&args) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> world::Done {
    let mut report = report::Report::new(args)?;
    report.machine(args)?;
    cases::single::run(args, &mut report)?;
    cases::crowd::run(args, &mut report)?;
    cases::batch::run(args, &mut report)?;
    cases::reads::run(args, &mut report)?;
    cases::postgres::run(args, &mut report)?;
    cases::journals::run(args, &mut report)?;
    cases::artifacts::run(args, &mut report)?;
    if args.growth {
        cases::growth::run(args, &mut report)?;
    }
    if args.slow_flush {
        cases::slow::run(args, &mut report)?;
    }
    report.finish()
}
