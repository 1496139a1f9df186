//! What the program says to people, on stderr: notes, errors, questions.

use std::io::{IsTerminal, Write};

use millpond::{Damaged, Error, FlowProblems};

/// One line that is not data.
pub fn note(text: impl std::fmt::Display) {
    // Nobody left to read it is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What stays because it, or what judges it, does not read back.
pub fn stay(named: &[Damaged], all: u64) {
    for damaged in named {
        note(format_args!("{} stays: {}", damaged.what, damaged.why));
    }
    unnamed(all, named.len(), "that stay because of damage");
}

/// Tells of those that are counted and not named.
pub fn unnamed(all: u64, named: usize, what: &str) {
    let more = all.saturating_sub(named as u64);
    if more > 0 {
        note(format_args!("and {more} more: {what}"));
    }
}

/// Whether stderr may carry colour: a terminal, and `NO_COLOR` is not set.
fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// An error: what, the facts, what to do next.
pub fn error(error: &Error) {
    let head = if colour() { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
    note(format_args!("{head} {}", text(error)));
}

/// The error's text without its first word, a line for each fact.
pub fn text(error: &Error) -> String {
    let mut lines = vec![error.message().to_owned()];
    lines.extend(error.context().map(|(name, value)| format!("  {name}: {value}")));
    if let Some(problems) = FlowProblems::of(error) {
        lines.extend(problems.0.iter().map(|p| format!("  {}: {} [{}]", p.path, p.message, p.rule)));
        lines.extend(error.next().map(|next| format!("  next: {next}")));
        return lines.join("\n");
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        lines.push(format!("  cause: {}", cause.to_string().replace('\n', "\n    ")));
        source = cause.source();
    }
    lines.extend(error.next().map(|next| format!("  next: {next}")));
    lines.join("\n")
}

/// Asks for a name to be typed before something is destroyed.
///
/// # Errors
/// `Invalid` without a terminal (a script has to say `--yes`), or when something else was typed.
pub fn confirm(question: &str, name: &str) -> millpond::Result<()> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::invalid(format!("{question} needs a confirmation, and there is no terminal to ask on"))
            .with_next("say --yes if you mean it"));
    }
    note(format_args!("{question}. This cannot be undone.\nType {name:?} to go on:"));
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed).map_err(|e| Error::unavailable("cannot read the answer").with_source(e))?;
    if typed.trim() == name {
        return Ok(());
    }
    Err(Error::invalid(format!("{:?} was typed, not {name:?}; nothing was done", typed.trim())))
}
