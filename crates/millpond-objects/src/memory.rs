//! Objects in this process's memory: gone with the last clone.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use millpond_core::{Error, ErrorKind, Result};

use crate::{Listed, Location, Note, Objects, Writing};

/// See the module. Notes are not kept: nobody could look at them.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    objects: Arc<Mutex<BTreeMap<Location, Bytes>>>,
}

impl Memory {
    /// An empty place.
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Location, Bytes>> {
        // Every change is one insertion or removal: a panic leaves nothing half done.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, at: &Location, bytes: Bytes) -> Result<()> {
        let mut objects = self.objects();
        if objects.contains_key(at) {
            return Err(Error::invalid(format!("there is an object at {at} already"))
                .with("place", self.place())
                .with_next("this is a fault of the program: a location is used once"));
        }
        objects.insert(at.clone(), bytes);
        Ok(())
    }
}

#[async_trait]
impl Objects for Memory {
    fn place(&self) -> &str {
        "memory:"
    }

    async fn put(&self, at: &Location, bytes: Bytes, _: Option<&Note>) -> Result<()> {
        self.keep(at, bytes)
    }

    async fn begin(&self, at: &Location, _: Option<&Note>) -> Result<Box<dyn Writing>> {
        Ok(Box::new(Growing { memory: self.clone(), at: at.clone(), bytes: BytesMut::new() }))
    }

    async fn read(&self, at: &Location, range: Range<u64>) -> Result<Option<Bytes>> {
        let found = self.objects().get(at).cloned();
        Ok(found.map(|bytes| {
            let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            let (start, end) = (within(range.start), within(range.end));
            bytes.slice(start..end.max(start))
        }))
    }

    async fn length(&self, at: &Location) -> Result<Option<u64>> {
        Ok(self.objects().get(at).map(|bytes| bytes.len() as u64))
    }

    async fn remove(&self, at: &Location) -> Result<()> {
        self.objects().remove(at);
        Ok(())
    }

    async fn list(&self, after: Option<&Location>, most: usize) -> Result<Vec<Listed>> {
        let objects = self.objects();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let listed = |(location, bytes): (&Location, &Bytes)| Listed { location: location.clone(), length: bytes.len() as u64 };
        Ok(objects.range((from, Bound::Unbounded)).take(most).map(listed).collect())
    }

    async fn address(&self, _: &Location, _: Duration) -> Result<String> {
        Err(Error::new(ErrorKind::Unsupported, "objects in memory have no addresses")
            .with("place", self.place())
            .with_next("keep objects in S3 or another object store, or read them through Millpond"))
    }
}

/// An object whose bytes are still coming.
#[derive(Debug)]
struct Growing {
    memory: Memory,
    at: Location,
    bytes: BytesMut,
}

#[async_trait]
impl Writing for Growing {
    async fn write(&mut self, piece: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&piece);
        Ok(())
    }

    async fn finish(self: Box<Self>, _: Option<&Note>) -> Result<()> {
        self.memory.keep(&self.at, self.bytes.freeze())
    }
}
