//! What OpenLineage has a place for beside runs, jobs and datasets: each facet names the schema it follows.

use serde_json::{Map, Value, json};

use super::event::{PRODUCER, run_id};
use crate::lineage::{ArtifactRef, LineageRow, LineageStatus};

/// A facet of a kind, in a version of its schema.
fn facet(kind: &str, version: &str, mut fields: Value) -> Value {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("_producer".to_owned(), PRODUCER.into());
        let schema = format!("https://openlineage.io/spec/facets/{version}/{kind}.json#/$defs/{kind}");
        fields.insert("_schemaURL".to_owned(), schema.into());
    }
    fields
}

/// The execution as the run that holds this one, why it failed, and everything lists know of it as tags.
pub(super) fn of_run(namespace: &str, row: &LineageRow, over: bool) -> Map<String, Value> {
    let mut facets = Map::new();
    let parent = json!({
        "run": { "runId": run_id(namespace, &row.execution) },
        "job": { "namespace": namespace, "name": row.route },
    });
    facets.insert("parent".to_owned(), facet("ParentRunFacet", "1-0-1", parent));
    facets.insert("tags".to_owned(), facet("TagsRunFacet", "1-0-0", json!({ "tags": tags(row) })));
    if over && row.status == LineageStatus::Failed {
        facets.insert("errorMessage".to_owned(), facet("ErrorMessageRunFacet", "1-0-1", error(&row.error)));
    }
    facets
}

fn tags(row: &LineageRow) -> Vec<Value> {
    let said = [
        ("id", Some(row.id.as_str())),
        ("execution", Some(row.execution.as_str())),
        ("stage", row.stage.as_deref()),
        ("correlation", row.correlation.as_deref()),
        ("parent", row.parent.as_deref()),
        ("batch", row.batch.as_deref()),
        ("document", row.document.as_deref()),
        ("input_hash", row.input_hash.as_deref()),
        ("output_hash", row.output_hash.as_deref()),
        ("unit", row.unit.as_deref()),
    ];
    let tag = |(key, value): (&str, Option<&str>)| Some(json!({ "key": key, "value": value?, "source": "MILLPOND" }));
    said.into_iter().filter_map(tag).collect()
}

/// The message of an error, and what else of it has a place: an object's `message`, `language` and `stack_trace`.
fn error(error: &Value) -> Value {
    let text = |name: &str| error.get(name).and_then(Value::as_str);
    let message = match error {
        Value::Null => "no reason was given".to_owned(),
        Value::String(text) => text.clone(),
        other => text("message").map_or_else(|| other.to_string(), str::to_owned),
    };
    let mut fields = json!({ "message": message, "programmingLanguage": text("language").unwrap_or("UNKNOWN") });
    if let Some(trace) = text("stack_trace") {
        fields["stackTrace"] = trace.into();
    }
    fields
}

pub(super) fn of_job() -> Value {
    let kind = json!({ "processingType": "BATCH", "integration": "MILLPOND", "jobType": "TASK" });
    json!({ "jobType": facet("JobTypeJobFacet", "2-0-3", kind) })
}

pub(super) fn of_dataset(artifact: &ArtifactRef) -> Map<String, Value> {
    let version = artifact.version.as_ref().map(|version| {
        let fields = json!({ "datasetVersion": version });
        ("version".to_owned(), facet("DatasetVersionDatasetFacet", "1-0-1", fields))
    });
    version.into_iter().collect()
}
