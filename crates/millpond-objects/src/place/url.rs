//! Which object store, by its URL.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use millpond_core::{CallPolicy, Error, Host, Result, unknown_parameter};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as Location;
use object_store::signer::Signer;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use super::keeps::Keeps;
use super::patient::{Patience, Patient, Ways, client_retries};

/// How requests are made, if the URL does not say.
pub const CALLS: CallPolicy = CallPolicy::within(Duration::from_secs(30)).pausing(Duration::from_secs(2));
/// How long one connection may take to come about, at most.
const CONNECT: Duration = Duration::from_secs(5);

/// A place in an object store.
#[derive(Debug, Clone)]
pub struct ObjectPlace {
    store: Arc<dyn ObjectStore>,
    /// Another way to the same; `None` where there is no server.
    again: Option<Arc<dyn ObjectStore>>,
    /// Who signs addresses, where that can be done.
    signer: Option<Arc<dyn Signer>>,
    /// How requests are made.
    calls: CallPolicy,
    /// The server or account, where the URL's path does not name it.
    server: Option<String>,
    prefix: Location,
    kind: &'static str,
    shown: String,
    keeps: Keeps,
}

impl ObjectPlace {
    /// The kind of a folder that is reached through the client of an object store.
    pub const FOLDER: &str = "object-file";

    /// Reads `s3://BUCKET/PREFIX`, `minio://HOST:PORT/BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` or
    /// `object-file:DIR`; `None` for another kind of URL.
    ///
    /// Credentials come from the cloud's own usual variables and files, never from the URL.
    ///
    /// # Errors
    /// `Invalid` when the URL names no bucket, holds credentials, or has an unknown parameter.
    pub fn parse(url: &str) -> Result<Option<Self>> {
        Self::parse_with(url, &[])
    }

