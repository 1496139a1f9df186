//! Bytes that no record names: found, told, and removed when that is asked for.
//!
//! ```text
//!   lease units/collector ─► undo units whose time has run out ─► raise the floor ─► list the place, page by page:
//!       its unit over, or unknown and below the floor, and no record names it   ─► unused
//! ```
//!
//! The floor makes "unknown" final: below it no unit begins and none is decided. A unit
//! that is known is judged by its record, so one that cannot be undone yet holds up nothing but its own bytes. And what
//! nobody names is named by nobody later: only the unit that wrote it, or a commit that expects a record which names it
//! already, can. So a look at the records after the look at the place is enough.

use std::time::Duration;

use millpond_core::{Damaged, Document, Error, ErrorKind, Expectation, Outcome, Query, Record, Records, Result, Store, Write};
use millpond_objects::{Listed, Location, Objects};
use serde::Serialize;

use super::model::{UnitFloor, UnitInfo, UnitState, moment_of};
use super::{Recovered, Units, tell};
use crate::locks::{Attempt, Lease, LockRequest};

/// The lease of whoever collects.
const LEASE: &str = "units/collector";
/// How long it lasts without a sign of life.
const TTL: Duration = Duration::from_secs(60);
/// Objects that are looked up together.
const PAGE: usize = 256;
/// Unused objects that an answer names; the rest is counted.
const NAMED: usize = 1_000;
/// Damaged records that an answer names; the rest is counted.
const DAMAGED_NAMED: usize = 100;
/// How young the units are that the floor leaves open, unless said otherwise: what clocks of machines may differ by.
pub(super) const GRACE: Duration = Duration::from_secs(60 * 60);

/// Collections whose records name locations in a field `location`.
pub(crate) const OWNERS: [&str; 2] =
    [<crate::ArtifactVersion as Document>::COLLECTION.name(), <crate::PayloadObject as Document>::COLLECTION.name()];

/// What is to be collected.
#[derive(Debug, Clone, Serialize)]
pub struct CollectRequest {
    /// Whether unused objects are removed, or only reported.
    pub remove: bool,
    /// Units younger than this may still begin, on machines whose clocks are behind; what they wrote stays. An hour if not
    /// said.
    pub grace: Duration,
}

impl Default for CollectRequest {
    fn default() -> Self {
        Self { remove: false, grace: GRACE }
    }
}

/// An object that nobody names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnusedObject {
    /// Where it is.
    pub location: String,
    /// Its bytes.
    pub length: u64,
    /// How the unit stands that wrote it; `None` when there is no record of it.
    pub unit: Option<UnitState>,
}

/// What a collection brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Units that were looked at first.
    pub units: Recovered,
    /// Objects that were looked at.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that nobody names.
    pub unused: u64,
    /// Their bytes.
    pub unused_bytes: u64,
    /// Of them, removed.
    pub removed: u64,
    /// Objects that stay because a record that may name them, or their unit's, does not read back.
    pub kept_damaged: u64,
    /// The first hundred of those: where they are, and what does not read back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<Damaged>,
    /// The first thousand that nobody names.
    pub named: Vec<UnusedObject>,
}

/// What the records and the bytes say of each other. Nothing was changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// Records that name bytes.
    pub records: u64,
    /// Records whose bytes are missing or of another length: key, location, and what was found.
    pub missing: Vec<MissingObject>,
    /// How many those are; the answer names as many of them as were asked for.
    pub missing_in_all: u64,
    /// Records that may name bytes and do not read back: nobody can tell which. As many as were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<Damaged>,
    /// How many those are.
    pub damaged_in_all: u64,
    /// Objects that nobody names, as a collection would report them.
    pub unused: Collected,
}

/// Bytes that a record names and that are not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingObject {
    /// The collection and the key of the record.
    pub record: String,
    /// Where the bytes should be.
    pub location: String,
    /// Their length.
    pub expected: u64,
    /// What is there.
    pub found: Option<u64>,
}

impl Units {
    /// Finds bytes that no record names, and removes them if that is asked for. Units whose time has run out are undone
    /// first, live ones are never touched. One process at a time, under the lock `units/collector`; whoever ends in the
    /// middle leaves nothing half done.
    ///
    /// # Errors
    /// `Conflict`, naming who, when somebody collects already; what the store or the place of the bytes fails with.
    pub async fn collect(&self, request: &CollectRequest) -> Result<Collected> {
        self.collected(request).await.map_err(|e| e.during("units.collect"))
    }

    async fn collected(&self, request: &CollectRequest) -> Result<Collected> {
        let lease = self.only_one("collecting bytes that nobody names").await?;
        self.alone(&lease, self.under(&lease, request)).await
    }

