//! The namespaces this process has open, and how one is found.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millpond_core::{Error, ErrorKind, Examination, Host, Namespace, NamespaceInfo, Probing, Result};
use tokio::sync::OnceCell;

use super::append::Patience;
use super::guarded::guarded;
use super::io::Io;
use super::register::{self, Register};
use super::remembered::Remembered;
use super::space::{Setting, Space, closed};
use super::stats::Counters;
use super::writer::Operation;
use super::{JournalOptions, JournalStats};
use crate::entry::Named;
use crate::journal::{Journals, PlaceInfo};

/// See the module.
#[derive(Debug)]
pub(crate) struct Spaces {
    place: Arc<dyn Journals>,
    register: Register,
    /// By store id.
    open: Mutex<HashMap<String, Arc<OnceCell<Arc<Space>>>>>,
    closed: AtomicBool,
    options: JournalOptions,
    cache: PathBuf,
    counters: Arc<Counters>,
    io: Arc<Io>,
}

fn missing(namespace: &Namespace) -> Error {
    Error::not_found(format!("namespace {:?} does not exist", namespace.as_str()))
}

fn patience(options: &JournalOptions) -> Patience {
    Patience::new(options.patience, &options.calls, Arc::clone(&options.host))
}

/// The error of a namespace that is registered, and whose journal is empty or gone. That is no deletion: one is an entry
/// of the journal, and the journal goes only after the name was taken out of the register.
fn vanished(named: &Named) -> Error {
    let (name, journal) = (&named.name, journal_name(named));
    Error::corrupt(format!("the journal of namespace {name:?} lost history: {journal} is registered, and holds nothing"))
        .with("namespace", name)
        .with("journal", journal)
        .with_next("restore that journal from a copy of the place; nothing was removed, and nothing is made anew until then")
}

/// The name of a namespace's journal.
fn journal_name(named: &Named) -> String {
    format!("{}.{}", named.name, named.store_id)
}

impl Spaces {
    pub(crate) async fn open(
        place: impl Future<Output = Result<Arc<dyn Journals>>> + Send + 'static,
        options: JournalOptions,
    ) -> Result<Self> {
        let io = Arc::new(Io::start()?);
        let calls = options.calls;
        let opening = async move {
            let place = guarded(place.await?, &calls);
            let journal = place.open(register::NAME).await?;
            Ok((place, journal))
        };
        let (place, journal) = io.run(opening).await?;
        let cache = match (&options.cache, place.cache()) {
            (Some(folder), _) => folder.clone(),
            (None, Some(folder)) => folder.to_owned(),
            (None, None) => user_cache()?,
        };
        let remembered = Remembered::new(&cache, &place.info());
        Ok(Self {
            register: Register::new(journal, Arc::clone(&options.host), patience(&options), remembered),
            place,
            open: Mutex::default(),
            closed: AtomicBool::new(false),
            options,
            cache,
            counters: Arc::default(),
            io,
        })
    }

    pub(crate) fn place(&self) -> PlaceInfo {
        self.place.info()
    }

    pub(crate) async fn examine(&self, probing: Probing) -> Result<Examination> {
        self.place.examine(probing).await
    }

    pub(crate) fn host(&self) -> Arc<dyn Host> {
        Arc::clone(&self.options.host)
    }

    pub(crate) fn stats(&self) -> JournalStats {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        self.counters.read(open.values().filter(|cell| cell.initialized()).count() as u64)
    }

    pub(crate) fn register(&self) -> &Register {
        &self.register
    }

