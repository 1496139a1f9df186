//! Stores on journals by their URL: `file:DIR`, `nats://HOST`, `redis://HOST`, `s3://BUCKET/PREFIX` and the other object
//! stores.
//!
//! Every one of them takes `cache=FOLDER`, where this machine keeps its replica. A further driver is one scheme in
//! [`driver`] and one arm in [`open_place`].

use std::path::PathBuf;
use std::sync::Arc;

#[cfg(feature = "file")]
use millpond_core::unknown_parameter;
use millpond_core::{CallPolicy, Engine, Error, Host, Result};
use millpond_journal::{JournalEngine, JournalOptions, Journals};

#[cfg(feature = "file")]
use crate::TreeMode;

/// Which driver a URL is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    #[cfg(feature = "file")]
    File,
    #[cfg(feature = "nats")]
    Nats,
    #[cfg(feature = "object")]
    Object,
    #[cfg(feature = "redis")]
    Redis,
}

impl Driver {
    /// How a server is called if the URL does not say; `None` where there is none.
    fn calls(self) -> Option<CallPolicy> {
        match self {
            #[cfg(feature = "file")]
            Self::File => None,
            #[cfg(feature = "nats")]
            Self::Nats => Some(millpond_journal::drivers::nats::NatsJournals::CALLS),
            #[cfg(feature = "object")]
            Self::Object => Some(millpond_journal::drivers::object::ObjectJournals::CALLS),
            #[cfg(feature = "redis")]
            Self::Redis => Some(millpond_journal::drivers::redis::RedisJournals::CALLS),
        }
    }
}

/// The driver of a URL's scheme; `None` when it is of another kind of store, or of a driver that was left out.
fn driver(url: &str) -> Option<Driver> {
    match url.split_once(':')?.0 {
        #[cfg(feature = "file")]
        "file" => Some(Driver::File),
        #[cfg(feature = "nats")]
        "nats" | "tls" => Some(Driver::Nats),
        #[cfg(feature = "object")]
        "s3" | "minio" | "gs" | "az" | "object-file" => Some(Driver::Object),
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Some(Driver::Redis),
        _ => None,
    }
}

/// Opens the place of a URL, on the engine's own thread.
// Files pace nothing by themselves, so a build with files alone has no use for the host.
#[cfg_attr(not(any(feature = "nats", feature = "object", feature = "redis")), allow(unused_variables))]
async fn open_place(driver: Driver, url: String, create: bool, host: Arc<dyn Host>) -> Result<Arc<dyn Journals>> {
    match driver {
        #[cfg(feature = "file")]
        Driver::File => {
            use millpond_journal::drivers::file::{FileJournals, FileOptions};
            let FilePlace { folder, network, .. } = FilePlace::parse(&url)?;
            Ok(Arc::new(FileJournals::open(folder, FileOptions { create, network, ..FileOptions::default() })?))
        }
        #[cfg(feature = "nats")]
        Driver::Nats => {
            use millpond_journal::drivers::nats::{NatsJournals, NatsOptions};
            Ok(Arc::new(NatsJournals::open(NatsOptions { create, host, ..NatsOptions::parse(&url)? }).await?))
        }
        #[cfg(feature = "object")]
        Driver::Object => {
            use millpond_journal::drivers::object::{ObjectJournals, ObjectOptions, ObjectPlace};
            let folder = url.strip_prefix("object-file:").map(|rest| rest.split('?').next().unwrap_or_default());
            // Reading its URL makes the folder.
            if let Some(folder) = folder.filter(|folder| !create && !std::path::Path::new(folder).exists()) {
                return Err(Error::not_found(format!("there is no store at object-file:{folder}")));
            }
            let place = ObjectPlace::parse(&url)?.ok_or_else(|| Error::invalid("this is no object store's URL"))?;
            Ok(Arc::new(ObjectJournals::open(place, ObjectOptions { create, host, ..ObjectOptions::default() }).await?))
        }
        #[cfg(feature = "redis")]
        Driver::Redis => {
            use millpond_journal::drivers::redis::{RedisJournals, RedisOptions};
            Ok(Arc::new(RedisJournals::open(&url, RedisOptions { create, host, ..RedisOptions::default() }).await?))
        }
    }
}

/// Opens the engine of a URL; `None` when it is of another kind of store.
pub(crate) async fn open(url: &str, host: Arc<dyn Host>, create: bool) -> Result<Option<Arc<dyn Engine>>> {
    let Some(driver) = driver(url) else { return Ok(None) };
    let (url, cache) = take_cache(url)?;
    let mut options = JournalOptions { host: Arc::clone(&host), cache, ..JournalOptions::default() };
    if let Some(usual) = driver.calls() {
        options.calls = CallPolicy::of_url(&url, usual)?.1;
        // What an append that was not answered became is worked on for as long again.
        options.patience = options.calls.timeout * 2;
    }
    let engine = JournalEngine::connect(open_place(driver, url, create, host), options).await?;
    Ok(Some(Arc::new(engine)))
}

