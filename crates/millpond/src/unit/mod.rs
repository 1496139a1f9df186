//! A unit of work: what one step did in several domains, committed at once or not at all.
//!
//! ```
//! # async fn demo() -> millpond::Result<()> {
//! # use millpond::{Execution, NewRun, Step};
//! # use serde_json::json;
//! # let pond = millpond::open("memory:").await?;
//! let run = pond.runs().start(NewRun::of("etl", 3)).await?;
//!
//! let mut unit = pond.unit();
//! unit.runs().step_completed(run.id(), Step::new("fetch"));
//! unit.events(run.stream()).append("page.fetched", &json!({"url": "https://example.org"}));
//! unit.checkpoints(run.id()).save(&json!({"next": 2}));
//! unit.metrics().record(Execution::of(&run).tokens(412));
//! unit.commit().await?;
//! # Ok(()) }
//! # tokio::runtime::Runtime::new().unwrap().block_on(demo()).unwrap();
//! ```
//!
//! Nothing reaches the store before [`Unit::commit`]. A part that cannot be made, such as an event too large, is
//! remembered and refuses the whole unit then.

mod parts;
mod step;

use std::sync::Arc;
use std::time::Duration;

use millpond_core::{Commit, CommitId, Document, Error, Expectation, Outcome, Receipt, Records, Result, Versioned, Write};

pub use parts::{UnitCheckpoints, UnitEvents, UnitLineage, UnitMetrics, UnitRuns};
pub use step::STEP_ARGS_BYTES;

use parts::Part;

use crate::Pond;
use crate::artifacts::{ArtifactWork, UnitArtifacts, given_up};
use crate::checkpoints::{Follows, Origin, Turn, outdated};
use crate::homes::Domain;
use crate::lineage::Guard;
use crate::metrics::is_counted;

/// How often a unit is put together again because somebody else saved a checkpoint in between.
const TRIES: u32 = 64;

/// What one step did, being collected. See [`crate::Pond::unit`].
#[derive(Debug)]
pub struct Unit {
    pond: Pond,
    id: Option<CommitId>,
    by: Option<String>,
    wait: Duration,
    parts: Vec<Part>,
    failed: Option<Error>,
    /// Once something is done that cannot wait for the commit: bytes, and steps outside.
    work: Option<Arc<ArtifactWork>>,
}

/// A unit worked out against what is known of the store.
struct Assembled {
    commit: Commit,
    /// Checkpoints it saves: scope and version.
    saves: Vec<(String, i64)>,
    /// Facts it records: which part, and the fact.
    facts: Vec<(usize, crate::Execution)>,
    guard: Guard,
}

impl Unit {
    pub(crate) fn new(pond: Pond) -> Self {
        Self { pond, id: None, by: None, wait: Duration::ZERO, parts: Vec::new(), failed: None, work: None }
    }

    /// Makes a retry safe: a unit whose id was committed before answers with that receipt and changes nothing; its puts,
    /// deletions and steps are answered without being done. One whose id is taken by a unit that is not committed is refused
    /// with `Conflict`, which names it: nothing of that one happened, or it is being worked on.
    ///
    /// The id is a moment, too: once a collector has looked for unused bytes ([`crate::Units::collect`]), a unit with
    /// artifacts or steps whose id is older than the collector's hour of grace is refused. So an id is made when its unit is
    /// begun for the first time, and a retry of one that never reached the store takes a new one.
    ///
    /// Said before the first artifact and the first step; afterwards the unit is refused as `Invalid`.
    pub fn id(&mut self, id: CommitId) -> &mut Self {
        self.id = Some(id);
        self.early("id")
    }

    /// Says who commits, shown to whoever meets a conflict with it. Said before the first artifact, as [`Unit::id`].
    pub fn by(&mut self, by: impl Into<String>) -> &mut Self {
        self.by = Some(by.into());
        self.early("by")
    }

    /// Makes the unit depend on a lock: the store refuses it as `Fenced` once the lock is not ours any more.
    pub fn fenced_by(&mut self, lease: &crate::Lease) -> &mut Self {
        self.push(Ok(lease.fence(Commit::new().trusted())))
    }

    /// Adds an expectation.
    pub fn expect(&mut self, expectation: Expectation) -> &mut Self {
        self.push(Ok(Commit::new().trusted().expect(expectation)))
    }

    /// How long somebody else's unit that has the same artifact is waited for; not at all if not said. Said before the
    /// first artifact, as [`Unit::id`].
    pub fn wait(&mut self, wait: Duration) -> &mut Self {
        self.wait = wait;
        self.early("wait")
    }

