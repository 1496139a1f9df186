//! Records and typed documents.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use crate::collection::Collection;
use crate::error::Result;
use crate::json::Json;
use crate::name::{CollectionName, Key};
use crate::position::Position;
use crate::time::Timestamp;

/// A JSON document with a revision and a position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The collection.
    pub collection: CollectionName,
    /// The key.
    pub key: Key,
    /// Counts this record's changes; never reused, not even after delete and re-create.
    pub revision: u64,
    /// Where in the namespace's history the last change happened.
    pub position: Position,
    /// When it was last changed.
    pub time: Timestamp,
    /// Who changed it last, if the commit said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The document.
    pub value: Json,
}

impl Record {
    /// The document as `T`, with the revision it was read at.
    ///
    /// # Errors
    /// `Corrupt` when the document does not have the shape of `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<Versioned<T>> {
        let value = self.value.decode().map_err(|e| e.with("record", format!("{}/{}", self.collection, self.key)))?;
        Ok(Versioned { value, revision: self.revision, position: self.position, time: self.time, by: self.by.clone() })
    }

    /// Whether the document is JSON from its first byte to its last. Engines look at both ends only when a record is
    /// read by key, because most readers parse it anyway.
    ///
    /// # Errors
    /// `Corrupt` when it is not.
    pub(crate) fn check_document(&self) -> Result<()> {
        self.value.check_text().map_err(|e| e.with("record", format!("{}/{}", self.collection, self.key)))
    }
}

/// What remains of a deleted record: its revision, and when and by whom it was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The collection.
    pub collection: CollectionName,
    /// The key.
    pub key: Key,
    /// The revision the deletion took.
    pub revision: u64,
    /// The position the deletion took.
    pub position: Position,
    /// When.
    pub time: Timestamp,
    /// By whom, if the commit said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The one field that [`Versioned`] adds to a document when it is serialised. Remove it before the JSON is read as the
/// document again.
pub const STORE_FIELD: &str = "_store";

/// A typed document together with what the store knows about it.
///
/// Serialised, it is the document and one field more, [`STORE_FIELD`]: `{…, "_store": {"revision": 3, "position": 17,
/// "time": …, "by": …}}`. So no field of a document is ever hidden by one of the store's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The document.
    pub value: T,
    /// The revision it was read at; pass it back to update only if nobody else did.
    pub revision: u64,
    /// The position of its last change.
    pub position: Position,
    /// When it was last changed.
    pub time: Timestamp,
    /// Who changed it last.
    pub by: Option<String>,
}

impl<T: Serialize> Serialize for Versioned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a, T> {
            #[serde(flatten)]
            value: &'a T,
            #[serde(rename = "_store")]
            store: StoreFacts<'a>,
        }
        #[derive(Serialize)]
        struct StoreFacts<'a> {
            revision: u64,
            position: Position,
            time: Timestamp,
            #[serde(skip_serializing_if = "Option::is_none")]
            by: Option<&'a str>,
        }
        let store = StoreFacts { revision: self.revision, position: self.position, time: self.time, by: self.by.as_deref() };
        Shown { value: &self.value, store }.serialize(serializer)
    }
}

impl<T> std::ops::Deref for Versioned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> std::ops::DerefMut for Versioned<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// A type kept as records of one collection.
///
/// Keep fields you do not know (`#[serde(flatten)] extra: BTreeMap<String, serde_json::Value>`), so that an older
/// program does not drop what a newer one wrote.
///
/// ```
/// use millpond_core::{Collection, Document, FieldKind, Key, Result};
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Tenant { id: String, plan: String, seats: i64 }
/// impl Document for Tenant {
///     const COLLECTION: Collection =
///         Collection::new("tenants").version(1).index("plan", FieldKind::Text).index("seats", FieldKind::Integer);
///     fn key(&self) -> Result<Key> { Key::new(self.id.as_str()) }
/// }
/// ```
pub trait Document: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The declaration of the collection.
    const COLLECTION: Collection;

    /// The document's own key.
    ///
    /// # Errors
    /// `Invalid` when it cannot be a key.
    fn key(&self) -> Result<Key>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_keeps_its_own_fields_beside_those_of_the_store() {
        let value = serde_json::json!({ "revision": "mine", "time": 5, "by": "me", "position": { "x": 1 } });
        let shown = Versioned {
            value: value.clone(),
            revision: 3,
            position: Position(17),
            time: Timestamp::from_micros(0),
            by: Some("anna".to_owned()),
        };
        let mut json = serde_json::to_value(&shown).expect("JSON");
        let store = json.as_object_mut().and_then(|fields| fields.remove(STORE_FIELD)).expect("the store's field");
        assert_eq!(
            (store["revision"].clone(), store["position"].clone(), store["by"].clone()),
            (3.into(), 17.into(), "anna".into())
        );
        assert_eq!(json, value);
    }
}
