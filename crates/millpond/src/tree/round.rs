//! One round: what the store's feed has to show since the last one is written into files.

use std::collections::HashSet;

use millpond_core::{
    Change, CollectionName, Error, ErrorKind, Event, EventFilter, EventQuery, FeedRequest, Position, Result, Selector, Store,
    StreamName,
};

use super::pen::Pen;
use super::subject::{self, Subject};

/// Changes looked at together.
const PAGE: usize = 500;
/// Why a stream's file is written anew.
pub(super) const STREAMS_ARE_THE_STORES: &str =
    "streams are only ever written by the store; append to them with: millpond events append";

/// The pen, lent to threads that may wait for a disk.
#[derive(Debug)]
pub(super) struct Desk(Option<Pen>);

impl Desk {
    pub(super) fn new(pen: Pen) -> Self {
        Self(Some(pen))
    }

    /// Does work on files off the runtime's own threads.
    pub(super) async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Pen) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::unavailable("the tree's thread went away");
        let mut pen = self.0.take().ok_or_else(gone)?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut pen);
            (pen, result)
        });
        let (pen, result) = done.await.map_err(|e| gone().with_source(e))?;
        self.0 = Some(pen);
        result
    }

    pub(super) fn pen(&self) -> Result<&Pen> {
        self.0.as_ref().ok_or_else(|| Error::unavailable("the tree's thread went away"))
    }
}

/// One round under the lock.
pub(super) struct Round<'a> {
    pub(super) store: &'a Store,
    pub(super) desk: &'a mut Desk,
}

impl Round<'_> {
    /// Writes everything up to the head of this moment, and the manifest last.
    pub(super) async fn write(&mut self) -> Result<()> {
        let head = self.store.head().await?;
        let after = self.desk.pen()?.manifest.position;
        if after == Some(head) {
            return Ok(());
        }
        match self.write_after(after, head).await {
            // A deletion after the position was forgotten: look at everything again.
            Err(e) if e.kind() == ErrorKind::CursorExpired && after.is_some() => self.write_after(None, head).await,
            other => other,
        }
    }

    async fn write_after(&mut self, after: Option<Position>, head: Position) -> Result<()> {
        let everything = self.desk.pen()?.manifest.everything;
        let mut seen = HashSet::new();
        for collection in self.collections(everything).await? {
            seen.extend(self.records(Selector::collection(collection), after, head).await?);
        }
        if everything {
            seen.extend(self.events(after, head).await?);
        }
        let whole = after.is_none();
        self.desk
            .run(move |pen| {
                if whole {
                    remove_others(pen, &seen)?;
                }
                pen.manifest.position = Some(head);
                pen.save()
            })
            .await
    }

    async fn collections(&self, everything: bool) -> Result<Vec<CollectionName>> {
        if everything {
            return Ok(self.store.collections().await?.into_iter().map(|c| c.name).collect());
        }
        subject::definitions().into_iter().map(CollectionName::new).collect()
    }

    /// Shows the records of a collection. Answers the paths of those that exist.
    async fn records(&mut self, selector: Selector, mut after: Option<Position>, head: Position) -> Result<Vec<String>> {
        let mut seen = Vec::new();
        loop {
            let page = self.store.feed(FeedRequest { selector: selector.clone(), after, limit: PAGE }).await?;
            let (next, done) = (page.next, page.next >= head || Some(page.next) == after);
            let shown = self.desk.run(move |pen| show_all(pen, &page.changes)).await?;
            seen.extend(shown);
            for damaged in page.damaged {
                tracing::warn!(what = damaged.what, why = damaged.why, "what does not read back is not shown as a file");
            }
            if done {
                return Ok(seen);
            }
            after = Some(next);
        }
    }

    /// Appends events to the files of their streams. Answers the paths of streams that were shown.
    async fn events(&mut self, mut after: Option<Position>, head: Position) -> Result<HashSet<String>> {
        let mut seen = HashSet::new();
        loop {
            let selector = Selector::Events(EventFilter::all());
            let page = self.store.feed(FeedRequest { selector, after, limit: PAGE }).await?;
            let (next, done) = (page.next, page.next >= head || Some(page.next) == after);
            let mut of_stream: std::collections::BTreeMap<StreamName, Vec<Event>> = std::collections::BTreeMap::new();
            for change in page.changes {
                if let Change::Event(event) = change {
                    of_stream.entry(event.stream.clone()).or_default().push(event);
                }
            }
            for (stream, events) in of_stream {
                let path = Subject::Stream(stream.clone()).path();
                seen.insert(path.clone());
                if !self.desk.run(move |pen| pen.append(&path, &events)).await? {
                    self.rebuild(&stream).await?;
                }
            }
            if done {
                return Ok(seen);
            }
            after = Some(next);
        }
    }

    /// Writes a stream's file anew from the store. Answers where that was kept which the store does not say.
    pub(super) async fn rebuild(&mut self, stream: &StreamName) -> Result<Option<String>> {
        let mut growing = self.desk.run(|pen| pen.rebuild("stream")).await?;
        let mut after = None;
        loop {
            let query = EventQuery::new(EventFilter::stream(stream.clone())).limit(PAGE).after(after);
            let page = self.store.events(query).await?;
            growing = self.desk.run(move |_| growing.add(&page.items).map(|()| growing)).await?;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let path = Subject::Stream(stream.clone()).path();
        self.desk.run(move |pen| pen.rebuilt(&path, growing, STREAMS_ARE_THE_STORES)).await
    }
}

fn show_all(pen: &mut Pen, changes: &[Change]) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    for change in changes {
        let (collection, key, record) = match change {
            Change::Record(record) => (&record.collection, &record.key, Some(record)),
            Change::Deleted(gone) => (&gone.collection, &gone.key, None),
            Change::Event(_) => continue,
        };
        let Some(subject) = Subject::of_record(collection.as_str(), key.as_str()) else { continue };
        pen.show(&subject, record)?;
        seen.extend(record.map(|_| subject.path()));
    }
    Ok(seen)
}

/// Takes files away whose records or streams were not seen in a look at everything.
fn remove_others(pen: &mut Pen, seen: &HashSet<String>) -> Result<()> {
    let gone: Vec<String> = pen.manifest.files.keys().filter(|path| !seen.contains(*path)).cloned().collect();
    for path in gone {
        let digest = pen.entry(&path).map(|e| e.digest.clone());
        match Subject::at(&path) {
            Some(Subject::Stream(_)) => pen.drop_stream(&path)?,
            _ => {
                pen.replace(&path, None, digest.as_deref(), "what it stands for is not in the store any more")?;
            }
        }
        pen.manifest.files.remove(&path);
    }
    Ok(())
}

impl Pen {
    fn drop_stream(&mut self, path: &str) -> Result<()> {
        let target = self.folder.root().join(path);
        let as_left = self.entry(path).is_some_and(|e| super::streams::is_as_left(&target, e).unwrap_or(false));
        if as_left {
            return std::fs::remove_file(&target).map_err(super::files::failed("remove", &target));
        }
        if target.exists() {
            self.move_aside(path, "its stream is not shown any more")?;
        }
        Ok(())
    }
}