    /// Artifacts: what is written here is staged at once, seen by this unit alone, and committed with it. Ids, names and
    /// waits are said before the first call.
    pub fn artifacts(&mut self) -> UnitArtifacts {
        UnitArtifacts { work: self.work().map_err(Arc::new), committed: self.pond.artifacts() }
    }

    /// Decides against the unit and undoes what it did outside of the store: staged bytes are removed, steps compensated.
    /// Dropping a unit does the same in the background, or leaves it to whoever looks when its time has run out.
    ///
    /// # Errors
    /// What the store or the place of the bytes fails with; anybody can go on then ([`crate::Units::recover`]).
    /// `Unsupported` when a step's compensation is not known here, `Unavailable` when it failed: the bytes and records are
    /// gone, and the error names the unit that `millpond units resume` goes on with.
    pub async fn rollback(self) -> Result<()> {
        match &self.work {
            Some(work) => work.working().undo("it was rolled back").await.map_err(|e| e.during("unit.rollback")),
            None => Ok(()),
        }
    }

    /// The unit's id in the store, once it has staged bytes or noted a step.
    pub fn unit_id(&self) -> Option<&str> {
        self.work.as_ref().map(|work| work.working().id())
    }

    fn work(&mut self) -> Result<Arc<ArtifactWork>> {
        if let Some(error) = &self.failed {
            return Err(error.duplicate());
        }
        self.home_with([Domain::Artifacts])?;
        let (units, id, by, wait) = (self.pond.units(), self.id, self.by.clone(), self.wait);
        Ok(Arc::clone(self.work.get_or_insert_with(|| Arc::new(ArtifactWork::new(units.begin(id, by, wait))))))
    }

