//! The ground a clause stands on, and the handles it opens there.

use std::sync::Arc;

use millpond::{Engine, Error, Front, Namespace, Pond, Result, Store};
use millpond_objects::{Folder, Objects};
use tempfile::TempDir;

use crate::Place;

/// The ground one clause stands on: a namespace of its own on one place, removed afterwards.
#[derive(Debug)]
pub struct Ground {
    place: Arc<dyn Place>,
    engine: Arc<dyn Engine>,
    namespace: Namespace,
    /// Bytes of a place that keeps none.
    folder: TempDir,
}

impl Ground {
    pub(crate) async fn new(place: Arc<dyn Place>, namespace: Namespace) -> Result<Self> {
        let engine = place.open().await?;
        engine.create_namespace(&namespace).await?;
        let folder = tempfile::Builder::new().prefix("millpond-bytes").tempdir();
        let folder = folder.map_err(|e| Error::unavailable("cannot make a folder for the clause's bytes").with_source(e))?;
        Ok(Self { place, engine, namespace, folder })
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

    /// Where the bytes of the clause's artifacts go: the place's own if it keeps bytes, else a folder that goes with the
    /// ground. Each call opens it anew.
    ///
    /// # Errors
    /// What opening fails with.
    pub async fn objects(&self, store: &Store) -> Result<Arc<dyn Objects>> {
        match self.place.objects(store.store_id()).await? {
            Some(objects) => Ok(objects),
            None => self.other_objects("bytes"),
        }
    }

    /// Another place for bytes, of this name, that goes with the ground.
    ///
    /// # Errors
    /// What making it fails with.
    pub fn other_objects(&self, name: &str) -> Result<Arc<dyn Objects>> {
        Ok(Arc::new(Folder::new(self.folder.path().join(name))?))
    }

    /// A pond on a store, with the clause's bytes.
    ///
    /// # Errors
    /// What opening fails with.
    pub async fn pond_on(&self, store: Store) -> Result<Pond> {
        let objects = self.objects(&store).await?;
        Ok(Pond::new(store).await?.with_objects(objects))
    }

    /// A pond through the first handle.
    ///
    /// # Errors
    /// What opening fails with.
    pub async fn pond(&self) -> Result<Pond> {
        self.pond_on(self.store().await?).await
    }

    /// A pond through a second, independent handle.
    ///
    /// # Errors
    /// What opening fails with.
    pub async fn second_pond(&self) -> Result<Pond> {
        self.pond_on(self.second_store().await?).await
    }
}
