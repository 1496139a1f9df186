//! An open place: one namespace, and the domains on it.

use std::sync::Arc;

use crate::homes::{Domain, Homes};
use crate::objects::ObjectsHome;
use crate::payloads::Payloads;
use millpond_core::{Commit, Document, Outcome, Receipt, Records, Result, Selector, StartAt, Store, Subscription};

/// One open namespace with its domains, in one store or in several. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pond {
    homes: Homes,
    /// What saves remember, shared by all clones so that none has to read what another knows.
    checkpoint_heads: Arc<crate::checkpoints::Heads>,
    /// Where bytes are.
    objects: ObjectsHome,
    /// What undoes steps outside of the store.
    compensations: crate::Compensations,
    #[cfg(feature = "file")]
    /// By store; empty where there are none.
    trees: Arc<[Option<Arc<crate::Tree>>]>,
}

impl Pond {
    /// Declares the domains' collections and opens the pond.
    ///
    /// # Errors
    /// `Invalid` when the store was written by a newer version.
    pub async fn new(store: Store) -> Result<Self> {
        Self::of(Homes::one(store)).await
    }

    /// A pond over several stores: domains that were placed live there, everything else in the main one.
    ///
    /// What would span two stores, a commit, a fence, a look at events or a subscription, is refused.
    ///
    /// # Errors
    /// As [`Pond::new`]; `Unsupported` when lineage is placed elsewhere than artifacts.
    pub async fn over(main: Store, others: Vec<(Store, Vec<Domain>)>) -> Result<Self> {
        Self::of(Homes::several(main, others)?).await
    }

    async fn of(homes: Homes) -> Result<Self> {
        let collections = collections()?;
        for store in homes.all() {
            store.declare(&collections).await?;
        }
        Ok(Self {
            homes,
            checkpoint_heads: Arc::default(),
            objects: ObjectsHome::nowhere(),
            compensations: crate::Compensations::default(),
            #[cfg(feature = "file")]
            trees: Arc::default(),
        })
    }

    /// The same pond with readable trees beside its stores: one for each store, or none.
    #[cfg(feature = "file")]
    pub(crate) fn with_trees(self, trees: Vec<Option<Arc<crate::Tree>>>) -> Self {
        Self { trees: trees.into(), ..self }
    }

    /// The same pond with the bytes of its artifacts in a place that is open. A pond made from a URL has a place already,
    /// or says how to name one.
    #[must_use]
    pub fn with_objects(self, objects: Arc<dyn millpond_objects::Objects>) -> Self {
        self.with_home(ObjectsHome::given(objects))
    }

    pub(crate) fn with_home(self, objects: ObjectsHome) -> Self {
        Self { objects, ..self }
    }

    /// The readable trees, which stores in files have unless they were turned off.
    #[cfg(feature = "file")]
    pub fn trees(&self) -> impl Iterator<Item = &Arc<crate::Tree>> {
        self.trees.iter().flatten()
    }

    /// The first of [`Pond::trees`].
    #[cfg(feature = "file")]
    pub fn tree(&self) -> Option<&Arc<crate::Tree>> {
        self.trees().next()
    }

    /// The readable tree of a store, by its place in [`Pond::stores`].
    #[cfg(feature = "file")]
    pub(crate) fn tree_of(&self, store: usize) -> Option<&crate::Tree> {
        self.trees.get(store)?.as_deref()
    }

    /// The same pond for a caller without a runtime; see [`crate::blocking`].
    pub(crate) fn inline(&self) -> Self {
        Self { homes: self.homes.inline(), ..self.clone() }
    }

    /// The same place for a caller that takes stale answers, see [`Store::stale`].
    #[must_use]
    pub fn stale(&self) -> Self {
        Self { homes: self.homes.stale(), ..self.clone() }
    }

    /// The main store: raw commits, queries and feeds.
    pub fn store(&self) -> &Store {
        self.homes.main()
    }

    /// The store that a domain lives in.
    pub fn store_of(&self, domain: Domain) -> &Store {
        self.homes.of(domain)
    }

    /// Every store, the main one first.
    pub fn stores(&self) -> &[Store] {
        self.homes.all()
    }

    pub(crate) fn homes(&self) -> &Homes {
        &self.homes
    }

    /// Commits; a failed expectation is an error. One that writes edges of lineage expects, too, that no execution they lead
    /// to is being pruned; repeated under its id, it is answered by its first receipt.
    ///
    /// # Errors
    /// As [`Store::commit`]; `Unsupported` when it would span two stores.
    pub async fn commit(&self, commit: Commit) -> Result<Receipt> {
        self.decided(commit).await?.committed()
    }

    /// Commits as [`Pond::commit`]; a failed expectation is a value.
    ///
    /// # Errors
    /// As [`Store::try_commit`]; `Unsupported` when it would span two stores.
    pub async fn try_commit(&self, commit: Commit) -> Result<Outcome> {
        self.decided(commit).await
    }

    /// Decides a commit, with what it expects beyond its parts where it writes edges of lineage.
    async fn decided(&self, commit: Commit) -> Result<Outcome> {
        let home = self.homes.of_commits([&commit], [])?;
        crate::lineage::try_commit(self.store_of(Domain::Lineage), home, commit).await
    }

    /// Workflows: immutable versions of definitions, with their lineage.
    pub fn workflows(&self) -> crate::Workflows {
        crate::Workflows::new(self.store_of(Domain::Workflows).clone())
    }

    /// Flows: visual definitions with optimistic concurrency, history and deployment.
    pub fn flows(&self) -> crate::Flows {
        crate::Flows::new(self.store_of(Domain::Flows).clone())
    }

