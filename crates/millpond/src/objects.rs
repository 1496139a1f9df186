//! Where a pond's bytes are: found out when they are first needed, and compared with what the namespace remembers.

use std::sync::Arc;

use millpond_core::{
    Collection, Document, Error, ErrorKind, Expectation, Expected, Key, Outcome, Records, Result, Store, Versioned,
};
use millpond_objects::Objects;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

/// What a namespace remembers of the place of its bytes, so that a process that looks elsewhere is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectsPlace {
    /// The place, without secrets; `beside` for the folder that belongs to the store itself, wherever that is moved.
    pub place: String,
}

/// The place of a store that has one of its own, wherever that is moved.
const BESIDE: &str = "beside";

impl ObjectsPlace {
    const KEY: &'static str = "place";
}

impl Document for ObjectsPlace {
    const COLLECTION: Collection = Collection::new("objects_place").version(1).owned();

    fn key(&self) -> Result<Key> {
        Key::new(Self::KEY)
    }
}

/// How the place is known.
#[derive(Debug, Clone)]
enum Source {
    /// It is open.
    Given(Arc<dyn Objects>),
    /// By its URL, and whether it is the store's own.
    At { url: String, own: bool },
    /// Nobody said one, and the store, if it has a URL at all, has none of its own.
    Nowhere { store: Option<String> },
}

/// The place of a pond's bytes. Clones share what was opened.
#[derive(Debug, Clone)]
pub(crate) struct ObjectsHome {
    source: Source,
    open: Arc<OnceCell<Opened>>,
}

/// A place that is open.
#[derive(Debug)]
struct Opened {
    objects: Arc<dyn Objects>,
    /// The revision at which the namespace remembers it.
    revision: u64,
}

impl ObjectsHome {
    /// A place that is open.
    pub(crate) fn given(objects: Arc<dyn Objects>) -> Self {
        Self::from(Source::Given(objects))
    }

    /// None, of a pond that was not made from a URL.
    pub(crate) fn nowhere() -> Self {
        Self::from(Source::Nowhere { store: None })
    }

    fn from(source: Source) -> Self {
        Self { source, open: Arc::default() }
    }

    /// The place that somebody named, or that belongs to the store with this URL.
    pub(crate) fn of(named: Option<&str>, store: &str) -> Self {
        let own = || crate::open::objects_beside(store).map(|url| Source::At { url, own: true });
        let named = named.map(|url| Source::At { url: url.to_owned(), own: false });
        Self::from(named.or_else(own).unwrap_or_else(|| Source::Nowhere { store: Some(crate::without_password(store)) }))
    }

    /// The open place, compared with what the namespace remembers; remembered, if nobody wrote any bytes yet.
    ///
    /// # Errors
    /// `Unsupported` when no place was named; `Invalid` when the namespace's bytes are elsewhere.
    pub(crate) async fn get(&self, store: &Store) -> Result<Arc<dyn Objects>> {
        self.open.get_or_try_init(|| self.opened(store)).await.map(|opened| Arc::clone(&opened.objects))
    }

    /// What a commit expects that names bytes in the open place: that the namespace does not keep them elsewhere by now.
    pub(crate) fn unmoved(&self) -> Result<Option<Expectation>> {
        let id = Records::<ObjectsPlace>::id(ObjectsPlace::KEY)?;
        Ok(self.open.get().map(|opened| Expectation::Revision(id, opened.revision)))
    }

    async fn opened(&self, store: &Store) -> Result<Opened> {
        let (objects, place) = match &self.source {
            Source::Given(objects) => (Arc::clone(objects), objects.place().to_owned()),
            Source::At { url, own } => {
                let objects = millpond_objects::open(url, store.store_id(), &store.shared_host())?;
                let place = if *own { BESIDE.to_owned() } else { objects.place().to_owned() };
                (objects, place)
            }
            Source::Nowhere { store } => {
                let store = store.as_deref().unwrap_or("this store");
                let why = format!("nobody said where the bytes of artifacts go, and {store} has no place for them");
                return Err(Error::new(ErrorKind::Unsupported, why).with_next(
                    "name one: `domains: { artifacts: { objects: \"s3://BUCKET/PREFIX\" } }` in millpond.yaml, --objects, or \
                     OpenOptions::objects",
                ));
            }
        };
        let revision = self.agreed(store, &place).await?;
        Ok(Opened { objects, revision })
    }