    /// Events of a stream.
    pub fn events(&mut self, stream: impl Into<String>) -> UnitEvents<'_> {
        UnitEvents::new(self, stream.into())
    }

    /// What happened in a run.
    pub fn runs(&mut self) -> UnitRuns<'_> {
        UnitRuns::new(self)
    }

    /// Checkpoints of a scope; a bare id is a run's.
    pub fn checkpoints(&mut self, scope: impl Into<crate::Scope>) -> UnitCheckpoints<'_> {
        UnitCheckpoints::new(self, scope.into())
    }

    /// Figures, patterns and feedback.
    pub fn metrics(&mut self) -> UnitMetrics<'_> {
        UnitMetrics::new(self)
    }

    /// Lineage: rows of what was done, and what they came from.
    pub fn lineage(&mut self) -> UnitLineage<'_> {
        UnitLineage::new(self)
    }

    /// Creates or replaces a document of a collection of one's own, whoever changed it meanwhile.
    pub fn put<T: Document>(&mut self, document: &T) -> &mut Self {
        let part = own::<T>().and_then(|part| Ok(part.write(Records::put(document)?)));
        self.push(part)
    }

    /// Creates a document of a collection of one's own; the unit is refused if the key is taken.
    pub fn create<T: Document>(&mut self, document: &T) -> &mut Self {
        let part = own::<T>().and_then(|part| {
            let id = Records::<T>::id(document.key()?.as_str())?;
            Ok(part.expect(Expectation::Absent(id)).write(Records::put(document)?))
        });
        self.push(part)
    }

    /// Replaces a document of a collection of one's own; the unit is refused if it changed since it was read.
    pub fn update<T: Document>(&mut self, document: &Versioned<T>) -> &mut Self {
        let part = own::<T>().and_then(|part| {
            let id = Records::<T>::id(document.value.key()?.as_str())?;
            Ok(part.expect(Expectation::Revision(id, document.revision)).write(Records::put(&document.value)?))
        });
        self.push(part)
    }

    /// Deletes a document of a collection of one's own.
    pub fn delete<T: Document>(&mut self, key: &str) -> &mut Self {
        let part = own::<T>().and_then(|part| Ok(part.write(Write::Delete(Records::<T>::id(key)?))));
        self.push(part)
    }

    /// Adds a part that a domain made (its `…_part` functions), or a raw commit of one's own.
    ///
    /// A raw one is held to the rules of raw commits: it may not write into the domains' collections, and trims go in
    /// a commit of their own.
    pub fn part(&mut self, part: Commit) -> &mut Self {
        let part = if part.is_trusted() { Ok(part) } else { self.checked(part) };
        self.push(part)
    }

    fn checked(&self, part: Commit) -> Result<Commit> {
        let catalog = self.pond.store().catalog();
        for write in &part.writes {
            let (Write::Put(id, _) | Write::Delete(id) | Write::Merge(id, _)) = write else { continue };
            if catalog.get(id.collection.as_str()).is_some_and(|spec| spec.owned) {
                return Err(not_ours(id.collection.as_str()));
            }
        }
        if part.trims.is_empty() {
            return Ok(part);
        }
        Err(Error::invalid("a unit does not trim streams").with_next("trim in a commit of its own"))
    }

    /// Commits everything. One commit point: the whole unit. Artifacts that a clone of its [`UnitArtifacts`] has not
    /// finished by then are no part of it, and whoever writes them hears so.
    ///
    /// Where somebody else saved a checkpoint of the same scope in between, the unit is put together again with the next
    /// number. Figures of a run that were recorded before, and are the same, are left out.
    ///
    /// # Errors
    /// The first part that could not be made; `Conflict` or `Fenced` when an expectation does not hold. Nothing was
    /// applied then. `Unsupported` when its parts live in two stores; the error names them.
    pub async fn commit(self) -> Result<Receipt> {
        self.run().await.map_err(|e| e.during("unit.commit"))
    }

    async fn run(mut self) -> Result<Receipt> {
        match self.attempt().await {
            Ok(receipt) => Ok(receipt),
            // Kept here meanwhile: where this future is dropped, the unit is given up all the same.
            Err(error) => Err(match &self.work {
                Some(work) => given_up(work, error).await,
                None => error,
            }),
        }
    }

    async fn attempt(&mut self) -> Result<Receipt> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let store = self.home()?;
        if let Some(id) = self.id
            && let Some(mut receipt) = store.outcome(id).await?
        {
            self.pond.units().not_aborted(&store, id).await?;
            receipt.replayed = true;
            return Ok(receipt);
        }
        self.stage_large().await?;
        let mut turn: Option<(String, Turn)> = None;
        for _ in 0..TRIES {
            let Assembled { commit, saves, facts, guard } = self.assemble().await?;
            let done = match &self.work {
                None => store.commit(commit).await,
                Some(work) => decided(work, commit).await,
            };
            let error = match done {
                Ok(receipt) => {
                    for (scope, version) in saves {
                        self.pond.checkpoints().saw(&scope, version);
                    }
                    return Ok(receipt);
                }
                Err(error) => error,
            };
            if error.as_conflict().is_some_and(|conflict| guard.is_outdated(conflict)) {
                continue;
            }
            if let Some((at, fact)) = facts.iter().find(|(_, fact)| is_counted(&error, fact)) {
                self.pond.metrics().counted_before(fact).await?;
                self.parts.remove(*at);
                continue;
            }
            match outdated(&error) {
                Some(scope) if saves.iter().any(|(s, _)| *s == scope) => {
                    self.pond.checkpoints().forget(&scope);
                    if turn.as_ref().is_none_or(|(of, _)| *of != scope) {
                        // The one held is given back first: two units over the same scopes must not wait for each other.
                        drop(turn.take());
                        turn = Some((scope.clone(), self.pond.checkpoints().turn(&scope).await));
                    }
                }
                _ => return Err(crate::pins::explained(&store, crate::objects::explained(crate::runs::explain(error))).await),
            }
        }
        Err(Error::conflict(format!(
            "others saved checkpoints of the same scope, or wrote the rows that its own come from, first, {TRIES} times"
        ))
        .with_next("let one worker save into a scope, under a lock if there are several"))
    }

    /// Payloads that are too large for records become objects of this unit.
    async fn stage_large(&mut self) -> Result<()> {
        for at in 0..self.parts.len() {
            let Part::Checkpoint(scope, new) = &self.parts[at] else { continue };
            if !crate::Checkpoints::is_large(new)? {
                continue;
            }
            let (scope, new) = (scope.clone(), new.clone());
            let work = self.work()?;
            if let Some(staged) = self.pond.checkpoints().stage(work.working(), &scope, &new).await? {
                self.parts[at] = Part::Checkpoint(scope, staged);
            }
        }
        Ok(())
    }

    /// The one store of all its parts.
    fn home(&self) -> Result<millpond_core::Store> {
        self.home_with(self.work.iter().map(|_| Domain::Artifacts))
    }

    fn home_with(&self, more: impl IntoIterator<Item = Domain>) -> Result<millpond_core::Store> {
        let commits = self.parts.iter().filter_map(|part| if let Part::Ready(commit) = part { Some(commit) } else { None });
        let domains = self.parts.iter().filter_map(|part| match part {
            Part::Ready(_) => None,
            Part::Checkpoint(..) => Some(Domain::Checkpoints),
            Part::Execution(_) => Some(Domain::Metrics),
        });
        self.pond.homes().of_commits(commits, domains.chain(more)).cloned()
    }

    async fn assemble(&self) -> Result<Assembled> {
        let (saves, facts, guard) = (Vec::new(), Vec::new(), Guard::default());
        let mut all = Assembled { commit: Commit::new().trusted(), saves, facts, guard };
        all.commit.id = self.id;
        all.commit.by.clone_from(&self.by);
        for (at, part) in self.parts.iter().enumerate() {
            let ready = match part {
                Part::Ready(commit) => commit.clone(),
                Part::Checkpoint(scope, new) => {
                    let checkpoints = self.pond.checkpoints();
                    let follows = match all.saves.iter().rev().find(|(s, _)| s == scope) {
                        Some((_, version)) => Follows::SameCommit(*version),
                        None => checkpoints.follows(scope).await?,
                    };
                    let (info, commit) = checkpoints.draft(scope, follows, new, Origin::default())?;
                    all.saves.push((info.scope, info.version));
                    commit
                }
                Part::Execution(execution) => {
                    let (fact, commit) = self.pond.metrics().record_execution_part(execution.clone())?;
                    all.facts.push((at, fact));
                    commit
                }
            };
            all.commit = all.commit.and(ready);
        }
        (all.guard, all.commit) = crate::lineage::guarded(self.pond.store_of(Domain::Lineage), all.commit).await?;
        Ok(all)
    }

    /// Adds a part, or remembers why it could not be made.
    fn push(&mut self, part: Result<Commit>) -> &mut Self {
        match part {
            Ok(commit) => self.parts.push(Part::Ready(commit)),
            Err(error) => self.fail(error),
        }
        // A unit that would span two stores is refused by the call that makes it so, not by its commit.
        if self.failed.is_none()
            && let Err(error) = self.home()
        {
            self.fail(error);
        }
        self
    }

    fn fail(&mut self, error: Error) {
        // The first reason is the one to mend.
        self.failed.get_or_insert(error);
    }
}

