//! Flows: visual definitions that several people edit, their history, and their way into operation.
//!
//! ```text
//! flows/ingest                     the flow as it is now
//! flow_versions/ingest@7           each version there was, in the commit that made it
//! component_configs/ingest/node-1  what is deployed of it, one record a node
//! stream flows/ingest              deployed, started, stopped, undeployed, failed, deleted
//! ```
//!
//! An update carries the version it was made from and is refused when that is no longer the flow's own: checked by the
//! store in the commit itself, so of two editors one learns of the other. Versions of a flow that was deleted and
//! created again go on growing, so a stale editor never meets its own number again.

mod check;
mod component;
mod history;
mod lifecycle;
mod model;
mod watch;

use std::time::Duration;

use millpond_core::{
    Collection, Commit, Conflict, Document, Error, ErrorKind, Expectation, Expected, Found, Json, Page, PageCursor, Position,
    Query, Read, Receipt, RecordId, Records, Result, Store, Timestamp, Versioned, Write, uuid_v7,
};

use crate::conditions::Conditions;
use crate::extra;

pub use check::{FlowProblem, FlowProblems};
pub use component::{ComponentConfig, DeployedComponent};
pub use history::{FlowChange, FlowVersion};
pub use model::{CATEGORIES, CanvasPosition, Flow, FlowConnection, FlowNode, RuntimeState, UNKNOWN_CATEGORY};
pub use watch::{FlowDelivery, FlowPattern, FlowWatch};

/// The collections of this domain.
pub(crate) const COLLECTIONS: [Collection; 3] = [Flow::COLLECTION, FlowVersion::COLLECTION, DeployedComponent::COLLECTION];

/// The flows of a pond.
#[derive(Clone, Debug)]
pub struct Flows {
    store: Store,
    by: Option<String>,
}

/// What a list of flows is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlowOrder {
    /// By id.
    #[default]
    Id,
    /// The one changed last first.
    UpdatedNewest,
}

/// Which flows a list takes. Everything that is given holds.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowFilter {
    /// The id begins with this.
    pub id_prefix: Option<String>,
    /// It stands there.
    pub runtime_state: Option<RuntimeState>,
    /// The name holds this; case-sensitive.
    pub name_contains: Option<String>,
    /// This one created it.
    pub created_by: Option<String>,
    /// Changed at or after this.
    pub updated_from: Option<Timestamp>,
    /// Changed before this.
    pub updated_to: Option<Timestamp>,
    /// The order.
    pub order: FlowOrder,
    /// At most this many; 1 to 10,000.
    pub limit: usize,
    /// Continue after a page.
    pub after: Option<PageCursor>,
}

impl Default for FlowFilter {
    fn default() -> Self {
        Self {
            id_prefix: None,
            runtime_state: None,
            name_contains: None,
            created_by: None,
            updated_from: None,
            updated_to: None,
            order: FlowOrder::Id,
            limit: 100,
            after: None,
        }
    }
}

impl FlowFilter {
    fn query(&self) -> Result<Query> {
        let query = Query::new(Flow::COLLECTION.name())?
            .given_prefix(millpond_core::KEY_FIELD, self.id_prefix.as_ref())
            .given("runtime_state", self.runtime_state.as_ref().map(RuntimeState::as_str))
            .given_part("name", self.name_contains.as_ref())
            .given("created_by", self.created_by.as_ref())
            .between("updated_at", self.updated_from, self.updated_to)
            .limit(self.limit)
            .after(self.after.clone());
        Ok(match self.order {
            FlowOrder::Id => query,
            FlowOrder::UpdatedNewest => query.order_desc("updated_at"),
        })
    }
}

