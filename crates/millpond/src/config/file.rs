//! What a configuration file says. Every key is known or refused, with its line.

use std::collections::BTreeMap;

use millpond_core::{Error, Result};
use serde_saphyr::Spanned;

use super::secret::{expand, parameter, with_password};
use super::tree::{Node, parse};
use super::{Origin, Setting};
use crate::Domain;

/// Keys of the file itself.
pub(super) const KEYS: [&str; 6] = ["namespace", "store", "require", "objects", "domains", "storage"];
/// Keys of a backend that is not just a URL.
pub(super) const BACKEND_KEYS: [&str; 6] = ["store", "type", "path", "password", "password_file", "options"];

/// A file, read but not yet weighed against flags and variables.
#[derive(Default)]
pub(super) struct FileConfig {
    pub(super) namespace: Option<Setting<String>>,
    pub(super) store: Option<Setting<String>>,
    pub(super) require: Option<Setting<String>>,
    pub(super) domains: BTreeMap<Domain, Setting<String>>,
    pub(super) objects: Option<Setting<String>>,
}

/// Reads a file's text. Passwords are read from where it says.
///
/// # Errors
/// `Invalid` with file and line.
pub(super) fn read(text: &str, name: &str, environment: &BTreeMap<String, String>) -> Result<FileConfig> {
    let reader = Reader { name, environment };
    let mut file = FileConfig::default();
    let root = parse(text, name)?;
    if matches!(root.value, Node::Nothing) {
        return Ok(file);
    }
    for (key, value) in reader.map(&root, 1)? {
        match reader.known(key, &KEYS)? {
            "namespace" => file.namespace = Some(reader.text(key, value)?),
            "require" => file.require = Some(reader.text(key, value)?),
            "store" => file.store = Some(reader.backend(key, value)?),
            "objects" => file.objects = Some(reader.backend(key, value)?),
            _ => reader.domains(key, value, &mut file)?,
        }
    }
    Ok(file)
}

struct Reader<'a> {
    name: &'a str,
    environment: &'a BTreeMap<String, String>,
}

type Entry = (Spanned<String>, Spanned<Node>);
/// A place that was named, and what is left of where it was named.
type Parted = (Option<Setting<String>>, Option<Spanned<Node>>);