    /// Takes the lock of what only one process may do at a time.
    ///
    /// # Errors
    /// `Conflict`, naming who, when somebody does it.
    pub(super) async fn only_one(&self, purpose: &str) -> Result<Lease> {
        let undoing = self.undoing();
        let lock = LockRequest::of(LEASE, TTL).purpose(purpose);
        match undoing.locks.try_acquire(&lock).await? {
            Attempt::Acquired(lease) => Ok(lease),
            Attempt::Held(info) => Err(Error::conflict(format!("{} collects already", info.lease.holder.name))
                .with_next("wait until it has done, or see it: millpond locks show units/collector")),
        }
    }

    /// Does it, renews the lock meanwhile, and gives it back.
    pub(super) async fn alone<T>(&self, lease: &Lease, work: impl Future<Output = Result<T>>) -> Result<T> {
        let locks = &self.undoing().locks;
        let done = tokio::select! {
            done = work => done,
            lost = locks.keep(lease) => Err(lost.err().unwrap_or_else(|| Error::unavailable("the lock was lost"))),
        };
        // Given back also after an error; one that is lost is somebody else's to give back.
        let released = locks.release(lease).await;
        let done = done?;
        released?;
        Ok(done)
    }

    async fn under(&self, lease: &Lease, request: &CollectRequest) -> Result<Collected> {
        // A report changes nothing: units whose time has run out are told, and the floor stays where it is.
        let units = if request.remove { self.recover().await? } else { self.open_units().await? };
        let mut done = Collected { units, ..Collected::default() };
        let floor = if request.remove {
            self.raise_floor(lease, request.grace).await?
        } else {
            self.possible_floor(request.grace).await?
        };
        let young = self.before_grace(request.grace);
        let objects = self.undoing().objects.get(&self.undoing().store).await?;
        let mut after: Option<Location> = None;
        loop {
            let page = objects.list(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(done) };
            after = Some(last.location.clone());
            done.objects += page.len() as u64;
            done.bytes += page.iter().map(|listed| listed.length).sum::<u64>();
            let unused = self.surely_unused(&page, floor, young, &mut done).await?;
            if request.remove {
                self.forget_sums(&unused).await?;
            }
            for unused in unused {
                if request.remove {
                    objects.remove(&unused.location.parse()?).await?;
                    done.removed += 1;
                }
                done.unused_bytes += unused.length;
                tell(&mut done.named, NAMED, &mut done.unused, unused);
            }
        }
    }

