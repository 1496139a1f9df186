//! Files of this machine: what they are on, how much room there is, who may write them, what wrote them.

use std::path::Path;
use std::process::Command;

use millpond::{Durability, Finding};

use crate::support::{check, doctor, fired, health, make, promises_nothing, run};

/// A small file system in memory, taken away when dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// Mounts one; `None`, and loudly so, where that is not permitted.
    fn new(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "millpond-test"]).arg(folder.path());
        if command.output().is_ok_and(|done| done.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("\n*** SKIPPED: this process may not mount a file system ***\n");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn make_read_only(&self) {
        let done = Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).output());
    }
}

fn urls(folder: &Path) -> [String; 2] {
    [format!("sqlite:{}/a.db", folder.display()), format!("file:{}/store", folder.display())]
}

#[test]
#[cfg(target_os = "linux")]
fn a_store_in_memory_of_the_machine_is_found() {
    let (disk, memory) = (tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
    run(async {
        for url in urls(disk.path()) {
            let pond = millpond::open(&url).await.unwrap();
            let well = health(&pond).await;
            assert_eq!((fired(&well), well.survives), (vec![], Durability::PowerLoss), "{url}: {well:#?}");
            assert_eq!(check(&well, "file_system").finding, Finding::Ok);
        }
        for url in urls(memory.path()) {
            let pond = millpond::open(&url).await.unwrap();
            let found = health(&pond).await;
            assert_eq!((fired(&found), found.survives), (vec!["file_system"], Durability::ProcessCrash), "{url}: {found:#?}");
            promises_nothing(&found);
        }
    });
}

#[test]
fn a_disk_that_is_nearly_full_is_found() {
    let Some(small) = Mounted::new("32m") else { return };
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    run(async {
        let objects = format!("object-file:{0}/objects?cache={0}/cache", small.path().display());
        for url in urls(small.path()).into_iter().chain([objects]) {
            let pond = millpond::open(&url).await.unwrap();
            assert_eq!(check(&health(&pond).await, "space").finding, Finding::Warning, "{url}");
        }
        let pond = millpond::open(&urls(disk.path())[0]).await.unwrap();
        let found = health(&pond).await;
        // What is free where the tests run is not for a test to say.
        assert!(check(&found, "space").found.ends_with("MiB are free"), "{found:#?}");
    });
}

#[test]
fn a_store_that_may_not_be_written_is_found() {
    let Some(mounted) = Mounted::new("64m") else { return };
    for url in urls(mounted.path()) {
        make(&url, &[]);
        let well = doctor(&url, &[]);
        assert_eq!((well.code, well.check("write").0), (Some(0), "ok"), "{well:#?}");
    }
    mounted.make_read_only();
    for url in urls(mounted.path()) {
        doctor(&url, &[]).is_problem("write", "ead-only");
    }
}

#[test]
fn a_newer_format_is_found_before_and_after_opening() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let [sqlite, file] = urls(folder.path());
    run(async {
        let pond = millpond::open(&sqlite).await.unwrap();
        assert_eq!(check(&health(&pond).await, "schema").finding, Finding::Ok);
        let other = rusqlite::Connection::open(folder.path().join("a.db")).unwrap();
        other.pragma_update(None, "user_version", 99).unwrap();
        assert_eq!(check(&health(&pond).await, "schema").finding, Finding::Problem);

        let pond = millpond::open(&file).await.unwrap();
        assert_eq!(check(&health(&pond).await, "schema").finding, Finding::Ok);
        std::fs::write(folder.path().join("store/millpond.json"), "{\"millpond\":\"file\",\"format\":99}").unwrap();
        assert_eq!(check(&health(&pond).await, "schema").finding, Finding::Problem);
    });
    for url in [sqlite, file] {
        doctor(&url, &[]).is_problem("schema", "99");
    }
}

#[test]
fn what_is_no_store_and_what_is_no_url_end_as_every_command_does() {
    let folder = tempfile::tempdir().unwrap();
    let missing = crate::support::program(&format!("sqlite:{}/no.db", folder.path().display()), &["doctor"], &[]);
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
    let wrong = crate::support::program("foo:bar", &["doctor"], &[]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[test]
fn one_store_that_is_down_does_not_hide_the_others() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let [sqlite, _] = urls(folder.path());
    make(&sqlite, &[]);
    let config = folder.path().join("millpond.yaml");
    // Nobody listens there.
    let text = format!("store: {sqlite}\ndomains:\n  events: redis://127.0.0.1:9?timeout=1\n");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
    command.arg("--config").arg(&config).args(["doctor", "-o", "jsonl"]).env_remove("MILLPOND_STORE");
    let said = command.output().unwrap();
    assert_eq!(said.status.code(), Some(5), "{said:?}");
    let lines = String::from_utf8(said.stdout).unwrap();
    let all: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = |health: &serde_json::Value| (health["engine"].clone(), health["checks"][0].clone());
    let [(main, well), (other, down)] = [first(&all[0]), first(&all[1])];
    assert_eq!((main, well["name"].as_str(), well["finding"].as_str()), ("sqlite".into(), Some("connect"), Some("ok")));
    assert_eq!((other, down["name"].as_str(), down["finding"].as_str()), ("redis".into(), Some("connect"), Some("problem")));
}
