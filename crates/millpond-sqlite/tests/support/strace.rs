//! Tests that need strace. Where it is missing they are ignored, in the harness's own count and in capital letters;
//! on a continuous integration machine (`CI` is set) they fail instead.

use std::process::Command;

use libtest_mimic::Trial;

/// The trials, ignored if strace cannot be started on a developer's machine.
pub fn need_strace(trials: Vec<Trial>) -> Vec<Trial> {
    let Err(error) = Command::new("strace").arg("--version").output() else { return trials };
    if std::env::var_os("CI").is_some() {
        return trials;
    }
    let names: Vec<&str> = trials.iter().map(Trial::name).collect();
    eprintln!("SKIPPED, PROVING NOTHING: strace cannot be started ({error}). Install it to run: {}", names.join(", "));
    trials.into_iter().map(|t| t.with_ignored_flag(true)).collect()
}
