//! The readable tree: what a store in files holds, as files that a person can read, search, compare and edit.
//!
//! ```text
//!   the store's feed ─► round.rs ─► pen.rs ─► files      written behind and coalesced, by whoever has the lock
//!   files ─► scan.rs ─► adopt/ ─► the store               when a store is opened, and by `millpond adopt`
//!                          └────► conflicts/<n>/           what could not be adopted, with the reason
//! ```
//!
//! The tree is a copy: the journal is the truth. `manifest.rs` remembers what was written, so that an edit is noticed;
//! `subject.rs`, `names.rs` and `form.rs` say which file a thing has and how it looks; `files.rs` replaces files.

mod adopt;
mod files;
mod form;
mod manifest;
mod names;
mod pen;
mod round;
mod scan;
mod streams;
mod subject;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millpond_core::{Error, Position, Result, Store};
use serde::Serialize;
use tokio::sync::watch;

use self::adopt::Adopting;
pub use self::adopt::{Adoption, Fate};
use self::files::Folder;
use self::manifest::Manifest;
use self::pen::Pen;
use self::round::{Desk, Round};

/// How long changes are gathered before files are written.
const GATHER: Duration = Duration::from_millis(250);
/// A round is followed by a pause of so many times its own length, at least.
const PAUSE: u32 = 4;
/// How long `adopt` and `finish` wait for another process that writes the tree.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the lock is tried meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// What a tree shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TreeMode {
    /// What it showed before; a new one shows definitions.
    #[default]
    Unchanged,
    /// Workflows and flows.
    Definitions,
    /// Every record and every stream.
    Everything,
    /// Nothing is written or adopted. Files that are there stay as they are.
    Off,
}

/// How far a tree has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TreeStatus {
    /// The folder.
    pub folder: String,
    /// Whether every record and stream is shown, or only definitions.
    pub everything: bool,
    /// Files.
    pub files: usize,
    /// Every file is as the store was here, or newer; absent before the first round.
    pub position: Option<Position>,
    /// Changes of the store since then: all of them, also those that the tree does not show.
    pub behind: u64,
    /// Why this process could not write it last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The readable tree of a namespace.
#[derive(Debug)]
pub struct Tree {
    inner: Arc<Inner>,
    at_open: Vec<Adoption>,
    /// Ends the task when it is dropped.
    _task: watch::Sender<()>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    folder: Folder,
    mode: TreeMode,
    error: Mutex<Option<String>>,
    /// Whether edits were looked at since this process opened the store.
    adopted: AtomicBool,
    /// Files are left alone until somebody asks for edits to be adopted.
    waits: AtomicBool,
    /// Whether the last round was written.
    ended: AtomicBool,
}

impl Tree {
    /// Opens the tree of a store's namespace: adopts what was edited by hand, if asked to, and begins to follow the store.
    ///
    /// What fails is no reason not to open the store: see [`TreeStatus::error`].
    pub(crate) async fn open(store: Store, place: PathBuf, mode: TreeMode, adopt: bool) -> Self {
        let folder = Folder::new(place.join("tree").join(store.namespace().as_str()));
        let inner = Arc::new(Inner {
            store,
            folder,
            mode,
            error: Mutex::default(),
            adopted: AtomicBool::new(false),
            waits: AtomicBool::new(!adopt),
            ended: AtomicBool::new(false),
        });
        let at_open = if adopt { inner.at_open().await } else { Vec::new() };
        let (task, gone) = watch::channel(());
        tokio::spawn(follow(Arc::clone(&inner), gone));
        Self { inner, at_open, _task: task }
    }

    /// What was found changed when the store was opened.
    pub fn at_open(&self) -> &[Adoption] {
        &self.at_open
    }

    /// Adopts every file that was changed by hand. In a dry run nothing is changed, neither in the store nor in files.
    ///
    /// Each edit is one commit of its domain. What cannot be adopted is kept under `conflicts/`, and told.
    ///
    /// # Errors
    /// `Unavailable` when another process writes the tree for a long time, or files cannot be written.
    pub async fn adopt(&self, dry_run: bool) -> Result<Vec<Adoption>> {
        let touch = if dry_run { Touch::Nothing } else { Touch::Files };
        let mut desk = self.inner.desk(PATIENCE, touch).await?.ok_or_else(busy)?;
        self.inner.adopt(&mut desk, dry_run).await
    }