    /// As [`ObjectPlace::parse`], with settings that stand above the environment: named as the cloud's own variables,
    /// such as `aws_access_key_id`, in any case.
    ///
    /// # Errors
    /// As [`ObjectPlace::parse`]; `Invalid` for a setting that the kind of place does not know.
    pub fn parse_with(url: &str, settings: &[(&str, &str)]) -> Result<Option<Self>> {
        let (rest, calls) = CallPolicy::of_url(url, CALLS)?;
        // A folder has no server to wait for.
        let url = if url.starts_with("object-file:") { url } else { &rest };
        let (path, parameters) = url.split_once('?').unwrap_or((url, ""));
        if let Some(folder) = path.strip_prefix("object-file:") {
            Parameters::read(path, parameters, &[])?;
            return match settings.first() {
                Some((name, _)) => Err(unknown_setting(path, name)),
                None => Self::local(folder).map(Some),
            };
        }
        let Some((scheme, rest)) = path.split_once("://") else { return Ok(None) };
        let known: &[&str] = match scheme {
            "s3" => &["endpoint", "region", "durable"],
            "minio" => &["region", "tls", "durable"],
            "gs" | "az" => &["durable"],
            _ => return Ok(None),
        };
        if rest.contains('@') {
            return Err(Error::invalid(format!("the {scheme}: URL holds credentials"))
                .with_next("put them into the environment instead, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));
        }
        let parameters = Parameters::read(path, parameters, known)?;
        let place = match scheme {
            "minio" => {
                let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
                let http = parameters.get("tls") != Some("true");
                let endpoint = format!("{}://{host}", if http { "http" } else { "https" });
                Self::s3(path, rest, settings, Some(&endpoint), parameters.get("region"), calls)?
            }
            "gs" => Self::google(path, rest, settings, calls)?,
            "az" => Self::azure(path, rest, settings, calls)?,
            _ => Self::s3(path, rest, settings, parameters.get("endpoint"), parameters.get("region"), calls)?,
        };
        // Somebody who knows the server says so.
        let asserted = parameters.get("durable").is_some();
        Ok(Some(if asserted { Self { keeps: Keeps::Asserted, ..place } } else { place }))
    }

    /// A place in memory: gone with its last clone.
    pub fn memory() -> Self {
        Self::new(Arc::new(InMemory::new()), "", "object-memory", "object-memory:", Keeps::Nothing)
    }

    /// Any object store. Nothing is known of what it keeps.
    pub fn of(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self::new(store, prefix, "object", prefix, Keeps::NobodyKnows("a store of the application's own".to_owned()))
    }

    /// As a server's place is, which is asked again.
    #[cfg(test)]
    pub(crate) fn patient_of(store: Arc<dyn ObjectStore>) -> Self {
        Self { again: Some(Arc::clone(&store)), ..Self::of(store, "p") }
    }

    fn new(store: Arc<dyn ObjectStore>, prefix: &str, kind: &'static str, shown: &str, keeps: Keeps) -> Self {
        let (prefix, shown) = (Location::from(prefix), shown.to_owned());
        Self { store, again: None, signer: None, calls: CALLS, server: None, prefix, kind, shown, keeps }
    }

    /// A place on a server: what one and the same client does once, and what it does again by itself.
    fn remote<S: ObjectStore + Signer>(
        build: impl Fn(RetryConfig) -> object_store::Result<S>,
        calls: CallPolicy,
        prefix: &str,
        kind: &'static str,
        path: &str,
        keeps: Keeps,
    ) -> Result<Self> {
        let again = Arc::new(build(client_retries(&calls)).map_err(bad(path))?);
        let once = build(RetryConfig { max_retries: 0, ..client_retries(&calls) }).map_err(bad(path))?;
        let signer = Some(Arc::clone(&again) as Arc<dyn Signer>);
        Ok(Self { again: Some(again), signer, calls, ..Self::new(Arc::new(once), prefix, kind, path, keeps) })
    }

    /// The place as it is used, its server asked as the URL says; and how that is.
    pub fn patient(mut self, host: Arc<dyn Host>) -> (Self, Patience) {
        let patience = Patience { calls: self.calls, host };
        if let Some(again) = self.again.take() {
            self.store = Arc::new(Patient::new(Ways { once: self.store, again }, patience.clone()));
        }
        (self, patience)
    }

    fn local(folder: &str) -> Result<Self> {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|e| Error::unavailable(format!("cannot make the folder {folder}")).with_source(e))?;
        let url = format!("object-file:{folder}");
        let store = LocalFileSystem::new_with_prefix(folder).map_err(bad(&url))?.with_fsync(true);
        Ok(Self::new(Arc::new(store), "", Self::FOLDER, &url, Keeps::Files(folder.into())))
    }

    /// Amazon's S3, or what speaks as it does at `endpoint`; the usual variables may name one, too.
    fn s3(
        path: &str,
        rest: &str,
        settings: Settings<'_>,
        endpoint: Option<&str>,
        region: Option<&str>,
        calls: CallPolicy,
    ) -> Result<Self> {
        let (name, prefix) = bucket(path, rest)?;
        let mut builder = set(AmazonS3Builder::from_env(), path, settings, AmazonS3Builder::with_config)?.with_bucket_name(name);
        if let Some(endpoint) = endpoint {
            if !(endpoint.starts_with("http://") || endpoint.starts_with("https://")) || endpoint.contains('@') {
                return Err(Error::invalid(format!("{path}: endpoint= is no address of a server"))
                    .with_next("write endpoint=https://HOST:PORT, without credentials"));
            }
            // The variable for S3 alone would stand above it.
            builder = builder.with_endpoint(endpoint).with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
        if let Some(region) = region {
            builder = builder.with_region(region);
        }
        let named = |key| builder.get_config_value(&key);
        let endpoint = named(AmazonS3ConfigKey::S3Endpoint).or_else(|| named(AmazonS3ConfigKey::Endpoint));
        let http = endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http:"));
        let keeps = Keeps::of_service("Amazon S3", endpoint.as_deref(), &["amazonaws.com", "amazonaws.com.cn", "googleapis.com"]);
        let builder = builder.with_client_options(client(http, &calls));
        let server =
            endpoint.filter(|_| !path.starts_with("minio:")).map(|endpoint| format!("endpoint={}", without_user(&endpoint)));
        let place = Self::remote(|retries| builder.clone().with_retry(retries).build(), calls, prefix, "s3", path, keeps)?;
        Ok(Self { server, ..place })
    }

    fn google(path: &str, rest: &str, settings: Settings<'_>, calls: CallPolicy) -> Result<Self> {
        let (bucket, prefix) = bucket(path, rest)?;
        let builder = set(GoogleCloudStorageBuilder::from_env(), path, settings, GoogleCloudStorageBuilder::with_config)?;
        let builder = builder.with_bucket_name(bucket);
        let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
        let keeps = Keeps::of_service("Google Cloud Storage", endpoint.as_deref(), &["googleapis.com"]);
        let builder = builder.with_client_options(client(false, &calls));
        Self::remote(|retries| builder.clone().with_retry(retries).build(), calls, prefix, "gs", path, keeps)
    }

    fn azure(path: &str, rest: &str, settings: Settings<'_>, calls: CallPolicy) -> Result<Self> {
        let (container, prefix) = bucket(path, rest)?;
        let builder = set(MicrosoftAzureBuilder::from_env(), path, settings, MicrosoftAzureBuilder::with_config)?;
        let builder = builder.with_container_name(container);
        let emulated = builder.get_config_value(&AzureConfigKey::UseEmulator).is_some_and(|value| value == "true");
        let endpoint =
            if emulated { Some("an emulator".to_owned()) } else { builder.get_config_value(&AzureConfigKey::Endpoint) };
        let keeps = Keeps::of_service("Azure Blob Storage", endpoint.as_deref(), &["core.windows.net", "core.chinacloudapi.cn"]);
        let server = builder.get_config_value(&AzureConfigKey::AccountName).map(|account| format!("account={account}"));
        let builder = builder.with_client_options(client(false, &calls));
        let place = Self::remote(|retries| builder.clone().with_retry(retries).build(), calls, prefix, "az", path, keeps)?;
        Ok(Self { server, ..place })
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The scheme of its URL.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Its URL without parameters, and without secrets.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Who signs addresses; `None` where nobody can.
    pub fn signer(&self) -> Option<&Arc<dyn Signer>> {
        self.signer.as_ref()
    }

    /// Which place this is, a name below its prefix: the same for nothing else, and without secrets. A bucket of the same
    /// name on another server, or a container of another account, is another place.
    pub fn named_below(&self, name: &str) -> String {
        let below = format!("{}/{name}", self.shown.trim_end_matches('/'));
        self.server.iter().fold(below, |below, server| format!("{below}?{server}"))
    }

    /// What it keeps of what it acknowledged, and who says so.
    pub fn keeps(&self) -> &Keeps {
        &self.keeps
    }

    /// A location below this place's prefix.
    pub fn location(&self, name: &str) -> Location {
        self.prefix.clone().join(name)
    }
}

/// Settings by the names of the cloud's own variables.
type Settings<'a> = &'a [(&'a str, &'a str)];

/// Gives a builder its settings, each of which it has to know.
fn set<'a, B, K: FromStr>(builder: B, path: &str, settings: Settings<'a>, with: impl Fn(B, K, &'a str) -> B) -> Result<B> {
    settings.iter().try_fold(builder, |builder, (name, value)| {
        let key = name.to_ascii_lowercase().parse().map_err(|_| unknown_setting(path, name))?;
        Ok(with(builder, key, value))
    })
}

fn unknown_setting(path: &str, name: &str) -> Error {
    Error::invalid(format!("{path}: there is no setting {name:?}"))
        .with_next("name it as the cloud's own variable, such as aws_access_key_id")
}

fn client(allow_http: bool, calls: &CallPolicy) -> ClientOptions {
    // The client takes the process's implementation of TLS and brings none of its own. An application that chose one
    // keeps it: then this does nothing.
    let _chosen_already = rustls::crypto::ring::default_provider().install_default();
    let connect = CONNECT.min(calls.timeout);
    ClientOptions::new().with_timeout(calls.timeout).with_connect_timeout(connect).with_allow_http(allow_http)
}

fn bad(path: &str) -> impl Fn(object_store::Error) -> Error {
    let path = path.to_owned();
    move |e| {
        Error::invalid(format!("{path} cannot be opened")).with_source(e).with_next("check the bucket's name and the credentials")
    }
}

fn bucket<'a>(path: &str, rest: &'a str) -> Result<(&'a str, &'a str)> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(Error::invalid(format!("{path} names no bucket")).with_next(
            "write s3://BUCKET/PREFIX, minio://HOST:PORT/BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX",
        ));
    }
    Ok((bucket, prefix))
}

