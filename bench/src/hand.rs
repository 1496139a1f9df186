//! The same rows by hand: what a careful person writes with rusqlite, without plan, rules or reads that can be avoided.

use std::path::Path;

use rusqlite::{Connection, params};

use crate::world::Done;

/// The same tables and indexes as the store has, and nothing else.
const TABLES: &str = "
CREATE TABLE namespaces (id INTEGER PRIMARY KEY, position INTEGER NOT NULL, time INTEGER NOT NULL) STRICT;
INSERT INTO namespaces VALUES (1, 0, 0);
CREATE TABLE work (row INTEGER PRIMARY KEY, ns INTEGER NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, position INTEGER NOT NULL,
  time INTEGER NOT NULL, by TEXT, doc TEXT NOT NULL, status TEXT, ts INTEGER) STRICT;
CREATE UNIQUE INDEX work_key ON work (ns, key);
CREATE INDEX work_position ON work (ns, position);
CREATE INDEX work_status ON work (ns, status, key);
CREATE INDEX work_ts ON work (ns, ts, key);
CREATE TABLE streams (id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, name TEXT NOT NULL, head INTEGER NOT NULL, oldest INTEGER NOT NULL,
  sealed INTEGER NOT NULL, position INTEGER NOT NULL, time INTEGER NOT NULL) STRICT;
CREATE UNIQUE INDEX streams_name ON streams (ns, name);
CREATE TABLE events (row INTEGER PRIMARY KEY, stream INTEGER NOT NULL, sequence INTEGER NOT NULL, id TEXT, type TEXT NOT NULL, time INTEGER NOT NULL,
  correlation TEXT, agent TEXT, source TEXT, labels TEXT, data TEXT NOT NULL) STRICT;
CREATE INDEX events_stream ON events (stream);
CREATE UNIQUE INDEX events_id ON events (stream, id) WHERE id IS NOT NULL;
CREATE INDEX events_correlation ON events (correlation) WHERE correlation IS NOT NULL;
CREATE INDEX events_agent ON events (agent) WHERE agent IS NOT NULL;
CREATE TABLE commits (ns INTEGER NOT NULL, id BLOB NOT NULL, position INTEGER NOT NULL, time INTEGER NOT NULL, digest BLOB NOT NULL,
  revisions TEXT NOT NULL, sequences TEXT NOT NULL, PRIMARY KEY (ns, id)) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints (row INTEGER PRIMARY KEY, ns INTEGER NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL,
  position INTEGER NOT NULL, time INTEGER NOT NULL, by TEXT, doc TEXT NOT NULL, scope TEXT, version INTEGER, created_at INTEGER, size INTEGER) STRICT;
CREATE UNIQUE INDEX checkpoints_key ON checkpoints (ns, key);
CREATE INDEX checkpoints_position ON checkpoints (ns, position);
CREATE INDEX checkpoints_scope ON checkpoints (ns, scope, key);
CREATE INDEX checkpoints_version ON checkpoints (ns, version, key);
CREATE INDEX checkpoints_created ON checkpoints (ns, created_at, key);
CREATE INDEX checkpoints_size ON checkpoints (ns, size, key);
CREATE INDEX checkpoints_both ON checkpoints (ns, scope, version, key);
CREATE TABLE saver (thread TEXT NOT NULL, checkpoint TEXT NOT NULL, doc TEXT NOT NULL, PRIMARY KEY (thread, checkpoint)) STRICT;
";

/// A database written by hand.
pub struct Hand {
    connection: Connection,
    n: u64,
}

impl Hand {
    /// Opens a fresh one with the same durability and cache as the store.
    pub fn open(path: &Path) -> Done<Self> {
        let connection = Connection::open(path)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        connection.pragma_update(None, "cache_size", -32_000)?;
        connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.execute_batch(TABLES)?;
        Ok(Self { connection, n: 0 })
    }

    fn run(&self, text: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(text)?.raw_execute().map(drop)
    }

    /// Takes positions and the time of a transaction.
    fn positions(&self, count: i64) -> rusqlite::Result<(i64, i64)> {
        let now = micros();
        let position: i64 = self
            .connection
            .prepare_cached("UPDATE namespaces SET position = position + ?1, time = ?2 WHERE id = 1 RETURNING position")?
            .query_row((count, now), |r| r.get(0))?;
        Ok((position - count + 1, now))
    }

