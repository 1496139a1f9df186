//! Where a pond keeps its data, who said so, and how it is opened.
//!
//! ```text
//!   flag ─► environment ─► file ─► default        the first that says something counts
//! ```
//!
//! A place that a flag or a variable names is the place of everything: the file's `domains` then play no part.

mod file;
mod secret;
mod sources;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use millpond_core::{Durability, Error, Namespace, Result};
use serde::Serialize;

use crate::{Domain, OpenOptions, Pond};

pub use secret::without_password;
pub use sources::{DEFAULT_STORE, FILE_NAME, Sources};

/// Who said a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the program.
    Flag(&'static str),
    /// A variable of the environment.
    Environment(&'static str),
    /// A line of a file.
    File {
        /// The file.
        name: String,
        /// The line, from 1.
        line: u64,
    },
    /// A usual variable that was looked for because that was asked for.
    Discovered(&'static str),
    /// Nobody.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Discovered(name) => write!(f, "discovered in {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value, and who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting<T> {
    value: T,
    origin: Origin,
}

/// One line of a configuration, for people. No secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigLine {
    /// What, such as `store` or `domains.runs`.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Who said it.
    pub origin: String,
}

/// Where a pond keeps its data. Holds passwords, and never shows them.
#[derive(Clone)]
pub struct Config {
    store: Setting<String>,
    namespace: Setting<Namespace>,
    require: Option<Setting<Durability>>,
    domains: BTreeMap<Domain, Setting<String>>,
    objects: Option<Setting<String>>,
    file: Option<PathBuf>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lines()).finish()
    }
}

impl Config {
    /// Reads a file, and the process's environment for what it refers to. Flags and `MILLPOND_…` play no part.
    ///
    /// # Errors
    /// `NotFound` without the file; `Invalid` with the line of what cannot be understood.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let mut sources = Sources::of_process();
        sources.environment.retain(|name, _| !name.starts_with("MILLPOND_"));
        sources.file = Some(path.as_ref().to_owned());
        sources.resolve()
    }

    /// The main store's URL, with its password.
    pub fn store(&self) -> &str {
        &self.store.value
    }

    /// Who said which store.
    pub fn store_origin(&self) -> &Origin {
        &self.store.origin
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace.value
    }

    /// What acknowledged commits have to survive, if that was said.
    pub fn require(&self) -> Option<Durability> {
        self.require.as_ref().map(|setting| setting.value)
    }

    /// Where the bytes of artifacts go, if that was said.
    pub fn objects(&self) -> Option<&str> {
        self.objects.as_ref().map(|setting| setting.value.as_str())
    }

    /// Where the place of the bytes is named, if anywhere.
    pub fn objects_origin(&self) -> Option<&Origin> {
        self.objects.as_ref().map(|setting| &setting.origin)
    }

    /// The file that was read.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Every value and who said it, without secrets.
    pub fn lines(&self) -> Vec<ConfigLine> {
        let line = |key: String, value: String, origin: &Origin| ConfigLine { key, value, origin: origin.to_string() };
        let mut lines = vec![
            line("store".to_owned(), without_password(&self.store.value), &self.store.origin),
            line("namespace".to_owned(), self.namespace.value.to_string(), &self.namespace.origin),
        ];
        lines.extend(self.require.as_ref().map(|r| line("require".to_owned(), r.value.to_string(), &r.origin)));
        lines.extend(self.objects.as_ref().map(|o| line("objects".to_owned(), without_password(&o.value), &o.origin)));
        for (domain, place) in &self.domains {
            lines.push(line(format!("domains.{domain}"), without_password(&place.value), &place.origin));
        }
        lines
    }

    /// The places other than the main store, each with the domains that live there.
    ///
    /// # Errors
    /// `Invalid` when one place is given with different options; `Unsupported` when lineage is parted from artifacts.
    pub fn others(&self) -> Result<Vec<(String, Vec<Domain>)>> {
        self.check_lineage()?;
        let mut places = vec![(self.store.value.clone(), Vec::new())];
        for (domain, setting) in &self.domains {
            let (place, options) = identity(&setting.value);
            let found = places.iter_mut().find(|(url, _)| identity(url).0 == place);
            match found {
                Some((url, _)) if identity(url).1 != options => {
                    let shown = without_password(&setting.value);
                    return Err(Error::invalid(format!("{}: {shown} is named elsewhere with other options", setting.origin))
                        .with_next("give one place the same options everywhere"));
                }
                Some((_, domains)) => domains.push(*domain),
                None => places.push((setting.value.clone(), vec![*domain])),
            }
        }
        // What resolves to the main store needs no place of its own.
        Ok(places.split_off(1))
    }

    /// Refuses a place for lineage that is not the artifacts': a row and its artifact are one commit.
    fn check_lineage(&self) -> Result<()> {
        let Some(lineage) = self.domains.get(&Domain::Lineage) else { return Ok(()) };
        let artifacts = self.domains.get(&Domain::Artifacts).unwrap_or(&self.store);
        if identity(&lineage.value).0 == identity(&artifacts.value).0 {
            return Ok(());
        }
        let (there, here) = (without_password(&artifacts.value), without_password(&lineage.value));
        let message = format!("{}: lineage is placed in {here}, but artifacts are in {there}", lineage.origin);
        Err(Error::new(millpond_core::ErrorKind::Unsupported, message)
            .with_next("leave out where lineage is: it follows the artifacts"))
    }

    /// Opens everything.
    ///
    /// # Errors
    /// As [`OpenOptions::open_config`].
    pub async fn open(&self) -> Result<Pond> {
        OpenOptions::new().open_config(self).await
    }
}