impl Flows {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, by: None }
    }

    /// The same flows, changed in somebody's name: shown in the history, and to whoever meets a conflict.
    #[must_use]
    pub fn by(&self, who: impl Into<String>) -> Self {
        Self { store: self.store.clone(), by: Some(who.into()) }
    }

    fn flows(&self) -> Records<Flow> {
        Records::new(self.store.clone())
    }

    fn history(&self) -> Records<FlowVersion> {
        Records::new(self.store.clone())
    }

    /// A flow.
    ///
    /// # Errors
    /// `Corrupt` when it does not read back. A store that cannot be reached is `Unavailable`, never an absent flow.
    pub async fn get(&self, id: &str) -> Result<Option<Versioned<Flow>>> {
        self.flows().get(id).await.map_err(|e| e.during("flows.get"))
    }

    /// A flow that has to be there.
    ///
    /// # Errors
    /// `NotFound`, and as [`Flows::get`].
    pub async fn require(&self, id: &str) -> Result<Versioned<Flow>> {
        self.get(id).await?.ok_or_else(|| absent(id).during("flows.get"))
    }

    /// A page of flows.
    ///
    /// # Errors
    /// `Invalid` for a limit out of range or a cursor of another list.
    pub async fn list(&self, filter: &FlowFilter) -> Result<Page<Versioned<Flow>>> {
        self.flows().page(filter.query()?).await.map_err(|e| e.during("flows.list"))
    }

    /// Creates a flow; an empty id is replaced by a new one. The flow given is not changed; the one stored is returned.
    /// One commit point: the flow and its first version.
    ///
    /// Version, state and times are the store's. A flow that was deleted and is created again goes on counting.
    ///
    /// # Errors
    /// `Invalid` with all problems; `Conflict` when the id is taken.
    pub async fn create(&self, flow: &Flow) -> Result<Versioned<Flow>> {
        // The id is made once, so that a retry after a conflict creates the same flow.
        let (flow, mut tries) = (self.with_id(flow), Tries::of("flows.create"));
        loop {
            let (commit, created) = self.create_part(&flow).await?;
            if let Some(stored) = self.settle(&mut tries, commit, created).await? {
                return Ok(stored);
            }
        }
    }

    /// What [`Flows::create`] commits, for a larger commit, and the flow as it will be.
    ///
    /// # Errors
    /// As [`Flows::create`].
    pub async fn create_part(&self, flow: &Flow) -> Result<(Commit, Flow)> {
        self.plan_create(&self.with_id(flow)).await.map_err(|e| e.during("flows.create"))
    }

    fn with_id(&self, flow: &Flow) -> Flow {
        let id = if flow.id.is_empty() { uuid_v7(self.store.host()).to_string() } else { flow.id.clone() };
        Flow { id, ..flow.clone() }
    }

    async fn plan_create(&self, flow: &Flow) -> Result<(Commit, Flow)> {
        flow.validate()?;
        extra::check(&format!("flow {:?}", flow.id), flow)?;
        let newest = history::history(&flow.id)?.order_desc("version").limit(1);
        let (id, reads) = (flow_id(&flow.id)?, [Read::Get(flow_id(&flow.id)?), Read::Query(newest)]);
        let mut answers = self.store.read(reads.into()).await?.into_iter();
        let missing = || Error::corrupt("the engine answered too little");
        if let Some(record) = answers.next().ok_or_else(missing)?.into_record()? {
            let found = record.decode::<Flow>()?;
            let message =
                format!("flow {:?} exists already at version {}{}", flow.id, found.version, who_when(&found, self.store.now()));
            let conflict = conflict(Expectation::Absent(id), &found);
            return Err(Error::conflict(message).with_next("update it, or choose another id").with_conflict(conflict));
        }
        let last = answers.next().ok_or_else(missing)?.into_page()?;
        if let Some(damaged) = last.damaged.first() {
            return Err(Error::corrupt(format!("the last version of flow {:?} does not read back: {}", flow.id, damaged.why)));
        }
        let last = last.items.first().map(millpond_core::Record::decode::<FlowVersion>).transpose()?;
        let now = self.now_after(last.as_ref().map(|l| l.at));
        let created_by = if flow.created_by.is_empty() { self.by.clone().unwrap_or_default() } else { flow.created_by.clone() };
        let created = Flow {
            version: last.map_or(1, |l| l.version + 1),
            runtime_state: RuntimeState::NotDeployed,
            deployed_at: None,
            started_at: None,
            stopped_at: None,
            created_at: now,
            updated_at: now,
            last_modified: now,
            created_by,
            ..flow.clone()
        };
        let commit = self.change(FlowChange::Created, Expectation::Absent(id), &created)?;
        Ok((commit, created))
    }

    /// Replaces a flow, if the version it carries is still the flow's own. The flow given is not changed; the one
    /// stored, with the next version, is returned. One commit point: the flow and its new version.
    ///
    /// State, times and creator stay as they are. What is deployed stays as it was until it is deployed again; a
    /// flow that was updated cannot be started before that.
    ///
    /// # Errors
    /// `Invalid` with all problems; `NotFound`; `Conflict` when somebody else changed the flow (the message says which
    /// version, when and by whom; nothing is overwritten) or while it is running.
    pub async fn update(&self, flow: &Flow) -> Result<Versioned<Flow>> {
        let mut tries = Tries::of("flows.update");
        loop {
            let (commit, updated) = self.update_part(flow).await?;
            if let Some(stored) = self.settle(&mut tries, commit, updated).await? {
                return Ok(stored);
            }
        }
    }

    /// What [`Flows::update`] commits, for a larger commit, and the flow as it will be.
    ///
    /// # Errors
    /// As [`Flows::update`].
    pub async fn update_part(&self, flow: &Flow) -> Result<(Commit, Flow)> {
        self.plan_update(flow).await.map_err(|e| e.during("flows.update"))
    }

    async fn plan_update(&self, flow: &Flow) -> Result<(Commit, Flow)> {
        flow.validate()?;
        extra::check(&format!("flow {:?}", flow.id), flow)?;
        let found = self.flows().get(&flow.id).await?.ok_or_else(|| absent(&flow.id))?;
        self.check_version(&found, Some(flow.version))?;
        if found.runtime_state == RuntimeState::Running {
            return Err(Error::conflict(format!("flow {:?} is running and cannot be edited", flow.id)).with_next("stop it first"));
        }
        let now = self.now_after(Some(found.updated_at));
        let updated = Flow {
            version: found.version + 1,
            runtime_state: found.runtime_state.clone(),
            deployed_at: found.deployed_at,
            started_at: found.started_at,
            stopped_at: found.stopped_at,
            created_at: found.created_at,
            created_by: found.created_by.clone(),
            updated_at: now,
            last_modified: now,
            ..flow.clone()
        };
        let commit = self.change(FlowChange::Updated, still_at(&found)?, &updated)?;
        Ok((commit, updated))
    }

    /// The commit that makes a flow's next version: the flow and the record of its history.
    fn change(&self, change: FlowChange, expect: Expectation, flow: &Flow) -> Result<Commit> {
        let mut commit = Commit::new().expect(expect);
        commit = match change {
            FlowChange::Deleted => commit.write(Write::Delete(flow_id(&flow.id)?)),
            _ => commit.write(Records::put(flow)?),
        };
        // The collection of versions is create-only: two changes can never make the same version.
        let version = FlowVersion {
            id: flow.id.clone(),
            version: flow.version,
            at: flow.updated_at,
            change,
            changed_by: self.by.clone(),
            flow: flow.clone(),
            extra: std::collections::BTreeMap::new(),
        };
        commit = commit.write(Records::put(&version)?);
        Ok(match &self.by {
            Some(by) => commit.by(by),
            None => commit,
        })
    }

    /// Commits a planned change; `None` when somebody else was faster and it has to be planned again.
    ///
    /// Planned again, the other's change is either met or told to the caller in the flow's own words.
    async fn settle(&self, tries: &mut Tries, commit: Commit, flow: Flow) -> Result<Option<Versioned<Flow>>> {
        match self.store.commit(commit.trusted()).await {
            Ok(receipt) => Ok(Some(self.stored(flow, &receipt))),
            Err(e) => tries.again(e).map(|()| None),
        }
    }

    /// The flow as it was stored: the first change of its commit.
    fn stored(&self, flow: Flow, receipt: &Receipt) -> Versioned<Flow> {
        let records = receipt.revisions.iter().filter(|r| **r > 0).count() as u64;
        let changes = records + receipt.sequences.iter().map(|s| s.count).sum::<u64>();
        Versioned {
            value: flow,
            revision: receipt.revisions.first().copied().unwrap_or_default(),
            position: Position((receipt.position.0 + 1).saturating_sub(changes)),
            time: receipt.time,
            by: self.by.clone(),
        }
    }

    /// Now, and later than the version before: so that the history is ordered by time as it is by version.
    fn now_after(&self, before: Option<Timestamp>) -> Timestamp {
        let now = self.store.now();
        before.map_or(now, |b| now.max(b.plus(Duration::from_micros(1))))
    }

    /// Fails when the version a caller saw is no longer the flow's own.
    fn check_version(&self, found: &Versioned<Flow>, seen: Option<i64>) -> Result<()> {
        let Some(seen) = seen.filter(|v| *v != found.version) else { return Ok(()) };
        let (id, holds) = (&found.id, found.version);
        let message = format!(
            "flow {id:?} was changed by someone else: you edited version {seen}, the store holds version {holds}{}",
            who_when(found, self.store.now())
        );
        let revision = u64::try_from(seen).unwrap_or_default();
        let conflict = conflict(Expectation::Revision(flow_id(id)?, revision), found);
        Err(Error::conflict(message)
            .with("edited_version", seen)
            .with("found_version", holds)
            .with_conflict(conflict)
            .with_next(format!("millpond flows diff {id}@{seen} {id}@{holds}, then edit again")))
    }
}

