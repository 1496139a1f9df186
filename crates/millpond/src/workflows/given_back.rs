//! A stored version given back to be stored: as `get` prints it, perhaps in another place, perhaps changed.

use millpond_core::{Error, Result};
use serde_json::Value;

use super::definition::content_hash;
use super::model::{NewWorkflow, WorkflowVersion};

/// What every stored version has. A definition that has all of them is taken for one.
const ALWAYS: [&str; 4] = ["id", "version", "created_at", "definition"];

impl NewWorkflow {
    /// Whether a document is a stored version, as [`NewWorkflow::from_version`] takes it, and not a definition.
    pub fn is_version(document: &Value) -> bool {
        document.as_object().is_some_and(|fields| ALWAYS.iter().all(|name| fields.contains_key(*name)))
    }

    /// A stored version, to be stored elsewhere or, with [`NewWorkflow::next`], again. All of it is kept, fields we do
    /// not know too; only `created_at` is the store's own and is made anew. `content_hash` may be left out; if it is
    /// there it has to be the definition's.
    ///
    /// # Errors
    /// `Invalid` when the document has not the form of a version, or its definition was changed under its hash.
    pub fn from_version(mut document: Value) -> Result<Self> {
        let hash = content_hash(document.get("definition").unwrap_or(&Value::Null))?;
        let said = document.as_object_mut().and_then(|fields| fields.insert("content_hash".to_owned(), hash.clone().into()));
        if let Some(said) = said.filter(|said| said.as_str() != Some(hash.as_str())) {
            return Err(Error::invalid(format!("the definition is not the one of its content_hash {said}; its own is {hash}"))
                .with_next("to store the definition as it is now, take content_hash out: the store makes it"));
        }
        let version: WorkflowVersion =
            serde_json::from_value(document).map_err(|e| Error::invalid("not a version of a workflow").with_source(e))?;
        Ok(Self {
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
        })
    }
}
