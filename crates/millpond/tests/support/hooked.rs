//! A place for bytes, in memory, where something happens on the way in and out, and a pond on it.
#![allow(dead_code)] // Not every test does everything with it.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use millpond::{ManualHost, OpenOptions, Pond, Query, Result, Timestamp, UnitFilter, UnitState};
use millpond_objects::{Listed, Location, Memory, Note, Objects, Writing};

/// What is done with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    Put(Bytes),
    Read,
    Remove,
}

type Hook = Arc<dyn Fn(Doing, Location) -> BoxFuture<'static, Result<()>> + Send + Sync>;

pub struct Hooked {
    pub memory: Memory,
    hook: Mutex<Option<Hook>>,
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a hooked place")
    }
}

impl Hooked {
    /// What happens before anything is done from here on.
    pub fn before<R>(&self, hook: impl Fn(Doing, Location) -> R + Send + Sync + 'static)
    where
        R: Future<Output = Result<()>> + Send + 'static,
    {
        *self.hook.lock().unwrap() = Some(Arc::new(move |doing, at| Box::pin(hook(doing, at))));
    }

    /// Nothing happens any more.
    pub fn unhook(&self) {
        *self.hook.lock().unwrap() = None;
    }

    async fn meet(&self, doing: Doing, at: &Location) -> Result<()> {
        let hook = self.hook.lock().unwrap().clone();
        match hook {
            Some(hook) => hook(doing, at.clone()).await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Objects for Hooked {
    fn place(&self) -> &str {
        self.memory.place()
    }
    async fn put(&self, at: &Location, bytes: Bytes, note: Option<&Note>) -> Result<()> {
        self.meet(Doing::Put(bytes.clone()), at).await?;
        self.memory.put(at, bytes, note).await
    }
    async fn begin(&self, at: &Location, note: Option<&Note>) -> Result<Box<dyn Writing>> {
        self.memory.begin(at, note).await
    }
    async fn read(&self, at: &Location, range: Range<u64>) -> Result<Option<Bytes>> {
        self.meet(Doing::Read, at).await?;
        self.memory.read(at, range).await
    }
    async fn length(&self, at: &Location) -> Result<Option<u64>> {
        self.memory.length(at).await
    }
    async fn remove(&self, at: &Location) -> Result<()> {
        self.meet(Doing::Remove, at).await?;
        self.memory.remove(at).await
    }
    async fn list(&self, after: Option<&Location>, most: usize) -> Result<Vec<Listed>> {
        self.memory.list(after, most).await
    }
    async fn address(&self, at: &Location, lasting: Duration) -> Result<String> {
        self.memory.address(at, lasting).await
    }
}

pub struct World {
    pub host: Arc<ManualHost>,
    pub place: Arc<Hooked>,
    pub pond: Pond,
}

pub async fn world() -> World {
    let host = Arc::new(ManualHost::at(Timestamp::parse("2026-01-05T09:00:00Z").unwrap()));
    let pond = OpenOptions::new().host(Arc::<ManualHost>::clone(&host)).open("memory:").await.unwrap();
    let place = Arc::new(Hooked { memory: Memory::default(), hook: Mutex::default() });
    let pond = pond.with_objects(Arc::<Hooked>::clone(&place));
    World { host, place, pond }
}

impl World {
    pub async fn objects(&self) -> Vec<String> {
        let listed = self.place.memory.list(None, 100_000).await.unwrap();
        listed.into_iter().map(|listed| listed.location.to_string()).collect()
    }

    pub async fn count(&self, collection: &str) -> u64 {
        self.pond.store().count(Query::new(collection).unwrap()).await.unwrap()
    }

    pub async fn states(&self) -> Vec<UnitState> {
        let page = self.pond.units().list(&UnitFilter::default()).await.unwrap();
        page.items.into_iter().map(|unit| unit.value.state).collect()
    }

    /// Operations of a unit: path, how it stands, and why.
    pub async fn operations(&self, unit: &str) -> Vec<(String, &'static str, Option<String>)> {
        let found = self.pond.units().get(unit).await.unwrap().unwrap();
        found.operations.into_iter().map(|o| (o.path, o.status.as_str(), o.error)).collect()
    }

    /// Waits until a unit has so many operations.
    pub async fn registered(&self, unit: &str, count: usize) {
        let registered = async {
            while self.pond.units().get(unit).await.unwrap().map_or(0, |found| found.operations.len()) < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), registered).await.expect("they are registered");
    }
}