    /// The space of a namespace, opened if need be.
    pub(crate) async fn space(&self, named: &Named) -> Result<Arc<Space>> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(closed());
        }
        let cell = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(open.entry(named.store_id.clone()).or_default())
        };
        cell.get_or_try_init(|| self.open_space(named)).await.cloned()
    }

    async fn open_space(&self, named: &Named) -> Result<Arc<Space>> {
        let (place, name) = (Arc::clone(&self.place), journal_name(named));
        let journal = self.io.run(async move { place.open(&name).await }).await?;
        let namespace = Namespace::from_store(named.name.as_str()).bound(&named.store_id);
        let with = Setting {
            host: self.host(),
            io: self.io.handle()?,
            alive: Arc::clone(&self.io),
            patience: patience(&self.options),
            counters: Arc::clone(&self.counters),
            snapshot_bytes: self.options.snapshot_bytes,
        };
        let (cache, store_id) = (self.cache.clone(), named.store_id.clone());
        let opened = tokio::task::spawn_blocking(move || Space::open(namespace, &store_id, journal, &cache, with)).await;
        opened.unwrap_or_else(|e| Err(Error::unavailable("opening the replica panicked").with_source(e))).map(Arc::new)
    }

    /// The open space of a namespace that is bound to its store id: needs no look at the register, because its own
    /// journal says when it is deleted.
    fn bound(&self, namespace: &Namespace) -> Option<Arc<Space>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let space = open.get(namespace.store_id()?)?.get()?;
        (space.namespace().as_str() == namespace.as_str()).then(|| Arc::clone(space))
    }

    /// The space of a namespace that has to exist. It may have been deleted since: its journal says so.
    pub(crate) async fn of(&self, namespace: &Namespace) -> Result<Arc<Space>> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(closed());
        }
        let space = match self.bound(namespace) {
            Some(space) => space,
            None => {
                let named = self.register.find(namespace).await?.ok_or_else(|| missing(namespace))?;
                namespace.check_is(&named.store_id)?;
                self.space(&named).await?
            }
        };
        space.stay();
        Ok(space)
    }

    /// Runs an operation on a namespace that has to exist.
    pub(crate) async fn write<O>(&self, namespace: &Namespace, operation: O) -> Result<O::Output>
    where
        O: Operation + Send + 'static,
        O::Output: Send + 'static,
    {
        let space = self.of(namespace).await?;
        match space.write(operation).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.why_missing(&space).await),
            written => written,
        }
    }

    /// As [`Spaces::of`], with everything acknowledged so far in its replica.
    pub(crate) async fn fresh(&self, namespace: &Namespace) -> Result<Arc<Space>> {
        let space = self.of(namespace).await?;
        match space.freshen().await {
            Ok(()) if !space.is_empty() => Ok(space),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Err(self.why_missing(&space).await),
        }
    }

    /// Checks a namespace that has to exist.
    pub(crate) async fn check(&self, namespace: &Namespace) -> Result<Vec<String>> {
        let space = self.of(namespace).await?;
        match space.check().await {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.why_missing(&space).await),
            checked => checked,
        }
    }

    /// Why there is nothing of a namespace that was registered a moment ago: it was deleted, or lost.
    async fn why_missing(&self, space: &Space) -> Error {
        let namespace = space.namespace();
        match space.saw_deletion().await {
            Ok(false) => {}
            Ok(true) => return missing(namespace),
            Err(error) => return error,
        }
        // Unbound: who has the name now may be another.
        match self.register.find(namespace).await {
            Ok(Some(named)) if namespace.store_id() == Some(&named.store_id) => vanished(&named),
            Ok(_) => missing(namespace),
            Err(error) => error,
        }
    }

    /// A namespace by name, if it exists.
    pub(crate) async fn find(&self, namespace: &Namespace) -> Result<Option<(Named, NamespaceInfo)>> {
        let Some(named) = self.register.find(namespace).await? else { return Ok(None) };
        self.space(&named).await?.stay();
        Ok(self.info(&named).await?.map(|info| (named, info)))
    }

    /// What is known about a registered namespace. One whose deletion was begun and not finished is finished here.
    ///
    /// # Errors
    /// `Corrupt` when it is registered and its journal is empty or gone; nothing is removed then.
    pub(crate) async fn info(&self, named: &Named) -> Result<Option<NamespaceInfo>> {
        let space = self.space(named).await?;
        match space.info().await {
            Ok(Some(info)) => return Ok(Some(info)),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if space.saw_deletion().await? {
            self.register.remove(named).await?;
            self.forget(named).await?;
            return Ok(None);
        }
        match self.why_missing(&space).await {
            // Somebody deleted it since the register was read.
            error if error.kind() == ErrorKind::NotFound => self.drop_space(named).await.map(|()| None),
            error => Err(error),
        }
    }

    /// Takes the name of a deleted namespace back, and then its journal away.
    pub(crate) async fn finish_deletion(&self, namespace: &Namespace, store_id: &str) -> Result<()> {
        let Some(named) = self.register.find(namespace).await?.filter(|n| n.store_id == store_id) else { return Ok(()) };
        self.register.remove(&named).await?;
        self.forget(&named).await
    }

    /// Removes a journal that nobody looks at any more.
    pub(crate) async fn forget(&self, named: &Named) -> Result<()> {
        self.drop_space(named).await?;
        let (place, name) = (Arc::clone(&self.place), journal_name(named));
        self.io.run(async move { place.remove(&name).await }).await
    }

    /// Closes the space of a namespace that does not exist any more.
    async fn drop_space(&self, named: &Named) -> Result<()> {
        let cell = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&named.store_id);
        match cell.as_ref().and_then(|c| c.get()) {
            Some(space) => space.close().await,
            None => Ok(()),
        }
    }

    /// Closes the space of a namespace that nobody works with, and nobody is looking at now.
    pub(crate) async fn close_if_unused(&self, named: &Named) -> Result<()> {
        let cell = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever is about to use it has the cell, or the space; both are given out under this lock.
            let unused = open.get(&named.store_id).is_some_and(|cell| {
                Arc::strong_count(cell) == 1 && cell.get().is_some_and(|s| Arc::strong_count(s) == 1 && !s.stays())
            });
            if unused { open.remove(&named.store_id) } else { None }
        };
        match cell.as_ref().and_then(|c| c.get()) {
            Some(space) => space.close().await,
            None => Ok(()),
        }
    }

    pub(crate) async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::SeqCst);
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        for cell in open.into_values() {
            if let Some(space) = cell.get() {
                space.close().await?;
            }
        }
        Ok(())
    }
}

fn user_cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let folder = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    folder.map(|f| f.join("millpond")).ok_or_else(|| {
        Error::invalid("neither XDG_CACHE_HOME nor HOME is set, so there is no place for the replica")
            .with_next("name a folder with cache=FOLDER")
    })
}