/// An address without the name and the password that somebody put into it.
fn without_user(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}/{path}").trim_end_matches('/').to_owned()
}

/// What follows the question mark. A value is never part of an error: somebody may have put a secret there.
#[derive(Debug)]
struct Parameters<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Parameters<'a> {
    fn read(path: &str, text: &'a str, known: &[&str]) -> Result<Self> {
        let mut read: Vec<(&str, &str)> = Vec::new();
        for parameter in text.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if !known.contains(&key) {
                let remote: &[&str] = if path.starts_with("object-file:") { &[] } else { &CallPolicy::NAMES };
                return Err(unknown_parameter(path, key, known.iter().chain(["cache"].iter()).chain(remote).copied()));
            }
            let wrong = match key {
                "tls" => !matches!(value, "true" | "false"),
                "durable" => value != "power-loss",
                _ => value.is_empty(),
            };
            if wrong {
                return Err(Error::invalid(format!("{path}: {key} has no value that it can have"))
                    .with_next("write endpoint=https://HOST:PORT, region=NAME, tls=true or tls=false, durable=power-loss"));
            }
            if read.iter().any(|(earlier, _)| *earlier == key) {
                return Err(Error::invalid(format!("{path}: {key} is given twice")).with_next("keep one of them"));
            }
            read.push((key, value));
        }
        Ok(Self(read))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(url: &str) -> Result<Option<(&'static str, String)>> {
        ObjectPlace::parse(url).map(|p| p.map(|p| (p.kind, p.prefix.to_string())))
    }

    #[test]
    fn places_and_mistakes() {
        assert_eq!(kind("s3://b/a/c").unwrap(), Some(("s3", "a/c".to_owned())));
        assert_eq!(kind("s3://b?endpoint=http://localhost:1&region=x").unwrap(), Some(("s3", String::new())));
        assert_eq!(kind("minio://localhost:9000/b/p?region=x&tls=true").unwrap(), Some(("s3", "p".to_owned())));
        assert_eq!(kind("sqlite:a").unwrap(), None);
        let wrong =
            ["s3://", "minio://h:1", "s3://b?x=1", "s3://b?tls=true", "az://c?x", "gs://", "s3://b?region=", "s3://b?endpoint=h"];
        let more = ["minio://h/b?tls=yes", "s3://b?region=x&region=y", "s3://b?durable=yes", "s3://b?durable"];
        for wrong in wrong.into_iter().chain(more) {
            assert!(kind(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_is_named_without_its_user() {
        for (address, named) in [
            ("http://h:1", "http://h:1"),
            ("https://h:1/path/", "https://h:1/path"),
            ("http://u:s3cret@h:1", "http://h:1"),
            ("http://u:s3@cret@h/p@th", "http://h/p@th"),
        ] {
            assert_eq!(without_user(address), named);
        }
    }

    #[test]
    fn no_error_repeats_a_secret_and_an_unknown_parameter_is_answered_with_the_known_ones() {
        for url in
            ["s3://key:s3cret@b", "s3://b?secret_key=s3cret", "s3://b?endpoint=http://u:s3cret@h", "s3://b?endpoint=s3cret"]
        {
            let error = kind(url).expect_err(url);
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
        assert_eq!(kind("s3://b?regoin=x").unwrap_err().next(), Some("did you mean region?"));
        assert_eq!(kind("az://b?timout=x").unwrap_err().next(), Some("did you mean timeout?"));
        let error = kind("s3://b?x=x").unwrap_err();
        assert!(error.next().is_some_and(|next| next.contains("breaker, ") && next.contains("endpoint, region")), "{error:?}");
        assert!(kind("object-file:/x?timeout=3").is_err(), "a folder has nothing to wait for");
    }
}
