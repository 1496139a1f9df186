//! What the server says about itself: versions, and the settings an acknowledgement rests on.

use millpond_core::{Durability, Error, ErrorKind, Examination, HealthCheck, Result};

use crate::call::Call;
use crate::errors::{Failure, unreadable};
use crate::session::Session;
use crate::settings::Settings;

/// The oldest server whose features the statements use.
const OLDEST: i32 = 130_000;
/// The name of the check whether the server takes writes at all.
const RECOVERY: &str = "recovery";

/// What was found when the store was opened.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    version: String,
    number: i32,
    fsync: bool,
    full_page_writes: bool,
    synchronous_commit: String,
    /// `synchronous_standby_names`.
    standby_names: String,
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
     current_setting('synchronous_standby_names'), current_setting('server_encoding'), pg_is_in_recovery(), \
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
                standby_names: row.try_get(5)?,
                encoding: row.try_get(6)?,
                in_recovery: row.try_get(7)?,
                standbys: if row.try_get(9)? { Standbys::Hidden } else { Standbys::Seen(row.try_get(8)?) },
            })
        };
        Ok(read().map_err(unreadable("pg_settings"))?)
    }

    /// Refuses a server that cannot keep what would be promised.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), Failure> {
        match self.refusals(settings).into_iter().next() {
            // It may become the primary at any moment.
            Some(refusal) if self.in_recovery && refusal.check() == Some(RECOVERY) => Err(Failure::Lost(refusal)),
            Some(refusal) => Err(refusal.into()),
            None => Ok(()),
        }
    }

    /// Why the server is refused: each reason names its check.
    fn refusals(&self, settings: &Settings) -> Vec<Error> {
        let mut all = Vec::new();
        let mut refuse = |check, what: String, next: &str| {
            all.push(Error::new(ErrorKind::Unsupported, what).with_next(next).in_check(check));
        };
        if self.number < OLDEST {
            refuse("version", format!("PostgreSQL {} is too old", self.version), "use PostgreSQL 13 or newer");
        }
        if self.encoding != "UTF8" {
            refuse(
                "encoding",
                format!("the database's encoding is {}, which cannot hold every document", self.encoding),
                "make a database with ENCODING 'UTF8'",
            );
        }
        if self.in_recovery {
            let standby = Error::unavailable("this server is a standby and takes no writes").with_next("connect to the primary");
            all.push(standby.in_check(RECOVERY));
            return all;
        }
        if self.synchronous_commit != settings.synchronous_commit {
            refuse(
                "synchronous_commit",
                format!("synchronous_commit is {}, not {} as asked for", self.synchronous_commit, settings.synchronous_commit),
                "let the role set synchronous_commit, or ask for what it has in the URL",
            );
        }
        if !self.fsync && !settings.fsync_off {
            refuse(
                "fsync",
                "the server runs with fsync=off: a power cut can destroy the whole database, acknowledged commits included"
                    .to_owned(),
                "turn fsync on, or add fsync=off to the URL to accept that",
            );
        }
        all
    }

    /// Whether a commit waits for another server. With `local` and `off` it does not, whatever names are set.
    fn waits_for_standbys(&self) -> bool {
        !self.standby_names.trim().is_empty()
            && ["on", "remote_apply", "remote_write"].contains(&self.synchronous_commit.as_str())
    }

    /// What an acknowledgement survives.
    pub(crate) fn durability(&self) -> Durability {
        let keeps = self.fsync && self.full_page_writes;
        // With `off` the server may lose its last commits when it crashes itself; a crash of ours does no harm.
        if keeps && self.waits_for_standbys() {
            Durability::Replicated
        } else if keeps && self.synchronous_commit != "off" {
            Durability::PowerLoss
        } else {
            Durability::ProcessCrash
        }
    }

    /// What doctor says of it: also of what would be refused, because it may have changed since the store was opened.
    pub(crate) fn examination(&self, settings: &Settings) -> Examination {
        let refused = self.refusals(settings);
        let setting = |name, well: bool, why: &str, next: &str| match refused.iter().find(|e| e.check() == Some(name)) {
            Some(error) => HealthCheck::problem(name, error),
            None if well => HealthCheck::ok(name, "as it should be"),
            None => HealthCheck::warning(name, why, next),
        };
        let mut examined = Examination::of(self.durability())
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
            .with(setting(RECOVERY, true, "", ""));
        if !self.fsync || !self.full_page_writes {
            examined = examined.saying("if power fails at the server now, the whole database may be damaged");
        }
        examined.telling(self.facts())
    }

    fn standby(&self) -> HealthCheck {
        const NAME: &str = "standby";
        if self.standby_names.trim().is_empty() {
            return HealthCheck::ok(NAME, "commits wait for no other server");
        }
        if !self.waits_for_standbys() {
            let found = format!(
                "synchronous_standby_names is set, but commits wait for no other server: synchronous_commit is {}",
                self.synchronous_commit
            );
            return HealthCheck::ok(NAME, found);
        }
        let needed = standbys_needed(&self.standby_names);
        match self.standbys {
            Standbys::Hidden => {
                HealthCheck::ok(NAME, format!("commits wait for {needed} other servers, which this role may not see"))
            }
            Standbys::Seen(count) if count < needed => {
                let found = format!("every commit waits for {needed} synchronous standby servers, and {count} are connected");
                let next = "start the standby, or take it out of synchronous_standby_names";
                HealthCheck::problem(NAME, &Error::unavailable(found).with_next(next))
            }
            Standbys::Seen(count) => {
                HealthCheck::ok(NAME, format!("commits wait for {needed} of {count} connected standby servers"))
            }
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
            ("synchronous_standbys", on(self.waits_for_standbys())),
        ]
    }
}

