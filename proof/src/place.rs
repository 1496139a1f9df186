//! A store's URL as the suite wants it: two openings are two handles, and this program can be a racing process.

use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use millpond::{Engine, OpenOptions, Result};
use millpond_conformance::{Place, harness};
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

    fn process(&self) -> Option<Result<Command>> {
        (!self.is_memory()).then(|| harness::process(&self.url))
    }
}
