//! Who this process is, and whether the process that holds a lock is dead.
//!
//! A process is known dead only by a process that shares its machine, its boot and its pid namespace, and that may
//! see other users' processes. Where any of this cannot be told there are no facts, and no take-over before the
//! deadline.

use std::path::{Path, PathBuf};

use millpond_core::Holder;

/// What the machine says about a process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// It runs, and started this many clock ticks after boot.
    Running(u64),
    /// There is no such process, or only its exit status is left.
    Gone,
    /// The machine does not say.
    Unknown,
}

/// The machine's knowledge about processes, so that a test can inject another one.
pub trait Processes: std::fmt::Debug + Send + Sync {
    /// The facts about the process that asks; all absent where they cannot be told.
    fn this_process(&self) -> Holder;

    /// Its name alone.
    fn name(&self) -> String {
        self.this_process().name
    }

    /// What is known about a process id of this machine.
    fn state(&self, pid: u32) -> ProcessState;

    /// True when the holder is known to be dead: same host, same boot, and its pid is gone or was given to a
    /// process that started at another time.
    fn is_dead(&self, holder: &Holder) -> bool {
        let this = self.this_process();
        let (Some(pid), Some(started)) = (holder.pid, holder.started) else { return false };
        let known = holder.host.is_some() && holder.boot.is_some();
        if !known || holder.host != this.host || holder.boot != this.boot {
            return false;
        }
        match self.state(pid) {
            ProcessState::Running(since) => since != started,
            ProcessState::Gone => true,
            ProcessState::Unknown => false,
        }
    }
}

/// Reads `/proc`. On platforms without it there are no facts.
#[derive(Debug, Clone)]
pub struct ProcFiles {
    root: PathBuf,
}

impl Default for ProcFiles {
    fn default() -> Self {
        Self { root: PathBuf::from("/proc") }
    }
}

impl ProcFiles {
    /// Reads a copy of `/proc` elsewhere.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned()).filter(|t| !t.is_empty())
    }

    /// The boot id and the pid namespace: pids mean nothing across either.
    fn boot(&self) -> Option<String> {
        let boot = self.text("sys/kernel/random/boot_id")?;
        let namespace = std::fs::read_link(self.root.join("self/ns/pid")).ok()?;
        Some(format!("{boot} {}", namespace.display()))
    }

    /// With `hidepid` other users' processes look gone; then nothing is known about any.
    fn sees_others(&self) -> bool {
        self.root.join("1/stat").exists() && self.text("1/stat").is_some()
    }
}

impl Processes for ProcFiles {
    fn this_process(&self) -> Holder {
        let pid = std::process::id();
        let facts = || {
            let host = self.text("sys/kernel/hostname")?;
            let boot = self.boot()?;
            let started = started(&self.text("self/stat")?)?;
            Some((host, boot, started))
        };
        let name = default_name(pid);
        match facts() {
            Some((host, boot, started)) if self.sees_others() => {
                Holder { name, host: Some(host), boot: Some(boot), pid: Some(pid), started: Some(started) }
            }
            _ => Holder { name, ..Holder::default() },
        }
    }

    fn name(&self) -> String {
        default_name(std::process::id())
    }

    fn state(&self, pid: u32) -> ProcessState {
        if !self.sees_others() {
            return ProcessState::Unknown;
        }
        match std::fs::read_to_string(self.root.join(pid.to_string()).join("stat")) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => ProcessState::Gone,
            Err(_) => ProcessState::Unknown,
            Ok(stat) if is_zombie(&stat) => ProcessState::Gone,
            Ok(stat) => started(&stat).map_or(ProcessState::Unknown, ProcessState::Running),
        }
    }
}

/// The name a holder has when the caller gave none: the program and its pid.
fn default_name(pid: u32) -> String {
    let program = std::env::args_os().next().map(PathBuf::from);
    let program = program.as_deref().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
    format!("{}:{pid}", program.unwrap_or_else(|| "process".to_owned()))
}

