//! What a definition says about itself, and what is stored of it.
//!
//! DarwinFlow's files have `id`, `version`, `description`, `nodes`, `edges` (with the reserved nodes `START` and `END`)
//! and perhaps `metadata`; Prodigy's have `name`, `content`, `parameters`. Any other document is a definition as well:
//! nothing is required of it and nothing is dropped.

use std::collections::HashSet;

use millpond_core::{Error, Json, Result, Timestamp, limits};
use serde_json::Value;

use crate::extra;

use super::model::{NewWorkflow, Tags, VersionRef, WorkflowVersion};

/// The version a definition gives itself: an integer, or nothing. (Other documents keep text or floats under that name.)
pub(super) fn own_version(definition: &Value) -> Result<Option<u32>> {
    let Some(number) = definition.get("version").and_then(Value::as_i64) else { return Ok(None) };
    match u32::try_from(number) {
        Ok(version) if version > 0 => Ok(Some(version)),
        _ => Err(Error::invalid(format!("the definition says version {number}; versions are 1 to {}", u32::MAX))),
    }
}

/// The id a version will be stored under.
pub(super) fn id_of(new: &NewWorkflow) -> Result<String> {
    let text = |key: &str| new.definition.get(key).and_then(Value::as_str);
    let own = text("id").or_else(|| text("name").filter(|_| new.definition.get("id").is_none()));
    let id = match (&new.id, text("id")) {
        (Some(given), Some(own)) if given != own => {
            return Err(Error::invalid(format!("the workflow is to be stored as {given:?}, but its definition says id {own:?}"))
                .with_next("change one of them"));
        }
        (Some(given), _) => given.clone(),
        (None, _) => own.map(str::to_owned).ok_or_else(|| {
            Error::invalid("the workflow has no id").with_next("give one, or put `id:` or `name:` into the definition")
        })?,
    };
    if id.is_empty() || id.len() > limits::INDEXED_TEXT_BYTES {
        return Err(Error::invalid(format!(
            "a workflow's id has 1 to {} bytes; this one has {}",
            limits::INDEXED_TEXT_BYTES,
            id.len()
        )));
    }
    Ok(id)
}

/// What a definition says of itself that is also a field of its version.
pub(super) struct Said {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) reasoning: Option<String>,
    pub(super) author: Option<String>,
    pub(super) tags: Option<Tags>,
}

impl Said {
    /// Looks into the definition and its `metadata`.
    pub(super) fn of(definition: &Value) -> Self {
        let metadata = definition.get("metadata");
        let own = |key: &str| definition.get(key).and_then(Value::as_str).map(str::to_owned);
        let noted = |key: &str| metadata.and_then(|m| m.get(key)).and_then(Value::as_str).map(str::to_owned);
        let tags = definition.get("tags").or_else(|| metadata.and_then(|m| m.get("tags")));
        Self {
            name: own("name"),
            description: own("description"),
            reasoning: own("reasoning").or_else(|| noted("reasoning")),
            author: own("author").or_else(|| noted("created_by")),
            // Something else under that name is the definition's own business.
            tags: tags.and_then(|t| serde_json::from_value(t.clone()).ok()),
        }
    }
}

/// The document to store. The definition's own `id` and integer `version` are made to agree with what it is stored as.
pub(super) fn stored(new: &NewWorkflow, at: VersionRef, now: Timestamp) -> Result<WorkflowVersion> {
    let mut definition = new.definition.clone();
    if let Some(version) = definition.get_mut("version").filter(|v| v.is_i64()) {
        *version = Value::from(at.version);
    }
    check_graph(&definition)?;
    let said = Said::of(&definition);
    let version = WorkflowVersion {
        id: at.id,
        version: at.version,
        name: new.name.clone().or(said.name),
        description: new.description.clone().or(said.description),
        parent: new.parent.clone(),
        reasoning: new.reasoning.clone().or(said.reasoning),
        tags: new.tags.clone().or(said.tags).unwrap_or_default(),
        author: new.author.clone().or(said.author),
        created_at: now,
        content_hash: content_hash(&definition)?,
        definition,
        extra: new.extra.clone(),
    };
    extra::check(&format!("the version {}", version.reference()), &version)?;
    Ok(version)
}

/// `sha256:` and the SHA-256 of the canonical JSON, in hexadecimal.
pub(super) fn content_hash(definition: &Value) -> Result<String> {
    Ok(format!("sha256:{}", crate::text::sha256_hex(Json::from_value(definition)?.as_str().as_bytes())))
}

/// Checks the graph of a definition that has DarwinFlow's form: nodes with ids and types, edges between nodes, `START` and `END`
/// only as ends of edges. A document without that form is not looked into.
fn check_graph(definition: &Value) -> Result<()> {
    let (Some(nodes), Some(edges)) = (array(definition, "nodes"), array(definition, "edges")) else { return Ok(()) };
    let has_form = nodes.iter().all(|n| ["id", "type"].iter().all(|k| n.get(k).is_some_and(Value::is_string)))
        && edges.iter().all(|e| e.get("from").is_some_and(Value::is_string) && e.get("to").is_some_and(Value::is_string));
    if !has_form {
        return Ok(());
    }
    let mut problems = Vec::new();
    let mut ids = HashSet::new();
    for (i, node) in nodes.iter().enumerate() {
        let id = text(node, "id");
        if id == START || id == END {
            problems.push(format!("nodes[{i}].id: {id} is reserved"));
        }
        if !ids.insert(id) {
            problems.push(format!("nodes[{i}].id: {id:?} is used twice"));
        }
    }
    for (i, edge) in edges.iter().enumerate() {
        for (end, reserved, other) in [("from", START, END), ("to", END, START)] {
            let id = text(edge, end);
            if id == other {
                problems.push(format!("edges[{i}].{end}: no edge can go {end} {other}"));
            } else if id != reserved && !ids.contains(id) {
                problems.push(format!("edges[{i}].{end}: there is no node {id:?}"));
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!("the workflow's graph does not hold together: {}", problems.join("; "))))
}

const START: &str = "START";
const END: &str = "END";

fn array<'v>(value: &'v Value, key: &str) -> Option<&'v [Value]> {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
