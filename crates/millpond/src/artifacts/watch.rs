//! Following what is written and deleted: the events that every deciding commit appends.
//!
//! ```text
//!   streams artifacts/executions/EXECUTION, artifacts/other ─► the store's subscription ─► prefix of the key ─► event, cursor
//!                                                                     │ nothing more yet
//!   until the run has ended:  is it over? ──► read once more to the end ──► end
//! ```

use std::time::Duration;

use millpond_core::{
    Change, Cursor, Delivery, Error, ErrorKind, Event, EventFilter, Result, Selector, StartAt, StreamName, StreamSelect,
    Subscription, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::Artifacts;
use super::work::{ARTIFACT_DELETED, ARTIFACT_WRITTEN, STREAMS, stream_of_execution};
use crate::Runs;

/// How often it is looked whether the run is over, when nothing is written.
const LOOK: Duration = Duration::from_millis(250);

/// What is followed.
#[derive(Debug, Clone, Default)]
pub struct WatchArtifacts {
    /// Of this execution.
    pub execution: Option<String>,
    /// Of this route.
    pub route: Option<String>,
    /// Of this stage.
    pub stage: Option<String>,
    /// With this extension, in lower case.
    pub extension: Option<String>,
    /// What the key begins with, by bytes.
    pub prefix: String,
    /// Where to begin: at the oldest event that is kept, with what comes from now on, or after a cursor.
    pub start: StartAt,
    /// Whether it ends when the execution, which has to be a run then, is over and everything that was committed before
    /// has been shown.
    pub until_ended: bool,
}

impl WatchArtifacts {
    /// Everything of an execution, from the beginning.
    pub fn execution(execution: impl Into<String>) -> Self {
        Self { execution: Some(execution.into()), ..Self::default() }
    }

    /// Ends when the run that the execution is has ended.
    #[must_use]
    pub fn until_ended(mut self) -> Self {
        self.until_ended = true;
        self
    }

    /// Goes on after a cursor.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.start = StartAt::After(cursor);
        self
    }

    fn selector(&self) -> Result<Selector> {
        let stream = match &self.execution {
            Some(execution) => StreamSelect::Exactly(StreamName::new(stream_of_execution(Some(execution)))?),
            None => StreamSelect::Prefix(STREAMS.to_owned()),
        };
        let labels = [("route", &self.route), ("stage", &self.stage), ("extension", &self.extension)];
        Ok(Selector::Events(EventFilter {
            stream: Some(stream),
            types: vec![ARTIFACT_WRITTEN.to_owned(), ARTIFACT_DELETED.to_owned()],
            labels: labels.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect(),
            ..EventFilter::all()
        }))
    }
}

/// What happened to an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum StorageEventKind {
    /// It was written, new or in the place of what was there, or copied from another.
    #[serde(rename = "artifact.written")]
    Written,
    /// It was deleted.
    #[serde(rename = "artifact.deleted")]
    Deleted,
}

/// What is kept in the body of a storage event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    key: String,
    version: String,
    length: u64,
    sha256: String,
    content_type: String,
    unit: String,
}

/// An artifact that was written or deleted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StorageEvent {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: StorageEventKind,
    /// The artifact's key.
    pub key: String,
    /// The version that was written, or the last one before the deletion.
    pub version: String,
    /// Its bytes.
    pub length: u64,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
    /// Its MIME type.
    pub content_type: String,
    /// The unit that did it; of a prune, `prunes/EXECUTION`.
    pub unit: String,
    /// The execution.
    pub execution: Option<String>,
    /// The route.
    pub route: Option<String>,
    /// The stage.
    pub stage: Option<String>,
    /// The extension.
    pub extension: Option<String>,
    /// What it belongs together with.
    pub correlation: Option<String>,
    /// When, on the store's clock.
    pub time: Timestamp,
    /// Resumes after this event.
    pub cursor: Cursor,
}

impl StorageEvent {
    /// # Errors
    /// `Corrupt`, with the cursor that goes on after it, when somebody else appended it.
    fn of(event: Event, cursor: Cursor) -> Result<Self> {
        let kind = if event.kind == ARTIFACT_DELETED { StorageEventKind::Deleted } else { StorageEventKind::Written };
        let Body { key, version, length, sha256, content_type, unit } =
            serde_json::from_str(event.data.as_str()).map_err(|e| {
                Error::corrupt(format!("event {} of {} is no storage event", event.sequence, event.stream))
                    .with_source(e)
                    .with("cursor", &cursor)
            })?;
        let mut labels = event.labels;
        Ok(Self {
            kind,
            key,
            version,
            length,
            sha256,
            content_type,
            unit,
            execution: labels.remove("execution"),
            route: labels.remove("route"),
            stage: labels.remove("stage"),
            extension: labels.remove("extension"),
            correlation: event.correlation,
            time: event.time,
            cursor,
        })
    }
}

/// Storage events as they are committed. Dropping it ends it; there is nothing to clean up.
#[derive(Debug)]
pub struct ArtifactWatch {
    subscription: Subscription,
    prefix: String,
    /// The run whose end ends it.
    run: Option<(Runs, String)>,
    /// The run is over: what is there now is all there will be.
    over: bool,
    ended: bool,
}

impl Artifacts {
    /// Follows what is written and deleted. Each event is shown at least once, in the order of the commits: they are
    /// part of the commits that decide, so none is lost, and a watch that is resumed after the cursor of the last event
    /// it handled skips none.
    ///
    /// # Errors
    /// `Invalid` when it is to end with an execution and none is named; `NotFound` when that is no run.
    pub async fn watch(&self, request: WatchArtifacts) -> Result<ArtifactWatch> {
        self.watching(request).await.map_err(|e| e.during("artifacts.watch"))
    }

