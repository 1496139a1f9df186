//! An edited version becomes the next one, made from it; a new file becomes a version.

use millpond_core::{Error, Result, Store};
use serde_json::Value;

use super::super::names;
use super::super::subject::Subject;
use super::{Edited, Verdict, deleted};
use crate::{NewWorkflow, VersionRef, WorkflowVersion, Workflows};

/// Versions made from one that are looked at: has this edit been adopted before?
const CHILDREN: usize = 100;

pub(super) async fn judge(store: &Store, edited: &Edited<'_>) -> Result<Verdict> {
    let workflows = Workflows::new(store.clone());
    if let Some(Subject::Version(at)) = &edited.subject {
        if let Some(current) = workflows.get(&at.id, at.version).await? {
            if current.definition == edited.value {
                return Ok(Verdict::Same { revision: current.revision });
            }
            return next(&workflows, edited, &current.value).await;
        }
        if edited.revision.is_some() {
            return Err(deleted(&format!("workflow {at}")));
        }
        let new = given(edited, Some(&at.id))?;
        let says = new.version.filter(|v| *v != at.version);
        if let Some(says) = says.filter(|_| NewWorkflow::is_version(&edited.value)) {
            return Err(Error::invalid(format!("the file is for {at}, but it says version {says}")));
        }
        return stored(&workflows, new.id(&at.id).version(at.version), edited.dry_run).await;
    }
    let hint = hint(edited.path);
    let new = given(edited, hint.as_deref())?.next();
    let id = new.id.clone().or_else(|| own_id(&new.definition));
    if let Some(latest) = workflows.latest(id.as_deref().unwrap_or_default()).await?
        && is_same(&latest.definition, &new.definition)
    {
        return Ok(already(latest.reference()));
    }
    stored(&workflows, new, edited.dry_run).await
}

/// The next version. A process that was killed while it adopted has stored it already.
async fn next(workflows: &Workflows, edited: &Edited<'_>, current: &WorkflowVersion) -> Result<Verdict> {
    let children = workflows.children(&current.reference(), CHILDREN, None).await?;
    for child in children.items.iter().filter(|c| c.id == current.id && !c.is_deleted()) {
        let found = workflows.get(&child.id, child.version).await?;
        if found.is_some_and(|found| is_same(&found.definition, &edited.value)) {
            return Ok(already(child.reference()));
        }
    }
    let mut document = serde_json::to_value(current).map_err(|e| Error::invalid("cannot be written as JSON").with_source(e))?;
    document["definition"] = edited.value.clone();
    // Without it the definition is believed before the fields beside it.
    document.as_object_mut().and_then(|fields| fields.remove("content_hash"));
    stored(workflows, NewWorkflow::next_of(document)?, edited.dry_run).await
}

async fn stored(workflows: &Workflows, new: NewWorkflow, dry_run: bool) -> Result<Verdict> {
    let version = if dry_run { workflows.store_part(&new).await?.1 } else { workflows.store(&new).await? };
    let reference = version.reference();
    let detail = match &version.parent {
        Some(parent) => format!("{reference}, made from {parent}"),
        None => reference.to_string(),
    };
    Ok(Verdict::Stored { subject: Subject::Version(reference), detail })
}

fn already(reference: VersionRef) -> Verdict {
    Verdict::Stored { detail: format!("{reference}, which says the same"), subject: Subject::Version(reference) }
}

/// What a new file says: a definition, or a whole version as the program prints it.
fn given(edited: &Edited<'_>, id: Option<&str>) -> Result<NewWorkflow> {
    if NewWorkflow::is_version(&edited.value) {
        return NewWorkflow::from_version(edited.value.clone());
    }
    let new = NewWorkflow::of(edited.value.clone());
    Ok(match id {
        Some(id) if own_id(&new.definition).is_none() => new.id(id),
        _ => new,
    })
}

fn own_id(definition: &Value) -> Option<String> {
    let text = |key: &str| definition.get(key).and_then(Value::as_str).map(str::to_owned);
    text("id").or_else(|| text("name").filter(|_| definition.get("id").is_none()))
}

/// The folder a new file is in, or its own name.
fn hint(path: &str) -> Option<String> {
    let rest = path.strip_prefix("workflows/")?;
    let name = rest.rsplit_once('/').map_or_else(|| rest.rsplit_once('.').map_or(rest, |(stem, _)| stem), |(folder, _)| folder);
    Some(names::meant_by(name))
}

/// Whether two definitions differ at most in the version that they give themselves, which the store sets.
fn is_same(a: &Value, b: &Value) -> bool {
    let without = |value: &Value| {
        let mut value = value.clone();
        if let Some(version) = value.get_mut("version").filter(|v| v.is_i64()) {
            *version = Value::Null;
        }
        value
    };
    without(a) == without(b)
}
