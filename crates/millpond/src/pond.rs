//! An open place: one namespace, and the domains on it.

use std::sync::Arc;

use crate::homes::{Domain, Homes};
use millpond_core::{Commit, Document, Outcome, Receipt, Records, Result, Selector, StartAt, Store, Subscription};

/// One open namespace with its domains, in one store or in several. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pond {
    homes: Homes,
    /// What saves remember, shared by all clones so that none has to read what another knows.
    checkpoint_heads: Arc<crate::checkpoints::Heads>,
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
    /// As [`Pond::new`].
    pub async fn over(main: Store, others: Vec<(Store, Vec<Domain>)>) -> Result<Self> {
        Self::of(Homes::several(main, others)).await
    }

    async fn of(homes: Homes) -> Result<Self> {
        let collections = collections()?;
        for store in homes.all() {
            store.declare(&collections).await?;
        }
        Ok(Self { homes, checkpoint_heads: Arc::default() })
    }

    /// The same pond for a caller without a runtime; see [`crate::blocking`].
    pub(crate) fn inline(&self) -> Self {
        Self { homes: self.homes.inline(), checkpoint_heads: Arc::clone(&self.checkpoint_heads) }
    }

    /// The same place for a caller that takes stale answers, see [`Store::stale`].
    #[must_use]
    pub fn stale(&self) -> Self {
        Self { homes: self.homes.stale(), checkpoint_heads: Arc::clone(&self.checkpoint_heads) }
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

    /// Commits; a failed expectation is an error.
    ///
    /// # Errors
    /// As [`Store::commit`]; `Unsupported` when it would span two stores.
    pub async fn commit(&self, commit: Commit) -> Result<Receipt> {
        self.homes.of_commits([&commit], [])?.commit(commit).await
    }

    /// Commits; a failed expectation is a value.
    ///
    /// # Errors
    /// As [`Store::try_commit`]; `Unsupported` when it would span two stores.
    pub async fn try_commit(&self, commit: Commit) -> Result<Outcome> {
        self.homes.of_commits([&commit], [])?.try_commit(commit).await
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
        crate::Runs::new(self.store_of(Domain::Runs).clone())
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
        crate::Checkpoints::new(self.store_of(Domain::Checkpoints).clone(), Arc::clone(&self.checkpoint_heads))
    }

    /// The dead letters.
    pub fn dead_letters(&self) -> crate::DeadLetters {
        crate::DeadLetters::new(self.store_of(Domain::DeadLetters).clone())
    }

    /// A live feed.
    ///
    /// # Errors
    /// `Unsupported` when it would span two stores.
    pub fn subscribe(&self, selector: Selector, start: StartAt) -> Result<Subscription> {
        Ok(self.homes.of_selector(&selector)?.subscribe(selector, start))
    }

    /// Finishes what is under way and lets go of the store's files.
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn close(&self) -> Result<()> {
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
];

/// Every domain's declarations. They are made when a pond is opened, so that raw commits can never get there first.
pub(crate) fn collections() -> Result<Vec<millpond_core::CollectionSpec>> {
    COLLECTIONS.iter().flat_map(|(_, collections)| *collections).map(millpond_core::Collection::spec).collect()
}