    /// Documents of one's own.
    ///
    /// # Errors
    /// As [`Store::declare`].
    pub async fn collection<T: Document>(&self) -> Result<Records<T>> {
        self.store().collection().await
    }

    /// Runs: executions of workflows, with a log that is sealed when they end.
    pub fn runs(&self) -> crate::Runs {
        crate::Runs::new(self.store_of(Domain::Runs).clone()).beside(self.store_of(Domain::Artifacts).clone())
    }

    /// The locks.
    pub fn locks(&self) -> crate::Locks {
        crate::Locks::new(self.store_of(Domain::Locks).clone())
    }

    /// The sessions.
    pub fn sessions(&self) -> crate::Sessions {
        crate::Sessions::new(self.store_of(Domain::Sessions).clone())
    }

    /// A unit of work: parts of several domains, committed at once or not at all.
    pub fn unit(&self) -> crate::Unit {
        crate::Unit::new(self.clone())
    }

    /// Artifacts: bytes under keys, with what is known of where they come from.
    pub fn artifacts(&self) -> crate::Artifacts {
        crate::Artifacts::new(self.units(), self.runs())
    }

    /// The units of work: how they stand, what has to be undone, which bytes nobody names.
    pub fn units(&self) -> crate::Units {
        let store = self.store_of(Domain::Artifacts).clone();
        let letters = self.store_of(Domain::DeadLetters).clone();
        crate::Units::new(store, letters, self.objects.clone(), self.compensations.clone())
    }

    /// Pins: executions whose artifacts have to stay.
    pub fn pins(&self) -> crate::Pins {
        crate::Pins::new(self.store_of(Domain::Artifacts).clone())
    }

    /// Replays: artifacts of a stage, published anew, each once.
    pub fn replays(&self) -> crate::Replays {
        crate::Replays::new(self.artifacts(), self.homes.clone())
    }

    /// Prunes: executions that were written off, and all of them that is deleted.
    pub fn prunes(&self) -> crate::Prunes {
        crate::Prunes::new(self.clone())
    }

    /// Events: what happened, in streams.
    pub fn events(&self) -> crate::Events {
        crate::Events::new(self.homes.clone())
    }

    /// Metrics, patterns and feedback.
    pub fn metrics(&self) -> crate::Metrics {
        crate::Metrics::new(self.store_of(Domain::Metrics).clone())
    }

    /// Checkpoints: numbered states of sessions, workflows and runs.
    pub fn checkpoints(&self) -> crate::Checkpoints {
        let store = self.store_of(Domain::Checkpoints).clone();
        let payloads = Payloads::new(store.clone(), Some(self.units()));
        crate::Checkpoints::new(store, Arc::clone(&self.checkpoint_heads), payloads)
    }

    /// The dead letters.
    pub fn dead_letters(&self) -> crate::DeadLetters {
        let store = self.store_of(Domain::DeadLetters).clone();
        let payloads = Payloads::new(store.clone(), Some(self.units()));
        crate::DeadLetters::new(store, payloads)
    }

    /// Lineage: what became of what.
    pub fn lineage(&self) -> crate::LineageRows {
        crate::LineageRows::new(self.store_of(Domain::Lineage).clone())
    }

    /// A live feed.
    ///
    /// # Errors
    /// `Unsupported` when it would span two stores.
    pub fn subscribe(&self, selector: Selector, start: StartAt) -> Result<Subscription> {
        Ok(self.homes.of_selector(&selector)?.subscribe(selector, start))
    }

    /// Finishes what is under way and lets go of the store's files. A readable tree is complete afterwards; that it
    /// could not be written is no error here: see [`crate::Tree::finish`].
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn close(&self) -> Result<()> {
        #[cfg(feature = "file")]
        for tree in self.trees() {
            tree.end().await;
        }
        for store in self.stores() {
            store.engine().close().await?;
        }
        Ok(())
    }
}

/// Every domain's collections. One line a domain.
pub(crate) static COLLECTIONS: &[(Domain, &[millpond_core::Collection])] = &[
    (Domain::Locks, &[millpond_core::LEASES]),
    (Domain::DeadLetters, &[crate::DeadLetter::COLLECTION, crate::DeadLetterJob::COLLECTION]),
    (Domain::Sessions, &[crate::Session::COLLECTION, crate::SessionJobMapping::COLLECTION, crate::JobSessionMapping::COLLECTION]),
    (Domain::Runs, &[crate::Run::COLLECTION, crate::RunKey::COLLECTION, crate::RunConfig::COLLECTION]),
    (Domain::Checkpoints, &crate::checkpoints::COLLECTIONS),
    (Domain::Metrics, &crate::metrics::COLLECTIONS),
    (Domain::Workflows, &crate::workflows::COLLECTIONS),
    (Domain::Flows, &crate::flows::COLLECTIONS),
    (Domain::Artifacts, &crate::artifacts::COLLECTIONS),
    (Domain::Artifacts, &crate::units::COLLECTIONS),
    (Domain::Artifacts, &crate::pins::COLLECTIONS),
    (Domain::Artifacts, &crate::payloads::COLLECTIONS),
    (Domain::Lineage, &crate::lineage::COLLECTIONS),
    (Domain::Artifacts, &crate::replay::COLLECTIONS),
    (Domain::Artifacts, &crate::prune::COLLECTIONS),
];

/// Every domain's declarations. They are made when a pond is opened, so that raw commits can never get there first.
pub(crate) fn collections() -> Result<Vec<millpond_core::CollectionSpec>> {
    COLLECTIONS.iter().flat_map(|(_, collections)| *collections).map(millpond_core::Collection::spec).collect()
}