impl Drop for Unit {
    /// Nobody can commit what was done for it any more, whoever still holds its [`UnitArtifacts`].
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            work.abandon();
        }
    }
}

/// Decides for a unit with operations of its own. What it stays with is mended by the caller, or given up.
async fn decided(work: &ArtifactWork, commit: Commit) -> Result<Receipt> {
    match work.decide(commit).await? {
        Outcome::Committed(receipt) => Ok(receipt),
        Outcome::Conflict(conflict) => Err(Error::from_conflict(conflict)),
    }
}

/// An empty part for documents of `T`, unless they belong to a domain.
fn own<T: Document>() -> Result<Commit> {
    let spec = T::COLLECTION.spec()?;
    if spec.owned { Err(not_ours(spec.name.as_str())) } else { Ok(Commit::new().trusted()) }
}

fn not_ours(collection: &str) -> Error {
    Error::invalid(format!("collection {collection:?} belongs to one of Millpond's domains; it is not written directly"))
        .with_next("use that domain's own parts, or a collection of your own")
}

pub(crate) mod blocking {
    //! The same for synchronous callers.
    use std::ops::{Deref, DerefMut};

    use millpond_core::{Receipt, Result};

    use crate::bridge::Bridge;

    /// What one step did, being collected; committed on the caller's own thread. See [`crate::Unit`].
    #[derive(Debug)]
    pub struct Unit {
        unit: crate::Unit,
        bridge: Bridge,
    }

    impl Unit {
        pub(crate) fn new(unit: crate::Unit, bridge: Bridge) -> Self {
            Self { unit, bridge }
        }

        /// Waits for [`crate::Unit::commit`].
        ///
        /// # Errors
        /// Those of the async operation; `Invalid` when called inside an async runtime.
        pub fn commit(self) -> Result<Receipt> {
            self.bridge.run(self.unit.commit())
        }

        /// Waits for [`crate::Unit::rollback`].
        ///
        /// # Errors
        /// Those of the async operation; `Invalid` when called inside an async runtime.
        pub fn rollback(self) -> Result<()> {
            self.bridge.run(self.unit.rollback())
        }

        /// See [`crate::Unit::artifacts`].
        pub fn artifacts(&mut self) -> crate::blocking::UnitArtifacts {
            crate::blocking::UnitArtifacts::new(self.unit.artifacts(), self.bridge.clone())
        }

        /// Waits for [`crate::Unit::step`].
        ///
        /// # Errors
        /// Those of the async operation; `Invalid` when called inside an async runtime.
        pub fn step(&mut self, step: &str, compensation: &str, args: &impl serde::Serialize) -> Result<bool> {
            let (unit, bridge) = (&mut self.unit, &self.bridge);
            bridge.run(unit.step(step, compensation, args))
        }
    }

    impl Deref for Unit {
        type Target = crate::Unit;
        fn deref(&self) -> &crate::Unit {
            &self.unit
        }
    }

    impl DerefMut for Unit {
        fn deref_mut(&mut self) -> &mut crate::Unit {
            &mut self.unit
        }
    }
}
