//! A place for objects whose calls meet faults.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millpond_core::{Error, Result};
use millpond_objects::{Listed, Location, Note, Objects, Writing};

use super::{Fault, Faults, INJECTED};

/// Every call can be lost: nothing that is asked twice does harm.
const ANY: &[Fault] = &[Fault::Refused, Fault::RequestLost, Fault::AnswerLost];
/// And bytes may come when nobody waits for them any more.
const WRITES: &[Fault] = &[Fault::Refused, Fault::RequestLost, Fault::AnswerLost, Fault::Late];

/// Objects behind a connection that loses requests and answers.
#[derive(Debug, Clone)]
pub struct FaultyObjects {
    inner: Arc<dyn Objects>,
    faults: Faults,
    name: Option<String>,
}

impl FaultyObjects {
    /// Objects with faults before them.
    pub fn new(inner: Arc<dyn Objects>, faults: Faults) -> Self {
        Self { inner, faults, name: None }
    }

    /// The same under another name, so that a copy of a place passes for the place.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    async fn call<T>(&self, call: &'static str, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.faults.way().await;
        let told = heard(self.faults.next(call, ANY), work).await;
        self.faults.way().await;
        told
    }
}

/// What is heard of a call that meets this.
async fn heard<T>(fault: Option<Fault>, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    match fault {
        None => work.await,
        Some(Fault::AnswerLost) => {
            let _ = work.await;
            Err(lost())
        }
        Some(_) => Err(lost()),
    }
}

fn lost() -> Error {
    Error::unavailable(format!("{INJECTED}: nobody was told what happened"))
}

#[async_trait]
impl Objects for FaultyObjects {
    fn place(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.inner.place())
    }

    async fn put(&self, at: &Location, bytes: Bytes, note: Option<&Note>) -> Result<()> {
        self.faults.way().await;
        let fault = self.faults.next("objects.put", WRITES);
        if fault == Some(Fault::Late) {
            let (inner, at, note, late) = (Arc::clone(&self.inner), at.clone(), note.cloned(), self.faults.lateness());
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                // Whatever it answers, nobody hears it.
                let _ = inner.put(&at, bytes, note.as_ref()).await;
            });
            return Err(lost());
        }
        let told = heard(fault, self.inner.put(at, bytes, note)).await;
        self.faults.way().await;
        told
    }

    async fn begin(&self, at: &Location, note: Option<&Note>) -> Result<Box<dyn Writing>> {
        let inner = self.call("objects.begin", self.inner.begin(at, note)).await?;
        Ok(Box::new(FaultyWriting { inner, objects: self.clone() }))
    }

    async fn read(&self, at: &Location, range: Range<u64>) -> Result<Option<Bytes>> {
        self.call("objects.read", self.inner.read(at, range)).await
    }

    async fn length(&self, at: &Location) -> Result<Option<u64>> {
        self.call("objects.length", self.inner.length(at)).await
    }

    async fn remove(&self, at: &Location) -> Result<()> {
        self.call("objects.remove", self.inner.remove(at)).await
    }

    async fn list(&self, after: Option<&Location>, most: usize) -> Result<Vec<Listed>> {
        self.call("objects.list", self.inner.list(after, most)).await
    }

    async fn address(&self, at: &Location, lasting: Duration) -> Result<String> {
        self.call("objects.address", self.inner.address(at, lasting)).await
    }
}

/// An object that is written piece by piece behind the same connection.
#[derive(Debug)]
struct FaultyWriting {
    inner: Box<dyn Writing>,
    objects: FaultyObjects,
}

#[async_trait]
impl Writing for FaultyWriting {
    async fn write(&mut self, piece: Bytes) -> Result<()> {
        let Self { inner, objects } = self;
        objects.call("writing.write", inner.write(piece)).await
    }

    async fn finish(self: Box<Self>, note: Option<&Note>) -> Result<()> {
        let Self { inner, objects } = *self;
        objects.call("writing.finish", inner.finish(note)).await
    }
}
