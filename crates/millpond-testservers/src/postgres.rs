//! A private PostgreSQL server.

use std::fs::File;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::port::free_port;
use crate::process::{Folder, Process, find_program, missing, wait_until};

/// The user that runs the server where tests run as root, which PostgreSQL refuses.
const USER: &str = "postgres";

/// A running PostgreSQL server of one's own, with the superuser `postgres` and no password. Killed when dropped.
#[derive(Debug)]
pub struct PostgresServer {
    programs: PathBuf,
    port: u16,
    settings: Vec<(String, String)>,
    process: Option<Process>,
    folder: Folder,
}

impl PostgresServer {
    /// Starts a server with the usual settings; `None` where PostgreSQL is not installed.
    ///
    /// # Errors
    /// What starting fails with; a missing program where `CI` is set.
    pub fn start() -> Result<Option<Self>> {
        Self::start_with(&[])
    }

    /// As [`PostgresServer::start`], with settings such as `("fsync", "off")`.
    ///
    /// # Errors
    /// As [`PostgresServer::start`].
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Option<Self>> {
        let Some(programs) = programs() else {
            missing("postgres", "apt-get install postgresql")?;
            return Ok(None);
        };
        let folder = Folder::new("millpond-postgres")?;
        copy(&template(&programs)?, &folder.path().join("data"))?;
        run(Command::new("chown").arg(owner(folder.path())?).arg(folder.path()))?;
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut server = Self { programs, port: free_port()?, settings, process: None, folder };
        server.restart()?;
        Ok(Some(server))
    }

    /// Starts a second server that follows this one by streaming replication, and has this one's commits wait for it
    /// (`synchronous_standby_names`). Databases are to be made before: from now on nothing is committed without it.
    ///
    /// # Errors
    /// What `pg_basebackup`, starting or connecting fails with.
    pub fn standby(&self) -> Result<Self> {
        let folder = Folder::new("millpond-standby")?;
        run(Command::new("chown").arg(owner(folder.path())?).arg(folder.path()))?;
        let mut backup = as_user(&self.programs.join("pg_basebackup"));
        backup.arg("-d").arg(format!("host=127.0.0.1 port={} user=postgres application_name=standby", self.port));
        backup.args(["-R", "-X", "stream", "-c", "fast", "-D"]).arg(folder.path().join("data"));
        run(&mut backup)?;
        let settings = self.settings.clone();
        let mut standby = Self { programs: self.programs.clone(), port: free_port()?, settings, process: None, folder };
        standby.restart()?;
        // Set here and not before the copy was made, so that the copy waits for nobody once it is the primary.
        self.psql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")?;
        self.psql("postgres", "SELECT pg_reload_conf()")?;
        let follows = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'";
        wait_until("the standby follows", || self.psql("postgres", follows).is_ok_and(|n| n == "1"))?;
        Ok(standby)
    }

    /// Makes a standby the primary.
    ///
    /// # Errors
    /// What `pg_promote` fails with; a server that is no standby.
    pub fn promote(&self) -> Result<()> {
        let promoted = self.psql("postgres", "SELECT pg_promote(true, 30)")?;
        if promoted == "t" { Ok(()) } else { Err(Error::other("the standby was not promoted within half a minute")) }
    }

    /// The port it listens on, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a database, as the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database and returns its address.
    ///
    /// # Errors
    /// What `createdb` fails with.
    pub fn create(&self, database: &str) -> Result<String> {
        self.create_with(database, &[])
    }

