//! The reference engine: every promise of the [`Engine`] trait kept in the most obvious way, in memory.
//!
//! It is the oracle of the suite and the stock from which the broken engines are made; it is no product backend.
//! Every read is a plain pass over ordered maps, every batch holds one lock. What a broken engine may do
//! differently stands in [`Steps`], with the honest answer as the default.
//!
//! ```text
//!   handle ─┐                       ┌─ records.rs  queries, counts, groups
//!   handle ─┼─► Shared (one lock) ──┼─ streams.rs  events, groups, streams
//!           │   namespaces          ├─ feeds.rs    feeds
//!           └─► changed (a hint)    └─ data.rs     load, apply, purge
//! ```

mod data;
mod feeds;
mod records;
mod steps;
mod streams;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use millpond_core::plan::{Touched, plan};
use millpond_core::{
    Answer, Catalog, CollectionInfo, CollectionSpec, CommitId, Durability, Engine, EngineInfo, Error, Examination, FeedPage,
    FeedRequest, Host, LocalEngine, Namespace, NamespaceInfo, NamespaceStatus, Outcome, Position, PreparedCommit, Probing,
    Purged, Read, Receipt, Result, SystemHost, Timestamp, uuid_v7,
};
use millpond_objects::{Memory, Objects};
use tokio::sync::watch;

use crate::Place;
pub(crate) use data::{NamespaceData, StoredRecord, StreamData};
pub(crate) use records::Row;
pub(crate) use steps::{Honest, Steps};

/// What all handles of one place share.
#[derive(Debug)]
struct Shared {
    namespaces: Mutex<BTreeMap<Namespace, NamespaceData>>,
    /// Counts commits; only its changes matter.
    commits: watch::Sender<u64>,
    /// The bytes of each store, by its id.
    objects: Mutex<BTreeMap<String, Memory>>,
}

/// A place in memory. Every handle opened on it sees the same data.
#[derive(Debug, Clone)]
pub struct ReferencePlace {
    shared: Arc<Shared>,
    steps: Arc<dyn Steps>,
    host: Arc<dyn Host>,
}

impl Default for ReferencePlace {
    fn default() -> Self {
        Self::with_steps(Arc::new(Honest))
    }
}

impl ReferencePlace {
    /// An empty place.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty place whose engines take some steps differently.
    pub(crate) fn with_steps(steps: Arc<dyn Steps>) -> Self {
        let shared = Shared { namespaces: Mutex::default(), commits: watch::Sender::new(0), objects: Mutex::default() };
        Self { shared: Arc::new(shared), steps, host: Arc::new(SystemHost) }
    }

    /// Another place that holds the same now, as after a copy of all its files.
    #[must_use]
    pub fn copied(&self) -> Self {
        let namespaces = self.shared.namespaces.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let shared = Shared { namespaces: Mutex::new(namespaces), commits: watch::Sender::new(0), objects: Mutex::default() };
        Self { shared: Arc::new(shared), steps: Arc::clone(&self.steps), host: Arc::clone(&self.host) }
    }

    /// The same place with another clock and randomness.
    #[must_use]
    pub fn host(mut self, host: Arc<dyn Host>) -> Self {
        self.host = host;
        self
    }

    /// Opens a handle.
    pub fn engine(&self) -> ReferenceEngine {
        ReferenceEngine { place: self.clone() }
    }
}

#[async_trait]
impl Place for ReferencePlace {
    async fn open(&self) -> Result<Arc<dyn Engine>> {
        Ok(Arc::new(self.engine()))
    }

    async fn objects(&self, store_id: &str) -> Result<Option<Arc<dyn Objects>>> {
        let mut objects = self.shared.objects.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(Arc::new(objects.entry(store_id.to_owned()).or_default().clone())))
    }
}

/// A handle on a [`ReferencePlace`].
#[derive(Debug, Clone)]
pub struct ReferenceEngine {
    place: ReferencePlace,
}

impl ReferenceEngine {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Namespace, NamespaceData>> {
        self.place.shared.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, namespace: &Namespace, work: impl FnOnce(&mut NamespaceData) -> Result<T>) -> Result<T> {
        let mut namespaces = self.lock();
        if self.steps().makes_by_use() && !namespaces.contains_key(namespace) {
            namespaces.insert(namespace.clone(), NamespaceData::new("by-use".to_owned(), self.place.host.now()));
        }
        let data = namespaces
            .get_mut(namespace)
            .ok_or_else(|| Error::not_found(format!("namespace {:?} does not exist", namespace.as_str())))?;
        namespace.check_is(&data.store_id)?;
        work(data)
    }

