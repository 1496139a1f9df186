//! Which object store, by its URL.

use std::sync::Arc;
use std::time::Duration;

use millpond_core::{Error, Result};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as Location;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(30);
/// How long the client itself tries a request again; longer is the business of whoever knows what it was for.
const RETRY: Duration = Duration::from_secs(5);

/// A place in an object store.
#[derive(Debug, Clone)]
pub struct ObjectPlace {
    pub(super) store: Arc<dyn ObjectStore>,
    prefix: Location,
    pub(super) kind: &'static str,
    pub(super) shown: String,
    pub(super) in_memory: bool,
}

impl ObjectPlace {
    /// Reads `s3://BUCKET/PREFIX`, `minio://HOST:PORT/BUCKET/PREFIX`, `gs://…`, `az://CONTAINER/PREFIX` or
    /// `object-file:DIR`; `None` for another kind of URL.
    ///
    /// Credentials come from the cloud's own usual variables and files.
    ///
    /// # Errors
    /// `Invalid` when the URL names no bucket, or a parameter is unknown.
    pub fn parse(url: &str) -> Result<Option<Self>> {
        let (path, parameters) = url.split_once('?').unwrap_or((url, ""));
        if let Some(folder) = path.strip_prefix("object-file:") {
            none_of(url, parameters)?;
            return Self::local(folder).map(Some);
        }
        let Some((scheme, rest)) = path.split_once("://") else { return Ok(None) };
        match scheme {
            "s3" => Self::s3(url, rest, None, parameters).map(Some),
            "minio" => {
                let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
                Self::s3(url, rest, Some(host), parameters).map(Some)
            }
            "gs" => {
                none_of(url, parameters)?;
                let (bucket, prefix) = bucket(url, rest)?;
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
                let store = builder.with_client_options(client(false)).with_retry(retry()).build().map_err(bad(url))?;
                Ok(Some(Self::new(Arc::new(store), prefix, "gs", path)))
            }
            "az" => {
                none_of(url, parameters)?;
                let (container, prefix) = bucket(url, rest)?;
                let builder = MicrosoftAzureBuilder::from_env().with_container_name(container);
                let store = builder.with_client_options(client(false)).with_retry(retry()).build().map_err(bad(url))?;
                Ok(Some(Self::new(Arc::new(store), prefix, "az", path)))
            }
            _ => Ok(None),
        }
    }

    /// A place in memory: gone with its last clone.
    pub fn memory() -> Self {
        Self { in_memory: true, ..Self::new(Arc::new(InMemory::new()), "", "object-memory", "object-memory:") }
    }

    /// Any object store.
    pub fn of(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self::new(store, prefix, "object", prefix)
    }

    fn new(store: Arc<dyn ObjectStore>, prefix: &str, kind: &'static str, shown: &str) -> Self {
        Self { store, prefix: Location::from(prefix), kind, shown: shown.to_owned(), in_memory: false }
    }

    fn local(folder: &str) -> Result<Self> {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|e| Error::unavailable(format!("cannot make the folder {folder}")).with_source(e))?;
        let url = format!("object-file:{folder}");
        let store = LocalFileSystem::new_with_prefix(folder).map_err(bad(&url))?.with_fsync(true);
        Ok(Self::new(Arc::new(store), "", "object-file", &url))
    }

    fn s3(url: &str, rest: &str, host: Option<&str>, parameters: &str) -> Result<Self> {
        let (name, prefix) = bucket(url, rest)?;
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(name);
        let mut tls = host.is_none();
        for (key, value) in pairs(parameters) {
            match (key, value) {
                ("endpoint", value) if host.is_none() && value.starts_with("http") => {
                    tls = value.starts_with("https:");
                    builder = builder.with_endpoint(value);
                }
                ("region", value) if !value.is_empty() => builder = builder.with_region(value),
                ("tls", "true") if host.is_some() => tls = true,
                _ => {
                    return Err(Error::invalid(format!("{url:?}: unknown parameter {key}={value}"))
                        .with_next("s3: takes endpoint=URL and region=NAME, minio: takes region=NAME and tls=true"));
                }
            }
        }
        if let Some(host) = host {
            builder = builder.with_endpoint(format!("{}://{host}", if tls { "https" } else { "http" }));
        }
        let store = builder.with_client_options(client(!tls)).with_retry(retry()).build().map_err(bad(url))?;
        let shown = url.split('?').next().unwrap_or(url);
        Ok(Self::new(Arc::new(store), prefix, "s3", shown))
    }

    /// A location below this place's prefix.
    pub(super) fn location(&self, name: &str) -> Location {
        self.prefix.clone().join(name)
    }
}

fn client(allow_http: bool) -> ClientOptions {
    ClientOptions::new().with_timeout(REQUEST).with_allow_http(allow_http)
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: 3, retry_timeout: RETRY, ..RetryConfig::default() }
}

fn bad(url: &str) -> impl Fn(object_store::Error) -> Error {
    let url = url.split('?').next().unwrap_or(url).to_owned();
    move |e| {
        Error::invalid(format!("{url:?} cannot be opened"))
            .with_source(e)
            .with_next("check the bucket's name and the credentials")
    }
}

fn bucket<'a>(url: &str, rest: &'a str) -> Result<(&'a str, &'a str)> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(Error::invalid(format!("{url:?} names no bucket")).with_next("write s3://BUCKET/PREFIX"));
    }
    Ok((bucket, prefix))
}

fn pairs(parameters: &str) -> impl Iterator<Item = (&str, &str)> {
    parameters.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((p, "")))
}

fn none_of(url: &str, parameters: &str) -> Result<()> {
    match pairs(parameters).next() {
        None => Ok(()),
        Some((key, _)) => Err(Error::invalid(format!("{url:?}: unknown parameter {key:?}")).with_next("it takes none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_mistakes() {
        let kind = |url| ObjectPlace::parse(url).map(|p| p.map(|p| (p.kind, p.prefix.to_string())));
        assert_eq!(kind("s3://b/a/c").unwrap(), Some(("s3", "a/c".to_owned())));
        assert_eq!(kind("minio://localhost:9000/b?region=x").unwrap(), Some(("s3", String::new())));
        assert_eq!(kind("sqlite:a").unwrap(), None);
        for wrong in ["s3://", "minio://h:1", "s3://b?x=1", "s3://b?tls=true", "az://c?x", "gs://"] {
            assert!(kind(wrong).is_err(), "{wrong}");
        }
    }
}
