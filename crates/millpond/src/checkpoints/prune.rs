//! Deleting old checkpoints: always the oldest first, so that what is left stays one unbroken range.

use millpond_core::{Commit, Document, Error, Expectation, Query, Record, Result, Timestamp};

use super::heads::{checkpoint_id, deletes, outdated};
use super::model::{CheckpointRecord, CheckpointScope, Scope, key_of};
use super::{Checkpoints, TRIES, too_busy};

/// Versions deleted by one commit: with nine chunks each they stay below the operations a commit can have.
const BATCH: usize = 250;

impl Checkpoints {
    /// Deletes all but the newest `count` versions of a scope, and says how many went.
    ///
    /// One commit point for each 250 versions, the oldest first: stopped half way it has kept more than asked, and
    /// a second call goes on.
    ///
    /// # Errors
    /// `Invalid` when `count` is 0: the newest is the current state; see [`Checkpoints::delete_all`].
    pub async fn keep_newest(&self, scope: impl Into<Scope>, count: u32) -> Result<u64> {
        let scope = scope.into().name();
        if count == 0 {
            return Err(Error::invalid("at least the newest checkpoint is kept")
                .with_next("use delete_all to delete a scope's checkpoints altogether")
                .during("checkpoints.keep_newest"));
        }
        let Some(newest) = self.newest(&scope).await? else { return Ok(0) };
        let newest = newest.info.version;
        let below = newest - i64::from(count) + 1;
        self.prune(&scope, below, newest).await.map_err(|e| e.during("checkpoints.keep_newest"))
    }

    /// Deletes the versions of a scope that were saved before a moment, up to the first that was not, and says how
    /// many went. The newest always stays. One commit point for each 250 versions, the oldest first.
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn delete_older_than(&self, scope: impl Into<Scope>, time: Timestamp) -> Result<u64> {
        let scope = scope.into().name();
        let Some(newest) = self.newest(&scope).await? else { return Ok(0) };
        let newest = newest.info.version;
        let first_kept = Query::new(CheckpointRecord::COLLECTION.name())?
            .eq("scope", scope.as_str())
            .at_least("created_at", time)
            .order_asc("version")
            .limit(1);
        let page = self.store.query(first_kept).await?;
        let below = match page.items.first() {
            Some(record) => record.decode::<CheckpointRecord>()?.info.version.min(newest),
            None => newest,
        };
        self.prune(&scope, below, newest).await.map_err(|e| e.during("checkpoints.delete_older_than"))
    }

    /// Deletes every version of a scope, and says how many went. Numbers go on where they stopped if the scope is
    /// used again. One commit point for each 250 versions, the oldest first; the newest goes last.
    ///
    /// # Errors
    /// `Conflict` when others keep saving into the scope.
    pub async fn delete_all(&self, scope: impl Into<Scope>) -> Result<u64> {
        let scope = scope.into().name();
        let mut deleted = 0;
        for _ in 0..TRIES {
            let Some(newest) = self.newest(&scope).await? else { return Ok(deleted) };
            let newest = newest.info;
            deleted += self.prune(&scope, newest.version, newest.version).await?;
            match self.delete_last(&scope, newest.version, newest.chunks, newest.object.as_deref()).await {
                Ok(()) => {
                    self.forget(&scope);
                    return Ok(deleted + 1);
                }
                Err(error) if outdated(&error).is_some() => {}
                Err(error) => return Err(error.during("checkpoints.delete_all")),
            }
        }
        Err(too_busy(&scope).during("checkpoints.delete_all"))
    }

    /// Deletes the only version left and keeps its number for the next one to follow.
    async fn delete_last(&self, scope: &str, version: i64, chunks: u32, object: Option<&str>) -> Result<()> {
        let mut part = Commit::new()
            .trusted()
            .expect(Expectation::Exists(checkpoint_id(scope, version)?))
            .expect(Expectation::Absent(checkpoint_id(scope, version + 1)?))
            .merge(
                CheckpointScope::COLLECTION.name(),
                scope,
                vec![millpond_core::MergeOp::Max("/next_version".into(), version + 1)],
            )?;
        part.writes.extend(deletes(&key_of(scope, version), chunks, object)?);
        self.store.commit(part).await.map(|_| ())
    }

    /// Deletes the versions below a number, while the newest that was seen is still there.
    async fn prune(&self, scope: &str, below: i64, newest: i64) -> Result<u64> {
        let mut deleted = 0;
        loop {
            let query = Query::new(CheckpointRecord::COLLECTION.name())?
                .eq("scope", scope)
                .below("version", below)
                .order_asc("version")
                .limit(BATCH);
            let page = self.store.query(query).await?;
            if page.items.is_empty() {
                return Ok(deleted);
            }
            let mut part = Commit::new().trusted().expect(Expectation::Exists(checkpoint_id(scope, newest)?));
            let mut records = Vec::with_capacity(page.items.len());
            for record in &page.items {
                records.push(part.writes.len());
                let (chunks, object) = kept_in(record)?;
                part.writes.extend(deletes(record.key.as_str(), chunks, object.as_deref())?);
            }
            let receipt = match self.store.commit(part).await {
                Ok(receipt) => receipt,
                // Others deleted beyond it meanwhile: nothing of ours is left to do.
                Err(error) if outdated(&error).is_some() => return Ok(deleted),
                Err(error) => return Err(error),
            };
            // A revision of 0 stands for a delete that found nothing: somebody else deleted it first.
            deleted += records.iter().filter(|at| receipt.revisions.get(**at).is_some_and(|r| *r > 0)).count() as u64;
            if page.next.is_none() {
                return Ok(deleted);
            }
        }
    }
}

/// How many chunks a record names, and which object, also when the rest of it does not read back.
fn kept_in(record: &Record) -> Result<(u32, Option<String>)> {
    let value = record.value.value()?;
    let chunks = value.get("chunks").and_then(serde_json::Value::as_u64).unwrap_or(0);
    let object = value.get("object").and_then(serde_json::Value::as_str).map(str::to_owned);
    Ok((u32::try_from(chunks).unwrap_or(0), object))
}