/// Where the bytes of a store on a journal go: `None` when it is of another kind of store, `Some(None)` when it has no
/// place of its own.
#[cfg_attr(not(any(feature = "file", feature = "object")), allow(unreachable_patterns))]
pub(crate) fn objects_beside(url: &str) -> Option<Option<String>> {
    let driver = driver(url)?;
    let (url, _) = take_cache(url).ok()?;
    Some(match driver {
        #[cfg(feature = "file")]
        Driver::File => FilePlace::parse(&url).ok().map(|place| format!("file:{}", place.folder.join("objects").display())),
        #[cfg(feature = "object")]
        Driver::Object => {
            let (place, parameters) = url.split_once('?').map_or((url.as_str(), None), |(place, rest)| (place, Some(rest)));
            // What the store is said to keep is said of its entries.
            let parameters: Vec<&str> =
                parameters.unwrap_or_default().split('&').filter(|p| !p.is_empty() && !p.starts_with("durable=")).collect();
            let mark = if parameters.is_empty() { "" } else { "?" };
            Some(format!("{}/objects{mark}{}", place.trim_end_matches('/'), parameters.join("&")))
        }
        #[allow(unreachable_patterns)]
        _ => None,
    })
}

/// The URL without `cache=FOLDER`, and the folder.
fn take_cache(url: &str) -> Result<(String, Option<PathBuf>)> {
    let Some((path, parameters)) = url.split_once('?') else { return Ok((url.to_owned(), None)) };
    let mut cache = None;
    let mut others = Vec::new();
    for parameter in parameters.split('&').filter(|p| !p.is_empty()) {
        match parameter.strip_prefix("cache=") {
            Some("") => return Err(Error::invalid("cache= names no folder").with_next("write cache=FOLDER")),
            Some(folder) => {
                let folder = percent_encoding::percent_decode_str(folder).decode_utf8();
                let folder = folder.map_err(|e| Error::invalid("cache= is not UTF-8").with_source(e))?;
                cache = Some(PathBuf::from(folder.into_owned()));
            }
            None => others.push(parameter),
        }
    }
    let rest = if others.is_empty() { path.to_owned() } else { format!("{path}?{}", others.join("&")) };
    Ok((rest, cache))
}

/// The folder of a `file:` URL and the mode of its readable tree; `None` when it has none.
#[cfg(feature = "file")]
pub(crate) fn tree(url: &str) -> Result<Option<(PathBuf, TreeMode)>> {
    if driver(url) != Some(Driver::File) {
        return Ok(None);
    }
    let place = FilePlace::parse(&take_cache(url)?.0)?;
    Ok((place.tree != TreeMode::Off).then_some((place.folder, place.tree)))
}

/// What a `file:` URL says, its cache apart.
#[cfg(feature = "file")]
#[derive(Debug, PartialEq, Eq)]
struct FilePlace {
    folder: PathBuf,
    /// Whether a network file system is taken.
    network: bool,
    tree: TreeMode,
}

#[cfg(feature = "file")]
impl FilePlace {
    fn parse(url: &str) -> Result<Self> {
        const OWN: [&str; 3] = ["cache", "network", "tree"];
        let rest = url.strip_prefix("file:").unwrap_or(url);
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(Error::invalid(format!("{url:?} names no folder")).with_next("write file:./millpond"));
        }
        let mut place = Self { folder: path.into(), network: false, tree: TreeMode::default() };
        for parameter in parameters.split('&').filter(|p| !p.is_empty()) {
            match parameter {
                "network=allow" => place.network = true,
                "tree=definitions" => place.tree = TreeMode::Definitions,
                "tree=all" => place.tree = TreeMode::Everything,
                "tree=off" => place.tree = TreeMode::Off,
                _ => {
                    let (name, _) = parameter.split_once('=').unwrap_or((parameter, ""));
                    return Err(if OWN.contains(&name) {
                        Error::invalid(format!("{url:?}: {name} has a value it does not take"))
                            .with_next("file: takes tree=definitions|all|off, network=allow and cache=FOLDER")
                    } else {
                        unknown_parameter(&format!("{url:?}"), name, OWN)
                    });
                }
            }
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "file")]
    fn file_places() {
        let place = |folder: &str, network, tree| FilePlace { folder: folder.into(), network, tree };
        assert_eq!(FilePlace::parse("file:./x").expect("folder"), place("./x", false, TreeMode::Unchanged));
        assert_eq!(FilePlace::parse("file:///a").expect("folder"), place("/a", false, TreeMode::Unchanged));
        let both = FilePlace::parse("file:a?network=allow&tree=all").expect("both");
        assert_eq!(both, place("a", true, TreeMode::Everything));
        assert_eq!(tree("file:a?tree=definitions&cache=/c").expect("a tree"), Some(("a".into(), TreeMode::Definitions)));
        assert_eq!(tree("file:a?tree=off").expect("none"), None);
        assert_eq!(tree("sqlite:a?tree=x").expect("none"), None);
        for bad in ["file:", "file:a?network=yes", "file:a?x=1", "file:a?tree=yes"] {
            assert!(FilePlace::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(driver("sqlite:a"), None);
        assert_eq!(driver("a"), None);
    }

    #[test]
    fn the_cache_is_taken_out_of_any_url() {
        let taken = |url| take_cache(url).expect(url);
        assert_eq!(taken("s3://b/p"), ("s3://b/p".to_owned(), None));
        assert_eq!(taken("s3://b?cache=/c"), ("s3://b".to_owned(), Some("/c".into())));
        assert_eq!(taken("s3://b?region=x&cache=/c&y=1"), ("s3://b?region=x&y=1".to_owned(), Some("/c".into())));
        assert_eq!(taken("s3://b?cache=/a%20b").1, Some("/a b".into()));
        assert!(take_cache("file:a?cache=").is_err());
    }
}