/// What makes two URLs one place, and the options beside it.
fn identity(url: &str) -> (String, &str) {
    let absolute = |path: &str| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        std::fs::canonicalize(&path).unwrap_or(path).display().to_string()
    };
    let (place, options) = url.split_once('?').unwrap_or((url, ""));
    let path = |rest: &str| absolute(rest.strip_prefix("//").unwrap_or(rest));
    let place = match place.split_once(':') {
        Some((scheme @ ("sqlite" | "file" | "object-file"), rest)) => format!("{scheme}:{}", path(rest)),
        Some((scheme, _)) if scheme.len() > 1 => place.trim_end_matches('/').to_owned(),
        _ => format!("sqlite:{}", absolute(&Path::new(place).join(crate::open::FOLDER_FILE).to_string_lossy())),
    };
    (place, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_name() {
        let same = |a, b| identity(a).0 == identity(b).0;
        assert!(same("./x", "x") && same("x", "sqlite:x/millpond.db") && same("sqlite:a.db", "sqlite:./a.db"));
        assert!(same("postgres://u@h/d?pool=4", "postgres://u@h/d/"));
        assert!(!same("sqlite:a", "file:a") && !same("postgres://u@h/d", "postgres://u@h/e"));
    }

    const PAGE: &str = include_str!("../../../../docs/configuration.md");

    #[test]
    fn the_page_names_every_key() {
        let keys = file::KEYS.iter().chain(&file::BACKEND_KEYS).copied().chain(Domain::ALL.map(Domain::name));
        for key in keys.chain([
            "MILLPOND_STORE",
            "MILLPOND_NAMESPACE",
            "MILLPOND_REQUIRE",
            "MILLPOND_OBJECTS",
            "MILLPOND_CONFIG",
            FILE_NAME,
            DEFAULT_STORE,
        ]) {
            assert!(PAGE.contains(&format!("`{key}`")) || PAGE.contains(&format!("`./{key}`")), "{key} is not on the page");
        }
        for variable in sources::USUAL.map(|(name, _)| name) {
            assert!(PAGE.contains(variable), "{variable} is not on the page");
        }
        for parameter in millpond_core::CallPolicy::NAMES {
            assert!(PAGE.contains(&format!("| `{parameter}` |")), "{parameter} is not on the page");
        }
    }

    #[test]
    fn the_page_s_examples_are_read() {
        let environment = BTreeMap::from([("REPORTS_PASSWORD".to_owned(), "x".to_owned())]);
        let examples: Vec<&str> =
            PAGE.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect();
        let read: Vec<_> = examples.iter().map(|text| file::read(text, "example", &environment).expect(text)).collect();
        let stores: Vec<String> = read.iter().filter_map(|f| f.store.as_ref()).map(|s| without_password(&s.value)).collect();
        assert_eq!(
            stores,
            [
                "sqlite:./millpond.db",
                "file:./millpond-files?tree=definitions&cache=/var/cache/millpond",
                "postgres://millpond:PASSWORD@db.example.org/acme?schema=millpond&pool=16&timeout=30s&sslmode=verify-full",
                "redis://:PASSWORD@cache.example.org:6379/0?prefix=acme&appendfsync=always&timeout=5s&retry_max=200ms&breaker=4&breaker_pause=10s",
                "nats://n1.example.org:4222,n2.example.org:4222,n3.example.org:4222?prefix=acme&replicas=3&tls=require\
                 &creds=/etc/millpond/nats.creds&monitor=n1.example.org,n2.example.org,n3.example.org&timeout=15s&retries=20",
                "s3://acme-state/millpond?region=eu-central-1&cache=/var/cache/millpond&timeout=30s&retries=5&retry_first=50ms&retry_max=2s",
                "minio://minio.example.org:9000/acme-state/millpond?region=us-east-1&tls=true&cache=/var/cache/millpond\
                 &durable=power-loss&breaker=5&breaker_pause=30s",
                "sqlite:./millpond.db",
            ]
        );
        assert_eq!(read.last().map(|f| f.domains.len()), Some(3));
        for example in &examples[..examples.len() - 1] {
            assert_eq!(example.lines().count(), 16, "{example}");
        }
    }
}