    fn steps(&self) -> &dyn Steps {
        &*self.place.steps
    }

    fn answer(&self, data: &NamespaceData, read: Read) -> Result<Answer> {
        let steps = self.steps();
        Ok(match read {
            Read::Get(id) => {
                let found = data.live(&steps.place_of(&id)).map(|r| r.record(&id));
                Answer::Record(found.or_else(|| steps.absent(&id)))
            }
            Read::Query(query) => Answer::Page(records::page(data, &query, steps)?),
            Read::Count(query) => Answer::Count(records::count(data, &query, steps)?),
            Read::GroupBy { query, field, bucket, measure } => {
                Answer::Groups(records::group_by(data, &query, &field, bucket, measure.as_deref(), steps)?)
            }
            Read::Stream(name) => Answer::Stream(data.streams.get(&name).map(|s| s.info(&name))),
            Read::Streams { prefix, after, limit } => {
                Answer::Streams(streams::list(data, &prefix, after.as_ref(), limit, steps)?)
            }
            Read::Events(query) => Answer::Events(streams::page(data, &query, steps)?),
            Read::EventGroups { filter, by, limit } => Answer::EventGroups(streams::groups(data, &filter, by, limit, steps)?),
            Read::Collections if !steps.lists_collections() => Answer::Collections(Vec::new()),
            Read::Collections => Answer::Collections(collections(data)),
        })
    }
}

fn collections(data: &NamespaceData) -> Vec<CollectionInfo> {
    let mut counts: BTreeMap<_, u64> = data.catalog.iter().map(|s| (s.name.clone(), 0)).collect();
    for (id, stored) in &data.records {
        if stored.document.is_some() {
            *counts.entry(id.collection.clone()).or_default() += 1;
        }
    }
    let declared = |name: &str| data.catalog.get(name).is_some();
    counts.into_iter().map(|(name, records)| CollectionInfo { declared: declared(name.as_str()), name, records }).collect()
}