/// How often an operation reads again after somebody else was faster.
const TRIES: u32 = 16;

/// Counts an operation's attempts.
struct Tries {
    operation: &'static str,
    left: u32,
}

impl Tries {
    fn of(operation: &'static str) -> Self {
        Self { operation, left: TRIES }
    }

    /// Passes a conflict over while there are attempts left; everything else is the operation's error.
    fn again(&mut self, error: Error) -> Result<()> {
        if error.kind() == ErrorKind::Conflict && self.left > 0 {
            self.left -= 1;
            return Ok(());
        }
        Err(error.during(self.operation))
    }
}

fn flow_id(id: &str) -> Result<RecordId> {
    Records::<Flow>::id(id)
}

fn still_at(found: &Versioned<Flow>) -> Result<Expectation> {
    Ok(Expectation::Revision(flow_id(&found.id)?, found.revision))
}

fn absent(id: &str) -> Error {
    Error::not_found(format!("flow {id:?} does not exist")).with_next("list the flows; a deleted one is still in its history")
}

/// ` (3 s ago, by "anna")`
fn who_when(found: &Versioned<Flow>, now: Timestamp) -> String {
    let by = found.by.as_ref().map_or_else(String::new, |by| format!(", by {by:?}"));
    format!(" ({} s ago{by})", now.since(found.time).as_secs())
}

