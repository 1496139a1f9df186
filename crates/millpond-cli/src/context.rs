//! What every command needs: the place, the namespace, the output.

use std::sync::PoisonError;

use millpond::{
    Config, DEFAULT_STORE, Durability, Error, Namespace, OpenOptions, Origin, Pond, Result, Sources, without_password,
};

use crate::args::Global;
use crate::output::Out;

/// The global flags, and what follows from them.
#[derive(Debug)]
pub struct Context {
    yes: bool,
    config: Config,
    /// Where data goes.
    pub out: Out,
    /// What was opened last: its readable tree is finished before the program ends.
    opened: std::sync::Mutex<Option<Pond>>,
}

impl Context {
    /// From the global flags, the environment and the configuration file.
    ///
    /// # Errors
    /// As [`Sources::resolve`].
    pub fn new(global: Global) -> Result<Self> {
        let Global { store, config, discover, namespace, output, require, objects, yes } = global;
        let config = Sources { store, namespace, require, objects, file: config, discover, ..Sources::of_process() }.resolve()?;
        if let Origin::Discovered(variable) = config.store_origin() {
            crate::report::note(format_args!("the store is {} (from {variable})", without_password(config.store())));
        }
        Ok(Self { yes, config, out: Out::new(output), opened: std::sync::Mutex::default() })
    }

    /// What was said, by whom.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The main store's place, as given.
    pub fn place(&self) -> &str {
        self.config.store()
    }

    /// The global flags that another command needs to find the same namespace; empty for the usual one.
    pub fn flags(&self) -> String {
        let mut flags = String::new();
        // What a file says it says to the next command too.
        if matches!(self.config.store_origin(), Origin::Flag(_) | Origin::Environment(_)) && self.place() != DEFAULT_STORE {
            flags.push_str(&format!(" --store {}", shell_word(&without_password(self.place()))));
        }
        if let (Some(objects), Some(Origin::Flag(_) | Origin::Environment(_))) =
            (self.config.objects(), self.config.objects_origin())
        {
            flags.push_str(&format!(" --objects {}", shell_word(&without_password(objects))));
        }
        if self.config.namespace().as_str() != Namespace::DEFAULT {
            flags.push_str(&format!(" --namespace {}", self.config.namespace()));
        }
        flags
    }

    /// Whether `--yes` was said.
    pub fn yes(&self) -> bool {
        self.yes
    }

    /// Asks before something is destroyed, unless `--yes` was said.
    ///
    /// # Errors
    /// As [`crate::report::confirm`].
    pub fn confirm(&self, question: impl std::fmt::Display, name: &str) -> Result<()> {
        if self.yes() { Ok(()) } else { crate::report::confirm(&question.to_string(), name) }
    }

    /// Options for opening the place; a store that is not there is made only if asked.
    pub fn options(&self, create: bool) -> OpenOptions {
        OpenOptions::new().create(create)
    }

    /// What acknowledged commits have to survive, if that was said.
    pub fn required(&self) -> Option<Durability> {
        self.config.require()
    }

    /// Opens a store that has to be there already: for every command that only reads.
    ///
    /// # Errors
    /// `NotFound` when there is no store at the place.
    pub async fn existing(&self) -> Result<Pond> {
        let pond = self.options(false).open_config(&self.config).await.map_err(|e| self.explain(e))?;
        Ok(self.noted(pond))
    }

    /// Opens the store, and makes it if need be: for commands that write something new.
    ///
    /// # Errors
    /// As [`millpond::open`].
    pub async fn open(&self) -> Result<Pond> {
        let pond = self.options(true).open_config(&self.config).await?;
        Ok(self.noted(pond))
    }

    /// Tells what was edited by hand since the store was last open, and remembers to finish the tree.
    fn noted(&self, pond: Pond) -> Pond {
        for found in pond.trees().flat_map(|tree| tree.at_open()) {
            crate::report::note(crate::commands::adopt::told(found));
        }
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(pond.clone());
        pond
    }

    /// Finishes the readable trees of what was opened, also after a command that failed or did not close its store.
    pub async fn end(&self) {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        for tree in opened.iter().flat_map(Pond::trees) {
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

/// A word as a shell takes it.
pub fn shell_word(text: &str) -> String {
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=@".contains(&b)) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
