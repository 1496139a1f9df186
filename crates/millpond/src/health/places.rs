//! Stores that are not open yet: what stands in the way of opening one is a finding like any other.

use millpond_core::{Durability, ErrorKind, HealthCheck, Result};

use super::{Health, HealthRequest, health, is_out_of_reach};
use crate::{Config, OpenOptions, without_password};

impl OpenOptions {
    /// How the stores of a configuration are, the main one first, whether they can be opened or not: why a store cannot
    /// be opened is a finding, named after the check that refuses it, `connect` where it cannot be reached.
    ///
    /// Nothing is declared, and nothing is required but by the request: a store is looked at as it is.
    ///
    /// # Errors
    /// `Invalid` when a URL or the configuration is wrong, `NotFound` when there is no such store or namespace.
    pub async fn health(&self, config: &Config, request: HealthRequest) -> Result<Vec<Health>> {
        let options = self.clone().namespace(config.namespace().clone()).require(Durability::Memory);
        let others = config.others()?;
        let urls = std::iter::once(config.store()).chain(others.iter().map(|(url, _)| url.as_str()));
        let mut all = Vec::with_capacity(others.len() + 1);
        for url in urls {
            all.push(Box::pin(options.health_of(url, request)).await?);
        }
        Ok(all)
    }

    async fn health_of(&self, url: &str, request: HealthRequest) -> Result<Health> {
        let store = match self.store_of(url).await {
            Ok(store) => store,
            Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound) => return Err(error),
            Err(error) => {
                let otherwise = if is_out_of_reach(&error) { "connect" } else { "open" };
                let problem = HealthCheck::refused(otherwise, &error);
                return Ok(Health::unknown(kind(url), without_password(url), problem, request));
            }
        };
        #[allow(unused_mut)] // Without files there are no trees.
        let mut health = health(&store, request).await;
        #[cfg(feature = "file")]
        if let Some((folder, mode)) = crate::journals::tree(url)? {
            let tree = crate::Tree::open(store.clone(), folder, mode, false).await;
            health.checks.push(super::checks::tree(&tree).await);
        }
        Ok(health)
    }
}

/// The kind of engine that a URL is for, as the engine itself would call it.
fn kind(url: &str) -> &'static str {
    match url.split_once(':').map_or("", |(scheme, _)| scheme) {
        "postgres" | "postgresql" => "postgres",
        "redis" | "rediss" => "redis",
        "nats" | "tls" => "nats",
        "s3" | "minio" => "s3",
        "gs" => "gs",
        "az" => "az",
        "object-file" => "object-file",
        "file" => "file",
        _ => "sqlite",
    }
}
