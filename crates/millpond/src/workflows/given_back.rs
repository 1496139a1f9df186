//! A stored version given back to be stored: as `get` prints it, perhaps in another place, perhaps changed.

use millpond_core::{Error, Result, STORE_FIELD};
use serde_json::Value;

use super::definition::content_hash;
use super::model::{NewWorkflow, Tags, VersionRef, WorkflowVersion};

/// What every stored version has.
const ALWAYS: [&str; 4] = ["id", "version", "created_at", "definition"];

/// What only the store writes: a document that has all of the above and one of these is taken for a version. A
/// definition may have fields called `id`, `version`, `created_at` and `definition` of its own.
const OF_THE_STORE: [&str; 2] = [HASH, STORE_FIELD];

const HASH: &str = "content_hash";

impl NewWorkflow {
    /// Whether a document is a stored version, as [`NewWorkflow::from_version`] takes it, and not a definition: it has
    /// `id`, `version`, `created_at`, `definition`, and `content_hash` or the field `_store` that is shown with it.
    pub fn is_version(document: &Value) -> bool {
        let has = |name: &&str| document.get(*name).is_some();
        ALWAYS.iter().all(&has) && OF_THE_STORE.iter().any(has)
    }

    /// A stored version, to be stored elsewhere as the version it is. All of it is kept, fields we do not know too; only
    /// `created_at` and `_store` are the store's own.
    ///
    /// `content_hash` says that the definition is still the one that was stored. Left out, the definition may be
    /// another, and is believed first: what it says of its name, description, tags, author and reasoning counts, and
    /// the field beside it only where the definition is silent.
    ///
    /// # Errors
    /// `Invalid` when the document has not the form of a version, or its definition was changed under its hash.
    pub fn from_version(mut document: Value) -> Result<Self> {
        let hash = content_hash(document.get("definition").unwrap_or(&Value::Null))?;
        let said = document.as_object_mut().and_then(|fields| {
            fields.remove(STORE_FIELD);
            fields.insert(HASH.to_owned(), hash.clone().into())
        });
        let maybe_changed = said.is_none();
        if let Some(said) = said.filter(|said| said.as_str() != Some(hash.as_str())) {
            return Err(Error::invalid(format!("the definition is not the one of its content_hash {said}; its own is {hash}"))
                .with_next("to store the definition as it is now, take content_hash out: the store makes it"));
        }
        let version: WorkflowVersion =
            serde_json::from_value(document).map_err(|e| Error::invalid("not a version of a workflow").with_source(e))?;
        let given = Self {
            id: Some(version.id),
            version: Some(version.version),
            name: version.name,
            description: version.description,
            parent: version.parent,
            reasoning: version.reasoning,
            tags: Some(version.tags),
            author: version.author,
            definition: version.definition,
            extra: version.extra,
        };
        Ok(if maybe_changed { given.definition_first() } else { given })
    }

    /// The next version of a stored one: as [`NewWorkflow::from_version`], but made from the version given, which has to
    /// be where it is stored. Why the version given was made is not why this one is: `reasoning` is not taken over.
    ///
    /// # Errors
    /// As [`NewWorkflow::from_version`].
    pub fn next_of(version: Value) -> Result<Self> {
        let given = Self::from_version(version)?;
        let parent = given.id.clone().zip(given.version).map(|(id, version)| VersionRef { id, version });
        Ok(Self { parent, reasoning: None, ..given }.next())
    }

    /// Forgets what the definition says itself.
    fn definition_first(mut self) -> Self {
        let own = super::definition::Said::of(&self.definition);
        self.name = self.name.filter(|_| own.name.is_none());
        self.description = self.description.filter(|_| own.description.is_none());
        self.reasoning = self.reasoning.filter(|_| own.reasoning.is_none());
        self.author = self.author.filter(|_| own.author.is_none());
        self.tags = self.tags.filter(|_| own.tags.as_ref().is_none_or(Tags::is_empty));
        self
    }
}