/// The fields of a `stat` line after the program's name, which is in brackets and may hold anything. The first of
/// them is field 3 of the line.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace()
}

/// Field 22: the start time in clock ticks since boot.
fn started(stat: &str) -> Option<u64> {
    fields(stat).nth(22 - 3)?.parse().ok()
}

/// Exited, but not yet waited for. A process whose first thread alone has ended still has other threads (field 20).
fn is_zombie(stat: &str) -> bool {
    let ended = matches!(fields(stat).next(), Some("Z" | "X"));
    let threads: u64 = fields(stat).nth(20 - 3).and_then(|n| n.parse().ok()).unwrap_or(1);
    ended && threads <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that a test makes up.
    #[derive(Debug)]
    struct Machine(Holder, ProcessState);

    impl Processes for Machine {
        fn this_process(&self) -> Holder {
            self.0.clone()
        }
        fn state(&self, _: u32) -> ProcessState {
            self.1
        }
    }

    fn holder(host: &str, boot: &str) -> Holder {
        Holder { name: "w".into(), host: Some(host.into()), boot: Some(boot.into()), pid: Some(7), started: Some(100) }
    }

    #[test]
    fn only_what_is_known_dead_is_dead() {
        let machine = |state| Machine(holder("h", "b"), state);
        assert!(machine(ProcessState::Gone).is_dead(&holder("h", "b")));
        assert!(machine(ProcessState::Running(101)).is_dead(&holder("h", "b")), "the pid was given away");
        assert!(!machine(ProcessState::Running(100)).is_dead(&holder("h", "b")));
        assert!(!machine(ProcessState::Unknown).is_dead(&holder("h", "b")));
        assert!(!machine(ProcessState::Gone).is_dead(&holder("other", "b")), "another machine's pids mean nothing");
        assert!(!machine(ProcessState::Gone).is_dead(&holder("h", "earlier")), "another boot's pids mean nothing");
        assert!(!machine(ProcessState::Gone).is_dead(&Holder { started: None, ..holder("h", "b") }));
        let blind = Machine(Holder::default(), ProcessState::Gone);
        assert!(!blind.is_dead(&Holder { host: None, boot: None, ..holder("h", "b") }), "no facts, no take-over");
    }

    #[test]
    fn stat_lines_are_read_past_any_program_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 3 0 987654 1 1 18";
        assert_eq!(started(stat), Some(987_654));
        assert!(!is_zombie(stat));
        assert!(is_zombie("42 (a) Z 1 42 42 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 987654 0 0"));
        assert!(!is_zombie("42 (a) Z 1 42 42 0 -1 4 1 0 0 0 0 0 0 0 20 0 3 0 987654 0 0"), "other threads live on");
        assert_eq!(started("torn"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_killed_child_is_dead_and_this_process_is_not() {
        let machine = ProcFiles::default();
        let this = machine.this_process();
        assert!(!machine.is_dead(&this), "{this:?}");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let ProcessState::Running(started) = machine.state(child.id()) else { panic!("the child does not run") };
        let holder = Holder { pid: Some(child.id()), started: Some(started), ..this };
        assert!(!machine.is_dead(&holder));
        child.kill().expect("the child can be killed");
        // Not yet waited for: wait until it is a zombie, which must count as dead.
        let mut looks = 0;
        while !machine.is_dead(&holder) {
            looks += 1;
            assert!(looks < 10_000, "a killed process that nobody waited for still counts as alive");
            std::thread::yield_now();
        }
        child.wait().expect("the child can be waited for");
        assert!(machine.is_dead(&holder));
    }

    #[test]
    fn without_proc_there_are_no_facts() {
        let machine = ProcFiles::at("/nonexistent/proc");
        let this = machine.this_process();
        assert_eq!((this.host, this.boot, this.pid, this.started), (None, None, None, None));
        assert_eq!(machine.state(1), ProcessState::Unknown);
    }
}
