//! A power cut: what was not flushed is gone.
//!
//! ```text
//!   an image with ext4 on a loop device ──► the store and its server live there ──► commits are acknowledged
//!       everything stands still; the image is copied while mounted: the copy holds what was flushed, and no more
//!   the copy is mounted in its place ──► the server starts on it ──► what is there?
//! ```
//!
//! The same with flushes that do nothing (`strace` answers them, or the server is told to leave them out) has to lose
//! something: otherwise this finds nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use millpond::ErrorKind;
use millpond_testservers::{
    Backend, NatsRelease, NatsServer, NatsSync, PostgresServer, RedisFsync, RedisServer, find_program, missing,
};

use crate::backends::{self, Kind, Running};
use crate::writer::{Acknowledged, Found, Writer, look, open};
use crate::{Failure, block_on};

/// How often.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Power cuts for each line.
    #[arg(long, default_value_t = 2)]
    cuts: u64,
    /// Acknowledged commits before each cut, at least.
    #[arg(long, default_value_t = 300)]
    commits: u64,
}

/// One cut, in a process whose temporary folder is where the image is mounted.
#[derive(Debug, clap::Args)]
pub struct Cut {
    /// The backend.
    name: String,
    /// Where the image is mounted.
    mount: PathBuf,
    /// The image.
    image: PathBuf,
    /// Whether flushes do something.
    #[arg(long)]
    unflushed: bool,
    /// Acknowledged commits before the cut, at least.
    #[arg(long, default_value_t = 300)]
    commits: u64,
}

/// Answers flushes without making them.
const NO_FLUSH: &[&str] = &[
    "strace",
    "-f",
    "-qq",
    "--seccomp-bpf",
    "-o",
    "/dev/null",
    "-e",
    "trace=fsync,fdatasync,sync_file_range,msync",
    "-e",
    "inject=fsync,fdatasync,sync_file_range,msync:retval=0",
];

/// Cuts the power of each backend that keeps files on this machine, with flushes and without.
///
/// # Errors
/// When something acknowledged was lost, or nothing was lost without flushes.
pub fn run(on: &[String], options: &Arguments) -> Result<(), Failure> {
    if let Err(why) = can_mount() {
        eprintln!("\n*** SKIPPED: power cuts need root and a loop device, and here there is none: {why} ***\n");
        return Ok(());
    }
    for (name, kind) in backends::chosen(on)? {
        // Memory keeps nothing; the test's S3 server acknowledges before it flushes, which is its own affair. Of a
        // cluster one machine loses its power, which is another test: see `kill`.
        if matches!(kind, Kind::Memory) || name == "s3" || name.ends_with("-cluster") {
            continue;
        }
        if matches!(kind, Kind::Of(Backend::Sqlite | Backend::File) | Kind::Object) {
            if find_program("strace", &[]).is_none() {
                missing("strace", "apt-get install strace")?;
                continue;
            }
        } else if kind.start()?.is_none() {
            continue;
        }
        line(name, false, options)?;
        line(name, true, options)?;
    }
    Ok(())
}

fn line(name: &str, unflushed: bool, options: &Arguments) -> Result<(), Failure> {
    let began = Instant::now();
    let (mut told, mut lost) = (0, 0);
    for _ in 0..options.cuts {
        let (cut_told, cut_lost) = cut_apart(name, unflushed, options.commits)?;
        told += cut_told;
        lost += cut_lost;
    }
    let setting = if unflushed { "flushes left out" } else { "as it is" };
    println!("{name}, {setting}: {} cuts, {told} acknowledged, {lost} lost ({:.1?})", options.cuts, began.elapsed());
    match (unflushed, lost) {
        (false, 0) | (true, 1..) => Ok(()),
        (false, lost) => Err(format!("{name}: a power cut lost {lost} acknowledged commits").into()),
        (true, 0) => Err(format!("{name}: without flushes nothing was lost, so this test finds nothing").into()),
    }
}

