//! A store's URL as the suite wants it: two openings are two handles, and this program can be a racing process.

use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use millpond::{Engine, Host, OpenOptions, Result, SystemHost};
use millpond_conformance::{Place, harness};
use millpond_objects::Objects;
use tokio::sync::OnceCell;

/// A place by its URL.
#[derive(Debug)]
pub struct UrlPlace {
    url: String,
    /// What lives in this process alone is opened once.
    memory: OnceCell<Arc<dyn Engine>>,
}

impl UrlPlace {
    /// The place of a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), memory: OnceCell::new() }
    }

    fn is_memory(&self) -> bool {
        self.url == "memory:"
    }

    /// Where its bytes go if it is an object store: beside its journal, in the same bucket or folder.
    fn bytes(&self) -> Option<String> {
        let (place, parameters) = self.url.split_once('?').unwrap_or((&self.url, ""));
        if !place.starts_with("s3:") && !place.starts_with("object-file:") {
            return None;
        }
        // The replica's folder is no parameter of a place for bytes.
        let parameters: Vec<&str> = parameters.split('&').filter(|p| !p.is_empty() && !p.starts_with("cache=")).collect();
        Some(format!("{place}-bytes?{}", parameters.join("&")).trim_end_matches('?').to_owned())
    }
}

#[async_trait]
impl Place for UrlPlace {
    async fn open(&self) -> Result<Arc<dyn Engine>> {
        let options = OpenOptions::new();
        if self.is_memory() {
            return self.memory.get_or_try_init(|| options.engine(&self.url)).await.cloned();
        }
        options.engine(&self.url).await
    }

    async fn objects(&self, store_id: &str) -> Result<Option<Arc<dyn Objects>>> {
        let host: Arc<dyn Host> = Arc::new(SystemHost);
        self.bytes().map(|url| millpond_objects::open(&url, store_id, &host)).transpose()
    }

    fn process(&self) -> Option<Result<Command>> {
        (!self.is_memory()).then(|| harness::process(&self.url))
    }
}