fn conflict(expected: Expectation, found: &Versioned<Flow>) -> Conflict {
    let found = Found::Record { revision: found.revision, time: found.time, by: found.by.clone() };
    Conflict { index: None, expected: Expected::Stated(expected), found }
}

fn json_true_or_false(value: bool) -> Json {
    Json::from_store(if value { "true" } else { "false" })
}

/// The same for synchronous callers.
pub mod blocking {
    use super::{Commit, DeployedComponent, Flow, FlowFilter, FlowVersion, Page, PageCursor, Result, Timestamp, Versioned};

    pub use super::watch::blocking::FlowWatch;

    blocking_api! {
        /// The flows, for synchronous callers.
        Flows of super::Flows {
            fn get(id: &str) -> Result<Option<Versioned<Flow>>>;
            fn require(id: &str) -> Result<Versioned<Flow>>;
            fn list(filter: &FlowFilter) -> Result<Page<Versioned<Flow>>>;
            fn create(flow: &Flow) -> Result<Versioned<Flow>>;
            fn create_part(flow: &Flow) -> Result<(Commit, Flow)>;
            fn update(flow: &Flow) -> Result<Versioned<Flow>>;
            fn update_part(flow: &Flow) -> Result<(Commit, Flow)>;
            fn delete(id: &str, version: Option<i64>) -> Result<bool>;
            fn delete_part(id: &str, version: Option<i64>) -> Result<Option<Commit>>;
            fn deploy(id: &str, version: Option<i64>) -> Result<Versioned<Flow>>;
            fn start(id: &str, version: Option<i64>) -> Result<Versioned<Flow>>;
            fn stop(id: &str, version: Option<i64>) -> Result<Versioned<Flow>>;
            fn undeploy(id: &str, version: Option<i64>) -> Result<Versioned<Flow>>;
            fn fail(id: &str, reason: &str) -> Result<Versioned<Flow>>;
            fn deploy_part(id: &str, version: Option<i64>) -> Result<(Commit, Flow)>;
            fn start_part(id: &str, version: Option<i64>) -> Result<(Commit, Flow)>;
            fn stop_part(id: &str, version: Option<i64>) -> Result<(Commit, Flow)>;
            fn undeploy_part(id: &str, version: Option<i64>) -> Result<Option<(Commit, Flow)>>;
            fn fail_part(id: &str, reason: &str) -> Result<(Commit, Flow)>;
            fn component(flow: &str, node: &str) -> Result<Option<Versioned<DeployedComponent>>>;
            fn components(flow: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<DeployedComponent>>>;
            fn versions(id: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<FlowVersion>>>;
            fn at_version(id: &str, version: i64) -> Result<Option<Versioned<FlowVersion>>>;
            fn as_of(id: &str, time: Timestamp) -> Result<Option<Versioned<FlowVersion>>>;
            fn diff(id: &str, old: i64, new: i64) -> Result<String>;
        }
    }

    impl Flows {
        /// As [`super::Flows::by`].
        #[must_use]
        pub fn by(&self, who: impl Into<String>) -> Self {
            Self::new(self.domain.by(who), self.bridge.clone())
        }

        /// As [`super::Flows::watch`].
        ///
        /// # Errors
        /// `Invalid` when the pattern breaks a rule.
        pub fn watch(&self, pattern: &str, start: millpond_core::StartAt) -> Result<FlowWatch> {
            Ok(FlowWatch::new(self.domain.watch(pattern, start)?, self.bridge.clone()))
        }
    }
}
