//! What is deployed of a flow: the configuration of each of its components.

use std::collections::BTreeMap;

use millpond_core::{Collection, Document, FieldKind, Host, Key, Result, uuid_v7};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::model::{CanvasPosition, Flow, FlowConnection, FlowNode};
use crate::text::key_segment;

/// The configuration of one component, as a static configuration file has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ComponentConfig {
    /// The category.
    #[serde(rename = "type")]
    pub category: String,
    /// The name of the factory.
    pub name: String,
    /// Whether it runs.
    pub enabled: bool,
    /// Its configuration: any JSON.
    pub config: Value,
    /// Every other field.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A component of a deployed flow. Written by deploy, start, stop and undeploy only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeployedComponent {
    /// The flow.
    pub flow: String,
    /// The node's id in the flow.
    pub node: String,
    /// The node's name.
    pub node_name: String,
    /// The version of the flow that deploying made.
    pub flow_version: i64,
    /// Its configuration.
    #[serde(flatten)]
    pub component: ComponentConfig,
}

impl DeployedComponent {
    /// The key of a flow's node. Ids that hold slashes cannot meet those of another flow.
    pub(super) fn key_of(flow: &str, node: &str) -> Result<Key> {
        Key::new(format!("{}/{}", key_segment(flow), key_segment(node)))
    }

    pub(super) fn of(flow: &Flow, node: &FlowNode) -> Self {
        let component = ComponentConfig {
            category: node.category.clone(),
            name: node.component.clone(),
            enabled: false,
            config: Value::Object(node.config.clone()),
            extra: BTreeMap::new(),
        };
        let (node, node_name) = (node.id.clone(), node.name.clone());
        Self { flow: flow.id.clone(), node, node_name, flow_version: flow.version, component }
    }
}

impl Document for DeployedComponent {
    const COLLECTION: Collection = Collection::new("component_configs")
        .version(1)
        .owned()
        .index("flow", FieldKind::Text)
        .index("node_name", FieldKind::Text)
        .index("enabled", FieldKind::Bool)
        .index_on(&["flow", "node_name"]);

    fn key(&self) -> Result<Key> {
        Self::key_of(&self.flow, &self.node)
    }
}

/// The grid that nodes without a place are laid out on: four in a row.
mod grid {
    pub(super) const PER_ROW: usize = 4;
    pub(super) const START: f64 = 50.0;
    pub(super) const STEP_X: f64 = 300.0; // 200 wide, 100 apart
    pub(super) const STEP_Y: f64 = 180.0; // 100 high, 80 apart
}

impl Flow {
    /// A flow that shows a static configuration: one node for each enabled component, laid out on a grid in the order
    /// of their keys. A disabled one leaves its place on the grid empty. Not stored yet.
    #[must_use]
    pub fn from_component_configs(host: &dyn Host, name: &str, configs: &BTreeMap<String, ComponentConfig>) -> Self {
        Self::from_component_configs_with_connections(host, name, configs, Vec::new())
    }

    /// The same, with connections that were found elsewhere.
    #[must_use]
    pub fn from_component_configs_with_connections(
        host: &dyn Host,
        name: &str,
        configs: &BTreeMap<String, ComponentConfig>,
        connections: Vec<FlowConnection>,
    ) -> Self {
        let places = configs.iter().enumerate();
        let nodes = places.filter(|(_, (_, config))| config.enabled).map(|(i, (key, config))| node_at(i, key, config));
        let now = host.now();
        Self {
            id: uuid_v7(host).to_string(),
            name: name.to_owned(),
            description: "Auto-generated from static configuration".to_owned(),
            version: 1,
            nodes: nodes.collect(),
            connections,
            created_at: now,
            updated_at: now,
            last_modified: now,
            ..Self::default()
        }
    }
}

#[allow(clippy::cast_precision_loss)] // Nobody draws 2^53 nodes.
fn node_at(index: usize, key: &str, config: &ComponentConfig) -> FlowNode {
    let (column, row) = (index % grid::PER_ROW, index / grid::PER_ROW);
    let settings = match &config.config {
        Value::Object(map) => map.clone(),
        Value::Null => Map::new(),
        other => Map::from_iter([("raw".to_owned(), Value::String(other.to_string()))]),
    };
    FlowNode {
        id: key.to_owned(),
        component: config.name.clone(),
        category: config.category.clone(),
        name: key.to_owned(),
        position: CanvasPosition::at(grid::START + column as f64 * grid::STEP_X, grid::START + row as f64 * grid::STEP_Y),
        config: settings,
        extra: config.extra.clone(),
    }
}
