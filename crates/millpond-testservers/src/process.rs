//! What every server needs: a folder, a process that ends with the test, and the words for a missing program.

use std::io::{Error, ErrorKind, Result, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to start or to go.
const PATIENCE: Duration = Duration::from_secs(30);

/// The file of a program: in one of the folders given, or on the path.
pub fn find_program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = folders.iter().cloned().chain(std::env::split_paths(&path));
    candidates.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The folder that `.ci/servers` puts programs into which no package brings.
pub fn wheel_programs() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/servers");
    let target = std::env::var_os("CARGO_TARGET_DIR").map(|target| PathBuf::from(target).join("servers"));
    [Some(own), target].into_iter().flatten().find(|folder| folder.is_dir())
}

/// Says that a server's program is missing, and how to get it. A test that hears `Ok` is skipped; where `CI` is set,
/// a missing server is an error, because a test that did not run proves nothing.
///
/// # Errors
/// `NotFound` where `CI` is set.
pub fn missing(program: &str, how: &str) -> Result<()> {
    let words = format!("{program} is not installed ({how})");
    if std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false") {
        return Err(Error::new(ErrorKind::NotFound, words));
    }
    // Past the capture of test output: a skipped test must be seen.
    let mut out = std::io::stderr().lock();
    writeln!(out, "\n*** SKIPPED: {words} ***\n")
}

/// Waits until something holds.
///
/// # Errors
/// `TimedOut`, naming what was waited for, after half a minute.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > PATIENCE {
            return Err(Error::new(ErrorKind::TimedOut, format!("{what}: not within {PATIENCE:?}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A temporary folder for a server's files, removed when dropped.
#[derive(Debug)]
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// A new folder whose name begins with this. Others may enter it: some servers run as a user of their own.
    ///
    /// # Errors
    /// What the operating system fails with.
    pub fn new(prefix: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir()?;
        set_mode(folder.path(), 0o755)?;
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// A running server in a process group of its own. Dropped, it is killed with its group.
#[derive(Debug)]
pub struct Process {
    child: Child,
    watcher: Option<Child>,
}

impl Process {
    /// Starts a program whose output goes to a log file. `folder` is removed should the test program die.
    ///
    /// # Errors
    /// What starting fails with.
    pub fn start(mut command: Command, log: &Path, folder: &Path) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let out = std::fs::File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
        let child = command.spawn()?;
        let watcher = watch(child.id(), folder).ok();
        Ok(Self { child, watcher })
    }

    /// The process id, which is also the group's.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it as a power switch would, with everything it started, and waits until all of it is gone.
    pub fn kill(&mut self) {
        let id = self.child.id();
        // Once it was waited for, its number may be somebody else's; its group's is not as long as one of that runs.
        if !self.runs() {
            send("KILL", &[format!("-{id}")]);
            return self.unwatch();
        }
        // Held still first, so that it starts nothing between the look and the kill: PostgreSQL's processes leave its group.
        send("STOP", &[id.to_string()]);
        let mut all = descendants(id);
        all.push(id);
        let list: Vec<String> = all.iter().map(u32::to_string).collect();
        // Both forms: children may have left the group, and new ones may have come since they were listed.
        send("KILL", &list);
        send("KILL", &[format!("-{id}")]);
        let _ = self.child.wait();
        let _ = wait_until("killed processes are gone", || all.iter().all(|p| *p == id || !is_alive(*p)));
        self.unwatch();
    }

    fn unwatch(&mut self) {
        if let Some(mut watcher) = self.watcher.take() {
            let _ = watcher.kill();
            let _ = watcher.wait();
        }
    }

    /// Sends a signal by its name (`TERM`, `STOP`, `CONT`) to the process itself.
    pub fn signal(&self, name: &str) {
        send(name, &[self.child.id().to_string()]);
    }

    /// Sends a signal to the process and everything it started.
    pub fn signal_all(&self, name: &str) {
        let mut all = descendants(self.child.id());
        all.push(self.child.id());
        send(name, &all.iter().map(u32::to_string).collect::<Vec<_>>());
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// `TimedOut` after half a minute.
    pub fn wait(&mut self) -> Result<()> {
        wait_until("the server ends", || !self.runs())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A shell that waits for the end of its input, which comes when the test program is gone, and cleans up after it.
fn watch(group: u32, folder: &Path) -> Result<Child> {
    use std::os::unix::process::CommandExt as _;
    let mut shell = Command::new("sh");
    shell.args(["-c", "read _; kill -s KILL -- \"-$1\" 2>/dev/null; sleep 1; rm -rf \"$2\"", "watcher"]);
    shell.arg(group.to_string()).arg(folder);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn()
}

fn send(signal: &str, targets: &[String]) {
    // A process that is gone already is what was asked for.
    let _ = Command::new("kill").arg(format!("-{signal}")).arg("--").args(targets).stderr(Stdio::null()).status();
}

/// The state letter and parent of a process.
fn state(id: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let mut rest = text.rsplit_once(')')?.1.split_whitespace();
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}

fn is_alive(id: u32) -> bool {
    state(id).is_some_and(|(letter, _)| letter != 'Z')
}

/// Everything a process started that still runs.
fn descendants(id: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = ids.filter_map(|p| Some((p, state(p)?.1))).collect();
    let mut found = vec![id];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(child, _)| *child));
        at += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_ends_with_the_test_program() {
        let folder = Folder::new("millpond-process").unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        let mut process = Process::start(command, &folder.path().join("log"), folder.path()).unwrap();
        // As if this program had died: nobody holds the other end any more.
        drop(process.watcher.as_mut().unwrap().stdin.take());
        process.wait().unwrap();
        wait_until("the folder is gone", || !folder.path().exists()).unwrap();
    }

    #[test]
    fn a_killed_process_takes_its_children_with_it() {
        let folder = Folder::new("millpond-process").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & sleep 600"]);
        let mut process = Process::start(command, &folder.path().join("log"), folder.path()).unwrap();
        wait_until("two children", || descendants(process.id()).len() == 2).unwrap();
        let children = descendants(process.id());
        process.kill();
        assert!(!process.runs());
        assert!(children.iter().all(|c| !is_alive(*c)), "{children:?}");
    }
}