    /// What [`Tree::adopt`] would find now; nothing is changed. `None` while another process writes the tree.
    ///
    /// # Errors
    /// As [`Tree::adopt`].
    pub async fn edited(&self) -> Result<Option<Vec<Adoption>>> {
        match self.inner.desk(Duration::ZERO, Touch::Nothing).await? {
            Some(mut desk) => self.inner.adopt(&mut desk, true).await.map(Some),
            None => Ok(None),
        }
    }

    /// Writes everything committed so far.
    ///
    /// # Errors
    /// As [`Tree::adopt`].
    pub async fn finish(&self) -> Result<()> {
        let head = self.inner.store.head().await?;
        if self.inner.manifest()?.is_some_and(|m| m.position >= Some(head)) {
            return Ok(());
        }
        let mut desk = self.inner.desk(PATIENCE, Touch::Files).await?.ok_or_else(busy)?;
        Round { store: &self.inner.store, desk: &mut desk }.write().await
    }

    /// Writes what is missing before the store is closed; as [`Tree::finish`], but once, and what fails is told in the
    /// log and by [`Tree::status`].
    pub async fn end(&self) {
        if self.inner.waits.load(Ordering::SeqCst) || self.inner.ended.swap(true, Ordering::SeqCst) {
            return;
        }
        let result = self.finish().await;
        self.inner.noted(result);
    }

    /// How far it has come.
    ///
    /// # Errors
    /// What the store fails with; `Unavailable` when the manifest cannot be read.
    pub async fn status(&self) -> Result<TreeStatus> {
        let head = self.inner.store.head().await?;
        let manifest = self.inner.manifest()?.unwrap_or_default();
        Ok(TreeStatus {
            folder: self.inner.folder.root().display().to_string(),
            everything: manifest.everything,
            files: manifest.files.len(),
            position: manifest.position,
            behind: head.0.saturating_sub(manifest.position.unwrap_or_default().0),
            error: self.inner.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        })
    }
}

fn busy() -> Error {
    Error::unavailable("another process writes the readable tree").with_next("try again when it is done")
}

impl Inner {
    fn manifest(&self) -> Result<Option<Manifest>> {
        Ok(Manifest::load(&self.folder)?.filter(|m| m.store_id == self.store.store_id()))
    }

