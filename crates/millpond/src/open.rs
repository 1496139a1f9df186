//! Opening a place by its URL.

use std::path::PathBuf;
use std::sync::Arc;

use millpond_core::{Durability, Engine, Error, ErrorKind, Front, Host, Namespace, QueueLimits, Result, Store, SystemHost};

use crate::objects::ObjectsHome;
use crate::{Config, Pond};

/// How to open a place.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    namespace: Namespace,
    host: Arc<dyn Host>,
    queue: QueueLimits,
    create: bool,
    require: Option<Durability>,
    objects: Option<String>,
    #[cfg(feature = "file")]
    adopt: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            namespace: Namespace::default(),
            host: Arc::new(SystemHost),
            queue: QueueLimits::default(),
            create: true,
            require: None,
            objects: None,
            #[cfg(feature = "file")]
            adopt: true,
        }
    }
}

/// Opens the `default` namespace of a place: a path, `sqlite:PATH`, `memory:`, `file:DIR`, `nats://HOST` (or `tls:`),
/// `redis://HOST` (or `rediss:`), `s3://BUCKET/PREFIX` (also `minio://HOST:PORT/BUCKET/PREFIX`, `gs://BUCKET/PREFIX`,
/// `az://CONTAINER/PREFIX`), or `postgres://USER@HOST/DATABASE`.
///
/// A path without a scheme is a folder that holds a SQLite store; it is made if it does not exist.
///
/// # Errors
/// `Invalid` for an unknown scheme or parameter, `Unavailable` when the place cannot be opened.
pub async fn open(url: &str) -> Result<Pond> {
    OpenOptions::default().open(url).await
}

