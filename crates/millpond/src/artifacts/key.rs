//! Keys of artifacts: any text that a record's key can be, and the convention `executions/…` for those of pipelines.

use millpond_core::{Error, Key, Result};

use super::Provenance;
use crate::text::{key_segment, of_key_segment};

/// What the keys of the convention begin with.
pub const EXECUTIONS: &str = "executions/";

/// A key of the convention `executions/EXECUTION/ROUTE/STAGE/MESSAGE[.EXT]`.
///
/// ```
/// use millpond::ArtifactKey;
/// let key = ArtifactKey::new("e1", "crawl", "fetch", "m1").extension("html");
/// assert_eq!(key.to_string(), "executions/e1/crawl/fetch/m1.html");
/// assert_eq!(ArtifactKey::parse("executions/e1/crawl/fetch/m1.html"), Some(key));
/// assert_eq!(ArtifactKey::parse("reports/2026.pdf"), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactKey {
    /// The execution.
    pub execution: String,
    /// The route.
    pub route: String,
    /// The stage; it may hold `/`.
    pub stage: String,
    /// The message.
    pub message: String,
    /// What follows the message's last dot.
    pub extension: Option<String>,
}

impl ArtifactKey {
    /// A key without an extension. What a segment cannot hold is written as `%XX`.
    pub fn new(execution: &str, route: &str, stage: &str, message: &str) -> Self {
        let stage = stage.split('/').map(key_segment).collect::<Vec<_>>().join("/");
        Self {
            execution: key_segment(execution),
            route: key_segment(route),
            stage,
            message: key_segment(message),
            extension: None,
        }
    }

    /// With an extension.
    #[must_use]
    pub fn extension(mut self, extension: &str) -> Self {
        self.extension = Some(key_segment(extension.trim_start_matches('.')));
        self
    }

    /// The parts of a key of the convention; `None` for any other key. A stage may hold `/`: what stands between the
    /// route and the last segment.
    pub fn parse(key: &str) -> Option<Self> {
        let rest = key.strip_prefix(EXECUTIONS)?;
        let (execution, rest) = rest.split_once('/')?;
        let (route, rest) = rest.split_once('/')?;
        let (stage, name) = rest.rsplit_once('/')?;
        let (message, extension) = match name.rsplit_once('.') {
            Some((message, extension)) if !message.is_empty() && !extension.is_empty() => (message, Some(extension.to_owned())),
            _ => (name, None),
        };
        if [execution, route, stage, message].iter().any(|part| part.is_empty()) {
            return None;
        }
        Some(Self {
            execution: execution.to_owned(),
            route: route.to_owned(),
            stage: stage.to_owned(),
            message: message.to_owned(),
            extension,
        })
    }

    /// What all keys of an execution begin with.
    pub fn of_execution(execution: &str) -> String {
        format!("{EXECUTIONS}{}/", key_segment(execution))
    }

    /// What all keys of a stage begin with.
    pub fn of_stage(execution: &str, route: &str, stage: &str) -> String {
        let stage = stage.split('/').map(key_segment).collect::<Vec<_>>().join("/");
        format!("{EXECUTIONS}{}/{}/{stage}/", key_segment(execution), key_segment(route))
    }
}

impl std::fmt::Display for ArtifactKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { execution, route, stage, message, extension } = self;
        write!(f, "{EXECUTIONS}{execution}/{route}/{stage}/{message}")?;
        extension.as_ref().map_or(Ok(()), |extension| write!(f, ".{extension}"))
    }
}

impl From<ArtifactKey> for String {
    fn from(key: ArtifactKey) -> Self {
        key.to_string()
    }
}

/// Checks a key: what a record's key can be.
///
/// # Errors
/// `Invalid`, naming the rule.
pub(super) fn checked(key: &str) -> Result<()> {
    Key::new(key).map(drop).map_err(|e| {
        Error::invalid(format!("{key:?} cannot be the key of an artifact: {}", e.message()))
            .with_next("use a key such as executions/EXECUTION/ROUTE/STAGE/MESSAGE.EXT")
    })
}

/// What a key ends with after its last dot, in lower case.
pub(super) fn extension(key: &str) -> Option<String> {
    let name = key.rsplit('/').next().unwrap_or(key);
    let (stem, extension) = name.rsplit_once('.')?;
    let fits = !stem.is_empty() && !extension.is_empty() && extension.len() <= 32 && extension.chars().all(char::is_alphanumeric);
    fits.then(|| extension.to_lowercase())
}

/// Fills in what a key of the convention says and nobody said otherwise.
pub(super) fn fill(key: &str, provenance: &mut Provenance) {
    let Some(parts) = ArtifactKey::parse(key) else { return };
    let stage = || parts.stage.split('/').map(said_by).collect::<Vec<_>>().join("/");
    provenance.execution.get_or_insert_with(|| said_by(&parts.execution));
    provenance.route.get_or_insert_with(|| said_by(&parts.route));
    provenance.stage.get_or_insert_with(stage);
    provenance.message.get_or_insert_with(|| said_by(&parts.message));
}

/// The text that a segment stands for, so that an artifact is found, and pinned, under the name its writer gave; the
/// segment itself where the text could be kept in no field.
fn said_by(segment: &str) -> String {
    let text = of_key_segment(segment);
    if text.is_empty() || text.chars().any(char::is_control) { segment.to_owned() } else { text }
}
