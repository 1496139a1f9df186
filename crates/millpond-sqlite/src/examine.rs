//! What an acknowledgement of this store means, read from the connection that writes.

use millpond_core::{Durability, Examination, HealthCheck, Result};
use rusqlite::Connection;

use crate::connect::Location;
use crate::errors::sql;
use crate::filesystem::FileSystem;
use crate::schema::FORMAT;

/// `PRAGMA synchronous` from which a commit in WAL waits for the disk.
const FULL: i64 = 2;

/// What a connection says of itself.
struct Pragmas {
    synchronous: i64,
    mode: String,
    format: i64,
}

impl Pragmas {
    fn read(connection: &Connection) -> Result<Self> {
        Ok(Self {
            synchronous: connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).map_err(sql("examine"))?,
            mode: connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(sql("examine"))?,
            format: connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sql("examine"))?,
        })
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let synchronous = match self.synchronous {
            0 => "off".to_owned(),
            1 => "normal".to_owned(),
            2 => "full".to_owned(),
            3 => "extra".to_owned(),
            other => other.to_string(),
        };
        vec![
            ("sqlite", rusqlite::version().to_owned()),
            ("format", self.format.to_string()),
            ("journal_mode", self.mode.clone()),
            ("synchronous", synchronous),
        ]
    }
}

/// Reads the settings that count.
pub(crate) fn settings(writer: &Connection, location: &Location) -> Result<Examination> {
    let pragmas = Pragmas::read(writer)?;
    let facts = pragmas.facts();
    match location {
        Location::File(path) => Ok(judge(&pragmas, FileSystem::of(path)?).telling(facts).at(path)),
        Location::Memory => Ok(Examination::of(Durability::Memory).telling(facts)),
    }
}

fn judge(found: &Pragmas, file_system: FileSystem) -> Examination {
    let flushed = found.synchronous >= FULL;
    let durability = if flushed { file_system.durability() } else { Durability::ProcessCrash };
    let synchronous = if flushed {
        HealthCheck::ok("synchronous", "a commit waits until the disk has it")
    } else {
        HealthCheck::warning(
            "synchronous",
            format!("synchronous is {}: a commit does not wait for the disk", found.synchronous),
            "open the store with this program's own settings",
        )
    };
    let mode = if found.mode.eq_ignore_ascii_case("wal") {
        HealthCheck::ok("journal_mode", "the write-ahead log is on")
    } else {
        HealthCheck::warning(
            "journal_mode",
            format!("the journal mode is {}: readers and writers wait for each other", found.mode),
            "put the store on a local disk and open it again",
        )
    };
    let schema = HealthCheck::schema(u64::try_from(found.format).unwrap_or(0), u64::try_from(FORMAT).unwrap_or(0));
    file_system.explain(Examination::of(durability)).with(synchronous).with(mode).with(file_system.check()).with(schema)
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
            let told = found.facts.iter().find(|(name, _)| *name == "synchronous").map(|(_, value)| value.clone()).unwrap();
            (found.checks[0].finding, found.checks[1].finding, found.durability, told)
        };
        let full = connect(&location, true, Synchronous::Full, &Counters::default()).unwrap();
        let kept = FileSystem::of(folder.path()).unwrap().durability();
        assert_eq!(local(&full), (Finding::Ok, Finding::Ok, kept, "full".to_owned()));
        full.pragma_update(None, "synchronous", "NORMAL").unwrap();
        assert_eq!(local(&full), (Finding::Warning, Finding::Ok, Durability::ProcessCrash, "normal".to_owned()));
        let off = connect(&location, true, Synchronous::Off, &Counters::default()).unwrap();
        assert_eq!(local(&off), (Finding::Warning, Finding::Ok, Durability::ProcessCrash, "off".to_owned()));
    }

    #[test]
    fn each_setting_has_its_own_check() {
        let judge = |synchronous, mode: &str, format, file_system| {
            super::judge(&Pragmas { synchronous, mode: mode.to_owned(), format }, file_system)
        };
        let format = i64::from(FORMAT);
        let well = judge(2, "wal", format, FileSystem::Local);
        assert!(findings(&well).iter().all(|(_, finding)| *finding == Finding::Ok));
        assert_eq!(well.durability, Durability::PowerLoss);
        let fired = |examined: Examination| {
            let found = examined.checks.iter().filter(|c| c.finding != Finding::Ok).map(|c| c.name).collect::<Vec<_>>();
            (found, examined.durability)
        };
        assert_eq!(fired(judge(1, "wal", format, FileSystem::Local)), (vec!["synchronous"], Durability::ProcessCrash));
        assert_eq!(fired(judge(2, "delete", format, FileSystem::Local)), (vec!["journal_mode"], Durability::PowerLoss));
        assert_eq!(fired(judge(2, "wal", format + 1, FileSystem::Local)), (vec!["schema"], Durability::PowerLoss));
        let memory = judge(2, "wal", format, FileSystem::Memory("tmpfs"));
        assert_eq!(fired(memory), (vec!["file_system"], Durability::ProcessCrash));
        let network = judge(2, "wal", format, FileSystem::Network("nfs"));
        assert!(network.sentence.as_ref().is_some_and(|words| words.contains("nfs")), "{network:?}");
        assert_eq!(fired(network), (vec!["file_system"], Durability::ProcessCrash));
    }
}
