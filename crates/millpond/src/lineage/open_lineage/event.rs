//! One row as run events.

use millpond_core::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::facets;
use crate::lineage::{ArtifactRef, LineageRow, LineageStatus};

/// The program these events come from.
pub(super) const PRODUCER: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/", env!("CARGO_PKG_VERSION"));

const SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";

/// A row that is told as events, with what went into it.
pub(super) struct Told<'r> {
    pub(super) namespace: &'r str,
    pub(super) row: &'r LineageRow,
    pub(super) inputs: Vec<ArtifactRef>,
}

impl Told<'_> {
    /// Its events: none while it waits, one while it is under way, two when it is over.
    pub(super) fn events(&self) -> Vec<Value> {
        let end = match self.row.status {
            LineageStatus::Pending => return Vec::new(),
            LineageStatus::Initiated | LineageStatus::Processing => None,
            LineageStatus::Completed => Some("COMPLETE"),
            LineageStatus::Failed => Some("FAIL"),
            LineageStatus::Cancelled => Some("ABORT"),
        };
        let start = self.event("START", self.row.started_at, false);
        let end = end.map(|kind| self.event(kind, self.row.completed_at.unwrap_or(self.row.started_at), true));
        std::iter::once(start).chain(end).collect()
    }

    fn event(&self, kind: &str, time: Timestamp, over: bool) -> Value {
        let outputs: Vec<Value> = self.row.artifact.iter().filter(|_| over).map(|a| self.dataset(a)).collect();
        let inputs: Vec<Value> = self.inputs.iter().map(|a| self.dataset(a)).collect();
        json!({
            "eventType": kind,
            "eventTime": time,
            "producer": PRODUCER,
            "schemaURL": SCHEMA,
            "run": { "runId": run_id(self.namespace, &self.row.id), "facets": facets::of_run(self.namespace, self.row, over) },
            "job": { "namespace": self.namespace, "name": self.job(), "facets": facets::of_job() },
            "inputs": inputs,
            "outputs": outputs,
        })
    }

    fn job(&self) -> String {
        format!("{}.{}", self.row.route, self.row.adapter)
    }

    fn dataset(&self, artifact: &ArtifactRef) -> Value {
        json!({ "namespace": self.namespace, "name": artifact.key, "facets": facets::of_dataset(artifact) })
    }
}

/// The id of a run: the row's own where that is a UUID, otherwise one that is always the same for the same row.
pub(super) fn run_id(namespace: &str, id: &str) -> String {
    if let Ok(own) = uuid::Uuid::try_parse(id)
        && id.len() == 36
    {
        return own.to_string();
    }
    let mut digest = Sha256::new();
    for part in ["millpond lineage", namespace, id] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::run_id;

    #[test]
    fn an_id_that_is_a_uuid_stays_and_any_other_becomes_one() {
        let own = "019abc00-0000-7000-8000-00000000000a";
        assert_eq!(run_id("default", own), own);
        assert_eq!(run_id("default", &own.to_uppercase()), own);
        let made = run_id("default", "row 1");
        assert_eq!(uuid::Uuid::parse_str(&made).map(|u| u.get_version_num()), Ok(8));
        assert_eq!(made, run_id("default", "row 1"));
        assert!(made != run_id("default", "row 2") && made != run_id("other", "row 1"));
        assert_ne!(run_id("ab", "c"), run_id("a", "bc"), "where one ends and the other begins counts");
    }
}
