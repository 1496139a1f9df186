//! Statements held for the length of a batch, so that each is looked up once and not once a row.

use millpond_core::Result;
use rusqlite::{CachedStatement, Connection};

use crate::errors::sql;

/// The statements a batch has used so far.
pub(crate) struct Held<'c> {
    connection: &'c Connection,
    statements: Vec<((usize, usize), CachedStatement<'c>)>,
}

impl<'c> Held<'c> {
    pub(crate) fn new(connection: &'c Connection) -> Self {
        Self { connection, statements: Vec::with_capacity(16) }
    }

    pub(crate) fn connection(&self) -> &'c Connection {
        self.connection
    }

    /// The statement of a text that outlives the batch: one of a table's, or a constant. Told apart by its address.
    pub(crate) fn get(&mut self, text: &str) -> Result<&mut CachedStatement<'c>> {
        let address = (text.as_ptr().addr(), text.len());
        let at = match self.statements.iter().position(|(a, _)| *a == address) {
            Some(at) => at,
            None => {
                self.statements.push((address, self.connection.prepare_cached(text).map_err(sql("statement"))?));
                self.statements.len() - 1
            }
        };
        Ok(&mut self.statements[at].1)
    }
}