impl Reader<'_> {
    fn wrong(&self, line: u64, what: &str) -> Error {
        Error::invalid(format!("{}:{line}: {what}", self.name)).with_next("docs/configuration.md shows the form")
    }

    /// An error of something that stands in a line.
    fn at(&self, line: u64, error: &Error) -> Error {
        let placed = Error::new(error.kind(), format!("{}:{line}: {}", self.name, error.message()));
        match error.next() {
            Some(next) => placed.with_next(next),
            None => placed,
        }
    }

    fn map<'n>(&self, node: &'n Spanned<Node>, line: u64) -> Result<&'n [Entry]> {
        match &node.value {
            Node::Map(entries) => Ok(entries),
            _ => Err(self.wrong(line, "keys and values are expected here")),
        }
    }

    fn known<'k>(&self, key: &Spanned<String>, known: &[&'k str]) -> Result<&'k str> {
        if let Some(found) = known.iter().find(|k| **k == key.value) {
            return Ok(found);
        }
        let near = known.iter().map(|k| (strsim::osa_distance(k, &key.value), k)).min().filter(|(apart, _)| *apart <= 3);
        let next = near.map_or_else(|| format!("known are {}", known.join(", ")), |(_, near)| format!("did you mean {near}?"));
        Err(Error::invalid(format!("{}:{}: unknown key {:?}", self.name, key.referenced.line(), key.value)).with_next(next))
    }

    fn text(&self, key: &Spanned<String>, value: &Spanned<Node>) -> Result<Setting<String>> {
        let line = key.referenced.line();
        let Node::Text(text) = &value.value else { return Err(self.wrong(line, &format!("{} takes one value", key.value))) };
        let value = expand(text, self.environment).map_err(|e| self.at(line, &e))?;
        Ok(Setting { value, origin: Origin::File { name: self.name.to_owned(), line } })
    }

    fn domains(&self, key: &Spanned<String>, value: &Spanned<Node>, file: &mut FileConfig) -> Result<()> {
        let mut known: Vec<&str> = Domain::ALL.iter().map(|d| d.name()).collect();
        // What one system calls logs are runs here.
        known.push("logs");
        for (name, backend) in self.map(value, key.referenced.line())? {
            let named = self.known(name, &known)?;
            let domain = Domain::ALL.into_iter().find(|d| d.name() == named).unwrap_or(Domain::Runs);
            let (objects, backend) = match domain {
                Domain::Artifacts => self.objects(backend)?,
                _ => (None, Some(backend.clone())),
            };
            if let Some(objects) = objects
                && file.objects.replace(objects).is_some()
            {
                return Err(self.wrong(name.referenced.line(), "objects have a place already"));
            }
            let Some(backend) = backend else { continue };
            if file.domains.insert(domain, self.backend(name, &backend)?).is_some() {
                return Err(self.wrong(name.referenced.line(), &format!("{domain} has a place already")));
            }
        }
        Ok(())
    }

    /// `objects: PLACE` among the parts of a backend, and the backend without it, if there is one.
    fn objects(&self, backend: &Spanned<Node>) -> Result<Parted> {
        let Node::Map(entries) = &backend.value else { return Ok((None, Some(backend.clone()))) };
        let (own, rest): (Vec<Entry>, Vec<Entry>) = entries.iter().cloned().partition(|(key, _)| key.value == "objects");
        let objects = own.first().map(|(key, value)| self.backend(key, value)).transpose()?;
        let rest = (!rest.is_empty()).then(|| Spanned { value: Node::Map(rest), ..backend.clone() });
        Ok((objects, rest))
    }

    /// A URL, or the parts of one.
    fn backend(&self, key: &Spanned<String>, value: &Spanned<Node>) -> Result<Setting<String>> {
        if matches!(value.value, Node::Text(_)) {
            return self.text(key, value);
        }
        let line = key.referenced.line();
        let mut parts: BTreeMap<&str, Setting<String>> = BTreeMap::new();
        let mut options = Vec::new();
        for (key, value) in self.map(value, line)? {
            match self.known(key, &BACKEND_KEYS)? {
                "options" => {
                    for (name, value) in self.map(value, key.referenced.line())? {
                        options.push(format!("{}={}", parameter(&name.value), parameter(&self.text(name, value)?.value)));
                    }
                }
                part => drop(parts.insert(part, self.text(key, value)?)),
            }
        }
        let url = self.url(line, &parts)?;
        let mut url = match self.password(line, &parts)? {
            Some(password) => with_password(&url, &password).map_err(|e| self.at(line, &e))?,
            None => url,
        };
        if !options.is_empty() {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&options.join("&"));
        }
        Ok(Setting { value: url, origin: Origin::File { name: self.name.to_owned(), line } })
    }

    fn url(&self, line: u64, parts: &BTreeMap<&str, Setting<String>>) -> Result<String> {
        let part = |name| parts.get(name).map(|s: &Setting<String>| s.value.as_str());
        match (part("store"), part("type"), part("path")) {
            (Some(url), None, None) => Ok(url.to_owned()),
            (None, Some("memory"), None) => Ok("memory:".to_owned()),
            (None, Some(kind), Some(path)) if path.starts_with(&format!("{kind}:")) => Ok(path.to_owned()),
            (None, Some(kind @ ("file" | "sqlite")), Some(path)) => Ok(format!("{kind}:{path}")),
            (None, Some("postgres"), Some(path)) if path.starts_with("postgresql://") => Ok(path.to_owned()),
            (None, Some(kind @ ("postgres" | "redis" | "nats" | "s3" | "minio" | "gs" | "az")), Some(path)) => {
                Ok(format!("{kind}://{path}"))
            }
            (None, Some(kind), Some(_)) => Err(self.wrong(
                line,
                &format!("there is no type {kind:?}: use file, sqlite, postgres, redis, nats, s3, minio, gs, az or memory"),
            )),
            _ => Err(self.wrong(line, "give store: URL, or type and path")),
        }
    }

    fn password(&self, line: u64, parts: &BTreeMap<&str, Setting<String>>) -> Result<Option<String>> {
        match (parts.get("password"), parts.get("password_file")) {
            (Some(_), Some(_)) => Err(self.wrong(line, "give password or password_file, not both")),
            (Some(password), None) => Ok(Some(password.value.clone())),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(&file.value)
                    .map_err(|e| self.wrong(line, &format!("cannot read the password_file {:?}", file.value)).with_source(e))?;
                Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            (None, None) => Ok(None),
        }
    }
}
