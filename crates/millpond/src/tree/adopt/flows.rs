//! An edited flow is updated at the revision that was edited; a new file becomes a flow.

use millpond_core::{Error, Result, Store};

use super::super::names;
use super::super::subject::Subject;
use super::{BY_HAND, Edited, Verdict, deleted, overtaken};
use crate::{Flow, Flows};

pub(super) async fn judge(store: &Store, edited: &Edited<'_>) -> Result<Verdict> {
    let flows = Flows::new(store.clone()).by(BY_HAND);
    let mut flow: Flow =
        serde_json::from_value(edited.value.clone()).map_err(|e| Error::invalid("it is not a flow").with_source(e))?;
    let id = match &edited.subject {
        Some(Subject::Flow(id)) => id.clone(),
        _ if flow.id.is_empty() => names::meant_by(stem(edited.path)),
        _ => flow.id.clone(),
    };
    if flow.id.is_empty() {
        flow.id.clone_from(&id);
    }
    let what = format!("flow {id:?}");
    if flow.id != id {
        return Err(Error::invalid(format!("the file is of {what}, but it says id {:?}", flow.id)));
    }
    let Some(current) = flows.get(&id).await? else {
        if edited.revision.is_some() {
            return Err(deleted(&what));
        }
        return create(&flows, &flow, edited.dry_run).await;
    };
    let is_in_place = matches!(edited.subject, Some(Subject::Flow(_)));
    if is_in_place && serde_json::to_value(&current.value).is_ok_and(|v| v == edited.value) {
        return Ok(Verdict::Same { revision: current.revision });
    }
    take_over(&mut flow, &current.value);
    let is_same = flow == current.value;
    if is_same && edited.revision != Some(current.revision) {
        // A process that was killed while it adopted has stored it already.
        return Ok(stored(&id, current.version, "which says the same"));
    }
    if is_same {
        return Err(Error::invalid("only what the store itself writes was changed: the version, the state or a time"));
    }
    if edited.revision != Some(current.revision) {
        return Err(overtaken(&what, edited.revision, current.revision));
    }
    let version = if edited.dry_run { flows.update_part(&flow).await?.1.version } else { flows.update(&flow).await?.version };
    Ok(stored(&id, version, "an update"))
}

async fn create(flows: &Flows, flow: &Flow, dry_run: bool) -> Result<Verdict> {
    let version = if dry_run { flows.create_part(flow).await?.1.version } else { flows.create(flow).await?.version };
    Ok(stored(&flow.id, version, "a new flow"))
}

fn stored(id: &str, version: i64, how: &str) -> Verdict {
    Verdict::Stored { subject: Subject::Flow(id.to_owned()), detail: format!("{id}@{version}, {how}") }
}

/// What is the store's own is as the store has it, whatever the file says: an older file has older versions and times.
fn take_over(flow: &mut Flow, current: &Flow) {
    flow.version = current.version;
    flow.runtime_state = current.runtime_state.clone();
    flow.deployed_at = current.deployed_at;
    flow.started_at = current.started_at;
    flow.stopped_at = current.stopped_at;
    flow.created_at = current.created_at;
    flow.created_by.clone_from(&current.created_by);
    flow.updated_at = current.updated_at;
    flow.last_modified = current.last_modified;
}

fn stem(path: &str) -> &str {
    let rest = path.strip_prefix("flows/").unwrap_or(path);
    rest.rsplit_once('.').map_or(rest, |(stem, _)| stem)
}
