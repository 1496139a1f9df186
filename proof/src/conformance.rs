//! The report: clause groups × backends.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_conformance::faults::{Faults, Retry};
use millpond_conformance::{Report, Suite};
use millpond_testservers::LossyProxy;

use crate::backends::{self, Kind};
use crate::place::UrlPlace;
use crate::{Failure, block_on};

/// Which clauses, and where the report goes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only clauses whose `group::name` holds this text.
    #[arg(long, value_name = "TEXT")]
    clauses: Option<String>,
    /// Refuses calls and loses answers by this seed, and asks again.
    #[arg(long, value_name = "SEED")]
    faults: Option<u64>,
    /// Puts a proxy before each server that has one port, which by this seed ends connections before a request arrives or
    /// before its answer does.
    #[arg(long, value_name = "SEED", conflicts_with = "faults")]
    lossy: Option<u64>,
    /// Of how many requests through that proxy one is lost, or its answer.
    #[arg(long, value_name = "REQUESTS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(2..), requires = "lossy")]
    one_in: u64,
    /// Writes the report to this file, too.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// How long a clause may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    deadline: u64,
}

/// One backend's results.
struct Column {
    name: &'static str,
    report: Report,
    took: Duration,
}

/// Runs the suite on each backend and prints the table.
///
/// # Errors
/// When a clause is broken somewhere, or no backend was there.
pub fn run(on: &[String], options: &Arguments) -> Result<(), Failure> {
    let mut columns = Vec::new();
    let mut missing = Vec::new();
    for (name, kind) in backends::chosen(on)? {
        if options.lossy.is_some() && !kind.has_one_port() {
            eprintln!("{name}: left out, because it has no connection or more than one server");
            continue;
        }
        match column(name, kind, options)? {
            Some(column) => columns.push(column),
            None => missing.push(name),
        }
    }
    let text = page(&columns, &missing, options);
    println!("{text}");
    if let Some(file) = &options.write {
        std::fs::write(file, &text)?;
    }
    match columns.iter().filter(|c| !c.report.passed()).count() {
        0 if columns.is_empty() => Err("no backend was there".into()),
        0 => Ok(()),
        broken => Err(format!("{broken} backends break a promise").into()),
    }
}

fn column(name: &'static str, kind: Kind, options: &Arguments) -> Result<Option<Column>, Failure> {
    let began = Instant::now();
    let Some(server) = kind.start()? else { return Ok(None) };
    let mut url = server.store("conformance")?;
    let proxy = match (options.lossy, server.port()) {
        (None, _) => None,
        (Some(_), None) => return Err(format!("{name} has no port for a proxy").into()),
        (Some(seed), Some(port)) => {
            let proxy = LossyProxy::start(port, seed, options.one_in)?;
            url = url.replace(&format!(":{port}"), &format!(":{}", proxy.port()));
            Some(proxy)
        }
    };
    let place = Arc::new(UrlPlace::new(url));
    let mut suite = Suite::new().deadline(Duration::from_secs(options.deadline));
    if let Some(text) = &options.clauses {
        suite = suite.matching(text);
    }
    if let Some(seed) = options.faults {
        suite = suite.under(Faults::seeded(seed), Retry::UnderTheSameId);
    }
    let report = block_on(suite.run(place))?;
    let took = began.elapsed();
    eprintln!("{}: {} clauses, {} broken, {took:.0?}", name, report.results.len(), report.failures().count());
    if let Some([requests, answers]) = proxy.map(|proxy| proxy.lost()) {
        eprintln!("  {requests} requests and {answers} answers were lost");
        if requests == 0 || answers == 0 {
            return Err(format!("{name}: the proxy lost too little to prove anything").into());
        }
    }
    for failed in report.failures() {
        eprintln!("  {}: {}\n    {}", failed.title(), failed.promise, failed.failure.as_deref().unwrap_or_default());
    }
    Ok(Some(Column { name, report, took }))
}

fn page(columns: &[Column], missing: &[&str], options: &Arguments) -> String {
    let mut out = String::from("# Conformance\n\nEvery clause of the suite on every backend");
    if let Some(seed) = options.faults {
        let _ = write!(out, ", with calls refused and answers lost (seed {seed})");
    }
    if let Some(seed) = options.lossy {
        let _ = write!(out, ", through a proxy that loses one request in {} or its answer (seed {seed})", options.one_in);
    }
    out.push_str(": how many held of how many there are. No clause is left out on one of them, except that a place\n");
    out.push_str("which lives in one process has no second process to race with. Made by\n\n");
    let _ = writeln!(out, "    cargo run -p millpond-proof -- conformance --write docs/conformance.md\n");
    table(&mut out, columns);
    for column in columns {
        for failed in column.report.failures() {
            let words = failed.failure.as_deref().unwrap_or_default().replace('\n', " ");
            let _ = writeln!(out, "\n**{}** breaks `{}` ({}): {words}", column.name, failed.title(), failed.promise);
        }
    }
    if !missing.is_empty() {
        let _ = writeln!(out, "\nNot installed, and therefore not run: {}.", missing.join(", "));
    }
    out
}

fn table(out: &mut String, columns: &[Column]) {
    let names: Vec<&str> = columns.iter().map(|c| c.name).collect();
    let _ = writeln!(out, "| clauses | {} |", names.join(" | "));
    let _ = writeln!(out, "|---|{}", "---:|".repeat(columns.len()));
    let mut groups: Vec<&str> = Vec::new();
    for result in columns.iter().flat_map(|c| &c.report.results) {
        if !groups.contains(&result.group) {
            groups.push(result.group);
        }
    }
    for group in groups {
        let cells: Vec<String> = columns.iter().map(|c| cell(&c.report, group)).collect();
        let _ = writeln!(out, "| {group} | {} |", cells.join(" | "));
    }
    let total = |c: &Column| format!("{} of {}", c.report.results.len() - c.report.failures().count(), c.report.results.len());
    let _ = writeln!(out, "| **all** | {} |", columns.iter().map(total).collect::<Vec<_>>().join(" | "));
    let took = |c: &Column| format!("{} s", c.took.as_secs());
    let _ = writeln!(out, "| took | {} |", columns.iter().map(took).collect::<Vec<_>>().join(" | "));
}

fn cell(report: &Report, group: &str) -> String {
    let mut held: BTreeMap<bool, usize> = BTreeMap::new();
    for result in report.results.iter().filter(|r| r.group == group) {
        *held.entry(result.failure.is_none()).or_default() += 1;
    }
    let (held, broken) = (held.get(&true).copied().unwrap_or(0), held.get(&false).copied().unwrap_or(0));
    match (held, broken) {
        (0, 0) => "one process".to_owned(),
        (held, 0) => held.to_string(),
        (held, broken) => format!("**{held} of {}**", held + broken),
    }
}