    /// The revision at which the namespace remembers this place.
    async fn agreed(&self, store: &Store, place: &str) -> Result<u64> {
        for _ in 0..2 {
            if let Some(found) = known(store).await? {
                let known = found.value.place;
                if known == place {
                    return Ok(found.revision);
                }
                return Err(Error::invalid(format!("this namespace keeps its bytes in {known}, not in {place}"))
                    .with_next("name that place, or move the bytes and say so with: millpond artifacts place --moved"));
            }
            match self.remember(store, None, place).await {
                Err(error) if error.is_conflict() => {}
                remembered => return remembered,
            }
        }
        Err(Error::conflict("the place of the bytes was named by somebody else at the same time").with_next("try again"))
    }

    /// Where the namespace remembers its bytes to be.
    pub(crate) async fn remembered(&self, store: &Store) -> Result<Option<String>> {
        Ok(known(store).await?.map(|known| known.value.place))
    }

    /// Remembers where the bytes are, in the place of what was remembered before, and answers the revision of that. One
    /// commit point.
    ///
    /// # Errors
    /// `Conflict` when something else is remembered by now.
    pub(crate) async fn remember(&self, store: &Store, before: Option<&str>, place: &str) -> Result<u64> {
        let found = known(store).await?;
        let changed = || Error::conflict("the place of the bytes was named by somebody else at the same time");
        if found.as_ref().map(|found| found.value.place.as_str()) != before {
            return Err(changed().with_next("see where they are: millpond artifacts place"));
        }
        let id = Records::<ObjectsPlace>::id(ObjectsPlace::KEY)?;
        let expected = found.map_or_else(|| Expectation::Absent(id.clone()), |f| Expectation::Revision(id.clone(), f.revision));
        let write = Records::put(&ObjectsPlace { place: place.to_owned() })?;
        match store.try_commit(millpond_core::Commit::new().trusted().expect(expected).write(write)).await? {
            Outcome::Committed(receipt) => Ok(receipt.revisions.first().copied().unwrap_or_default()),
            Outcome::Conflict(_) => Err(changed().with_next("try again")),
        }
    }

    /// Another place, open and compared with nothing, and what a namespace would remember of it. `beside` is the store's
    /// own.
    ///
    /// # Errors
    /// `Invalid` when the URL is no place, or a store that has none of its own is asked for it.
    pub(crate) fn other(&self, store: &Store, url: &str) -> Result<(Arc<dyn Objects>, String)> {
        let own = match &self.source {
            Source::At { url, own: true } => Some(url.as_str()),
            _ => None,
        };
        let url = match (url, own) {
            (BESIDE, Some(own)) => own,
            (BESIDE, None) => {
                return Err(Error::invalid("the place that belongs to the store itself is not known")
                    .with_next("leave --objects and `objects:` out, if the store is in files or in an object store"));
            }
            (url, _) => url,
        };
        let objects = millpond_objects::open(url, store.store_id(), &store.shared_host())?;
        let place = if own == Some(url) { BESIDE.to_owned() } else { objects.place().to_owned() };
        Ok((objects, place))
    }
}

async fn known(store: &Store) -> Result<Option<Versioned<ObjectsPlace>>> {
    Records::<ObjectsPlace>::new(store.clone()).get(ObjectsPlace::KEY).await
}

/// Says what to do where a commit was refused because the bytes were moved.
pub(crate) fn explained(refused: Error) -> Error {
    let is_moved = refused.as_conflict().is_some_and(|conflict| {
        matches!(&conflict.expected, Expected::Stated(Expectation::Revision(id, _))
            if id.collection.as_str() == ObjectsPlace::COLLECTION.name())
    });
    if !is_moved {
        return refused;
    }
    refused.with_next("the bytes of this namespace were moved while this program ran: start it again, with the new place")
}
