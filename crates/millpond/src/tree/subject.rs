//! What a file of the tree stands for, and where it is.
//!
//! ```text
//! workflows/<id>/<version>.yaml      a version's definition
//! flows/<id>.yaml                    a flow
//! records/<collection>/<key>.json    any other record
//! streams/<stream>.jsonl             a stream, an event a line
//! ```

use millpond_core::{Document, StreamName};

use super::names;
use crate::{Flow, VersionRef, WorkflowVersion};

/// What a file stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Version(VersionRef),
    Flow(String),
    Record { collection: String, key: String },
    Stream(StreamName),
}

impl Subject {
    /// What shows a record. A version whose key is no reference has no file.
    pub(super) fn of_record(collection: &str, key: &str) -> Option<Self> {
        if collection == WorkflowVersion::COLLECTION.name() {
            return key.parse().ok().map(Self::Version);
        }
        Some(if collection == Flow::COLLECTION.name() {
            Self::Flow(key.to_owned())
        } else {
            Self::Record { collection: collection.to_owned(), key: key.to_owned() }
        })
    }

    /// What a path of the tree stands for; `None` when the tree never writes there.
    pub(super) fn at(path: &str) -> Option<Self> {
        let (kind, rest) = path.split_once('/')?;
        match kind {
            "workflows" => {
                let (id, version) = rest.strip_suffix(".yaml")?.rsplit_once('/')?;
                let reference = VersionRef::new(names::name_of(id)?, version.parse().ok()?);
                (reference.version > 0 && reference.version.to_string() == version).then_some(Self::Version(reference))
            }
            "flows" => names::name_of(rest.strip_suffix(".yaml")?).map(Self::Flow),
            "records" => {
                let (collection, key) = rest.strip_suffix(".json")?.split_once('/')?;
                let other = Self::of_record(collection, &names::name_of(key)?)?;
                matches!(other, Self::Record { .. }).then_some(other)
            }
            "streams" => StreamName::new(names::name_of(rest.strip_suffix(".jsonl")?)?).ok().map(Self::Stream),
            _ => None,
        }
    }

    /// Its path below the tree's folder.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Version(v) => format!("workflows/{}/{}.yaml", names::path_of(&v.id), v.version),
            Self::Flow(id) => format!("flows/{}.yaml", names::path_of(id)),
            Self::Record { collection, key } => format!("records/{collection}/{}.json", names::path_of(key)),
            Self::Stream(stream) => format!("streams/{}.jsonl", names::path_of(stream.as_str())),
        }
    }

    /// The collection and key of the record it shows; `None` for a stream.
    pub(super) fn record(&self) -> Option<(String, String)> {
        match self {
            Self::Version(v) => Some((WorkflowVersion::COLLECTION.name().to_owned(), v.to_string())),
            Self::Flow(id) => Some((Flow::COLLECTION.name().to_owned(), id.clone())),
            Self::Record { collection, key } => Some((collection.clone(), key.clone())),
            Self::Stream(_) => None,
        }
    }

    /// Whether it is shown when only definitions are.
    pub(super) fn is_definition(&self) -> bool {
        matches!(self, Self::Version(_) | Self::Flow(_))
    }
}

/// The collections of definitions.
pub(super) fn definitions() -> [&'static str; 2] {
    [WorkflowVersion::COLLECTION.name(), Flow::COLLECTION.name()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_subjects_go_both_ways() {
        let record = |c: &str, k: &str| Subject::of_record(c, k).expect("a subject");
        for (subject, path) in [
            (record("workflow_versions", "etl@3"), "workflows/etl/3.yaml"),
            (record("workflow_versions", "a/3.yaml@2"), "workflows/a/3%2Eyaml/2.yaml"),
            (record("flows", "plant.7"), "flows/plant.7.yaml"),
            (record("tenants", "Big/one"), "records/tenants/%42ig/one.json"),
            (Subject::Stream(StreamName::new("runs/1").expect("a name")), "streams/runs/1.jsonl"),
        ] {
            assert_eq!(subject.path(), path);
            assert_eq!(Subject::at(path), Some(subject));
        }
        for other in [
            "workflows/etl.yaml",
            "workflows/etl/03.yaml",
            "workflows/etl/0.yaml",
            "workflows/etl/x.yaml",
            "flows/A.yaml",
            "records/flows/x.json",
            "notes.txt",
            "conflicts/1/flows/x.yaml",
        ] {
            assert_eq!(Subject::at(other), None, "{other}");
        }
    }
}