/// How many servers a commit waits for by `synchronous_standby_names`: `FIRST 2 (a, b, c)`, `ANY 2 (a, b, c)`,
/// `2 (a, b, c)`, or a list, of which one counts.
fn standbys_needed(names: &str) -> i64 {
    let Some((before, _)) = names.split_once('(') else { return 1 };
    before.split_whitespace().next_back().and_then(|number| number.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_core::Finding;

    fn server(names: &str, synchronous_commit: &str, connected: i64) -> Server {
        Server {
            version: "15.1".to_owned(),
            number: 150_001,
            fsync: true,
            full_page_writes: true,
            synchronous_commit: synchronous_commit.to_owned(),
            standby_names: names.to_owned(),
            encoding: "UTF8".to_owned(),
            in_recovery: false,
            standbys: Standbys::Seen(connected),
        }
    }

    #[test]
    fn as_many_standbys_have_to_be_connected_as_a_commit_waits_for() {
        let finding = |names: &str, connected| server(names, "on", connected).standby().finding;
        assert_eq!(finding("", 0), Finding::Ok);
        for (one, two) in [("FIRST 1 (a, b)", "FIRST 2 (a, b)"), ("ANY 1 (a, b)", "any 2 (\"a\", b)"), ("a, b", "2(a, b)")] {
            assert_eq!((finding(one, 0), finding(one, 1)), (Finding::Problem, Finding::Ok), "{one}");
            assert_eq!((finding(two, 1), finding(two, 2)), (Finding::Problem, Finding::Ok), "{two}");
        }
        assert_eq!(finding("*", 1), Finding::Ok);
    }

    #[test]
    fn a_commit_that_waits_for_nobody_is_not_said_to_wait() {
        for alone in ["local", "off"] {
            let server = server("FIRST 2 (a, b)", alone, 0);
            let standby = server.standby();
            assert_eq!(standby.finding, Finding::Ok);
            assert!(standby.found.contains("wait for no other server"), "{standby:?}");
            assert!(server.durability() < Durability::Replicated);
        }
        assert_eq!(server("a", "on", 1).durability(), Durability::Replicated);
    }
}
