//! What the server says about itself: versions, and the settings an acknowledgement rests on.

use millpond_core::{Durability, Error, ErrorKind, Examination, HealthCheck, Result};

use crate::errors::{Failure, unreadable};
use crate::session::{Call, Session};
use crate::settings::Settings;

/// The oldest server whose features the statements use.
const OLDEST: i32 = 130_000;

/// What was found when the store was opened.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    version: String,
    number: i32,
    fsync: bool,
    full_page_writes: bool,
    synchronous_commit: String,
    synchronous_standbys: bool,
    encoding: String,
    in_recovery: bool,
    standbys: Standbys,
}

/// Connected servers that a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standbys {
    /// As many as this.
    Seen(i64),
    /// The role may not see them.
    Hidden,
}

const ASK: &str = "SELECT current_setting('server_version'), current_setting('server_version_num')::int4, \
     current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on', current_setting('synchronous_commit'), \
     current_setting('synchronous_standby_names') <> '', current_setting('server_encoding'), pg_is_in_recovery(), \
     (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')), \
     EXISTS (SELECT FROM pg_stat_replication WHERE sync_state IS NULL)";

impl Server {
    /// Asks.
    pub(crate) async fn ask(session: &mut Session) -> Result<Self, Failure> {
        let rows = session.one(&Call::once(ASK)).await?;
        let row = rows.first().ok_or_else(|| Error::corrupt("the server did not name its settings"))?;
        let read = || {
            Ok(Self {
                version: row.try_get(0)?,
                number: row.try_get(1)?,
                fsync: row.try_get(2)?,
                full_page_writes: row.try_get(3)?,
                synchronous_commit: row.try_get(4)?,
                synchronous_standbys: row.try_get(5)?,
                encoding: row.try_get(6)?,
                in_recovery: row.try_get(7)?,
                standbys: if row.try_get(9)? { Standbys::Hidden } else { Standbys::Seen(row.try_get(8)?) },
            })
        };
        Ok(read().map_err(unreadable("pg_settings"))?)
    }

    /// Refuses a server that cannot keep what would be promised.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), Failure> {
        let refuse = |what: String, next: &str| Err(Error::new(ErrorKind::Unsupported, what).with_next(next).into());
        if self.number < OLDEST {
            return refuse(format!("PostgreSQL {} is too old", self.version), "use PostgreSQL 13 or newer");
        }
        if self.encoding != "UTF8" {
            return refuse(
                format!("the database's encoding is {}, which cannot hold every document", self.encoding),
                "make a database with ENCODING 'UTF8'",
            );
        }
        if self.in_recovery {
            // It may become the primary at any moment.
            return Err(Failure::Lost(
                Error::unavailable("this server is a standby and takes no writes").with_next("connect to the primary"),
            ));
        }
        if self.synchronous_commit != settings.synchronous_commit {
            return refuse(
                format!("synchronous_commit is {}, not {} as asked for", self.synchronous_commit, settings.synchronous_commit),
                "let the role set synchronous_commit, or ask for what it has in the URL",
            );
        }
        if !self.fsync && !settings.fsync_off {
            return refuse(
                "the server runs with fsync=off: a power cut can destroy the whole database, acknowledged commits included"
                    .to_owned(),
                "turn fsync on, or add fsync=off to the URL to accept that",
            );
        }
        Ok(())
    }

    /// What an acknowledgement survives.
    pub(crate) fn durability(&self) -> Durability {
        let keeps = self.fsync && self.full_page_writes;
        // With `off` the server may lose its last commits when it crashes itself; a crash of ours does no harm.
        if keeps && self.synchronous_standbys && ["on", "remote_apply", "remote_write"].contains(&&*self.synchronous_commit) {
            Durability::Replicated
        } else if keeps && self.synchronous_commit != "off" {
            Durability::PowerLoss
        } else {
            Durability::ProcessCrash
        }
    }

    /// What doctor says of it.
    pub(crate) fn examination(&self) -> Examination {
        let setting = |name, well: bool, why: &str, next: &str| {
            if well { HealthCheck::ok(name, "as it should be") } else { HealthCheck::warning(name, why, next) }
        };
        Examination::of(self.durability())
            .with(setting(
                "fsync",
                self.fsync,
                "fsync is off: a power cut can destroy the whole database",
                "set fsync = on in postgresql.conf",
            ))
            .with(setting(
                "full_page_writes",
                self.full_page_writes,
                "full_page_writes is off: a power cut can leave half-written pages",
                "set full_page_writes = on in postgresql.conf",
            ))
            .with(setting(
                "synchronous_commit",
                self.synchronous_commit != "off",
                "synchronous_commit is off: a commit is acknowledged before the disk has it",
                "leave synchronous_commit=off out of the URL, or set it on for the role",
            ))
            .with(self.standby())
            .with(setting(
                "recovery",
                !self.in_recovery,
                "this server is a standby and takes no writes",
                "connect to the primary",
            ))
    }

    fn standby(&self) -> HealthCheck {
        const NAME: &str = "standby";
        match self.standbys {
            _ if !self.synchronous_standbys => HealthCheck::ok(NAME, "commits wait for no other server"),
            Standbys::Hidden => HealthCheck::ok(NAME, "commits wait for other servers, which this role may not see"),
            Standbys::Seen(0) => HealthCheck::warning(
                NAME,
                "commits wait for a synchronous standby, and none is connected",
                "start the standby, or take it out of synchronous_standby_names",
            ),
            Standbys::Seen(count) => HealthCheck::ok(NAME, format!("commits wait for {count} connected standby servers")),
        }
    }

    /// For people.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let on = |is: bool| if is { "on" } else { "off" }.to_owned();
        vec![
            ("postgresql", self.version.clone()),
            ("format", crate::schema::FORMAT.to_string()),
            ("synchronous_commit", self.synchronous_commit.clone()),
            ("fsync", on(self.fsync)),
            ("full_page_writes", on(self.full_page_writes)),
            ("synchronous_standbys", on(self.synchronous_standbys)),
        ]
    }
}
