//! What a run found, by clause: as a table for people, as JSON for programs.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// What one clause found.
#[derive(Debug, Clone)]
pub struct ClauseReport {
    /// The clause's group.
    pub group: &'static str,
    /// The clause's name.
    pub name: &'static str,
    /// What was promised.
    pub promise: &'static str,
    /// How it was broken; `None` when it held.
    pub failure: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl ClauseReport {
    /// `group::name`.
    pub fn title(&self) -> String {
        format!("{}::{}", self.group, self.name)
    }
}

/// What a run found.
#[derive(Debug, Clone)]
pub struct Report {
    /// One for each clause, in the order they were run.
    pub results: Vec<ClauseReport>,
    /// Titles of the clauses that could not be run here: those about processes, where the data lives in one.
    pub left_out: Vec<String>,
}

impl Report {
    /// True when every clause held, and there was one.
    pub fn passed(&self) -> bool {
        !self.results.is_empty() && self.failures().next().is_none()
    }

    /// The clauses that were broken.
    pub fn failures(&self) -> impl Iterator<Item = &ClauseReport> {
        self.results.iter().filter(|r| r.failure.is_some())
    }

    /// The report as JSON: `{"passed", "clauses": [{"group", "name", "promise", "passed", "failure", "took_us"}],
    /// "left_out": [title]}`.
    pub fn to_json(&self) -> Value {
        let clause = |r: &ClauseReport| {
            json!({
                "group": r.group,
                "name": r.name,
                "promise": r.promise,
                "passed": r.failure.is_none(),
                "failure": r.failure,
                "took_us": u64::try_from(r.took.as_micros()).unwrap_or(u64::MAX),
            })
        };
        json!({ "passed": self.passed(), "clauses": self.results.iter().map(clause).collect::<Vec<_>>(), "left_out": self.left_out })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.results.iter().map(|r| r.title().len()).max().unwrap_or(0);
        for r in &self.results {
            let verdict = if r.failure.is_none() { "held" } else { "BROKEN" };
            writeln!(f, "{:width$}  {verdict:6}  {:>6} ms  {}", r.title(), r.took.as_millis(), r.promise)?;
            for line in r.failure.iter().flat_map(|text| text.lines()) {
                writeln!(f, "{:width$}  {line}", "")?;
            }
        }
        for title in &self.left_out {
            writeln!(f, "{title:width$}  left out: the data of this place lives in one process")?;
        }
        let broken = self.failures().count();
        write!(f, "{} clauses, {} held, {broken} broken", self.results.len(), self.results.len() - broken)
    }
}
