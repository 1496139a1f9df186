//! Stores on journals by their URL: `file:DIR`.

use std::path::PathBuf;
use std::sync::Arc;

use millpond_core::{Engine, Error, Host, Result};
use millpond_journal::drivers::file::{FileJournals, FileOptions};
use millpond_journal::{JournalEngine, JournalOptions};

/// A place that keeps journals, as a URL names it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JournalPlace {
    File { folder: PathBuf, network: bool, cache: Option<PathBuf> },
}

impl JournalPlace {
    /// Reads a URL; `None` when it is of another kind of store.
    pub(crate) fn parse(url: &str) -> Result<Option<Self>> {
        let Some(rest) = url.strip_prefix("file:") else { return Ok(None) };
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(Error::invalid(format!("{url:?} names no folder")).with_next("write file:./millpond"));
        }
        let (mut network, mut cache) = (false, None);
        for parameter in parameters.split('&').filter(|p| !p.is_empty()) {
            match parameter.split_once('=') {
                Some(("network", "allow")) => network = true,
                Some(("cache", folder)) if !folder.is_empty() => cache = Some(PathBuf::from(folder)),
                _ => {
                    return Err(Error::invalid(format!("{url:?}: unknown parameter {parameter:?}"))
                        .with_next("file: takes network=allow and cache=FOLDER"));
                }
            }
        }
        Ok(Some(Self::File { folder: path.into(), network, cache }))
    }

    /// Opens the engine.
    pub(crate) async fn open(self, host: Arc<dyn Host>, create: bool) -> Result<Arc<dyn Engine>> {
        let Self::File { folder, network, cache } = self;
        let journals = FileJournals::open(folder, FileOptions { create, network, ..FileOptions::default() })?;
        let options = JournalOptions { host, cache, ..JournalOptions::default() };
        Ok(Arc::new(JournalEngine::open(Arc::new(journals), options).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_places() {
        let file = |folder: &str, network, cache: Option<&str>| {
            Some(JournalPlace::File { folder: folder.into(), network, cache: cache.map(PathBuf::from) })
        };
        assert_eq!(JournalPlace::parse("file:./x").expect("folder"), file("./x", false, None));
        assert_eq!(JournalPlace::parse("file:///a").expect("folder"), file("/a", false, None));
        assert_eq!(JournalPlace::parse("file:a?network=allow&cache=/c").expect("both"), file("a", true, Some("/c")));
        assert_eq!(JournalPlace::parse("sqlite:a").expect("another"), None);
        for bad in ["file:", "file:a?network=yes", "file:a?x=1", "file:a?cache="] {
            assert!(JournalPlace::parse(bad).is_err(), "{bad}");
        }
    }
}
