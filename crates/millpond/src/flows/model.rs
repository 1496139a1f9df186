//! The flow as SemStreams writes it: JSON names, what is left out when empty, and every field nobody here knows.

use std::collections::BTreeMap;

use millpond_core::{Collection, Document, Error, FieldKind, Json, Key, Result, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::extra::{Extended, Extra};

/// Where a flow stands between drawing board and running.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeState {
    /// Never deployed, or undeployed.
    #[default]
    NotDeployed,
    /// Its components are configured and disabled.
    DeployedStopped,
    /// Its components are enabled.
    Running,
    /// Something failed; its components are disabled.
    Error,
    /// A state this program does not know. Valid nowhere, kept when read.
    #[serde(untagged)]
    Other(String),
}

impl RuntimeState {
    /// The name in JSON.
    pub fn as_str(&self) -> &str {
        match self {
            Self::NotDeployed => "not_deployed",
            Self::DeployedStopped => "deployed_stopped",
            Self::Running => "running",
            Self::Error => "error",
            Self::Other(name) => name,
        }
    }
}

impl std::fmt::Display for RuntimeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A visual flow: nodes on a canvas and the connections between their ports.
///
/// `version`, `runtime_state` and all times are the store's own: what a caller puts there when creating or updating
/// is not taken, except that an update has to carry the version it was made from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Flow {
    /// The id. Empty when creating: one is made.
    #[serde(default)]
    pub id: String,
    /// The name.
    #[serde(default)]
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Counts the flow's changes from 1; goes on growing when a deleted flow is created again.
    #[serde(default)]
    pub version: i64,
    /// The nodes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub nodes: Vec<FlowNode>,
    /// The connections.
    #[serde(default, deserialize_with = "null_is_default")]
    pub connections: Vec<FlowConnection>,
    /// Where it stands.
    #[serde(default, deserialize_with = "empty_is_not_deployed")]
    pub runtime_state: RuntimeState,
    /// When it was last deployed; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed_at: Option<Timestamp>,
    /// When it was last started since it was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it was last stopped since it was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// When it was created.
    #[serde(default, deserialize_with = "null_is_default")]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[serde(default, deserialize_with = "null_is_default")]
    pub updated_at: Timestamp,
    /// Who created it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// The same as `updated_at`, under the name that older readers look for.
    #[serde(default, deserialize_with = "null_is_default")]
    pub last_modified: Timestamp,
    /// Every other field.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Flow {
    /// An empty flow. With an empty id, creating it makes one.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), ..Self::default() }
    }

    /// Reads a flow of any generation.
    ///
    /// # Errors
    /// `Invalid` when it is not JSON or has not the shape of a flow.
    pub fn from_json(text: &str) -> Result<Self> {
        let value = Json::parse(text)?.value()?;
        serde_json::from_value(value).map_err(|e| Error::invalid("not a flow").with_source(e))
    }

    /// The same flow with another name.
    #[must_use]
    pub fn renamed(&self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self.clone() }
    }

    /// Adds a node.
    #[must_use]
    pub fn node(mut self, node: FlowNode) -> Self {
        self.nodes.push(node);
        self
    }

    /// Adds a connection.
    #[must_use]
    pub fn connect(mut self, connection: FlowConnection) -> Self {
        self.connections.push(connection);
        self
    }

    /// Gives nodes of unknown category the one a registry of component factories knows for them.
    pub fn categorise<'r>(&mut self, category_of: impl Fn(&str) -> Option<&'r str>) {
        for node in self.nodes.iter_mut().filter(|n| n.category == UNKNOWN_CATEGORY) {
            if let Some(category) = category_of(&node.component) {
                category.clone_into(&mut node.category);
            }
        }
    }
}

impl Extended for Flow {
    fn extras(&self) -> Vec<&Extra> {
        let nodes = self.nodes.iter().flat_map(|node| [&node.extra, &node.position.extra]);
        [&self.extra].into_iter().chain(nodes).chain(self.connections.iter().map(|c| &c.extra)).collect()
    }
}

impl Document for Flow {
    const COLLECTION: Collection = Collection::new("flows")
        .version(1)
        .owned()
        .index("name", FieldKind::Text)
        .index("runtime_state", FieldKind::Text)
        .index("updated_at", FieldKind::Timestamp)
        .index("created_at", FieldKind::Timestamp)
        .index("created_by", FieldKind::Text)
        .index_on(&["runtime_state", "updated_at"]);

    fn key(&self) -> Result<Key> {
        Key::new(self.id.as_str())
    }
}

