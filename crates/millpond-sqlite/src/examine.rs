//! What an acknowledgement of this store means, read from the connection that writes.

use millpond_core::{Durability, Examination, HealthCheck, Result};
use rusqlite::Connection;

use crate::connect::Location;
use crate::errors::sql;
use crate::filesystem::FileSystem;

/// `PRAGMA synchronous` from which a commit in WAL waits for the disk.
const FULL: i64 = 2;

/// Reads the settings that count.
pub(crate) fn settings(writer: &Connection, location: &Location) -> Result<Examination> {
    let Location::File(path) = location else { return Ok(Examination::of(Durability::Memory)) };
    let synchronous: i64 = writer.query_row("PRAGMA synchronous", [], |row| row.get(0)).map_err(sql("examine"))?;
    let mode: String = writer.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(sql("examine"))?;
    Ok(judge(synchronous, &mode, FileSystem::of(path)?))
}

fn judge(synchronous: i64, mode: &str, file_system: FileSystem) -> Examination {
    let flushed = synchronous >= FULL;
    let durability = if flushed { file_system.durability() } else { Durability::ProcessCrash };
    let synchronous = if flushed {
        HealthCheck::ok("synchronous", "a commit waits until the disk has it")
    } else {
        HealthCheck::warning(
            "synchronous",
            format!("synchronous is {synchronous}: a commit does not wait for the disk"),
            "open the store with this program's own settings",
        )
    };
    let mode = if mode.eq_ignore_ascii_case("wal") {
        HealthCheck::ok("journal_mode", "the write-ahead log is on")
    } else {
        HealthCheck::warning(
            "journal_mode",
            format!("the journal mode is {mode}: readers and writers wait for each other"),
            "put the store on a local disk and open it again",
        )
    };
    Examination::of(durability).with(synchronous).with(mode).with(file_system.check())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::{Counters, Synchronous, connect};
    use millpond_core::Finding;

    fn findings(examined: &Examination) -> Vec<(&str, Finding)> {
        examined.checks.iter().map(|check| (check.name, check.finding)).collect()
    }

    #[test]
    fn a_connection_that_does_not_wait_for_the_disk_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::File(folder.path().join("a.db"));
        let local = |connection: &Connection| {
            let found = settings(connection, &location).unwrap();
            (found.checks[0].finding, found.checks[1].finding, found.durability)
        };
        let full = connect(&location, true, Synchronous::Full, &Counters::default()).unwrap();
        assert_eq!(local(&full), (Finding::Ok, Finding::Ok, FileSystem::of(folder.path()).unwrap().durability()));
        let off = connect(&location, true, Synchronous::Off, &Counters::default()).unwrap();
        assert_eq!(local(&off), (Finding::Warning, Finding::Ok, Durability::ProcessCrash));
    }

    #[test]
    fn each_setting_has_its_own_check() {
        let well = judge(2, "wal", FileSystem::Local);
        assert!(findings(&well).iter().all(|(_, finding)| *finding == Finding::Ok));
        assert_eq!(well.durability, Durability::PowerLoss);
        let fired = |examined: Examination| {
            let found = examined.checks.iter().filter(|c| c.finding != Finding::Ok).map(|c| c.name).collect::<Vec<_>>();
            (found, examined.durability)
        };
        assert_eq!(fired(judge(1, "wal", FileSystem::Local)), (vec!["synchronous"], Durability::ProcessCrash));
        assert_eq!(fired(judge(2, "delete", FileSystem::Local)), (vec!["journal_mode"], Durability::PowerLoss));
        let memory = judge(2, "wal", FileSystem::Memory("tmpfs"));
        assert_eq!(fired(memory), (vec!["file_system"], Durability::ProcessCrash));
        assert_eq!(fired(judge(2, "wal", FileSystem::Network("nfs"))).0, ["file_system"]);
    }
}
