//! What every command needs: the place, the namespace, the output.

use std::sync::PoisonError;

use millpond::{Durability, Error, Namespace, OpenOptions, Pond, Result};

use crate::args::{DEFAULT_STORE, Global};
use crate::output::Out;

/// The global flags, and what follows from them.
#[derive(Debug)]
pub struct Context {
    global: Global,
    /// Where data goes.
    pub out: Out,
    /// What was opened last: its readable tree is finished before the program ends.
    opened: std::sync::Mutex<Option<Pond>>,
}

impl Context {
    /// From the global flags.
    pub fn new(global: Global) -> Self {
        let out = Out::new(global.output);
        Self { global, out, opened: std::sync::Mutex::default() }
    }

    /// The store's place, as given.
    pub fn place(&self) -> &str {
        &self.global.store
    }

    /// The global flags that another command needs to find the same namespace; empty for the usual one.
    pub fn flags(&self) -> String {
        let mut flags = String::new();
        if self.global.store != DEFAULT_STORE {
            flags.push_str(&format!(" --store {}", shell_word(&without_password(&self.global.store))));
        }
        if self.global.namespace != Namespace::DEFAULT {
            flags.push_str(&format!(" --namespace {}", self.global.namespace));
        }
        flags
    }

    /// The namespace's name, as given.
    pub fn namespace(&self) -> Result<Namespace> {
        Namespace::new(self.global.namespace.as_str())
    }

    /// Whether `--yes` was said.
    pub fn yes(&self) -> bool {
        self.global.yes
    }

    /// Asks before something is destroyed, unless `--yes` was said.
    ///
    /// # Errors
    /// As [`crate::report::confirm`].
    pub fn confirm(&self, question: impl std::fmt::Display, name: &str) -> Result<()> {
        if self.yes() { Ok(()) } else { crate::report::confirm(&question.to_string(), name) }
    }

    /// Options for opening the place; a store that is not there is made only if asked.
    pub fn options(&self, create: bool) -> Result<OpenOptions> {
        let options = OpenOptions::new().namespace(self.namespace()?).create(create);
        Ok(match self.global.require {
            Some(durability) => options.require(durability),
            None => options,
        })
    }

    /// What acknowledged commits have to survive, if that was said.
    pub fn required(&self) -> Option<Durability> {
        self.global.require
    }

    /// Opens a store that has to be there already, also one that keeps less than is required: to say so.
    ///
    /// # Errors
    /// As [`Context::existing`].
    pub async fn whatever_it_keeps(&self) -> Result<Pond> {
        let options = OpenOptions::new().namespace(self.namespace()?).create(false).adopt_edits(false);
        options.open(self.place()).await.map_err(|e| self.explain(e))
    }

    /// Opens a store that has to be there already: for every command that only reads.
    ///
    /// # Errors
    /// `NotFound` when there is no store at the place.
    pub async fn existing(&self) -> Result<Pond> {
        let pond = self.options(false)?.open(self.place()).await.map_err(|e| self.explain(e))?;
        Ok(self.noted(pond))
    }

    /// Opens the store, and makes it if need be: for commands that write something new.
    ///
    /// # Errors
    /// As [`millpond::open`].
    pub async fn open(&self) -> Result<Pond> {
        let pond = self.options(true)?.open(self.place()).await?;
        Ok(self.noted(pond))
    }

    /// Tells what was edited by hand since the store was last open, and remembers to finish the tree.
    fn noted(&self, pond: Pond) -> Pond {
        for found in pond.tree().iter().flat_map(|tree| tree.at_open()) {
            crate::report::note(crate::commands::adopt::told(found));
        }
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(pond.clone());
        pond
    }

    /// Finishes the readable tree of what was opened, also after a command that failed or did not close its store.
    pub async fn end(&self) {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tree) = opened.as_ref().and_then(Pond::tree) {
            tree.end().await;
        }
    }

    /// Says what to do about a store that is not there.
    pub fn explain(&self, error: Error) -> Error {
        if error.is_not_found() && error.next().is_none() {
            return error.with_next("name another place with --store, or make one here: millpond demo");
        }
        error
    }
}

/// A place as it may be shown: what stands in a password's place has to be typed again.
fn without_password(place: &str) -> String {
    let (address, query) = place.split_once('?').map_or((place, None), |(a, q)| (a, Some(q)));
    let address = match address.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (user, host))) if user.contains(':') => {
            format!("{scheme}://{}:PASSWORD@{host}", user.split(':').next().unwrap_or_default())
        }
        _ => address.to_owned(),
    };
    let hide = |pair: &str| if pair.starts_with("password=") { "password=PASSWORD".to_owned() } else { pair.to_owned() };
    let query = query.map(|q| q.split('&').map(hide).collect::<Vec<_>>().join("&"));
    query.map_or(address.clone(), |query| format!("{address}?{query}"))
}

/// A word as a shell takes it.
fn shell_word(text: &str) -> String {
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=@".contains(&b)) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(without_password("./folder"), "./folder");
        assert_eq!(without_password("postgres://u@h/d"), "postgres://u@h/d");
        assert_eq!(without_password("postgres://u:s3:c@ret@h/d?pool=4"), "postgres://u:PASSWORD@h/d?pool=4");
        assert_eq!(without_password("postgres://h/d?pool=4&password=s3cret"), "postgres://h/d?pool=4&password=PASSWORD");
    }
}
