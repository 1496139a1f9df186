//! What is asked for a value, and in which order.

use std::collections::BTreeMap;
use std::path::PathBuf;

use millpond_core::{Error, Namespace, Result};

use super::file::{FileConfig, read};
use super::secret::without_password;
use super::{Config, Origin, Setting};

/// Where the store is if nobody says.
pub const DEFAULT_STORE: &str = "./millpond-data";
/// The file that is read from the working folder, and from no other, if none is named.
pub const FILE_NAME: &str = "millpond.yaml";
/// The word in a store's place that asks to look for it in the usual variables.
const DISCOVER: &str = "discover";
/// The usual variables. A bucket's name is not among Amazon's own; this one is common.
pub(super) const USUAL: [(&str, &[&str]); 4] = [
    ("DATABASE_URL", &["postgres://", "postgresql://", "sqlite:"]),
    ("NATS_URL", &["nats://", "tls://"]),
    ("REDIS_URL", &["redis://", "rediss://"]),
    ("AWS_S3_BUCKET", &[]),
];

/// Everything that may say something.
#[derive(Clone, Default)]
pub struct Sources {
    /// The flag `--store`.
    pub store: Option<String>,
    /// The flag `--namespace`.
    pub namespace: Option<String>,
    /// The flag `--require`.
    pub require: Option<String>,
    /// The flag `--objects`.
    pub objects: Option<String>,
    /// The flag `--config`.
    pub file: Option<PathBuf>,
    /// The flag `--discover`.
    pub discover: bool,
    /// Variables.
    pub environment: BTreeMap<String, String>,
    /// The working folder.
    pub folder: PathBuf,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Sources {
    /// The environment and the working folder of this process, and no flags.
    pub fn of_process() -> Self {
        let text = |value: std::ffi::OsString| value.into_string().ok();
        let environment = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
        Self { environment, folder: PathBuf::from("."), ..Self::default() }
    }

    /// Weighs them.
    ///
    /// # Errors
    /// `NotFound` for a file that was named and is not there; `Invalid` for what cannot be understood, with its place.
    pub fn resolve(self) -> Result<Config> {
        let (path, file) = self.read_file()?;
        let store = self.first("--store", self.store.as_ref(), "MILLPOND_STORE", file.store.clone());
        let named_whole = matches!(store, Some(Setting { origin: Origin::Flag(_) | Origin::Environment(_), .. }));
        if self.discover && self.store.is_some() {
            return Err(Error::invalid("--store and --discover both say where the store is").with_next("use one of them"));
        }
        let (store, whole) = match store {
            Some(store) if !self.discover && store.value != DISCOVER => (store, named_whole),
            None if !self.discover => (Setting { value: DEFAULT_STORE.to_owned(), origin: Origin::Default }, false),
            _ => (self.discovered()?, self.discover || named_whole),
        };
        let namespace = self.first("--namespace", self.namespace.as_ref(), "MILLPOND_NAMESPACE", file.namespace);
        let namespace = match namespace {
            Some(Setting { value, origin }) => Setting { value: Namespace::new(value).map_err(|e| placed(&origin, &e))?, origin },
            None => Setting { value: Namespace::default(), origin: Origin::Default },
        };
        let require = match self.first("--require", self.require.as_ref(), "MILLPOND_REQUIRE", file.require) {
            Some(Setting { value, origin }) => Some(Setting { value: value.parse().map_err(|e| placed(&origin, &e))?, origin }),
            None => None,
        };
        let domains = if whole { BTreeMap::new() } else { file.domains };
        // Bytes that belong to the file's store say nothing about another one.
        let filed = file.objects.filter(|_| !named_whole);
        let objects = self.first("--objects", self.objects.as_ref(), "MILLPOND_OBJECTS", filed);
        Ok(Config { store, namespace, require, domains, objects, file: path })
    }

    fn first(
        &self,
        flag: &'static str,
        flagged: Option<&String>,
        variable: &'static str,
        filed: Option<Setting<String>>,
    ) -> Option<Setting<String>> {
        let flagged = flagged.map(|value| Setting { value: value.clone(), origin: Origin::Flag(flag) });
        let set = self.environment.get(variable).filter(|value| !value.is_empty());
        flagged.or_else(|| set.map(|value| Setting { value: value.clone(), origin: Origin::Environment(variable) })).or(filed)
    }

    fn read_file(&self) -> Result<(Option<PathBuf>, FileConfig)> {
        let named =
            self.file.clone().or_else(|| self.environment.get("MILLPOND_CONFIG").filter(|v| !v.is_empty()).map(PathBuf::from));
        let (path, shown) = match &named {
            Some(path) => (path.clone(), path.display().to_string()),
            None => (self.folder.join(FILE_NAME), FILE_NAME.to_owned()),
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok((Some(path), read(&text, &shown, &self.environment)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok((None, FileConfig::default())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::not_found(format!("there is no configuration file {shown}")).with_next("name it with --config"))
            }
            Err(error) => Err(Error::unavailable(format!("cannot read the configuration file {shown}")).with_source(error)),
        }
    }

    fn discovered(&self) -> Result<Setting<String>> {
        let set = |name: &str| self.environment.get(name).filter(|value| !value.is_empty());
        let found: Vec<_> = USUAL.iter().filter_map(|(name, schemes)| Some((*name, *schemes, set(name)?))).collect();
        let all = || USUAL.map(|(name, _)| name).join(", ");
        let (name, schemes, value) = match found[..] {
            [one] => one,
            [] => {
                return Err(
                    Error::not_found(format!("none of the variables {} is set", all())).with_next("set one, or use --store")
                );
            }
            _ => {
                let names: Vec<&str> = found.iter().map(|(name, ..)| *name).collect();
                return Err(Error::invalid(format!("more than one variable names a store: {}", names.join(", ")))
                    .with_next("say which with --store"));
            }
        };
        if schemes.is_empty() {
            return Ok(Setting { value: format!("s3://{value}/millpond"), origin: Origin::Discovered(name) });
        }
        if !schemes.iter().any(|scheme| value.starts_with(scheme)) {
            let shown = without_password(value);
            return Err(Error::invalid(format!("{name} is {shown}, which begins with none of {}", schemes.join(", "))));
        }
        Ok(Setting { value: value.clone(), origin: Origin::Discovered(name) })
    }
}

fn placed(origin: &Origin, error: &Error) -> Error {
    let placed = Error::new(error.kind(), format!("{origin}: {}", error.message()));
    match error.next() {
        Some(next) => placed.with_next(next),
        None => placed,
    }
}
