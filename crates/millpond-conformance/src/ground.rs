//! The ground a clause stands on, and the handles it opens there.

use std::sync::Arc;

use millpond::{Engine, Front, Namespace, Pond, Result, Store};

use crate::Place;

/// The ground one clause stands on: a namespace of its own on one place, removed afterwards.
#[derive(Debug)]
pub struct Ground {
    place: Arc<dyn Place>,
    engine: Arc<dyn Engine>,
    namespace: Namespace,
}

impl Ground {
    pub(crate) async fn new(place: Arc<dyn Place>, namespace: Namespace) -> Result<Self> {
        let engine = place.open().await?;
        engine.create_namespace(&namespace).await?;
        Ok(Self { place, engine, namespace })
    }

    pub(crate) async fn remove(&self) -> Result<()> {
        if let Some(info) = self.engine.namespace(&self.namespace).await? {
            self.engine.delete_namespace(&self.namespace, &info.store_id).await?;
        }
        Ok(())
    }

    /// Another namespace for the same clause, removed with its own by whoever made it.
    pub fn sibling(&self, suffix: &str) -> Namespace {
        Namespace::from_store(format!("{}-{suffix}", self.namespace))
    }

    /// The place itself, for clauses that open more handles.
    pub fn place(&self) -> &Arc<dyn Place> {
        &self.place
    }

    /// The first handle.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// The clause's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A store through the first handle, with a queue of its own.
    ///
    /// # Errors
    /// What opening fails with.
    pub async fn store(&self) -> Result<Store> {
        Store::open(Arc::new(Front::new(Arc::clone(&self.engine))), self.namespace.clone()).await
    }

    /// A store through a second, independent handle.
    ///
    /// # Errors
    /// What opening fails with.
    pub async fn second_store(&self) -> Result<Store> {
        Store::open(Arc::new(Front::new(self.place.open().await?)), self.namespace.clone()).await
    }

    /// A pond through the first handle.
    ///
    /// # Errors
    /// What opening fails with.
    pub async fn pond(&self) -> Result<Pond> {
        Pond::new(self.store().await?).await
    }

    /// A pond through a second, independent handle.
    ///
    /// # Errors
    /// What opening fails with.
    pub async fn second_pond(&self) -> Result<Pond> {
        Pond::new(self.second_store().await?).await
    }
}
