//! A place behind a circuit breaker: one for all of its journals, because they are on one server.
//!
//! What nobody waits for (hints, snapshots, trimming) goes on by itself and neither opens the breaker nor closes it. A
//! health check asks the server whatever the breaker thinks.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use millpond_core::{Breaker, CallPolicy, Examination, Probing, Result};

use crate::journal::{After, Append, Exclusive, Journal, Journals, Limit, PlaceInfo};

/// Puts a place behind a breaker, if the policy asks for one.
pub(crate) fn guarded(place: Arc<dyn Journals>, policy: &CallPolicy) -> Arc<dyn Journals> {
    if policy.breaker.is_none() {
        return place;
    }
    let breaker = Breaker::new(place.info().location, policy);
    Arc::new(Guarded { inner: place, breaker })
}

/// A place, or one of its journals.
#[derive(Debug)]
struct Guarded<T: ?Sized> {
    breaker: Breaker,
    inner: Arc<T>,
}

#[async_trait]
impl Journals for Guarded<dyn Journals> {
    fn info(&self) -> PlaceInfo {
        self.inner.info()
    }

    async fn examine(&self, probing: Probing) -> Result<Examination> {
        self.inner.examine(probing).await
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn Journal>> {
        let inner = self.breaker.guard(self.inner.open(name)).await?;
        Ok(Arc::new(Guarded { inner, breaker: self.breaker.clone() }))
    }

    async fn remove(&self, name: &str) -> Result<()> {
        self.breaker.guard(self.inner.remove(name)).await
    }

    fn cache(&self) -> Option<&Path> {
        self.inner.cache()
    }
}

#[async_trait]
impl Journal for Guarded<dyn Journal> {
    /// Refused, nothing was sent: so a refusal is never taken for an answer to something that was.
    async fn append(&self, after: u64, entry: Bytes) -> Result<Append> {
        self.breaker.guard(self.inner.append(after, entry)).await
    }

    async fn read(&self, after: u64, limit: Limit) -> Result<After> {
        self.breaker.guard(self.inner.read(after, limit)).await
    }

    async fn changed(&self, after: u64) {
        self.inner.changed(after).await;
    }

    fn max_entry_bytes(&self) -> usize {
        self.inner.max_entry_bytes()
    }

    async fn exclusive(&self) -> Result<Option<Box<dyn Exclusive>>> {
        self.inner.exclusive().await
    }

    async fn put_snapshot(&self, upto: u64, file: &Path) -> Result<()> {
        self.inner.put_snapshot(upto, file).await
    }

    async fn get_snapshot(&self, file: &Path) -> Result<Option<u64>> {
        self.inner.get_snapshot(file).await
    }

    async fn trim(&self, upto: u64) -> Result<()> {
        self.inner.trim(upto).await
    }

    async fn size(&self) -> Result<u64> {
        self.breaker.guard(self.inner.size()).await
    }
}
