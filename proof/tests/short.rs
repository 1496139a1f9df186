//! The short form of each proof, on every backend that is installed. docs/proof.md has the long ones.

use std::io::Write as _;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millpond-proof")).args(arguments).output().expect("the program runs")
}

/// Runs a command of the program; what it says is shown when it fails.
fn proof(arguments: &[&str]) {
    let output = run(arguments);
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}{complained}");
    // What was skipped is said past the test runner, which shows nothing of a test that passes.
    let skipped = complained.lines().filter(|line| line.contains("***"));
    let mut loud = std::io::stderr().lock();
    skipped.for_each(|line| drop(writeln!(loud, "\n{line}\n")));
    assert!(output.status.success(), "{arguments:?}:\n{said}{complained}");
}

#[test]
fn histories_are_linearizable() {
    proof(&["linearizability", "--histories", "4"]);
}

#[test]
fn every_backend_gives_the_same_answers() {
    proof(&["same-answers", "--lists", "2"]);
}

#[test]
fn a_lost_answer_is_settled() {
    proof(&["lost-answers", "--flights", "2"]);
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    proof(&["kill", "--kills", "5", "--crashes", "1"]);
}

#[test]
fn a_writer_that_acknowledges_before_it_commits_is_found() {
    let output = run(&["kill", "--kills", "10", "--crashes", "0", "--careless", "--on", "sqlite"]);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complained.contains("lost"), "{output:?}");
}

#[test]
fn a_power_cut_loses_nothing_that_was_flushed() {
    proof(&["power-cut", "--cuts", "1"]);
}

#[test]
fn clauses_are_kept_under_faults_on_servers() {
    let on = ["sqlite", "file", "postgres", "redis", "nats", "s3"];
    let on: Vec<&str> = on.iter().flat_map(|name| ["--on", name]).collect();
    proof(&[["conformance", "--faults", "1", "--clauses", "idempotency"].as_slice(), &on].concat());
}

#[test]
fn clauses_are_kept_when_connections_end_at_any_moment() {
    let on: Vec<&str> = ["postgres", "redis", "nats", "s3"].iter().flat_map(|name| ["--on", name]).collect();
    proof(&[["conformance", "--lossy", "1", "--one-in", "30", "--clauses", "commits::"].as_slice(), &on].concat());
}