/// One cut in a process of its own, whose temporary folder is the mounted image.
fn cut_apart(name: &str, unflushed: bool, commits: u64) -> Result<(u64, u64), Failure> {
    let folder = tempfile::tempdir()?;
    let (image, mount) = (folder.path().join("image"), folder.path().join("mount"));
    std::fs::create_dir(&mount)?;
    make_image(&image)?;
    mount_image(&image, &mount)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("power-cut-one").args([name]).arg(&mount).arg(&image).args(["--commits", &commits.to_string()]);
    if unflushed {
        command.arg("--unflushed");
    }
    let output = command.env("TMPDIR", &mount).output();
    let unmounted = unmount(&mount);
    let output = output?;
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<u64> = said.lines().last().unwrap_or_default().split_whitespace().filter_map(|w| w.parse().ok()).collect();
    match (output.status.success(), numbers.as_slice()) {
        (true, [told, lost]) => unmounted.map(|()| (*told, *lost)),
        _ => Err(format!("{name}: {said}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// What the process of its own does. Prints what was acknowledged and what was lost.
///
/// # Errors
/// When a step fails.
pub fn cut(cut: &Cut) -> Result<(), Failure> {
    let (mut server, url) = start(cut)?;
    // The store itself is there, flushed, before anything is asked of it.
    block_on(async { open(&url).await?.engine().close().await })??;
    command("sync", &[])?;
    // A server flushes or not by its own settings; a store in this process by what its system calls do.
    let before = if cut.unflushed && matches!(server, Host::Other(_)) { NO_FLUSH } else { &[] };
    let mut writer = Writer::start(&url, before, false, Acknowledged::default())?;
    writer.until(cut.commits)?;
    // Under strace a stop is strace's to pass on, and strace stands still itself; of what is lost there nothing depends on it.
    if before.is_empty() {
        writer.stand_still()?;
    } else {
        writer.signal("STOP");
    }
    server.stand_still();
    let copy = cut.image.with_extension("copy");
    command("cp", &["--sparse=always".as_ref(), cut.image.as_os_str(), copy.as_os_str()])?;
    let acknowledged = writer.kill();
    server.kill();
    unmount(&cut.mount)?;
    mount_image(&copy, &cut.mount)?;
    forget_replicas(&cut.mount)?;
    let found = match server.restart().map_err(Failure::from).and_then(|()| block_on(look(&url, &acknowledged))?) {
        Ok(found) => found,
        // Without flushes the store may be gone whole, or damaged. That is a loss of everything, and is told.
        Err(failure) if cut.unflushed && is_loss(&failure) => {
            eprintln!("{}: without flushes: {failure}", cut.name);
            Found { lost: acknowledged.total(), ..Found::default() }
        }
        Err(failure) => return Err(failure),
    };
    server.kill();
    println!("{} {}", acknowledged.total(), found.lost);
    // What is dropped would look for its files in a place that is about to be unmounted.
    drop(server);
    Ok(())
}

/// Whether a store that does not open says that it is damaged or gone: one that cannot be reached, or a URL that is wrong, is
/// no loss. A server that does not start on what it finds has no such words.
fn is_loss(failure: &Failure) -> bool {
    match failure.downcast_ref::<millpond::Error>() {
        Some(error) => matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound),
        None => true,
    }
}

/// What holds the store.
enum Host {
    Postgres(PostgresServer),
    Redis(RedisServer),
    Nats(NatsServer),
    Other(Running),
}

fn start(cut: &Cut) -> Result<(Host, String), Failure> {
    if cut.name == "postgres" {
        let fsync = if cut.unflushed { "off" } else { "on" };
        let server = PostgresServer::start_with(&[("fsync", fsync)])?.ok_or("PostgreSQL is not installed")?;
        // Such a server is refused unless the URL says that it is meant.
        let url = server.create("power")? + if cut.unflushed { "?fsync=off" } else { "" };
        return Ok((Host::Postgres(server), url));
    }
    if cut.name == "redis" {
        let fsync = if cut.unflushed { RedisFsync::EverySecond } else { RedisFsync::Always };
        let server = RedisServer::start(fsync)?.ok_or("Redis is not installed")?;
        let url = format!("{}?prefix=power&cache={}", server.url(), cut.mount.join("cache").display());
        return Ok((Host::Redis(server), url));
    }
    if cut.name == "nats" {
        let sync = if cut.unflushed { NatsSync::Default } else { NatsSync::Always };
        let server = NatsServer::start(NatsRelease::Current, sync)?.ok_or("NATS is not installed")?;
        let url = format!("{}?prefix=power&cache={}", server.url(), cut.mount.join("cache").display());
        return Ok((Host::Nats(server), url));
    }
    let (_, kind) = backends::chosen(std::slice::from_ref(&cut.name))?.remove(0);
    let running = kind.start()?.ok_or("the server is not installed")?;
    let url = running.store("power")?;
    Ok((Host::Other(running), url))
}

impl Host {
    fn stand_still(&self) {
        match self {
            Self::Postgres(server) => server.signal_all("STOP"),
            Self::Redis(server) => server.signal("STOP"),
            Self::Nats(server) => server.signal("STOP"),
            Self::Other(_) => {}
        }
    }

    fn kill(&mut self) {
        match self {
            Self::Postgres(server) => server.kill(),
            Self::Redis(server) => server.kill(),
            Self::Nats(server) => server.kill(),
            Self::Other(running) => drop(running.kill()),
        }
    }

    fn restart(&mut self) -> std::io::Result<()> {
        match self {
            Self::Postgres(server) => server.restart(),
            Self::Redis(server) => server.restart(),
            Self::Nats(server) => server.restart(),
            Self::Other(running) => running.restart(),
        }
    }
}

/// A machine that starts again trusts no replica; here it is the same machine, so they are removed.
fn forget_replicas(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        if entry.file_name() == "cache" {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            forget_replicas(&entry.path())?;
        }
    }
    Ok(())
}

fn can_mount() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let (image, mount) = (folder.path().join("image"), folder.path().join("mount"));
    std::fs::create_dir(&mount)?;
    make_image(&image)?;
    mount_image(&image, &mount)?;
    unmount(&mount)
}

fn make_image(image: &Path) -> Result<(), Failure> {
    std::fs::File::create(image)?.set_len(768 << 20)?;
    command("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_os_str()])
}

fn mount_image(image: &Path, mount: &Path) -> Result<(), Failure> {
    // The file system's own flush every five seconds would save what the store did not.
    let options = "loop,commit=600,noauto_da_alloc".as_ref();
    command("mount", &["-o".as_ref(), options, image.as_os_str(), mount.as_os_str()])?;
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(mount, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn unmount(mount: &Path) -> Result<(), Failure> {
    // A process that was killed a moment ago may hold its files a moment longer.
    let mut last = Ok(());
    for _ in 0..100 {
        last = command("umount", &[mount.as_os_str()]);
        if last.is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    last
}

fn command(program: &str, arguments: &[&std::ffi::OsStr]) -> Result<(), Failure> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}