    /// Those of a page that nobody names. Where a record does not read back each object is looked at alone, and those that
    /// it may be about stay.
    async fn surely_unused(&self, page: &[Listed], floor: i64, young: i64, done: &mut Collected) -> Result<Vec<UnusedObject>> {
        match self.unused(page, floor, young).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            all => return all,
        }
        let mut unused = Vec::new();
        for listed in page {
            match self.unused(std::slice::from_ref(listed), floor, young).await {
                Ok(found) => unused.extend(found),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let stays = Damaged { what: listed.location.to_string(), why: error.to_string() };
                    tell(&mut done.damaged, DAMAGED_NAMED, &mut done.kept_damaged, stays);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(unused)
    }

    /// Sums go before their objects: an object that stays without them, because somebody ended in between, is found again.
    async fn forget_sums(&self, unused: &[UnusedObject]) -> Result<()> {
        if unused.is_empty() {
            return Ok(());
        }
        let mut commit = millpond_core::Commit::new().trusted();
        for object in unused {
            commit = commit.delete(crate::BlockSums::COLLECTION.name(), &object.location)?;
        }
        self.undoing().store.commit(commit).await.map(drop)
    }

    /// Units that are not over, as they stand; nobody is disturbed.
    async fn open_units(&self) -> Result<Recovered> {
        let mut open = Recovered::default();
        for state in [UnitState::Pending, UnitState::Aborting] {
            let query = Query::new(UnitInfo::COLLECTION.name())?.eq("state", state.as_str()).limit(NAMED);
            let all = self.undoing().store.count(query.clone()).await?;
            let page = self.undoing().store.query(query).await?;
            open.counts.left += all.saturating_sub(page.damaged.len() as u64);
            open.left.extend(page.items.into_iter().map(|record| record.key.as_str().to_owned()));
            open.damaged(page.damaged);
        }
        open.left.truncate(NAMED);
        Ok(open)
    }

    /// What is as old as the grace, in milliseconds since 1970.
    fn before_grace(&self, grace: Duration) -> i64 {
        let grace = i64::try_from(grace.as_micros()).unwrap_or(i64::MAX);
        self.undoing().store.now().as_micros().saturating_sub(grace) / 1_000
    }

    /// Where the floor could be: at the oldest unit that can still be committed, or as near to now as the grace leaves.
    pub(super) async fn possible_floor(&self, grace: Duration) -> Result<i64> {
        let floor = self.before_grace(grace);
        // The key is a UUIDv7, so the first by key has the oldest id.
        let query = Query::new(UnitInfo::COLLECTION.name())?.eq("state", UnitState::Pending.as_str()).limit(1);
        let page = self.undoing().store.query(query).await?;
        // One that does not read back may be worked on: it holds the floor as long as it is there.
        let damaged = page.damaged.iter().filter_map(|damaged| damaged.what.split_once('/').map(|(_, key)| key));
        let oldest = page.items.iter().map(|oldest| oldest.key.as_str()).chain(damaged);
        Ok(oldest.map(|unit| moment_of(super::steps::id_of(unit))).fold(floor, i64::min))
    }

    /// Raises the floor as far as it can be.
    pub(super) async fn raise_floor(&self, lease: &Lease, grace: Duration) -> Result<i64> {
        let store = &self.undoing().store;
        let floor = self.possible_floor(grace).await?;
        for _ in 0..16 {
            let found = Records::<UnitFloor>::new(store.clone()).get(UnitFloor::KEY).await?;
            if let Some(found) = &found
                && found.value.floor_ms >= floor
            {
                return Ok(found.value.floor_ms);
            }
            let id = Records::<UnitFloor>::id(UnitFloor::KEY)?;
            let expected =
                found.map_or_else(|| Expectation::Absent(id.clone()), |f| Expectation::Revision(id.clone(), f.revision));
            let raised: Write = Records::put(&UnitFloor { floor_ms: floor })?;
            let commit = lease.fence(millpond_core::Commit::new().trusted().expect(expected).write(raised));
            match store.try_commit(commit).await? {
                Outcome::Committed(_) => return Ok(floor),
                Outcome::Conflict(conflict) if conflict.is_fence() => return Err(Error::from_conflict(conflict)),
                Outcome::Conflict(_) => {}
            }
        }
        Err(Error::conflict("the floor of units changed again and again").with_next("try again"))
    }

    /// Compares the records with the bytes, both ways, and changes nothing: what is missing, and what nobody names. What
    /// was never committed is never taken for committed, whatever is found.
    ///
    /// # Errors
    /// As [`Units::collect`].
    pub async fn reconcile(&self, limit: usize) -> Result<Reconciled> {
        self.compared(limit).await.map_err(|e| e.during("units.reconcile"))
    }

    async fn compared(&self, limit: usize) -> Result<Reconciled> {
        let mut done = Reconciled { unused: self.collected(&CollectRequest::default()).await?, ..Reconciled::default() };
        let objects = self.undoing().objects.get(&self.undoing().store).await?;
        for owner in OWNERS {
            let mut after = None;
            loop {
                let page = self.undoing().store.query(Query::new(owner)?.limit(PAGE).after(after)).await?;
                page.damaged.into_iter().for_each(|damaged| done.damaged(damaged, limit));
                for record in page.items {
                    match self.missing(&*objects, owner, &record).await {
                        Ok(Named::Nothing) => {}
                        Ok(Named::Found) => done.records += 1,
                        Ok(Named::Missing(missing)) => {
                            done.records += 1;
                            tell(&mut done.missing, limit, &mut done.missing_in_all, missing);
                        }
                        Err(error) if error.kind() == ErrorKind::Corrupt => {
                            done.damaged(Damaged { what: format!("{owner}/{}", record.key), why: error.to_string() }, limit);
                        }
                        Err(error) => return Err(error),
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(done)
    }

    /// Whether the bytes are there that a record names.
    ///
    /// # Errors
    /// `Corrupt` when the record does not read back; what the store or the place fails with.
    async fn missing(&self, objects: &dyn Objects, owner: &str, record: &Record) -> Result<Named> {
        let value = record.value.value()?;
        let Some(location) = value.get("location").and_then(serde_json::Value::as_str) else { return Ok(Named::Nothing) };
        let expected = value.get("length").and_then(serde_json::Value::as_u64).unwrap_or_default();
        let at: Location = location.parse().map_err(|e| Error::corrupt(format!("{location:?} is no location")).with_source(e))?;
        let found = objects.length(&at).await?;
        // Purged since the page was read, and its bytes collected: that is no loss.
        if found == Some(expected) || !still_names(&self.undoing().store, owner, record.key.as_str(), location).await? {
            return Ok(Named::Found);
        }
        let record = format!("{owner}/{}", record.key);
        Ok(Named::Missing(MissingObject { record, location: location.to_owned(), expected, found }))
    }
}

/// What a record names.
enum Named {
    /// No bytes.
    Nothing,
    /// Bytes that are there, or are wanted no more.
    Found,
    Missing(MissingObject),
}

impl Reconciled {
    fn damaged(&mut self, damaged: Damaged, limit: usize) {
        tell(&mut self.damaged, limit, &mut self.damaged_in_all, damaged);
    }
}

/// Whether a record names a location now.
async fn still_names(store: &Store, owner: &str, key: &str, location: &str) -> Result<bool> {
    let Some(record) = store.get(owner, key).await? else { return Ok(false) };
    Ok(record.value.value()?.get("location").and_then(serde_json::Value::as_str) == Some(location))
}
