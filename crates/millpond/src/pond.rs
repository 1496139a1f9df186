//! An open place: one namespace, and the domains on it.

use std::sync::Arc;

use millpond_core::{Commit, Document, Outcome, Receipt, Records, Result, Selector, StartAt, Store, Subscription};

/// One open namespace with its domains. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pond {
    store: Store,
    /// What saves remember, shared by all clones so that none has to read what another knows.
    checkpoint_heads: Arc<crate::checkpoints::Heads>,
    #[cfg(feature = "file")]
    tree: Option<Arc<crate::Tree>>,
}

impl Pond {
    /// Declares the domains' collections and opens the pond.
    ///
    /// # Errors
    /// `Invalid` when the store was written by a newer version.
    pub async fn new(store: Store) -> Result<Self> {
        store.declare(&crate::pond::collections()?).await?;
        Ok(Self {
            store,
            checkpoint_heads: Arc::default(),
            #[cfg(feature = "file")]
            tree: None,
        })
    }

    /// The same pond with a readable tree beside it.
    #[cfg(feature = "file")]
    pub(crate) fn with_tree(self, tree: crate::Tree) -> Self {
        Self { tree: Some(Arc::new(tree)), ..self }
    }

    /// The readable tree, which stores in files have unless it was turned off.
    #[cfg(feature = "file")]
    pub fn tree(&self) -> Option<&Arc<crate::Tree>> {
        self.tree.as_ref()
    }

    /// The same pond for a caller without a runtime; see [`crate::blocking`].
    pub(crate) fn inline(&self) -> Self {
        Self { store: self.store.inline(), ..self.clone() }
    }

    /// The same place for a caller that takes stale answers, see [`Store::stale`].
    #[must_use]
    pub fn stale(&self) -> Self {
        Self { store: self.store.stale(), ..self.clone() }
    }

    /// The store behind: raw commits, queries and feeds.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Commits; a failed expectation is an error.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn commit(&self, commit: Commit) -> Result<Receipt> {
        self.store.commit(commit).await
    }

    /// Commits; a failed expectation is a value.
    ///
    /// # Errors
    /// As [`Store::try_commit`].
    pub async fn try_commit(&self, commit: Commit) -> Result<Outcome> {
        self.store.try_commit(commit).await
    }

    /// Workflows: immutable versions of definitions, with their lineage.
    pub fn workflows(&self) -> crate::Workflows {
        crate::Workflows::new(self.store.clone())
    }

    /// Flows: visual definitions with optimistic concurrency, history and deployment.
    pub fn flows(&self) -> crate::Flows {
        crate::Flows::new(self.store.clone())
    }

    /// Documents of one's own.
    ///
    /// # Errors
    /// As [`Store::declare`].
    pub async fn collection<T: Document>(&self) -> Result<Records<T>> {
        self.store.collection().await
    }

    /// Runs: executions of workflows, with a log that is sealed when they end.
    pub fn runs(&self) -> crate::Runs {
        crate::Runs::new(self.store.clone())
    }

    /// The locks.
    pub fn locks(&self) -> crate::Locks {
        crate::Locks::new(self.store.clone())
    }

    /// The sessions.
    pub fn sessions(&self) -> crate::Sessions {
        crate::Sessions::new(self.store.clone())
    }

    /// A unit of work: parts of several domains, committed at once or not at all.
    pub fn unit(&self) -> crate::Unit {
        crate::Unit::new(self.clone())
    }

    /// Events: what happened, in streams.
    pub fn events(&self) -> crate::Events {
        crate::Events::new(self.store.clone())
    }

    /// Metrics, patterns and feedback.
    pub fn metrics(&self) -> crate::Metrics {
        crate::Metrics::new(self.store.clone())
    }

    /// Checkpoints: numbered states of sessions, workflows and runs.
    pub fn checkpoints(&self) -> crate::Checkpoints {
        crate::Checkpoints::new(self.store.clone(), Arc::clone(&self.checkpoint_heads))
    }

    /// The dead letters.
    pub fn dead_letters(&self) -> crate::DeadLetters {
        crate::DeadLetters::new(self.store.clone())
    }

    /// A live feed.
    pub fn subscribe(&self, selector: Selector, start: StartAt) -> Subscription {
        self.store.subscribe(selector, start)
    }

    /// Finishes what is under way and lets go of the store's files. A readable tree is complete afterwards; that it
    /// could not be written is no error here: see [`crate::Tree::finish`].
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn close(&self) -> Result<()> {
        #[cfg(feature = "file")]
        if let Some(tree) = &self.tree {
            tree.end().await;
        }
        self.store.engine().close().await
    }
}

/// Every domain's declarations. They are made when a pond is opened, so that raw commits can never get there first.
pub(crate) fn collections() -> Result<Vec<millpond_core::CollectionSpec>> {
    // One line a domain.
    let declared: &[&[millpond_core::Collection]] = &[
        &[millpond_core::LEASES],
        &[crate::DeadLetter::COLLECTION, crate::DeadLetterJob::COLLECTION],
        &[crate::Session::COLLECTION, crate::SessionJobMapping::COLLECTION, crate::JobSessionMapping::COLLECTION],
        &[crate::Run::COLLECTION, crate::RunKey::COLLECTION, crate::RunConfig::COLLECTION],
        &crate::checkpoints::COLLECTIONS,
        &crate::metrics::COLLECTIONS,
        &crate::workflows::COLLECTIONS,
        &crate::flows::COLLECTIONS,
    ];
    declared.iter().copied().flatten().map(millpond_core::Collection::spec).collect()
}