/// A component on the canvas.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "AnyNode")]
pub struct FlowNode {
    /// The id, unique in the flow.
    pub id: String,
    /// The name of the component's factory, such as `udp`.
    pub component: String,
    /// The component's category: `input`, `processor`, `output`, `storage`, `gateway`.
    #[serde(rename = "type")]
    pub category: String,
    /// The name of the instance.
    pub name: String,
    /// Where it stands on the canvas.
    pub position: CanvasPosition,
    /// The component's configuration.
    pub config: Map<String, Value>,
    /// Every other field.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl FlowNode {
    /// A node whose name is its id.
    pub fn new(id: impl Into<String>, component: impl Into<String>, category: impl Into<String>) -> Self {
        let id = id.into();
        Self { name: id.clone(), id, component: component.into(), category: category.into(), ..Self::default() }
    }
}

/// The categories of components.
pub const CATEGORIES: [&str; 5] = ["input", "processor", "output", "storage", "gateway"];

/// The category of a node that was written before nodes had one, and whose factory says nothing about it.
pub const UNKNOWN_CATEGORY: &str = "unknown";

/// A node of any generation.
#[derive(Deserialize)]
struct AnyNode {
    #[serde(default)]
    id: String,
    #[serde(default)]
    component: Option<String>,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    position: CanvasPosition,
    #[serde(default, deserialize_with = "null_is_default")]
    config: Map<String, Value>,
    #[serde(flatten)]
    extra: BTreeMap<String, Value>,
}

impl From<AnyNode> for FlowNode {
    fn from(node: AnyNode) -> Self {
        // The first generation had no `component`: its `type` is the factory. A type that is a category is no factory.
        // An empty `component` is none of that generation: it stays empty, and is reported as a problem.
        let is_factory = !node.kind.is_empty() && !CATEGORIES.contains(&node.kind.as_str());
        let (component, category) = match node.component {
            None if is_factory => (node.kind.clone(), known_category(&node.kind).to_owned()),
            component => (component.unwrap_or_default(), node.kind),
        };
        Self {
            id: node.id,
            component,
            category,
            name: node.name,
            position: node.position,
            config: node.config,
            extra: node.extra,
        }
    }
}

/// The category of a first-generation node's factory, where its name tells.
fn known_category(factory: &str) -> &'static str {
    let last_word = factory.rsplit(['-', '_']).next().unwrap_or_default();
    match CATEGORIES.iter().find(|c| **c == last_word) {
        Some(category) => category,
        None if factory == "udp" => "input",
        None => UNKNOWN_CATEGORY,
    }
}

/// A place on the canvas.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CanvasPosition {
    /// To the right.
    #[serde(default, deserialize_with = "null_is_default", serialize_with = "plain_number")]
    pub x: f64,
    /// Down.
    #[serde(default, deserialize_with = "null_is_default", serialize_with = "plain_number")]
    pub y: f64,
    /// Every other field.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl CanvasPosition {
    /// A place.
    pub fn at(x: f64, y: f64) -> Self {
        Self { x, y, extra: BTreeMap::new() }
    }
}

/// An edge between two ports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowConnection {
    /// The id.
    pub id: String,
    /// The node it comes from.
    pub source_node_id: String,
    /// The port it comes from.
    pub source_port: String,
    /// The node it goes to.
    pub target_node_id: String,
    /// The port it goes to.
    pub target_port: String,
    /// Every other field, such as the `source` and `validationState` of the user interface.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl FlowConnection {
    /// A connection from a node's port to another's.
    pub fn new(id: impl Into<String>, source: (&str, &str), target: (&str, &str)) -> Self {
        Self {
            id: id.into(),
            source_node_id: source.0.to_owned(),
            source_port: source.1.to_owned(),
            target_node_id: target.0.to_owned(),
            target_port: target.1.to_owned(),
            extra: BTreeMap::new(),
        }
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn empty_is_not_deployed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RuntimeState, D::Error> {
    let state = Option::<RuntimeState>::deserialize(deserializer)?.unwrap_or_default();
    Ok(if state.as_str().is_empty() { RuntimeState::NotDeployed } else { state })
}

/// Writes 100, not 100.0, as SemStreams does.
#[allow(clippy::trivially_copy_pass_by_ref)] // The signature is serde's.
fn plain_number<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = number.fract() == 0.0 && number.abs() < EXACT && !(*number == 0.0 && number.is_sign_negative());
    #[allow(clippy::cast_possible_truncation)] // Whole and below 2^53.
    if whole { serializer.serialize_i64(*number as i64) } else { serializer.serialize_f64(*number) }
}