    /// Takes the lock, and what is needed to write; `None` when another process has it all the time.
    async fn desk(&self, patience: Duration, touch: Touch) -> Result<Option<Desk>> {
        let begin = tokio::time::Instant::now();
        loop {
            let (folder, store_id, mode) = (self.folder.clone(), self.store.store_id().to_owned(), self.mode);
            let now = self.store.now();
            let taken = tokio::task::spawn_blocking(move || take(folder, &store_id, mode, now, touch)).await;
            let taken = taken.unwrap_or_else(|e| Err(Error::unavailable("the tree's thread went away").with_source(e)))?;
            if taken.is_some() || begin.elapsed() >= patience {
                return Ok(taken.map(Desk::new));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Brings the files up to date, then adopts what was changed.
    async fn adopt(&self, desk: &mut Desk, dry_run: bool) -> Result<Vec<Adoption>> {
        if !dry_run {
            Round { store: &self.store, desk }.write().await?;
        }
        let edits = Adopting { store: &self.store, desk, dry_run }.all().await?;
        let mut told = desk.run(|pen| Ok(std::mem::take(&mut pen.found))).await?;
        told.extend(edits);
        if !dry_run {
            self.waits.store(false, Ordering::SeqCst);
            self.adopted.store(true, Ordering::SeqCst);
            Round { store: &self.store, desk }.write().await?;
        }
        Ok(told)
    }

    /// Adopts at once, unless another process is at it or there is a great deal to write first.
    async fn at_open(&self) -> Vec<Adoption> {
        let found = async {
            let first = self.mode == TreeMode::Everything && !self.manifest()?.is_some_and(|m| m.everything);
            let desk = if first { None } else { self.desk(Duration::ZERO, Touch::Files).await? };
            match desk {
                Some(mut desk) => self.adopt(&mut desk, false).await,
                None => Ok(Vec::new()),
            }
        };
        self.noted(found.await).unwrap_or_default()
    }

    /// One round in passing. What was found on the way is in the log and under `conflicts/`.
    async fn round(&self) -> Result<()> {
        if self.waits.load(Ordering::SeqCst) {
            return Ok(());
        }
        let head = self.store.head().await?;
        let adopted = self.adopted.load(Ordering::SeqCst);
        if adopted && self.manifest()?.is_some_and(|m| m.position >= Some(head) && !m.narrower_than(self.mode)) {
            return Ok(());
        }
        let Some(mut desk) = self.desk(Duration::ZERO, Touch::Files).await? else { return Ok(()) };
        if !adopted {
            let told = self.adopt(&mut desk, false).await?;
            told.iter().for_each(log);
            return Ok(());
        }
        Round { store: &self.store, desk: &mut desk }.write().await?;
        desk.pen()?.found.iter().for_each(log);
        Ok(())
    }

    fn noted<T>(&self, result: Result<T>) -> Option<T> {
        let (value, error) = match result {
            Ok(value) => (Some(value), None),
            Err(error) => {
                tracing::warn!(%error, folder = %self.folder.root().display(), "the readable tree could not be written");
                (None, Some(error.to_string()))
            }
        };
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        value
    }
}

fn log(found: &Adoption) {
    tracing::warn!(file = found.file, fate = ?found.fate, kept = found.kept, "{}", found.detail);
}

impl Manifest {
    fn narrower_than(&self, mode: TreeMode) -> bool {
        mode == TreeMode::Everything && !self.everything
    }
}

/// Whether files may be touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touch {
    Files,
    Nothing,
}

/// Takes the lock and reads the manifest; makes the folder if need be.
fn take(folder: Folder, store_id: &str, mode: TreeMode, now: millpond_core::Timestamp, touch: Touch) -> Result<Option<Pen>> {
    folder.prepare()?;
    let Some(lock) = folder.lock()? else { return Ok(None) };
    let found = Manifest::load(&folder)?;
    let mut told = Vec::new();
    let mut manifest = match found {
        Some(found) if found.store_id == store_id => found,
        other => {
            if touch == Touch::Files
                && let Some(place) = other.map(|m| folder.set_aside(&m.store_id)).transpose()?.flatten()
            {
                told.push(Adoption::of(".", Fate::Kept, "these files are of another store").kept_at(&place));
            }
            Manifest::new(store_id, false)
        }
    };
    let everything = match mode {
        TreeMode::Everything => true,
        TreeMode::Definitions => false,
        TreeMode::Unchanged | TreeMode::Off => manifest.everything,
    };
    if everything != manifest.everything {
        // Another kind of tree is written as a whole.
        (manifest.everything, manifest.position) = (everything, None);
    }
    let mut pen = Pen { folder, manifest, found: told, now, _lock: lock };
    if touch == Touch::Files {
        pen.clean()?;
    }
    Ok(Some(pen))
}

/// Follows the store until the tree is dropped.
async fn follow(inner: Arc<Inner>, mut gone: watch::Receiver<()>) {
    let mut pause = GATHER;
    loop {
        tokio::select! {
            _ = gone.changed() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if inner.ended.load(Ordering::SeqCst) {
            return;
        }
        let begin = tokio::time::Instant::now();
        let result = inner.round().await;
        inner.noted(result);
        pause = GATHER.max(begin.elapsed() * PAUSE);
    }
}

/// So many things, in words.
fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The same for synchronous callers.
pub mod blocking {
    use millpond_core::Result;

    use super::{Adoption, TreeStatus};
    use crate::bridge::Bridge;

    /// The readable tree, for synchronous callers.
    #[derive(Debug, Clone)]
    pub struct Tree {
        tree: std::sync::Arc<super::Tree>,
        bridge: Bridge,
    }

    impl Tree {
        pub(crate) fn new(tree: std::sync::Arc<super::Tree>, bridge: Bridge) -> Self {
            Self { tree, bridge }
        }

        /// Waits for [`super::Tree::adopt`].
        ///
        /// # Errors
        /// As there; `Invalid` when called inside an async runtime.
        pub fn adopt(&self, dry_run: bool) -> Result<Vec<Adoption>> {
            self.bridge.run(self.tree.adopt(dry_run))
        }

        /// Waits for [`super::Tree::edited`].
        ///
        /// # Errors
        /// As there; `Invalid` when called inside an async runtime.
        pub fn edited(&self) -> Result<Option<Vec<Adoption>>> {
            self.bridge.run(self.tree.edited())
        }

        /// Waits for [`super::Tree::finish`].
        ///
        /// # Errors
        /// As there; `Invalid` when called inside an async runtime.
        pub fn finish(&self) -> Result<()> {
            self.bridge.run(self.tree.finish())
        }

        /// Waits for [`super::Tree::status`].
        ///
        /// # Errors
        /// As there; `Invalid` when called inside an async runtime.
        pub fn status(&self) -> Result<TreeStatus> {
            self.bridge.run(self.tree.status())
        }

        /// As [`super::Tree::at_open`].
        pub fn at_open(&self) -> &[Adoption] {
            self.tree.at_open()
        }
    }
}
