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
use super::space::{Setting, Space, closed};
use super::stats::Counters;
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
        Ok(Self {
            register: Register::new(journal, Arc::clone(&options.host), patience(&options)),
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
        self.counters.read()
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
        if let Some(space) = self.bound(namespace) {
            return Ok(space);
        }
        let named = self.register.find(namespace).await?.ok_or_else(|| missing(namespace))?;
        namespace.check_is(&named.store_id)?;
        self.space(&named).await
    }

    /// As [`Spaces::of`], with everything acknowledged so far in its replica.
    pub(crate) async fn fresh(&self, namespace: &Namespace) -> Result<Arc<Space>> {
        let space = self.of(namespace).await?;
        space.freshen().await.map_err(|e| gone(e, namespace))?;
        Ok(space)
    }

    /// A namespace by name, if it exists.
    pub(crate) async fn find(&self, namespace: &Namespace) -> Result<Option<(Named, NamespaceInfo)>> {
        let Some(named) = self.register.find(namespace).await? else { return Ok(None) };
        Ok(self.info(&named).await?.map(|info| (named, info)))
    }

    /// What is known about a registered namespace. One whose deletion was begun and not finished is finished here.
    pub(crate) async fn info(&self, named: &Named) -> Result<Option<NamespaceInfo>> {
        let found = match self.space(named).await?.info().await {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            other => other?,
        };
        if found.is_none() {
            self.register.remove(named).await?;
            self.forget(named).await?;
        }
        Ok(found)
    }

    /// Takes the name of a deleted namespace back, and then its journal away.
    pub(crate) async fn finish_deletion(&self, namespace: &Namespace, store_id: &str) -> Result<()> {
        let Some(named) = self.register.find(namespace).await?.filter(|n| n.store_id == store_id) else { return Ok(()) };
        self.register.remove(&named).await?;
        self.forget(&named).await
    }

    /// Removes a journal that nobody looks at any more.
    pub(crate) async fn forget(&self, named: &Named) -> Result<()> {
        let cell = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&named.store_id);
        if let Some(space) = cell.as_ref().and_then(|c| c.get()) {
            space.close().await?;
        }
        let (place, name) = (Arc::clone(&self.place), journal_name(named));
        self.io.run(async move { place.remove(&name).await }).await
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

/// A journal that was removed is a namespace that was deleted.
fn gone(error: Error, namespace: &Namespace) -> Error {
    if error.kind() == ErrorKind::NotFound { missing(namespace) } else { error }
}

fn user_cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let folder = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    folder.map(|f| f.join("millpond")).ok_or_else(|| {
        Error::invalid("neither XDG_CACHE_HOME nor HOME is set, so there is no place for the replica")
            .with_next("name a folder with cache=FOLDER")
    })
}
