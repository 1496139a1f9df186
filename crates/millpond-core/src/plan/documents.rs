//! Document writes: create-only collections, index fields, merges.

use serde_json::Value;

use crate::collection::FieldValue;
use crate::commit::PreparedFields;
use crate::error::{Error, Result};
use crate::json::{self, Json};
use crate::limits;
use crate::merge::MergeOp;
use crate::name::RecordId;
use crate::outcome::{Conflict, Expected};
use crate::plan::apply::Refusal;
use crate::plan::current::{Current, Document};
use crate::plan::work::Work;

impl Work {
    pub(super) fn check_create_only(&self, id: &RecordId, before: &Current) -> Result<(), Refusal> {
        let exists = matches!(before, Current::Live { .. });
        if exists && self.spec(id).is_some_and(|s| s.create_only) {
            return Err(Conflict { index: None, expected: Expected::CreateOnly(id.clone()), found: before.found() }.into());
        }
        Ok(())
    }

    /// The fields as the caller took them out, or taken out again when the declaration changed in between.
    pub(super) fn put_fields(
        &self,
        id: &RecordId,
        json: &Json,
        prepared: Option<&PreparedFields>,
    ) -> Result<Option<Vec<FieldValue>>> {
        let Some(spec) = self.state.catalog.get(id.collection.as_str()) else { return Ok(None) };
        match prepared {
            Some(p) if std::sync::Arc::ptr_eq(&p.spec, spec) || p.spec.fields == spec.fields => Ok(Some(p.values.clone())),
            _ => spec.extract(&json.value()?).map(Some),
        }
    }

    pub(super) fn merge(&mut self, id: &RecordId, ops: &[MergeOp]) -> Result<u64, Refusal> {
        let before = self.record(id);
        self.check_create_only(id, &before)?;
        let added: usize = ops.iter().map(MergeOp::size).sum();
        let last = before.last_revision();
        let (mut value, old_bound) = match before {
            Current::Live { document: Document::Merged { value, size_bound, .. }, .. } => (value, size_bound),
            Current::Live { document: Document::Stored(Some(json)) | Document::Text(json, _), .. } => (json.value()?, json.len()),
            Current::Live { .. } => return Err(Error::corrupt(format!("the engine did not load {id} for a merge")).into()),
            _ => (Value::Object(serde_json::Map::new()), 2),
        };
        for op in ops {
            op.apply(&mut value).map_err(|e| e.with("record", id))?;
        }
        json::check(&value, 0).map_err(|e| e.with("record", id))?;
        let mut size_bound = old_bound + added;
        if size_bound > limits::DOCUMENT_BYTES {
            size_bound = Json::from_checked(&value).len();
            if size_bound > limits::DOCUMENT_BYTES {
                let message = format!("document {id} would grow to {size_bound} bytes; the limit is {}", limits::DOCUMENT_BYTES);
                return Err(Error::invalid(message).into());
            }
        }
        let fields = self.spec(id).map_or(Ok(Vec::new()), |s| s.extract(&value))?;
        Ok(self.set(id, last, Some(Document::Merged { value, size_bound, fields })))
    }

    pub(super) fn lease_fields(&self, id: &RecordId, json: &Json) -> Result<Option<Vec<FieldValue>>> {
        self.put_fields(id, json, None)
    }
}