impl OpenOptions {
    /// The usual options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Which namespace; `default` if not said.
    #[must_use]
    pub fn namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = namespace;
        self
    }

    /// Another clock and randomness.
    #[must_use]
    pub fn host(mut self, host: Arc<dyn Host>) -> Self {
        self.host = host;
        self
    }

    /// Other limits of the commit queue.
    #[must_use]
    pub fn queue(mut self, queue: QueueLimits) -> Self {
        self.queue = queue;
        self
    }

    /// Whether a store that does not exist is made. If not, opening one is `NotFound`.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// What an acknowledged commit has to survive at least, by the store's live settings.
    #[must_use]
    pub fn require(mut self, durability: Durability) -> Self {
        self.require = Some(durability);
        self
    }

    /// Where the bytes of artifacts go: a folder, `s3://BUCKET/PREFIX` (also `minio:`, `gs:`, `az:`) or `memory:`. Stores in
    /// files and in object stores have a place of their own; for the others nothing can be written until one is named.
    #[must_use]
    pub fn objects(mut self, url: impl Into<String>) -> Self {
        self.objects = Some(url.into());
        self
    }

    /// Whether files of a readable tree that were edited by hand are adopted while opening; they are, if not said. If not,
    /// the files are left alone until [`crate::Tree::adopt`] is called.
    #[cfg(feature = "file")]
    #[must_use]
    pub fn adopt_edits(mut self, adopt: bool) -> Self {
        self.adopt = adopt;
        self
    }

    /// Opens the place.
    ///
    /// # Errors
    /// As [`open`]; `Unsupported` when it keeps less than was [required](OpenOptions::require).
    pub async fn open(self, url: &str) -> Result<Pond> {
        let pond = Pond::new(self.store_of(url).await?).await?.with_home(ObjectsHome::of(self.objects.as_deref(), url));
        self.beside(pond, &[url]).await
    }

    /// The pond with the readable trees of its stores, which have these URLs.
    #[cfg(feature = "file")]
    async fn beside(&self, pond: Pond, urls: &[&str]) -> Result<Pond> {
        let mut trees = Vec::with_capacity(urls.len());
        for (store, url) in pond.stores().iter().zip(urls) {
            trees.push(match crate::journals::tree(url)? {
                Some((folder, mode)) => Some(Arc::new(crate::Tree::open(store.clone(), folder, mode, self.adopt).await)),
                None => None,
            });
        }
        Ok(pond.with_trees(trees))
    }

    #[cfg(not(feature = "file"))]
    async fn beside(&self, pond: Pond, _: &[&str]) -> Result<Pond> {
        Ok(pond)
    }

    /// Opens every place of a configuration. Domains that resolve to one place share its engine. The configuration's
    /// namespace counts, and what it requires unless these options require something.
    ///
    /// # Errors
    /// As [`OpenOptions::open`], for any of the places.
    pub async fn open_config(mut self, config: &Config) -> Result<Pond> {
        self.namespace = config.namespace().clone();
        self.require = self.require.or(config.require());
        let places = config.others()?;
        let main = self.store_of(config.store()).await?;
        let mut urls = vec![config.store().to_owned()];
        let mut others = Vec::with_capacity(places.len());
        for (url, domains) in places {
            others.push((self.store_of(&url).await?, domains));
            urls.push(url);
        }
        let artifacts = others.iter().position(|(_, domains)| domains.contains(&crate::Domain::Artifacts)).map_or(0, |at| at + 1);
        let home = ObjectsHome::of(self.objects.as_deref().or(config.objects()), &urls[artifacts]);
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        self.beside(Pond::over(main, others).await?.with_home(home), &urls).await
    }

    pub(crate) async fn store_of(&self, url: &str) -> Result<Store> {
        let engine = self.engine(url).await?;
        Box::pin(self.clone().store(engine)).await
    }

    async fn store(self, engine: Arc<dyn Engine>) -> Result<Store> {
        let info = engine.info();
        if let Some(required) = self.require.filter(|required| info.durability < *required) {
            // Where the engine has words for what an answer means, they say more than the class does.
            let words = info.facts.iter().find(|(name, _)| *name == "acknowledged");
            let sentence = words.map_or_else(|| info.durability.sentence(), |(_, words)| words);
            return Err(crate::health::too_weak(info.durability, sentence, required));
        }
        Store::open(Arc::new(Front::with_limits(engine, self.queue)), self.namespace).await
    }

    /// Makes the tables of a place, those of every domain included, or brings them to this program's format. Where the
    /// backend has roles, one without the right to change tables can use the place afterwards. Safe to run while
    /// programs use it, and to run again.
    ///
    /// # Errors
    /// As [`open`].
    pub async fn migrate(&self, url: &str) -> Result<()> {
        match Place::parse(url)? {
            #[cfg(feature = "postgres")]
            Place::Postgres(url) => millpond_postgres::migrate(&url, &crate::pond::collections()?).await,
            // Opening one of these is enough: their tables belong to whoever may write the file.
            _ => self.engine(url).await?.close().await,
        }
    }

    /// Opens an engine that is there already.
    ///
    /// # Errors
    /// `NotFound` when the namespace does not exist.
    pub async fn open_engine(self, engine: Arc<dyn Engine>) -> Result<Pond> {
        Pond::new(self.store(engine).await?).await
    }

    /// The engine of a place, without opening a namespace.
    ///
    /// # Errors
    /// As [`open`].
    pub async fn engine(&self, url: &str) -> Result<Arc<dyn Engine>> {
        // In a box: every driver's own futures lie inside, deeper than a compiler likes to look into those of callers.
        Box::pin(self.engine_at(url)).await
    }

    async fn engine_at(&self, url: &str) -> Result<Arc<dyn Engine>> {
        #[cfg(feature = "journal")]
        if let Some(engine) = Box::pin(crate::journals::open(url, Arc::clone(&self.host), self.create)).await? {
            return Ok(engine);
        }
        match Place::parse(url)? {
            #[cfg(feature = "sqlite")]
            Place::Sqlite(path) => {
                let options = millpond_sqlite::SqliteOptions { host: Arc::clone(&self.host), create: self.create };
                Ok(Arc::new(millpond_sqlite::SqliteEngine::open(path, options).await?))
            }
            #[cfg(feature = "sqlite")]
            Place::Memory => {
                let options = millpond_sqlite::SqliteOptions { host: Arc::clone(&self.host), create: true };
                Ok(Arc::new(millpond_sqlite::SqliteEngine::memory(options).await?))
            }
            #[cfg(feature = "postgres")]
            Place::Postgres(url) => {
                let options = millpond_postgres::PostgresOptions { host: Arc::clone(&self.host), create: self.create };
                Ok(Arc::new(Box::pin(millpond_postgres::PostgresEngine::open(&url, options)).await?))
            }
            #[cfg(not(feature = "sqlite"))]
            Place::Sqlite(_) | Place::Memory => Err(left_out("sqlite")),
            #[cfg(not(feature = "postgres"))]
            Place::Postgres(_) => Err(left_out("postgres")),
        }
    }
}