    fn put(&self, key: &str, doc: &str, ts: i64, position: i64, now: i64) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO work (ns, key, revision, position, time, by, doc, status, ts) VALUES (1, ?1, 1, ?2, ?3, NULL, ?4, 'running', ?5)",
            )?
            .execute((key, position, now, doc, ts))
            .map(drop)
    }

    fn head(&self, stream: &str, count: i64, position: i64, now: i64) -> rusqlite::Result<(i64, i64)> {
        let (id, head): (i64, i64) = self
            .connection
            .prepare_cached(
                "INSERT INTO streams (ns, name, head, oldest, sealed, position, time) VALUES (1, ?1, ?2, 1, 0, ?3, ?4)
                 ON CONFLICT (ns, name) DO UPDATE SET head = head + ?2, position = excluded.position, time = excluded.time RETURNING id, head",
            )?
            .query_row((stream, count, position, now), |r| Ok((r.get(0)?, r.get(1)?)))?;
        Ok((id, head - count + 1))
    }

    fn event(&self, stream: i64, sequence: i64, position: i64, now: i64, data: &str) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO events (row, stream, sequence, id, type, time, correlation, agent, source, labels, data)
                 VALUES (?1, ?2, ?3, NULL, 'step.completed', ?4, NULL, NULL, NULL, NULL, ?5)",
            )?
            .execute(((1_i64 << 44) + position, stream, sequence, now, data))
            .map(drop)
    }

    fn receipt(&self, n: u64, position: i64, now: i64, revisions: &str, sequences: &str) -> rusqlite::Result<()> {
        // Sixteen bytes that grow with time, as a UUIDv7 does.
        let mut id = [7u8; 16];
        id[..8].copy_from_slice(&now.to_be_bytes());
        id[8..].copy_from_slice(&n.to_be_bytes());
        self.connection
            .prepare_cached(
                "INSERT INTO commits (ns, id, position, time, digest, revisions, sequences) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![&id[..], position, now, &id[..], revisions, sequences])
            .map(drop)
    }

    fn next(&mut self) -> u64 {
        self.n += 1;
        self.n
    }

    /// The statements of one record and one event.
    fn step(&mut self, n: u64) -> rusqlite::Result<()> {
        let (position, now) = self.positions(2)?;
        self.put(&format!("k{n}"), &crate::world::document(n), n as i64, position, now)?;
        let (stream, sequence) = self.head(&crate::world::stream(n), 1, position + 1, now)?;
        self.event(stream, sequence, position + 1, now, &crate::world::body())?;
        self.receipt(n, position + 1, now, "[1]", &format!("[{{\"first\":{sequence},\"count\":1}}]"))
    }

    /// One record and one event, one transaction.
    pub fn one_step(&mut self) -> Done {
        let n = self.next();
        self.run("BEGIN IMMEDIATE")?;
        self.step(n)?;
        self.run("COMMIT")?;
        Ok(())
    }

    /// Many steps in one transaction: group commit by hand.
    pub fn steps(&mut self, count: usize) -> Done {
        self.run("BEGIN IMMEDIATE")?;
        for _ in 0..count {
            let n = self.next();
            self.step(n)?;
        }
        self.run("COMMIT")?;
        Ok(())
    }

    /// One event, one transaction.
    pub fn one_event(&mut self) -> Done {
        self.events(&crate::world::stream(self.n + 1), 1)
    }

    /// Events of one stream, one transaction.
    pub fn events(&mut self, name: &str, count: i64) -> Done {
        let n = self.next();
        self.run("BEGIN IMMEDIATE")?;
        let (position, now) = self.positions(count)?;
        let (stream, sequence) = self.head(name, count, position + count - 1, now)?;
        let body = crate::world::body();
        for i in 0..count {
            self.event(stream, sequence + i, position + i, now, &body)?;
        }
        self.receipt(n, position + count - 1, now, "[]", &format!("[{{\"first\":{sequence},\"count\":{count}}}]"))?;
        self.run("COMMIT")?;
        Ok(())
    }

    /// One record updated if it is at the revision expected, one transaction.
    pub fn compare_and_set(&mut self, key: &str, revision: i64) -> Done {
        let n = self.next();
        self.run("BEGIN IMMEDIATE")?;
        let (position, now) = self.positions(1)?;
        let changed = self
            .connection
            .prepare_cached(
                "UPDATE work SET revision = revision + 1, position = ?3, time = ?4, doc = ?5, status = 'running', ts = ?6
                 WHERE ns = 1 AND key = ?1 AND revision = ?2",
            )?
            .execute((key, revision, position, now, crate::world::document(n), n as i64))?;
        if changed != 1 {
            return Err("another revision was found".into());
        }
        self.receipt(n, position, now, &format!("[{}]", revision + 1), "[]")?;
        self.run("COMMIT")?;
        Ok(())
    }

    /// One checkpoint of this payload as the domain keeps it, one transaction.
    pub fn one_checkpoint(&mut self, payload: &str) -> Done {
        let n = self.next();
        self.run("BEGIN IMMEDIATE")?;
        let (position, now) = self.positions(1)?;
        let sha = "0123456789abcdef".repeat(4);
        let doc = format!(
            "{{\"chunks\":0,\"created_at\":\"2026-11-21T08:00:00.000000Z\",\"kind\":\"json\",\"parent\":{},\"payload\":{payload},\
             \"scope\":\"workflow/w\",\"sha256\":\"{sha}\",\"size\":{},\"version\":{n}}}",
            n - 1,
            payload.len()
        );
        self.connection
            .prepare_cached(
                "INSERT INTO checkpoints (ns, key, revision, position, time, by, doc, scope, version, created_at, size)
                 VALUES (1, ?1, 1, ?2, ?3, NULL, ?4, 'workflow/w', ?5, ?3, ?6)",
            )?
            .execute((format!("workflow/w/{n:012}"), position, now, doc, n as i64, payload.len() as i64))?;
        self.receipt(n, position, now, "[1]", "[]")?;
        self.run("COMMIT")?;
        Ok(())
    }

    /// What LangGraph's saver writes: one row, without order, revision or receipt.
    pub fn saver_row(&mut self, doc: &str) -> Done {
        let n = self.next();
        self.connection
            .prepare_cached("INSERT INTO saver (thread, checkpoint, doc) VALUES ('t', ?1, ?2)")?
            .execute((format!("{n:020}"), doc))?;
        Ok(())
    }

    /// A record by key.
    pub fn get(&self, key: &str) -> Done<Option<String>> {
        use rusqlite::OptionalExtension;
        Ok(self
            .connection
            .prepare_cached("SELECT revision, position, time, by, doc FROM work WHERE ns = 1 AND key = ?1")?
            .query_row([key], |r| {
                let _: (i64, i64, i64, Option<String>) = (r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?);
                r.get(4)
            })
            .optional()?)
    }

    /// All events of a stream.
    pub fn range(&self, stream: &str) -> Done<usize> {
        let mut statement = self.connection.prepare_cached(
            "SELECT row, sequence, id, type, time, correlation, agent, source, labels, data FROM events
             WHERE stream = (SELECT id FROM streams WHERE ns = 1 AND name = ?1) ORDER BY row",
        )?;
        let rows = statement.query_map([stream], |r| {
            Ok((
                r.get::<_, i64>(0)?,
                r.get::<_, i64>(1)?,
                r.get::<_, Option<String>>(2)?,
                r.get::<_, String>(3)?,
                r.get::<_, i64>(4)?,
                (r.get::<_, Option<String>>(5)?, r.get::<_, Option<String>>(6)?, r.get::<_, Option<String>>(7)?),
                r.get::<_, Option<String>>(8)?,
                r.get::<_, String>(9)?,
            ))
        })?;
        let all: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
        Ok(all.len())
    }
}