    async fn watching(&self, request: WatchArtifacts) -> Result<ArtifactWatch> {
        let run = match (request.until_ended, &request.execution) {
            (false, _) => None,
            (true, Some(execution)) => Some((self.runs().clone(), execution.clone())),
            (true, None) => {
                return Err(Error::invalid("a watch that ends with its execution has to be of one")
                    .with_next("name the execution, or watch without an end"));
            }
        };
        if let Some((runs, execution)) = &run
            && runs.get(execution).await?.is_none()
        {
            return Err(Error::not_found(format!("execution {execution:?} is no run, so nobody can tell when it ends"))
                .with("execution", execution)
                .with_next("watch it without an end, or start a run of this id first"));
        }
        let subscription = self.store().subscribe(request.selector()?, request.start);
        Ok(ArtifactWatch { subscription, prefix: request.prefix, run, over: false, ended: false })
    }
}

impl ArtifactWatch {
    /// The next event; waits until there is one. `None` when the run is over and everything was shown, and never
    /// otherwise. Cancel-safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// `CursorExpired` when something after the cursor was forgotten: begin again at the oldest. `Corrupt` for one event
    /// that does not read back, `Unavailable` while the store cannot be reached: call again to go on.
    pub async fn next(&mut self) -> Result<Option<StorageEvent>> {
        self.follow().await.map_err(|e| e.during("artifacts.watch"))
    }

    async fn follow(&mut self) -> Result<Option<StorageEvent>> {
        loop {
            if let Some(event) = self.ready().await? {
                return Ok(Some(event));
            }
            if self.over {
                self.ended = true;
            }
            if self.ended {
                return Ok(None);
            }
            if self.run_is_over().await? {
                // What was committed before it was over is there by now: one more look finds it.
                self.over = true;
                continue;
            }
            let next = self.subscription.next();
            let next = if self.run.is_some() { tokio::time::timeout(LOOK, next).await.ok() } else { Some(next.await) };
            match next {
                None => {}
                Some(None) => return Err(Error::new(ErrorKind::Unavailable, "the watch has ended")),
                Some(Some(delivery)) => {
                    if let Some(event) = self.taken(delivery?)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    /// The next event that is there already; `None` when all that was committed so far was shown.
    ///
    /// # Errors
    /// As [`ArtifactWatch::next`].
    pub async fn try_next(&mut self) -> Result<Option<StorageEvent>> {
        self.ready().await.map_err(|e| e.during("artifacts.watch"))
    }

    async fn ready(&mut self) -> Result<Option<StorageEvent>> {
        while let Some(delivery) = self.subscription.try_next().await? {
            if let Some(event) = self.taken(delivery)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Whether [`ArtifactWatch::next`] answered that the run is over and everything was shown.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The cursor after everything shown so far; it moves on past events that are not asked for.
    pub fn cursor(&self) -> Option<Cursor> {
        self.subscription.cursor()
    }

    fn taken(&self, delivery: Delivery) -> Result<Option<StorageEvent>> {
        match delivery {
            Delivery::Change(Change::Event(event), cursor) => {
                let event = StorageEvent::of(event, cursor)?;
                Ok(event.key.starts_with(&self.prefix).then_some(event))
            }
            Delivery::Damaged(damaged, cursor) => {
                Err(Error::corrupt(format!("{}: {}", damaged.what, damaged.why)).with("cursor", cursor))
            }
            Delivery::Change(..) | Delivery::SnapshotEnd(_) => Ok(None),
        }
    }

    /// Whether the run is over. One that was deleted meanwhile is.
    async fn run_is_over(&self) -> Result<bool> {
        let Some((runs, run)) = &self.run else { return Ok(false) };
        Ok(runs.get(run).await?.is_none_or(|run| run.status.is_final()))
    }
}

pub(crate) mod blocking {
    //! The same for synchronous callers.
    use std::time::Duration;

    use millpond_core::{Cursor, Result};

    use super::StorageEvent;
    use crate::bridge::Bridge;

    /// Storage events as they are committed, for synchronous callers. See [`crate::ArtifactWatch`].
    #[derive(Debug)]
    pub struct ArtifactWatch {
        watch: super::ArtifactWatch,
        bridge: Bridge,
    }

    impl ArtifactWatch {
        pub(crate) fn new(watch: super::ArtifactWatch, bridge: Bridge) -> Self {
            Self { watch, bridge }
        }

        /// The next event; waits until there is one, at most so long. `None` when the time is up, or the watch
        /// [has ended](ArtifactWatch::has_ended).
        ///
        /// # Errors
        /// As [`crate::ArtifactWatch::next`]; `Invalid` when called inside an async runtime.
        pub fn next_within(&mut self, wait: Duration) -> Result<Option<StorageEvent>> {
            let next = self.watch.next();
            self.bridge.run(async { tokio::time::timeout(wait, next).await.unwrap_or(Ok(None)) })
        }

        /// The next event that is there already.
        ///
        /// # Errors
        /// As [`ArtifactWatch::next_within`].
        pub fn try_next(&mut self) -> Result<Option<StorageEvent>> {
            self.bridge.run(self.watch.try_next())
        }

        /// As [`crate::ArtifactWatch::has_ended`].
        pub fn has_ended(&self) -> bool {
            self.watch.has_ended()
        }

        /// As [`crate::ArtifactWatch::cursor`].
        pub fn cursor(&self) -> Option<Cursor> {
            self.watch.cursor()
        }
    }
}
