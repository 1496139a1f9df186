//! Transactions whose BEGIN and COMMIT are compiled once, like every other statement.

use millpond_core::Result;
use rusqlite::Connection;

use crate::errors::sql;

/// An open transaction. Dropped without [`Guard::commit`], it is rolled back.
pub(crate) struct Guard<'c> {
    connection: &'c Connection,
    open: bool,
}

fn run(connection: &Connection, text: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(text)?.raw_execute().map(drop)
}

impl<'c> Guard<'c> {
    /// Takes the write lock at once, so that nothing read inside can change before the commit.
    pub(crate) fn write(connection: &'c Connection) -> Result<Self> {
        run(connection, "BEGIN IMMEDIATE").map_err(sql("begin"))?;
        Ok(Self { connection, open: true })
    }

    /// One snapshot for several reads.
    pub(crate) fn read(connection: &'c Connection) -> Result<Self> {
        run(connection, "BEGIN").map_err(sql("begin"))?;
        Ok(Self { connection, open: true })
    }

    /// Makes everything durable.
    pub(crate) fn commit(mut self) -> rusqlite::Result<()> {
        run(self.connection, "COMMIT")?;
        self.open = false;
        Ok(())
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SQLite has already rolled back by itself after some errors.
        if self.open && !self.connection.is_autocommit() {
            let _ = run(self.connection, "ROLLBACK");
        }
    }
}