#[allow(clippy::disallowed_methods)] // A bench measures the wall clock's cost too.
fn micros() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// A request to the writer thread: how many steps, and whom to tell.
type Request = tokio::sync::oneshot::Sender<()>;

/// A writer thread by hand: callers send, it groups what is waiting into one transaction, and answers.
pub struct HandWriter {
    sender: std::sync::mpsc::Sender<Request>,
}

impl HandWriter {
    /// Starts the thread; `group` is how many commits a transaction takes at most.
    pub fn start(mut hand: Hand, group: usize) -> Self {
        let (sender, receiver) = std::sync::mpsc::channel::<Request>();
        std::thread::spawn(move || {
            while let Ok(first) = receiver.recv() {
                let mut waiting = vec![first];
                while waiting.len() < group {
                    match receiver.try_recv() {
                        Ok(next) => waiting.push(next),
                        Err(_) => break,
                    }
                }
                if hand.steps(waiting.len()).is_err() {
                    return;
                }
                for caller in waiting {
                    let _ = caller.send(());
                }
            }
        });
        Self { sender }
    }

    /// One durable step.
    pub async fn step(&self) -> Result<(), &'static str> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.sender.send(sender).map_err(|_| "the writer went away")?;
        receiver.await.map_err(|_| "the writer went away")
    }
}