#[async_trait]
impl Engine for ReferenceEngine {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            kind: "reference",
            location: "memory".to_owned(),
            durability: Durability::Memory,
            facts: vec![("steps", format!("{:?}", self.place.steps))],
        }
    }

    async fn examine(&self, _: Probing) -> Result<Examination> {
        Ok(Examination::of(Durability::Memory))
    }

    fn host(&self) -> Arc<dyn Host> {
        Arc::clone(&self.place.host)
    }

    async fn namespaces(&self) -> Result<Vec<NamespaceInfo>> {
        Ok(self.lock().iter().map(|(name, data)| data.info(name)).collect())
    }

    async fn namespace(&self, namespace: &Namespace) -> Result<Option<NamespaceInfo>> {
        Ok(self.lock().get(namespace).map(|data| data.info(namespace)))
    }

    async fn create_namespace(&self, namespace: &Namespace) -> Result<NamespaceInfo> {
        let mut namespaces = self.lock();
        if namespaces.contains_key(namespace) && self.steps().refuses_to_make_again() {
            return Err(Error::conflict(format!("namespace {:?} exists already", namespace.as_str())));
        }
        let fresh = uuid_v7(&*self.place.host).to_string();
        let store_id = self.steps().store_id(namespace, fresh);
        let data = NamespaceData::new(store_id, self.place.host.now());
        let info = data.info(namespace);
        namespaces.insert(namespace.clone(), data);
        Ok(info)
    }

    async fn set_status(&self, namespace: &Namespace, status: NamespaceStatus) -> Result<NamespaceInfo> {
        self.with(namespace, |data| {
            data.head.status = status;
            Ok(data.info(namespace))
        })
    }

    async fn delete_namespace(&self, namespace: &Namespace, store_id: &str) -> Result<()> {
        self.with(namespace, |data| {
            if data.store_id != store_id && self.steps().confirms_delete() {
                return Err(Error::conflict(format!(
                    "namespace {:?} has the store id {}, not {store_id}",
                    namespace.as_str(),
                    data.store_id
                )));
            }
            Ok(())
        })?;
        self.lock().remove(namespace);
        self.place.shared.commits.send_modify(|n| *n += 1);
        Ok(())
    }

    async fn declare(&self, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<Arc<Catalog>> {
        let steps = self.steps();
        self.with(namespace, |data| data.declare(specs, steps))
    }

    async fn catalog(&self, namespace: &Namespace) -> Result<Arc<Catalog>> {
        self.with(namespace, |data| Ok(Arc::clone(&data.catalog)))
    }

    async fn commit(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
        let steps = self.steps();
        let (catalog, now) = (self.catalog(namespace).await?, self.place.host.now());
        let batch = steps.batch(batch, &catalog, &*self.place.host);
        let touched = Touched::of(&batch);
        let reserved = self.with(namespace, |data| Ok(steps.reserve(data, &batch)))?;
        let early = self.with(namespace, |data| Ok(steps.loads_early(&batch).then(|| data.load(&touched, steps))))?;
        steps.pause(&batch).await;
        let outcomes = self.with(namespace, |data| {
            let mut state = early.unwrap_or_else(|| data.load(&touched, steps));
            steps.loaded(&mut state, reserved);
            let mut plan = plan(&batch, state, now);
            steps.planned(&batch, &mut plan, data);
            data.apply(plan.mutations, steps);
            Ok(plan.outcomes)
        })?;
        self.place.shared.commits.send_modify(|n| *n += 1);
        Ok(outcomes)
    }

    async fn outcome(&self, namespace: &Namespace, id: CommitId) -> Result<Option<Receipt>> {
        self.with(namespace, |data| Ok(data.receipts.get(&id).map(|s| s.receipt.clone())))
    }

    async fn read(&self, namespace: &Namespace, reads: Vec<Read>) -> Result<Vec<Answer>> {
        if self.steps().one_snapshot() {
            let answer = |data: &mut NamespaceData| reads.into_iter().map(|read| self.answer(data, read)).collect();
            let mut answers: Vec<Answer> = self.with(namespace, answer)?;
            self.steps().answers(&mut answers);
            return Ok(answers);
        }
        let (mut answers, calls) = (Vec::with_capacity(reads.len()), reads.len());
        for read in reads {
            answers.push(self.with(namespace, |data| self.answer(data, read))?);
            if answers.len() == 1 && calls > 1 {
                self.steps().after_first_read().await;
            }
        }
        Ok(answers)
    }

    async fn feed(&self, namespace: &Namespace, request: FeedRequest) -> Result<FeedPage> {
        self.with(namespace, |data| feeds::page(data, &request, self.steps()))
    }

    async fn changed(&self, namespace: &Namespace, after: Position) {
        if !self.steps().hints() {
            return std::future::pending().await;
        }
        let mut commits = self.place.shared.commits.subscribe();
        loop {
            let head = self.with(namespace, |data| Ok(data.head.position));
            // A namespace that is gone is worth waking for: the reader finds out why.
            if head.map_or(true, |head| head > after) || commits.changed().await.is_err() {
                return;
            }
        }
    }

    async fn purge(&self, namespace: &Namespace, before: Timestamp) -> Result<Purged> {
        let steps = self.steps();
        self.with(namespace, |data| Ok(data.purge(before, steps)))
    }

    async fn check(&self, namespace: &Namespace) -> Result<Vec<String>> {
        self.with(namespace, |data| Ok(data.check()))
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }

    /// Never: so that the path without a thread of one's own is tested too.
    fn local(&self) -> Option<&dyn LocalEngine> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_core::{Commit, Front, Store};

    #[tokio::test]
    async fn two_handles_share_one_place() {
        let place = ReferencePlace::new();
        let (one, two) = (place.engine(), place.engine());
        let one = Store::open(Arc::new(Front::new(Arc::new(one))), Namespace::default()).await.expect("opens");
        let two = Store::open(Arc::new(Front::new(Arc::new(two))), Namespace::default()).await.expect("opens");
        let commit = Commit::new().put("notes", "a", &serde_json::json!({"n": 1})).expect("valid");
        assert_eq!(one.commit(commit).await.expect("commits").revisions, [1]);
        let found = two.get("notes", "a").await.expect("reads").expect("is there");
        assert_eq!(found.value.as_str(), r#"{"n":1}"#);
    }
}