    /// As [`PostgresServer::create`], with more arguments of `createdb`.
    ///
    /// # Errors
    /// What `createdb` fails with.
    pub fn create_with(&self, database: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.programs.join("createdb"));
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p"]).arg(self.port.to_string());
        run(command.args(arguments).arg(database))?;
        Ok(self.url(database))
    }

    /// Runs SQL with `psql` as the superuser and returns what it prints, values separated by `|`.
    ///
    /// # Errors
    /// What `psql` fails with.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-p"]);
        run(command.arg(self.port.to_string()).args(["-d", database, "-c", sql]))
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its process id.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The folder of its data, its log and its socket.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills it with every process it started, as a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it as an administrator would (`fast`): sessions are ended, and everything is written down.
    ///
    /// # Errors
    /// A server that does not end within half a minute.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal("INT");
        process.wait()
    }

    /// Stops or continues every process of the server: a machine that hangs.
    pub fn signal_all(&self, name: &str) {
        if let Some(process) = &self.process {
            process.signal_all(name);
        }
    }

    /// Starts it again on the same data and port, after ending it if it still runs.
    ///
    /// # Errors
    /// What starting fails with.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let folder = self.folder.path().to_owned();
        // What a killed server leaves behind names a process that is gone.
        let _ = std::fs::remove_file(folder.join("data/postmaster.pid"));
        let mut command = as_user(&self.programs.join("postgres"));
        command.arg("-D").arg(folder.join("data")).arg("-k").arg(&folder).args(["-p", &self.port.to_string()]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]);
        // After a crash the server flushes every file it has; one call for all of them takes no time.
        command.args(["-c", "recovery_init_sync_method=syncfs"]);
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut process = Process::start(command, &folder.join("log"), &folder)?;
        let ready = self.programs.join("pg_isready");
        let port = self.port.to_string();
        let answers = || {
            let mut ask = Command::new(&ready);
            ask.args(["-q", "-h", "127.0.0.1", "-p", &port]);
            ask.status().is_ok_and(|s| s.success())
        };
        wait_until("PostgreSQL answers", || !process.runs() || answers())?;
        if !process.runs() {
            return Err(Error::other(format!("PostgreSQL did not start:\n{}", self.log())));
        }
        self.process = Some(process);
        Ok(())
    }
}

/// The folder of the newest installed version's programs.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| {
            entries.flatten().filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin")))).collect()
        })
        .unwrap_or_default();
    versions.sort();
    let folders: Vec<PathBuf> = versions.into_iter().rev().map(|(_, folder)| folder).collect();
    let file = find_program("initdb", &folders)?;
    // A link on the path stands for the folder it points to, where the other programs are.
    file.canonicalize().ok()?.parent().map(Path::to_owned)
}

fn is_root() -> Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}

/// Who should own a server's files.
fn owner(ours: &Path) -> Result<String> {
    use std::os::unix::fs::MetadataExt as _;
    if is_root()? { Ok(format!("{USER}:{USER}")) } else { Ok(std::fs::metadata(ours)?.uid().to_string()) }
}

/// A command that runs as an ordinary user, whoever runs the tests.
fn as_user(program: &Path) -> Command {
    if !is_root().unwrap_or(false) {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={USER}"), format!("--regid={USER}"), "--init-groups".to_owned()]).arg(program);
    command.current_dir("/");
    command
}

/// An initialised data directory that servers start from as copies. Made once; a lock keeps two test programs from
/// making it at the same time.
fn template(programs: &Path) -> Result<PathBuf> {
    let version = run(Command::new(programs.join("initdb")).arg("--version"))?;
    let version: String = version.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    let folder = std::env::temp_dir().join(format!("millpond-template-{version}-{}", if is_root()? { "root" } else { "user" }));
    let lock = File::options().create(true).truncate(false).write(true).open(folder.with_extension("lock"))?;
    lock.lock()?;
    let data = folder.join("data");
    if data.join("PG_VERSION").is_file() {
        return Ok(data);
    }
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    run(Command::new("chown").arg(owner(&folder)?).arg(&folder))?;
    let making = folder.join("making");
    let mut command = as_user(&programs.join("initdb"));
    command.arg("-D").arg(&making).args(["-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C"]);
    run(&mut command)?;
    std::fs::rename(&making, &data)?;
    Ok(data)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("-a").arg(from).arg(to)).map(drop)
}

/// Runs a program to its end and returns what it printed.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::other(format!("{:?}: {said}", command.get_program())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_has_what_was_committed_and_takes_over() -> Result<()> {
        let Some(mut server) = PostgresServer::start()? else { return Ok(()) };
        server.create("followed")?;
        let standby = server.standby()?;
        server.psql("followed", "CREATE TABLE t (n int); INSERT INTO t VALUES (1)")?;
        assert!(standby.psql("followed", "INSERT INTO t VALUES (2)").is_err(), "a standby took a write");
        server.kill();
        standby.promote()?;
        standby.psql("followed", "INSERT INTO t VALUES (2)")?;
        assert_eq!(standby.psql("followed", "SELECT sum(n) FROM t")?, "3");
        Ok(())
    }

    #[test]
    fn a_server_keeps_its_data_when_it_is_killed() -> Result<()> {
        let Some(mut server) = PostgresServer::start()? else { return Ok(()) };
        server.create("kept")?;
        server.psql("kept", "CREATE TABLE t (n int); INSERT INTO t VALUES (1)")?;
        server.kill();
        assert!(server.psql("kept", "SELECT 1").is_err(), "it still answers");
        server.restart()?;
        assert_eq!(server.psql("kept", "SELECT n FROM t")?, "1");
        Ok(())
    }
}