/// What a place can be, for whoever wrote something else.
const PLACES: &str = "use a folder, sqlite:FILE, memory:, file:DIR, nats://HOST, redis://HOST, s3://BUCKET/PREFIX (or minio:, \
                      gs:, az:) or postgres://USER@HOST/DATABASE";

fn left_out(feature: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("this program was built without its {feature} backend"))
        .with_next(format!("build it with the feature `{feature}`"))
}

/// A place a URL names.
#[derive(Clone, PartialEq, Eq)]
enum Place {
    Sqlite(PathBuf),
    Memory,
    /// The URL whole. It may hold a password.
    Postgres(String),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "Sqlite({})", path.display()),
            Self::Memory => f.write_str("Memory"),
            Self::Postgres(_) => f.write_str("Postgres"),
        }
    }
}

/// The store's file inside a folder.
pub(crate) const FOLDER_FILE: &str = "millpond.db";

/// Where the bytes of a store go that has a place for them: beside it. `None` for servers.
pub(crate) fn objects_beside(url: &str) -> Option<String> {
    #[cfg(feature = "journal")]
    if let Some(place) = crate::journals::objects_beside(url) {
        return place;
    }
    match Place::parse(url).ok()? {
        Place::Memory => Some("memory:".to_owned()),
        Place::Sqlite(path) if path.file_name().is_some_and(|name| name == FOLDER_FILE) => {
            Some(format!("file:{}", path.with_file_name("objects").display()))
        }
        Place::Sqlite(path) => Some(format!("file:{}", path.with_extension("objects").display())),
        Place::Postgres(_) => None,
    }
}

impl Place {
    fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = match url.split_once(':') {
            // One letter before a colon is a drive, not a scheme.
            Some((scheme, rest)) if scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+') => {
                (scheme, rest)
            }
            _ => ("", url),
        };
        // Its parameters are read, and refused, by the backend itself.
        if matches!(scheme, "postgres" | "postgresql") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        if let Some((_, parameters)) = rest.split_once('?')
            && matches!(scheme, "sqlite" | "memory")
        {
            return Err(Error::invalid(format!("{url:?}: unknown parameter {parameters:?}"))
                .with_next(format!("{scheme}: takes no parameters")));
        }
        match scheme {
            "" if rest.is_empty() => {
                Err(Error::invalid("the store's place is empty").with_next("give a folder, sqlite:FILE or memory:"))
            }
            "" => Ok(Self::Sqlite(PathBuf::from(rest).join(FOLDER_FILE))),
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() {
                    return Err(Error::invalid(format!("{url:?} names no file")).with_next("write sqlite:./millpond.db"));
                }
                Ok(Self::Sqlite(PathBuf::from(path)))
            }
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "memory" => Err(Error::invalid(format!("{url:?}: memory: takes nothing after the colon"))),
            // `journals.rs` took them where they are built in.
            "file" => Err(left_out("file")),
            "s3" | "minio" | "gs" | "az" | "object-file" => Err(left_out("object")),
            "nats" | "tls" => Err(left_out("nats")),
            "redis" | "rediss" => Err(left_out("redis")),
            "http" | "https" => {
                Err(Error::new(ErrorKind::Unsupported, format!("{scheme}: stores are not part of this version"))
                    .with_next(PLACES))
            }
            other => Err(Error::invalid(format!("there is no scheme {other:?}")).with_next(PLACES)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        assert_eq!(Place::parse("./x").expect("folder"), Place::Sqlite("./x/millpond.db".into()));
        assert_eq!(Place::parse("sqlite:./a.db").expect("file"), Place::Sqlite("./a.db".into()));
        assert_eq!(Place::parse("sqlite:///a.db").expect("file"), Place::Sqlite("/a.db".into()));
        assert_eq!(Place::parse("memory:").expect("memory"), Place::Memory);
        for bad in ["", "sqlite:", "memory:x", "sqlite:a.db?x=1", "foo:bar"] {
            assert_eq!(Place::parse(bad).expect_err(bad).kind(), ErrorKind::Invalid, "{bad}");
        }
        assert_eq!(Place::parse("nats://x").expect_err("left out").kind(), ErrorKind::Unsupported);
        let secret = Place::parse("postgres://u:s3cret@x/y?pool=4").expect("a server");
        assert!(!format!("{secret:?}").contains("s3cret"));
    }
}
